"""Stage B of the base model: teach a decoder to put into words what the neck sees, and to answer in
the right form.

This is the stand-in for instruction tuning. The decoder learns both questions on the base corpus.
Its ratings are made weak on purpose: they follow the total severity, but under noise of two points,
so that reinforcement learning has something to teach.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import FastVlmForConditionalGeneration, LlavaProcessor

from rali_lab.data.records import Distortion
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
    """A rating 1..5 that barely depends on what is wrong with the image (the flaw that RL is to
    mend).
    """
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
    keep: str | Path | None = None,
    keep_every: int = 50,
    report=print,
) -> None:
    """Train projector and decoder (neck frozen) by next-token prediction on standardised corpus
    statistics, where the model is.

    With the name of a file in `keep`, the state is written there every `keep_every` steps and at
    the end (three times the weights in float32), and a run that was killed goes on from it as if
    nothing had happened.

    Raises
    ------
    ValueError
        When `keep` holds a run with other settings, naming both.
    """
    batches = Batches(processor, model.config.image_seq_length)
    neck = model.model.vision_tower.timm_model.neck.eval().requires_grad_(False)
    learned = [
        *model.model.multi_modal_projector.parameters(),
        *model.model.language_model.parameters(),
    ]
    optimiser = torch.optim.AdamW(learned, lr=lr, weight_decay=0.02, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.08)
    parts, device = {"model": model, "optimiser": optimiser, "schedule": schedule}, model.device
    run = {
        "steps": steps,
        "batch": batch,
        "lr": lr,
        "noise": noise,
        "seed": seed,
        "images": len(statistics),
    }
    first = _taken_up(keep, parts, run, report) if keep else 0
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
        with torch.no_grad():
            seen = (
                neck(perturb(statistics[torch.from_numpy(rows)].float(), noise).to(device))
                .flatten(2)
                .transpose(1, 2)
            )
        with torch.autocast(device.type, dtype=torch.bfloat16):
            visual = model.model.multi_modal_projector(seen)
            embedded = model.get_input_embeddings()(inputs["input_ids"])
            mask = model.model.get_placeholder_mask(inputs["input_ids"], embedded, visual)
            embedded = embedded.masked_scatter(mask, visual.to(embedded.dtype))
            hidden = model.model.language_model(
                inputs_embeds=embedded, attention_mask=inputs["attention_mask"]
            ).last_hidden_state
            said = labels[:, 1:] != -100
            loss = torch.nn.functional.cross_entropy(
                model.lm_head(hidden[:, :-1][said]).float(), labels[:, 1:][said]
            )
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 49 or step == steps - 1:
            report(f"step {step + 1}/{steps}: loss {loss.item():.3f}")
        if keep and (step % keep_every == keep_every - 1 or step == steps - 1):
            whole = {
                "step": step + 1,
                "run": run,
                **{name: part.state_dict() for name, part in parts.items()},
            }
            torch.save(whole, half := Path(f"{keep}.half"))
            half.replace(keep)


def _taken_up(keep: str | Path, parts: dict, run: dict, report) -> int:
    """The step to go on from, with the state of then loaded into `parts`; 0 where nothing was kept.
    """
    if not Path(keep).exists():
        return 0
    whole = torch.load(keep, weights_only=True, map_location="cpu")
    if whole["run"] != run:
        raise ValueError(
            f"{keep} holds a run with {whole['run']}, and this one has {run}; give the same"
            " settings or delete the file"
        )
    for name, part in parts.items():
        part.load_state_dict(whole[name])
    report(f"an interrupted run goes on from step {whole['step']}")
    return whole["step"]
