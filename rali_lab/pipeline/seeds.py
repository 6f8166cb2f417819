"""Tables of several training seeds: checked in by `make bench-seeds`, read by the notebooks beside one live seed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from rali_lab.lab.artifacts import Artifact, write_json
from rali_lab.lab.project import checkout, home
from rali_lab.profiles import Profile


@dataclass(frozen=True)
class SeedTables:
    """Tables of a study by name, one for each seed.

    `controls` tells whether the runs that need trainings of their own are among them; `origin` says who made the tables.
    """

    seeds: list[int]
    tables: dict[str, list[pd.DataFrame]]
    controls: bool
    origin: str

    def __getitem__(self, name: str) -> list[pd.DataFrame]:
        return self.tables[name]


def kept_tables_folder(profile: Profile, study: str) -> Path:
    """Where the tables of several seeds are checked in."""
    return (checkout() or home()) / "docs" / "results" / f"{profile.name}-{study}"


def seed_tables(profile: Profile, study: str, live: Artifact, *, seed: int = 0) -> SeedTables:
    """The checked-in tables of several seeds, or, for a profile that has none, those of one `live` run without controls."""
    folder = kept_tables_folder(profile, study)
    if (about := folder / "provenance.json").exists():
        known = json.loads(about.read_text())
        whole = {file.stem: pd.read_parquet(file) for file in sorted(folder.glob("*.parquet"))}
        tables = {name: [t[t["seed"] == s].reset_index(drop=True) for s in known["seeds"]] for name, t in whole.items()}
        commit, device = (known["commit"] or "unknown")[:7], known["device"]
        return SeedTables(known["seeds"], tables, True, f"{known['made_by']}, commit {commit}, {device}")
    return SeedTables([seed], {name: [table] for name, table in read_tables(live).items()}, False, "this run alone")


def read_tables(made: Artifact) -> dict[str, pd.DataFrame]:
    """The parquet tables of an artefact that are worth keeping (texts of answers are not)."""
    return {f.stem: pd.read_parquet(f) for f in sorted(made.path.glob("*.parquet")) if not f.stem.startswith("answers")}


def keep(folder: Path, parts: dict[str, list[pd.DataFrame]], about: dict) -> None:
    """Check in the tables of all seeds, numbers as float32 rounded to four decimals, with where they come from."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tables in parts.items():
        table = pd.concat(tables, ignore_index=True)
        numbers = table.select_dtypes("number").columns.drop("seed")
        kinds = {c: "float32" for c in numbers} | {c: "category" for c in table.columns if c not in (*numbers, "seed")}
        table.round({c: 4 for c in numbers}).astype(kinds).to_parquet(folder / f"{name}.parquet", index=False, compression="zstd")
    write_json(folder / "provenance.json", about)
