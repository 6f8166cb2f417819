"""Pseudo-MOS: full-reference quality on the 1..5 scale, and a rater panel that makes it a score.

No human rated the generated images. Their score starts from two full-reference measures, HaarPSI
(Reisenhofer et al., 2018) and MDSI (Nafchi et al., 2016), both from `piq`, and passes through a
simulated panel of raters, each with a bias, a noise and a scale that is cut at 1 and 5. It is
called pseudo-MOS wherever it appears.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def full_reference_quality(
    references: np.ndarray, images: np.ndarray, *, batch: int = 32
) -> np.ndarray:
    """Quality of images against their originals on the scale 1 (worst) to 5 (identical).

    Parameters
    ----------
    references, images
        Paired images, (n, H, W, 3) uint8.
    batch
        Images measured at a time.

    Returns
    -------
    ndarray
        Quality, (n,) float64: ``1 + 4 * clip((y - 0.15) / 0.6, 0, 1)`` with
        ``y = (HaarPSI + 1 - MDSI / 0.75) / 2``, our mapping.

    Raises
    ------
    ValueError
        The shapes differ.

    Notes
    -----
    The two measures agree best, of nine tried, with what was done to the image (docs/LOG.md), and
    cost about 3 ms for a 128 x 128 pair on one core, a tenth of VSI.
    """
    import torch
    from piq import haarpsi, mdsi

    if references.shape != images.shape:
        raise ValueError(
            f"references {references.shape} and images {images.shape} must have the same shape"
        )
    out = []
    with torch.inference_mode():
        for i in range(0, len(images), batch):
            a, b = (
                torch.from_numpy(np.array(x[i : i + batch])).permute(0, 3, 1, 2).float() / 255
                for x in (references, images)
            )
            h = haarpsi(b, a, data_range=1.0, reduction="none").numpy()
            m = mdsi(b, a, data_range=1.0, reduction="none").numpy()
            out.append(1 + 4 * np.clip(((h + 1 - m / 0.75) / 2 - 0.15) / 0.6, 0, 1))
    return np.concatenate(out).astype(np.float64) if out else np.zeros(0)


@dataclass(frozen=True)
class RaterPanel:
    """A panel of simulated raters with an annotation bias.

    The panel of a domain sees quality through a monotone map (`gamma`, `shift`, `gain`), as every
    published data set has its own scale, instructions and rater population; then each rater adds a
    personal bias and a noise for every image.

    Attributes
    ----------
    gamma
        Exponent on quality rescaled to 0..1; above 1 the panel is harsh, below 1 lenient.
    gain, shift
        Share of the scale that is used, and its offset in points of 1..5.
    raters
        Size of the panel.
    noise, bias
        Standard deviations of a single judgement and of a rater's own offset, in points.
    """

    gamma: float = 1.0
    gain: float = 1.0
    shift: float = 0.0
    raters: int = 15
    noise: float = 0.45
    bias: float = 0.25

    def opinion(self, quality: np.ndarray) -> np.ndarray:
        """Mean score of the panel without noise: a monotone map of (n,) quality, 1..5 to 1..5."""
        unit = np.clip((np.asarray(quality, dtype=np.float64) - 1) / 4, 0, 1)
        return np.clip(3 + self.gain * (4 * unit**self.gamma - 2) + self.shift, 1, 5)

    def rate(self, quality: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Mean opinion score and standard deviation over the panel: two (n,) arrays, MOS within
        1..5.

        >>> mos, std = RaterPanel().rate(np.array([1.5, 4.5]), np.random.default_rng(0))
        >>> bool(mos[0] < mos[1])
        True
        """
        opinion = self.opinion(quality)
        offsets = rng.normal(0, self.bias, self.raters)
        votes = opinion[:, None] + offsets + rng.normal(0, self.noise, (len(opinion), self.raters))
        votes = np.clip(votes, 1, 5)
        return votes.mean(axis=1), votes.std(axis=1, ddof=1)
