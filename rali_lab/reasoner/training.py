"""What the reasoner's trainings share: the fields that our runs add to TRL's, and a run from its
last checkpoint to the saved model.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Set
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import pandas as pd
import torch
from transformers import PrinterCallback, TrainingArguments

from rali_lab.io import atomic_write
from rali_lab.models.model_folder import write_hashes
from rali_lab.models.vlm import conversation, load_policy
from rali_lab.precision import use_bf16
from rali_lab.profiles import GrpoOptions, SftOptions
from rali_lab.reasoner.callbacks import RunStopped, ValidationCallback
from rali_lab.reasoner.checkpoints import replay_epochs
from rali_lab.reasoner.prompts import SCORE_QUESTION


@dataclass
class ReasonerFields:
    """Fields that `GrpoConfig` and `SftConfig` add to TRL's, and TRL's with a default of ours.

    Attributes
    ----------
    score_question, system, prefill : str
        What is asked for a score, the system prompt (None: no such turn), and the beginning of
        every answer, in training and validation; "<think></think><answer>" leaves no room to reason
        (Table A.1 of arXiv 2510.11369).
    eval_samples : int
        Sampled answers that rate a validation image.
    min_format, min_spread : float
        The run stops with a message if, after `patience` steps, the format share on the validation
        images is below `min_format`, or the spread of the ratings is below `min_spread` times that
        of the MOS.
    patience : int
        Steps before these two rules apply.
    warmup_steps : float
        None: a tenth of the steps, at most 5.
    """

    OPTIONS: ClassVar[type[GrpoOptions] | type[SftOptions]]

    score_question: str = SCORE_QUESTION
    system: str | None = None
    prefill: str = ""
    eval_samples: int = GrpoOptions.eval_samples
    min_format: float = GrpoOptions.min_format
    min_spread: float = GrpoOptions.min_spread
    patience: int = GrpoOptions.patience

    per_device_train_batch_size: int | None = None
    lr_scheduler_type: str = "cosine"
    warmup_steps: float | None = None
    max_grad_norm: float = 1.0
    seed: int = 0
    logging_steps: float = 1
    save_strategy: str = "steps"
    save_total_limit: int | None = 1
    report_to: str = "none"
    disable_tqdm: bool | None = True
    activation_checkpointing: bool | None = False
    bf16: bool | None = field(default_factory=use_bf16)
    use_cpu: bool = field(default_factory=lambda: not torch.cuda.is_available())

    def __post_init__(self) -> None:
        if self.warmup_steps is None:
            self.warmup_steps = max(0, min(5, self.max_steps // 10))
        super().__post_init__()

    @classmethod
    def from_options(cls, options: GrpoOptions | SftOptions, output_dir: str | Path) -> Self:
        """The arguments of a profile's options; a field that is None keeps its default."""
        given = {f.name: getattr(options, f.name) for f in fields(options)}
        further = given.pop("trl_options")
        given = {name: value for name, value in given.items() if value is not None}
        return cls(**{"output_dir": str(output_dir), **given, **further})

    def settings(self) -> dict[str, Any]:
        """The fields of the options, and TRL's where they differ from their defaults."""
        return chosen_fields(self, always={f.name for f in fields(self.OPTIONS)})


def chosen_fields(args: TrainingArguments, always: Set[str]) -> dict[str, Any]:
    """The fields in `always`, and all others but the folder whose value is not their default, for
    settings.json.
    """
    values, left_out = args.to_dict(), {"output_dir"}
    return {
        f.name: values[f.name]
        for f in fields(args)
        if f.name in values.keys() - left_out
        and (f.name in always or getattr(args, f.name) != f.default)
    }


def chat_turns(question: str, system: str | None) -> list[dict[str, str]]:
    """A question about an image as TRL's prompts: roles and plain texts, without the image."""
    turns = conversation(question, system=system)
    return [{"role": m["role"], "content": m["content"][-1]["text"]} for m in turns]


def run(trainer, validation: ValidationCallback) -> pd.DataFrame:
    """Train with any trainer of TRL, from its last checkpoint if there is one, and save the model.

    Sharded weights (DeepSpeed, FSDP) are gathered by the trainer; of several processes the first
    writes.

    Parameters
    ----------
    trainer
        Its arguments have the fields of `ReasonerFields`.
    validation
        One of its callbacks.

    Returns
    -------
    DataFrame
        The validation curve. ``args.output_dir`` gets the model, validation.csv, log.csv and
        settings.json.

    Raises
    ------
    RunStopped
        If `validation` stopped it; all is saved nonetheless.
    """
    folder = Path(trainer.args.output_dir)
    trainer.remove_callback(PrinterCallback)
    checkpoint = validation.resume(folder)
    if checkpoint is not None:
        replay_epochs(trainer, checkpoint)
    trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    _save_weights(trainer, folder)
    if trainer.is_world_process_zero():
        log = pd.DataFrame(trainer.state.log_history).to_csv(index=False)
        atomic_write(folder / "log.csv", log.encode())
        validation.processor.save_pretrained(folder)
        write_hashes(folder)
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        settings = json.dumps(trainer.args.settings(), indent=2, default=str)
        atomic_write(folder / "settings.json", settings.encode())
    if validation.stopped:
        raise RunStopped(validation.stopped)
    return pd.DataFrame(validation.curve)


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
            adapted = PeftModel.from_pretrained(base, folder / "adapter")
            adapted.merge_and_unload().save_pretrained(folder)
    for pickled in (folder / "training_args.bin", folder / "adapter" / "training_args.bin"):
        pickled.unlink(missing_ok=True)  # nothing reads it, and nobody should unpickle it
