"""What `custom_dataset.score_splits` found: correlations with intervals, the record of tuned
trunks, a page of results.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rali_lab.evaluate.bootstrap import resampled_means
from rali_lab.evaluate.counted import correlations
from rali_lab.experiments.custom_dataset import METHODS
from rali_lab.experiments.steps import Reporter
from rali_lab.reproduce.tables import markdown_table


def summarise(tables: Sequence[pd.DataFrame], *, n_boot: int = 500, seed: int = 0) -> pd.DataFrame:
    """PLCC and SRCC of every method: mean over splits, with 95 % intervals.

    Sources are drawn with replacement, once for all splits, and so are the splits; a split of
    which no source was drawn does not count in that draw.

    Returns
    -------
    Columns method, metric ("plcc", "srcc"), value, ci_low, ci_high, and against ridge_visual,
    paired: minus_ridge, minus_low, minus_high.
    """
    methods = [m for m in METHODS if m in tables[0]]
    base = methods.index("ridge_visual")
    measure = functools.partial(_correlations, methods)
    draws = resampled_means(tables, measure, n_boot=n_boot, seed=seed, skip_undefined=True)
    draws = np.moveaxis(draws, 2, 0)
    # Two rows of counts, as one row alone would be summed in another order than the draws.
    whole = np.mean([measure(t, np.ones((2, len(t))))[:, :, 0] for t in tables], axis=0)
    minus, ridge = whole - whole[:, [base]], draws - draws[:, :, [base]]
    ends, minus_ends = (np.nanquantile(d, [0.025, 0.975], axis=0) for d in (draws, ridge))
    out = [
        (method, metric, *(x[k, m] for x in (whole, *ends, minus, *minus_ends)))
        for k, metric in enumerate(("plcc", "srcc"))
        for m, method in enumerate(methods)
    ]
    numbers = ["value", "ci_low", "ci_high", "minus_ridge", "minus_low", "minus_high"]
    return pd.DataFrame(out, columns=["method", "metric", *numbers])


def _correlations(methods: list[str], table: pd.DataFrame, counts: np.ndarray) -> np.ndarray:
    """PLCC and SRCC of every resample (2, methods, n_draws); NaN where there are fewer than
    three different scores of people."""
    mos = table["mos"].to_numpy(float)
    few = ((counts @ (mos[:, None] == np.unique(mos))) > 0).sum(axis=1) < 3
    scores = [table[m].to_numpy(float) for m in methods]
    found = [[correlations(x, mos, counts, kind) for x in scores] for kind in ("plcc", "srcc")]
    return np.where(few, np.nan, np.array(found))


def with_recorded(
    tables: Sequence[pd.DataFrame],
    folder: Path,
    *,
    seed: int = 0,
    report: Reporter = print,
) -> list[pd.DataFrame]:
    """The tables of `score_splits` with the methods that they lack, as they were recorded by
    `python -m rali_lab.experiments.human_ratings --tuned`: tuning takes an hour.

    Nothing is added, and `report` says so, unless every split is recorded with the same
    images and the same scores of people.

    Parameters
    ----------
    tables
        From `custom_dataset.score_splits`.
    folder
        Where the record lies.
    seed
        As for `score_splits`.
    report
        Called with each line of progress.
    """
    if not (folder / "scores.parquet").exists():
        report(f"no scores are recorded in {folder.name}")
        return list(tables)
    kinds = {"image": str, "method": str, "score": float, "mos": float}
    known, out, moved = pd.read_parquet(folder / "scores.parquet").astype(kinds), [], 0.0
    for split, table in enumerate(tables):
        part, ids = known[known["seed"] == seed + split], table["image"].astype(str).tolist()
        wide = part.pivot(index="image", columns="method", values="score")
        mos = part.groupby("image")["mos"].first()
        if set(wide.index) != set(ids) or not np.allclose(mos[ids], table["mos"], atol=1e-3):
            found = f"{folder.name} records other images or scores for split {split + 1}"
            report(f"{found}; nothing is taken from it")
            return list(tables)
        wide = wide.loc[ids].reset_index(drop=True)
        both = [m for m in wide if m in table]
        moved = max(moved, float((wide[both] - table[both]).abs().max(axis=None)))
        more = [m for m in METHODS if m in wide and m not in table]
        out.append(table.assign(**{m: wide[m].to_numpy() for m in more}))
    report(
        f"as recorded in {folder.name}: {', '.join(more) or 'nothing new'}; "
        f"a score of the other methods differs from the record by {moved:.3f} at most"
    )
    return out


def results_page(name: str, check: str, summary: pd.DataFrame, n: int, n_splits: int) -> str:
    """A page of results in Markdown: what was found on disk, what was measured, and what the
    methods are.
    """
    lines = [
        f"# {name}: {n} rated images",
        "",
        "## What was found",
        "",
        "```",
        check,
        "```",
        "",
        "## How well their scores are predicted",
        "",
        (
            f"Mean over {n_splits} random splits by source, 80 % for training, [95 % interval over"
            " sources and splits]."
        ),
        "",
    ]
    wide = {m: part.set_index("metric") for m, part in summary.groupby("method", sort=False)}
    rows = []
    for method, part in wide.items():
        cells = [
            "{value:.3f} [{ci_low:.3f}, {ci_high:.3f}]".format(**part.loc[k])
            for k in ("plcc", "srcc")
        ]
        minus = "{minus_ridge:+.3f} [{minus_low:+.3f}, {minus_high:+.3f}]".format(
            **part.loc["srcc"]
        )
        rows.append([f"`{method}`", *cells, minus])
    header = ["method", "PLCC", "SRCC", "SRCC minus ridge_visual, paired"]
    lines += [markdown_table(header, rows, align="lrrr"), ""]
    return "\n".join([*lines, *(f"- `{m}`: {METHODS[m]}" for m in wide), ""])
