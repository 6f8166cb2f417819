"""The ledger: a bound fixed beforehand, one rule, and no claim that silently disappears."""

from __future__ import annotations

import math

import pytest

from rali_lab.estimate import Estimate
from rali_lab.reproduce.claims import ClaimError, Ledger, read_claims

CLAIM = """
[[claim]]
id = "{id}"
sentence = "It works."
source = "paper, section 4"
notebook = "{notebook}"
measure = "PLCC"
relation = "{relation}"
bound = {bound}
"""


def declare(tmp_path, *claims, **changes):
    defaults = {"id": "a", "notebook": "07", "relation": ">=", "bound": 0.7}
    path = tmp_path / "claims.toml"
    path.write_text(
        "".join(CLAIM.format(**{**defaults, **claim, **changes}) for claim in claims or [{}])
    )
    return path


def estimate(value=0.8, ci_low=0.75, ci_high=0.9, n=40, n_seeds=3):
    return Estimate("PLCC", value, ci_low=ci_low, ci_high=ci_high, n=n, n_seeds=n_seeds)


@pytest.fixture
def ledger(tmp_path):
    path = declare(
        tmp_path, {"id": "a"}, {"id": "b", "relation": "<="}, {"id": "c", "notebook": "08_ablate"}
    )
    return Ledger(path, tmp_path / "run" / "claims.json")


@pytest.mark.parametrize(
    ("low", "high", "at_least", "at_most"),
    [
        (0.8, 0.9, "reproduced", "contradicted"),
        (0.7, 0.9, "reproduced", "partly"),
        (0.6, 0.9, "partly", "partly"),
        (0.6, 0.7, "partly", "reproduced"),
        (0.5, 0.6, "contradicted", "reproduced"),
    ],
)
def test_verdict_follows_the_whole_interval(ledger, low, high, at_least, at_most):
    measured = estimate((low + high) / 2, low, high)
    assert ledger.record("a", measured) == at_least
    assert ledger.record("b", measured) == at_most


def test_table_lists_every_claim(ledger):
    ledger.record("a", estimate(), detail="mean over domains", seeds=[0, 1])
    ledger.not_testable("b", "needs 5000 images")
    rows = {row["id"]: row for row in ledger.table()}
    verdicts = [row["verdict"] for row in rows.values()]
    assert verdicts == ["reproduced", "not testable", "not run"]
    assert (rows["a"]["seeds"], rows["a"]["n"]) == ([0, 1], 40)
    assert (rows["a"]["value"], rows["a"]["ci_low"], rows["a"]["ci_high"]) == (0.8, 0.75, 0.9)
    assert rows["a"]["detail"] == "mean over domains" and rows["b"]["detail"] == "needs 5000 images"
    assert all(row.keys() == rows["a"].keys() for row in rows.values())


def test_notebooks_write_one_after_another_and_forget_only_their_own(ledger, tmp_path):
    ledger.record("a", estimate())
    later = Ledger(tmp_path / "claims.toml", ledger.path)
    later.record("c", estimate())
    assert [row["verdict"] for row in later.table()] == ["reproduced", "not run", "reproduced"]
    later.forget("07_evaluate")
    assert [row["verdict"] for row in ledger.table()] == ["not run", "not run", "reproduced"]
    assert [row["id"] for row in ledger.rows("08_ablate")] == ["c"]


def test_moving_the_bound_afterwards_voids_the_verdict(ledger, tmp_path):
    ledger.record("a", estimate(0.6, 0.5, 0.65))
    moved = Ledger(declare(tmp_path, bound=0.5), ledger.path)
    assert [row["verdict"] for row in moved.table()] == ["not run"]


@pytest.mark.parametrize(
    "measured",
    [
        (math.nan, 0, 1, 9),
        (0.5, math.nan, 1, 9),
        (0.5, 0, math.nan, 9),
        (0.5, 1, 0, 9),
        (0.5, 0, 1, 0),
        (0.5, None, 1, 9),
        (0.5, 0, None, 9),
        (0.5, 0, 1, None),
    ],
)
def test_meaningless_measurements_are_errors(ledger, measured):
    with pytest.raises(ClaimError, match="claim 'a'"):
        ledger.record("a", estimate(*measured))
    assert not ledger.path.exists()


def test_unknown_claims_and_empty_reasons_are_errors(ledger):
    with pytest.raises(ClaimError, match=r"'z' is not declared; declared are \['a', 'b', 'c'\]"):
        ledger.record("z", estimate())
    with pytest.raises(ClaimError, match="say why"):
        ledger.not_testable("a", " ")


def test_seeds_are_those_of_the_estimate_unless_named(ledger):
    for seeds, kept in ((None, 3), (2, 2), ([0, 1], [0, 1]), (range(2), [0, 1])):
        ledger.record("a", estimate(n_seeds=3), seeds=seeds)
        assert ledger.table()[0]["seeds"] == kept


def test_open_intervals_are_kept(ledger):
    assert ledger.record("a", estimate(0.8, 0.7, math.inf, n=3)) == "reproduced"
    assert ledger.table()[0]["ci_high"] == "inf"


@pytest.mark.parametrize(
    "change", [{"relation": "=="}, {"bound": "nan"}, {"bound": '"high"'}, {"bound": "true"}]
)
def test_bad_declarations_are_errors(tmp_path, change):
    with pytest.raises(ClaimError, match="claim 'a'"):
        read_claims(declare(tmp_path, **change))


def test_missing_unknown_and_repeated_entries_are_errors(tmp_path):
    path = declare(tmp_path)
    path.write_text(path.read_text().replace("measure", "measured"))
    with pytest.raises(ClaimError, match=r"missing \['measure'\], unknown \['measured'\]"):
        read_claims(path)
    with pytest.raises(ClaimError, match="declared twice"):
        read_claims(declare(tmp_path, {}, {}))
