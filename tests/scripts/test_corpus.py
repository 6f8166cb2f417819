"""The base corpus: distortions that stay visible, pairs that repeat, and a missing package that is
named.
"""

import numpy as np
import pytest

from rali_lab.data.distortions import MASKING, ORDER, TYPES
from scripts.base_model import corpus

NOISE = {
    k: [np.random.default_rng(len(k)).integers(0, 256, (150, 200, 3), dtype=np.uint8)]
    for k in ("photos", "textures")
}


def test_stacks_have_distinct_words_in_natural_order_and_leave_each_visible():
    rng = np.random.default_rng(0)
    drawn = [corpus.sample_distortions(rng) for _ in range(1500)]
    for ds in drawn:
        assert len({TYPES[d.name].word for d in ds}) == len(ds)
        assert [d.name for d in ds] == sorted((d.name for d in ds), key=ORDER.index)
        if len(ds) > 1:
            assert all(d.level <= (2 if d.name in MASKING else 4) for d in ds)
    assert {d.name for ds in drawn for d in ds} == set(TYPES)
    assert {d.level for ds in drawn if len(ds) == 1 for d in ds} == {1, 2, 3, 4, 5}


def test_the_counts_asked_for_are_drawn():
    rng = np.random.default_rng(0)
    assert {len(corpus.sample_distortions(rng, (0, 0, 0, 1))) for _ in range(50)} == {3}
    assert corpus.sample_distortions(rng, (1, 0)) == ()
    share = (
        np.bincount([len(corpus.sample_distortions(rng, (0.5, 0.25, 0.25))) for _ in range(800)])
        / 800
    )
    np.testing.assert_allclose(share, (0.5, 0.25, 0.25), atol=0.06)


def test_the_same_seed_makes_the_same_pairs():
    a, b, c = (list(corpus.make(4, seed=s, size=48, photos=NOISE)) for s in (0, 0, 1))
    assert [d for _, d in a] == [d for _, d in b] != [d for _, d in c]
    assert all(np.array_equal(x, y) for (x, _), (y, _) in zip(a, b, strict=True))
    assert all(x.shape == (48, 48, 3) and x.dtype == np.uint8 for x, _ in a)


def test_another_palette_keeps_the_structure():
    x = NOISE["photos"][0]
    made = [corpus.recolour(x, np.random.default_rng(s)) for s in range(8)]
    assert all(y.shape == x.shape and y.dtype == np.uint8 for y in made)
    assert len({y.tobytes() for y in made}) == 8
    grey = [np.corrcoef(x.mean(-1).ravel(), y.mean(-1).ravel())[0, 1] for y in made]
    assert min(grey) > 0.95


def test_a_missing_package_is_named_with_the_command_that_brings_it(monkeypatch, tmp_path):
    monkeypatch.setattr(corpus, "ROOT", tmp_path)
    corpus.originals.cache_clear()
    try:
        with pytest.raises(
            FileNotFoundError, match="no image of the Debian package mate-backgrounds; run: apt-get"
        ):
            corpus.originals()
    finally:
        corpus.originals.cache_clear()
