"""Canonical correlations that were not fitted on the rows they are measured on.

In-sample CCA reaches 1 for any two arrays with n <= d; here directions are found on some folds and
correlated on the rest.
"""

from __future__ import annotations

import numpy as np

from rali_lab.analysis.folds import grouped_folds
from rali_lab.analysis.inputs import centred, finite, pair


def cca(
    X,
    Y,
    *,
    n_components: int = 10,
    ridge: float = 0.1,
    n_folds: int = 5,
    groups=None,
    random_state: int = 0,
) -> float:
    """Mean held-out canonical correlation of the first ``n_components`` directions.

    1: that many directions of ``X`` and ``Y`` determine each other linearly; about 0: nothing that
    was found on one part of the items holds on the rest. Swapping X and Y changes nothing.

    Parameters
    ----------
    X, Y
        (n, d1) and (n, d2) arrays.
    n_components
        Directions; fewer are used if the training folds have lower rank.
    ridge
        Added to both covariances, in mean eigenvalues; 0 is plain CCA and needs n > d.
    n_folds, groups, random_state
        Cross-validation with whole groups (sources) in one fold; seed of the folds.

    Raises
    ------
    ValueError
        Bad arrays (see `cka`); fewer groups than folds; folds of fewer than 3 rows.

    Notes
    -----
    Hotelling (1936); ridge: Vinod (1976). O(n_folds (n d² + d³)) time for the larger d, O(n d + d²)
    memory.

    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> round(cca(X, X @ [[1., 2, 0], [0, 1, 3], [1, 0, 1]], ridge=0), 6)
    1.0
    """
    correlations = cca_correlations(
        X,
        Y,
        n_components=n_components,
        ridge=ridge,
        n_folds=n_folds,
        groups=groups,
        random_state=random_state,
    )
    return float(correlations.mean())


def svcca(
    X,
    Y,
    *,
    variance: float = 0.99,
    n_components: int = 10,
    ridge: float = 1e-3,
    n_folds: int = 5,
    groups=None,
    random_state: int = 0,
) -> float:
    """`cca` after reducing each array to the principal components that hold ``variance`` of it,
    found on the training folds.

    The same ends as `cca`. Departures from Raghu et al. (2017): held-out correlations, at most
    ``n_components`` of them, a small ridge, and never more components than a tenth of the training
    rows, since more only fit noise.

    Parameters
    ----------
    X, Y
        Arrays (n, d1) and (n, d2).
    variance
        Share kept, in (0, 1].
    n_components, ridge, n_folds, groups, random_state
        As for `cca`.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(200, 3)) * [3, 2, 1]
    >>> svcca(X, X @ np.eye(3)[:, ::-1]) > 0.99
    True
    """
    if not 0 < variance <= 1:
        raise ValueError(f"variance={variance}, expected a share in (0, 1], usually 0.99")
    correlations = cca_correlations(
        X,
        Y,
        n_components=n_components,
        ridge=ridge,
        n_folds=n_folds,
        groups=groups,
        random_state=random_state,
        variance=variance,
    )
    return float(correlations.mean())


def cca_correlations(
    X,
    Y,
    *,
    n_components=10,
    ridge=0.1,
    n_folds=5,
    groups=None,
    random_state=0,
    variance: float | None = None,
) -> np.ndarray:
    """Held-out correlation of each direction, averaged over folds: (r,) with r <= ``n_components``,
    leading first.

    Parameters as `cca` and `svcca` (``variance`` None: no reduction). Each entry is in [-1, 1].

    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> cca_correlations(X, X[:, :2]).shape
    (2,)
    """
    if n_components < 1 or ridge < 0:
        raise ValueError(
            f"n_components={n_components}, ridge={ridge}: expected n_components >= 1 and ridge >= 0"
        )
    X, Y = pair(X, Y, min_n=8)
    X, Y = centred(X), centred(Y)
    found = []
    for held in grouped_folds(groups, len(X), n_folds, np.random.default_rng(random_state)):
        fit = np.setdiff1d(np.arange(len(X)), held)
        U, V = (
            _whitened(A[fit], A[held], ridge, variance, name) for A, name in ((X, "X"), (Y, "Y"))
        )
        left, _, right = np.linalg.svd(U[0].T @ V[0], full_matrices=False)
        a, b = U[1] @ left[:, :n_components], V[1] @ right[:n_components].T
        found.append(_columnwise(a, b))
    r = min(map(len, found))
    return np.mean([f[:r] for f in found], axis=0)


def _whitened(
    fit: np.ndarray, held: np.ndarray, ridge: float, variance: float | None, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Training and held-out rows in coordinates whose (regularised) training covariance is the
    identity.
    """
    mean = fit.mean(axis=0)
    U, s, Vt = np.linalg.svd(fit - mean, full_matrices=False)
    if not s[0] > 1e-10:
        raise ValueError(
            f"{name} is constant outside one fold: too few distinct rows; pass fewer folds or drop"
            " duplicates"
        )
    keep = s > 1e-10 * s[0]
    if variance is not None:
        share = np.cumsum(s**2) / np.sum(s**2)
        keep &= np.arange(len(s)) < min(
            int(np.searchsorted(share, variance - 1e-12)) + 1, max(1, len(fit) // 10)
        )
    U, s, Vt = U[:, keep], s[keep], Vt[keep]
    scale = 1 / np.sqrt(s**2 + ridge * np.sum(s**2) / fit.shape[1])
    return U * (s * scale), (held - mean) @ (Vt.T * scale)


def _columnwise(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson correlation of column j of ``a`` with column j of ``b``, both (m, r)."""
    if len(a) < 3:
        raise ValueError(
            f"a fold holds {len(a)} rows, a held-out correlation needs 3; pass fewer folds"
        )
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    sizes = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    if not np.all(sizes > 1e-300):
        raise ValueError(
            "a direction is constant on the held-out rows: too few distinct rows; pass fewer folds"
            " or fewer components"
        )
    return np.array([finite(c, "CCA") for c in np.clip((a * b).sum(axis=0) / sizes, -1, 1)])
