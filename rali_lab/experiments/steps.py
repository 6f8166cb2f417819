"""What the steps of every experiment share: seeds, images, base models, trainings, score tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from rali_lab.data.records import RatedImage, load_images, mos_of, save_images, select
from rali_lab.profiles import Counts, Profile
from rali_lab.reproduce.project import under_home
from rali_lab.reproduce.store import Artifact, ArtifactStore

if TYPE_CHECKING:
    from rali_lab.rali.scorer import RaliScorer

NO_THINKING = "<think></think><answer>"
"""Prefill that leaves the model no room to reason."""
RATING_ONLY = NO_THINKING + '{"rating": '
"""Prefill after which only the rating is written."""

Reporter = Callable[[str], None]


def seed_all(seed: int) -> None:
    """Seed every generator that sampling uses."""
    from transformers import set_seed

    set_seed(seed)


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
    """Training and validation images of a domain; made apart if the profile only tests on it."""
    from rali_lab.data.content import PHOTOGRAPHS
    from rali_lab.data.domains import SNAPSHOTS, build_domain

    if "train" in profile.images.get(domain, {}):
        return make_images(profile)
    counts, seed = {s: profile.images["photo"][s] for s in ("train", "val")}, profile.data_seed + 1
    if domain != SNAPSHOTS.name:
        return _make_images({domain: counts}, seed)

    def make(folder: Path) -> None:
        save_images(build_domain(SNAPSHOTS, counts, seed=seed), folder)

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
        target = f"base-{folder.name}" if profile.base else "base-model"
        raise FileNotFoundError(f"{folder} holds no model; make it with `make {target}`")
    return folder


def train_or_stop(folder: Path, train: Callable[[], object]) -> None:
    """Run a training; where a stop rule ends it, its reason is kept in `stopped.txt`."""
    from rali_lab.reasoner.callbacks import RunStopped

    try:
        train()
    except RunStopped as stopped:
        (folder / "stopped.txt").write_text(str(stopped))


def finished(made: Artifact) -> Path:
    """Folder of a training that ran to its end.

    Raises
    ------
    RuntimeError
        With its reason for one that a stop rule ended: it can be no control.
    """
    stopped = made.path / "stopped.txt"
    if stopped.exists():
        raise RuntimeError(
            f"the training {made.name!r} was stopped and cannot be compared with:"
            f" {stopped.read_text()}"
        )
    return made.path


def ask_model(
    folder: Path, asked: Sequence[RatedImage], *, samples: int, seed: int, **options: object
) -> pd.DataFrame:
    """Answers of the model in `folder` (`rationales.write_rationales`), sampled with `seed`."""
    from rali_lab.models.vlm import load_policy
    from rali_lab.reasoner.rationales import write_rationales

    seed_all(seed)
    return write_rationales(*load_policy(folder), asked, samples=samples, **options)


def image_table(shown: Sequence[RatedImage]) -> pd.DataFrame:
    """One row per image: image (its id), domain, source, mos."""
    return pd.DataFrame(
        {
            "image": [p.id for p in shown],
            "domain": [p.domain for p in shown],
            "source": [p.source for p in shown],
            "mos": mos_of(shown),
        }
    )


def score_table(about: pd.DataFrame, scores: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The rows of `about` once for every method, with the columns method and score."""
    parts = [about.assign(method=method, score=score) for method, score in scores.items()]
    return pd.concat(parts, ignore_index=True)


def rali_of(
    profile: Profile,
    train: Sequence[RatedImage],
    val: Sequence[RatedImage],
    texts: Mapping[str, list[str]],
    quality: Callable[[Sequence[RatedImage]], np.ndarray],
    folder: Path,
    *,
    seed: int,
    holdout: bool = False,
) -> RaliScorer:
    """RALI from rationales: align the small CLIP, fit the basis, save alignment.csv and model/.

    Parameters
    ----------
    profile
        Holds the options of alignment and basis.
    train, val
        Images to learn from, and to choose the epoch by.
    texts
        Valid rationales by image id; training images without one are
        left out of the alignment.
    quality
        Gives the (n,) scores that the basis is fitted to.
    folder
        Where alignment.csv and model/ go.
    seed
        Of alignment, k-means and fine-tuning.
    holdout
        Whether alignment is measured on the validation images after every epoch.
    """
    from rali_lab.models.clip import embed_texts, load_base_clip
    from rali_lab.rali.align import align
    from rali_lab.rali.scorer import RaliScorer

    def pairs(part: Sequence[RatedImage]) -> tuple[list[np.ndarray], list[list[str]]]:
        known = [p for p in part if p.id in texts]
        return [p.pixels() for p in known], [texts[p.id] for p in known]

    model = load_base_clip()
    held = pairs(val) if holdout else None
    history = align(model, *pairs(train), seed=seed, holdout=held, **asdict(profile.align))
    history.to_csv(folder / "alignment.csv", index=False)
    scorer = RaliScorer(random_state=seed, **asdict(profile.rali))
    scorer.fit(
        [p.pixels() for p in train],
        quality(train),
        model=model,
        ids=[p.id for p in train],
        validation=([p.pixels() for p in val], quality(val)),
    )
    written = [text for p in train if p.id in texts for text in texts[p.id]]
    scorer.store_texts(written, embed_texts(model, written))
    scorer.save(folder / "model")
    return scorer


def rated(data: Artifact, domain: str) -> dict[str, list[RatedImage]]:
    """The images of one domain of an artefact by split."""
    every = select(load_images(data.path), domain=domain)
    return {split: select(every, split=split) for split in ("train", "val", "test")}
