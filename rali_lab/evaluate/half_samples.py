"""Intervals from random half-samples, for statistics that repeated rows would bias.

A bootstrap repeats rows. Distances to nearest neighbours, ranks of Gram matrices and held-out
readouts take two equal rows for a finding, so here half of the sources are drawn without
replacement instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from rali_lab.estimate import Estimate

Statistic = Callable[[np.ndarray], float | Mapping[str, float]]


def half_samples(sources: Sequence, strata: Sequence, seeds: Iterable[int]) -> list[np.ndarray]:
    """Rows of random halves of the sources of each stratum, all rows of a source together.

    Parameters
    ----------
    sources : (n,) sequence
        Source of each row.
    strata : (n,) sequence
        Stratum of each row (its domain); half of the sources of each are drawn, rounded to even.
    seeds : iterable of int
        One for each draw.

    Returns
    -------
    list of ndarray
        Row numbers of each draw, stratum by stratum.

    Raises
    ------
    ValueError
        When a stratum has a single source, which cannot be halved.

    Examples
    --------
    >>> draws = half_samples(list("aabbccdd"), ["photo"] * 8, seeds=range(2))
    >>> [rows.tolist() for rows in draws]
    [[4, 5, 6, 7], [6, 7, 4, 5]]
    """
    of_row, stratum_of = np.asarray(sources), np.asarray(strata)
    rows = {}
    for stratum in np.unique(stratum_of):
        names = np.unique(of_row[stratum_of == stratum])
        if len(names) < 2:
            raise ValueError(
                f"stratum '{stratum}' has one source, '{names[0]}'; half-sampling needs two or"
                " more: add sources or merge strata"
            )
        rows[stratum] = [
            np.flatnonzero((stratum_of == stratum) & (of_row == name)) for name in names
        ]
    draws = []
    for seed in seeds:
        rng = np.random.RandomState(seed)
        chosen = [
            units[i]
            for units in rows.values()
            for i in rng.choice(len(units), round(len(units) / 2), replace=False)
        ]
        draws.append(np.concatenate(chosen))
    return draws


def half_sampling(
    statistic: Statistic,
    n: int,
    draws: Sequence[np.ndarray],
    *,
    name: str = "statistic",
    transform: Callable[[float], float] | None = None,
) -> Estimate | dict[str, Estimate]:
    """A statistic of ``n`` rows with a 95 % interval from its spread over half-samples.

    The mean of ``b`` units drawn without replacement from ``m`` has the variance
    ``S^2 / b * (1 - b / m)`` (Cochran, *Sampling Techniques*, 1977, theorem 2.2). With
    ``b = m / 2`` that is ``S^2 / m``, the variance of the whole sample's mean, so the spread of the
    draws around their own mean is laid around the value of all rows (half-samples: McCarthy,
    *Pseudo-replication*, 1969).

    Parameters
    ----------
    statistic : callable
        From row numbers to a number, or to several by name; called with ``arange(n)`` and with
        each draw.
    n : int
        Rows in all.
    draws : sequence of ndarray
        Row numbers of the half-samples: those of `half_samples`, or halves of single items.
    name : str
        Of the `Estimate`; several numbers carry their own names.
    transform : callable, optional
        Applied to the value and both ends, such as ``np.exp`` for the logarithm of a ratio.

    Returns
    -------
    Estimate or dict of str to Estimate
        A dict when the statistic returns several numbers.

    Raises
    ------
    ValueError
        With fewer than two draws, or where the statistic is not finite.

    Notes
    -----
    Costs ``len(draws) + 1`` calls of the statistic. Several numbers in one call share what they
    have in common.

    >>> x = np.random.default_rng(0).normal(size=100)
    >>> rng = np.random.default_rng(1)
    >>> draws = [rng.permutation(100)[:50] for _ in range(500)]
    >>> found = half_sampling(lambda rows: x[rows].mean(), 100, draws, name="mean")
    >>> print(found)
    mean 0.081 [-0.097, 0.254], n = 100
    """
    if len(draws) < 2:
        raise ValueError(
            f"{len(draws)} draws, an interval needs two or more; give more half-samples"
        )
    values = [statistic(rows) for rows in (np.arange(n), *draws)]
    if isinstance(whole := values[0], Mapping):
        by_key: list[Mapping] = [value for value in values if isinstance(value, Mapping)]
        return {key: _estimate(key, [v[key] for v in by_key], n, transform) for key in whole}
    return _estimate(name, values, n, transform)


def _estimate(name: str, values: list, n: int, transform) -> Estimate:
    whole, spread = values[0], np.array(values[1:])
    if (bad := np.flatnonzero(~np.isfinite(values))).size:
        where = f"half-sample {bad[0] - 1}" if bad[0] else "all rows"
        raise ValueError(f"{name} of {where} is {values[bad[0]]}; look at its rows")
    low, high = np.percentile(spread - np.mean(spread), [2.5, 97.5])
    numbers = (whole, whole + low, whole + high)
    value, low, high = (float(transform(x) if transform else x) for x in numbers)
    return Estimate(name, value, low, high, n=n)
