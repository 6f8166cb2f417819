"""Texts of quality levels: the closed form finds the score, its halves make the trunk, and tuning
leaves all but the deep half alone.
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


@pytest.fixture(scope="module")
def texts():
    return embed_texts(load_base_clip(), quality_levels.TEXTS)


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
    reader = quality_levels.fit_levels(x[:150], mos[:150], groups[:150], texts)
    read = reader.read(x[150:])
    assert np.corrcoef(read, mos[150:])[0, 1] > 0.9 and abs(np.mean(read - mos[150:])) < 0.2
    assert torch.allclose(
        reader.embed(torch.from_numpy(x).float()).norm(dim=1), torch.ones(200), atol=1e-5
    )
    assert (np.diff(reader.scores.numpy()) > 0).all()


def test_both_halves_make_the_trunk(images, trunk):
    halves = quality_levels.Halves(images, trunk)
    whole = visual_features(images, tower="lite0_stats_s32")
    made = halves.all_statistics(trunk.blocks[quality_levels.FIXED :], range(20))
    assert made.shape == whole.shape
    assert (
        np.corrcoef(made.ravel(), whole.ravel())[0, 1] > 0.9999
    )  # the first half is kept in bfloat16
    mirrored = (
        halves.statistics(trunk.blocks[quality_levels.FIXED :], [3], [1]).detach().double().numpy()
    )
    turned = visual_features([images[3][:, ::-1].copy()], tower="lite0_stats_s32")
    assert np.abs(mirrored - turned).mean() < 0.3 * np.abs(mirrored - whole[[0]]).mean()


def test_tuning_learns_and_moves_only_the_deep_half(images, trunk, texts):
    mos, groups = np.linspace(4.5, 1.5, 20), [str(i) for i in range(20)]
    noise = np.random.default_rng(2).permutation(mos)  # scores that the closed form cannot read
    own = copy.deepcopy(trunk)
    halves, deep = quality_levels.Halves(images, own), own.blocks[quality_levels.FIXED :]
    reader = quality_levels.fit_levels(halves.all_statistics(deep, range(20)), mos, groups, texts)
    held = copy.deepcopy(reader)

    def error():
        return np.abs(reader.read(halves.all_statistics(deep, range(20))) - noise).mean()

    before, lines = error(), []
    quality_levels.tune(
        reader, deep, halves, range(20), noise, epochs=8, lr=1e-3, batch_size=8, report=lines.append
    )
    assert error() < 0.8 * before and len(lines) == 8
    for name, value in own.state_dict().items():
        same = torch.equal(value, trunk.state_dict()[name])
        fixed = (
            not name.startswith("blocks.")
            or int(name.split(".")[1]) < quality_levels.FIXED
            or "running" in name
            or "num_batches" in name
        )
        assert same or not fixed, name
    moved = [
        not torch.equal(p, q)
        for p, q in zip(
            deep.parameters(), trunk.blocks[quality_levels.FIXED :].parameters(), strict=True
        )
    ]
    assert all(moved)
    assert all(
        torch.equal(getattr(reader, k), getattr(held, k))
        for k in ("mean", "std", "weight", "bias", "texts", "scores")
    )


def test_tuning_repeats_and_rows_are_images(images, trunk, texts):
    """The same seed gives the same trunk, and an image outside `rows` has no part in it."""
    mos, groups = np.linspace(4.5, 1.5, 20), [str(i) for i in range(20)]

    def tuned(shown):
        own = copy.deepcopy(trunk)
        halves, deep = quality_levels.Halves(shown, own), own.blocks[quality_levels.FIXED :]
        first = quality_levels.Halves(images, own).all_statistics(deep, range(10))
        reader = quality_levels.fit_levels(first, mos[:10], groups[:10], texts)
        quality_levels.tune(
            reader, deep, halves, range(10), mos[:10], epochs=1, report=lambda line: None
        )
        return halves.all_statistics(deep, range(10))

    others = [*images[:10], *(255 - p for p in images[10:])]
    assert np.array_equal(tuned(images), tuned(others))
