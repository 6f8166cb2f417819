"""Markdown tables and their place in the README."""

import pytest

from rali_lab.evaluate.results import Record
from rali_lab.reproduce.tables import (
    claims_table,
    efficiency_table,
    inject,
    notebook_table,
    people_table,
    results_table,
)


def record(method, domain, metric, value, low=None, high=None, role="in", n=100):
    return Record(
        profile="tiny",
        method=method,
        domain=domain,
        role=role,
        metric=metric,
        value=value,
        ci_low=low,
        ci_high=high,
        n=n,
    )


def test_results_table_has_intervals_roles_and_gaps():
    table = results_table(
        [
            record("base", "photo", "plcc", 0.42, 0.3, 0.5),
            record("rali", "photo", "plcc", 0.873, 0.851, 0.892, n=98),
            record("rali", "novel", "plcc", -0.05, -0.2, 0.1, role="out"),
            record("rali", "novel", "srcc", 0.1),
        ]
    )
    assert table.splitlines() == [
        "| PLCC | photo (in, n = 98-100) | novel (out, n = 100) |",
        "|:---|---:|---:|",
        "| `base` | .420 [.300, .500] | – |",
        "| `rali` | .873 [.851, .892] | -.050 [-.200, .100] |",
    ]


def test_results_table_of_an_unknown_metric_is_an_error():
    with pytest.raises(ValueError, match="no record has metric 'krcc'"):
        results_table([record("base", "photo", "plcc", 0.4)], metric="krcc")


def test_efficiency_table_gives_shares_of_the_teacher():
    costs = {"parameters": 4e6, "seconds_per_image": 0.05, "peak_memory_bytes": 6e7}
    records = [record("teacher", "-", metric, value, n=None) for metric, value in costs.items()]
    records += [record("rali", "-", metric, value / 20, n=None) for metric, value in costs.items()]
    assert "| `rali` | 0.2 M (5.0 %) | 2.5 ms (5.0 %) | 3 MB (5.0 %) |" in efficiency_table(records)
    with pytest.raises(ValueError, match="'teacher' lacks parameters"):
        efficiency_table(records[3:])


CLAIM = {
    "id": "C1",
    "sentence": "a|b",
    "measure": "PLCC",
    "value": 0.5,
    "ci_low": 0.4,
    "ci_high": 0.6,
    "n": 100,
    "seeds": 3,
    "verdict": "reproduced",
    "notebook": "notebooks/02_train.ipynb",
}


def test_claims_table():
    line = claims_table([CLAIM]).splitlines()[-1]
    assert (
        line == r"| `C1` | a\|b | .500 [.400, .600] | 3 | **reproduced** |"
        r" [02_train](notebooks/02_train.ipynb) |"
    )
    assert claims_table([CLAIM | {"seeds": [0, 1, 2]}]).splitlines()[-1] == line
    untested = CLAIM | {
        "value": None,
        "ci_low": None,
        "n": None,
        "seeds": None,
        "verdict": "not testable",
    }
    assert "| – | – | **not testable** |" in claims_table([untested])
    with pytest.raises(ValueError, match="claim 'C1': verdict 'maybe'"):
        claims_table([CLAIM | {"verdict": "maybe"}])


def test_notebook_table_has_a_column_per_profile():
    rows = [
        {
            "notebook": "notebooks/00_start.ipynb",
            "question": "Does it run?",
            "makes": "a score",
            "minutes": {"tiny": 0.5},
        }
    ]
    rows += [rows[0] | {"minutes": {"tiny": 2.0, "small": 30}}]
    assert notebook_table(rows).splitlines()[0] == "| notebook | question | makes | tiny | small |"
    assert notebook_table(rows).splitlines()[2].endswith("| 0.5 min | – |")


README = "head\n<!-- begin:results -->\nold\n<!-- end:results -->\ntail\n"


def test_people_table_shows_what_was_trained_on_their_scores():
    def record(method, metric, value):
        common = {"profile": "tiny", "domain": "livec", "role": "real", "n": 600}
        return Record(
            method=method,
            metric=metric,
            value=value,
            ci_low=value - 0.01,
            ci_high=value + 0.01,
            **common,
        )

    assert people_table([record("rali", "srcc", 0.4)]) == "Not measured in this run."
    records = [record("rali", "srcc", 0.4), record("rali", "srcc_trained", 0.8)]
    records += [
        record(m, k, v)
        for m, v in (("rali_tuned", 0.8), ("ridge_visual", 0.7))
        for k in ("srcc_trained", "plcc_trained")
    ]
    lines = people_table([*records, record("rali_tuned", "srcc_minus_ridge", 0.1)]).splitlines()
    assert lines[2:] == [
        "| `rali`, never trained on them | .400 [.390, .410] | – | – |",
        "| `rali_tuned` | .800 [.790, .810] | .800 [.790, .810] | .100 [.090, .110] |",
        "| `ridge_visual` | .700 [.690, .710] | .700 [.690, .710] | – |",
    ]


def test_inject_replaces_between_the_marks_and_is_idempotent():
    once = inject(README, "results", "| new |")
    assert once == "head\n<!-- begin:results -->\n| new |\n<!-- end:results -->\ntail\n"
    assert inject(once, "results", "| new |") == once


@pytest.mark.parametrize("text", ["nothing", README.replace("end:", "stop:"), README + README])
def test_inject_without_its_marks_is_an_error(text):
    with pytest.raises(ValueError, match="expected one pair in this order"):
        inject(text, "results", "x")
