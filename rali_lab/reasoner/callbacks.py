"""Callbacks of a training run: validation with its stop rules, and the best weights so far.

Both read their settings from the trainer's arguments (`rali_lab.reasoner.training.ReasonerFields`),
so they work with any trainer of TRL whose arguments have these fields.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from transformers import TrainerCallback

from rali_lab.data.records import RatedImage
from rali_lab.io import atomic_write
from rali_lab.models.model_folder import write_hashes
from rali_lab.reasoner.checkpoints import first_process, last_whole_checkpoint, step_of
from rali_lab.reasoner.rationales import summarise, write_rationales


class RunStopped(RuntimeError):
    """Training was stopped because it had gone wrong; the message gives the reason."""


class ValidationCallback(TrainerCallback):
    """Rates the validation images every `eval_every` steps, keeps the curve, and stops a run that
    has gone wrong.

    Parameters
    ----------
    images
        Rated images.
    processor
        Of the model that is trained.
    report
        Called with one line per validation.

    Attributes
    ----------
    curve : list of dict
        Step, plcc, srcc, format_share, naming_accuracy, spread, n_missing; also written to
        validation.csv.
    stopped : str or None
        Why the run was stopped.
    """

    def __init__(
        self, images: Sequence[RatedImage], processor, report: Callable[[str], None] = print
    ) -> None:
        self.images, self.processor, self.report = list(images), processor, report
        self.curve: list[dict] = []
        self.stopped: str | None = None

    def resume(self, folder: Path) -> Path | None:
        """The last whole checkpoint of an interrupted run in `folder`, with the curve up to there
        read again; None if there is none.
        """
        last = last_whole_checkpoint(folder, self.report)
        if last is None:
            return None
        step, file = step_of(last), folder / "validation.csv"
        self.report(f"an interrupted run goes on from step {step}")
        if file.exists():
            try:
                rows = pd.read_csv(file).to_dict("records")
                self.curve = [row for row in rows if row["step"] <= step]
            except (ValueError, KeyError) as error:  # pandas' own errors of reading are ValueErrors
                why = f"{error}, as after a kill while it was written"
                self.report(f"{file} cannot be read ({why}); the curve begins anew")
        return last

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        if not self.curve and args.eval_every:
            self._validate(args, model, state.global_step)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        step = state.global_step
        if args.eval_every and (step % args.eval_every == 0 or step == args.max_steps):
            self._validate(args, model, step)
            self.stopped = self._fault(args, step)
            if self.stopped:
                control.should_training_stop = True

    def _validate(self, args, model, step: int) -> None:
        training = model.training
        model.eval()
        with torch.random.fork_rng():
            torch.manual_seed(step)
            table = write_rationales(
                model,
                self.processor,
                self.images,
                samples=args.eval_samples,
                question=args.score_question,
                system=args.system,
                prefill=args.prefill,
                max_new_tokens=args.max_completion_length,
            )
        model.train(training)
        row = {"step": step, **summarise(table, self.images)}
        self.curve.append(row)
        if not first_process():
            return
        curve = pd.DataFrame(self.curve).to_csv(index=False)
        atomic_write(Path(args.output_dir) / "validation.csv", curve.encode())
        self.report(
            "step {step}: PLCC {plcc:.3f}  SRCC {srcc:.3f}  format {format_share:.2f}  naming"
            " {naming_accuracy:.2f}  spread {spread:.2f}".format(**row)
        )

    def _fault(self, args, step: int) -> str | None:
        last = self.curve[-1]
        if step < args.patience:
            return None
        if last["format_share"] < args.min_format:
            return (
                f"only {last['format_share']:.0%} of the answers have the required form after"
                f" {step} steps (needed: {args.min_format:.0%}); no score of this run means"
                " anything. Lower the learning rate or start from a base that knows the form."
            )
        if last["spread"] < args.min_spread:
            return (
                f"the ratings have collapsed: their spread is {last['spread']:.2f} of that of the"
                f" MOS after {step} steps (needed: {args.min_spread:.2f}). Raise beta, lower the"
                " learning rate, or start from a base whose ratings carry some information."
            )
        return None


class KeepBestCallback(TrainerCallback):
    """Keeps the weights of the step whose answers about the validation images had the highest PLCC
    and the required form (`min_format`).

    Parameters
    ----------
    validation
        The callback whose curve decides; it must come before this one among the callbacks.
    """

    def __init__(self, validation: ValidationCallback) -> None:
        self.validation = validation

    def best(self, args) -> int | None:
        """The best step of the curve; None if no answers had the required form."""
        formed = [
            row
            for row in self.validation.curve
            if row["step"] and row["format_share"] >= args.min_format
        ]
        return max(formed, key=lambda row: row["plcc"])["step"] if formed else None

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if first_process() and self.best(args) == state.global_step:
            folder = Path(args.output_dir)
            model.save_pretrained(folder / "best.part")
            kept = folder / f"best-{state.global_step}"
            shutil.rmtree(kept, ignore_errors=True)  # of a run that was killed
            (folder / "best.part").rename(kept)

    def restore(self, args) -> None:
        """Put the best weights in the place of the last ones, after the run was saved."""
        folder, best = Path(args.output_dir), self.best(args)
        weights = folder / "model.safetensors"
        if first_process() and best is not None and weights.exists():
            (folder / f"best-{best}" / weights.name).replace(weights)
            write_hashes(folder)
            for kept in folder.glob("best*"):
                shutil.rmtree(kept)
