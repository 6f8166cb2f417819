"""The record of the whole project: an image with its provenance and its score."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

LEVEL_WORDS = ("slight", "moderate", "obvious", "serious", "catastrophic")
"""Severity words for levels 1 to 5, as in Q-Insight's degradation task."""

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Distortion:
    """One degradation of an image: what was done to it (`name`) and how strongly (`level`, 1 to 5).

    >>> Distortion("noise", 4).level_word
    'serious'
    """

    name: str
    level: int

    def __post_init__(self) -> None:
        if self.level not in range(1, len(LEVEL_WORDS) + 1):
            raise ValueError(
                f"distortion {self.name!r}: level must be a whole number 1..{len(LEVEL_WORDS)}, got"
                f" {self.level}"
            )

    @property
    def level_word(self) -> str:
        return LEVEL_WORDS[self.level - 1]


@dataclass(frozen=True)
class RatedImage:
    """An image, where it comes from, what was done to it and how it was rated.

    Attributes
    ----------
    id
        Unique over all domains.
    domain
        Name of the data set it belongs to.
    source
        The scene or pristine original; splits never divide a source.
    split
        "train", "val" or "test".
    distortions
        What was done to the original, in order; empty for a pristine or an in-the-wild image.
    mos, std
        (Pseudo-)MOS in 1..5, higher is better, and the standard deviation of the ratings; None if
        unrated.
    path, array
        The pixels, on disk or in memory (H, W, 3) uint8; exactly one of them is given.
    reference
        Pseudo-MOS before the domain's own annotation bias, where known.

    Raises
    ------
    ValueError
        The split is unknown, or not exactly one of `path` and `array` is given.
    """

    id: str
    domain: str
    source: str
    split: str
    distortions: tuple[Distortion, ...] = ()
    mos: float | None = None
    std: float | None = None
    path: str | None = None
    array: np.ndarray | None = field(default=None, repr=False, compare=False)
    reference: float | None = None

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(
                f"image {self.id!r}: split must be one of {SPLITS}, got {self.split!r}"
            )
        if (self.path is None) == (self.array is None):
            raise ValueError(f"image {self.id!r}: give either path or array, and only one of them")

    def pixels(self) -> np.ndarray:
        """The image as (H, W, 3) uint8 sRGB; reads the file when the record holds a path."""
        if self.array is not None:
            return self.array
        from rali_lab.data.images import read_image

        return read_image(self.path)


def pixel_digest(pixels: np.ndarray) -> str:
    """sha256 of the shape and the values of pixels (H, W, 3) uint8."""
    pixels = np.ascontiguousarray(pixels)
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def save_images(images: Sequence[RatedImage], folder: Path) -> None:
    """Write records and pixels of equally sized images to `folder` (records.json, pixels.npy)."""
    rows = [{k: v for k, v in asdict(p).items() if k != "array"} for p in images]
    (Path(folder) / "records.json").write_text(json.dumps(rows))
    np.save(Path(folder) / "pixels.npy", np.stack([p.pixels() for p in images]))


def load_images(folder: Path) -> list[RatedImage]:
    """Read the images of `save_images`; pixels are memory-mapped, read when they are used."""
    rows = json.loads((Path(folder) / "records.json").read_text())
    pixels = np.load(Path(folder) / "pixels.npy", mmap_mode="r")
    for row, x in zip(rows, pixels, strict=True):
        row["distortions"] = tuple(Distortion(**d) for d in row["distortions"])
        row |= {"path": None, "array": np.asarray(x)}
    return [RatedImage(**row) for row in rows]


def select(
    images: Iterable[RatedImage],
    *,
    domain: str | Sequence[str] | None = None,
    split: str | Sequence[str] | None = None,
) -> list[RatedImage]:
    """The images of the given domain(s) and split(s), in their order.

    >>> select([], domain="photo")
    []
    """
    domains = (domain,) if isinstance(domain, str) else domain
    splits = (split,) if isinstance(split, str) else split
    return [
        p
        for p in images
        if (domains is None or p.domain in domains) and (splits is None or p.split in splits)
    ]


def mos_of(images: Sequence[RatedImage]) -> np.ndarray:
    """Scores of rated images as (n,) float64; ValueError names the first image without one."""
    unrated = [p.id for p in images if p.mos is None]
    if unrated:
        raise ValueError(
            f"{len(unrated)} images have no score, the first is {unrated[0]!r}; select rated ones"
        )
    return np.array([p.mos for p in images], dtype=np.float64)
