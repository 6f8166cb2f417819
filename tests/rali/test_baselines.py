"""The ridge on frozen visual features."""

import importlib

import numpy as np
import pytest
import torch
from sklearn.model_selection import GroupKFold

from rali_lab.rali.baselines import (
    ALPHAS,
    READOUTS,
    brisque_features,
    read_scores,
    ridge_scores,
    visual_features,
)


def test_features_do_not_depend_on_the_batch():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (96, 96, 3), dtype=np.uint8) for _ in range(3)]
    together = visual_features(images)
    alone = np.concatenate([visual_features([p]) for p in images])
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-3)


def test_images_of_different_sizes_are_accepted():
    images = [np.zeros((s, 80, 3), np.uint8) for s in (64, 100)]
    assert len(visual_features(images)) == 2


def test_a_feature_that_only_tells_the_source_is_shrunk_away():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 12)
    offset = rng.normal(size=10)[groups]
    signal = rng.normal(size=120)
    X = np.c_[np.eye(10)[groups], signal]
    new = np.c_[np.zeros((50, 10)), rng.normal(size=50)]
    assert np.corrcoef(ridge_scores(X, signal + offset, groups, new), new[:, -1])[0, 1] > 0.99


def test_the_ridge_is_the_closed_form_with_the_penalty_of_least_error_over_sources():
    """One singular value decomposition per fold, for all penalties; folds of different sizes."""

    def path(X, y, new):
        mean, std = X.mean(axis=0), X.std(axis=0)
        u, s, vt = np.linalg.svd((X - mean) / std, full_matrices=False)
        shrunk = s / (s**2 + ALPHAS[:, None]) * (u.T @ (y - y.mean()))
        return y.mean() + shrunk @ (vt @ ((new - mean) / std).T)

    rng = np.random.default_rng(0)
    X, new, groups = rng.normal(size=(45, 60)), rng.normal(size=(7, 60)), np.arange(45) ** 2 % 11
    y = X[:, :5].sum(axis=1) + rng.normal(size=45)
    errors = np.zeros(len(ALPHAS))
    for fit, held in GroupKFold(5).split(X, groups=groups):
        errors += ((path(X[fit], y[fit], X[held]) - y[held]) ** 2).sum(axis=1)
    assert 0 < errors.argmin() < len(ALPHAS) - 1
    expected = path(X, y, new)[errors.argmin()]
    np.testing.assert_allclose(ridge_scores(X, y, groups, new), expected, atol=1e-8)


@pytest.mark.parametrize("readout", READOUTS)
def test_no_readout_knows_the_scores_of_new_images(readout):
    """Features without information: no readout correlates on new ones, whatever it learned by
    heart.
    """
    rng = np.random.default_rng(0)
    Z, y, new = rng.normal(size=(80, 10)), rng.uniform(1, 5, 80), rng.normal(size=(200, 10))
    found = read_scores(readout, Z, y, [f"s{i % 8}" for i in range(80)], new)
    assert found.shape == (200,) and np.isfinite(found).all()
    truth = rng.uniform(1, 5, 200)
    assert np.ptp(found) == 0 or abs(np.corrcoef(found, truth)[0, 1]) < 0.25
    assert 1 < found.mean() < 5


def test_an_unknown_readout_names_the_known_ones():
    with pytest.raises(ValueError, match="unknown readout 'lasso'; known: ridge"):
        read_scores("lasso", np.ones((4, 2)), np.ones(4), list("abcd"), np.ones((1, 2)))


def test_brisque_features_move_with_noise_and_blur_and_not_with_their_neighbours():
    from rali_lab.data.content import photographs
    from rali_lab.data.distortions import apply
    from rali_lab.data.records import Distortion

    clean, rng = photographs("chelsea", count=1)[0], np.random.default_rng(0)
    noisy, blurred = (
        apply(clean, (Distortion(d, 4),), rng) for d in ("gaussian_noise", "gaussian_blur")
    )
    found = brisque_features([clean, noisy, blurred])
    assert found.shape == (3, 36) and np.isfinite(found).all()
    # The shape of the contrasts: noise is Gaussian, blur heavy-tailed.
    assert found[1, 0] > found[0, 0] > found[2, 0]
    np.testing.assert_array_equal(brisque_features([noisy])[0], found[1])


@pytest.mark.parametrize("size", [(96, 128), (65, 91)])
def test_brisque_features_are_what_piq_gives_to_its_regressor(size, monkeypatch):
    """They come from a private function of piq, which may change with any version."""
    module = importlib.import_module("piq.brisque")  # the package has a function of that name
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    given = []
    monkeypatch.setattr(module, "_scale_features", lambda features: given.append(features))
    monkeypatch.setattr(module, "_score_svr", lambda features: torch.zeros(1))
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    module.brisque(pixels, data_range=255.0)
    np.testing.assert_allclose(brisque_features([image]), given[0].numpy(), rtol=1e-6)
