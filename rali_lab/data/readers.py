"""Rated picture folders (a score table beside a folder of images) as `Picture` records on the 1..5 scale."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rali_lab.data.images import PathLike
from rali_lab.data.records import SPLITS, Picture

SPLIT_WORDS = {"training": "train", "validation": "val", "testing": "test"} | {name: name for name in SPLITS}
"""Words accepted in a split column: our own and KonIQ-10k's."""

Row = tuple[int, dict[str, str]]
"""Line number in the file (the header is line 1) and the cells by column."""


@dataclass(frozen=True)
class Scale:
    """The declared range of a score column and its direction, mapped affinely to 1..5 with higher better.

    >>> Scale(0, 100).to_mos(25), Scale(0, 1, higher_is_better=False).to_mos(0.25), Scale(0, 100).to_std(10)
    (2.0, 4.0, 0.4)
    """

    low: float
    high: float
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"mos_range must be (low, high) with low < high, got ({self.low}, {self.high})")

    def to_mos(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return 1 + 4 * share if self.higher_is_better else 5 - 4 * share

    def to_std(self, value: float) -> float:
        return 4 * value / (self.high - self.low)


def read_rated_folder(
    csv_path: PathLike,
    images_dir: PathLike,
    *,
    domain: str,
    mos_range: tuple[float, float],
    image_column: str = "image",
    mos_column: str = "mos",
    std_column: str | None = None,
    higher_is_better: bool = True,
    source_column: str | None = None,
    split_column: str | None = None,
    seed: int = 0,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
) -> list[Picture]:
    """The pictures of a score table, in its order; nothing is skipped, guessed or replaced.

    Scores are mapped to 1..5 by the *declared* range, so that a picture's score does not depend on which
    others are in the table. (The DeQA-Score metas scale by minimum and maximum of train and test together.)

    Parameters
    ----------
    csv_path : comma-separated UTF-8 table with a header line.
    images_dir : folder that the names of `image_column` are relative to.
    domain : name of the data set; becomes part of every id and source, ``f"{domain}/{name}"``.
    mos_range : (low, high), the ends of the rating scale as published, not of the data.
    std_column : standard deviation (not variance) of the ratings in the units of the score, if there is one.
    higher_is_better : False for DMOS, which is flipped.
    source_column : reference or scene; without it every picture is its own source.
    split_column : train/val/test or training/validation/testing; without it sources are divided by `seed`.
    fractions : shares of train, val and test among the sources, used without `split_column`.

    Raises
    ------
    FileNotFoundError : no table, or images missing (five named, all counted).
    ValueError : missing columns, no rows, an image listed twice; a score that is no number or out of range or
        an unknown split, with line number and value.
    """
    csv_path, images_dir = Path(csv_path), Path(images_dir)
    scale = Scale(*mos_range, higher_is_better)
    wanted = [image_column, mos_column, std_column, source_column, split_column]
    rows = _read_rows(csv_path, [column for column in wanted if column is not None])
    names = [row[image_column] for _, row in rows]
    _check_names(csv_path, names)
    _check_files(images_dir, names)
    scores = [_number(csv_path, row, mos_column, scale.low, scale.high) for row in rows]
    stds = [_number(csv_path, row, std_column, 0, math.inf) for row in rows] if std_column else None
    sources = [f"{domain}/{row[source_column or image_column]}" for _, row in rows]
    if split_column:
        splits = [_split_word(csv_path, row, split_column) for row in rows]
    else:
        chosen = split_sources(sources, seed=seed, fractions=fractions)
        splits = [chosen[source] for source in sources]
    return [
        Picture(
            id=f"{domain}/{name}",
            domain=domain,
            source=sources[i],
            split=splits[i],
            mos=scale.to_mos(scores[i]),
            std=None if stds is None else scale.to_std(stds[i]),
            path=str(images_dir / name),
        )
        for i, name in enumerate(names)
    ]


def read_livec(folder: PathLike) -> list[Picture]:
    """LIVE In the Wild Challenge photographs: ``ratings.csv`` (image, mos 0..100, std) beside ``images/``.

    All are in split "test" and domain "livec", each its own source: real pictures that nothing is trained on.
    Source: D. Ghadiyaram and A. C. Bovik, "Massive online crowdsourced study of subjective and objective
    picture quality", IEEE TIP 2016; about 175 ratings a picture, higher is better.

    Raises
    ------
    FileNotFoundError, ValueError : as `read_rated_folder`.
    """
    folder = Path(folder)
    return read_rated_folder(
        folder / "ratings.csv",
        folder / "images",
        domain="livec",
        mos_range=(0, 100),
        std_column="std",
        fractions=(0, 0, 1),
    )


def split_sources(sources: Iterable[str], *, seed: int, fractions: Sequence[float]) -> dict[str, str]:
    """A split for every distinct source; the same for any order and repetition of `sources`.

    >>> split_sources(["b", "a", "c", "a"], seed=0, fractions=(0, 0, 1))
    {'a': 'test', 'b': 'test', 'c': 'test'}
    """
    if len(fractions) != len(SPLITS) or min(fractions) < 0 or not math.isclose(sum(fractions), 1):
        raise ValueError(f"fractions must be three shares of {SPLITS} that sum to 1, got {tuple(fractions)}")
    distinct = sorted(set(sources))
    ends = np.rint(np.cumsum(fractions) * len(distinct))
    places = np.random.default_rng(seed).permutation(len(distinct))
    splits = np.searchsorted(ends, places, side="right")
    return {source: SPLITS[split] for source, split in zip(distinct, splits, strict=True)}


def _read_rows(csv_path: Path, columns: list[str]) -> list[Row]:
    if not csv_path.is_file():
        raise FileNotFoundError(f"{csv_path}: score table not found; check the path")
    try:
        with csv_path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            present = reader.fieldnames or []
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{csv_path}: not a comma-separated UTF-8 table ({error}); export it as one"
        ) from error
    missing = [column for column in columns if column not in present]
    if missing:
        raise ValueError(f"{csv_path}: no column {missing}; present are {list(present)}, name the right ones")
    if not rows:
        raise ValueError(f"{csv_path}: no rows below the header; expected one per picture")
    return rows


def _check_names(csv_path: Path, names: list[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"{csv_path}: {_some(repeated)} listed more than once; keep one row per picture")


def _check_files(images_dir: Path, names: list[str]) -> None:
    missing = [name for name in names if not (images_dir / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{images_dir}: {len(missing)} of {len(names)} listed images are missing: {_some(missing)}; "
            "restore them or remove their rows"
        )


def _number(csv_path: Path, row: Row, column: str, low: float, high: float) -> float:
    line, cells = row
    try:
        value = float(cells[column])
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(
            f"{csv_path}, line {line}: {column} is {cells[column]!r}, expected {low:g}..{high:g}; "
            "correct the row or the declared range"
        )
    return value


def _split_word(csv_path: Path, row: Row, column: str) -> str:
    line, cells = row
    word = cells[column].strip().lower()
    if word not in SPLIT_WORDS:
        expected = ", ".join(SPLIT_WORDS)
        raise ValueError(
            f"{csv_path}, line {line}: {column} is {cells[column]!r}, expected one of {expected}"
        )
    return SPLIT_WORDS[word]


def _some(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
