"""What takes several trainings, over several seeds: `python -m rali_lab.experiments.run_seeds`
(what `make bench-seeds` runs).

Per seed the teacher and its controls are trained: one without reasoning, ones on other sets, a
supervised one, two on mixed sets, and RACT's third stage in four forms (some 45 minutes a seed on
two cores). What they score goes as small tables into docs/results/<profile>-<study>/, where
notebooks 03, 08 and 09 find them. Everything made is kept, so a killed run resumes.
"""

from __future__ import annotations

import argparse

from rali_lab import experiments
from rali_lab.experiments.seed_tables import keep, read_tables
from rali_lab.experiments.studies import STUDIES, take_over
from rali_lab.profiles import get_profile
from rali_lab.reproduce.provenance import stamp


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--studies", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument(
        "--take-over",
        metavar="STUDY",
        help="train nothing: record that a study's tables stand under today's keys",
    )
    parser.add_argument(
        "--why", default="", help="with --take-over: what changed, and why that changes no result"
    )
    parser.add_argument(
        "--compared",
        default="",
        help="with --take-over: which values of old and new code were compared",
    )
    args = parser.parse_args(argv)
    profile = get_profile(args.profile)
    if args.take_over:
        print(take_over(profile, args.take_over, why=args.why, compared=args.compared))
        return
    for study in args.studies:
        parts, keys = {}, {}
        for seed in args.seeds:
            for step in STUDIES[study]:
                made = step(profile, seed=seed)
                print(study, seed, made, flush=True)
                keys.setdefault(str(seed), []).append(made.key)
                for name, table in read_tables(made).items():
                    parts.setdefault(name, []).append(table.assign(seed=seed))
        about = {
            "made_by": "make bench-seeds",
            "profile": args.profile,
            "seeds": args.seeds,
            "artefacts": keys,
            **stamp(),
        }
        keep(experiments.kept_tables_folder(profile, study), parts, about)


if __name__ == "__main__":
    main()
