"""How fast this machine is at what the study does, and how many minutes `make reproduce` takes on
it by that.

Torch and transformers are imported where they are needed; what cannot be measured is None, with a
note that says why.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from statistics import fmean

from rali_lab.profiles import PROFILES, Profile
from rali_lab.reproduce.execute import KERNEL_ENVIRONMENT

Speed = Mapping[str, float | None]
Call = Callable[[], float]
"""Does some work and returns how much, after the device has finished."""

UNITS = {
    "float32": "GFLOP/s, matrix product in float32",
    "bf16": "GFLOP/s, matrix product in bf16",
    "tower": "images/s through lite0, 128 px",
    "training": "answers/s forward and backward through the base model",
    "tokens": "tokens/s written by the base model, 96 answers at a time",
}
"""The figures of a calibration."""

REFERENCE: dict = {
    "machine": "two cores of an Intel Xeon, bf16",
    "minutes": {"tiny": 31.0},
    "speed": {
        "float32": 159.5,
        "bf16": 1329.0,
        "tower": 190.9,
        "training": 139.4,
        "tokens": 3255.8,
    },
}
"""What other machines are compared with: minutes of `make reproduce` from nothing by profile
(README.md says half an hour), and the figures of a calibration on the same machine, whose cores
another training shared in that quarter of a minute. To refresh: copy "speed" from `rali-lab doctor
--json` on an idle machine, and time a run there."""

PARTS = {
    "training": (0.40, ("training", "tokens")),
    "answers": (0.35, ("tokens",)),
    "images": (0.25, ("tower",)),
}
"""Share of the minutes of a tiny run, and the figures it depends on.

Shares: seconds in the artefacts' manifests, rounded (GRPO and the supervised control; scores,
rationales and the probe of notebook 03; the rest)."""

DEFAULTS = {"steps": 100, "images_per_step": 16, "generations": 8, "max_completion_length": 64}
"""Those of `rali_lab.reasoner.grpo.GrpoSettings`, which cannot be imported without torch."""


def work(profile: Profile) -> dict[str, float]:
    """What a profile does, to compare it with another one: answers trained on, tokens written,
    images made.

    >>> work(PROFILES["tiny"])
    {'training': 16320, 'answers': 900096, 'images': 936}
    """
    grpo = {**DEFAULTS, **profile.grpo}
    trained = sum(
        r["steps"] * r["images_per_step"] * r["generations"]
        for r in (grpo, {**grpo, **profile.collapse})
    )
    counts = {
        s: sum(c.get(s, 0) for c in profile.images.values()) for s in ("train", "val", "test")
    }
    answers = (counts["train"] + counts["val"]) * profile.rationale_samples + 3 * counts[
        "test"
    ] * profile.score_samples
    return {
        "training": trained,
        "answers": answers * grpo["max_completion_length"],
        "images": sum(counts.values()),
    }


def estimate(profile: Profile, speed: Speed | None = None) -> float | None:
    """Minutes that `make reproduce` takes with these figures of `calibrate`; without any, those on
    the reference machine.

    A profile that was never measured counts as the tiny one with its parts scaled by `work`: an
    extrapolation that nobody has checked. None for a profile with another base model, of whose
    speed the calibration says nothing.

    >>> estimate(PROFILES["tiny"]), estimate(PROFILES["tiny"], {k: v / 2 for k, v in REFERENCE["speed"].items()})
    (31.0, 62.0)
    """
    if profile.base:
        return None
    name = profile.name if profile.name in REFERENCE["minutes"] else "tiny"
    slower = {k: REFERENCE["speed"][k] / v for k, v in (speed or {}).items() if v}
    usual = fmean([slower[k] for _, uses in PARTS.values() for k in uses if k in slower] or [1.0])
    done, reference = work(profile), work(PROFILES[name])
    parts = (
        share * done[part] / reference[part] * fmean(slower.get(k, usual) for k in uses)
        for part, (share, uses) in PARTS.items()
    )
    return round(REFERENCE["minutes"][name] * sum(parts), 1)


def calibrate(
    *, seconds: float = 1.5, limit: float = 20.0
) -> tuple[dict[str, float | None], list[str]]:
    """The figures of `UNITS` on this machine's GPU or CPU, None where there is none, and notes why.

    They are taken in a process of its own, with the environment of the notebooks' kernels; it is
    ended after `limit` seconds and may crash without harm.

    Parameters
    ----------
    seconds
        each figure is the fastest of the calls made in this time, or the only call if it takes
        longer.
    """
    command = [sys.executable, "-W", "ignore", "-m", __name__, str(seconds)]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=limit, env={**os.environ, **KERNEL_ENVIRONMENT}
        )
        printed, end = done.stdout, f"the measuring process ended with exit code {done.returncode}"
    except subprocess.TimeoutExpired as late:
        printed, end = late.stdout or b"", f"not measured within {limit:g} s"
    except OSError as error:
        printed, end = b"", str(error)
    figures, notes = dict.fromkeys(UNITS), dict.fromkeys(UNITS, end)
    for line in printed.decode(errors="replace").splitlines():
        if line.startswith('{"figure"') and line.endswith("}"):
            found = json.loads(line)
            figures[found["figure"]], notes[found["figure"]] = found["value"], found["note"]
    return figures, [f"{name}: {note}" for name, note in notes.items() if note]


def measure(seconds: float) -> Iterator[dict]:
    """The figures one after the other, in this process: {"figure", "value", "note"}."""
    for name, prepare in zip(UNITS, (_float32, _bf16, _tower, _training, _tokens), strict=True):
        value, note = None, ""
        try:
            call = prepare()
            value = call and round(_rate(call, seconds), 1)
        except (
            Exception
        ) as error:  # whatever a machine cannot do, the other figures are still of use
            note = f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"
        yield {"figure": name, "value": value, "note": note}


def _rate(call: Call, seconds: float) -> float:
    """Work per second in the fastest call of the time; the first one, which warms up, counts only
    if it is the only one.
    """
    rates: list[float] = []
    begin = time.perf_counter()
    while not rates or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        amount = call()
        rates.append(amount / (time.perf_counter() - start))
    return max(rates[1:] or rates)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _product(dtype, n: int = 1024) -> Call:
    import torch

    a = torch.ones(n, n, dtype=dtype, device=_device())

    def multiply() -> float:
        (a @ a)[0, 0].item()
        return 2 * n**3 / 1e9

    return multiply


def _float32() -> Call:
    import torch

    return _product(torch.float32)


def _bf16() -> Call | None:
    import torch

    from rali_lab.precision import use_bf16

    return _product(torch.bfloat16) if use_bf16() else None


def _images(n: int) -> list:
    import numpy as np

    return list(np.random.default_rng(0).integers(0, 256, (n, 128, 128, 3), dtype=np.uint8))


def _tower() -> Call:
    import timm
    import torch

    from rali_lab.models.towers import to_pixels  # importing it registers the towers with timm

    tower = timm.create_model("lite0_stats_s8", num_classes=0).eval().to(_device())
    pixels = to_pixels(_images(16)).to(_device())

    @torch.inference_mode()
    def look() -> float:
        tower(pixels)[0, 0].item()
        return len(pixels)

    return look


def _base() -> tuple:
    from transformers.utils import logging

    from rali_lab.models.vlm import base_folder, load_policy

    bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model, processor = load_policy(base_folder())
    finally:
        if bar:
            logging.enable_progress_bar()
    return model.to(_device()), processor  # type: ignore[arg-type]  # transformers wraps `to` without its types


def _training(images: int = 32) -> Call:
    """A forward and a backward pass as in `rali_lab.reasoner.grpo`: the tower frozen and
    remembered, bf16 where it is fast.
    """
    import torch

    from rali_lab.models.vlm import conversation, freeze_tower
    from rali_lab.precision import use_bf16
    from rali_lab.reasoner.prompts import CLEAN, SCORE_QUESTION, score_answer

    model, processor = _base()
    freeze_tower(model)
    asked = processor.apply_chat_template(
        conversation(SCORE_QUESTION), add_generation_prompt=True, tokenize=False
    )
    texts = [asked + score_answer(CLEAN[0], 3.0)] * images
    inputs = processor(images=_images(images), text=texts, padding=True, return_tensors="pt").to(
        _device()
    )

    def step() -> float:
        model.zero_grad()
        with torch.autocast(_device(), dtype=torch.bfloat16, enabled=use_bf16()):
            loss = model(**inputs, labels=inputs["input_ids"]).loss
        loss.backward()
        loss.item()
        return images

    return step


def _tokens(images: int = 12, samples: int = 8) -> Call:
    """As many answers at a time as a step of the tiny profile's GRPO; every call writes the same."""
    import torch

    from rali_lab.models.vlm import ask

    model, processor = _base()
    shown = _images(images)

    def write() -> float:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            answers = ask(
                model,
                processor,
                shown,
                samples=samples,
                max_new_tokens=DEFAULTS["max_completion_length"],
            )
        return sum(len(processor.tokenizer(text)["input_ids"]) for own in answers for text in own)

    return write


if __name__ == "__main__":
    for figure in measure(float(sys.argv[1])):
        print(json.dumps(figure), flush=True)
