"""The check of a data set: silent on a good one, and one finding for each thing that makes a set
unfit, the sign included.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rali_lab.data import dataset_report
from rali_lab.data.dataset_report import check_dataset
from rali_lab.evaluate.correlation import correlate
from rali_lab.rali.scorer import load_scorer

ROOT = Path(__file__).parents[2]


class MeanScorer:
    """Scores an image by its mean, 0..255, and keeps what it has seen."""

    def __init__(self):
        self.seen = []

    def predict(self, images):
        means = [float(image.mean()) for image in images]
        self.seen += means
        return np.array(means)


@pytest.fixture
def scorer():
    return MeanScorer()


@pytest.fixture
def table(tmp_path):
    """Writes n images, each brighter than the one before, and a table whose scores rise with them.
    """

    def write(n=20, size=48, header="image,mos", more=lambda i: "", step=1):
        for i in range(n):
            Image.new("RGB", (size, size), (i, 0, 0)).save(tmp_path / f"{i:03}.png")
        scores = [1 + 4 * i / max(n - 1, 1) for i in range(n)][::step]
        rows = [f"{i:03}.png,{score}{more(i)}" for i, score in enumerate(scores)]
        path = tmp_path / "set.csv"
        path.write_text("\n".join([header, *rows]) + "\n")
        return path

    return write


def kinds(report):
    return [problem.kind for problem in report.report.problems]


def checked(scorer, path, **options):
    return check_dataset(path, scorer=lambda: scorer, **options)


def test_a_good_set(table, scorer):
    report = checked(scorer, table())
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


def test_scores_that_run_the_wrong_way(table, scorer):
    path = table(step=-1)
    report = checked(scorer, path)
    assert not report.ok and kinds(report) == ["sign"] and report.sign.ci_high < 0
    assert "sign: scores look as if lower were better: pass --dmos; SRCC -1.000" in str(report)
    flipped = checked(scorer, path, higher_is_better=False)
    assert (
        flipped.ok and flipped.sign.value == pytest.approx(1) and "lower is better" in str(flipped)
    )
    assert "yet they are flipped: leave out --dmos" in str(
        checked(scorer, table(), higher_is_better=False)
    )


def test_a_weak_sign_is_no_problem(table, scorer):
    path = table(n=20)
    head, *rows = path.read_text().splitlines()
    order = np.random.default_rng(3).permutation(20)
    mixed = [f"{rows[i].split(',')[0]},{rows[j].split(',')[1]}" for i, j in enumerate(order)]
    path.write_text("\n".join([head, *mixed]))
    report = checked(scorer, path)
    assert report.ok and report.sign.value < 0 < report.sign.ci_high


def test_the_interval_resamples_sources(table, scorer):
    path = table(n=24, header="image,mos,source", more=lambda i: f",s{i // 4}")
    head, *rows = path.read_text().splitlines()
    scores = [row.split(",")[1] for row in rows]
    order = np.random.default_rng(0).permutation(6).repeat(4) * 4 + np.tile(range(4), 6)
    rows = [
        row.replace(f",{score},", f",{scores[j]},")
        for row, score, j in zip(rows, scores, order, strict=True)
    ]
    path.write_text("\n".join([head, *rows]))
    mos = [float(scores[j]) for j in order]
    report = checked(scorer, path)
    assert report.sign == correlate(range(24), mos, kind="srcc", groups=np.arange(24) // 4)
    assert report.sign.ci_high - report.sign.ci_low > np.ptp(
        [(c := correlate(range(24), mos, kind="srcc")).ci_low, c.ci_high]
    )


@pytest.mark.parametrize("n", [1, 9])
def test_too_few_images_for_a_sign(table, scorer, n):
    report = checked(scorer, table(n=n))
    assert (
        report.ok
        and scorer.seen == []
        and f"sign        skipped: {n} readable images, expected at least 10" in str(report)
    )


def test_no_sign_without_torch_or_model_or_spread(table, scorer):
    path = table()

    def no_torch():
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    assert (
        check_dataset(path, scorer=no_torch).sign
        == "the scorer needs torch, which is not installed"
    )
    assert check_dataset(path).sign == "no scorer was given to compare with"
    path.write_text("image,mos\n" + "".join(f"{i:03}.png,3\n" for i in range(20)))
    assert checked(scorer, path).sign == "all 20 MOS are 3; check the label column"

    def gone():
        raise FileNotFoundError("no RALI model in here; run `make reproduce`")

    report = check_dataset(path, scorer=gone)
    assert report.ok and report.sign.startswith("no RALI model in here")


def test_images_too_small_for_the_scorer_are_not_shown_to_it(table, scorer):
    path = table(n=12)
    for i in range(4):
        Image.new("RGB", (dataset_report.MIN_SIDE - 1, 48), (i, 0, 0)).save(
            path.parent / f"{i:03}.png"
        )
    assert checked(scorer, path).sign == "8 images of at least 32 px among 12, expected 10"
    assert len(scorer.seen) == 8


def test_at_most_100_images_are_scored_evenly_spread(table, scorer):
    path = table(n=250)
    assert checked(scorer, path).sign.n == 100
    first, scorer.seen = scorer.seen, []
    assert checked(scorer, path).sign.n == 100 and scorer.seen == first
    places = np.array(first) * 3
    assert (
        places[0] == 0
        and places[-1] == pytest.approx(249)
        and set(np.diff(places.round())) == {2, 3}
    )


def test_files_that_are_not_there_or_no_images(table, scorer):
    path = table()
    for i in range(7):
        (path.parent / f"{i:03}.png").unlink()
    (path.parent / "007.png").write_text("no image")
    report = checked(scorer, path)
    assert kinds(report) == ["missing", "unreadable"] and report.sign.n == 12
    assert "12 readable, 7 missing, 1 unreadable" in str(report)
    named = ", ".join(f"set/00{i}.png" for i in range(5))
    assert f"missing: 7 of 20 images have no file ({named} and 2 more)" in str(report)


def test_duplicates_and_leaks(table, scorer):
    splits = ["train", "test"]
    path = table(
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
    assert report.report.problems[0].ids == ("set/004.png", "set/005.png")
    assert report.report.problems[-1].ids == ("set/010.png", "set/012.png")
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


def test_the_report_as_plain_values(table, scorer):
    path = table(n=12)
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
    small = checked(scorer, table(n=2)).to_dict()
    assert small["sign"] == {"skipped": "2 readable images, expected at least 10"}


def test_the_bundled_scorer_finds_the_sign_of_livec(monkeypatch, tmp_path, livec):
    monkeypatch.chdir(ROOT)
    head, *rows = (livec / "ratings.csv").read_text().splitlines()
    (tmp_path / "some.csv").write_text("\n".join([head, *rows[::6]]))
    report = check_dataset(
        tmp_path / "some.csv",
        scorer=load_scorer,
        image_dir=livec / "images",
        mos_range=(0, 100),
        higher_is_better=False,
    )
    assert kinds(report) == ["sign"] and report.sign.n == 100
