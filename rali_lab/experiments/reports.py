"""From a table of scores to headline records and paired comparisons, for one seed or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rali_lab.data.domains import roles
from rali_lab.estimate import Estimate
from rali_lab.evaluate.correlation import compare_over_domains, correlate, mean_over_domains
from rali_lab.evaluate.results import Record
from rali_lab.evaluate.samples import CollapsedScores

Tables = Sequence[pd.DataFrame]


def score_of(tables: Tables, method: str, domain: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (n_seeds, n), MOS (n,) and sources (n,) of one method on one domain.

    Parameters
    ----------
    tables
        One table per seed with columns method, image, domain, source, mos, score. All must rate the
        same images.
    method, domain
        Whose rows are taken.
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
            about = {"profile": profile, "method": method, "domain": domain}
            about["role"] = roles([domain])[domain]
            for kind in ("plcc", "srcc"):
                try:
                    found = correlate(score, mos, kind=kind, groups=groups, n_boot=n_boot)
                except CollapsedScores:
                    seeds = len(tables)
                    out.append(Record(**about, metric=kind, value=0.0, n=len(mos), seeds=seeds))
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
) -> Estimate:
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
) -> Estimate:
    """Mean over the domains of a role of one method's correlation, with an interval."""
    return mean_over_domains(
        {d: score_of(tables, method, d) for d in domains_of(tables, role)}, kind=kind, n_boot=n_boot
    )


def count_records(
    values: Mapping[str, Mapping[str, float]], *, profile: str, seeds: int
) -> list[Record]:
    """Records of plain quantities: ``{method: {metric: value}}``, for the model as a whole (domain
    "-").
    """
    model = {"profile": profile, "domain": "-", "role": "in", "seeds": seeds}
    return [
        Record(**model, method=m, metric=k, value=float(v))
        for m, metrics in values.items()
        for k, v in metrics.items()
    ]


def estimates_table(found: Mapping[tuple[str, str], Estimate]) -> pd.DataFrame:
    """Estimates as the rows that `rali_lab.plotting.plot_effects` draws.

    Parameters
    ----------
    found
        Estimates with intervals by (effect, method).

    Returns
    -------
    DataFrame
        Columns effect, method, value, ci_low, ci_high, n; rows in the order of `found`.

    Examples
    --------
    >>> found = {("no PCA", "rali"): Estimate("PLCC difference", -0.1, -0.2, 0.0, n=90)}
    >>> estimates_table(found).values.tolist()
    [['no PCA', 'rali', -0.1, -0.2, 0.0, 90]]
    """
    fields = ("value", "ci_low", "ci_high", "n")
    return pd.DataFrame(
        [
            {"effect": effect, "method": method} | {k: getattr(estimate, k) for k in fields}
            for (effect, method), estimate in found.items()
        ]
    )
