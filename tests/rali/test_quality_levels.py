"""Texts of quality levels: the closed form finds the score, fixed and deep blocks make the trunk,
tuning moves the deep blocks alone, and the kernel map carries over to other sets.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import timm
import torch

from rali_lab.models.clip import embed_texts, load_base_clip
from rali_lab.models.towers import load_lite0
from rali_lab.rali import quality_levels
from rali_lab.rali.baselines import visual_features
from rali_lab.rali.quality_levels import (
    FIXED,
    TEXTS,
    CachedTrunkFeatures,
    KernelLevels,
    fit_across_sets,
    fit_levels,
    tune,
)


@pytest.fixture(scope="module")
def texts():
    return embed_texts(load_base_clip(), TEXTS)


@pytest.fixture(scope="module")
def images():
    """Twenty patterns, ever paler: two sizes, so that both ways of batching are used."""
    rng = np.random.default_rng(0)
    out = []
    for i in range(20):
        size = (64, 64) if i % 4 else (64, 80)
        out.append(
            (128 + rng.normal(size=(*size, 3)) * (60 - 2.5 * i)).clip(0, 255).astype(np.uint8)
        )
    return out


@pytest.fixture(scope="module")
def trunk():
    return load_lite0(timm.create_model("lite0_stats_s32", num_classes=0)).eval()


def test_the_closed_form_reads_a_score_that_is_there(texts):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 30)) * np.arange(1, 31)
    mos = 3 + np.tanh(x[:, 0] + rng.normal(size=200) * 0.1)
    groups = [str(i // 2) for i in range(200)]
    levels = fit_levels(x[:150], mos[:150], groups[:150], texts)
    read = levels.predict(x[150:])
    assert np.corrcoef(read, mos[150:])[0, 1] > 0.9 and abs(np.mean(read - mos[150:])) < 0.2
    assert torch.allclose(
        levels.embed(torch.from_numpy(x).float()).norm(dim=1), torch.ones(200), atol=1e-5
    )
    assert (np.diff(levels.scores.numpy()) > 0).all()


def test_fixed_and_deep_blocks_make_the_trunk(images, trunk):
    features = CachedTrunkFeatures(images, trunk)
    whole = visual_features(images, tower="lite0_stats_s32")
    made = features.all_statistics(trunk.blocks[FIXED:], range(20))
    assert made.shape == whole.shape
    # The output of the fixed blocks is stored in bfloat16.
    assert np.corrcoef(made.ravel(), whole.ravel())[0, 1] > 0.9999
    mirrored = features.statistics(trunk.blocks[FIXED:], [3], [1]).detach().double().numpy()
    turned = visual_features([images[3][:, ::-1].copy()], tower="lite0_stats_s32")
    assert np.abs(mirrored - turned).mean() < 0.3 * np.abs(mirrored - whole[[0]]).mean()


def test_tuning_learns_and_moves_only_the_deep_blocks(images, trunk, texts):
    mos, groups = np.linspace(4.5, 1.5, 20), [str(i) for i in range(20)]
    noise = np.random.default_rng(2).permutation(mos)  # scores that the closed form cannot read
    own = copy.deepcopy(trunk)
    features, deep = CachedTrunkFeatures(images, own), own.blocks[FIXED:]
    levels = fit_levels(features.all_statistics(deep, range(20)), mos, groups, texts)
    held = copy.deepcopy(levels)

    def error():
        return np.abs(levels.predict(features.all_statistics(deep, range(20))) - noise).mean()

    before, lines = error(), []
    options = {"epochs": 8, "lr": 1e-3, "batch_size": 8, "report": lines.append}
    tune(levels, deep, features, range(20), noise, **options)
    assert error() < 0.8 * before and len(lines) == 8
    for name, value in own.state_dict().items():
        same = torch.equal(value, trunk.state_dict()[name])
        fixed = (
            not name.startswith("blocks.")
            or int(name.split(".")[1]) < FIXED
            or "running" in name
            or "num_batches" in name
        )
        assert same or not fixed, name
    moved = [
        not torch.equal(p, q)
        for p, q in zip(deep.parameters(), trunk.blocks[FIXED:].parameters(), strict=True)
    ]
    assert all(moved)
    assert all(
        torch.equal(getattr(levels, k), getattr(held, k))
        for k in ("mean", "std", "weight", "bias", "texts", "scores")
    )


def test_tuning_repeats_and_rows_are_images(images, trunk, texts):
    """The same seed gives the same trunk, and an image outside `rows` has no part in it."""
    mos, groups = np.linspace(4.5, 1.5, 20), [str(i) for i in range(20)]

    def tuned(shown):
        own = copy.deepcopy(trunk)
        features, deep = CachedTrunkFeatures(shown, own), own.blocks[FIXED:]
        first = CachedTrunkFeatures(images, own).all_statistics(deep, range(10))
        levels = fit_levels(first, mos[:10], groups[:10], texts)
        tune(levels, deep, features, range(10), mos[:10], epochs=1, report=lambda line: None)
        return features.all_statistics(deep, range(10))

    others = [*images[:10], *(255 - p for p in images[10:])]
    assert np.array_equal(tuned(images), tuned(others))


EYE = np.eye(5)


def three_sets(seed: int = 0):
    """Three sets of one curved law, of which each shows another stretch."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(240, 3)) + np.repeat([-0.5, 0.0, 0.5], 80)[:, None]
    return X, 3 + 1.9 * np.sin(1.5 * X[:, 0]), np.repeat(["a", "b", "c"], 80)


def test_a_curved_law_carries_over_to_a_set_that_was_left_out():
    X, quality, names = three_sets()
    held = names == "b"
    levels = fit_across_sets(X[~held], quality[~held], names[~held], EYE)
    scores = levels.predict(X[held])
    straight = X[held] @ np.linalg.lstsq(X[~held], quality[~held] - 3, rcond=None)[0]
    assert np.corrcoef(scores, quality[held])[0, 1] > max(
        0.9, np.corrcoef(straight, quality[held])[0, 1] + 0.05
    )
    assert ((scores >= 1) & (scores <= 5)).all()


def test_the_constants_are_those_that_rank_sets_left_out_best(monkeypatch):
    X, quality, names = three_sets()
    monkeypatch.setattr(quality_levels, "GAMMAS", (1.0, 1000.0))
    monkeypatch.setattr(quality_levels, "ALPHAS", (0.1, 1e6))
    chosen = fit_across_sets(X, quality, names, EYE)
    assert (chosen.gamma, chosen.alpha) == (1.0, 0.1)


def test_units_of_a_feature_do_not_matter():
    X, quality, _ = three_sets()
    first, second = (
        KernelLevels(EYE).fit(X * scale, quality).predict(X * scale)
        for scale in (1.0, np.array([1.0, 100.0, 0.01]))
    )
    np.testing.assert_allclose(first, second, atol=1e-3)


@pytest.mark.parametrize("wrong", [0.5, 5.5, np.nan])
def test_quality_off_the_scale_is_refused(wrong):
    X, quality, _ = three_sets()
    quality[3] = wrong
    with pytest.raises(ValueError, match=r"quality must lie in 1\.\.5"):
        KernelLevels(EYE).fit(X, quality)


def test_one_set_cannot_be_left_out():
    X, quality, names = three_sets()
    with pytest.raises(ValueError, match="all images are of the set 'a'"):
        fit_across_sets(X, quality, np.full(len(names), "a"), EYE)
