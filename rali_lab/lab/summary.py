"""What a run says about itself: the time left while it works, and the table at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rali_lab.lab.artifacts import duration


@dataclass(frozen=True)
class Row:
    """One notebook of a run.

    Attributes
    ----------
    notebook : name without suffix.
    status : "made", "reused" or "failed".
    seconds : what making it took, also when it was reused; 0 if it failed.
    peak_memory_bytes : of the kernel itself; None if unknown.
    checks_passed, checks_missed : counts.
    """

    notebook: str
    status: str
    seconds: float
    peak_memory_bytes: int | None
    checks_passed: int
    checks_missed: int


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text.

    >>> print(table([Row("00_start", "made", 12.3, 2**28, 4, 0)]))
    notebook                        status       time  peak memory  passed  missed
    00_start                        made         12 s      256 MiB       4       0
    """
    lines = [f"{'notebook':<32}{'status':<8}{'time':>9}{'peak memory':>13}{'passed':>8}{'missed':>8}"]
    for row in rows:
        peak = "-" if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / 2**20:.0f} MiB"
        counts = f"{row.checks_passed:>8}{row.checks_missed:>8}"
        lines.append(f"{row.notebook:<32}{row.status:<8}{duration(row.seconds):>9}{peak:>13}{counts}")
    return "\n".join(lines)


def time_left(elapsed: float, waiting: Sequence[str], known: Mapping[str, float]) -> str:
    """Time so far, and the time left as far as earlier runs tell it.

    Parameters
    ----------
    elapsed : seconds since the start of the run.
    waiting : notebooks that still have to be executed.
    known : seconds by notebook of earlier runs.

    >>> time_left(30, ["01", "02"], {"01": 60.0, "02": 120.0})
    '30 s elapsed, about 180 s left'
    >>> time_left(30, ["01", "02"], {"01": 60.0})
    '30 s elapsed, more than 60 s left (1 notebook never timed)'
    """
    untimed = sum(name not in known for name in waiting)
    left = duration(sum(known.get(name, 0.0) for name in waiting))
    if not waiting:
        forecast = "nothing left to execute"
    elif untimed == len(waiting):
        forecast = "time left unknown before a first run"
    elif untimed:
        forecast = f"more than {left} left ({untimed} notebook{'s' * (untimed > 1)} never timed)"
    else:
        forecast = f"about {left} left"
    return f"{duration(elapsed)} elapsed, {forecast}"
