"""Every variant rates every image; one that changes nothing equals the scorer it came from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rali_lab import experiments
from rali_lab.profiles import AlignOptions, BasisOptions, GrpoOptions, Profile, SftOptions
from rali_lab.rali.baselines import READOUTS
from rali_lab.rali.scorer import RaliScorer

MINI = Profile(
    "mini",
    {"photo": {"train": 22, "val": 6, "test": 10}, "novel": {"test": 13}},
    grpo=GrpoOptions(max_steps=1, images_per_step=2, num_generations=4, eval_every=0),
    sft=SftOptions(max_steps=1, answers_per_step=8, eval_every=0),
    rationale_samples=2,
    align=AlignOptions(epochs=1),
    rali=BasisOptions(n_components=4, n_bins=4, n_basis=8, fine_tune_epochs=1),
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RALI_LAB_ARTIFACTS", str(tmp_path_factory.mktemp("artifacts")))
        quiet = {"report": lambda line: None}
        tables = [
            pd.read_parquet(step(MINI, **quiet).path / "scores.parquet")
            for step in (experiments.ablate, experiments.ablate_controls)
        ]
        yield (
            tables,
            RaliScorer.load(experiments.fit_rali(MINI).path / "model"),
            experiments.images(MINI),
        )


def test_every_variant_rates_every_test_image(made):
    (table, controls), _, _ = made
    for _, rows in [*table.groupby("method"), *controls.groupby("method")]:
        assert len(rows) == 23 and np.isfinite(rows["score"]).all()
    methods = set(table["method"])
    assert {
        f"{kind}_{readout}" for kind in ("aligned", "unaligned", "raw") for readout in READOUTS
    } <= methods
    assert {
        "rali",
        "no_pca",
        "text_permuted",
        "fresh_rali",
        "dynamic_nearest",
        "brisque",
    } <= methods
    assert set(controls["method"]) == {"text_supervised"}


def test_the_whole_scorer_scores_as_the_saved_one_does(made):
    (table, _), scorer, images = made
    test = [p for p in images if p.split == "test"]
    rows = table[table["method"] == "rali"]
    assert rows["image"].tolist() == [p.id for p in test]
    np.testing.assert_allclose(rows["score"], scorer.predict([p.pixels() for p in test]), atol=1e-3)


def test_variants_differ(made):
    scores = made[0][0].pivot(index="image", columns="method", values="score")
    for other in ("no_pca", "no_binned_kmeans", "no_alignment", "fresh_rali"):
        assert (scores[other] - scores["rali"]).abs().max() > 1e-6, other
