"""Supervised fine-tuning on the same scores: the control that tells reinforcement learning from any other training.

The base model's own reasoning is kept and its rating replaced by the MOS, so that text and form stay on its own policy and only what
follows from the text is taught. TRL's `SFTTrainer` does the rest, with the same pictures, steps and answers a step as GRPO.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from PIL import Image

from rali_lab.data.records import Picture, mos_of
from rali_lab.reasoner.policy import conversation, freeze_tower, load_policy
from rali_lab.reasoner.prompts import SCORE_QUESTION, score_answer
from rali_lab.reasoner.train import Watch, fast_bf16, run


@dataclass(frozen=True)
class SftSettings:
    """Everything that decides a supervised run; names as in `rali_lab.reasoner.train.GrpoSettings`.

    Attributes
    ----------
    steps : optimiser steps. answers_per_step : answers learned from in each.
    trl_options : anything else for `trl.SFTConfig`.
    """

    steps: int = 150
    answers_per_step: int = 96
    learning_rate: float = 2e-4
    max_completion_length: int = 64
    score_question: str = SCORE_QUESTION
    system: str | None = None
    prefix: str = ""
    eval_every: int = 50
    eval_samples: int = 4
    min_format: float = 0.9
    min_spread: float = 0.25
    patience: int = 30
    seed: int = 0
    trl_options: dict = field(default_factory=dict)


def rated_answers(answers: pd.DataFrame, pictures: Sequence[Picture]) -> pd.DataFrame:
    """The well-formed ones among a model's answers (`write_rationales`), each with the picture's MOS as its rating.

    Returns
    -------
    Columns picture, sample, text. Answers of another form teach nothing and are left out: compare the lengths.

    Raises
    ------
    ValueError
        When a picture has no well-formed answer, naming it.
    """
    mos = dict(zip([p.id for p in pictures], mos_of(pictures), strict=True))
    kept = answers[(answers["status"] == "ok") & answers["picture"].isin(mos)]
    if lost := sorted(set(mos) - set(kept["picture"])):
        raise ValueError(f"{len(lost)} pictures have no well-formed answer, {lost[0]} first; let the base model write more samples")
    texts = [score_answer(reasoning, mos[picture]) for picture, reasoning in zip(kept["picture"], kept["reasoning"], strict=True)]
    return kept[["picture", "sample"]].assign(text=texts).reset_index(drop=True)


def fine_tune_reasoner(
    base: str | Path,
    pictures: Sequence[Picture],
    answers: pd.DataFrame,
    validation: Sequence[Picture],
    settings: SftSettings,
    folder: str | Path,
    *,
    report=print,
) -> pd.DataFrame:
    """Fine-tune a reasoning scorer on written answers and save it, as `rali_lab.reasoner.train.train_reasoner` does with rewards.

    Parameters
    ----------
    answers : columns picture (an id of `pictures`) and text; see `rated_answers`. The loss counts the answer's tokens alone.

    Returns
    -------
    The validation curve.

    Raises
    ------
    rali_lab.reasoner.train.RunStopped
        As GRPO does. ValueError when there are fewer answers than one step needs.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    if len(answers) < settings.answers_per_step:
        raise ValueError(f"a step needs answers_per_step={settings.answers_per_step} answers, got {len(answers)}; give more")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model, processor = load_policy(base)
    freeze_tower(model)
    shown = {p.id: Image.fromarray(p.pixels()) for p in pictures}
    turn = [{"role": m["role"], "content": m["content"][-1]["text"]} for m in conversation(settings.score_question, system=settings.system)]
    rows = [
        {"prompt": turn, "completion": [{"role": "assistant", "content": text}], "image": shown[picture]}
        for picture, text in zip(answers["picture"], answers["text"], strict=True)
    ]
    options = {
        "output_dir": str(folder), "max_steps": settings.steps, "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": settings.answers_per_step, "lr_scheduler_type": "cosine",
        "warmup_steps": min(5, settings.steps // 10), "seed": settings.seed, "logging_steps": 1, "save_strategy": "steps", "save_steps": 50,
        "save_total_limit": 1, "report_to": "none", "disable_tqdm": True, "activation_checkpointing": False, "bf16": fast_bf16(),
        "use_cpu": not torch.cuda.is_available(), "max_grad_norm": 1.0, "max_length": None,
    }  # fmt: skip
    watch = Watch(validation, processor, settings, folder, report)
    trainer = SFTTrainer(model=model, args=SFTConfig(**{**options, **settings.trl_options}), train_dataset=Dataset.from_list(rows),
                         processing_class=processor, callbacks=[watch])  # fmt: skip
    return run(trainer, watch)
