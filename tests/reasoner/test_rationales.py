"""Rationales: every answer is a row, an interrupted run goes on where it stopped, and the summary
counts what failed.
"""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rali_lab.models import vlm
from rali_lab.reasoner import rationales
from rali_lab.reasoner.prompts import describe, findings, score_answer
from rali_lab.reasoner.rationales import (
    format_share,
    has_form,
    is_valid,
    named_exactly,
    naming_accuracy,
    ratings,
    summarise,
    to_table,
    valid_rationales,
    write_rationales,
)

NAN = math.nan


class Stub:
    """In the place of `vlm.ask`: writes the brightness of an image, records what it was given, and
    can be interrupted.
    """

    def __init__(self):
        self.seen, self.killed_by = [], None

    def __call__(self, model, processor, pixels, *, samples=1, **options):
        if any(x is self.killed_by for x in pixels):
            raise KeyboardInterrupt
        self.seen += pixels
        return [
            [score_answer(f"mean {x.mean():.3f}", 1 + 0.1 * s) for s in range(samples)]
            for x in pixels
        ]


@pytest.fixture
def ask(monkeypatch):
    stub = Stub()
    monkeypatch.setattr(vlm, "ask", stub)
    return stub


def test_one_row_per_answer_with_nothing_repaired():
    empty = "<think>x</think><answer>{}</answer>"
    table = to_table(
        ["a", "b"], [[score_answer("fine", 4.5), "junk"], [score_answer("", 9), empty]]
    )
    assert list(table.columns) == list(rationales.COLUMNS)
    assert table["image"].tolist() == ["a", "a", "b", "b"] and table["sample"].tolist() == [
        0,
        1,
        0,
        1,
    ]
    assert table["text"][1] == "junk" and table["reasoning"][0] == "fine"
    np.testing.assert_array_equal(table["rating"], [4.5, NAN, NAN, NAN])
    assert [s == "ok" for s in table["status"]] == [True, False, True, True]


def test_ratings_average_what_could_be_read_and_leave_the_rest_missing():
    table = to_table(
        ["a", "b"],
        [[score_answer("", 2), score_answer("", 3), "junk"], ["junk", "junk", score_answer("", 7)]],
    )
    np.testing.assert_array_equal(ratings(table, ["b", "a", "unknown"]), [NAN, 2.5, NAN])
    assert format_share(table) == pytest.approx(2 / 6)


def test_naming_counts_exact_sets_of_words_in_answers_of_the_right_form(images):
    one, two = images[:2]
    rng = np.random.default_rng(0)
    texts = {p.id: describe(findings(p.distortions), rng) for p in (one, two)}
    right = to_table(
        [one.id, two.id], [[score_answer(texts[one.id], 3)], [score_answer(texts[two.id], 3)]]
    )
    wrong = to_table(
        [one.id, two.id], [[score_answer(texts[two.id], 3)], [score_answer(texts[one.id], 3)]]
    )
    no_form = to_table([one.id, two.id], [[texts[one.id]], [texts[two.id]]])
    assert [naming_accuracy(t, images) for t in (right, wrong, no_form)] == [1, 0, 0]


def test_of_a_clean_image_nothing_must_be_named_and_that_in_the_right_form(images):
    clean = replace(images[0], distortions=())
    texts = (score_answer("all is crisp", 5), "junk", score_answer("slight haze", 4))
    assert [naming_accuracy(to_table([clean.id], [[t]]), [clean]) for t in texts] == [1, 0, 0]


def test_an_answer_without_reasoning_has_the_form_but_is_not_valid(images):
    """It counts for the format, as its rating can be used; as a rationale it says nothing."""
    clean = replace(images[0], distortions=())
    table = to_table([clean.id], [[score_answer("fine", 5), score_answer(" ", 5), "junk"]])
    assert has_form(table).tolist() == [True, True, False]
    assert is_valid(table).tolist() == [True, False, False]
    assert named_exactly(table, [clean]).tolist() == [True, False, False]
    assert valid_rationales(table).to_dict() == {clean.id: ["fine"]}
    assert format_share(table) == pytest.approx(2 / 3)
    assert len(valid_rationales(table.iloc[1:])) == 0


def test_a_run_covers_every_image_in_order(ask, images, tmp_path):
    table = write_rationales(None, None, images, samples=2, chunk=4, path=tmp_path / "r.parquet")
    assert (
        table["image"].tolist() == [p.id for p in images for _ in range(2)]
        and (table["status"] == "ok").all()
    )
    pd.testing.assert_frame_equal(table, pd.read_parquet(tmp_path / "r.parquet"))


def test_a_killed_run_resumes_with_the_images_it_lacks(ask, images, tmp_path):
    whole = write_rationales(None, None, images, samples=2)
    ask.killed_by = images[4].pixels()
    with pytest.raises(KeyboardInterrupt):
        write_rationales(None, None, images, samples=2, chunk=2, path=tmp_path / "r.parquet")
    ask.killed_by, ask.seen = None, []
    resumed = write_rationales(None, None, images, samples=2, chunk=2, path=tmp_path / "r.parquet")
    assert len(ask.seen) == 2
    pd.testing.assert_frame_equal(resumed, whole)
    assert [f.name for f in tmp_path.iterdir()] == ["r.parquet"]


def test_nothing_left_to_ask_is_no_work(ask, images, tmp_path):
    first = write_rationales(None, None, images, path=tmp_path / "r.parquet")
    ask.seen = []
    pd.testing.assert_frame_equal(
        write_rationales(None, None, images, path=tmp_path / "r.parquet"), first
    )
    assert ask.seen == [] and len(write_rationales(None, None, [])) == 0


def test_only_the_images_asked_for_are_returned(ask, images, tmp_path):
    write_rationales(None, None, images, path=tmp_path / "r.parquet")
    table = write_rationales(None, None, images[3:], path=tmp_path / "r.parquet")
    assert table["image"].tolist() == [p.id for p in images[3:]]


def test_the_summary_of_a_perfect_and_of_a_backward_rater(images):
    ids, perfect = [p.id for p in images], [[score_answer("", p.mos)] for p in images]
    found = summarise(to_table(ids, perfect), images)
    assert [found[k] for k in ("plcc", "srcc", "spread", "format_share")] == pytest.approx(
        [1, 1, 1, 1]
    )
    assert found["n_missing"] == 0 and found["naming_accuracy"] == 0
    assert summarise(to_table(ids[::-1], perfect), images)["srcc"] == pytest.approx(-1)


def test_the_summary_of_a_collapsed_rater_shows_no_spread_and_counts_the_missing(images):
    ids = [p.id for p in images]
    flat = summarise(to_table(ids, [[score_answer("", 4.6)]] * 4 + [["junk"]] * 2), images)
    assert (
        flat["spread"] == 0
        and flat["n_missing"] == 2
        and flat["format_share"] == pytest.approx(4 / 6)
    )
    assert not abs(flat["plcc"]) > 0 and not abs(flat["srcc"]) > 0
    assert summarise(to_table(ids, [["junk"]] * 6), images)["n_missing"] == 6
