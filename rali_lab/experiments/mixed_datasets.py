"""Several training sets at once: RACT in its three stages, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rali_lab.data.domains import SETS
from rali_lab.data.records import RatedImage, load_images, select
from rali_lab.experiments.kept_tables import kept_tables_folder
from rali_lab.experiments.main_line import train_teacher, write_reasoning
from rali_lab.experiments.steps import (
    Reporter,
    ask_model,
    base_path,
    finished,
    image_table,
    learned_from,
    make_images,
    rali_of,
    rated,
    train_or_stop,
)
from rali_lab.io import digest
from rali_lab.profiles import Profile
from rali_lab.reproduce.store import Artifact, ArtifactStore

REFERENCE = SETS[0]
"""The set whose scale the scores of every method should have."""
MIXINGS = ("naive", "scaled")
"""Scores as they are; rescaled set by set."""
LABELS = {
    "ract": {"train_parts": "vision", "reasoning_only": True},
    "ract_both": {"train_parts": "both", "reasoning_only": True},
    "ract_scores": {"train_parts": "vision", "reasoning_only": False},
    "ract_photo": {"train_parts": "vision", "reasoning_only": True},
}
"""Third stages: RACT; with the language module trained, too; with each set's scores after the
reasoning; with the reasoning of one set alone."""


class Reasoning(NamedTuple):
    """Rationales about all sets: how to read them, and what an artefact of them depends on."""

    read: Callable[[], pd.DataFrame]
    inputs: list[Artifact]
    params: dict[str, object]


def training_sets(profile: Profile) -> dict[str, list[RatedImage]]:
    """Training and validation images of every set in `SETS`, with the scores of its own panel."""
    return {
        name: select(
            load_images(learned_from(profile, name).path), domain=name, split=("train", "val")
        )
        for name in SETS
    }


def mixed_scores(sets: dict[str, list[RatedImage]], how: str) -> dict[str, list[RatedImage]]:
    """The sets with the scores that a mixing of `MIXINGS` trains on; ValueError on another."""
    from rali_lab.reasoner.ract import rescale

    if how not in MIXINGS:
        raise ValueError(f"unknown mixing {how!r}; known: {', '.join(MIXINGS)}")
    return rescale(sets, REFERENCE) if how == "scaled" else sets


def train_mixed(profile: Profile, how: str, *, seed: int = 0, report: Reporter = print) -> Artifact:
    """One reasoner for all sets, trained with GRPO on their images together; steps and all else as
    for the teacher of one set.
    """
    from rali_lab.reasoner.grpo import GrpoConfig, train_grpo

    data, base = [learned_from(profile, name) for name in SETS], base_path(profile)
    options = replace(profile.grpo, seed=seed)

    def make(folder: Path) -> None:
        sets = mixed_scores(training_sets(profile), how)
        train = [p for part in sets.values() for p in select(part, split="train")]
        val, args = select(sets[REFERENCE], split="val"), GrpoConfig.from_options(options, folder)
        train_or_stop(folder, lambda: train_grpo(base, train, val, args=args, report=report))

    params = {"options": asdict(options), "how": how}
    return ArtifactStore().make("mixed", make, params=params, inputs=data, files=[base])


def write_labels(profile: Profile, name: str, *, seed: int = 0) -> Artifact:
    """Stage 2 for one set: what its own reasoner writes about its training images
    (rationales.parquet).
    """
    if name == REFERENCE:
        return write_reasoning(profile, seed=seed)
    data, teacher = learned_from(profile, name), train_teacher(profile, seed=seed, domain=name)

    def make(folder: Path) -> None:
        file, train = folder / "rationales.parquet", rated(data, name)["train"]
        ask_model(finished(teacher), train, samples=profile.rationale_samples, seed=seed, path=file)

    params = {"samples": profile.rationale_samples, "seed": seed, "set": name}
    return ArtifactStore().make("rationales", make, params=params, inputs=[data, teacher])


def train_ract(
    profile: Profile, labels: str = "ract", *, seed: int = 0, report: Reporter = print
) -> Artifact:
    """Stages 1 to 3: the reference set's reasoner, its vision side fine-tuned on the reasoning of
    the reasoners of all sets; `labels`: of `LABELS`.
    """
    names = (REFERENCE,) if labels == "ract_photo" else SETS
    written = [write_labels(profile, name, seed=seed) for name in names]
    reasoning = Reasoning(lambda: _read_rationales(written), written, {})
    return _third_stage(profile, labels, names, reasoning, seed, report)


def _read_rationales(written: Sequence[Artifact]) -> pd.DataFrame:
    parts = [pd.read_parquet(made.path / "rationales.parquet") for made in written]
    return pd.concat(parts, ignore_index=True)


def _third_stage(
    profile: Profile,
    labels: str,
    names: Sequence[str],
    reasoning: Reasoning,
    seed: int,
    report: Reporter,
) -> Artifact:
    from rali_lab.reasoner.ract import text_labels
    from rali_lab.reasoner.sft import SftConfig, rated_answers, train_sft

    start = train_teacher(profile, seed=seed)
    options = replace(profile.ract, **LABELS[labels], seed=seed)

    def make(folder: Path) -> None:
        sets = training_sets(profile)
        train = [p for name in names for p in select(sets[name], split="train")]
        answers = reasoning.read()
        answers = answers[answers["image"].isin([p.id for p in train])]
        texts = text_labels(answers) if options.reasoning_only else rated_answers(answers, train)
        val, args = select(sets[REFERENCE], split="val"), SftConfig.from_options(options, folder)
        train_or_stop(
            folder,
            lambda: train_sft(finished(start), train, texts, val, args=args, report=report),
        )

    inputs = [learned_from(profile, name) for name in SETS] + [start, *reasoning.inputs]
    params = {"options": asdict(options), **reasoning.params}
    return ArtifactStore().make(labels, make, params=params, inputs=inputs)


def mix(profile: Profile, *, seed: int = 0, report: Reporter = print) -> Artifact:
    """Scores of every reasoner on every test image: scores.parquet (method, image, domain, source,
    mos, reference, score, named).

    Methods: `teacher` (trained on `REFERENCE` alone), `naive_mixing`, `scaled_mixing`, and the keys
    of `LABELS`. `reference` is the quality before any panel; `named` the share of answers that name
    exactly the degradations of the image. Some seven trainings, so this is run by a command of its
    own (`make bench-seeds`).
    """
    data = make_images(profile)
    models = {"teacher": train_teacher(profile, seed=seed, report=report)}
    models |= {f"{h}_mixing": train_mixed(profile, h, seed=seed, report=report) for h in MIXINGS}
    models |= {name: train_ract(profile, name, seed=seed, report=report) for name in LABELS}

    def make(folder: Path) -> None:
        test = select(load_images(data.path), split="test")
        parts = [
            _scored(m, finished(made), test, profile, seed, report) for m, made in models.items()
        ]
        pd.concat(parts, ignore_index=True).to_parquet(folder / "scores.parquet", index=False)

    params = {"samples": profile.score_samples, "seed": seed}
    return ArtifactStore().make("mixing", make, params=params, inputs=[data, *models.values()])


def mixing_words(profile: Profile, *, seed: int = 0) -> Artifact:
    """What each set's own reasoner wrote about its training images: words.parquet (image, sample,
    reasoning, status).
    """
    written = [write_labels(profile, name, seed=seed) for name in SETS]

    def make(folder: Path) -> None:
        sets = training_sets(profile)
        train = {p.id for part in sets.values() for p in select(part, split="train")}
        answers = _read_rationales(written)
        columns = ["image", "sample", "reasoning", "status"]
        answers = answers[answers["image"].isin(train)][columns]
        answers.to_parquet(folder / "words.parquet", index=False)

    inputs = [learned_from(profile, name) for name in SETS] + written
    return ArtifactStore().make("words", make, params={}, inputs=inputs)


def mix_live(
    profile: Profile, *, seed: int = 0, report: Reporter = print
) -> tuple[Artifact, Artifact]:
    """RACT's third stage made now, and scores.parquet (as `mix`, of `ract` alone).

    The rationales of the other sets' reasoners are those that `make bench-seeds` checked in, where
    there are any: their trainings would take longer than most notebooks together. Otherwise all
    three stages run.
    """
    data = make_images(profile)
    model = _third_stage(profile, "ract", SETS, _reasoning(profile, seed), seed, report)

    def make(folder: Path) -> None:
        test = select(load_images(data.path), split="test")
        scores = _scored("ract", finished(model), test, profile, seed, report)
        scores.to_parquet(folder / "scores.parquet", index=False)

    params = {"samples": profile.score_samples, "seed": seed}
    return model, ArtifactStore().make("mixing-live", make, params=params, inputs=[data, model])


def fit_wide(profile: Profile, *, seed: int = 0) -> Artifact:
    """RALI for use: aligned with the rationales about all three sets and fitted to the quality
    before any panel (model/).

    The images are generated, so their quality on one scale is known; who has rated images of
    several origins has RACT's problem.
    """
    from rali_lab.models.clip import base_clip_folder
    from rali_lab.reasoner.rationales import valid_rationales

    reasoning = _reasoning(profile, seed)
    data = [learned_from(profile, name) for name in SETS]

    def quality(part: Sequence[RatedImage]) -> np.ndarray:
        return np.array([p.reference for p in part])

    def make(folder: Path) -> None:
        every = [p for part in training_sets(profile).values() for p in part]
        train, val = (select(every, split=split) for split in ("train", "val"))
        texts = valid_rationales(reasoning.read())
        rali_of(profile, train, val, texts, quality, folder, seed=seed)

    params = {"align": asdict(profile.align), "rali": asdict(profile.rali), "seed": seed}
    return ArtifactStore().make(
        "rali-wide",
        make,
        params={**params, **reasoning.params},
        inputs=[*data, *reasoning.inputs],
        files=[base_clip_folder()],
    )


def _reasoning(profile: Profile, seed: int) -> Reasoning:
    """The rationales about all sets: the checked-in ones of this seed, else those made now."""
    kept = kept_tables_folder(profile, "mixing") / "words.parquet"
    words = pd.read_parquet(kept) if kept.exists() else pd.DataFrame({"seed": []})
    words = words[words["seed"] == seed].drop(columns="seed")
    if len(words):
        return Reasoning(lambda: words, [], {"words": digest(words.to_dict("list"))})
    made = mixing_words(profile, seed=seed)
    return Reasoning(lambda: pd.read_parquet(made.path / "words.parquet"), [made], {})


def _scored(
    method: str,
    model: Path,
    test: Sequence[RatedImage],
    profile: Profile,
    seed: int,
    report: Reporter,
) -> pd.DataFrame:
    from rali_lab.reasoner.rationales import named_exactly, ratings

    report(f"{method}: rating {len(test)} images, {profile.score_samples} answers each")
    table = ask_model(model, test, samples=profile.score_samples, seed=seed)
    ids, about = [p.id for p in test], image_table(test)
    about.insert(0, "method", method)
    share = named_exactly(table, test).groupby(table["image"]).mean()
    return about.assign(
        reference=[p.reference for p in test],
        score=ratings(table, ids),
        named=share.reindex(ids).to_numpy(),
    )
