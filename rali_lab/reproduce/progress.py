"""What a run says about itself: the time left while it works, and the table at its end."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rali_lab.reproduce.store import duration


@dataclass(frozen=True)
class Row:
    """One notebook of a run.

    Attributes
    ----------
    notebook
        name without suffix.
    status
        "made", "reused" or "failed".
    seconds
        what making it took, also when it was reused.
    peak_memory_bytes
        of the kernel itself; None if unknown.
    checks_passed, remarks, checks_missed
        counts.
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
    notebook                        status       time  peak memory  passed  remarks  missed
    00_start                        made         12 s      256 MiB       4        1       0
    """
    lines = [
        f"{'notebook':<32}{'status':<8}{'time':>9}{'peak memory':>13}{'passed':>8}{'remarks':>9}{'missed':>8}"
    ]
    for row in rows:
        peak = "-" if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / 2**20:.0f} MiB"
        counts = f"{row.checks_passed:>8}{row.remarks:>9}{row.checks_missed:>8}"
        lines.append(
            f"{row.notebook:<32}{row.status:<8}{duration(row.seconds):>9}{peak:>13}{counts}"
        )
    return "\n".join(lines)


class Progress:
    """How far a run is, and the time left as earlier runs, or the published one, tell it.

    Parameters
    ----------
    names
        all notebooks.
    after
        those that each waits for.
    seconds
        what each took; the others count as the mean of the known ones.
    jobs
        notebooks at a time.
    """

    EVERY = 60
    """Seconds between lines while nothing else is said; on a terminal one line is renewed every
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
            self._say(self.line())

    def done(self, name: str, said: str) -> None:
        """Count a notebook as finished and say how it ended."""
        with self._lock:
            self.finished.add(name)
            self._say(f"  {said}")

    def _say(self, text: str) -> None:
        print(("\r\x1b[K" if sys.stdout.isatty() else "") + text, flush=True)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Say the line again and again while the block runs."""
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
