"""The machine as a process may use it, whichever control groups it is in."""

from __future__ import annotations

import psutil
import pytest

from rali_lab.reproduce import machine


def write(root, **files):
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def group(tmp_path):
    """Writes files below sys/fs/cgroup and the process's line, and returns the memory limit."""

    def limit(line, **files):
        write(tmp_path, proc__self__cgroup=line)
        write(tmp_path / "sys/fs/cgroup", **files)
        return machine.memory_limit(tmp_path)

    return limit


def test_the_smallest_limit_of_a_group_and_those_above_counts_in_version_2(group):
    files = {"a__memory_dot_max": "4000\n", "a__b__memory_dot_max": "max\n"}
    assert group("0::/a/b\n", **files) == 4000
    assert group("0::/a/b\n", a__b__memory_dot_max="3000\n") == 3000


def test_version_1_has_a_folder_for_each_controller_and_minus_one_for_no_limit(group):
    files = {
        "memory__d__memory_dot_limit_in_bytes": "3000\n",
        "memory__memory_dot_limit_in_bytes": "9223372036854771712\n",
    }
    assert group("4:memory:/d\n3:cpu,cpuacct:/d\n2:name=systemd:/\n", **files) == 3000
    assert group("4:memory:/d\n", memory__d__memory_dot_limit_in_bytes="-1") is None


def test_a_container_whose_group_is_mounted_as_the_uppermost(group):
    assert group("0::/../elsewhere\n", memory_dot_max="2000") == 2000


@pytest.mark.parametrize("line", ["", "nonsense", "0::", "::::\n\n"])
def test_nothing_and_nonsense_are_no_limit(group, line):
    assert group(line, memory_dot_max="lots") is None


def test_the_smaller_of_memory_and_limit_counts(tmp_path):
    write(tmp_path, proc__cpuinfo="processor: 0\nmodel name\t: Some CPU @ 2 GHz\n")
    free = machine.hardware(tmp_path)
    assert free["memory_limit"] is None and free["memory"] == psutil.virtual_memory().total
    assert 0 < free["memory_available"] <= free["memory"] and free["disk_free"] > 0
    assert free["cpu"] == "Some CPU @ 2 GHz" and free["cores"] >= 1
    write(tmp_path, proc__self__cgroup="4:memory:/\n")
    write(tmp_path / "sys/fs/cgroup", memory__memory_dot_limit_in_bytes="4096000")
    found = machine.hardware(tmp_path)
    assert (found["memory"], found["memory_available"], found["memory_limit"]) == (4_096_000,) * 3


def test_a_system_without_proc_or_free_disk(tmp_path, monkeypatch):
    def refuse(_):
        raise OSError("no")

    monkeypatch.setattr(psutil, "disk_usage", refuse)
    found = machine.hardware(tmp_path)
    assert found["disk_free"] is found["memory_limit"] is None
    assert found["cores"] >= 1 and isinstance(found["cpu"], str)
