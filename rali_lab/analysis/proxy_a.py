"""Proxy A-distance: can a linear classifier tell two clouds apart on sources it has not seen?"""

from __future__ import annotations

import numpy as np

from .folds import grouped_folds
from .gaps import Gap, of_two
from .inputs import centred


def proxy_a_distance(X, Y, *, groups_x=None, groups_y=None, n_folds: int = 5, ridge: float = 0.1) -> float:
    """2 (1 - 2 e) with e the *held-out* balanced error of a linear classifier between two clouds (n, d), (m, d).

    About 0 (also slightly negative): a line cannot tell them apart; 2: always. Measured on training rows, as some public code
    does, it is 2 for any clouds with n < d.

    Parameters
    ----------
    groups_x, groups_y : sources, whole in a fold; a source in both clouds carries one label
    n_folds : fewer are used if a cloud has fewer sources
    ridge : penalty of the least-squares classifier, in mean eigenvalues

    Raises
    ------
    ValueError
        Bad arrays, different widths, fewer than 2 sources in one.

    Notes
    -----
    Ben-David et al. (2010). Departures: balanced error, so that 0 is chance whatever the sizes; least squares for a linear
    support vector machine, which needs no search and one linear system per fold. O((n + m)³) time, O((n + m)²) memory.

    >>> rng = np.random.default_rng(0)
    >>> proxy_a_distance(rng.normal(size=(50, 3)), 9 + rng.normal(size=(50, 3)))
    2.0
    """
    gx = np.array([f"x{i}" for i in range(len(X))]) if groups_x is None else np.asarray(groups_x).astype(str)
    gy = np.array([f"y{i}" for i in range(len(Y))]) if groups_y is None else np.asarray(groups_y).astype(str)
    return of_two(proxy_a_gap, X, Y, group=np.unique(np.concatenate([gx, gy]), return_inverse=True)[1], n_folds=n_folds, ridge=ridge)


def proxy_a_gap(X: np.ndarray, group: np.ndarray, *, n_folds: int = 5, ridge: float = 0.1, random_state: int = 0) -> Gap:
    X = centred(X)
    K = X @ X.T

    def gap(a: np.ndarray, b: np.ndarray) -> float:
        rows, label = np.concatenate([a, b]), np.repeat([0, 1], [len(a), len(b)])
        g = np.unique(group[rows], return_inverse=True)[1]
        sources = min(len(np.unique(g[label == c])) for c in (0, 1))
        if sources < 2:
            raise ValueError(f"one domain has {sources} sources, held-out error needs 2; add sources or pass groups=None")
        folds = grouped_folds(g, len(rows), min(n_folds, sources), np.random.default_rng(random_state), strata=label)
        right = _right(K[np.ix_(rows, rows)], label, folds, ridge)
        return float(2 * (right[label == 0].mean() + right[label == 1].mean()) - 2)

    return gap


def _right(K: np.ndarray, label: np.ndarray, folds: list[np.ndarray], ridge: float) -> np.ndarray:
    """Which rows a least-squares classifier fitted on the other folds puts on the right side, (n,).

    The border lies midway between the fitted means of the two classes. The fit without fold f is the fit to all rows with the
    labels of f replaced by their own predictions, and those come from one inverse: (I - H)_ff e = (I - H) y, H the hat matrix.
    """
    n, mean = len(K), K.mean(axis=0)
    K = K - mean - mean[:, None] + mean.mean()
    penalty = ridge * max(np.trace(K) / n, 1e-300)
    K[np.diag_indices(n)] += penalty
    rest = penalty * _inverse(K) - 1 / n  # I - H
    residual, right = rest @ label, np.empty(n, dtype=bool)
    for held in folds:
        error = np.linalg.solve(rest[np.ix_(held, held)], residual[held])
        fitted = label - residual + rest[:, held] @ error
        fitted[held] -= error
        inside = np.isin(np.arange(n), held, invert=True)
        border = sum(fitted[inside & (label == c)].mean() for c in (0, 1)) / 2
        right[held] = (fitted[held] > border) == (label[held] == 1)
    return right


def _inverse(K: np.ndarray) -> np.ndarray:
    """Inverse of a positive definite matrix, from its Cholesky factor: half the work of a general one."""
    from scipy.linalg import lapack

    factor, failed = lapack.dpotrf(K)
    if failed:
        raise ValueError("the kernel matrix is singular: pass a larger ridge")
    upper = np.triu(lapack.dpotri(factor)[0])
    return upper + np.triu(upper, 1).T
