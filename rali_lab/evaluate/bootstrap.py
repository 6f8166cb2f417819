"""The resampling behind every interval: images are drawn by source, training seeds by seed, all at
once.

One resample is a row of *counts*, how often each image occurs in it. Both correlations are then
weighted sums, so a thousand resamples are a few array operations and no Python loop runs over them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .samples import CollapsedScores, Sample

_BLOCK = 2**22  # counts held at once; bounds memory at about 0.2 GB however many images there are


def midranks(x: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Ranks of ``x`` (n,) inside each resample (n_boot, n), ties sharing their mean rank.

    Equal to `scipy.stats.rankdata` of the resample written out.

    >>> midranks(np.array([3., 1., 2.]), np.array([[1, 1, 1], [2, 1, 0]]))
    array([[3. , 1. , 2. ],
           [2.5, 1. , 1.5]])
    """
    order = np.argsort(x, kind="stable")
    _, starts, inverse = np.unique(x[order], return_index=True, return_inverse=True)
    weight = np.add.reduceat(counts[:, order], starts, axis=1)
    rank = np.cumsum(weight, axis=1) - weight + (weight + 1) / 2
    position = np.empty_like(inverse)
    position[order] = inverse
    return rank[:, position]


def correlations(score: np.ndarray, mos: np.ndarray, counts: np.ndarray, kind: str) -> np.ndarray:
    """Correlation of each resample, shape (n_boot,); NaN where a resample is constant.

    Parameters
    ----------
    score, mos
        (n,) arrays; images whose score is NaN carry no weight
    counts
        (n_boot, n) array, how often each image occurs in each resample
    kind
        "plcc" or "srcc"
    """
    known = np.isfinite(score)
    score, mos, counts = score[known], mos[known], counts[:, known].astype(float)
    if kind == "srcc":
        x, y = midranks(score, counts), midranks(mos, counts)
    else:
        x, y = np.atleast_2d(score - score.mean()), np.atleast_2d(mos - mos.mean())
    total = counts.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        x = x - (counts * x).sum(axis=1, keepdims=True) / total
        y = y - (counts * y).sum(axis=1, keepdims=True) / total
        xy, xx, yy = (np.einsum("bn,bn,bn->b", counts, a, b) for a, b in ((x, y), (x, x), (y, y)))
        constant = (xx <= 1e-12 * np.max(xx)) | (yy <= 1e-12 * np.max(yy))
        return np.where(constant, np.nan, xy / np.sqrt(xx * yy))


def regressions(X: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Coefficients of least squares of ``y`` (n,) on the columns of ``X`` (n, k) and a
    constant, one fit a resample.

    Parameters
    ----------
    counts
        (n_boot, n) array, how often each row occurs in each resample

    Returns
    -------
    (n_boot, k), without the constant; the shortest of all solutions where there are several.

    >>> X = np.array([[0., 1.], [1., 0.], [2., 2.], [3., 5.]])
    >>> regressions(X, X @ [2, -1] + 7, np.array([[1, 1, 1, 1], [2, 0, 1, 1]])).round(6)
    array([[ 2., -1.],
           [ 2., -1.]])
    """
    rows = np.column_stack([X, y]).astype(float)
    rows -= rows.mean(axis=0)
    k, counts = rows.shape[1] - 1, counts.astype(float)
    total = counts.sum(axis=1)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = counts @ rows / total
        products = (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)
        second = (counts @ products / total).reshape(-1, k + 1, k + 1)
    spread = second - mean[:, :, None] * mean[:, None, :]
    empty = total[:, 0] == 0
    spread[empty] = 0
    inverse = np.linalg.pinv(spread[:, :k, :k], rcond=1e-12, hermitian=True)
    found = np.einsum("bij,bj->bi", inverse, spread[:, :k, k])
    return np.where(empty[:, None], np.nan, found)


def statistic(sample: Sample, counts: np.ndarray, kind: str) -> np.ndarray:
    """Correlation of one method, or difference of two, per resample and seed, shape (n_boot,
    n_seeds).
    """
    per_method = [
        np.stack([correlations(row, sample.mos, counts, kind) for row in scores], axis=1)
        for scores in sample.scores
    ]
    return per_method[0] if len(per_method) == 1 else per_method[0] - per_method[1]


def cluster_draws(sample: Sample, n_boot: int, rng: np.random.Generator):
    """Yield blocks of counts, (<= n_boot, n): clusters drawn with replacement, their images
    together.
    """
    n_clusters = int(sample.cluster.max()) + 1
    block = max(1, _BLOCK // len(sample.mos))
    for start in range(0, n_boot, block):
        size = min(block, n_boot - start)
        yield rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=size)[
            :, sample.cluster
        ]


def mean_with_interval(
    samples: Sequence[Sample], *, kind: str, n_boot: int, level: float, seed: int
) -> tuple[float, float, float]:
    """Mean over domains and seeds of the statistic, with its percentile interval.

    Images are drawn inside each domain; the draw of training seeds is shared by the domains, since
    it is the same trained model that meets all of them.

    Returns
    -------
    value, ci_low, ci_high

    Raises
    ------
    CollapsedScores
        If more than 1 % of the resamples are constant (up to 1 % are left out).
    """
    rng = np.random.default_rng(seed)
    n_seeds = samples[0].n_seeds
    seed_counts = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=n_boot)
    value, draws = 0.0, np.zeros(n_boot)
    for sample in samples:
        value += statistic(sample, np.ones((1, len(sample.mos))), kind).mean() / len(samples)
        per_seed = np.concatenate(
            [statistic(sample, counts, kind) for counts in cluster_draws(sample, n_boot, rng)]
        )
        draws += (
            np.where(seed_counts > 0, seed_counts * per_seed, 0).sum(axis=1)
            / n_seeds
            / len(samples)
        )
    undefined = np.mean(np.isnan(draws))
    if undefined > 0.01:
        raise CollapsedScores(
            f"{undefined:.0%} of {n_boot} resamples hold a constant score, expected at most 1 %:"
            " ratings have almost collapsed, or images or sources are too few; look at the scores,"
            " add images"
        )
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(value), float(low), float(high)
