"""What enters a correlation: scores and labels checked, missing scores counted, methods matched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class CollapsedScores(ValueError):
    """The scores, or almost all of them, are one constant: no correlation or interval exists."""


@dataclass(frozen=True)
class Sample:
    """One domain ready for resampling: scores per method, human scores, and the cluster of each
    image.

    Attributes
    ----------
    scores
        Tuple of (n_seeds, n) arrays, one per compared method; NaN where there is no score.
    mos
        (n,) array.
    cluster
        (n,) array of int, 0..n_clusters-1.
    n_missing, n_scores
        Missing scores, and scores there should be, before methods were matched.
    """

    scores: tuple[np.ndarray, ...]
    mos: np.ndarray
    cluster: np.ndarray
    n_missing: int = 0
    n_scores: int = 0

    @property
    def n_seeds(self) -> int:
        """Trainings per method."""
        return len(self.scores[0])

    @property
    def n_scored(self) -> int:
        """Images with a score of every method in at least one seed."""
        return int(np.isfinite(self.scores[0]).any(axis=0).sum())


def make_sample(name: str, scores, mos, groups) -> Sample:
    """Check one domain; an image that any method could not score is missing for all (per seed)."""
    where = f"domain {name!r}: " if name else ""
    mos = np.asarray(mos, dtype=float)
    scores = [np.atleast_2d(np.asarray(score, dtype=float)) for score in scores]
    for score in scores:
        if mos.ndim != 1 or score.shape[1:] != mos.shape:
            raise ValueError(
                f"{where}score has shape {score.shape} and mos {mos.shape}; expected (n_seeds, n)"
                " and (n,)"
            )
    if len({len(score) for score in scores} - {1}) > 1:
        raise ValueError(
            f"{where}methods have {[len(s) for s in scores]} seeds; give equal numbers, or one row"
        )
    joint = np.isnan(scores[0]) if len(scores) == 1 else np.isnan(scores[0]) | np.isnan(scores[1])
    matched = tuple(np.where(joint, np.nan, score) for score in scores)
    for row in (row for score in matched for row in score):
        check(row[~np.isnan(row)], mos[~np.isnan(row)], where)
    if not np.isfinite(mos).all():
        check(mos, mos, where)
    return Sample(
        scores=matched,
        mos=mos,
        cluster=_clusters(groups, len(mos), where),
        n_missing=sum(int(np.isnan(score).sum()) for score in scores),
        n_scores=sum(score.size for score in scores),
    )


def complete(score, mos) -> tuple[np.ndarray, np.ndarray]:
    """``score`` and ``mos`` as (n,) float arrays without a gap, or an error."""
    score, mos = np.asarray(score, dtype=float), np.asarray(mos, dtype=float)
    if score.ndim != 1 or score.shape != mos.shape:
        raise ValueError(
            f"score has shape {score.shape} and mos {mos.shape}; expected (n,) and (n,)"
        )
    if missing := int(np.isnan(score).sum()):
        raise ValueError(
            f"{missing} of {len(score)} scores are NaN (no readable answer?); use correlate(), "
            "which leaves them out and says how many"
        )
    check(score, mos)
    return score, mos


def check(score: np.ndarray, mos: np.ndarray, where: str = "") -> None:
    """Raise unless a correlation of the two exists."""
    if bad := int((~np.isfinite(mos)).sum()):
        raise ValueError(
            f"{where}{bad} of {len(mos)} MOS are not finite; leave unlabelled images out"
        )
    if bad := int((~np.isfinite(score)).sum()):
        raise ValueError(
            f"{where}{bad} of {len(score)} scores are infinite; mark unreadable answers as NaN"
        )
    if len(score) < 3:
        raise ValueError(
            f"{where}got {len(score)} scored images, a correlation needs 3; add images"
        )
    if np.ptp(score) <= 1e-9 * max(1.0, np.abs(score).max()):
        raise CollapsedScores(
            f"{where}all {len(score)} scores are {score[0]:.4g}: the ratings have collapsed to a"
            " constant; no correlation exists; look at the rating spread in the training log, or"
            " at the parser"
        )
    if np.ptp(mos) == 0:
        raise ValueError(f"{where}all {len(mos)} MOS are {mos[0]:.4g}; check the label column")


def _clusters(groups, n: int, where: str) -> np.ndarray:
    labels = np.arange(n) if groups is None else np.asarray(groups)
    if labels.shape != (n,):
        raise ValueError(
            f"{where}groups have shape {labels.shape}, expected one source per image, ({n},)"
        )
    cluster = np.unique(labels, return_inverse=True)[1]
    if cluster.max() < 1:
        raise ValueError(
            f"{where}got one source, expected 2 or more; pass groups=None to resample images"
        )
    return cluster
