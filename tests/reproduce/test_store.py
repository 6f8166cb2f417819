"""Artefacts: the same question finds the same folder; nothing is half made or trusted."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rali_lab.io import StorageError, exclusive, write_json
from rali_lab.reproduce import checks, provenance, runner
from rali_lab.reproduce.store import ArtifactError, ArtifactStore, keys_only


class OneStep(ArtifactStore):
    """A store whose steps are all the same code, so that `never` stands for what made an artefact
    before.
    """

    def make(self, name, make, *, code=checks.forget, **options):
        return super().make(name, make, code=code, **options)


@pytest.fixture
def store(tmp_path):
    return OneStep(tmp_path / "store")


def write(text="x"):
    def make(folder):
        (folder / "value.txt").write_text(text)

    return make


def never(folder):
    raise AssertionError("made again what should have been reused")


def test_reuses_what_was_made_and_says_so(store):
    made = store.make("demo", write(), params={"k": 3})
    reused = store.make("demo", never, params={"k": 3})
    assert (made.reused, reused.reused) == (False, True)
    assert (made.key, made.path, made.seconds) == (reused.key, reused.path, reused.seconds)
    assert str(made).startswith("made demo in ") and str(reused).startswith("reused demo made in ")
    assert "/" not in repr(made)


def test_order_of_parameters_does_not_matter(store):
    made = store.make("demo", write(), params={"a": 1, "b": [2, {"c": None}]})
    assert store.make("demo", never, params={"b": [2, {"c": None}], "a": 1}).key == made.key


def test_every_part_of_the_question_changes_the_key(store):
    base = store.make("demo", write(), params={"k": 3})
    others = [
        store.make("other", write(), params={"k": 3}),
        store.make("demo", write(), params={"k": 4}),
        store.make("demo", write(), params={"k": 3}, inputs=[base]),
        store.make("demo", write(), params={"k": 3}, code=provenance.scrub),
        store.make("demo", write(), params={"k": 3}, files=[__file__]),
    ]
    assert len({artifact.key for artifact in [base, *others]}) == 6


def test_manifest_tells_what_was_made(store):
    base = store.make("base", write(), params={})
    made = store.make("demo", write(), params={"k": 3}, inputs=[base])
    manifest = json.loads((made.path / "manifest.json").read_text())
    assert manifest["params"] == {"k": 3} and manifest["inputs"] == [base.key]
    assert list(manifest["files"]) == ["value.txt"] and manifest["resumed"] is False
    assert {"python", "numpy", "torch"} <= set(manifest["versions"])


def test_interrupted_work_resumes_with_its_partial_files(store):
    def make(folder):
        done = sorted(folder.glob("step*"))
        (folder / f"step{len(done)}").write_text("done")
        if len(done) < 2:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            store.make("long", make, params={})
        assert not list(store.root.glob("long-*"))
    made = store.make("long", make, params={})
    assert len(list(made.path.glob("step*"))) == 3
    assert json.loads((made.path / "manifest.json").read_text())["resumed"] is True
    assert [folder.name for folder in store.root.iterdir()] == [made.path.name]


def test_a_kill_between_manifest_and_rename_is_harmless(store):
    made = store.make("demo", write(), params={})
    made.path.rename(store.root / f".{made.path.name}.partial")
    again = store.make("demo", write(), params={})
    assert not again.reused and again.path.is_dir()


@pytest.mark.parametrize("spoil", ["change", "remove", "manifest"])
def test_spoiled_artefacts_are_refused_with_the_way_out(store, spoil):
    made = store.make("demo", write(), params={})
    file = made.path / ("manifest.json" if spoil == "manifest" else "value.txt")
    file.unlink() if spoil == "remove" else file.write_text("{")
    with pytest.raises(
        ArtifactError, match=rf"{file.name}.*delete the folder .*demo-.* and run again"
    ):
        store.make("demo", never, params={})


@pytest.mark.parametrize(
    "value", [(1, 2), {1}, float("nan"), {"deep": [object()]}, {1: "int key"}, b"bytes"]
)
def test_parameters_that_are_not_plain_json_are_named(store, value):
    with pytest.raises(ArtifactError, match=r"params\['sizes'\]"):
        store.make("demo", never, params={"sizes": value})


@pytest.mark.parametrize("file", [None, "manifest.json"])
def test_make_must_write_a_result_of_its_own(store, file):
    with pytest.raises(ArtifactError, match="make of 'demo' wrote"):
        store.make("demo", lambda folder: file and (folder / file).write_text("{}"), params={})


def test_bad_names_and_code_are_errors(store):
    with pytest.raises(ArtifactError, match="lower-case"):
        store.make("../demo", never, params={})
    with pytest.raises(ArtifactError, match="no such file, or a folder without files"):
        store.make("demo", never, params={}, files=["no/such/room"])


def test_keys_are_known_without_making_anything(store):
    with keys_only():
        base = store.make("base", never, params={})
        asked = store.make("demo", never, params={"k": 3}, inputs=[base])
    assert not store.root.exists()
    made = store.make(
        "demo", write(), params={"k": 3}, inputs=[store.make("base", write(), params={})]
    )
    assert made.key == asked.key and not made.reused


def test_a_full_disk_is_a_sentence_and_leaves_nothing_half_written(store, tmp_path, monkeypatch):
    def full(folder):
        (folder / "part.txt").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match="there is no space left; make room and run again"):
        store.make("demo", full, params={})
    assert not list(store.root.glob("demo-*"))
    path = tmp_path / "a.json"
    write_json(path, [1])

    def broken(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", broken)
    with pytest.raises(StorageError, match="a.json cannot be written to .*no space left"):
        write_json(path, [2])
    assert json.loads(path.read_text()) == [1] and not list(tmp_path.glob(".*tmp"))


def test_the_runner_ends_with_that_sentence(monkeypatch, capsys):
    def full(*_, **__):
        raise StorageError("summary.json cannot be written: there is no space left")

    monkeypatch.setattr(runner, "run", full)
    assert runner.main(["--profile", "tiny"]) == 1
    assert capsys.readouterr().err.startswith("error: summary.json cannot be written")


def test_root_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("RALI_LAB_ARTIFACTS", str(tmp_path))
    assert ArtifactStore().root == tmp_path
    monkeypatch.delenv("RALI_LAB_ARTIFACTS")
    monkeypatch.setenv("RALI_LAB_HOME", str(tmp_path / "home"))
    monkeypatch.chdir("/")
    assert ArtifactStore().root == tmp_path / "home" / "artifacts"


def test_processes_asking_for_the_same_artefact_make_it_once(tmp_path):
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom rali_lab.reproduce.store import"
        " ArtifactStore\ndef make(folder):\n    time.sleep(0.3)\n    (folder /"
        f" 'x').write_text('x')\nprint(ArtifactStore({str(tmp_path)!r}).make('shared', make,"
        " params={}).reused)\n"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        for _ in "ab"
    ]
    assert sorted(run.communicate(timeout=60)[0].strip() for run in runs) == ["False", "True"]


def test_failed_json_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_who_waits_for_another_says_so(tmp_path, monkeypatch):
    note = tmp_path / "waiting"
    monkeypatch.setenv("RALI_LAB_WAITING_FILE", str(note))
    entered, leave = threading.Event(), threading.Event()

    def hold():
        with exclusive(tmp_path):
            entered.set()
            leave.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(30)
    waiter = threading.Thread(target=lambda: exclusive(tmp_path).__enter__())
    waiter.start()
    while not note.exists():
        time.sleep(0.01)
    leave.set()
    holder.join()
    waiter.join()
    assert not note.exists()
