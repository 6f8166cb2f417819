"""Basis vectors and scores trained end to end: what moves, what is kept, and where scores stay."""

from __future__ import annotations

import numpy as np
import pytest

from rali_lab.rali.basis import softmax_score
from rali_lab.rali.fine_tune import check_scores, fine_tune

OPTIONS = {"tau": 0.2, "lr": 0.05, "seed": 0}


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(200, 5))
    mos = 3 + 1.9 * np.tanh(z[:, 0])
    return z[:12], mos[:12], z, mos


def test_no_epochs_leave_the_basis(data):
    vectors, scores, history = fine_tune(*data, epochs=0, **OPTIONS)
    np.testing.assert_array_equal(vectors, data[0])
    np.testing.assert_array_equal(scores, data[1])
    assert history.epoch.tolist() == [0] and history.validation_mse.isna().all()


def test_training_lowers_the_error_within_the_range_of_scores(data):
    z, mos = data[2:]
    vectors, scores, history = fine_tune(*data, epochs=15, **OPTIONS)
    assert history.train_mse.iloc[-1] < 0.5 * history.train_mse.iloc[0]
    assert (vectors != data[0]).any(axis=1).all() and scores.min() >= 1 and scores.max() <= 5
    found = np.mean((softmax_score(z, vectors, scores, tau=0.2) - mos) ** 2)
    assert found == history.train_mse.iloc[-1]


def test_the_epoch_with_the_least_validation_error_is_kept(data):
    rng = np.random.default_rng(1)
    held = rng.normal(size=(50, 5)), rng.uniform(1, 5, 50)  # nothing to learn: training overfits
    vectors, scores, history = fine_tune(*data, epochs=15, validation=held, **OPTIONS)
    found = np.mean((softmax_score(held[0], vectors, scores, tau=0.2) - held[1]) ** 2)
    assert found == history.validation_mse.min() < history.validation_mse.iloc[-1]


def test_the_seed_decides(data):
    first, again, other = (
        fine_tune(*data, epochs=3, **OPTIONS | {"seed": seed})[1] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("mos", "message"),
    [
        ([1.0, 5.1], r"score 1 is 5.1, expected 1\.\.5; rescale"),
        ([np.nan, 2.0], "score 0 is nan"),
        ([1.0], "expected 2 scores, one per image"),
    ],
)
def test_scores_off_the_scale_are_named(mos, message):
    with pytest.raises(ValueError, match=message):
        check_scores(np.array(mos), 2)
