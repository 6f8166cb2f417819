"""The doctor says what a machine is and what it can run, on whatever it is called."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rali_lab import cli
from rali_lab.profiles import PROFILES, get_profile
from rali_lab.reproduce import doctor, machine

ROOT = Path(__file__).parents[2]
TINY = get_profile("tiny")
H100, H200, V100 = (
    {"name": n, "memory": g * 1e9, "bf16": b}
    for n, g, b in (("H100", 85, True), ("H200", 150, True), ("V100", 34, False))
)


def report(**changes):
    """A report of a machine without fault; changes go to its parts, into `machine` one by one."""
    fine = {"torch": "", "memory": 16e9, "disk_free": 50e9, **changes.pop("machine", {})}
    empty = {"packages": [], "files": [], "published": {}, "paper": doctor.paper_need([])}
    return {**empty, "machine": fine, **changes}


def test_verdicts(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where nobody made the base of `small`
    unknown = doctor.judge(TINY, report())
    assert (unknown.verdict, unknown.minutes) == ("runs here", None)
    assert "no run of it is published" in unknown.reason
    for minutes, verdict in ((16.35, "runs here"), (124.0, "runs, but slowly")):
        published = {"tiny": {"minutes": minutes, "machine": "cpu: x86_64, 2 cores"}}
        found = doctor.judge(TINY, report(published=published))
        assert (found.verdict, found.minutes) == (verdict, pytest.approx(minutes, abs=0.1))
        took = f"the published run took {minutes:.0f} min on cpu: x86_64, 2 cores"
        assert found.reason == took
    for name in ("small", "small_cpu"):
        reason = doctor.judge(get_profile(name), report()).reason
        assert "no base model in models/small" in reason and "`make base-small`" in reason


def test_times_are_those_of_the_published_runs(tmp_path):
    (tmp_path / "docs" / "results").mkdir(parents=True)
    for profile, more in (("tiny", {}), ("small", {"device": "cuda: NVIDIA H200"})):
        run = {"profile": profile, "wall_seconds": 600, "cores": 2, **more}
        (tmp_path / "docs" / "results" / f"{profile}-summary.json").write_text(json.dumps(run))
    assert doctor.published_times(tmp_path) == {
        "small": {"minutes": 10.0, "machine": "cuda: NVIDIA H200"},
        "tiny": {"minutes": 10.0, "machine": "2 cores"},
    }
    assert doctor.published_times(None) == {} and "tiny" in doctor.published_times(ROOT)


def test_what_a_system_does_not_tell_is_not_known():
    found = {**machine.hardware(), "memory": None, "memory_available": None, "disk_free": None}
    assert doctor.judge(TINY, report(machine=found)).verdict == "runs here"
    shown = doctor._hardware({**found, "torch": "", "gpus": [], "cpu_bf16_fast": None})
    assert "not known" in dict(shown)["memory"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"machine": {"memory": 1e9}}, "memory is 1.0 GB, expected 3.0 GB"),
        ({"machine": {"disk_free": 0}}, "disk free is 0.0 GB"),
        ({"machine": {"torch": "no libcudart"}}, "torch cannot be used: no libcudart"),
        (
            {
                "packages": [{"name": "torch", "problem": "not installed; run `make setup`"}],
                "machine": {"torch": "no"},
            },
            "torch not installed",
        ),
        ({"files": [{"name": "base model", "problem": "missing; x"}]}, "base model missing; x"),
    ],
)
def test_what_keeps_a_profile_from_running(changes, reason):
    verdict = doctor.judge(TINY, report(**changes))
    assert (
        verdict.verdict == "does not run here"
        and verdict.reason.startswith(reason)
        and verdict.minutes is None
    )
    assert verdict.reason.count("torch") <= 1


def test_another_base_model_must_be_there(tmp_path):
    other = replace(TINY, base=str(tmp_path))
    missing_tiny = report(files=[{"name": "base model", "problem": "missing"}])
    assert "no base model in" in doctor.judge(other, missing_tiny).reason
    (tmp_path / "config.json").write_text("{}")
    verdict = doctor.judge(other, missing_tiny)
    assert (verdict.verdict, verdict.minutes) == ("runs here", None)


@pytest.mark.parametrize(
    ("gpus", "enough", "needed"),
    [
        ([], False, 3),
        ([V100] * 8, False, 3),
        ([H200], False, 2),
        ([H200] * 2, True, 2),
        ([H100] * 2, False, 3),
        ([H100] * 8, True, 3),
        ([{**H100, "memory": 24e9}] * 8, False, None),
    ],
)
def test_the_paper_needs_gpus(gpus, enough, needed):
    need = doctor.paper_need(gpus)
    assert (need["enough"], need["gpus_needed"]) == (enough, needed)
    verdict = doctor.judge_paper(need)
    assert (verdict.verdict == "does not run here") != enough
    assert f"found {len([g for g in gpus if g['bf16']])} with bf16, expected" in verdict.reason


def test_json_and_text_and_exit_code(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    found = json.loads(
        capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")
    )
    assert [v["profile"] for v in found["profiles"]] == list(PROFILES)
    minutes = found["published"]["tiny"]["minutes"]
    assert found["profiles"][0]["minutes"] == pytest.approx(minutes, abs=0.1)
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert f"the published run took {minutes:.0f} min on " in text and "tiny " in text
    assert "python -m rali_lab.paper" in text and sys.prefix not in text
    assert "paper " in text
    assert ("does not run here: the command" in text) != found["paper"]["enough"]


def test_without_torch_it_says_so_and_exits_with_1(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert cli.main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "does not run here: torch cannot be used" in text and "GPU" in text


def test_a_default_profile_that_is_gone_is_no_success(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "PROFILES", {})
    assert doctor.main() == 1


def test_nothing_heavy_is_imported():
    code = (
        "import sys, rali_lab.reproduce.doctor; print([m for m in ('torch', 'numpy',"
        " 'transformers', 'packaging') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
