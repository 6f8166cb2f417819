"""Texts in the place of the reasoning that was written: controls for the claim that the score is in
the text.

Every control is a plain function on texts, so that a study with another vocabulary can pass its
own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from rali_lab.data.records import LEVEL_WORDS
from rali_lab.reasoner.prompts import describe, named

_SEVERITY = re.compile(rf"\b({'|'.join(LEVEL_WORDS)}) ")


def without_severity(reasoning: str) -> str:
    """The reasoning without its severity words.

    >>> without_severity("I can see serious blur and slight noise: edges are soft.")
    'I can see blur and noise: edges are soft.'
    """
    return _SEVERITY.sub("", reasoning)


def paraphrase(reasoning: str, rng: np.random.Generator) -> str:
    """The same findings in another of the observers' wordings; a reasoning that names none becomes
    one of a clean image.

    >>> paraphrase("There is serious blur: edges are soft.", np.random.default_rng(0))
    'This photograph has serious blur: edges are soft and fine detail is lost.'
    """
    return describe(named(reasoning), rng)


def donors(n: int, rng: np.random.Generator, groups: Sequence | None = None) -> np.ndarray:
    """A derangement: for every item the index of another one, each used once; with `groups` never
    one of the same group (the same image, say).

    >>> d = donors(6, np.random.default_rng(0), groups=[0, 0, 1, 1, 2, 2])
    >>> sorted(d.tolist()), bool((d // 2 == np.arange(6) // 2).any())
    ([0, 1, 2, 3, 4, 5], False)

    Raises
    ------
    ValueError
        When one group holds more than half of the items, so that it cannot be avoided.
    """
    names = np.arange(n) if groups is None else np.asarray(groups)
    _, number, counts = np.unique(names, return_inverse=True, return_counts=True)
    if n < 2 or counts.max() > n / 2:
        raise ValueError(
            f"no exchange possible: {n} items, {counts.max() if n else 0} of them in one group;"
            " give more groups"
        )
    order = rng.permutation(n)
    order = order[
        np.argsort(rng.permutation(len(counts))[number[order]], kind="stable")
    ]  # group by group, groups in random order
    shift = int(rng.integers(counts.max(), n - counts.max() + 1))  # far enough to leave every group
    out = np.empty(n, dtype=int)
    out[order] = np.roll(order, shift)
    return out


def swap_language(model, other) -> None:
    """Replace the language module of a model (decoder and output head) by that of another one; its
    vision tower and projector stay.

    Raises
    ------
    ValueError
        When the two differ in shape, naming the first tensor that does. The model is then
        unchanged.
    """
    for get in ("get_decoder", "get_output_embeddings"):
        mine, theirs = (
            {name: tuple(t.shape) for name, t in getattr(m, get)().state_dict().items()}
            for m in (model, other)
        )
        for name in sorted(mine.keys() | theirs.keys()):
            one, two = mine.get(name, "missing"), theirs.get(name, "missing")
            if one != two:
                raise ValueError(
                    f"the language modules differ: {name} is {one} in one, {two} in the other;"
                    " swap models of one class and size"
                )
    for get in ("get_decoder", "get_output_embeddings"):
        getattr(model, get)().load_state_dict(getattr(other, get)().state_dict())
