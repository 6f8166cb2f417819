"""Distances between clouds: independent formulas, SciPy, scikit-learn, and zero for two samples of
one distribution.
"""

import itertools

import numpy as np
import pytest
from scipy import linalg
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors

from rali_lab.analysis import frechet_distance, knn_mixing, mmd, proxy_a_distance, silhouette
from rali_lab.analysis.folds import grouped_folds
from rali_lab.analysis.proxy_a import _right

ALL = [mmd, frechet_distance, proxy_a_distance, silhouette, knn_mixing]


@pytest.fixture
def clouds():
    rng = np.random.default_rng(0)
    return rng.normal(size=(30, 4)), 0.7 + 1.3 * rng.normal(size=(40, 4))


def test_mmd_equals_the_sums_of_gretton(clouds):
    X, Y = clouds
    both = np.concatenate(clouds)
    s = np.median([np.linalg.norm(a - b) for a, b in itertools.combinations(both, 2)])

    def k(a, b):
        return np.exp(-np.sum((a - b) ** 2) / (2 * s**2))

    own = np.mean([k(a, b) for a, b in itertools.permutations(X, 2)]) + np.mean(
        [k(a, b) for a, b in itertools.permutations(Y, 2)]
    )
    assert mmd(X, Y) == pytest.approx(own - 2 * np.mean([k(a, b) for a in X for b in Y]))


@pytest.mark.parametrize("shrink", [True, False])
@pytest.mark.parametrize("d", [4, 60])
def test_frechet_equals_scipy_and_sklearn(shrink, d):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(30, d)), 0.7 + 1.3 * rng.normal(size=(40, d)) @ rng.normal(size=(d, d))
    A, B = (ledoit_wolf(Z)[0] if shrink else np.cov(Z.T) for Z in (X, Y))
    root = linalg.sqrtm(A.astype(complex) @ B)
    expected = np.sum((X.mean(axis=0) - Y.mean(axis=0)) ** 2) + np.trace(A + B - 2 * root.real)
    assert frechet_distance(X, Y, shrink=shrink) == pytest.approx(expected, rel=1e-5)


def test_silhouette_equals_sklearn(clouds):
    labels = np.repeat([0, 1], [30, 40])
    assert silhouette(*clouds) == pytest.approx(silhouette_score(np.concatenate(clouds), labels))


def test_mixing_equals_sklearn_neighbours(clouds):
    both, label = np.concatenate(clouds), np.repeat([0, 1], [30, 40])
    index = NearestNeighbors(n_neighbors=6).fit(both).kneighbors(return_distance=False)
    other = label[index] != label[:, None]
    expected = (other[:30].mean() / (40 / 69) + other[30:].mean() / (30 / 69)) / 2
    assert knn_mixing(*clouds, k=6) == pytest.approx(expected)


def test_the_shortcut_to_held_out_labels_equals_fits_without_the_fold(clouds):
    both, label = np.concatenate(clouds), np.repeat([0, 1], [30, 40])
    folds = grouped_folds(None, 70, 5, np.random.default_rng(0), strata=label)
    order, ends = np.concatenate(folds), np.cumsum([len(f) for f in folds]).tolist()
    right = np.empty(70, dtype=bool)
    right[order] = _right(
        (both @ both.T)[np.ix_(order, order)], label[order].astype(float), ends, 0.1
    )
    centred = both - both.mean(axis=0)
    penalty = 0.1 * np.sum(centred**2) / 70
    for held in folds:
        fit = np.setdiff1d(np.arange(70), held)
        A, mean = both[fit] - both[fit].mean(axis=0), label[fit].mean()
        weights = np.linalg.solve(A.T @ A + penalty * np.eye(4), A.T @ (label[fit] - mean))
        middle = (
            both[fit][label[fit] == 0].mean(axis=0) + both[fit][label[fit] == 1].mean(axis=0)
        ) / 2
        side = (both[held] - middle) @ weights > 0
        assert right[held].tolist() == (side == label[held]).tolist()


@pytest.mark.parametrize("measure", ALL)
def test_symmetry_rotation_shift_scale(measure, clouds):
    X, Y = clouds
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    tolerance = (
        {"abs": 0.4} if measure is proxy_a_distance else {"rel": 1e-8}
    )  # its folds follow the order of the clouds
    assert measure(Y, X) == pytest.approx(measure(X, Y), **tolerance)
    factor = 9 if measure is frechet_distance else 1
    assert measure(3 * X @ turn + 50, 3 * Y @ turn + 50) == pytest.approx(
        factor * measure(X, Y), rel=1e-6
    )


@pytest.mark.parametrize(
    ("measure", "apart"), [(mmd, 0.9), (proxy_a_distance, 2), (silhouette, 0.8), (knn_mixing, 0)]
)
def test_ends(measure, apart):
    rng = np.random.default_rng(0)
    same = [measure(rng.normal(size=(40, 20)), rng.normal(size=(40, 20))) for _ in range(20)]
    expected = 1 if measure is knn_mixing else 0
    assert abs(np.mean(same) - expected) < 4 * np.std(same) / np.sqrt(20) + 0.01
    assert measure(rng.normal(size=(40, 20)), 50 + rng.normal(size=(40, 20))) == pytest.approx(
        apart, abs=0.2
    )


def test_sources_in_both_folds_do_not_help():
    """Ten sources per cloud, recognisable but without a common trait: a row's twin in training
    would give it away.
    """
    rng = np.random.default_rng(0)
    X, Y = (
        np.repeat(rng.normal(size=(10, 30)), 5, axis=0) + 0.01 * rng.normal(size=(50, 30))
        for _ in range(2)
    )
    groups = np.repeat(np.arange(10), 5)
    assert proxy_a_distance(X, Y) > 1.5
    assert proxy_a_distance(X, Y, groups_x=groups, groups_y=groups + 10) < 1


@pytest.mark.parametrize("measure", ALL)
def test_two_spaces_are_refused(measure, clouds):
    with pytest.raises(
        ValueError,
        match="4 columns and Y 3, expected two clouds in one space; for two spaces use cka",
    ):
        measure(clouds[0], clouds[1][:, :3])


def test_errors(clouds):
    X, Y = clouds
    with pytest.raises(ValueError, match="k=69 neighbours among 70 rows"):
        knn_mixing(X, Y, k=69)
    with pytest.raises(ValueError, match="one domain has 1 sources, held-out"):
        proxy_a_distance(X, Y, groups_x=["a"] * 30)
    with pytest.raises(ValueError, match="X and Y together are equal"):
        mmd(np.ones((5, 2)), np.ones((6, 2)))
    with pytest.raises(ValueError, match="overflow; rescale"):
        frechet_distance(X, 1e200 * Y)


def test_sources_that_both_clouds_share_are_held_out_in_both():
    rng = np.random.default_rng(3)
    source = np.repeat(np.arange(10), 8)
    scene = (
        rng.normal(size=(10, 6))[source] * 3
    )  # what a scene looks like, the same in both domains
    X, Y = (scene + 0.1 * rng.normal(size=(80, 6)) for _ in range(2))
    assert abs(proxy_a_distance(X, Y, groups_x=source, groups_y=source)) < 0.4
    apart = np.array([5.0, 0, 0, 0, 0, 0])
    assert proxy_a_distance(X, Y + 4 * apart, groups_x=source, groups_y=source) > 1.5
    folds = grouped_folds(
        np.tile(source, 2), 160, 5, np.random.default_rng(0), strata=np.repeat(["x", "y"], 80)
    )
    assert [len(set(np.tile(source, 2)[f])) for f in folds] == [2] * 5 and sum(
        map(len, folds)
    ) == 160
