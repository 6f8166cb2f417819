"""Checks must be able to fail, and a failure must survive until the runner reads it."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor

import pytest

from rali_lab.reproduce import checks as module
from rali_lab.reproduce.checks import Checks, forget, read_checks


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "checks.json"


@pytest.mark.parametrize(
    ("value", "low", "high", "passed"),
    [
        (0.5, 0.5, None, True),
        (0.5, None, 0.5, True),
        (0.49, 0.5, 1, False),
        (1.01, 0.5, 1, False),
        (math.nan, None, 1, False),
        (math.nan, 0, None, False),
        (math.inf, 0, None, True),
        (-math.inf, 0, None, False),
    ],
)
def test_bounds_are_inclusive_and_nan_always_misses(path, value, low, high, passed):
    checks = Checks(path, "02_demo")
    checks.expect("it holds", value, low=low, high=high, if_missed="look there")
    assert checks.records[-1]["passed"] is passed
    (record,) = json.loads(path.read_text())["02_demo"]
    assert record["passed"] is passed and record["expect"] == "it holds"


def test_a_miss_prints_its_meaning_and_does_not_raise(path, capsys):
    Checks(path, "02").expect("SRCC is positive", -0.2, low=0, if_missed="the scores are shuffled")
    assert (
        capsys.readouterr().out
        == "✗ SRCC is positive: -0.2 (expected at least 0)\n  the scores are shuffled\n"
    )


@pytest.mark.parametrize("bounds", [{}, {"low": 2, "high": 1}, {"low": math.nan}])
def test_a_check_that_cannot_fail_or_cannot_pass_is_an_error(path, bounds):
    with pytest.raises(ValueError, match="it holds"):
        Checks(path, "02").expect("it holds", 1.0, **bounds, if_missed="")
    assert not path.exists()


def test_notebooks_share_the_file_and_keep_their_misses(path):
    Checks(path, "01").expect("a", 0, low=1, if_missed="")
    Checks(path, "02").expect("b", 1, low=1, if_missed="")
    Checks(path, "01").expect("a", 1, low=1, if_missed="")
    assert [record["passed"] for record in read_checks(path)["01"]] == [False, True]
    forget(path, "01")
    assert list(read_checks(path)) == ["02"]


def test_a_new_session_starts_afresh(path, monkeypatch):
    Checks(path, "01").expect("old", 0, low=1, if_missed="")
    monkeypatch.setattr(module, "_opened", set())
    assert Checks(path, "01").records == []


def test_the_runner_names_the_notebook(path, monkeypatch):
    assert Checks(path).notebook == "interactive"
    monkeypatch.setenv(module.NOTEBOOK_VARIABLE, "03_where")
    assert Checks(path).notebook == "03_where"


def test_an_observation_that_misses_is_a_remark_beside_the_recorded_run(tmp_path, capsys):
    published = Checks(tmp_path / "published.json", "02_demo")
    published.observe("the reward rose", 0.28, low=0, if_missed="another failure")
    assert capsys.readouterr().out.startswith("✓ the reward rose")
    checks = Checks(tmp_path / "checks.json", "02_demo", recorded=published.path)
    checks.observe("the reward rose", -0.1, low=0, if_missed="another failure")
    said = capsys.readouterr().out
    assert said.startswith("○ the reward rose: -0.1 (expected at least 0)\n  another failure")
    assert "the published run gave 0.28" in said
    checks.observe("never recorded", -0.1, low=0, if_missed="another failure")
    assert "published" not in capsys.readouterr().out
    assert [r["remark"] for r in checks.records] == [True, True] and module.missed(
        checks.records
    ) == []


def test_nan_fails_also_where_a_miss_would_be_a_remark(path):
    checks = Checks(path, "02_demo")
    checks.observe("the reward rose", math.nan, low=0, if_missed="no number")
    assert [r["expect"] for r in module.missed(checks.records)] == ["the reward rose"]


def test_notebooks_that_write_at_once_lose_nothing(path):
    def write(name):
        checks = Checks(path, name)
        for i in range(20):
            checks.expect(f"number {i}", i, low=0, if_missed="")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, ["01_a", "02_b", "03_c", "04_d"]))
    assert {name: len(rows) for name, rows in read_checks(path).items()} == dict.fromkeys(
        ["01_a", "02_b", "03_c", "04_d"], 20
    )
