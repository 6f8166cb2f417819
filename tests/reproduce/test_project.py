"""Results lie in the project, wherever the process was started, and a place that cannot be used is
a sentence.
"""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from rali_lab.reproduce import project
from rali_lab.reproduce.project import ProjectError

ROOT = Path(__file__).parents[2]


def test_the_current_folder_does_not_matter(tmp_path, monkeypatch):
    monkeypatch.delenv("RALI_LAB_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert project.home() == project.checkout() == ROOT
    assert project.under_home("runs/tiny") == ROOT / "runs" / "tiny"
    assert project.under_home(tmp_path / "x") == tmp_path / "x"
    assert project.notebooks() == ROOT / "notebooks"


def test_a_named_home_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("RALI_LAB_HOME", str(tmp_path / "ein Ordner ä"))
    assert project.under_home("runs") == tmp_path / "ein Ordner ä" / "runs"
    assert project.notebooks() == ROOT / "notebooks"


def test_an_installed_package_keeps_its_results_with_the_user_and_has_no_notebooks(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("RALI_LAB_HOME", raising=False)
    monkeypatch.setattr(project, "checkout", lambda: None)
    assert project.home().name == "rali_lab" and project.home().is_absolute()
    with pytest.raises(
        ProjectError, match="clone the repository and run `make lab` in it, or set RALI_LAB_HOME"
    ):
        project.notebooks()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "claims.toml").touch()
    monkeypatch.setenv("RALI_LAB_HOME", str(tmp_path))
    assert project.notebooks() == tmp_path / "notebooks"


def test_a_copy_outside_a_checkout_says_so(tmp_path):
    """The package alone, copied as an installation would, in another process."""
    import shutil

    left_out = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.webp")
    shutil.copytree(ROOT / "rali_lab", tmp_path / "site" / "rali_lab", ignore=left_out)
    code = (
        "from rali_lab.reproduce.notebook import open_notebook; open_notebook('00', profile='tiny',"
        " out_dir='runs/tiny')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "site",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        done.returncode == 1
        and "the notebooks belong to a checkout of rali_lab" in done.stderr.splitlines()[-1]
    )


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(ProjectError, match="cannot be written .*set RALI_LAB_HOME"):
        project.writable(tmp_path / "file" / "runs")

    def read_only(self, *args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "touch", read_only)
    with pytest.raises(ProjectError, match=r"runs cannot be written \(Read-only file system\)"):
        project.writable(tmp_path / "runs")


def test_rated_photographs_are_named_or_absent(tmp_path, monkeypatch):
    monkeypatch.delenv("RALI_LAB_LIVEC", raising=False)
    assert project.rated_photographs() is None
    monkeypatch.setenv("RALI_LAB_LIVEC", str(tmp_path))
    with pytest.raises(ProjectError, match="holds no ratings.csv"):
        project.rated_photographs()
    (tmp_path / "ratings.csv").touch()
    assert project.rated_photographs() == tmp_path


def test_precision_is_forced_or_found(monkeypatch):
    from rali_lab.precision import use_bf16

    for named, expected in (("fp32", False), ("bf16", True)):
        monkeypatch.setenv("RALI_LAB_PRECISION", named)
        assert use_bf16() is expected
    monkeypatch.setenv("RALI_LAB_PRECISION", "fp16")
    with pytest.raises(ValueError, match="set it to fp32 or bf16"):
        use_bf16()
    monkeypatch.delenv("RALI_LAB_PRECISION")
    assert use_bf16() in (True, False)
