"""Put the last run into the repository: `python -m rali_lab.experiments.publish` (what `make
publish` runs).

Beside what `rali_lab.reproduce.published` copies and writes, this knows the two things that depend
on the experiments: which checked-in tables today's code would not make, and the scorer that comes
with the package. With `--check` nothing is written: it fails if a committed notebook or table does
not belong to its source, or is stale and not marked so.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from rali_lab.experiments.mixed_datasets import fit_wide
from rali_lab.experiments.studies import kept_studies, staleness
from rali_lab.profiles import get_profile
from rali_lab.reproduce import published
from rali_lab.reproduce.project import checkout

SHOWN = re.compile(r'seed_tables\(\w+, "([\w-]+)"|f"(people|custom)-\{name\}"')
"""How the source of a notebook names a study whose tables it shows."""


def notebooks_with_stale_tables(notebooks: Path, profile: str) -> set[str]:
    """Names of notebooks that show tables of several seeds made by other code than today's."""
    sizes = get_profile(profile)
    older = {study for study in kept_studies(sizes) if staleness(sizes, study)}
    kinds = {study.split("-")[0] for study in older}
    return {
        source.stem
        for source in notebooks.glob("[0-9][0-9]_*.py")
        for names in SHOWN.findall(source.read_text(encoding="utf-8"))
        if kinds & set(names)
    }


def what_is_stale(root: Path, profile: str) -> published.Stale:
    """What other code than today's has made of the published notebooks and tables of a checkout."""
    tables = notebooks_with_stale_tables(root / "notebooks", profile)
    return published.what_is_stale(root, profile, tables)


def problems(root: Path, profile: str = "tiny") -> list[str]:
    """What does not belong together in the checkout at `root`, in words; empty when all is well."""
    return published.problems(root, profile, what_is_stale(root, profile))


def publish(profile: str, root: Path) -> None:
    """Copy the finished run of a profile, and the scorer that it made, into the checkout at `root`.

    Raises
    ------
    FileNotFoundError
        If the run is not whole, or not green.
    """
    published.copy_run(profile, root)
    scorer = fit_wide(get_profile(profile)).path / "model"
    published.replace_folder(scorer, root / "rali_lab" / "assets" / "rali")


def main(argv: list[str] | None = None) -> int:
    """The command line; 0 if everything belongs together in the end."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--profile", default="tiny")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--check",
        action="store_true",
        help="write nothing; fail if something stale is not marked so",
    )
    what.add_argument(
        "--marks",
        action="store_true",
        help="copy nothing; renew tables and marks of README.md and docs/CLAIMS.md",
    )
    args = parser.parse_args(argv)
    root = checkout()
    if root is None:
        print("error: only a checkout can be published to; clone the repository", file=sys.stderr)
        return 1
    copying = not (args.check or args.marks)
    try:
        if copying:
            publish(args.profile, root)
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    stale = what_is_stale(root, args.profile)
    if not args.check:
        published.renew(root, args.profile, stale)
    if copying and stale.notebooks:
        names = ", ".join(sorted(stale.notebooks))
        why = "stale now, as the published scorer is another one"
        print(f"{why}: {names}; run `make reproduce publish` once more")
    found = published.problems(root, args.profile, stale)
    print("\n".join(found) or "notebooks and tables belong to their sources")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
