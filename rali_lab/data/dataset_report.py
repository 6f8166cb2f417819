"""Is this data set fit to train or to test on?

Everything that can be found out before, in one report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from rali_lab.data.datasets import Dataset, cut_message, find_dataset
from rali_lab.data.images import ImageError, PathLike
from rali_lab.data.ratings import Rated
from rali_lab.data.records import SPLITS, RatedImage, mos_of
from rali_lab.data.validation import Problem, Report, validate
from rali_lab.evaluate.correlation import Correlation, correlate

MAX_SCORED = 100
"""Images scored for the sign, spread evenly over the set."""
MIN_SCORED = 10
"""Below this number the sign is not looked at."""
MIN_SIDE = 32
"""Smaller images are none for the scorer."""
CHUNK = 8
"""Images in memory while they are scored."""


class Scorer(Protocol):
    """Anything that scores images, (n,) numbers for n arrays (H, W, 3) uint8, higher for a better
    one.
    """

    def predict(self, images: list[np.ndarray], /) -> np.ndarray: ...


@dataclass(frozen=True)
class DatasetReport:
    """The outcome of `check_dataset`; prints as a table.

    Attributes
    ----------
    dataset, rated
        what was found on disk, and what was read of it.
    report
        of `validate`, with the problem of kind "sign" if there is one.
    sign
        rank correlation of the scores (mapped, higher is better) with those of the bundled scorer,
        or in words why there is none.
    """

    dataset: Dataset
    rated: Rated
    report: Report
    sign: Correlation | str

    @property
    def ok(self) -> bool:
        """True when nothing was found."""
        return self.report.ok

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        found, scale, mos = self.dataset, self.rated.scale, mos_of(self.rated.images)
        counts = Counter(p.split for p in self.rated.images)
        kinds = Counter({problem.kind: 0 for problem in self.report.problems})
        for problem in self.report.problems:
            kinds[problem.kind] += len(problem.ids)
        n_bad = kinds["missing"] + kinds["unreadable"]
        return {
            "layout": found.layout.name,
            "description": found.layout.description,
            "labels": [str(file) for file in found.files],
            "images": str(found.image_dir),
            "column": found.columns.score,
            "scale": {
                "low": scale.low,
                "high": scale.high,
                "higher_is_better": scale.higher_is_better,
                "ends": self._ends(),
            },
            "raw": [min(self.rated.raw), max(self.rated.raw)],
            "mos": [float(mos.min()), float(mos.max())],
            "cut": self.rated.n_cut,
            "counts": {split: counts[split] for split in SPLITS},
            "files": {
                "readable": len(mos) - n_bad,
                "missing": kinds["missing"],
                "unreadable": kinds["unreadable"],
            },
            "sign": (
                {"skipped": self.sign}
                if isinstance(self.sign, str)
                else {
                    "srcc": self.sign.value,
                    "ci_low": self.sign.ci_low,
                    "ci_high": self.sign.ci_high,
                    "n": self.sign.n,
                }
            ),
            "problems": [
                {"kind": p.kind, "message": p.message, "ids": list(p.ids)}
                for p in self.report.problems
            ],
            "ok": self.ok,
        }

    def __str__(self) -> str:
        row, found = self.to_dict(), self.dataset
        labels = f"{found.files[0]}" + (
            f" and {len(found.files) - 1} more" if len(found.files) > 1 else ""
        )
        sign = (
            f"skipped: {self.sign}"
            if isinstance(self.sign, str)
            else f"{self.sign} with the bundled scorer"
        )
        lines = {
            "layout": f"{found.layout.name}: {found.layout.description}",
            "label file": labels,
            "images": (
                f"{found.image_dir}: "
                + ", ".join(f"{n} {kind}" for kind, n in row["files"].items())
            ),
            "score": (
                f"column {found.columns.score}, scale {self.rated.scale} ({row['scale']['ends']})"
            ),
            "range": (
                "{:g}..{:g} in the file, ".format(*row["raw"])
                + "{:.2f}..{:.2f} on 1..5".format(*row["mos"])
            ),
            "split": (
                f"column {self.rated.columns.split}"
                if self.rated.columns.split
                else "by source and seed, the labels have none"
            ),
            "sign": sign,
        }
        if self.rated.n_cut:
            lines["note"] = cut_message(self.rated)
        return "\n".join(
            [*(f"{name:<12}{text}" for name, text in lines.items()), "", str(self.report)]
        )

    def _ends(self) -> str:
        layout = self.dataset.layout
        if self.dataset.declared:
            return "declared by the caller"
        return {
            "declared": "declared by the layout",
            "default": "by default",
            "training": "found on the training part",
        }[layout.ends_from]


def check_dataset(
    path: PathLike,
    *,
    layout: str | None = None,
    image_dir: PathLike | None = None,
    mos_range: tuple[float, float] | None = None,
    higher_is_better: bool | None = None,
    scorer: Callable[[], Scorer] | None = None,
    seed: int = 0,
    fractions: Sequence[float] = (0.7, 0.1, 0.2),
) -> DatasetReport:
    """Read a data set as `rali_lab.data.datasets.read_dataset` would, and look for what makes it
    unfit.

    Found are the problems of `validate` (missing and unreadable files, duplicates, leaks between
    splits by image and by source, impossible scores), and scores that run the wrong way: their
    Spearman correlation with those of `scorer` on at most 100 readable images is below 0 with its
    whole 95 % interval, in which sources are resampled. A scorer that knows nothing of the kind of
    image finds no sign; an interval with 0 inside is no proof that the direction is right.

    Cost: every image is decoded once, and up to 100 are scored, about 0.1 s each by the bundled
    scorer.

    Parameters
    ----------
    scorer
        gives the scorer to compare with, such as `rali_lab.rali.scorer.load_scorer`; it is called
        when the scores are needed. None: the direction is not looked at.

    Raises
    ------
    FileNotFoundError, ValueError : as `read_dataset`; missing images are problems of the report
    instead.
    """
    found = find_dataset(
        path,
        layout=layout,
        image_dir=image_dir,
        mos_range=mos_range,
        higher_is_better=higher_is_better,
    )
    rated = found.read(seed=seed, fractions=fractions, missing="report")
    report = validate(rated.images)
    unusable = {
        id
        for problem in report.problems
        if problem.kind in ("missing", "unreadable")
        for id in problem.ids
    }
    sign = agreement_with_scorer([p for p in rated.images if p.id not in unusable], scorer)
    if isinstance(sign, Correlation) and sign.ci_high < 0:
        report = replace(
            report, problems=(*report.problems, _wrong_way(sign, rated.scale.higher_is_better))
        )
    return DatasetReport(found, rated, report, sign)


def _wrong_way(sign: Correlation, higher_is_better: bool) -> Problem:
    looks = (
        "lower were better: pass --dmos"
        if higher_is_better
        else "higher were better, yet they are flipped: leave out --dmos"
    )
    option = "" if higher_is_better else " (higher_is_better=True)"
    return Problem("sign", f"scores look as if {looks}{option}; {sign} with the bundled scorer", ())


def agreement_with_scorer(
    images: Sequence[RatedImage], scorer: Callable[[], Scorer] | None
) -> Correlation | str:
    """Rank correlation of the scores with those of a scorer, on at most 100 images, or why there is
    none.
    """
    if scorer is None:
        return "no scorer was given to compare with"
    if len(images) < MIN_SCORED:
        return f"{len(images)} readable images, expected at least {MIN_SCORED}"
    chosen = [
        images[i]
        for i in np.unique(np.linspace(0, len(images) - 1, MAX_SCORED).round().astype(int))
    ]
    try:
        known = scorer()
        score = np.concatenate(
            [_scores(known, chosen[i : i + CHUNK]) for i in range(0, len(chosen), CHUNK)]
        )
        kept = [p for p, value in zip(chosen, score, strict=True) if np.isfinite(value)]
        if len(kept) < MIN_SCORED:
            return (
                f"{len(kept)} images of at least {MIN_SIDE} px among {len(chosen)}, expected"
                f" {MIN_SCORED}"
            )
        return correlate(
            score[np.isfinite(score)], mos_of(kept), kind="srcc", groups=[p.source for p in kept]
        )
    except ImportError as error:
        return f"the scorer needs {error.name}, which is not installed"
    except (FileNotFoundError, ValueError) as error:  # no scorer, or scores without any spread
        return str(error)


def _scores(scorer: Scorer, images: Sequence[RatedImage]) -> np.ndarray:
    """Scores (n,), NaN for an image that is too small, or that went away since it was checked."""
    scores, shown = np.full(len(images), np.nan), {}
    for i, image in enumerate(images):
        try:
            pixels = image.pixels()
        except ImageError:
            continue
        if min(pixels.shape[:2]) >= MIN_SIDE:
            shown[i] = pixels
    if shown:
        scores[list(shown)] = scorer.predict(list(shown.values()))
    return scores
