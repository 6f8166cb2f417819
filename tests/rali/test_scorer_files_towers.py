"""A scorer's folder names a tower: only ours are built, and none that its file could not hold."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from rali_lab.rali.scorer import RaliScorer
from rali_lab.rali.scorer_files import CONFIG, TENSORS


@pytest.fixture
def folder(clip, images, tmp_path):
    scorer = RaliScorer(n_components=6, n_bins=4, n_basis=8, fine_tune_epochs=2)
    return scorer.fit(images, np.linspace(1, 5, 24), model=clip).save(tmp_path / "scorer")


def rewrite(folder, **changes):
    config = json.loads((folder / CONFIG).read_text())
    config["tower"] |= changes
    (folder / CONFIG).write_text(json.dumps(config))


@pytest.mark.parametrize(
    "name",
    [
        "hf_hub:evil/model",
        "local-dir:/somewhere",
        "vit_giant_patch14_224",
        "resnet18",
        ["lite0_stats_s8"],
    ],
)
def test_towers_of_others_are_refused_before_anything_is_built(folder, monkeypatch, name):
    monkeypatch.setattr("timm.create_model", lambda *a, **k: pytest.fail("it is built"))
    rewrite(folder, name=name)
    with pytest.raises(
        ValueError,
        match=(
            r"config.json: .*the tower .* is refused, allowed are lite0_stats_s8, lite0_stats_s16, "
        ),
    ):
        RaliScorer.load(folder)


UNFIT = [
    {"hidden": 10**9},
    {"embed_dim": 10**9},
    {"hidden": -1},
    {"hidden": "8"},
    {"hidden": 5000, "embed_dim": 1},
]


@pytest.mark.parametrize("changes", UNFIT)
def test_heads_that_the_file_cannot_hold_are_refused_before_anything_is_built(
    folder, monkeypatch, changes
):
    monkeypatch.setattr("timm.create_model", lambda *a, **k: pytest.fail("it is built"))
    rewrite(folder, **changes)
    with pytest.raises(
        ValueError, match=r"config.json: .*a head of .* numbers is not what model.safetensors holds"
    ):
        RaliScorer.load(folder)


def test_tensors_that_are_none_are_named(folder):
    (folder / TENSORS).write_bytes(b"x" * 1_000_000)
    config = json.loads((folder / CONFIG).read_text())
    config["sha256"] = hashlib.sha256(b"x" * 1_000_000).hexdigest()
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match="model.safetensors: cannot be read .*; copy the folder again"
    ):
        RaliScorer.load(folder)
