"""Records: nothing impossible can be written down, and what is saved comes back."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from rali_lab.data.records import Distortion, RatedImage, load_images, mos_of, save_images, select

GREY = np.full((16, 24, 3), 128, np.uint8)
IMAGE = RatedImage(id="a", domain="photo", source="s", split="test", array=GREY)


@pytest.mark.parametrize("level", [0, 6, -1, float("nan")])
def test_levels_outside_1_to_5_are_refused(level):
    with pytest.raises(
        ValueError, match=r"distortion 'noise': level must be a whole number 1..5, got"
    ):
        Distortion("noise", level)


def test_level_words_follow_the_levels():
    words = [Distortion("noise", level).level_word for level in range(1, 6)]
    assert words == ["slight", "moderate", "obvious", "serious", "catastrophic"]


@pytest.mark.parametrize("change", [{"array": None}, {"path": "a.png"}])
def test_a_image_has_a_path_or_an_array(change):
    with pytest.raises(ValueError, match="image 'a': give either path or array, and only one"):
        replace(IMAGE, **change)


def test_an_unknown_split_is_refused():
    with pytest.raises(
        ValueError, match=r"image 'a': split must be one of \('train', 'val', 'test'\), got 'exam'"
    ):
        replace(IMAGE, split="exam")


def test_pixels_come_from_the_array_or_the_file(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    on_disk = replace(IMAGE, array=None, path=str(tmp_path / "a.png"))
    assert IMAGE.pixels() is GREY
    np.testing.assert_array_equal(on_disk.pixels(), GREY)


def test_saved_images_come_back_equal(tmp_path):
    distortions = (Distortion("jpeg", 2), Distortion("haze", 1))
    written = [
        replace(IMAGE, distortions=distortions, mos=1.2345678901234567, std=0.5, reference=2.0),
        replace(IMAGE, id="b", array=GREY + 1),
    ]
    save_images(written, tmp_path)
    read = load_images(tmp_path)
    assert read == written and read[0].distortions == distortions and read[1].mos is None
    for a, b in zip(read, written, strict=True):
        np.testing.assert_array_equal(a.pixels(), b.pixels())
        assert a.pixels().dtype == np.uint8


def test_select_by_domain_and_split_keeps_the_order():
    many = [
        replace(IMAGE, id=f"{d}{s}", domain=d, split=s) for d in "xyz" for s in ("train", "test")
    ]
    assert [p.id for p in select(many, domain="y")] == ["ytrain", "ytest"]
    assert [p.id for p in select(many, domain=("z", "x"), split="test")] == ["xtest", "ztest"]
    assert select(many, split=("train", "test")) == many == select(many)


def test_scores_of_unrated_images_are_an_error_not_a_number():
    rated = replace(IMAGE, mos=2.5)
    np.testing.assert_array_equal(mos_of([rated, rated]), [2.5, 2.5])
    with pytest.raises(ValueError, match="1 images have no score, the first is 'a'"):
        mos_of([rated, IMAGE])
