"""How far a run is, and what is started first."""

from __future__ import annotations

import pytest

from rali_lab.reproduce.progress import Progress


def test_progress_starts_what_others_wait_for_and_counts_the_longest_chain():
    progress = Progress(["01", "02", "03"], {"03": ["02"]}, {"01": 100, "02": 60, "03": 60}, jobs=2)
    assert progress.by_urgency(["01", "02", "03"]) == ["02", "01", "03"]
    assert progress.left() == pytest.approx(120)
    progress.started("02")
    progress.done("02", "made 02")
    assert progress.left() == pytest.approx(100, abs=1)
    assert progress.line().startswith("[1/3]") and "about" in progress.line()
