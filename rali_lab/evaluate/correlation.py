"""PLCC and SRCC with intervals: one method, two on the same images, one domain or the mean of
several.

"PLCC" is three different numbers in this field: raw Pearson, Pearson after a logistic fitted on the
test set, and Pearson after an isotonic fit on the test set. Here ``plcc`` is raw; the others name
their fit.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import optimize, special, stats

from rali_lab.estimate import Estimate
from rali_lab.evaluate.bootstrap import mean_with_interval
from rali_lab.evaluate.samples import complete, make_sample

KINDS = ("plcc", "srcc")
FITS = ("logistic4", "isotonic_cv")


def plcc(score, mos) -> float:
    """Pearson's linear correlation of predicted ``score`` (n,) and human ``mos`` (n,), raw: nothing
    fitted.

    1: the score is MOS up to a positive affine map; 0: no linear relation; -1: upside down.

    Raises
    ------
    ValueError
        NaN or infinite values, fewer than 3 images, unequal lengths; `CollapsedScores` if constant.

    Examples
    --------
    >>> round(plcc([1, 2, 3, 5], [1, 2, 3, 4]), 3)
    0.983
    """
    return float(stats.pearsonr(*complete(score, mos)).statistic)


def srcc(score, mos) -> float:
    """Spearman's rank correlation of ``score`` (n,) and ``mos`` (n,): PLCC of mid-ranks, raises as
    `plcc`.

    >>> round(srcc([1, 2, 3, 50], [1, 2, 3, 4]), 6)
    1.0
    """
    return float(stats.spearmanr(*complete(score, mos)).statistic)


def fitted(
    score, mos, fit: str = "logistic4", *, groups=None, n_folds: int = 5, seed: int = 0
) -> np.ndarray:
    """Scores (n,) mapped to the scale of ``mos`` (n,) before a PLCC.

    ``"logistic4"``: mos ~ b2 + (b1 - b2) / (1 + exp(-(score - b3) / |b4|)), least squares over all
    images, as VQEG (2003), DeQA-Score and most IQA code do. Its four numbers come from the test
    labels, and since b1 < b2 is allowed an upside-down score gets a high value too: check the raw
    sign first. Departure: the score is standardised before the search, so the result does not
    depend on its units.

    ``"isotonic_cv"``: an increasing step function fitted on the other folds (``n_folds``, whole
    ``groups`` together), so no image is mapped by its own label. An isotonic fit *in sample* has up
    to n free steps and bends them to the noise of the very labels it is judged on: at n = 200 it
    adds about .03 PLCC, and gives a *random* score a clearly positive one. That is more than the
    gaps between published methods, so it is not offered. Cross-validated, a score without
    information gets about 0, or a little less.

    Raises
    ------
    ValueError
        As `plcc`; an unknown ``fit``; a logistic that does not converge.
    """
    score, mos = complete(score, mos)
    if fit == "logistic4":
        return _logistic4(score, mos)
    if fit == "isotonic_cv":
        from sklearn.isotonic import IsotonicRegression
        from sklearn.model_selection import GroupKFold, cross_val_predict

        groups = np.arange(len(mos)) if groups is None else groups
        folds = GroupKFold(n_folds, shuffle=True, random_state=seed)
        return cross_val_predict(
            IsotonicRegression(out_of_bounds="clip"), score, mos, groups=groups, cv=folds
        )
    raise ValueError(
        f"fit={fit!r} is not known; choose one of {FITS}, or plcc() for the raw correlation"
    )


def plcc_fitted(score, mos, fit: str = "logistic4", **options) -> float:
    """PLCC after the map of `fitted`, which says what each fit is and why isotonic must be
    cross-validated.

    For an interval, conditional on the fit, use ``correlate(fitted(score, mos, fit), mos)``.
    """
    return plcc(fitted(score, mos, fit, **options), mos)


def correlate(score, mos, *, kind="plcc", groups=None, n_boot=1000, level=0.95, seed=0) -> Estimate:
    """Correlation of one method on one domain, with a percentile bootstrap interval.

    Parameters
    ----------
    score
        (n,) array, or (n_seeds, n) for several trainings. NaN marks an image without a readable
        answer: left out of its seed, counted in the result. Several seeds: the value is the mean of
        the per-seed correlations (not that of the mean score), and seeds are resampled beside the
        images. With few seeds that part of the variance is understated by a factor of about
        (n_seeds - 1) / n_seeds.
    mos
        (n,) array, complete.
    kind
        "plcc" (raw Pearson) or "srcc".
    groups
        (n,) labels, optional: the source of each image. Versions of one source resemble each
        other, so sources are resampled, not images; without it the interval is too narrow whenever
        sources repeat.
    n_boot, level, seed
        Resamples, coverage, random seed (the same seed gives the same interval everywhere).

    Raises
    ------
    ValueError
        Infinite scores, incomplete ``mos``, fewer than 3 images or 2 sources, shapes that do not
        fit.
    CollapsedScores
        The score is constant: the correlation does not exist, and 0 would be an invention.

    Notes
    -----
    Efron & Tibshirani (1993), ch. 13. Time O(n_boot * n), 0.1 s for 1000 x 1000; memory in blocks
    of 0.2 GB. Percentile intervals cover a little less than ``level`` below about 30 sources.

    >>> print(correlate([1, 2, 3, 4, 5, 6, 7], [1, 3, 2, 4, 5, 7, 6], kind="srcc", n_boot=200))
    SRCC 0.929 [0.412, 1.000], n = 7
    """
    return _estimate({"": ((score,), mos, groups)}, kind, n_boot, level, seed)


def compare(
    score_a, score_b, mos, *, kind="plcc", groups=None, n_boot=1000, level=0.95, seed=0
) -> Estimate:
    """Correlation of A minus that of B, on the same images and the same resamples.

    Only images scored by both count (per seed). Seed i of A is paired with seed i of B; a single
    row is compared with every seed of the other. An interval without 0 says that A is better (or
    worse) beyond the draw of images and seeds; overlapping separate intervals do not say the
    contrary. Rest as `correlate`.
    """
    return _estimate({"": ((score_a, score_b), mos, groups)}, kind, n_boot, level, seed)


def mean_over_domains(
    domains: Mapping[str, tuple], *, kind="plcc", n_boot=1000, level=0.95, seed=0
) -> Estimate:
    """Unweighted mean of the per-domain correlations, ``{domain: (score, mos, groups)}``.

    Domains are fixed, not sampled: the interval speaks of new images from these domains. Images are
    resampled inside each, seeds jointly (every domain needs the same number, in one order). Rest as
    `correlate`.
    """
    parts = {name: ((score,), mos, groups) for name, (score, mos, groups) in domains.items()}
    return _estimate(parts, kind, n_boot, level, seed)


def compare_over_domains(
    domains: Mapping[str, tuple], *, kind="plcc", n_boot=1000, level=0.95, seed=0
) -> Estimate:
    """Unweighted mean over ``{domain: (score_a, score_b, mos, groups)}`` of the differences of
    `compare`.
    """
    parts = {name: ((a, b), mos, groups) for name, (a, b, mos, groups) in domains.items()}
    return _estimate(parts, kind, n_boot, level, seed)


def _estimate(
    domains: Mapping[str, tuple], kind: str, n_boot: int, level: float, seed: int
) -> Estimate:
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not known; choose one of {KINDS}")
    if not domains:
        raise ValueError("no domain given, expected at least one {name: (score, mos, groups)}")
    if not 0 < level < 1 or n_boot < 1:
        raise ValueError(
            f"level={level}, n_boot={n_boot}: expected 0 < level < 1 (say 0.95) and n_boot >= 1"
        )
    samples = [make_sample(name, *parts) for name, parts in domains.items()]
    seeds = {name: sample.n_seeds for name, sample in zip(domains, samples, strict=True)}
    if len(set(seeds.values())) > 1:
        raise ValueError(
            f"domains differ in their number of seeds, {seeds}; give each the same, in one order"
        )
    value, low, high = mean_with_interval(samples, kind=kind, n_boot=n_boot, level=level, seed=seed)
    missing = sum(sample.n_missing for sample in samples)
    return Estimate(
        kind.upper() if len(samples[0].scores) == 1 else f"{kind.upper()} difference",
        value,
        low,
        high,
        n=sum(sample.n_scored for sample in samples),
        n_seeds=samples[0].n_seeds,
        n_missing=missing,
        missing_share=missing / sum(sample.n_scores for sample in samples),
    )


def _logistic4(score: np.ndarray, mos: np.ndarray) -> np.ndarray:
    z = (score - score.mean()) / score.std()

    def curve(x, b1, b2, b3, b4):
        return b2 + (b1 - b2) * special.expit((x - b3) / np.abs(b4))

    ends = (mos.max(), mos.min()) if np.corrcoef(z, mos)[0, 1] >= 0 else (mos.min(), mos.max())
    try:
        found, _ = optimize.curve_fit(curve, z, mos, p0=(*ends, 0.0, 1.0), maxfev=20_000)
    except RuntimeError as error:
        raise ValueError(
            f"no logistic fits these {len(z)} images ({error}); report raw plcc()"
        ) from error
    return curve(z, *found)
