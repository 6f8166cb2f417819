"""Projections of a cloud to few dimensions, with their trustworthiness, continuity, kept neighbours
and agreement between seeds.

Distances between clusters of a UMAP are no evidence. Draw several seeds, print these numbers beside
them, and measure in the original space (`domain_gap`, `significance`).
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rali_lab.analysis.distances import nearest, prepared, squared_distances
from rali_lab.analysis.inputs import finite, matrix, pair
from rali_lab.analysis.similarity import procrustes

METHODS = ("umap", "pca")
_EXACT = 4096  # rows from which UMAP searches neighbours approximately


@dataclass(frozen=True)
class Projection:
    """Coordinates per seed and their quality; prints as one line.

    Attributes
    ----------
    method, n, k
        "umap" or "pca"; rows; neighbours that the quality numbers use.
    seeds
        One per array of ``coordinates``; pca, which has no seed, has one.
    coordinates
        Tuple of (n, n_components) arrays.
    trustworthiness
        Per seed, in [0, 1]; 1: no false neighbours in the projection.
    continuity
        Per seed, in [0, 1]; 1: no true neighbours torn apart.
    overlap
        Per seed, share of the k nearest neighbours kept, in [0, 1]; chance is k / (n - 1).
    seed_procrustes, seed_overlap
        Mean over pairs of seeds of their Procrustes similarity and shared neighbours; None with one
        seed.
    """

    method: str
    n: int
    k: int
    seeds: tuple[int, ...]
    coordinates: tuple[np.ndarray, ...]
    trustworthiness: tuple[float, ...]
    continuity: tuple[float, ...]
    overlap: tuple[float, ...]
    seed_procrustes: float | None = None
    seed_overlap: float | None = None

    def __str__(self) -> str:
        parts = [
            f"{key} {_range(getattr(self, key))}"
            for key in ("trustworthiness", "continuity", "overlap")
        ]
        if self.seed_procrustes is not None:
            parts.append(
                f"{len(self.seeds)} seeds agree {self.seed_procrustes:.2f} (Procrustes),"
                f" {self.seed_overlap:.2f} (neighbours)"
            )
        return f"{self.method}: {', '.join(parts)}, k = {self.k}, n = {self.n}"

    def to_dict(self) -> dict:
        """Plain JSON values, without the coordinates."""
        plain = {
            key: getattr(self, key)
            for key in ("method", "n", "k", "seed_procrustes", "seed_overlap")
        }
        return plain | {
            key: list(getattr(self, key))
            for key in ("seeds", "trustworthiness", "continuity", "overlap")
        }


def project(
    X,
    *,
    method: str = "umap",
    seeds=(0, 1, 2),
    n_neighbors: int = 15,
    n_components: int = 2,
    metric: str = "euclidean",
    max_anchors: int = 2000,
    **options,
) -> Projection:
    """Project ``X`` (n, d) to a few dimensions, once per seed, with the quality of each
    projection.

    Parameters
    ----------
    X
        (n, d) array.
    method
        "umap" (needs umap-learn) or "pca" (one result, seeds do not matter).
    seeds
        Of UMAP. One machine repeats a seed exactly; another machine or version may not.
    n_neighbors
        Of UMAP, and the k of the quality numbers; below n / 2, where trustworthiness stops being a
        number up to 1.
    n_components, metric
        Output dimensions; "euclidean" or "cosine", also for the quality ("pca" is Euclidean).
    max_anchors
        Rows (drawn with a fixed seed) for which the quality is computed, among all n rows.
    **options
        For `umap.UMAP`, such as ``min_dist=0.1``.

    Raises
    ------
    ValueError
        Bad arrays; ``n_neighbors`` not in 2 .. n / 2; unknown method or metric; no seed.
    ImportError
        "umap" without umap-learn.

    Notes
    -----
    McInnes et al. (2018). Beside UMAP itself, O(anchors n (d + log n)) time per seed.

    >>> X = np.random.default_rng(0).normal(size=(60, 5)) * [3, 2, 1, 1, 1]
    >>> print(project(X, method="pca", n_neighbors=10))  # doctest: +ELLIPSIS
    pca: trustworthiness 0.9..., continuity 0.9..., overlap 0.6..., k = 10, n = 60
    """
    X = matrix(X, min_n=6)
    n, seeds = len(X), tuple(seeds)
    _check_k(n_neighbors, n, "n_neighbors")
    if not seeds:
        raise ValueError("seeds is empty, expected at least one, such as (0, 1, 2)")
    if not 1 <= n_components <= min(n - 1, X.shape[1]):
        raise ValueError(
            f"n_components={n_components}, expected 1 to {min(n - 1, X.shape[1])} for an array of"
            f" shape {X.shape}"
        )
    Z = prepared(X, metric)
    if method == "pca":
        seeds = seeds[:1]
        found: tuple[np.ndarray, ...] = (_pca(Z, n_components),)
    elif method == "umap":
        found = _umap(Z, n_neighbors, n_components, seeds, options)
    else:
        raise ValueError(f"method={method!r} is not known; choose one of {METHODS}")
    quality = [_quality(Z, prepared(C, "euclidean"), n_neighbors, max_anchors) for C in found]
    true, whole, shared = zip(*quality, strict=True)
    return Projection(
        method, n, n_neighbors, seeds, found, true, whole, shared, *_stability(found, n_neighbors)
    )


def trustworthiness(
    X, Z, *, k: int = 15, metric: str = "euclidean", max_anchors: int = 2000
) -> float:
    """Are neighbours in the projection ``Z`` (n, p) neighbours in ``X`` (n, d)?

    In [0, 1], 1: no false neighbour. False ones cost the more, the further away they are in ``X``;
    a random projection gets about 0.5.

    Raises
    ------
    ValueError
        Bad arrays, different n, ``k`` not in 2 .. n / 2 (above, the formula exceeds its range).

    Notes
    -----
    Venna & Kaski (2001). Exact up to ``max_anchors`` rows, an estimate from that many above.
    O(anchors n (d + log n)) time, blocks of rows in memory.

    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> trustworthiness(X, 2 * X, k=5)
    1.0
    """
    X, Z = pair(X, Z, min_n=6)
    _check_k(k, len(X), "k")
    return _quality(prepared(X, metric), prepared(Z, "euclidean"), k, max_anchors)[0]


def continuity(X, Z, *, k: int = 15, metric: str = "euclidean", max_anchors: int = 2000) -> float:
    """Are neighbours in ``X`` (n, d) neighbours in the projection ``Z`` (n, p)?

    In [0, 1], 1: none torn apart; rest as `trustworthiness`.

    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> continuity(X, X[:, :1], k=5) < 0.95
    True
    """
    X, Z = pair(X, Z, min_n=6)
    _check_k(k, len(X), "k")
    return _quality(prepared(X, metric), prepared(Z, "euclidean"), k, max_anchors)[1]


def _quality(X: np.ndarray, Z: np.ndarray, k: int, max_anchors: int) -> tuple[float, float, float]:
    """Trustworthiness, continuity and overlap of the k nearest neighbours of some rows."""
    n = len(X)
    anchors = (
        np.arange(n)
        if n <= max_anchors
        else np.sort(np.random.default_rng(0).choice(n, max_anchors, replace=False))
    )
    false = torn = kept = 0
    for part in np.array_split(anchors, -(-len(anchors) * n // 2**21)):
        in_x, in_z = _ranks(X, part), _ranks(Z, part)
        false += int(np.sum(np.maximum(0, in_x - k)[in_z <= k]))
        torn += int(np.sum(np.maximum(0, in_z - k)[in_x <= k]))
        kept += int(np.sum((in_x <= k) & (in_z <= k))) - len(part)  # the row itself has rank 0
    worst = len(anchors) * k * (2 * n - 3 * k - 1) / 2
    return float(1 - false / worst), float(1 - torn / worst), float(kept / (len(anchors) * k))


def _ranks(X: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rank of every row among the neighbours of ``rows``: 0 itself, 1 the nearest."""
    D = squared_distances(X[rows], X)
    D[np.arange(len(rows)), rows] = -1
    ranks = np.empty(D.shape, dtype=np.intp)
    np.put_along_axis(
        ranks, np.argsort(D, axis=1, kind="stable"), np.arange(D.shape[1])[None, :], axis=1
    )
    return ranks


def _stability(found: tuple[np.ndarray, ...], k: int) -> tuple[float, float] | tuple[()]:
    if len(found) < 2:
        return ()
    near = [np.sort(nearest(prepared(C, "euclidean"), k)[1], axis=1) for C in found]
    pairs = list(itertools.combinations(range(len(found)), 2))
    shared = [
        np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(near[i], near[j], strict=True)])
        for i, j in pairs
    ]
    alike = [procrustes(found[i], found[j]) for i, j in pairs]
    return float(np.mean(alike)), float(np.mean(shared))


def _pca(Z: np.ndarray, n_components: int) -> np.ndarray:
    U, s, Vt = np.linalg.svd(Z - Z.mean(axis=0), full_matrices=False)
    # The same signs on every machine.
    sign = np.where(Vt[np.arange(len(Vt)), np.abs(Vt).argmax(axis=1)] < 0, -1, 1)
    return (U * (s * sign))[:, :n_components]


def _umap(
    Z: np.ndarray, n_neighbors: int, n_components: int, seeds: Sequence[int], options: dict
) -> tuple[np.ndarray, ...]:
    """Coordinates for each seed; what no seed changes, the neighbours, is found once."""
    try:
        with warnings.catch_warnings():  # its Keras variant is not used here, and not there
            text = "Tensorflow not installed"
            warnings.filterwarnings("ignore", message=text, category=ImportWarning)
            from umap import UMAP
    except ImportError as error:
        raise ImportError(
            'method="umap" needs umap-learn: pip install umap-learn, or pass method="pca"'
        ) from error
    settings = {"n_neighbors": n_neighbors, "n_components": n_components, "n_jobs": 1} | options
    if len(Z) < _EXACT and not options.keys() & {"metric", "unique", "precomputed_knn"}:
        settings |= {"precomputed_knn": _umap_neighbours(Z, settings["n_neighbors"])}
    found = []
    for seed in seeds:
        with warnings.catch_warnings():  # nothing is transformed later
            warnings.filterwarnings("ignore", message=r"precomputed_knn\[2\]", category=UserWarning)
            found_now = UMAP(**{"random_state": seed} | settings).fit_transform(Z)
        C = np.asarray(found_now, dtype=np.float64)
        finite(C.sum(), "the UMAP")
        found.append(C)
    return tuple(found)


def _umap_neighbours(Z: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and distances (n, k) of the neighbours that UMAP itself finds for less than 4096
    rows, each row its own first.

    Its own search gives the same numbers (a test holds this to it), but is compiled first,
    which takes longer than all the rest.
    """
    from sklearn.metrics import pairwise_distances
    from umap.distances import euclidean

    D = pairwise_distances(Z.astype(np.float32), metric=euclidean)
    index = np.argsort(D, axis=1, kind="stable")[:, :k].astype(np.int32)
    return index, np.take_along_axis(D, index, axis=1)


def _check_k(k: int, n: int, name: str) -> None:
    if not 2 <= k < n / 2:
        raise ValueError(
            f"{name}={k} with n={n}, expected 2 <= {name} < n / 2: above, trustworthiness leaves"
            " [0, 1]; pass a smaller one"
        )


def _range(values: tuple[float, ...]) -> str:
    low, high = min(values), max(values)
    return f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f}-{high:.2f}"
