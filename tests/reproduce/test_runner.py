"""The runner: strict before, resumable during, honest after; few of these tests start a kernel."""

from __future__ import annotations

import json
import os
import threading

import nbformat
import pytest

from rali_lab.estimate import Estimate
from rali_lab.reproduce import plan, provenance, runner
from rali_lab.reproduce.checks import Checks
from rali_lab.reproduce.claims import Ledger
from rali_lab.reproduce.execute import NotebookError
from rali_lab.reproduce.parameters import ParameterError
from rali_lab.reproduce.plan import PlanError, mismatched
from rali_lab.reproduce.project import ProjectError
from rali_lab.reproduce.runner import main, run

HEAD = """# ---
# jupyter:
#   rali_lab:
#     after: AFTER
# ---

# %% [markdown]
# # Measure something

# %% tags=["parameters"]
profile = "tiny"
seed = 0
out_dir = "runs/tiny"

# %%
from pathlib import Path
from rali_lab.reproduce.checks import Checks
from rali_lab.reproduce.project import under_home
checks = Checks(under_home(out_dir) / "checks.json")
Path(under_home(out_dir), f"{NAME}.txt").write_text(f"{profile} {seed}")
"""

CLAIM = """
[[claim]]
id = "a"
sentence = "It works."
source = "paper, section 4"
notebook = "02"
measure = "PLCC"
relation = ">="
bound = 0.7
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with two notebooks; a stand-in for `execute` leaves the same traces."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in ("01_first", "02_second"):
        after = "['01']" if name == "02_second" else "[]"
        (folder / f"{name}.py").write_text(HEAD.replace("{NAME}", name).replace("AFTER", after))
    monkeypatch.setenv("RALI_LAB_HOME", str(tmp_path))
    monkeypatch.setattr(runner, "POLL", 0.01)
    monkeypatch.setattr(provenance, "device", lambda: "cpu: test, 1 cores")
    monkeypatch.setattr(runner, "execute", StandIn(tmp_path))
    return tmp_path


class StandIn:
    """Executes nothing: writes the notebook back, one file, and the check and claim asked for."""

    def __init__(self, root):
        self.root, self.ran, self.value, self.fail, self.claim = root, [], 1.0, None, None
        self.remark = False

    def __call__(self, notebook, path, *, name, parameters, root):
        nbformat.write(notebook, path)
        if name == self.fail:
            raise NotebookError(
                f"{name} failed in this cell:\n\n1 / 0\n\nZeroDivisionError: division by zero"
            )
        self.ran.append(name)
        out = root / parameters["out_dir"]
        (out / f"{name}.txt").write_text("result")
        checks = Checks(out / "checks.json", name)
        checks.expect("it holds", self.value, low=1, if_missed="it broke")
        if self.remark:
            checks.observe("it rose", 0.0, low=1, if_missed="it fell")
        if self.claim is not None and name == "02_second":
            ledger = Ledger(root / "notebooks" / "claims.toml", out / "claims.json")
            ledger.record("a", Estimate("PLCC", *self.claim, n=9))
        return 2**20


def go(project, **options):
    return run("tiny", project / "notebooks", project / "runs" / "tiny", jobs=1, **options)


def summary(project):
    return json.loads((project / "runs" / "tiny" / "summary.json").read_text())


def ran(project, **options):
    runner.execute.ran.clear()
    go(project, **options)
    return list(runner.execute.ran)


def test_a_green_run_is_reused_and_still_tells_its_story(project, capsys):
    assert go(project) == 0
    assert ran(project) == []
    assert "reused 01_first (made in " in capsys.readouterr().out
    assert [row["status"] for row in summary(project)["notebooks"]] == ["reused", "reused"]
    assert [row["checks_passed"] for row in summary(project)["notebooks"]] == [1, 1]
    assert summary(project)["device"] == "cpu: test, 1 cores"
    assert ran(project, force=True) == ["01_first", "02_second"]


def test_every_cause_of_a_rerun(project):
    both, out = ["01_first", "02_second"], project / "runs" / "tiny"
    assert ran(project) == both
    assert ran(project, seed=1) == both
    second = project / "notebooks" / "02_second.py"
    second.write_text(second.read_text() + "more = 1\n")
    assert ran(project, seed=1) == both[1:]
    first = project / "notebooks" / "01_first.py"
    first.write_text(first.read_text() + "more = 1\n")
    assert ran(project, seed=1) == both
    (out / "01_first.txt").unlink()
    assert ran(project, seed=1) == both[:1]
    (out / "notebooks" / "02_second.ipynb").unlink()
    assert ran(project, seed=1) == both[1:]
    (out / "checks.json").write_text("{}")
    assert ran(project, seed=1) == both


def test_changed_code_reruns_what_reaches_it(project, monkeypatch):
    go(project)
    monkeypatch.setattr(plan, "cells_key", lambda cells: ("changed", set()))
    assert ran(project) == ["01_first", "02_second"]


def test_a_parameter_of_one_notebook_reruns_it_and_those_after_it(project):
    go(project)
    assert ran(project, changes={"02": {"seed": 3}}) == ["02_second"]
    assert ran(project) == ["02_second"]
    assert ran(project, changes={"01": {"seed": 3}}) == ["01_first", "02_second"]
    with pytest.raises(ParameterError, match="02_second: unknown parameter 'sede'"):
        go(project, changes={"02": {"sede": 3}})


def test_prose_alone_keeps_the_outputs_and_replaces_the_text(project):
    go(project)
    first = project / "notebooks" / "01_first.py"
    first.write_text(
        first.read_text().replace("Measure something", "Measure it well") + "# a comment\n"
    )
    assert ran(project) == []
    text = (project / "runs/tiny/notebooks/01_first.ipynb").read_text()
    assert "Measure it well" in text and "# a comment" in text
    assert json.loads(text)["metadata"]["rali_lab"]["source_sha256"] == plan.source_digest(first)


def test_other_cells_are_other_outputs(project):
    go(project)
    first = project / "notebooks" / "01_first.py"
    first.write_text(first.read_text() + "\n# %%\n# nothing but a remark\n")
    assert ran(project) == ["01_first", "02_second"]


def test_a_run_touches_no_file_that_is_not_its_own(project):
    out = project / "runs" / "tiny"
    mine = [
        out / "photos" / "01_sea.jpg",
        out / "figures" / "02_old.png",
        out / "figures" / "sea.png",
    ]
    for file in mine:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")
        os.utime(file, (1, 1))
    go(project)
    assert [f.exists() for f in mine] == [
        True,
        False,
        True,
    ]  # a figure of an earlier execution goes
    with pytest.raises(PlanError, match="give the run a folder of its own"):
        run("tiny", project / "notebooks", project)


def test_a_failed_rerun_keeps_the_figures_of_the_last_good_one(project):
    go(project)
    runner.execute.fail = "01_first"
    assert go(project, force=True) == 1
    assert (project / "runs" / "tiny" / "01_first.txt").exists()


def test_headers_must_name_earlier_notebooks(project):
    second = project / "notebooks" / "02_second.py"
    second.write_text(second.read_text().replace("['01']", "['03']"))
    with pytest.raises(PlanError, match="02_second: comes after '03'"):
        go(project)


def test_a_second_run_in_the_same_folder_is_refused(project):
    out = project / "runs" / "tiny"
    with (
        runner._alone(out),
        pytest.raises(ProjectError, match=r"in use by the run with process id \d+"),
    ):
        go(project)
    assert go(project) == 0


def test_remarks_are_shown_and_fail_nothing(project, capsys):
    runner.execute.remark = True
    assert go(project) == 0
    assert summary(project)["remarks"] == ["01_first: it rose", "02_second: it rose"]
    assert "remarks" in capsys.readouterr().out


def test_running_one_alone_does_not_vouch_for_a_stale_upstream(project):
    go(project)
    first = project / "notebooks" / "01_first.py"
    first.write_text(first.read_text() + "more = 1\n")
    assert ran(project, only="02") == []  # made from the first notebook as it was executed
    assert ran(project) == ["01_first", "02_second"]


def test_a_failure_stops_and_a_second_run_resumes_there(project, capsys):
    runner.execute.fail = "02_second"
    assert go(project) == 1
    captured = capsys.readouterr()
    assert "1 / 0\n\nZeroDivisionError" in captured.err and "02_second" in captured.out
    notebooks = project / "runs" / "tiny" / "notebooks"
    assert (notebooks / "failed" / "02_second.ipynb").exists() and not (
        notebooks / "02_second.ipynb"
    ).exists()
    runner.execute.fail = None
    assert ran(project) == ["02_second"]
    assert not list(notebooks.glob("**/*partial*")) and not list(notebooks.glob("failed/*"))


def test_a_kill_leaves_no_finished_looking_output(project, monkeypatch):
    go(project)
    whole = runner.execute

    def killed(notebook, path, **options):
        nbformat.write(notebook, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "execute", killed)
    with pytest.raises(KeyboardInterrupt):
        go(project, force=True)
    monkeypatch.setattr(runner, "execute", whole)
    assert ran(project) == [
        "01_first"
    ]  # its records were dropped before the kill; the second was not touched


def test_a_missed_check_fails_the_run_also_when_reused(project, capsys):
    runner.execute.value = 0.0
    assert go(project) == 1
    assert summary(project)["checks_missed"] == ["01_first: it holds", "02_second: it holds"]
    assert go(project) == 1
    assert "checks missed:\n  01_first: it holds" in capsys.readouterr().out


def test_a_claim_without_a_verdict_fails_the_run(project):
    (project / "notebooks" / "claims.toml").write_text(CLAIM)
    assert go(project) == 1 and summary(project)["claims_not_run"] == ["a"]
    assert go(project, only="01") == 0
    runner.execute.claim = (0.1, 0.0, 0.2)
    assert go(project, only="02", force=True) == 0  # a contradiction is a result


def test_moving_a_bound_reruns_its_notebook(project):
    claims = project / "notebooks" / "claims.toml"
    claims.write_text(CLAIM)
    runner.execute.claim = (0.8, 0.75, 0.9)
    assert go(project) == 0
    claims.write_text(CLAIM.replace("0.7", "0.6"))
    assert ran(project) == ["02_second"]


def test_wrong_input_is_refused_before_anything_runs(project, capsys):
    second = project / "notebooks" / "02_second.py"
    second.write_text(second.read_text().replace("{profile} {seed}", "{profile}"))
    with pytest.raises(ParameterError, match="02_second: parameter 'seed' is never read"):
        go(project)
    with pytest.raises(FileNotFoundError, match="no notebook begins with '09'"):
        go(project, only=["01", "09"])
    (project / "notebooks" / "claims.toml").write_text(CLAIM.replace('"02"', '"12"'))
    arguments = [
        "--profile",
        "tiny",
        "--notebooks",
        str(project / "notebooks"),
        "--out",
        str(project / "runs"),
    ]
    assert main(arguments) == 1
    assert "claim 'a' names the notebook '12'" in capsys.readouterr().err
    assert runner.execute.ran == []


def test_stale_names_missing_changed_and_orphaned_notebooks(project):
    go(project)
    notebooks = project / "notebooks"
    assert mismatched(notebooks) == ["01_first.ipynb", "02_second.ipynb"]
    for name in ("01_first", "02_second"):
        (notebooks / f"{name}.ipynb").write_bytes(
            (project / "runs/tiny/notebooks" / f"{name}.ipynb").read_bytes()
        )
    assert mismatched(notebooks) == []
    (notebooks / "01_first.py").write_text("# changed")
    (notebooks / "02_second.py").unlink()
    assert mismatched(notebooks) == ["01_first.ipynb", "02_second.ipynb"]


def test_time_left_is_known_in_a_first_run_from_the_published_notebooks(project, capsys):
    for name, seconds in (("01_first", 30.0), ("02_second", 90.0)):
        book = nbformat.v4.new_notebook(metadata={"rali_lab": {"seconds": seconds}})
        nbformat.write(book, project / "notebooks" / f"{name}.ipynb")
    assert go(project) == 0
    assert "[0/2] 0.0 s elapsed, about 120 s left" in capsys.readouterr().out


def test_notebooks_run_side_by_side(project, monkeypatch):
    both = threading.Barrier(2, timeout=20)

    class Meeting(StandIn):
        def __call__(self, notebook, path, **options):
            both.wait()  # breaks unless the other one is running, too
            return super().__call__(notebook, path, **options)

    monkeypatch.setattr(runner, "execute", Meeting(project))
    second = project / "notebooks" / "02_second.py"
    second.write_text(second.read_text().replace("['01']", "[]"))
    assert run("tiny", project / "notebooks", project / "runs" / "tiny", jobs=2) == 0
