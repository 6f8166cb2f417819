"""Distances in row blocks, the median heuristic and exact nearest neighbours: what several measures
stand on.
"""

from __future__ import annotations

import numpy as np

from rali_lab.analysis.inputs import blocks, centred

METRICS = ("euclidean", "cosine")


def prepared(X: np.ndarray, metric: str) -> np.ndarray:
    """``X`` (n, d) in float64 so that Euclidean distances order its rows as ``metric`` does.

    "euclidean": centred and scaled, which changes no order; "cosine": rows of length 1.
    """
    if metric == "euclidean":
        return centred(X)
    if metric == "cosine":
        return unit_rows(X)
    raise ValueError(f"metric={metric!r} is not known; choose one of {METRICS}")


def unit_rows(X: np.ndarray, name: str = "X") -> np.ndarray:
    """Rows divided by their length.

    Raises
    ------
    ValueError
        A row is all zeros and has no direction.
    """
    size = np.abs(X).max(axis=1, keepdims=True).astype(np.float64)
    if zero := int((size == 0).sum()):
        raise ValueError(
            f"{zero} of {len(X)} rows of {name} are all zeros and have no direction; leave them out"
            " (in every array)"
        )
    X = X / size
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def squared_distances(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (n, m) of the rows of ``A`` (n, d) and ``B`` (m, d), by one
    matrix product.

    The error of an entry is about 1e-15 times the squared lengths of its rows: centre first. Never
    negative.
    """
    D = A @ B.T
    D *= -2
    D += np.einsum("ij,ij->i", A, A)[:, None]
    D += np.einsum("ij,ij->i", B, B)[None, :]
    return np.maximum(D, 0, out=D)


def median_distance(X: np.ndarray, *, max_rows: int = 2000) -> float:
    """Median Euclidean distance between different rows of ``X`` (n, d), the usual bandwidth of an
    RBF kernel.

    Exact up to ``max_rows`` rows; above, that many rows drawn with a fixed seed.

    Raises
    ------
    ValueError
        The median is zero: more than half of the pairs of rows are equal.

    Examples
    --------
    >>> median_distance(np.array([[0.], [1.], [3.]]))
    2.0
    """
    if len(X) > max_rows:
        X = X[np.sort(np.random.default_rng(0).choice(len(X), max_rows, replace=False))]
    size = float(np.abs(X).max()) or 1.0
    X = X / size
    X -= X.mean(axis=0)
    D = squared_distances(X, X)[np.triu_indices(len(X), 1)]
    median = float(np.median(np.sqrt(D)))
    if median <= 1e-7:  # what rounding makes of equal rows
        raise ValueError(
            "the median distance between rows is 0 (most rows repeat); drop the repeats"
        )
    return median * size


def nearest(X: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` nearest other rows of each row: distances and indices, both (n, k), nearest first.

    Candidates come from the matrix product of `squared_distances`; the distances that are returned
    are computed again from differences, so near-duplicates keep their digits. Equal distances are
    ordered by index, as far as all of them are among the k. Time O(n² d), memory O(n k) beside one
    block.

    >>> nearest(np.array([[0.], [1.], [3.]]), 1)[1].ravel()
    array([1, 0, 1])
    """
    n = len(X)
    distance, index = np.empty((n, k)), np.empty((n, k), dtype=np.intp)
    for part in blocks(n, n):
        D = squared_distances(X[part], X)
        rows = np.arange(len(D))
        D[rows, np.arange(n)[part]] = np.inf
        found = np.sort(np.argpartition(D, k - 1, axis=1)[:, :k], axis=1)
        exact = np.stack(
            [np.linalg.norm(X[part] - X[found[:, j]], axis=1) for j in range(k)], axis=1
        )
        order = np.argsort(exact, axis=1, kind="stable")
        distance[part] = np.take_along_axis(exact, order, 1)
        index[part] = np.take_along_axis(found, order, 1)
    return distance, index
