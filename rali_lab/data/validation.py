"""What is wrong with a set of rated images: found before training, and never repaired in silence.

`validate` checks any list of images. `check_dataset` reads a set from disk, checks its images, and
compares the direction of its scores with that of a scorer.
"""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from rali_lab.data.datasets import Dataset, find_dataset
from rali_lab.data.images import ImageError, PathLike
from rali_lab.data.ratings import FRACTIONS, RatedTable, shorten
from rali_lab.data.records import SPLITS, RatedImage, mos_of, pixel_digest
from rali_lab.data.score_direction import Scorer, agreement_with_scorer
from rali_lab.estimate import Estimate

Size = tuple[int, int]

ENDS_FROM = {
    "declared": "declared by the layout",
    "default": "by default",
    "training": "found on the training part",
}


@dataclass(frozen=True)
class Problem:
    """One finding: its `kind`, what it is in words, and the ids of the images concerned."""

    kind: str
    message: str
    ids: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


@dataclass(frozen=True, eq=False)
class Report:
    """The outcome of `validate`; prints as a table and a list of problems.

    Attributes
    ----------
    domains
        A row per domain: images of each split, images without a score, lowest and highest score,
        and smallest and largest size (width x height, by number of pixels).
    problems
        Everything that was found.
    """

    domains: pd.DataFrame
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """True when nothing was found."""
        return not self.problems

    def raise_if_bad(self) -> None:
        """Raise ValueError with all problems, one a line, unless there are none."""
        if self.problems:
            lines = "\n".join(f"  {problem}" for problem in self.problems)
            raise ValueError(
                f"{len(self.problems)} problems; correct the table or the files:\n{lines}"
            )

    def __str__(self) -> str:
        rows = self.domains.reset_index()
        table = rows.to_string(index=False) if len(rows) else "no images"
        verdict = "no problems found" if self.ok else f"{len(self.problems)} problems found"
        return "\n".join([table, verdict, *(f"  {problem}" for problem in self.problems)])


@dataclass(frozen=True, eq=False)
class DatasetReport(Report):
    """The outcome of `check_dataset`; prints as text.

    Attributes
    ----------
    dataset
        What was found on disk.
    rated
        What was read of it.
    sign
        Rank correlation of the scores (mapped, higher is better) with those of the scorer, or the
        reason why there is none. If it is negative, `problems` has one of kind "sign".
    """

    dataset: Dataset
    rated: RatedTable
    sign: Estimate | str

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        found, rated, sign = self.dataset, self.rated, self.sign
        mos, splits = mos_of(rated.images), Counter(p.split for p in rated.images)
        n_bad = Counter(problem.kind for problem in self.problems for _ in problem.ids)
        ends = "declared by the caller" if found.declared else ENDS_FROM[found.layout.ends_from]
        return {
            "layout": found.layout.name,
            "description": found.layout.description,
            "labels": [str(file) for file in found.files],
            "images": str(found.image_dir),
            "column": found.columns.score,
            "scale": asdict(rated.scale) | {"ends": ends},
            "raw": [min(rated.raw), max(rated.raw)],
            "mos": [float(mos.min()), float(mos.max())],
            "cut": rated.n_cut,
            "counts": {split: splits[split] for split in SPLITS},
            "files": {
                "readable": len(mos) - n_bad["missing"] - n_bad["unreadable"],
                "missing": n_bad["missing"],
                "unreadable": n_bad["unreadable"],
            },
            "sign": (
                {"skipped": sign}
                if isinstance(sign, str)
                else {"srcc": sign.value} | {k: vars(sign)[k] for k in ("ci_low", "ci_high", "n")}
            ),
            "problems": [asdict(p) | {"ids": list(p.ids)} for p in self.problems],
            "ok": self.ok,
        }

    def __str__(self) -> str:
        row, found, rated, sign = self.to_dict(), self.dataset, self.rated, self.sign
        files = ", ".join(f"{n} {kind}" for kind, n in row["files"].items())
        raw, mos = "{:g}..{:g}".format(*row["raw"]), "{:.2f}..{:.2f}".format(*row["mos"])
        lines = {
            "layout": f"{found.layout.name}: {found.layout.description}",
            "label file": shorten(row["labels"], 1),
            "images": f"{found.image_dir}: {files}",
            "score": f"column {row['column']}, scale {rated.scale} ({row['scale']['ends']})",
            "range": f"{raw} in the file, {mos} on 1..5",
            "split": (
                f"column {rated.columns.split}"
                if rated.columns.split
                else "by source and seed, the labels have none"
            ),
            "sign": (
                f"skipped: {sign}" if isinstance(sign, str) else f"{sign} with the bundled scorer"
            ),
        }
        if rated.n_cut:
            lines["note"] = rated.cut_message
        text = [f"{name:<12}{line}" for name, line in lines.items()]
        return "\n".join([*text, "", super().__str__()])


def check_dataset(
    path: PathLike,
    *,
    scorer: Callable[[], Scorer] | None = None,
    seed: int = 0,
    fractions: Sequence[float] = FRACTIONS,
    **options: Any,
) -> DatasetReport:
    """Read a data set as `rali_lab.data.datasets.read_dataset` would, and check it.

    Found are the problems of `validate`, and scores that run the wrong way: their Spearman
    correlation with those of `scorer` on at most 100 readable images is below 0 with its whole 95 %
    interval, in which sources are resampled. A scorer that knows nothing of the kind of image finds
    no sign; an interval with 0 inside is no proof that the direction is right.

    Cost: every image is decoded once, and up to 100 are scored, about 0.1 s each by the bundled
    scorer.

    Parameters
    ----------
    path
        Folder or table of the set.
    scorer
        Returns the scorer to compare with, such as `rali_lab.rali.scorer.load_scorer`; it is called
        when the scores are needed. None: the direction is not checked.
    seed, fractions
        As `read_dataset`.
    **options
        The other arguments of `rali_lab.data.datasets.find_dataset`.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_dataset`; missing images are problems of the report instead.
    """
    found = find_dataset(path, **options)
    rated = found.read(seed=seed, fractions=fractions, missing="report")
    report = validate(rated.images)
    unusable = {i for p in report.problems if p.kind in ("missing", "unreadable") for i in p.ids}
    sign = agreement_with_scorer([p for p in rated.images if p.id not in unusable], scorer)
    wrong = []
    if not isinstance(sign, str) and sign.ci_high < 0:
        advice = (
            "lower were better: pass --dmos"
            if rated.scale.higher_is_better
            else "higher were better, yet they are flipped: leave out --dmos"
            " (higher_is_better=True)"
        )
        wrong = [Problem("sign", f"scores look as if {advice}; {sign} with the bundled scorer")]
    return DatasetReport(report.domains, (*report.problems, *wrong), found, rated, sign)


def validate(images: Iterable[RatedImage]) -> Report:
    """Search images for all that would make a result wrong: repeats, leaks, bad files and scores.

    Found are: an id used twice; a source in more than one split, over all domains; equal pixels in
    more than one split, over all domains, or with differing scores within one domain (two domains
    may rate the same image differently, that is what annotation bias is); a duplicate, equal pixels
    twice in one split of one domain with the same score; a score that is NaN or outside 1..5; a
    standard deviation that is NaN, infinite or negative; missing files, counted together; a file
    that cannot be read. Images without a score are counted, but no problem. Equal means equal in
    every decoded pixel: a re-encoded or resized copy is not found.

    Cost: every image is decoded once, one at a time (about 5 ms for 500x500 pixels), and 32 bytes
    are kept.

    >>> import numpy as np
    >>> grey = np.full((20, 20, 3), 128, np.uint8)
    >>> a = RatedImage(id="a", domain="d", source="s", split="train", mos=3.0, array=grey)
    >>> b = RatedImage(id="b", domain="d", source="s", split="test", mos=3.0, array=grey)
    >>> print(validate([a, b]))
    domain  train  val  test  unrated        mos size (pixels)
         d      1    0     1        0 3.00..3.00  20x20..20x20
    2 problems found
      divided source: 's' is in splits test, train (a, b)
      equal pixels: in splits test, train (a, b)
    """
    images = list(images)
    sizes, digests, unreadable = _read_all(images)
    problems = [
        *_duplicate_ids(images),
        *_divided_sources(images),
        *_equal_pixels(images, digests),
        *_bad_scores(images),
        *unreadable,
    ]
    return Report(_summary(images, sizes), tuple(problems))


def _read_all(
    images: Sequence[RatedImage],
) -> tuple[list[Size | None], list[bytes | None], list[Problem]]:
    """Sizes and pixel hashes, None where an image cannot be read, and the problems: one for all
    missing files, one for each other.
    """
    sizes, digests, problems, missing = [], [], [], []
    for image in images:
        size = digest = None
        try:
            pixels = image.pixels()
            size = (pixels.shape[1], pixels.shape[0])
            digest = pixel_digest(pixels)
        except ImageError as error:
            if image.path is not None and not os.path.exists(image.path):
                missing.append(image)
            else:
                problems.append(Problem("unreadable", str(error), (image.id,)))
        sizes.append(size)
        digests.append(digest)
    if missing:
        message = f"{len(missing)} of {len(images)} images have no file"
        problems.insert(0, _problem("missing", message, missing))
    return sizes, digests, problems


def _duplicate_ids(images: Sequence[RatedImage]) -> Iterator[Problem]:
    for name, count in Counter(p.id for p in images).items():
        if count > 1:
            yield Problem("duplicate id", f"{name!r} is used {count} times", (name,))


def _divided_sources(images: Sequence[RatedImage]) -> Iterator[Problem]:
    for source, group in _groups(images, [p.source for p in images]).items():
        splits = sorted({p.split for p in group})
        if len(splits) > 1:
            yield _problem("divided source", f"{source!r} is in splits {', '.join(splits)}", group)


def _equal_pixels(
    images: Sequence[RatedImage], digests: Sequence[bytes | None]
) -> Iterator[Problem]:
    for group in _groups(images, digests).values():
        splits = sorted({p.split for p in group})
        if len(splits) > 1:
            yield _problem("equal pixels", f"in splits {', '.join(splits)}", group)
        for domain, rated in _groups(group, [p.domain for p in group]).items():
            scores = sorted({p.mos for p in rated if _finite(p.mos)})
            if len(scores) > 1:
                values = ", ".join(f"{score:.3f}" for score in scores)
                yield _problem("equal pixels", f"differing scores {values} in {domain!r}", rated)
            elif len(rated) > 1 and len(splits) == 1:
                message = f"equal pixels {len(rated)} times in split {splits[0]} of {domain!r}"
                yield _problem("duplicate", message, rated)


def _bad_scores(images: Sequence[RatedImage]) -> Iterator[Problem]:
    for p in images:
        if p.mos is not None and not 1 <= p.mos <= 5:
            yield Problem("bad score", f"{p.id!r} has mos {p.mos}, expected 1..5", (p.id,))
        if p.std is not None and not (math.isfinite(p.std) and p.std >= 0):
            yield Problem("bad score", f"{p.id!r} has std {p.std}, expected a number >= 0", (p.id,))


def _summary(images: Sequence[RatedImage], sizes: Sequence[Size | None]) -> pd.DataFrame:
    rows, pairs = {}, list(zip(images, sizes, strict=True))
    for domain, group in _groups(pairs, [p.domain for p in images]).items():
        splits = Counter(p.split for p, _ in group)
        mos = [p.mos for p, _ in group if _finite(p.mos)]
        read = sorted((size for _, size in group if size), key=lambda s: (s[0] * s[1], s))
        rows[domain] = [
            *(splits[name] for name in SPLITS),
            sum(p.mos is None for p, _ in group),
            f"{min(mos):.2f}..{max(mos):.2f}" if mos else "-",
            "{}x{}..{}x{}".format(*read[0], *read[-1]) if read else "-",
        ]
    columns = [*SPLITS, "unrated", "mos", "size (pixels)"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("domain")


def _groups(items: Sequence, keys: Sequence) -> dict:
    """Items by key, in order of appearance; those with the key None are left out."""
    groups = defaultdict(list)
    for item, key in zip(items, keys, strict=True):
        if key is not None:
            groups[key].append(item)
    return groups


def _problem(kind: str, message: str, group: Sequence[RatedImage]) -> Problem:
    ids = tuple(p.id for p in group)
    return Problem(kind, f"{message} ({shorten(ids)})", ids)


def _finite(mos: float | None) -> bool:
    return mos is not None and math.isfinite(mos)
