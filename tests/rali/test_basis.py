"""Properties of the compression, the basis vectors and the softmax score."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import scale

from rali_lab.rali.basis import (
    binned_kmeans,
    build_compressor,
    compressor_arrays,
    fit_compressor,
    softmax_score,
    softmax_weights,
)


@pytest.fixture
def basis():
    rng = np.random.default_rng(0)
    return rng.normal(size=(20, 6)), rng.normal(size=(9, 6)), rng.uniform(1, 5, size=9)


def test_score_lies_between_the_extreme_basis_scores(basis):
    z, vectors, scores = basis
    for tau in (1e-3, 0.07, 10.0):
        s = softmax_score(z, vectors, scores, tau=tau)
        assert (s >= scores.min() - 1e-12).all() and (s <= scores.max() + 1e-12).all()


def test_order_of_the_basis_and_length_of_vectors_are_immaterial(basis):
    z, vectors, scores = basis
    p = np.random.default_rng(1).permutation(len(scores))
    expected = softmax_score(z, vectors, scores)
    np.testing.assert_allclose(softmax_score(z, vectors[p], scores[p]), expected)
    np.testing.assert_allclose(softmax_score(37 * z, vectors / 5, scores), expected)


def test_a_small_tau_takes_the_nearest_and_a_large_one_the_mean(basis):
    z, vectors, scores = basis
    cosine = (z / np.linalg.norm(z, axis=1, keepdims=True)) @ (
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    ).T
    np.testing.assert_allclose(
        softmax_score(z, vectors, scores, tau=1e-6), scores[cosine.argmax(1)]
    )
    np.testing.assert_allclose(softmax_score(z, vectors, scores, tau=1e6), scores.mean(), atol=1e-4)


def test_torch_and_numpy_agree_and_gradients_pass(basis):
    z, vectors, scores = (torch.tensor(a, requires_grad=True) for a in basis)
    s = softmax_score(z, vectors, scores)
    np.testing.assert_allclose(s.detach().numpy(), softmax_score(*basis))
    s.sum().backward()
    assert all(t.grad.isfinite().all() and t.grad.abs().sum() > 0 for t in (z, vectors, scores))
    np.testing.assert_allclose(scores.grad.numpy(), softmax_weights(*basis[:2]).sum(0))


def test_a_zero_embedding_scores_the_mean_and_tau_must_be_positive(basis):
    _, vectors, scores = basis
    np.testing.assert_allclose(softmax_score(np.zeros((1, 6)), vectors, scores), scores.mean())
    with pytest.raises(ValueError, match="tau must be above 0, got 0"):
        softmax_score(np.zeros((1, 6)), vectors, scores, tau=0)


def test_compressor_is_standardised_pca():
    z = np.random.default_rng(0).normal(size=(40, 5)) * [1, 2, 3, 4, 100]
    compressor, explained_share = fit_compressor(z, 3)
    expected = PCA(3, svd_solver="full").fit_transform(scale(z))
    np.testing.assert_allclose(compressor.transform(z), expected, atol=1e-10)
    components = compressor_arrays(compressor)["components"]
    np.testing.assert_allclose(components @ components.T, np.eye(3), atol=1e-12)
    assert 0.5 < explained_share < 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_components", [1, 7, None])
def test_compressor_is_the_formula_to_the_last_bit_and_so_is_one_from_its_arrays(
    dtype, n_components
):
    rng = np.random.default_rng(0)
    z = (rng.normal(size=(60, 12)) * np.arange(12)).astype(dtype)  # the first never varies
    compressor, _ = fit_compressor(z, n_components)
    arrays = compressor_arrays(compressor)
    expected = ((z.astype(float) - arrays["mean"]) / arrays["scale"]) @ arrays["components"].T
    for made in (compressor, build_compressor(**arrays)):
        assert made.transform(z).dtype == np.float64
        np.testing.assert_array_equal(made.transform(z), expected)
    if n_components is None:
        np.testing.assert_array_equal(compressor.transform(z), z)


def test_compressor_says_what_does_not_fit():
    with pytest.raises(ValueError, match=r"n_components=9 must be 1..4 .* lower n_components"):
        fit_compressor(np.ones((4, 12)), 9)
    compressor, _ = fit_compressor(np.random.default_rng(0).normal(size=(4, 3)), 1)
    with pytest.raises(ValueError, match="expected embeddings of width 3"):
        compressor.transform(np.ones((2, 4)))
    with pytest.raises(ValueError, match="finite"):
        compressor.transform(np.full((2, 3), np.nan))


@pytest.mark.parametrize(("n_bins", "n_basis"), [(1, 30), (10, 10), (10, 40), (100, 80)])
def test_binned_kmeans_keeps_the_mean_of_every_bin(n_bins, n_basis):
    rng = np.random.default_rng(0)
    z, mos = rng.normal(size=(300, 4)), rng.beta(2, 3, size=300) * 4 + 1
    bins = int((np.histogram(mos, n_bins)[0] > 0).sum())
    vectors, scores = binned_kmeans(z, mos, n_bins=n_bins, n_basis=max(n_basis, bins))
    assert vectors.shape == (max(n_basis, bins), 4) and scores.shape == (len(vectors),)
    assert mos.min() <= scores.min() and scores.max() <= mos.max()
    if n_bins > 1 and n_basis <= bins:  # one vector a bin: the conditional mean, in ascending order
        assert (np.diff(scores) > 0).all()


def test_as_many_vectors_as_images_gives_the_images_themselves():
    rng = np.random.default_rng(0)
    z, mos = rng.normal(size=(30, 4)), rng.uniform(1, 5, 30)
    vectors, scores = binned_kmeans(z, mos, n_bins=5, n_basis=30)
    np.testing.assert_allclose(np.sort(vectors, axis=0), np.sort(z, axis=0))
    np.testing.assert_allclose(np.sort(scores), np.sort(mos))


def test_impossible_basis_sizes_name_the_way_out():
    rng = np.random.default_rng(0)
    z, mos = rng.normal(size=(30, 4)), np.linspace(1, 5, 30)
    with pytest.raises(ValueError, match="n_basis=5 must be 10..30.*lower n_bins"):
        binned_kmeans(z, mos, n_bins=10, n_basis=5)
    with pytest.raises(ValueError, match="n_basis=31 must be 10..30.*lower n_basis"):
        binned_kmeans(z, mos, n_bins=10, n_basis=31)
    with pytest.raises(ValueError, match="different embeddings"):
        binned_kmeans(np.ones((30, 4)), mos, n_bins=10, n_basis=11)
    with pytest.raises(ValueError, match="30 finite scores"):
        binned_kmeans(z, np.full(30, np.nan))
