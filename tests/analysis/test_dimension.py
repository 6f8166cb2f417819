"""Dimensions of clouds whose dimension is known, and repeats that must not count."""

import numpy as np
import pytest

from rali_lab.analysis import (
    AnalysisWarning,
    effective_rank,
    mle_dimension,
    participation_ratio,
    pca_dimension,
    spectrum,
    two_nn,
)
from rali_lab.analysis.dimension import _SHARED

LINEAR = [
    participation_ratio,
    lambda X: participation_ratio(X, debiased=False),
    effective_rank,
    pca_dimension,
]
LOCAL = [two_nn, mle_dimension]


def curved(n, d, width=30, seed=0):
    """A d-dimensional sheet, bent into ``width`` dimensions."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(0, 2, size=(n, d))
    return np.hstack([np.cos(t), np.sin(t), t]) @ rng.normal(size=(3 * d, width))


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(200, 10)) * np.arange(1, 11)


@pytest.mark.parametrize("shape", [(200, 10), (10, 40)])
def test_spectrum_equals_the_covariance(shape):
    X = np.random.default_rng(0).normal(size=shape) + 1000
    expected = np.linalg.eigvalsh(np.cov(X.T))[::-1][: min(shape[0] - 1, shape[1])]
    np.testing.assert_allclose(spectrum(X), expected, rtol=1e-6)


def test_linear_dimensions_equal_their_formulas(X):
    values = spectrum(X)
    assert participation_ratio(X, debiased=False) == pytest.approx(
        values.sum() ** 2 / (values**2).sum()
    )
    s = np.linalg.svd(X - X.mean(axis=0), compute_uv=False)
    assert effective_rank(X) == pytest.approx(np.exp(-np.sum(s / s.sum() * np.log(s / s.sum()))))
    assert pca_dimension(X, 0.9) == np.argmax(np.cumsum(values) / values.sum() >= 0.9) + 1
    assert pca_dimension(X, 1.0) == 10


@pytest.mark.parametrize("measure", LINEAR)
def test_linear_dimensions_ignore_rotation_shift_scale_and_know_the_ends(measure, X):
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(10, 10)))[0]
    assert measure(1e-3 * X @ turn + 5) == pytest.approx(measure(X))
    assert measure(X[::-1]) == pytest.approx(measure(X))
    assert measure(np.outer(np.arange(30), np.arange(5))) == pytest.approx(1, abs=0.03)  # one axis


def test_equal_axes_count_all():
    X = np.vstack([np.eye(6), -np.eye(6)])
    assert participation_ratio(X, debiased=False) == pytest.approx(6)
    assert effective_rank(X) == pytest.approx(6)
    assert pca_dimension(X, 0.99) == 6


@pytest.mark.parametrize("n", [40, 120])
def test_debiased_participation_ratio_finds_the_dimension_from_few_rows(n):
    rng = np.random.default_rng(0)
    plain, debiased = np.mean(
        [
            [participation_ratio(X, debiased=False), participation_ratio(X)]
            for X in rng.normal(size=(30, n, 80))
        ],
        axis=0,
    )
    assert plain == pytest.approx(80 * n / (80 + n), rel=0.05)
    assert debiased == pytest.approx(80, rel=0.05)


@pytest.mark.parametrize("measure", LOCAL)
@pytest.mark.parametrize("d", [1, 2, 4])
def test_intrinsic_dimension_of_bent_sheets(measure, d):
    found = measure(curved(600, d))
    assert found.value == pytest.approx(d, rel=0.12)
    assert found.ci_low < found.value < found.ci_high and found.n == 600


@pytest.mark.parametrize("measure", LOCAL)
def test_intrinsic_dimension_ignores_rotation_shift_and_scale(measure, X):
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(10, 10)))[0]
    assert measure(1e3 * X @ turn - 7).value == pytest.approx(measure(X).value)


def test_two_nn_equals_the_line_of_facco_and_its_likelihood():
    X = curved(600, 2)
    D = np.sort(np.linalg.norm(X[:, None] - X[None], axis=2), axis=1)
    mu = np.sort(D[:, 2] / D[:, 1])
    line = -np.log(1 - np.arange(600) / 600)[:540]
    slope = (np.log(mu[:540]) @ line) / (np.log(mu[:540]) @ np.log(mu[:540]))
    assert two_nn(X).value == pytest.approx(slope, rel=0.05)
    assert two_nn(X, discard=0).value == pytest.approx(599 / np.log(mu).sum())
    assert two_nn(X, discard=0).se == pytest.approx(
        _SHARED * two_nn(X, discard=0).value / np.sqrt(600)
    )


def test_mle_equals_levina_and_bickel_with_mackays_mean():
    X = curved(100, 2)
    D = np.sort(np.linalg.norm(X[:, None] - X[None], axis=2), axis=1)[:, 1:8]
    inverse = [np.mean([np.log(row[6] / row[j]) for j in range(6)]) for row in D]
    assert mle_dimension(X, k=7).value == pytest.approx(1 / np.mean(inverse))


@pytest.mark.parametrize("measure", LOCAL)
def test_the_standard_error_is_the_spread_over_samples(measure):
    found = [measure(np.random.default_rng(s).normal(size=(150, 3))) for s in range(60)]
    assert np.mean([f.se for f in found]) == pytest.approx(
        np.std([f.value for f in found]), rel=0.3
    )


@pytest.mark.parametrize("measure", LOCAL)
def test_repeats_are_dropped_and_counted(measure):
    X = curved(100, 2)
    with pytest.warns(
        AnalysisWarning, match="50 of 150 rows repeat another row and were dropped.*templated"
    ):
        found = measure(np.concatenate([X, X[:50]]))
    assert found.value == measure(X).value and found.n == 100
    assert found.notes == ("50 of 150 rows repeat another row and were dropped",)
    with pytest.raises(
        ValueError, match=r"10 different rows \(100 with 90 repeats\), expected 2\d or more"
    ):
        measure(np.tile(X[:10], (10, 1)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X: pca_dimension(X, 0), "share=0, expected a share"),
        (lambda X: two_nn(X, discard=1), "discard=1, expected a share"),
        (lambda X: mle_dimension(X, k=2), "k=2, expected 3 or more.*two_nn"),
        (lambda X: mle_dimension(X, k=500), "200 different rows.*expected 501"),
        (lambda X: two_nn(np.eye(30)), "equally far"),
        (lambda X: mle_dimension(np.eye(30)), "equally far"),
        (lambda X: participation_ratio(np.eye(30)), "equally far.*debiased=False"),
        (lambda X: participation_ratio(X[:3]), "needs n >= 4"),
        (lambda X: two_nn(np.arange(200.0)[:, None]), "equally far"),
    ],
)
def test_errors(call, message, X):
    with pytest.raises(ValueError, match=message):
        call(X)
