"""One notebook in a kernel of its own: this interpreter, offline, and no trace of the machine."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import nbformat
import pytest

from rali_lab.reproduce import provenance, runner
from rali_lab.reproduce.execute import NotebookError, execute, kernels
from rali_lab.reproduce.runner import run

REAL = """# %% tags=["parameters"]
profile = "none"
out_dir = "nowhere"

# %%
import atexit, os, sys
from pathlib import Path
from rali_lab.reproduce.checks import Checks
atexit.register(os._exit, 0)  # as if killed while ending: its peak memory is known all the same
from rali_lab.reproduce.project import under_home
checks = Checks(under_home(out_dir) / "checks.json")
same, offline = sys.executable == EXECUTABLE, int(os.environ["HF_HUB_OFFLINE"])
checks.expect("the kernel is this Python", same, low=1, if_missed="another ran")
checks.expect("the kernel stays offline", offline, low=1, if_missed="it asks")
checks.expect("this one can fail", 0, low=1, if_missed="as it should")
print(profile, Path.cwd(), "\\x1b[31mred\\x1b[0m")
"""


def test_a_real_notebook_through_papermill(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(provenance, "device", lambda: "cpu: test, 1 cores")
    monkeypatch.setenv("PYTHONPATH", str(Path(runner.__file__).parents[2]))
    monkeypatch.setenv("RALI_LAB_HOME", str(tmp_path))
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (folder / "00_real.py").write_text(REAL.replace("EXECUTABLE", repr(sys.executable)))
    assert run("tiny", folder, tmp_path / "runs") == 1
    found = json.loads((tmp_path / "runs" / "summary.json").read_text())
    assert found["checks_missed"] == ["00_real: this one can fail"]
    assert found["notebooks"][0]["peak_memory_bytes"] > 2**20

    text = (tmp_path / "runs" / "notebooks" / "00_real.ipynb").read_text()
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert "tiny ./notebooks red\n" in notebook.cells[-1].outputs[0].text
    assert str(tmp_path) not in text and "\\u001b" not in text
    stamped = notebook.metadata["rali_lab"]
    assert (
        stamped["parameters"] == {"profile": "tiny", "out_dir": "runs"} and stamped["files"] == []
    )
    assert re.fullmatch("[0-9a-f]{64}", stamped["key"])
    assert notebook.metadata.kernelspec.name == "python3"
    assert run("tiny", folder, tmp_path / "runs") == 1
    assert "reused 00_real" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "complaint"),
    [("1 / 0", "1 / 0\n\nZeroDivisionError"), ("raise SystemExit(0)", "never reached")],
)
def test_a_notebook_that_does_not_reach_its_end_is_an_error(tmp_path, line, complaint):
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(line), nbformat.v4.new_code_cell("2")]
    with pytest.raises(NotebookError, match=re.escape(complaint)):
        execute(notebook, tmp_path / "a.ipynb", name="00_real", parameters={}, root=tmp_path)


def test_a_missing_kernel_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with (
        pytest.raises(NotebookError, match="no ipykernel to run notebooks with; run `make setup`"),
        kernels(["01"]),
    ):
        pass
