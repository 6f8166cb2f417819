"""The reasoning that a model writes about images, as a table, and what the table says about the
model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from rali_lab.data.records import RatedImage, mos_of
from rali_lab.io import atomic_write
from rali_lab.reasoner import prompts

COLUMNS = ("image", "sample", "text", "reasoning", "rating", "status")


def write_rationales(
    model,
    processor,
    images: Sequence[RatedImage],
    *,
    samples: int = 1,
    path: str | Path | None = None,
    chunk: int = 64,
    progress: bool = False,
    **options: object,
) -> pd.DataFrame:
    """Let a model reason about images.

    Parameters
    ----------
    model, processor
        From `rali_lab.models.vlm.load_policy`.
    images
        What is asked about.
    samples
        Answers per image (the paper samples one at temperature 1).
    path
        Parquet file to keep the table in. It is written after every `chunk` images, and a rerun
        asks only about images it does not hold yet, so an interrupted run loses at most one chunk.
    chunk
        Images between two writes.
    progress
        Whether a bar is shown.
    **options
        Passed to `rali_lab.models.vlm.ask` (question, prefill, temperature, ...).

    Returns
    -------
    DataFrame
        One row per answer: image id, sample, text (the raw completion), reasoning, rating (NaN if
        there is none), status ("ok" or what is wrong with the form). Nothing is dropped or
        repaired.
    """
    from tqdm import tqdm

    from rali_lab.models.vlm import ask

    done = (
        pd.read_parquet(path)
        if path is not None and Path(path).exists()
        else pd.DataFrame(columns=list(COLUMNS))
    )
    known = set(done["image"])
    parts, todo = [done] if len(done) else [], [p for p in images if p.id not in known]
    for i in tqdm(
        range(0, len(todo), chunk), disable=not progress, desc="rationales", unit="chunk"
    ):
        batch = todo[i : i + chunk]
        completions = ask(model, processor, [p.pixels() for p in batch], samples=samples, **options)
        parts.append(to_table([p.id for p in batch], completions))
        if path is not None:
            atomic_write(path, pd.concat(parts, ignore_index=True).to_parquet(index=False))
    table = pd.concat(parts, ignore_index=True) if parts else done
    return table[table["image"].isin([p.id for p in images])].reset_index(drop=True)


def to_table(ids: Sequence[str], completions: Sequence[Sequence[str]]) -> pd.DataFrame:
    """Completions as rows; see `write_rationales`.

    >>> to_table(["a"], [["3.2"]])[["image", "rating", "status"]].values.tolist()
    [['a', nan, 'not <think>...</think><answer>{...}</answer>']]
    """
    rows = []
    for image, texts in zip(ids, completions, strict=True):
        for sample, text in enumerate(texts):
            answer = prompts.parse(text)
            rows.append((image, sample, text, answer.reasoning, answer.rating, answer.status))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def ratings(table: pd.DataFrame, ids: Sequence[str]) -> np.ndarray:
    """Mean rating of each image over its answers, (n,) float64; NaN where none has a rating."""
    return table.groupby("image")["rating"].mean().reindex(list(ids)).to_numpy(dtype=np.float64)


def has_form(table: pd.DataFrame) -> pd.Series:
    """Whether each answer is exactly think + answer, with anything between the tags; (n,) bool."""
    return table["status"] == "ok"


def is_valid(table: pd.DataFrame) -> pd.Series:
    """Whether each answer has the form and a reasoning in it; (n,) bool.

    The filter for everything that is learned or read from rationales.

    >>> form = '<think>{}</think><answer>{{"rating": 2.00}}</answer>'
    >>> is_valid(to_table(["a"], [[form.format("Blur."), form.format(""), "no form"]])).tolist()
    [True, False, False]
    """
    return has_form(table) & (table["reasoning"] != "")


def valid_rationales(table: pd.DataFrame) -> pd.Series:
    """The valid reasonings of each image, a list; images without any are not in it.

    >>> answer = '<think>Blur.</think><answer>{"rating": 2.00}</answer>'
    >>> valid_rationales(to_table(["a", "b"], [[answer, "no form"], ["no form"]])).to_dict()
    {'a': ['Blur.']}
    """
    return table[is_valid(table)].groupby("image")["reasoning"].agg(list)


def has_rating(table: pd.DataFrame) -> pd.Series:
    """Whether each answer has the form and a rating within 1..5; (n,) bool."""
    return has_form(table) & table["rating"].notna()


def format_share(table: pd.DataFrame) -> float:
    """Share of answers that have the form and a rating (`has_rating`)."""
    return float(has_rating(table).mean())


def named_exactly(table: pd.DataFrame, images: Sequence[RatedImage]) -> pd.Series:
    """Whether each answer is valid and names exactly the degradations of its image (words only,
    whatever the severity); answers about other images are not in it.
    """
    truth = {p.id: {f.word for f in prompts.findings(p.distortions)} for p in images}
    mine = table[table["image"].isin(truth)]
    named = mine["reasoning"].map(lambda text: {f.word for f in prompts.named(text)})
    return (named == mine["image"].map(truth)) & is_valid(mine)


def naming_accuracy(table: pd.DataFrame, images: Sequence[RatedImage]) -> float:
    """Share of answers that are right by `named_exactly`."""
    return float(named_exactly(table, images).mean())


def summarise(table: pd.DataFrame, images: Sequence[RatedImage]) -> dict[str, float]:
    """PLCC, SRCC, format share, naming accuracy, spread of the ratings relative to the MOS, and
    unrated images.
    """
    from scipy.stats import pearsonr, spearmanr

    mos, score = mos_of(images), ratings(table, [p.id for p in images])
    ok = np.isfinite(score)
    flat = ok.sum() < 3 or np.ptp(score[ok]) == 0
    return {
        "plcc": 0.0 if flat else float(pearsonr(score[ok], mos[ok])[0]),
        "srcc": 0.0 if flat else float(spearmanr(score[ok], mos[ok])[0]),
        "format_share": format_share(table),
        "naming_accuracy": naming_accuracy(table, images),
        "spread": 0.0 if flat else float(score[ok].std() / mos.std()),
        "n_missing": int((~ok).sum()),
    }
