"""The live probe, the controls and the command that checks them in, on a profile of a few images
and single training steps.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest

from rali_lab import experiments
from rali_lab.experiments import kept_tables, studies
from rali_lab.profiles import GrpoOptions, Profile, SftOptions

MINI = Profile(
    "mini",
    {"photo": {"train": 11, "val": 3, "test": 5}, "procedural": {"test": 6}, "novel": {"test": 13}},
    grpo=GrpoOptions(max_steps=1, images_per_step=2, num_generations=4, eval_every=0),
    sft=SftOptions(max_steps=1, answers_per_step=8, eval_every=0),
    rationale_samples=1,
    score_samples=2,
    probe_images=4,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checked_in(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mini")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RALI_LAB_ARTIFACTS", str(folder / "artifacts"))
        patch.setattr(studies, "get_profile", lambda name: MINI)
        patch.setattr(kept_tables, "kept_tables_folder", lambda profile, study: folder / study)
        patch.setattr(studies, "kept_tables_folder", lambda profile, study: folder / study)
        patch.setattr(experiments, "kept_tables_folder", lambda profile, study: folder / study)
        live = experiments.explain(MINI, report=lambda line: None)
        alone = experiments.seed_tables(MINI, "mechanism", live)
        studies.main(["--profile", "mini", "--seeds", "0", "--studies", "mechanism"])
        yield live, alone, experiments.seed_tables(MINI, "mechanism", live), folder / "mechanism"


def test_a_profile_without_tables_has_its_own_run_and_no_controls(checked_in):
    live, alone, _, _ = checked_in
    assert alone.seeds == [0] and not alone.controls and alone.origin == "this run alone"
    pd.testing.assert_frame_equal(
        alone["ratings"][0], pd.read_parquet(live.path / "ratings.parquet")
    )


def test_checked_in_tables_hold_every_model_and_combination(checked_in):
    _, alone, kept, folder = checked_in
    assert kept.controls and set(kept["ratings"][0]["model"]) == {"base", "teacher", "supervised"}
    assert set(kept["scores"][0]["method"]) == {
        "unreasoned",
        "supervised",
        *(f"{v}|{m}" for v, m in experiments.SWAPS),
    }
    mine, theirs = (t["ratings"][0].query("model == 'teacher'") for t in (alone, kept))
    assert mine["score"].to_numpy() == pytest.approx(
        theirs["score"].to_numpy(), abs=1e-4, nan_ok=True
    )
    assert mine["image"].tolist() == theirs["image"].astype(str).tolist() and len(mine) == 13 * 12
    about = json.loads((folder / "provenance.json").read_text())
    assert (
        about["made_by"] == "make bench-seeds"
        and about["seeds"] == [0]
        and len(about["artefacts"]["0"]) == 2
    )


def test_tables_are_stale_when_the_code_or_the_profile_changes_and_can_be_taken_over(
    checked_in, monkeypatch
):
    folder = checked_in[3]
    monkeypatch.setattr(studies, "kept_tables_folder", lambda profile, study: folder.parent / study)
    assert studies.staleness(MINI, "mechanism") is None
    assert "STALE" not in checked_in[2].origin
    other = replace(MINI, score_samples=3)
    why = studies.staleness(other, "mechanism")
    assert (
        "the code has changed since they were made (all seeds)" in why and "make bench-seeds" in why
    )
    assert why in studies.seed_tables(other, "mechanism", checked_in[0]).origin
    before = (folder / "provenance.json").read_text()
    with pytest.raises(ValueError, match="which values were compared"):
        studies.take_over(other, "mechanism", why="renamed", compared=" ")
    studies.take_over(
        other,
        "mechanism",
        why="renamed only",
        compared="the ratings of seed 0, equal to the last digit",
    )
    assert studies.staleness(other, "mechanism") is None
    assert (
        json.loads((folder / "provenance.json").read_text())["taken_over"]["why"] == "renamed only"
    )
    (folder / "provenance.json").write_text(before)


def test_exchanging_a_module_with_itself_changes_nothing(checked_in):
    scores = checked_in[2]["scores"][0].set_index(["method", "image"])["score"]
    assert scores["photo|photo"].notna().any()
    swapped = scores["photo|base"] != scores["photo|photo"]
    assert swapped.any(), "one step of training moved the language module"
