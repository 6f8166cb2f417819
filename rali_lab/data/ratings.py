"""Rows of label files as `RatedImage` records on the 1..5 scale: every check, the scale and the
split.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rali_lab.data.images import PathLike
from rali_lab.data.label_files import Row
from rali_lab.data.records import SPLITS, RatedImage

SPLIT_WORDS = {"training": "train", "validation": "val", "testing": "test"} | {
    name: name for name in SPLITS
}
"""Words accepted in a split column: our own and KonIQ-10k's."""

FRACTIONS = (0.7, 0.1, 0.2)
"""Shares of train, val and test among the sources, where the labels know no split."""

Missing = Literal["error", "report"]
"""What to do about listed images without a file: stop, or keep their records so that
`rali_lab.data.validation.validate` reports them."""


class ScaleWarning(UserWarning):
    """Scores lie outside the range that was fitted on the training part, and were cut to 1..5."""


@dataclass(frozen=True)
class Scale:
    """The declared range of a score column and its direction, mapped affinely to 1..5 with higher
    better.

    Raises
    ------
    ValueError
        The range is empty or not finite.

    Examples
    --------
    >>> Scale(0, 100).to_mos(25), Scale(0, 1, higher_is_better=False).to_mos(0.25)
    (2.0, 4.0)
    >>> Scale(0, 100).to_std(10)
    0.4
    >>> print(Scale(0, 1, higher_is_better=False))
    0..1, lower is better
    """

    low: float
    high: float
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(
                f"mos_range must be (low, high) with low < high, got ({self.low}, {self.high})"
            )

    def __str__(self) -> str:
        direction = "higher" if self.higher_is_better else "lower"
        return f"{self.low:g}..{self.high:g}, {direction} is better"

    def to_mos(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return 1 + 4 * share if self.higher_is_better else 5 - 4 * share

    def to_std(self, value: float) -> float:
        return 4 * value / (self.high - self.low)


@dataclass(frozen=True)
class Columns:
    """The name of the column for each quantity of a score table; None where it has none."""

    image: str
    score: str
    std: str | None = None
    source: str | None = None
    split: str | None = None
    domain: str | None = None

    def names(self) -> list[str]:
        return [name for name in astuple(self) if name is not None]


@dataclass(frozen=True)
class RatedTable:
    """The outcome of `rate`.

    Attributes
    ----------
    images
        Records, in the order of the table.
    raw
        Their scores as they are in the file.
    columns
        The columns that were read.
    scale
        The scale that maps `raw` to 1..5.
    n_cut
        Number of scores outside the scale, cut to 1..5.
    """

    images: tuple[RatedImage, ...]
    raw: tuple[float, ...]
    columns: Columns
    scale: Scale
    n_cut: int = 0

    @property
    def cut_message(self) -> str:
        """How many scores were cut, in words."""
        return (
            f"{self.n_cut} of {len(self.raw)} scores lie outside"
            f" {self.scale.low:g}..{self.scale.high:g}, the range of the training part, and were"
            " cut to 1..5"
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
    fractions: Sequence[float] = FRACTIONS,
) -> RatedTable:
    """The rows of any label file as images; nothing is skipped, guessed or replaced.

    Scores are mapped to 1..5 by the *declared* range, so that an image's score does not depend on
    which others are in the table. (The DeQA-Score metas scale by minimum and maximum of train and
    test together.) Without a source column every image is its own source.

    Parameters
    ----------
    rows
        From `rali_lab.data.label_files`.
    columns
        Names of the columns of `rows`.
    image_dir
        Folder that the names are relative to; a name, or a link, that leads out of it is refused.
    table
        The label file or files, for messages.
    domain
        Name of the data set, used where `columns` names no column of domains; it is part of every
        id and source, ``f"{domain}/{name}"``.
    scale
        The declared range. None: smallest and largest score of the training part, in the direction
        `higher_is_better`; scores of the other parts outside of it are cut to 1..5 and counted.
    higher_is_better
        False for DMOS, which is flipped; used without `scale`.
    std_scale
        The scale of the standard deviations, where it is not that of the scores.
    locate
        Maps a name to its path, where a file is not simply ``image_dir / name``.
    missing
        "error", or "report" to keep the records of images without a file; none at all is an error.
    seed, fractions
        Divide the sources into shares of train, val and test, where `columns` names no column of
        splits.

    Raises
    ------
    FileNotFoundError
        Images are missing (five named, all counted).
    ValueError
        An image is listed twice or lies outside the folder, a score is no number or out of range,
        a name is blank or a split unknown, with line and value.
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
    column = columns.source or columns.image
    sources = [f"{d}/{_word(row, column)}" for d, row in zip(domains, rows, strict=True)]
    splits = _splits(rows, columns.split, sources, seed, fractions)
    if scale is None:
        train = [score for score, split in zip(scores, splits, strict=True) if split == "train"]
        scale = _fit_scale(table, train, higher_is_better)
    std_scale = std_scale or scale
    images = tuple(
        RatedImage(
            id=f"{domains[i]}/{name}",
            domain=domains[i],
            source=sources[i],
            split=splits[i],
            mos=min(max(scale.to_mos(scores[i]), 1.0), 5.0),
            std=None if stds[i] is None else std_scale.to_std(stds[i]),
            path=str(paths[i]),
        )
        for i, name in enumerate(names)
    )
    n_cut = sum(not scale.low <= score <= scale.high for score in scores)
    return RatedTable(images, tuple(scores), columns, scale, n_cut)


def number(row: Row, column: str, low: float = -math.inf, high: float = math.inf) -> float:
    """The number in a cell; ValueError if it is none, or not in low..high."""
    place, cells = row
    text = cells[column]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value) and low <= value <= high:
        return value
    if re.fullmatch(r"\s*[-+]?\d*,\d+\s*", text):
        raise ValueError(
            f"{place}: {column} is {text!r}, with a decimal comma; write"
            f" {text.strip().replace(',', '.')}"
        )
    expected = "a number" if math.isinf(low) else f"{low:g}..{high:g}"
    raise ValueError(
        f"{place}: {column} is {text!r}, expected {expected}; correct the row or the declared range"
    )


def split_sources(
    sources: Iterable[str], *, seed: int, fractions: Sequence[float]
) -> dict[str, str]:
    """A split for every distinct source; the same for any order and repetition of `sources`.

    Raises
    ------
    ValueError
        `fractions` are not three shares that sum to 1.

    Examples
    --------
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


def shorten(names: Sequence[str], limit: int = 5) -> str:
    """The first names, and how many more there are.

    >>> shorten(["a", "b", "c"], limit=2)
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
    repeated = {name: None for name, key in zip(names, keys, strict=True) if counts[key] > 1}
    if repeated:
        raise ValueError(
            f"{table}: {shorten(list(repeated))} listed more than once; keep one row per image"
        )


def _check_files(image_dir: Path, names: Sequence[str], paths: Sequence[Path]) -> None:
    missing = [name for name, path in zip(names, paths, strict=True) if not path.is_file()]
    if missing:
        beside = next((d for d in sorted(image_dir.glob("*/")) if (d / missing[0]).is_file()), None)
        raise FileNotFoundError(
            f"{image_dir}: {len(missing)} of {len(names)} listed images are missing:"
            f" {shorten(missing)}; restore them or remove their rows, or name the folder that holds"
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


def _fit_scale(table: PathLike, training: Sequence[float], higher_is_better: bool) -> Scale:
    if len(set(training)) < 2:
        raise ValueError(
            f"{table}: the ends of the scale are found on the training part, and {len(training)}"
            f" images with {len(set(training))} different scores have none; give training a share"
            " in fractions, or declare mos_range"
        )
    return Scale(min(training), max(training), higher_is_better)
