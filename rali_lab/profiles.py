"""Profiles: one frozen set of sizes and names per kind of machine; the code path is the same for
all.

>>> get_profile("tiny").name
'tiny'
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

Counts = dict[str, dict[str, int]]
"""Images by domain and split."""


@dataclass(frozen=True)
class ImageCounts:
    """Images of the RL domain by split, and test images of each other domain (`other`)."""

    train: int
    val: int
    test: int
    other: int

    def by_domain(self) -> Counts:
        """The same for every domain of `rali_lab.data.domains`."""
        from rali_lab.data.domains import DOMAINS

        splits = {"train": self.train, "val": self.val, "test": self.test}
        counts = {"in": splits, "out": {"test": self.other}}
        return {domain.name: counts[domain.role] for domain in DOMAINS.values()}


@dataclass(frozen=True)
class GrpoOptions:
    """What decides a GRPO run: fields of `rali_lab.reasoner.grpo.GrpoConfig`, which explains them.

    A question that is None is the one the tiny base model knows (`rali_lab.reasoner.prompts`).
    """

    max_steps: int = 100
    images_per_step: int = 16
    num_generations: int = 8
    learning_rate: float = 3e-4
    beta: float = 0.01
    epsilon: float = 0.2
    num_iterations: int = 1
    temperature: float = 1.0
    max_completion_length: int = 64
    score_threshold: float = 0.35
    closeness_width: float = 2.0
    closeness_weight: float = 1.0
    degradation_share: float = 0.2
    score_question: str | None = None
    degradation_question: str | None = None
    system: str | None = None
    prefill: str = ""
    lora: dict | None = None
    freeze_vision: bool = True
    eval_every: int = 10
    eval_samples: int = 4
    min_format: float = 0.9
    min_spread: float = 0.25
    patience: int = 30
    seed: int = 0
    trl_options: dict = field(default_factory=dict)


@dataclass(frozen=True)
class SftOptions:
    """What decides a supervised run: fields of `rali_lab.reasoner.sft.SftConfig`, which explains
    them.
    """

    max_steps: int = 150
    answers_per_step: int = 96
    learning_rate: float = 2e-4
    train_parts: str = "language"
    reasoning_only: bool = False
    max_completion_length: int = 64
    score_question: str | None = None
    system: str | None = None
    prefill: str = ""
    eval_every: int = 50
    eval_samples: int = 4
    min_format: float = 0.9
    min_spread: float = 0.25
    patience: int = 30
    keep_best: bool = False
    seed: int = 0
    trl_options: dict = field(default_factory=dict)


@dataclass(frozen=True)
class AlignOptions:
    """Keyword arguments of `rali_lab.rali.align.align`, which explains them."""

    epochs: int = 60
    lr: float = 1e-3
    batch_size: int = 256
    weight_decay: float = 1e-2
    jitter: float = 0.6


@dataclass(frozen=True)
class BasisOptions:
    """Keyword arguments of `rali_lab.rali.scorer.RaliScorer`, which explains them.

    Far fewer bins and basis vectors than the paper's 240 and 250, which would be one vector for
    every image or two; the temperature has the smallest squared error on validation images
    (docs/LOG.md).
    """

    n_components: int | None = 32
    n_bins: int = 40
    n_basis: int = 60
    tau: float = 0.25
    fine_tune_epochs: int = 30
    fine_tune_lr: float = 3e-3


@dataclass(frozen=True)
class Profile:
    """Sizes of everything that `make reproduce` does.

    Attributes
    ----------
    name : str
        How `--profile` calls it.
    counts : ImageCounts or dict
        How many images are generated; `images` gives them by domain and split.
    data_seed : int
        Of their content, distortions and simulated raters.
    base : str
        Folder of the base model, made by `make base-small`; "" is the one in the package.
    grpo, collapse : GrpoOptions
        The teacher's training, and the run that goes wrong.
    sft : SftOptions or None
        The supervised control; None: as many steps and answers as the teacher's run.
    ract : SftOptions
        RACT's third stage.
    rationale_samples, score_samples : int
        Rationales the teacher writes per training image; ratings averaged for a score.
    probe_images, live_probe_images : int
        Test images of each domain that the conditions of notebook 03 are tried on: for the
        recorded tables, and in the notebook itself (`live`).
    state_samples : int
        Answers whose hidden states are averaged in `experiments.represent`.
    align, rali : AlignOptions, BasisOptions
        How RALI is aligned and fitted.
    real_limit : int
        Images taken from a folder that people rated, where present.
    n_boot : int
        Bootstrap resamples.
    """

    name: str
    counts: ImageCounts | Counts
    data_seed: int = 0
    base: str = ""
    grpo: GrpoOptions = GrpoOptions()
    collapse: GrpoOptions = GrpoOptions()
    sft: SftOptions | None = None
    ract: SftOptions = SftOptions()
    rationale_samples: int = 4
    score_samples: int = 8
    probe_images: int = 50
    live_probe_images: int = 12
    state_samples: int = 2
    align: AlignOptions = AlignOptions()
    rali: BasisOptions = BasisOptions()
    real_limit: int = 600
    n_boot: int = 1000

    @cached_property
    def images(self) -> Counts:
        """Images per generated domain and split."""
        counts = self.counts
        return counts.by_domain() if isinstance(counts, ImageCounts) else counts

    @property
    def live(self) -> Profile:
        """The same with the sizes of what a notebook makes beside recorded tables: it shows, they
        decide.
        """
        return replace(self, probe_images=self.live_probe_images)


_TINY_GRPO = GrpoOptions(
    max_steps=150,
    images_per_step=12,
    learning_rate=5e-4,
    beta=0.12,
    closeness_width=1.5,
    closeness_weight=2.0,
    degradation_share=0.3,
    eval_every=20,
)


def _unconstrained(options: GrpoOptions) -> GrpoOptions:
    """The run that collapses: no KL, a high learning rate, no stop rule."""
    return replace(
        options,
        max_steps=30,
        images_per_step=8,
        learning_rate=2e-3,
        beta=0.0,
        degradation_share=0.0,
        eval_every=10,
        min_format=0.0,
        min_spread=0.0,
    )


_TINY = Profile(
    "tiny",
    ImageCounts(train=360, val=60, test=100, other=104),
    grpo=_TINY_GRPO,
    collapse=_unconstrained(_TINY_GRPO),
    ract=SftOptions(max_steps=60, eval_every=20),  # more raise the validation error (docs/LOG.md)
    align=AlignOptions(epochs=20, lr=2e-4, jitter=0.3),
)
_SMALL_GRPO = replace(_TINY_GRPO, max_steps=400, images_per_step=32)
_CPU_GRPO = replace(
    _TINY_GRPO, max_steps=120, images_per_step=6, learning_rate=1e-4, eval_samples=2
)
"""What a CPU can do to the base of `small` (docs/BASE_MODEL.md)."""

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        _TINY,
        replace(
            _TINY,
            name="small",
            counts=ImageCounts(train=2400, val=200, test=400, other=400),
            base="models/small",
            grpo=_SMALL_GRPO,
            collapse=_unconstrained(_SMALL_GRPO),
            rali=BasisOptions(n_bins=120, n_basis=160),
            n_boot=2000,
        ),
        replace(
            _TINY,
            name="small_cpu",
            base="models/small",
            grpo=_CPU_GRPO,
            collapse=_unconstrained(_CPU_GRPO),
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
