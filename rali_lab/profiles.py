"""Profiles: one frozen set of sizes and names per kind of machine; the code path is the same for
all.

>>> get_profile("tiny").name
'tiny'
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

Counts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Profile:
    """Sizes of everything that `make reproduce` does.

    Attributes
    ----------
    images
        images per generated domain and split.
    data_seed
        of their content, distortions and raters.
    base
        folder of the base model, made by `make base-small`; "" is the one in the package.
    grpo
        changes to `rali_lab.reasoner.grpo.GrpoSettings`;
    collapse
        further changes, for the run that goes wrong;
    sft
        changes to `rali_lab.reasoner.sft.SftSettings`, for the control;
    ract
        the same for RACT's third stage.
    rationale_samples
        rationales the teacher writes per training image.
    score_samples
        ratings averaged for a score.
    probe_images
        test images of each domain that the conditions of notebook 03 are tried on, for the recorded
        tables;
    live_probe_images
        in the notebook itself (`live`).
    state_samples
        answers whose hidden states are averaged in `pipeline.represent`.
    align, rali
        options of `rali_lab.rali.align.align` and `rali_lab.rali.scorer.RaliScorer`.
    real_limit
        images taken from a folder of human-rated ones, where present.
    n_boot
        bootstrap resamples.
    """

    name: str
    images: Counts
    data_seed: int = 0
    base: str = ""
    grpo: dict[str, Any] = field(default_factory=dict)
    collapse: dict[str, Any] = field(default_factory=dict)
    sft: dict[str, Any] = field(default_factory=dict)
    ract: dict[str, Any] = field(default_factory=dict)
    rationale_samples: int = 4
    score_samples: int = 8
    probe_images: int = 50
    live_probe_images: int = 20
    state_samples: int = 2
    align: dict[str, Any] = field(default_factory=dict)
    rali: dict[str, Any] = field(default_factory=dict)
    real_limit: int = 600
    n_boot: int = 1000

    @property
    def live(self) -> Profile:
        """The same with the sizes of what a notebook makes beside recorded tables: it shows, they
        decide.
        """
        return replace(self, probe_images=self.live_probe_images)


def _counts(train: int, val: int, test: int, out: int) -> Counts:
    others = ("authentic", "procedural", "novel", "generated")
    return {
        "photo": {"train": train, "val": val, "test": test},
        **{d: {"test": out} for d in others},
    }


GRPO = {
    "steps": 150,
    "images_per_step": 12,
    "learning_rate": 5e-4,
    "beta": 0.12,
    "closeness_width": 1.5,
    "closeness_weight": 2.0,
    "degradation_share": 0.3,
    "eval_every": 20,
}
COLLAPSE = {
    "steps": 30,
    "images_per_step": 8,
    "learning_rate": 2e-3,
    "beta": 0.0,
    "degradation_share": 0.0,
    "eval_every": 10,
    "min_format": 0.0,
    "min_spread": 0.0,
}
"""The run without leash: no KL, a hot learning rate, only the rating rewarded, the guard switched
off."""
RACT = {"steps": 60, "eval_every": 20}
"""Of the third stage; with more steps the scores of validation images get worse (docs/LOG.md)."""
ALIGN = {"epochs": 20, "lr": 2e-4, "jitter": 0.3}
RALI = {"n_components": 32, "n_bins": 40, "n_basis": 60, "tau": 0.25}
"""Far fewer bins and vectors than the paper's 240 and 250, which would be one vector for every
image or two; the temperature has the smallest squared error on validation images (docs/LOG.md)."""
TINY = _counts(360, 60, 100, 104)
FEW = {"steps": 120, "images_per_step": 6, "learning_rate": 1e-4, "eval_samples": 2}
"""What a CPU can do to the base of `small`, on the images of `tiny`; docs/BASE_MODEL.md says what
it took."""

PROFILES: dict[str, Profile] = {
    p.name: p
    for p in (
        Profile("tiny", TINY, grpo=GRPO, collapse=COLLAPSE, ract=RACT, align=ALIGN, rali=RALI),
        Profile(
            "small",
            _counts(2400, 200, 400, 400),
            base="models/small",
            grpo={**GRPO, "steps": 400, "images_per_step": 32},
            collapse=COLLAPSE,
            ract=RACT,
            align=ALIGN,
            rali={**RALI, "n_bins": 120, "n_basis": 160},
            n_boot=2000,
        ),
        Profile(
            "small_cpu",
            TINY,
            base="models/small",
            grpo={**GRPO, **FEW},
            collapse=COLLAPSE,
            ract=RACT,
            align=ALIGN,
            rali=RALI,
            rationale_samples=2,
            score_samples=2,
        ),
    )
}


def get_profile(name: str) -> Profile:
    """The profile of that name; ValueError listing the known ones otherwise."""
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}; known: {', '.join(PROFILES)}")
    return PROFILES[name]
