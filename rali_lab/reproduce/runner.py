"""Run the notebooks side by side, strictly, and pick up where an earlier run stopped.

`python -m rali_lab.reproduce.runner --profile tiny` executes each `notebooks/NN_*.py` into the
folder `runs/tiny/notebooks`, as many at a time as there are cores (`--jobs`). What several of them
need is made once, by the first that asks; the others wait for it, and meanwhile one more may start.
A notebook whose key is unchanged is reused with its outputs (`rali_lab.reproduce.plan` says what
the key covers). After the first failure nothing new is started; a missed check or a claim without a
verdict fails the run at its end.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import Context
from pathlib import Path
from typing import Any

from rali_lab.io import StorageError
from rali_lab.reproduce.checks import forget
from rali_lab.reproduce.execute import (
    NotebookError,
    execute,
    kernels,
    kill_kernels,
    publish,
    waiting,
    with_outputs,
)
from rali_lab.reproduce.machine import cores
from rali_lab.reproduce.plan import STAMP, RunFolders, Step, plan, reusable, stamp_of
from rali_lab.reproduce.progress import Progress, Row, conclude, row_of
from rali_lab.reproduce.project import (
    RATED_VARIABLE,
    ProjectError,
    checkout,
    home,
    under_home,
    writable,
)
from rali_lab.reproduce.provenance import stamp
from rali_lab.reproduce.store import ArtifactStore, duration

MOST_JOBS = 4
"""Kernels that compute at a time by default; each takes one to two GiB."""
WAITING_KERNELS = 2
"""Kernels beyond those, while others wait for an artefact that one of them makes."""
POLL = 2.0
"""Seconds between checks of who waits."""


def run(
    profile: str,
    notebooks_dir: str | Path,
    out_dir: str | Path,
    only: str | Sequence[str] | None = None,
    seed: int = 0,
    force: bool = False,
    jobs: int | None = None,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> int:
    """Run the notebooks of a folder.

    Parameters
    ----------
    profile : str
        Size of the run; every notebook declares it as a parameter.
    notebooks_dir : str or Path
        Holds `NN_*.py` and, optionally, `claims.toml`; it is the kernels' working folder.
    out_dir : str or Path
        Where results go; passed to the notebooks that declare it.
    only : str, sequence of str or None
        Numbers or beginnings of names, such as "02"; the other notebooks are neither run nor
        judged.
    seed : int
        Passed to the notebooks that declare it.
    force : bool
        Run again what could be reused.
    jobs : int or None
        Notebooks at a time, by default one for each core, at most four. Each gets its share of the
        cores as threads, unless OMP_NUM_THREADS says how many.
    changes : mapping or None
        Parameters of single notebooks, by the beginning of the name.

    Returns
    -------
    int
        The exit code: 0 if all finished, held and gave their verdicts.

    Raises
    ------
    ParameterError, ClaimError, PlanError, FileNotFoundError, ProjectError
        Before anything runs, if a notebook's parameters, the claims file or `only` are wrong, if
        `out_dir` cannot be written, or while another run works in it.
    """
    folders = RunFolders(Path(notebooks_dir).resolve(), Path(out_dir).resolve())
    steps = plan(folders, profile, seed, only, changes)
    with _alone(folders.out):
        store = ArtifactStore().root
        from_nothing = not (store.is_dir() and any(store.iterdir()))
        found = {} if force else {step.name: reusable(folders, step) for step in steps}
        jobs = jobs or min(cores(), MOST_JOBS)
        progress = Progress(
            [s.name for s in steps], {s.name: s.after for s in steps}, _times(folders, steps), jobs
        )
        rows = _run_all(folders, steps, found, progress, jobs)
        wall = round(time.perf_counter() - progress.start, 1)
        ran = [rows[s.name] for s in steps if s.name in rows]
        took = {"wall_seconds": wall, "jobs": jobs, "cores": cores()}
        where = {"device": _device(folders, ran), "from_nothing": from_nothing}
        head = {"profile": profile, "seed": seed, **took, **where}
        return conclude(folders, head, ran)


def _device(folders: RunFolders, rows: Sequence[Row]) -> str | None:
    """What the notebooks ran on, as their stamps say."""
    stamps = [stamp_of(folders.executed(row.notebook)) for row in rows]
    found = {s["provenance"]["device"] for s in stamps if "provenance" in s}
    return ", ".join(sorted(found)) or None


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the run's folder against a second run."""
    writable(out)
    try:
        import fcntl
    except ImportError:  # Windows: one run at a time is the user's duty
        yield
        return
    with (out / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            who = lock.read().strip() or "another process"
            raise ProjectError(
                f"{out} is in use by {who}; wait for it, or give this run a folder of its own"
                " (--out)"
            ) from None
        lock.truncate(0)
        lock.write(f"the run with process id {os.getpid()}, started at {time.strftime('%H:%M:%S')}")
        lock.flush()
        yield
        lock.truncate(0)


def _times(folders: RunFolders, steps: list[Step]) -> dict[str, float]:
    """Seconds of each notebook as an earlier run, or else the published one, took them."""
    places = {s.name: (folders.executed(s.name), folders.published(s.name)) for s in steps}
    stamps = {name: stamp_of(last) or stamp_of(older) for name, (last, older) in places.items()}
    known = {name: found for name, found in stamps.items() if "seconds" in found}
    return {name: found.get("longest", found["seconds"]) for name, found in known.items()}


def _run_all(
    folders: RunFolders, steps: list[Step], found: Mapping[str, Any], progress: Progress, jobs: int
) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for step in steps:
        if found.get(step.name):
            rows[step.name] = _reuse(folders, step, found[step.name])
            made_in = duration(rows[step.name].seconds)
            progress.done(step.name, f"reused {step.name} (made in {made_in})")
    todo = {step.name: step for step in steps if step.name not in rows}
    if not todo:
        return rows
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores() // jobs))
    with (
        kernels(todo, threads=threads),
        progress.shown(),
        ThreadPoolExecutor(jobs + WAITING_KERNELS) as pool,
    ):
        running: dict[Future, str] = {}
        try:
            while todo or running:
                failed = any(row.status == "failed" for row in rows.values())
                busy = len(running) - waiting(running.values())
                if todo and not failed and busy < jobs and len(running) < jobs + WAITING_KERNELS:
                    name = _next(todo, rows, progress)
                    running[pool.submit(Context().run, _execute, folders, todo.pop(name))] = name
                    progress.started(name)
                    if len(running) < jobs:
                        continue
                elif not running:
                    break
                for future in wait(running, timeout=POLL, return_when=FIRST_COMPLETED).done:
                    name = running.pop(future)
                    rows[name] = future.result()
                    took = duration(rows[name].seconds)
                    progress.done(name, f"{rows[name].status} {name} in {took}")
        except BaseException:
            _stopping.set()
            try:
                while not all(future.done() for future in running):
                    kill_kernels()
                    wait(running, timeout=0.5)
            finally:
                _stopping.clear()
            raise
    return rows


def _next(todo: Mapping[str, Step], rows: Mapping[str, Row], progress: Progress) -> str:
    """The notebook to start: the most urgent of those whose predecessors have ended, else of all.

    One that starts early finds the artefacts it needs, or waits for whoever makes them
    (`rali_lab.reproduce.store`).
    """
    ended = [
        name
        for name, step in todo.items()
        if all(n in rows or n not in progress.names for n in step.after)
    ]
    return progress.by_urgency(ended or list(todo))[0]


def _reuse(folders: RunFolders, step: Step, found: dict[str, Any]) -> Row:
    """Keep the outputs; where the prose has changed since, put it around them."""
    if found["source_sha256"] != step.source_sha256:
        renewed = {**found, "source_sha256": step.source_sha256}
        with_outputs(step.notebook, folders.executed(step.name), renewed, STAMP)
    return row_of(folders, step.name, "reused", found)


_console = threading.Lock()
_stopping = threading.Event()
CLOCK_GRAIN = 2.0
"""Seconds by which a file system's clock may lag."""


def _execute(folders: RunFolders, step: Step) -> Row:
    """Execute into a partial file, stamp it, rename it: an output under its own name is always
    whole.
    """
    final = folders.executed(step.name)
    partial = final.with_name(f".{step.name}.partial.ipynb")
    failed = final.parent / "failed" / final.name
    final.parent.mkdir(parents=True, exist_ok=True)
    forget(folders.checks, step.name)
    if folders.ledger:
        folders.ledger.forget(step.name)
    if _stopping.is_set():
        return row_of(folders, step.name, "failed", {})
    started, clock = time.perf_counter(), time.time()
    try:
        peak = execute(
            step.notebook, partial, name=step.name, parameters=step.parameters, root=folders.root
        )
    except NotebookError as error:
        if _stopping.is_set():  # its kernel was ended, nothing is wrong with it
            return row_of(folders, step.name, "failed", {})
        publish(partial, failed, root=folders.root)
        with _console:
            print(error, file=sys.stderr, flush=True)
        return row_of(folders, step.name, "failed", {"seconds": time.perf_counter() - started})
    # What an earlier execution left and this one does not write.
    for file in folders.files(step.name):
        if (folders.out / file).stat().st_mtime < clock - CLOCK_GRAIN:
            (folders.out / file).unlink()
    seconds = round(time.perf_counter() - started, 2)
    found = {
        "key": step.key,
        "made_by": step.code,
        "source_sha256": step.source_sha256,
        "profile": step.parameters["profile"],
        "parameters": step.parameters,
        "seconds": seconds,
        "longest": max(seconds, stamp_of(final).get("longest", 0.0)),  # with nothing made before
        "peak_memory_bytes": peak,
        "files": folders.files(step.name),
        "records_sha256": folders.records(step.name),
        "provenance": stamp(),
    }
    publish(partial, final, root=folders.root, metadata={STAMP: found})
    failed.unlink(missing_ok=True)
    return row_of(folders, step.name, "made", found)


def _changes(given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`["06.seed=1"]` as `{"06": {"seed": 1}}`; ValueError on another form.

    >>> _changes(["06.seed=1", "06.out_dir='elsewhere'"])
    {'06': {'seed': 1, 'out_dir': 'elsewhere'}}
    """
    found: dict[str, dict[str, Any]] = {}
    for text in given:
        head, equals, value = text.partition("=")
        notebook, dot, name = head.partition(".")
        try:
            if not (equals and dot and name):
                raise ValueError
            found.setdefault(notebook, {})[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise ValueError(
                f"--set {text!r}: give NOTEBOOK.NAME=VALUE with a Python literal, such as 06.seed=1"
            ) from None
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of `python -m rali_lab.reproduce.runner`."""
    parser = argparse.ArgumentParser(
        prog="python -m rali_lab.reproduce.runner", description="Run the notebooks side by side."
    )
    add = parser.add_argument
    add("--profile", required=True, help="size of the run, such as tiny")
    add("--only", nargs="+", help="beginnings of notebook names, such as 02")
    add("--seed", type=int, default=0)
    add("--set", nargs="+", default=[], metavar="NN.NAME=VALUE", help="change single parameters")
    add("--force", action="store_true", help="run again what could be reused")
    add("--jobs", type=int, help="notebooks at a time (default: one for each core, at most 4)")
    rated = f"folder of photographs rated by people (default: ${RATED_VARIABLE})"
    add("--rated", metavar="DIR", help=rated)
    add("--notebooks", help="folder of the NN_*.py sources (default: the project's)")
    add("--out", help="folder of the run, by default runs/<profile> of the project")
    chosen = parser.parse_args(arguments)
    if chosen.rated:
        os.environ[RATED_VARIABLE] = str(Path(chosen.rated).resolve())
    out = Path(chosen.out).resolve() if chosen.out else under_home(Path("runs", chosen.profile))
    notebooks = chosen.notebooks or (checkout() or home()) / "notebooks"
    try:
        return run(
            chosen.profile,
            notebooks,
            out,
            only=chosen.only,
            seed=chosen.seed,
            force=chosen.force,
            jobs=chosen.jobs,
            changes=_changes(chosen.set),
        )
    except (ValueError, FileNotFoundError, ProjectError, StorageError, NotebookError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
