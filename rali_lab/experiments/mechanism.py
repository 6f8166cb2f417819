"""Where scores come from: probes of base, teacher and controls (`rali_lab.interpret`)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd

from rali_lab.data.records import RatedImage, load_images, select
from rali_lab.experiments.main_line import fine_tune_teacher, train_teacher
from rali_lab.experiments.steps import (
    NO_THINKING,
    Reporter,
    base_path,
    finished,
    image_table,
    make_images,
    seed_all,
)
from rali_lab.profiles import Profile
from rali_lab.reproduce.store import Artifact, ArtifactStore

PROBE_TABLES = ("ratings", "conflict", "attention")


def explain(profile: Profile, *, seed: int = 0, report: Reporter = print) -> Artifact:
    """Where base and teacher take their scores from (`rali_lab.interpret.probe`): ratings,
    conflict, attention.parquet, unread.json.

    Of every domain the first `profile.probe_images` test images are asked about, all scenes among
    them.
    """
    data = make_images(profile)
    base = _explain_base(profile, seed, report)  # first: it need not wait for the training
    teacher = train_teacher(profile, seed=seed)

    def make(folder: Path) -> None:
        asked = _probed(load_images(data.path), profile)
        _write_probes(folder, asked, "teacher", teacher.path, profile, seed, report)
        _add_probes(folder, base.path)

    inputs = [data, teacher, base]
    return ArtifactStore().make("mechanism", make, params=_params(profile, seed), inputs=inputs)


def _params(profile: Profile, seed: int) -> dict:
    return {"images": profile.probe_images, "samples": profile.score_samples, "seed": seed}


def _explain_base(profile: Profile, seed: int, report: Reporter) -> Artifact:
    data, base = make_images(profile), base_path(profile)

    def make(folder: Path) -> None:
        asked = _probed(load_images(data.path), profile)
        _write_probes(folder, asked, "base", base, profile, seed, report)

    params = _params(profile, seed)
    return ArtifactStore().make("mechanism-base", make, params=params, inputs=[data], files=[base])


def explain_controls(profile: Profile, *, seed: int = 0, report: Reporter = print) -> Artifact:
    """What the controls say: the tables of `explain` for a supervised model, and scores.parquet
    (method, image, ...) of these:

    `unreasoned`, trained and asked without reasoning; `supervised`; `VISION|LANGUAGE` for modules
    trained on `photo`, on `procedural` or not at all (`base`). Three trainings beside the
    teacher's, so this is run by a command of its own (`make bench-seeds`).
    """
    data, teacher = make_images(profile), train_teacher(profile, seed=seed, report=report)
    supervised = fine_tune_teacher(profile, seed=seed, report=report)
    unreasoned = train_teacher(
        profile, seed=seed, name="unreasoned", prefill=NO_THINKING, report=report
    )
    elsewhere = train_teacher(profile, seed=seed, domain="procedural", report=report)

    def make(folder: Path) -> None:
        from rali_lab.models.vlm import load_policy

        asked, sizes = _probed(load_images(data.path), profile), (profile, seed)
        _write_probes(folder, asked, "supervised", finished(supervised), *sizes, report)
        modules = {
            "photo": finished(teacher),
            "procedural": finished(elsewhere),
            "base": base_path(profile),
        }
        alone = load_policy(finished(unreasoned))
        parts = [
            _scored("unreasoned", alone, asked, *sizes, prefill=NO_THINKING),
            _scored("supervised", load_policy(supervised.path), asked, *sizes),
        ]
        for vision, language in SWAPS:
            report(f"modules: {vision} with the language of {language}")
            combined = _combined(modules[vision], modules[language])
            parts.append(_scored(f"{vision}|{language}", combined, asked, *sizes))
        pd.concat(parts, ignore_index=True).to_parquet(folder / "scores.parquet", index=False)

    inputs = [data, teacher, supervised, unreasoned, elsewhere]
    return ArtifactStore().make(
        "mechanism-controls", make, params=_params(profile, seed), inputs=inputs
    )


SWAPS = (
    ("photo", "photo"),
    ("photo", "procedural"),
    ("procedural", "procedural"),
    ("procedural", "photo"),
    ("photo", "base"),
    ("base", "photo"),
    ("base", "base"),
)
"""Where the vision side and the language module of a combined model come from; the last three are
controls."""


def _probed(everything: list[RatedImage], profile: Profile) -> list[RatedImage]:
    test = select(everything, split="test")
    return [
        p for domain in profile.images for p in select(test, domain=domain)[: profile.probe_images]
    ]


def _write_probes(
    folder: Path,
    asked: list[RatedImage],
    name: str,
    model_folder: Path,
    profile: Profile,
    seed: int,
    report: Reporter,
) -> None:
    from rali_lab.interpret.probe import probe
    from rali_lab.models.vlm import load_policy
    from rali_lab.reasoner.rationales import write_rationales

    model, processor = load_policy(model_folder)
    seed_all(seed)
    answers = write_rationales(model, processor, asked, samples=2)
    answers.to_parquet(folder / f"answers-{name}.parquet", index=False)
    found = probe(
        model,
        processor,
        asked,
        answers,
        samples=profile.score_samples // 2,
        seed=seed,
        report=lambda condition: report(f"{name}: {condition}"),
    )
    for table in PROBE_TABLES:
        rows = getattr(found, table).assign(model=name)
        rows.to_parquet(folder / f"{table}.parquet", index=False)
    invalid = {name: {"answers": len(answers), "unread": found.unread}}
    (folder / "unread.json").write_text(json.dumps(invalid, indent=1))


def _add_probes(folder: Path, other: Path) -> None:
    """Put the probes of another folder before those of this one."""
    for name in PROBE_TABLES:
        parts = [pd.read_parquet(place / f"{name}.parquet") for place in (other, folder)]
        pd.concat(parts, ignore_index=True).to_parquet(folder / f"{name}.parquet", index=False)
    for file in other.glob("answers-*.parquet"):
        shutil.copy(file, folder)
    unread = [json.loads((place / "unread.json").read_text()) for place in (other, folder)]
    (folder / "unread.json").write_text(json.dumps(unread[0] | unread[1], indent=1))


def _combined(vision: Path, language: Path):
    from rali_lab.interpret.controls import swap_language
    from rali_lab.models.vlm import load_policy

    model, processor = load_policy(vision)
    swap_language(model, load_policy(language)[0])
    return model, processor


def _scored(
    method: str, policy, asked: list[RatedImage], profile: Profile, seed: int, *, prefill: str = ""
) -> pd.DataFrame:
    from rali_lab.reasoner.rationales import ratings, write_rationales

    seed_all(seed)
    table = write_rationales(*policy, asked, samples=profile.score_samples, prefill=prefill)
    about = image_table(asked)
    about.insert(0, "method", method)
    return about.assign(score=ratings(table, about["image"]))
