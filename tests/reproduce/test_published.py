"""What the repository shows of a run: whole runs alone, and a mark beside what is stale."""

from __future__ import annotations

import json

import pytest

from rali_lab.reproduce import published
from rali_lab.reproduce.published import Stale


@pytest.mark.parametrize(
    ("seeds", "name", "stale"),
    [
        (1, "02_older", True),
        ([0, 1, 2], "02_older", True),
        (1, "08_tables", False),  # one seed rests on the notebook's own run
        ([0], "08_tables", False),
        ([0, 1, 2], "08_tables", True),
        (3, "08_tables", True),
        (None, "08_tables", False),
        ([0, 1, 2], "05_new", False),
    ],
)
def test_a_verdict_over_several_seeds_rests_on_the_tables(seeds, name, stale):
    found = Stale(frozenset({"02_older"}), frozenset({"08_tables"}))
    assert found.claim({"seeds": seeds}, name) is stale
    assert [n for n in ("02_older", "05_new", "08_tables") if found.notebook(n)] == [
        "02_older",
        "08_tables",
    ]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one notebook, and the finished run of it."""
    monkeypatch.setenv("RALI_LAB_HOME", str(tmp_path))
    run = tmp_path / "runs" / "tiny"
    for root in (tmp_path, run):
        for name in ("notebooks", "figures"):
            (root / name).mkdir(parents=True)
    (tmp_path / "notebooks" / "00_start.py").touch()
    (tmp_path / "figures" / "00_older.png").touch()
    (run / "figures" / "00_new.png").touch()
    (run / "notebooks" / "00_start.ipynb").write_text("{}")
    for name in ("results", "claims", "checks"):
        (run / f"{name}.json").write_text("[]")
    return tmp_path


def finish(checkout, **changes):
    summary = {"ok": True, "from_nothing": True, "notebooks": [{"notebook": "00_start"}], **changes}
    (checkout / "runs" / "tiny" / "summary.json").write_text(json.dumps(summary))


def test_a_run_is_copied_and_nothing_older_stays(checkout):
    finish(checkout)
    published.copy_run("tiny", checkout)
    assert [f.name for f in (checkout / "figures").iterdir()] == ["00_new.png"]
    assert (checkout / "notebooks" / "00_start.ipynb").read_text() == "{}"
    kept = sorted(f.name for f in (checkout / "docs" / "results").iterdir())
    assert kept == [f"tiny-{name}.json" for name in ("checks", "claims", "results", "summary")]


def test_times_of_a_run_that_found_artefacts_are_not_copied(checkout):
    finish(checkout, from_nothing=False)
    published.copy_run("tiny", checkout)
    assert not (checkout / "docs" / "results" / "tiny-summary.json").exists()


@pytest.mark.parametrize("changes", [None, {"ok": False}, {"notebooks": []}])
def test_a_run_that_is_not_whole_is_refused(checkout, changes):
    if changes is not None:
        finish(checkout, **changes)
    with pytest.raises(FileNotFoundError, match="no whole and green run .*PROFILE=tiny"):
        published.copy_run("tiny", checkout)
    assert [f.name for f in (checkout / "figures").iterdir()] == ["00_older.png"]
