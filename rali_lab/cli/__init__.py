"""The command `rali-lab`: score images, fit a scorer to rated ones, print results, check rated
folders, reproduce the study.

Exit codes: 0 all good; 1 an image could not be scored, a table has problems or teaches nothing, or
the study cannot run here; 2 wrong usage, or no model or results yet; 130 interrupted; 141 the
reader of the output went away. Heavy libraries load where needed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rali_lab import __version__
from rali_lab.cli import rated, score, show
from rali_lab.cli.messages import CommandError, complain


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; argparse itself exits with 2 on wrong usage."""
    parser = _parser()
    args, extra = parser.parse_known_args(argv)
    if extra and args.command is not _reproduce:
        parser.error(f"unrecognized arguments: {' '.join(extra)}")
    args.extra = extra
    if hasattr(sys.stdout, "reconfigure"):
        # File names that are no valid text come out as the bytes they are.
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        code = args.command(args)
        sys.stdout.flush()
        return code
    except CommandError as error:
        complain(error)
        return 2
    except KeyboardInterrupt:
        complain("interrupted; every line printed so far is complete")
        return 130
    except BrokenPipeError:
        # `rali-lab ... | head`: say nothing, here or when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rali-lab", description="Image quality with RALI, and its study."
    )
    parser.add_argument("--version", action="version", version=f"rali-lab {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)

    command = commands.add_parser("score", help="score images from 1 (bad) to 5 (excellent)")
    add = command.add_argument
    add("paths", nargs="+", metavar="PATH", help="image file, or folder (searched recursively)")
    add(
        "--model",
        metavar="DIR",
        help="a saved RALI model (default: the package's own)",
    )
    _flag(command, "--json", "one JSON object per line instead of score<TAB>path")
    _flag(command, "--explain", "add the nearest of the words that the scorer was aligned with")
    _flag(command, "--quiet", "no progress bar; errors are still reported")
    command.set_defaults(command=score.run)

    command = commands.add_parser("results", help="print the headline numbers of a run")
    _flag(command, "--json", "a JSON list of records instead of a table")
    add = command.add_mutually_exclusive_group().add_argument
    add("--profile", help="the run of this profile (default: the most recent run)")
    where = "a run's folder, instead of runs/<profile>"
    add("--run-dir", type=Path, metavar="DIR", help=where)
    command.set_defaults(command=show.results)

    command = commands.add_parser("claims", help="print what became of the paper's claims")
    _flag(command, "--json", "a JSON list of rows instead of a table")
    which = "the run of this profile (default: the most recent run, else the published one)"
    command.add_argument("--profile", help=which)
    command.set_defaults(command=show.claims)

    data = commands.add_parser("data", help="look after data sets as they are published")
    actions = data.add_subparsers(metavar="action", required=True)
    about = "check a published data set, or a plain score table, before training or testing on it"
    command = actions.add_parser("check", help=about)
    _of_a_data_set(command)
    _flag(command, "--json", "one JSON object instead of text")
    command.set_defaults(command=rated.check)

    about = "train a scorer on images that people rated, for `rali-lab score --model`"
    command = commands.add_parser("fit", help=f"{about}; it scores on 1 to 5")
    _of_a_data_set(command)
    command.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where the scorer goes"
    )
    _flag(command, "--quick", "leave the trunk as it is: ten times as fast, a little less exact")
    _flag(command, "--trust-direction", "train even if the scores seem to run the other way")
    few = "take N of the images, at random (500 x 500 pixels cost a second and 0.6 MB)"
    command.add_argument("--limit", type=int, metavar="N", help=few)
    command.set_defaults(command=rated.fit)

    about = "say what this machine is and which profiles it can run"
    command = commands.add_parser("doctor", help=about)
    _flag(command, "--json", "one JSON object instead of text")
    command.set_defaults(command=_doctor)

    about = "run the study; takes the runner's options"
    command = commands.add_parser("reproduce", add_help=False, help=about)
    command.set_defaults(command=_reproduce)
    return parser


def _flag(parser: argparse.ArgumentParser, name: str, about: str) -> None:
    parser.add_argument(name, action="store_true", help=about)


def _of_a_data_set(parser: argparse.ArgumentParser) -> None:
    """Where rated images lie, and how their scores are to be read."""
    add = parser.add_argument
    what = "folder of the set, or a CSV, TSV or Parquet table with the columns image and mos"
    add("path", metavar="PATH", help=what)
    layout = "how the set lies on disk (default: found out by its label files)"
    add("--layout", metavar="NAME", help=layout)
    scale = "rating scale (default: the layout's)"
    add("--mos-range", nargs=2, type=float, metavar=("LO", "HI"), help=scale)
    _flag(parser, "--dmos", "lower is better (default: as the layout says)")
    images = "folder that the image names are relative to (default: the layout's)"
    add("--images", metavar="DIR", help=images)


def _doctor(args: argparse.Namespace) -> int:
    from rali_lab.reproduce import doctor

    return doctor.main(as_json=args.json)


def _reproduce(args: argparse.Namespace) -> int:
    from rali_lab.reproduce import runner

    return runner.main(args.extra) or 0
