"""The line from a profile's images to everybody's scores, step by step.

Nothing here teaches; the notebooks and the modules do.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from rali_lab.data.records import RatedImage, load_images, mos_of, save_images, select
from rali_lab.profiles import Counts, Profile
from rali_lab.reproduce.project import under_home
from rali_lab.reproduce.store import Artifact, ArtifactStore

UNREASONED = "<think></think><answer>"
"""The beginning of an answer that leaves the model no room to reason."""
NO_REASONING = UNREASONED + '{"rating": '


def make_images(profile: Profile) -> Artifact:
    """All generated domains of a profile, made and rated; the same for every training seed."""
    return _make_images(profile.images, profile.data_seed)


def _make_images(counts: Counts, seed: int) -> Artifact:
    from rali_lab.data.content import PHOTOGRAPHS
    from rali_lab.data.domains import build

    def make(folder: Path) -> None:
        save_images(build(counts, seed=seed), folder)

    return ArtifactStore().make(
        "images", make, params={"images": counts, "seed": seed}, files=[PHOTOGRAPHS]
    )


def learned_from(profile: Profile, domain: str) -> Artifact:
    """Training and validation images of a domain; those of a domain that is not learned from
    otherwise are made apart.
    """
    from rali_lab.data.content import PHOTOGRAPHS
    from rali_lab.data.mixture import SNAPSHOTS, build_set

    if "train" in profile.images.get(domain, {}):
        return make_images(profile)
    counts, seed = {s: profile.images["photo"][s] for s in ("train", "val")}, profile.data_seed + 1
    if domain != SNAPSHOTS.name:
        return _make_images({domain: counts}, seed)

    def make(folder: Path) -> None:
        save_images(build_set(domain, counts, seed=seed), folder)

    params = {"images": {domain: counts}, "seed": seed}
    return ArtifactStore().make("images", make, params=params, files=[PHOTOGRAPHS])


def images(profile: Profile) -> list[RatedImage]:
    """The images of all generated domains of a profile; see `rali_lab.data.domains`."""
    return load_images(make_images(profile).path)


def base_path(profile: Profile) -> Path:
    """Folder of the profile's base model."""
    from rali_lab.models.vlm import base_folder

    folder = under_home(profile.base) if profile.base else base_folder()
    if not (folder / "config.json").exists():
        raise FileNotFoundError(f"{folder} holds no model; make it with `make base-{folder.name}`")
    return folder


def grpo_settings(profile: Profile, *, seed: int = 0, **changes: object):
    """The profile's GRPO settings with this seed, and with `changes` for an experiment."""
    from rali_lab.reasoner.grpo import GrpoSettings

    return GrpoSettings(**{**profile.grpo, "seed": seed, **changes})


def train_teacher(
    profile: Profile,
    *,
    seed: int = 0,
    name: str = "teacher",
    domain: str = "photo",
    report=print,
    **changes: object,
) -> Artifact:
    """Train the reasoner of a profile with GRPO on one domain; `changes` override settings (then
    give it a `name`).

    A run that was stopped keeps its curves: the artefact then holds `stopped.txt`.
    """
    from rali_lab.reasoner.grpo import RunStopped, train_grpo

    data, settings, base = (
        learned_from(profile, domain),
        grpo_settings(profile, seed=seed, **changes),
        base_path(profile),
    )

    def make(folder: Path) -> None:
        rated = select(load_images(data.path), domain=domain)
        try:
            train_grpo(
                base,
                select(rated, split="train"),
                select(rated, split="val"),
                settings,
                folder,
                report=report,
            )
        except RunStopped as stopped:
            (folder / "stopped.txt").write_text(str(stopped))

    return ArtifactStore().make(
        name, make, params={"settings": asdict(settings)}, inputs=[data], files=[base]
    )


def fine_tune_teacher(profile: Profile, *, seed: int = 0, report=print) -> Artifact:
    """The supervised control: the base model fine-tuned on its own reasoning with the MOS as rating
    (`reasoner.supervised`).

    Steps and answers a step are those of the teacher's run, unless `profile.sft` says otherwise.
    """
    from rali_lab.models.vlm import load_policy
    from rali_lab.reasoner.grpo import RunStopped
    from rali_lab.reasoner.rationales import write_rationales
    from rali_lab.reasoner.sft import SftSettings, rated_answers, train_sft

    data, base, grpo = make_images(profile), base_path(profile), grpo_settings(profile, seed=seed)
    budget = {"steps": grpo.steps, "answers_per_step": grpo.images_per_step * grpo.generations}
    settings = SftSettings(**{**budget, **profile.sft, "seed": seed})

    def make(folder: Path) -> None:
        photo = select(load_images(data.path), domain="photo")
        train = select(photo, split="train")
        seed_all(seed)
        written = write_rationales(*load_policy(base), train, samples=profile.rationale_samples)
        try:
            train_sft(
                base,
                train,
                rated_answers(written, train),
                select(photo, split="val"),
                settings,
                folder,
                report=report,
            )
        except RunStopped as stopped:
            (folder / "stopped.txt").write_text(str(stopped))

    params = {"settings": asdict(settings), "samples": profile.rationale_samples}
    return ArtifactStore().make("supervised", make, params=params, inputs=[data], files=[base])


def finished(made: Artifact) -> Path:
    """Folder of a training that ran to its end; RuntimeError with its reason for one that was
    stopped, which can be no control.
    """
    stopped = made.path / "stopped.txt"
    if stopped.exists():
        raise RuntimeError(
            f"the training {made.name!r} was stopped and cannot be compared with:"
            f" {stopped.read_text()}"
        )
    return made.path


def write_reasoning(profile: Profile, *, seed: int = 0) -> Artifact:
    """The teacher's rationales for the RL domain's training and validation images:
    rationales.parquet, resumable.
    """
    from rali_lab.models.vlm import load_policy
    from rali_lab.reasoner.rationales import write_rationales

    data, teacher = make_images(profile), train_teacher(profile, seed=seed)

    def make(folder: Path) -> None:
        rated = select(load_images(data.path), domain="photo", split=("train", "val"))
        seed_all(seed)
        write_rationales(
            *load_policy(teacher.path),
            rated,
            samples=profile.rationale_samples,
            path=folder / "rationales.parquet",
            progress=True,
        )

    params = {"samples": profile.rationale_samples, "seed": seed}
    return ArtifactStore().make("rationales", make, params=params, inputs=[data, teacher])


def fit_rali(profile: Profile, *, seed: int = 0) -> Artifact:
    """RALI of a profile: align the small CLIP with the rationales, fit the basis, save the scorer
    (model/, alignment.csv).
    """
    from rali_lab.models.clip import base_clip_folder, embed_texts, load_base_clip
    from rali_lab.rali.align import align
    from rali_lab.rali.scorer import RaliScorer

    data, reasoning = make_images(profile), write_reasoning(profile, seed=seed)

    def make(folder: Path) -> None:
        photo = select(load_images(data.path), domain="photo")
        train, val = (select(photo, split=s) for s in ("train", "val"))
        table = pd.read_parquet(reasoning.path / "rationales.parquet")
        texts = table[table["status"] == "ok"].groupby("image")["reasoning"].agg(list)
        written = [p for p in train if p.id in texts.index]
        model = load_base_clip()
        held = [p for p in val if p.id in texts.index]
        history = align(
            model,
            [p.pixels() for p in written],
            [texts[p.id] for p in written],
            seed=seed,
            holdout=([p.pixels() for p in held], [texts[p.id] for p in held]),
            **profile.align,
        )
        history.to_csv(folder / "alignment.csv", index=False)
        scorer = RaliScorer(random_state=seed, **profile.rali)
        scorer.fit(
            [p.pixels() for p in train],
            mos_of(train),
            model=model,
            ids=[p.id for p in train],
            validation=([p.pixels() for p in val], mos_of(val)),
        )
        said = [t for own in (texts[p.id] for p in written) for t in own]
        scorer.store_texts(said, embed_texts(model, said))
        scorer.save(folder / "model")
        scorer.history_.to_csv(folder / "basis.csv", index=False)

    params = {"align": profile.align, "rali": profile.rali, "seed": seed}
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

        train = select(load_images(data.path), domain="photo", split="train")
        whole = export_onnx(RaliScorer.load(rali.path / "model"), folder / "rali.onnx")
        quantise(
            whole,
            folder / "rali-int8.onnx",
            [p.pixels() for p in train[:: max(1, len(train) // 60)]],
        )

    return ArtifactStore().make("onnx", make, params={}, inputs=[data, rali])


def ask_base(profile: Profile, *, seed: int = 0, report=print) -> Artifact:
    """What the base model answers about every test image: answers.parquet.

    Needs no training, so it need not wait for one.
    """
    data, base = make_images(profile), base_path(profile)

    def make(folder: Path) -> None:
        _ask(profile, "base", base, load_images(data.path), seed, report).to_parquet(
            folder / "answers.parquet", index=False
        )

    params = {"samples": profile.score_samples, "seed": seed}
    return ArtifactStore().make("answers-base", make, params=params, inputs=[data], files=[base])


def score_everything(profile: Profile, *, seed: int = 0, report=print) -> Artifact:
    """Scores of every method on every test image: scores.parquet (method, image, domain, source,
    mos, score), answers.parquet.
    """
    from rali_lab.reasoner.rationales import ratings

    data, base = make_images(profile), ask_base(profile, seed=seed, report=report)
    teacher, rali = train_teacher(profile, seed=seed), fit_rali(profile, seed=seed)

    def make(folder: Path) -> None:
        everything = load_images(data.path)
        test, train = (
            select(everything, split="test"),
            select(everything, domain="photo", split="train"),
        )
        answers = {"base": pd.read_parquet(base.path / "answers.parquet")}
        for method, prefill in {"teacher": "", "teacher_no_reasoning": NO_REASONING}.items():
            answers[method] = _ask(
                profile, method, teacher.path, everything, seed, report, prefill=prefill
            )
        pd.concat(answers.values(), ignore_index=True).to_parquet(
            folder / "answers.parquet", index=False
        )
        scores = {method: ratings(table, [p.id for p in test]) for method, table in answers.items()}
        scores |= _score_without_language(train, test, rali.path / "model")
        about = pd.DataFrame(
            {
                "image": [p.id for p in test],
                "domain": [p.domain for p in test],
                "source": [p.source for p in test],
                "mos": mos_of(test),
            }
        )
        table = pd.concat(
            [about.assign(method=m, score=s) for m, s in scores.items()], ignore_index=True
        )
        table.to_parquet(folder / "scores.parquet", index=False)

    params = {"samples": profile.score_samples, "seed": seed}
    return ArtifactStore().make("scores", make, params=params, inputs=[data, base, teacher, rali])


def _ask(
    profile: Profile,
    method: str,
    folder: Path,
    everything: list[RatedImage],
    seed: int,
    report,
    *,
    prefill: str = "",
) -> pd.DataFrame:
    """Answers of one model about the test images, with the method's name."""
    from rali_lab.models.vlm import load_policy
    from rali_lab.reasoner.rationales import write_rationales

    test = select(everything, split="test")
    report(f"{method}: rating {len(test)} images, {profile.score_samples} answers each")
    seed_all(seed)
    return write_rationales(
        *load_policy(folder), test, samples=profile.score_samples, prefill=prefill
    ).assign(method=method)


def _score_without_language(train: list[RatedImage], test: list[RatedImage], model: Path) -> dict:
    from rali_lab.rali.baselines import ridge_scores, visual_features
    from rali_lab.rali.scorer import RaliScorer

    seen, new = ([p.pixels() for p in part] for part in (train, test))
    ridge = ridge_scores(
        visual_features(seen), mos_of(train), [p.source for p in train], visual_features(new)
    )
    return {"ridge_visual": ridge, "rali": RaliScorer.load(model).predict(new)}


def seed_all(seed: int) -> None:
    """Seed every generator that sampling uses."""
    from transformers import set_seed

    set_seed(seed)
