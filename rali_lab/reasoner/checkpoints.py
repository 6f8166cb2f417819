"""Checkpoints of a training that was interrupted: the last whole one, and the random state that TRL
does not restore from it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open


def first_process() -> bool:
    """Whether this is the only process of a run, or the first of several."""
    return int(os.environ.get("RANK", 0)) == 0


def last_whole_checkpoint(folder: Path, report=print) -> Path | None:
    """The last checkpoint in a run's folder with all files there and complete; None without one.

    A process that is killed while it saves leaves half a checkpoint (transformers writes
    `trainer_state.json` last). Such a one after the last whole one is named and removed:
    transformers would try it first, and fail. Of several processes the first reports and removes.
    """
    places = [p for p in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", p.name)]
    for place in sorted(places, key=step_of, reverse=True):
        fault = _fault(place)
        if fault is None:
            return place
        if first_process():
            why = f"{fault}, as after a kill while it was saved"
            report(f"{place} is not whole ({why}); it is skipped and removed")
            shutil.rmtree(place)
    if places and first_process():
        report(f"no checkpoint in {folder} is whole; the run starts from the beginning")
    return None


def step_of(checkpoint: Path) -> int:
    """The step in the name of a checkpoint's folder.

    >>> step_of(Path("run/checkpoint-40"))
    40
    """
    return int(checkpoint.name.rsplit("-", 1)[1])


def _fault(checkpoint: Path) -> str | None:
    """What is missing or incomplete in a checkpoint, in words; None if nothing is.

    The small files are read, and of the large ones the tables.
    """
    file = checkpoint
    try:
        files = sorted(f for f in checkpoint.rglob("*") if f.is_file())
        below = any(f.parent != checkpoint for f in files)
        if lacks := _lacking({f.name for f in files if f.parent == checkpoint}, sharded=below):
            return f"{lacks} is missing"
        for file in files:
            _read_through(file)
    except BROKEN as error:
        return f"{file.name}: {str(error)[:100]}"
    return None


BROKEN = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    SafetensorError,
    zipfile.BadZipFile,
)


def _lacking(names: set[str], *, sharded: bool) -> str | None:
    """A file that a checkpoint with these files at its upper level lacks.

    Shards (DeepSpeed, FSDP) keep weights and states below; a run may save no states at all.
    """
    weights = ("model.safetensors", "pytorch_model", "adapter_model")
    states = {f"{name}.pt": name for name in ("optimizer", "scheduler")}
    states["rng_state.pth"] = "rng_state"

    def there(start: str) -> bool:
        return any(name.startswith(start) for name in names)

    if "trainer_state.json" not in names:
        return "trainer_state.json"
    if sharded:
        return None
    if not any(map(there, weights)):
        return weights[0]
    if not any(map(there, states.values())):
        return None
    return next((name for name, start in states.items() if not there(start)), None)


def _read_through(file: Path) -> None:
    """Raise one of the errors `BROKEN` if a file is incomplete, or names one that is not there."""
    if file.suffix == ".json":
        found = json.loads(file.read_bytes())
        shards = found["weight_map"].values() if file.name.endswith(".index.json") else ()
        if lost := [name for name in shards if not (file.parent / name).exists()]:
            raise FileNotFoundError(f"{lost[0]} is missing")
    elif file.suffix == ".safetensors":
        with safe_open(file, "pt") as weights:  # compares the file's length with its table
            weights.keys()
    elif file.suffix in (".pt", ".pth", ".bin"):
        zipfile.ZipFile(file).close()  # its table stands at the end


def replay_epochs(trainer, checkpoint: Path) -> None:
    """Let TRL's sampler draw the orders of the epochs that are over: it does not save its state,
    and would begin with the first again.

    transformers goes on within the epoch by itself, and gives its own samplers the epoch's number.
    """
    from trl.trainer.utils import RepeatSampler

    state = json.loads((checkpoint / "trainer_state.json").read_bytes())
    make, epochs = trainer._get_train_sampler, int(state["epoch"] or 0)

    def replayed(*args, **kwargs):
        sampler = make(*args, **kwargs)
        if isinstance(sampler, RepeatSampler):
            for _ in range(epochs):
                for _ in sampler:
                    pass
        return sampler

    trainer._get_train_sampler = replayed
