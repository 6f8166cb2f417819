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
import hashlib
import math
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from rali_lab.data.records import RatedImage
from rali_lab.paper.sets import SETS, load_sets, parse_data


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

    def step(name: str, run, what: str) -> argparse.ArgumentParser:
        sub = steps.add_parser(name, help=what)
        sub.add_argument(
            "--data",
            nargs="+",
            required=True,
            metavar="NAME=FOLDER",
            help=f"rated sets; names: {', '.join(SETS)}",
        )
        sub.add_argument("--out", type=Path, required=True, metavar="DIR")
        sub.add_argument(
            "--max-samples",
            type=int,
            metavar="N",
            help="only the first N images of each set and split",
        )
        sub.set_defaults(step=run)
        return sub

    teacher = step("teacher", _teacher, "train the reasoning scorer with GRPO (resumes by itself)")
    teacher.add_argument(
        "--base",
        required=True,
        metavar="DIR",
        help="folder of Qwen2.5-VL-7B-Instruct, or another model of transformers",
    )
    teacher.add_argument(
        "--epochs",
        type=float,
        default=10,
        help="passes over the training images (default: the paper's 10)",
    )
    teacher.add_argument(
        "--lora",
        action="store_true",
        help="train rank-64 adapters of the language module instead of all weights",
    )
    teacher.add_argument(
        "--vllm",
        action="store_true",
        help="let vLLM write the completions, on the GPUs that train (colocate)",
    )
    teacher.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="change a field of GrpoSettings, or trl_options.KEY",
    )

    write = step("write", _write, "let the teacher write about the training images (resumable)")
    write.add_argument("--model", required=True, metavar="DIR")
    write.add_argument(
        "--samples", type=int, default=1, help="rationales an image (default: %(default)s)"
    )
    write.add_argument(
        "--batch", type=int, default=16, help="completions written together (default: %(default)s)"
    )

    student = step("student", _student, "align CLIP with the words and fit the basis")
    student.add_argument(
        "--clip",
        required=True,
        metavar="DIR",
        help="folder of clip-vit-large-patch14-336, or another Hugging Face CLIP",
    )
    student.add_argument(
        "--rationales",
        type=Path,
        required=True,
        metavar="FILE",
        help="rationales.parquet of the step `write`",
    )
    student.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint in --out"
    )
    student.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="change a field of StudentSettings",
    )

    evaluate = step(
        "evaluate",
        _evaluate,
        "score test images and print the table next to the paper's (resumable)",
    )
    kind = evaluate.add_mutually_exclusive_group(required=True)
    kind.add_argument("--reasoner", metavar="DIR", help="a reasoning model")
    kind.add_argument("--rali", metavar="DIR", help="a RALI, released layout or ours")
    evaluate.add_argument(
        "--trained-on",
        nargs="*",
        default=["koniq"],
        metavar="NAME",
        help="sets it was trained on: only their test part is scored (default: koniq)",
    )
    evaluate.add_argument(
        "--samples", type=int, default=1, help="answers an image, averaged (default: %(default)s)"
    )
    evaluate.add_argument(
        "--batch", type=int, default=16, help="completions written together (default: %(default)s)"
    )
    evaluate.add_argument(
        "--resume", action="store_true", help="go on with the predictions in --out"
    )
    return parser


def _teacher(args: argparse.Namespace) -> int:
    from rali_lab.reasoner.grpo import paper_settings, train_grpo

    sets = load_sets(parse_data(args.data), split=("train", "val"), limit=args.max_samples)
    train, val = (
        [p for images in sets.values() for p in images if p.split == s] for s in ("train", "val")
    )
    # No set of the paper says which degradation an image has, so the score is the only task;
    # validation is left to `evaluate`.
    settings = changed(
        paper_settings(0, degradation_share=0.0, eval_every=0, lora=LORA if args.lora else None),
        args.set,
    )
    options = (
        {"vllm_mode": "colocate", "use_vllm": True, "vllm_gpu_memory_utilization": 0.3}
        if args.vllm
        else {}
    )
    steps = settings.steps or math.ceil(args.epochs * len(train) / settings.images_per_step)
    settings = replace(
        settings, steps=steps, trl_options={**TRL, **options, **settings.trl_options}
    )
    train_grpo(args.base, train, val, settings, args.out)
    return 0


LORA = {
    "r": 64,
    "lora_alpha": 128,
    "lora_dropout": 0.05,
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
}
TRL = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 2,
    "gradient_checkpointing": True,
    "save_steps": 200,
}
"""As released for 8 GPUs: 8 x 8 x 2 = 128 completions a step.

On fewer, raise the accumulation: 16 on one."""


def _write(args: argparse.Namespace) -> int:
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
    readable, asked = len(valid_rationales(table)), table["image"].nunique()
    print(f"{readable} of {asked} images have a readable reasoning")
    return 0 if readable == asked else 1


def _student(args: argparse.Namespace) -> int:
    import pandas as pd

    from rali_lab.paper.student import StudentSettings, train_student

    sets = load_sets(parse_data(args.data), split="train", limit=args.max_samples)
    rationales = pd.read_parquet(args.rationales)
    train = [p for images in sets.values() for p in images]
    train_student(
        args.clip,
        train,
        rationales,
        changed(StudentSettings(), args.set),
        args.out,
        resume=args.resume,
    )
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from rali_lab.paper import evaluation

    sets = test_part(load_sets(parse_data(args.data)), args.trained_on, args.max_samples)
    model = args.reasoner or args.rali
    kind = "rali" if args.rali else "reasoner"
    about = {
        "model": Path(model).name,
        "kind": kind,
        "weights": digest(Path(model)),
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
    made = evaluation.table(found, method=Path(model).name)
    made.to_csv(args.out / "table.csv", index=False)
    print(made.to_string(index=False))
    silent = found[found["status"] != "ok"]
    for status, part in silent.groupby("status"):
        print(f"{len(part)} images: {status} ({part['image'].iloc[0]} first)", file=sys.stderr)
    return 1 if len(silent) else 0


def test_part(
    sets: dict[str, list[RatedImage]], trained_on: Sequence[str], limit: int | None
) -> dict[str, list[RatedImage]]:
    """Of sets that were trained on their test split, of the others everything, as in the paper's
    tables.
    """
    if strangers := set(trained_on) - set(SETS):
        raise ValueError(
            f"--trained-on {sorted(strangers)}: expected names among {', '.join(SETS)}"
        )
    parts = {
        name: [p for p in images if p.split == "test" or name not in trained_on]
        for name, images in sets.items()
    }
    if empty := [name for name, part in parts.items() if not part]:
        raise ValueError(f"set {empty[0]!r} has no test images; give the whole set")
    return {name: part[:limit] for name, part in parts.items()}


def digest(folder: Path) -> str:
    """sha256 over a model folder's weights, whatever their form, and over what a RALI adds to them."""
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
        with file.open("rb") as handle:
            total.update(hashlib.file_digest(handle, "sha256").digest())
    return total.hexdigest()


def changed(settings, changes: Sequence[str]):
    """Settings with ``["steps=3", "trl_options.bf16=False"]`` applied; ValueError on an unknown
    field or a value that is no literal.

    >>> from rali_lab.reasoner.grpo import GrpoSettings
    >>> changed(GrpoSettings(), ["beta=0.5", "trl_options.bf16=False"]).trl_options
    {'bf16': False}
    """
    known = {f.name for f in fields(settings)}
    for change in changes:
        key, equals, text = change.partition("=")
        name, dot, inner = key.partition(".")
        if not equals or name not in known:
            kind = type(settings).__name__
            raise ValueError(
                f"--set {change!r}: expected FIELD=VALUE with a field of {kind}:"
                f" {', '.join(sorted(known))}"
            )
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
        settings = replace(
            settings, **{name: {**getattr(settings, name), inner: value} if dot else value}
        )
    return settings


def _question(model: str) -> dict[str, object]:
    """System prompt, question and length that a model was trained with, from its settings.json; the
    paper's where there are none.
    """
    import json

    from rali_lab.reasoner.grpo import paper_settings

    file = Path(model) / "settings.json"
    kept = json.loads(file.read_text()) if file.exists() else vars(paper_settings(1))
    return {
        "question": kept["score_question"],
        "system": kept["system"],
        "max_new_tokens": kept["max_completion_length"],
    }


if __name__ == "__main__":
    sys.exit(main())
