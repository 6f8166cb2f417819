"""What the reasoner is asked, what it should answer, and how an answer is parsed.

The paper's prompt is kept as `PAPER_SYSTEM` / `PAPER_QUESTION` for instruct models; the tiny model
was pretrained on `SCORE_QUESTION` and `DEGRADATION_QUESTION`. An answer is parsed strictly: one
without the exact form is *invalid* and never gets a default.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rali_lab.data.distortions import TYPES, WORDS
from rali_lab.data.records import LEVEL_WORDS, Distortion
from rali_lab.models import SCORE_QUESTION as SCORE_QUESTION

PAPER_SYSTEM = (
    "You look at a picture and judge its visual quality. First think about what you see and write"
    " your reasoning between <think> and </think>, then give the final answer between <answer> and"
    " </answer>."
)
PAPER_QUESTION = (
    "What is your overall rating on the quality of this picture? The rating should be a float"
    " between 1 and 5, rounded to two decimal places, with 1 representing very poor quality and 5"
    ' excellent quality. Return the final answer in JSON with the key "rating".'
)
"""Our wording of Q-Insight's score task (arXiv 2503.22679); the form of the answer is theirs."""

DEGRADATION_QUESTION = "Name the main degradation of this picture."

EFFECTS = {
    "blur": "edges are soft and fine detail is lost",
    "noise": "grain covers the even areas",
    "specks": "black and white dots are scattered about",
    "blocking": "square blocks break up the even areas",
    "smearing": "texture is washed away around edges",
    "pixelation": "the picture falls into coarse squares",
    "banding": "smooth areas break into steps",
    "darkness": "shadows swallow what should be visible",
    "glare": "bright areas are burnt out",
    "haze": "a grey veil takes the contrast away",
    "tint": "the colours lean to one side",
    "ringing": "echoes run along the edges",
    "warping": "straight lines are bent",
    "repetition": "the same patch comes back again and again",
}
"""What each degradation does to an image, in the words of an observer."""

OPENINGS = ("The picture shows", "I can see", "There is", "This photograph has")
CLEAN = (
    "The picture is clean, edges are crisp and colours look natural.",
    "I can see no degradation, fine detail is kept.",
    "There is nothing to disturb the eye.",
)


@dataclass(frozen=True)
class Finding:
    """What an observer names: a degradation word and its level 1..5."""

    word: str
    level: int


def findings(distortions: Sequence[Distortion]) -> tuple[Finding, ...]:
    """The words and levels an observer would name, the strongest first; types that share a word
    count once.

    >>> findings([Distortion("defocus_blur", 2), Distortion("shot_noise", 4)])
    (Finding(word='noise', level=4), Finding(word='blur', level=2))
    """
    strongest: dict[str, int] = {}
    for d in distortions:
        word = TYPES[d.name].word
        strongest[word] = max(d.level, strongest.get(word, 0))
    order = sorted(strongest, key=lambda w: (-strongest[w], WORDS.index(w)))
    return tuple(Finding(w, strongest[w]) for w in order)


def describe(found: Sequence[Finding], rng: np.random.Generator) -> str:
    """A sentence or two naming the findings and what they do, in one of several wordings."""
    if not found:
        return CLEAN[rng.integers(len(CLEAN))]
    named = [f"{LEVEL_WORDS[f.level - 1]} {f.word}" for f in found]
    listed = named[0] if len(named) == 1 else ", ".join(named[:-1]) + " and " + named[-1]
    effects = [EFFECTS[f.word] for f in found[:2]]
    return f"{OPENINGS[rng.integers(len(OPENINGS))]} {listed}: {' and '.join(effects)}."


def score_answer(reasoning: str, rating: float) -> str:
    """The exact form of an answer to the score question."""
    return f'<think>{reasoning}</think><answer>{{"rating": {rating:.2f}}}</answer>'


def degradation_answer(reasoning: str, found: Sequence[Finding]) -> str:
    """The exact form of an answer to the degradation question: the strongest finding, or null."""
    word, level = (found[0].word, LEVEL_WORDS[found[0].level - 1]) if found else ("null", "null")
    return (
        f'<think>{reasoning}</think><answer>{{"distortion": "{word}", "severity":'
        f' "{level}"}}</answer>'
    )


_FORM = re.compile(
    r"\s*<think>(?P<think>.*?)</think>\s*<answer>\s*(?P<json>\{[^{}]*\})\s*</answer>\s*", re.DOTALL
)
_TAG = re.compile(r"</?(think|answer)>")
_NAMED = re.compile(rf"\b({'|'.join(LEVEL_WORDS)}) ({'|'.join(WORDS)})\b")


@dataclass(frozen=True)
class Answer:
    """One parsed completion; `status` is "ok" or says what is wrong, and then there is no answer in
    it.
    """

    reasoning: str
    fields: dict[str, object]
    status: str

    @property
    def rating(self) -> float:
        """The rating, or NaN when there is none that can be used (never a default)."""
        value = self.fields.get("rating")
        usable = (
            isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value <= 5
        )  # false for NaN
        return float(value) if usable else math.nan


def parse(completion: str) -> Answer:
    """Read one completion strictly: exactly think + answer, holding one flat JSON object.

    >>> parse('<think>fine</think><answer>{"rating": 4.10}</answer>').rating
    4.1
    >>> parse('the rating is 4.10').status
    'not <think>...</think><answer>{...}</answer>'
    >>> parse('<think>x</think><answer>{"rating": 9}</answer>').rating
    nan
    """
    match = _FORM.fullmatch(completion)
    if match is None or _TAG.search(match["think"]):
        return Answer("", {}, "not <think>...</think><answer>{...}</answer>")
    try:
        fields = json.loads(match["json"])
    except (ValueError, RecursionError):  # not JSON, or numbers and nests of a monstrous size
        return Answer(match["think"].strip(), {}, "the answer is not JSON")
    return Answer(match["think"].strip(), fields, "ok")


def named(reasoning: str) -> tuple[Finding, ...]:
    """The degradations that a reasoning names with a severity, in the order of the text, repeats
    dropped.

    >>> named("I can see serious blur and slight noise: edges are soft.")
    (Finding(word='blur', level=4), Finding(word='noise', level=1))
    """
    found = [Finding(w, LEVEL_WORDS.index(level) + 1) for level, w in _NAMED.findall(reasoning)]
    return tuple(dict.fromkeys(found))
