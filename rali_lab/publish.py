"""Put the last run into the repository: `python -m rali_lab.publish` (what `make publish` runs).

A run writes under `runs/` only, so that nobody's run changes a tracked file. This copies the executed notebooks, the figures, the
results and the RALI model of a finished run to where readers find them, and renews the generated tables of the README.
With `--check` nothing is copied: it fails if a committed notebook or table does not belong to its source.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import nbformat

from rali_lab.evaluate.results import read_records
from rali_lab.evaluate.tables import claims_table, efficiency_table, inject, notebook_table, results_table
from rali_lab.lab.runner import stale

METHODS = ("base", "teacher", "teacher_no_reasoning", "ridge_visual", "rali")


def first_question(notebook: nbformat.NotebookNode) -> tuple[str, str]:
    """Title without its number, and the first line of "what it makes" of a notebook."""
    text = notebook.cells[0].source
    title = text.splitlines()[0].lstrip("# ").split("·", 1)[-1].strip()
    row = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line and not line.startswith("| in")]
    return title, row[0].strip("| ").split("|")[-1].strip() if row else ""


def notebook_rows(folder: Path) -> list[dict]:
    """One row per executed notebook in `folder`, for the README's table."""
    rows = []
    for file in sorted(folder.glob("[0-9]*.ipynb")):
        book = nbformat.read(file, as_version=4)
        stamp, (question, makes) = book.metadata["rali_lab"], first_question(book)
        rows.append({"notebook": f"notebooks/{file.name}", "question": question, "makes": makes,
                     "minutes": {stamp["profile"]: stamp["seconds"] / 60}})  # fmt: skip
    return rows


def tables(results: Path, claims: Path, notebooks: Path) -> dict[str, str]:
    """The generated tables of the README by marker."""
    records = read_records(results)
    accuracy = [r for r in records if r.metric == "plcc"]
    rows = json.loads(claims.read_text())
    by_number = {f.name[:2]: f"notebooks/{f.name}" for f in notebooks.glob("[0-9]*.ipynb")}
    ledger = [{**r, "notebook": by_number.get(r["notebook"][:2], r["notebook"])} for r in rows]
    shown = [m for m in METHODS if any(r.method == m for r in accuracy)]
    return {
        "notebooks": notebook_table(notebook_rows(notebooks)),
        "claims": claims_table(ledger),
        "accuracy": results_table(accuracy, metric="plcc", methods=shown),
        "efficiency": efficiency_table(records),
    }


def readme_with(found: dict[str, str], readme: str) -> str:
    for marker, table in found.items():
        readme = inject(readme, marker, table)
    return readme


def publish(profile: str, root: Path) -> None:
    """Copy the finished run of `profile` into the tracked folders of the checkout at `root`."""
    from rali_lab import pipeline
    from rali_lab.profiles import get_profile

    run = root / "runs" / profile
    if not (run / "summary.json").exists():
        raise FileNotFoundError(f"no finished run in {run}; run `make reproduce PROFILE={profile}` first")
    for file in sorted((run / "notebooks").glob("[0-9]*.ipynb")):
        shutil.copy(file, root / "notebooks" / file.name)
    shutil.rmtree(root / "figures", ignore_errors=True)
    shutil.copytree(run / "figures", root / "figures")
    kept = root / "docs" / "results"
    kept.mkdir(parents=True, exist_ok=True)
    for name in ("results", "claims"):
        shutil.copy(run / f"{name}.json", kept / f"{profile}-{name}.json")
    pretrained = root / "rali_lab" / "rali" / "pretrained"
    shutil.rmtree(pretrained, ignore_errors=True)
    shutil.copytree(pipeline.fit_rali(get_profile(profile)).path / "model", pretrained)
    readme = root / "README.md"
    found = tables(kept / f"{profile}-results.json", kept / f"{profile}-claims.json", root / "notebooks")
    readme.write_text(readme_with(found, readme.read_text()))


def problems(root: Path, profile: str = "tiny") -> list[str]:
    """What is stale in the checkout at `root`, in words; empty when all is well."""
    found = [f"notebooks/{name} does not belong to its source; run `make reproduce publish`" for name in stale(root / "notebooks")]
    readme, kept = (root / "README.md").read_text(), root / "docs" / "results"
    made = tables(kept / f"{profile}-results.json", kept / f"{profile}-claims.json", root / "notebooks")
    if readme_with(made, readme) != readme:
        found.append("README.md: a generated table is stale; run `make publish`")
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--check", action="store_true", help="copy nothing; fail if something committed is stale")
    args = parser.parse_args(argv)
    root = Path(__file__).resolve().parent.parent
    if not args.check:
        publish(args.profile, root)
    found = problems(root, args.profile)
    print("\n".join(found) or "notebooks and tables belong to their sources")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
