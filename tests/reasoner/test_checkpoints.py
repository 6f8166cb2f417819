"""Checkpoints: damaged ones are skipped, and a run that goes on ends as one that was never
interrupted.
"""

import shutil

import pytest
from safetensors.torch import load_file

from rali_lab.models.vlm import load_policy
from rali_lab.reasoner.callbacks import ValidationCallback
from rali_lab.reasoner.checkpoints import last_whole_checkpoint


def weights(folder):
    return load_file(folder / "model.safetensors")


class Killed(Exception):
    """In the place of a kill."""


@pytest.fixture
def interrupted(tiny_base, images, tmp_path, run, monkeypatch):
    """A run of three steps that ended in the third; checkpoints of the first two."""
    real = ValidationCallback.on_step_end

    def die(self, args, state, control, **kwargs):
        real(self, args, state, control, **kwargs)
        if state.global_step == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(ValidationCallback, "on_step_end", die)
        with pytest.raises(Killed):
            run(tiny_base, images, tmp_path / "t", **THREE)
    assert sorted(p.name for p in (tmp_path / "t").glob("checkpoint-*")) == [
        "checkpoint-1",
        "checkpoint-2",
    ]
    return tmp_path / "t"


THREE = {"max_steps": 3, "eval_every": 1, "save_steps": 1, "save_total_limit": 2}


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGES = {
    "killed within the weights": lambda c: (
        cut(c / "model.safetensors"),
        (c / "trainer_state.json").unlink(),
    ),
    "weights cut": lambda c: cut(c / "model.safetensors"),
    "weights empty": lambda c: (c / "model.safetensors").write_bytes(b""),
    "no weights": lambda c: (c / "model.safetensors").unlink(),
    "state cut": lambda c: cut(c / "trainer_state.json"),
    "state empty": lambda c: (c / "trainer_state.json").write_bytes(b""),
    "no state": lambda c: (c / "trainer_state.json").unlink(),
    "optimizer cut": lambda c: cut(c / "optimizer.pt"),
    "no optimizer": lambda c: (c / "optimizer.pt").unlink(),
    "scheduler cut": lambda c: cut(c / "scheduler.pt"),
    "no scheduler": lambda c: (c / "scheduler.pt").unlink(),
    "random state cut": lambda c: cut(c / "rng_state.pth"),
    "no random state": lambda c: (c / "rng_state.pth").unlink(),
    "a shard missing": (
        lambda c: (c / "model.safetensors.index.json").write_text(
            '{"weight_map": {"a": "model-1.safetensors"}}'
        )
    ),
    "nothing in it": lambda c: (shutil.rmtree(c), c.mkdir()),
}


def test_checkpoints_that_are_not_whole_are_skipped_named_and_removed(interrupted, tmp_path):
    lines, good = [], interrupted
    assert last_whole_checkpoint(good, lines.append) == good / "checkpoint-2" and lines == []
    for what, damage in DAMAGES.items():
        folder = shutil.copytree(good, tmp_path / "copy", dirs_exist_ok=True)
        damage(folder / "checkpoint-2")
        assert last_whole_checkpoint(folder, lines.append) == folder / "checkpoint-1", what
        (line,) = lines
        assert (
            line.startswith(f"{folder / 'checkpoint-2'} is not whole (")
            and "skipped and removed" in line
        ), what
        assert not (folder / "checkpoint-2").exists() and (folder / "checkpoint-1").exists(), what
        lines.clear()
        damage(folder / "checkpoint-1")
        assert last_whole_checkpoint(folder, lines.append) is None, what
        assert lines[-1] == f"no checkpoint in {folder} is whole; the run starts from the beginning"
        lines.clear()
    assert last_whole_checkpoint(tmp_path / "empty", lines.append) is None and lines == []


def test_a_second_process_chooses_the_same_and_leaves_the_removing_to_the_first(
    interrupted, monkeypatch
):
    monkeypatch.setenv("RANK", "1")
    cut(interrupted / "checkpoint-2" / "model.safetensors")
    assert last_whole_checkpoint(interrupted, pytest.fail) == interrupted / "checkpoint-1"
    assert (interrupted / "checkpoint-2").exists()


@pytest.mark.parametrize("broken", [("checkpoint-2",), ("checkpoint-1", "checkpoint-2")])
def test_a_run_killed_while_it_saved_goes_on_from_what_is_whole(
    interrupted, tiny_base, images, run, broken
):
    for name in broken:
        cut(interrupted / name / "model.safetensors")
        (interrupted / name / "trainer_state.json").unlink()
    lines = []
    curve = run(tiny_base, images, interrupted, report=lines.append, **THREE)
    assert curve["step"].tolist() == [0, 1, 2, 3] and load_policy(interrupted)
    assert not list(interrupted.glob("checkpoint-*"))
    found = (
        "an interrupted run goes on from step 1"
        if len(broken) == 1
        else "the run starts from the beginning"
    )
    assert [line for line in lines[:3] if found in line]


@pytest.mark.parametrize("step", [1, 2])
def test_a_run_that_goes_on_ends_as_one_that_was_never_killed(
    interrupted, tiny_base, images, tmp_path, run, step
):
    """Within an epoch (two steps) and after one: the next images are those that would have
    come."""
    if step == 1:
        shutil.rmtree(interrupted / "checkpoint-2")
    run(tiny_base, images, interrupted, **THREE)
    run(tiny_base, images, tmp_path / "never", **THREE)
    resumed, whole = weights(interrupted), weights(tmp_path / "never")
    assert resumed.keys() == whole.keys()
    assert all(resumed[name].equal(tensor) for name, tensor in whole.items())


@pytest.mark.parametrize("content", ["", "step,plcc\n", "a,b\n1,2\n"])
def test_a_curve_that_cannot_be_read_does_not_stop_a_run(interrupted, images, content):
    (interrupted / "validation.csv").write_text(content)
    lines = []
    validation = ValidationCallback(images[4:], None, lines.append)
    assert validation.resume(interrupted) == interrupted / "checkpoint-2"
    assert validation.curve == [] and lines[0] == "an interrupted run goes on from step 2"
    assert ("cannot be read" in lines[-1]) == (content != "step,plcc\n")
