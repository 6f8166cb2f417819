"""From the tables of the probe (`rali_lab.experiments.explain`), one per training seed, to the
numbers of notebook 03.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from rali_lab.data.domains import DOMAINS, SETS
from rali_lab.estimate import Estimate
from rali_lab.evaluate.bootstrap import pooled
from rali_lab.evaluate.counted import correlations, text_weights

Tables = Sequence[pd.DataFrame]
UNSEEN = tuple(d.name for d in DOMAINS.values() if d.role == "out" and d.name not in SETS)
"""Domains that neither training of an exchange of modules has seen."""


def conditions(tables: Tables, model: str) -> list[pd.DataFrame]:
    """Ratings of one model with the condition in the place of the method, as
    `rali_lab.experiments.reports` takes them.

    Parameters
    ----------
    tables
        The ratings.parquet of each seed.
    model
        Such as "teacher".
    """
    return [
        t[t["model"] == model].rename(columns={"condition": "method"}).reset_index(drop=True)
        for t in tables
    ]


def token_shares(tables: Tables) -> pd.DataFrame:
    """Attention of the score tokens by kind of token, mean over images and seeds.

    Parameters
    ----------
    tables
        The attention.parquet of each seed, columns model and share_* and tokens_* of every kind.

    Returns
    -------
    DataFrame
        Columns method, group, share (sums to 1 within a method), tokens (how many), per_token
        (share over that of an even spread; 1 = no preference).

    Examples
    --------
    >>> one = pd.DataFrame({"model": ["base"], "share_a": [0.8], "share_b": [0.2]})
    >>> token_shares([one.assign(tokens_a=2, tokens_b=6)]).round(3).values.tolist()
    [['base', 'a', 0.8, 2.0, 3.2], ['base', 'b', 0.2, 6.0, 0.267]]
    """
    attention = pd.concat(tables, ignore_index=True)
    groups = [c.removeprefix("share_") for c in attention.columns if c.startswith("share_")]
    rows = []
    for model, part in attention.groupby("model", sort=False):
        tokens = part[[f"tokens_{g}" for g in groups]].to_numpy()
        even = tokens / tokens.sum(1, keepdims=True)
        for i, group in enumerate(groups):
            share = part[f"share_{group}"]
            per_token = (share / even[:, i]).mean()
            rows.append((model, group, share.mean(), tokens[:, i].mean(), per_token))
    return pd.DataFrame(rows, columns=["method", "group", "share", "tokens", "per_token"])


def reasoning_share(tables: Tables, model: str, *, n_boot: int = 1000) -> Estimate:
    """Attention on the reasoning over that on reasoning and image, mean over images and seeds.

    Parameters
    ----------
    tables
        The attention.parquet of each seed.
    model
        Whose attention.
    n_boot
        Bootstrap resamples.
    """

    def share(table: pd.DataFrame) -> float:
        text, image = table["share_reasoning"], table["share_image"]
        return (text / (text + image)).mean()

    kept = [t[t["model"] == model] for t in tables]
    return pooled(kept, share, name="share of the reasoning", n_boot=n_boot)


def weight_of_text(
    tables: Tables, model: str, minus: str | None = None, *, n_boot: int = 1000
) -> Estimate:
    """Weight of the text in the conflict of image and text, see
    `rali_lab.interpret.probe.text_weight`.

    Parameters
    ----------
    tables
        The conflict.parquet of each seed.
    model
        Whose weight; the estimate counts its rows in the first table.
    minus
        Another model whose weight in the same draws is subtracted.
    n_boot
        Bootstrap resamples.
    """
    models = [model] if minus is None else [model, minus]
    kept = [t[t["model"].isin(models)].reset_index(drop=True) for t in tables]

    def weight(table: pd.DataFrame, counts: np.ndarray) -> np.ndarray:
        rows = [(table["model"] == m).to_numpy() for m in models]
        found = [text_weights(table[r], counts[:, r]) for r in rows]
        return found[0] if minus is None else found[0] - found[1]

    name = "weight of the text" + ("" if minus is None else " difference")
    found = pooled(kept, weight, name=name, n_boot=n_boot, counted=True)
    return replace(found, n=int((kept[0]["model"] == model).sum()))


def exchange_loss(tables: Tables, *, n_boot: int = 1000) -> Estimate:
    """PLCC lost by the exchange of language modules between trainings on photographs and on
    procedural images, mean over both vision sides and the domains of `UNSEEN`.

    Parameters
    ----------
    tables
        The scores.parquet of the controls of each seed, with methods "VISION|LANGUAGE".
    n_boot
        Bootstrap resamples.

    Returns
    -------
    Estimate
        Its note gives the mean absolute change, which is never near zero: two samplings of one
        model differ, too.
    """
    kept = [t[t["domain"].isin(UNSEEN)].reset_index(drop=True) for t in tables]

    def changes(table: pd.DataFrame, counts: np.ndarray) -> np.ndarray:
        def found(method: str, domain: str) -> np.ndarray:
            rows = ((table["method"] == method) & (table["domain"] == domain)).to_numpy()
            score, mos = table.loc[rows, ["score", "mos"]].to_numpy(float).T
            return correlations(score, mos, counts[:, rows], "plcc")

        changed = [
            found(f"{own}|{other}", domain) - found(f"{own}|{own}", domain)
            for own, other in (("photo", "procedural"), ("procedural", "photo"))
            for domain in UNSEEN
        ]
        return np.stack(changed, axis=1)

    def loss(table: pd.DataFrame, counts: np.ndarray) -> np.ndarray:
        return -changes(table, counts).mean(axis=1)

    lost = pooled(kept, loss, name="PLCC lost", n_boot=n_boot, counted=True)
    size = np.mean([np.abs(changes(t, np.ones((1, len(t))))).mean() for t in kept])
    note = f"mean absolute change {size:.3f}"
    return replace(lost, n=kept[0]["image"].nunique(), notes=(note,))
