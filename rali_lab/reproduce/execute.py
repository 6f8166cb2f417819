"""Execute one notebook with this interpreter as its kernel, and write it without traces of the
machine.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rali_lab.io import WAITING_VARIABLE, write_json
from rali_lab.reproduce.checks import NOTEBOOK_VARIABLE
from rali_lab.reproduce.provenance import scrub

KERNEL_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # Idle threads that spin make a busy machine twenty times slower (docs/LOG.md).
    "OMP_WAIT_POLICY": "PASSIVE",
    # glibc keeps freed memory for the next tensor: a third of the page faults, a quarter of the
    # system time (docs/LOG.md).
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # silences a remark of the debugger about frozen modules
}
"""What every kernel gets: notebooks never reach for the network by themselves."""

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
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

After every cell and not at exit: a kernel that is slow to end is killed. On Linux `ru_maxrss` would
include the runner's own memory, which a child inherits; VmHWM starts afresh.
"""

_KERNELSPEC = {"display_name": "Python 3", "language": "python"}


class NotebookError(RuntimeError):
    """A notebook did not run to its end."""


def execute(
    notebook: Any, path: Path, *, name: str, parameters: Mapping[str, Any], root: Path
) -> int | None:
    """Execute a notebook beside its source, and write it cell by cell with its outputs.

    Several threads may do so at once inside one `kernels` block.

    Parameters
    ----------
    notebook : nbformat notebook
        What is executed.
    path : Path
        Where it is written.
    name : str
        Whose kernel runs it, and what errors call it.
    parameters : mapping
        Values injected after the parameters cell.
    root : Path
        The checkout; the kernel works in its folder `notebooks`.

    Returns
    -------
    int or None
        Peak memory of the kernel in bytes (its own, not its children's), None where the system
        cannot say.

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
    if _kernels is None:
        with kernels([name]):
            return execute(notebook, path, name=name, parameters=parameters, root=root)
    options = {"kernel_name": name, "cwd": str(_working_folder(root)), "progress_bar": False}
    try:
        with _own_event_loop():
            done = execute_notebook(str(path), str(path), parameters=dict(parameters), **options)
        note = _kernels / f"{name}.peak"
        memory = int(note.read_text()) if note.exists() else None
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
def _own_event_loop() -> Iterator[None]:
    """Close the event loop that nbclient opens for this thread and leaves open."""
    from jupyter_core.utils import ensure_event_loop

    try:
        yield
    finally:
        if threading.current_thread() is not threading.main_thread():
            ensure_event_loop().close()


def _working_folder(root: Path) -> Path:
    """Where JupyterLab starts a kernel, too: beside the notebook."""
    return root / "notebooks" if (root / "notebooks").is_dir() else root


_kernels: Path | None = None
"""Folder of the kernels that can be started now."""


@contextmanager
def kernels(names: Iterable[str], *, threads: str | None = None) -> Iterator[None]:
    """Kernels that are this interpreter, found before any installed one.

    Parameters
    ----------
    names : iterable of str
        Notebooks, each of which gets a kernel.
    threads : str or None
        How many threads each may compute with; by default as many as this process.

    Raises
    ------
    NotebookError
        If the interpreter has no ipykernel.
    """
    global _kernels
    if importlib.util.find_spec("ipykernel") is None:
        raise NotebookError(
            f"{Path(sys.executable).name} has no ipykernel to run notebooks with; run `make setup`"
        )
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            about = {NOTEBOOK_VARIABLE: name, _PEAK_VARIABLE: str(Path(folder, f"{name}.peak"))}
            about[WAITING_VARIABLE] = str(Path(folder, f"{name}.waiting"))
            about |= {v: threads for v in THREAD_VARIABLES if threads is not None}
            quiet = "--log-level=40"  # it warns of plain TCP, but listens to this machine only
            argv = [sys.executable, "-c", _KERNEL, "-f", "{connection_file}", quiet]
            spec = {**_KERNELSPEC, "argv": argv, "env": {**KERNEL_ENVIRONMENT, **about}}
            write_json(Path(folder, "kernels", name, "kernel.json"), spec)
        known = os.environ.get("JUPYTER_PATH")
        with _variable("JUPYTER_PATH", os.pathsep.join(filter(None, [folder, known]))):
            _kernels = Path(folder)
            try:
                yield
            finally:
                _kernels = None


def waiting(names: Iterable[str]) -> int:
    """How many of these notebooks wait for an artefact that another one is making."""
    return 0 if _kernels is None else sum((_kernels / f"{name}.waiting").exists() for name in names)


def kill_kernels() -> None:
    """End the kernels of the running `kernels` block, so that threads which wait for them come
    back.
    """
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if _kernels is not None and child.environ().get(WAITING_VARIABLE, "").startswith(
                str(_kernels)
            ):
                child.kill()


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


def publish(
    partial: Path, final: Path, *, root: Path, metadata: Mapping[str, Any] | None = None
) -> None:
    """Scrub an executed notebook, add `metadata` to its own and move it to `final` in one step."""
    notebook = _scrubbed(json.loads(partial.read_text(encoding="utf-8")), root)
    for i, cell in enumerate(notebook["cells"]):
        cell["id"] = f"cell-{i:03d}"  # random ids would change a committed notebook on every run
    for private in ("input_path", "output_path"):
        notebook["metadata"].get("papermill", {}).pop(private, None)
    notebook["metadata"]["kernelspec"] = {"name": "python3", **_KERNELSPEC}
    notebook["metadata"].update(metadata or {})
    write_json(final, notebook)
    partial.unlink()


def with_outputs(notebook: Any, executed: Path, stamp: Mapping[str, Any], key: str) -> None:
    """Write `notebook`, whose code is that of `executed`, with the outputs that are there: its
    prose has changed.
    """
    old = json.loads(executed.read_text(encoding="utf-8"))
    made = [
        c
        for c in old["cells"]
        if c["cell_type"] == "code" and "injected-parameters" not in c["metadata"].get("tags", [])
    ]
    injected = [c for c in old["cells"] if "injected-parameters" in c["metadata"].get("tags", [])]
    cells: list[dict[str, Any]] = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cells.append({**made.pop(0), "source": cell.source})
            cells += injected if "parameters" in cell.metadata.get("tags", []) else []
        else:
            cells.append(
                {
                    "cell_type": cell.cell_type,
                    "metadata": dict(cell.metadata),
                    "source": cell.source,
                }
            )
    for i, cell in enumerate(cells):
        cell["id"] = f"cell-{i:03d}"
    write_json(executed, {**old, "cells": cells, "metadata": {**old["metadata"], key: dict(stamp)}})


def _scrubbed(value: Any, root: Path) -> Any:
    """`scrub` on every string of a notebook but the images, whose base64 may hold anything."""
    if isinstance(value, dict):
        return {
            key: item if key.startswith("image/") else _scrubbed(item, root)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_scrubbed(item, root) for item in value]
    return scrub(value, root) if isinstance(value, str) else value
