"""Do the scores of a data set rise with quality? Their rank correlation with those of a scorer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from rali_lab.data.images import ImageError
from rali_lab.data.records import RatedImage, mos_of
from rali_lab.estimate import Estimate
from rali_lab.evaluate.correlation import correlate

MAX_SCORED = 100
"""Images scored for the sign, spread evenly over the set."""
MIN_SCORED = 10
"""Below this number the sign is not checked."""
MIN_SIDE = 32
"""Smaller images are not given to the scorer."""
CHUNK = 8
"""Images in memory while they are scored."""


class Scorer(Protocol):
    """Anything that scores images, (n,) numbers for n arrays (H, W, 3) uint8, higher for a better
    one.
    """

    def predict(self, images: list[np.ndarray], /) -> np.ndarray: ...


def agreement_with_scorer(
    images: Sequence[RatedImage], scorer: Callable[[], Scorer] | None
) -> Estimate | str:
    """Rank correlation of the scores with those of a scorer, on at most 100 images, or why there is
    none.
    """
    if scorer is None:
        return "no scorer was given to compare with"
    if len(images) < MIN_SCORED:
        return f"{len(images)} readable images, expected at least {MIN_SCORED}"
    places = np.unique(np.linspace(0, len(images) - 1, MAX_SCORED).round().astype(int))
    chosen = [images[i] for i in places]
    try:
        loaded = scorer()
        score = np.concatenate(
            [_scores(loaded, chosen[i : i + CHUNK]) for i in range(0, len(chosen), CHUNK)]
        )
        kept = [p for p, value in zip(chosen, score, strict=True) if np.isfinite(value)]
        if len(kept) < MIN_SCORED:
            return (
                f"{len(kept)} images of at least {MIN_SIDE} px among {len(chosen)}, expected"
                f" {MIN_SCORED}"
            )
        sources = [p.source for p in kept]
        return correlate(score[np.isfinite(score)], mos_of(kept), kind="srcc", groups=sources)
    except ImportError as error:
        return f"the scorer needs {error.name}, which is not installed"
    except (FileNotFoundError, ValueError) as error:  # no scorer, or scores without any spread
        return str(error)


def _scores(scorer: Scorer, images: Sequence[RatedImage]) -> np.ndarray:
    """Scores (n,), NaN for an image that is too small, or that was removed since it was checked."""
    scores, arrays = np.full(len(images), np.nan), {}
    for i, image in enumerate(images):
        try:
            pixels = image.pixels()
        except ImageError:
            continue
        if min(pixels.shape[:2]) >= MIN_SIDE:
            arrays[i] = pixels
    if arrays:
        scores[list(arrays)] = scorer.predict(list(arrays.values()))
    return scores
