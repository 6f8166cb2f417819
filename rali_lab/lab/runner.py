"""Run the notebooks in order, strictly, and pick up where an earlier run stopped.

`python -m rali_lab.lab.runner --profile tiny` executes each `notebooks/NN_*.py` into the folder
`runs/tiny/notebooks`. A notebook is reused when its source, its parameters, its claims, the library and all
notebooks before it are unchanged, it finished, and what it wrote is still there. The first failure stops the
run; a missed check or a claim without a verdict fails it at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rali_lab.lab import parameters
from rali_lab.lab.artifacts import code_digest, digest, duration, write_json
from rali_lab.lab.checks import forget, read_checks
from rali_lab.lab.claims import NOT_RUN, Claim, ClaimError, Ledger
from rali_lab.lab.execute import NotebookError, execute, publish
from rali_lab.lab.provenance import stamp
from rali_lab.lab.summary import Row, table, time_left

STAMP = "rali_lab"
"""Key of a notebook's metadata under which the runner states what made it."""


@dataclass(frozen=True)
class Bench:
    """The folders and shared records of one run."""

    notebooks: Path
    out: Path

    @property
    def root(self) -> Path:
        return self.notebooks.parent

    @property
    def checks(self) -> Path:
        return self.out / "checks.json"

    @property
    def ledger(self) -> Ledger | None:
        claims = self.notebooks / "claims.toml"
        return Ledger(claims, self.out / "claims.json") if claims.exists() else None

    @property
    def claims(self) -> list[Claim]:
        return list(self.ledger.claims.values()) if self.ledger else []

    def executed(self, name: str) -> Path:
        return self.out / "notebooks" / f"{name}.ipynb"

    def claim_rows(self, name: str) -> list[dict[str, Any]]:
        return self.ledger.rows(name) if self.ledger else []

    def records(self, name: str) -> str:
        """Fingerprint of the checks and claims a notebook has left."""
        return digest([read_checks(self.checks).get(name, []), self.claim_rows(name)])


@dataclass(frozen=True)
class Step:
    """A notebook about to run: `key` covers everything its output depends on."""

    name: str
    source_sha256: str
    notebook: Any
    parameters: dict[str, Any]
    key: str


def run(
    profile: str,
    notebooks_dir: str | Path,
    out_dir: str | Path,
    only: str | Sequence[str] | None = None,
    seed: int = 0,
    force: bool = False,
) -> int:
    """Run the notebooks of a folder; returns the exit code, 0 if all finished, held and gave their verdicts.

    Parameters
    ----------
    profile, seed, out_dir : passed to the notebooks; each declares `profile`, the others where it reads them.
    notebooks_dir : holds `NN_*.py` and, optionally, `claims.toml`; its parent is the kernels' working folder.
    only : numbers or beginnings of names, such as "02"; the other notebooks are neither run nor judged.
    force : run again what could be reused.

    Raises
    ------
    ParameterError, ClaimError, FileNotFoundError
        Before anything runs, if a notebook's parameters, the claims file or `only` are wrong.
    """
    bench = Bench(Path(notebooks_dir).resolve(), Path(out_dir).resolve())
    steps = _plan(bench, profile, seed, only)
    stamps = {step.name: None if force else _reusable(bench, step) for step in steps}
    earlier = {step.name: _stamp(bench.executed(step.name)).get("seconds") for step in steps}
    known = {name: seconds for name, seconds in earlier.items() if seconds is not None}
    started, rows = time.perf_counter(), []
    for i, step in enumerate(steps):
        waiting = [later.name for later in steps[i:] if stamps[later.name] is None]
        clock = time_left(time.perf_counter() - started, waiting, known)
        print(f"[{i + 1}/{len(steps)}] {step.name}: {clock}", flush=True)
        found = stamps[step.name]
        try:
            rows.append(_reuse(bench, step, found) if found else _execute(bench, step))
        except NotebookError as error:
            print(error, file=sys.stderr)
            rows.append(_row(bench, step.name, "failed", {}))
            break
    return _conclude(bench, {"profile": profile, "seed": seed}, rows)


def stale(notebooks_dir: str | Path) -> list[str]:
    """Names of committed `NN_*.ipynb` that are missing, come from another source, or have lost theirs."""
    folder = Path(notebooks_dir)
    sources = {source.stem: _source_digest(source) for source in folder.glob("[0-9][0-9]_*.py")}
    executed = {file.stem: _stamp(file).get("source_sha256") for file in folder.glob("[0-9][0-9]_*.ipynb")}
    return [
        f"{name}.ipynb" for name in sorted(sources | executed) if sources.get(name) != executed.get(name, "")
    ]


def _plan(bench: Bench, profile: str, seed: int, only: str | Sequence[str] | None) -> list[Step]:
    """The chosen notebooks, checked, each keyed by itself and the notebooks before it."""
    sources = sorted(bench.notebooks.glob("[0-9][0-9]_*.py"))
    chosen = _chosen([source.stem for source in sources], only, bench.notebooks)
    _require_homes(bench, [source.stem for source in sources])
    out = bench.out.relative_to(bench.root) if bench.out.is_relative_to(bench.root) else bench.out
    offered = {"profile": profile, "seed": seed, "out_dir": out.as_posix()}
    code, upstream, steps = code_digest(["rali_lab"]), [], []
    for source in sources:
        if source.stem in chosen:
            steps.append(_step(bench, source, offered, {"code": code, "upstream": list(upstream)}))
            upstream.append(steps[-1].key)
        else:  # whatever this run will find of it
            upstream.append(_stamp(bench.executed(source.stem)).get("key"))
    return steps


def _chosen(names: list[str], only: str | Sequence[str] | None, folder: Path) -> list[str]:
    if not names:
        raise FileNotFoundError(f"no NN_*.py in {folder}; pass the folder of the notebook sources")
    wanted = [only] if isinstance(only, str) else list(only or [""])
    for start in wanted:
        if not any(name.startswith(start) for name in names):
            raise FileNotFoundError(f"no notebook begins with {start!r}; there are {names}")
    return [name for name in names if name.startswith(tuple(wanted))]


def _require_homes(bench: Bench, names: list[str]) -> None:
    for claim in bench.claims:
        if not any(claim.belongs_to(name) for name in names):
            raise ClaimError(f"claim {claim.id!r} names the notebook {claim.notebook!r}; there are {names}")


def _step(bench: Bench, source: Path, offered: dict[str, Any], surroundings: dict[str, Any]) -> Step:
    import jupytext

    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata.pop("jupytext", None)
    names = parameters.declared(notebook, name=source.stem)
    passed = {key: value for key, value in offered.items() if key == "profile" or key in names}
    parameters.check(notebook, passed, name=source.stem)
    claims = [asdict(claim) for claim in bench.claims if claim.belongs_to(source.stem)]
    sha = _source_digest(source)
    key = digest({"source": sha, "parameters": passed, "claims": claims, **surroundings})
    return Step(source.stem, sha, notebook, passed, key)


def _reusable(bench: Bench, step: Step) -> dict[str, Any] | None:
    """The stamp of an earlier output that may stand for this step."""
    found = _stamp(bench.executed(step.name))
    if found.get("key") != step.key or found["records_sha256"] != bench.records(step.name):
        return None
    return found if all((bench.out / file).is_file() for file in found["files"]) else None


def _reuse(bench: Bench, step: Step, found: dict[str, Any]) -> Row:
    print(f"  reused {step.name} (made in {duration(found['seconds'])})")
    return _row(bench, step.name, "reused", found)


def _execute(bench: Bench, step: Step) -> Row:
    """Execute into a partial file, stamp it, rename it: an output under its own name is always whole."""
    final = bench.executed(step.name)
    partial, failed = final.with_name(f".{step.name}.partial.ipynb"), final.parent / "failed" / final.name
    final.parent.mkdir(parents=True, exist_ok=True)
    forget(bench.checks, step.name)
    if bench.ledger:
        bench.ledger.forget(step.name)
    before, started = _snapshot(bench), time.perf_counter()
    try:
        peak = execute(step.notebook, partial, name=step.name, parameters=step.parameters, root=bench.root)
    except NotebookError:
        publish(partial, failed, root=bench.root)
        raise
    found = {
        "key": step.key,
        "source_sha256": step.source_sha256,
        "profile": step.parameters["profile"],
        "parameters": step.parameters,
        "seconds": round(time.perf_counter() - started, 2),
        "peak_memory_bytes": peak,
        "files": sorted(file for file, state in _snapshot(bench).items() if before.get(file) != state),
        "records_sha256": bench.records(step.name),
        "provenance": stamp(),
    }
    publish(partial, final, root=bench.root, metadata={STAMP: found})
    failed.unlink(missing_ok=True)
    print(f"  made {step.name} in {duration(found['seconds'])}")
    return _row(bench, step.name, "made", found)


def _snapshot(bench: Bench) -> dict[str, tuple[int, int]]:
    """Time and size of every file the notebooks own in the run's folder."""
    ours = (bench.out / "notebooks", bench.out / "summary.json")
    return {
        file.relative_to(bench.out).as_posix(): (file.stat().st_mtime_ns, file.stat().st_size)
        for file in bench.out.rglob("*")
        if file.is_file() and ours[0] not in file.parents and file != ours[1]
    }


def _row(bench: Bench, name: str, status: str, found: dict[str, Any]) -> Row:
    passed = [record["passed"] for record in read_checks(bench.checks).get(name, [])]
    seconds, peak = found.get("seconds", 0.0), found.get("peak_memory_bytes")
    return Row(name, status, seconds, peak, passed.count(True), passed.count(False))


def _conclude(bench: Bench, head: dict[str, Any], rows: list[Row]) -> int:
    """Print and write the summary; the exit code says whether everything held."""
    names, checks = [row.notebook for row in rows], read_checks(bench.checks)
    faults = {
        "failed": [row.notebook for row in rows if row.status == "failed"],
        "checks_missed": [f"{n}: {c['expect']}" for n in names for c in checks.get(n, []) if not c["passed"]],
        "claims_not_run": [
            row["id"] for n in names for row in bench.claim_rows(n) if row["verdict"] == NOT_RUN
        ],
    }
    summary = {**head, "ok": not any(faults.values()), "notebooks": [asdict(row) for row in rows], **faults}
    write_json(bench.out / "summary.json", summary)
    print(f"\n{table(rows)}")
    for fault, lines in faults.items():
        if lines:
            print("\n  ".join([f"\n{fault.replace('_', ' ')}:", *lines]))
    return 0 if summary["ok"] else 1


def _source_digest(source: Path) -> str:
    return hashlib.sha256(source.read_text(encoding="utf-8").encode()).hexdigest()


def _stamp(executed: Path) -> dict[str, Any]:
    return _read(executed).get("metadata", {}).get(STAMP, {})


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of `python -m rali_lab.lab.runner`."""
    parser = argparse.ArgumentParser(
        prog="python -m rali_lab.lab.runner", description=run.__doc__.split("\n")[0]
    )
    parser.add_argument("--profile", required=True, help="size of the run, such as tiny")
    parser.add_argument("--only", nargs="+", help="beginnings of notebook names, such as 02")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--force", action="store_true", help="run again what could be reused")
    parser.add_argument("--notebooks", default="notebooks", help="folder of the NN_*.py sources")
    parser.add_argument("--out", help="folder of the run, by default runs/<profile>")
    chosen = parser.parse_args(arguments)
    out = chosen.out or Path("runs", chosen.profile)
    try:
        return run(chosen.profile, chosen.notebooks, out, chosen.only, chosen.seed, chosen.force)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
