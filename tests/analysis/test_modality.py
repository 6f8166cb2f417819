"""The modality gap against its null, and that subtracting means closes it."""

import numpy as np
import pytest

from rali_lab.analysis import alignment, close_gap, modality_gap, uniformity


@pytest.fixture
def joint():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(80, 16))
    return Z, Z + 0.5 * rng.normal(size=Z.shape)


@pytest.mark.parametrize("paired", [True, False])
def test_gap_is_found_when_there_is_one_and_only_then(joint, paired):
    X, Y = joint
    shifted = modality_gap(X + 0.5, Y - 0.5, paired=paired, n_permutations=49)
    assert shifted.p == 0.02 and shifted.value > 0.5 > shifted.null_mean
    assert modality_gap(X, Y, paired=paired, n_permutations=49).p > 0.05


def test_value_is_the_distance_of_the_centroids_on_the_sphere(joint):
    X, Y = (Z / np.linalg.norm(Z, axis=1, keepdims=True) for Z in joint)
    expected = np.linalg.norm(X.mean(axis=0) - Y.mean(axis=0))
    assert modality_gap(3 * joint[0], 7 * joint[1]).value == pytest.approx(expected)
    assert modality_gap(joint[1], joint[0]).value == pytest.approx(expected)
    assert modality_gap(X, X).value == 0 and modality_gap(X, X).p == 1


def test_opposite_points_are_two_apart():
    X = np.ones((5, 3))
    assert modality_gap(X, -X).value == pytest.approx(2)


def test_subtracting_means_closes_it(joint):
    X, Y = joint[0] + 1, joint[1] - 1
    assert modality_gap(X, Y).p < 0.01
    assert modality_gap(*close_gap(X, Y)).value < 0.2 * modality_gap(X, Y).value


def test_alignment_and_uniformity_equal_their_formulas(joint):
    X, Y = (Z / np.linalg.norm(Z, axis=1, keepdims=True) for Z in joint)
    assert alignment(*joint) == pytest.approx(np.mean(np.linalg.norm(X - Y, axis=1) ** 2))
    D = np.linalg.norm(X[:, None] - X[None], axis=2)[np.triu_indices(80, 1)]
    assert uniformity(joint[0]) == pytest.approx(np.log(np.mean(np.exp(-2 * D**2))))
    assert uniformity(np.ones((4, 3))) == pytest.approx(0)


def test_errors(joint):
    X, Y = joint
    with pytest.raises(ValueError, match="expected pairs; pass paired=False"):
        modality_gap(X, Y[:50])
    assert modality_gap(X, Y[:50], paired=False).n == 130
    with pytest.raises(ValueError, match="expected one joint space; for two spaces use cka"):
        modality_gap(X, Y[:, :5])
    with pytest.raises(ValueError, match="expected one joint space"):
        alignment(X, Y[:, :5])
    with pytest.raises(ValueError, match="1 of 80 rows of Y are all zeros"):
        modality_gap(X, Y * (np.arange(80) > 0)[:, None])
