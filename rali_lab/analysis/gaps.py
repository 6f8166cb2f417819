"""How far apart are two clouds of representations: measures of two arrays with the same columns
(one more in `proxy_a`).

Each ``*_gap`` function prepares what depends on all rows once (a distance or kernel matrix) and
returns a function of two sets of row indices, so that nulls, intervals and floors reuse it.
`rali_lab.analysis.domain_gap` adds those.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rali_lab.analysis.distances import squared_distances
from rali_lab.analysis.inputs import centred, finite, matrix, same_width
from rali_lab.analysis.similarity import in_medians

# Rows of one domain, rows of the other -> the measure.
Gap = Callable[[np.ndarray, np.ndarray], float]


def mmd(X, Y) -> float:
    """Squared maximum mean discrepancy of two clouds (n, d) and (m, d), unbiased, RBF kernel
    exp(-distance² / (2 median²)).

    About 0 (also slightly negative): the same distribution; 2: no overlap at the scale of the
    median distance of all rows.

    Raises
    ------
    ValueError
        Bad arrays, different widths, fewer than 2 rows in one, a median distance of 0.

    Notes
    -----
    Gretton et al. (2012), eq. 3; it sees all moments, weighted by the kernel. O((n + m)² d) time,
    O((n + m)²) memory.

    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(2, 50, 3))
    >>> mmd(X, Y) < 0.05 < mmd(X, 2 + Y)
    True
    """
    return of_two(mmd_gap, X, Y)


def frechet_distance(X, Y, *, shrink: bool = True) -> float:
    """Fréchet distance of Gaussians fitted to two clouds (n, d), (m, d): |mean difference|² + tr(A
    + B - 2 (A B)^½).

    0: equal means and covariances; in squared units of the features, without upper end. With few
    rows it is far above 0 for two samples of one distribution: only the difference to the floor of
    `domain_gap` is informative.

    Parameters
    ----------
    X, Y
        Arrays (n, d) and (m, d).
    shrink
        Ledoit-Wolf covariances, defined and less noisy for n < d; else the plain ones.

    Raises
    ------
    ValueError
        Bad arrays, different widths, fewer than 2 rows in one.

    Notes
    -----
    Dowson & Landau (1982), as in FID (Heusel et al. 2017); shrinkage: Ledoit & Wolf (2004), lemma
    3.2-3.4. O(n d² + d³) time, O(d²) memory.

    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(frechet_distance(X, X + [3, 0, 0]), 6)
    9.0
    """
    X, Y = _two(X, Y)
    unit = float(max(np.abs(X).max(), np.abs(Y).max())) or 1.0
    scaled = _frechet(
        _gaussian(X / np.float64(unit), shrink), _gaussian(Y / np.float64(unit), shrink)
    )
    return finite(scaled * unit * unit, "Fréchet distance")


def silhouette(X, Y) -> float:
    """Mean silhouette of two clouds (n, d), (m, d) taken as clusters.

    1: tight and far apart; 0: rows are as near to the other cloud as to their own; negative: nearer
    to the other.

    Raises
    ------
    ValueError
        Bad arrays, different widths, fewer than 2 rows in one.

    Notes
    -----
    Rousseeuw (1987), Euclidean. It is small whenever clouds are wide, even if they never touch.
    O((n + m)² d) time.

    >>> silhouette([[0.], [0.], [0.]], [[1.], [1.], [1.]])
    1.0
    """
    return of_two(silhouette_gap, X, Y)


def knn_mixing(X, Y, *, k: int = 10) -> float:
    """Share of neighbours from the other cloud, relative to what full mixing gives, mean of the two
    clouds (n, d), (m, d).

    1: mixed as if labels were random (a little more or less by chance); 0: no row has a neighbour
    in the other cloud. *Small* values are a gap.

    Raises
    ------
    ValueError
        Bad arrays, different widths, ``k`` not below n + m - 1.

    Notes
    -----
    For a row of X the chance share is m / (n + m - 1). O((n + m)² d) time and O((n + m)²) memory.

    >>> rng = np.random.default_rng(0)
    >>> knn_mixing(rng.normal(size=(50, 3)), 99 + rng.normal(size=(50, 3)))
    0.0
    """
    return of_two(knn_mixing_gap, X, Y, k=k)


def mmd_gap(X: np.ndarray, group: np.ndarray | None = None) -> Gap:
    X = in_medians(X)
    K = np.exp(squared_distances(X, X) / -2)
    np.fill_diagonal(K, 0)

    def gap(a: np.ndarray, b: np.ndarray) -> float:
        m, n = len(a), len(b)
        own = K[np.ix_(a, a)].sum() / (m * (m - 1)) + K[np.ix_(b, b)].sum() / (n * (n - 1))
        return finite(own - 2 * K[np.ix_(a, b)].mean(), "MMD")

    return gap


def frechet_gap(X: np.ndarray, group: np.ndarray | None = None, *, shrink: bool = True) -> Gap:
    """In units of the total variance of all rows, so that representations can be compared."""
    X = centred(X)
    X = X / np.sqrt(np.vdot(X, X) / (len(X) - 1))
    return lambda a, b: _frechet(_gaussian(X[a], shrink), _gaussian(X[b], shrink))


def silhouette_gap(X: np.ndarray, group: np.ndarray | None = None) -> Gap:
    X = centred(X)
    D = np.sqrt(squared_distances(X, X))
    np.fill_diagonal(D, 0)

    def gap(a: np.ndarray, b: np.ndarray) -> float:
        total = 0.0
        for own, other in ((a, b), (b, a)):
            near = D[np.ix_(own, own)].sum(axis=1) / (len(own) - 1)
            far = D[np.ix_(own, other)].mean(axis=1)
            wide = np.maximum(far, near)
            total += np.sum(np.divide(far - near, wide, out=np.zeros(len(own)), where=wide > 0))
        return finite(total / (len(a) + len(b)), "silhouette")

    return gap


def knn_mixing_gap(X: np.ndarray, group: np.ndarray | None = None, *, k: int = 10) -> Gap:
    X = centred(X)
    D = squared_distances(X, X)
    np.fill_diagonal(D, np.inf)

    def gap(a: np.ndarray, b: np.ndarray) -> float:
        rows, n = np.concatenate([a, b]), len(a) + len(b)
        if not 1 <= k < n - 1:
            raise ValueError(
                f"k={k} neighbours among {n} rows, expected 1 <= k < n - 1; pass a smaller k or"
                " more rows"
            )
        near = np.argpartition(D[np.ix_(rows, rows)], k - 1, axis=1)[:, :k]
        other = (near >= len(a)) != (np.arange(n) >= len(a))[:, None]
        of_a = other[: len(a)].mean() * (n - 1) / len(b)
        of_b = other[len(a) :].mean() * (n - 1) / len(a)
        return float((of_a + of_b) / 2)

    return gap


def _gaussian(X: np.ndarray, shrink: bool) -> tuple[np.ndarray, np.ndarray]:
    n, d = X.shape
    mean = X.mean(axis=0)
    X = X - mean
    S = X.T @ X / (n if shrink else n - 1)
    if shrink:
        scale = np.trace(S) / d
        distance = np.vdot(S, S) - d * scale**2
        noise = (np.sum(np.einsum("ij,ij->i", X, X) ** 2) / n - np.vdot(S, S)) / n
        weight = 1.0 if distance <= 0 else min(1.0, max(0.0, noise) / distance)
        S *= 1 - weight
        S[np.diag_indices(d)] += weight * scale
    return mean, S


def _frechet(one: tuple[np.ndarray, np.ndarray], two: tuple[np.ndarray, np.ndarray]) -> float:
    (a, A), (b, B) = one, two
    finite(np.trace(A) + np.trace(B), "Fréchet distance")
    try:
        half = np.linalg.cholesky(A)
    except np.linalg.LinAlgError:  # singular: constant columns, or few rows without shrinkage
        values, vectors = np.linalg.eigh(A)
        half = vectors * np.sqrt(np.maximum(values, 0))
    root = np.sqrt(np.maximum(np.linalg.eigvalsh(half.T @ B @ half), 0)).sum()
    return finite(
        max(0.0, (a - b) @ (a - b) + np.trace(A) + np.trace(B) - 2 * root), "Fréchet distance"
    )


def _two(X, Y) -> tuple[np.ndarray, np.ndarray]:
    X, Y = (matrix(A, name, constant="allow") for A, name in ((X, "X"), (Y, "Y")))
    same_width(X, Y, "two clouds in one space")
    return X, Y


def of_two(make: Callable[..., Gap], X, Y, **options) -> float:
    """A gap between two arrays, prepared by ``make`` from both together."""
    X, Y = _two(X, Y)
    both = matrix(np.concatenate([X, Y]), "X and Y together")
    return make(both, **options)(np.arange(len(X)), len(X) + np.arange(len(Y)))
