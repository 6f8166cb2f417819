"""A scorer on disk: what goes out comes back, and what was damaged does not."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys

import numpy as np
import pytest
import safetensors.numpy

from rali_lab.rali.scorer import RaliScorer
from rali_lab.rali.scorer_files import CONFIG, TENSORS


@pytest.fixture
def saved(clip, images, tmp_path):
    scorer = RaliScorer(n_components=6, n_bins=4, n_basis=8, fine_tune_epochs=2)
    scorer.fit(images, np.linspace(1, 5, 24), model=clip, ids=["p0"])
    return scorer, scorer.save(tmp_path / "scorer")


def rewrite(folder, **changes):
    config = json.loads((folder / CONFIG).read_text()) | changes
    (folder / CONFIG).write_text(json.dumps(config))


def test_the_round_trip_is_exact(saved, images):
    scorer, folder = saved
    again = RaliScorer.load(folder)
    np.testing.assert_array_equal(again.predict(images), scorer.predict(images))
    assert again.get_params() == scorer.get_params() and again.parameters() == scorer.parameters()
    with pytest.raises(ValueError, match="trained on"):
        again.predict(images[:1], ids=["p0"])
    assert sorted(p.name for p in folder.iterdir()) == [CONFIG, TENSORS]
    assert (folder / TENSORS).stat().st_size < 1_000_000  # no text tower inside


def test_loading_needs_no_text_side(saved, images, monkeypatch):
    for name in ("open_clip", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it would now fail
    for name in [n for n in sys.modules if n.startswith("rali_lab.rali.")]:
        monkeypatch.delitem(sys.modules, name)
    again = importlib.import_module("rali_lab.rali.scorer").RaliScorer.load(saved[1])
    assert again.predict(images[:1]) == saved[0].predict(images[:1])


def test_corrupted_tensors_are_found_out(saved):
    file = saved[1] / TENSORS
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(
        ValueError, match=rf"{TENSORS}: sha256 is .*, expected .*; copy the folder again"
    ):
        RaliScorer.load(saved[1])


@pytest.mark.parametrize("change", ["drop", "reshape", "surplus"])
def test_wrong_tensors_are_named(saved, change):
    folder = saved[1]
    tensors = safetensors.numpy.load_file(folder / TENSORS)
    if change == "drop":
        del tensors["basis.scores"]
    elif change == "reshape":
        tensors["basis.vectors"] = tensors["basis.vectors"][:, :-1].copy()
    else:
        tensors["extra"] = np.zeros(1)
    safetensors.numpy.save_file(tensors, folder / TENSORS)
    rewrite(folder, sha256=hashlib.sha256((folder / TENSORS).read_bytes()).hexdigest())
    message = {
        "drop": r'Missing key.* "basis.scores"',
        "reshape": r"basis.vectors: .* torch.Size\(\[8, 5\]\) .* torch.Size\(\[8, 6\]\)",
        "surplus": r'Unexpected key.* "extra"',
    }
    with pytest.raises(ValueError, match=f"{TENSORS}: is not what .*{message[change]}.*copy the"):
        RaliScorer.load(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 99},
        {"tower": {"name": "no_such_tower", "hidden": 128, "embed_dim": 384}},
        {"tower": "lite0"},
        {"hyper_parameters": {"wings": 2}},
        {"hyper_parameters": {"n_basis": -1}},
        {"hyper_parameters": {"n_basis": 10**30}},
        {"hyper_parameters": {"n_basis": "8"}},
    ],
)
def test_a_foreign_config_is_named(saved, changes):
    rewrite(saved[1], **changes)
    with pytest.raises(ValueError, match=r"config.json: .*; copy the folder again"):
        RaliScorer.load(saved[1])


def test_sizes_that_the_file_does_not_hold_take_no_memory(saved):
    rewrite(saved[1], hyper_parameters={"n_basis": 10**12, "n_components": 6})
    with pytest.raises(ValueError, match=r"basis.vectors: .*\[8, 6\]\) .*\[1000000000000, 6\]"):
        RaliScorer.load(saved[1])


def test_missing_or_broken_files_are_named(saved, tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match="config.json: no such file; give the folder that RaliScorer.save wrote",
    ):
        RaliScorer.load(tmp_path / "nowhere")
    (saved[1] / CONFIG).write_text("{")
    with pytest.raises(ValueError, match="config.json: cannot be read"):
        RaliScorer.load(saved[1])


def test_a_scorer_without_tower_cannot_be_saved(tmp_path):
    rng = np.random.default_rng(0)
    scorer = RaliScorer(n_components=2, n_bins=2, n_basis=3).fit(
        rng.normal(size=(9, 4)), np.linspace(1, 5, 9)
    )
    with pytest.raises(ValueError, match="no image tower to save"):
        scorer.save(tmp_path)
