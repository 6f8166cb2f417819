"""The clustered bootstrap behind every interval.

What is drawn, with replacement: sources, with all their images together, and training seeds. One
draw of seeds serves all domains and all sources, since it is the same trained model that meets them
(`pooled`: one draw of sources serves all seeds, too). One resample is a row of *counts*, how often
each image occurs in it, and statistics take all counts at once (`rali_lab.evaluate.counted`).

`mean_with_interval` draws counts from a multinomial, domain by domain; `pooled` and
`resampled_means` draw the sources of one resample, then its seeds, then those of the next. The two
streams of random numbers differ, so intervals agree up to the noise of the draw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rali_lab.estimate import Estimate
from rali_lab.evaluate.counted import correlations
from rali_lab.evaluate.samples import CollapsedScores, Sample

if TYPE_CHECKING:
    import pandas as pd

    Counted = Callable[[pd.DataFrame, np.ndarray], np.ndarray]

_BLOCK = 2**22  # counts held at once; bounds memory at about 0.2 GB however many images there are


def statistic(sample: Sample, counts: np.ndarray, kind: str) -> np.ndarray:
    """Correlation of one method, or difference of two, per resample and seed, shape (n_boot,
    n_seeds).
    """
    per_method = [
        np.stack([correlations(row, sample.mos, counts, kind) for row in scores], axis=1)
        for scores in sample.scores
    ]
    return per_method[0] if len(per_method) == 1 else per_method[0] - per_method[1]


def cluster_draws(sample: Sample, n_boot: int, rng: np.random.Generator):
    """Yield blocks of counts, (<= n_boot, n): clusters drawn with replacement, their images
    together.
    """
    n_clusters = int(sample.cluster.max()) + 1
    block = max(1, _BLOCK // len(sample.mos))
    for start in range(0, n_boot, block):
        size = min(block, n_boot - start)
        yield rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=size)[
            :, sample.cluster
        ]


def drawn_counts(draws: np.ndarray, n: int) -> np.ndarray:
    """How often each of 0..n-1 occurs in each row of ``draws`` (n_draws, m): (n_draws, n) integers.

    >>> drawn_counts(np.array([[0, 2, 2], [1, 1, 1]]), 3)
    array([[1, 0, 2],
           [0, 3, 0]])
    """
    shifted = draws + n * np.arange(len(draws))[:, None]
    return np.bincount(shifted.ravel(), minlength=n * len(draws)).reshape(len(draws), n)


def mean_with_interval(
    samples: Sequence[Sample], *, kind: str, n_boot: int, level: float, seed: int
) -> tuple[float, float, float]:
    """Mean over domains and seeds of the statistic, with its percentile interval.

    Images are drawn inside each domain; the draw of training seeds is shared by the domains.

    Returns
    -------
    tuple of float
        Value and both ends.

    Raises
    ------
    CollapsedScores
        If more than 1 % of the resamples are constant (up to 1 % are left out).
    """
    rng = np.random.default_rng(seed)
    n_seeds = samples[0].n_seeds
    seed_counts = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=n_boot)
    value, draws = 0.0, np.zeros(n_boot)
    for sample in samples:
        value += statistic(sample, np.ones((1, len(sample.mos))), kind).mean() / len(samples)
        per_seed = np.concatenate(
            [statistic(sample, counts, kind) for counts in cluster_draws(sample, n_boot, rng)]
        )
        drawn = np.where(seed_counts > 0, seed_counts * per_seed, 0).sum(axis=1)
        draws += drawn / n_seeds / len(samples)
    message = (
        f"{{share:.0%}} of {n_boot} resamples hold a constant score, expected at most 1 %:"
        " ratings have almost collapsed, or images or sources are too few; look at the scores,"
        " add images"
    )
    return float(value), *_interval(draws, level, CollapsedScores, message)


def pooled(
    tables: Sequence[pd.DataFrame],
    statistic: Callable[..., Any],
    *,
    name: str = "statistic",
    by: str = "source",
    n_boot: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    counted: bool = False,
) -> Estimate:
    """Mean over seeds of any statistic of a table, with its percentile interval.

    Parameters
    ----------
    tables
        One per training seed.
    statistic
        From rows of one of them to a number.
    name
        Of the `Estimate`; its ``n`` is the number of rows of the first table.
    by
        Column whose values are drawn with replacement, all their rows together (sources: one draw
        for all seeds); seeds are drawn too.
    n_boot, level, seed
        Resamples, coverage, random seed.
    counted
        The statistic takes a whole table and counts (n_draws, rows), how often each row was drawn,
        and returns (n_draws,) numbers, as `correlations` does. The draws are the same, and a
        thousand of them cost a few array operations.

    Raises
    ------
    ValueError
        When the statistic is NaN on a whole table, or on more than 1 % of the draws.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"source": list("aabbccdd"), "x": [1, 1, 2, 2, 3, 3, 4, 4]})
    >>> found = pooled([table], lambda t: t["x"].mean(), n_boot=200)
    >>> def mean(t, counts):
    ...     return counts @ t["x"] / counts.sum(axis=1)
    >>> found == pooled([table], mean, n_boot=200, counted=True)
    True
    >>> print(found)
    statistic 2.500 [1.500, 3.500], n = 8
    """
    whole = [
        float(statistic(t, np.ones((1, len(t))))[0] if counted else statistic(t)) for t in tables
    ]
    if not np.isfinite(whole).all():
        first = int(np.flatnonzero(~np.isfinite(whole))[0])
        raise ValueError(
            f"the statistic is not a number for seed {first}; look at that table's rows"
        )
    draw: Callable[..., np.ndarray] = resampled_means if counted else _written_out
    draws = draw(tables, statistic, by=by, n_boot=n_boot, seed=seed)
    message = (
        "the statistic is not a number on {share:.0%} of the draws; there are too few scenes"
        f" ({len(set().union(*(t[by] for t in tables)))})"
    )
    low, high = _interval(draws, level, ValueError, message)
    n, value = len(tables[0]), float(np.mean(whole))
    return Estimate(name, value, low, high, n=n, n_seeds=len(tables))


def resampled_means(
    tables: Sequence[pd.DataFrame],
    statistic: Counted,
    *,
    by: str = "source",
    n_boot: int = 1000,
    seed: int = 0,
    skip_undefined: bool = False,
) -> np.ndarray:
    """Means of a statistic over the drawn seeds (..., n_boot), drawn as for `pooled`.

    Parameters
    ----------
    tables
        As for `pooled`.
    statistic
        From a table and counts (n_draws, rows) to numbers (..., n_draws).
    by, n_boot, seed
        As for `pooled`.
    skip_undefined
        A seed whose statistic is undefined in a draw does not count there; else the draw is NaN.
    """
    names, clusters, seeds = _draws(tables, by, n_boot, seed)
    place, often = {key: k for k, key in enumerate(names)}, drawn_counts(clusters, len(names))
    total: Any = 0.0
    weight: Any = 0
    for table, times in zip(tables, drawn_counts(seeds, len(tables)).T, strict=True):
        values = statistic(table, often[:, [place[key] for key in table[by]]])
        known = np.isfinite(values)
        total = total + np.where(known, times * values, 0)
        weight = weight + times * known
    enough = weight >= (1 if skip_undefined else len(tables))
    return np.divide(total, weight, out=np.full(np.shape(total), np.nan), where=enough)


def _draws(
    tables: Sequence[pd.DataFrame], by: str, n_boot: int, seed: int
) -> tuple[list, np.ndarray, np.ndarray]:
    """Names of the clusters; clusters (n_boot, n) and seeds (n_boot, n_seeds) of every resample."""
    names = sorted(set().union(*(table[by] for table in tables)))
    rng, clusters, seeds = np.random.default_rng(seed), [], []
    for _ in range(n_boot):
        clusters.append(rng.integers(len(names), size=len(names)))
        seeds.append(rng.integers(len(tables), size=len(tables)))
    return names, np.array(clusters), np.array(seeds)


def _written_out(
    tables: Sequence[pd.DataFrame],
    statistic: Callable[[pd.DataFrame], float],
    *,
    by: str,
    n_boot: int,
    seed: int,
) -> np.ndarray:
    """`resampled_means` of a statistic that takes the drawn rows themselves."""
    names, clusters, seeds = _draws(tables, by, n_boot, seed)
    rows = [[np.flatnonzero(table[by] == name) for name in names] for table in tables]
    draws = np.empty(n_boot)
    for i, (chosen, drawn) in enumerate(zip(clusters, seeds.tolist(), strict=True)):
        values = {
            s: float(statistic(tables[s].iloc[np.concatenate([rows[s][k] for k in chosen])]))
            for s in set(drawn)
        }
        draws[i] = np.mean([values[s] for s in drawn])
    return draws


def _interval(
    draws: np.ndarray, level: float, error: type[ValueError], message: str
) -> tuple[float, float]:
    """Percentile interval; more than 1 % of undefined draws are refused with their share."""
    if (share := np.mean(np.isnan(draws))) > 0.01:
        raise error(message.format(share=share))
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
