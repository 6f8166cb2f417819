"""Held-out canonical correlations: against scikit-learn in sample, and zero for noise where
in-sample CCA says one.
"""

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA

from rali_lab.analysis import cca, cca_correlations, svcca
from rali_lab.analysis.cca import _columnwise, _whitened


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(150, 2))
    X = np.hstack([shared + 0.3 * rng.normal(size=(150, 2)), rng.normal(size=(150, 3))])
    Y = np.hstack(
        [shared + 0.3 * rng.normal(size=(150, 2)), rng.normal(size=(150, 2))]
    ) @ rng.normal(size=(4, 4))
    return X, Y


def test_directions_equal_those_of_sklearn(data):
    X, Y = data
    fit, held = np.arange(100), np.arange(100, 150)
    U, V = (_whitened(A[fit], A[held], 0.0, None, "X") for A in (X, Y))
    left, _, right = np.linalg.svd(U[0].T @ V[0])
    ours = _columnwise(U[1] @ left[:, :2], V[1] @ right[:2].T)
    model = CCA(n_components=2, tol=1e-12, max_iter=5000).fit(X[fit], Y[fit])
    a, b = model.transform(X[held], Y[held])
    np.testing.assert_allclose(
        ours, [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(2)], atol=1e-6
    )


@pytest.mark.parametrize("measure", [cca, svcca])
def test_properties(measure, data):
    X, Y = data
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    value = measure(X, Y, n_components=2)
    assert 0.8 < value < 0.99
    assert measure(Y, X, n_components=2) == pytest.approx(value)
    assert measure(3 * X @ turn + 5, Y, n_components=2) == pytest.approx(value)
    assert measure(X, 2 * X + 1) == pytest.approx(1, abs=1e-6)


def test_plain_cca_ignores_any_linear_map(data):
    X, Y = data
    stretch = np.diag([100.0, 1, 0.01, 1, 1])
    assert cca(X @ stretch, Y, ridge=0, n_components=2) == pytest.approx(
        cca(X, Y, ridge=0, n_components=2)
    )


def test_noise_with_more_columns_than_rows_gets_about_zero():
    rng = np.random.default_rng(0)
    for measure in (cca, svcca):
        values = [
            measure(rng.normal(size=(40, 60)), rng.normal(size=(40, 60)), random_state=s)
            for s in range(20)
        ]
        assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(20) < 0.1


def test_leading_directions_come_first_and_rank_limits_them(data):
    found = cca_correlations(*data, n_components=10)
    assert found.shape == (4,)
    assert min(found[:2]) > 0.7 > 0.4 > max(np.abs(found[2:]))


def test_whole_groups_are_held_out():
    """Rows repeated under one group must not help: without groups they are both trained on and
    tested on.
    """
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(20, 15)), rng.normal(size=(20, 15))
    X, Y, groups = np.repeat(X, 6, axis=0), np.repeat(Y, 6, axis=0), np.repeat(np.arange(20), 6)
    X, Y = X + 1e-3 * rng.normal(size=X.shape), Y + 1e-3 * rng.normal(size=Y.shape)
    assert cca(X, Y, ridge=1e-3) > 0.9
    assert abs(cca(X, Y, ridge=1e-3, groups=groups)) < 0.35


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_components": 0}, "expected n_components >= 1"),
        ({"ridge": -1}, "ridge >= 0"),
        ({"n_folds": 1}, "n_folds=1, expected 2 or more"),
        ({"n_folds": 100}, "a fold holds 2 rows, a held-out correlation needs 3"),
        ({"groups": ["a", "b"] * 75}, "5 folds need 5 groups or more, got 2; pass n_folds=2"),
    ],
)
def test_errors(options, message, data):
    with pytest.raises(ValueError, match=message):
        cca(*data, **options)
    if "ridge" not in options:
        with pytest.raises(ValueError, match="variance=0, expected a share"):
            svcca(*data, variance=0)
