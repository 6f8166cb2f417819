"""Pristine content: every bundled source opens, crops repeat with their seed, and hold something
worth distorting.
"""

import numpy as np
import pytest

from rali_lab.data.content import PROCEDURAL, photographs, procedural, random_crop, sources


@pytest.mark.parametrize("source", sources())
def test_every_source_gives_detailed_rgb_crops(source):
    crops = photographs(source, count=4, size=64)
    assert all(x.shape == (64, 64, 3) and x.dtype == np.uint8 for x in crops)
    detail = [np.abs(np.diff(x.astype(int), axis=0)).mean() for x in crops]
    assert np.median(detail) > 3 and not np.array_equal(crops[0], crops[1])


@pytest.mark.parametrize("kind", PROCEDURAL)
def test_procedural_images_differ_and_fill_the_range(kind):
    made = procedural(kind, count=3, size=48)
    assert all(x.shape == (48, 48, 3) and x.dtype == np.uint8 and x.std() > 8 for x in made)
    assert not np.array_equal(made[0], made[1])


@pytest.mark.parametrize("make, name", [(photographs, "coffee"), (procedural, "leaves")])
def test_the_seed_decides_and_more_images_do_not_change_the_first(make, name):
    first = make(name, count=1, size=48, seed=3)[0]
    np.testing.assert_array_equal(first, make(name, count=2, size=48, seed=3)[0])
    assert not np.array_equal(first, make(name, count=1, size=48, seed=4)[0])


def test_fractals_have_the_spectrum_of_nature():
    """Amplitude falls about as 1/f (Field, 1987): a slope of -0.9 to -1.4 was asked for."""
    grey = np.stack(procedural("fractal", count=8, size=128)).mean(-1)
    amplitude = np.abs(np.fft.fft2(grey - grey.mean((1, 2), keepdims=True))).mean(0)
    f = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None])
    band = (f > 0.03) & (f < 0.3)
    slope = np.polyfit(np.log(f[band]), np.log(amplitude[band]), 1)[0]
    assert -1.6 < slope < -0.7


def test_a_crop_avoids_empty_borders_when_there_is_something_else():
    x = np.zeros((200, 200, 3), np.uint8)
    x[100:] = np.random.default_rng(0).integers(0, 256, (100, 200, 3))
    rng = np.random.default_rng(0)
    assert all(random_crop((x,), 48, rng).std() > 12 for _ in range(10))


def test_unknown_names_are_listed_with_the_known():
    with pytest.raises(ValueError, match="no bundled photograph 'mona_lisa'; known: .*chelsea"):
        photographs("mona_lisa", count=1)
    with pytest.raises(ValueError, match="unknown kind 'noise'; known: leaves, fractal"):
        procedural("noise", count=1)


def test_a_crop_larger_than_the_photograph_is_refused_with_both_sizes():
    with pytest.raises(ValueError, match="300.*600|600.*300"):
        photographs("chelsea", count=1, size=600)
