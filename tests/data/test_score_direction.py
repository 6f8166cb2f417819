"""The sign of the scores, found by a scorer where there are enough images, with an interval."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rali_lab.data.score_direction import MIN_SIDE
from rali_lab.data.validation import check_dataset
from rali_lab.evaluate.correlation import correlate
from tests.data.miniatures import MeanScorer, checked, kinds, rising

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scorer():
    return MeanScorer()


def test_scores_that_run_the_wrong_way(tmp_path, scorer):
    path = rising(tmp_path, step=-1)
    report = checked(scorer, path)
    assert not report.ok and kinds(report) == ["sign"] and report.sign.ci_high < 0
    assert "sign: scores look as if lower were better: pass --dmos; SRCC -1.000" in str(report)
    flipped = checked(scorer, path, higher_is_better=False)
    assert (
        flipped.ok and flipped.sign.value == pytest.approx(1) and "lower is better" in str(flipped)
    )
    assert "yet they are flipped: leave out --dmos" in str(
        checked(scorer, rising(tmp_path), higher_is_better=False)
    )


def test_a_weak_sign_is_no_problem(tmp_path, scorer):
    path = rising(tmp_path, n=20)
    head, *rows = path.read_text().splitlines()
    order = np.random.default_rng(3).permutation(20)
    mixed = [f"{rows[i].split(',')[0]},{rows[j].split(',')[1]}" for i, j in enumerate(order)]
    path.write_text("\n".join([head, *mixed]))
    report = checked(scorer, path)
    assert report.ok and report.sign.value < 0 < report.sign.ci_high


def test_the_interval_resamples_sources(tmp_path, scorer):
    path = rising(tmp_path, n=24, header="image,mos,source", more=lambda i: f",s{i // 4}")
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
def test_too_few_images_for_a_sign(tmp_path, scorer, n):
    report = checked(scorer, rising(tmp_path, n=n))
    assert (
        report.ok
        and scorer.means == []
        and f"sign        skipped: {n} readable images, expected at least 10" in str(report)
    )


def test_no_sign_without_torch_or_model_or_spread(tmp_path, scorer):
    path = rising(tmp_path)

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


def test_images_too_small_for_the_scorer_are_not_shown_to_it(tmp_path, scorer):
    path = rising(tmp_path, n=12)
    for i in range(4):
        Image.new("RGB", (MIN_SIDE - 1, 48), (i, 0, 0)).save(path.parent / f"{i:03}.png")
    assert checked(scorer, path).sign == "8 images of at least 32 px among 12, expected 10"
    assert len(scorer.means) == 8


def test_at_most_100_images_are_scored_evenly_spread(tmp_path, scorer):
    path = rising(tmp_path, n=250)
    assert checked(scorer, path).sign.n == 100
    first, scorer.means = scorer.means, []
    assert checked(scorer, path).sign.n == 100 and scorer.means == first
    places = np.array(first) * 3
    assert (
        places[0] == 0
        and places[-1] == pytest.approx(249)
        and set(np.diff(places.round())) == {2, 3}
    )


def test_the_bundled_scorer_finds_the_sign_of_livec(monkeypatch, tmp_path, livec):
    from rali_lab.rali.scorer import load_scorer

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
