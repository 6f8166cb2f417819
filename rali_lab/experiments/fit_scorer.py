"""A scorer for images that people rated: RALI trained on all of them, to save and to use."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rali_lab.data.records import RatedImage
from rali_lab.experiments.custom_dataset import TRUNK, require_enough, trunk_statistics
from rali_lab.experiments.steps import Reporter
from rali_lab.rali import quality_levels

if TYPE_CHECKING:
    from rali_lab.models.towers import StatTower
    from rali_lab.rali.scorer import RaliScorer


def fit_scorer(
    images: Sequence[RatedImage],
    *,
    tune: bool = True,
    seed: int = 0,
    features: dict[str, np.ndarray] | None = None,
    trust_direction: bool = False,
    report: Reporter = print,
) -> RaliScorer:
    """A scorer trained on all of these images, as `rali_tuned` of `custom_dataset.score_splits` is
    on those of a split (without `tune`: `rali_trained`).

    Parameters
    ----------
    images, tune
        As for `custom_dataset.score_splits`, which says what to expect of it.
    seed
        Of the tuning.
    features
        From `custom_dataset.extract_features`, if they are known already.
    trust_direction
        Do not check whether the scores run the right way (up to 100 images, about 0.1 s each).
    report
        Called with each line of progress.

    Returns
    -------
    A scorer like any other: to save, to export, to ask why; it refuses the ids of these images. Its
    words are the five levels: the nearest is not the name of the score, as the levels lie close
    together and their scores are stretched to fit. For an image worse or better than all of these
    the score may lie a little outside 1..5. Cost: about 1 s and 0.6 MB for 500 x 500 pixels on a
    core; a tenth of a second, and no memory, without `tune`.

    Raises
    ------
    ValueError
        As `custom_dataset.score_splits` does; on scores that seem to run the other way, with their
        correlation; on an image below 32 px, naming it; when the memory does not suffice, saying
        how much is needed.
    """
    from rali_lab.models.clip import embed_texts, load_base_clip
    from rali_lab.rali.baselines import frozen_tower
    from rali_lab.reproduce.machine import hardware

    mos, sources = require_enough(images)
    if not trust_direction:
        _check_direction(images, report)
    statistics = trunk_statistics(images, report) if features is None else features["trunk"]
    reader = quality_levels.fit_levels(
        statistics, mos, sources, embed_texts(load_base_clip(), quality_levels.TEXTS)
    )
    trunk = copy.deepcopy(frozen_tower(TRUNK))
    if tune:
        needed, free = (
            2.5 * sum(p.pixels()[..., 0].size for p in images),
            hardware()["memory_available"],
        )
        if free is not None and needed > free:
            gigabytes = f"{needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"
            raise ValueError(
                f"tuning on {len(images)} images takes {gigabytes}; give fewer or smaller ones, or"
                " leave out the tuning"
            )
        cached = quality_levels.CachedTrunkFeatures((p.pixels() for p in images), trunk)
        quality_levels.tune(
            reader,
            trunk.blocks[quality_levels.FIXED :],
            cached,
            range(len(images)),
            mos,
            seed=seed,
            report=report,
        )
    return _scorer(reader, trunk, [p.id for p in images])


def _check_direction(images: Sequence[RatedImage], report: Reporter) -> None:
    """Raise ValueError if the scores seem to run the other way, lower for a better image.

    The rule and the cost are those of `rali_lab.data.validation.check_dataset`: at most 100
    images scored by the bundled scorer, and a Spearman correlation whose whole 95 % interval is
    below 0.
    """
    from rali_lab.data.score_direction import agreement_with_scorer
    from rali_lab.estimate import Estimate
    from rali_lab.rali.scorer import load_scorer

    sign = agreement_with_scorer(images, load_scorer)
    if not isinstance(sign, Estimate):
        report(f"the direction of the scores was not checked: {sign}")
    elif sign.ci_high < 0:
        raise ValueError(
            f"the scores seem to run the other way, where higher should be better: {sign} with the "
            "bundled scorer. Turn them round with --dmos (higher_is_better=False), or leave it out "
            "if it is given; if they are right, pass --trust-direction (trust_direction=True)"
        )


def _scorer(
    reader: quality_levels.LinearLevels, trunk: StatTower, ids: Sequence[str]
) -> RaliScorer:
    """The same scores from a `RaliScorer`: the level texts are its basis, the reader's map is the
    head of its image side.
    """
    import torch

    from rali_lab.models.image_encoder import image_tower
    from rali_lab.rali.scorer import RaliScorer

    n_levels, width = reader.texts.shape
    visual = image_tower(TRUNK, hidden=n_levels, embed_dim=width, curved=False)
    visual.trunk.load_state_dict(
        trunk.state_dict() | {"stat_mean": reader.mean, "stat_std": reader.std}
    )
    weights = (reader.weight, reader.bias, reader.texts.T, torch.zeros(width))
    visual.head.load_state_dict(dict(zip(visual.head.state_dict(), weights, strict=True)))
    return RaliScorer.of_basis(
        visual,
        reader.texts.numpy(),
        reader.scores.numpy(),
        texts=quality_levels.TEXTS,
        tau=quality_levels.TAU,
        ids=ids,
    )
