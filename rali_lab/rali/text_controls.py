"""Controls for alignment: texts that lack one property of the teacher's reasoning, to find which
part of the text matters.

Every function takes the texts of n images, a list of strings each, and returns as many; nothing
depends on the images.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np

Texts = list[list[str]]


def permuted(texts: Sequence[Sequence[str]], seed: int = 0) -> Texts:
    """Every image gets the texts of another one: a derangement of one cycle.

    >>> permuted([["a"], ["b"], ["c"]])
    [['c'], ['a'], ['b']]
    """
    if len(texts) < 2:
        raise ValueError(f"nothing to exchange: {len(texts)} images; give at least two")
    order = np.random.default_rng(seed).permutation(len(texts))
    source = np.empty(len(texts), dtype=int)
    source[order] = np.roll(order, 1)
    return [list(texts[i]) for i in source]


def random_words(texts: Sequence[Sequence[str]], seed: int = 0) -> Texts:
    """Words of all texts, drawn at random by how often they occur, as many as each text had.

    >>> [[len(t.split()) for t in own] for own in random_words([["slight blur ."], ["noise ."]])]
    [[3], [2]]
    """
    rng = np.random.default_rng(seed)
    words = [w for own in texts for t in own for w in t.split()]
    return [[" ".join(rng.choice(words, len(t.split()))) for t in own] for own in texts]


def noise(texts: Sequence[Sequence[str]], seed: int = 0) -> Texts:
    """Random letters and spaces, as many characters as each text had.

    >>> [len(t) for t in noise([["slight blur"], ["noise"]])[0]]
    [11]
    """
    rng, letters = np.random.default_rng(seed), [*string.ascii_lowercase, " ", " ", " ", " "]
    return [["".join(rng.choice(letters, max(1, len(t)))) for t in own] for own in texts]


def score_only(texts: Sequence[Sequence[str]], mos: Sequence[float]) -> Texts:
    """The opinion score to one decimal and no words: "4.2".

    >>> score_only([["slight blur"], ["noise"]], [4.23, 2.0])
    [['4.2'], ['2.0']]
    """
    if len(texts) != len(mos):
        raise ValueError(f"{len(texts)} images but {len(mos)} scores; give one for every image")
    return [[f"{m:.1f}"] for m in mos]
