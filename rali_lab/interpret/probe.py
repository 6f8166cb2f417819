"""The whole probe of one model: what it rates after its own reasoning, after controls, and with
attention blocked.

`probe` asks once and keeps one row per answer; everything that is reported is computed from these
rows afterwards (`text_weight`), so that seeds can be pooled and intervals drawn over scenes.
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
from rali_lab.reasoner.rationales import is_valid

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
    ratings : DataFrame
        One row per image and condition: condition, image, domain, source, mos, score (mean rating,
        NaN if all were invalid), unread (share of invalid ones among its sampled ratings).
    conflict : DataFrame
        One row per answer: image, source, donor_source, rating (this image, the donor's text), own
        and donor (the rating each image gets after its own text).
    attention : DataFrame
        One row per image: image, domain, source and, for each kind of token, its share
        (``share_*``) and tokens (``tokens_*``).
    unread : int
        Invalid answers (without reasoning or rating), to which no condition can be applied.
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
    model, processor
        From `rali_lab.models.vlm.load_policy`.
    images
        Rated images.
    answers
        What this model wrote about them (`rali_lab.reasoner.rationales.write_rationales`).
    samples
        Ratings sampled after each reasoning.
    seed
        Of the samples, the donors and the paraphrases.
    report
        Called with the name of each condition.
    **asked
        `question` and `system` as they were asked.

    Notes
    -----
    Cost: about one pass over prompt and answer per condition and answer (there are 13).
    """
    valid = answers[is_valid(answers) & answers["rating"].notna()].reset_index(drop=True)
    by_id, rng = {p.id: p for p in images}, np.random.default_rng(seed)
    about = [by_id[i] for i in valid["image"]]
    shown, texts = [p.pixels() for p in about], valid["reasoning"].tolist()
    swap = donors(len(texts), rng, valid["image"].tolist())
    freeze_tower(model)  # an image is encoded once for all conditions

    def ratings(name: str, seen, reasonings: Sequence[str], block=None) -> np.ndarray:
        report(name)
        torch.manual_seed(seed)
        return rate(model, processor, seen, reasonings, block=block, samples=samples, **asked)

    other = [texts[i] for i in swap]
    found = {INTACT: ratings(INTACT, shown, texts)}
    found |= {name: ratings(name, shown, texts, block) for name, block in KNOCKOUTS.items()}
    found[WITHOUT] = ratings(WITHOUT, shown, [""] * len(texts))
    found[TEXT_ONLY] = ratings(TEXT_ONLY, None, texts)
    changed = (other, [without_severity(t) for t in texts], [paraphrase(t, rng) for t in texts])
    found |= {
        name: ratings(name, None, control) for name, control in zip(CONTROLS, changed, strict=True)
    }
    found[CONFLICT] = ratings(CONFLICT, shown, other)
    own = _mean(found[INTACT])
    conflict = pd.DataFrame(
        {
            "image": valid["image"],
            "source": [p.source for p in about],
            "donor_source": [about[i].source for i in swap],
            "rating": _mean(found[CONFLICT]),
            "own": own,
            "donor": own[swap],
        }
    )
    report("attention")
    share = attention_share(model, processor, shown, valid["text"].tolist(), **asked)
    return Probe(
        _per_image(found, images, valid["image"]),
        conflict,
        _attention(share, about),
        len(answers) - len(valid),
    )


def _mean(ratings: np.ndarray) -> np.ndarray:
    """Mean over samples of the valid ones, NaN where there is none."""
    valid = np.isfinite(ratings)
    total = np.where(valid, ratings, 0).sum(1)
    return np.where(valid.any(1), total / np.maximum(valid.sum(1), 1), np.nan)


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

    def per_image(values: np.ndarray) -> np.ndarray:
        return pd.Series(values).groupby(of.to_numpy()).mean().reindex(ids).to_numpy()

    parts = [
        about.assign(
            condition=condition,
            score=per_image(_mean(values)),
            unread=per_image(np.isnan(values).mean(1)),
        )
        for condition, values in found.items()
    ]
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
    >>> table = pd.DataFrame({"own": own, "donor": donor, "rating": 0.2 * own + 0.6 * donor})
    >>> round(text_weight(table), 3)
    0.75
    """
    rows = conflict[["own", "donor", "rating"]].dropna()
    design = np.column_stack([rows["own"], rows["donor"], np.ones(len(rows))])
    image, text, _ = np.linalg.lstsq(design, rows["rating"].to_numpy(), rcond=None)[0]
    image, text = max(image, 0.0), max(text, 0.0)
    return float(text / (image + text)) if image + text > 0 else float("nan")
