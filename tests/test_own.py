"""Your own pictures: the example can be read, splits keep sources apart, and nothing that was trained on is scored."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rali_lab import own
from rali_lab.data.official import read_dataset
from rali_lab.data.records import Picture
from rali_lab.profiles import get_profile


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    """Tuned trunks go to a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("artifacts")
        patch.setenv("RALI_LAB_ARTIFACTS", str(folder))
        yield folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return read_dataset(own.example(tmp_path_factory.mktemp("own"), n=65))


@pytest.fixture(scope="module")
def looks(pictures):
    """What is seen of the pictures, with zero-shot scores learned from two sets of twenty others."""
    from rali_lab.data.domains import DOMAINS, build_domain

    sets = {name: build_domain(DOMAINS[name], {"test": 20}, seed=3) for name in ("photo", "procedural")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rali_lab.pipeline.training_sets", lambda profile: sets)
        reader = own.zero_shot(get_profile("tiny"))
    looks = own.look(pictures, report=lambda line: None)
    return {**looks, "rali_levels": reader.predict(looks["trunk"])}


@pytest.fixture(scope="module")
def tables(pictures, looks):
    return own.study(pictures, looks=looks, n_splits=2, report=lambda line: None)


def test_every_method_scores_held_out_pictures_of_held_out_sources(pictures, tables):
    source = {p.id: p.source for p in pictures}
    for table in tables:
        assert set(own.METHODS) < set(table.columns) and np.isfinite(table[list(own.METHODS)].to_numpy()).all()
        left = {s for i, s in source.items() if i not in set(table["picture"])}
        assert left and not left & set(table["source"]) and 8 <= len(table) <= 30
    assert set(tables[0]["source"]) != set(tables[1]["source"])


def test_training_does_not_see_held_out_scores(pictures, looks, tables):
    """Other scores for the held-out pictures of a split change nothing that is said of them."""
    from dataclasses import replace

    held = set(tables[0]["picture"])
    lied = [replace(p, mos=6 - p.mos) if p.id in held else p for p in pictures]
    again = own.study(lied, looks=looks, n_splits=1, report=lambda line: None)[0]
    pd.testing.assert_frame_equal(again.drop(columns="mos"), tables[0].drop(columns="mos"), atol=1e-6)


def test_a_tuned_trunk_is_kept_and_can_be_left_out(store, pictures, looks, tables):
    made = sorted(store.glob("tuned-*"))
    assert len(made) >= 2
    again = own.study(pictures, looks=looks, n_splits=1, report=lambda line: None)[0]
    pd.testing.assert_frame_equal(again, tables[0])
    assert sorted(store.glob("tuned-*")) == made
    without = own.study(pictures, looks=looks, n_splits=1, tune=False, report=lambda line: None)
    assert set(tables[0]) - set(without[0]) == {"rali_tuned", "ridge_tuned"}
    pd.testing.assert_frame_equal(without[0], tables[0].drop(columns=["rali_tuned", "ridge_tuned"]))
    page = own.page("mine", "", own.summarise(without, n_boot=20), 65, 1)
    assert "ridge_visual" in page and "tuned" not in page


def test_zero_shot_scores_lie_on_the_scale_and_come_only_when_asked_for(pictures, looks):
    assert ((looks["rali_levels"] >= 1) & (looks["rali_levels"] <= 5)).all() and np.ptp(looks["rali_levels"]) > 0.1
    others = {k: v for k, v in looks.items() if k != "rali_levels"}
    plain = own.study(pictures, looks=others, n_splits=1, tune=False, report=lambda line: None)
    assert "rali_levels" not in plain[0]


def test_the_summary_is_paired_with_the_ridge(tables):
    found = own.summarise(tables, n_boot=40)
    ridge = found[found["method"] == "ridge_visual"]
    assert (ridge[["minus_ridge", "minus_low", "minus_high"]] == 0).all(axis=None)
    assert (found["ci_low"] <= found["value"]).all() and (found["value"] <= found["ci_high"]).all()
    page = own.page("mine", "what was found", found, 65, 2)
    assert page.startswith("# mine: 65 rated pictures") and all(f"| `{m}` |" in page for m in own.METHODS) and "nan" not in page


def test_too_few_pictures_or_one_score_are_refused(pictures):
    with pytest.raises(ValueError, match="10 pictures of .* sources are too few; give 60 pictures of five sources or more"):
        own.study(pictures[:10])
    flat = [Picture(id=str(i), domain="d", source=str(i), split="test", mos=3.0, array=np.zeros((32, 32, 3), np.uint8)) for i in range(60)]
    with pytest.raises(ValueError, match="all 60 scores are 3; nothing can be predicted"):
        own.study(flat)


@pytest.fixture(scope="module")
def fitted(pictures):
    return {tune: own.fit(pictures, tune=tune, report=lambda line: None) for tune in (False, True)}


def test_a_fitted_scorer_says_what_the_reader_says(pictures, looks, fitted):
    """A RALI scorer whose basis are the level texts gives the scores of the map it was made from, and is tuned beyond it."""
    from rali_lab.rali import levels
    from rali_lab.rali.clip import embed_texts, load_base_clip

    mos, shown = np.array([p.mos for p in pictures]), [p.pixels() for p in pictures]
    reader = levels.fit_levels(looks["trunk"], mos, [p.source for p in pictures], embed_texts(load_base_clip(), levels.TEXTS))
    plain, tuned = (fitted[tune].predict(shown) for tune in (False, True))
    np.testing.assert_allclose(plain, reader.read(looks["trunk"]), atol=1e-3)
    assert np.square(tuned - mos).mean() < np.square(plain - mos).mean()


def test_a_fitted_scorer_can_be_kept_and_asked_why(pictures, fitted, tmp_path):
    from rali_lab.rali import levels
    from rali_lab.rali.scorer import RaliScorer

    again, shown = RaliScorer.load(fitted[True].save(tmp_path / "mine")), [p.pixels() for p in pictures[:3]]
    np.testing.assert_array_equal(again.predict(shown), fitted[True].predict(shown))
    why = again.explain(shown[0], k=5)
    assert set(why.words["text"]) == set(levels.TEXTS) and why.basis["weight"].sum() == pytest.approx(1)
    assert why.score == pytest.approx(again.predict(shown)[0], abs=1e-6)
    with pytest.raises(ValueError, match="were trained on"):
        again.predict(shown, ids=[p.id for p in pictures[:3]])


def test_a_fitted_scorer_can_be_exported(pictures, fitted, tmp_path):
    from rali_lab.rali.export import OnnxScorer, export_onnx

    shown = [p.pixels() for p in pictures[:3]]
    found = OnnxScorer(export_onnx(fitted[True], tmp_path / "mine.onnx")).predict(shown)
    np.testing.assert_allclose(found, fitted[True].predict(shown), atol=1e-3)


def test_a_fit_that_cannot_be_is_an_error(pictures, monkeypatch):
    from dataclasses import replace

    quiet = {"report": lambda line: None}
    with pytest.raises(ValueError, match="are too few; give 60 pictures"):
        own.fit(pictures[:20], **quiet)
    small = replace(pictures[1], id="tiny", path=None, array=np.zeros((31, 40, 3), np.uint8))
    with pytest.raises(ValueError, match="picture 'tiny' is 40 x 31 pixels"):
        own.fit([pictures[0], small, *pictures[2:]], **quiet)
    monkeypatch.setattr("rali_lab.lab.machine.hardware", lambda: {"memory_available": 1000})
    with pytest.raises(ValueError, match="tuning on 65 pictures takes .* GB of memory, 0.0 GB are free"):
        own.fit(pictures, **quiet)
