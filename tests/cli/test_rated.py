"""`rali-lab data check` and `rali-lab fit` on tables of rated images."""

import json

import pytest
from PIL import Image

from rali_lab import cli


def test_data_check_of_a_small_table(scorer, folder, capsys):
    scorer()
    table = folder.parent / "set.csv"
    table.write_text("image,mos\na.png,0\nb.png,1\n")
    options = ["data", "check", str(table), "--images", str(folder), "--mos-range"]
    assert cli.main([*options, "-1", "1", "--dmos"]) == 0
    assert (
        "set" in (out := capsys.readouterr().out) and "1.00..3.00" in out and "no problems" in out
    )
    Image.new("L", (20, 20), 255).save(folder / "c.png")
    table.write_text("image,mos\nb.png,1\nc.png,2\n")
    assert cli.main([*options, "1", "5"]) == 1
    assert "equal pixels" in capsys.readouterr().out
    table.write_text("image,mos\nb.png,bad\n")
    assert cli.main([*options, "1", "5"]) == 1
    assert "line 2: mos is 'bad'" in capsys.readouterr().err


@pytest.fixture
def bright(tmp_path):
    """A table of twelve images, the score rising with the brightness."""
    (tmp_path / "images").mkdir()
    for i in range(12):
        Image.new("L", (40, 40), 20 * i).save(tmp_path / "images" / f"{i}.png")
    table = tmp_path / "set.csv"
    table.write_text("image,mos\n" + "".join(f"{i}.png,{8 * i}\n" for i in range(12)))
    return table


def test_data_check_prints_what_it_took_and_what_it_found(scorer, bright, capsys):
    scorer()
    options = [str(bright), "--images", str(bright.parent / "images"), "--mos-range", "0", "100"]
    assert cli.main(["data", "check", *options]) == 0
    out, err = capsys.readouterr()
    assert (
        "column mos, scale 0..100, higher is better" in out
        and "SRCC 1.000" in out
        and out.endswith("no problems found\n")
    )
    assert err == ""
    assert cli.main(["data", "check", *options, "--dmos"]) == 1
    assert "sign: scores look as if higher were better" in capsys.readouterr().out
    (bright.parent / "images" / "3.png").unlink()
    assert cli.main(["data", "check", *options, "--json", "--layout", "table"]) == 1
    row = json.loads(capsys.readouterr().out)
    assert (
        row["files"] == {"readable": 11, "missing": 1, "unreadable": 0}
        and row["sign"]["n"] == 11
        and not row["ok"]
    )


def test_data_check_of_what_cannot_be_read_is_one_line_and_exit_1(scorer, bright, capsys):
    asked = scorer()
    for path, message in (
        (bright, "mos lies in 0..88"),
        (bright.parent, "no known layout"),
        (bright.parent / "x", "does not exist"),
    ):
        assert cli.main(["data", "check", str(path)]) == 1
        out, err = capsys.readouterr()
        assert (
            out == "" and err.startswith("rali-lab: ") and message in err and err.count("\n") == 1
        )
    assert asked == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layout", "kadid"], "--layout 'kadid' is not known; choose one of koniq10k,"),
        (["--mos-range", "100", "0"], "--mos-range 100 0: give the lower end first"),
        (["--mos-range", "0", "nan"], "--mos-range 0 nan: give the lower end first, both finite"),
    ],
)
def test_data_check_wrong_usage_is_exit_2(bright, capsys, options, message):
    assert cli.main(["data", "check", str(bright), *options]) == 2
    assert message in capsys.readouterr().err


def test_fit_writes_a_scorer_that_score_takes(tmp_path, capsys):
    """The table's own test split is not learned from, and what is there is not overwritten."""
    from rali_lab.data.datasets import read_dataset
    from rali_lab.experiments import custom_dataset
    from rali_lab.rali.scorer import RaliScorer

    table, out = custom_dataset.write_example(tmp_path / "own", n=90), tmp_path / "mine"
    rows = table.read_text().splitlines()
    splits = ["split", *("test" if i % 5 == 0 else "train" for i in range(90))]
    table.write_text("\n".join(f"{row},{split}" for row, split in zip(rows, splits, strict=True)))
    assert (
        cli.main(
            [
                "fit",
                str(table),
                "--mos-range",
                "1",
                "5",
                "--out",
                str(out),
                "--quick",
                "--limit",
                "70",
            ]
        )
        == 0
    )
    assert capsys.readouterr().out.startswith(
        f"{out}: fitted on 70 of 90 images (18 of the split test are never learned from)"
    )
    scorer = RaliScorer.load(out)
    assert len(scorer.trained_ids_) == 70
    for p in read_dataset(table, mos_range=(1, 5)):
        if p.split == "test":
            scorer.predict([p.pixels()], ids=[p.id])  # refuses what it was trained on
    image = str(table.parent / rows[1].split(",")[0])
    assert cli.main(["score", image, "--model", str(out), "--explain"]) == 0
    score, path, words = capsys.readouterr().out.strip().split("\t")
    assert (
        0 < float(score) < 6
        and path == image
        and words.startswith("The quality of this picture is ")
    )
    assert cli.main(["fit", str(table), "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert cli.main(["fit", str(table), "--out", str(out / "config.json" / "x")]) == 2
    assert "config.json/x: " in capsys.readouterr().err
    assert cli.main(["fit", str(table), "--out", str(tmp_path / "new"), "--limit", "-5"]) == 2
    assert "--limit -5: it takes 60 images or more" in capsys.readouterr().err


def test_fit_refuses_scores_that_run_the_other_way(tmp_path, capsys):
    from rali_lab.experiments import custom_dataset

    table, out = custom_dataset.write_example(tmp_path / "own", n=90), tmp_path / "mine"
    head, *rows = (row.split(",") for row in table.read_text().splitlines())
    at = head.index("mos")
    turned = [[*row[:at], f"{6 - float(row[at]):.3f}", *row[at + 1 :]] for row in rows]
    table.write_text("\n".join(",".join(row) for row in [head, *turned]))
    asked = ["fit", str(table), "--mos-range", "1", "5", "--quick", "--out", str(out)]
    assert cli.main(asked) == 1
    printed, err = capsys.readouterr()
    assert printed == "" and err.count("\n") == 1 and not out.exists()
    assert (
        "run the other way" in err
        and "SRCC -0." in err
        and "--dmos" in err
        and "--trust-direction" in err
    )
    assert cli.main([*asked, "--dmos"]) == 0
    assert (
        cli.main([*asked[:-1], str(tmp_path / "sure"), "--trust-direction"]) == 0
        and (tmp_path / "sure").exists()
    )


def test_fit_to_what_cannot_be_learned_is_one_line_and_exit_1(bright, tmp_path, capsys):
    images = ["--images", str(bright.parent / "images"), "--out", str(tmp_path / "out")]
    for options, message in (
        ([], "mos lies in 0..88"),
        (["--mos-range", "0", "100"], "12 images of 12 sources are too few"),
    ):
        assert cli.main(["fit", str(bright), *options, *images]) == 1
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()
