"""Do two representations of the same items arrange them alike? CKA, Procrustes and RSA.

Rows of ``X`` and ``Y`` are the same items in the same order; columns need not correspond. Centring
is done here. A single number says little: `rali_lab.analysis.significance` adds the null, the p
value and the interval.
"""

from __future__ import annotations

import numpy as np

from rali_lab.analysis.distances import median_distance, squared_distances, unit_rows
from rali_lab.analysis.inputs import blocks, centred, finite, pair
from rali_lab.analysis.streaming import StreamingCKA, align, hsic, least

KERNELS = ("linear", "rbf")


def cka(X, Y, *, kernel: str = "linear", debiased: bool = True, bandwidth: float = 1.0) -> float:
    """Centred kernel alignment: how far two representations agree on which pairs of items are
    alike.

    1: the same up to rotation, shift and scale (linear kernel). 0: unrelated; the debiased estimate
    scatters around 0 and may be slightly negative. Biased, two *independent* arrays get about d /
    (n + d): near 1 when n << d.

    Parameters
    ----------
    X, Y
        (n, d1) and (n, d2) arrays.
    kernel
        "linear", or "rbf": exp(-distance² / (2 s²)) with s = ``bandwidth`` x the median distance.
    debiased
        The unbiased HSIC of Song et al. in numerator and denominator (needs n >= 4), else the plain
        one.
    bandwidth
        Of the RBF kernel, in median distances. Large values bring back the linear kernel.

    Raises
    ------
    ValueError
        Different n; n < 4 debiased or n < 2 biased; constant, NaN or infinite input; an array whose
        rows are all equally alike, for which the debiased value is 0 / 0.

    Notes
    -----
    Kornblith et al. (2019), eq. 3; debiasing: Song et al. (2012), eq. 5, as in Nguyen et al.
    (2021), eq. 3. The linear kernel needs no n x n matrix: with centred rows, d_i = |x_i|² and e_i
    = |y_i|², n (n - 3) HSIC1 = |X'Y|² - n / (n - 2) sum d_i e_i + sum d_i sum e_i / ((n - 1) (n -
    2)). Time O(n (d1 + d2)²), memory O((d1 + d2)²) beside the arrays; for n < d1 + d2 the Gram
    matrices are cheaper and are used: O(n² (d1 + d2)) and O(n²). RBF: O(n² (d1 + d2)) time, in row
    blocks.

    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(50, 768)), rng.normal(size=(50, 768))
    >>> round(cka(X, Y, debiased=False), 2), round(cka(X, X[:, ::-1] * 3 + 1), 6)
    (0.94, 1.0)
    >>> abs(cka(X, Y)) < 0.2
    True
    """
    X, Y = pair(X, Y, **least(debiased))
    if kernel == "rbf":
        return align(*_rbf_terms(X, Y, debiased, bandwidth))
    if kernel != "linear":
        raise ValueError(f"kernel={kernel!r} is not known; choose one of {KERNELS}")
    if len(X) < X.shape[1] + Y.shape[1]:
        return align(*gram_terms(linear_gram(X), linear_gram(Y), debiased))
    stream = StreamingCKA(
        centres=(X.mean(axis=0, dtype=np.float64), Y.mean(axis=0, dtype=np.float64))
    )
    for part in blocks(len(X), X.shape[1] + Y.shape[1]):
        stream.add(X[part], Y[part])
    return stream.result(debiased=debiased)


def procrustes(X, Y) -> float:
    """Orthogonal Procrustes similarity: how well a rotation of ``X`` (n, d1) fits ``Y`` (n, d2).

    |X'Y| (nuclear norm) of the centred arrays scaled to Frobenius norm 1. 1: equal up to rotation,
    shift and scale; 0: orthogonal. It is biased upward: independent arrays get clearly more than 0
    unless n >> d, so read it beside the null of `significance`. Ding et al.'s (2021) distance is
    2 - 2 x this; SciPy's disparity is 1 - this².

    Raises
    ------
    ValueError
        As `cka` with n >= 2.

    Notes
    -----
    Schönemann (1966). O(n d² + d³) time, with min(n, d) for d in the cubic term.

    >>> X = np.random.default_rng(0).normal(size=(20, 3))
    >>> round(procrustes(X, X @ [[0., 1, 0], [1, 0, 0], [0, 0, 1]]), 6)
    1.0
    """
    X, Y = (_compact(centred(A)) for A in pair(X, Y))
    X, Y = X / np.linalg.norm(X), Y / np.linalg.norm(Y)
    return finite(min(1.0, float(np.linalg.norm(X.T @ Y, "nuc"))), "procrustes")


def rsa(X, Y, *, distance: str = "euclidean", method: str = "spearman") -> float:
    """Representational similarity analysis: correlation of the n (n - 1) / 2 distances in ``X`` and
    in ``Y``.

    1: the distances are ordered alike (spearman) or proportional up to a constant (pearson); 0:
    unrelated.

    Parameters
    ----------
    X, Y
        (n, d1) and (n, d2) arrays, n >= 3.
    distance
        "euclidean", or "correlation": 1 - Pearson correlation of two rows (2 columns or more).
    method
        "spearman" or "pearson".

    Raises
    ------
    ValueError
        As `cka`; rows without a direction for "correlation"; distances that are all equal.

    Notes
    -----
    Kriegeskorte et al. (2008). O(n² (d + log n)) time, O(n²) memory. The distances are not
    independent of each other: the p value of a correlation test does not apply, that of
    `significance` does.

    >>> X = np.arange(5.0)[:, None]
    >>> round(rsa(X, np.sqrt(X)), 2), round(rsa(X, -2 * X, method="pearson"), 6)
    (0.8, 1.0)
    """
    X, Y = pair(X, Y, min_n=3)
    x, y = (rdm_vector(A, distance, method, name) for A, name in ((X, "X"), (Y, "Y")))
    return finite(np.clip(x @ y, -1, 1), "RSA")


def rdm_vector(X: np.ndarray, distance: str, method: str, name: str = "X") -> np.ndarray:
    """Distances between rows as a vector of mean 0 and length 1, so that a dot product is their
    correlation.
    """
    if distance == "correlation":
        D = squared_distances(
            *[unit_rows(_rows_centred(X, name), f"{name} (after subtracting each row's mean)")] * 2
        )
    elif distance == "euclidean":
        D = np.sqrt(squared_distances(*[centred(X)] * 2))
    else:
        raise ValueError(f"distance={distance!r} is not known; choose 'euclidean' or 'correlation'")
    values = D[np.triu_indices(len(X), 1)]
    if np.ptp(values) <= 1e-7 * values.max():
        raise ValueError(
            f"all pairs of rows of {name} are equally far apart: no correlation of distances"
            " exists; use cka or more rows"
        )
    if method == "spearman":
        from scipy.stats import rankdata

        values = rankdata(np.round(values, 12))  # distances that differ by rounding only are ties
    elif method != "pearson":
        raise ValueError(f"method={method!r} is not known; choose 'spearman' or 'pearson'")
    values = values - values.mean()
    return values / np.linalg.norm(values)


def linear_gram(X: np.ndarray) -> np.ndarray:
    """Inner products (n, n) of the centred rows."""
    X = centred(X)
    return X @ X.T


def rbf_gram(X: np.ndarray, rows: slice, bandwidth: float) -> np.ndarray:
    """Rows of the RBF kernel of ``X``, which is already divided by its median distance, minus a
    constant.

    The constant (the kernel at the median distance) drops out of every HSIC and leaves small
    numbers to subtract.
    """
    if bandwidth <= 0:
        raise ValueError(
            f"bandwidth={bandwidth}, expected a positive multiple of the median distance, usually 1"
        )
    K = np.exp(squared_distances(X[rows], X) / (-2 * bandwidth**2)) - np.exp(
        -1 / (2 * bandwidth**2)
    )
    K[np.abs(K) < 1e-13] = 0  # rounding must not pass for structure where all distances are equal
    return K


def in_medians(X: np.ndarray) -> np.ndarray:
    """Centred ``X`` in units of its median distance."""
    X = centred(X)
    return X / median_distance(X)


def gram_terms(K: np.ndarray, L: np.ndarray, debiased: bool) -> tuple[float, ...]:
    """HSIC of (K, L), (K, K) and (L, L); the diagonals are set to zero in place if ``debiased``."""
    if debiased:
        np.fill_diagonal(K, 0)
        np.fill_diagonal(L, 0)
    k, l = K.sum(axis=1), L.sum(axis=1)  # noqa: E741
    n = len(K)
    return tuple(
        hsic(n, np.vdot(A, B), a, b, debiased)
        for A, B, a, b in ((K, L, k, l), (K, K, k, k), (L, L, l, l))
    )


def _rbf_terms(X: np.ndarray, Y: np.ndarray, debiased: bool, bandwidth: float) -> tuple[float, ...]:
    X, Y, n = in_medians(X), in_medians(Y), len(X)
    sums, k, l = np.zeros(3), np.empty(n), np.empty(n)  # noqa: E741
    for part in blocks(n, 2 * n):
        K, L = rbf_gram(X, part, bandwidth), rbf_gram(Y, part, bandwidth)
        if debiased:
            own = np.arange(len(K)), np.arange(n)[part]
            K[own] = L[own] = 0
        k[part], l[part] = K.sum(axis=1), L.sum(axis=1)
        sums += np.vdot(K, L), np.vdot(K, K), np.vdot(L, L)
    return tuple(
        hsic(n, s, a, b, debiased) for s, a, b in zip(sums, (k, k, l), (l, k, l), strict=True)
    )


def _rows_centred(X: np.ndarray, name: str) -> np.ndarray:
    if X.shape[1] < 2:
        raise ValueError(
            f"{name} has one column, expected 2 or more for correlation distance; use"
            " distance='euclidean'"
        )
    X = X / np.float64(np.abs(X).max())
    rows = X - X.mean(axis=1, keepdims=True)
    return np.where(np.abs(rows).max(axis=1, keepdims=True) > 1e-12, rows, 0.0)


def _compact(X: np.ndarray) -> np.ndarray:
    """The same rows in at most n columns: the inner products are kept, which is all that a rotation
    can see.
    """
    return X if len(X) >= X.shape[1] else np.linalg.qr(X.T, mode="r").T  # type: ignore[attr-defined]  # with this mode it is one array
