"""Ten splits of `custom_dataset.study` on a rated folder, recorded: `python -m
rali_lab.experiments.run_custom ratings.csv`.

Tuning takes about a second for each training image of 500 x 500 pixels: on 600 images and ten
splits an hour and a quarter on one core. Writes the table docs/results/tiny-custom-<name of the
data>/scores.parquet; notebook 10 takes from it what it does not train itself
(`custom_dataset.with_recorded`). Every tuned trunk is kept, so a killed run resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import pandas as pd

from rali_lab.data.records import RatedImage
from rali_lab.experiments import custom_dataset
from rali_lab.experiments.human_ratings import name_rated_images, rated_images
from rali_lab.experiments.seed_tables import keep, kept_tables_folder
from rali_lab.experiments.studies import keys_today
from rali_lab.profiles import Profile, get_profile
from rali_lab.reproduce.provenance import stamp


def measured(
    profile: Profile, images: Sequence[RatedImage], *, n_splits: int = 10, tune: bool = True
) -> list[pd.DataFrame]:
    """The scores of every split in long form: image, source, mos, method, score, seed."""
    looks = custom_dataset.look(images)
    looks["rali_levels"] = custom_dataset.zero_shot(profile).predict(looks["trunk"])
    tables = custom_dataset.study(images, looks=looks, n_splits=n_splits, tune=tune)
    about = ["image", "source", "mos"]
    long = (t.melt(about, var_name="method", value_name="score") for t in tables)
    return [table.assign(seed=seed) for seed, table in enumerate(long)]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    name_rated_images(parser)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--no-tune", action="store_true", help="leave out what takes the time")
    args = parser.parse_args(argv)
    profile = get_profile("tiny")
    images = rated_images(args, profile)
    study, seeds = f"custom-{custom_dataset.name_of(args.data)}", list(range(args.splits))
    parts = measured(profile, images, n_splits=args.splits, tune=not args.no_tune)
    about = {
        "made_by": "make bench-custom",
        "data": custom_dataset.name_of(args.data),
        "n": len(images),
        "seeds": seeds,
        "artefacts": keys_today(profile, study, seeds),
    }
    keep(kept_tables_folder(profile, study), {"scores": parts}, {**about, **stamp()})


if __name__ == "__main__":
    main()
