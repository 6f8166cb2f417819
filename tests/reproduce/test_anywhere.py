"""The first cells of every notebook run in a kernel started anywhere, from a checkout whose path
has a space and an umlaut.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import jupytext
import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the package and of the notebooks' sources."""
    folder = tmp_path_factory.mktemp("anywhere") / "Mein Ordner ä" / "checkout"
    shutil.copytree(ROOT / "rali_lab", folder / "rali_lab")
    shutil.copytree(
        ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns("*.ipynb", ".*")
    )
    shutil.copy2(ROOT / "pyproject.toml", folder)
    return folder


def first_cells(source: Path) -> list[str]:
    """The code of a notebook up to the line that opens it; what follows may train for minutes."""
    code = []
    for cell in jupytext.read(source, fmt="py:percent").cells:
        if cell.cell_type == "code":
            before, opens, after = cell.source.partition("\nnb = open_notebook(")
            code.append(before + opens + after.partition("\n")[0])
            if opens:
                return code
    raise AssertionError(f"{source.name} does not call open_notebook")


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize(
    ("start", "named"), [("checkout/notebooks", True), ("checkout", True), ("elsewhere", False)]
)
def test_first_cells_run_in_a_kernel_started_in(start, named, checkout, tmp_path, monkeypatch):
    """With RALI_LAB_HOME set the results lie there, else in the checkout, and nothing is left where
    the kernel was started.
    """
    (checkout.parent / "elsewhere").mkdir(exist_ok=True)
    folder, home = checkout.parent / start, tmp_path / "home ä" if named else checkout
    for name in ("RALI_LAB_HOME", "RALI_LAB_ARTIFACTS", "JUPYTER_PATH"):
        monkeypatch.delenv(name, raising=False)
    if named:
        monkeypatch.setenv("RALI_LAB_HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", str(checkout))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    sources = sorted((checkout / "notebooks").glob("[0-9][0-9]_*.py"))
    code = [cell for source in sources for cell in [*first_cells(source), "print(nb.out_dir)"]]
    code.append('nb.checks.expect("a check", 1, low=1, if_missed="")')
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in code])
    before = files(folder)

    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()

    said = "".join(output.get("text", "") for cell in notebook.cells for output in cell.outputs)
    assert said.count(f"\n{home / 'runs' / 'tiny'}\n") == len(sources)
    openings = [line[:26] for line in said.splitlines() if line.startswith("notebook ")]
    assert openings == [f"notebook {source.name[:2]} | profile tiny" for source in sources]
    assert (home / "runs" / "tiny" / "checks.json").is_file()
    assert files(folder) == before
