"""The probe keeps every image, counts what it cannot read, and its text weight finds what was
planted.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from rali_lab.interpret.interventions import KNOCKOUTS, rate
from rali_lab.interpret.probe import (
    CONFLICT,
    CONTROLS,
    INTACT,
    TEXT_ONLY,
    WITHOUT,
    probe,
    text_weight,
)
from rali_lab.models.vlm import base_folder, load_policy
from rali_lab.reasoner.prompts import score_answer
from rali_lab.reasoner.rationales import to_table


@pytest.fixture(scope="module")
def committed():
    return load_policy(base_folder())


def answers_of(images, committed):
    words = [
        "There is serious blur: edges are soft and fine detail is lost.",
        "I can see slight noise: grain covers the even areas.",
    ]
    return to_table(
        [p.id for p in images],
        [[score_answer(words[i % 2], 2.0 + i % 2), "no form"] for i in range(len(images))],
    )


def test_every_condition_has_every_image_and_nothing_unread_is_hidden(committed, images):
    table = answers_of(images, committed)
    table.loc[table["image"] == "p5", "status"] = "broken"
    found = probe(*committed, images, table, samples=2)
    assert set(found.ratings["condition"]) == {
        INTACT,
        WITHOUT,
        TEXT_ONLY,
        CONFLICT,
        *CONTROLS,
        *KNOCKOUTS,
    }
    for _, rows in found.ratings.groupby("condition"):
        assert rows["image"].tolist() == [p.id for p in images]
        assert rows["score"].isna().tolist() == [False] * 5 + [True]
    assert found.unread == 7
    assert len(found.conflict) == len(found.attention) == 5
    shares = found.attention.filter(like="share_")
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)


def test_the_same_seed_gives_the_same_probe(committed, images):
    table = answers_of(images, committed)
    first, again = (probe(*committed, images, table, samples=2, seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(first.ratings, again.ratings)
    pd.testing.assert_frame_equal(first.conflict, again.conflict)


def test_text_alone_is_rated_by_what_it_says(committed):
    torch.manual_seed(0)
    found = rate(
        *committed,
        None,
        [
            "There is serious blur: edges are soft and fine detail is lost.",
            "I can see slight noise: grain covers the even areas.",
        ],
        samples=200,
    )
    serious, slight = np.nanmean(found, axis=1)
    assert slight - serious > 0.1


@pytest.mark.parametrize(
    ("image", "text", "expected"), [(1.0, 0.0, 0.0), (0.0, 1.0, 1.0), (0.5, 0.5, 0.5)]
)
def test_the_text_weight_finds_what_was_planted(image, text, expected):
    rng = np.random.default_rng(0)
    own, donor = rng.normal(3, 1, (2, 400))
    rating = image * own + text * donor + rng.normal(0, 0.05, 400)
    assert text_weight(
        pd.DataFrame({"own": own, "donor": donor, "rating": rating})
    ) == pytest.approx(expected, abs=0.02)


def test_rows_without_a_rating_are_left_out_of_the_weight():
    own, donor = np.random.default_rng(0).normal(3, 1, (2, 50))
    table = pd.DataFrame({"own": own, "donor": donor, "rating": donor})
    table.loc[:5, "rating"] = np.nan
    assert text_weight(table) == pytest.approx(1)
