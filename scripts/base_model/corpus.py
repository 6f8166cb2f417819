"""The corpus of the base model: photographs and textures of Debian packages, distorted and
described.

None of these files is in the repository. `make base-model` needs the packages of `PACKAGES` (see
docs/BASE_MODEL.md); the sources of the analysis domains (`rali_lab.data.content`) are never used
here.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from PIL import Image

from rali_lab.data.content import PROCEDURAL, procedural, random_crop
from rali_lab.data.distortions import TYPES, apply, draw
from rali_lab.data.records import Distortion

ROOT = Path("/usr/share")
PACKAGES = {
    "mate-backgrounds": "backgrounds/mate/nature/*.jpg",
    "plasma-workspace-wallpapers": "wallpapers/*/contents/images/*",
    "ukui-wallpapers": "backgrounds/*.png",
    "supertuxkart-data": "games/supertuxkart/data/**/*.jpg",
    "stellarium-data": "stellarium/landscapes/**/*.png",
}
NOT_IMAGES = ("_nm", "normal", "gloss", "alpha", "bump", "spec", "NM", "fog", "illum")
TEXTURES = "supertuxkart-data"
"""The package with more textures than all others have photographs; half of the crops come from it.
"""


@functools.cache
def originals(max_side: int = 1000) -> dict[str, list[np.ndarray]]:
    """Usable photographs and textures, shrunk to `max_side` on the short side: {"photos": [...],
    "textures": [...]}.
    """
    found: dict[str, list[np.ndarray]] = {"photos": [], "textures": []}
    seen: set[str] = set()
    for package, pattern in PACKAGES.items():
        files = [f for f in sorted(ROOT.glob(pattern)) if f.is_file() and f.stat().st_size > 40_000]
        if not files:
            raise FileNotFoundError(
                f"no image of the Debian package {package}; run: apt-get install {package}"
            )
        if package == "plasma-workspace-wallpapers":  # one size per wallpaper
            files = list(
                {
                    f.parent.parent.parent.name: f
                    for f in sorted(files, key=lambda f: f.stat().st_size)
                }.values()
            )
        for file in files:
            if file.name in seen or any(mark in file.name for mark in NOT_IMAGES):
                continue
            x = _opened(file, max_side)
            if x is not None:
                seen.add(file.name)
                found["textures" if package == TEXTURES else "photos"].append(x)
    return found


def _opened(file: Path, max_side: int) -> np.ndarray | None:
    with Image.open(file) as image:
        if min(image.size) < 256:
            return None
        image.draft("RGB", (2 * max_side, 2 * max_side))
        image = image.convert("RGB")
        shrink = max(1.0, min(image.size) / max_side)
        image = image.resize(
            (round(image.width / shrink), round(image.height / shrink)), Image.Resampling.LANCZOS
        )
    x = np.asarray(image)
    r, g, b = x.mean(axis=(0, 1))
    is_normal_map = b > 200 and 90 < r < 165 and 90 < g < 165
    return None if is_normal_map or x.std() < 10 else x


def sample_distortions(
    rng: np.random.Generator, counts: tuple[float, ...] = (0.1, 0.42, 0.32, 0.16)
) -> tuple[Distortion, ...]:
    """None to three distortions with different words; stacked ones are kept to levels 1..4 so that
    each stays visible.
    """
    return draw(tuple(TYPES), counts, rng)


def recolour(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A believable other palette for a pristine crop: channels swapped, gamma and saturation
    changed a little.
    """
    if rng.random() < 0.3:
        x = x[..., rng.permutation(3)]
    y = (x.astype(np.float32) / 255) ** rng.uniform(0.75, 1.35)
    grey = y.mean(axis=-1, keepdims=True)
    y = grey + (y - grey) * rng.uniform(0.75, 1.25)
    return (np.clip(y, 0, 1) * 255 + 0.5).astype(np.uint8)


def make(
    count: int, *, seed: int, size: int = 128, photos: dict[str, list[np.ndarray]] | None = None
):
    """Yield `count` pairs of a distorted (size, size, 3) uint8 image and its distortions; the same
    for the same seed.
    """
    photos = originals() if photos is None else photos
    rng = np.random.default_rng(seed)
    for _ in range(count):
        if rng.random() < 0.18:
            kind = PROCEDURAL[rng.integers(len(PROCEDURAL))]
            clean = procedural(kind, count=1, size=size, seed=int(rng.integers(1 << 31)))[0]
        else:
            kind = photos["textures" if rng.random() < 0.5 else "photos"]
            x = kind[rng.integers(len(kind))]
            clean = recolour(random_crop((x,), size, rng, max_shrink=6.0), rng)
        distortions = sample_distortions(rng)
        yield apply(clean, distortions, rng), distortions
