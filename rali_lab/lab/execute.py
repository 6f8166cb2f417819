"""Execute one notebook with this interpreter as its kernel, and write it without traces of the machine."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rali_lab.lab.artifacts import write_json
from rali_lab.lab.checks import NOTEBOOK_VARIABLE
from rali_lab.lab.provenance import scrub

KERNEL_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # idle threads that spin make a busy machine twenty times slower (docs/LOG.md)
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # silences a remark of the debugger about frozen modules
}
"""What every kernel gets: notebooks never reach for the network by themselves."""

_PEAK_VARIABLE = "RALI_LAB_PEAK_FILE"
_KERNEL = f"""
import os, pathlib, re, sys
from ipykernel.kernelapp import IPKernelApp

def peak():
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1]) * 1024
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def note(*_):
    file = pathlib.Path(os.environ["{_PEAK_VARIABLE}"])
    file.with_suffix(".part").write_text(str(peak()))
    file.with_suffix(".part").replace(file)

app = IPKernelApp.instance()
app.initialize()
if sys.platform != "win32":
    app.shell.events.register("post_run_cell", note)
app.start()
"""
"""An ipykernel that notes its peak memory in bytes after every cell; Windows leaves no note.

After every cell and not at exit: a kernel that is slow to end is killed. On Linux `ru_maxrss` would include the
runner's own memory, which a child inherits; VmHWM starts afresh.
"""

_KERNELSPEC = {"display_name": "Python 3", "language": "python"}


class NotebookError(RuntimeError):
    """A notebook did not run to its end."""


def execute(notebook: Any, path: Path, *, name: str, parameters: Mapping[str, Any], root: Path) -> int | None:
    """Execute `notebook` in the folder `root` and write it to `path`, cell by cell, with its outputs.

    Returns
    -------
    Peak memory of the kernel in bytes (its own, not its children's), None where the system cannot say.

    Raises
    ------
    NotebookError
        With the failing cell and its error; if the kernel died; or if a cell was never reached.
    """
    import nbformat
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill import PapermillExecutionError, execute_notebook

    notebook.metadata["kernelspec"] = {"name": "python3", **_KERNELSPEC}
    nbformat.write(notebook, path)
    options = {"kernel_name": "python3", "cwd": str(root), "progress_bar": False}
    try:
        with _kernel(name) as peak:
            done = execute_notebook(str(path), str(path), parameters=dict(parameters), **options)
            memory = peak()
    except PapermillExecutionError as error:
        head = f"{name} failed in this cell:\n\n{error.source}\n\n{error.ename}: {error.evalue}"
        raise NotebookError(scrub(head, root)) from error
    except (DeadKernelError, CellTimeoutError) as error:
        cure = "most often memory ran out: close other programs or take a smaller profile"
        raise NotebookError(f"{name}: the kernel died ({error}); {cure}") from error
    for cell in done.cells:
        if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None:
            raise NotebookError(
                f"{name} stopped early (sys.exit?); this cell was never reached:\n\n{cell.source}"
            )
    return memory


@contextmanager
def _kernel(name: str) -> Iterator[Callable[[], int | None]]:
    """A "python3" kernel that is this interpreter, found before any installed one; yields its peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        note, spec = Path(folder, "peak"), Path(folder, "kernels", "python3", "kernel.json")
        environment = {**KERNEL_ENVIRONMENT, NOTEBOOK_VARIABLE: name, _PEAK_VARIABLE: str(note)}
        quiet = "--log-level=40"  # it warns of plain TCP, but listens to this machine only
        argv = [sys.executable, "-c", _KERNEL, "-f", "{connection_file}", quiet]
        write_json(spec, {**_KERNELSPEC, "argv": argv, "env": environment})
        with _variable(
            "JUPYTER_PATH", os.pathsep.join(filter(None, [folder, os.environ.get("JUPYTER_PATH")]))
        ):
            yield lambda: int(note.read_text()) if note.exists() else None


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    earlier = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if earlier is not None:
            os.environ[name] = earlier


def publish(partial: Path, final: Path, *, root: Path, metadata: Mapping[str, Any] | None = None) -> None:
    """Scrub an executed notebook, add `metadata` to its own and move it to `final` in one step."""
    notebook = _scrubbed(json.loads(partial.read_text(encoding="utf-8")), root)
    for i, cell in enumerate(notebook["cells"]):
        cell["id"] = f"cell-{i:03d}"  # random ids would change a committed notebook on every run
    for private in ("input_path", "output_path"):
        notebook["metadata"].get("papermill", {}).pop(private, None)
    notebook["metadata"].update(metadata or {})
    write_json(final, notebook)
    partial.unlink()


def _scrubbed(value: Any, root: Path) -> Any:
    """`scrub` on every string of a notebook but the pictures, whose base64 may look like anything."""
    if isinstance(value, dict):
        return {
            key: item if key.startswith("image/") else _scrubbed(item, root) for key, item in value.items()
        }
    if isinstance(value, list):
        return [_scrubbed(item, root) for item in value]
    return scrub(value, root) if isinstance(value, str) else value
