"""Studies of several training seeds: which steps make their tables, whether today's code still
would make them, and the command that makes them (`make bench-seeds`).

Per seed the teacher and its controls are trained: one without reasoning, ones on other sets, a
supervised one, two on mixed sets, and RACT's third stage in four forms (some 45 minutes a seed on
two cores). What they score goes as small tables into docs/results/<profile>-<study>/, where
notebooks 03, 08 and 09 find them. Everything made is kept, so a killed run resumes.

A checked-in table carries the keys of the artefacts it was copied from (`provenance.json`). They
are compared with those that today's code gives, without making anything. A table whose keys differ
is *stale*: it is shown, and called so wherever it is shown. A refactoring that changes no result
may take a table over by a recorded statement:

    python -m rali_lab.experiments.studies --take-over ablations --why "..." --compared "..."
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rali_lab.experiments.ablations import ablate, ablate_controls
from rali_lab.experiments.kept_tables import keep, kept_tables_folder, read_tables
from rali_lab.experiments.mechanism import explain, explain_controls
from rali_lab.experiments.mixed_datasets import mix, mixing_words
from rali_lab.io import digest, write_json
from rali_lab.profiles import Profile, get_profile
from rali_lab.reproduce.code_keys import definition_key
from rali_lab.reproduce.provenance import stamp
from rali_lab.reproduce.store import Artifact, keys_only

STUDIES: dict[str, tuple[Callable[..., Artifact], ...]] = {
    "mechanism": (explain, explain_controls),
    "ablations": (ablate, ablate_controls),
    "mixing": (mix, mixing_words),
}
"""Studies and the steps whose tables they keep."""
OF_PEOPLE = {
    "people-": ("rali_lab.experiments.human_ratings", "score_split"),
    "custom-": ("rali_lab.experiments.human_ratings", "score_tuned"),
}
"""Studies of rated photographs, by the beginning of their name, and the definition that makes their
tables."""
COMMANDS = {"people-": "make bench-people", "custom-": "make bench-custom"}


@dataclass(frozen=True)
class SeedTables:
    """Tables of a study by name, one for each seed.

    `controls` tells whether the runs that need trainings of their own are among them; `origin` says
    who made the tables, and whether they are older than today's code.
    """

    seeds: list[int]
    tables: dict[str, list[pd.DataFrame]]
    controls: bool
    origin: str

    def __getitem__(self, name: str) -> list[pd.DataFrame]:
        return self.tables[name]


def seed_tables(profile: Profile, study: str, live: Artifact, *, seed: int = 0) -> SeedTables:
    """The checked-in tables of several seeds, or, for a profile that has none, those of one `live`
    run without controls.
    """
    folder = kept_tables_folder(profile, study)
    if (about := folder / "provenance.json").exists():
        known = json.loads(about.read_text())
        whole = {file.stem: pd.read_parquet(file) for file in sorted(folder.glob("*.parquet"))}
        tables = {
            name: [t[t["seed"] == s].reset_index(drop=True) for s in known["seeds"]]
            for name, t in whole.items()
        }
        origin = (
            f"{known['made_by']}, commit {(known['commit'] or 'unknown')[:7]}, {known['device']}"
        )
        why = staleness(profile, study)
        return SeedTables(
            known["seeds"], tables, True, f"{origin}; STALE: {why}" if why else origin
        )
    return SeedTables(
        [seed],
        {name: [table] for name, table in read_tables(live).items()},
        False,
        "this run alone",
    )


def keys_today(profile: Profile, study: str, seeds: Sequence[int]) -> dict[str, Any]:
    """The keys that today's code gives to what a study's tables are copied from; nothing is made.

    A study of people's scores depends on photographs that need not be here: its keys cover code and
    profile.
    """
    for start, step in OF_PEOPLE.items():
        if study.startswith(start):
            return dict.fromkeys(
                map(str, seeds), digest({"code": definition_key(*step), "profile": asdict(profile)})
            )
    with keys_only():
        return {
            str(seed): [step(profile, seed=seed).key for step in STUDIES[study]] for seed in seeds
        }


def staleness(profile: Profile, study: str) -> str | None:
    """Why the checked-in tables of a study are stale, in words; None if today's code would make
    them so.
    """
    about = json.loads((kept_tables_folder(profile, study) / "provenance.json").read_text())
    known = about.get("taken_over", about)["artefacts"]
    today = keys_today(profile, study, about["seeds"])
    differ = [seed for seed in today if known.get(seed) != today[seed]]
    if not differ:
        return None
    which = "all seeds" if len(differ) == len(today) else f"seeds {', '.join(differ)}"
    command = next(
        (c for start, c in COMMANDS.items() if study.startswith(start)), "make bench-seeds"
    )
    return f"the code has changed since they were made ({which}); `{command}` makes them anew"


def kept_studies(profile: Profile) -> list[str]:
    """Studies of which tables are checked in for a profile."""
    found = kept_tables_folder(profile, "x").parent.glob(f"{profile.name}-*/provenance.json")
    return sorted(file.parent.name.removeprefix(f"{profile.name}-") for file in found)


def take_over(profile: Profile, study: str, *, why: str, compared: str) -> Path:
    """Record that the tables of a study stand under today's keys.

    Parameters
    ----------
    profile, study
        Whose tables are taken over.
    why
        What changed, and why that changes no result.
    compared
        Which values of old and new code were compared.
    """
    if not (why.strip() and compared.strip()):
        raise ValueError("say why no result changes, and which values were compared")
    file = kept_tables_folder(profile, study) / "provenance.json"
    about = json.loads(file.read_text())
    today = keys_today(profile, study, about["seeds"])
    write_json(
        file, {**about, "taken_over": {"why": why, "compared": compared, "artefacts": today}}
    )
    return file


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
        keep(kept_tables_folder(profile, study), parts, about)


if __name__ == "__main__":
    main()
