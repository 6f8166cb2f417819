"""Score tables: the declared scale decides, and every doubt is an error that names its line."""

import csv
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rali_lab.data.datasets import read_dataset
from rali_lab.data.label_files import read_delimited
from rali_lab.data.ratings import Columns, Scale, split_sources
from rali_lab.data.validation import check_dataset

ROOT = Path(__file__).parents[2]


@pytest.fixture
def table(tmp_path):
    """Write a score table and an image for every name in it; the arguments to read them."""

    def write(*rows, header="image,mos", with_files=True):
        path = tmp_path / "scores.csv"
        path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        (tmp_path / "images").mkdir(exist_ok=True)
        for name in {row.split(",")[0] for row in rows} if with_files else ():
            (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), "grey").save(tmp_path / "images" / name)
        return {
            "path": path,
            "layout": "table",
            "image_dir": tmp_path / "images",
            "domain": "d",
            "mos_range": (0, 100),
        }

    return write


def test_scores_follow_the_declared_range_not_the_data(table):
    images = read_dataset(**table("a.png,25", "sub/b.png,50"))
    assert [p.mos for p in images] == [2.0, 3.0]
    assert [(p.id, p.source, p.domain, p.std) for p in images] == [
        ("d/a.png", "d/a.png", "d", None),
        ("d/sub/b.png", "d/sub/b.png", "d", None),
    ]
    assert images[1].pixels().shape == (20, 20, 3)


def test_dmos_is_flipped_and_std_only_scaled(table):
    arguments = table("a.png,0.25,0.1", header="image,mos,std") | {"mos_range": (0, 1)}
    (image,) = read_dataset(**arguments, higher_is_better=False)
    assert (image.mos, image.std) == (4.0, 0.4)


@pytest.mark.parametrize("better", [True, False])
def test_scale_is_affine_onto_one_to_five(better):
    scale, values = Scale(917, 1836, higher_is_better=better), np.linspace(917, 1836, 9)
    mos = [scale.to_mos(value) for value in values]
    np.testing.assert_allclose(mos, np.linspace(1, 5, 9)[:: 1 if better else -1])
    np.testing.assert_allclose(scale.to_std(np.std(values)), np.std(mos))


@pytest.mark.parametrize("ends", [(1, 1), (5, 1), (0, float("nan")), (0, float("inf"))])
def test_an_impossible_range_is_refused(ends):
    with pytest.raises(ValueError, match="low < high"):
        Scale(*ends)


@pytest.mark.parametrize("cell", ["", "nan", "inf", "good", "100.1", "-3"])
def test_a_bad_score_is_named_with_its_line(table, cell):
    with pytest.raises(
        ValueError, match=rf"scores\.csv, line 3: mos is '{cell}', expected 0\.\.100; correct"
    ):
        read_dataset(**table("a.png,10", f"b.png,{cell}"))


@pytest.mark.parametrize("cell", ["-1", "nan"])
def test_a_bad_deviation_is_an_error_too(table, cell):
    with pytest.raises(ValueError, match=f"line 2: std is '{cell}'"):
        read_dataset(**table(f"a.png,10,{cell}", header="image,mos,std"))


def test_missing_columns_name_those_present(table):
    with pytest.raises(
        ValueError, match=r"no column \['MOS', 'ref'\]; present are \['image', 'mos'\]"
    ):
        read_delimited(
            table("a.png,10")["path"], Columns("image", "MOS", source="ref").names(), ","
        )


def test_missing_images_are_counted_and_some_named(table):
    with pytest.raises(
        FileNotFoundError, match=r"7 of 7 listed images are missing: 0.png, .*4.png and 2 more;"
    ):
        read_dataset(**table(*(f"{i}.png,10" for i in range(7)), with_files=False))


def test_a_folder_beside_that_holds_the_missing_images_is_named(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    (tmp_path / "ratings.csv").write_text("image,mos\na.png,2\nb.png,3\n")
    # Nothing at all is there: no report of a thousand missing images.
    for read in (read_dataset, check_dataset):
        with pytest.raises(
            FileNotFoundError,
            match="2 of 2 listed images are missing: a.png, b.png; .* it seems to be .*photos",
        ):
            read(tmp_path / "ratings.csv", mos_range=(1, 5))


def test_an_image_listed_twice_is_an_error(table):
    with pytest.raises(ValueError, match="a.png listed more than once"):
        read_dataset(**table("a.png,10", "b.png,10", "a.png,20"))


def test_no_table_an_empty_one_and_a_binary_one(table, tmp_path):
    arguments = table()
    with pytest.raises(ValueError, match="no rows below the header"):
        read_dataset(**arguments)
    arguments["path"].write_bytes(b"")
    with pytest.raises(ValueError, match=r"no column .* present are \[\]"):
        read_dataset(**arguments)
    arguments["path"].write_bytes(b"image,mos\n\xff\xfe\x00,1\n")
    with pytest.raises(ValueError, match="not a comma-separated UTF-8 table"):
        read_dataset(**arguments)
    with pytest.raises(FileNotFoundError, match="none.csv: score table not found"):
        read_delimited(tmp_path / "none.csv", ["image", "mos"], ",")


def test_a_byte_order_mark_from_a_spreadsheet_is_no_column(table):
    arguments = table("a.png,25")
    arguments["path"].write_text("\ufeffimage,mos\na.png,25\n", encoding="utf-8")
    assert read_dataset(**arguments)[0].mos == 2.0


def test_splits_keep_sources_whole_and_do_not_depend_on_order(table):
    rows = [f"{source}_{i}.png,50,{source}" for source in range(10) for i in range(3)]
    header = "image,mos,source"
    first = read_dataset(**table(*rows, header=header))
    again = read_dataset(**table(*rows[::-1], header=header))
    assert {p.id: p.split for p in first} == {p.id: p.split for p in again}
    assert Counter(p.split for p in first) == {"train": 21, "val": 3, "test": 6}
    assert len({(p.source, p.split) for p in first}) == 10
    others = [read_dataset(**table(*rows, header=header), seed=seed) for seed in range(1, 5)]
    assert any([p.split for p in other] != [p.split for p in first] for other in others)


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.6, 0.1), (1.2, -0.2, 0)])
def test_fractions_must_be_shares(fractions):
    with pytest.raises(ValueError, match="three shares"):
        split_sources("abc", seed=0, fractions=fractions)


def test_a_split_column_is_taken_as_published(table):
    rows = ["a.png,1,training", "b.png,1,validation", "c.png,1,Test"]
    images = read_dataset(**table(*rows, header="image,mos,split"))
    assert [p.split for p in images] == ["train", "val", "test"]
    with pytest.raises(ValueError, match="line 2: split is 'fold3', expected one of training"):
        read_dataset(**table("a.png,1,fold3", header="image,mos,split"))


def read_livec(folder):
    return read_dataset(
        folder / "ratings.csv",
        image_dir=folder / "images",
        domain="livec",
        mos_range=(0, 100),
        fractions=(0, 0, 1),
    )


def test_the_caller_names_the_domain_instead_of_the_table(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "images" / "1.jpg")
    rows = "image,mos,std,domain,orig_name\n1.jpg,75,20,authentic-mobile,1.bmp\n"
    (tmp_path / "ratings.csv").write_text(rows)
    (image,) = read_livec(tmp_path)
    assert (image.domain, image.split, image.mos, image.std) == ("livec", "test", 4.0, 0.8)
    assert image.id == image.source == "livec/1.jpg"


def test_livec_as_it_is_on_disk(monkeypatch, livec):
    monkeypatch.chdir(ROOT)
    images = read_livec(livec)
    assert len(images) == 600 == len({p.id for p in images})
    assert all(1 <= p.mos <= 5 and 0 < p.std < 4 and p.split == "test" for p in images)
    with (livec / "ratings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    copies = [
        (p, row)
        for p, row in zip(images, rows, strict=True)
        if row["stored"] == "original JPEG bytes"
    ]
    for image, row in copies[:5]:
        assert hashlib.sha256(Path(image.path).read_bytes()).hexdigest() == row["sha256_blob"]
        assert image.pixels().shape == (int(row["orig_h"]), int(row["orig_w"]), 3)
    assert (
        np.corrcoef([p.mos for p in images], [float(row["mos"]) for row in rows])[0, 1] > 1 - 1e-12
    )
