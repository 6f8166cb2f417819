"""`rali-lab score`: a line per image, as soon as it is scored."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rali_lab.cli.messages import CommandError, complain

if TYPE_CHECKING:
    import numpy as np

    from rali_lab.rali.scorer import RaliScorer

CHUNK = 8
"""Images held in memory at a time; their scores are printed before the next are read."""
PROGRESS_FROM = 20
"""A progress bar is shown above this number of images."""
UNFIT = (ValueError, RuntimeError, MemoryError)
"""Of an image that a scorer cannot take: too small, or too large (torch's is a RuntimeError)."""
Scored = tuple[float, str | None]
"""A score, and the nearest words if they were asked for."""


def run(args: argparse.Namespace) -> int:
    """Score images; 0 if all could be scored, else 1.

    Raises
    ------
    CommandError
        Without a usable model, or without words to explain with.
    """
    from tqdm import tqdm

    paths, failed = _find(args.paths)
    if not paths:
        return 1
    scorer = _load_scorer(args.model)
    if args.explain and not scorer.texts_:
        raise CommandError(
            "this model holds no words to explain with; leave out --explain, or give --model"
            " another folder"
        )
    hidden = args.quiet or len(paths) <= PROGRESS_FROM
    with tqdm(total=len(paths), disable=hidden, unit="image", file=sys.stderr) as bar:
        for start in range(0, len(paths), CHUNK):
            outcomes = _score_chunk(scorer, paths[start : start + CHUNK], args.explain)
            with bar.external_write_mode(file=sys.stdout):
                printed = [_print(path, found, args.json) for path, found in outcomes.items()]
            failed += printed.count(False)
            bar.update(len(outcomes))
    return 1 if failed else 0


def _find(paths: Sequence[str]) -> tuple[list[Path], int]:
    """All images under the paths, and how many of the paths were of no use (each reported)."""
    from rali_lab.data.images import ImageError, find_images

    found, failed = [], 0
    for path in paths:
        try:
            found += find_images(path)
        except ImageError as error:
            failed += 1
            complain(error)
    return list(dict.fromkeys(found)), failed


def _load_scorer(model_dir: str | None) -> RaliScorer:
    try:
        from rali_lab.rali.scorer import load_scorer

        return load_scorer(model_dir)
    except ImportError as error:
        why = f"scoring needs the full installation ({error}); run `make setup`"
        raise CommandError(why) from error
    except (FileNotFoundError, ValueError) as error:
        raise CommandError(error) from error


def _score_chunk(
    scorer: RaliScorer, paths: Sequence[Path], explain: bool
) -> Mapping[Path, Scored | Exception]:
    """Each path with its score and words, or with the reason why it has none."""
    from rali_lab.data.images import ImageError, read_image

    outcomes: dict[Path, Scored | Exception] = dict.fromkeys(paths, (math.nan, None))
    images = {}
    for path in paths:
        try:
            images[path] = read_image(path)
        except ImageError as error:
            outcomes[path] = error
    found: Sequence[Scored | Exception]
    try:
        found = _scored(scorer, list(images.values()), explain)
    except UNFIT:  # one of them spoils it for all: each alone, and the reason why
        found = [_alone(scorer, path, image, explain) for path, image in images.items()]
    return outcomes | dict(zip(images, found, strict=True))


def _scored(scorer: RaliScorer, images: Sequence[np.ndarray], explain: bool) -> list[Scored]:
    if not images:
        return []
    words = scorer.nearest_texts(images) if explain else [None] * len(images)
    return list(zip(map(float, scorer.predict(images)), words, strict=True))


def _alone(scorer: RaliScorer, path: Path, image: np.ndarray, explain: bool) -> Scored | Exception:
    """The outcome of one image, whose reason for having no score begins with its file's name."""
    try:
        return _scored(scorer, [image], explain)[0]
    except UNFIT as error:
        reason = str(error) or type(error).__name__  # MemoryError has no message
        return ValueError(f"{path}: {reason.removeprefix('image 0 ').removeprefix('image 0: ')}")


def _print(path: Path, outcome: Scored | Exception, as_json: bool) -> bool:
    """Print a score on stdout and return True, or say on stderr why there is none."""
    if isinstance(outcome, Exception):
        complain(outcome)
        return False
    score, words = outcome
    if not math.isfinite(score):
        way_out = "train it again with `make reproduce`"
        complain(f"{path}: the model gave {score}, not a number; {way_out}")
        return False
    if as_json:
        record = {"path": str(path), "score": score}
        print(json.dumps(record if words is None else record | {"words": words}), flush=True)
    else:
        fields = [f"{score:.2f}", str(path)]
        print("\t".join(fields if words is None else [*fields, words]), flush=True)
    return True
