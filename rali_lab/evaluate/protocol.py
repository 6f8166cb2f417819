"""What a number means, and the guard against testing on images that were trained on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class LeakageError(ValueError):
    """An image, or another version of its source, is in both training and test."""


@dataclass(frozen=True)
class Protocol:
    """How scores were compared with opinions; printed under every table.

    Most disagreements between published tables of this field sit in one of these lines, not in the
    models.

    Attributes
    ----------
    split
        Which images are scored.
    label
        The label column and its scale.
    higher_is_better
        Sign of the label (DMOS is usually False; flip it when reading, not here).
    score_range
        Lowest and highest answer that counts as a score; others are missing.
    fit
        What is fitted between score and label before PLCC: "none", "logistic4" or "isotonic_cv".
    clustered_by
        What the bootstrap resamples.
    n_boot, level
        Resamples and coverage of the intervals.
    missing
        What happens to an image without a score.

    Examples
    --------
    >>> print(Protocol(split="test", label="pseudo-MOS, 1-5"))  # doctest: +NORMALIZE_WHITESPACE
    Protocol: test split; label pseudo-MOS, 1-5 (higher is better), scores in 1-5; PLCC raw,
    nothing fitted; 95 % percentile bootstrap, 1000 resamples of source; unparsable answers left
    out and counted.
    """

    split: str = "test"
    label: str = "MOS"
    higher_is_better: bool = True
    score_range: tuple[float, float] = (1.0, 5.0)
    fit: str = "none"
    clustered_by: str = "source"
    n_boot: int = 1000
    level: float = 0.95
    missing: str = "left out and counted"

    def __post_init__(self) -> None:
        if self.fit not in ("none", "logistic4", "isotonic_cv"):
            raise ValueError(
                f"fit={self.fit!r} is not known; choose 'none', 'logistic4' or 'isotonic_cv'"
            )
        low, high = self.score_range
        if not low < high:
            raise ValueError(
                f"score_range={self.score_range} is empty; expected (low, high) with low < high"
            )

    def __str__(self) -> str:
        fit = "PLCC raw, nothing fitted" if self.fit == "none" else f"PLCC after {self.fit}"
        sign = "higher" if self.higher_is_better else "lower"
        return (
            f"Protocol: {self.split} split; label {self.label} ({sign} is better), scores in"
            f" {self.score_range[0]:g}-{self.score_range[1]:g}; {fit}; {100 * self.level:g} %"
            f" percentile bootstrap, {self.n_boot} resamples of {self.clustered_by}; unparsable"
            f" answers {self.missing}."
        )


def assert_disjoint(train_images: Iterable, test_images: Iterable, *, show: int = 3) -> None:
    """Raise when a test image, or another version of its source, was trained on.

    Splitting versions of one photograph over both sides lets a model recognise content instead of
    judging quality; KADID, TID2013 and CSIQ must therefore be split by reference image.

    Parameters
    ----------
    train_images, test_images
        Iterables of images with ``id`` and ``source``.
    show
        Offenders named in the message.

    Raises
    ------
    LeakageError
        Naming the first shared ids, else the first test images whose source was trained on.
    """
    train = list(train_images)
    ids, sources = {image.id for image in train}, {image.source for image in train}
    test = list(test_images)
    shared = {
        "id": [p.id for p in test if p.id in ids],
        "source": [f"{p.id} (source {p.source})" for p in test if p.source in sources],
    }
    for what, found in shared.items():
        if found:
            more = f" and {len(found) - show} more" if len(found) > show else ""
            raise LeakageError(
                f"{len(found)} of {len(test)} test images share their {what} with training,"
                f" expected 0: {', '.join(found[:show])}{more}; split by source, then by image"
            )
