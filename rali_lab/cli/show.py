"""`rali-lab results` and `rali-lab claims`: what runs have found."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from rali_lab.cli.messages import CommandError
from rali_lab.reproduce.project import checkout, home, under_home


def results(args: argparse.Namespace) -> int:
    """Print the headline numbers of a run.

    Raises
    ------
    CommandError
        If there are none yet, or the file is damaged.
    """
    from rali_lab.evaluate.results import read_records
    from rali_lab.reproduce.tables import aligned, with_interval

    wanted = (args.run_dir or under_home("runs") / (args.profile or "*")) / "results.json"
    found = [wanted] if args.run_dir or args.profile else under_home("runs").glob("*/results.json")
    path = _newest(file for file in found if file.is_file())
    if path is None:
        way_out = "run `make reproduce` in the project's folder first"
        raise CommandError(f"{wanted}: no results yet; {way_out}")
    try:
        records = read_records(path)
    except (OSError, ValueError) as error:
        raise CommandError(error) from error
    if args.json:
        print(json.dumps([record.to_dict() for record in records], indent=1))
        return 0
    columns = ("profile", "role", "domain", "metric", "method")
    rows = [(*columns, "value [95 % interval]", "n", "seeds")]
    for r in records:
        n = "-" if r.n is None else str(r.n)
        rows.append((*(getattr(r, c) for c in columns), with_interval(r), n, str(r.seeds)))
    print(aligned(rows))
    return 0


def claims(args: argparse.Namespace) -> int:
    """Print what became of the claims, in the newest run or else in the published one.

    Raises
    ------
    CommandError
        If there is neither.
    """
    from rali_lab.reproduce.claims import ledger_rows
    from rali_lab.reproduce.tables import aligned, interval

    runs, pattern = under_home("runs"), f"{args.profile or '*'}/claims.json"
    root, profile = checkout() or home(), args.profile or "tiny"
    published = root / "docs" / "results" / f"{profile}-claims.json"
    if (file := _newest(runs.glob(pattern))) is not None:
        rows = ledger_rows(file, file.parent / "notebooks", profile=file.parent.name)
    elif published.is_file():
        rows = ledger_rows(published, root / "notebooks", profile=profile)
    else:
        way_out = "run `make reproduce` in the project's folder"
        raise CommandError(f"{runs / pattern}: no claims yet; {way_out}")
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    table = [("claim", "verdict", "value [95 % interval]", "rule")]
    for r in rows:
        value = "-" if r["value"] is None else interval(r)
        table.append((r["id"], r["verdict"], value, r["rule"]))
    print(aligned(table))
    return 0


def _newest(files: Iterable[Path]) -> Path | None:
    return max(files, key=lambda path: path.stat().st_mtime, default=None)
