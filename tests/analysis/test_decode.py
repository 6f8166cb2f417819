"""Readouts on held-out sources, against scikit-learn's ridge, and at chance for noise."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge

from rali_lab.analysis import decode_domain, decode_score
from rali_lab.analysis.decode import PENALTIES, classified, held_out, permuted_labels
from rali_lab.analysis.folds import grouped_folds
from rali_lab.analysis.inputs import centred


@pytest.mark.parametrize("shape", [(60, 8), (40, 70)])
def test_predictions_equal_sklearn_with_the_penalty_of_the_smallest_left_out_error(shape):
    rng = np.random.default_rng(0)
    X = rng.normal(size=shape)
    y = X[:, 0] + rng.normal(size=len(X))
    folds = grouped_folds(None, len(X), 4, rng)
    ours, Z = held_out(X, y[:, None, None], folds)[:, 0, 0], centred(X)
    for held in folds:
        fit = np.setdiff1d(np.arange(len(X)), held)
        s = np.linalg.svd(Z[fit] - Z[fit].mean(axis=0), compute_uv=False)
        s = s[s > 1e-6 * s[0]]
        penalties = PENALTIES * np.mean(s**2)
        errors = []
        for penalty in penalties:
            left_out = [
                Ridge(alpha=penalty)
                .fit(Z[np.delete(fit, i)], y[np.delete(fit, i)])
                .predict(Z[fit[i : i + 1]])[0]
                for i in range(len(fit))
            ]
            errors.append(np.sum((left_out - y[fit]) ** 2))
        best = Ridge(alpha=penalties[np.argmin(errors)]).fit(Z[fit], y[fit])
        np.testing.assert_allclose(ours[held], best.predict(Z[held]), rtol=1e-6)


def test_targets_choose_their_penalty_alone():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 20))
    Y = np.stack([X[:, 0], rng.normal(size=60)], axis=1)[:, :, None]
    folds = grouped_folds(None, 60, 5, rng)
    both = held_out(X, Y, folds)
    for t in range(2):
        np.testing.assert_allclose(both[:, t], held_out(X, Y[:, [t]], folds)[:, 0])


def test_a_linear_score_is_read_off_whatever_units_and_rotation():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 6))
    y = X @ rng.normal(size=6) + 0.5 * rng.normal(size=120)
    found = decode_score(X, y, n_permutations=49, n_boot=100)
    assert found.value > 0.9 and found.ci_low < found.value < found.ci_high and found.p == 0.02
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert decode_score(100 * X @ turn + 3, 9 - 2 * y, n_permutations=0).value == pytest.approx(
        found.value
    )


def test_noise_is_at_the_null_and_not_far_below_zero():
    rng = np.random.default_rng(0)
    found = [
        decode_score(
            rng.normal(size=(80, 30)),
            rng.normal(size=80),
            n_permutations=19,
            n_boot=0,
            random_state=s,
        )
        for s in range(20)
    ]
    assert abs(np.mean([f.value - f.null_mean for f in found])) < 0.06
    assert np.mean([f.value for f in found]) > -0.12
    assert found[0].ci_low is None


def test_sources_are_held_out_whole():
    """Each source has its own random score: only rows seen in training could tell it."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 5)
    X = np.repeat(rng.normal(size=(20, 40)), 5, axis=0) + 0.01 * rng.normal(size=(100, 40))
    y = np.repeat(rng.normal(size=20), 5)
    assert decode_score(X, y, n_permutations=0).value > 0.9
    assert abs(decode_score(X, y, groups=groups, n_permutations=0).value) < 0.5


def test_domains_are_told_apart_when_they_differ_and_at_chance_when_not():
    rng = np.random.default_rng(0)
    domains, X = np.repeat(list("abc"), 40), rng.normal(size=(120, 5))
    shifted = decode_domain(X + 3 * (domains == "b")[:, None], domains, n_permutations=49)
    assert shifted.value > 0.6 and shifted.p == 0.02 and shifted.notes == ("chance 0.333",)
    assert shifted.ci_low < shifted.value < shifted.ci_high
    same = decode_domain(X, domains, n_permutations=49)
    assert same.null_mean == pytest.approx(1 / 3, abs=0.03) and same.p > 0.05


def test_unequal_domains_do_not_hide_behind_the_large_one():
    rng = np.random.default_rng(0)
    domains = np.repeat(["small", "large"], [30, 270])
    X = rng.normal(size=(300, 2)) + 2.0 * (domains == "small")[:, None]
    found = decode_domain(X, domains, n_permutations=19)
    assert found.value > 0.85 and found.null_mean == pytest.approx(0.5, abs=0.06)


def test_classification_of_separate_clouds_is_right():
    X = np.repeat(9 * np.eye(3), 10, axis=0) + np.random.default_rng(0).normal(size=(30, 3))
    label = np.repeat([0, 1, 2], 10)
    folds = grouped_folds(None, 30, 5, np.random.default_rng(0), strata=label)
    assert classified(X, label[:, None], folds)[:, 0].tolist() == label.tolist()


def test_classes_equal_sklearn_discriminant_analysis_with_equal_priors():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2], [40, 100, 160])
    X = rng.normal(size=(300, 6)) * [1, 2, 3, 1, 2, 3] + rng.normal(size=(3, 6))[label]
    folds = grouped_folds(None, 300, 5, rng, strata=label)
    ours = classified(X, label[:, None], folds)[:, 0]
    theirs = np.empty(300)
    for held in folds:
        fit = np.setdiff1d(np.arange(300), held)
        theirs[held] = (
            LinearDiscriminantAnalysis(priors=[1 / 3] * 3).fit(X[fit], label[fit]).predict(X[held])
        )
    assert np.mean(ours == theirs) > 0.98 > np.mean(ours == label)


def test_labels_are_shuffled_by_unit_and_inside_strata():
    label, unit = np.repeat([0, 1], 20), np.repeat(np.arange(10), 4)
    stratum = np.tile(np.repeat([0, 1], 4), 5)
    rng = np.random.default_rng(0)
    for _ in range(10):
        new = permuted_labels(label, unit, rng, stratum)
        assert all(len(set(new[unit == u])) == 1 for u in range(10))
        assert all(
            np.bincount(new[stratum == s]).tolist() == np.bincount(label[stratum == s]).tolist()
            for s in (0, 1)
        )
    assert new.tolist() != label.tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda X: decode_score(X, np.ones(40)), "all 40 scores are 1"),
        (lambda X: decode_score(X, np.arange(39)), "one number per row"),
        (
            lambda X: decode_score(X, np.arange(40), groups=["a"] * 40),
            "5 folds need 5 groups or more, got 1",
        ),
        (lambda X: decode_domain(X, ["a"] * 40), "got one domain"),
        (
            lambda X: decode_domain(X, ["a"] * 38 + ["b"] * 2),
            "in each domain, got 2; pass n_folds=2",
        ),
        (lambda X: decode_score(np.eye(40)[:, :1], np.arange(40)), "equal: nothing to fit"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0).normal(size=(40, 3)))
