"""Where the tables of several training seeds are checked in, and how they are written (`make
bench-seeds`).
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from rali_lab.io import write_json
from rali_lab.profiles import Profile
from rali_lab.reproduce.project import checkout, home
from rali_lab.reproduce.store import Artifact


def kept_tables_folder(profile: Profile, study: str) -> Path:
    """Where the tables of several seeds are checked in."""
    return (checkout() or home()) / "docs" / "results" / f"{profile.name}-{study}"


def read_tables(made: Artifact) -> dict[str, pd.DataFrame]:
    """The parquet tables of an artefact that are worth keeping (texts of answers are not)."""
    return {
        f.stem: pd.read_parquet(f)
        for f in sorted(made.path.glob("*.parquet"))
        if not f.stem.startswith("answers")
    }


def keep(folder: Path, parts: dict[str, list[pd.DataFrame]], about: dict) -> None:
    """Check in the tables of all seeds, numbers as float32 rounded to four decimals, with where
    they come from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, tables in parts.items():
        table = pd.concat(tables, ignore_index=True)
        numbers = table.select_dtypes("number").columns.drop("seed")
        kinds = {c: "float32" for c in numbers} | {
            c: "category" for c in table.columns if c not in (*numbers, "seed")
        }
        table.round({c: 4 for c in numbers}).astype(kinds).to_parquet(
            folder / f"{name}.parquet", index=False, compression="zstd"
        )
    write_json(folder / "provenance.json", about)
