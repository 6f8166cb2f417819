"""RACT's labels hold words and no scores; other ways of mixing change scores and nothing else."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from rali_lab.data.domains import SETS, SNAPSHOTS, TEST, build_domain
from rali_lab.experiments import mixed_datasets
from rali_lab.experiments.mixed_datasets import MIXINGS, mixed_scores
from rali_lab.reasoner.prompts import score_answer
from rali_lab.reasoner.ract import rescale, text_labels
from rali_lab.reasoner.rationales import to_table


def as_set(images, name, change):
    return [
        replace(p, id=f"{name}-{p.id}", domain=name, mos=change(p.mos), reference=p.mos)
        for p in images
    ]


@pytest.fixture
def sets(images):
    return {
        "photo": as_set(images, "photo", lambda m: m),
        "procedural": as_set(images, "procedural", lambda m: 1 + (m - 1) / 2),
        "snapshots": as_set(images, "snapshots", lambda m: max(1.0, m - 0.5)),
    }


def test_labels_hold_the_reasoning_and_no_score():
    table = to_table(
        ["a", "b"],
        [[score_answer("serious blur", 2.13), "no form"], [score_answer("slight noise", 4.0)] * 2],
    )
    labels = text_labels(table)
    assert labels["text"].tolist() == [
        "<think>serious blur</think>",
        *["<think>slight noise</think>"] * 2,
    ]
    assert not any(c.isdigit() for c in "".join(labels["text"]))


def test_a_image_without_words_is_named():
    table = to_table(["a", "b"], [["nothing"], [score_answer("blur", 2.0)]])
    with pytest.raises(ValueError, match="1 images have no valid rationale, a first"):
        text_labels(table)


def test_scaling_gives_every_set_the_location_of_the_reference(sets):
    scaled = rescale(sets, "photo")
    for name in sets:
        mos = np.array([p.mos for p in scaled[name]])
        wanted = np.array([p.mos for p in sets["photo"]])
        np.testing.assert_allclose(
            (mos.mean(), mos.std()), (wanted.mean(), wanted.std()), atol=0.02
        )
        order = [
            [p.id for p in sorted(part, key=lambda p: p.mos)] for part in (sets[name], scaled[name])
        ]
        assert order[0] == order[1]
    assert [p.mos for p in scaled["photo"]] == pytest.approx([p.mos for p in sets["photo"]])


def test_scaling_is_fitted_on_training_images_alone(sets):
    held = replace(sets["procedural"][0], id="held", split="val", mos=5.0)
    scaled = rescale({**sets, "procedural": [*sets["procedural"], held]}, "photo")
    assert [p.mos for p in scaled["procedural"][:-1]] == [
        p.mos for p in rescale(sets, "photo")["procedural"]
    ]


def test_a_set_without_a_scale_is_named(sets):
    with pytest.raises(ValueError, match="set 'procedural': 6 training scores that do not differ"):
        rescale({**sets, "procedural": [replace(p, mos=3.0) for p in sets["procedural"]]}, "photo")


@pytest.mark.parametrize("how", MIXINGS)
def test_mixings_change_scores_and_nothing_else(sets, how):
    mixed = mixed_scores(sets, how)
    for name in sets:
        assert [replace(p, mos=None, std=None) for p in mixed[name]] == [
            replace(p, mos=None, std=None) for p in sets[name]
        ]
    assert (mixed == sets) == (how == "naive")


def test_an_unknown_mixing_is_an_error(sets):
    with pytest.raises(ValueError, match="unknown mixing 'shaken'; known: naive, scaled"):
        mixed_scores(sets, "shaken")


def test_the_third_set_has_a_harsh_panel_and_no_test_scene():
    made = build_domain(SNAPSHOTS, {"train": 22, "val": 6})
    assert {p.domain for p in made} == {"snapshots"} and SETS[-1] == "snapshots"
    assert not {p.source for p in made} & set(TEST)
    assert np.mean([p.mos - p.reference for p in made]) < -0.5
    assert {d.name for p in made for d in p.distortions} <= set(SNAPSHOTS.types)


def test_words_that_were_checked_in_serve_their_own_seed_and_others_are_made(tmp_path, monkeypatch):
    row = {"image": ["photo-0001"], "sample": [0], "reasoning": ["Serious blur."], "status": ["ok"]}
    (tmp_path / "made").mkdir()
    pd.DataFrame(row).to_parquet(tmp_path / "made" / "words.parquet")
    pd.DataFrame({**row, "reasoning": ["Slight haze."], "seed": [0]}).to_parquet(
        tmp_path / "words.parquet"
    )
    monkeypatch.setattr(mixed_datasets, "kept_tables_folder", lambda profile, study: tmp_path)
    monkeypatch.setattr(
        mixed_datasets,
        "mixing_words",
        lambda profile, seed: SimpleNamespace(path=tmp_path / "made"),
    )
    kept, no_inputs, known = mixed_datasets._reasoning(None, 0)
    assert (
        kept()["reasoning"].tolist() == ["Slight haze."]
        and not no_inputs
        and set(known) == {"words"}
    )
    made, inputs, nothing = mixed_datasets._reasoning(None, 1)
    assert made()["reasoning"].tolist() == ["Serious blur."] and len(inputs) == 1 and nothing == {}
