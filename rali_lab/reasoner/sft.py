"""Supervised fine-tuning on written answers, through TRL's `SFTTrainer`, of the language module,
the vision side or both.

Two things here need it. The control that tells reinforcement learning from any other training keeps
the base model's own reasoning and replaces its rating by the MOS (`rated_answers`), so that text
and form stay on its own policy and only what follows from the text is taught. RACT's third stage
(`rali_lab.reasoner.ract`) teaches the vision side to see what the reasoning of several teachers
says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image
from transformers import PreTrainedModel, TrainerCallback
from trl import SFTConfig

from rali_lab.data.records import RatedImage, mos_of
from rali_lab.models.vlm import freeze_tower, load_policy, stat_tower, vision_tower
from rali_lab.precision import training_attention
from rali_lab.profiles import SftOptions
from rali_lab.reasoner.callbacks import KeepBestCallback, ValidationCallback
from rali_lab.reasoner.prompts import score_answer
from rali_lab.reasoner.rationales import is_valid
from rali_lab.reasoner.training import ReasonerFields, chat_turns, run

PARTS = ("language", "vision", "both")


@dataclass
class SftConfig(ReasonerFields, SFTConfig):
    """TRL's `SFTConfig` with our fields; everything that decides a supervised run.

    Attributes
    ----------
    answers_per_step : int
        Answers learned from in every step (on one device: the default of
        `per_device_train_batch_size`).
    train_parts : str
        "language", "vision" or "both"; see `choose_trained`.
    reasoning_only : bool
        The loss ends with </think>.
    max_completion_length : int
        Of the answers in validation.
    eval_every : int
        Steps between two validations (0: none at all).
    keep_best : bool
        The weights saved are not the last, but those of the step (a multiple of `eval_every`) whose
        answers about the validation images had the highest PLCC and the required form
        (`min_format`); not for sharded weights.

    See Also
    --------
    rali_lab.reasoner.training.ReasonerFields : The other fields.
    """

    OPTIONS = SftOptions

    answers_per_step: int = SftOptions.answers_per_step
    train_parts: str = SftOptions.train_parts
    reasoning_only: bool = SftOptions.reasoning_only
    max_completion_length: int = SftOptions.max_completion_length
    eval_every: int = SftOptions.eval_every
    keep_best: bool = SftOptions.keep_best

    max_steps: int = SftOptions.max_steps
    learning_rate: float = SftOptions.learning_rate
    max_length: int | None = None
    save_steps: float = 50

    def __post_init__(self) -> None:
        if self.per_device_train_batch_size is None:
            self.per_device_train_batch_size = self.answers_per_step
        super().__post_init__()


def rated_answers(answers: pd.DataFrame, images: Sequence[RatedImage]) -> pd.DataFrame:
    """The valid ones among a model's answers (`write_rationales`), each with the image's MOS as its
    rating.

    Returns
    -------
    DataFrame
        Columns image, sample, text. Invalid answers teach nothing and are left out: compare the
        lengths.

    Raises
    ------
    ValueError
        When an image has no valid answer, naming it.
    """
    mos = dict(zip([p.id for p in images], mos_of(images), strict=True))
    kept = answers[is_valid(answers) & answers["image"].isin(mos)]
    if lost := sorted(set(mos) - set(kept["image"])):
        raise ValueError(
            f"{len(lost)} images have no valid answer, {lost[0]} first; let the base model"
            " write more samples"
        )
    texts = [
        score_answer(reasoning, mos[image])
        for image, reasoning in zip(kept["image"], kept["reasoning"], strict=True)
    ]
    return kept[["image", "sample"]].assign(text=texts).reset_index(drop=True)


def train_sft(
    model: str | Path,
    train: Sequence[RatedImage],
    answers: pd.DataFrame,
    val: Sequence[RatedImage],
    *,
    args: SftConfig,
    callbacks: Sequence[TrainerCallback] = (),
    report: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Fine-tune a reasoning scorer on written answers and save it, as
    `rali_lab.reasoner.grpo.train_grpo` does with rewards.

    Parameters
    ----------
    model
        Folder of the model that is trained further.
    train
        Rated images.
    answers
        Columns image (an id of `train`) and text; see `rated_answers`. The loss counts the answer's
        tokens alone, or the reasoning's.
    val
        Rated images to validate on.
    args
        Everything else; the model and its curves go to ``args.output_dir``.
    callbacks
        Further callbacks of transformers' `Trainer`.
    report
        Called with one line per validation.

    Returns
    -------
    DataFrame
        The validation curve.

    Raises
    ------
    rali_lab.reasoner.callbacks.RunStopped
        As GRPO does.
    ValueError
        With fewer answers than one step needs, or `keep_best` without a validation.
    """
    from datasets import Dataset
    from trl import SFTTrainer

    if len(answers) < args.answers_per_step:
        raise ValueError(
            f"a step needs answers_per_step={args.answers_per_step} answers, got"
            f" {len(answers)}; give more"
        )
    if args.keep_best and not (args.eval_every and len({p.mos for p in val}) > 1):
        raise ValueError(
            "keep_best needs eval_every above 0, and validation images of two different MOS or more"
        )
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)
    policy, processor = load_policy(model)
    policy.set_attn_implementation(training_attention())
    choose_trained(policy, args.train_parts)
    shown = {p.id: Image.fromarray(p.pixels()) for p in train}
    turns = chat_turns(args.score_question, args.system)
    rows = [
        {
            "prompt": turns,
            "completion": [{"role": "assistant", "content": text}],
            "image": shown[image],
        }
        for image, text in zip(answers["image"], answers["text"], strict=True)
    ]
    validation = ValidationCallback(val, processor, report)
    best = KeepBestCallback(validation) if args.keep_best else None
    trainer = SFTTrainer(
        model=policy,
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=processor,
        callbacks=[validation, *([best] if best else []), *callbacks],
    )
    if args.reasoning_only:
        trainer.data_collator = ReasoningOnly(trainer.data_collator, processor.tokenizer)
    try:
        return run(trainer, validation)
    finally:
        if best:
            best.restore(args)


def choose_trained(model: PreTrainedModel, parts: str) -> None:
    """Freeze what is not trained.

    The trunk of our own towers always is, and encodes an image once.

    Parameters
    ----------
    model
        Changed in place.
    parts
        "language", "vision" (with the projector) or "both".

    Raises
    ------
    ValueError
        On another word, or a model whose parts are not found.
    """
    if parts not in PARTS:
        raise ValueError(f"train_parts is {parts!r}, expected 'language', 'vision' or 'both'")
    freeze_tower(model, cache=parts == "language")
    if parts == "language":
        return
    if (own := stat_tower(model)) is not None:
        own.neck.requires_grad_(True)
        own.cache_features(trained_neck=True)
    else:
        vision_tower(model).requires_grad_(True)
    if parts == "vision":
        named = model.named_modules()
        language = next((m for n, m in named if n.split(".")[-1] == "language_model"), None)
        if language is None:
            raise ValueError(
                f"{type(model).__name__} has no `language_model`; freeze its language part yourself"
            )
        language.requires_grad_(False)
        model.get_output_embeddings().requires_grad_(False)


class ReasoningOnly:
    """A collator whose labels end with </think>: a score or the end of the answer, which come
    after it, teach nothing.
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
