"""Prompts: an answer is read strictly, what is written can be read back, and no text makes the
reader fail.
"""

import math
import random

import numpy as np
import pytest

from rali_lab.data.distortions import TYPES, WORDS
from rali_lab.data.records import Distortion
from rali_lab.reasoner.prompts import (
    EFFECTS,
    Finding,
    degradation_answer,
    describe,
    findings,
    named,
    parse,
    score_answer,
)

NO_FORM = "not <think>...</think><answer>{...}</answer>"


def rating(value):
    return parse(f'<think>fine</think><answer>{{"rating": {value}}}</answer>').rating


@pytest.mark.parametrize("value, expected", [("3.25", 3.25), ("1", 1), ("5.00", 5), ("2e0", 2)])
def test_numbers_from_1_to_5_are_ratings(value, expected):
    assert rating(value) == expected


UNUSABLE = [
    "0.99",
    "5.01",
    "-3",
    "1e999",
    "NaN",
    "Infinity",
    "-Infinity",
    '"3.2"',
    "true",
    "null",
    "[3]",
    '""',
]


@pytest.mark.parametrize("value", UNUSABLE)
def test_anything_else_is_no_rating(value):
    assert math.isnan(rating(value))


MONSTERS = {
    "400 digits": "1" * 400,
    "below 0": "-" + "9" * 400,
    "5000 digits": "1" * 5000,
    "a nest": "[" * 100_000,
}


@pytest.mark.parametrize("value", MONSTERS.values(), ids=MONSTERS)
def test_monstrous_numbers_and_nests_are_no_rating_either(value):
    assert math.isnan(rating(value))


GOOD = '<think>ok</think><answer>{"rating": 3.00}</answer>'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3.00",
        "well: " + GOOD,
        GOOD + " done",
        GOOD + GOOD,
        GOOD + '<answer>{"rating": 4.00}</answer>',
        '<answer>{"rating": 3.00}</answer>',
        '<think>ok</think>{"rating": 3.00}',
        "<think>ok</think><answer>3.00</answer>",
        '<think>ok</think><answer>{"rating": 3.00}',
        '<think>ok<answer>{"rating": 3.00}</answer>',
        '<think>a<think>b</think><answer>{"rating": 3.00}</answer>',
        '<think>a</think> b </think><answer>{"rating": 3.00}</answer>',
        '<think>a</answer></think><answer>{"rating": 3.00}</answer>',
        '<think>a<answer>1</answer></think><answer>{"rating": 3.00}</answer>',
        '<think>a</think>b<answer>{"rating": 3.00}</answer>',
        '<think>ok</think><answer>{"a": {"rating": 3.00}}</answer>',
        '<think>ok</think><answer>{"rating": 3.00} {"rating": 4.00}</answer>',
    ],
)
def test_only_the_exact_form_is_read(text):
    answer = parse(text)
    assert (answer.status, answer.reasoning, answer.fields) == (NO_FORM, "", {}) and math.isnan(
        answer.rating
    )


def test_white_space_around_the_parts_is_allowed_and_the_reasoning_may_be_empty_or_long():
    assert parse(' <think>\n a\nb </think>\n<answer> {"rating": 2} </answer>\n').reasoning == "a\nb"
    assert parse('<think></think><answer>{"rating": 2}</answer>').status == "ok"


@pytest.mark.parametrize(
    "inside", ["{rating: 3}", "{'rating': 3}", '{"rating" 3}', '{"rating": 3,}', '{"rating": 03}']
)
def test_what_is_not_json_says_so(inside):
    answer = parse(f"<think>seen</think><answer>{inside}</answer>")
    assert (answer.status, answer.reasoning) == ("the answer is not JSON", "seen") and math.isnan(
        answer.rating
    )


def test_the_reader_survives_ten_thousand_random_texts():
    """A seeded fuzz with the pieces an answer is made of."""
    tags = ["<think>", "</think>", "<answer>", "</answer>"]
    pieces = [
        *tags,
        '{"rating": ',
        "}",
        "{",
        '"',
        "3.00",
        "9",
        "NaN",
        "[",
        ",",
        " ",
        "\\u",
        "é",
        "\x00",
    ]
    rng = random.Random(0)
    for _ in range(5000):
        soup = "".join(rng.choices(pieces, k=rng.randint(0, 14)))
        for text in (soup, f"<think>{soup}</think><answer>{{{soup}}}</answer>"):
            answer = parse(text)
            assert math.isnan(answer.rating) or (answer.status == "ok" and 1 <= answer.rating <= 5)
            assert not any(tag in answer.reasoning for tag in tags)


def test_what_score_answer_writes_is_read_back():
    for value in np.random.default_rng(0).uniform(1, 5, 50).round(2):
        answer = parse(score_answer("grain covers the sky", value))
        assert (answer.status, answer.reasoning, answer.rating) == (
            "ok",
            "grain covers the sky",
            value,
        )


def test_what_degradation_answer_writes_is_read_back():
    answer = parse(degradation_answer("x", [Finding("haze", 4), Finding("blur", 1)]))
    assert answer.fields == {"distortion": "haze", "severity": "serious"} and math.isnan(
        answer.rating
    )
    assert parse(degradation_answer("x", [])).fields == {"distortion": "null", "severity": "null"}


def test_named_finds_exactly_what_describe_told():
    rng = np.random.default_rng(0)
    for _ in range(300):
        words = rng.permutation(WORDS)[: rng.integers(0, 4)]
        found = tuple(Finding(str(w), int(rng.integers(1, 6))) for w in words)
        assert named(describe(found, rng)) == found


def test_describe_has_several_wordings_and_tells_of_the_effect():
    texts = {describe([Finding("noise", 3)], np.random.default_rng(s)) for s in range(20)}
    assert len(texts) > 2 and all("obvious noise" in t and EFFECTS["noise"] in t for t in texts)


def test_every_word_has_an_effect_and_no_effect_names_a_degradation():
    assert set(EFFECTS) == set(WORDS)
    assert not any(named(effect) for effect in EFFECTS.values())


@pytest.mark.parametrize(
    "text", ["blur", "seriousblur", "serious blurry", "Serious blur", "very noise", "serious  blur"]
)
def test_a_word_without_its_severity_is_not_named(text):
    assert named(text) == ()


def test_findings_merge_types_that_look_alike_and_start_with_the_strongest():
    ds = [
        Distortion("gaussian_blur", 1),
        Distortion("jpeg", 3),
        Distortion("defocus_blur", 2),
        Distortion("haze", 3),
    ]
    assert findings(ds) == (Finding("blocking", 3), Finding("haze", 3), Finding("blur", 2))
    assert findings([]) == ()
    assert {findings([Distortion(t, 1)])[0].word for t in TYPES} == set(WORDS)
