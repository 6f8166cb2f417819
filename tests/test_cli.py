"""The command line: one line per image, bad ones named on stderr, and exit codes that scripts can
trust.
"""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rali_lab import __version__, cli
from rali_lab.evaluate.results import Record, write_records

ROOT = Path(__file__).parents[1]


class MeanScorer:
    """Scores an image by its mean: black 1, white 5."""

    def predict(self, images):
        return np.array([1 + 4 * image.mean() / 255 for image in images])


@pytest.fixture
def scorer(monkeypatch):
    """Puts a scorer (or an error) in the place of the trained one; returns the asked-for folders.
    """
    asked = []

    def install(answer=None):
        def load_scorer(model_dir=None):
            asked.append(model_dir)
            if isinstance(answer, Exception):
                raise answer
            return answer or MeanScorer()

        monkeypatch.setattr("rali_lab.rali.scorer.load_scorer", load_scorer)
        return asked

    return install


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for name, grey in (("a.png", 0), ("b.png", 255)):
        Image.new("L", (20, 20), grey).save(tmp_path / "in" / name)
    return tmp_path / "in"


def test_scores_are_one_line_per_image(scorer, folder, capsys):
    asked = scorer()
    assert cli.main(["score", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [f"1.00\t{folder / 'a.png'}", f"5.00\t{folder / 'b.png'}"]
    assert err == "" and asked == [None]


def test_json_lines_and_a_chosen_model(scorer, folder, capsys):
    asked = scorer()
    assert cli.main(["score", str(folder / "b.png"), str(folder), "--json", "--model", "m"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        {"path": str(folder / "b.png"), "score": 5.0},
        {"path": str(folder / "a.png"), "score": 1.0},
    ]
    assert asked == ["m"]


def test_bad_images_are_named_and_the_others_still_scored(scorer, folder, capsys):
    scorer()
    (folder / "a2.jpg").write_bytes(b"")
    (folder / "empty").mkdir()
    assert cli.main(["score", str(folder), str(folder / "none.png"), str(folder / "empty")]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert [line.split(": ")[1] for line in err.splitlines()] == [
        str(folder / name) for name in ("none.png", "empty", "a2.jpg")
    ]


class Particular(MeanScorer):
    """Takes no image below 32 px, as the real one, and none that is red: that one is too large
    for its memory."""

    def predict(self, images):
        for i, image in enumerate(images):
            if min(image.shape[:2]) < 32:
                raise ValueError(
                    f"image {i} is {image.shape[1]} x {image.shape[0]} pixels, at least 32 x "
                    "32 are needed; leave it out"
                )
            if image[0, 0].tolist() == [255, 0, 0]:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            if image[0, 0].tolist() == [0, 0, 255]:
                raise MemoryError
        return super().predict(images)

    def nearest_texts(self, images):
        return [f"grey {value:.0f}" for value in self.predict(images)]

    texts_ = ("grey",)


@pytest.mark.parametrize("explain", [[], ["--explain"]])
def test_a_image_that_cannot_be_scored_is_named_and_the_others_are_scored(
    scorer, tmp_path, capsys, explain
):
    scorer(Particular())
    for name, colour, side in (
        ("a", "black", 40),
        ("b", "black", 20),
        ("c", "red", 40),
        ("d", "blue", 40),
        ("e", "white", 40),
    ):
        Image.new("RGB", (side, side), colour).save(tmp_path / f"{name}.png")
    (tmp_path / "f.png").write_bytes(b"no image")
    assert cli.main(["score", str(tmp_path), *explain]) == 1
    out, err = capsys.readouterr()
    assert [line.split("\t")[:2] for line in out.splitlines()] == [
        ["1.00", str(tmp_path / "a.png")],
        ["5.00", str(tmp_path / "e.png")],
    ]
    small, red, blue, none = err.splitlines()
    why = "is 20 x 20 pixels, at least 32 x 32 are needed; leave it out"
    assert small == f"rali-lab: {tmp_path / 'b.png'}: {why}"
    assert red == f"rali-lab: {tmp_path / 'c.png'}: DefaultCPUAllocator: can't allocate memory"
    assert blue == f"rali-lab: {tmp_path / 'd.png'}: MemoryError" and none.startswith(
        f"rali-lab: {tmp_path / 'f.png'}: not a JPEG"
    )


def test_the_real_scorer_names_a_small_image_too(tmp_path, capsys):
    for name, side in (("a", 40), ("b", 20), ("c", 32)):
        Image.new("RGB", (side, side), "grey").save(tmp_path / f"{name}.png")
    assert cli.main(["score", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert [line.split("\t")[1] for line in out.splitlines()] == [
        str(tmp_path / "a.png"),
        str(tmp_path / "c.png"),
    ]
    assert (
        err.startswith(f"rali-lab: {tmp_path / 'b.png'}: is 20 x 20 pixels, at least 32 x 32")
        and err.count("\n") == 1
    )


def test_nothing_to_score_does_not_load_the_model(scorer, tmp_path, capsys):
    asked = scorer()
    assert cli.main(["score", str(tmp_path)]) == 1
    assert asked == [] and "folder without images" in capsys.readouterr().err


def test_file_names_that_are_no_text_are_printed_as_their_bytes(scorer, folder, capfdbinary):
    scorer()
    name = os.fsencode(folder) + b"/\xff.png"
    os.rename(folder / "a.png", name)
    assert cli.main(["score", os.fsdecode(name)]) == 0
    assert capfdbinary.readouterr().out == b"1.00\t" + name + b"\n"


def test_a_score_that_is_no_number_is_not_printed(scorer, folder, capsys):
    scorer(types.SimpleNamespace(predict=lambda images: np.array([np.nan, 3.0])))
    assert cli.main(["score", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert out == f"3.00\t{folder / 'b.png'}\n" and "a.png: the model gave nan" in err


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError("no model;\nrun `make reproduce`"), ValueError("wrong hash; rebuild")],
)
def test_no_usable_model_is_one_line_and_exit_2(scorer, folder, capsys, error):
    scorer(error)
    assert cli.main(["score", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err == f"rali-lab: {' '.join(str(error).split())}\n"


@pytest.mark.parametrize(("quiet", "shown"), [([], True), (["--quiet"], False)])
def test_progress_is_shown_on_long_work_only(scorer, folder, capsys, quiet, shown):
    scorer()
    for i in range(cli.PROGRESS_FROM):
        Image.new("L", (20, 20)).save(folder / f"{i}.png")
    assert cli.main(["score", str(folder), *quiet]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == cli.PROGRESS_FROM + 2
    assert ("image" in err) == shown


def test_an_interrupted_run_has_printed_what_it_did(scorer, folder, capsys):
    class Tired:
        def __init__(self):
            self.calls = 0

        def predict(self, images):
            self.calls += 1
            if self.calls == 2:
                raise KeyboardInterrupt
            return np.ones(len(images))

    scorer(Tired())
    for i in range(cli.CHUNK):
        Image.new("L", (20, 20)).save(folder / f"{i}.png")
    assert cli.main(["score", str(folder)]) == 130
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == cli.CHUNK
    assert err == "rali-lab: interrupted; every line printed so far is complete\n"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two runs of the project, `small` newer than `tiny`."""
    monkeypatch.setenv("RALI_LAB_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for age, profile in ((100, "tiny"), (0, "small")):
        fields = {"profile": profile, "domain": "photo", "role": "in", "metric": "plcc"}
        path = tmp_path / "runs" / profile / "results.json"
        write_records(
            path,
            [Record(method="rali", value=0.9, ci_low=0.8, ci_high=0.95, n=120, seeds=3, **fields)],
        )
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("options", "profile"),
    [([], "small"), (["--profile", "tiny"], "tiny"), (["--run-dir", "runs/tiny"], "tiny")],
)
def test_results_as_a_table_and_as_records(runs, capsys, options, profile):
    assert cli.main(["results", *options]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.startswith("profile") and row.split()[:5] == [
        profile,
        "in",
        "photo",
        "plcc",
        "rali",
    ]
    assert cli.main(["results", "--json", *options]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert record["id"] == f"{profile}/rali/photo/plcc"
    assert (record["value"], record["ci_low"], record["n"], record["seeds"]) == (0.9, 0.8, 120, 3)


def test_missing_and_damaged_results_say_the_way_out(runs, capsys):
    assert cli.main(["results", "--profile", "huge"]) == 2
    assert "make reproduce" in capsys.readouterr().err
    (runs / "tiny" / "results.json").write_text("{")
    assert cli.main(["results", "--profile", "tiny"]) == 2
    assert "results.json" in capsys.readouterr().err


def test_no_run_at_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RALI_LAB_HOME", str(tmp_path))
    assert cli.main(["results"]) == 2
    assert "no results yet; run `make reproduce`" in capsys.readouterr().err


def test_validate_prints_the_report(folder, capsys):
    table = folder.parent / "set.csv"
    table.write_text("image,mos\na.png,0\nb.png,1\n")
    assert cli.main(["validate", str(table), str(folder), "--mos-range", "-1", "1", "--dmos"]) == 0
    assert (
        "set" in (out := capsys.readouterr().out) and "1.00..3.00" in out and "no problems" in out
    )


def test_validate_fails_on_problems_and_on_tables_it_cannot_read(folder, capsys):
    table = folder.parent / "set.csv"
    Image.new("L", (20, 20), 255).save(folder / "c.png")
    table.write_text("image,mos\nb.png,1\nc.png,2\n")
    arguments = ["validate", str(table), str(folder), "--mos-range", "1", "5"]
    assert cli.main(arguments) == 1
    assert "equal pixels" in capsys.readouterr().out
    table.write_text("image,mos\nb.png,bad\n")
    assert cli.main(arguments) == 1
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

    table, out = custom_dataset.example(tmp_path / "own", n=90), tmp_path / "mine"
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

    table, out = custom_dataset.example(tmp_path / "own", n=90), tmp_path / "mine"
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


def test_reproduce_passes_everything_on(monkeypatch):
    seen = []
    fake = types.ModuleType("rali_lab.reproduce.runner")
    fake.main = lambda argv: seen.append(argv)
    monkeypatch.setitem(sys.modules, "rali_lab.reproduce.runner", fake)
    monkeypatch.setattr("rali_lab.reproduce.runner", fake, raising=False)
    assert cli.main(["reproduce", "--profile", "tiny", "--only", "02", "--help"]) == 0
    assert seen == [["--profile", "tiny", "--only", "02", "--help"]]


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nonsense"],
        ["data"],
        ["data", "check"],
        ["data", "check", "a", "--mos-range", "1"],
        ["score"],
        ["score", "a.png", "--colour"],
        ["validate", "a.csv", "images"],
        ["results", "--profile", "tiny", "--run-dir", "x"],
    ],
)
def test_wrong_usage_exits_with_2(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2 and "usage: rali-lab" in capsys.readouterr().err


def run(code, **options):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


def test_version_and_help_stay_light():
    code = (
        "import sys; from rali_lab import cli\n"
        "try: cli.main(['--version'])\n"
        "finally: print(sorted({'torch', 'numpy', 'PIL', 'transformers'} & set(sys.modules)))"
    )
    assert run(code).stdout == f"rali-lab {__version__}\n[]\n"


def test_a_reader_that_leaves_early_is_no_error():
    """The pipe is closed by hand, as `head` would do."""
    code = (
        "import os, sys; from rali_lab import cli\n"
        "read, write = os.pipe(); os.close(read); os.dup2(write, 1)\n"
        "cli._results = lambda args: print('x' * 100_000) or 0\n"
        "sys.exit(cli.main(['results']))"
    )
    done = run(code)
    assert (done.returncode, done.stderr) == (141, "")
