"""Reinforcement learning of the reasoner: GRPO through TRL's `GRPOTrainer`, with what must be
watched while it runs.

`paper_settings` holds the hyper-parameters of Q-Insight's released code; `GrpoSettings` as it
stands is what we found to work for a model of a few million parameters (docs/LOG.md tells how).
TRL's own defaults are another algorithm (loss "dapo", no KL), so every setting that matters is
passed explicitly. Larger models run on the same function through `accelerate launch` with
DeepSpeed, FSDP or vLLM by passing TRL's options in `trl_options`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from transformers import PrinterCallback, TrainerCallback

from rali_lab.data.records import RatedImage, mos_of
from rali_lab.io import atomic_write
from rali_lab.models.vlm import (
    conversation,
    freeze_tower,
    load_policy,
    load_processor,
    with_prefill,
    write_hashes,
)
from rali_lab.precision import training_attention, use_bf16
from rali_lab.reasoner.checkpoints import catch_up, step_of, whole_checkpoint
from rali_lab.reasoner.prompts import DEGRADATION_QUESTION, SCORE_QUESTION, findings
from rali_lab.reasoner.rationales import summarise, write_rationales
from rali_lab.reasoner.rewards import (
    ClosenessReward,
    PrefilledReward,
    ScoreReward,
    degradation_reward,
    format_reward,
)


@dataclass(frozen=True)
class GrpoSettings:
    """Everything that decides a GRPO run.

    Attributes
    ----------
    steps
        optimiser steps. images_per_step x generations completions are written and rated in each.
    generations
        completions per image (the group whose mean is the baseline).
    learning_rate, beta (KL weight), epsilon (clip), temperature, max_completion_length : as in TRL.
    iterations
        optimiser passes over each batch of completions.
    threshold, closeness_width, closeness_weight
        score reward (paper) and our shaped addition (weight 0 leaves it out).
    degradation_share
        share of prompts that ask for the degradation instead of the score.
    prefill
        beginning of every answer, put into the model's mouth in training and validation;
        "<think></think><answer>" leaves no room to reason (Table A.1 of arXiv 2510.11369).
    lora
        fields of `peft.LoraConfig`; only adapters are then trained, and merged into the weights
        that are saved. None trains all weights.
    freeze_vision
        the vision tower is not trained.
    eval_every, eval_samples
        how often the validation images are rated (0: never), and by how many sampled answers.
    min_format, min_spread, patience
        the run stops with a message if, after `patience` steps, the format share on the validation
        images is below `min_format`, or the spread of the ratings is below `min_spread` times that
        of the MOS.
    trl_options
        anything else for `trl.GRPOConfig` (vLLM, DeepSpeed, bf16, PEFT ...).
    """

    steps: int = 100
    images_per_step: int = 16
    generations: int = 8
    learning_rate: float = 3e-4
    beta: float = 0.01
    epsilon: float = 0.2
    iterations: int = 1
    temperature: float = 1.0
    max_completion_length: int = 64
    threshold: float = 0.35
    closeness_width: float = 2.0
    closeness_weight: float = 1.0
    degradation_share: float = 0.2
    score_question: str = SCORE_QUESTION
    degradation_question: str = DEGRADATION_QUESTION
    system: str | None = None
    prefill: str = ""
    lora: dict | None = None
    freeze_vision: bool = True
    eval_every: int = 10
    eval_samples: int = 4
    min_format: float = 0.9
    min_spread: float = 0.25
    patience: int = 30
    seed: int = 0
    trl_options: dict = field(default_factory=dict)


def paper_settings(steps: int, **changes: object) -> GrpoSettings:
    """Q-Insight's released hyper-parameters (arXiv 2503.22679), the teacher of arXiv 2510.11369.

    >>> paper_settings(100).beta, paper_settings(100).closeness_weight
    (0.001, 0.0)
    """
    from rali_lab.reasoner.prompts import PAPER_QUESTION, PAPER_SYSTEM

    preset = {
        "steps": steps,
        "generations": 8,
        "learning_rate": 1e-6,
        "beta": 1e-3,
        "epsilon": 0.2,
        "temperature": 1.0,
        "max_completion_length": 256,
        "closeness_weight": 0.0,
        "degradation_share": 0.5,
        "system": PAPER_SYSTEM,
        "score_question": PAPER_QUESTION,
        "images_per_step": 16,
    }
    return GrpoSettings(**{**preset, **changes})


def prompts_of(images: Sequence[RatedImage], settings: GrpoSettings) -> list[dict]:
    """Rows for the trainer: prompt, image, and what the rewards need to know."""
    mos_of(images)  # all must be rated
    rng, rows = np.random.default_rng(settings.seed), []
    for p in images:
        found = findings(p.distortions)
        task = "degradation" if rng.random() < settings.degradation_share else "score"
        question = settings.score_question if task == "score" else settings.degradation_question
        messages = [
            {"role": m["role"], "content": m["content"][-1]["text"]}
            for m in conversation(question, system=settings.system)
        ]
        rows.append(
            {
                "prompt": messages,
                "image": Image.fromarray(np.asarray(p.pixels())),
                "task": task,
                "mos": float(p.mos),
                "word": found[0].word if found else "null",
                "level": found[0].level if found else 0,
            }
        )
    return rows


class RunStopped(RuntimeError):
    """Training was stopped because it had gone wrong; the message says how."""


class ValidationCallback(TrainerCallback):
    """Rates the validation images every few steps, keeps the curve, and stops a run that has gone
    wrong.
    """

    def __init__(
        self, images: Sequence[RatedImage], processor, settings, folder: Path, report
    ) -> None:
        self.images, self.processor, self.settings = list(images), processor, settings
        self.folder, self.report = folder, report
        self.curve: list[dict] = []
        self.stopped: str | None = None

    def resume(self) -> str | None:
        """The last whole checkpoint of a run that was interrupted, with the curve up to there taken
        up again; None if there is none."""
        last = whole_checkpoint(self.folder, self.report)
        if last is None:
            return None
        step, kept = step_of(last), self.folder / "validation.csv"
        self.report(f"an interrupted run goes on from step {step}")
        if kept.exists():
            try:
                self.curve = [
                    row for row in pd.read_csv(kept).to_dict("records") if row["step"] <= step
                ]
            except (ValueError, KeyError) as error:  # pandas' own errors of reading are ValueErrors
                why = f"{error}, as after a kill while it was written"
                self.report(f"{kept} cannot be read ({why}); the curve begins anew")
        return str(last)

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        if not self.curve and self.settings.eval_every:
            self._measure(model, state.global_step)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if self.settings.eval_every and (
            state.global_step % self.settings.eval_every == 0
            or state.global_step == self.settings.steps
        ):
            self._measure(model, state.global_step)
            self.stopped = self._verdict(state.global_step)
            if self.stopped:
                control.should_training_stop = True

    def _measure(self, model, step: int) -> None:
        training = model.training
        model.eval()
        with torch.random.fork_rng():
            torch.manual_seed(step)
            table = write_rationales(
                model,
                self.processor,
                self.images,
                samples=self.settings.eval_samples,
                question=self.settings.score_question,
                system=self.settings.system,
                prefill=self.settings.prefill,
                max_new_tokens=self.settings.max_completion_length,
            )
        model.train(training)
        row = {"step": step, **summarise(table, self.images)}
        self.curve.append(row)
        if int(os.environ.get("RANK", 0)):
            return
        atomic_write(
            self.folder / "validation.csv", pd.DataFrame(self.curve).to_csv(index=False).encode()
        )
        self.report(
            "step {step}: PLCC {plcc:.3f}  SRCC {srcc:.3f}  format {format_share:.2f}  naming"
            " {naming_accuracy:.2f}  spread {spread:.2f}".format(**row)
        )

    def _verdict(self, step: int) -> str | None:
        last, s = self.curve[-1], self.settings
        if step < s.patience:
            return None
        if last["format_share"] < s.min_format:
            return (
                f"only {last['format_share']:.0%} of the answers have the required form after"
                f" {step} steps (needed: {s.min_format:.0%}); no score of this run means anything."
                " Lower the learning rate or start from a base that knows the form."
            )
        if last["spread"] < s.min_spread:
            return (
                f"the ratings have collapsed: their spread is {last['spread']:.2f} of that of the"
                f" MOS after {step} steps (needed: {s.min_spread:.2f}). Raise beta, lower the"
                " learning rate, or start from a base whose ratings carry some information."
            )
        return None


def reward_functions(settings: GrpoSettings) -> tuple[list, list[float]]:
    """The rewards of a run and their weights: format, score, shaped closeness, degradation."""
    pairs = [(format_reward, 1.0), (ScoreReward(settings.threshold), 1.0)]
    if settings.closeness_weight:
        pairs.append((ClosenessReward(settings.closeness_width), settings.closeness_weight))
    if settings.degradation_share:
        pairs.append((degradation_reward, 1.0))
    if settings.prefill:
        pairs = [(PrefilledReward(f, settings.prefill), w) for f, w in pairs]
    return [f for f, _ in pairs], [w for _, w in pairs]


def trl_config(settings: GrpoSettings, folder: Path):
    """The `trl.GRPOConfig` of these settings, with every default that matters written out."""
    from trl import GRPOConfig

    completions = settings.images_per_step * settings.generations
    options = {
        "output_dir": str(folder),
        "max_steps": settings.steps,
        "learning_rate": settings.learning_rate,
        "beta": settings.beta,
        "epsilon": settings.epsilon,
        "num_iterations": settings.iterations,
        "num_generations": settings.generations,
        "temperature": settings.temperature,
        "max_completion_length": settings.max_completion_length,
        "loss_type": "grpo",
        "scale_rewards": "group",
        "per_device_train_batch_size": completions,
        "reward_weights": reward_functions(settings)[1],
        "lr_scheduler_type": "cosine",
        "warmup_steps": min(5, settings.steps // 10),
        "seed": settings.seed,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 20,
        "save_total_limit": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "activation_checkpointing": False,
        "bf16": use_bf16(),
        "use_cpu": not torch.cuda.is_available(),
        "max_grad_norm": 1.0,
        "model_init_kwargs": {"attn_implementation": training_attention()},
    }
    return GRPOConfig(**{**options, **settings.trl_options})


def train_grpo(
    base: str | Path,
    images: Sequence[RatedImage],
    validation: Sequence[RatedImage],
    settings: GrpoSettings,
    folder: str | Path,
    *,
    report=print,
) -> pd.DataFrame:
    """Train a reasoning scorer with GRPO and save it.

    Parameters
    ----------
    base
        folder of the base model; with ``beta > 0`` TRL loads the frozen reference from it, too.
    images, validation
        rated images; sources must not overlap (`rali_lab.evaluate.protocol` checks that).
    folder
        where the model, `validation.csv`, `log.csv` and `settings.json` go.

    Returns
    -------
    The validation curve: step, plcc, srcc, format_share, naming_accuracy, spread, n_missing.

    Raises
    ------
    RunStopped
        If the format did not converge or the ratings collapsed; model and curves up to there are
        kept in `folder`.
    """
    from datasets import Dataset
    from trl import GRPOTrainer

    if len(images) < settings.images_per_step:
        raise ValueError(
            f"a step needs images_per_step={settings.images_per_step} images, got {len(images)};"
            " give more"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    processor = check_base(base)
    watch = ValidationCallback(validation, processor, settings, folder, report)
    trainer = GRPOTrainer(
        model=str(base),
        reward_funcs=reward_functions(settings)[0],
        args=trl_config(settings, folder),
        train_dataset=Dataset.from_list(prompts_of(images, settings)),
        processing_class=with_prefill(processor, settings.prefill),
        callbacks=[watch],
        peft_config=adapters(settings),
    )
    for model in (trainer.model, trainer.ref_model):
        if model is not None and settings.freeze_vision:
            freeze_tower(trainer.accelerator.unwrap_model(model))
    return run(trainer, watch)


def check_base(base: str | Path):
    """The processor of a base model, after the whole model was read once: TRL would fill missing
    weights at random and only warn.

    On several processes of one machine the first alone reads the weights.
    """
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        return load_policy(base, dtype="auto")[1]
    return load_processor(base)


def adapters(settings: GrpoSettings):
    """The `peft.LoraConfig` of these settings, or None; ModuleNotFoundError says how to get peft."""
    if settings.lora is None:
        return None
    try:
        from peft import LoraConfig
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("settings with `lora` need peft: pip install peft") from error
    return LoraConfig(task_type="CAUSAL_LM", **settings.lora)


def run(trainer, watch: ValidationCallback) -> pd.DataFrame:
    """Train with any trainer of TRL, from its last checkpoint if there is one, and save what
    `train_grpo` says.

    Sharded weights (DeepSpeed, FSDP) are gathered by the trainer; of several processes the first
    writes.
    """
    folder = watch.folder
    trainer.remove_callback(PrinterCallback)
    checkpoint = watch.resume()
    if checkpoint is not None:
        catch_up(trainer, Path(checkpoint))
    trainer.train(resume_from_checkpoint=checkpoint)
    _save_weights(trainer, folder)
    if trainer.is_world_process_zero():
        pd.DataFrame(trainer.state.log_history).to_csv(folder / "log.csv", index=False)
        watch.processor.save_pretrained(folder)
        write_hashes(folder)
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        (folder / "settings.json").write_text(json.dumps(asdict(watch.settings), indent=2))
    if watch.stopped:
        raise RunStopped(watch.stopped)
    return pd.DataFrame(watch.curve)


def _save_weights(trainer, folder: Path) -> None:
    """Whole weights as safetensors; adapters are kept apart, too, and merged into a copy of the
    base.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    if not hasattr(model, "peft_config"):
        trainer.save_model(str(folder))
    else:
        trainer.save_model(str(folder / "adapter"))
        if trainer.is_world_process_zero():
            from peft import PeftModel

            base, _ = load_policy(model.config._name_or_path, dtype="auto")
            PeftModel.from_pretrained(base, folder / "adapter").merge_and_unload().save_pretrained(
                folder
            )
    for pickled in (folder / "training_args.bin", folder / "adapter" / "training_args.bin"):
        pickled.unlink(missing_ok=True)  # nothing reads it, and nobody should unpickle it
