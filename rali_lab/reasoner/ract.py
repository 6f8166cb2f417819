"""RACT: several data sets at once, through rationales that all of them share (arXiv 2510.11369; the
three stages as we read them).

Data sets disagree about what a score means, and a model that is trained on their scores together
has to learn the disagreement. RACT (Reasoning-Aligned Cross-domain Training) never mixes scores:

1. one reasoner for each set, trained on that set's scores alone
   (`rali_lab.reasoner.grpo.train_grpo`);
2. each reasoner writes about its own set, and only the rationales are kept (`text_labels`);
3. the vision side of one of the reasoners learns to encode what all the rationales describe
   (`rali_lab.reasoner.sft.train_sft` with ``train_parts="vision", reasoning_only=True``). Its
   language module, which turns text into scores on its own set's scale, is not trained.

What RACT is compared with needs no more than other scores: as they are (naive mixing), or rescaled
set by set (`rescale`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from rali_lab.data.records import RatedImage, mos_of
from rali_lab.reasoner.rationales import is_valid


def text_labels(answers: pd.DataFrame) -> pd.DataFrame:
    """The reasoning of the valid answers in `answers` (of `write_rationales`), without the rating
    after it.

    Returns
    -------
    DataFrame
        Columns image, sample, text.

    Raises
    ------
    ValueError
        Naming the first image that would be left without a label.

    Examples
    --------
    >>> from rali_lab.reasoner.rationales import to_table
    >>> answer = '<think>Serious blur.</think><answer>{"rating": 2.00}</answer>'
    >>> text_labels(to_table(["a"], [[answer]]))["text"].tolist()
    ['<think>Serious blur.</think>']
    """
    kept = answers[is_valid(answers)]
    if lost := sorted(set(answers["image"]) - set(kept["image"])):
        raise ValueError(
            f"{len(lost)} images have no valid rationale, {lost[0]} first; let their reasoner"
            " write more samples"
        )
    return (
        kept[["image", "sample"]]
        .assign(text=[f"<think>{r}</think>" for r in kept["reasoning"]])
        .reset_index(drop=True)
    )


def rescale(
    sets: Mapping[str, Sequence[RatedImage]], reference: str
) -> dict[str, list[RatedImage]]:
    """Per-domain scaling: scores of every set with mean and standard deviation of the reference
    set's training scores.

    Fitted on the training images of each set, applied to all of its images, and clipped to 1..5.

    Parameters
    ----------
    sets
        Rated images by the name of their set.
    reference
        The set whose scale the others are brought to.

    Raises
    ------
    ValueError
        When the training scores of a set do not differ.

    Examples
    --------
    >>> black = np.zeros((1, 1, 3), np.uint8)
    >>> one = [RatedImage(str(m), "a", str(m), "train", mos=m, array=black) for m in (2.0, 4.0)]
    >>> other = [replace(p, mos=p.mos / 2) for p in one]
    >>> [p.mos for p in rescale({"a": one, "b": other}, "a")["b"]]
    [2.0, 4.0]
    """
    out = {}
    at, width = _location(sets[reference], reference)
    for name, images in sets.items():
        mean, std = _location(images, name)
        out[name] = [
            replace(p, mos=float(np.clip(at + (p.mos - mean) / std * width, 1, 5))) for p in images
        ]
    return out


def _location(images: Sequence[RatedImage], name: str) -> tuple[float, float]:
    mos = mos_of([p for p in images if p.split == "train"])
    if len(mos) < 2 or np.ptp(mos) == 0:
        raise ValueError(
            f"set {name!r}: {len(mos)} training scores that do not differ say nothing about its"
            " scale; give rated images"
        )
    return float(mos.mean()), float(mos.std())
