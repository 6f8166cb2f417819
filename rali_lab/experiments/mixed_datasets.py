"""Several training sets at once: RACT in its three stages, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from rali_lab.data.mixture import SETS
from rali_lab.data.records import RatedImage, load_images, mos_of, select
from rali_lab.experiments.main_line import (
    base_path,
    finished,
    grpo_settings,
    learned_from,
    make_images,
    seed_all,
    train_teacher,
    write_reasoning,
)
from rali_lab.experiments.seed_tables import kept_tables_folder
from rali_lab.io import digest
from rali_lab.profiles import Profile
from rali_lab.reasoner.prompts import findings, named
from rali_lab.reproduce.store import Artifact, ArtifactStore

REFERENCE = SETS[0]
"""The set whose scale the scores of every method should have."""
MIXINGS = ("naive", "scaled")
"""Scores as they are; rescaled set by set."""
LABELS = {
    "ract": {"train": "vision", "reasoning_only": True},
    "ract_both": {"train": "both", "reasoning_only": True},
    "ract_scores": {"train": "vision", "reasoning_only": False},
    "ract_photo": {"train": "vision", "reasoning_only": True},
}
"""Third stages: RACT; with the language module trained, too; with each set's scores behind the
words; with the words of one set alone."""


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


def train_mixed(
    profile: Profile, how: str, *, seed: int = 0, report: Callable[[str], None] = print
) -> Artifact:
    """One reasoner for all sets, trained with GRPO on their images together; steps and all else as
    for the teacher of one set.
    """
    from rali_lab.reasoner.grpo import RunStopped, train_grpo

    data, settings, base = (
        [learned_from(profile, name) for name in SETS],
        grpo_settings(profile, seed=seed),
        base_path(profile),
    )

    def make(folder: Path) -> None:
        sets = mixed_scores(training_sets(profile), how)
        train = [p for images in sets.values() for p in select(images, split="train")]
        try:
            train_grpo(
                base, train, select(sets[REFERENCE], split="val"), settings, folder, report=report
            )
        except RunStopped as stopped:
            (folder / "stopped.txt").write_text(str(stopped))

    params = {"settings": asdict(settings), "how": how}
    return ArtifactStore().make("mixed", make, params=params, inputs=data, files=[base])


def write_labels(profile: Profile, name: str, *, seed: int = 0) -> Artifact:
    """Stage 2 for one set: what its own reasoner writes about its training images
    (rationales.parquet).
    """
    from rali_lab.models.vlm import load_policy
    from rali_lab.reasoner.rationales import write_rationales

    if name == REFERENCE:
        return write_reasoning(profile, seed=seed)
    data, teacher = learned_from(profile, name), train_teacher(profile, seed=seed, domain=name)

    def make(folder: Path) -> None:
        seed_all(seed)
        train = select(load_images(data.path), domain=name, split="train")
        write_rationales(
            *load_policy(finished(teacher)),
            train,
            samples=profile.rationale_samples,
            path=folder / "rationales.parquet",
        )

    params = {"samples": profile.rationale_samples, "seed": seed, "set": name}
    return ArtifactStore().make("rationales", make, params=params, inputs=[data, teacher])


def train_ract(
    profile: Profile, labels: str = "ract", *, seed: int = 0, report: Callable[[str], None] = print
) -> Artifact:
    """Stages 1 to 3: the reference set's reasoner, its vision side fine-tuned on the words of all
    reasoners; `labels`: of `LABELS`.
    """
    names = (REFERENCE,) if labels == "ract_photo" else SETS
    written = [write_labels(profile, name, seed=seed) for name in names]

    def answers() -> pd.DataFrame:
        return pd.concat(
            [pd.read_parquet(w.path / "rationales.parquet") for w in written], ignore_index=True
        )

    return _third_stage(profile, labels, names, answers, written, seed, report)


def _third_stage(
    profile: Profile,
    labels: str,
    names: Sequence[str],
    answers: Callable[[], pd.DataFrame],
    inputs: list[Artifact],
    seed: int,
    report: Callable[[str], None],
    **params: object,
) -> Artifact:
    from rali_lab.reasoner.grpo import RunStopped
    from rali_lab.reasoner.ract import text_labels
    from rali_lab.reasoner.sft import SftSettings, rated_answers, train_sft

    start = train_teacher(profile, seed=seed)
    settings = SftSettings(
        **{"steps": grpo_settings(profile).steps, **profile.ract, **LABELS[labels], "seed": seed}
    )

    def make(folder: Path) -> None:
        sets = training_sets(profile)
        train = [p for name in names for p in select(sets[name], split="train")]
        said = answers()
        said = said[said["image"].isin([p.id for p in train])]
        texts = text_labels(said) if settings.reasoning_only else rated_answers(said, train)
        try:
            train_sft(
                finished(start),
                train,
                texts,
                select(sets[REFERENCE], split="val"),
                settings,
                folder,
                report=report,
            )
        except RunStopped as stopped:
            (folder / "stopped.txt").write_text(str(stopped))

    inputs = [learned_from(profile, name) for name in SETS] + [start, *inputs]
    return ArtifactStore().make(
        labels, make, params={"settings": asdict(settings), **params}, inputs=inputs
    )


def mix(profile: Profile, *, seed: int = 0, report: Callable[[str], None] = print) -> Artifact:
    """scores.parquet: what every reasoner says of every test image (method, image, domain, source,
    mos, reference, score, named).

    Methods: `teacher` (trained on `REFERENCE` alone), `naive_mixing`, `scaled_mixing`, and the keys
    of `LABELS`. `reference` is the quality before any panel; `named` the share of answers that name
    exactly what was done to the image. Some seven trainings, so this is run by a command of its own
    (`make bench-seeds`).
    """
    data = make_images(profile)
    models = {"teacher": train_teacher(profile, seed=seed, report=report)}
    models |= {
        f"{how}_mixing": train_mixed(profile, how, seed=seed, report=report) for how in MIXINGS
    }
    models |= {labels: train_ract(profile, labels, seed=seed, report=report) for labels in LABELS}

    def make(folder: Path) -> None:
        test = select(load_images(data.path), split="test")
        parts = [
            _scored(method, finished(made), test, profile, seed, report)
            for method, made in models.items()
        ]
        pd.concat(parts, ignore_index=True).to_parquet(folder / "scores.parquet", index=False)

    params = {"samples": profile.score_samples, "seed": seed}
    return ArtifactStore().make("mixing", make, params=params, inputs=[data, *models.values()])


def mixing_words(profile: Profile, *, seed: int = 0) -> Artifact:
    """words.parquet: what each set's own reasoner wrote about its training images (image, sample,
    reasoning, status).
    """
    written = [write_labels(profile, name, seed=seed) for name in SETS]

    def make(folder: Path) -> None:
        train = {
            p.id
            for images in training_sets(profile).values()
            for p in select(images, split="train")
        }
        said = pd.concat(
            [pd.read_parquet(w.path / "rationales.parquet") for w in written], ignore_index=True
        )
        said = said[said["image"].isin(train)][["image", "sample", "reasoning", "status"]]
        said.to_parquet(folder / "words.parquet", index=False)

    inputs = [learned_from(profile, name) for name in SETS] + written
    return ArtifactStore().make("words", make, params={}, inputs=inputs)


def mix_live(
    profile: Profile, *, seed: int = 0, report: Callable[[str], None] = print
) -> tuple[Artifact, Artifact]:
    """RACT's third stage made now, and scores.parquet (as `mix`, of `ract` alone).

    The words of the other sets' reasoners are those that `make bench-seeds` checked in, where there
    are any: their trainings would take longer than most notebooks together. Otherwise all three
    stages run.
    """
    data, (words, inputs, params) = make_images(profile), _words(profile, seed)
    model = _third_stage(profile, "ract", SETS, words, inputs, seed, report, **params)

    def make(folder: Path) -> None:
        test = select(load_images(data.path), split="test")
        _scored("ract", finished(model), test, profile, seed, report).to_parquet(
            folder / "scores.parquet", index=False
        )

    params = {"samples": profile.score_samples, "seed": seed}
    return model, ArtifactStore().make("mixing-live", make, params=params, inputs=[data, model])


def fit_wide(profile: Profile, *, seed: int = 0) -> Artifact:
    """RALI for use: aligned with the words about all three sets and fitted to the quality before
    any panel (model/).

    We made the images, so we know their quality on one scale; who has rated images of several
    origins has RACT's problem.
    """
    from rali_lab.models.clip import base_clip_folder, embed_texts, load_base_clip
    from rali_lab.rali.align import align
    from rali_lab.rali.scorer import RaliScorer
    from rali_lab.reasoner.rationales import valid_rationales

    (words, inputs, known), data = (
        _words(profile, seed),
        [learned_from(profile, name) for name in SETS],
    )

    def make(folder: Path) -> None:
        every = [p for images in training_sets(profile).values() for p in images]
        train, val = (select(every, split=s) for s in ("train", "val"))
        texts = valid_rationales(words())
        written = [p for p in train if p.id in texts.index]
        model = load_base_clip()
        align(
            model,
            [p.pixels() for p in written],
            [texts[p.id] for p in written],
            seed=seed,
            **profile.align,
        ).to_csv(folder / "alignment.csv", index=False)
        quality = {
            k: np.array([p.reference for p in part]) for k, part in (("train", train), ("val", val))
        }
        scorer = RaliScorer(random_state=seed, **profile.rali)
        scorer.fit(
            [p.pixels() for p in train],
            quality["train"],
            model=model,
            ids=[p.id for p in train],
            validation=([p.pixels() for p in val], quality["val"]),
        )
        own = [t for p in written for t in texts[p.id]]
        scorer.store_texts(own, embed_texts(model, own)).save(folder / "model")

    params = {"align": profile.align, "rali": profile.rali, "seed": seed, **known}
    return ArtifactStore().make(
        "rali-wide", make, params=params, inputs=[*data, *inputs], files=[base_clip_folder()]
    )


def _words(
    profile: Profile, seed: int
) -> tuple[Callable[[], pd.DataFrame], list[Artifact], dict[str, object]]:
    """How to read the words about all sets, and what to name as the reason of whatever is made from
    them.
    """
    kept = kept_tables_folder(profile, "mixing") / "words.parquet"
    words = pd.read_parquet(kept) if kept.exists() else pd.DataFrame({"seed": []})
    words = words[words["seed"] == seed].drop(columns="seed")
    if len(words):
        return lambda: words, [], {"words": digest(words.to_dict("list"))}
    made = mixing_words(profile, seed=seed)
    return lambda: pd.read_parquet(made.path / "words.parquet"), [made], {}


def _scored(
    method: str, model: Path, test: Sequence[RatedImage], profile: Profile, seed: int, report
) -> pd.DataFrame:
    from rali_lab.models.vlm import load_policy
    from rali_lab.reasoner.rationales import ratings, write_rationales

    report(f"{method}: rating {len(test)} images, {profile.score_samples} answers each")
    seed_all(seed)
    table, ids = (
        write_rationales(*load_policy(model), test, samples=profile.score_samples),
        [p.id for p in test],
    )
    truth = {p.id: {f.word for f in findings(p.distortions)} for p in test}
    right = table["reasoning"].map(lambda text: {f.word for f in named(text)}) == table[
        "image"
    ].map(truth)
    share = (right & (table["status"] == "ok")).groupby(table["image"]).mean()
    return pd.DataFrame(
        {
            "method": method,
            "image": ids,
            "domain": [p.domain for p in test],
            "source": [p.source for p in test],
            "mos": mos_of(test),
            "reference": [p.reference for p in test],
            "score": ratings(table, ids),
            "named": share.reindex(ids).to_numpy(),
        }
    )
