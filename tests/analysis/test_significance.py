"""Nulls that share work equal nulls that do not; intervals and p values mean what they say."""

import numpy as np
import pytest

from rali_lab.analysis import (
    AnalysisWarning,
    cca,
    cka,
    cknna,
    mutual_knn,
    procrustes,
    rsa,
    significance,
    svcca,
)
from rali_lab.analysis.significance import _FAST, _cka_of_rows, null_fields, symmetric_dot


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5))
    return X, X[:, :3] + rng.normal(size=(60, 3))


def test_symmetric_dot_equals_the_whole_sum():
    rng = np.random.default_rng(0)
    A, B = (M + M.T for M in rng.normal(size=(2, 150, 150)))
    order = rng.permutation(150)
    assert symmetric_dot(A, B, order) == pytest.approx(np.sum(A * B[np.ix_(order, order)]))


CASES = [
    (cka, {}),
    (cka, {"debiased": False}),
    (cka, {"kernel": "rbf"}),
    (cka, {"kernel": "rbf", "debiased": False, "bandwidth": 0.5}),
    (rsa, {}),
    (rsa, {"distance": "correlation", "method": "pearson"}),
    (mutual_knn, {"k": 5}),
    (mutual_knn, {"corrected": False}),
    (cknna, {"metric": "euclidean"}),
]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(("measure", "options"), CASES)
def test_shared_work_gives_the_measure_of_the_permuted_arrays(measure, options, wide, data):
    X, Y = data
    if wide:  # Gram matrices instead of factors
        rng = np.random.default_rng(3)
        X, Y = (
            X @ rng.normal(size=(5, 80)) + rng.normal(size=(60, 80)),
            Y @ rng.normal(size=(3, 90)),
        )
    value, draw = _FAST[measure](measure, X, Y, options)
    order = np.random.default_rng(1).permutation(60)
    assert value == pytest.approx(measure(X, Y, **options))
    assert draw(order) == pytest.approx(measure(X, Y[order], **options), abs=1e-10)


@pytest.mark.parametrize(
    "measure",
    [
        cka,
        procrustes,
        rsa,
        mutual_knn,
        cknna,
        cca,
        svcca,
        lambda X, Y: abs(np.corrcoef(X[:, 0], Y[:, 0])[0, 1]),
    ],
)
def test_relation_is_found_and_noise_is_not(measure, data):
    X, Y = data
    found = significance(measure, X, Y, n_permutations=49, n_boot=20)
    assert found.value == pytest.approx(measure(X, Y))
    assert found.p == pytest.approx(1 / 50) and found.z > 3
    assert found.ci_low <= found.value <= found.ci_high and found.ci_high - found.ci_low > 0.01
    noise = significance(
        measure, X, np.random.default_rng(5).normal(size=Y.shape), n_permutations=49
    )
    assert noise.p > 0.05 and noise.ci_low is None


def test_the_same_seed_gives_the_same_result_and_parts_can_be_left_out(data):
    one, same, other = (
        significance(cka, *data, n_permutations=20, n_boot=20, random_state=s) for s in (0, 0, 1)
    )
    assert one == same != other
    bare = significance(cka, *data, n_permutations=0)
    assert (bare.p, bare.ci_low, bare.null_mean) == (None, None, None)


def test_self_similarity_has_a_point_interval(data):
    found = significance(cka, data[0], data[0], n_permutations=0, n_boot=20)
    assert (found.ci_low, found.ci_high) == pytest.approx((1, 1))


def clustered(rng):
    """Versions of a source lie close together in both arrays; the arrays know nothing of each
    other.
    """
    X, Y = (
        np.repeat(rng.normal(size=(15, 4)), 4, axis=0) + 0.3 * rng.normal(size=(60, 4))
        for _ in range(2)
    )
    return X, Y


def test_p_is_uniform_for_clustered_rows_only_with_groups():
    groups = np.repeat(np.arange(15), 4)
    with_groups, without = [], []
    for seed in range(40):
        X, Y = clustered(np.random.default_rng(seed))
        with_groups.append(significance(cka, X, Y, n_permutations=19, groups=groups).p <= 0.1)
        without.append(significance(cka, X, Y, n_permutations=19).p <= 0.1)
    assert np.mean(with_groups) < 0.3
    assert np.mean(without) > 0.7


def test_interval_covers_the_value_of_the_population():
    """Sources with two rows each; the population value from 1000 sources."""

    def draw(seed, n):
        rng = np.random.default_rng(seed)
        z = np.repeat(rng.normal(size=(n, 3)), 2, axis=0)
        return z + 0.5 * rng.normal(size=z.shape), z[:, :2] + 0.5 * rng.normal(size=(2 * n, 2))

    truth, inside = cka(*draw(999, 1000)), 0
    for seed in range(60):
        found = significance(
            cka, *draw(seed, 40), n_permutations=0, n_boot=60, groups=np.repeat(np.arange(40), 2)
        )
        inside += found.ci_low <= truth <= found.ci_high
    assert 50 <= inside <= 60


def test_groups_widen_the_interval_and_reach_the_folds():
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(20, 4)), 5, axis=0) + 0.1 * rng.normal(size=(100, 4))
    Y, groups = (
        X[:, :2] + np.repeat(rng.normal(size=(20, 2)), 5, axis=0),
        np.repeat(np.arange(20), 5),
    )
    with_groups, without = (
        significance(cka, X, Y, n_permutations=0, n_boot=60, groups=g) for g in (groups, None)
    )
    assert with_groups.ci_high - with_groups.ci_low > 1.5 * (without.ci_high - without.ci_low)
    found = significance(cca, X, Y, groups=groups, n_permutations=5, n_boot=5)
    assert found.value == pytest.approx(cca(X, Y, groups=groups)) != cca(X, Y)


def test_stuck_rows_and_too_few_sources_are_said(data):
    groups = np.repeat([0, 1, 2], [10, 20, 30])
    with pytest.warns(
        AnalysisWarning, match="60 of 60 rows are in groups of a size that no other group has"
    ):
        significance(cka, *data, groups=groups, n_permutations=3)
    with pytest.raises(
        ValueError, match="got 3 groups, an interval needs 8 or more; pass n_boot=0"
    ):
        significance(cka, *data, groups=groups, n_permutations=0, n_boot=9)
    with pytest.raises(ValueError, match="kernel='cubic'"):
        significance(cka, *data, kernel="cubic")
    with pytest.raises(TypeError, match="banana"):
        significance(cka, *data, banana=1)
    with pytest.raises(ValueError, match="debiased CKA needs n >= 4"):
        significance(cka, data[0][:3], data[1][:3])


@pytest.mark.parametrize("debiased", [True, False])
def test_halves_from_gram_matrices_are_cka_of_the_halves(debiased):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(40, 30)), rng.normal(size=(40, 50)) + 3
    of_rows = _cka_of_rows(X, Y, {"debiased": debiased})
    for _ in range(3):
        rows = np.sort(rng.permutation(40)[:20])
        assert of_rows(rows) == pytest.approx(cka(X[rows], Y[rows], debiased=debiased), abs=1e-9)
    assert _cka_of_rows(X[:, :2], Y[:, :3], {}) is None


def test_p_counts_the_observed_value_and_follows_the_direction():
    null = np.arange(99.0)
    assert null_fields(1000, null)["p"] == 0.01
    assert null_fields(-1, null)["p"] == 1
    assert null_fields(-1, null, larger=False)["p"] == 0.01
    assert null_fields(98, null)["p"] == 0.02


def test_no_spread_no_z():
    assert null_fields(1.0, np.ones(5)) == {"null_mean": 1.0, "null_sd": 0.0, "z": None, "p": 1.0}
    assert null_fields(1.0, np.ones(1))["null_sd"] is None
    assert null_fields(1.0, np.array([])) == {}
