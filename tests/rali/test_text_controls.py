"""Sabotaged texts lose what they should lose and keep the rest."""

from __future__ import annotations

from collections import Counter

import pytest

from rali_lab.rali.text_controls import noise, permuted, random_words, score_only

TEXTS = [[f"word{i} is here", f"and word{i} there too"] for i in range(9)]


@pytest.mark.parametrize("seed", range(10))
def test_every_image_gets_anothers_texts_and_none_is_lost(seed):
    found = permuted(TEXTS, seed)
    assert sorted(map(tuple, found)) == sorted(map(tuple, TEXTS))
    assert all(a != b for a, b in zip(found, TEXTS, strict=True))
    assert permuted(TEXTS, seed) == found


def test_random_words_come_from_the_texts_and_keep_their_number():
    known = {w for own in TEXTS for t in own for w in t.split()}
    for own, made in zip(TEXTS, random_words(TEXTS), strict=True):
        assert [len(t.split()) for t in made] == [len(t.split()) for t in own]
        assert set(" ".join(made).split()) <= known
    drawn = Counter(w for own in random_words([["a a a b"] * 200]) for t in own for w in t.split())
    assert 2 < drawn["a"] / drawn["b"] < 4


def test_noise_keeps_the_length_and_no_word():
    for own, made in zip(TEXTS, noise(TEXTS), strict=True):
        assert [len(t) for t in made] == [len(t) for t in own]
        assert "word" not in "".join(made)


def test_scores_are_all_that_is_left():
    assert score_only(TEXTS[:2], [4.26, 3.0]) == [["4.3"], ["3.0"]]


def test_what_cannot_be_is_named():
    with pytest.raises(ValueError, match="1 images"):
        permuted(TEXTS[:1])
    with pytest.raises(ValueError, match="9 images but 1 scores"):
        score_only(TEXTS, [1.0])
