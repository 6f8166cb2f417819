"""Splitting rows so that a source is never on two sides: folds, halves, permutations."""

from __future__ import annotations

import numpy as np

from rali_lab.analysis.inputs import codes


def grouped_folds(
    groups, n: int, n_folds: int, rng: np.random.Generator, strata=None
) -> list[np.ndarray]:
    """Row indices of ``n_folds`` parts, whole groups in each, about evenly many groups of each
    stratum in each.

    Parameters
    ----------
    groups
        (n,) labels, or None for single rows.
    n
        Rows.
    n_folds
        Folds, 2 or more.
    rng
        Shuffles the groups.
    strata
        (n,) labels that every fold must hold (domains); a group with rows in several of them counts
        in each.

    Raises
    ------
    ValueError
        Fewer groups (in a stratum) than folds.

    Examples
    --------
    >>> folds = grouped_folds(["a", "a", "b", "b"], 4, 2, np.random.default_rng(0))
    >>> [sorted(map(int, f)) for f in folds]
    [[2, 3], [0, 1]]
    """
    if n_folds < 2:
        raise ValueError(
            f"n_folds={n_folds}, expected 2 or more: held-out measures need a part that was not"
            " fitted"
        )
    group = codes(groups, n)
    stratum = np.zeros(n, dtype=int) if strata is None else codes(strata, n, "strata")
    member = np.zeros((group.max() + 1, stratum.max() + 1), dtype=bool)
    member[group, stratum] = True
    if (fewest := int(member.sum(axis=0).min())) < n_folds:
        kind = "rows" if groups is None else "groups"
        where = "" if strata is None else " in each domain"
        way_out = f"pass n_folds={fewest}" if fewest > 1 else "add sources"
        raise ValueError(
            f"{n_folds} folds need {n_folds} {kind} or more{where}, got {fewest}; {way_out}"
        )
    order = rng.permutation(len(member))
    # those of many strata first, they are hardest to place
    order = order[np.argsort(-member[order].sum(axis=1), kind="stable")]
    fold_of = np.empty(len(member), dtype=int)
    fold_of[order] = _placed(member[order], rng.random((len(member), n_folds)))
    return [np.flatnonzero(fold_of[group] == f) for f in range(n_folds)]


def _placed(member: np.ndarray, ties: np.ndarray) -> list[int]:
    """A fold for each group in turn: the one that holds least of its fullest stratum, then
    least in all; ``ties`` (g, folds) decide.

    Plain lists: there are five folds and a few strata, for which an array operation costs more
    than the counting.
    """
    held, found = [[0] * member.shape[1] for _ in range(ties.shape[1])], []
    for row, tie in zip(member.tolist(), ties.tolist(), strict=True):
        strata = [s for s, inside in enumerate(row) if inside]
        loads = ([counts[s] for s in strata] for counts in held)
        fold = min(
            (max(load), sum(load), t, f) for f, (load, t) in enumerate(zip(loads, tie, strict=True))
        )[3]
        for s in strata:
            held[fold][s] += 1
        found.append(fold)
    return found


def half(
    group: np.ndarray, rng: np.random.Generator, stratum: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Rows of a random half of the groups (of each stratum), and the factor that scales deviations.

    For an estimate whose variance falls as 1 / groups, the difference between a half drawn without
    replacement and the whole, times the factor sqrt(m / (G - m)), is spread like the estimate
    itself.
    """
    first = np.unique(group, return_index=True)[1]
    stratum = np.zeros(len(group), dtype=int) if stratum is None else stratum
    chosen = np.zeros(len(first), dtype=bool)
    for s in np.unique(stratum):
        members = np.flatnonzero(stratum[first] == s)
        chosen[rng.permutation(members)[: len(members) // 2]] = True
    m = chosen.sum()
    return np.flatnonzero(chosen[group]), float(np.sqrt(m / (len(first) - m)))


def interval(
    value: float, draws: np.ndarray, factors: np.ndarray, level: float, bounds: tuple[float, float]
) -> dict:
    """``ci_low`` and ``ci_high``: ``value`` plus the quantiles of the scaled deviations of
    half-samples from their mean.
    """
    deviation = (draws - draws.mean()) * factors
    low, high = np.clip(value + np.quantile(deviation, [(1 - level) / 2, (1 + level) / 2]), *bounds)
    return {"ci_low": float(min(low, value)), "ci_high": float(max(high, value))}


def permutation(group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random permutation of the rows that keeps groups together.

    Groups trade places with groups of the same size, and rows are permuted inside each; so what
    rows of a group have in common stays in the null, as it must. With a group per row, any
    permutation.
    """
    n, sizes = len(group), np.bincount(group)
    if len(sizes) == n:
        return rng.permutation(n)
    places, drawn = np.argsort(group, kind="stable"), rng.permutation(n)
    starts = np.cumsum(sizes) - sizes
    drawn = drawn[np.argsort(group[drawn], kind="stable")]
    result = np.empty(n, dtype=np.intp)
    for size in np.unique(sizes):
        at = starts[sizes == size][:, None] + np.arange(size)
        result[places[at]] = drawn[at[rng.permutation(len(at))]]
    return result
