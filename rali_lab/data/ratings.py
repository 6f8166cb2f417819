"""Rated image folders (a score table beside a folder of images) as `RatedImage` records on the 1..5
scale.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rali_lab.data.images import PathLike
from rali_lab.data.label_files import Row, read_delimited
from rali_lab.data.records import SPLITS, RatedImage

SPLIT_WORDS = {"training": "train", "validation": "val", "testing": "test"} | {
    name: name for name in SPLITS
}
"""Words accepted in a split column: our own and KonIQ-10k's."""

Missing = Literal["error", "report"]
"""What to do about listed images without a file: stop, or keep their records so that `validate`
lists them."""


class ScaleWarning(UserWarning):
    """Scores lie beyond the ends that were found on the training part, and were cut to 1..5."""


@dataclass(frozen=True)
class Scale:
    """The declared range of a score column and its direction, mapped affinely to 1..5 with higher
    better.

    >>> Scale(0, 100).to_mos(25), Scale(0, 1, higher_is_better=False).to_mos(0.25), Scale(0, 100).to_std(10)
    (2.0, 4.0, 0.4)
    >>> print(Scale(0, 1, higher_is_better=False))
    0..1, lower is better
    """

    low: float
    high: float
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(
                f"mos_range must be (low, high) with low < high, got ({self.low}, {self.high})"
            )

    def __str__(self) -> str:
        return (
            f"{self.low:g}..{self.high:g}, {'higher' if self.higher_is_better else 'lower'} is"
            " better"
        )

    def to_mos(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return 1 + 4 * share if self.higher_is_better else 5 - 4 * share

    def to_std(self, value: float) -> float:
        return 4 * value / (self.high - self.low)


@dataclass(frozen=True)
class Columns:
    """Which column of a score table holds what; None for what the table does not say."""

    image: str
    score: str
    std: str | None = None
    source: str | None = None
    split: str | None = None
    domain: str | None = None

    def names(self) -> list[str]:
        return [
            name
            for name in (self.image, self.score, self.std, self.source, self.split, self.domain)
            if name is not None
        ]


@dataclass(frozen=True)
class Rated:
    """What `rate` makes of a table: images, their scores as they were, the columns read, the scale,
    how many scores it had to cut.
    """

    images: tuple[RatedImage, ...]
    raw: tuple[float, ...]
    columns: Columns
    scale: Scale
    n_cut: int = 0


def read_rated_folder(
    csv_path: PathLike,
    image_dir: PathLike,
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
) -> list[RatedImage]:
    """The images of a score table, in its order; nothing is skipped, guessed or replaced.

    Scores are mapped to 1..5 by the *declared* range, so that an image's score does not depend on
    which others are in the table. (The DeQA-Score metas scale by minimum and maximum of train and
    test together.) Published data sets as they are on disk: `rali_lab.data.datasets`.

    Parameters
    ----------
    csv_path
        comma-separated UTF-8 table with a header line.
    image_dir
        folder that the names of `image_column` are relative to.
    domain
        name of the data set; becomes part of every id and source, ``f"{domain}/{name}"``.
    mos_range
        (low, high), the ends of the rating scale as published, not of the data.
    std_column
        standard deviation (not variance) of the ratings in the units of the score, if there is one.
    higher_is_better
        False for DMOS, which is flipped.
    source_column
        reference or scene; without it every image is its own source.
    split_column
        train/val/test or training/validation/testing; without it sources are divided by `seed`.
    fractions
        shares of train, val and test among the sources, used without `split_column`.

    Raises
    ------
    FileNotFoundError : no table, or images missing (five named, all counted). ValueError : missing
    columns, no rows, an image listed twice; a row with too few or too many cells, an image outside
    the
        folder, a score that is no number or out of range or an unknown split, with line number and
        value.
    """
    columns = Columns(image_column, mos_column, std_column, source_column, split_column)
    scale = Scale(*mos_range, higher_is_better)
    rows = read_delimited(Path(csv_path), columns.names(), ",")
    rated = rate(
        rows,
        columns,
        image_dir,
        table=csv_path,
        domain=domain,
        scale=scale,
        seed=seed,
        fractions=fractions,
    )
    return list(rated.images)


def read_livec(folder: PathLike) -> list[RatedImage]:
    """LIVE In the Wild Challenge photographs: ``ratings.csv`` (image, mos 0..100, std) beside
    ``images/``.

    All are in split "test" and domain "livec", each its own source: real images that nothing is
    trained on. Source: D. Ghadiyaram and A. C. Bovik, "Massive online crowdsourced study of
    subjective and objective image quality", IEEE TIP 2016; about 175 ratings an image, higher is
    better.

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


def rate(
    rows: Sequence[Row],
    columns: Columns,
    image_dir: PathLike,
    *,
    table: PathLike,
    domain: str,
    scale: Scale | None,
    higher_is_better: bool = True,
    std_scale: Scale | None = None,
    locate: Callable[[str], Path] | None = None,
    missing: Missing = "error",
    seed: int = 0,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
) -> Rated:
    """The rows of any label file as images: every check, the scale and the split in one place.

    Parameters
    ----------
    rows, columns
        from `rali_lab.data.label_files`, and which of their columns holds what.
    image_dir
        folder that the names are relative to; a name, or a link, that leads out of it is refused.
    table
        the label file(s), for messages.
    domain
        where `columns` names no column of domains.
    scale
        the declared ends. None: smallest and largest score of the training part, in the direction
        `higher_is_better`; scores of the other parts beyond them are cut to 1..5 and counted.
    std_scale
        the scale of the standard deviations, where it is not that of the scores.
    locate
        name -> path, where a file is not simply ``image_dir / name``.

    Raises
    ------
    FileNotFoundError, ValueError : as `read_rated_folder`.
    """
    image_dir = Path(image_dir)
    names = [cells[columns.image] for _, cells in rows]
    paths = _paths(rows, columns.image, image_dir, locate)
    domains = [_word(row, columns.domain) if columns.domain else domain for row in rows]
    _check_repeats(table, names, list(zip(domains, paths, strict=True)))
    if missing == "error" or not any(path.is_file() for path in paths):
        _check_files(image_dir, names, paths)
    ends = (scale.low, scale.high) if scale else (-math.inf, math.inf)
    scores = [number(row, columns.score, *ends) for row in rows]
    stds = [number(row, columns.std, 0, math.inf) if columns.std else None for row in rows]
    sources = [
        f"{d}/{_word(row, columns.source or columns.image)}"
        for d, row in zip(domains, rows, strict=True)
    ]
    splits = _splits(rows, columns.split, sources, seed, fractions)
    scale = scale or _fitted(
        table,
        [s for s, split in zip(scores, splits, strict=True) if split == "train"],
        higher_is_better,
    )
    mos = [min(max(scale.to_mos(score), 1.0), 5.0) for score in scores]
    images = tuple(
        RatedImage(
            id=f"{domains[i]}/{name}",
            domain=domains[i],
            source=sources[i],
            split=splits[i],
            mos=mos[i],
            std=None if stds[i] is None else (std_scale or scale).to_std(stds[i]),
            path=str(paths[i]),
        )
        for i, name in enumerate(names)
    )
    return Rated(
        images,
        tuple(scores),
        columns,
        scale,
        sum(not scale.low <= score <= scale.high for score in scores),
    )


def number(row: Row, column: str, low: float = -math.inf, high: float = math.inf) -> float:
    """The number in a cell; ValueError names place, column, value and range if it is none, or not
    in low..high.
    """
    place, cells = row
    text = cells[column]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and low <= value <= high):
        if re.fullmatch(r"\s*[-+]?\d*,\d+\s*", text):
            raise ValueError(
                f"{place}: {column} is {text!r}, with a decimal comma; write"
                f" {text.strip().replace(',', '.')}"
            )
        expected = "a number" if math.isinf(low) else f"{low:g}..{high:g}"
        raise ValueError(
            f"{place}: {column} is {text!r}, expected {expected}; correct the row or the declared"
            " range"
        )
    return value


def split_sources(
    sources: Iterable[str], *, seed: int, fractions: Sequence[float]
) -> dict[str, str]:
    """A split for every distinct source; the same for any order and repetition of `sources`.

    >>> split_sources(["b", "a", "c", "a"], seed=0, fractions=(0, 0, 1))
    {'a': 'test', 'b': 'test', 'c': 'test'}
    """
    if len(fractions) != len(SPLITS) or min(fractions) < 0 or not math.isclose(sum(fractions), 1):
        raise ValueError(
            f"fractions must be three shares of {SPLITS} that sum to 1, got {tuple(fractions)}"
        )
    distinct = sorted(set(sources))
    ends = np.rint(np.cumsum(fractions) * len(distinct))
    places = np.random.default_rng(seed).permutation(len(distinct))
    splits = np.searchsorted(ends, places, side="right")
    return {source: SPLITS[split] for source, split in zip(distinct, splits, strict=True)}


def some(names: Sequence[str], limit: int = 5) -> str:
    """The first names, and how many more there are.

    >>> some(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _paths(
    rows: Sequence[Row], column: str, image_dir: Path, locate: Callable[[str], Path] | None
) -> list[Path]:
    root, paths = image_dir.resolve(), []
    for place, cells in rows:
        name = cells[column]
        plain = name.strip() and not Path(name).is_absolute() and ".." not in Path(name).parts
        path = (locate(name) if locate else image_dir / name) if plain else None
        if path is None or not path.resolve().is_relative_to(root):
            raise ValueError(
                f"{place}: {column} is {name!r}, which leads out of {image_dir}; correct the row,"
                " or copy the file there"
            )
        paths.append(path)
    return paths


def _word(row: Row, column: str) -> str:
    place, cells = row
    if not cells[column].strip():
        raise ValueError(
            f"{place}: {column} is {cells[column]!r}, expected a name; fill it in every row, or"
            " leave the column out"
        )
    return cells[column]


def _check_repeats(table: PathLike, names: Sequence[str], keys: Sequence[tuple[str, Path]]) -> None:
    counts = Counter(keys)
    repeated = list(
        dict.fromkeys(name for name, key in zip(names, keys, strict=True) if counts[key] > 1)
    )
    if repeated:
        raise ValueError(f"{table}: {some(repeated)} listed more than once; keep one row per image")


def _check_files(image_dir: Path, names: Sequence[str], paths: Sequence[Path]) -> None:
    missing = [name for name, path in zip(names, paths, strict=True) if not path.is_file()]
    if missing:
        beside = next((d for d in sorted(image_dir.glob("*/")) if (d / missing[0]).is_file()), None)
        raise FileNotFoundError(
            f"{image_dir}: {len(missing)} of {len(names)} listed images are missing:"
            f" {some(missing)}; restore them or remove their rows, or name the folder that holds"
            " them" + (f": it seems to be {beside}" if beside else "")
        )


def _splits(
    rows: Sequence[Row],
    column: str | None,
    sources: Sequence[str],
    seed: int,
    fractions: Sequence[float],
) -> list[str]:
    if column is None:
        chosen = split_sources(sources, seed=seed, fractions=fractions)
        return [chosen[source] for source in sources]
    for place, cells in rows:
        if cells[column].strip().lower() not in SPLIT_WORDS:
            raise ValueError(
                f"{place}: {column} is {cells[column]!r}, expected one of {', '.join(SPLIT_WORDS)}"
            )
    return [SPLIT_WORDS[cells[column].strip().lower()] for _, cells in rows]


def _fitted(table: PathLike, training: Sequence[float], higher_is_better: bool) -> Scale:
    if not training or min(training) == max(training):
        raise ValueError(
            f"{table}: the ends of the scale are found on the training part, and {len(training)}"
            f" images with {len(set(training))} different scores have none; give training a share"
            " in fractions, or declare mos_range"
        )
    return Scale(min(training), max(training), higher_is_better)
