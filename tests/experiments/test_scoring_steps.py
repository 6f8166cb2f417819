"""What is asked of the fitted steps of RALI, on data whose answer is known."""

from functools import partial

import numpy as np
import pytest

from rali_lab.data.records import Distortion, RatedImage, mos_of
from rali_lab.evaluate import plcc
from rali_lab.experiments import scoring_steps as steps
from rali_lab.rali.basis import binned_kmeans, softmax_score
from rali_lab.rali.scorer import RaliScorer, load_scorer
from rali_lab.reasoner.prompts import describe, findings, score_answer
from rali_lab.reasoner.rationales import to_table

BLACK = np.zeros((8, 8, 3), np.uint8)


def unit(rng, n, d=6):
    z = rng.normal(size=(n, d))
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def image(name, *distortions):
    return RatedImage(name, "photo", name, "test", mos=3.0, distortions=distortions, array=BLACK)


@pytest.fixture(scope="module")
def embedded():
    z = np.random.default_rng(0).normal(size=(240, 6))
    return z, 3 + 1.5 * np.tanh(z[:, 0])


def test_retrieval_finds_what_belongs_together_and_nothing_when_permuted():
    z, rng = unit(np.random.default_rng(0), 200), np.random.default_rng(1)
    own = np.eye(200, dtype=bool)
    margin, top1 = steps.retrieval(z, z, own)
    assert top1 == 1 and margin > 0.9
    nulls = np.array([steps.retrieval(z, z, own[rng.permutation(200)]) for _ in range(20)])
    assert abs(nulls.mean(axis=0)).max() < 0.03
    table = steps.retrieval_table({"same": z, "other": unit(rng, 200)}, z, own)
    assert table.loc["same"].tolist() == [margin, top1, table.iloc[0, 2]]
    assert table.iloc[0, 2] < 0.1 and abs(table.loc["other", "margin"]) < 0.1


def test_a_plane_is_fitted_on_one_set_and_holds_all_of_flat_ones():
    flat = np.random.default_rng(0).normal(size=(30, 2)) @ np.ones((2, 5))
    places, share = steps.project({"other": flat + 9, "flat": flat}, "flat", np.arange(30.0))
    assert share == pytest.approx(1)
    assert list(places) == ["x", "y", "view", "mos"] and len(places) == 60
    centre = places.groupby("view")[["x", "y"]].mean()
    np.testing.assert_allclose(centre.loc["flat"], 0, atol=1e-9)
    assert np.linalg.norm(centre.loc["other"]) == pytest.approx(9 * np.sqrt(5))


def test_crowding_counts_every_bin_and_every_basis_vector(embedded):
    found = steps.crowding(*embedded, {"few": (4, 9), "many": (100, 120)})
    assert found.loc["empty bins", "few"] == 0 < found.loc["empty bins", "many"]
    assert found.loc["images per basis vector"].tolist() == [240 / 9, 2]
    share = found.loc["bins with one cluster, of those not empty"]
    assert share["few"] == 0 < share["many"] < 1  # nine clusters for four bins: two and more each


def test_a_sweep_is_the_score_at_each_temperature(embedded):
    z, mos = embedded
    basis, taus = binned_kmeans(z, mos, n_bins=8, n_basis=12), np.array([0.05, 1.0, 100.0])
    sweep, scores = steps.temperature_sweep(z, basis, mos, taus)
    np.testing.assert_array_equal(scores[1], softmax_score(z, *basis, tau=1.0))
    assert sweep["spread"].is_monotonic_decreasing
    assert sweep["plcc"].tolist() == [plcc(row, mos) for row in scores]
    np.testing.assert_allclose(sweep["relative_spread"] * mos.std(), sweep["spread"])


def test_a_refit_changes_what_is_asked_and_nothing_else(embedded):
    z, mos = embedded
    parts = {"train": (z[::2], mos[::2]), "validation": (z[1::2], mos[1::2])}
    scorer = RaliScorer(n_components=4, n_bins=8, n_basis=12, fine_tune_epochs=2)
    table = steps.refit(scorer, [{"tau": 0.07}, {"tau": 1.0}], **parts)
    assert list(table.index) == ["tau = 0.07", "tau = 1"]
    again = scorer.fit(*parts["train"], validation=parts["validation"])
    out = again.predict_embeddings(z[1::2])
    assert table.loc["tau = 0.07", "PLCC"] == plcc(out, mos[1::2])
    assert table["spread over that of pseudo-MOS"].is_monotonic_decreasing
    assert scorer.tau == 0.07


def test_texts_are_compared_with_the_degradations_of_their_images():
    blurred = image("a", Distortion("defocus_blur", 4), Distortion("shot_noise", 2))
    clean, rng = image("b"), np.random.default_rng(0)
    true = [describe(findings(p.distortions), rng) for p in (blurred, clean)]
    half = [describe(findings(blurred.distortions[:1]), rng), true[1]]
    quoted = {"true": true, "half": half, "wrong": true[::-1]}
    table = steps.naming_table([blurred, clean], quoted).set_index("domain")
    assert table["true: all right"].all() and table["true: one right"].all()
    assert table["half: one right"].all() and table["half: all right"].tolist() == [False, True]
    assert not table[["wrong: one right", "wrong: all right"]].to_numpy().any()
    with pytest.raises(ValueError, match="shorter|longer"):
        steps.naming_table([blurred, clean], {"short": true[:1]})


def test_the_first_valid_rationale_of_each_image_is_listed():
    shown = [image("b"), image("a")]
    answers = [["no form", score_answer("Serious blur.", 2.0), score_answer("Slight haze.", 3.0)]]
    table = to_table(["a", "b"], answers * 2)
    found = steps.first_rationales(shown, table)
    assert found["image"].tolist() == ["b", "a"] and set(found["rationale"]) == {"Serious blur."}
    assert found["rating"].tolist() == [2.5, 2.5]
    np.testing.assert_array_equal(found["mos"], mos_of(shown))


def test_exercises_are_right_only_when_they_are(embedded):
    z, mos = embedded
    rng = np.random.default_rng(0)
    assert steps.check_half_weight(1.0, 100).startswith("not yet")
    assert steps.check_null(rng.normal(size=200), 5.0).startswith("right")
    assert steps.check_null(rng.normal(size=200) + 1, 5.0).startswith("not yet")
    assert steps.check_null([0.0] * 99, 5.0).startswith("not yet")
    make = partial(RaliScorer, n_components=4, n_basis=12, fine_tune_epochs=0)
    whole, few = (make(n_bins=n).fit(z, mos) for n in (10, 5))
    assert steps.check_few_bins(few, whole, z, mos).startswith("right: PLCC 0.")
    assert steps.check_few_bins(whole, whole, z, mos).startswith("not yet")


def test_a_damaged_scorer_is_refused_without_naming_its_folder(tmp_path):
    saved = load_scorer().save(tmp_path / "rali")
    message = steps.refusal_of_damage(saved)
    assert "sha256" in message and "..." in message and str(tmp_path) not in message
