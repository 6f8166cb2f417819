"""Dynamic weights keep what they promise: rows that sum to one, the rule they are named for, and
the fixed rule as their limit.
"""

from __future__ import annotations

import numpy as np
import pytest

from rali_lab.rali.basis import softmax_weights
from rali_lab.rali.dynamic import domain_weights, entropy_weights, nearest_weights

RNG = np.random.default_rng(0)
Z, V = RNG.normal(size=(20, 6)), RNG.normal(size=(15, 6))


def entropy(w):
    return -(w * np.log(np.maximum(w, 1e-300))).sum(axis=1)


@pytest.mark.parametrize(
    "weights",
    [
        nearest_weights(Z, V, tau=0.2, k=4),
        entropy_weights(Z, V, entropy=1.5),
        domain_weights(Z, V, tau=0.2),
    ],
)
def test_weights_are_weights(weights):
    assert weights.shape == (20, 15) and (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)


def test_the_nearest_are_kept_in_their_proportions():
    fixed, few = softmax_weights(Z, V, tau=0.2), nearest_weights(Z, V, tau=0.2, k=4)
    assert ((few > 0).sum(axis=1) == 4).all()
    for f, w in zip(fixed, few, strict=True):
        top = np.argsort(-f)[:4]
        np.testing.assert_allclose(w[top] / w[top[0]], f[top] / f[top[0]])
    np.testing.assert_allclose(nearest_weights(Z, V, tau=0.2, k=15), fixed)


@pytest.mark.parametrize("target", [0.1, 1.0, 2.5])
def test_every_image_is_equally_certain(target):
    w = entropy_weights(Z, V, entropy=target)
    np.testing.assert_allclose(entropy(w), target, atol=1e-6)
    assert (w.argmax(axis=1) == softmax_weights(Z, V, tau=0.2).argmax(axis=1)).all()


def test_without_strength_the_domain_changes_nothing_and_with_it_the_common_grows():
    fixed = softmax_weights(Z, V, tau=0.2)
    np.testing.assert_allclose(domain_weights(Z, V, tau=0.2, strength=0), fixed, atol=1e-12)
    common = fixed.mean(axis=0).argmax()
    assert (domain_weights(Z, V, tau=0.2, strength=1)[:, common] > fixed[:, common]).all()


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match=r"k must be 1\.\.15.*got 16"):
        nearest_weights(Z, V, k=16)
    with pytest.raises(ValueError, match=r"between 0 and log\(15\) = 2\.71, got 3"):
        entropy_weights(Z, V, entropy=3)
