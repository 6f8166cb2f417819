"""From a profile's images to the scores of every method, step by step."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from rali_lab.data.records import RatedImage, load_images, mos_of, select
from rali_lab.experiments.steps import (
    RATING_ONLY,
    Reporter,
    ask_model,
    base_path,
    image_table,
    learned_from,
    make_images,
    rali_of,
    rated,
    score_table,
    train_or_stop,
)
from rali_lab.profiles import GrpoOptions, Profile, SftOptions
from rali_lab.reproduce.store import Artifact, ArtifactStore


def train_teacher(
    profile: Profile,
    *,
    seed: int = 0,
    name: str = "teacher",
    domain: str = "photo",
    options: GrpoOptions | None = None,
    report: Reporter = print,
    **changes: object,
) -> Artifact:
    """Train the reasoner of a profile with GRPO on one domain.

    A run that a stop rule ended keeps its curves: the artefact then holds `stopped.txt`.

    Parameters
    ----------
    profile
        Sizes and settings.
    seed
        Of the training.
    name
        Of the artefact; another one for another experiment.
    domain
        Whose training and validation images are learned from.
    options
        Of the training; the profile's `grpo` by default. `seed` replaces theirs.
    report
        Called with each line of progress.
    **changes
        Fields of the options to change.
    """
    from rali_lab.reasoner.grpo import GrpoConfig, train_grpo

    data, base = learned_from(profile, domain), base_path(profile)
    options = replace(options or profile.grpo, seed=seed, **changes)

    def make(folder: Path) -> None:
        part, args = rated(data, domain), GrpoConfig.from_options(options, folder)
        train_or_stop(
            folder, lambda: train_grpo(base, part["train"], part["val"], args=args, report=report)
        )

    return ArtifactStore().make(
        name, make, params={"options": asdict(options)}, inputs=[data], files=[base]
    )


def fine_tune_teacher(profile: Profile, *, seed: int = 0, report: Reporter = print) -> Artifact:
    """The supervised control: the base model fine-tuned on its own reasoning with the MOS as rating
    (`rali_lab.reasoner.sft`).

    Steps and answers a step are those of the teacher's run, unless the profile has `sft`.
    """
    from rali_lab.reasoner.sft import SftConfig, rated_answers, train_sft

    data, base, grpo = make_images(profile), base_path(profile), profile.grpo
    options = profile.sft or SftOptions(
        max_steps=grpo.max_steps, answers_per_step=grpo.images_per_step * grpo.num_generations
    )
    options = replace(options, seed=seed)

    def make(folder: Path) -> None:
        part, args = rated(data, "photo"), SftConfig.from_options(options, folder)
        written = ask_model(base, part["train"], samples=profile.rationale_samples, seed=seed)
        answers = rated_answers(written, part["train"])
        train_or_stop(
            folder,
            lambda: train_sft(base, part["train"], answers, part["val"], args=args, report=report),
        )

    params = {"options": asdict(options), "samples": profile.rationale_samples}
    return ArtifactStore().make("supervised", make, params=params, inputs=[data], files=[base])


def write_reasoning(profile: Profile, *, seed: int = 0) -> Artifact:
    """The teacher's rationales for the RL domain's training and validation images:
    rationales.parquet, resumable.
    """
    data, teacher = make_images(profile), train_teacher(profile, seed=seed)

    def make(folder: Path) -> None:
        asked = select(load_images(data.path), domain="photo", split=("train", "val"))
        file = folder / "rationales.parquet"
        samples = profile.rationale_samples
        ask_model(teacher.path, asked, samples=samples, seed=seed, path=file, progress=True)

    params = {"samples": profile.rationale_samples, "seed": seed}
    return ArtifactStore().make("rationales", make, params=params, inputs=[data, teacher])


def fit_rali(profile: Profile, *, seed: int = 0) -> Artifact:
    """RALI of a profile: align the small CLIP with the rationales, fit the basis, save the scorer
    (model/, alignment.csv, basis.csv).
    """
    from rali_lab.models.clip import base_clip_folder
    from rali_lab.reasoner.rationales import valid_rationales

    data, reasoning = make_images(profile), write_reasoning(profile, seed=seed)

    def make(folder: Path) -> None:
        part = rated(data, "photo")
        texts = valid_rationales(pd.read_parquet(reasoning.path / "rationales.parquet"))
        scorer = rali_of(
            profile, part["train"], part["val"], texts, mos_of, folder, seed=seed, holdout=True
        )
        scorer.history_.to_csv(folder / "basis.csv", index=False)

    params = {"align": asdict(profile.align), "rali": asdict(profile.rali), "seed": seed}
    return ArtifactStore().make(
        "rali", make, params=params, inputs=[data, reasoning], files=[base_clip_folder()]
    )


def export_rali(profile: Profile, *, seed: int = 0) -> Artifact:
    """RALI of a profile for onnxruntime: rali.onnx, and rali-int8.onnx with 8-bit convolutions
    calibrated on training images.
    """
    from rali_lab.rali.scorer import RaliScorer

    data, rali = make_images(profile), fit_rali(profile, seed=seed)

    def make(folder: Path) -> None:
        from rali_lab.rali.onnx_export import export_onnx, quantise

        train = rated(data, "photo")["train"]
        calibration = [p.pixels() for p in train[:: max(1, len(train) // 60)]]
        exported = export_onnx(RaliScorer.load(rali.path / "model"), folder / "rali.onnx")
        quantise(exported, folder / "rali-int8.onnx", calibration)

    return ArtifactStore().make("onnx", make, params={}, inputs=[data, rali])


def ask_base(profile: Profile, *, seed: int = 0, report: Reporter = print) -> Artifact:
    """What the base model answers about every test image: answers.parquet.

    Needs no training, so it need not wait for one.
    """
    data, base = make_images(profile), base_path(profile)

    def make(folder: Path) -> None:
        test = select(load_images(data.path), split="test")
        answers = _answers(profile, "base", base, test, seed, report)
        answers.to_parquet(folder / "answers.parquet", index=False)

    params = {"samples": profile.score_samples, "seed": seed}
    return ArtifactStore().make("answers-base", make, params=params, inputs=[data], files=[base])


def score_everything(profile: Profile, *, seed: int = 0, report: Reporter = print) -> Artifact:
    """Scores of every method on every test image: scores.parquet (method, image, domain, source,
    mos, score), answers.parquet.
    """
    from rali_lab.reasoner.rationales import ratings

    data, base = make_images(profile), ask_base(profile, seed=seed, report=report)
    teacher, rali = train_teacher(profile, seed=seed), fit_rali(profile, seed=seed)

    def make(folder: Path) -> None:
        everything = load_images(data.path)
        test = select(everything, split="test")
        train = select(everything, domain="photo", split="train")
        answers = {"base": pd.read_parquet(base.path / "answers.parquet")}
        for method, prefill in {"teacher": "", "teacher_no_reasoning": RATING_ONLY}.items():
            answers[method] = _answers(
                profile, method, teacher.path, test, seed, report, prefill=prefill
            )
        table = pd.concat(answers.values(), ignore_index=True)
        table.to_parquet(folder / "answers.parquet", index=False)
        scores = {method: ratings(table, [p.id for p in test]) for method, table in answers.items()}
        scores |= _score_without_language(train, test, rali.path / "model")
        table = score_table(image_table(test), scores)
        table.to_parquet(folder / "scores.parquet", index=False)

    params = {"samples": profile.score_samples, "seed": seed}
    return ArtifactStore().make("scores", make, params=params, inputs=[data, base, teacher, rali])


def _answers(
    profile: Profile,
    method: str,
    folder: Path,
    test: list[RatedImage],
    seed: int,
    report: Reporter,
    *,
    prefill: str = "",
) -> pd.DataFrame:
    """Answers of one model about the test images, with the method's name."""
    samples = profile.score_samples
    report(f"{method}: rating {len(test)} images, {samples} answers each")
    return ask_model(folder, test, samples=samples, seed=seed, prefill=prefill).assign(
        method=method
    )


def _score_without_language(train: list[RatedImage], test: list[RatedImage], model: Path) -> dict:
    from rali_lab.rali.baselines import ridge_scores, visual_features
    from rali_lab.rali.scorer import RaliScorer

    known, new = ([p.pixels() for p in part] for part in (train, test))
    ridge = ridge_scores(
        visual_features(known), mos_of(train), [p.source for p in train], visual_features(new)
    )
    return {"ridge_visual": ridge, "rali": RaliScorer.load(model).predict(new)}
