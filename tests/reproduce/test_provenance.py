"""Provenance names versions and devices, and no place on anybody's disk."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rali_lab.reproduce import provenance


def test_stamp_is_plain_json_without_paths(monkeypatch):
    monkeypatch.setattr(provenance, "device", lambda: "cpu: test, 1 cores")
    stamp = provenance.stamp()
    text = json.dumps(stamp)
    assert set(stamp) == {"python", "platform", "device", "commit", "versions"}
    assert stamp["versions"]["numpy"].count(".") == 2
    assert str(Path.home()) not in text and sys.prefix not in text


def test_commit_is_none_where_git_does_not_answer(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.commit() is None


def test_device_needs_no_torch(monkeypatch):
    monkeypatch.setattr(provenance, "_version", lambda package: None)
    assert provenance.device.__wrapped__().startswith("cpu: ")


def test_scrub_removes_colours_and_places():
    root = Path.home() / "lab"
    text = f"\x1b[1;31m{root}/runs {root}-old {Path.home()}/x {sys.prefix}/lib\x1b[0m"
    home = "~" if len(Path.home().parts) > 1 else str(Path.home())
    assert provenance.scrub(text, root) == f"./runs {home}/lab-old {home}/x <python>/lib"
    assert provenance.scrub("/tmp/ipykernel_17/29.py:5: UserWarning") == "<cell>:5: UserWarning"


def test_scrub_leaves_other_text_alone():
    assert provenance.scrub("2 / 3 = 0.67, a/b, ./runs") == "2 / 3 = 0.67, a/b, ./runs"
