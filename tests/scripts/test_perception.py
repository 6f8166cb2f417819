"""Perception: levels in and out of logits, honest scores, and a neck that learns what is there to
be learnt.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rali_lab.data.distortions import WORDS
from rali_lab.data.records import Distortion
from scripts.base_model.perception import (
    LEVELS,
    perception_loss,
    perturb,
    read_levels,
    scores,
    targets,
    train_perception,
)


def certain(levels):
    """Logits that say exactly these (B, words) levels."""
    return 20.0 * F.one_hot(levels, LEVELS).float().flatten(1)


@pytest.fixture
def levels():
    generator = torch.Generator().manual_seed(0)
    some = torch.randint(1, LEVELS, (40, len(WORDS)), generator=generator)
    return some * (torch.rand(some.shape, generator=generator) < 0.15)


def test_targets_hold_the_level_of_every_word():
    made = targets(
        [[Distortion("defocus_blur", 2), Distortion("gaussian_blur", 4), Distortion("haze", 1)], []]
    )
    assert made.shape == (2, len(WORDS)) and made.dtype == np.int64 and made[1].sum() == 0
    assert {w: int(n) for w, n in zip(WORDS, made[0], strict=True) if n} == {"blur": 4, "haze": 1}


def test_certain_logits_are_read_back_and_cost_least(levels):
    assert torch.equal(read_levels(certain(levels)), levels)
    right, wrong = (perception_loss(certain(x), levels) for x in (levels, levels.roll(1, 0)))
    assert right < wrong


def test_a_word_is_there_when_its_levels_together_outweigh_absence():
    p = torch.full((1, len(WORDS), LEVELS), 1e-4)
    p[..., 0] = 1.0
    p[0, 0] = torch.tensor(
        [0.4, 0.1, 0.1, 0.2, 0.1, 0.1]
    )  # absent is the likeliest single answer, and yet improbable
    assert read_levels(p.log().flatten(1))[0].tolist() == [3] + [0] * (len(WORDS) - 1)


def test_scores_count_words_by_number_and_levels_where_found():
    truth = torch.zeros(4, len(WORDS), dtype=torch.long)
    truth[1, 0], truth[2, 1], truth[3, 0], truth[3, 2] = 3, 2, 1, 5
    assert scores(truth, truth) == {"clean": 1, "single": 1, "stacked": 1, "level_exact": 1}
    found = truth.clone()
    found[0, 4], found[1, 0], found[3, 2] = 1, 4, 0  # one invented, one level wrong, one overlooked
    assert scores(found, truth) == pytest.approx(
        {"clean": 0, "single": 1, "stacked": 0, "level_exact": 2 / 3}
    )


def test_perturbing_is_repeatable_and_moves_whole_channels_together():
    x = torch.zeros(64, 8, 4, 4)
    a, b = (perturb(x, 0.1, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(a, b) and torch.equal(perturb(x, 0.0), x)
    assert a.std().item() == pytest.approx(0.1 * 2**0.5, rel=0.1)
    assert a.mean((2, 3)).std().item() == pytest.approx(0.1 * (1 + 1 / 16) ** 0.5, rel=0.15)
    assert perturb(torch.zeros(3, 8), 0.1).shape == (3, 8)


def test_a_neck_learns_levels_that_its_statistics_carry(levels):
    statistics, levels = (
        F.one_hot(levels, LEVELS).float().flatten(1).repeat(20, 1),
        levels.repeat(20, 1),
    )
    neck, lines = nn.Linear(statistics.shape[1], 128), []
    options = {"epochs": 9, "batch": 50, "lr": 0.01, "held_out": (statistics[:40], levels[:40])}
    read_out = train_perception(neck, statistics, levels, 128, report=lines.append, **options)
    with torch.inference_mode():
        found = scores(read_levels(read_out(neck(statistics[:40]))), levels[:40])
    assert found["single"] > 0.9 and found["stacked"] > 0.9 and len(lines) == 3


def test_feature_maps_are_averaged_before_they_are_read(levels):
    statistics = torch.rand(40, 6, 4, 4)
    read_out = train_perception(nn.Conv2d(6, 5, 1), statistics, levels, 5, epochs=1, batch=20)
    assert read_out.weight.shape == (len(WORDS) * LEVELS, 5)
