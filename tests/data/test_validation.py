"""The checks: silent on a good set, and one finding for each thing that makes a set unfit."""

import json
import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from PIL import Image

from rali_lab.data.records import RatedImage
from rali_lab.data.validation import validate
from tests.data.miniatures import MeanScorer, checked, kinds, rising


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


@pytest.fixture
def scorer():
    return MeanScorer()


def found(images):
    return [(problem.kind, problem.ids) for problem in validate(images).problems]


def test_good_images_pass_and_are_counted(images):
    report = validate(images)
    assert report.ok and report.raise_if_bad() is None
    assert list(report.domains.index) == ["d"]
    assert report.domains.loc["d", ["train", "val", "test", "unrated"]].tolist() == [2, 1, 1, 0]
    assert report.domains.loc["d", ["mos", "size (pixels)"]].tolist() == [
        "1.50..3.00",
        "30x20..30x23",
    ]
    assert "1.50..3.00  30x20..30x23" in str(report) and str(report).endswith("no problems found")
    with pytest.raises(FrozenInstanceError):
        report.problems = ()


def test_an_empty_list_has_nothing_wrong():
    assert validate([]).ok and str(validate([])).startswith("no images")


def test_duplicate_ids(images):
    assert found([*images, replace(images[0], source="new", array=images[0].array[:-1])]) == [
        ("duplicate id", ("d/0",))
    ]


def test_a_source_in_two_splits_even_over_domains(images):
    other = replace(images[0], id="e/0", domain="e", split="test", array=images[0].array[:-1])
    assert found([*images, other]) == [("divided source", ("d/0", "e/0"))]


def test_equal_pixels_across_splits(images):
    copy = replace(images[0], id="d/copy", source="new", split="test")
    assert found([*images, copy]) == [("equal pixels", ("d/0", "d/copy"))]


def test_equal_pixels_with_differing_scores_count_within_a_domain(images):
    copy = replace(images[0], id="d/copy", mos=4.0)
    assert found([*images, copy]) == [("equal pixels", ("d/0", "d/copy"))]
    assert found([*images, replace(copy, mos=images[0].mos)]) == [("duplicate", ("d/0", "d/copy"))]
    assert found([*images, replace(copy, domain="e")]) == [], (
        "another domain may rate it differently"
    )


def test_equal_pixels_inside_one_split_are_one_finding(images):
    copies = [replace(images[0], id=f"d/copy{i}", source=f"new{i}") for i in range(3)]
    report = validate([*images, *copies])
    assert [str(p) for p in report.problems] == [
        "duplicate: equal pixels 4 times in split train of 'd' (d/0, d/copy0, d/copy1, d/copy2)"
    ]
    assert found([*images, copies[0], replace(copies[1], split="test")]) == [
        ("equal pixels", ("d/0", "d/copy0", "d/copy1"))
    ]
    assert found([*images, replace(copies[0], domain="e")]) == [], (
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
    assert found([*images, turned]) == []


@pytest.mark.parametrize(
    "change", [{"mos": math.nan}, {"mos": 0.99}, {"mos": 60.0}, {"std": math.nan}, {"std": -1.0}]
)
def test_impossible_scores(images, change):
    images[1] = replace(images[1], **change)
    assert found(images) == [("bad score", ("d/1",))]


def test_an_unreadable_file_does_not_stop_the_others(images, tmp_path):
    (tmp_path / "bad.png").write_text("no image")
    images.insert(0, replace(images[0], id="d/bad", array=None, path=str(tmp_path / "bad.png")))
    report = validate(images)
    assert [(p.kind, p.ids) for p in report.problems] == [("unreadable", ("d/bad",))]
    assert "bad.png" in str(report)
    assert report.domains.loc["d", "size (pixels)"].startswith("30x20..")


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


def test_unrated_images_are_counted_and_no_problem(images):
    report = validate([replace(p, mos=None, std=None) for p in images])
    assert report.ok
    assert report.domains.loc["d", "unrated"] == 4 and report.domains.loc["d", "mos"] == "-"


def test_a_good_set(tmp_path, scorer):
    report = checked(scorer, rising(tmp_path))
    assert report.ok and report.sign.value == pytest.approx(1) and report.sign.n == 20
    lines = str(report).splitlines()
    assert lines[0].startswith("layout      table: a table with image and mos")
    assert lines[1].startswith("label file  ") and lines[1].endswith("set.csv")
    assert lines[2].endswith("20 readable, 0 missing, 0 unreadable")
    assert lines[3:6] == [
        "score       column mos, scale 1..5, higher is better (by default)",
        "range       1..5 in the file, 1.00..5.00 on 1..5",
        "split       by source and seed, the labels have none",
    ]
    assert lines[6].startswith("sign        SRCC 1.000 [") and lines[6].endswith(
        "n = 20 with the bundled scorer"
    )
    assert "48x48..48x48" in str(report) and lines[-1] == "no problems found"


def test_files_that_are_not_there_or_no_images(tmp_path, scorer):
    path = rising(tmp_path)
    for i in range(7):
        (path.parent / f"{i:03}.png").unlink()
    (path.parent / "007.png").write_text("no image")
    report = checked(scorer, path)
    assert kinds(report) == ["missing", "unreadable"] and report.sign.n == 12
    assert "12 readable, 7 missing, 1 unreadable" in str(report)
    named = ", ".join(f"set/00{i}.png" for i in range(5))
    assert f"missing: 7 of 20 images have no file ({named} and 2 more)" in str(report)


def test_duplicates_and_leaks(tmp_path, scorer):
    splits = ["train", "test"]
    path = rising(
        tmp_path,
        header="image,mos,split,source",
        more=lambda i: f",{splits[i % 2]},{'shared' if i in (4, 5) else f's{i}'}",
    )
    pixels = (path.parent / "000.png").read_bytes()
    (path.parent / "001.png").write_bytes(pixels)
    (path.parent / "012.png").write_bytes((path.parent / "010.png").read_bytes())
    text = path.read_text().splitlines()
    text[13] = text[13].replace(text[13].split(",")[1], text[11].split(",")[1])
    path.write_text("\n".join(text))
    report = checked(scorer, path)
    assert kinds(report) == ["divided source", "equal pixels", "equal pixels", "duplicate"]
    assert report.problems[0].ids == ("set/004.png", "set/005.png")
    assert report.problems[-1].ids == ("set/010.png", "set/012.png")
    assert "split       column split" in str(report)


def test_scores_cut_by_the_fitted_scale_are_noted(tmp_path, scorer):
    for i in range(20):
        (tmp_path / "Distortion_1").mkdir(exist_ok=True)
        Image.new("RGB", (48, 48), (i, 0, 0)).save(tmp_path / "Distortion_1" / f"A{i:04}_00.bmp")
        (tmp_path / "Train_Label").mkdir(exist_ok=True)
        (tmp_path / "Train_Label" / f"A{i:04}.txt").write_text(f"A{i:04}_00.bmp,{1000 + 10 * i}\n")
    report = checked(scorer, tmp_path, fractions=(0.5, 0, 0.5))
    train = [
        raw
        for p, raw in zip(report.rated.images, report.rated.raw, strict=True)
        if p.split == "train"
    ]
    cut = sum(not min(train) <= raw <= max(train) for raw in report.rated.raw)
    assert cut > 0 and report.ok
    assert (
        f"note        {cut} of 20 scores lie outside {min(train):g}..{max(train):g}, the range of"
        " the training part" in str(report)
    )
    assert "(found on the training part)" in str(report) and "A0000.txt and 19 more" in str(report)
    assert report.to_dict()["cut"] == cut and report.to_dict()["scale"]["high"] == max(train)


def test_the_report_as_plain_values(tmp_path, scorer):
    path = rising(tmp_path, n=12)
    (path.parent / "003.png").unlink()
    row = json.loads(json.dumps(checked(scorer, path, mos_range=(0, 10)).to_dict()))
    assert (row["layout"], row["column"], row["labels"], row["ok"]) == (
        "table",
        "mos",
        [str(path)],
        False,
    )
    assert row["scale"] == {
        "low": 0,
        "high": 10,
        "higher_is_better": True,
        "ends": "declared by the caller",
    }
    assert (row["raw"], row["mos"]) == ([1, 5], [1.4, 3.0])
    assert (
        row["files"] == {"readable": 11, "missing": 1, "unreadable": 0}
        and sum(row["counts"].values()) == 12
    )
    assert row["problems"] == [
        {
            "kind": "missing",
            "message": "1 of 12 images have no file (set/003.png)",
            "ids": ["set/003.png"],
        }
    ]
    assert row["sign"]["srcc"] == pytest.approx(1) and row["sign"]["n"] == 11
    small = checked(scorer, rising(tmp_path, n=2)).to_dict()
    assert small["sign"] == {"skipped": "2 readable images, expected at least 10"}
