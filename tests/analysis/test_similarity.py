"""CKA, Procrustes and RSA: properties, then values from formulas written out and from SciPy."""

import numpy as np
import pytest
from scipy import spatial, stats

from rali_lab.analysis import cka, procrustes, rsa
from rali_lab.analysis.similarity import KERNELS


def rotation(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def related(n, d1=6, d2=4, seed=0, mean=3.0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d1)) + mean
    return X, X[:, :1] @ rng.normal(size=(1, d2)) + rng.normal(size=(n, d2))


def gram_cka(K, L, debiased):
    """HSIC by the matrices of the papers, O(n³): Song et al. 2012 eq. 5; Gretton et al. 2005."""
    n, one = len(K), np.ones(len(K))
    if debiased:
        K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))

        def hsic(A, B):
            last = one @ A @ one * (one @ B @ one) / ((n - 1) * (n - 2))
            return (np.trace(A @ B) + last - 2 / (n - 2) * one @ A @ B @ one) / (n * (n - 3))

    else:
        H = np.eye(n) - np.outer(one, one) / n

        def hsic(A, B):
            return np.trace(A @ H @ B @ H)

    return hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))


def rbf(X):
    D = spatial.distance.squareform(spatial.distance.pdist(X))
    return np.exp(-(D**2) / (2 * np.median(D[np.triu_indices(len(D), 1)]) ** 2))


SHAPES = [
    (80, 6, 4),
    (12, 30, 7),
    (5, 3, 3),
    (30, 20, 15),
]  # tall, wide (Gram route), smallest, between


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("debiased", [True, False])
def test_linear_cka_equals_the_gram_formula(shape, debiased):
    n, d1, d2 = shape
    X, Y = related(n, d1, d2)
    assert cka(X, Y, debiased=debiased) == pytest.approx(
        gram_cka(X @ X.T, Y @ Y.T, debiased), abs=1e-10
    )


@pytest.mark.parametrize("debiased", [True, False])
def test_rbf_cka_equals_the_gram_formula(debiased, monkeypatch):
    X, Y = related(40)
    expected = gram_cka(rbf(X), rbf(Y), debiased)
    assert cka(X, Y, kernel="rbf", debiased=debiased) == pytest.approx(expected, abs=1e-10)
    monkeypatch.setattr("rali_lab.analysis.inputs._BLOCK", 320)
    assert cka(X, Y, kernel="rbf", debiased=debiased) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("n", [50, 12])
def test_a_large_mean_costs_no_digits(n):
    X, Y = related(n)
    assert cka(X + 1e6, Y - 1e6) == pytest.approx(cka(X, Y), abs=1e-8)


@pytest.mark.parametrize(
    "measure",
    [
        cka,
        procrustes,
        rsa,
        lambda X, Y: cka(X, Y, kernel="rbf"),
        lambda X, Y: cka(X, Y, debiased=False),
    ],
)
@pytest.mark.parametrize("n", [40, 5])
def test_self_symmetry_rotation_shift_scale_and_row_order(measure, n):
    X, Y = related(n)
    order = np.random.default_rng(1).permutation(n)
    assert measure(X, X) == pytest.approx(1)
    assert measure(X, -3 * X @ rotation(6) + 5) == pytest.approx(1)
    value = measure(X, Y)
    assert value < 0.99
    assert measure(Y, X) == pytest.approx(value)
    assert measure(7 * X @ rotation(6) - 2, Y) == pytest.approx(value)
    assert measure(X[order], Y[order]) == pytest.approx(value)
    assert measure(X[order], Y) != pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_debiased_cka_of_independent_noise_is_about_zero_and_biased_is_not(kernel):
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(size=(30, 100)), rng.normal(size=(30, 100))) for _ in range(40)]
    debiased = [cka(X, Y, kernel=kernel) for X, Y in pairs]
    assert abs(np.mean(debiased)) < 3 * np.std(debiased) / np.sqrt(40) < 0.03
    assert np.mean([cka(X, Y, kernel=kernel, debiased=False) for X, Y in pairs]) > 0.7


def test_rbf_with_a_wide_bandwidth_is_linear():
    X, Y = related(40)
    assert cka(X, Y, kernel="rbf", bandwidth=300) == pytest.approx(cka(X, Y), abs=1e-3)
    assert abs(cka(X, Y, kernel="rbf", bandwidth=0.3) - cka(X, Y)) > 0.05


def test_procrustes_equals_scipy():
    X, Y = related(30, 5, 5)
    disparity = spatial.procrustes(X, Y)[2]
    assert procrustes(X, Y) == pytest.approx(np.sqrt(1 - disparity))


def test_procrustes_of_wide_arrays_equals_the_definition():
    X, Y = related(10, 30, 20)
    A, B = X - X.mean(axis=0), Y - Y.mean(axis=0)
    expected = (
        np.linalg.svd(A.T @ B, compute_uv=False).sum() / np.linalg.norm(A) / np.linalg.norm(B)
    )
    assert procrustes(X, Y) == pytest.approx(expected)


@pytest.mark.parametrize("distance", ["euclidean", "correlation"])
@pytest.mark.parametrize("method", ["spearman", "pearson"])
def test_rsa_equals_scipy(distance, method):
    X, Y = related(25)
    test = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}[method]
    expected = test(
        spatial.distance.pdist(X, distance), spatial.distance.pdist(Y, distance)
    ).statistic
    assert rsa(X, Y, distance=distance, method=method) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X: cka(X[:3], X[:3]), "debiased CKA needs n >= 4.*debiased=False.*got 3"),
        (lambda X: cka(X, X, kernel="cubic"), "kernel='cubic' is not known; choose one of"),
        (lambda X: cka(X, X, kernel="rbf", bandwidth=0), "bandwidth=0, expected a positive"),
        (lambda X: cka(np.eye(8), X[:8]), "rows of X are equally alike.*procrustes or mutual_knn"),
        (lambda X: cka(X[:8], np.eye(8), kernel="rbf"), "rows of Y are equally alike"),
        (
            lambda X: cka(
                np.repeat(np.eye(2), 10, axis=0)[:, :1] * (np.arange(20) == 3)[:, None],
                X,
                kernel="rbf",
            ),
            "equal|median",
        ),
        (lambda X: rsa(X, X, distance="cosine"), "choose 'euclidean' or 'correlation'"),
        (lambda X: rsa(X, X, method="kendall"), "choose 'spearman' or 'pearson'"),
        (lambda X: rsa(np.eye(20), X), "rows of X are equally far apart"),
        (lambda X: rsa(X[:, :1], X, distance="correlation"), "X has one column"),
        (
            lambda X: rsa(np.outer(np.arange(20), np.ones(3)), X, distance="correlation"),
            "have no direction",
        ),
    ],
)
def test_what_cannot_be_computed_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0).normal(size=(20, 3)))


def test_four_rows_are_enough():
    X = np.random.default_rng(0).normal(size=(4, 3))
    assert cka(X, X) == pytest.approx(1)
    assert -1 <= cka(X, X[::-1]) <= 1
