"""Evaluation on rated sets: every image keeps its row, runs resume, and the paper's numbers stand
under the paper's names.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from rali_lab.paper import evaluation
from rali_lab.paper.__main__ import main


@pytest.mark.parametrize("kind", ["rali", "reasoner"])
def test_evaluation_keeps_every_image_and_resumes(
    kind, request, koniq, tmp_path, capsys, monkeypatch
):
    model = request.getfixturevalue("rali" if kind == "rali" else "qwen")
    args = ["evaluate", f"--{kind}", str(model), "--data", f"koniq={koniq}", "--out", str(tmp_path)]
    unscored = kind == "reasoner"  # a random reasoner gives no rating, which is reported
    assert main([*args, "--max-samples", "3"]) == int(unscored)
    first = pd.read_parquet(tmp_path / "predictions.parquet")
    assert first["image"].tolist() == [f"koniq10k/{i}.jpg" for i in (10, 11, 12)]
    assert first["score"].isna().all() == unscored and set(first["status"]) == {
        "no readable score" if unscored else "ok"
    }
    assert main(args) == 2 and "pass --resume" in capsys.readouterr().err
    asked = []
    real = evaluation._scored
    monkeypatch.setattr(
        evaluation,
        "_scored",
        lambda s, n, images: asked.extend(p.id for p in images) or real(s, n, images),
    )
    assert main([*args, "--resume"]) == int(unscored)
    assert (
        asked == ["koniq10k/13.jpg"] and len(pd.read_parquet(tmp_path / "predictions.parquet")) == 4
    )
    about = json.loads((tmp_path / "run.json").read_text())
    assert about["about"]["kind"] == kind and about["sets"] == {"koniq": 4} and about["provenance"]
    assert (tmp_path / "table.csv").exists()


def test_predictions_of_two_models_are_not_mixed(rali, koniq, tmp_path, capsys):
    args = ["evaluate", "--rali", str(rali), "--data", f"koniq={koniq}", "--out", str(tmp_path)]
    assert main(args) == 0
    run = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(
        json.dumps({**run, "about": {**run["about"], "weights": "other"}})
    )
    assert main([*args, "--resume"]) == 2
    assert "were made with another weights; give another --out" in capsys.readouterr().err


def test_a_broken_image_is_a_row_without_score_and_an_exit_code(rali, koniq, tmp_path, capsys):
    copy = tmp_path / "koniq"
    shutil.copytree(koniq, copy)
    (copy / "1024x768" / "11.jpg").write_bytes(b"no image")
    assert (
        main(
            [
                "evaluate",
                "--rali",
                str(rali),
                "--data",
                f"koniq={copy}",
                "--out",
                str(tmp_path / "out"),
            ]
        )
        == 1
    )
    rows = pd.read_parquet(tmp_path / "out" / "predictions.parquet").set_index("image")
    assert rows["score"].isna().sum() == 1 and "11.jpg" in rows.loc["koniq10k/11.jpg", "status"]
    assert "koniq10k/11.jpg first" in capsys.readouterr().err


def test_the_table_stands_next_to_the_papers_and_never_under_its_name():
    rng = np.random.default_rng(0)
    mos = rng.uniform(1, 5, 30)
    rows = pd.DataFrame(
        {
            "set": ["koniq"] * 15 + ["tid2013"] * 15,
            "source": [f"s{i}" for i in range(30)],
            "mos": mos,
            "score": [*(mos[:14] + rng.normal(0, 0.2, 14)), np.nan, *[3.0] * 15],
        }
    )
    table = evaluation.table(rows, method="mine", n_boot=50).set_index("set")
    assert list(table.columns) == [
        "n",
        "unscored",
        "mine PLCC [95 %]",
        "mine SRCC [95 %]",
        "paper: Q-Insight",
        "paper: RALI",
    ]
    assert (
        table.loc["koniq", "paper: RALI"] == "0.939 / 0.922"
        and table.loc["tid2013", "paper: RALI"] == "-"
    )
    assert (table.loc["koniq", "n"], table.loc["koniq", "unscored"]) == (14, 1)
    assert table.loc["tid2013", "mine PLCC [95 %]"] == "collapsed"
