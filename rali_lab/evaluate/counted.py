"""Statistics of many resamples at once, given as counts: how often each row occurs in each of them.

They are weighted sums, so that a thousand resamples cost a few array operations and no Python loop
runs over them. `rali_lab.evaluate.bootstrap` draws the counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


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
        (n,) arrays; images whose score is NaN carry no weight.
    counts
        (n_boot, n) array, how often each image occurs in each resample.
    kind
        "plcc" or "srcc".
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
    X, y
        Arrays (n, k) and (n,).
    counts
        (n_boot, n) array, how often each row occurs in each resample.

    Returns
    -------
    ndarray
        Coefficients (n_boot, k), without the constant; the shortest of all solutions where there
        are several.

    Examples
    --------
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


def text_weights(conflict: pd.DataFrame, counts: np.ndarray) -> np.ndarray:
    """`rali_lab.interpret.probe.text_weight` of every resample of a table, (n_draws,), for `pooled`
    with ``counted``; NaN where neither image nor text has a positive weight.

    Parameters
    ----------
    conflict
        Columns own, donor and rating.
    counts
        How often each row of the table was drawn, (n_draws, rows).

    Examples
    --------
    >>> import pandas as pd
    >>> own, donor = np.random.default_rng(0).normal(size=(2, 50))
    >>> table = pd.DataFrame({"own": own, "donor": donor, "rating": 0.2 * own + 0.6 * donor})
    >>> text_weights(table, np.ones((1, 50))).round(3)
    array([0.75])
    """
    rows = conflict[["own", "donor", "rating"]].to_numpy(float)
    known = np.isfinite(rows).all(axis=1)
    found = np.maximum(regressions(rows[known, :2], rows[known, 2], counts[:, known]), 0)
    total = found.sum(axis=1)
    return np.divide(found[:, 1], total, out=np.full(len(total), np.nan), where=total > 0)
