"""From a table of scores to headline records and paired comparisons, for one seed or several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from rali_lab.data.domains import roles
from rali_lab.evaluate.correlation import Correlation, compare_over_domains, correlate, mean_over_domains
from rali_lab.evaluate.results import Record
from rali_lab.evaluate.samples import CollapsedScores

Tables = Sequence[pd.DataFrame]


def score_of(tables: Tables, method: str, domain: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (n_seeds, n), MOS (n,) and sources (n,) of one method on one domain.

    Parameters
    ----------
    tables : one table per seed with columns method, picture, domain, source, mos, score. All must rate the same pictures.
    """
    parts = [t[(t["method"] == method) & (t["domain"] == domain)] for t in tables]
    first = parts[0]
    if any(list(p["picture"]) != list(first["picture"]) or not np.allclose(p["mos"], first["mos"]) for p in parts):
        raise ValueError(f"{method} on {domain}: the seeds did not rate the same pictures; make the pictures with one seed")
    return np.stack([p["score"].to_numpy() for p in parts]), first["mos"].to_numpy(), first["source"].to_numpy()


def domains_of(tables: Tables, role: str | None = None) -> list[str]:
    """Domains in the tables, in order; with `role` only those ("in", "out", "real")."""
    names = list(dict.fromkeys(tables[0]["domain"]))
    return [d for d in names if role is None or roles([d])[d] == role]


def accuracy_records(tables: Tables, *, profile: str, n_boot: int = 1000) -> list[Record]:
    """PLCC and SRCC of every method on every domain, with bootstrap intervals clustered by source.

    A method whose scores have collapsed to a constant has no correlation; it is recorded as 0 without an interval.
    """
    out = []
    for method in dict.fromkeys(tables[0]["method"]):
        for domain in domains_of(tables):
            score, mos, groups = score_of(tables, method, domain)
            for kind in ("plcc", "srcc"):
                about = {"profile": profile, "method": method, "domain": domain, "role": roles([domain])[domain]}
                try:
                    found = correlate(score, mos, kind=kind, groups=groups, n_boot=n_boot)
                except CollapsedScores:
                    out.append(Record(**about, metric=kind, value=0.0, ci_low=None, ci_high=None, n=len(mos), seeds=len(tables)))
                else:
                    out.append(Record.of(found, **about))
    return out


def difference(tables: Tables, a: str, b: str, *, role: str | None = "out", kind: str = "plcc", n_boot: int = 1000) -> Correlation:
    """Correlation of method `a` minus that of `b` on the same pictures, mean over the domains of a role, with an interval."""
    pairs: dict[str, tuple] = {}
    for domain in domains_of(tables, role):
        (score_a, mos, groups), (score_b, _, _) = (score_of(tables, m, domain) for m in (a, b))
        pairs[domain] = (score_a, score_b, mos, groups)
    return compare_over_domains(pairs, kind=kind, n_boot=n_boot)


def mean_correlation(tables: Tables, method: str, *, role: str | None = "out", kind: str = "plcc", n_boot: int = 1000) -> Correlation:
    """Mean over the domains of a role of one method's correlation, with an interval."""
    return mean_over_domains({d: score_of(tables, method, d) for d in domains_of(tables, role)}, kind=kind, n_boot=n_boot)


def pooled(
    tables: Tables,
    statistic: Callable[[pd.DataFrame], float],
    *,
    by: str = "source",
    n_boot: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Mean over seeds of any statistic of a table, with its percentile interval: value, ci_low, ci_high.

    Parameters
    ----------
    tables : one per training seed. statistic : from rows of one of them to a number.
    by : column whose values are drawn with replacement, all their rows together (scenes: one draw for all seeds); seeds are drawn too.

    Raises
    ------
    ValueError
        When the statistic is NaN on a whole table, or on more than 1 % of the draws.

    >>> table = pd.DataFrame({"source": list("aabbccdd"), "x": [1, 1, 2, 2, 3, 3, 4, 4]})
    >>> pooled([table], lambda t: t["x"].mean(), n_boot=200)[0]
    2.5
    """
    whole = [float(statistic(t)) for t in tables]
    if not np.isfinite(whole).all():
        raise ValueError(f"the statistic is not a number for seed {int(np.flatnonzero(~np.isfinite(whole))[0])}; look at that table's rows")
    rng, names = np.random.default_rng(seed), sorted(set().union(*(t[by] for t in tables)))
    rows = [{name: np.flatnonzero(t[by].to_numpy() == name) for name in names} for t in tables]
    draws = np.empty(n_boot)
    for i in range(n_boot):
        scenes, seeds = rng.choice(len(names), len(names)), rng.choice(len(tables), len(tables))
        drawn = {s: tables[s].iloc[np.concatenate([rows[s][names[k]] for k in scenes])] for s in set(seeds.tolist())}
        values = {s: float(statistic(t)) for s, t in drawn.items()}
        draws[i] = np.mean([values[s] for s in seeds])
    if (undefined := np.isnan(draws).mean()) > 0.01:
        raise ValueError(f"the statistic is not a number on {undefined:.0%} of the draws; there are too few scenes ({len(names)})")
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(np.mean(whole)), float(low), float(high)


def count_records(values: Mapping[str, Mapping[str, float]], *, profile: str, seeds: int) -> list[Record]:
    """Records of plain quantities: ``{method: {metric: value}}``, for the model as a whole (domain "-")."""
    return [
        Record(profile=profile, method=m, domain="-", role="in", metric=k, value=float(v), ci_low=None, ci_high=None, n=None, seeds=seeds)
        for m, metrics in values.items()
        for k, v in metrics.items()
    ]
