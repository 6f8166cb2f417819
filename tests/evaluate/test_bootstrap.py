"""The clustered bootstrap of any statistic: sources and seeds are drawn, however it is computed."""

import numpy as np
import pandas as pd
import pytest

from rali_lab.evaluate.bootstrap import pooled, resampled_means
from rali_lab.evaluate.counted import correlations, text_weights


def conflicts(seed: int, n: int = 60) -> pd.DataFrame:
    """Ratings of an image with another one's text; some could not be read, and sources differ in
    size.
    """
    rng = np.random.default_rng(seed)
    own, donor = rng.normal(3, 0.7, size=(2, n))
    rating = np.where(rng.random(n) < 0.1, np.nan, 0.3 * own + 0.5 * donor + rng.normal(0, 0.3, n))
    return pd.DataFrame(
        {"source": rng.choice(list("abcdefgh"), n), "own": own, "donor": donor, "rating": rating}
    )


def same(found, written):
    """Two estimates agree up to rounding."""
    for key in ("value", "ci_low", "ci_high"):
        assert getattr(found, key) == pytest.approx(getattr(written, key), abs=1e-9)


def test_a_pooled_statistic_has_the_interval_of_its_scenes():
    """Means of 40 scenes with unit variance between them: a standard error of 1 / sqrt(40),
    whatever the rows within.
    """
    rng = np.random.default_rng(0)
    scene = np.repeat(np.arange(40), 5)
    one = pd.DataFrame({"source": scene.astype(str), "x": rng.normal(size=40)[scene]})
    found = pooled([one], lambda t: t["x"].mean(), n_boot=500)
    assert found.value == pytest.approx(one["x"].mean())
    assert (found.ci_high - found.ci_low) / 2 == pytest.approx(
        1.96 * one.groupby("source")["x"].mean().std() / np.sqrt(40), rel=0.15
    )


def test_seeds_that_differ_widen_a_pooled_interval():
    scene, x = np.repeat(np.arange(8), 5), np.random.default_rng(0).normal(3, 1.0, 40)
    one = pd.DataFrame({"source": scene.astype(str), "x": x})
    same, apart = ([one.assign(x=one["x"] + k * i) for i in range(3)] for k in (0, 1))
    narrow, wide = (pooled(t, lambda d: d["x"].mean(), n_boot=200) for t in (same, apart))
    assert wide.ci_high - wide.ci_low > narrow.ci_high - narrow.ci_low + 0.5
    assert wide.n_seeds == 3


def test_a_statistic_that_is_not_a_number_is_an_error():
    with pytest.raises(ValueError, match="not a number for seed 0"):
        pooled([conflicts(0)], lambda t: float("nan"))


def test_counting_draws_gives_the_same_interval_as_writing_them_out():
    from rali_lab.interpret.probe import text_weight

    tables = [conflicts(seed) for seed in range(3)]
    written = pooled(tables, text_weight, n_boot=60)
    same(pooled(tables, text_weights, n_boot=60, counted=True), written)


@pytest.mark.parametrize(("kind", "name"), [("plcc", "pearson"), ("srcc", "spearman")])
def test_counted_correlations_equal_those_of_pandas(kind, name):
    tables = [conflicts(seed).dropna() for seed in range(2)]
    written = pooled(tables, lambda t: t["own"].corr(t["rating"], method=name), n_boot=60)

    def counted(t, counts):
        return correlations(t["own"].to_numpy(), t["rating"].to_numpy(), counts, kind)

    same(pooled(tables, counted, n_boot=60, counted=True), written)


def test_counted_statistics_that_are_not_a_number_are_errors():
    with pytest.raises(ValueError, match="not a number for seed 0"):
        pooled([conflicts(0)], lambda t, counts: np.full(len(counts), np.nan), counted=True)


def test_a_weight_of_the_text_is_undefined_where_nothing_has_a_positive_weight():
    from rali_lab.interpret.probe import text_weight

    falling = conflicts(0).assign(rating=lambda t: -t["own"] - t["donor"])
    assert np.isnan(text_weights(falling, np.ones((2, 60)))).all() and np.isnan(
        text_weight(falling)
    )


def test_a_seed_without_the_drawn_scenes_counts_as_before():
    """Seeds may hold different scenes; a draw of scenes that a drawn seed lacks is no number,
    whichever way it is computed.
    """
    tables = [pd.DataFrame({"source": [s] * 2, "x": [1.0, 2.0]}) for s in "ab"]
    with pytest.raises(ValueError, match="not a number on .* of the draws"):
        pooled(tables, lambda t: t["x"].mean(), n_boot=50)
    with (
        pytest.raises(ValueError, match="not a number on .* of the draws"),
        np.errstate(invalid="ignore"),
    ):
        pooled(
            tables, lambda t, counts: counts @ t["x"] / counts.sum(axis=1), n_boot=50, counted=True
        )


def test_undefined_seeds_are_skipped_only_on_request():
    tables = [pd.DataFrame({"source": [s] * 2, "x": [1.0, 2.0]}) for s in "ab"]

    def mean(t, counts):
        total = counts.sum(axis=1)
        return np.divide(counts @ t["x"], total, out=np.full(len(counts), np.nan), where=total > 0)

    strict, lenient = (
        resampled_means(tables, mean, n_boot=50, skip_undefined=skip) for skip in (False, True)
    )
    assert np.isnan(lenient).sum() < np.isnan(strict).sum() < 50
    assert (lenient[np.isfinite(lenient)] == 1.5).all()
    assert (strict[np.isfinite(strict)] == 1.5).all()


def test_a_statistic_with_several_numbers_is_resampled_as_each_alone():
    tables = [conflicts(seed).dropna() for seed in range(2)]

    def one(t, counts):
        return correlations(t["own"].to_numpy(), t["rating"].to_numpy(), counts, "plcc")

    def both(t, counts):
        return np.stack([one(t, counts), -one(t, counts)])

    draws, drawn = (resampled_means(tables, f, n_boot=40) for f in (one, both))
    assert drawn.shape == (2, 40)
    np.testing.assert_array_equal(drawn, [draws, -draws])
