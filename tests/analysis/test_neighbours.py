"""Neighbour agreement against brute force, and its exact chance level."""

import itertools

import numpy as np
import pytest

from rali_lab.analysis import AnalysisWarning, cknna, mutual_knn
from rali_lab.analysis.distances import median_distance, nearest


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 5))
    return X, X[:, :3] + 0.7 * rng.normal(size=(40, 3))


def cosine(X):
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    return X @ X.T


def sets(S, k):
    S = S.copy()
    np.fill_diagonal(S, -np.inf)
    return [set(np.argsort(-row)[:k]) for row in S]


def test_nearest_equals_brute_force_in_any_block(data, monkeypatch):
    X = data[0] + 1000
    monkeypatch.setattr("rali_lab.analysis.inputs._BLOCK", 120)
    D = np.linalg.norm(X[:, None] - X[None], axis=2)
    np.fill_diagonal(D, np.inf)
    distance, index = nearest(X, 4)
    np.testing.assert_array_equal(index, np.argsort(D, axis=1)[:, :4])
    np.testing.assert_allclose(distance, np.sort(D, axis=1)[:, :4])


def test_median_distance_equals_brute_force_and_refuses_repeats(data):
    X = data[0]
    pairs = [np.linalg.norm(a - b) for a, b in itertools.combinations(X, 2)]
    assert median_distance(X) == pytest.approx(np.median(pairs))
    assert median_distance(1e200 * X) == pytest.approx(1e200 * np.median(pairs))
    assert median_distance(X, max_rows=30) == pytest.approx(np.median(pairs), rel=0.2)
    with pytest.raises(ValueError, match="median distance between rows is 0"):
        median_distance(np.repeat(X[:2], [19, 1], axis=0))


def test_mutual_knn_equals_brute_force(data):
    X, Y = data
    a, b = sets(cosine(X), 6), sets(cosine(Y), 6)
    share = np.mean([len(p & q) / 6 for p, q in zip(a, b, strict=True)])
    assert mutual_knn(X, Y, k=6, corrected=False) == pytest.approx(share)
    assert mutual_knn(X, Y, k=6) == pytest.approx((share - 6 / 39) / (1 - 6 / 39))


def test_cknna_equals_the_sum_of_the_paper(data):
    X, Y = data

    def align(K, L, a, b):
        K, L = K.copy(), L.copy()
        np.fill_diagonal(K, np.nan)
        np.fill_diagonal(L, np.nan)
        K, L = K - np.nanmean(K, axis=1, keepdims=True), L - np.nanmean(L, axis=1, keepdims=True)
        return sum(K[i, j] * L[i, j] for i in range(len(K)) for j in a[i] & b[i])

    K, L = cosine(X), cosine(Y)
    a, b = sets(K, 6), sets(L, 6)
    expected = align(K, L, a, b) / np.sqrt(align(K, K, a, a) * align(L, L, b, b))
    assert cknna(X, Y, k=6, corrected=False) == pytest.approx(expected)


@pytest.mark.parametrize("measure", [mutual_knn, cknna])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_properties(measure, metric, data):
    X, Y = data
    order = np.random.default_rng(1).permutation(40)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(5, 5)))[0]
    value = measure(X, Y, metric=metric)
    assert measure(X, X, metric=metric) == pytest.approx(1)
    assert 0.1 < value < 0.9
    assert measure(Y, X, metric=metric) == pytest.approx(value)
    assert measure(5 * X @ turn, Y, metric=metric) == pytest.approx(value)
    assert measure(X[order], Y[order], metric=metric) == pytest.approx(value)
    if metric == "euclidean":
        assert measure(X + 9, Y, metric=metric) == pytest.approx(value)


@pytest.mark.parametrize("measure", [mutual_knn, cknna])
def test_chance_correction_puts_random_pairings_at_zero(measure, data):
    X, Y = data
    rng = np.random.default_rng(0)
    values = [measure(X, Y[rng.permutation(40)], k=5) for _ in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(200)
    raw = [measure(X, Y[rng.permutation(40)], k=5, corrected=False) for _ in range(50)]
    assert np.mean(raw) > 5 * np.std(raw) / np.sqrt(50)


@pytest.mark.parametrize("k", [0, 39, 100])
def test_k_out_of_range_is_refused(k, data):
    with pytest.raises(ValueError, match=f"k={k} with n=40.*pass a smaller k"):
        mutual_knn(*data, k=k)


def test_zero_rows_and_repeats_are_named(data):
    X, Y = data
    X = X.copy()
    X[3] = 0
    with pytest.raises(ValueError, match="1 of 40 rows of X are all zeros"):
        mutual_knn(X, Y)
    with pytest.warns(AnalysisWarning, match="10 of 40 rows of Y repeat another row.*inflates"):
        mutual_knn(data[0], np.concatenate([Y[:30], Y[:10]]))
    with pytest.raises(ValueError, match="metric='l1' is not known"):
        cknna(*data, metric="l1")
