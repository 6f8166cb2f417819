"""The whole line on images that people rated: `python -m rali_lab.experiments.human_ratings
ratings.csv` (what `make bench-people` runs).

For each random split by source (the test images are those of `custom_dataset.study`): the tiny
teacher is trained on 75 %, first supervised, then with GRPO, watched on 5 %; RALI learns from its
words about these 80 %; both are tested on the other 20 %, beside a ridge on the same 80 %. Writes
docs/results/tiny-people-<name of the data>/scores.parquet, which notebook 10 shows; everything is
kept, so a killed run resumes.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from rali_lab import experiments
from rali_lab.data.datasets import read_dataset
from rali_lab.data.ratings import split_sources
from rali_lab.data.records import RatedImage, mos_of
from rali_lab.experiments import custom_dataset
from rali_lab.experiments.main_line import finished, seed_all
from rali_lab.experiments.seed_tables import keep, kept_tables_folder
from rali_lab.experiments.studies import keys_today
from rali_lab.io import digest
from rali_lab.profiles import Profile, get_profile
from rali_lab.reproduce.provenance import stamp
from rali_lab.reproduce.store import Artifact, ArtifactStore

CROP = 128
"""Side of what the tiny teacher sees, in pixels.

Shrunk to it, a photograph loses what people judged; so it sees four cut-outs at native resolution,
and an image's score is their mean."""
START = {
    "steps": 300,
    "learning_rate": 1e-3,
    "train": "both",
    "min_spread": 0.0,
    "eval_every": 50,
    "keep_best": True,
}
"""Changes to `SftSettings`.

The base rates photographs at random, so rewards have nothing to select and GRPO from it collapses
(docs/LOG.md); it is first fine-tuned, neck and language, on its own descriptions, each ending in
the MOS, for as many steps as the validation images like best. Rate and trained parts were chosen by
test images of split 0 on LIVE in the Wild, which is therefore none of the published splits."""
REINFORCED = {"degradation_share": 0.0, "beta": 0.04, "steps": 60}
"""Changes to the profile's `GrpoSettings`; chosen by the validation images of split 0 on LIVE in
the Wild (docs/LOG.md)."""


def cut(images: list[RatedImage]) -> list[RatedImage]:
    """Four cut-outs of every image, one from the middle of each quarter; ids end in /0 to /3."""
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


def start(profile: Profile, train: list[RatedImage], val: list[RatedImage], seed: int) -> Artifact:
    """The base model after supervised fine-tuning on these scores (`START`)."""
    from rali_lab.models.vlm import load_policy
    from rali_lab.reasoner.rationales import write_rationales
    from rali_lab.reasoner.sft import SftSettings, rated_answers, train_sft

    settings, base = SftSettings(**START, seed=seed), experiments.base_path(profile)

    def make(folder: Path) -> None:
        shown = cut(train)
        seed_all(seed)
        words = write_rationales(*load_policy(base), shown, samples=2)
        told = set(words.loc[words["status"] == "ok", "image"])
        print(
            f"{len(shown) - len(told)} of {len(shown)} cut-outs without a well-formed answer are"
            " left out of the fine-tuning"
        )
        shown = [p for p in shown if p.id in told]
        train_sft(base, shown, rated_answers(words, shown), cut(val), settings, folder)

    params = {
        "settings": asdict(settings),
        "images": digest([[p.id, p.mos] for p in train]),
        "crop": CROP,
    }
    return ArtifactStore().make("people-start", make, params=params, files=[base])


def teach(
    profile: Profile, begun: Artifact, train: list[RatedImage], val: list[RatedImage], seed: int
) -> Artifact:
    """A teacher of these scores: GRPO from `start`.

    Nobody named what is wrong with the images, so the score is the only task.

    A run that the guard stopped keeps its reason in stopped.txt, as in `experiments.train_teacher`.
    """
    from rali_lab.reasoner.grpo import RunStopped, train_grpo

    settings = experiments.grpo_settings(profile, seed=seed, **REINFORCED)

    def make(folder: Path) -> None:
        try:
            train_grpo(begun.path, cut(train), cut(val), settings, folder)
        except RunStopped as stopped:
            (folder / "stopped.txt").write_text(str(stopped))

    params = {"settings": asdict(settings), "crop": CROP}
    return ArtifactStore().make("people", make, params=params, inputs=[begun])


def one_split(
    profile: Profile, images: list[RatedImage], looks: dict[str, np.ndarray], seed: int
) -> Artifact:
    """scores.parquet (image, source, mos, method, score) of one split."""
    chosen = split_sources([p.source for p in images], seed=seed, fractions=(0.75, 0.05, 0.2))
    parts = {
        s: [replace(p, split=s) for p in images if chosen[p.source] == s]
        for s in ("train", "val", "test")
    }
    if len({p.mos for p in parts["val"]}) < 2:
        raise ValueError(
            f"split {seed} of {len(chosen)} sources has {len(parts['val'])} images for validation;"
            " give 40 sources or more"
        )
    begun = start(profile, parts["train"], parts["val"], seed)
    teacher, zero_shot = (
        teach(profile, begun, parts["train"], parts["val"], seed),
        experiments.train_teacher(profile, seed=0),
    )

    def make(folder: Path) -> None:
        from rali_lab.models.vlm import load_policy
        from rali_lab.rali.baselines import ridge_scores
        from rali_lab.reasoner.rationales import ratings, valid_rationales, write_rationales

        place, test, known = (
            {p.id: i for i, p in enumerate(images)},
            parts["test"],
            parts["train"] + parts["val"],
        )
        models = {
            "teacher": load_policy(finished(teacher)),
            "supervised": load_policy(begun.path),
            "teacher_zero_shot": load_policy(zero_shot.path),
            "base": load_policy(experiments.base_path(profile)),
        }
        shown, scores = cut(test), {}
        for method, model in models.items():
            seed_all(seed)
            table = write_rationales(*model, shown, samples=profile.score_samples // 4)
            scores[method] = ratings(_whole(table), [p.id for p in test])
        seed_all(seed)
        words = _whole(write_rationales(*models["teacher"], cut(known), samples=1))
        fit, new = (np.array([place[p.id] for p in part]) for part in (known, test))
        sources = np.array([p.source for p in images])
        scores["ridge_visual"] = ridge_scores(
            looks["trunk"][fit], mos_of(known), sources[fit], looks["trunk"][new]
        )
        scores |= _from_words(
            looks,
            mos_of(images),
            {place[p]: texts for p, texts in valid_rationales(words).items()},
            fit,
            new,
            seed,
        )
        about = pd.DataFrame(
            {"image": [p.id for p in test], "source": sources[new], "mos": mos_of(test)}
        )
        pd.concat(
            [about.assign(method=m, score=s) for m, s in scores.items()], ignore_index=True
        ).to_parquet(folder / "scores.parquet")

    params = {
        "seed": seed,
        "images": digest([[p.id, p.mos] for p in images]),
        "samples": profile.score_samples,
    }
    return ArtifactStore().make(
        "people-scores", make, params=params, inputs=[teacher, begun, zero_shot]
    )


def _whole(answers: pd.DataFrame) -> pd.DataFrame:
    """Answers about cut-outs as answers about their images."""
    return answers.assign(image=answers["image"].str.rsplit("/", n=1).str[0])


def _from_words(
    looks: dict,
    mos: np.ndarray,
    texts: dict[int, list[str]],
    fit: np.ndarray,
    new: np.ndarray,
    seed: int,
) -> dict:
    """RALI aligned with the texts of the rows that have some: the small tower with its pretrained
    head, the trunk with a random one.
    """
    from rali_lab.models.clip import build_clip, load_base_clip
    from rali_lab.rali.align import align

    rows, out = [i for i in fit.tolist() if i in texts], {}
    for method, look, model in (
        ("rali", "small", load_base_clip()),
        ("rali_trunk", "trunk", build_clip(custom_dataset.TRUNK, seed=seed)[0]),
    ):
        align(model, looks[look][rows], [texts[i] for i in rows], seed=seed)
        out[method] = custom_dataset.read_basis(
            _embed(model.visual, looks[look]), mos, fit, new, random_state=seed
        )
    return out


def _embed(visual, statistics: np.ndarray) -> np.ndarray:
    """Embeddings (n, d) of length 1 by the head of an image side, from what its trunk says of the
    images (`custom_dataset.look`).
    """
    import torch

    with torch.inference_mode():
        z = visual.head(
            (torch.from_numpy(statistics).float() - visual.trunk.stat_mean) / visual.trunk.stat_std
        )
    return torch.nn.functional.normalize(z, dim=-1).numpy()


def name_rated_images(parser: argparse.ArgumentParser) -> None:
    """Arguments of the commands that measure on a rated folder."""
    parser.add_argument(
        "data", help="folder or table of rated images, as for `rali-lab data check`"
    )
    parser.add_argument("--images", help="folder that image names are relative to")
    parser.add_argument("--mos-range", nargs=2, type=float, metavar=("LO", "HI"))
    parser.add_argument("--lower-is-better", action="store_true", help="the scores are DMOS")


def rated_images(args: argparse.Namespace, profile: Profile) -> list[RatedImage]:
    """The images that `name_rated_images` names, no more than the profile takes."""
    ends = tuple(args.mos_range) if args.mos_range else None
    higher = False if args.lower_is_better else None
    return read_dataset(args.data, image_dir=args.images, mos_range=ends, higher_is_better=higher)[
        : profile.real_limit
    ]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    name_rated_images(parser)
    parser.add_argument("--splits", type=int, nargs="+", default=list(range(1, 11)))
    args = parser.parse_args(argv)
    profile = get_profile("tiny")
    images = rated_images(args, profile)
    looks, parts, keys = custom_dataset.look(images), [], {}
    for split in args.splits:
        made = one_split(profile, images, looks, split)
        print(split, made, flush=True)
        keys[str(split)] = made.key
        parts.append(pd.read_parquet(made.path / "scores.parquet").assign(seed=split))
    study = f"people-{custom_dataset.name_of(args.data)}"
    about = {
        "made_by": "make bench-people",
        "data": custom_dataset.name_of(args.data),
        "n": len(images),
        "seeds": args.splits,
        "made": keys,
    }
    about["artefacts"] = keys_today(profile, study, args.splits)
    keep(kept_tables_folder(profile, study), {"scores": parts}, {**about, **stamp()})


if __name__ == "__main__":
    main()
