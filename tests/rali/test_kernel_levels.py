"""Levels of quality across sets: constants come from sets left out, scores stay on the scale, wrong
input is named.
"""

from __future__ import annotations

import numpy as np
import pytest

from rali_lab.rali import kernel_levels
from rali_lab.rali.kernel_levels import KernelLevels, fit_across_sets

TEXTS = np.eye(5)


def sets(seed: int = 0):
    """Three sets of one curved law, of which each shows another stretch."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(240, 3)) + np.repeat([-0.5, 0.0, 0.5], 80)[:, None]
    return X, 3 + 1.9 * np.sin(1.5 * X[:, 0]), np.repeat(["a", "b", "c"], 80)


def test_a_curved_law_carries_over_to_a_set_that_was_left_out():
    X, quality, names = sets()
    held = names == "b"
    reader = fit_across_sets(X[~held], quality[~held], names[~held], TEXTS)
    scores = reader.predict(X[held])
    straight = X[held] @ np.linalg.lstsq(X[~held], quality[~held] - 3, rcond=None)[0]
    assert np.corrcoef(scores, quality[held])[0, 1] > max(
        0.9, np.corrcoef(straight, quality[held])[0, 1] + 0.05
    )
    assert ((scores >= 1) & (scores <= 5)).all()


def test_the_constants_are_those_that_rank_sets_left_out_best(monkeypatch):
    X, quality, names = sets()
    monkeypatch.setattr(kernel_levels, "GAMMAS", (1.0, 1000.0))
    monkeypatch.setattr(kernel_levels, "ALPHAS", (0.1, 1e6))
    chosen = fit_across_sets(X, quality, names, TEXTS)
    assert (chosen.gamma, chosen.alpha) == (1.0, 0.1)


def test_units_of_a_feature_do_not_matter():
    X, quality, _ = sets()
    first, second = (
        KernelLevels(TEXTS).fit(X * scale, quality).predict(X * scale)
        for scale in (1.0, np.array([1.0, 100.0, 0.01]))
    )
    np.testing.assert_allclose(first, second, atol=1e-3)


@pytest.mark.parametrize("wrong", [0.5, 5.5, np.nan])
def test_quality_off_the_scale_is_refused(wrong):
    X, quality, _ = sets()
    quality[3] = wrong
    with pytest.raises(ValueError, match=r"quality must lie in 1\.\.5"):
        KernelLevels(TEXTS).fit(X, quality)


def test_one_set_cannot_be_left_out():
    X, quality, names = sets()
    with pytest.raises(ValueError, match="all images are of the set 'a'"):
        fit_across_sets(X, quality, np.full(len(names), "a"), TEXTS)
