"""Correlations: properties, golden values from scipy, and intervals that mean what they say."""

import numpy as np
import pytest
from scipy import stats
from sklearn.isotonic import IsotonicRegression

from rali_lab.evaluate import (
    CollapsedScores,
    compare,
    compare_over_domains,
    correlate,
    fitted,
    mean_over_domains,
    plcc,
    plcc_fitted,
    srcc,
)
from rali_lab.evaluate.counted import correlations, midranks


@pytest.fixture
def rated():
    rng = np.random.default_rng(1)
    mos = rng.uniform(1, 5, 120)
    return mos + rng.normal(0, 0.8, 120), mos


@pytest.mark.parametrize("measure", [plcc, srcc])
def test_self_is_one_and_upside_down_is_minus_one(measure, rated):
    _, mos = rated
    assert measure(mos, mos) == pytest.approx(1)
    assert measure(-mos, mos) == pytest.approx(-1)


@pytest.mark.parametrize("kind", ["plcc", "srcc"])
def test_affine_maps_and_order_of_images_do_not_matter(kind, rated):
    score, mos = rated
    value = correlate(score, mos, kind=kind).value
    order = np.random.default_rng(0).permutation(len(mos))
    assert correlate(3 * score + 7, mos, kind=kind).value == pytest.approx(value)
    assert correlate(score[order], mos[order], kind=kind).value == pytest.approx(value)


def test_srcc_ignores_monotone_maps_and_plcc_does_not(rated):
    score, mos = rated
    assert srcc(np.exp(score), mos) == pytest.approx(srcc(score, mos))
    assert abs(plcc(np.exp(score), mos) - plcc(score, mos)) > 0.01


def test_values_equal_scipy_also_with_ties(rated):
    score, mos = np.round(rated[0]), np.round(rated[1], 1)
    assert correlate(score, mos).value == pytest.approx(stats.pearsonr(score, mos).statistic)
    assert correlate(score, mos, kind="srcc").value == pytest.approx(
        stats.spearmanr(score, mos).statistic
    )


def test_weighted_resamples_equal_resamples_written_out(rated):
    score, mos = np.round(rated[0]), rated[1]
    rng = np.random.default_rng(3)
    counts = rng.multinomial(len(mos), np.full(len(mos), 1 / len(mos)), size=4)
    for row, p, s, ranks in zip(
        counts,
        correlations(score, mos, counts, "plcc"),
        correlations(score, mos, counts, "srcc"),
        midranks(score, counts),
        strict=True,
    ):
        drawn = np.repeat(np.arange(len(mos)), row)
        assert p == pytest.approx(stats.pearsonr(score[drawn], mos[drawn]).statistic)
        assert s == pytest.approx(stats.spearmanr(score[drawn], mos[drawn]).statistic)
        np.testing.assert_allclose(ranks[drawn], stats.rankdata(score[drawn]))


def test_interval_covers_the_true_correlation_about_as_often_as_it_says():
    rng, rho, inside = np.random.default_rng(0), 0.8, 0
    for trial in range(200):
        mos = rng.normal(size=80)
        score = rho * mos + np.sqrt(1 - rho**2) * rng.normal(size=80)
        found = correlate(score, mos, n_boot=200, seed=trial)
        inside += found.ci_low <= rho <= found.ci_high
    assert 0.88 <= inside / 200 <= 0.99


def test_clustered_interval_is_wider_when_versions_of_a_source_are_alike():
    rng = np.random.default_rng(2)
    source = np.repeat(np.arange(20), 15)
    mos, error = rng.normal(size=20)[source], rng.normal(size=20)[source]
    score = mos + error + 0.1 * rng.normal(size=300)
    single, clustered = correlate(score, mos), correlate(score, mos, groups=source)
    assert clustered.value == single.value
    assert clustered.ci_high - clustered.ci_low > 2 * (single.ci_high - single.ci_low)


def test_paired_comparison_is_narrower_than_unpaired():
    rng = np.random.default_rng(4)
    mos, shared = rng.normal(size=150), rng.normal(size=150)
    a, b = mos + shared + 0.2 * rng.normal(size=150), mos + shared + 0.4 * rng.normal(size=150)
    paired, alone_a, alone_b = compare(a, b, mos), correlate(a, mos), correlate(b, mos)
    unpaired = np.hypot(alone_a.ci_high - alone_a.ci_low, alone_b.ci_high - alone_b.ci_low)
    assert paired.value == pytest.approx(alone_a.value - alone_b.value)
    assert paired.ci_high - paired.ci_low < 0.5 * unpaired
    assert compare(b, a, mos).ci_low == pytest.approx(-paired.ci_high)


def test_same_scores_differ_by_exactly_nothing(rated):
    found = compare(rated[0], rated[0], rated[1])
    assert (found.value, found.ci_low, found.ci_high) == (0, 0, 0)


def test_missing_scores_are_counted_and_left_out(rated):
    score, mos = rated[0].copy(), rated[1]
    score[[3, 50, 77]] = np.nan
    found, known = correlate(score, mos), np.isfinite(score)
    assert (found.n, found.n_missing, found.missing_share) == (117, 3, 3 / 120)
    assert found.value == pytest.approx(plcc(score[known], mos[known]))
    assert str(found).endswith("n = 117, 3 scores missing (2.5%)")


def test_comparison_uses_the_images_both_methods_scored(rated):
    a, mos = rated[0].copy(), rated[1]
    b = a + 1
    a[0], b[1] = np.nan, np.nan
    found = compare(a, b, mos)
    assert (found.n, found.n_missing) == (118, 2)
    assert found.value == pytest.approx(0)


def test_seeds_are_averaged_and_widen_the_interval(rated):
    score, mos = rated
    rng = np.random.default_rng(5)
    seeds = np.stack([score + s * rng.normal(size=len(mos)) for s in (0, 1, 3)])
    found = correlate(seeds, mos)
    assert found.n_seeds == 3
    assert found.value == pytest.approx(np.mean([plcc(row, mos) for row in seeds]))
    assert found.ci_high - found.ci_low > 2 * (lambda c: c.ci_high - c.ci_low)(
        correlate(score, mos)
    )
    assert compare(seeds, score, mos).value == pytest.approx(found.value - plcc(score, mos))


def test_mean_over_domains_is_unweighted(rated):
    score, mos = rated
    domains = {"a": (score, mos, None), "b": (score[:30], mos[:30], np.arange(30) // 2)}
    found = mean_over_domains(domains)
    assert found.value == pytest.approx((plcc(score, mos) + plcc(score[:30], mos[:30])) / 2)
    assert found.n == 150
    difference = compare_over_domains(
        {"a": (score, -score, mos, None), "b": (score, score, mos, None)}
    )
    assert difference.value == pytest.approx(plcc(score, mos))
    assert difference.name == "PLCC difference"


def test_same_seed_same_interval(rated):
    assert correlate(*rated, seed=7) == correlate(*rated, seed=7) != correlate(*rated, seed=8)


def test_large_sets_are_resampled_in_blocks_with_the_same_result(rated, monkeypatch):
    whole = correlate(*rated, kind="srcc")
    monkeypatch.setattr("rali_lab.evaluate.bootstrap._BLOCK", 1000)
    assert correlate(*rated, kind="srcc") == whole


def test_logistic_straightens_a_bent_scale_whatever_its_units(rated):
    _, mos = rated
    bent = np.log((mos - 0.9) / (5.1 - mos))
    assert plcc_fitted(bent, mos) == pytest.approx(1, abs=1e-6)
    assert plcc_fitted(1e4 * bent - 3, mos) == pytest.approx(1, abs=1e-6)


def test_isotonic_in_sample_flatters_a_random_score_and_cross_validated_does_not():
    rng = np.random.default_rng(6)
    score, mos = rng.normal(size=200), rng.normal(size=200)
    in_sample = plcc(IsotonicRegression().fit_transform(score, mos), mos)
    assert in_sample > plcc(score, mos) + 0.1
    assert plcc_fitted(score, mos, "isotonic_cv") < 0.1


def test_isotonic_keeps_sources_together(rated):
    score, mos = rated
    groups = np.arange(120) // 4
    assert not np.allclose(
        fitted(score, mos, "isotonic_cv"), fitted(score, mos, "isotonic_cv", groups=groups)
    )


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (
            lambda s, m: (np.full_like(s, 4.6), m),
            CollapsedScores,
            "all 120 scores are 4.6: the ratings have collapsed",
        ),
        (lambda s, m: (np.where(m > 4.9, np.inf, s), m), ValueError, "scores are infinite"),
        (lambda s, m: (s, np.where(m > 4.9, np.nan, m)), ValueError, "MOS are not finite"),
        (
            lambda s, m: (s, np.ones_like(m)),
            ValueError,
            "all 120 MOS are 1; check the label column",
        ),
        (lambda s, m: (s[:2], m[:2]), ValueError, "got 2 scored images, a correlation needs 3"),
        (lambda s, m: (s[:9], m), ValueError, r"score has shape \(1, 9\) and mos \(120,\)"),
        (lambda s, m: (np.full_like(s, np.nan), m), ValueError, "got 0 scored images"),
        (lambda s, m: (np.eye(120)[0], m), CollapsedScores, "almost collapsed"),
    ],
)
def test_errors_say_what_is_wrong(rated, change, error, text):
    with pytest.raises(error, match=text):
        correlate(*change(*rated))


def test_other_errors(rated):
    score, mos = rated
    with pytest.raises(ValueError, match="1 of 120 scores are NaN.*use correlate"):
        plcc(np.where(np.arange(120) == 5, np.nan, score), mos)
    with pytest.raises(ValueError, match="kind='krcc' is not known"):
        correlate(score, mos, kind="krcc")
    with pytest.raises(ValueError, match="fit='isotonic' is not known"):
        plcc_fitted(score, mos, "isotonic")
    with pytest.raises(ValueError, match="got one source"):
        correlate(score, mos, groups=["a"] * 120)
    with pytest.raises(ValueError, match="domain 'b': all 120 scores are 3"):
        mean_over_domains({"a": (score, mos, None), "b": (np.full(120, 3.0), mos, None)})
    with pytest.raises(ValueError, match="number of seeds, {'a': 1, 'b': 2}"):
        mean_over_domains({"a": (score, mos, None), "b": ([score, score], mos, None)})
