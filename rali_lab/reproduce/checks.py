"""What you should see: expectations stated before the value, recorded, and judged at the end of the
run.

Two kinds. `Checks.expect` is for what must hold on every machine: forms, leaks, keys, NaN,
identities; a miss fails the run. `Checks.observe` is for the outcome of a stochastic training,
which another processor or another number of threads may turn out otherwise; a miss is a remark,
printed beside the recorded run.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from rali_lab.io import update_json

NOTEBOOK_VARIABLE = "RALI_LAB_NOTEBOOK"
"""Environment variable by which the runner tells a kernel the name of its notebook."""

_opened: set[tuple[str, str]] = set()


class Checks:
    """Recorder of one notebook's expectations in a JSON file that all notebooks of a run share.

    The first recorder that a process opens for a notebook drops that notebook's records of earlier
    sessions. A missed check does not raise: the notebook goes on and the runner fails when all is
    done.

    Parameters
    ----------
    path
        The JSON file, `{notebook: [record, ...]}`; written atomically after each check.
    notebook
        Whose records these are; by default the notebook being run, "interactive" outside the
        runner.
    recorded
        Records of the published run, in the same form, which `observe` shows beside a miss.

    Examples
    --------
    >>> import tempfile
    >>> checks = Checks(Path(tempfile.mkdtemp()) / "checks.json", "demo")
    >>> checks.expect("the mean is in the scale", 3.2, low=1, high=5, if_missed="broken scores")
    ✓ the mean is in the scale: 3.2 (expected 1 to 5)
    """

    def __init__(
        self, path: str | Path, notebook: str | None = None, *, recorded: str | Path | None = None
    ) -> None:
        self.path = Path(path)
        self.recorded = None if recorded is None else Path(recorded)
        self.notebook = notebook or os.environ.get(NOTEBOOK_VARIABLE) or "interactive"
        opening = (str(self.path.resolve()), self.notebook)
        if opening not in _opened:
            forget(self.path, self.notebook)
            _opened.add(opening)

    def expect(
        self,
        sentence: str,
        value: float,
        *,
        low: float | None = None,
        high: float | None = None,
        if_missed: str,
    ) -> None:
        """Print and record whether `value` lies in the closed interval from `low` to `high`.

        Parameters
        ----------
        sentence
            What you should see, in words that were true before the run.
        value
            A number; NaN always misses.
        low, high
            Inclusive bounds, at least one.
        if_missed
            What a miss means and where to look.

        Raises
        ------
        ValueError
            Without a bound, with a NaN bound, or with `low` above `high`.
        """
        self._record(sentence, value, low, high, if_missed, remark=False)

    def observe(
        self,
        sentence: str,
        value: float,
        *,
        low: float | None = None,
        high: float | None = None,
        if_missed: str,
    ) -> None:
        """As `expect`, for the outcome of a stochastic run: a miss is a remark and fails nothing;
        NaN still does.

        What the published run gave is printed beside a miss.
        """
        self._record(sentence, value, low, high, if_missed, remark=not math.isnan(float(value)))

    def _record(self, sentence, value, low, high, if_missed, *, remark: bool) -> None:
        bounds = _bounds(sentence, low, high)
        value = float(value)
        passed = (
            (low is None or value >= low)
            and (high is None or value <= high)
            and not math.isnan(value)
        )
        sign = "✓" if passed else "○" if remark else "✗"
        print(f"{sign} {sentence}: {value:.4g} (expected {bounds})")
        if not passed:
            print(f"  {if_missed}" + (self._recorded_value(sentence) if remark else ""))
        record = {
            "expect": sentence,
            "value": _plain(value),
            "low": _plain(low),
            "high": _plain(high),
        }
        self._append({**record, "passed": passed, "remark": remark, "if_missed": if_missed})

    def _recorded_value(self, sentence: str) -> str:
        remark = "\n  This is one stochastic run, so it may come out otherwise on another processor"
        known = read_checks(self.recorded) if self.recorded else {}
        found = [
            row["value"] for rows in known.values() for row in rows if row["expect"] == sentence
        ]
        return f"{remark}; the published run gave {float(found[0]):.4g}." if found else f"{remark}."

    @property
    def records(self) -> list[dict[str, Any]]:
        """This notebook's records so far, in order."""
        return read_checks(self.path).get(self.notebook, [])

    def _append(self, record: dict[str, Any]) -> None:
        def add(everything: dict) -> dict:
            everything.setdefault(self.notebook, []).append(record)
            return everything

        update_json(self.path, add, empty={})


def read_checks(path: str | Path) -> dict[str, list[dict[str, Any]]]:
    """All records by notebook; empty if nothing was recorded yet."""
    path = Path(path)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def forget(path: str | Path, notebook: str) -> None:
    """Drop the records of one notebook and keep the others."""
    if notebook in read_checks(path):
        update_json(path, lambda found: {k: v for k, v in found.items() if k != notebook}, empty={})


def missed(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records that fail a run; remarks do not."""
    return [record for record in records if not record["passed"] and not record.get("remark")]


def _bounds(sentence: str, low: float | None, high: float | None) -> str:
    if low is None and high is None:
        raise ValueError(
            f"check {sentence!r} has no bound and could not fail; pass low=, high= or both"
        )
    if any(bound is not None and math.isnan(bound) for bound in (low, high)):
        raise ValueError(
            f"check {sentence!r} has the bounds {low} and {high}; a bound must be a number, not NaN"
        )
    if low is not None and high is not None:
        if low > high:
            raise ValueError(
                f"check {sentence!r} has low {low} above high {high} and could not pass; swap them"
            )
        return f"{low:.4g} to {high:.4g}"
    return f"at least {low:.4g}" if high is None else f"at most {high:.4g}"


def _plain(value: float | None) -> float | str | None:
    """JSON has no NaN and no infinity: those are written as words."""
    return value if value is None else float(value) if math.isfinite(value) else str(float(value))
