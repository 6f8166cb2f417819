"""The paper's line step by step: `python -m rali_lab.paper teacher | write | student | evaluate`
(docs/PAPER_RUN.md).

`teacher` and `student` run on several GPUs through accelerate, with one of the configurations
beside this file:

    accelerate launch --config_file rali_lab/paper/accelerate/zero3.yaml -m rali_lab.paper teacher
    ...

Exit codes: 0 done; 1 some images have no score; 2 wrong usage or bad input.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rali_lab.data.records import RatedImage
from rali_lab.io import atomic_write, sha256_file
from rali_lab.paper.sets import SETS, load_sets, parse_data

LORA = {
    "r": 64,
    "lora_alpha": 128,
    "lora_dropout": 0.05,
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
}
EIGHT_GPUS = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 2,
    "activation_checkpointing": True,
    "save_steps": 200,
}
"""As released: 8 x 8 x 2 = 128 completions a step. On fewer, raise the accumulation: 16 on one."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one step and return its exit code."""
    args = _parser().parse_args(argv)
    try:
        return args.step(args)
    except (FileNotFoundError, FileExistsError, ValueError) as error:
        print(f"rali_lab.paper: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rali_lab.paper",
        description="The paper's line on real data sets, step by step.",
    )
    steps = parser.add_subparsers(required=True, metavar="step")

    def step(run, what: str) -> argparse.ArgumentParser:
        sub = steps.add_parser(run.__name__, help=what)
        names = f"rated sets; names: {', '.join(SETS)}"
        sub.add_argument("--data", nargs="+", required=True, metavar="NAME=FOLDER", help=names)
        sub.add_argument("--out", type=Path, required=True, metavar="DIR")
        limit = "only the first N images of each set and split"
        sub.add_argument("--max-samples", type=int, metavar="N", help=limit)
        sub.set_defaults(step=run)
        return sub

    def folder(sub, flag: str, what: str, **options: object) -> None:
        sub.add_argument(flag, metavar="DIR", help=what, **options)

    def changes(sub, config: str) -> None:
        what = f"change fields of {config}, which are those of its trainer and ours"
        sub.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help=what)

    def answers(sub, samples: str) -> None:
        sub.add_argument("--samples", type=int, default=1, help=f"{samples} (default: %(default)s)")
        batch = "completions written together (default: %(default)s)"
        sub.add_argument("--batch", type=int, default=16, help=batch)

    sub = step(teacher, "train the reasoning scorer with GRPO (resumes by itself)")
    base = "folder of Qwen2.5-VL-7B-Instruct, or another model of transformers"
    folder(sub, "--base", base, required=True)
    epochs = "passes over the training images (default: the paper's 10)"
    sub.add_argument("--epochs", type=float, default=10, help=epochs)
    lora = "train rank-64 adapters of the language module instead of all weights"
    sub.add_argument("--lora", action="store_true", help=lora)
    changes(sub, "rali_lab.reasoner.grpo.GrpoConfig")

    sub = step(write, "let the teacher write about the training images (resumable)")
    folder(sub, "--model", "folder of the teacher", required=True)
    answers(sub, "rationales an image")

    sub = step(student, "align CLIP with the rationales and fit the basis")
    clip = "folder of clip-vit-large-patch14-336, or another Hugging Face CLIP"
    folder(sub, "--clip", clip, required=True)
    table = "rationales.parquet of the step `write`"
    sub.add_argument("--rationales", type=Path, required=True, metavar="FILE", help=table)
    resume = "go on from the last checkpoint in --out"
    sub.add_argument("--resume", action="store_true", help=resume)
    changes(sub, "rali_lab.paper.student.StudentConfig")

    sub = step(evaluate, "score test images and print the table next to the paper's (resumable)")
    kind = sub.add_mutually_exclusive_group(required=True)
    folder(kind, "--reasoner", "a reasoning model")
    folder(kind, "--rali", "a RALI, released layout or ours")
    trained = "sets it was trained on: only their test part is scored (default: koniq)"
    sub.add_argument("--trained-on", nargs="*", default=["koniq"], metavar="NAME", help=trained)
    answers(sub, "answers an image, averaged")
    resume = "go on with the predictions in --out"
    sub.add_argument("--resume", action="store_true", help=resume)
    return parser


def teacher(args: argparse.Namespace) -> int:
    """Train the reasoning scorer."""
    from rali_lab.reasoner.grpo import GrpoConfig, paper_options, train_grpo

    sets = load_sets(parse_data(args.data), split=("train", "val"), limit=args.max_samples)
    train, val = (
        [p for images in sets.values() for p in images if p.split == s] for s in ("train", "val")
    )
    changes = parse_set(args.set, GrpoConfig)
    # No set of the paper says which degradation an image has, so the score is the only task;
    # validation is left to `evaluate`.
    only_scores = {"degradation_share": 0.0, "eval_every": 0, "lora": LORA if args.lora else None}
    paper = paper_options(0, **only_scores)
    per_step = changes.get("images_per_step", paper.images_per_step)
    further = {"max_steps": math.ceil(args.epochs * len(train) / per_step), **EIGHT_GPUS, **changes}
    config = GrpoConfig.from_options(replace(paper, trl_options=further), args.out)
    train_grpo(args.base, train, val, args=config)
    return 0


def write(args: argparse.Namespace) -> int:
    """Let the teacher write about the training images."""
    from transformers import set_seed

    from rali_lab.models.vlm import load_policy
    from rali_lab.reasoner.rationales import valid_rationales, write_rationales

    sets = load_sets(parse_data(args.data), split="train", limit=args.max_samples)
    args.out.mkdir(parents=True, exist_ok=True)
    set_seed(0)
    table = write_rationales(
        *load_policy(args.model),
        [p for images in sets.values() for p in images],
        samples=args.samples,
        path=args.out / "rationales.parquet",
        progress=True,
        batch=args.batch,
        **_question(args.model),
    )
    valid, asked = len(valid_rationales(table)), table["image"].nunique()
    print(f"{valid} of {asked} images have a valid rationale")
    return 0 if valid == asked else 1


def student(args: argparse.Namespace) -> int:
    """Align CLIP with the rationales and fit the basis."""
    import pandas as pd

    from rali_lab.paper.student import StudentConfig, train_student

    sets = load_sets(parse_data(args.data), split="train", limit=args.max_samples)
    train = [p for images in sets.values() for p in images]
    config = StudentConfig(output_dir=str(args.out), **parse_set(args.set, StudentConfig))
    rationales = pd.read_parquet(args.rationales)
    train_student(args.clip, train, rationales, args=config, resume=args.resume)
    return 0


def evaluate(args: argparse.Namespace) -> int:
    """Score test images and print the table next to the paper's."""
    from rali_lab.paper import evaluation

    sets = test_part(load_sets(parse_data(args.data)), args.trained_on, args.max_samples)
    model = Path(args.reasoner or args.rali)
    about = {
        "model": model.name,
        "kind": "rali" if args.rali else "reasoner",
        "weights": weights_digest(model),
        "samples": args.samples,
    }
    if args.rali:
        scorer = evaluation.rali_scorer(model)
    else:
        scorer = evaluation.reasoner_scorer(
            model, samples=args.samples, batch=args.batch, **_question(model)
        )
    args.out.mkdir(parents=True, exist_ok=True)
    found = evaluation.predict(scorer, sets, args.out, about=about, resume=args.resume)
    made = evaluation.table(found, method=model.name)
    atomic_write(args.out / "table.csv", made.to_csv(index=False).encode())
    print(made.to_string(index=False))
    unscored = found[found["status"] != "ok"]
    for status, part in unscored.groupby("status"):
        print(f"{len(part)} images: {status} ({part['image'].iloc[0]} first)", file=sys.stderr)
    return 1 if len(unscored) else 0


def test_part(
    sets: dict[str, list[RatedImage]], trained_on: Sequence[str], limit: int | None
) -> dict[str, list[RatedImage]]:
    """Of sets that were trained on their test split, of the others everything, as in the paper's
    tables.
    """
    if unknown := set(trained_on) - set(SETS):
        raise ValueError(f"--trained-on {sorted(unknown)}: expected names among {', '.join(SETS)}")
    parts = {
        name: [p for p in images if p.split == "test" or name not in trained_on]
        for name, images in sets.items()
    }
    if empty := [name for name, part in parts.items() if not part]:
        raise ValueError(f"set {empty[0]!r} has no test images; give the whole set")
    return {name: part[:limit] for name, part in parts.items()}


def weights_digest(folder: Path) -> str:
    """sha256 over a model folder's weights, in any form, and over what a RALI adds to them."""
    files = sorted(
        f
        for kind in ("safetensors", "pt", "npz", "pkl")
        for f in folder.rglob(f"*.{kind}")
        if "checkpoint-" not in str(f)
    )
    if not files:
        raise FileNotFoundError(f"{folder}: no weights here; give the folder of a model")
    total = hashlib.sha256()
    for file in files:
        total.update(bytes.fromhex(sha256_file(file)))
    return total.hexdigest()


def parse_set(changes: Sequence[str], config: type) -> dict[str, Any]:
    """``["beta=0.5", "bf16=False"]`` as fields of a dataclass and their values; what is no literal
    of Python is a text.

    Raises
    ------
    ValueError
        On a field that `config` does not have.

    Examples
    --------
    >>> from rali_lab.profiles import GrpoOptions
    >>> parse_set(["beta=0.5", "prefill=<think>"], GrpoOptions)
    {'beta': 0.5, 'prefill': '<think>'}
    """
    known, out = [f.name for f in fields(config)], {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or name not in known:
            near = difflib.get_close_matches(name, known)
            raise ValueError(
                f"--set {change!r}: expected FIELD=VALUE with a field of {config.__name__}"
                + (f", such as {', '.join(near)}" if near else "")
            )
        try:
            out[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            out[name] = text
    return out


def _question(model: str | Path) -> dict[str, object]:
    """System prompt, question and length that a model was trained with, from its settings.json; the
    paper's where there are none.
    """
    from rali_lab.reasoner.grpo import paper_options

    file = Path(model) / "settings.json"
    kept = json.loads(file.read_text()) if file.exists() else vars(paper_options(1))
    return {
        "question": kept["score_question"],
        "system": kept["system"],
        "max_new_tokens": kept["max_completion_length"],
    }


if __name__ == "__main__":
    sys.exit(main())
