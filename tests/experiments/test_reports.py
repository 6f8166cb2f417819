"""Records and comparisons from tables of scores."""

import numpy as np
import pandas as pd
import pytest

from rali_lab.experiments.reports import (
    accuracy_records,
    count_records,
    difference,
    domains_of,
    mean_correlation,
    score_of,
)


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
