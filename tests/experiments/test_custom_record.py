"""The record of ten splits: what is written is what `custom_report.with_recorded` reads."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from rali_lab.data.datasets import read_dataset
from rali_lab.experiments import custom_dataset, custom_report, human_ratings
from rali_lab.profiles import get_profile


def test_a_record_is_written_and_read_back(tmp_path, monkeypatch):
    monkeypatch.setenv("RALI_LAB_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setattr(
        human_ratings, "kept_tables_folder", lambda profile, study: tmp_path / study
    )
    reader = SimpleNamespace(predict=lambda x: 3 + np.tanh(x[:, 0]))
    monkeypatch.setattr(custom_dataset, "zero_shot", lambda profile: reader)
    table = custom_dataset.write_example(tmp_path / "mine", n=65)
    human_ratings.main(
        [str(table), "--tuned", "--n-splits", "2", "--no-tune", "--mos-range", "1", "5"]
    )
    images = read_dataset(table, mos_range=(1.0, 5.0))
    live = human_ratings.score_tuned(get_profile("tiny"), images, n_splits=1, tune=False)[0]
    about = ["image", "source", "mos"]
    wide = live.pivot(index=about, columns="method", values="score").reset_index()
    (again,) = custom_report.with_recorded([wide[[*about, "rali"]]], tmp_path / "custom-mine")
    np.testing.assert_allclose(again["ridge_visual"], wide["ridge_visual"], atol=1e-3)
