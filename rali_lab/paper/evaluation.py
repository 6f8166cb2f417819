"""Resumable evaluation on rated sets: a table of predictions, a manifest of the run, and the scores
next to the paper's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from rali_lab.data.images import ImageError
from rali_lab.data.records import RatedImage, mos_of
from rali_lab.evaluate.correlation import correlate
from rali_lab.evaluate.samples import CollapsedScores
from rali_lab.io import atomic_write, write_json
from rali_lab.paper.sets import published
from rali_lab.reproduce.provenance import stamp

Scorer = Callable[[Sequence[RatedImage]], "pd.DataFrame"]
"""From images to a table: image, score (NaN where none could be read) and anything worth keeping
about them."""
CHUNK = 64
MANIFEST = "run.json"


def predict(
    scorer: Scorer,
    sets: Mapping[str, Sequence[RatedImage]],
    folder: str | Path,
    *,
    about: Mapping[str, object],
    resume: bool = False,
    chunk: int = CHUNK,
    report: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Score sets of images and keep everything that the scorer returns.

    Parameters
    ----------
    scorer
        Called with `chunk` images at a time. An image that cannot be read gets no score and the
        reason as its status.
    sets
        Rated images by the name of their set.
    folder
        Gets `predictions.parquet`, written after every chunk, and `run.json` (what was run, on
        what, with which versions).
    about
        What identifies the scorer (model, weights' hash, settings); a resumed run must have the
        same.
    resume
        Go on with what `folder` holds; without it a folder that holds predictions is refused.
    chunk
        Images between two writes.
    report
        Called with one line per chunk.

    Returns
    -------
    DataFrame
        One row per image: set, image, path, source, mos, score, status ("ok" or what is wrong), and
        the scorer's own columns.

    Raises
    ------
    FileExistsError, ValueError
        When the folder holds a run and `resume` was not given, or that run was of something else.
    """
    folder = Path(folder)
    table = _held(folder, about, resume)
    write_json(
        folder / MANIFEST,
        {"about": dict(about), "sets": {k: len(v) for k, v in sets.items()}, "provenance": stamp()},
    )
    for name, images in sets.items():
        known = set() if table is None else set(table.loc[table["set"] == name, "image"])
        todo = [p for p in images if p.id not in known]
        if known:
            report(f"{name}: {len(images) - len(todo)} of {len(images)} images were scored before")
        for start in range(0, len(todo), chunk):
            new = _scored(scorer, name, todo[start : start + chunk])
            table = new if table is None else pd.concat([table, new], ignore_index=True)
            atomic_write(folder / "predictions.parquet", table.to_parquet(index=False))
            report(f"{name}: {start + len(new)} of {len(todo)}")
    wanted = {(name, p.id) for name, images in sets.items() for p in images}
    return table[
        [key in wanted for key in zip(table["set"], table["image"], strict=True)]
    ].reset_index(drop=True)


def _held(folder: Path, about: Mapping[str, object], resume: bool) -> pd.DataFrame | None:
    file = folder / "predictions.parquet"
    if not file.exists():
        return None
    if not resume:
        raise FileExistsError(
            f"{file} holds predictions; pass --resume to go on with them, or give another --out"
        )
    before = json.loads((folder / MANIFEST).read_text())["about"]
    if before != (now := json.loads(json.dumps(dict(about)))):
        changed = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
        raise ValueError(
            f"{folder / MANIFEST}: the predictions there were made with another"
            f" {', '.join(changed)}; give another --out"
        )
    return pd.read_parquet(file)


def _scored(scorer: Scorer, name: str, images: Sequence[RatedImage]) -> pd.DataFrame:
    broken, readable = {}, []
    for p in images:
        try:
            readable.append(replace(p, path=None, array=p.pixels()))  # decoded once
        except ImageError as error:
            broken[p.id] = str(error)
    scored = scorer(readable).set_index("image") if readable else pd.DataFrame(columns=["score"])
    ids = [p.id for p in images]
    rows = pd.DataFrame(
        {
            "set": name,
            "image": ids,
            "path": [p.path for p in images],
            "source": [p.source for p in images],
            "mos": mos_of(images),
        }
    )
    rows = pd.concat([rows, scored.reindex(ids).reset_index(drop=True)], axis=1)
    rows["score"] = rows["score"].astype(float)
    status = np.where(rows["score"].isna(), "no readable score", "ok")
    return rows.assign(status=[broken.get(i, s) for i, s in zip(ids, status, strict=True)])


def reasoner_scorer(
    folder: str | Path, *, samples: int = 1, seed: int = 0, **options: object
) -> Scorer:
    """A reasoner's ratings: mean over `samples` answers an image, with its first answer; `options`
    as for `rali_lab.models.vlm.ask`.
    """
    import torch
    from transformers import set_seed

    from rali_lab.models.vlm import load_policy
    from rali_lab.reasoner.rationales import ratings, write_rationales

    model, processor = load_policy(
        folder, dtype="auto" if torch.cuda.is_available() else torch.float32
    )
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    set_seed(seed)

    def score(images: Sequence[RatedImage]) -> pd.DataFrame:
        answers = write_rationales(model, processor, images, samples=samples, **options)
        ids = [p.id for p in images]
        first = answers[answers["sample"] == 0].set_index("image")["text"].reindex(ids).to_numpy()
        read = answers.groupby("image")["rating"].count().reindex(ids).to_numpy()
        return pd.DataFrame(
            {"image": ids, "score": ratings(answers, ids), "answers_read": read, "text": first}
        )

    return score


def rali_scorer(folder: str | Path) -> Scorer:
    """Scores of a RALI: a folder in the released layout, or one that `RaliScorer.save` wrote."""
    from rali_lab.rali.released import BASIS, read_official
    from rali_lab.rali.scorer import RaliScorer

    scorer = read_official(folder) if (Path(folder) / BASIS).exists() else RaliScorer.load(folder)

    def score(images: Sequence[RatedImage]) -> pd.DataFrame:
        return pd.DataFrame(
            {"image": [p.id for p in images], "score": scorer.predict([p.pixels() for p in images])}
        )

    return score


def table(
    predictions: pd.DataFrame,
    *,
    method: str,
    beside: Sequence[str] = ("Q-Insight", "RALI"),
    n_boot: int = 1000,
) -> pd.DataFrame:
    """PLCC and SRCC of every set with intervals clustered by source, next to the paper's numbers
    under the paper's own names.

    Parameters
    ----------
    predictions
        Of `predict`.
    method
        Name of the scorer, in the names of its columns.
    beside
        The paper's methods (trained on KonIQ) to print beside it.
    n_boot
        Bootstrap resamples.

    Returns
    -------
    DataFrame
        set, n, unscored, `<method> PLCC [95 %]`, `<method> SRCC [95 %]`, and `paper: <name>`; "-"
        where the paper has none, or fewer than three images of a set have a score.
    """
    printed = published()
    printed = printed[printed["trained_on"] == "koniq"].set_index(["method", "set"])
    rows = []
    for name, part in predictions.groupby("set", sort=False):
        row = {
            "set": name,
            "n": int(part["score"].notna().sum()),
            "unscored": int(part["score"].isna().sum()),
        }
        for kind in ("plcc", "srcc"):
            row[f"{method} {kind.upper()} [95 %]"] = _correlation(part, kind, n_boot)
        for other in beside:
            found = (other, name) in printed.index
            row[f"paper: {other}"] = (
                "{plcc:.3f} / {srcc:.3f}".format(**printed.loc[(other, name)]) if found else "-"
            )
        rows.append(row)
    return pd.DataFrame(rows)


def _correlation(part: pd.DataFrame, kind: str, n_boot: int) -> str:
    if part["score"].notna().sum() < 3:
        return "-"
    try:
        found = correlate(
            part["score"].to_numpy(),
            part["mos"].to_numpy(),
            kind=kind,
            groups=part["source"].to_numpy(),
            n_boot=n_boot,
        )
    except CollapsedScores:
        return "collapsed"
    return f"{found.value:.3f} [{found.ci_low:.3f}, {found.ci_high:.3f}]"
