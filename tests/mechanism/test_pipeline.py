"""The live probe, the controls and the command that checks them in, on a profile of a few pictures and single training steps."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from rali_lab import bench_seeds, pipeline
from rali_lab.pipeline import seeds
from rali_lab.profiles import Profile

MINI = Profile(
    "mini", {"photo": {"train": 11, "val": 3, "test": 5}, "procedural": {"test": 6}, "novel": {"test": 13}},
    grpo={"steps": 1, "pictures_per_step": 2, "generations": 4, "eval_every": 0}, sft={"steps": 1, "answers_per_step": 8, "eval_every": 0},
    rationale_samples=1, score_samples=2, probe_pictures=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def checked_in(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mini")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RALI_LAB_ARTIFACTS", str(folder / "artifacts"))
        patch.setattr(bench_seeds, "get_profile", lambda name: MINI)
        patch.setattr(seeds, "kept_tables_folder", lambda profile, study: folder / study)
        patch.setattr(pipeline, "kept_tables_folder", lambda profile, study: folder / study)
        live = pipeline.explain(MINI, report=lambda line: None)
        alone = pipeline.seed_tables(MINI, "mechanism", live)
        bench_seeds.main(["--profile", "mini", "--seeds", "0", "--studies", "mechanism"])
        yield live, alone, pipeline.seed_tables(MINI, "mechanism", live), folder / "mechanism"


def test_a_profile_without_tables_has_its_own_run_and_no_controls(checked_in):
    live, alone, _, _ = checked_in
    assert alone.seeds == [0] and not alone.controls and alone.origin == "this run alone"
    pd.testing.assert_frame_equal(alone["ratings"][0], pd.read_parquet(live.path / "ratings.parquet"))


def test_checked_in_tables_hold_every_model_and_combination(checked_in):
    _, alone, kept, folder = checked_in
    assert kept.controls and set(kept["ratings"][0]["model"]) == {"base", "teacher", "supervised"}
    assert set(kept["scores"][0]["method"]) == {"unreasoned", "supervised", *(f"{v}|{m}" for v, m in pipeline.SWAPS)}
    mine, theirs = (t["ratings"][0].query("model == 'teacher'") for t in (alone, kept))
    assert mine["score"].to_numpy() == pytest.approx(theirs["score"].to_numpy(), abs=1e-4, nan_ok=True)
    assert mine["picture"].tolist() == theirs["picture"].astype(str).tolist() and len(mine) == 13 * 12
    about = json.loads((folder / "provenance.json").read_text())
    assert about["made_by"] == "make bench-seeds" and about["seeds"] == [0] and len(about["artefacts"]["0"]) == 2


def test_exchanging_a_module_with_itself_changes_nothing(checked_in):
    scores = checked_in[2]["scores"][0].set_index(["method", "picture"])["score"]
    assert scores["photo|photo"].notna().any()
    swapped = scores["photo|base"] != scores["photo|photo"]
    assert swapped.any(), "one step of training moved the language module"
