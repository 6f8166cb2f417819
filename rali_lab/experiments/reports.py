"""From a table of scores to headline records and paired comparisons, for one seed or several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from rali_lab.data.domains import roles
from rali_lab.evaluate.bootstrap import regressions
from rali_lab.evaluate.correlation import (
    Correlation,
    compare_over_domains,
    correlate,
    mean_over_domains,
)
from rali_lab.evaluate.results import Record
from rali_lab.evaluate.samples import CollapsedScores

Tables = Sequence[pd.DataFrame]


def score_of(tables: Tables, method: str, domain: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (n_seeds, n), MOS (n,) and sources (n,) of one method on one domain.

    Parameters
    ----------
    tables
        one table per seed with columns method, image, domain, source, mos, score. All must rate the
        same images.
    """
    parts = [t[(t["method"] == method) & (t["domain"] == domain)] for t in tables]
    first = parts[0]
    if any(
        list(p["image"]) != list(first["image"]) or not np.allclose(p["mos"], first["mos"])
        for p in parts
    ):
        raise ValueError(
            f"{method} on {domain}: the seeds did not rate the same images; make the images with"
            " one seed"
        )
    return (
        np.stack([p["score"].to_numpy() for p in parts]),
        first["mos"].to_numpy(),
        first["source"].to_numpy(),
    )


def domains_of(tables: Tables, role: str | None = None) -> list[str]:
    """Domains in the tables, in order; with `role` only those ("in", "out", "real")."""
    names = list(dict.fromkeys(tables[0]["domain"]))
    return [d for d in names if role is None or roles([d])[d] == role]


def accuracy_records(tables: Tables, *, profile: str, n_boot: int = 1000) -> list[Record]:
    """PLCC and SRCC of every method on every domain, with bootstrap intervals clustered by source.

    A method whose scores have collapsed to a constant has no correlation; it is recorded as 0
    without an interval.
    """
    out = []
    for method in dict.fromkeys(tables[0]["method"]):
        for domain in domains_of(tables):
            score, mos, groups = score_of(tables, method, domain)
            for kind in ("plcc", "srcc"):
                about = {
                    "profile": profile,
                    "method": method,
                    "domain": domain,
                    "role": roles([domain])[domain],
                }
                try:
                    found = correlate(score, mos, kind=kind, groups=groups, n_boot=n_boot)
                except CollapsedScores:
                    out.append(
                        Record(
                            **about,
                            metric=kind,
                            value=0.0,
                            ci_low=None,
                            ci_high=None,
                            n=len(mos),
                            seeds=len(tables),
                        )
                    )
                else:
                    out.append(Record.of(found, **about))
    return out


def difference(
    tables: Tables,
    a: str,
    b: str,
    *,
    role: str | None = "out",
    kind: str = "plcc",
    n_boot: int = 1000,
) -> Correlation:
    """Correlation of method `a` minus that of `b` on the same images, mean over the domains of a
    role, with an interval.
    """
    pairs: dict[str, tuple] = {}
    for domain in domains_of(tables, role):
        (score_a, mos, groups), (score_b, _, _) = (score_of(tables, m, domain) for m in (a, b))
        pairs[domain] = (score_a, score_b, mos, groups)
    return compare_over_domains(pairs, kind=kind, n_boot=n_boot)


def mean_correlation(
    tables: Tables, method: str, *, role: str | None = "out", kind: str = "plcc", n_boot: int = 1000
) -> Correlation:
    """Mean over the domains of a role of one method's correlation, with an interval."""
    return mean_over_domains(
        {d: score_of(tables, method, d) for d in domains_of(tables, role)}, kind=kind, n_boot=n_boot
    )


def pooled(
    tables: Tables,
    statistic: Callable[[pd.DataFrame], float] | Callable[[pd.DataFrame, np.ndarray], np.ndarray],
    *,
    by: str = "source",
    n_boot: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    counted: bool = False,
) -> tuple[float, float, float]:
    """Mean over seeds of any statistic of a table, with its percentile interval.

    Returns value, ci_low, ci_high.

    Parameters
    ----------
    tables
        one per training seed.
    statistic
        from rows of one of them to a number.
    by
        column whose values are drawn with replacement, all their rows together (scenes: one draw
        for all seeds); seeds are drawn too.
    counted
        the statistic takes a whole table and counts (n_draws, rows), how often each row was drawn,
        and returns (n_draws,) numbers. The draws are the same, and a thousand of them cost a few
        array operations (`rali_lab.evaluate.bootstrap` holds some).

    Raises
    ------
    ValueError
        When the statistic is NaN on a whole table, or on more than 1 % of the draws.

    >>> table = pd.DataFrame({"source": list("aabbccdd"), "x": [1, 1, 2, 2, 3, 3, 4, 4]})
    >>> found = pooled([table], lambda t: t["x"].mean(), n_boot=200)
    >>> def mean(t, counts):
    ...     return counts @ t["x"] / counts.sum(axis=1)
    >>> found == pooled([table], mean, n_boot=200, counted=True)
    True
    >>> found[0]
    2.5
    """
    whole = [
        float(statistic(t, np.ones((1, len(t))))[0] if counted else statistic(t)) for t in tables
    ]
    if not np.isfinite(whole).all():
        first = int(np.flatnonzero(~np.isfinite(whole))[0])
        raise ValueError(
            f"the statistic is not a number for seed {first}; look at that table's rows"
        )
    rng, names = np.random.default_rng(seed), sorted(set().union(*(t[by] for t in tables)))
    scenes, seeds = (np.empty((n_boot, k), dtype=int) for k in (len(names), len(tables)))
    for i in range(n_boot):
        scenes[i] = rng.choice(len(names), len(names))
        seeds[i] = rng.choice(len(tables), len(tables))
    keys, of_draws = [t[by].to_numpy() for t in tables], _counted if counted else _drawn
    draws = of_draws(tables, keys, names, statistic, scenes, seeds)
    if (undefined := np.isnan(draws).mean()) > 0.01:
        few = f"there are too few scenes ({len(names)})"
        raise ValueError(f"the statistic is not a number on {undefined:.0%} of the draws; {few}")
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(np.mean(whole)), float(low), float(high)


def _drawn(
    tables: Tables,
    keys: list[np.ndarray],
    names: list,
    statistic: Callable,
    scenes: np.ndarray,
    seeds: np.ndarray,
) -> np.ndarray:
    """Mean over the drawn seeds of a statistic of the rows of the drawn scenes, (n_boot,)."""
    rows = [[np.flatnonzero(key == name) for name in names] for key in keys]
    draws = np.empty(len(scenes))
    for i, chosen in enumerate(scenes):
        drawn = {
            s: tables[s].iloc[np.concatenate([rows[s][k] for k in chosen])]
            for s in set(seeds[i].tolist())
        }
        values = {s: float(statistic(t)) for s, t in drawn.items()}
        draws[i] = np.mean([values[s] for s in seeds[i]])
    return draws


def _counted(
    tables: Tables,
    keys: list[np.ndarray],
    names: list,
    statistic: Callable,
    scenes: np.ndarray,
    seeds: np.ndarray,
) -> np.ndarray:
    """The same from counts."""
    place, total = {name: k for k, name in enumerate(names)}, np.zeros(len(scenes))
    often = drawn_counts(scenes, len(names))
    for s, (table, times) in enumerate(
        zip(tables, drawn_counts(seeds, len(tables)).T, strict=True)
    ):
        values = statistic(table, often[:, [place[key] for key in keys[s]]])
        total += np.where(times > 0, times * values, 0)
    return total / len(tables)


def drawn_counts(draws: np.ndarray, n: int) -> np.ndarray:
    """How often each of 0..n-1 occurs in each row of ``draws`` (n_draws, m): (n_draws, n) integers.

    >>> drawn_counts(np.array([[0, 2, 2], [1, 1, 1]]), 3)
    array([[1, 0, 2],
           [0, 3, 0]])
    """
    shifted = draws + n * np.arange(len(draws))[:, None]
    return np.bincount(shifted.ravel(), minlength=n * len(draws)).reshape(len(draws), n)


def text_weights(conflict: pd.DataFrame, counts: np.ndarray) -> np.ndarray:
    """`rali_lab.interpret.probe.text_weight` of every resample of a table, (n_draws,), for
    `pooled` with ``counted``.

    counts : (n_draws, rows), how often each row of the table was drawn; NaN where neither
    image nor text has a positive weight.

    >>> own, donor = np.random.default_rng(0).normal(size=(2, 50))
    >>> table = pd.DataFrame({"own": own, "donor": donor, "rating": 0.2 * own + 0.6 * donor})
    >>> text_weights(table, np.ones((1, 50))).round(3)
    array([0.75])
    """
    rows = conflict[["own", "donor", "rating"]].to_numpy(float)
    known = np.isfinite(rows).all(axis=1)
    found = np.maximum(regressions(rows[known, :2], rows[known, 2], counts[:, known]), 0)
    total = found.sum(axis=1)
    return np.divide(found[:, 1], total, out=np.full(len(total), np.nan), where=total > 0)


def count_records(
    values: Mapping[str, Mapping[str, float]], *, profile: str, seeds: int
) -> list[Record]:
    """Records of plain quantities: ``{method: {metric: value}}``, for the model as a whole (domain
    "-").
    """
    return [
        Record(
            profile=profile,
            method=m,
            domain="-",
            role="in",
            metric=k,
            value=float(v),
            ci_low=None,
            ci_high=None,
            n=None,
            seeds=seeds,
        )
        for m, metrics in values.items()
        for k, v in metrics.items()
    ]
