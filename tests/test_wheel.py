"""The wheel holds what scoring needs, and scores an image from a folder that is no checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built from its tracked files with the setuptools that is here."""
    source, out = (tmp_path_factory.mktemp(name) for name in ("source", "wheel"))
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if name.startswith(("rali_lab/", "scripts/")) or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(out)]
    subprocess.run([sys.executable, *command, str(source)], check=True)
    (file,) = out.glob("rali_lab-*.whl")
    return file


def test_the_wheel_holds_package_and_assets_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"rali_lab", next(top for top in tops if top.endswith(".dist-info"))}
    for name in ("rali/model.safetensors", "clip/visual.safetensors", "vlm/model.safetensors"):
        assert f"rali_lab/assets/{name}" in names
    assert "rali_lab/py.typed" in names and "rali_lab/paper/published.csv" in names
    assert not any("__pycache__" in name for name in names)


def test_the_installed_wheel_scores_an_image(wheel, tmp_path):
    where = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(where)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    code = (
        "import sys, rali_lab; sys.stderr.write(rali_lab.__file__ + '\\n');"
        " from rali_lab.cli import main; raise SystemExit(main(['score', 'noise.png']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(where)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0].startswith(str(where))
    score, name = done.stdout.rstrip("\n").split("\t")
    assert name == "noise.png" and 1 <= float(score) <= 5
