"""The time left while a run works, and the table at its end."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from rali_lab.io import write_json
from rali_lab.reproduce.checks import missed, read_checks
from rali_lab.reproduce.claims import NOT_RUN
from rali_lab.reproduce.plan import RunFolders
from rali_lab.reproduce.store import duration
from rali_lab.reproduce.tables import aligned


@dataclass(frozen=True)
class Row:
    """One notebook of a run.

    Attributes
    ----------
    notebook
        Name without suffix.
    status
        "made", "reused" or "failed".
    seconds
        What making it took, also when it was reused.
    peak_memory_bytes
        Of the kernel itself; None if unknown.
    checks_passed, remarks, checks_missed
        Counts.
    """

    notebook: str
    status: str
    seconds: float
    peak_memory_bytes: int | None
    checks_passed: int
    remarks: int
    checks_missed: int


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text.

    >>> print(table([Row("00_start", "made", 12.3, 2**28, 4, 1, 0)]))
    notebook  status  time  peak memory  passed  remarks  missed
    00_start  made    12 s      256 MiB       4        1       0
    """
    made = [
        (
            row.notebook,
            row.status,
            duration(row.seconds),
            "-" if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / 2**20:.0f} MiB",
            row.checks_passed,
            row.remarks,
            row.checks_missed,
        )
        for row in rows
    ]
    head = ("notebook", "status", "time", "peak memory", "passed", "remarks", "missed")
    return aligned([head, *made], align="llrrrrr")


def row_of(folders: RunFolders, name: str, status: str, found: dict[str, Any]) -> Row:
    """A notebook of the run with its checks, and the seconds and memory of its stamp `found`."""
    records = read_checks(folders.checks).get(name, [])
    passed, lost = sum(record["passed"] for record in records), len(missed(records))
    seconds, peak = found.get("seconds", 0.0), found.get("peak_memory_bytes")
    return Row(name, status, seconds, peak, passed, len(records) - passed - lost, lost)


def conclude(folders: RunFolders, head: dict[str, Any], rows: list[Row]) -> int:
    """Print and write the summary of a run.

    Parameters
    ----------
    folders : RunFolders
        The folders of the run.
    head : dict
        What was run and how long it took, "wall_seconds" and "jobs" among it.
    rows : list of Row
        The notebooks.

    Returns
    -------
    int
        0 if all finished, held and gave their verdicts, else 1.
    """
    names, checks = [row.notebook for row in rows], read_checks(folders.checks)
    of_run = [(name, check) for name in names for check in checks.get(name, [])]
    faults = {
        "failed": [row.notebook for row in rows if row.status == "failed"],
        "checks_missed": [f"{n}: {c['expect']}" for n, c in of_run if missed([c])],
        "claims_not_run": [
            row["id"] for n in names for row in folders.claim_rows(n) if row["verdict"] == NOT_RUN
        ],
    }
    remarks = [f"{n}: {c['expect']}" for n, c in of_run if not c["passed"] and not missed([c])]
    ok, made = not any(faults.values()), [asdict(row) for row in rows]
    write_json(
        folders.out / "summary.json",
        {**head, "ok": ok, "notebooks": made, **faults, "remarks": remarks},
    )
    print(f"\n{table(rows)}\n{duration(head['wall_seconds'])} in all, {head['jobs']} at a time")
    other = "remarks (stochastic runs that came out otherwise than the published one)"
    for fault, lines in {**faults, other: remarks}.items():
        if lines:
            print("\n  ".join([f"\n{fault.replace('_', ' ')}:", *lines]))
    return 0 if ok else 1


class Progress:
    """How far a run is, and the time left by the times of earlier runs, or of the published one.

    Parameters
    ----------
    names
        All notebooks.
    after
        Those that each waits for.
    seconds
        What each took; the others count as the mean of the known ones.
    jobs
        Notebooks at a time.
    """

    EVERY = 60
    """Seconds between lines while nothing else is printed; on a terminal one line is renewed every
    second."""

    def __init__(
        self,
        names: Sequence[str],
        after: Mapping[str, Sequence[str]],
        seconds: Mapping[str, float],
        jobs: int,
    ) -> None:
        self.names, self.after, self.jobs = list(names), after, jobs
        usual = sum(seconds.values()) / len(seconds) if seconds else 60.0
        self.seconds = {name: seconds.get(name, usual) for name in names}
        self.begun: dict[str, float] = {}
        self.finished: set[str] = set()
        self.start = time.perf_counter()
        self._lock = threading.RLock()

    def by_urgency(self, names: Sequence[str]) -> list[str]:
        """Those first on which the longest chain of others waits."""
        return sorted(names, key=lambda name: -self._chain(name))

    def _chain(self, name: str) -> float:
        waiting = [self._chain(n) for n in self.names if name in self.after.get(n, ())]
        return self._left(name) + max(waiting, default=0.0)

    def _left(self, name: str) -> float:
        if name in self.finished:
            return 0.0
        gone = time.perf_counter() - self.begun[name] if name in self.begun else 0.0
        return max(self.seconds[name] - gone, 0.05 * self.seconds[name])

    def left(self) -> float:
        """Seconds until the end, at the earliest: no less than the longest chain, nor than the work
        shared by all.

        >>> p = Progress(["01", "02", "03"], {"03": ["02"]}, {"01": 60, "02": 60, "03": 60}, jobs=2)
        >>> round(p.left())
        120
        """
        work = sum(map(self._left, self.names)) / self.jobs
        return max(work, max((self._chain(n) for n in self.names), default=0.0))

    def line(self) -> str:
        """One line: notebooks done, running, time so far, time left."""
        running = [name for name in self.names if name in self.begun and name not in self.finished]
        gone = duration(time.perf_counter() - self.start)
        ahead = (
            f"about {duration(self.left())} left"
            if len(self.finished) < len(self.names)
            else "nothing left"
        )
        what = f"; running {', '.join(running)}" if running else ""
        return f"[{len(self.finished)}/{len(self.names)}] {gone} elapsed, {ahead}{what}"

    def started(self, name: str) -> None:
        with self._lock:
            self.begun[name] = time.perf_counter()
            self._print(self.line())

    def done(self, name: str, line: str) -> None:
        """Count a notebook as finished and print how it ended."""
        with self._lock:
            self.finished.add(name)
            self._print(f"  {line}")

    def _print(self, text: str) -> None:
        print(("\r\x1b[K" if sys.stdout.isatty() else "") + text, flush=True)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Print the line again and again while the block runs."""
        stop, terminal = threading.Event(), sys.stdout.isatty()

        def repeat() -> None:
            while not stop.wait(1 if terminal else self.EVERY):
                with self._lock:
                    print(
                        "\r\x1b[K" + self.line() if terminal else self.line(),
                        end="" if terminal else "\n",
                        flush=True,
                    )

        thread = threading.Thread(target=repeat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
