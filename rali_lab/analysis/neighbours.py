"""Do two representations give an item the same neighbours?

Mutual k-NN and CKNNA, corrected for chance.

Both are sums over the edges of two neighbour graphs, so their exact mean under random pairing is
known: E sum a_ij b_p(i)p(j) = (sum a) (sum b) / (n (n - 1)) for a random permutation p.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rali_lab.analysis.distances import nearest, prepared
from rali_lab.analysis.inputs import finite, pair, warn_duplicates


class Edges(NamedTuple):
    """A directed graph with weights: ``keys`` i n + j in rising order, ``weights`` (n k,), of ``n``
    nodes.
    """

    keys: np.ndarray
    weights: np.ndarray
    n: int

    def dot(self, other: Edges, permutation: np.ndarray | None = None) -> float:
        """Sum of products of the weights of common edges, the nodes of ``other`` renamed by
        ``permutation``.
        """
        keys = (
            self.keys
            if permutation is None
            else permutation[self.keys // self.n] * self.n + permutation[self.keys % self.n]
        )
        at = np.minimum(np.searchsorted(other.keys, keys), len(other.keys) - 1)
        return float(
            np.sum(np.where(other.keys[at] == keys, self.weights * other.weights[at], 0.0))
        )

    def chance(self, other: Edges) -> float:
        """Mean of `dot` over all permutations."""
        return float(self.weights.sum() * other.weights.sum() / (self.n * (self.n - 1)))


def mutual_knn(X, Y, *, k: int = 10, metric: str = "cosine", corrected: bool = True) -> float:
    """Mean share of the ``k`` nearest neighbours of an item that the two representations have in
    common.

    1: the same neighbours; 0: as many common ones as between unrelated arrays (corrected), or none
    (uncorrected). Corrected = (share - c) / (1 - c) with chance c = k / (n - 1), so it may be
    slightly negative.

    Parameters
    ----------
    X, Y
        (n, d1) and (n, d2) arrays.
    k
        Neighbours, 1 <= k < n - 1. The measure depends on it: report it.
    metric
        "cosine" or "euclidean".
    corrected
        For chance.

    Raises
    ------
    ValueError
        Bad arrays (see `cka`), ``k`` out of range, rows of zeros under "cosine".

    Warns
    -----
    AnalysisWarning
        Equal rows: which of them are neighbours is then decided by their order in *both* arrays,
        which passes for agreement.

    Notes
    -----
    Huh et al. (2024), appendix A, without correction there. O(n² (d1 + d2)) time, O(n k) memory
    beside one block.

    >>> X, Y = np.random.default_rng(0).normal(size=(2, 60, 4))
    >>> mutual_knn(X, 3 * X, k=5), abs(mutual_knn(X, Y, k=5)) < 0.1
    (1.0, True)
    """
    return agreement(*neighbour_edges(X, Y, k, metric, weighted=False), corrected)


def cknna(X, Y, *, k: int = 10, metric: str = "cosine", corrected: bool = True) -> float:
    """CKA restricted to the ``k`` nearest neighbours: do the items agree on which neighbours are
    *how* close?

    1: the same neighbours with proportional similarities; 0: unrelated (corrected for chance
    exactly as `mutual_knn`). Uncorrected, unrelated arrays get a little more than 0.

    Parameters, errors, warnings and cost are those of `mutual_knn`. ``metric`` chooses the
    neighbours *and* the inner product: of unit rows ("cosine") or of centred ones ("euclidean").

    Notes
    -----
    Huh et al. (2024), appendix A: the sum over pairs (i, j) that are neighbours in both, of the
    products of their inner products, each minus the mean inner product of i, over the same for (X,
    X) and (Y, Y). Departures: the mean leaves out i itself; the published code adds 1e-6 to the
    denominator and uses an HSIC of masked matrices instead.

    >>> X = np.random.default_rng(0).normal(size=(60, 4))
    >>> round(cknna(X, 3 * X, k=5), 6)
    1.0
    """
    return agreement(*neighbour_edges(X, Y, k, metric, weighted=True), corrected)


def agreement(a: Edges, b: Edges, corrected: bool, permutation: np.ndarray | None = None) -> float:
    """Normalised and, if wanted, chance-corrected overlap of two graphs; ``permutation`` breaks the
    pairing.
    """
    norm = np.sqrt(a.dot(a) * b.dot(b))
    value, chance = a.dot(b, permutation) / norm, a.chance(b) / norm
    return finite((value - chance) / (1 - chance) if corrected else value, "neighbour agreement")


def neighbour_edges(X, Y, k: int, metric: str, *, weighted: bool) -> tuple[Edges, Edges]:
    """The neighbour graphs of two checked arrays."""
    X, Y = pair(X, Y, min_n=4)
    if not 1 <= k < len(X) - 1:
        raise ValueError(
            f"k={k} with n={len(X)}, expected 1 <= k < n - 1: with more, every row is a neighbour;"
            " pass a smaller k"
        )
    for A, name in ((X, "X"), (Y, "Y")):
        warn_duplicates(
            A,
            name,
            "ties between them are broken by their order, which inflates the agreement; drop them",
        )
    return _edges(X, k, metric, weighted, "X"), _edges(Y, k, metric, weighted, "Y")


def _edges(X: np.ndarray, k: int, metric: str, weighted: bool, name: str) -> Edges:
    Z, n = prepared(X, metric), len(X)
    index = np.sort(nearest(Z, k)[1], axis=1)
    weights = np.ones(n * k)
    if weighted:
        mean = (Z @ Z.sum(axis=0) - np.einsum("ij,ij->i", Z, Z)) / (n - 1)
        weights = np.concatenate([Z[j] @ Z[i] - mean[i] for i, j in enumerate(index)])
        if not np.abs(weights).max() > 1e-12:
            raise ValueError(
                f"all rows of {name} are equally alike: CKNNA is 0 / 0; use mutual_knn or another"
                " metric"
            )
    return Edges((np.arange(n)[:, None] * n + index).ravel(), weights, n)
