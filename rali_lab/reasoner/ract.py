"""RACT: several data sets at once, through words that all of them share (arXiv 2510.11369; the
three stages as we read them).

Data sets disagree about what a score means, and a model that is trained on their scores together
has to learn the disagreement. RACT (Reasoning-Aligned Cross-domain Training) never mixes scores:

1. one reasoner for each set, trained on that set's scores alone
   (`rali_lab.reasoner.grpo.train_grpo`);
2. each reasoner writes about its own set, and only the words are kept (`text_labels`);
3. the vision side of one of the reasoners learns to see what all the words say
   (`rali_lab.reasoner.sft.train_sft` with ``train="vision", reasoning_only=True``). Its language
   module, which turns words into scores on its own set's scale, is not touched.

What RACT is compared with needs no more than other scores: as they are (naive mixing), or rescaled
set by set (`rescale`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from rali_lab.data.records import RatedImage, mos_of


def text_labels(answers: pd.DataFrame) -> pd.DataFrame:
    """The reasoning of the well-formed answers in `answers` (of `write_rationales`), without the
    rating behind it.

    Returns
    -------
    Columns image, sample, text. ValueError naming the first image that would be left without a
    label.

    >>> row = {"image": "a", "sample": 0, "text": "", "reasoning": "Serious blur.", "rating": 2.0, "status": "ok"}
    >>> text_labels(pd.DataFrame([row]))["text"].tolist()
    ['<think>Serious blur.</think>']
    """
    kept = answers[(answers["status"] == "ok") & (answers["reasoning"] != "")]
    if lost := sorted(set(answers["image"]) - set(kept["image"])):
        raise ValueError(
            f"{len(lost)} images have no readable reasoning, {lost[0]} first; let their reasoner"
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

    Fitted on the training images of each set, applied to all of its images, and cut at 1 and 5.

    Raises
    ------
    ValueError
        When the training scores of a set do not differ.

    >>> one = [RatedImage(str(i), "a", str(i), "train", mos=m, array=np.zeros((1, 1, 3), np.uint8)) for i, m in enumerate([2.0, 4.0])]
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
