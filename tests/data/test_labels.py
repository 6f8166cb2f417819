"""Pseudo-MOS: identical is 5, worse is lower, and a panel's bias never changes the order."""

import numpy as np
import pytest

from rali_lab.data.content import photographs
from rali_lab.data.distortions import apply
from rali_lab.data.labels import RaterPanel, full_reference_quality
from rali_lab.data.records import Distortion

QUALITY = np.linspace(1, 5, 41)


@pytest.fixture(scope="module")
def crops():
    return np.stack(
        [photographs(s, count=1, size=48)[0] for s in ("coffee", "china", "brick")]
    )  # brick is grey


def made(crops, name, level):
    rng = np.random.default_rng(0)
    return np.stack([apply(x, (Distortion(name, level),), rng) for x in crops])


def test_an_identical_image_has_the_highest_quality(crops):
    flat = np.full_like(crops[:1], 90)
    np.testing.assert_allclose(full_reference_quality(crops, crops), 5, atol=1e-4)
    np.testing.assert_allclose(full_reference_quality(flat, flat), 5, atol=1e-4)


@pytest.mark.parametrize("name", ["gaussian_blur", "gaussian_noise", "jpeg", "darkening"])
def test_quality_falls_with_the_level_on_every_image(crops, name):
    quality = np.stack(
        [full_reference_quality(crops, made(crops, name, level)) for level in (1, 3, 5)]
    )
    assert (np.diff(quality, axis=0) < 0).all() and quality.min() >= 1 and quality.max() <= 5 + 1e-4
    assert (quality[0] - quality[2] > 1).all()


def test_quality_does_not_depend_on_the_batch(crops):
    bad = made(crops, "jpeg", 4)
    one = full_reference_quality(crops, bad, batch=1)
    np.testing.assert_allclose(full_reference_quality(crops, bad, batch=2), one, atol=1e-4)
    assert full_reference_quality(crops[:0], bad[:0]).shape == (0,)


def test_images_and_originals_must_pair_up(crops):
    with pytest.raises(ValueError, match=r"references \(3, .* and images \(2, .* same shape"):
        full_reference_quality(crops, crops[:2])


@pytest.mark.parametrize("gamma", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("gain, shift", [(1.0, 0.0), (0.6, -0.5), (1.3, 0.4)])
def test_opinion_keeps_the_order_and_the_scale(gamma, gain, shift):
    opinion = RaterPanel(gamma=gamma, gain=gain, shift=shift).opinion(QUALITY)
    inside = (opinion > 1) & (opinion < 5)
    assert (
        (np.diff(opinion) >= 0).all() and (np.diff(opinion[inside]) > 0).all() and inside.sum() > 20
    )
    assert opinion.min() >= 1 and opinion.max() <= 5


def test_an_unbiased_panel_thinks_what_is_true_and_a_biased_one_does_not():
    np.testing.assert_allclose(RaterPanel().opinion(QUALITY), QUALITY)
    assert RaterPanel(gamma=2).opinion([3.0]) < 3 < RaterPanel(gamma=0.5).opinion([3.0])
    np.testing.assert_allclose(RaterPanel().opinion([-3, 9]), [1, 5])


def test_ratings_stay_on_the_scale_and_gather_around_the_opinion():
    rng = np.random.default_rng(0)
    panel, quality = RaterPanel(), rng.uniform(1, 5, 2000)
    mos, std = panel.rate(quality, rng)
    assert mos.min() >= 1 and mos.max() <= 5 and std.min() > 0
    assert np.corrcoef(mos, quality)[0, 1] > 0.97
    middle = abs(quality - 3) < 1  # where the ends of the scale cut nothing off
    assert std[quality > 4.7].mean() < std[middle].mean()


def test_noise_is_new_for_every_image_and_bias_stays_with_the_rater():
    quality = np.full(300, 3.0)
    noisy, _ = RaterPanel(bias=0, raters=4).rate(quality, np.random.default_rng(0))
    biased, std = RaterPanel(noise=0, raters=4).rate(quality, np.random.default_rng(0))
    assert noisy.std() == pytest.approx(0.45 / 4**0.5, rel=0.15) and abs(noisy.mean() - 3) < 0.05
    assert np.ptp(biased) < 1e-9 < abs(biased[0] - 3) and np.ptp(std) < 1e-9 < std[0]


def test_more_raters_agree_better_with_the_opinion():
    few, many = (
        np.abs(RaterPanel(raters=n).rate(QUALITY, np.random.default_rng(0))[0] - QUALITY).mean()
        for n in (2, 200)
    )
    assert many < few / 2
