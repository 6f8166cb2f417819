"""Rewards: what earns what, None for the other task, and nothing for an invalid answer."""

import pytest

from rali_lab.data.records import LEVEL_WORDS
from rali_lab.reasoner.rewards import (
    ClosenessReward,
    ScoreReward,
    answers,
    degradation_reward,
    format_reward,
)


def scored(value):
    return f'<think>x</think><answer>{{"rating": {value}}}</answer>'


def judged(word, severity):
    return f'<think>x</think><answer>{{"distortion": "{word}", "severity": "{severity}"}}</answer>'


JUNK = [
    "",
    "3.00",
    scored('"3.00"'),
    scored("NaN"),
    scored(7),
    scored("true"),
    judged("blur", "serious"),
]


@pytest.mark.parametrize(
    "rating, mos, earned",
    [(3.0, 3.0, 1), (3.0, 3.34, 1), (3.34, 3.0, 1), (3.0, 3.36, 0), (5, 1, 0)],
)
def test_a_score_near_enough_earns_one(rating, mos, earned):
    assert ScoreReward()([scored(rating)], task=["score"], mos=[mos]) == [earned]


@pytest.mark.parametrize("rating, mos", [(3.35, 3.0), (2.65, 3.0), (1.35, 1.0), (4.65, 5.0)])
def test_the_threshold_itself_is_too_far_whatever_the_rounding(rating, mos):
    assert ScoreReward()([scored(rating)], task=["score"], mos=[mos]) == [0]


def test_the_threshold_is_strict():
    assert ScoreReward(threshold=0.5)(
        [scored(2.5), scored(2.51)], task=["score"] * 2, mos=[3.0] * 2
    ) == [0, 1]


def test_closeness_falls_in_a_straight_line_to_zero():
    ratings = [3.0, 2.5, 2.0, 1.0, 5.0]
    earned = ClosenessReward(width=2)(
        [scored(r) for r in ratings], task=["score"] * 5, mos=[3.0] * 5
    )
    assert earned == [1.0, 0.75, 0.5, 0.0, 0.0]


@pytest.mark.parametrize("text", JUNK)
def test_what_is_no_rating_earns_nothing(text):
    columns = {"task": ["score"], "mos": [3.0], "word": ["blur"], "level": [4]}
    for reward in (format_reward, ScoreReward(), ClosenessReward()):
        assert reward([text], **columns) == [0.0], reward
    assert degradation_reward([text], **columns) == [None]


def test_the_degradation_task_pays_a_quarter_for_the_word_and_the_rest_for_the_severity():
    texts = [
        judged("haze", "serious"),
        judged("haze", "slight"),
        judged("blur", "serious"),
        judged("null", "null"),
        "haze",
    ]
    earned = degradation_reward(texts, task=["degradation"] * 5, word=["haze"] * 5, level=[4] * 5)
    assert earned == [1.0, 0.25, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("level", range(6))
def test_every_severity_and_none_can_be_right(level):
    word, severity = ("blur", LEVEL_WORDS[level - 1]) if level else ("null", "null")
    assert degradation_reward(
        [judged(word, severity)], task=["degradation"], word=[word], level=[level]
    ) == [1.0]


def test_a_reward_of_the_other_task_is_none_whatever_the_answer():
    texts = [scored(3), judged("blur", "serious"), "junk"]
    columns = {
        "task": ["degradation"] * 3,
        "mos": [3.0] * 3,
        "word": ["blur"] * 3,
        "level": [4] * 3,
    }
    for reward in (ScoreReward(), ClosenessReward()):
        assert reward(texts, **columns) == [None] * 3
    assert degradation_reward(texts, **{**columns, "task": ["score"] * 3}) == [None] * 3


def test_the_form_depends_on_the_task():
    texts = [scored(3), judged("blur", "serious")] * 2
    assert format_reward(texts, task=["score", "score", "degradation", "degradation"]) == [
        1,
        0,
        0,
        1,
    ]
    extra = '<think>x</think><answer>{"rating": 3, "why": "so"}</answer>'
    assert format_reward([extra], task=["score"]) == [0]


def test_conversations_are_read_by_their_last_turn():
    turns = [{"role": "user", "content": "again"}, {"role": "assistant", "content": scored(2)}]
    assert [a.rating for a in answers([turns, scored(4)])] == [2, 4]


def test_each_reward_has_a_name_of_its_own_for_the_log():
    rewards = (format_reward, ScoreReward(), ClosenessReward(), degradation_reward)
    assert len({r.__name__ for r in rewards}) == 4


def test_columns_must_match_the_completions():
    with pytest.raises(ValueError, match="shorter"):
        ScoreReward()([scored(3), scored(3)], task=["score"], mos=[3.0])
