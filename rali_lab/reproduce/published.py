"""What the repository shows of a run: copies of its outputs, and the pages that are made from them.

A run writes under `runs/` only, so that nobody's run changes a tracked file. `copy_run` copies the
executed notebooks, figures and results of a finished run to where readers find them; `renew` writes
the generated tables of README.md and docs/CLAIMS.md; `problems` says what does not belong together.
The command is `python -m rali_lab.experiments.publish`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from rali_lab.evaluate.results import read_records
from rali_lab.io import atomic_write
from rali_lab.plotting.style import METHODS
from rali_lab.reproduce.claims import ledger_rows
from rali_lab.reproduce.plan import RunFolders, mismatched, plan, stamp_of
from rali_lab.reproduce.project import under_home
from rali_lab.reproduce.store import duration
from rali_lab.reproduce.tables import (
    STALE,
    claims_table,
    efficiency_table,
    inject,
    interval,
    notebook_table,
    people_table,
    results_table,
    seed_count,
)


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
    """What other code than today's has made, by the names of notebooks.

    Attributes
    ----------
    notebooks : frozenset of str
        Those whose outputs other code has made.
    tables : frozenset of str
        Those that show checked-in tables of several seeds which other code has made.
    """

    notebooks: frozenset[str] = frozenset()
    tables: frozenset[str] = frozenset()

    def notebook(self, name: str) -> bool:
        """Whether the outputs of a notebook, or the tables they were read from, are stale."""
        return name in self.notebooks or name in self.tables

    def claim(self, row: Mapping[str, Any], name: str) -> bool:
        """Whether a verdict of a notebook is stale: one over several seeds rests on the tables."""
        return name in self.notebooks or (seed_count(row["seeds"]) > 1 and name in self.tables)


def what_is_stale(root: Path, profile: str, tables: Collection[str]) -> Stale:
    """Compare published notebooks with the keys that today's code gives.

    Parameters
    ----------
    root : Path
        The checkout.
    profile : str
        The profile that was published.
    tables : collection of str
        Names of notebooks that show stale tables.
    """
    folder = root / "notebooks"
    steps = plan(RunFolders(folder, under_home(f"runs/{profile}")), profile, 0)
    older = {s.name for s in steps if stamp_of(folder / f"{s.name}.ipynb").get("made_by") != s.code}
    return Stale(frozenset(older), frozenset(tables))


REMARK = "*Some of what follows was made by other code than today's: {}.*\n\n"


def _remark(stale: Stale, names: list[str]) -> str:
    """A line over a table that older code has made; empty where there is none."""
    older = [name for name in names if stale.notebook(name)]
    return REMARK.format(", ".join(f"notebook {name[:2]}" for name in older)) if older else ""


def tables(results: Path, claims: Path, notebooks: Path, stale: Stale) -> dict[str, str]:
    """The generated tables of the README by marker."""
    measured = read_records(results)
    recorded = results.with_name(results.name.replace("-results", "-recorded"))
    known = {record.id for record in measured}
    older = [r for r in read_records(recorded) if r.id not in known] if recorded.exists() else []
    records = measured + older
    main = [name for name, style in METHODS.items() if style.main]
    accuracy = [r for r in records if r.metric == "plcc" and r.method in main]
    by_number = {f.name[:2]: f"notebooks/{f.name}" for f in notebooks.glob("[0-9]*.ipynb")}
    names = {number: Path(file).stem for number, file in by_number.items()}
    ledger = []
    for row in json.loads(claims.read_text(encoding="utf-8")):
        number = row["notebook"][:2]
        marked = stale.claim(row, names.get(number, ""))
        ledger.append({**row, "notebook": by_number.get(number, row["notebook"]), "stale": marked})
    shown = [m for m in main if any(r.method == m for r in accuracy)]
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
    reused = len(run["notebooks"]) - len(made)
    apart = f"; {reused} notebooks were there already" if reused else ""
    work = duration(sum(n["seconds"] for n in made))
    return (
        f"The published run took {duration(run['wall_seconds'])} on {run['cores']} cores,"
        f" {run['jobs']} notebooks at a time ({work} of notebooks, waiting included{apart})."
    )


def claims_page(claims: Path, notebooks: Path, profile: str, stale: Stale) -> str:
    """Write docs/CLAIMS.md: every sentence with its rule, value, verdict and figure."""
    found = {row["id"]: row for row in json.loads(claims.read_text())}
    parts = [
        "# What became of the paper's claims",
        f"Generated by `make publish` from the `{profile}` run. The rules were written down"
        " before it; a verdict follows from the interval alone: all of it on the right side of"
        " the bound is *reproduced*, none *contradicted*, some *partly*. `rali-lab claims"
        " --json` prints the same. *(stale)* stands beside a verdict whose numbers other code"
        " than today's has made.",
    ]
    shown: set[str] = set()
    for row in ledger_rows(claims, notebooks, profile=profile):
        about = found[row["id"]]
        figure, source = about["figure"], about["source"]
        name, _, cell = (row["cell"] or "").partition("#")
        lines = [
            f"- rule: {row['rule']}",
            "- measured:"
            + ("" if row["value"] is None else f" {interval(row)}")
            + (f" ({about['detail']})" if about["detail"] else ""),
            *([f"- note: {about['note']}"] if about["note"] else []),
            f"- where: [{name}](../notebooks/{name}), {cell}",
        ]
        mark = f" {STALE}" if stale.claim(about, Path(name).stem) else ""
        parts.append(
            f"## `{row['id']}`: {row['verdict']}{mark}\n\n> {row['sentence']}\n\n({source})\n\n"
            + "\n".join(lines)
        )
        if figure not in shown:
            parts.append(f"![{figure}](../figures/{figure}.png)")
        shown.add(figure)
    return "\n\n".join(parts) + "\n"


def copy_run(profile: str, root: Path) -> None:
    """Copy notebooks, figures and results of the finished run of a profile into a checkout.

    Parameters
    ----------
    profile : str
        The run lies in runs/<profile>.
    root : Path
        The checkout.

    Raises
    ------
    FileNotFoundError
        If the run is not whole, or not green.
    """
    run = under_home(f"runs/{profile}")
    file = run / "summary.json"
    summary = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    ran = {n["notebook"] for n in summary.get("notebooks", ())}
    sources = {s.stem for s in (root / "notebooks").glob("[0-9][0-9]_*.py")}
    if not summary.get("ok") or sources - ran:
        raise FileNotFoundError(
            f"no whole and green run of every notebook in {run}; run `make reproduce"
            f" PROFILE={profile}` first"
        )
    for notebook in sorted((run / "notebooks").glob("[0-9]*.ipynb")):
        shutil.copy(notebook, root / "notebooks" / notebook.name)
    replace_folder(run / "figures", root / "figures")
    kept = root / "docs" / "results"
    kept.mkdir(parents=True, exist_ok=True)
    # The times of a run that found artefacts mislead.
    times = ("summary",) if summary.get("from_nothing") else ()
    for name in ("results", "claims", "checks", *times):
        shutil.copy(run / f"{name}.json", kept / f"{profile}-{name}.json")


def replace_folder(source: Path, target: Path) -> None:
    """Copy a folder to a place where nothing of an older one is left."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def pages(root: Path, profile: str, stale: Stale) -> dict[Path, str]:
    """What README.md and docs/CLAIMS.md of a checkout should hold."""
    kept, notebooks, readme = root / "docs" / "results", root / "notebooks", root / "README.md"
    results, claims = (kept / f"{profile}-{name}.json" for name in ("results", "claims"))
    text = readme.read_text(encoding="utf-8")
    for marker, table in tables(results, claims, notebooks, stale).items():
        text = inject(text, marker, table)
    return {
        readme: text,
        root / "docs" / "CLAIMS.md": claims_page(claims, notebooks, profile, stale),
    }


def renew(root: Path, profile: str, stale: Stale) -> None:
    """Write the generated tables and pages anew, with marks for what is stale."""
    for file, text in pages(root, profile, stale).items():
        atomic_write(file, text.encode())


def problems(root: Path, profile: str, stale: Stale) -> list[str]:
    """What does not belong together in a checkout, in words; empty when all is well."""
    found = [
        f"notebooks/{name} does not belong to its source; run `make reproduce publish`"
        for name in mismatched(root / "notebooks")
    ]
    for file, text in pages(root, profile, stale).items():
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            found.append(
                f"{file.name}: a generated table, or a mark for what is stale, is missing; run"
                " `make marks`"
            )
    return found
