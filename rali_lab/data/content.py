"""Pristine content: bundled photographs and procedural images with natural statistics.

Photographs come from scikit-image and scikit-learn (read from the installed packages) and from the
lossless crops in `photographs/` (Creative Commons, authors in NOTICE). Procedural images are dead
leaves (occluding discs with a power law of sizes), coloured fractal noise (1/f amplitude), mosaics
and plaids.
"""

from __future__ import annotations

import functools
import zlib
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from rali_lab.io import ASSETS

SKIMAGE = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "rocket.jpg",
)
SKLEARN = ("china.jpg", "flower.jpg")
PROCEDURAL = ("leaves", "fractal", "mosaic", "plaid")
PHOTOGRAPHS = ASSETS / "photographs"
"""The bundled photographs; their licences stand in NOTICE."""


def _crops_of() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for file in sorted(PHOTOGRAPHS.glob("*.webp")):
        found.setdefault(file.stem.split("-")[0], []).append(file)
    return found


def sources() -> list[str]:
    """Names of all bundled photographs, one per scene, in a fixed order.

    >>> "chelsea" in sources() and "bridge" in sources()
    True
    """
    return [Path(n).stem for n in SKIMAGE + SKLEARN] + list(_crops_of())


@functools.lru_cache(maxsize=64)
def _originals(source: str) -> tuple[np.ndarray, ...]:
    crops = _crops_of().get(source)
    if crops:
        return tuple(np.asarray(Image.open(f).convert("RGB")) for f in crops)
    for package, names in (("skimage.data", SKIMAGE), ("sklearn.datasets.images", SKLEARN)):
        for name in names:
            if Path(name).stem == source:
                with resources.as_file(resources.files(package) / name) as file:
                    return (np.asarray(Image.open(file).convert("RGB")),)
    raise ValueError(f"no bundled photograph {source!r}; known: {', '.join(sources())}")


def random_crop(
    originals: tuple[np.ndarray, ...],
    size: int,
    rng: np.random.Generator,
    *,
    max_shrink: float = 2.0,
    tries: int = 24,
) -> np.ndarray:
    """A (size, size, 3) uint8 window of one of the originals, shrunk by 1 to `max_shrink`.

    Of up to `tries` random windows the first whose detail is not negligible is taken, not the most
    detailed: skies stay in, black borders do not. Half of them are mirrored.

    Raises
    ------
    ValueError
        An original is smaller than the window.
    """
    small = [x.shape[:2] for x in originals if min(x.shape[:2]) < size]
    if small:
        raise ValueError(
            f"a crop of {size} px does not fit into an original of {small[0]} (height, width); use"
            " a smaller size"
        )
    for _ in range(tries):
        x = originals[rng.integers(len(originals))]
        room = min(max_shrink, min(x.shape[:2]) / size)
        side = int(size * np.exp(rng.uniform(0, np.log(max(room, 1.0)))))
        y, z = (int(rng.integers(0, n - side + 1)) for n in x.shape[:2])
        crop = x[y : y + side, z : z + side]
        if np.abs(np.diff(crop.astype(np.int16), axis=0)).mean() > 4.0 and crop.std() > 12:
            break
    if side != size:
        crop = np.asarray(Image.fromarray(crop).resize((size, size), Image.Resampling.LANCZOS))
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def photographs(source: str, *, count: int, size: int = 128, seed: int = 0) -> list[np.ndarray]:
    """`count` pristine crops of one bundled photograph, each (size, size, 3) uint8."""
    rng = np.random.default_rng([seed, zlib.crc32(source.encode())])
    return [random_crop(_originals(source), size, rng) for _ in range(count)]


def procedural(kind: str, *, count: int, size: int = 128, seed: int = 0) -> list[np.ndarray]:
    """`count` generated images of one kind of `PROCEDURAL`, each (size, size, 3) uint8.

    >>> procedural("leaves", count=1, size=64)[0].shape
    (64, 64, 3)
    """
    makers = {"leaves": _leaves, "fractal": _fractal, "mosaic": _mosaic, "plaid": _plaid}
    if kind not in makers:
        raise ValueError(f"unknown kind {kind!r}; known: {', '.join(makers)}")
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
    return [(np.clip(makers[kind](size, rng), 0, 1) * 255).astype(np.uint8) for _ in range(count)]


def _palette(n: int, rng: np.random.Generator) -> np.ndarray:
    base, spread = rng.uniform(0.2, 0.8, 3), rng.uniform(0.08, 0.3)
    return np.clip(
        base + rng.normal(0, spread, (n, 1)) + rng.normal(0, spread / 2, (n, 3)), 0.02, 0.98
    )


def _pink(size: int, rng: np.random.Generator, slope: float = 1.0) -> np.ndarray:
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    amplitude = 1 / np.maximum(np.hypot(fy, fx), 1 / size) ** slope
    field = np.fft.irfft2(amplitude * np.fft.rfft2(rng.normal(size=(size, size))), s=(size, size))
    return (field - field.mean()) / (field.std() + 1e-9)


def _leaves(size: int, rng: np.random.Generator) -> np.ndarray:
    big = 2 * size  # drawn at twice the size and shrunk: smooth edges
    x, n = np.zeros((big, big, 3)), int(rng.integers(250, 600))
    yy, xx = np.mgrid[0:big, 0:big]
    grain = 0.06 * _pink(big, rng, 0.7)
    for colour in _palette(n, rng):
        r = 6 / rng.uniform(0.05, 1.0)  # sizes fall with the inverse square
        cy, cx = rng.uniform(0, big, 2)
        y0, y1, x0, x1 = (int(np.clip(v, 0, big)) for v in (cy - r, cy + r + 1, cx - r, cx + r + 1))
        inside = np.hypot(yy[y0:y1, x0:x1] - cy, xx[y0:y1, x0:x1] - cx) < r
        x[y0:y1, x0:x1][inside] = colour
    x = x + grain[..., None]
    return x.reshape(size, 2, size, 2, 3).mean(axis=(1, 3))


def _fractal(size: int, rng: np.random.Generator) -> np.ndarray:
    slope, base = rng.uniform(0.9, 1.4), rng.uniform(0.3, 0.7, 3)
    shared, separate = _pink(size, rng, slope), [_pink(size, rng, slope) for _ in range(3)]
    return base + 0.16 * shared[..., None] + 0.05 * np.stack(separate, axis=-1)


def _mosaic(size: int, rng: np.random.Generator) -> np.ndarray:
    n = int(rng.integers(12, 60))
    points, colours = rng.uniform(0, size, (n, 2)), _palette(n, rng)
    yy, xx = np.mgrid[0:size, 0:size]
    nearest = ((yy[..., None] - points[:, 0]) ** 2 + (xx[..., None] - points[:, 1]) ** 2).argmin(-1)
    return (
        ndimage.gaussian_filter(colours[nearest], (0.5, 0.5, 0))
        + 0.05 * _pink(size, rng, 0.8)[..., None]
    )


def _plaid(size: int, rng: np.random.Generator) -> np.ndarray:
    yy, xx = np.mgrid[0:size, 0:size] / size
    x = np.full((size, size, 3), 0.5) + rng.normal(0, 0.1, 3)
    for colour in _palette(4, rng) - 0.5:
        angle, f = rng.uniform(0, np.pi), rng.uniform(3, 22)
        wave = np.sin(2 * np.pi * f * (xx * np.cos(angle) + yy * np.sin(angle)) + rng.uniform(0, 6))
        x = x + 0.8 * np.tanh(3 * wave)[..., None] * colour
    return ndimage.gaussian_filter(x, (0.5, 0.5, 0)) + 0.03 * _pink(size, rng, 0.8)[..., None]
