"""The data sets of the paper's tables, their roles, and the numbers printed there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import pandas as pd

from rali_lab.data.datasets import read_dataset
from rali_lab.data.records import RatedImage

SETS = {
    "koniq": "KonIQ-10k",
    "spaq": "SPAQ",
    "kadid": "KADID-10k",
    "pipal": "PIPAL",
    "livec": "LIVE Challenge",
    "agiqa": "AGIQA-3K",
    "csiq": "CSIQ",
    "tid2013": "TID2013",
}
"""Names of the sets as `--data NAME=FOLDER` takes them, in the order of the paper's tables; the
first seven are those of its first."""


def published() -> pd.DataFrame:
    """The paper's tables: trained_on, method, set, plcc, srcc (as quoted in arXiv 2510.11369; no
    intervals were printed).

    >>> row = published().query("method == 'RALI' and set == 'pipal'")
    >>> row[["plcc", "srcc"]].values.tolist()
    [[0.527, 0.528]]
    """
    with resources.as_file(resources.files("rali_lab.paper") / "published.csv") as file:
        return pd.read_csv(file)


def parse_data(arguments: Sequence[str]) -> dict[str, Path]:
    """``["koniq=/data/KonIQ"]`` as names and folders; ValueError naming what is wrong.

    >>> parse_data(["koniq=data/KonIQ"])
    {'koniq': PosixPath('data/KonIQ')}
    """
    out: dict[str, Path] = {}
    for argument in arguments:
        name, equals, folder = argument.partition("=")
        if not equals or name not in SETS or not folder:
            raise ValueError(
                f"--data {argument!r}: expected NAME=FOLDER with NAME one of {', '.join(SETS)}"
            )
        if name in out:
            raise ValueError(f"--data names {name!r} twice; give each set one folder")
        out[name] = Path(folder)
    return out


def load_sets(
    folders: Mapping[str, Path],
    *,
    split: str | Sequence[str] | None = None,
    limit: int | None = None,
) -> dict[str, list[RatedImage]]:
    """Rated images of every set, in the order of its label file; `limit` keeps the first of each
    set and split.

    A set without images of a wanted split is an error: it would drop out of a table in silence.
    """
    wanted = (split,) if isinstance(split, str) else split
    out = {}
    for name, folder in folders.items():
        images = [p for p in read_dataset(folder) if wanted is None or p.split in wanted]
        if not images:
            raise ValueError(
                f"{folder}: set {name!r} has no images of split {', '.join(wanted or ())}"
            )
        out[name] = (
            images
            if limit is None
            else [
                p for s in dict.fromkeys(p.split for p in images) for p in _first(images, s, limit)
            ]
        )
    return out


def _first(images: Sequence[RatedImage], split: str, limit: int) -> list[RatedImage]:
    return [p for p in images if p.split == split][:limit]
