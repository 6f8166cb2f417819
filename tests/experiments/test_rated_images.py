"""What is measured before any training: direction, nulls, and the checks of the exercises."""

import warnings

import numpy as np
import pandas as pd
import pytest

from rali_lab.data.labels import RaterPanel
from rali_lab.data.records import RatedImage
from rali_lab.evaluate import plcc
from rali_lab.experiments.rated_images import (
    check_honest,
    check_raters,
    check_unbiased,
    distorted,
    png_bytes,
    quality_by_level,
    random_score_correlations,
    shortcut_correlations,
    wrong_order_shares,
)

RNG = np.random.default_rng(0)


def grey_image(i: int) -> RatedImage:
    pixels = np.full((8, 8, 3), 6 * i, np.uint8)
    about = {"source": f"s{i % 6}", "split": "test", "mos": 1 + i / 10, "array": pixels}
    return RatedImage(f"photo-{i}", "photo" if i < 20 else "novel", **about)


IMAGES = [grey_image(i) for i in range(40)]


def test_levels_are_five_change_the_image_more_and_more_and_repeat():
    clean = RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    made = distorted(clean, "gaussian_blur")
    change = [np.abs(x.astype(float) - clean).mean() for x in made]
    assert len(made) == 5 and change == sorted(change) and change[0] > 0
    noisy = [distorted(clean, "gaussian_noise", seed=s)[0] for s in (0, 0, 1)]
    assert (noisy[0] == noisy[1]).all() and (noisy[0] != noisy[2]).any()


def test_wrong_order_is_none_for_quality_itself_and_all_for_its_opposite():
    quality = np.linspace(1, 5, 30)
    table = pd.DataFrame({"quality": quality, "mos": quality, "domain": ["a", "b"] * 15})
    assert wrong_order_shares(table) == (0, 0)
    assert wrong_order_shares(table.assign(mos=-quality)) == (1, 1)
    shifted = quality + np.where(table["domain"] == "a", 0, 1)
    inside, across = wrong_order_shares(table.assign(mos=shifted))
    assert inside == 0 and 0.4 < across < 0.6


def test_pairs_outside_the_gap_do_not_count():
    table = pd.DataFrame({"quality": [1, 1.2, 1.2, 3], "mos": [2, 3, 3, 1], "domain": [*"aabb"]})
    assert wrong_order_shares(table)[1] == 0
    assert wrong_order_shares(table, gap=(0.1, 4))[1] == pytest.approx(2 / 3)


def test_shortcuts_find_what_predicts_the_score_and_what_does_not():
    noise = {p.id: x for p, x in zip(IMAGES, RNG.normal(size=len(IMAGES)), strict=True)}
    shortcuts = {"brightness": lambda p: p.pixels().mean(), "noise": lambda p: noise[p.id]}
    found = shortcut_correlations(IMAGES, shortcuts, n_boot=100)
    assert [*found] == [(s, d) for d in ("photo", "novel") for s in ("brightness", "noise")]
    assert found["brightness", "novel"].value == pytest.approx(1)
    null = found["noise", "photo"]
    assert null.ci_low < 0 < null.ci_high and null.n == 20


def test_a_png_of_noise_is_larger():
    flat, noise = np.zeros((32, 32, 3), np.uint8), RNG.integers(0, 256, (32, 32, 3), np.uint8)
    assert png_bytes(noise) > 10 * png_bytes(flat)


def test_random_scores_are_drawn_alike_for_every_protocol_and_failures_are_counted():
    def undefined(score, mos):
        warnings.warn("no curve", RuntimeWarning, stacklevel=1)
        raise ValueError("no curve")

    protocols = {"raw": plcc, "again": plcc, "undefined": undefined}
    options = {"sizes": (20, 500), "n_draws": 5, "seed": 3}
    table, note = random_score_correlations(protocols, np.linspace(1, 5, 50), **options)
    assert note == "10 of 30 fits found no curve and are left out; warnings: {'RuntimeWarning': 10}"
    assert list(table.columns) == ["n", "protocol", "plcc"] and len(table) == 20
    raw, again = (table.loc[table["protocol"] == p, "plcc"].to_numpy() for p in ("raw", "again"))
    assert (raw == again).all() and np.abs(raw[5:]).max() < 0.2
    assert table.equals(random_score_correlations(protocols, np.linspace(1, 5, 50), **options)[0])


def test_the_smallest_sufficient_number_of_raters_is_right():
    panel = RaterPanel(noise=0.3, bias=0.4)
    assert [check_raters(n, panel).startswith("right") for n in (24, 25, 26)] == [0, 1, 0]
    assert check_raters(1, panel, limit=0.5) == "right"


def test_undoing_a_bias_must_take_the_scores_closer():
    rated = pd.DataFrame({"mos": [1.0, 2.0, 3.0], "quality": [2.0, 3.0, 4.0]})
    assert check_unbiased(lambda mos: mos + 0.9, rated).startswith("right: mean error 1.00 before")
    assert check_unbiased(lambda mos: mos + 0.1, rated).startswith("not yet")


def test_scores_that_match_a_leaking_method_are_too_good():
    mos, source = np.linspace(1, 5, 40), np.arange(40) % 8
    noisy = mos + RNG.normal(0, 2, 40)
    assert check_honest(noisy, mos, source, limit=0.99).startswith("right: together SRCC")
    assert check_honest(mos, mos, source, limit=0.99).startswith("too good to be true")


def test_quality_falls_with_the_level():
    clean = np.stack([np.asarray(RNG.integers(0, 256, (4, 4, 3))).repeat(16, 0).repeat(16, 1)] * 2)
    table = quality_by_level(clean.astype(np.uint8), ["gaussian_noise"])
    assert list(table["level"]) == [1, 2, 3, 4, 5] and set(table["family"]) == {"noise"}
    assert (np.diff(table["quality"]) < 0).all() and table["quality"].between(1, 5).all()
    assert (table["half"] >= 0).all()
