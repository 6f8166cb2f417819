"""Your own rated images: how well is their score predicted, by RALI as it comes, by RALI trained on
them, and by a plain regression?

`score_splits` measures that over several random splits by source, on the same images for every
method, so that differences are paired. `rali_lab.experiments.custom_report` sums it up, and
`rali_lab.experiments.fit_scorer` makes a scorer to use afterwards.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from rali_lab.data.ratings import split_sources
from rali_lab.data.records import RatedImage, mos_of, pixel_digest
from rali_lab.experiments.steps import Reporter
from rali_lab.io import digest, sha256_file
from rali_lab.rali import quality_levels
from rali_lab.reproduce.store import Artifact, ArtifactStore

if TYPE_CHECKING:
    from rali_lab.profiles import Profile
    from rali_lab.rali.quality_levels import KernelLevels

TRUNK = "lite0_stats_s32"
"""The whole of lite0 (3.4 million numbers): people's scores hang on more than a small tower sees.
"""
METHODS = {
    "rali": "RALI as it comes, never trained on these images",
    "rali_levels": (
        "texts of five quality levels, learned by the whole trunk from generated images, never"
        " trained on these"
    ),
    "rali_refitted": "its embeddings, with a basis fitted on these scores",
    "rali_trained": (
        "the whole trunk's statistics mapped to texts of five quality levels, read by RALI's score"
        " (rali_lab.rali.quality_levels)"
    ),
    "rali_tuned": "the same, after the deep half of the trunk was trained through that score",
    "ridge_visual": "ridge on the statistics of the whole trunk",
    "ridge_tuned": (
        "ridge on the statistics of the trunk that `rali_tuned` trained: what the texts add to it"
    ),
    "ridge_small": "ridge on the statistics that RALI's small tower sees",
}
"""What `score_splits` measures."""
MIN_IMAGES = 60


def write_example(folder: str | Path, *, n: int = 120, seed: int = 7) -> Path:
    """Write a small rated folder for those who have none: n images of the recipe `authentic` and
    the table `ratings.csv`, returned.
    """
    from PIL import Image

    from rali_lab.data.domains import DOMAINS, build_domain

    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    made = build_domain(DOMAINS["authentic"], {"test": n}, seed=seed)
    for p in made:
        Image.fromarray(p.pixels()).save(folder / "images" / f"{p.id}.png")
    rows = {
        "image": [f"images/{p.id}.png" for p in made],
        "mos": mos_of(made).round(3),
        "source": [p.source for p in made],
    }
    pd.DataFrame(rows).to_csv(folder / "ratings.csv", index=False)
    return folder / "ratings.csv"


def dataset_name(data: str | Path) -> str:
    """What a data set is called here: the name of its folder.

    >>> dataset_name("koniq10k"), dataset_name("livec/ratings.csv")
    ('koniq10k', 'livec')
    """
    place = Path(data)
    return (place if place.is_dir() or not place.suffix else place.parent).resolve().name


def score_splits(
    images: Sequence[RatedImage],
    *,
    features: dict[str, np.ndarray] | None = None,
    n_splits: int = 10,
    test_share: float = 0.2,
    rali: dict | None = None,
    tune: bool = True,
    seed: int = 0,
    report: Reporter = print,
) -> list[pd.DataFrame]:
    """Scores of every method of `METHODS` on the held-out images of every split.

    Every tuned trunk is kept as an artefact, so an interrupted study goes on where it was.

    Parameters
    ----------
    images
        Rated images of at least 32 px, at least 60 of at least five sources; their own splits are
        not used.
    features
        From `extract_features`, if they are known already; with scores by `zero_shot` under
        "rali_levels", these are compared, too.
    n_splits, test_share
        Random divisions of the sources.
    rali
        Options of `RaliScorer`.
    tune
        Also train the trunk (`rali_tuned`, `ridge_tuned`).
    seed
        Of the first split; the others count on from it.
    report
        Called with each line of progress.

    Returns
    -------
    A table for each split: image, source, mos and a column for each method. Cost:
    `extract_features` once, and for each split some 5 s, and with `tune` about 1 s for each
    training image of 500 x 500 pixels on one core (600 images, ten splits: an hour and a half).

    Raises
    ------
    ValueError
        On too few images or sources, or scores that do not differ.
    """
    from rali_lab.models.clip import embed_texts, load_base_clip
    from rali_lab.rali.baselines import ridge_scores

    mos, sources = require_enough(images)
    x = extract_features(images, report=report) if features is None else features
    texts = embed_texts(load_base_clip(), quality_levels.TEXTS)
    tuned, tables = _TunedTrunks(images) if tune else None, []
    for split in range(n_splits):
        chosen = split_sources(
            sources, seed=seed + split, fractions=(1 - test_share, 0, test_share)
        )
        held = np.array([chosen[s] == "test" for s in sources])
        fit, new = np.flatnonzero(~held), np.flatnonzero(held)
        reader = quality_levels.fit_levels(x["trunk"][fit], mos[fit], sources[fit], texts)
        options, made = {**(rali or {}), "random_state": seed + split}, None
        ridges = {"ridge_visual": x["trunk"], "ridge_small": x["small"]}
        scores = {k: x[k][new] for k in ("rali", "rali_levels") if k in x}
        scores |= {
            "rali_trained": reader.predict(x["trunk"][new]),
            "rali_refitted": read_basis(x["embedding"], mos, fit, new, **options),
        }
        if tuned is not None:
            made, ridges["ridge_tuned"] = tuned.statistics(reader, fit, seed + split)
            scores["rali_tuned"] = reader.predict(ridges["ridge_tuned"][new])
        scores |= {
            name: ridge_scores(z[fit], mos[fit], sources[fit], z[new]) for name, z in ridges.items()
        }
        methods = [m for m in METHODS if m in scores]
        about = {"image": [images[i].id for i in new], "source": sources[new], "mos": mos[new]}
        tables.append(pd.DataFrame({**about, **{m: scores[m] for m in methods}}))
        found = ", ".join(f"{m} {spearmanr(scores[m], mos[new])[0]:.2f}" for m in methods)
        report(f"split {split + 1} of {n_splits}: SRCC {found}" + (f" ({made!r})" if made else ""))
    return tables


def require_enough(images: Sequence[RatedImage]) -> tuple[np.ndarray, np.ndarray]:
    """Scores and sources, if something can be learned from them; ValueError otherwise."""
    mos, sources = mos_of(images), np.array([p.source for p in images])
    if len(images) < MIN_IMAGES or len(set(sources)) < 5:
        found = f"{len(images)} images of {len(set(sources))} sources"
        raise ValueError(f"{found} are too few; give {MIN_IMAGES} images of five sources or more")
    if np.ptp(mos) == 0:
        raise ValueError(f"all {len(mos)} scores are {mos[0]:g}; nothing can be predicted")
    return mos, sources


class _TunedTrunks:
    """What trunks say of the images after they were tuned on some of them; every tuning is kept as
    an artefact.
    """

    def __init__(self, images: Sequence[RatedImage]) -> None:
        self.images, self.mos = images, mos_of(images)
        self.known = [[p.id, p.mos, _content(p)] for p in images]

    @functools.cached_property
    def cached(self) -> quality_levels.CachedTrunkFeatures:
        from rali_lab.rali.baselines import frozen_tower

        pixels = (p.pixels() for p in self.images)
        return quality_levels.CachedTrunkFeatures(pixels, frozen_tower(TRUNK))

    def statistics(
        self, reader: quality_levels.LinearLevels, fit: np.ndarray, seed: int
    ) -> tuple[Artifact, np.ndarray]:
        """(n, d) of all images, by a trunk that was tuned on the rows `fit`, and the artefact that
        holds them.
        """
        from rali_lab.rali.baselines import frozen_tower

        def make(folder: Path) -> None:
            deep = copy.deepcopy(frozen_tower(TRUNK).blocks[quality_levels.FIXED :])
            quality_levels.tune(
                reader, deep, self.cached, fit, self.mos[fit], seed=seed, report=lambda line: None
            )
            np.save(
                folder / "statistics.npy",
                self.cached.all_statistics(deep, range(len(self.images))).astype(np.float32),
            )

        params = {"images": digest(self.known), "fit": fit.tolist(), "seed": seed}
        made = ArtifactStore().make("tuned", make, params=params)
        return made, np.load(made.path / "statistics.npy", allow_pickle=False).astype(np.float64)


def extract_features(
    images: Sequence[RatedImage], *, report: Reporter = print
) -> dict[str, np.ndarray]:
    """Features of images: `rali` (n,) scores of RALI as it comes, `embedding` (n, 384) behind
    them, `small` and `trunk`, the statistics (n, d) of RALI's tower and of the whole trunk.

    RALI's tower is the beginning of the trunk, so one pass gives all four. The statistics are kept
    as an artefact: the same images are encoded once. Cost: about 0.1 s for 500 x 500 pixels on one
    core.
    """
    from rali_lab.rali.scorer import load_scorer

    scorer, trunk = load_scorer(), _kept_statistics(images, report)
    small = trunk[:, : scorer.visual_.trunk.num_features]
    z = head_embeddings(scorer.visual_, small)
    return {"rali": scorer.predict_embeddings(z), "embedding": z, "small": small, "trunk": trunk}


def head_embeddings(visual, statistics: np.ndarray) -> np.ndarray:
    """Embeddings (n, d) of length 1 by the head of an image side, from its trunk's statistics."""
    import torch

    trunk = visual.trunk
    with torch.inference_mode():
        x = (torch.from_numpy(statistics).float() - trunk.stat_mean) / trunk.stat_std
        return torch.nn.functional.normalize(visual.head(x), dim=-1).numpy()


def _kept_statistics(images: Sequence[RatedImage], report: Reporter) -> np.ndarray:
    """`trunk_statistics`, kept as an artefact."""

    def make(folder: Path) -> None:
        np.save(folder / "statistics.npy", trunk_statistics(images, report))

    params = {"images": digest([_content(p) for p in images])}
    made = ArtifactStore().make("features", make, params=params)
    return np.load(made.path / "statistics.npy", allow_pickle=False)


def trunk_statistics(images: Sequence[RatedImage], report: Reporter) -> np.ndarray:
    """Statistics (n, d) of the whole trunk, an image at a time: several do not fit into the cache
    and are slower.

    Raises
    ------
    ValueError
        On an image that is too small, naming it.
    """
    from rali_lab.models.image_encoder import MIN_SIDE
    from rali_lab.rali.baselines import visual_features

    found = []
    for p in images:
        pixels = p.pixels()
        height, width = pixels.shape[:2]
        if min(height, width) < MIN_SIDE:
            raise ValueError(
                f"image {p.id!r} is {width} x {height} pixels, at least {MIN_SIDE} x {MIN_SIDE} are"
                " needed; leave it out"
            )
        found.append(visual_features([pixels], tower=TRUNK))
        if len(found) % 100 == 0 or len(found) == len(images):
            report(f"features of {len(found)} of {len(images)} images")
    return np.concatenate(found)


def _content(image: RatedImage) -> str:
    """sha256 of an image's file, or of its pixels where it has none."""
    return sha256_file(str(image.path)) if image.array is None else pixel_digest(image.array)


def zero_shot(profile: Profile) -> KernelLevels:
    """Levels of quality learned from the statistics that the whole trunk gives of the three
    generated training sets, and from their quality before any panel. Its `predict` takes
    `features["trunk"]`. Cost: a minute for the profile tiny.
    """
    from rali_lab.experiments import training_sets
    from rali_lab.models.clip import embed_texts, load_base_clip
    from rali_lab.rali.baselines import visual_features
    from rali_lab.rali.quality_levels import fit_across_sets

    made = [p for part in training_sets(profile).values() for p in part]
    statistics = visual_features([p.pixels() for p in made], tower=TRUNK)
    quality = np.array([p.reference for p in made])
    return fit_across_sets(
        statistics,
        quality,
        [p.domain for p in made],
        embed_texts(load_base_clip(), quality_levels.TEXTS),
    )


def _sizes(n: int) -> dict[str, object]:
    """Bins and vectors for n images: about a dozen images a bin, eight a vector."""
    return {"n_components": 16, "n_bins": max(4, n // 24), "n_basis": max(6, n // 16), "tau": 0.25}


def read_basis(
    z: np.ndarray, mos: np.ndarray, fit: np.ndarray, new: np.ndarray, **options: object
) -> np.ndarray:
    """Scores of the rows `new` of embeddings (n, d) by a RALI basis fitted on the rows `fit`, sized
    for as many images.
    """
    from rali_lab.rali.scorer import RaliScorer

    return (
        RaliScorer(**{**_sizes(len(fit)), **options})
        .fit(z[fit], mos[fit])
        .predict_embeddings(z[new])
    )
