"""The command `rali-lab`: score images, fit a scorer to rated ones, print results, check rated
folders, reproduce the study.

Exit codes: 0 all good; 1 an image could not be scored, a table has problems or teaches nothing, or
the study cannot run here; 2 wrong usage, or no model or results yet; 130 interrupted; 141 the
reader of the output went away. Heavy libraries load where needed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rali_lab import __version__
from rali_lab.reproduce.project import checkout, home, under_home

if TYPE_CHECKING:
    from rali_lab.data.dataset_report import DatasetReport
    from rali_lab.data.validation import Report
    from rali_lab.evaluate.results import Record

CHUNK = 8
"""Images held in memory at a time; their scores are printed before the next are read."""
PROGRESS_FROM = 20
"""A progress bar is shown above this number of images."""


class CommandError(Exception):
    """Ends the command with exit code 2 and its message as one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; argparse itself exits with 2 on wrong usage."""
    parser = _parser()
    args, extra = parser.parse_known_args(argv)
    if extra and args.command is not _reproduce:
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    args.extra = extra
    if hasattr(
        sys.stdout, "reconfigure"
    ):  # file names that are no valid text come out as the bytes they are
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        code = args.command(args)
        sys.stdout.flush()
        return code
    except CommandError as error:
        _complain(error)
        return 2
    except KeyboardInterrupt:
        _complain("interrupted; every line printed so far is complete")
        return 130
    except (
        BrokenPipeError
    ):  # `rali-lab ... | head`: say nothing, here or when Python flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rali-lab", description="Image quality with RALI, and its study."
    )
    parser.add_argument("--version", action="version", version=f"rali-lab {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)

    score = commands.add_parser("score", help="score images from 1 (bad) to 5 (excellent)")
    score.add_argument(
        "paths", nargs="+", metavar="PATH", help="image file, or folder (searched recursively)"
    )
    score.add_argument(
        "--model", metavar="DIR", help="a saved RALI model (default: the one of the last run)"
    )
    score.add_argument(
        "--json", action="store_true", help="one JSON object per line instead of score<TAB>path"
    )
    score.add_argument(
        "--explain",
        action="store_true",
        help="add the nearest of the words that the scorer was aligned with",
    )
    score.add_argument(
        "--quiet", action="store_true", help="no progress bar; errors are still reported"
    )
    score.set_defaults(command=_score)

    results = commands.add_parser("results", help="print the headline numbers of a run")
    results.add_argument(
        "--json", action="store_true", help="a JSON list of records instead of a table"
    )
    where = results.add_mutually_exclusive_group()
    where.add_argument("--profile", help="the run of this profile (default: the most recent run)")
    where.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="a run's folder, instead of runs/<profile>"
    )
    results.set_defaults(command=_results)

    claims = commands.add_parser("claims", help="print what became of the paper's claims")
    claims.add_argument(
        "--json", action="store_true", help="a JSON list of rows instead of a table"
    )
    claims.add_argument(
        "--profile",
        help="the run of this profile (default: the most recent run, else the published one)",
    )
    claims.set_defaults(command=_claims)

    check = commands.add_parser("validate", help="check a score table and its images")
    check.add_argument("csv", metavar="CSV", help="score table with a header line")
    check.add_argument(
        "images", metavar="IMAGES", help="folder that the image names are relative to"
    )
    check.add_argument(
        "--mos-range", nargs=2, type=float, required=True, metavar=("LO", "HI"), help="rating scale"
    )
    check.add_argument("--dmos", action="store_true", help="lower is better")
    check.add_argument("--domain", help="name of the data set (default: the table's file name)")
    check.add_argument("--image-column", default="image", help="default: %(default)s")
    check.add_argument("--mos-column", default="mos", help="default: %(default)s")
    for name in ("std", "source", "split"):
        check.add_argument(f"--{name}-column", help="default: none")
    check.set_defaults(command=_validate)

    data = commands.add_parser("data", help="look after data sets as they are published")
    actions = data.add_subparsers(metavar="action", required=True)
    check = actions.add_parser(
        "check",
        help="check a published data set, or a plain score table, before training or testing on it",
    )
    _of_a_data_set(check)
    check.add_argument("--json", action="store_true", help="one JSON object instead of text")
    check.set_defaults(command=_data_check)

    fit = commands.add_parser(
        "fit",
        help=(
            "train a scorer on images that people rated, for `rali-lab score --model`; it scores on"
            " 1 to 5"
        ),
    )
    _of_a_data_set(fit)
    fit.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the scorer goes")
    fit.add_argument(
        "--quick",
        action="store_true",
        help="leave the trunk as it is: ten times as fast, a little less exact",
    )
    fit.add_argument(
        "--trust-direction",
        action="store_true",
        help="train even if the scores seem to run the other way",
    )
    fit.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="take N of the images, at random (500 x 500 pixels cost a second and 0.6 MB)",
    )
    fit.set_defaults(command=_fit)

    doctor = commands.add_parser(
        "doctor", help="say what this machine is and which profiles it can run"
    )
    doctor.add_argument("--json", action="store_true", help="one JSON object instead of text")
    doctor.add_argument(
        "--quick", action="store_true", help="without the 20 seconds that measure its speed"
    )
    doctor.set_defaults(command=_doctor)

    reproduce = commands.add_parser(
        "reproduce", add_help=False, help="run the study; takes the runner's options"
    )
    reproduce.set_defaults(command=_reproduce)
    return parser


def _of_a_data_set(parser: argparse.ArgumentParser) -> None:
    """Where rated images lie, and how their scores are to be read."""
    parser.add_argument(
        "path",
        metavar="PATH",
        help="folder of the set, or a CSV, TSV or Parquet table with the columns image and mos",
    )
    parser.add_argument(
        "--layout",
        metavar="NAME",
        help="how the set lies on disk (default: found out by its label files)",
    )
    parser.add_argument(
        "--mos-range",
        nargs=2,
        type=float,
        metavar=("LO", "HI"),
        help="rating scale (default: the layout's)",
    )
    parser.add_argument(
        "--dmos", action="store_true", help="lower is better (default: as the layout says)"
    )
    parser.add_argument(
        "--images",
        metavar="DIR",
        help="folder that the image names are relative to (default: the layout's)",
    )


def _score(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    paths, failed = _find(args.paths)
    scorer = _load_scorer(args.model) if paths else None
    if args.explain and scorer is not None and not scorer.texts_:
        raise CommandError(
            "this model remembers no words to explain with; leave out --explain, or give --model"
            " another folder"
        )
    hidden = args.quiet or len(paths) <= PROGRESS_FROM
    with tqdm(total=len(paths), disable=hidden, unit="image", file=sys.stderr) as bar:
        for start in range(0, len(paths), CHUNK):
            outcomes = _score_chunk(scorer, paths[start : start + CHUNK], args.explain)
            with bar.external_write_mode(file=sys.stdout):
                failed += sum(
                    not _print_outcome(path, outcome, args.json)
                    for path, outcome in outcomes.items()
                )
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
            _complain(error)
    return list(dict.fromkeys(found)), failed


Scored = tuple[float, str | None]
"""A score, and the nearest words if they were asked for."""


def _score_chunk(scorer, paths: Sequence[Path], explain: bool) -> dict[Path, Scored | Exception]:
    """Each path with its score and words, or with the reason why it has none."""
    from rali_lab.data.images import ImageError, read_image

    outcomes: dict[Path, Scored | Exception] = dict.fromkeys(paths, (math.nan, None))
    images = {}
    for path in paths:
        try:
            images[path] = read_image(path)
        except ImageError as error:
            outcomes[path] = error
    try:
        found = _scored(scorer, list(images.values()), explain)
    except UNFIT:  # one of them spoils it for all: each alone, and the reason why
        found = [_alone(scorer, path, shown, explain) for path, shown in images.items()]
    return {**outcomes, **dict(zip(images, found, strict=True))}


UNFIT = (ValueError, RuntimeError, MemoryError)
"""Of an image that a scorer cannot take: too small, or too large (torch's is a RuntimeError)."""


def _scored(scorer, shown: Sequence, explain: bool) -> list[Scored]:
    if not shown:
        return []
    words = scorer.nearest_texts(shown) if explain else [None] * len(shown)
    return list(zip(map(float, scorer.predict(shown)), words, strict=True))


def _alone(scorer, path: Path, shown, explain: bool) -> Scored | Exception:
    """The outcome of one image, whose reason for having no score begins with its file's name."""
    try:
        return _scored(scorer, [shown], explain)[0]
    except UNFIT as error:
        said = str(error) or type(error).__name__  # MemoryError says nothing
        return ValueError(f"{path}: {said.removeprefix('image 0 ').removeprefix('image 0: ')}")


def _print_outcome(path: Path, outcome: Scored | Exception, as_json: bool) -> bool:
    """Print a score on stdout and return True, or say on stderr why there is none."""
    if isinstance(outcome, Exception):
        _complain(outcome)
        return False
    score, words = outcome
    if not math.isfinite(score):
        _complain(
            f"{path}: the model gave {score}, not a number; train it again with `make reproduce`"
        )
        return False
    if as_json:
        print(
            json.dumps(
                {"path": str(path), "score": score}
                | ({"words": words} if words is not None else {})
            ),
            flush=True,
        )
    else:
        print(
            "\t".join([f"{score:.2f}", str(path), *([words] if words is not None else [])]),
            flush=True,
        )
    return True


def _load_scorer(model_dir: str | None):
    try:
        from rali_lab.rali.scorer import load_scorer

        return load_scorer(model_dir)
    except ImportError as error:
        raise CommandError(
            f"scoring needs the full installation ({error}); run `make setup`"
        ) from error
    except (FileNotFoundError, ValueError) as error:
        raise CommandError(error) from error


def _results(args: argparse.Namespace) -> int:
    from rali_lab.evaluate.results import read_records

    path = _results_path(args.run_dir, args.profile)
    try:
        records = read_records(path)
    except (OSError, ValueError) as error:
        raise CommandError(error) from error
    if args.json:
        print(json.dumps([record.to_dict() for record in records], indent=1))
    else:
        print(_results_table(records))
    return 0


def _results_path(run_dir: Path | None, profile: str | None) -> Path:
    runs = under_home("runs")
    wanted = (run_dir or runs / (profile or "*")) / "results.json"
    found = [wanted] if run_dir or profile else list(runs.glob("*/results.json"))
    found = [path for path in found if path.is_file()]
    if not found:
        raise CommandError(
            f"{wanted}: no results yet; run `make reproduce` in the project's folder first"
        )
    return max(found, key=lambda path: path.stat().st_mtime)


def _claims(args: argparse.Namespace) -> int:
    from rali_lab.reproduce.claims import ledger_rows

    wanted = under_home("runs") / (args.profile or "*") / "claims.json"
    runs = sorted(
        under_home("runs").glob(f"{args.profile or '*'}/claims.json"),
        key=lambda path: path.stat().st_mtime,
    )
    published = (
        (checkout() or home()) / "docs" / "results" / f"{args.profile or 'tiny'}-claims.json"
    )
    if runs:
        rows = ledger_rows(runs[-1], runs[-1].parent / "notebooks", profile=runs[-1].parent.name)
    elif published.is_file():
        rows = ledger_rows(
            published,
            published.parents[2] / "notebooks",
            profile=published.name.removesuffix("-claims.json"),
        )
    else:
        raise CommandError(f"{wanted}: no claims yet; run `make reproduce` in the project's folder")
    print(json.dumps(rows, indent=1) if args.json else _claims_table(rows))
    return 0


def _claims_table(rows: Sequence[dict]) -> str:
    lines = [("claim", "verdict", "value [95 % interval]", "rule")]
    for r in rows:
        value = (
            "-"
            if r["value"] is None
            else f"{r['value']:.3f} [{float(r['ci_low']):.3f}, {float(r['ci_high']):.3f}]"
        )
        lines.append((r["id"], r["verdict"], value, r["rule"]))
    return _aligned(lines)


def _results_table(records: Sequence[Record]) -> str:
    from rali_lab.reproduce.tables import with_interval

    rows = [
        ("profile", "role", "domain", "metric", "method", "value [95 % interval]", "n", "seeds")
    ]
    for r in records:
        n = "-" if r.n is None else str(r.n)
        rows.append(
            (r.profile, r.role, r.domain, r.metric, r.method, with_interval(r), n, str(r.seeds))
        )
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as lines with their columns one below the other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _validate(args: argparse.Namespace) -> int:
    from rali_lab.data.ratings import read_rated_folder
    from rali_lab.data.validation import validate

    def report():
        images = read_rated_folder(
            args.csv,
            args.images,
            domain=args.domain or Path(args.csv).stem,
            mos_range=tuple(args.mos_range),
            image_column=args.image_column,
            mos_column=args.mos_column,
            std_column=args.std_column,
            higher_is_better=not args.dmos,
            source_column=args.source_column,
            split_column=args.split_column,
        )
        return validate(images)

    return _print_report(report)


def _data_check(args: argparse.Namespace) -> int:
    from rali_lab.data.dataset_report import check_dataset

    options = _reading(args)
    return _print_report(
        lambda: check_dataset(args.path, scorer=_bundled_scorer, **options), args.json
    )


def _bundled_scorer():
    from rali_lab.rali.scorer import load_scorer

    return load_scorer()


def _reading(args: argparse.Namespace) -> dict:
    """Options of `read_dataset` from those of `_of_a_data_set`."""
    from rali_lab.data.datasets import LAYOUTS

    if args.layout not in (None, *LAYOUTS):
        raise CommandError(
            f"--layout {args.layout!r} is not known; choose one of {', '.join(LAYOUTS)}"
        )
    if args.mos_range and not -math.inf < args.mos_range[0] < args.mos_range[1] < math.inf:
        raise CommandError(
            f"--mos-range {args.mos_range[0]:g} {args.mos_range[1]:g}: give the lower end first,"
            " both finite"
        )
    return {
        "layout": args.layout,
        "image_dir": args.images,
        "mos_range": tuple(args.mos_range) if args.mos_range else None,
        "higher_is_better": False if args.dmos else None,
    }


def _fit(args: argparse.Namespace) -> int:
    from rali_lab.data.datasets import read_dataset
    from rali_lab.experiments import custom_dataset

    if args.out.exists():
        raise CommandError(f"{args.out}: is there already; give --out another name, or remove it")
    if args.limit is not None and args.limit < custom_dataset.MIN_IMAGES:
        raise CommandError(
            f"--limit {args.limit}: it takes {custom_dataset.MIN_IMAGES} images or more"
        )
    options = _reading(args)
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"--out {args.out}: {error}") from error
    try:
        rated = read_dataset(args.path, fractions=(1, 0, 0), **options)
        taken = [p for p in rated if p.split != "test"]
        held = len(rated) - len(taken)
        told = f" ({held} of the split test are never learned from)" if held else ""
        if args.limit is not None and args.limit < len(taken):
            taken = random.Random(0).sample(taken, args.limit)
        trust, report = args.trust_direction, lambda line: print(line, file=sys.stderr)
        custom_dataset.fit(taken, tune=not args.quick, trust_direction=trust, report=report).save(
            args.out
        )
    except (ImportError, OSError, ValueError) as error:
        _complain(error)
        return 1
    print(
        f"{args.out}: fitted on {len(taken)} of {len(rated)} images{told}; it scores on 1 to 5,"
        " higher is better"
    )
    return 0


def _print_report(make: Callable[[], Report | DatasetReport], as_json: bool = False) -> int:
    """Print the report that `make` returns: 0 if it is clean, 1 if it has problems or there is
    none.
    """
    try:
        report = make()
    except (ImportError, OSError, ValueError) as error:
        _complain(error)
        return 1
    print(json.dumps(report.to_dict(), indent=1) if as_json else report)
    return 0 if report.ok else 1


def _doctor(args: argparse.Namespace) -> int:
    from rali_lab.reproduce import doctor

    return doctor.main(as_json=args.json, quick=args.quick)


def _reproduce(args: argparse.Namespace) -> int:
    from rali_lab.reproduce import runner

    return runner.main(args.extra) or 0


def _complain(message: object) -> None:
    """One line on stderr, however many the message had."""
    print("rali-lab:", " ".join(str(message).split("\n")), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
