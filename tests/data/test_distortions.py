"""Distortions: repeatable, harmless to their input, stronger with every level, on images of any
size and shape.
"""

import numpy as np
import pytest

from rali_lab.data.content import photographs
from rali_lab.data.distortions import ORDER, STRENGTHS, TYPES, WORDS, apply
from rali_lab.data.records import Distortion


@pytest.fixture(scope="module")
def crops():
    return [photographs(s, count=1, size=128)[0] for s in ("coffee", "china", "chelsea", "rocket")]


def distorted(image, name, level, seed=1):
    return apply(image, (Distortion(name, level),), np.random.default_rng(seed))


def test_every_type_has_strengths_a_word_and_a_place_in_the_order():
    assert set(TYPES) == set(STRENGTHS) == set(ORDER) and len(ORDER) == len(TYPES)
    assert {t.word for t in TYPES.values()} == set(WORDS) and len(set(WORDS)) == len(WORDS)
    for name, strengths in STRENGTHS.items():
        low, high = TYPES[name].span
        assert low <= min(strengths) and max(strengths) <= high, name


@pytest.mark.parametrize("name", TYPES)
def test_each_level_is_farther_from_the_original(name, crops):
    distance = [
        np.mean([np.abs(distorted(x, name, level).astype(float) - x).mean() for x in crops])
        for level in range(1, 6)
    ]
    assert distance[0] > 0 and all(np.diff(distance) > 0), distance


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("shape", [(32, 32), (33, 57), (192, 48), (192, 192)])
def test_any_size_and_shape(name, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for level in (1, 5):
        made = distorted(image, name, level)
        assert (
            made.shape == image.shape and made.dtype == np.uint8 and not np.array_equal(made, image)
        )


@pytest.mark.parametrize("name", TYPES)
def test_the_same_generator_gives_the_same_pixels_and_the_input_stays(name, crops):
    before = crops[0].copy()
    np.testing.assert_array_equal(distorted(crops[0], name, 3), distorted(crops[0], name, 3))
    np.testing.assert_array_equal(crops[0], before)


@pytest.mark.parametrize(
    "name",
    ["gaussian_noise", "shot_noise", "impulse_noise", "motion_blur", "warping", "repetition"],
)
def test_another_seed_gives_other_pixels(name, crops):
    assert not np.array_equal(distorted(crops[0], name, 3), distorted(crops[0], name, 3, seed=2))


def test_stacked_distortions_are_applied_in_the_order_given(crops):
    blur, noise = Distortion("gaussian_blur", 5), Distortion("gaussian_noise", 3)
    grainy = apply(crops[0], (blur, noise), np.random.default_rng(0))
    smooth = apply(crops[0], (noise, blur), np.random.default_rng(0))
    roughness = [np.abs(np.diff(x.astype(float), axis=0)).mean() for x in (grainy, smooth)]
    assert roughness[0] > 3 * roughness[1]


def test_what_a_type_is_named_after_happens(crops):
    x = crops[1]
    assert distorted(x, "darkening", 3).mean() < x.mean() < distorted(x, "overexposure", 3).mean()
    assert distorted(x, "haze", 4).std() < 0.6 * x.std()
    assert len(np.unique(distorted(x, "banding", 5)[..., 0])) < 6
    specks = distorted(x, "impulse_noise", 3)
    changed = (specks != x).any(-1)
    assert set(np.unique(specks[changed])) <= {0, 255} and 0 < changed.mean() < 0.3


@pytest.mark.parametrize(
    "bad", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3))]
)
def test_what_is_no_rgb_image_is_refused(bad):
    with pytest.raises(ValueError, match=r"expected a \(H, W, 3\) uint8 image, got \(8, 8"):
        apply(bad, (), np.random.default_rng(0))


def test_an_unknown_type_is_named_with_those_that_exist(crops):
    with pytest.raises(ValueError, match="unknown distortion 'fog'; known: gaussian_blur, "):
        distorted(crops[0], "fog", 1)
