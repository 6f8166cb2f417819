"""The validator: silent on good images, and one finding for each thing that makes a score table
lie.
"""

import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from rali_lab.data.records import RatedImage
from rali_lab.data.validation import validate


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return [
        RatedImage(
            id=f"d/{i}",
            domain="d",
            source=f"s{i}",
            split=("train", "train", "val", "test")[i],
            mos=1.5 + i / 2,
            std=0.5,
            array=rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8),
        )
        for i in range(4)
    ]


def kinds(images):
    return [(problem.kind, problem.ids) for problem in validate(images).problems]


def test_good_images_pass_and_are_counted(images):
    report = validate(images)
    assert report.ok and report.raise_if_bad() is None
    (summary,) = report.domains
    assert (summary.counts, summary.unrated, summary.mos) == ((2, 1, 1), 0, (1.5, 3.0))
    assert (summary.smallest, summary.largest) == ((30, 20), (30, 23))
    assert "1.50..3.00  30x20..30x23" in str(report) and str(report).endswith("no problems found")
    with pytest.raises(FrozenInstanceError):
        report.problems = ()


def test_an_empty_list_has_nothing_wrong():
    assert validate([]).ok and str(validate([])).startswith("domain")


def test_duplicate_ids(images):
    assert kinds([*images, replace(images[0], source="new", array=images[0].array[:-1])]) == [
        ("duplicate id", ("d/0",))
    ]


def test_a_source_in_two_splits_even_over_domains(images):
    other = replace(images[0], id="e/0", domain="e", split="test", array=images[0].array[:-1])
    assert kinds([*images, other]) == [("divided source", ("d/0", "e/0"))]


def test_equal_pixels_across_splits(images):
    copy = replace(images[0], id="d/copy", source="new", split="test")
    assert kinds([*images, copy]) == [("equal pixels", ("d/0", "d/copy"))]


def test_equal_pixels_with_differing_scores_count_within_a_domain(images):
    copy = replace(images[0], id="d/copy", mos=4.0)
    assert kinds([*images, copy]) == [("equal pixels", ("d/0", "d/copy"))]
    assert kinds([*images, replace(copy, mos=images[0].mos)]) == [("duplicate", ("d/0", "d/copy"))]
    assert kinds([*images, replace(copy, domain="e")]) == [], (
        "another domain may rate it differently"
    )


def test_equal_pixels_inside_one_split_are_one_finding(images):
    copies = [replace(images[0], id=f"d/copy{i}", source=f"new{i}") for i in range(3)]
    report = validate([*images, *copies])
    assert [str(p) for p in report.problems] == [
        "duplicate: equal pixels 4 times in split train of 'd' (d/0, d/copy0, d/copy1, d/copy2)"
    ]
    assert kinds([*images, copies[0], replace(copies[1], split="test")]) == [
        ("equal pixels", ("d/0", "d/copy0", "d/copy1"))
    ]
    assert kinds([*images, replace(copies[0], domain="e")]) == [], (
        "two domains may hold the same image"
    )


def test_equal_bytes_in_another_shape_are_not_equal_pixels(images):
    turned = replace(
        images[0],
        id="d/turned",
        split="test",
        source="new",
        array=images[0].array.reshape(30, 20, 3),
    )
    assert kinds([*images, turned]) == []


@pytest.mark.parametrize(
    "change", [{"mos": math.nan}, {"mos": 0.99}, {"mos": 60.0}, {"std": math.nan}, {"std": -1.0}]
)
def test_impossible_scores(images, change):
    images[1] = replace(images[1], **change)
    assert kinds(images) == [("bad score", ("d/1",))]


def test_unrated_images_are_counted_not_blamed(images):
    report = validate([replace(p, mos=None, std=None) for p in images])
    assert report.ok and report.domains[0].unrated == 4 and report.domains[0].mos is None


def test_an_unreadable_file_does_not_stop_the_others(images, tmp_path):
    (tmp_path / "bad.png").write_text("no image")
    images.insert(0, replace(images[0], id="d/bad", array=None, path=str(tmp_path / "bad.png")))
    report = validate(images)
    assert [(p.kind, p.ids) for p in report.problems] == [("unreadable", ("d/bad",))]
    assert "bad.png" in str(report) and report.domains[0].smallest == (30, 20)


def test_missing_files_are_counted_together_and_five_are_named(images, tmp_path):
    gone = [
        replace(images[0], id=f"d/gone{i}", array=None, path=str(tmp_path / f"{i}.png"))
        for i in range(7)
    ]
    report = validate([*images, *gone])
    assert [(p.kind, p.ids) for p in report.problems] == [("missing", tuple(p.id for p in gone))]
    assert (
        "missing: 7 of 11 images have no file (d/gone0, d/gone1, d/gone2, d/gone3, d/gone4 and 2"
        " more)" in str(report)
    )


def test_all_problems_are_raised_together(images):
    report = validate([replace(images[0], mos=9.0), replace(images[0], split="test")])
    with pytest.raises(
        ValueError, match=r"(?s)5 problems.*duplicate id.*divided source.*equal pixels.*bad score"
    ):
        report.raise_if_bad()
