"""The gap between domains, raw and at equal score, with its null, its interval and its floor.

Domains differ in quality as well as in content. A raw gap mixes both; matched on the score, content
is left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rali_lab.analysis.decode import permuted_labels
from rali_lab.analysis.folds import half, interval
from rali_lab.analysis.gaps import Gap, frechet_gap, knn_mixing_gap, mmd_gap, silhouette_gap
from rali_lab.analysis.inputs import codes, joint, matrix, vector
from rali_lab.analysis.proxy_a import proxy_a_gap
from rali_lab.analysis.significance import null_fields
from rali_lab.estimate import Estimate

GAPS: dict[str, Callable[..., Gap]] = {
    "mmd": mmd_gap,
    "frechet": frechet_gap,
    "proxy_a": proxy_a_gap,
    "silhouette": silhouette_gap,
    "knn_mixing": knn_mixing_gap,
}
# Matched rows that a domain needs for a pair to count; a third of it inside a half-sample.
_MIN_ROWS = 20
_MATCHES = 10  # random matchings averaged for the value


def domain_gap(
    X,
    domains,
    *,
    measure: str = "mmd",
    scores=None,
    groups=None,
    n_bins: int = 5,
    n_permutations: int = 200,
    n_boot: int = 0,
    n_floor: int = 10,
    level: float = 0.95,
    random_state: int = 0,
    **options,
) -> Estimate:
    """How far the domains of ``X`` lie apart, mean over pairs of domains; with ``scores``, at equal
    score.

    Parameters
    ----------
    X
        (n, d) array.
    domains
        (n,) labels, two or more, 20 rows each.
    measure
        "mmd", "frechet" (in units of the total variance), "proxy_a", "silhouette" or "knn_mixing";
        meaning and ends in the functions of these names. All grow with the gap but "knn_mixing",
        which falls from 1 to 0.
    scores
        (n,) numbers, such as MOS. The pooled scores are cut at their quantiles into ``n_bins``
        bins; for each pair of domains, equally many rows of both are drawn from every bin
        (coarsened exact matching), so both have the same score histogram. The value is the mean of
        10 such draws. What differs *within* a bin remains: more bins, less of it, fewer rows.
    groups
        (n,) source labels. Whole sources are permuted, held out, and drawn for the interval and the
        floor.
    n_bins
        Score bins of equal count for matching.
    n_permutations
        Null: domain labels permuted over sources, with ``scores`` inside each bin; permutations
        that leave a domain under 6 rows, as happens where sources differ in size, are drawn again.
    n_boot
        Half-samples of the sources of each domain for the interval (see `significance`).
    n_floor
        Random splits of each domain into two halves; their mean gap is the ``floor``: what the
        measure gives where there is no gap. Halves have half the rows, so it is a little high for
        "frechet", which falls with n.
    level, random_state, **options
        Coverage; seed; ``k``, ``shrink``, ``ridge``, ``n_folds`` of the measure.

    Returns
    -------
    Estimate
        ``notes`` say which share of the rows was matched and which pairs had too few rows to count.

    Raises
    ------
    ValueError
        Bad arrays; one domain; no pair of domains with 20 (matched) rows each; an unknown measure.

    Notes
    -----
    Matching: Iacus, King & Porro (2012). With ``scores`` *and* ``groups``, rows of a source in one
    bin move together under the null, those in different bins do not, which makes p somewhat small
    if sources matter much: read the floor and interval too. One evaluation costs, per pair: mmd,
    silhouette, knn_mixing O(m²) after one O(n² d) step with an n x n matrix in memory; proxy_a
    O(m³); frechet O(m d² + d³). Evaluations: 1 (10 with scores) + n_permutations + n_boot; the
    floor is n_floor per *domain*.

    >>> rng = np.random.default_rng(0)
    >>> X, domains = rng.normal(size=(80, 3)), ["a", "b"] * 40
    >>> X[1::2] += 2
    >>> print(domain_gap(X, domains, n_permutations=99))  # doctest: +ELLIPSIS
    mmd gap ..., null ..., p = 0.01, floor ..., n = 80
    """
    if measure not in GAPS:
        raise ValueError(f"measure={measure!r} is not known; choose one of {', '.join(GAPS)}")
    X = matrix(X, min_n=4)
    rng, label = np.random.default_rng(random_state), codes(domains, len(X), "domains")
    group = codes(groups, len(X))
    bins = None if scores is None else score_bins(vector(scores, len(X)), n_bins)
    probe = _Probe(GAPS[measure](X, group, **options), bins)
    pairs, notes = probe.usable_pairs(label, np.unique(np.asarray(domains)))
    draws = 1 if bins is None else _MATCHES
    value = float(np.mean([probe.mean_gap(label, pairs, rng) for _ in range(draws)]))
    unit = joint(group, label)
    cell = unit if bins is None else joint(unit, bins)
    null = [_permuted_gap(probe, label, cell, pairs, rng) for _ in range(n_permutations)]
    found = null_fields(value, np.array(null), larger=measure != "knn_mixing")
    if n_boot:
        found |= _interval(probe, label, unit, pairs, value, n_boot, level, rng)
    floor = _floor(probe, label, unit, n_floor, rng) if n_floor else None
    name = f"{measure} gap" + ("" if bins is None else " at equal score")
    return Estimate(name, value, floor=floor, n=len(X), notes=notes, **found)


def pairwise_domain_gaps(X, domains, **options):
    """`domain_gap` of every pair of domains: a data frame with one row per pair and the fields of
    `Estimate`.

    Parameters as `domain_gap`; the rows of the other domains are left out, so medians and score
    bins are those of the pair.

    >>> rng = np.random.default_rng(0)
    >>> X, domains = rng.normal(size=(90, 3)), ["a", "b", "c"] * 30
    >>> pairwise_domain_gaps(X, domains, n_permutations=9)[["a", "b"]].values.tolist()
    [['a', 'b'], ['a', 'c'], ['b', 'c']]
    """
    import pandas as pd

    X, domains = matrix(X, min_n=4), np.asarray(domains)
    per_row = {
        key: np.asarray(options.pop(key))
        for key in ("scores", "groups")
        if options.get(key) is not None
    }
    rows = []
    for a, b in itertools.combinations(np.unique(domains), 2):
        keep = (domains == a) | (domains == b)
        found = domain_gap(
            X[keep], domains[keep], **{k: v[keep] for k, v in per_row.items()}, **options
        )
        rows.append({"a": a, "b": b} | found.to_dict())
    return pd.DataFrame(rows)


def score_bins(scores: np.ndarray, n_bins: int) -> np.ndarray:
    """Which quantile bin of the pooled scores each row falls into, 0..n_bins-1; equal scores fall
    together.

    >>> score_bins(np.array([1., 2., 3., 4.]), 2)
    array([0, 0, 1, 1])
    """
    if n_bins < 2:
        raise ValueError(
            f"n_bins={n_bins}, expected 2 or more: one bin matches nothing; pass scores=None for"
            " the raw gap"
        )
    return np.searchsorted(np.quantile(scores, np.arange(1, n_bins) / n_bins), scores, side="right")


def matched(
    a: np.ndarray, b: np.ndarray, bins: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """The largest random subsets with as many rows of ``a`` as of ``b`` from every bin."""
    kept: tuple[list, list] = [], []
    of_a, of_b = bins[a], bins[b]
    for bin_ in sorted({*of_a.tolist()} & {*of_b.tolist()}):
        inside = a[of_a == bin_], b[of_b == bin_]
        size = min(map(len, inside))
        for rows, keep in zip(inside, kept, strict=True):
            keep.append(rng.permutation(rows)[:size])
    return tuple(np.concatenate(k) if k else np.empty(0, dtype=np.intp) for k in kept)


@dataclass(frozen=True)
class _Probe:
    """A prepared gap and, if it is conditioned, the score bin of every row."""

    gap: Gap
    bins: np.ndarray | None

    def of(
        self, a: np.ndarray, b: np.ndarray, rng: np.random.Generator, min_rows: int = 1
    ) -> float:
        """Gap of two sets of rows, NaN if fewer than ``min_rows`` are left of one; internal,
        callers handle it.
        """
        if self.bins is not None:
            a, b = matched(a, b, self.bins, rng)
        return self.gap(a, b) if min(len(a), len(b)) >= max(2, min_rows) else np.nan

    def mean_gap(self, label: np.ndarray, pairs, rng, rows: np.ndarray | None = None) -> float:
        rows = np.arange(len(label)) if rows is None else rows
        of_rows, least = label[rows], _MIN_ROWS // 3
        gaps = [self.of(rows[of_rows == a], rows[of_rows == b], rng, least) for a, b in pairs]
        return float(np.mean(gaps))

    def usable_pairs(
        self, label: np.ndarray, names
    ) -> tuple[list[tuple[int, int]], tuple[str, ...]]:
        """Pairs of domains with enough rows, and what to say about the others."""
        if len(names) < 2:
            raise ValueError("got one domain, expected two or more; check the labels")
        pairs, dropped, used, rng = [], [], 0.0, np.random.default_rng(0)
        every = list(itertools.combinations(range(len(names)), 2))
        for i, j in every:
            a, b = np.flatnonzero(label == i), np.flatnonzero(label == j)
            total = len(a) + len(b)
            if self.bins is not None:
                a, b = matched(a, b, self.bins, rng)
            if min(len(a), len(b)) < _MIN_ROWS:
                dropped.append(f"{names[i]}-{names[j]} ({min(len(a), len(b))})")
                continue
            pairs.append((i, j))
            used += (len(a) + len(b)) / total
        what = "rows" if self.bins is None else "rows of equal score"
        if not pairs:
            remedy = "the domains hardly share scores: pass fewer n_bins, or no scores"
            remedy = "add rows" if self.bins is None else remedy
            raise ValueError(
                f"no pair of domains has {_MIN_ROWS} {what} each: {', '.join(dropped)}; {remedy}"
            )
        notes = [] if self.bins is None else [f"{used / len(pairs):.0%} of rows matched"]
        if dropped:
            notes.append(f"left out, too few {what}: {', '.join(dropped)}")
        return pairs, tuple(notes)


def _permuted_gap(probe: _Probe, label, cell, pairs, rng, tries: int = 100) -> float:
    """Mean gap of permuted labels; sources differ in size, so a permutation that leaves a domain
    too few rows is drawn again.
    """
    for _ in range(tries):
        gap = probe.mean_gap(permuted_labels(label, cell, rng, probe.bins), pairs, rng)
        if np.isfinite(gap):
            return gap
    raise ValueError(
        f"{tries} times in a row, permuted labels left a domain under {_MIN_ROWS // 3} rows: its"
        " sources are few and differ in size; pass n_permutations=0 or groups=None"
    )


def _interval(probe: _Probe, label, unit, pairs, value, n_boot, level, rng) -> dict:
    draws, factors = np.empty(n_boot), np.empty(n_boot)
    for i in range(n_boot):
        rows, factors[i] = half(unit, rng, label)
        draws[i] = probe.mean_gap(label, pairs, rng, rows)
    known = np.isfinite(draws)
    if known.mean() < 0.9:
        share = f"{1 - known.mean():.0%}"
        raise ValueError(
            f"{share} of the half-samples leave a domain under {_MIN_ROWS // 3} rows; pass n_boot=0"
            " or add rows"
        )
    return interval(value, draws[known], factors[known], level, (-np.inf, np.inf))


def _floor(probe: _Probe, label, unit, n_floor, rng) -> float | None:
    """Mean gap between random halves of one domain, over domains and splits; None if no domain can
    be split.
    """
    found = []
    for d in np.unique(label):
        inside = np.flatnonzero(label == d)
        own = np.unique(unit[inside], return_inverse=True)[1]
        if own.max() < 3:
            continue
        for _ in range(n_floor):
            one = half(own, rng)[0]
            found.append(probe.of(inside[one], np.delete(inside, one), rng, _MIN_ROWS // 3))
    known = [f for f in found if np.isfinite(f)]
    return float(np.mean(known)) if known else None
