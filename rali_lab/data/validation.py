"""What is wrong with a set of rated images: found before training, and never repaired in silence."""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rali_lab.data.images import ImageError
from rali_lab.data.records import SPLITS, RatedImage

Size = tuple[int, int]


@dataclass(frozen=True)
class Problem:
    """One finding: its `kind`, what it is in words, and the ids of the images concerned."""

    kind: str
    message: str
    ids: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


@dataclass(frozen=True)
class DomainSummary:
    """One row of the report: how many images per split, the range of their scores and of their
    sizes.

    `mos` is (lowest, highest) over the finite scores, None if there are none; `smallest` and
    `largest` are (width, height) by number of pixels, None if no image could be read.
    """

    domain: str
    counts: tuple[int, ...]
    unrated: int
    mos: tuple[float, float] | None
    smallest: Size | None
    largest: Size | None

    def cells(self) -> tuple[str, ...]:
        mos = "-" if self.mos is None else "{:.2f}..{:.2f}".format(*self.mos)
        sizes = (
            "-" if self.smallest is None else "{}x{}..{}x{}".format(*self.smallest, *self.largest)
        )
        return (self.domain, *map(str, self.counts), str(self.unrated), mos, sizes)


@dataclass(frozen=True)
class Report:
    """The outcome of `validate`: a summary per domain and every problem found; prints as a table."""

    domains: tuple[DomainSummary, ...]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """True when nothing was found."""
        return not self.problems

    def raise_if_bad(self) -> None:
        """Raises ValueError with all problems, one a line, unless there are none."""
        if self.problems:
            lines = "\n".join(f"  {problem}" for problem in self.problems)
            raise ValueError(
                f"{len(self.problems)} problems; correct the table or the files:\n{lines}"
            )

    def __str__(self) -> str:
        header = ("domain", *SPLITS, "unrated", "mos", "size (pixels)")
        table = [header, *(summary.cells() for summary in self.domains)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]
        verdict = "no problems found" if self.ok else f"{len(self.problems)} problems found"
        return "\n".join([*lines, verdict, *(f"  {problem}" for problem in self.problems)])


def validate(images: Iterable[RatedImage]) -> Report:
    """Look for everything that makes a score table lie: repeated, divided, unreadable or unscorable
    images.

    Found are: an id used twice; a source in more than one split, over all domains; equal pixels in
    more than one split, over all domains, or with differing scores within one domain (two domains
    may rate the same image differently, that is what annotation bias is); a duplicate, equal pixels
    twice in one split of one domain with the same score; a score that is NaN or outside 1..5; a
    standard deviation that is NaN, infinite or negative; missing files, counted together; a file
    that cannot be read. Images without a score are counted, not blamed. Equal means equal in every
    decoded pixel: a re-encoded or resized copy is not found.

    Cost: every image is decoded once, one at a time (about 5 ms for 500x500 pixels), and 32 bytes
    are kept.

    Examples
    --------
    >>> grey = np.full((20, 20, 3), 128, np.uint8)
    >>> a = RatedImage(id="a", domain="d", source="s", split="train", mos=3.0, array=grey)
    >>> b = RatedImage(id="b", domain="d", source="s", split="test", mos=3.0, array=grey)
    >>> print(validate([a, b]))
    domain  train  val  test  unrated  mos         size (pixels)
    d       1      0    1     0        3.00..3.00  20x20..20x20
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
    names = list(dict.fromkeys(p.domain for p in images))
    return Report(tuple(_summary(name, images, sizes) for name in names), tuple(problems))


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
            pixels = np.ascontiguousarray(image.pixels())
            size = (pixels.shape[1], pixels.shape[0])
            digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()
        except ImageError as error:
            if image.path is not None and not os.path.exists(image.path):
                missing.append(image)
            else:
                problems.append(Problem("unreadable", str(error), (image.id,)))
        sizes.append(size)
        digests.append(digest)
    if missing:
        problems.insert(
            0, _problem("missing", f"{len(missing)} of {len(images)} images have no file", missing)
        )
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
                yield _problem(
                    "duplicate",
                    f"equal pixels {len(rated)} times in split {splits[0]} of {domain!r}",
                    rated,
                )


def _bad_scores(images: Sequence[RatedImage]) -> Iterator[Problem]:
    for p in images:
        if p.mos is not None and not 1 <= p.mos <= 5:
            yield Problem("bad score", f"{p.id!r} has mos {p.mos}, expected 1..5", (p.id,))
        if p.std is not None and not (math.isfinite(p.std) and p.std >= 0):
            yield Problem("bad score", f"{p.id!r} has std {p.std}, expected a number >= 0", (p.id,))


def _summary(
    domain: str, images: Sequence[RatedImage], sizes: Sequence[Size | None]
) -> DomainSummary:
    rows = [(p, size) for p, size in zip(images, sizes, strict=True) if p.domain == domain]
    splits = Counter(p.split for p, _ in rows)
    scores = [p.mos for p, _ in rows if _finite(p.mos)]
    readable = sorted(
        (size for _, size in rows if size), key=lambda size: (size[0] * size[1], size)
    )
    return DomainSummary(
        domain=domain,
        counts=tuple(splits[name] for name in SPLITS),
        unrated=sum(p.mos is None for p, _ in rows),
        mos=(min(scores), max(scores)) if scores else None,
        smallest=readable[0] if readable else None,
        largest=readable[-1] if readable else None,
    )


def _groups(images: Sequence[RatedImage], keys: Sequence) -> dict:
    """Images by key, in order of appearance; those with the key None are left out."""
    groups = defaultdict(list)
    for image, key in zip(images, keys, strict=True):
        if key is not None:
            groups[key].append(image)
    return groups


def _problem(kind: str, message: str, group: Sequence[RatedImage], limit: int = 5) -> Problem:
    ids = tuple(p.id for p in group)
    more = f" and {len(ids) - limit} more" if len(ids) > limit else ""
    return Problem(kind, f"{message} ({', '.join(ids[:limit])}{more})", ids)


def _finite(mos: float | None) -> bool:
    return mos is not None and math.isfinite(mos)
