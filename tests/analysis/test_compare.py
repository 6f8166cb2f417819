"""One call: text that carries the score and no domain is told from pixels that carry both."""

import numpy as np
import pandas as pd
import pytest

from rali_lab.analysis import cka, compare, domain_gap
from rali_lab.analysis.compare import COLUMNS, DIMENSIONS


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 3)
    domains = np.where(groups % 2, "photo", "novel")
    scores = rng.normal(size=120) + 0.5 * (domains == "photo")
    text = np.stack([scores, rng.normal(size=120)], axis=1) @ rng.normal(
        size=(2, 6)
    ) + 0.2 * rng.normal(size=(120, 6))
    pixels = np.hstack([text, 3 * (domains == "photo")[:, None] + rng.normal(size=(120, 4))])
    return {"text": text, "pixels": pixels}, {
        "scores": scores,
        "domains": domains,
        "groups": groups,
    }


@pytest.fixture(scope="module")
def report(data):
    return compare(
        data[0],
        **data[1],
        gaps=("mmd", "proxy_a", "knn_mixing", "frechet", "silhouette"),
        n_permutations=19,
        n_boot=10,
    )


def value(report, name, measure, conditioned=False):
    t = report.table
    return t[
        (t["representation"] == name)
        & (t["measure"] == measure)
        & (t["conditioned"] == conditioned)
    ].squeeze()


def test_the_table_is_tidy_and_complete(report):
    t = report.table
    assert tuple(t.columns) == COLUMNS and report.skipped == ()
    assert not t.duplicated(["representation", "measure", "conditioned"]).any()
    assert np.isfinite(t["value"]).all()
    gaps = t["measure"].isin(["mmd", "proxy_a", "knn_mixing", "frechet", "silhouette"])
    assert gaps.sum() == 2 * 5 * 2 and t.loc[
        gaps, ["ci_low", "ci_high", "null_mean", "p", "floor"]
    ].notna().all(axis=None)
    assert set(DIMENSIONS) < set(t["measure"]) and (t["n"] == 120).all()
    assert t.loc[gaps & t["conditioned"], "notes"].str.contains("of rows matched").all()


def test_it_answers_the_question(report):
    assert (
        value(report, "text", "score_plcc").value > 0.9
        and value(report, "pixels", "score_plcc").value > 0.9
    )
    assert (
        value(report, "text", "domain_accuracy").value
        < 0.75
        < 0.9
        < value(report, "pixels", "domain_accuracy").value
    )
    assert value(report, "text", "mmd", True).p > 0.05 == value(report, "pixels", "mmd", True).p
    assert value(report, "text ~ pixels", "cka").p == 0.05


def test_numbers_are_those_of_the_functions(report, data):
    arrays, labels = data
    assert value(report, "text ~ pixels", "cka").value == pytest.approx(
        cka(arrays["text"], arrays["pixels"])
    )
    alone = domain_gap(
        arrays["text"], **{k: labels[k] for k in ("domains", "groups", "scores")}, n_permutations=19
    )
    row = value(report, "text", "mmd", True)
    assert (row.value, row.p) == pytest.approx((alone.value, alone.p))


def test_cka_matrix(report, data):
    matrix = report.cka
    assert list(matrix.index) == list(matrix.columns) == ["text", "pixels"]
    between = value(report, "text ~ pixels", "cka").value
    assert matrix.to_numpy().tolist() == [[1, between], [between, 1]]
    alone = compare({"text": data[0]["text"]}, n_permutations=0, n_boot=0)
    assert alone.cka.empty and set(alone.table["measure"]) == set(DIMENSIONS)


def test_it_prints_and_survives_csv(report, tmp_path):
    assert "score_plcc" in str(report) and "nan" not in str(report).lower()
    report.table.to_csv(tmp_path / "t.csv", index=False)
    assert pd.read_csv(tmp_path / "t.csv")["value"].to_numpy() == pytest.approx(
        report.table["value"].to_numpy()
    )


def test_what_cannot_be_computed_is_named_and_the_rest_stays():
    rng = np.random.default_rng(0)
    templated = np.tile(rng.normal(size=(8, 3)), (8, 1))
    found = compare(
        {"templated": templated}, domains=["a"] * 60 + ["b"] * 4, n_permutations=5, n_boot=0
    )
    assert [s.split(":")[0] for s in found.skipped] == [
        "templated, two_nn",
        "templated, mle_dimension",
        "templated, domain_accuracy",
        "templated, mmd",
        "templated, proxy_a",
        "templated, knn_mixing",
    ]
    assert set(found.table["measure"]) == {
        "participation_ratio",
        "effective_rank",
        "pca_dimension_90",
    }
    assert "8 different rows (64 with 56 repeats)" in str(found)


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({}, {}, "no representation given"),
        (
            {"a": np.eye(9), "b": np.eye(10)},
            {},
            "different numbers of rows, {'a': 9, 'b': 10}; join them",
        ),
        ({"a": np.full((9, 2), np.nan)}, {}, "representation 'a' holds NaN"),
        ({"a ~ b": np.eye(9)}, {}, "hold a ~, which joins"),
        ({"a": np.eye(9)}, {"gaps": ["tsne"]}, r"gaps=\['tsne'\] not known"),
        ({"a": np.eye(9)}, {"scores": [1.0]}, "one number per row"),
        ({"a": np.eye(9)}, {"domains": ["x"]}, "domains has shape"),
    ],
)
def test_bad_input_stops_at_once(arrays, options, message):
    with pytest.raises(ValueError, match=message):
        compare(arrays, **options)
