"""The whole probe of one model: what it rates after its own reasoning, after controls, and with
parts of its sight taken away.

`probe` asks the questions once and keeps one row per answer; everything that is reported is
computed from these rows afterwards (`condition_scores`, `text_weight`), so that seeds can be pooled
and intervals drawn over scenes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from rali_lab.data.records import RatedImage, mos_of
from rali_lab.interpret.attention import attention_share
from rali_lab.interpret.controls import donors, paraphrase, without_severity
from rali_lab.interpret.interventions import KNOCKOUTS, rate
from rali_lab.interpret.token_groups import GROUPS
from rali_lab.models.vlm import freeze_tower

INTACT = "as written"
WITHOUT = "reasoning left out"
TEXT_ONLY = "text alone"
CONFLICT = "another image's text"
CONTROLS = ("text alone, shuffled", "text alone, no severities", "text alone, paraphrased")


@dataclass(frozen=True)
class Probe:
    """Tables of one model.

    Attributes
    ----------
    ratings
        one row per image and condition: condition, image, domain, source, mos, score (mean rating,
        NaN if none was readable), unread (share of its sampled ratings that could not be read).
    conflict
        one row per answer: image, source, donor_source, rating (this image, the donor's text), own
        and donor (the rating each image gets after its own text).
    attention
        one row per image: image, domain, source and, for each kind of token, its share
        (``share_*``) and tokens (``tokens_*``).
    unread
        answers without reasoning or rating, which no condition can be applied to.
    """

    ratings: pd.DataFrame
    conflict: pd.DataFrame
    attention: pd.DataFrame
    unread: int


def probe(
    model,
    processor,
    images: Sequence[RatedImage],
    answers: pd.DataFrame,
    *,
    samples: int = 4,
    seed: int = 0,
    report: Callable[[str], None] = lambda _: None,
    **asked: object,
) -> Probe:
    """Put one model through every condition.

    Parameters
    ----------
    images
        rated.
    answers
        what this model wrote about them (`rali_lab.reasoner.rationales.write_rationales`).
    samples
        ratings sampled after each reasoning.
    seed
        of the samples, the donors and the paraphrases.
    asked
        `question` and `system` as they were asked.

    Cost: about one pass over prompt and answer per condition and answer (there are 13).
    """
    told = answers[
        (answers["status"] == "ok") & (answers["reasoning"] != "") & answers["rating"].notna()
    ].reset_index(drop=True)
    by_id = {p.id: p for p in images}
    about = [by_id[i] for i in told["image"]]
    shown, texts, rng = (
        [p.pixels() for p in about],
        told["reasoning"].tolist(),
        np.random.default_rng(seed),
    )
    swap = donors(len(texts), rng, told["image"].tolist())
    freeze_tower(model)  # an image is encoded once for all conditions

    def ratings(name: str, seen, words: Sequence[str], block=None) -> np.ndarray:
        report(name)
        torch.manual_seed(seed)
        return rate(model, processor, seen, words, block=block, samples=samples, **asked)

    other = [texts[i] for i in swap]
    found = {INTACT: ratings(INTACT, shown, texts)}
    found |= {name: ratings(name, shown, texts, block) for name, block in KNOCKOUTS.items()}
    found[WITHOUT] = ratings(WITHOUT, shown, [""] * len(texts))
    found[TEXT_ONLY] = ratings(TEXT_ONLY, None, texts)
    changed = (other, [without_severity(t) for t in texts], [paraphrase(t, rng) for t in texts])
    found |= {
        name: ratings(name, None, words) for name, words in zip(CONTROLS, changed, strict=True)
    }
    found[CONFLICT] = ratings(CONFLICT, shown, other)
    own = _mean(found[INTACT])
    conflict = pd.DataFrame(
        {
            "image": told["image"],
            "source": [p.source for p in about],
            "donor_source": [about[i].source for i in swap],
            "rating": _mean(found[CONFLICT]),
            "own": own,
            "donor": own[swap],
        }
    )
    report("attention")
    share = attention_share(model, processor, shown, told["text"].tolist(), **asked)
    return Probe(
        _per_image(found, images, told["image"]),
        conflict,
        _attention(share, about),
        len(answers) - len(told),
    )


def _mean(ratings: np.ndarray) -> np.ndarray:
    """Mean over samples of the readable ones, NaN where there is none."""
    read = np.isfinite(ratings)
    return np.where(
        read.any(1), np.where(read, ratings, 0).sum(1) / np.maximum(read.sum(1), 1), np.nan
    )


def _per_image(
    found: dict[str, np.ndarray], images: Sequence[RatedImage], of: pd.Series
) -> pd.DataFrame:
    ids = [p.id for p in images]
    about = pd.DataFrame(
        {
            "image": ids,
            "domain": [p.domain for p in images],
            "source": [p.source for p in images],
            "mos": mos_of(images),
        }
    )
    parts = []
    for condition, values in found.items():
        score = pd.Series(_mean(values)).groupby(of.to_numpy()).mean().reindex(ids).to_numpy()
        unread = (
            pd.Series(np.isnan(values).mean(1))
            .groupby(of.to_numpy())
            .mean()
            .reindex(ids)
            .to_numpy()
        )
        parts.append(about.assign(condition=condition, score=score, unread=unread))
    return pd.concat(parts, ignore_index=True)


def _attention(share, about: Sequence[RatedImage]) -> pd.DataFrame:
    table = {
        f"share_{g}": np.nanmean(share.share[..., i], axis=(1, 2)) for i, g in enumerate(GROUPS)
    }
    table |= {f"tokens_{g}": share.tokens[:, i] for i, g in enumerate(GROUPS)}
    table |= {
        "image": [p.id for p in about],
        "domain": [p.domain for p in about],
        "source": [p.source for p in about],
    }
    return (
        pd.DataFrame(table).groupby(["image", "domain", "source"], sort=False).mean().reset_index()
    )


def text_weight(conflict: pd.DataFrame) -> float:
    """Which wins when image and text disagree: 1 if the rating follows the text alone, 0 if it
    follows the image alone.

    The rating of an image with another one's text is regressed on the ratings that each of the two
    gets with its own text; the result is the text's coefficient over the sum of both (negative ones
    count as 0). Rows without a rating are left out.

    >>> own, donor = np.random.default_rng(0).normal(size=(2, 50))
    >>> round(text_weight(pd.DataFrame({"own": own, "donor": donor, "rating": 0.2 * own + 0.6 * donor})), 3)
    0.75
    """
    rows = conflict[["own", "donor", "rating"]].dropna()
    design = np.column_stack([rows["own"], rows["donor"], np.ones(len(rows))])
    image, text, _ = np.linalg.lstsq(design, rows["rating"].to_numpy(), rcond=None)[0]
    image, text = max(image, 0.0), max(text, 0.0)
    return float(text / (image + text)) if image + text > 0 else float("nan")
