"""`rali-lab score`: one line per image, bad ones named on stderr."""

import json
import os
import types

import numpy as np
import pytest
from PIL import Image

from rali_lab import cli
from rali_lab.cli.score import CHUNK, PROGRESS_FROM


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


class Particular:
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
        return np.array([1 + 4 * image.mean() / 255 for image in images])

    def nearest_texts(self, images):
        return [f"grey {value:.0f}" for value in self.predict(images)]

    texts_ = ("grey",)


@pytest.mark.parametrize("explain", [[], ["--explain"]])
def test_an_image_that_cannot_be_scored_is_named_and_the_others_are_scored(
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
    for i in range(PROGRESS_FROM):
        Image.new("L", (20, 20)).save(folder / f"{i}.png")
    assert cli.main(["score", str(folder), *quiet]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == PROGRESS_FROM + 2
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
    for i in range(CHUNK):
        Image.new("L", (20, 20)).save(folder / f"{i}.png")
    assert cli.main(["score", str(folder)]) == 130
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == CHUNK
    assert err == "rali-lab: interrupted; every line printed so far is complete\n"
