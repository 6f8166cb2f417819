"""Stage B of the base model: train a decoder to describe the neck's features in text, and to answer
in the right form.

This is the stand-in for instruction tuning. The decoder learns both questions on the base corpus.
Its ratings are weak on purpose: they follow the total severity, but under noise of two points, so
that reinforcement learning has something to improve.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import FastVlmForConditionalGeneration, LlavaProcessor

from rali_lab.data.records import Distortion
from rali_lab.models.optimiser import ScheduledAdamW
from rali_lab.models.vlm import IMAGE, conversation
from rali_lab.reasoner.prompts import (
    DEGRADATION_QUESTION,
    SCORE_QUESTION,
    degradation_answer,
    describe,
    findings,
    score_answer,
)
from scripts.base_model.perception import perturb

RATING_MEAN, RATING_SLOPE, RATING_NOISE = 3.1, 0.34, 2.0


def weak_rating(distortions: Sequence[Distortion], rng: np.random.Generator) -> float:
    """A rating 1..5 that depends little on what is wrong with the image, which RL is to correct."""
    severity = sum(f.level for f in findings(distortions))
    return float(
        np.clip(RATING_MEAN - RATING_SLOPE * (severity - 4) + rng.normal(0, RATING_NOISE), 1, 5)
    )


def example(
    distortions: Sequence[Distortion], rng: np.random.Generator, degradation_share: float = 0.25
) -> tuple[str, str]:
    """A question and an answer about one corpus image."""
    found = findings(distortions)
    reasoning = describe(found, rng)
    if rng.random() < degradation_share:
        return DEGRADATION_QUESTION, degradation_answer(reasoning, found)
    return SCORE_QUESTION, score_answer(reasoning, weak_rating(distortions, rng))


def sample_texts(
    distortions: Sequence[Sequence[Distortion]], rng: np.random.Generator
) -> list[str]:
    """Texts for training the tokenizer: questions and answers as the decoder will see them."""
    return [t for d in distortions for t in example(d, rng, 0.4)]


class Batches:
    """Token ids of prompts and answers for given images; padded on the right, labels -100 outside
    the answer.
    """

    def __init__(self, processor: LlavaProcessor, image_tokens: int) -> None:
        self.tokenizer, self.image_tokens = processor.tokenizer, image_tokens
        self.prompts = {}
        for question in (SCORE_QUESTION, DEGRADATION_QUESTION):
            text = processor.apply_chat_template(
                conversation(question), add_generation_prompt=True, tokenize=False
            )
            self.prompts[question] = self.tokenizer(text.replace(IMAGE, IMAGE * image_tokens))[
                "input_ids"
            ]

    def make(
        self, distortions: Sequence[Sequence[Distortion]], rng: np.random.Generator
    ) -> dict[str, Tensor]:
        pairs = [example(d, rng) for d in distortions]
        answers = self.tokenizer([a for _, a in pairs])["input_ids"]
        prompts = [self.prompts[q] for q, _ in pairs]
        rows = [
            p + a + [self.tokenizer.eos_token_id] for p, a in zip(prompts, answers, strict=True)
        ]
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self.tokenizer.pad_token_id)
        labels = torch.full((len(rows), width), -100)
        for i, (row, p) in enumerate(zip(rows, prompts, strict=True)):
            ids[i, : len(row)] = torch.tensor(row)
            labels[i, len(p) : len(row)] = torch.tensor(row[len(p) :])
        return {
            "input_ids": ids,
            "attention_mask": (ids != self.tokenizer.pad_token_id).long(),
            "labels": labels,
        }


def train_decoder(
    model: FastVlmForConditionalGeneration,
    processor: LlavaProcessor,
    statistics: Tensor,
    distortions: Sequence[Sequence[Distortion]],
    *,
    steps: int,
    batch: int = 64,
    lr: float = 3e-3,
    noise: float = 0.1,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 50,
    report=print,
) -> None:
    """Train projector and decoder (neck frozen) by next-token prediction on standardised corpus
    statistics, where the model is.

    With a file in `checkpoint`, the state is written there every `checkpoint_every` steps and at
    the end (three times the weights in float32), and a run that was killed continues from it with
    the same result.

    Raises
    ------
    ValueError
        When `checkpoint` holds a run with other settings, naming both.
    """
    batches = Batches(processor, model.config.image_seq_length)
    neck = model.model.vision_tower.timm_model.neck.eval().requires_grad_(False)
    optimiser = ScheduledAdamW(
        [
            *model.model.multi_modal_projector.parameters(),
            *model.model.language_model.parameters(),
        ],
        lr=lr,
        steps=steps,
        weight_decay=0.02,
        betas=(0.9, 0.98),
        warm_up=0.08,
        max_norm=1.0,
    )
    parts = {"model": model, "optimiser": optimiser.optimiser, "schedule": optimiser.schedule}
    device = model.device
    run = {
        "steps": steps,
        "batch": batch,
        "lr": lr,
        "noise": noise,
        "seed": seed,
        "images": len(statistics),
    }
    first = _resume(checkpoint, parts, run, report) if checkpoint else 0
    model.train()
    for step in range(first, steps):
        rng = np.random.default_rng([seed, step])
        torch.manual_seed(int(rng.integers(1 << 31)))
        rows = rng.choice(len(statistics), batch, replace=False)
        inputs = {
            name: ids.to(device)
            for name, ids in batches.make([distortions[i] for i in rows], rng).items()
        }
        labels = inputs.pop("labels")
        x = perturb(statistics[torch.from_numpy(rows)].float(), noise).to(device)
        with torch.no_grad():
            tokens = neck(x).flatten(2).transpose(1, 2)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            visual = model.model.multi_modal_projector(tokens)
            embedded = model.get_input_embeddings()(inputs["input_ids"])
            mask = model.model.get_placeholder_mask(inputs["input_ids"], embedded, visual)
            embedded = embedded.masked_scatter(mask, visual.to(embedded.dtype))
            hidden = model.model.language_model(
                inputs_embeds=embedded, attention_mask=inputs["attention_mask"]
            ).last_hidden_state
            labelled = labels[:, 1:] != -100
            loss = torch.nn.functional.cross_entropy(
                model.lm_head(hidden[:, :-1][labelled]).float(), labels[:, 1:][labelled]
            )
        optimiser.step(loss)
        if step % 50 == 49 or step == steps - 1:
            report(f"step {step + 1}/{steps}: loss {loss.item():.3f}")
        if checkpoint and (step % checkpoint_every == checkpoint_every - 1 or step == steps - 1):
            states = {name: part.state_dict() for name, part in parts.items()}
            torch.save({"step": step + 1, "run": run, **states}, part := Path(f"{checkpoint}.part"))
            part.replace(checkpoint)


def _resume(checkpoint: str | Path, parts: dict, run: dict, report) -> int:
    """The step to continue from, its state loaded into `parts`; 0 without a checkpoint."""
    if not Path(checkpoint).exists():
        return 0
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    if state["run"] != run:
        raise ValueError(
            f"{checkpoint} holds a run with {state['run']}, and this one has {run}; give the same"
            " settings or delete the file"
        )
    for name, part in parts.items():
        part.load_state_dict(state[name])
    report(f"an interrupted run goes on from step {state['step']}")
    return state["step"]
