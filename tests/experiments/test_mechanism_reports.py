"""Numbers of notebook 03: shares, weights of the text and exchanges of modules, over seeds."""

import numpy as np
import pandas as pd
import pytest

from rali_lab.experiments.mechanism_reports import (
    UNSEEN,
    conditions,
    exchange_loss,
    reasoning_share,
    token_shares,
    weight_of_text,
)
from rali_lab.experiments.reports import difference

SOURCES = np.repeat([f"s{i}" for i in range(12)], 5)


def attention(seed: int) -> pd.DataFrame:
    share = np.random.default_rng(seed).dirichlet([1, 2, 3], size=60)
    table = pd.DataFrame(share, columns=["share_image", "share_prompt", "share_reasoning"])
    table = table.assign(tokens_image=4, tokens_prompt=8, tokens_reasoning=4, source=SOURCES)
    return pd.concat([table.assign(model=m) for m in ("base", "teacher")], ignore_index=True)


def conflict(seed: int, weights: dict[str, float]) -> pd.DataFrame:
    rng, parts = np.random.default_rng(seed), []
    for model, weight in weights.items():
        own, donor = rng.normal(3, 0.7, size=(2, 60))
        rating = (1 - weight) * own + weight * donor
        rows = {"source": SOURCES, "own": own, "donor": donor, "rating": rating, "model": model}
        parts.append(pd.DataFrame(rows))
    return pd.concat(parts, ignore_index=True)


def swapped(seed: int, noise: float) -> pd.DataFrame:
    """Scores of two trainings; with the other's language module they have additional noise."""
    rng, mos, parts = np.random.default_rng(seed), np.random.default_rng(9).normal(size=60), []
    for method in ("photo|photo", "photo|procedural", "procedural|procedural", "procedural|photo"):
        spread = 0.3 + noise * (len(set(method.split("|"))) == 2)
        for domain in (*UNSEEN, "photo"):
            score = mos + rng.normal(0, spread, 60)
            rows = {"method": method, "domain": domain, "source": SOURCES, "mos": mos}
            parts.append(
                pd.DataFrame(rows).assign(score=score, image=[f"{domain}{i}" for i in range(60)])
            )
    return pd.concat(parts, ignore_index=True)


def test_shares_sum_to_one_and_an_even_spread_is_one_per_token():
    even = attention(0).assign(share_image=0.25, share_prompt=0.5, share_reasoning=0.25)
    bars = token_shares([even, even])
    assert bars.groupby("method")["share"].sum().to_dict() == {"base": 1.0, "teacher": 1.0}
    assert (bars["per_token"] == 1).all() and set(bars["tokens"]) == {4.0, 8.0}
    assert list(bars["group"])[:3] == ["image", "prompt", "reasoning"]


def test_the_share_of_the_reasoning_is_a_mean_over_images_and_seeds():
    tables = [attention(0), attention(1)]
    found = reasoning_share(tables, "teacher", n_boot=100)
    by_hand = [
        (t["share_reasoning"] / (t["share_reasoning"] + t["share_image"]))[t["model"] == "teacher"]
        for t in tables
    ]
    assert found.value == pytest.approx(np.mean(by_hand))
    assert found.ci_low < found.value < found.ci_high and (found.n, found.n_seeds) == (60, 2)


def test_the_weight_of_the_text_is_found_and_compared():
    tables = [conflict(seed, {"base": 0.2, "teacher": 0.8}) for seed in range(2)]
    assert weight_of_text(tables, "teacher", n_boot=50).value == pytest.approx(0.8)
    shift = weight_of_text(tables, "teacher", "base", n_boot=50)
    assert shift.value == pytest.approx(0.6) and shift.ci_low == pytest.approx(0.6)
    assert shift.n == 60 and str(shift).startswith("weight of the text difference +0.600")


def test_an_exchange_loses_nothing_where_modules_are_alike():
    alike, worse = ([swapped(s, noise) for s in range(2)] for noise in (0.0, 2.0))
    same, lost = (exchange_loss(tables, n_boot=100) for tables in (alike, worse))
    assert abs(same.value) < 0.02 and lost.value > 0.2 and lost.ci_low > 0
    assert lost.n == 180 and lost.notes[0].startswith("mean absolute change 0.")


def test_domains_of_a_training_do_not_count_in_an_exchange():
    tables = [swapped(0, 1.0)]
    changed = [t.assign(score=t["score"].where(t["domain"] != "photo", -t["mos"])) for t in tables]
    assert exchange_loss(tables, n_boot=50) == exchange_loss(changed, n_boot=50)


def test_conditions_take_the_place_of_methods():
    one = swapped(0, 1.0).rename(columns={"method": "condition"}).assign(model="teacher")
    both = pd.concat([one, one.assign(model="base", score=0.0)], ignore_index=True)
    (kept,) = conditions([both], "teacher")
    assert len(kept) == len(one) and list(kept.index) == list(range(len(one)))
    own, other = "photo|photo", "photo|procedural"
    assert difference([kept], own, other, role=None, n_boot=50).value > 0
