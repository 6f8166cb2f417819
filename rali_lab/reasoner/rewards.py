"""Rewards of the reasoner, as small functions that TRL's GRPOTrainer calls.

Every reward takes `completions` (conversational: ``[[{"role": "assistant", "content": text}],
...]``, or plain texts) and the columns of the data set as keyword lists, and returns one float per
completion, or None where the reward does not apply to the task. An invalid answer earns 0; it is
never given a default rating.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rali_lab.data.records import LEVEL_WORDS
from rali_lab.reasoner.prompts import Answer, parse


def answers(completions: Sequence) -> list[Answer]:
    """Parse completions, conversational or plain."""
    return [parse(c if isinstance(c, str) else c[-1]["content"]) for c in completions]


def format_reward(completions: Sequence, task: Sequence[str], **columns: object) -> list[float]:
    """1 if the completion is exactly think + answer with one flat JSON object holding what the task
    asks for, else 0.

    >>> answer = '<think>x</think><answer>{"rating": 3.00}</answer>'
    >>> format_reward([answer, "3.00"], task=["score", "score"])
    [1.0, 0.0]
    """
    return [float(_complete(a, t)) for a, t in zip(answers(completions), task, strict=True)]


def _complete(answer: Answer, task: str) -> bool:
    if answer.status != "ok":
        return False
    if task == "score":
        return set(answer.fields) == {"rating"} and not math.isnan(answer.rating)
    return set(answer.fields) == {"distortion", "severity"}


@dataclass(frozen=True)
class ScoreReward:
    """1 if ``|rating - MOS| < threshold`` else 0 (Q-Insight, threshold 0.35 on the 1..5 scale).

    >>> answer = '<think>x</think><answer>{"rating": 3.00}</answer>'
    >>> ScoreReward()([answer], task=["score"], mos=[3.3])
    [1.0]
    """

    threshold: float = 0.35
    __name__ = "score"

    def __call__(
        self, completions: Sequence, task: Sequence[str], mos: Sequence[float], **columns: object
    ):
        rows = zip(answers(completions), task, mos, strict=True)
        return [
            float(round(abs(a.rating - m), 9) < self.threshold) if t == "score" else None
            for a, t, m in rows
        ]


@dataclass(frozen=True)
class ClosenessReward:
    """``max(0, 1 - |rating - MOS| / width)``: our addition at small scale, where a binary reward is
    too rare to learn from.

    With eight ratings spread over 1..5 few fall within 0.35 of the MOS, so most groups would have
    no spread in their reward and teach nothing; the slope says which of two wrong ratings is less
    wrong.

    >>> answer = '<think>x</think><answer>{"rating": 3.00}</answer>'
    >>> ClosenessReward(width=2)([answer], task=["score"], mos=[4.0])
    [0.5]
    """

    width: float = 2.0
    __name__ = "closeness"

    def __call__(
        self, completions: Sequence, task: Sequence[str], mos: Sequence[float], **columns: object
    ):
        out: list[float | None] = []
        for a, t, m in zip(answers(completions), task, mos, strict=True):
            if t != "score":
                out.append(None)
            else:
                out.append(
                    0.0 if math.isnan(a.rating) else max(0.0, 1 - abs(a.rating - m) / self.width)
                )
        return out


@dataclass(frozen=True)
class PrefilledReward:
    """Another reward, for completions whose beginning stands in the prompt.

    >>> prefilled = PrefilledReward(format_reward, "<think></think><answer>")
    >>> prefilled(['{"rating": 3.00}</answer>'], task=["score"])
    [1.0]
    """

    reward: Callable[..., list]
    prefill: str

    @property
    def __name__(self) -> str:
        return self.reward.__name__

    def __call__(self, completions: Sequence, **columns: object) -> list:
        texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
        return self.reward([self.prefill + t for t in texts], **columns)


def degradation_reward(
    completions: Sequence,
    task: Sequence[str],
    word: Sequence[str],
    level: Sequence[int],
    **columns: object,
) -> list[float | None]:
    """Q-Insight's second task: 0.25 for the right degradation, 0.75 more for the right severity;
    None for the score task.

    `word` is the main degradation ("null" for a clean image) and `level` its severity 1..5 (0 for
    none).
    """
    out: list[float | None] = []
    for a, t, w, lv in zip(answers(completions), task, word, level, strict=True):
        if t != "degradation":
            out.append(None)
            continue
        severity = LEVEL_WORDS[lv - 1] if lv else "null"
        right = a.fields.get("distortion") == w
        out.append(0.25 * right + 0.75 * (right and a.fields.get("severity") == severity))
    return out
