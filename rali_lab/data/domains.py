"""The generated domains: their photographs, their distortions and their raters.

`photo` is the domain that reinforcement learning sees. The others are only ever tested on: other
photographs with stacked, authentic-looking distortions, procedural images, distortion types the RL
domain never holds, and artefacts of generated images. Every domain has its own rater panel and
annotation bias. Sources are split before anything else.

`snapshots` is a training set beside them, for RACT: it holds what goes wrong when an image is
taken, rated by a harsh panel. Every published data set has its own degradations *and* its own
scale, and that makes mixing them dangerous: a word that occurs in one set alone inherits that set's
scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rali_lab.data.content import PROCEDURAL, photographs, procedural
from rali_lab.data.distortions import apply, draw
from rali_lab.data.labels import RaterPanel, full_reference_quality
from rali_lab.data.records import SPLITS, Distortion, RatedImage

TRAIN = (
    "astronaut",
    "brick",
    "coins",
    "grass",
    "rocket",
    "china",
    "dragonfly",
    "kleiber",
    "friends",
    "picture1a",
    "wine",
)
VAL = ("coffee", "aitzgorri", "bridge")
TEST = ("chelsea", "flower", "motorcycle_left", "life", "sunset")
OTHERS = ("picosdeeuropa", "seeding", "picture0b", "free", "greentock", "gravel", "camera", "ihc")
"""Photographs that no split of the RL domain uses; the domains that are only tested on show these
and `TEST`."""


@dataclass(frozen=True)
class Domain:
    """Recipe of one domain.

    Attributes
    ----------
    name
        Name, part of every id.
    sources
        Photographs by split, or None for procedural images.
    types
        Distortions that occur.
    counts
        Probabilities of none, one, two and three at once.
    panel
        The raters, with their annotation bias.
    stream
        Number of its own, part of every seed: another domain moves no image of this one.
    role
        "in" for the domain RL sees, "out" for those it does not.
    """

    name: str
    sources: dict[str, tuple[str, ...]] | None
    types: tuple[str, ...]
    counts: tuple[float, float, float, float]
    panel: RaterPanel
    stream: int
    role: str = "out"


RL_TYPES = (
    "gaussian_blur",
    "motion_blur",
    "gaussian_noise",
    "impulse_noise",
    "jpeg",
    "pixelation",
    "overexposure",
)
DOMAINS: dict[str, Domain] = {
    d.name: d
    for d in (
        Domain(
            "photo",
            {"train": TRAIN, "val": VAL, "test": TEST},
            RL_TYPES,
            (0.08, 0.62, 0.3, 0.0),
            RaterPanel(),
            0,
            "in",
        ),
        Domain(
            "authentic",
            {"test": OTHERS + TEST},
            (
                "defocus_blur",
                "motion_blur",
                "shot_noise",
                "gaussian_noise",
                "darkening",
                "overexposure",
                "haze",
                "jpeg",
            ),
            (0.05, 0.3, 0.4, 0.25),
            RaterPanel(gamma=1.25, gain=0.9, shift=0.1),
            1,
        ),
        Domain(
            "procedural",
            None,
            RL_TYPES,
            (0.08, 0.62, 0.3, 0.0),
            RaterPanel(gamma=0.8, gain=0.95),
            2,
        ),
        Domain(
            "novel",
            {"test": OTHERS + TEST},
            ("jpeg2000", "banding", "ringing", "haze", "colour_cast", "defocus_blur", "shot_noise"),
            (0.08, 0.62, 0.3, 0.0),
            RaterPanel(gain=0.8, shift=-0.2),
            3,
        ),
        Domain(
            "generated",
            {"test": OTHERS + TEST},
            ("warping", "repetition", "gaussian_blur", "jpeg2000"),
            (0.08, 0.52, 0.4, 0.0),
            RaterPanel(gamma=1.4),
            4,
        ),
    )
}
"""Every domain by name, the RL domain first."""

SNAPSHOTS = Domain(
    "snapshots",
    {"train": TRAIN, "val": VAL},
    ("defocus_blur", "shot_noise", "darkening", "haze", "colour_cast", "jpeg2000"),
    (0.08, 0.52, 0.4, 0.0),
    RaterPanel(gain=0.7, shift=-0.8),
    5,
    "in",
)
"""A training set rated by a harsh panel, without a scene of a test image."""
SETS = ("photo", "procedural", SNAPSHOTS.name)
"""Training sets whose raters disagree; scores are brought to the scale of the first."""


def draw_distortions(domain: Domain, rng: np.random.Generator) -> tuple[Distortion, ...]:
    """Distortions of one image of a domain; see `rali_lab.data.distortions.draw`."""
    return draw(domain.types, domain.counts, rng)


def _clean(
    domain: Domain, split: str, count: int, size: int, seed: int
) -> list[tuple[str, np.ndarray]]:
    """`count` pairs of source and pristine image, spread evenly over the sources of that split."""
    if domain.sources is None:
        each = -(-count // len(PROCEDURAL))
        seed = seed + 100 * SPLITS.index(split)  # every split has scenes of its own
        images = [
            (f"{k}-{split}-{i}", x)
            for k in PROCEDURAL
            for i, x in enumerate(procedural(k, count=each, size=size, seed=seed))
        ]
    else:
        names = domain.sources[split]
        each = -(-count // len(names))
        images = [(s, x) for s in names for x in photographs(s, count=each, size=size, seed=seed)]
    # One of each source before the second of any.
    order = np.arange(len(images)).reshape(-1, each).T.ravel()
    return [images[i] for i in order[:count]]


def build_domain(
    domain: Domain, counts: dict[str, int], *, size: int = 128, seed: int = 0
) -> list[RatedImage]:
    """Make and rate the images of one domain.

    Parameters
    ----------
    domain
        One of `DOMAINS`, or your own.
    counts
        Images per split, for example ``{"train": 360, "test": 100}``.
    size
        Side in pixels.
    seed
        Seed of content, distortions and raters.

    Returns
    -------
    list of RatedImage
        Images with pixels in memory, pseudo-MOS 1..5 (`mos`, `std`) and the unbiased quality
        (`reference`).

    Raises
    ------
    ValueError
        The domain has no sources for a split.

    Notes
    -----
    About 50 ms an image on one core, nearly all of it for the full-reference measures.
    """
    rng = np.random.default_rng([seed, domain.stream])
    rows: list[tuple[str, str, np.ndarray, np.ndarray, tuple[Distortion, ...]]] = []
    for split, count in counts.items():
        if domain.sources is not None and split not in domain.sources:
            raise ValueError(
                f"domain {domain.name!r} has no {split!r} sources; it has"
                f" {', '.join(domain.sources)}"
            )
        for source, clean in _clean(domain, split, count, size, seed + 1000 * domain.stream):
            distortions = draw_distortions(domain, rng)
            rows.append((split, source, clean, apply(clean, distortions, rng), distortions))
    quality = full_reference_quality(np.stack([r[2] for r in rows]), np.stack([r[3] for r in rows]))
    mos, std = domain.panel.rate(quality, rng)
    return [
        RatedImage(
            id=f"{domain.name}-{i:04d}",
            domain=domain.name,
            source=source,
            split=split,
            distortions=distortions,
            mos=float(mos[i]),
            std=float(std[i]),
            array=x,
            reference=float(quality[i]),
        )
        for i, (split, source, _, x, distortions) in enumerate(rows)
    ]


def build(counts: dict[str, dict[str, int]], *, size: int = 128, seed: int = 0) -> list[RatedImage]:
    """All domains named in `counts`, one after the other; see `build_domain`."""
    return [
        p
        for name, c in counts.items()
        for p in build_domain(DOMAINS[name], c, size=size, seed=seed)
    ]


def roles(domains: Sequence[str]) -> dict[str, str]:
    """Role of each domain: "in", "out", or "real" for a domain rated by people.

    >>> roles(["photo", "novel", "livec"])
    {'photo': 'in', 'novel': 'out', 'livec': 'real'}
    """
    return {d: DOMAINS[d].role if d in DOMAINS else "real" for d in domains}
