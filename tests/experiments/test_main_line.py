"""The line from a profile to artefacts, and the scorer that comes with the package."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rali_lab
from rali_lab import experiments
from rali_lab.cli import main
from rali_lab.data.content import photographs
from rali_lab.data.distortions import apply
from rali_lab.data.records import Distortion, select
from rali_lab.evaluate.protocol import assert_disjoint
from rali_lab.experiments import representations
from rali_lab.profiles import Profile, get_profile
from rali_lab.rali.scorer import load_scorer


@pytest.fixture(scope="module")
def scorer():
    return load_scorer()


def test_images_are_made_once_and_splits_share_no_source(tmp_path, monkeypatch):
    monkeypatch.setenv("RALI_LAB_ARTIFACTS", str(tmp_path))
    small = Profile("mini", {"photo": {"train": 11, "val": 3, "test": 5}})
    first, again = experiments.make_images(small), experiments.make_images(small)
    assert not first.reused and again.reused and first.key == again.key
    photo = experiments.images(small)
    assert_disjoint(select(photo, split=("train", "val")), select(photo, split="test"))


@pytest.mark.parametrize("name", ["gaussian_blur", "gaussian_noise", "jpeg"])
def test_the_packaged_scorer_falls_with_the_level_of_a_distortion(scorer, name):
    clean = [photographs(s, count=1)[0] for s in ("chelsea", "flower", "motorcycle_left", "life")]
    rng = np.random.default_rng(0)
    means = [
        scorer.predict([apply(x, (Distortion(name, v),), rng) for x in clean]).mean()
        for v in (1, 3, 5)
    ]
    assert means[0] > means[1] > means[2]


def test_the_packaged_scorer_is_small(scorer):
    assert scorer.parameters() < 0.05 * 3_671_008  # the committed base, docs/BASE_MODEL.md


def test_score_from_the_command_line(tmp_path, capsys):
    Image.fromarray(photographs("coffee", count=1)[0]).save(tmp_path / "a.png")
    (tmp_path / "broken.jpg").write_bytes(b"not an image")
    assert main(["score", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert (
        out.count("\n") == 1
        and out.rstrip().endswith("a.png")
        and 1 <= float(out.split("\t")[0]) <= 5
    )
    assert "broken.jpg" in err


def test_a_score_can_be_explained_in_words_from_the_command_line(tmp_path, capsys):
    noisy = apply(
        photographs("coffee", count=1)[0],
        (Distortion("gaussian_noise", 4),),
        np.random.default_rng(0),
    )
    Image.fromarray(noisy).save(tmp_path / "a.png")
    assert main(["score", str(tmp_path), "--explain"]) == 0
    score, path, words = capsys.readouterr().out.rstrip("\n").split("\t")
    assert float(score) < 3 and path.endswith("a.png") and "noise" in words
    assert main(["score", str(tmp_path), "--explain", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["words"] == words


def test_a_missing_model_names_the_way_out(tmp_path):
    with pytest.raises(FileNotFoundError, match="git checkout -- rali_lab"):
        load_scorer(str(tmp_path))


def test_real_photographs_are_scored_at_native_resolution(scorer, livec):
    from rali_lab.data.datasets import read_dataset

    table, folder = livec / "ratings.csv", livec / "images"
    images = read_dataset(table, image_dir=folder, mos_range=(0, 100))[:6]
    score = scorer.predict([p.pixels() for p in images])
    assert score.shape == (6,) and ((score >= 1) & (score <= 5)).all()


def test_profiles_know_what_goes_wrong():
    assert get_profile("tiny").collapse.beta == 0


def test_representations_follow_the_order_of_the_images_and_leave_a_hole_where_nothing_can_be_read(
    images,
):
    from rali_lab.models.vlm import base_folder
    from rali_lab.reasoner.prompts import score_answer
    from rali_lab.reasoner.rationales import to_table

    texts = [
        score_answer("I can see serious blur.", 2.0),
        score_answer("There is slight noise.", 4.0),
        "no form at all",
    ]
    packaged, three = Path(rali_lab.__file__).parent / "assets" / "rali", images[:3]

    def stages(order):
        table = to_table([three[i].id for i in order], [[texts[i]] for i in order])
        return representations._stages(
            [three[i] for i in order], {"base": base_folder()}, {"base": table}, packaged
        )

    found, turned = stages([0, 1, 2]), stages([2, 0, 1])
    assert set(found) == {
        "visual",
        "base_image",
        "base_reasoning",
        "base_score",
        "base_text",
        "clip",
        "rali",
    }
    for name, x in found.items():
        np.testing.assert_allclose(x[[2, 0, 1]], turned[name], atol=1e-4, err_msg=name)
        holes = np.isnan(x).any(axis=1).tolist()
        assert holes == (
            [False, False, True]
            if name in ("base_reasoning", "base_score", "base_text")
            else [False] * 3
        ), name
    assert len({x.shape[1] for x in found.values()}) > 1 and all(
        len(x) == 3 for x in found.values()
    )
