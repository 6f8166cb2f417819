"""Which notebooks run, in which order, and which outputs of earlier runs may stand for them.

The key of a notebook covers its code cells and all that they reach in the package
(`rali_lab.reproduce.code_keys`), its parameters, its claims, the checked-in tables, the rated
photographs, and the keys of the notebooks that it names in its header:

    # ---
    # jupyter:
    #   rali_lab:
    #     after: ['02']

Prose is no part of the key: when it alone changes, the outputs are kept and the text is replaced.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rali_lab.io import digest
from rali_lab.reproduce import parameters
from rali_lab.reproduce.checks import read_checks
from rali_lab.reproduce.claims import Claim, ClaimError, Ledger
from rali_lab.reproduce.code_keys import cells_key
from rali_lab.reproduce.project import home, rated_photographs
from rali_lab.reproduce.sources import package_folder
from rali_lab.reproduce.store import files_digest

STAMP = "rali_lab"
"""Key of a notebook's metadata: what made its outputs, and in a source which notebooks it comes
after."""


PACKAGE_DATA = {
    "load_scorer": "assets/rali",
    "base_folder": "assets/vlm",
    "base_clip_folder": "assets/clip",
    "PHOTOGRAPHS": "assets/photographs",
}
"""Files of the package that a notebook reads if it reaches these definitions."""


class PlanError(ValueError):
    """The notebooks name each other, or something else, wrongly."""


@dataclass(frozen=True)
class RunFolders:
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

    def published(self, name: str) -> Path:
        return self.notebooks / f"{name}.ipynb"

    def claim_rows(self, name: str) -> list[dict[str, Any]]:
        return self.ledger.rows(name) if self.ledger else []

    def records(self, name: str) -> str:
        """Fingerprint of the checks and claims a notebook has left."""
        return digest([read_checks(self.checks).get(name, []), self.claim_rows(name)])

    def files(self, name: str) -> list[str]:
        """What a notebook has written for itself: figures and pages whose names begin with its
        number.
        """
        found = (
            f
            for place in (self.out, self.out / "figures")
            for f in place.glob(f"{name[:3]}*")
            if f.is_file()
        )
        return sorted(f.relative_to(self.out).as_posix() for f in found)


@dataclass(frozen=True)
class Step:
    """A notebook of the plan: `key` covers everything its outputs depend on, `after` names those it
    waits for.
    """

    name: str
    source_sha256: str
    notebook: Any
    parameters: dict[str, Any]
    key: str
    after: tuple[str, ...]
    code: str
    """The part of the key that does not depend on the machine: code, parameters, claims and
    checked-in tables."""


def plan(
    folders: RunFolders,
    profile: str,
    seed: int,
    only: str | Sequence[str] | None = None,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Step]:
    """The chosen notebooks, checked, in an order in which each comes after those it needs.

    Parameters
    ----------
    folders : RunFolders
        The folders of the run.
    profile, seed
        Passed to the notebooks that declare them.
    only
        Beginnings of names; the others are taken as the last run has left them.
    changes
        Parameters of single notebooks, by the beginning of the name.

    Raises
    ------
    ParameterError, ClaimError, PlanError, FileNotFoundError
        If parameters, claims, headers or `only` are wrong.
    """
    if folders.notebooks.is_relative_to(folders.out):
        raise PlanError(
            f"{folders.out} holds the notebooks' sources; give the run a folder of its own (--out)"
        )
    sources = sorted(folders.notebooks.glob("[0-9][0-9]_*.py"))
    names = [source.stem for source in sources]
    chosen = _matching(
        names, [only] if isinstance(only, str) else list(only or [""]), folders.notebooks
    )
    _require_homes(folders, names)
    changed = {
        _matching(names, [start], folders.notebooks)[0]: dict(values)
        for start, values in (changes or {}).items()
    }
    place = folders.out.relative_to(home()) if folders.out.is_relative_to(home()) else folders.out
    offered = {"profile": profile, "seed": seed, "out_dir": place.as_posix()}
    steps: dict[str, Step] = {}
    for source in sources:
        step = _step(folders, source, offered, changed.get(source.stem, {}), steps)
        if source.stem not in chosen:  # whatever this run will find of it
            step = Step(
                **{**vars(step), "key": stamp_of(folders.executed(source.stem)).get("key", "")}
            )
        steps[source.stem] = step
    return [step for step in steps.values() if step.name in chosen]


def _matching(names: list[str], starts: list[str], folder: Path) -> list[str]:
    if not names:
        raise FileNotFoundError(f"no NN_*.py in {folder}; pass the folder of the notebook sources")
    for start in starts:
        if not any(name.startswith(start) for name in names):
            raise FileNotFoundError(f"no notebook begins with {start!r}; there are {names}")
    return [name for name in names if name.startswith(tuple(starts))]


def _require_homes(folders: RunFolders, names: list[str]) -> None:
    for claim in folders.claims:
        if not any(claim.belongs_to(name) for name in names):
            raise ClaimError(
                f"claim {claim.id!r} names the notebook {claim.notebook!r}; there are {names}"
            )


def _step(
    folders: RunFolders, source: Path, offered: dict, changes: dict, before: dict[str, Step]
) -> Step:
    import jupytext

    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata.pop("jupytext", None)
    after = _after(source.stem, notebook.metadata.pop(STAMP, {}), list(before))
    names = parameters.declared(notebook, name=source.stem)
    passed = {
        key: value for key, value in offered.items() if key == "profile" or key in names
    } | changes
    parameters.check(notebook, passed, name=source.stem)
    cells = parameters.plain_cells(notebook)
    code, reached = cells_key(cells)
    reached_names = {name for _, name in reached}
    about = {
        "code": code,
        "cells": [
            len(ast.parse(cell).body) for cell in cells
        ],  # outputs belong to cells, so their bounds count
        "parameters": {**names, **passed},
        "claims": [asdict(claim) for claim in folders.claims if claim.belongs_to(source.stem)],
        "tables": (
            _tables(folders, offered["profile"]) if "kept_tables_folder" in reached_names else []
        ),
        "data": [
            files_digest(package_folder() / place)
            for name, place in PACKAGE_DATA.items()
            if name in reached_names
        ],
    }
    made_by = digest(about)
    rated = _rated() if "rated_photographs" in reached_names else None
    key = digest(
        {"made_by": made_by, "rated": rated, "after": [before[name].key for name in after]}
    )
    return Step(source.stem, source_digest(source), notebook, passed, key, after, made_by)


def _after(name: str, header: Mapping[str, Any], before: list[str]) -> tuple[str, ...]:
    found = []
    for start in header.get("after", []):
        matching = [other for other in before if other.startswith(str(start))]
        if not matching:
            raise PlanError(
                f"{name}: comes after {start!r}, but no earlier notebook begins so; mend its header"
            )
        found.append(matching[0])
    return tuple(found)


def _tables(folders: RunFolders, profile: str) -> list[Any]:
    """Fingerprints of the checked-in tables of several seeds."""
    kept = sorted((folders.root / "docs" / "results").glob(f"{profile}-*/"))
    return [[folder.name, files_digest(folder)] for folder in kept]


def _rated() -> str | None:
    """Fingerprint of the rated photographs: the table's contents, names and sizes of the images."""
    folder = rated_photographs()
    if folder is None:
        return None
    sizes = [
        [f.relative_to(folder).as_posix(), f.stat().st_size]
        for f in sorted(folder.rglob("*"))
        if f.is_file()
    ]
    return digest([files_digest(folder / "ratings.csv"), sizes])


def reusable(folders: RunFolders, step: Step) -> dict[str, Any] | None:
    """The stamp of an earlier output that may stand for this step."""
    found = stamp_of(folders.executed(step.name))
    if found.get("key") != step.key or found.get("records_sha256") != folders.records(step.name):
        return None
    return found if all((folders.out / file).is_file() for file in found["files"]) else None


def source_digest(source: Path) -> str:
    return hashlib.sha256(source.read_text(encoding="utf-8").encode()).hexdigest()


def stamp_of(executed: Path) -> dict[str, Any]:
    """What the runner wrote into an executed notebook; empty where there is none."""
    if not executed.exists():
        return {}
    return json.loads(executed.read_text(encoding="utf-8")).get("metadata", {}).get(STAMP, {})


def mismatched(notebooks_dir: str | Path) -> list[str]:
    """Names of committed `NN_*.ipynb` that are missing, come from another source, or have lost
    theirs.
    """
    folder = Path(notebooks_dir)
    sources = {source.stem: source_digest(source) for source in folder.glob("[0-9][0-9]_*.py")}
    executed = {
        file.stem: stamp_of(file).get("source_sha256") for file in folder.glob("[0-9][0-9]_*.ipynb")
    }
    return [
        f"{name}.ipynb"
        for name in sorted(sources | executed)
        if sources.get(name) != executed.get(name, "")
    ]
