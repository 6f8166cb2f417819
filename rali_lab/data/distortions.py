"""The distortion library: seventeen degradations with five calibrated levels each.

A distortion *type* is what is done to the pixels ("defocus_blur"); its *word* is what an observer
would call it ("blur"), so types that resemble each other share a word; its *family* is the class of
Q-Insight's degradation task. A level costs about the same full-reference quality whatever the type
(where a type can reach it at all).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from rali_lab.data.records import Distortion

Operation = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class DistortionType:
    """How a distortion is made, its word and its family; `span` is the meaningful range of its
    strength.
    """

    apply: Operation
    word: str
    family: str
    span: tuple[float, float]


def _blur(x: np.ndarray, s: float, rng: np.random.Generator) -> np.ndarray:
    return ndimage.gaussian_filter(x, (s, s, 0), mode="reflect")


def _defocus(x: np.ndarray, s: float, rng: np.random.Generator) -> np.ndarray:
    r = int(np.ceil(s))
    yy, xx = np.mgrid[-r : r + 1, -r : r + 1]
    disc = np.clip(s + 0.5 - np.hypot(yy, xx), 0, 1)
    return _convolve(x, disc / disc.sum())


def _motion(x: np.ndarray, s: float, rng: np.random.Generator) -> np.ndarray:
    angle, r = rng.uniform(0, np.pi), int(np.ceil(s / 2)) + 1
    yy, xx = np.mgrid[-r : r + 1, -r : r + 1]
    along = xx * np.cos(angle) + yy * np.sin(angle)
    across = -xx * np.sin(angle) + yy * np.cos(angle)
    line = np.clip(s / 2 + 0.5 - abs(along), 0, 1) * np.clip(1 - abs(across), 0, 1)
    return _convolve(x, line / line.sum())


def _convolve(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return np.stack(
        [ndimage.convolve(x[..., c], kernel, mode="reflect") for c in range(3)], axis=-1
    )


def _gaussian_noise(x: np.ndarray, s: float, rng: np.random.Generator) -> np.ndarray:
    return x + rng.normal(0, s, x.shape).astype(np.float32)


def _shot_noise(x: np.ndarray, s: float, rng: np.random.Generator) -> np.ndarray:
    return x + rng.normal(0, 1, x.shape).astype(np.float32) * s * np.sqrt(np.clip(x, 0, 1) + 0.02)


def _impulse(x: np.ndarray, s: float, rng: np.random.Generator) -> np.ndarray:
    hit = rng.random(x.shape[:2]) < s
    salt = (rng.random(x.shape[:2]) < 0.5).astype(np.float32)
    return np.where(hit[..., None], salt[..., None], x)


def _codec(x: np.ndarray, fmt: str, **options: object) -> np.ndarray:
    buffer = io.BytesIO()
    to_image(x).save(buffer, fmt, **options)
    return np.asarray(Image.open(buffer).convert("RGB"), dtype=np.float32) / 255


def _jpeg(x: np.ndarray, s: float, rng: np.random.Generator) -> np.ndarray:
    return _codec(x, "JPEG", quality=int(round(100 - s)))


def _jpeg2000(x: np.ndarray, s: float, rng: np.random.Generator) -> np.ndarray:
    return _codec(x, "JPEG2000", quality_mode="rates", quality_layers=[float(s)])


def _darken(x: np.ndarray, s: float, rng: np.random.Generator) -> np.ndarray:
    return x ** (1 + 0.6 * s) * (1 - 0.55 * s / (1 + s))


def _overexpose(x: np.ndarray, s: float, rng: np.random.Generator) -> np.ndarray:
    return x * (1 + s) + 0.06 * s


def _haze(x: np.ndarray, s: float, rng: np.random.Generator) -> np.ndarray:
    veil = ndimage.gaussian_filter(rng.random(x.shape[:2]), min(x.shape[:2]) / 4)
    veil = np.clip(s * (1 + 0.6 * (veil - veil.mean()) / (veil.std() + 1e-6) * 0.3), 0, 0.97)[
        ..., None
    ]
    return x * (1 - veil) + 0.82 * veil


def _cast(x: np.ndarray, s: float, rng: np.random.Generator) -> np.ndarray:
    direction = rng.normal(size=3)
    direction -= direction.mean()
    return x * (1 + s * direction / np.abs(direction).max()).astype(np.float32)


def _banding(x: np.ndarray, s: float, rng: np.random.Generator) -> np.ndarray:
    steps = max(2.0, 32.0 / s)
    return np.round(np.clip(x, 0, 1) * (steps - 1)) / (steps - 1)


def _pixelate(x: np.ndarray, s: float, rng: np.random.Generator) -> np.ndarray:
    h, w = x.shape[:2]
    small = to_image(x).resize((max(2, round(w / s)), max(2, round(h / s))), Image.Resampling.BOX)
    return np.asarray(small.resize((w, h), Image.Resampling.NEAREST), dtype=np.float32) / 255


def _ringing(x: np.ndarray, s: float, rng: np.random.Generator) -> np.ndarray:
    """Truncate the spectrum with a sharp edge and sharpen: the Gibbs phenomenon along edges."""
    spectrum = np.fft.rfft2(x, axes=(0, 1))
    fy, fx = np.fft.fftfreq(x.shape[0])[:, None], np.fft.rfftfreq(x.shape[1])[None]
    keep = np.hypot(fy, fx) < 0.5 / s
    low = np.fft.irfft2(spectrum * keep[..., None], s=x.shape[:2], axes=(0, 1)).astype(np.float32)
    return low + 0.5 * (low - _blur(low, 1.2 * s, rng))


def _warp(x: np.ndarray, s: float, rng: np.random.Generator) -> np.ndarray:
    """Warp the image locally, as image generators bend straight lines."""
    h, w = x.shape[:2]
    shift = ndimage.gaussian_filter(rng.normal(size=(2, h, w)), (0, 7, 7))
    shift *= s / (np.abs(shift).mean() + 1e-6)
    where = np.mgrid[0:h, 0:w] + shift
    return np.stack(
        [ndimage.map_coordinates(x[..., c], where, order=1, mode="reflect") for c in range(3)], -1
    )


def _repeat(x: np.ndarray, s: float, rng: np.random.Generator) -> np.ndarray:
    """Paste copies of a patch over the image: the repeated texture of a generated image."""
    h, w = x.shape[:2]
    size = max(8, min(h, w) // 6)
    out, y0, x0 = x.copy(), rng.integers(0, h - size), rng.integers(0, w - size)
    patch = x[y0 : y0 + size, x0 : x0 + size]
    for _ in range(int(round(s))):
        y, z = rng.integers(0, h - size), rng.integers(0, w - size)
        out[y : y + size, z : z + size] = patch
    return out


TYPES: dict[str, DistortionType] = {
    "gaussian_blur": DistortionType(_blur, "blur", "blur", (0.3, 8)),
    "defocus_blur": DistortionType(_defocus, "blur", "blur", (0.5, 12)),
    "motion_blur": DistortionType(_motion, "blur", "blur", (1.2, 32)),
    "gaussian_noise": DistortionType(_gaussian_noise, "noise", "noise", (0.01, 0.6)),
    "shot_noise": DistortionType(_shot_noise, "noise", "noise", (0.01, 1.0)),
    "impulse_noise": DistortionType(_impulse, "specks", "noise", (0.002, 0.5)),
    "jpeg": DistortionType(_jpeg, "blocking", "compression", (20, 99)),
    "jpeg2000": DistortionType(_jpeg2000, "smearing", "compression", (8, 400)),
    "pixelation": DistortionType(_pixelate, "pixelation", "compression", (1.3, 16)),
    "banding": DistortionType(_banding, "banding", "compression", (1.2, 16)),
    "darkening": DistortionType(_darken, "darkness", "darken", (0.1, 6)),
    "overexposure": DistortionType(_overexpose, "glare", "brighten", (0.1, 4)),
    "haze": DistortionType(_haze, "haze", "contrast", (0.1, 0.93)),
    "colour_cast": DistortionType(_cast, "tint", "colour", (0.05, 1.0)),
    "ringing": DistortionType(_ringing, "ringing", "compression", (1.3, 8)),
    "warping": DistortionType(_warp, "warping", "structure", (0.2, 8)),
    "repetition": DistortionType(_repeat, "repetition", "structure", (1, 40)),
}
"""Every distortion type by name."""

STRENGTHS: dict[str, tuple[float, ...]] = {
    "gaussian_blur": (1.299, 1.93, 2.947, 4.566, 7.814),
    "defocus_blur": (2.225, 3.232, 4.778, 7.142, 11.74),
    "motion_blur": (5.719, 8.101, 11.59, 17.42, 31.05),
    "gaussian_noise": (0.0647, 0.09888, 0.1506, 0.2465, 0.569),
    "shot_noise": (0.09866, 0.1506, 0.23, 0.3828, 0.9462),
    "impulse_noise": (0.02351, 0.04183, 0.07647, 0.1787, 0.4798),
    "jpeg": (86.42, 91.51, 94.5, 96.5, 97.5),
    "jpeg2000": (22.7, 44.6, 78.01, 119.8, 169.6),
    "pixelation": (2.347, 3.08, 3.815, 5.452, 7.31),
    "banding": (4.692, 6.476, 8.508, 10.59, 15.64),
    "darkening": (1.237, 1.827, 2.615, 3.686, 5.432),
    "overexposure": (0.5656, 0.8023, 1.11, 1.531, 2.32),
    "haze": (0.4683, 0.5699, 0.6581, 0.7375, 0.8325),
    "colour_cast": (0.1489, 0.228, 0.3624, 0.6433, 0.9833),
    "ringing": (2.133, 2.859, 3.932, 5.489, 7.938),
    "warping": (0.5747, 0.9201, 1.486, 2.681, 7.322),
    "repetition": (3.49, 5.501, 10.49, 18.52, 39.49),
}
"""Strengths of the five levels of every distortion, as printed by `python -m
scripts.calibrate_distortions`."""

WORDS: tuple[str, ...] = tuple(dict.fromkeys(t.word for t in TYPES.values()))
"""Their words, without repeats, in a fixed order."""

ORDER = (
    "warping",
    "repetition",
    "defocus_blur",
    "gaussian_blur",
    "motion_blur",
    "haze",
    "darkening",
    "overexposure",
    "colour_cast",
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "banding",
    "pixelation",
    "ringing",
    "jpeg2000",
    "jpeg",
)
"""The order in which stacked distortions happen: scene, optics, sensor, processing, coding."""

MASKING = ("darkening", "overexposure", "haze")
"""Distortions that mask the others when strong: at most moderate in a stack."""


def draw(
    types: Sequence[str], counts: Sequence[float], rng: np.random.Generator
) -> tuple[Distortion, ...]:
    """Distortions of one image: distinct words, in the order in which they happen to an image.

    Levels are 1 to 5 for a single distortion and 1 to 4 in a stack, where masking distortions stay
    at most moderate, so that each remains visible.

    Parameters
    ----------
    types
        Names of the distortions to choose from.
    counts
        Probabilities of none, one, two and more at once.
    rng
        Generator of the choice.
    """
    n, names, words = int(rng.choice(len(counts), p=counts)), [], set()
    for name in rng.permutation(types):
        if len(names) < n and TYPES[name].word not in words:
            names.append(str(name))
            words.add(TYPES[name].word)
    tops = {name: 5 if n == 1 else 2 if name in MASKING else 4 for name in names}
    return tuple(
        Distortion(name, int(rng.integers(1, tops[name] + 1)))
        for name in sorted(names, key=ORDER.index)
    )


def to_image(x: np.ndarray) -> Image.Image:
    """A float image in 0..1 (clipped) as an 8-bit PIL image."""
    return Image.fromarray((np.clip(x, 0, 1) * 255 + 0.5).astype(np.uint8))


def apply(
    image: np.ndarray, distortions: tuple[Distortion, ...], rng: np.random.Generator
) -> np.ndarray:
    """Apply distortions in order; 1 to 20 ms each for 128 x 128 pixels on one core.

    Parameters
    ----------
    image
        Image, (H, W, 3) uint8 sRGB; not changed.
    distortions
        Types and levels, 1 (slight) to 5 (catastrophic).
    rng
        Generator of noise, angles and places; the same state gives the same pixels.

    Returns
    -------
    ndarray
        Image, (H, W, 3) uint8; `image` itself without distortions.

    Raises
    ------
    ValueError
        A distortion name is unknown, or the image is not (H, W, 3) uint8.

    Examples
    --------
    >>> grey = np.full((32, 32, 3), 128, np.uint8)
    >>> bool(apply(grey, (Distortion("gaussian_noise", 5),), np.random.default_rng(0)).std() > 10)
    True
    >>> apply(grey, (), np.random.default_rng(0)) is grey
    True
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected a (H, W, 3) uint8 image, got {image.shape} {image.dtype}")
    for d in distortions:
        if d.name not in TYPES:
            raise ValueError(f"unknown distortion {d.name!r}; known: {', '.join(TYPES)}")
        x = image.astype(np.float32) / 255
        image = np.asarray(to_image(TYPES[d.name].apply(x, STRENGTHS[d.name][d.level - 1], rng)))
    return image
