"""The whole line on people's scores: what the teacher is shown, and that nobody is scored on what
was learned from.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rali_lab.data.datasets import read_dataset
from rali_lab.data.records import RatedImage
from rali_lab.experiments import custom_dataset, human_ratings
from rali_lab.profiles import get_profile

pytestmark = pytest.mark.slow


def test_four_crops_lie_in_the_middle_of_the_quarters():
    x = np.arange(400 * 600, dtype=np.uint32).view(np.uint8).reshape(400, 600, 4)[..., :3].copy()
    parts = human_ratings.crops(
        [RatedImage(id="a", domain="own", source="a", split="train", mos=3.0, array=x)]
    )
    assert [p.id for p in parts] == ["a/0", "a/1", "a/2", "a/3"] and {p.mos for p in parts} == {3.0}
    for part, (top, left) in zip(parts, [(36, 86), (36, 386), (236, 86), (236, 386)], strict=True):
        np.testing.assert_array_equal(part.pixels(), x[top : top + 128, left : left + 128])
    narrow = human_ratings.crops(
        [RatedImage(id="b", domain="own", source="b", split="train", array=x[:130, :200].copy())]
    )
    assert {p.pixels().shape for p in narrow} == {(128, 128, 3)}


def test_too_few_sources_are_an_error():
    one = RatedImage(
        id="0",
        domain="own",
        source="0",
        split="train",
        mos=3.0,
        array=np.zeros((32, 32, 3), np.uint8),
    )
    made = [replace(one, id=str(i), source=str(i % 8)) for i in range(60)]
    with pytest.raises(
        ValueError, match="split 0 of 8 sources has 0 images for validation; give 40"
    ):
        human_ratings.score_split(get_profile("tiny"), made, {}, 0)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Images, the sources that each step learned from, and the scores of one split, after the
    shortest of trainings.
    """
    profile = get_profile("tiny")
    short = {
        "images_per_step": 2,
        "num_generations": 4,
        "max_steps": 1,
        "eval_every": 0,
        "degradation_share": 0.0,
    }
    profile = replace(profile, grpo=replace(profile.grpo, **short), score_samples=4)
    made = read_dataset(custom_dataset.write_example(tmp_path_factory.mktemp("own"), n=40))
    images = [
        replace(p, source=p.id, path=None, array=p.pixels().repeat(2, 0).repeat(2, 1)) for p in made
    ]
    start, reinforce = human_ratings.fine_tune_on_scores, human_ratings.reinforce
    rali_scores, learned = human_ratings._rali_scores, {}

    def noted_start(profile, train, val, seed):
        learned["start"] = {p.source for p in [*train, *val]}
        return start(profile, train, val, seed)

    def noted_reinforce(profile, begun, train, val, seed):
        learned["reinforce"] = {p.source for p in [*train, *val]}
        assert begun.name == "people-start"
        return reinforce(profile, begun, train, val, seed)

    def noted_texts(features, mos, texts, fit, new, seed):
        learned["texts"] = {images[i].source for i in (*texts, *fit)}
        return rali_scores(features, mos, texts, fit, new, seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RALI_LAB_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        patch.setattr(
            human_ratings,
            "START",
            replace(human_ratings.START, max_steps=2, answers_per_step=8, eval_every=2),
        )
        patch.setattr(human_ratings, "REINFORCED", short)
        for name, function in (
            ("fine_tune_on_scores", noted_start),
            ("reinforce", noted_reinforce),
            ("_rali_scores", noted_texts),
        ):
            patch.setattr(human_ratings, name, function)
        patch.setattr(
            human_ratings,
            "train_teacher",
            lambda profile, seed: start(profile, images[:20], images[20:22], 0),
        )
        made = human_ratings.score_split(
            profile, images, custom_dataset.extract_features(images), 0
        )
    return images, learned, pd.read_parquet(made.path / "scores.parquet")


def test_all_methods_score_the_same_held_out_images(one):
    images, learned, scores = one
    assert set(scores["method"]) == {
        "base",
        "teacher_zero_shot",
        "supervised",
        "teacher",
        "rali",
        "rali_trunk",
        "ridge_visual",
    }
    sets = [frozenset(part["image"]) for _, part in scores.groupby("method")]
    assert len(set(sets)) == 1 and len(sets[0]) == scores["image"].nunique()
    mos = {p.id: p.mos for p in images}
    assert (scores["mos"] == scores["image"].map(mos)).all()
    assert scores["score"].dropna().between(0, 6).all() and scores["score"].notna().mean() > 0.9
    trained = scores[scores["method"] == "supervised"].set_index("image")["score"]
    assert (
        trained - scores[scores["method"] == "base"].set_index("image")["score"]
    ).abs().max() > 0


def test_nothing_that_is_scored_was_learned_from(one):
    images, learned, scores = one
    assert set(learned) == {"start", "reinforce", "texts"}
    for step, sources in learned.items():
        assert sources and not sources & set(scores["source"]), step
    assert learned["texts"] | set(scores["source"]) == {p.source for p in images}
