"""The exported scorer scores as the scorer does, for images of any size, and a file that is none is
named.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from rali_lab.data.content import photographs
from rali_lab.models.towers import to_pixels
from rali_lab.rali.onnx_export import OnnxScorer, ScoringGraph, export_onnx, quantise
from rali_lab.rali.scorer import RaliScorer, load_scorer

slow = pytest.mark.slow
IMAGES = [photographs(s, count=1)[0] for s in ("chelsea", "flower", "life")]
ODD = [IMAGES[0][:90, :71].copy(), IMAGES[1], IMAGES[1][::-1].copy(), IMAGES[2][:40, :128].copy()]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    scorer = load_scorer()
    return scorer, export_onnx(scorer, tmp_path_factory.mktemp("onnx") / "rali.onnx")


@slow
@pytest.mark.parametrize("batch", [1, 4])
def test_scores_agree_on_images_of_any_size(exported, batch):
    scorer, file = exported
    np.testing.assert_allclose(
        OnnxScorer(file).predict(IMAGES + ODD, batch=batch), scorer.predict(IMAGES + ODD), atol=1e-3
    )
    assert OnnxScorer(file).predict([]).shape == (0,)


@slow
def test_the_file_is_whole_and_small(exported):
    _, file = exported
    assert [f.name for f in file.parent.iterdir()] == ["rali.onnx"]
    assert file.stat().st_size < 2_000_000


@slow
def test_the_graph_is_the_scorer(exported):
    scorer, _ = exported
    with torch.inference_mode():
        found = ScoringGraph(scorer).eval()(to_pixels(IMAGES)).numpy()
    np.testing.assert_allclose(found, scorer.predict(IMAGES), atol=1e-4)


@slow
def test_eight_bits_still_score(exported, tmp_path):
    scorer, file = exported
    small = OnnxScorer(quantise(file, tmp_path / "int8.onnx", IMAGES * 4))
    found = small.predict(IMAGES + ODD)
    assert ((found >= 1) & (found <= 5)).all()
    assert np.abs(found - scorer.predict(IMAGES + ODD)).mean() < 1


def test_bad_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.onnx: no such file"):
        OnnxScorer(tmp_path / "nothing.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ValueError, match="text.onnx: onnxruntime cannot read it"):
        OnnxScorer(tmp_path / "text.onnx")
    rng = np.random.default_rng(0)
    blind = RaliScorer(n_components=2, n_bins=2, n_basis=3).fit(
        rng.normal(size=(9, 4)), np.linspace(1, 5, 9)
    )
    with pytest.raises(ValueError, match="no image tower to export"):
        export_onnx(blind, tmp_path / "x.onnx")


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_names_the_extra(name, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, name, None)
    message = rf'{name} is not installed; pip install "rali_lab\[onnx\]"'
    with pytest.raises(ModuleNotFoundError, match=message):
        if name == "onnxruntime":
            OnnxScorer(tmp_path / "x.onnx")
        else:
            export_onnx(load_scorer(), tmp_path / "x.onnx")
    if name != "onnxscript":
        with pytest.raises(ModuleNotFoundError, match=message):
            quantise(tmp_path / "x.onnx", tmp_path / "y.onnx", IMAGES)
