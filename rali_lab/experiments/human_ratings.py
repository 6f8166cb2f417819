"""Recorded studies of a folder of images that people rated, over several random splits by source.

`python -m rali_lab.experiments.human_ratings ratings.csv` (`make bench-people`) runs the whole
line: for each split (the test images are those of `custom_dataset.score_splits`) the tiny teacher
is trained on 75 %, first supervised, then with GRPO, validated on 5 %; RALI learns from its
rationales about these 80 %; both are tested on the other 20 %, beside a ridge on the same 80 %.

With `--tuned` (`make bench-custom`) it records `custom_dataset.score_splits` with tuned trunks,
about a second for each training image of 500 x 500 pixels on one core.

Tables go to docs/results/tiny-people-<data>/ and docs/results/tiny-custom-<data>/, which notebook
10 shows. Everything made is kept, so a killed run resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from rali_lab.data.datasets import read_dataset
from rali_lab.data.ratings import split_sources
from rali_lab.data.records import RatedImage, mos_of
from rali_lab.experiments import custom_dataset
from rali_lab.experiments.kept_tables import keep, kept_tables_folder
from rali_lab.experiments.main_line import train_teacher
from rali_lab.experiments.steps import ask_model, base_path, finished, score_table, train_or_stop
from rali_lab.experiments.studies import keys_today
from rali_lab.io import digest
from rali_lab.profiles import Profile, SftOptions, get_profile
from rali_lab.reproduce.provenance import stamp
from rali_lab.reproduce.store import Artifact, ArtifactStore

CROP = 128
"""Side in pixels of what the tiny teacher sees.

Shrunk to it, a photograph loses what people judged; so it sees four crops at native resolution, and
an image's score is their mean."""
START = SftOptions(
    max_steps=300,
    learning_rate=1e-3,
    train_parts="both",
    min_spread=0.0,
    eval_every=50,
    keep_best=True,
)
"""The supervised start.

The base rates photographs at random, so rewards have nothing to select and GRPO from it collapses
(docs/LOG.md); it is first fine-tuned, neck and language, on its own descriptions, each ending in
the MOS, for as many steps as the validation images like best. Rate and trained parts were chosen by
test images of split 0 on LIVE in the Wild, which is therefore none of the published splits."""
REINFORCED = {"degradation_share": 0.0, "beta": 0.04, "max_steps": 60}
"""Changes to the profile's GRPO; chosen by the validation images of split 0 on LIVE in the Wild
(docs/LOG.md)."""


def crops(images: Sequence[RatedImage]) -> list[RatedImage]:
    """Four crops of every image, one from the middle of each quarter; ids end in /0 to /3."""
    out = []
    for p in images:
        x = p.pixels()
        for i in range(4):
            top, left = (
                max(0, min((2 * k + 1) * n // 4 - CROP // 2, n - CROP))
                for k, n in zip(divmod(i, 2), x.shape[:2], strict=True)
            )
            part = np.ascontiguousarray(x[top : top + CROP, left : left + CROP])
            out.append(replace(p, id=f"{p.id}/{i}", path=None, array=part))
    return out


def fine_tune_on_scores(
    profile: Profile, train: list[RatedImage], val: list[RatedImage], seed: int
) -> Artifact:
    """The base model after supervised fine-tuning on these scores (`START`)."""
    from rali_lab.reasoner.rationales import valid_rationales
    from rali_lab.reasoner.sft import SftConfig, rated_answers, train_sft

    options, base = replace(START, seed=seed), base_path(profile)

    def make(folder: Path) -> None:
        asked, args = crops(train), SftConfig.from_options(options, folder)
        answers = ask_model(base, asked, samples=2, seed=seed)
        known = valid_rationales(answers).index
        print(
            f"{len(asked) - len(known)} of {len(asked)} crops without a valid answer are left out"
        )
        asked = [p for p in asked if p.id in known]
        train_sft(base, asked, rated_answers(answers, asked), crops(val), args=args)

    params = {
        "options": asdict(options),
        "images": digest([[p.id, p.mos] for p in train]),
        "crop": CROP,
    }
    return ArtifactStore().make("people-start", make, params=params, files=[base])


def reinforce(
    profile: Profile, start: Artifact, train: list[RatedImage], val: list[RatedImage], seed: int
) -> Artifact:
    """A teacher of these scores: GRPO from `fine_tune_on_scores`.

    Nobody named the degradations of these images, so the score is the only task. A run that a stop
    rule ended keeps its reason in stopped.txt, as in `main_line.train_teacher`.
    """
    from rali_lab.reasoner.grpo import GrpoConfig, train_grpo

    options = replace(profile.grpo, seed=seed, **REINFORCED)

    def make(folder: Path) -> None:
        args = GrpoConfig.from_options(options, folder)
        train_or_stop(folder, lambda: train_grpo(start.path, crops(train), crops(val), args=args))

    params = {"options": asdict(options), "crop": CROP}
    return ArtifactStore().make("people", make, params=params, inputs=[start])


def score_split(
    profile: Profile, images: list[RatedImage], features: dict[str, np.ndarray], seed: int
) -> Artifact:
    """scores.parquet (image, source, mos, method, score) of one split.

    Parameters
    ----------
    profile
        Sizes and settings.
    images
        Rated images.
    features
        From `custom_dataset.extract_features`, in the order of `images`.
    seed
        Of the split, and of all that is trained.
    """
    chosen = split_sources([p.source for p in images], seed=seed, fractions=(0.75, 0.05, 0.2))
    train, val, test = (
        [replace(p, split=split) for p in images if chosen[p.source] == split]
        for split in ("train", "val", "test")
    )
    if len({p.mos for p in val}) < 2:
        raise ValueError(
            f"split {seed} of {len(chosen)} sources has {len(val)} images for validation;"
            " give 40 sources or more"
        )
    start = fine_tune_on_scores(profile, train, val, seed)
    teacher = reinforce(profile, start, train, val, seed)
    zero_shot = train_teacher(profile, seed=0)

    def make(folder: Path) -> None:
        from rali_lab.rali.baselines import ridge_scores
        from rali_lab.reasoner.rationales import ratings, valid_rationales

        known, row = train + val, {p.id: i for i, p in enumerate(images)}
        models = {
            "teacher": finished(teacher),
            "supervised": start.path,
            "teacher_zero_shot": zero_shot.path,
            "base": base_path(profile),
        }
        asked, samples, scores = crops(test), profile.score_samples // 4, {}
        for method, model in models.items():
            answers = _of_whole_images(ask_model(model, asked, samples=samples, seed=seed))
            scores[method] = ratings(answers, [p.id for p in test])
        answers = ask_model(models["teacher"], crops(known), samples=1, seed=seed)
        texts = {row[p]: t for p, t in valid_rationales(_of_whole_images(answers)).items()}
        fit, new = (np.array([row[p.id] for p in part]) for part in (known, test))
        x, sources = features["trunk"], np.array([p.source for p in images])
        scores["ridge_visual"] = ridge_scores(x[fit], mos_of(known), sources[fit], x[new])
        scores |= _rali_scores(features, mos_of(images), texts, fit, new, seed)
        about = pd.DataFrame(
            {"image": [p.id for p in test], "source": sources[new], "mos": mos_of(test)}
        )
        score_table(about, scores).to_parquet(folder / "scores.parquet")

    params = {
        "seed": seed,
        "images": digest([[p.id, p.mos] for p in images]),
        "samples": profile.score_samples,
    }
    return ArtifactStore().make(
        "people-scores", make, params=params, inputs=[teacher, start, zero_shot]
    )


def _of_whole_images(answers: pd.DataFrame) -> pd.DataFrame:
    """Answers about crops as answers about their images."""
    return answers.assign(image=answers["image"].str.rsplit("/", n=1).str[0])


def _rali_scores(
    features: dict[str, np.ndarray],
    mos: np.ndarray,
    texts: dict[int, list[str]],
    fit: np.ndarray,
    new: np.ndarray,
    seed: int,
) -> dict[str, np.ndarray]:
    """RALI aligned with the texts of the rows that have some: the small tower with its pretrained
    head, the trunk with a random one.
    """
    from rali_lab.models.clip import build_clip, load_base_clip
    from rali_lab.rali.align import align

    rows, scores = [i for i in fit.tolist() if i in texts], {}
    for method, tower, model in (
        ("rali", "small", load_base_clip()),
        ("rali_trunk", "trunk", build_clip(custom_dataset.TRUNK, seed=seed)[0]),
    ):
        align(model, features[tower][rows], [texts[i] for i in rows], seed=seed)
        z = custom_dataset.head_embeddings(model.visual, features[tower])
        scores[method] = custom_dataset.read_basis(z, mos, fit, new, random_state=seed)
    return scores


def score_tuned(
    profile: Profile, images: Sequence[RatedImage], *, n_splits: int = 10, tune: bool = True
) -> list[pd.DataFrame]:
    """`custom_dataset.score_splits` in long form: image, source, mos, method, score, seed."""
    features = custom_dataset.extract_features(images)
    features["rali_levels"] = custom_dataset.zero_shot(profile).predict(features["trunk"])
    tables = custom_dataset.score_splits(images, features=features, n_splits=n_splits, tune=tune)
    about = ["image", "source", "mos"]
    long = (t.melt(about, var_name="method", value_name="score") for t in tables)
    return [table.assign(seed=seed) for seed, table in enumerate(long)]


def main(argv: list[str] | None = None) -> None:
    """Run and record one of the two studies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "data", help="folder or table of rated images, as for `rali-lab data check`"
    )
    parser.add_argument("--images", help="folder that image names are relative to")
    parser.add_argument("--mos-range", nargs=2, type=float, metavar=("LO", "HI"))
    parser.add_argument("--dmos", action="store_true", help="lower is better")
    parser.add_argument("--splits", type=int, nargs="+", default=list(range(1, 11)))
    parser.add_argument("--tuned", action="store_true", help="record splits with tuned trunks")
    parser.add_argument("--n-splits", type=int, default=10, help="with --tuned: splits 0 to n - 1")
    parser.add_argument("--no-tune", action="store_true", help="with --tuned: leave the trunks")
    args = parser.parse_args(argv)
    profile, name = get_profile("tiny"), custom_dataset.dataset_name(args.data)
    images = read_dataset(
        args.data,
        image_dir=args.images,
        mos_range=tuple(args.mos_range) if args.mos_range else None,
        higher_is_better=False if args.dmos else None,
    )[: profile.real_limit]
    if args.tuned:
        study, command = f"custom-{name}", "make bench-custom"
        seeds = list(range(args.n_splits))
        parts = score_tuned(profile, images, n_splits=args.n_splits, tune=not args.no_tune)
    else:
        study, command, seeds = f"people-{name}", "make bench-people", args.splits
        features, parts = custom_dataset.extract_features(images), []
        for seed in seeds:
            made = score_split(profile, images, features, seed)
            print(seed, made, flush=True)
            parts.append(pd.read_parquet(made.path / "scores.parquet").assign(seed=seed))
    about = {"made_by": command, "data": name, "n": len(images), "seeds": seeds}
    about["artefacts"] = keys_today(profile, study, seeds)
    keep(kept_tables_folder(profile, study), {"scores": parts}, {**about, **stamp()})


if __name__ == "__main__":
    main()
