"""Versions are held against the bounds of the metadata, weights against their hashes."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
from pathlib import Path

import pytest

import rali_lab
from rali_lab.reproduce import installation


@pytest.fixture
def installed(monkeypatch):
    """Pretends that the distribution asks for and finds these, and returns what is found by
    name.
    """

    def look(requires, found, names):
        monkeypatch.setattr(importlib.metadata, "requires", lambda name: requires)
        monkeypatch.setattr(
            installation, "versions", lambda names: {n: found.get(n) for n in names}
        )
        return {p.name: p for p in installation.packages(names)}

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
    assert found["torch"] == installation.Package(
        "torch", "2.10.0", ">=2.6"
    )  # 2.10 is newer than 2.6
    assert found["open_clip_torch"].problem == "found 2.99, expected >=3.0; run `make setup`"
    assert found["timm"].problem == "" and found["vllm"] == installation.Package("vllm", None)
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
    assert (
        "bounds not checked"
        in installation.packages(distribution="no-such-distribution")[0].problem
    )
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    found = installed([], {}, installation.PACKAGES)
    assert (
        found["torch"].problem
        and not found["peft"].problem
        and "bounds not checked" in found["rali-lab"].problem
    )


def test_the_weights_of_this_checkout_are_there():
    assert [f.problem for f in installation.model_files()] == [""] * 5


def test_missing_and_damaged_weights_are_named_with_the_way_out(tmp_path, monkeypatch):
    package = tmp_path / "rali_lab"
    source = Path(rali_lab.__file__).parent
    for part in ("assets/vlm", "assets/clip", "assets/rali"):
        shutil.copytree(source / part, package / part)
    (package / "assets/vlm/model.safetensors").write_bytes(b"cut off")
    (package / "assets/clip/visual.safetensors").unlink()
    (package / "assets/rali/config.json").write_text("{}")
    monkeypatch.setattr(installation.importlib.util, "find_spec", lambda name: None)
    found = {f.name: f.problem for f in installation.model_files(package)}
    assert found["base model"].startswith("sha256 is ") and "git checkout" in found["base model"]
    assert found["small CLIP"].startswith("missing; ") and found["RALI scorer"].startswith(
        "cannot be checked (KeyError)"
    )
    assert "pip install" in found["lite0"] and "pip install" in found["text tower"]
    assert str(tmp_path) not in json.dumps(found)
