"""Supervised fine-tuning on written answers, through TRL's `SFTTrainer`, of the language module,
the vision side or both.

Two things here need it. The control that tells reinforcement learning from any other training keeps
the base model's own reasoning and replaces its rating by the MOS (`rated_answers`), so that text
and form stay on its own policy and only what follows from the text is taught. RACT's third stage
(`rali_lab.reasoner.ract`) teaches the vision side to see what the reasoning of several teachers
says.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from transformers import PreTrainedModel, TrainerCallback

from rali_lab.data.records import RatedImage, mos_of
from rali_lab.models.towers import StatTower
from rali_lab.models.vlm import conversation, freeze_tower, load_policy, write_hashes
from rali_lab.precision import training_attention, use_bf16
from rali_lab.reasoner.grpo import ValidationCallback, run
from rali_lab.reasoner.prompts import SCORE_QUESTION, score_answer


@dataclass(frozen=True)
class SftSettings:
    """Everything that decides a supervised run; names as in `rali_lab.reasoner.grpo.GrpoSettings`.

    Attributes
    ----------
    steps
        optimiser steps.
    answers_per_step
        answers learned from in each.
    keep_best
        the weights saved are not the last, but those of the step (a multiple of `eval_every`) whose
        answers about the validation images had the highest PLCC and the required form
        (`min_format`); not for sharded weights.
    trl_options
        anything else for `trl.SFTConfig`.
    """

    steps: int = 150
    answers_per_step: int = 96
    learning_rate: float = 2e-4
    train: str = "language"
    reasoning_only: bool = False
    max_completion_length: int = 64
    score_question: str = SCORE_QUESTION
    system: str | None = None
    prefill: str = ""
    eval_every: int = 50
    eval_samples: int = 4
    min_format: float = 0.9
    min_spread: float = 0.25
    patience: int = 30
    keep_best: bool = False
    seed: int = 0
    trl_options: dict = field(default_factory=dict)


def rated_answers(answers: pd.DataFrame, images: Sequence[RatedImage]) -> pd.DataFrame:
    """The well-formed ones among a model's answers (`write_rationales`), each with the image's MOS
    as its rating.

    Returns
    -------
    Columns image, sample, text. Answers of another form teach nothing and are left out: compare the
    lengths.

    Raises
    ------
    ValueError
        When an image has no well-formed answer, naming it.
    """
    mos = dict(zip([p.id for p in images], mos_of(images), strict=True))
    kept = answers[(answers["status"] == "ok") & answers["image"].isin(mos)]
    if lost := sorted(set(mos) - set(kept["image"])):
        raise ValueError(
            f"{len(lost)} images have no well-formed answer, {lost[0]} first; let the base model"
            " write more samples"
        )
    texts = [
        score_answer(reasoning, mos[image])
        for image, reasoning in zip(kept["image"], kept["reasoning"], strict=True)
    ]
    return kept[["image", "sample"]].assign(text=texts).reset_index(drop=True)


def train_sft(
    base: str | Path,
    images: Sequence[RatedImage],
    answers: pd.DataFrame,
    validation: Sequence[RatedImage],
    settings: SftSettings,
    folder: str | Path,
    *,
    report=print,
) -> pd.DataFrame:
    """Fine-tune a reasoning scorer on written answers and save it, as
    `rali_lab.reasoner.grpo.train_grpo` does with rewards.

    Parameters
    ----------
    answers
        columns image (an id of `images`) and text; see `rated_answers`. The loss counts the
        answer's tokens alone, or the reasoning's.

    Returns
    -------
    The validation curve.

    Raises
    ------
    rali_lab.reasoner.grpo.RunStopped
        As GRPO does. ValueError when there are fewer answers than one step needs.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    if len(answers) < settings.answers_per_step:
        raise ValueError(
            f"a step needs answers_per_step={settings.answers_per_step} answers, got"
            f" {len(answers)}; give more"
        )
    if settings.keep_best and not (settings.eval_every and len({p.mos for p in validation}) > 1):
        raise ValueError(
            "keep_best needs eval_every above 0, and validation images of two different MOS or more"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model, processor = load_policy(base)
    model.set_attn_implementation(training_attention())
    choose_trained(model, settings.train)
    shown = {p.id: Image.fromarray(p.pixels()) for p in images}
    turn = [
        {"role": m["role"], "content": m["content"][-1]["text"]}
        for m in conversation(settings.score_question, system=settings.system)
    ]
    rows = [
        {
            "prompt": turn,
            "completion": [{"role": "assistant", "content": text}],
            "image": shown[image],
        }
        for image, text in zip(answers["image"], answers["text"], strict=True)
    ]
    options = {
        "output_dir": str(folder),
        "max_steps": settings.steps,
        "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": settings.answers_per_step,
        "lr_scheduler_type": "cosine",
        "warmup_steps": min(5, settings.steps // 10),
        "seed": settings.seed,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 50,
        "save_total_limit": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "activation_checkpointing": False,
        "bf16": use_bf16(),
        "use_cpu": not torch.cuda.is_available(),
        "max_grad_norm": 1.0,
        "max_length": None,
    }
    watch = ValidationCallback(validation, processor, settings, folder, report)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(**{**options, **settings.trl_options}),
        train_dataset=Dataset.from_list(rows),
        processing_class=processor,
        callbacks=[watch],
    )
    if settings.reasoning_only:
        trainer.data_collator = ReasoningOnly(trainer.data_collator, processor.tokenizer)
    if not settings.keep_best:
        return run(trainer, watch)
    trainer.add_callback(best := KeepBestCallback(watch))
    try:
        return run(trainer, watch)
    finally:
        best.take()


def choose_trained(model: PreTrainedModel, train: str) -> None:
    """Freeze what is not trained: see `SftSettings.train`.

    The trunk of our own tower always is, and looks at an image once.

    Raises
    ------
    ValueError
        On another word, or a model whose parts are not found.
    """
    if train not in ("language", "vision", "both"):
        raise ValueError(f"train is {train!r}, expected 'language', 'vision' or 'both'")
    freeze_tower(model, memoise=train == "language")
    if train == "language":
        return
    parts = dict(model.named_modules())
    tower = next(parts[name] for name in parts if name.split(".")[-1] in ("vision_tower", "visual"))
    own = getattr(tower, "timm_model", None)
    if isinstance(own, StatTower):
        own.neck.requires_grad_(True)
        own.cache_features()
    else:
        tower.requires_grad_(True)
    if train == "vision":
        language = next(
            (parts[name] for name in parts if name.split(".")[-1] == "language_model"), None
        )
        if language is None:
            raise ValueError(
                f"{type(model).__name__} has no `language_model`; freeze its language part yourself"
            )
        language.requires_grad_(False)
        model.get_output_embeddings().requires_grad_(False)


class KeepBestCallback(TrainerCallback):
    """Keeps the weights of every step that was the best so far in the eyes of `watch`; must come
    after it among the callbacks.
    """

    def __init__(self, watch: ValidationCallback) -> None:
        self.watch, self.first = watch, int(os.environ.get("RANK", 0)) == 0

    def best(self) -> int | None:
        """The step that the curve says is best; None if no answers had the required form."""
        formed = [
            row
            for row in self.watch.curve
            if row["step"] and row["format_share"] >= self.watch.settings.min_format
        ]
        return max(formed, key=lambda row: row["plcc"])["step"] if formed else None

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if self.first and self.best() == state.global_step:
            made = self.watch.folder / "best.part"
            model.save_pretrained(made)
            shutil.rmtree(
                self._folder(state.global_step), ignore_errors=True
            )  # of a run that was killed
            made.rename(self._folder(state.global_step))

    def take(self) -> None:
        """Put the best weights into the place of the last ones."""
        if (
            self.first
            and (best := self.best()) is not None
            and (self.watch.folder / "model.safetensors").exists()
        ):
            (self._folder(best) / "model.safetensors").replace(
                self.watch.folder / "model.safetensors"
            )
            write_hashes(self.watch.folder)
            for folder in self.watch.folder.glob("best*"):
                shutil.rmtree(folder)

    def _folder(self, step: int) -> Path:
        return self.watch.folder / f"best-{step}"


class ReasoningOnly:
    """A collator whose labels end with </think>: what comes behind, a score or the end of the
    answer, teaches nothing.
    """

    def __init__(self, collate, tokenizer) -> None:
        self.collate, self.tokenizer, self.known = collate, tokenizer, {}

    def __call__(self, examples: list) -> dict:
        batch = self.collate(examples)
        for row in batch["labels"]:
            at = (row != -100).nonzero()[:, 0]
            row[at[self._length(tuple(row[at].tolist())) :]] = -100
        return batch

    def _length(self, ids: tuple[int, ...]) -> int:
        """How many tokens it takes until </think> is whole; ValueError if it never is.

        Tokenizers may glue it to its neighbours.
        """
        if ids not in self.known:
            ends = (
                n
                for n in range(1, len(ids) + 1)
                if "</think>" in "".join(self.tokenizer.decode(ids[:n]).split())
            )
            if (length := next(ends, None)) is None:
                raise ValueError(
                    f"an answer has no </think>: {self.tokenizer.decode(ids)[:80]!r}; give whole"
                    " answers"
                )
            self.known[ids] = length
        return self.known[ids]
