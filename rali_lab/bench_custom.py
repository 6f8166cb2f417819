"""Ten splits of `own.study` on a rated folder, recorded: `python -m rali_lab.bench_custom ratings.csv`.

Tuning takes about a second for each training picture of 500 x 500 pixels: on 600 pictures and
ten splits an hour and a quarter on one core. Writes the table
docs/results/tiny-custom-<name of the data>/scores.parquet; notebook 10 takes from it what it does
not train itself (`own.with_recorded`). Every tuned trunk is kept, so a killed run resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import pandas as pd

from rali_lab import own
from rali_lab.data.official import read_dataset
from rali_lab.data.records import Picture
from rali_lab.lab.provenance import stamp
from rali_lab.pipeline.seeds import keep, kept_tables_folder
from rali_lab.pipeline.studies import keys_today
from rali_lab.profiles import Profile, get_profile


def measured(
    profile: Profile, pictures: Sequence[Picture], *, n_splits: int = 10, tune: bool = True
) -> list[pd.DataFrame]:
    """The scores of every split in long form: picture, source, mos, method, score, seed."""
    looks = own.look(pictures)
    looks["rali_levels"] = own.zero_shot(profile).predict(looks["trunk"])
    tables = own.study(pictures, looks=looks, n_splits=n_splits, tune=tune)
    about = ["picture", "source", "mos"]
    long = (t.melt(about, var_name="method", value_name="score") for t in tables)
    return [table.assign(seed=seed) for seed, table in enumerate(long)]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder or table, as for `rali-lab data check`")
    parser.add_argument("--images", help="folder that image names are relative to")
    parser.add_argument("--mos-range", nargs=2, type=float, metavar=("LO", "HI"))
    parser.add_argument("--lower-is-better", action="store_true", help="the scores are DMOS")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--no-tune", action="store_true", help="leave out what takes the time")
    args = parser.parse_args(argv)
    profile, ends = get_profile("tiny"), tuple(args.mos_range) if args.mos_range else None
    higher = False if args.lower_is_better else None
    options = {"images": args.images, "mos_range": ends, "higher_is_better": higher}
    pictures = read_dataset(args.data, **options)[: profile.real_limit]
    study, seeds = f"custom-{own.name_of(args.data)}", list(range(args.splits))
    parts = measured(profile, pictures, n_splits=args.splits, tune=not args.no_tune)
    about = {
        "made_by": "make bench-custom",
        "data": own.name_of(args.data),
        "n": len(pictures),
        "seeds": seeds,
        "artefacts": keys_today(profile, study, seeds),
    }
    keep(kept_tables_folder(profile, study), {"scores": parts}, {**about, **stamp()})


if __name__ == "__main__":
    main()
