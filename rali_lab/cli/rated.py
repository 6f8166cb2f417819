"""`rali-lab data check` and `rali-lab fit`: images that people rated."""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from typing import Any

from rali_lab.cli.messages import CommandError, complain


def check(args: argparse.Namespace) -> int:
    """Print a report on a data set: 0 if it is clean, 1 if it has problems or cannot be read."""
    from rali_lab.data.validation import check_dataset

    options = _reading(args)
    try:
        report = check_dataset(args.path, scorer=_bundled_scorer, **options)
    except (ImportError, OSError, ValueError) as error:
        complain(error)
        return 1
    print(json.dumps(report.to_dict(), indent=1) if args.json else report)
    return 0 if report.ok else 1


def fit(args: argparse.Namespace) -> int:
    """Train a scorer and save it; 1 if there is nothing to learn from.

    Raises
    ------
    CommandError
        For a folder that is there already or cannot be made, and for wrong options.
    """
    from rali_lab.data.datasets import read_dataset
    from rali_lab.experiments.custom_dataset import MIN_IMAGES
    from rali_lab.experiments.fit_scorer import fit_scorer

    if args.out.exists():
        raise CommandError(f"{args.out}: is there already; give --out another name, or remove it")
    if args.limit is not None and args.limit < MIN_IMAGES:
        raise CommandError(f"--limit {args.limit}: it takes {MIN_IMAGES} images or more")
    options = _reading(args)
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"--out {args.out}: {error}") from error
    try:
        images = read_dataset(args.path, fractions=(1, 0, 0), **options)
        taken = [image for image in images if image.split != "test"]
        held = len(images) - len(taken)
        if args.limit is not None and args.limit < len(taken):
            taken = random.Random(0).sample(taken, args.limit)
        scorer = fit_scorer(
            taken,
            tune=not args.quick,
            trust_direction=args.trust_direction,
            report=lambda line: print(line, file=sys.stderr),
        )
        scorer.save(args.out)
    except (ImportError, OSError, ValueError) as error:
        complain(error)
        return 1
    apart = f" ({held} of the split test are never learned from)" if held else ""
    took = f"fitted on {len(taken)} of {len(images)} images{apart}"
    print(f"{args.out}: {took}; it scores on 1 to 5, higher is better")
    return 0


def _bundled_scorer():
    from rali_lab.rali.scorer import load_scorer

    return load_scorer()


def _reading(args: argparse.Namespace) -> dict[str, Any]:
    """Options of `read_dataset` from those of the command line."""
    from rali_lab.data.datasets import LAYOUTS

    if args.layout not in (None, *LAYOUTS):
        known = ", ".join(LAYOUTS)
        raise CommandError(f"--layout {args.layout!r} is not known; choose one of {known}")
    if args.mos_range and not -math.inf < args.mos_range[0] < args.mos_range[1] < math.inf:
        low, high = args.mos_range
        raise CommandError(f"--mos-range {low:g} {high:g}: give the lower end first, both finite")
    return {
        "layout": args.layout,
        "image_dir": args.images,
        "mos_range": tuple(args.mos_range) if args.mos_range else None,
        "higher_is_better": False if args.dmos else None,
    }
