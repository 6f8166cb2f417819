"""The scorer: fitting, predicting, explaining, guarding against leaks."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.base import clone

from rali_lab.models.image_encoder import embed_images
from rali_lab.rali.scorer import RaliScorer


def synthetic(n=600, seed=0):
    """Embeddings on a curve in 12 dimensions: a monotone score, another factor, noise."""
    rng = np.random.default_rng(seed)
    t, other = rng.uniform(-1, 1, n), rng.normal(size=n)
    z = np.stack([np.sin(t), np.cos(t), t, t**2, other, other * t], 1)
    z = np.hstack([z, rng.normal(size=(n, 6))]) + 0.05 * rng.normal(size=(n, 12))
    return z, 3 + 1.9 * np.sin(t * 1.4)


@pytest.fixture
def small():
    return RaliScorer(n_components=6, n_bins=4, n_basis=8, fine_tune_epochs=5)


@pytest.fixture
def fitted(small, clip, images):
    return small.fit(
        images, np.linspace(1, 5, len(images)), model=clip, ids=[f"p{i}" for i in range(24)]
    )


def test_a_monotone_score_is_recovered():
    (z, mos), (z_new, mos_new) = synthetic(), synthetic(seed=1)
    scorer = RaliScorer(n_components=8, n_bins=40, n_basis=60).fit(z, mos)
    assert spearmanr(scorer.predict_embeddings(z_new), mos_new)[0] > 0.95
    permuted = RaliScorer(n_components=8, n_bins=40, n_basis=60).fit(z, np.roll(mos, 99))
    assert spearmanr(permuted.predict_embeddings(z_new), mos_new)[0] < 0.3


def test_fine_tuning_lowers_the_error_and_validation_keeps_the_best_epoch():
    (z, mos), held = synthetic(), synthetic(200, seed=1)
    scorer = RaliScorer(n_components=8, n_bins=40, n_basis=60).fit(z, mos, validation=held)
    h = scorer.history_
    assert h.train_mse.iloc[-1] < h.train_mse.iloc[0] and list(h.epoch) == list(range(31))
    assert np.isclose(
        np.mean((scorer.predict_embeddings(held[0]) - held[1]) ** 2), h.validation_mse.min()
    )
    assert scorer.scores_.min() >= 1 and scorer.scores_.max() <= 5


def test_sklearn_manners(small):
    assert clone(small).get_params() == small.get_params()
    z, mos = synthetic(60)
    first = clone(small).fit(z, mos).predict_embeddings(z)
    np.testing.assert_array_equal(first, clone(small).fit(z, mos).predict_embeddings(z))


def test_predictions_lie_in_range_and_do_not_depend_on_the_batch(fitted, images):
    scores = fitted.predict(images)
    assert (
        scores.shape == (24,)
        and scores.dtype == np.float64
        and ((scores >= 1) & (scores <= 5)).all()
    )
    np.testing.assert_allclose([fitted.predict([p])[0] for p in images], scores, atol=1e-4)
    np.testing.assert_allclose(fitted.predict(images, batch=24), scores, atol=1e-4)
    assert fitted.predict([]).shape == (0,)


def test_the_fitted_tower_is_a_copy(fitted, clip, images):
    before = fitted.predict(images)
    clip.visual.head[-1].weight.data.zero_()
    np.testing.assert_array_equal(fitted.predict(images), before)


def test_explanation_adds_up_to_the_score(fitted, images):
    whole = fitted.explain(images[0], k=8)
    every = whole.basis
    expected = fitted.predict(images[:1])[0]
    assert np.isclose((every.weight * every.score).sum(), expected) and np.isclose(
        whole.score, expected
    )
    assert every.weight.is_monotonic_decreasing and np.isclose(every.weight.sum(), 1)
    assert fitted.explain(images[0]).basis.equals(every.head(3)) and whole.texts.empty


def test_the_texts_that_are_quoted_are_the_nearest_stored_ones(fitted, images, tmp_path):
    scorer = copy.deepcopy(fitted)
    with pytest.raises(ValueError, match="holds no texts"):
        scorer.nearest_texts(images[:1])
    z = scorer._embed(images)
    scorer.store_texts([f"image {i}" for i in range(24)] + ["image 0"], np.concatenate([z, z[:1]]))
    assert len(scorer.texts_) == 24
    assert scorer.nearest_texts(images) == [f"image {i}" for i in range(24)]
    quoted = scorer.explain(images[3], k=2).texts
    assert quoted["text"].iloc[0] == "image 3" and len(quoted) == 2
    assert quoted["similarity"].iloc[0] == pytest.approx(1, abs=1e-5)
    again = RaliScorer.load(scorer.save(tmp_path))
    assert again.nearest_texts(images) == scorer.nearest_texts(images)
    assert again.parameters() == fitted.parameters(), "texts are no part of scoring"
    with pytest.raises(ValueError, match="1 texts but 24 embeddings"):
        scorer.store_texts(["x"], z)


def test_parameters_are_tower_pca_and_basis(fitted):
    pca, basis = 2 * 384 + 6 * 384, 8 * 6 + 8
    assert 130_000 < fitted.parameters() - pca - basis <= 160_000


def test_trained_images_are_refused(fitted, images):
    assert len(fitted.predict(images[:2], ids=["new", "newer"])) == 2
    with pytest.raises(ValueError, match="1 of these images were trained on, the first is 'p3'"):
        fitted.predict(images[:2], ids=["new", "p3"])


def test_bad_input_is_named(small, images):
    z, mos = synthetic(30)
    with pytest.raises(ValueError, match="score 2 is 7.0, expected 1..5"):
        small.fit(z, np.where(np.arange(30) == 2, 7.0, mos))
    with pytest.raises(ValueError, match="score 0 is nan"):
        small.fit(z, np.full(30, np.nan))
    with pytest.raises(ValueError, match="expected 30 scores"):
        small.fit(z, mos[:5])
    with pytest.raises(ValueError, match="fit\\(..., model=...\\)"):
        small.fit(images, mos[:24])


def test_small_images_are_refused(fitted):
    with pytest.raises(ValueError, match="image 0 is 8 x 8 pixels, at least 32 x 32 are needed"):
        fitted.predict([np.zeros((8, 8, 3), np.uint8)])


def test_a_given_basis_is_used_as_it_is(clip, images):
    """Vectors that are the embeddings of some images score these images, when the temperature is
    low, by their own scores.
    """
    z = embed_images(clip, images[:3])
    scorer = RaliScorer.of_basis(clip, z, np.array([1.5, 3.0, 4.5]), tau=1e-6, ids=["a"])
    np.testing.assert_allclose(scorer.predict(images[:3]), [1.5, 3.0, 4.5], atol=1e-3)
    assert scorer.texts_ == [] and scorer.n_basis == 3
    with pytest.raises(ValueError, match="trained on"):
        scorer.predict(images[:1], ids=["a"])
    with pytest.raises(ValueError, match="2 texts but 3 embeddings"):
        RaliScorer.of_basis(clip, z, np.ones(3), texts=["x", "y"])
    with pytest.raises(ValueError, match="3 vectors but 2 scores"):
        RaliScorer.of_basis(clip, z, np.ones(2))
