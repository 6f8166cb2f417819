"""Feature compression and the score as an expectation over basis vectors: steps 2 and 3 of RALI.

An embedding is standardised and projected by PCA; k-means inside bins of equal score width gives K
basis vectors, each with the mean score of its images; an image's score is the softmax-weighted mean
of the basis scores. This file needs numpy and scikit-learn only, and the latter's heavy parts for
fitting only.
"""

from __future__ import annotations

from importlib import import_module

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

TAU = 0.07
"""Temperature of the released code; the paper's Eq. (3) prints none (see `softmax_weights`)."""


class Compressor(TransformerMixin, BaseEstimator):
    """Standardise every dimension, then project on the leading principal components.

    The released RALI divides by the standard deviation before it projects; a dimension that never
    varies is only centred.

    Parameters
    ----------
    n_components
        dimensions kept, 1..min(n, d). The paper keeps 512 of 768. None leaves embeddings as they
        are (an ablation).

    Attributes
    ----------
    mean_, scale_
        (d,) float64.
    components_
        (n_components, d), orthonormal rows.
    explained_share_
        share of the standardised variance kept, 0..1.

    Raises
    ------
    ValueError
        When there are more components than samples or dimensions, or an embedding of another width
        is projected.

    >>> z = np.random.default_rng(0).normal(size=(50, 3)) @ np.ones((3, 8))
    >>> c = Compressor(2).fit(z)
    >>> c.transform(z).shape, round(c.explained_share_, 6)
    ((50, 2), 1.0)
    """

    def __init__(self, n_components: int | None = 64) -> None:
        self.n_components = n_components

    def fit(self, z: np.ndarray, y: object = None) -> Compressor:
        """Learn from (n, d) embeddings. Cost: O(n d min(n, d))."""
        from sklearn.decomposition import PCA
        from sklearn.preprocessing import StandardScaler

        z = _matrix(z)
        if self.n_components is None:
            d = z.shape[1]
            self.mean_, self.scale_, self.components_, self.explained_share_ = (
                np.zeros(d),
                np.ones(d),
                np.eye(d),
                1.0,
            )
            return self
        if not 1 <= self.n_components <= min(z.shape):
            raise ValueError(
                f"n_components={self.n_components} must be 1..{min(z.shape)} for embeddings of"
                f" shape {z.shape}; lower n_components or give more images"
            )
        scaler = StandardScaler().fit(z)
        pca = PCA(self.n_components, svd_solver="full").fit(scaler.transform(z))
        self.mean_, self.scale_, self.components_ = (
            scaler.mean_,
            scaler.scale_,
            np.ascontiguousarray(pca.components_),
        )
        self.explained_share_ = float(np.nansum(pca.explained_variance_ratio_))
        return self

    def transform(self, z: np.ndarray) -> np.ndarray:
        """(n, d) embeddings to (n, n_components) float64."""
        z = _matrix(z)
        if z.shape[1] != len(self.mean_):
            raise ValueError(
                f"expected embeddings of width {len(self.mean_)}, got {z.shape}; embed with the"
                " same tower"
            )
        return ((z - self.mean_) / self.scale_) @ self.components_.T


def binned_kmeans(
    z: np.ndarray, mos: np.ndarray, *, n_bins: int = 240, n_basis: int = 250, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Basis vectors and basis scores: k-means inside bins of equal score width.

    The range of `mos` is cut into `n_bins` equal widths; empty bins are skipped. Every other bin
    gets one cluster, and the clusters left over go to bins in proportion to their images. How the
    paper divides K = 250 over N = 240 bins is not printed: this is our reading. With about one
    cluster a bin, the basis is almost the conditional mean E[z | score].

    Parameters
    ----------
    z
        (n, d) compressed embeddings.
    mos
        (n,) scores.
    n_bins, n_basis
        N and K of the paper.
    seed
        for k-means.

    Returns
    -------
    vectors : (n_basis, d), mean of each cluster, ordered by bin. scores : (n_basis,), mean score of
    the same images.

    Raises
    ------
    ValueError
        When K is below the number of non-empty bins, or above the number of different (bin,
        embedding) pairs.

    >>> z = np.array([[0.0], [0.2], [5.0], [5.2], [9.0]])
    >>> vectors, scores = binned_kmeans(z, np.array([1.0, 1.0, 2.9, 2.8, 5.0]), n_bins=4, n_basis=3)
    >>> vectors.ravel().round(2).tolist(), scores.round(2).tolist()
    ([0.1, 5.1, 9.0], [1.0, 2.85, 5.0])
    """
    from sklearn.cluster import KMeans

    z, mos = _matrix(z), np.asarray(mos, dtype=np.float64)
    if mos.shape != (len(z),) or not np.isfinite(mos).all():
        raise ValueError(
            f"expected {len(z)} finite scores, one per embedding, got shape {mos.shape}; drop"
            " unrated images"
        )
    edges = np.linspace(mos.min(), mos.max(), n_bins + 1)
    bins = np.clip(np.searchsorted(edges, mos, side="right") - 1, 0, n_bins - 1)
    members = [np.flatnonzero(bins == b) for b in np.unique(bins)]
    clusters = _share_out(
        n_basis,
        np.array([len(m) for m in members]),
        np.array([len(np.unique(z[m], axis=0)) for m in members]),
    )
    vectors, scores = [], []
    for rows, k in zip(members, clusters, strict=True):
        labels = (
            np.zeros(len(rows), int)
            if k == 1
            else KMeans(k, n_init=4, random_state=seed).fit_predict(z[rows])
        )
        vectors += [z[rows[labels == j]].mean(axis=0) for j in range(k)]
        scores += [mos[rows[labels == j]].mean() for j in range(k)]
    return np.stack(vectors), np.array(scores)


def _share_out(total: int, counts: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Divide `total` clusters over bins: one each, then always to the bin with most images per
    cluster that has room.
    """
    if not len(counts) <= total <= room.sum():
        way_out = (
            "lower n_bins or raise n_basis"
            if total < len(counts)
            else "lower n_basis or give more images"
        )
        raise ValueError(
            f"n_basis={total} must be {len(counts)}..{room.sum()}: from the number of non-empty"
            f" bins to the number of different embeddings; {way_out}"
        )
    given = np.ones(len(counts), dtype=int)
    for _ in range(total - len(counts)):
        given[np.argmax(np.where(given < room, counts / given, -1.0))] += 1
    return given


def softmax_weights(z, vectors, *, tau: float = TAU):
    """Weight of every basis vector: ``softmax_i(cos(z, mu_i) / tau)``, Eq. (3) of the paper with
    its temperature.

    Parameters
    ----------
    z
        (n, d).
    vectors
        (k, d). Both numpy arrays, or both torch tensors (gradients pass). The length of a vector is
        immaterial; a zero vector has cosine 0 with everything.
    tau
        > 0. Near 0 the nearest vector decides; large values give every vector the same weight.

    Returns
    -------
    (n, k), rows summing to 1, of the inputs' kind.

    Without a temperature a perfect match is lost among K = 250 vectors:

    >>> [softmax_weights(np.eye(250)[:1], np.eye(250), tau=t)[0, 0].round(4).item() for t in (1.0, 0.25, 0.07)]
    [0.0108, 0.1798, 0.9998]
    """
    if not tau > 0:
        raise ValueError(f"tau must be above 0, got {tau}; the released code uses {TAU}")
    xp = np if isinstance(z, np.ndarray) else import_module("torch")
    logits = cosines(z, vectors) / tau
    weights = xp.exp(logits - xp.amax(logits, axis=-1, keepdims=True))
    return weights / weights.sum(-1)[:, None]


def softmax_score(z, vectors, scores, *, tau: float = TAU):
    """Score of every embedding, ``sum_i w_i f_i``, between the smallest and the largest basis
    score.

    Parameters
    ----------
    z
        (n, d).
    vectors
        (k, d).
    scores
        (k,). All numpy, or all torch.
    tau
        see `softmax_weights`.

    Returns
    -------
    (n,) of the inputs' kind.

    >>> softmax_score(np.array([[3.0, 0.0], [1.0, 1.0]]), np.eye(2), np.array([1.0, 5.0])).round(3).tolist()
    [1.0, 3.0]
    """
    return softmax_weights(z, vectors, tau=tau) @ scores


def cosines(x, y):
    """Cosine of every row of x (n, d) with every row of y (m, d), (n, m); 0 for a row of zeros.

    Both numpy, or both torch.

    >>> cosines(np.array([[3.0, 4.0]]), np.array([[1.0, 0.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.0]]
    """
    xp = np if isinstance(x, np.ndarray) else import_module("torch")
    return _unit(x, xp) @ _unit(y, xp).T


def _unit(x, xp):
    return x / xp.clip(xp.linalg.norm(x, axis=-1, keepdims=True), 1e-12, None)


def _matrix(z: np.ndarray) -> np.ndarray:
    z = np.asarray(z, dtype=np.float64)
    if z.ndim != 2 or not len(z) or not np.isfinite(z).all():
        raise ValueError(
            f"expected (n, d) finite embeddings with n >= 1, got shape {z.shape}; check the images"
            " embedded"
        )
    return z
