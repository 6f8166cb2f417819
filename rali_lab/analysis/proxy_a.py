"""Proxy A-distance: can a linear classifier separate two clouds on sources held out?"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np

from rali_lab.analysis.folds import grouped_folds
from rali_lab.analysis.gaps import Gap, of_two
from rali_lab.analysis.inputs import centred


def proxy_a_distance(
    X, Y, *, groups_x=None, groups_y=None, n_folds: int = 5, ridge: float = 0.1
) -> float:
    """2 (1 - 2 e) with e the *held-out* balanced error of a linear classifier between two clouds
    (n, d), (m, d).

    About 0 (also slightly negative): a line cannot separate them; 2: it always can. Measured on
    training rows, as some public code does, it is 2 for any clouds with n < d.

    Parameters
    ----------
    X, Y
        Arrays (n, d) and (m, d).
    groups_x, groups_y
        Sources, whole in a fold; a source in both clouds carries one label.
    n_folds
        Fewer are used if a cloud has fewer sources.
    ridge
        Penalty of the least-squares classifier, in mean eigenvalues.

    Raises
    ------
    ValueError
        Bad arrays, different widths, fewer than 2 sources in one.

    Notes
    -----
    Ben-David et al. (2010). Departures: balanced error, so that 0 is chance whatever the sizes;
    least squares for a linear support vector machine, which needs no search and one linear system
    per fold. O((n + m)³) time, O((n + m)²) memory.

    >>> rng = np.random.default_rng(0)
    >>> proxy_a_distance(rng.normal(size=(50, 3)), 9 + rng.normal(size=(50, 3)))
    2.0
    """
    names = [
        np.array([f"{cloud}{i}" for i in range(len(A))] if groups is None else groups).astype(str)
        for cloud, A, groups in (("x", X, groups_x), ("y", Y, groups_y))
    ]
    group = np.unique(np.concatenate(names), return_inverse=True)[1]
    return of_two(proxy_a_gap, X, Y, group=group, n_folds=n_folds, ridge=ridge)


def proxy_a_gap(
    X: np.ndarray, group: np.ndarray, *, n_folds: int = 5, ridge: float = 0.1, random_state: int = 0
) -> Gap:
    X = centred(X)
    K = X @ X.T

    def gap(a: np.ndarray, b: np.ndarray) -> float:
        rows = np.concatenate([a, b])
        order, ends = _folds(group[rows].astype(np.int64).tobytes(), len(a), n_folds, random_state)
        label, rows = (order >= len(a)).astype(float), rows[order]
        right = _right(K[rows[:, None], rows], label, ends, ridge)
        return float(2 * (right[label == 0].mean() + right[label == 1].mean()) - 2)

    return gap


@functools.lru_cache(maxsize=8192)
def _folds(
    groups: bytes, n_first: int, n_folds: int, random_state: int
) -> tuple[np.ndarray, tuple[int, ...]]:
    """The rows of two clouds in the order of their folds, and where each fold ends.

    Kept, as a study asks for the same rows of every representation. ``groups``: int64 numbers
    of the sources of all rows, those of the first cloud, ``n_first``, before those of the
    second.
    """
    g = np.unique(np.frombuffer(groups, dtype=np.int64), return_inverse=True)[1]
    label = (np.arange(len(g)) >= n_first).astype(int)
    sources = min(len(np.unique(g[label == c])) for c in (0, 1))
    if sources < 2:
        found = f"one domain has {sources} sources, held-out error needs 2"
        raise ValueError(f"{found}; add sources or pass groups=None")
    rng = np.random.default_rng(random_state)
    folds = grouped_folds(g, len(g), min(n_folds, sources), rng, strata=label)
    ends = np.cumsum([len(f) for f in folds]).tolist()
    return np.concatenate(folds).astype(np.int32), tuple(ends)


def _right(K: np.ndarray, label: np.ndarray, ends: Sequence[int], ridge: float) -> np.ndarray:
    """Which rows a least-squares classifier fitted on the other folds puts on the right side, (n,).

    Rows come fold by fold, ``ends`` says where each fold ends; ``K``, symmetric, is
    overwritten. The border lies midway between the fitted means of the two classes.

    With M the inverse of K + penalty, u = M 1 and H the hat matrix of the regression with an
    intercept, I - H = penalty (M - u u' / 1'u). The fit without fold f is the fit to all rows
    with the labels of f replaced by their own predictions: (I - H)_ff e = (I - H)_f y. As I - H
    is symmetric and (I - H) 1 = 0, the fitted means follow from sums of the residuals.
    """
    n = len(K)
    penalty = ridge * max((np.trace(K) - K.sum() / n) / n, 1e-300)
    K[np.diag_indices(n)] += penalty
    M, (z, u) = _inverse(K, label)
    residual, right = penalty * (z - u * (u @ label / u.sum())), np.empty(n, dtype=bool)
    size, inside = label.sum(), residual @ label
    fitted = inside - residual.sum(), size - inside  # sums over the rows of each class
    for start, end in itertools.pairwise((0, *ends)):
        held = slice(start, end)
        rest = penalty * (M[held, held] - np.outer(u[held], u[held] / u.sum()))
        error = _solved(rest, residual[held])
        ones, moved = label[held].sum(), residual[held] @ error
        zeros = end - start - ones
        low = (fitted[0] - moved) / (n - size - zeros)
        border = (low + (fitted[1] + moved - ones) / (size - ones)) / 2
        right[held] = (label[held] - error > border) == (label[held] == 1)
    return right


def _inverse(K: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Upper triangle of the inverse of a positive definite matrix, and its products with ``y``
    and with ones, (2, n).

    From one Cholesky factor: half the work of a general inverse. ``K`` is overwritten; below
    the diagonal nothing is of use.
    """
    from scipy.linalg import lapack

    factor, failed = lapack.dpotrf(K.T, overwrite_a=True, clean=False)
    if failed:
        raise ValueError("the kernel matrix is singular: pass a larger ridge")
    products = lapack.dpotrs(factor, np.stack([y, np.ones(len(y))], axis=1))[0].T
    return lapack.dpotri(factor, overwrite_c=True)[0], products


def _solved(A: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x with A x = y for a positive definite matrix of which only the upper triangle is read."""
    from scipy.linalg import lapack

    _, x, failed = lapack.dposv(A, y)
    if failed:
        raise ValueError("the kernel matrix is singular: pass a larger ridge")
    return x
