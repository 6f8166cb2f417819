"""What TRL adds to a GRPO step: `python -m scripts.bench_grpo` (part of `make bench`).

Times steps of `train_grpo` against the bare work in them, taken in turns in one process: generation
of the completions, one forward pass of the reference, forward and backward of the policy, an
optimiser step. Writes docs/results/bench-grpo.json.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import TrainerCallback

from rali_lab import experiments
from rali_lab.data.records import RatedImage, select
from rali_lab.io import write_json
from rali_lab.models.vlm import base_folder, conversation, freeze_tower, load_policy
from rali_lab.precision import use_bf16
from rali_lab.profiles import GrpoOptions, get_profile
from rali_lab.reasoner.grpo import GrpoConfig, train_grpo
from rali_lab.reasoner.prompts import SCORE_QUESTION
from rali_lab.reproduce.provenance import stamp

STEPS, SKIP, ROUNDS = 8, 2, 3
TARGET = Path(__file__).resolve().parent.parent / "docs" / "results" / "bench-grpo.json"


class _Clock(TrainerCallback):
    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args, state, control, **kwargs):
        self.ends.append(time.perf_counter())


def trl_steps(images: Sequence[RatedImage], options: GrpoOptions) -> list[float]:
    """Seconds of each step of a training, the first few left out."""
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        args = GrpoConfig.from_options(options, folder)
        train_grpo(base_folder(), images, [], args=args, callbacks=[clock])
    return np.diff(clock.ends)[SKIP:].tolist()


def bare_steps(images: Sequence[RatedImage], options: GrpoOptions) -> list[float]:
    """Seconds of the same work without a trainer."""
    (model, processor), (reference, _) = load_policy(base_folder()), load_policy(base_folder())
    for part in (model, reference):
        freeze_tower(part)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-6)
    text = processor.apply_chat_template(
        conversation(SCORE_QUESTION), add_generation_prompt=True, tokenize=False
    )
    seconds = []
    for step in range(STEPS):
        began, first = time.perf_counter(), step * options.images_per_step
        asked = images[first : first + options.images_per_step]
        shown = [Image.fromarray(p.pixels()) for p in asked for _ in range(options.num_generations)]
        inputs = processor(
            images=shown, text=[text] * len(shown), padding=True, return_tensors="pt"
        )
        model.eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=use_bf16()):
            ids = model.generate(
                **inputs, do_sample=True, max_new_tokens=options.max_completion_length
            )
        mask = torch.ones_like(ids)
        model.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=use_bf16()):
            batch = {
                "input_ids": ids,
                "attention_mask": mask,
                "pixel_values": inputs["pixel_values"],
            }
            with torch.no_grad():
                reference(**batch).logits.log_softmax(-1)
            loss = (
                -model(**batch).logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).mean()
            )
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        seconds.append(time.perf_counter() - began)
    return seconds[SKIP:]


def main() -> None:
    profile = get_profile("tiny")
    options = replace(profile.grpo, max_steps=STEPS, eval_every=0, degradation_share=0.0)
    images = select(experiments.images(profile), domain="photo", split="train")
    trl, bare = [], []
    for _ in range(ROUNDS):  # in turns, so that a busy minute hits both
        trl += trl_steps(images, options)
        bare += bare_steps(images, options)
    found = {
        "trl_s": float(np.median(trl)),
        "bare_s": float(np.median(bare)),
        "steps": len(trl),
        "provenance": stamp(),
    }
    found["ratio"] = found["trl_s"] / found["bare_s"]
    write_json(TARGET, found)
    print(json.dumps({k: found[k] for k in ("trl_s", "bare_s", "ratio", "steps")}))


if __name__ == "__main__":
    main()
