"""`rali-lab results`: the newest run, or the one that was asked for."""

import json
import os

import pytest

from rali_lab import cli
from rali_lab.evaluate.results import Record, write_records


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two runs of the project, `small` newer than `tiny`."""
    monkeypatch.setenv("RALI_LAB_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for age, profile in ((100, "tiny"), (0, "small")):
        fields = {"profile": profile, "domain": "photo", "role": "in", "metric": "plcc"}
        path = tmp_path / "runs" / profile / "results.json"
        write_records(
            path,
            [Record(method="rali", value=0.9, ci_low=0.8, ci_high=0.95, n=120, seeds=3, **fields)],
        )
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("options", "profile"),
    [([], "small"), (["--profile", "tiny"], "tiny"), (["--run-dir", "runs/tiny"], "tiny")],
)
def test_results_as_a_table_and_as_records(runs, capsys, options, profile):
    assert cli.main(["results", *options]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.startswith("profile") and row.split()[:5] == [
        profile,
        "in",
        "photo",
        "plcc",
        "rali",
    ]
    assert cli.main(["results", "--json", *options]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["id"] == f"{profile}/rali/photo/plcc"
    assert (record["value"], record["ci_low"], record["n"], record["seeds"]) == (0.9, 0.8, 120, 3)


def test_missing_and_damaged_results_say_the_way_out(runs, capsys):
    assert cli.main(["results", "--profile", "huge"]) == 2
    assert "make reproduce" in capsys.readouterr().err
    (runs / "tiny" / "results.json").write_text("{")
    assert cli.main(["results", "--profile", "tiny"]) == 2
    assert "results.json" in capsys.readouterr().err


def test_no_run_at_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RALI_LAB_HOME", str(tmp_path))
    assert cli.main(["results"]) == 2
    assert "no results yet; run `make reproduce`" in capsys.readouterr().err
