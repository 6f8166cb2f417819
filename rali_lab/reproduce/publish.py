"""Put the last run into the repository: `python -m rali_lab.reproduce.publish` (what `make publish`
runs).

A run writes under `runs/` only, so that nobody's run changes a tracked file. This copies the
executed notebooks, the figures, the results and the RALI model of a finished run to where readers
find them, and renews the generated tables of the README. With `--check` nothing is copied: it fails
if a committed notebook or table does not belong to its source.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

from rali_lab.evaluate.results import read_records
from rali_lab.reproduce.claims import ledger_rows
from rali_lab.reproduce.plan import Bench, plan, stale, stamp_of
from rali_lab.reproduce.project import checkout, under_home
from rali_lab.reproduce.store import duration
from rali_lab.reproduce.tables import (
    STALE,
    claims_table,
    efficiency_table,
    inject,
    notebook_table,
    people_table,
    results_table,
)

METHODS = ("base", "teacher", "teacher_no_reasoning", "ridge_visual", "rali")


def first_question(notebook: nbformat.NotebookNode) -> tuple[str, str]:
    """Title without its number, and the first line of "what it makes" of a notebook."""
    text = notebook.cells[0].source
    title = text.splitlines()[0].lstrip("# ").split("·", 1)[-1].strip()
    row = [
        line
        for line in text.splitlines()
        if line.startswith("| ") and "---" not in line and not line.startswith("| in")
    ]
    return title, row[0].strip("| ").split("|")[-1].strip() if row else ""


def notebook_rows(folder: Path, stale_ones: Collection[str] = ()) -> list[dict]:
    """One row per executed notebook in `folder`, for the README's table."""
    rows = []
    for file in sorted(folder.glob("[0-9]*.ipynb")):
        book = nbformat.read(file, as_version=4)
        stamp, (question, makes) = book.metadata["rali_lab"], first_question(book)
        rows.append(
            {
                "notebook": f"notebooks/{file.name}",
                "question": question,
                "makes": makes,
                "stale": file.stem in stale_ones,
                "minutes": {stamp["profile"]: stamp.get("longest", stamp["seconds"]) / 60},
            }
        )
    return rows


@dataclass(frozen=True)
class Stale:
    """What other code than today's has made: names of notebooks, and studies whose tables are
    checked in.
    """

    notebooks: frozenset[str] = frozenset()
    studies: frozenset[str] = frozenset()
    shown_in: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The studies whose tables a notebook shows, by the notebook's name."""

    def notebook(self, name: str) -> bool:
        """Whether the outputs of a notebook, or the tables they were read from, are stale."""
        return name in self.notebooks or bool(self.shown_in.get(name, frozenset()) & self.studies)

    def claim(self, row: Mapping[str, Any], name: str) -> bool:
        """Whether a verdict is: one over several seeds rests on the tables."""
        several = isinstance(row["seeds"], list) and len(row["seeds"]) > 1
        return name in self.notebooks or (several and self.notebook(name))


def what_is_stale(root: Path, profile: str) -> Stale:
    """Compare the keys of published notebooks and checked-in tables with those that today's code
    gives.
    """
    from rali_lab.experiments.studies import kept_studies, staleness
    from rali_lab.profiles import get_profile

    sizes, folder = get_profile(profile), root / "notebooks"
    steps = plan(Bench(folder, under_home(f"runs/{profile}")), profile, 0)
    older = {s.name for s in steps if stamp_of(folder / f"{s.name}.ipynb").get("made_by") != s.code}
    studies = {study for study in kept_studies(sizes) if staleness(sizes, study)}
    kept = kept_studies(sizes)
    shown = {
        s.name: frozenset(
            k for k in kept if k.split("-")[0] in _studies_of(folder / f"{s.name}.py")
        )
        for s in steps
    }
    return Stale(frozenset(older), frozenset(studies), shown)


def _studies_of(source: Path) -> list[str]:
    """Studies that a notebook shows, as its source names them."""
    text = source.read_text(encoding="utf-8")
    return re.findall(r'seed_tables\(\w+, "([\w-]+)"', text) + re.findall(
        r'f"(people|custom)-\{name\}"', text
    )


REMARK = "*Some of what follows was made by other code than today's: {}.*\n\n"


def _remark(stale: Stale, names: list[str]) -> str:
    """A line over a table that older code has made; empty where there is none."""
    older = [name for name in names if stale.notebook(name)]
    return REMARK.format(", ".join(f"notebook {name[:2]}" for name in older)) if older else ""


def tables(results: Path, claims: Path, notebooks: Path, stale: Stale) -> dict[str, str]:
    """The generated tables of the README by marker."""
    measured, recorded = (
        read_records(results),
        results.with_name(results.name.replace("-results", "-recorded")),
    )
    older = (
        [r for r in read_records(recorded) if r.id not in {m.id for m in measured}]
        if recorded.exists()
        else []
    )
    records = measured + older
    accuracy = [r for r in records if r.metric == "plcc" and r.method in METHODS]
    rows = json.loads(claims.read_text())
    by_number = {f.name[:2]: f"notebooks/{f.name}" for f in notebooks.glob("[0-9]*.ipynb")}
    names = {number: Path(file).stem for number, file in by_number.items()}
    ledger = [
        {
            **r,
            "notebook": by_number.get(r["notebook"][:2], r["notebook"]),
            "stale": stale.claim(r, names.get(r["notebook"][:2], "")),
        }
        for r in rows
    ]
    shown = [m for m in METHODS if any(r.method == m for r in accuracy)]
    return {
        "notebooks": notebook_table(
            notebook_rows(notebooks, [n for n in names.values() if stale.notebook(n)])
        ),
        "times": _times(results.with_name(results.name.replace("-results", "-summary"))),
        "claims": claims_table(ledger),
        "accuracy": (
            _remark(stale, [names[n] for n in ("00", "07", "09")])
            + results_table(accuracy, metric="plcc", methods=shown)
        ),
        "people": (
            _remark(stale, [names[n] for n in ("00", "10")])
            + people_table(records, stale={r.method for r in older})
        ),
        "efficiency": _remark(stale, [names["07"]]) + efficiency_table(records),
    }


def _times(summary: Path) -> str:
    """How long the published run took, in a sentence."""
    if not summary.exists():
        return "No times were recorded."
    run = json.loads(summary.read_text())
    made = [n for n in run["notebooks"] if n["status"] == "made"]
    apart = (
        f"; {len(run['notebooks']) - len(made)} notebooks were there already"
        if len(made) < len(run["notebooks"])
        else ""
    )
    work = duration(sum(n["seconds"] for n in made))
    return (
        f"The published run took {duration(run['wall_seconds'])} on {run['cores']} cores,"
        f" {run['jobs']} notebooks at a time ({work} of notebooks, waiting included{apart})."
    )


def claims_page(claims: Path, notebooks: Path, profile: str, stale: Stale) -> str:
    """docs/CLAIMS.md: every sentence with its rule, its value, its verdict and the figure that
    shows it.
    """
    found = {row["id"]: row for row in json.loads(claims.read_text())}
    parts = [
        "# What became of the paper's claims",
        (
            f"Generated by `make publish` from the `{profile}` run. The rules were written down"
            " before it; a verdict follows from the interval alone: all of it on the right side of"
            " the bound is *reproduced*, none *contradicted*, some *partly*. `rali-lab claims"
            " --json` prints the same. *(stale)* stands beside a verdict whose numbers other code"
            " than today's has made."
        ),
    ]
    shown: set[str] = set()
    for row in ledger_rows(claims, notebooks, profile=profile):
        figure, source, detail, note = (
            found[row["id"]][k] for k in ("figure", "source", "detail", "note")
        )
        value = (
            ""
            if row["value"] is None
            else f" {row['value']:.3f} [{float(row['ci_low']):.3f}, {float(row['ci_high']):.3f}]"
        )
        name, _, cell = (row["cell"] or "").partition("#")
        lines = [
            f"- rule: {row['rule']}",
            f"- measured:{value}" + (f" ({detail})" if detail else ""),
        ]
        lines += [f"- note: {note}"] if note else []
        lines += [f"- where: [{name}](../notebooks/{name}), {cell}"]
        mark = f" {STALE}" if stale.claim(found[row["id"]], Path(name).stem) else ""
        parts.append(
            f"## `{row['id']}`: {row['verdict']}{mark}\n\n> {row['sentence']}\n\n({source})\n\n"
            + "\n".join(lines)
        )
        if figure not in shown:
            parts.append(f"![{figure}](../figures/{figure}.png)")
        shown.add(figure)
    return "\n\n".join(parts) + "\n"


def readme_with(found: dict[str, str], readme: str) -> str:
    for marker, table in found.items():
        readme = inject(readme, marker, table)
    return readme


def publish(profile: str, root: Path) -> None:
    """Copy the finished run of `profile` into the tracked folders of the checkout at `root`."""
    from rali_lab import experiments
    from rali_lab.profiles import get_profile

    run = under_home(f"runs/{profile}")
    summary = (
        json.loads((run / "summary.json").read_text())
        if (run / "summary.json").exists()
        else {"ok": False, "notebooks": []}
    )
    missing = {s.stem for s in (root / "notebooks").glob("[0-9][0-9]_*.py")} - {
        n["notebook"] for n in summary["notebooks"]
    }
    if not summary["ok"] or missing:
        raise FileNotFoundError(
            f"no whole and green run of every notebook in {run}; run `make reproduce"
            f" PROFILE={profile}` first"
        )
    for file in sorted((run / "notebooks").glob("[0-9]*.ipynb")):
        shutil.copy(file, root / "notebooks" / file.name)
    shutil.rmtree(root / "figures", ignore_errors=True)
    shutil.copytree(run / "figures", root / "figures")
    kept = root / "docs" / "results"
    kept.mkdir(parents=True, exist_ok=True)
    times = (
        ("summary",) if summary.get("from_nothing") else ()
    )  # those of a run that found artefacts mislead
    for name in ("results", "claims", "checks", *times):
        shutil.copy(run / f"{name}.json", kept / f"{profile}-{name}.json")
    pretrained = root / "rali_lab" / "assets" / "rali"
    shutil.rmtree(pretrained, ignore_errors=True)
    shutil.copytree(experiments.fit_wide(get_profile(profile)).path / "model", pretrained)
    renew(root, profile)


def renew(root: Path, profile: str) -> None:
    """Write the generated tables and pages anew from what is published, with marks for what is
    stale.
    """
    for file, text in _pages(root, profile).items():
        file.write_text(text, encoding="utf-8")


def _pages(root: Path, profile: str) -> dict[Path, str]:
    """What README.md and docs/CLAIMS.md should hold."""
    kept, notebooks, stale = (
        root / "docs" / "results",
        root / "notebooks",
        what_is_stale(root, profile),
    )
    results, claims = (kept / f"{profile}-{name}.json" for name in ("results", "claims"))
    readme = root / "README.md"
    return {
        readme: readme_with(
            tables(results, claims, notebooks, stale), readme.read_text(encoding="utf-8")
        ),
        root / "docs" / "CLAIMS.md": claims_page(claims, notebooks, profile, stale),
    }


def problems(root: Path, profile: str = "tiny") -> list[str]:
    """What is stale in the checkout at `root`, in words; empty when all is well."""
    found = [
        f"notebooks/{name} does not belong to its source; run `make reproduce publish`"
        for name in stale(root / "notebooks")
    ]
    for file, text in _pages(root, profile).items():
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            found.append(
                f"{file.name}: a generated table, or a mark for what is stale, is missing; run"
                " `make marks`"
            )
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="tiny")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--check",
        action="store_true",
        help="copy nothing; fail if something stale is not marked so",
    )
    what.add_argument(
        "--marks",
        action="store_true",
        help="copy nothing; renew tables and marks of README.md and docs/CLAIMS.md",
    )
    args = parser.parse_args(argv)
    root = checkout()
    if root is None:
        print("error: only a checkout can be published to; clone the repository", file=sys.stderr)
        return 1
    if args.marks:
        renew(root, args.profile)
    elif not args.check:
        try:
            publish(args.profile, root)
        except FileNotFoundError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        if older := sorted(what_is_stale(root, args.profile).notebooks):
            print(
                f"stale now, as the published scorer is another one: {', '.join(older)}; run `make"
                " reproduce publish` once more"
            )
    found = problems(root, args.profile)
    print("\n".join(found) or "notebooks and tables belong to their sources")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
