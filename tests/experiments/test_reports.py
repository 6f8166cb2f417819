"""Records and comparisons from tables of scores."""

import numpy as np
import pandas as pd
import pytest

from rali_lab.evaluate.bootstrap import correlations
from rali_lab.experiments.reports import (
    accuracy_records,
    count_records,
    difference,
    domains_of,
    mean_correlation,
    pooled,
    score_of,
    text_weights,
)
from rali_lab.interpret.probe import text_weight


def table(seed: int, n: int = 40) -> pd.DataFrame:
    rng, rows = np.random.default_rng(seed), []
    truth = np.random.default_rng(99).normal(3, 0.8, 2 * n)
    for method, noise in {"teacher": 0.3, "ridge_visual": 1.5, "base": 0.0}.items():
        for i, mos in enumerate(truth):
            score = 3.0 if method == "base" else mos + rng.normal(0, noise)
            domain = "photo" if i < n else "novel"
            rows.append((method, f"{domain}-{i}", domain, f"s{i % 8}", mos, score))
    return pd.DataFrame(rows, columns=["method", "image", "domain", "source", "mos", "score"])


def test_records_cover_every_method_domain_and_metric_with_intervals():
    records = accuracy_records([table(0)], profile="tiny", n_boot=50)
    assert len(records) == 3 * 2 * 2
    teacher = next(r for r in records if r.id == "tiny/teacher/photo/plcc")
    assert (
        teacher.role == "in"
        and teacher.ci_low <= teacher.value <= teacher.ci_high
        and teacher.n == 40
    )


def test_collapsed_scores_are_recorded_as_no_correlation_without_interval():
    base = next(
        r for r in accuracy_records([table(0)], profile="tiny", n_boot=50) if r.method == "base"
    )
    assert base.value == 0 and base.ci_low is None


def test_difference_is_positive_only_for_the_better_method():
    better = difference([table(0)], "teacher", "ridge_visual", role="out", n_boot=100)
    assert better.ci_low > 0
    assert difference([table(0)], "ridge_visual", "teacher", role="out", n_boot=100).ci_high < 0


def test_several_seeds_are_stacked_and_must_rate_the_same_images():
    score, mos, groups = score_of([table(0), table(1)], "teacher", "photo")
    assert score.shape == (2, 40) and mos.shape == groups.shape == (40,)
    other = table(1).assign(mos=lambda t: t["mos"] + 0.5)
    with pytest.raises(ValueError, match="did not rate the same images"):
        score_of([table(0), other], "teacher", "photo")


def test_roles_select_domains():
    assert domains_of([table(0)], "out") == ["novel"]
    assert mean_correlation([table(0)], "teacher", role="in", n_boot=50).n == 40


def test_counts_become_records_without_interval():
    (record,) = count_records({"rali": {"parameters": 10}}, profile="tiny", seeds=1)
    assert record.id == "tiny/rali/-/parameters" and record.ci_low is None


def test_a_pooled_statistic_has_the_interval_of_its_scenes():
    """Means of 40 scenes with unit variance between them: a standard error of 1 / sqrt(40),
    whatever the rows within.
    """
    rng = np.random.default_rng(0)
    scene = np.repeat(np.arange(40), 5)
    one = pd.DataFrame({"source": scene.astype(str), "x": rng.normal(size=40)[scene]})
    value, low, high = pooled([one], lambda t: t["x"].mean(), n_boot=500)
    assert value == pytest.approx(one["x"].mean())
    assert (high - low) / 2 == pytest.approx(
        1.96 * one.groupby("source")["x"].mean().std() / np.sqrt(40), rel=0.15
    )


def test_seeds_that_differ_widen_a_pooled_interval():
    one = table(0).rename(columns={"score": "x"})
    same, apart = ([one.assign(x=one["x"] + k * i) for i in range(3)] for k in (0, 1))
    widths = [
        h - lo
        for _, lo, h in (pooled(t, lambda d: d["x"].mean(), n_boot=200) for t in (same, apart))
    ]
    assert widths[1] > widths[0] + 0.5


def test_a_statistic_that_is_not_a_number_is_an_error():
    with pytest.raises(ValueError, match="not a number for seed 0"):
        pooled([table(0)], lambda t: float("nan"))


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


def test_counting_draws_gives_the_same_interval_as_writing_them_out():
    tables = [conflicts(seed) for seed in range(3)]
    written = pooled(tables, text_weight, n_boot=60)
    np.testing.assert_allclose(
        pooled(tables, text_weights, n_boot=60, counted=True), written, atol=1e-9
    )


@pytest.mark.parametrize(("kind", "name"), [("plcc", "pearson"), ("srcc", "spearman")])
def test_counted_correlations_equal_those_of_pandas(kind, name):
    tables = [conflicts(seed).dropna() for seed in range(2)]
    written = pooled(tables, lambda t: t["own"].corr(t["rating"], method=name), n_boot=60)

    def counted(t, counts):
        return correlations(t["own"].to_numpy(), t["rating"].to_numpy(), counts, kind)

    np.testing.assert_allclose(pooled(tables, counted, n_boot=60, counted=True), written, atol=1e-9)


def test_counted_statistics_that_are_not_a_number_are_errors():
    with pytest.raises(ValueError, match="not a number for seed 0"):
        pooled([table(0)], lambda t, counts: np.full(len(counts), np.nan), counted=True)
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
