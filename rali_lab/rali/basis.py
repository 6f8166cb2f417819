"""Feature compression and the score as an expectation over basis vectors: steps 2 and 3 of RALI.

An embedding is standardised and projected by PCA; k-means inside bins of equal score width gives K
basis vectors, each with the mean score of its images; an image's score is the softmax-weighted mean
of the basis scores. This file needs numpy and scikit-learn only.
"""

from __future__ import annotations

from importlib import import_module

import numpy as np
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

TAU = 0.07
"""Temperature of the released code; the paper's Eq. (3) prints none (see `softmax_weights`)."""


def fit_compressor(z: np.ndarray, n_components: int | None = 64) -> tuple[Pipeline, float]:
    """Standardisation of every dimension and projection on the leading principal components.

    The released RALI divides by the standard deviation before it projects; a dimension that never
    varies is only centred. Cost: O(n d min(n, d)).

    Parameters
    ----------
    z : np.ndarray
        (n, d) embeddings.
    n_components : int, optional
        Dimensions kept, 1..min(n, d). The paper keeps 512 of 768. None leaves embeddings as they
        are (an ablation).

    Returns
    -------
    compressor : Pipeline
        Of `build_compressor`: (m, d) embeddings to (m, n_components) float64.
    explained_share : float
        Share of the standardised variance kept, 0..1.

    Raises
    ------
    ValueError
        When there are more components than samples or dimensions.

    Examples
    --------
    >>> z = np.random.default_rng(0).normal(size=(50, 3)) @ np.ones((3, 8))
    >>> compressor, explained_share = fit_compressor(z, 2)
    >>> compressor.transform(z).shape, round(explained_share, 6)
    ((50, 2), 1.0)
    """
    z = _matrix(z)
    if n_components is None:
        d = z.shape[1]
        return build_compressor(np.zeros(d), np.ones(d), np.eye(d)), 1.0
    if not 1 <= n_components <= min(z.shape):
        raise ValueError(
            f"n_components={n_components} must be 1..{min(z.shape)} for embeddings of shape"
            f" {z.shape}; lower n_components or give more images"
        )
    scaler, pca = StandardScaler(), PCA(n_components, svd_solver="full")
    pca.fit(scaler.fit_transform(z))
    compressor = build_compressor(scaler.mean_, scaler.scale_, pca.components_)
    return compressor, float(np.nansum(pca.explained_variance_ratio_))


def build_compressor(mean: np.ndarray, scale: np.ndarray, components: np.ndarray) -> Pipeline:
    """A fitted scikit-learn pipeline `check`, `scaler`, `pca` from the arrays of a saved one.

    The PCA's own mean is 0. That of standardised embeddings is 0 up to rounding (1e-16), and
    without it a scorer gives the same bits before saving and after loading.

    Parameters
    ----------
    mean, scale : np.ndarray
        (d,) float64.
    components : np.ndarray
        (k, d), orthonormal rows.

    Returns
    -------
    Pipeline
        Its `transform` raises ValueError on embeddings that are not finite or of another width.
    """
    k, d = components.shape
    check = FunctionTransformer(_matrix, kw_args={"width": d})
    scaler, pca = StandardScaler(), PCA(k)
    scaler.mean_, scaler.scale_, scaler.var_ = mean, scale, scale**2
    scaler.n_features_in_, scaler.n_samples_seen_ = d, 1
    pca.components_, pca.mean_ = np.ascontiguousarray(components), np.zeros(d)
    pca.n_features_in_, pca.n_components_ = d, k
    return Pipeline([("check", check), ("scaler", scaler), ("pca", pca)])


def compressor_arrays(compressor: Pipeline) -> dict[str, np.ndarray]:
    """The arguments of `build_compressor` that give this pipeline: mean, scale, components."""
    scaler, pca = compressor["scaler"], compressor["pca"]
    return {"mean": scaler.mean_, "scale": scaler.scale_, "components": pca.components_}


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
    z : np.ndarray
        (n, d) compressed embeddings.
    mos : np.ndarray
        (n,) scores.
    n_bins, n_basis : int
        N and K of the paper.
    seed : int
        For k-means.

    Returns
    -------
    vectors : np.ndarray
        (n_basis, d), the mean of each cluster, ordered by bin.
    scores : np.ndarray
        (n_basis,), the mean score of the same images.

    Raises
    ------
    ValueError
        When K is below the number of non-empty bins, or above the number of different (bin,
        embedding) pairs.

    Examples
    --------
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
    z : np.ndarray or torch.Tensor
        (n, d).
    vectors : np.ndarray or torch.Tensor
        (k, d), of the same kind as `z` (gradients pass). The length of a vector is immaterial; a
        zero vector has cosine 0 with everything.
    tau : float
        Above 0. Near 0 the nearest vector decides; large values give all vectors the same weight.

    Returns
    -------
    np.ndarray or torch.Tensor
        (n, k), rows summing to 1, of the inputs' kind.

    Without a temperature a perfect match is lost among K = 250 vectors:

    Examples
    --------
    >>> v = np.eye(250)
    >>> [softmax_weights(v[:1], v, tau=t)[0, 0].round(4).item() for t in (1.0, 0.25, 0.07)]
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
    z, vectors, scores : np.ndarray or torch.Tensor
        (n, d), (k, d) and (k,), all numpy or all torch.
    tau : float
        See `softmax_weights`.

    Returns
    -------
    np.ndarray or torch.Tensor
        (n,) of the inputs' kind.

    Examples
    --------
    >>> z = np.array([[3.0, 0.0], [1.0, 1.0]])
    >>> softmax_score(z, np.eye(2), np.array([1.0, 5.0])).round(3).tolist()
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


def _matrix(z: np.ndarray, width: int | None = None) -> np.ndarray:
    """`z` as float64; ValueError unless it is (n, d) and finite, with `width` columns if given."""
    z = np.asarray(z, dtype=np.float64)
    if z.ndim != 2 or not len(z) or not np.isfinite(z).all():
        raise ValueError(
            f"expected (n, d) finite embeddings with n >= 1, got shape {z.shape}; check the images"
            " embedded"
        )
    if width not in (None, z.shape[1]):
        raise ValueError(
            f"expected embeddings of width {width}, got {z.shape}; embed with the same tower"
        )
    return z
