"""Every way in which a label file can be broken is named with its row and its way out."""

import json
import re
import zipfile

import numpy as np
import openpyxl
import pandas as pd
import pytest
from scipy.io import savemat

from rali_lab.data.datasets import read_dataset
from tests.data.miniatures import (
    CSIQ_HEAD,
    CSIQ_ROWS,
    csiq,
    deqa,
    draw,
    kadid,
    koniq,
    livec,
    sheet,
    spaq,
    tid,
    write,
)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_header_decides_the_separator(tmp_path, separator):
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
