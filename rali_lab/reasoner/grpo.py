"""Reinforcement learning of the reasoner: GRPO through TRL's `GRPOTrainer`.

`GrpoConfig` is TRL's own, with the fields that our runs add and with the defaults that work for a
model of a few million parameters (docs/LOG.md); `paper_options` holds the hyper-parameters of
Q-Insight's released code. TRL's defaults are another algorithm (loss "dapo", no KL). Larger models
run on the same function through `accelerate launch` with DeepSpeed, FSDP or vLLM.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from transformers import TrainerCallback
from trl import GRPOConfig

from rali_lab.data.records import RatedImage, mos_of
from rali_lab.models.vlm import freeze_tower, load_policy, load_processor, with_prefill
from rali_lab.precision import training_attention
from rali_lab.profiles import GrpoOptions
from rali_lab.reasoner.callbacks import RunStopped, ValidationCallback
from rali_lab.reasoner.prompts import (
    DEGRADATION_QUESTION,
    PAPER_QUESTION,
    PAPER_SYSTEM,
    findings,
)
from rali_lab.reasoner.rewards import (
    ClosenessReward,
    PrefilledReward,
    ScoreReward,
    degradation_reward,
    format_reward,
)
from rali_lab.reasoner.training import ReasonerFields, chat_turns, run

__all__ = [
    "GrpoConfig",
    "RunStopped",
    "default_rewards",
    "paper_options",
    "prompts_of",
    "train_grpo",
]

Reward = Callable[..., list[float | None]]
"""Takes completions and the columns of `prompts_of`; see `rali_lab.reasoner.rewards`."""


@dataclass
class GrpoConfig(ReasonerFields, GRPOConfig):
    """TRL's `GRPOConfig` with our fields; everything that decides a GRPO run.

    Attributes
    ----------
    images_per_step : int
        images_per_step x num_generations completions are written and rated in every step (on one
        device: they are the default of `per_device_train_batch_size`).
    score_threshold : float
        Of the score reward (0.35 in the paper).
    closeness_width, closeness_weight : float
        Of our shaped addition to it; weight 0 leaves it out.
    degradation_share : float
        Share of prompts, 0..1, that ask for the degradation instead of the score.
    degradation_question : str
        What these ask.
    lora : dict or None
        Fields of `peft.LoraConfig`; only adapters are then trained, and merged into the weights
        that are saved. None trains all weights.
    freeze_vision : bool
        The vision tower is not trained.
    eval_every : int
        Steps between two validations (0: none at all).

    See Also
    --------
    rali_lab.reasoner.training.ReasonerFields : The other fields.

    Examples
    --------
    >>> args = GrpoConfig(max_steps=20, beta=0.04)
    >>> args.loss_type, args.num_generations, args.per_device_train_batch_size
    ('grpo', 8, 128)
    """

    OPTIONS = GrpoOptions

    images_per_step: int = GrpoOptions.images_per_step
    score_threshold: float = GrpoOptions.score_threshold
    closeness_width: float = GrpoOptions.closeness_width
    closeness_weight: float = GrpoOptions.closeness_weight
    degradation_share: float = GrpoOptions.degradation_share
    degradation_question: str = DEGRADATION_QUESTION
    lora: dict[str, Any] | None = None
    freeze_vision: bool = GrpoOptions.freeze_vision
    eval_every: int = GrpoOptions.eval_every

    max_steps: int = GrpoOptions.max_steps
    num_generations: int = GrpoOptions.num_generations
    learning_rate: float = GrpoOptions.learning_rate
    beta: float = GrpoOptions.beta
    epsilon: float = GrpoOptions.epsilon
    num_iterations: int = GrpoOptions.num_iterations
    temperature: float = GrpoOptions.temperature
    max_completion_length: int = GrpoOptions.max_completion_length
    loss_type: str = "grpo"
    scale_rewards: str = "group"
    save_steps: float = 20
    model_init_kwargs: dict[str, Any] | None = field(
        default_factory=lambda: {"attn_implementation": training_attention()}
    )

    def __post_init__(self) -> None:
        if self.per_device_train_batch_size is None:
            self.per_device_train_batch_size = self.images_per_step * self.num_generations
        super().__post_init__()


def paper_options(max_steps: int, **changes: object) -> GrpoOptions:
    """Q-Insight's released hyper-parameters (arXiv 2503.22679), the teacher of arXiv 2510.11369.

    >>> paper_options(100).beta, paper_options(100).closeness_weight
    (0.001, 0.0)
    """
    paper = GrpoOptions(
        max_steps=max_steps,
        images_per_step=16,
        num_generations=8,
        learning_rate=1e-6,
        beta=1e-3,
        epsilon=0.2,
        temperature=1.0,
        max_completion_length=256,
        closeness_weight=0.0,
        degradation_share=0.5,
        score_question=PAPER_QUESTION,
        system=PAPER_SYSTEM,
    )
    return replace(paper, **changes)


def prompts_of(images: Sequence[RatedImage], args: GrpoConfig) -> list[dict]:
    """Rows for the trainer: prompt, image, and what the rewards need (task, mos, word, level)."""
    mos_of(images)  # all must be rated
    rng, rows = np.random.default_rng(args.seed), []
    for p in images:
        found = findings(p.distortions)
        task = "degradation" if rng.random() < args.degradation_share else "score"
        question = args.score_question if task == "score" else args.degradation_question
        rows.append(
            {
                "prompt": chat_turns(question, args.system),
                "image": Image.fromarray(np.asarray(p.pixels())),
                "task": task,
                "mos": float(p.mos),
                "word": found[0].word if found else "null",
                "level": found[0].level if found else 0,
            }
        )
    return rows


def default_rewards(args: GrpoConfig) -> list[tuple[Reward, float]]:
    """Format, score, shaped closeness and degradation, each with its weight."""
    pairs: list[tuple[Reward, float]] = [
        (format_reward, 1.0),
        (ScoreReward(args.score_threshold), 1.0),
    ]
    if args.closeness_weight:
        pairs.append((ClosenessReward(args.closeness_width), args.closeness_weight))
    if args.degradation_share:
        pairs.append((degradation_reward, 1.0))
    return pairs


def train_grpo(
    model: str | Path,
    train: Sequence[RatedImage],
    val: Sequence[RatedImage],
    *,
    args: GrpoConfig,
    rewards: Sequence[tuple[Reward, float]] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    report: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Train a reasoning scorer with GRPO and save it; a run that was interrupted goes on from its
    last checkpoint.

    Parameters
    ----------
    model
        Folder of the base model; with ``beta > 0`` TRL loads the frozen reference from it, too.
    train, val
        Rated images; sources must not overlap (`rali_lab.evaluate.protocol` checks that).
    args
        Everything else; the model, validation.csv, log.csv and settings.json go to
        ``args.output_dir``.
    rewards
        Functions with their weights; `default_rewards` of `args` if None. A function takes
        `completions` and the columns of `prompts_of` as keywords and returns a number (or None: not
        meant) for each. With a prefill it sees the whole answer.
    callbacks
        Further callbacks of transformers' `Trainer`.
    report
        Called with one line per validation.

    Returns
    -------
    DataFrame
        The validation curve: step, plcc, srcc, format_share, naming_accuracy, spread, n_missing.

    Raises
    ------
    RunStopped
        If the format did not converge or the ratings collapsed; model and curves up to there are
        kept.
    ValueError
        With fewer images than a step needs, or weights of rewards in `args`.
    """
    from datasets import Dataset
    from trl import GRPOTrainer

    if len(train) < args.images_per_step:
        raise ValueError(
            f"a step needs images_per_step={args.images_per_step} images, got {len(train)};"
            " give more"
        )
    if args.reward_weights is not None:
        raise ValueError(
            "args.reward_weights is given; put each weight beside its function in `rewards`"
        )
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)
    processor = check_base(model)
    pairs = default_rewards(args) if rewards is None else rewards
    functions = [PrefilledReward(f, args.prefill) if args.prefill else f for f, _ in pairs]
    own = copy.copy(args)
    own.reward_weights = [weight for _, weight in pairs]
    validation = ValidationCallback(val, processor, report)
    trainer = GRPOTrainer(
        model=str(model),
        reward_funcs=functions,
        args=own,
        train_dataset=Dataset.from_list(prompts_of(train, args)),
        processing_class=with_prefill(processor, args.prefill),
        callbacks=[validation, *callbacks],
        peft_config=_adapters(args),
    )
    for part in (trainer.model, trainer.ref_model):
        if part is not None and args.freeze_vision:
            freeze_tower(trainer.accelerator.unwrap_model(part))
    return run(trainer, validation)


def check_base(model: str | Path):
    """The processor of a base model, after the whole model was read once: TRL would fill missing
    weights at random and only warn.

    On several processes of one machine the first alone reads the weights.
    """
    if int(os.environ.get("LOCAL_RANK", 0)) == 0:
        return load_policy(model, dtype="auto")[1]
    return load_processor(model)


def _adapters(args: GrpoConfig):
    """The `peft.LoraConfig` of these arguments, or None; without peft the error names the way
    out.
    """
    if args.lora is None:
        return None
    try:
        from peft import LoraConfig
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("settings with `lora` need peft: pip install peft") from error
    return LoraConfig(task_type="CAUSAL_LM", **args.lora)
