"""Your own images: the example can be read, splits keep sources apart, and nothing that was trained
on is scored.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rali_lab.data.datasets import read_dataset
from rali_lab.data.records import RatedImage
from rali_lab.experiments import custom_dataset, custom_report
from rali_lab.experiments.fit_scorer import fit_scorer
from rali_lab.profiles import get_profile


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    """Tuned trunks go to a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("artifacts")
        patch.setenv("RALI_LAB_ARTIFACTS", str(folder))
        yield folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return read_dataset(custom_dataset.write_example(tmp_path_factory.mktemp("own"), n=65))


@pytest.fixture(scope="module")
def features(images):
    """What is seen of the images, with zero-shot scores learned from two sets of twenty others."""
    from rali_lab.data.domains import DOMAINS, build_domain

    sets = {
        name: build_domain(DOMAINS[name], {"test": 20}, seed=3) for name in ("photo", "procedural")
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rali_lab.experiments.training_sets", lambda profile: sets)
        reader = custom_dataset.zero_shot(get_profile("tiny"))
    features = custom_dataset.extract_features(images, report=lambda line: None)
    return {**features, "rali_levels": reader.predict(features["trunk"])}


@pytest.fixture(scope="module")
def tables(images, features):
    return custom_dataset.score_splits(
        images, features=features, n_splits=2, report=lambda line: None
    )


def test_every_method_scores_held_out_images_of_held_out_sources(images, tables):
    source = {p.id: p.source for p in images}
    for table in tables:
        assert (
            set(custom_dataset.METHODS) < set(table.columns)
            and np.isfinite(table[list(custom_dataset.METHODS)].to_numpy()).all()
        )
        left = {s for i, s in source.items() if i not in set(table["image"])}
        assert left and not left & set(table["source"]) and 8 <= len(table) <= 30
    assert set(tables[0]["source"]) != set(tables[1]["source"])


def test_training_does_not_see_held_out_scores(images, features, tables):
    """Other scores for the held-out images of a split change nothing that is said of them."""
    from dataclasses import replace

    held = set(tables[0]["image"])
    lied = [replace(p, mos=6 - p.mos) if p.id in held else p for p in images]
    again = custom_dataset.score_splits(
        lied, features=features, n_splits=1, report=lambda line: None
    )[0]
    pd.testing.assert_frame_equal(
        again.drop(columns="mos"), tables[0].drop(columns="mos"), atol=1e-6
    )


def test_a_tuned_trunk_is_kept_and_can_be_left_out(store, images, features, tables):
    made = sorted(store.glob("tuned-*"))
    assert len(made) >= 2
    again = custom_dataset.score_splits(
        images, features=features, n_splits=1, report=lambda line: None
    )[0]
    pd.testing.assert_frame_equal(again, tables[0])
    assert sorted(store.glob("tuned-*")) == made
    without = custom_dataset.score_splits(
        images, features=features, n_splits=1, tune=False, report=lambda line: None
    )
    assert set(tables[0]) - set(without[0]) == {"rali_tuned", "ridge_tuned"}
    pd.testing.assert_frame_equal(without[0], tables[0].drop(columns=["rali_tuned", "ridge_tuned"]))
    page = custom_report.results_page(
        "mine", "", custom_report.summarise(without, n_boot=20), 65, 1
    )
    assert "ridge_visual" in page and "tuned" not in page


def test_zero_shot_scores_lie_on_the_scale_and_come_only_when_asked_for(images, features):
    assert ((features["rali_levels"] >= 1) & (features["rali_levels"] <= 5)).all() and np.ptp(
        features["rali_levels"]
    ) > 0.1
    others = {k: v for k, v in features.items() if k != "rali_levels"}
    plain = custom_dataset.score_splits(
        images, features=others, n_splits=1, tune=False, report=lambda line: None
    )
    assert "rali_levels" not in plain[0]


def test_the_summary_is_paired_with_the_ridge(tables):
    found = custom_report.summarise(tables, n_boot=40)
    ridge = found[found["method"] == "ridge_visual"]
    assert (ridge[["minus_ridge", "minus_low", "minus_high"]] == 0).all(axis=None)
    assert (found["ci_low"] <= found["value"]).all() and (found["value"] <= found["ci_high"]).all()
    page = custom_report.results_page("mine", "what was found", found, 65, 2)
    assert (
        page.startswith("# mine: 65 rated images")
        and all(f"| `{m}` |" in page for m in custom_dataset.METHODS)
        and "nan" not in page
    )


def test_one_pass_gives_the_features_of_both_towers(images, features):
    """RALI's tower is the beginning of the trunk: its features need no pass of their own."""
    from rali_lab.models.image_encoder import embed_images
    from rali_lab.rali.baselines import visual_features
    from rali_lab.rali.scorer import load_scorer

    shown, scorer = [p.pixels() for p in images[:6]], load_scorer()
    small = visual_features(shown, tower="lite0_stats_s8")
    np.testing.assert_allclose(features["small"][:6], small, atol=1e-4)
    np.testing.assert_allclose(
        features["embedding"][:6], embed_images(scorer.visual_, shown), atol=1e-5
    )
    np.testing.assert_allclose(features["rali"][:6], scorer.predict(shown), atol=1e-4)


def test_images_are_looked_at_once(images, features, monkeypatch):
    def refused(*args, **options):
        raise AssertionError("looked again")

    monkeypatch.setattr("rali_lab.rali.baselines.visual_features", refused)
    again = custom_dataset.extract_features(images, report=lambda line: None)
    assert all(np.array_equal(again[k], features[k]) for k in again)
    with pytest.raises(AssertionError, match="looked again"):
        custom_dataset.extract_features(images[1:], report=lambda line: None)


def written_out(tables, methods, n_boot, seed):
    """The draws of `summarise` with every resample written out, PLCC and SRCC (n_boot, 2, m)."""

    def both(table):
        values = table[["mos", *methods]]
        if table["mos"].nunique() < 3:
            return np.full((2, len(methods)), np.nan)
        kinds = ("pearson", "spearman")
        return np.stack([values.corr(method=k)["mos"][methods].to_numpy() for k in kinds])

    rng, names = np.random.default_rng(seed), sorted(set().union(*(t["source"] for t in tables)))
    draws = []
    for _ in range(n_boot):
        drawn, found = [names[k] for k in rng.integers(len(names), size=len(names))], []
        for split in rng.integers(len(tables), size=len(tables)):
            rows = pd.concat([tables[split][tables[split]["source"] == s] for s in drawn])
            if len(rows):
                found.append(both(rows))
        draws.append(np.nanmean(found, axis=0))
    return np.array(draws)


def test_the_intervals_are_those_of_resamples_written_out():
    rng, tables = np.random.default_rng(0), []
    for split in range(3):
        mos = rng.normal(3, 0.8, 24)
        scores = {"rali": mos + rng.normal(0, 1, 24), "ridge_visual": mos + rng.normal(0, 0.5, 24)}
        about = {"image": range(24), "source": rng.choice(list("abcdefghij"[split:]), 24)}
        tables.append(pd.DataFrame({**about, "mos": mos, **scores}))
    draws = written_out(tables, ["rali", "ridge_visual"], 40, 3)
    found = custom_report.summarise(tables, n_boot=40, seed=3).set_index(["method", "metric"])
    for k, metric in enumerate(("plcc", "srcc")):
        for m, method in enumerate(("rali", "ridge_visual")):
            ends = np.quantile(draws[:, k, m], [0.025, 0.975])
            row = found.loc[(method, metric)]
            np.testing.assert_allclose(row[["ci_low", "ci_high"]].to_numpy(float), ends, atol=1e-9)


def test_recorded_methods_are_added_only_to_the_splits_they_belong_to(tmp_path):
    from rali_lab.experiments.kept_tables import keep

    rng, said = np.random.default_rng(0), []
    ids = [[f"p{k}" for k in rng.permutation(20)[:8]] for _ in range(2)]
    long = [pd.DataFrame({"image": i, "source": i, "mos": rng.normal(3, 1, 8)}) for i in ids]
    live = [t.assign(rali=t["mos"] + 0.1) for t in long]
    kept = [t.assign(rali_tuned=t["mos"] + 1)[::-1] for t in live]
    about = ["image", "source", "mos"]
    parts = [
        t.melt(about, var_name="method", value_name="score").assign(seed=k)
        for k, t in enumerate(kept)
    ]
    assert custom_report.with_recorded(live, tmp_path / "none", report=said.append)[0] is live[0]
    keep(tmp_path / "custom", {"scores": parts}, {})
    found = custom_report.with_recorded(live, tmp_path / "custom", report=said.append)
    for t in found:
        np.testing.assert_allclose(t["rali_tuned"], t["mos"] + 1, atol=1e-3)
    other = [live[0].assign(mos=lambda t: t["mos"] + 0.2), live[1]]
    assert (
        "rali_tuned"
        not in custom_report.with_recorded(other, tmp_path / "custom", report=said.append)[0]
    )
    custom_report.with_recorded(live, tmp_path / "custom", seed=1, report=said.append)
    expected = [
        "no scores are recorded",
        "as recorded in custom: rali_tuned",
        "split 1; nothing is",
    ]
    assert [e in line for e, line in zip([*expected, expected[2]], said, strict=True)] == [True] * 4


def test_too_few_images_or_one_score_are_refused(images):
    with pytest.raises(
        ValueError,
        match="10 images of .* sources are too few; give 60 images of five sources or more",
    ):
        custom_dataset.score_splits(images[:10])
    flat = [
        RatedImage(
            id=str(i),
            domain="d",
            source=str(i),
            split="test",
            mos=3.0,
            array=np.zeros((32, 32, 3), np.uint8),
        )
        for i in range(60)
    ]
    with pytest.raises(ValueError, match="all 60 scores are 3; nothing can be predicted"):
        custom_dataset.score_splits(flat)


@pytest.fixture(scope="module")
def fitted(images):
    return {tune: fit_scorer(images, tune=tune, report=lambda line: None) for tune in (False, True)}


def test_a_fitted_scorer_says_what_the_reader_says(images, features, fitted):
    """A RALI scorer whose basis are the level texts gives the scores of the map it was made from,
    and is tuned beyond it.
    """
    from rali_lab.models.clip import embed_texts, load_base_clip
    from rali_lab.rali import quality_levels

    mos, shown = np.array([p.mos for p in images]), [p.pixels() for p in images]
    reader = quality_levels.fit_levels(
        features["trunk"],
        mos,
        [p.source for p in images],
        embed_texts(load_base_clip(), quality_levels.TEXTS),
    )
    plain, tuned = (fitted[tune].predict(shown) for tune in (False, True))
    np.testing.assert_allclose(plain, reader.predict(features["trunk"]), atol=1e-3)
    assert np.square(tuned - mos).mean() < np.square(plain - mos).mean()


def test_a_fitted_scorer_can_be_kept_and_asked_why(images, fitted, tmp_path):
    from rali_lab.rali import quality_levels
    from rali_lab.rali.scorer import RaliScorer

    again, shown = (
        RaliScorer.load(fitted[True].save(tmp_path / "mine")),
        [p.pixels() for p in images[:3]],
    )
    np.testing.assert_array_equal(again.predict(shown), fitted[True].predict(shown))
    why = again.explain(shown[0], k=5)
    assert set(why.texts["text"]) == set(quality_levels.TEXTS) and why.basis[
        "weight"
    ].sum() == pytest.approx(1)
    assert why.score == pytest.approx(again.predict(shown)[0], abs=1e-6)
    with pytest.raises(ValueError, match="were trained on"):
        again.predict(shown, ids=[p.id for p in images[:3]])


@pytest.mark.slow
def test_a_fitted_scorer_can_be_exported(images, fitted, tmp_path):
    from rali_lab.rali.onnx_export import OnnxScorer, export_onnx

    shown = [p.pixels() for p in images[:3]]
    found = OnnxScorer(export_onnx(fitted[True], tmp_path / "mine.onnx")).predict(shown)
    np.testing.assert_allclose(found, fitted[True].predict(shown), atol=1e-3)


def test_a_fit_that_cannot_be_is_an_error(images, monkeypatch):
    from dataclasses import replace

    quiet = {"report": lambda line: None}
    with pytest.raises(ValueError, match="are too few; give 60 images"):
        fit_scorer(images[:20], **quiet)
    small = replace(images[1], id="tiny", path=None, array=np.zeros((31, 40, 3), np.uint8))
    with pytest.raises(ValueError, match="image 'tiny' is 40 x 31 pixels"):
        fit_scorer([images[0], small, *images[2:]], **quiet)
    monkeypatch.setattr("rali_lab.reproduce.machine.hardware", lambda: {"memory_available": 1000})
    with pytest.raises(
        ValueError, match="tuning on 65 images takes .* GB of memory, 0.0 GB are free"
    ):
        fit_scorer(images, **quiet)


def test_scores_that_run_the_other_way_are_refused_before_any_training(images, monkeypatch):
    from dataclasses import replace

    turned, said = [replace(p, mos=6 - p.mos) for p in images], []
    with monkeypatch.context() as patch:
        patch.setattr(
            "rali_lab.rali.baselines.visual_features", lambda *a, **k: pytest.fail("it trains")
        )
        with pytest.raises(
            ValueError,
            match=r"seem to run the other way, .*: SRCC -0\.\d+ .* bundled .*--trust-direction",
        ):
            fit_scorer(turned, tune=False, report=said.append)
    made = fit_scorer(turned, tune=False, trust_direction=True, report=said.append)
    shown = [p.pixels() for p in images]
    assert np.corrcoef(made.predict(shown), [p.mos for p in images])[0, 1] < 0
    monkeypatch.setattr(
        "rali_lab.data.score_direction.agreement_with_scorer",
        lambda images, scorer: "no scorer here",
    )
    fit_scorer(images, tune=False, report=said.append)
    assert "the direction of the scores was not checked: no scorer here" in said
