"""What can be measured on rated images before any model is trained: the cost of a distortion, pairs
that a score puts in the wrong order, shortcuts, and the correlation that a protocol gives a random
score. The checks of the exercises about it.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from PIL import Image

from rali_lab.data.distortions import TYPES, apply
from rali_lab.data.labels import RaterPanel, full_reference_quality
from rali_lab.data.records import LEVEL_WORDS, Distortion, RatedImage, mos_of, select
from rali_lab.estimate import Estimate
from rali_lab.evaluate import correlate, plcc

LEVELS = range(1, len(LEVEL_WORDS) + 1)


def distorted(image: np.ndarray, name: str, *, seed: int = 0) -> list[np.ndarray]:
    """An image (H, W, 3) uint8 with one distortion, once for each level, the mildest first.

    Every level draws from a generator of its own, made from `seed`.

    >>> [x.shape for x in distorted(np.zeros((8, 8, 3), np.uint8), "darkening")]
    [(8, 8, 3), (8, 8, 3), (8, 8, 3), (8, 8, 3), (8, 8, 3)]
    """
    return [
        apply(image, (Distortion(name, level),), np.random.default_rng(seed)) for level in LEVELS
    ]


def quality_by_level(clean: np.ndarray, names: Sequence[str] = tuple(TYPES)) -> pd.DataFrame:
    """Full-reference quality of distorted images at every level.

    Parameters
    ----------
    clean
        Pristine images, (n, H, W, 3) uint8.
    names
        Distortions, by default all.

    Returns
    -------
    DataFrame
        Columns distortion, family, level (1-5), quality (mean, 1-5), half (of its 95 % interval
        over images). Cost: about 3 ms for each image of 128 x 128 pixels and level.
    """
    rows = []
    for name in names:
        for level in LEVELS:
            rng = np.random.default_rng(level)
            made = np.stack([apply(x, (Distortion(name, level),), rng) for x in clean])
            q = full_reference_quality(clean, made)
            half = 1.96 * q.std(ddof=1) / np.sqrt(len(q))
            rows.append((name, TYPES[name].family, level, q.mean(), half))
    return pd.DataFrame(rows, columns=["distortion", "family", "level", "quality", "half"])


def wrong_order_shares(
    rated: pd.DataFrame, *, gap: tuple[float, float] = (0.1, 0.4)
) -> tuple[float, float]:
    """Share of pairs of images whose scores contradict their quality, among pairs of one domain and
    among pairs of two.

    Parameters
    ----------
    rated
        One row per image, columns quality, mos, domain.
    gap
        Only pairs whose quality differs by more than the first and less than the second count.

    Examples
    --------
    >>> wrong_order_shares(
    ...     pd.DataFrame({"quality": [1.0, 1.2, 1.4], "mos": [2, 3, 1], "domain": [*"aab"]})
    ... )
    (0.0, 1.0)
    """
    quality, mos, domain = (rated[name].to_numpy() for name in ("quality", "mos", "domain"))
    i, j = np.triu_indices(len(rated), k=1)
    differ = quality[i] - quality[j]
    close = (np.abs(differ) > gap[0]) & (np.abs(differ) < gap[1])
    wrong = (differ * (mos[i] - mos[j]) < 0)[close]
    across = (domain[i] != domain[j])[close]
    return float(wrong[~across].mean()), float(wrong[across].mean())


def shortcut_correlations(
    images: Sequence[RatedImage],
    shortcuts: Mapping[str, Callable[[RatedImage], float]],
    *,
    n_boot: int = 1000,
) -> dict[tuple[str, str], Estimate]:
    """Rank correlation of trivial properties of an image with its score, in every domain.

    Parameters
    ----------
    images
        Rated images.
    shortcuts
        Functions of an image by name, such as its mean brightness.
    n_boot
        Resamples of the sources.

    Returns
    -------
    dict
        SRCC with its interval by (shortcut, domain).
    """
    found = {}
    for domain in dict.fromkeys(p.domain for p in images):
        part = select(images, domain=domain)
        mos, groups = mos_of(part), [p.source for p in part]
        for name, value in shortcuts.items():
            found[name, domain] = correlate(
                [value(p) for p in part], mos, kind="srcc", groups=groups, n_boot=n_boot
            )
    return found


def png_bytes(pixels: np.ndarray) -> int:
    """Size of an image (H, W, 3) uint8 as a PNG file.

    >>> png_bytes(np.zeros((64, 64, 3), np.uint8)) < 200
    True
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.tell()


def random_score_correlations(
    protocols: Mapping[str, Callable[[np.ndarray, np.ndarray], float]],
    mos: np.ndarray,
    *,
    sizes: Sequence[int] = (25, 50, 100, 200, 400),
    n_draws: int = 30,
    seed: int = 0,
) -> tuple[pd.DataFrame, str]:
    """Correlation that each protocol gives a score of pure noise.

    Parameters
    ----------
    protocols
        Functions of score (n,) and opinion score (n,) by name.
    mos
        Opinion scores to draw from, with replacement.
    sizes
        Numbers of images.
    n_draws
        Draws for each of them.
    seed
        Of the noise and of the draws.

    Returns
    -------
    DataFrame
        One row per draw and protocol, columns n, protocol, plcc; fits that raise ValueError (a
        curve that is flat, or that does not converge) are left out.
    str
        How many were left out, and the warnings of the others.

    Examples
    --------
    >>> table, note = random_score_correlations(
    ...     {"raw": plcc}, np.linspace(1, 5, 50), sizes=[20], n_draws=3
    ... )
    >>> table.shape, note
    ((3, 3), '0 of 3 fits found no curve and are left out; warnings: {}')
    """
    rng, rows, failed = np.random.default_rng(seed), [], 0
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        for n in sizes:
            for _ in range(n_draws):
                labels, noise = rng.choice(mos, n), rng.normal(size=n)
                for protocol, value_of in protocols.items():
                    try:
                        rows.append((n, protocol, value_of(noise, labels)))
                    except ValueError:
                        failed += 1
    kinds = pd.Series([w.category.__name__ for w in noted], dtype=str).value_counts().to_dict()
    return pd.DataFrame(rows, columns=["n", "protocol", "plcc"]), (
        f"{failed} of {failed + len(rows)} fits found no curve and are left out; warnings: {kinds}"
    )


def check_raters(raters: int, panel: RaterPanel, *, limit: float = 0.1) -> str:
    """Whether a number of raters is the smallest with a standard error of at most `limit`.

    >>> check_raters(3, RaterPanel(noise=0.3, bias=0.4))
    'not yet: 3 raters give 0.289'
    """

    def error(n: int) -> float:
        return float(np.sqrt((panel.bias**2 + panel.noise**2) / n))

    right = error(raters) <= limit and (raters == 1 or error(raters - 1) > limit)
    return "right" if right else f"not yet: {raters} raters give {error(raters):.3f}"


def check_unbiased(undo: Callable[[np.ndarray], np.ndarray], rated: pd.DataFrame) -> str:
    """Whether a function takes opinion scores closer to quality, by a quarter of the mean error or
    more.

    Parameters
    ----------
    undo
        From scores (n,) to quality (n,).
    rated
        One row per image, columns mos, quality.

    Examples
    --------
    >>> check_unbiased(lambda mos: mos + 1, pd.DataFrame({"mos": [1.0, 2.0], "quality": [2, 3]}))
    'right: mean error 1.00 before, 0.00 after'
    """
    mos, quality = rated["mos"].to_numpy(), rated["quality"].to_numpy()
    before, after = (float(np.abs(x - quality).mean()) for x in (mos, undo(mos)))
    word = "right" if after < 0.75 * before else "not yet"
    return f"{word}: mean error {before:.2f} before, {after:.2f} after"


def check_honest(
    score: Sequence[float], mos: np.ndarray, source: Sequence[str], *, limit: float
) -> str:
    """Rank correlation of scores (n,), unless their PLCC reaches `limit`, that of a method that
    has seen the scenes.
    """
    found = correlate(np.asarray(score, dtype=float), mos, kind="srcc", groups=source)
    honest = plcc(score, mos) < limit
    word = "right" if honest else "too good to be true: is a scene on both sides?"
    return f"{word}: together {found}"
