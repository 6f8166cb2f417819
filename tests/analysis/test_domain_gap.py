"""Gaps with their null and floor: a gap that is only quality vanishes at equal score, one that is
content stays.
"""

import numpy as np
import pytest

from rali_lab.analysis import domain_gap, mmd, pairwise_domain_gaps
from rali_lab.analysis.domain_gap import GAPS, matched, score_bins

SIGN = {name: -1 if name == "knn_mixing" else 1 for name in GAPS}


def make(content, quality, n=120, seed=0):
    """Two domains, 8 columns: the first is the score, the second the content.

    Domain b scores higher by ``quality``.
    """
    rng = np.random.default_rng(seed)
    domains = np.repeat(["a", "b"], n // 2)
    scores = rng.normal(size=n) + quality * (domains == "b")
    X = rng.normal(size=(n, 8))
    X[:, 0] = 2 * scores
    X[:, 1] += content * (domains == "b")
    return X, domains, scores


@pytest.mark.parametrize("measure", GAPS)
def test_a_content_gap_is_found_raw_and_at_equal_score(measure):
    X, domains, scores = make(content=4, quality=0)
    for given in (None, scores):
        found = domain_gap(X, domains, measure=measure, scores=given, n_permutations=19)
        assert found.p == 0.05
        assert (
            SIGN[measure] * (found.value - found.floor)
            > 0
            < SIGN[measure] * (found.value - found.null_mean)
        )
        assert found.n == 120


@pytest.mark.parametrize("measure", GAPS)
def test_a_gap_that_is_only_quality_vanishes_at_equal_score(measure):
    X, domains, scores = make(content=0, quality=1.5, n=240)
    raw = domain_gap(X, domains, measure=measure, n_permutations=19)
    equal = domain_gap(X, domains, measure=measure, scores=scores, n_bins=8, n_permutations=19)
    assert raw.p == 0.05
    assert abs(equal.value - equal.null_mean) < 0.5 * abs(raw.value - raw.null_mean)
    assert equal.name.endswith("at equal score") and "of rows matched" in equal.notes[0]


def test_no_gap_is_at_floor_and_null():
    X, domains, scores = make(content=0, quality=0)
    for given in (None, scores):
        found = domain_gap(X, domains, scores=given, n_permutations=49, n_boot=20)
        assert found.p > 0.05 and abs(found.value - found.floor) < 0.03
        assert found.ci_low <= found.value <= found.ci_high


def test_two_domains_without_scores_give_the_plain_measure():
    X, domains, _ = make(content=2, quality=0)
    assert domain_gap(X, domains, n_permutations=0).value == pytest.approx(mmd(X[:60], X[60:]))


def test_several_domains_give_the_mean_over_pairs_and_the_pairs():
    rng = np.random.default_rng(0)
    domains = np.repeat(list("abc"), 30)
    X = rng.normal(size=(90, 3)) + 3 * (domains == "c")[:, None]
    pairs = pairwise_domain_gaps(X, domains, n_permutations=9, scores=rng.normal(size=90), n_bins=2)
    assert pairs[["a", "b"]].to_numpy().tolist() == [["a", "b"], ["a", "c"], ["b", "c"]]
    assert pairs["value"].iloc[0] < 0.1 < min(pairs["value"].iloc[1:])
    separate = [
        domain_gap(
            X[domains != d], domains[domains != d], measure="silhouette", n_permutations=0
        ).value
        for d in "abc"
    ]
    assert domain_gap(X, domains, measure="silhouette", n_permutations=0).value == pytest.approx(
        np.mean(separate)
    )


def test_relabelling_and_row_order_change_nothing():
    X, domains, _ = make(content=2, quality=0)
    order = np.random.default_rng(1).permutation(120)
    value = domain_gap(X, domains, n_permutations=0).value
    assert domain_gap(X[order], domains[order], n_permutations=0).value == pytest.approx(value)
    assert domain_gap(X, np.where(domains == "a", 7, 3), n_permutations=0).value == pytest.approx(
        value
    )


def test_p_is_small_for_mere_clusters_only_without_groups():
    """Twelve sources with ten near-equal rows each, dealt to two domains at random."""
    hits = {True: 0, False: 0}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        X, groups = (
            np.repeat(rng.normal(size=(12, 4)), 10, axis=0) + 0.1 * rng.normal(size=(120, 4)),
            np.repeat(np.arange(12), 10),
        )
        domains = np.where(groups < 6, "a", "b")
        for grouped in hits:
            hits[grouped] += (
                domain_gap(
                    X, domains, groups=groups if grouped else None, n_permutations=19, n_floor=0
                ).p
                <= 0.1
            )
    assert hits[True] <= 6 and hits[False] >= 15


def test_floor_uses_whole_sources():
    rng = np.random.default_rng(0)
    X, groups = (
        np.repeat(rng.normal(size=(24, 4)), 10, axis=0) + 0.1 * rng.normal(size=(240, 4)),
        np.repeat(np.arange(24), 10),
    )
    domains = np.where(groups < 12, "a", "b")
    with_groups, without = (
        domain_gap(X, domains, groups=g, n_permutations=0).floor for g in (groups, None)
    )
    assert with_groups > without + 0.02


def test_matching_equalises_the_score_histogram():
    rng = np.random.default_rng(0)
    bins = score_bins(rng.normal(size=200), 4)
    assert np.bincount(bins).tolist() == [50] * 4
    a, b = np.arange(60), np.arange(60, 200)
    kept_a, kept_b = matched(a, b, bins, rng)
    assert (
        np.bincount(bins[kept_a]).tolist()
        == np.bincount(bins[kept_b]).tolist()
        == np.minimum(np.bincount(bins[a]), np.bincount(bins[b])).tolist()
    )
    assert len(set(kept_a)) == len(kept_a) and set(kept_a) <= set(a) and set(kept_b) <= set(b)
    assert all(len(m) == 0 for m in matched(np.array([0]), np.array([1]), np.array([0, 1]), rng))


def test_pairs_without_common_scores_are_named():
    X, domains, scores = make(content=0, quality=0, n=120)
    scores = scores + 100 * (domains == "b")
    with pytest.raises(
        ValueError,
        match=r"no pair of domains has 20 rows of equal score each: a-b \(0\).*fewer n_bins",
    ):
        domain_gap(X, domains, scores=scores, n_bins=4)
    three = np.concatenate([domains[:115], ["rare"] * 5])
    found = domain_gap(X, three, n_permutations=0)
    assert found.notes == ("left out, too few rows: a-rare (5), b-rare (5)",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": "tsne"}, "measure='tsne' is not known; choose one of mmd, frechet"),
        ({"domains": ["a"] * 60}, "got one domain, expected two or more"),
        ({"domains": ["a"] * 59}, "domains has shape"),
        (
            {"domains": ["a"] * 55 + ["b"] * 5},
            r"no pair of domains has 20 rows each: a-b \(5\); add rows",
        ),
        ({"scores": np.ones(60)}, "all 60 scores are 1"),
        ({"scores": np.arange(60.0), "n_bins": 1}, "n_bins=1, expected 2 or more"),
        ({"measure": "knn_mixing", "k": 59}, "k=59 neighbours among 60 rows"),
    ],
)
def test_errors(options, message):
    X = np.random.default_rng(0).normal(size=(60, 3))
    with pytest.raises(ValueError, match=message):
        domain_gap(X, **({"domains": ["a", "b"] * 30} | options))


def test_the_null_is_a_number_where_sources_differ_in_size_between_domains():
    rng = np.random.default_rng(0)
    domains = np.repeat(["few", "many"], 60)
    groups = np.concatenate(
        [np.repeat(["a", "b", "c"], 20), [f"s{i}" for i in range(60)]]
    )  # 3 sources of 20 rows, 60 of one
    found = domain_gap(
        rng.normal(size=(120, 4)), domains, groups=groups, n_permutations=60, n_floor=0
    )
    assert np.isfinite([found.null_mean, found.null_sd, found.p]).all()
    assert found.p > 0.05


def test_a_null_that_cannot_be_dealt_is_refused():
    domains = np.repeat(["one", "many"], [20, 60])
    groups = np.concatenate([np.repeat("a", 20), [f"s{i}" for i in range(60)]])
    with pytest.raises(ValueError, match="permuted labels left a domain under 6 rows"):
        domain_gap(
            np.random.default_rng(0).normal(size=(80, 4)),
            domains,
            groups=groups,
            n_permutations=60,
            n_floor=0,
        )
