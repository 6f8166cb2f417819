"""Profiles: one frozen set of sizes and names per kind of machine; the code path is the same for all.

>>> get_profile("tiny").name
'tiny'
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Counts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Profile:
    """Sizes of everything that `make reproduce` does.

    Attributes
    ----------
    pictures : pictures per generated domain and split.
    base : folder of the base model; "" is the one in the package.
    grpo : changes to `rali_lab.reasoner.train.GrpoSettings`.
    rationale_samples : rationales the teacher writes per training picture. score_samples : ratings averaged for a score.
    align, rali : options of `rali_lab.rali.align.align` and `rali_lab.rali.scorer.RaliScorer`.
    real_limit : pictures taken from a folder of human-rated ones, where present.
    n_boot : bootstrap resamples.
    """

    name: str
    pictures: Counts
    base: str = ""
    grpo: dict[str, Any] = field(default_factory=dict)
    rationale_samples: int = 4
    score_samples: int = 8
    align: dict[str, Any] = field(default_factory=dict)
    rali: dict[str, Any] = field(default_factory=dict)
    real_limit: int = 600
    n_boot: int = 1000


def _counts(train: int, val: int, test: int, out: int) -> Counts:
    others = ("authentic", "procedural", "novel", "generated")
    return {"photo": {"train": train, "val": val, "test": test}, **{d: {"test": out} for d in others}}


PROFILES: dict[str, Profile] = {
    p.name: p
    for p in (
        Profile("tiny", _counts(360, 60, 100, 96)),
        Profile("small", _counts(2400, 200, 400, 400), grpo={"steps": 600, "pictures_per_step": 32}, n_boot=2000),
    )
}


def get_profile(name: str) -> Profile:
    """The profile of that name; ValueError listing the known ones otherwise."""
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}; known: {', '.join(PROFILES)}")
    return PROFILES[name]
