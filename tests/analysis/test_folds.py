"""A source is never on two sides, and grouped permutations keep sources together."""

import numpy as np
import pytest

from rali_lab.analysis.folds import _placed, grouped_folds, half, permutation

GROUPS = np.repeat(np.arange(12), [1, 2, 3] * 4)


def test_folds_partition_the_rows_and_keep_groups_and_strata():
    strata = np.array(["a", "b"])[(GROUPS >= 6) * 1]
    folds = grouped_folds(GROUPS, len(GROUPS), 3, np.random.default_rng(0), strata=strata)
    assert sorted(np.concatenate(folds)) == list(range(len(GROUPS)))
    assert sum(len(set(GROUPS[f])) for f in folds) == 12
    assert all({*strata[f]} == {"a", "b"} for f in folds)
    assert [len(set(GROUPS[f])) for f in folds] == [4, 4, 4]


def test_folds_depend_on_the_generator_only():
    one, same, other = (grouped_folds(None, 50, 5, np.random.default_rng(s)) for s in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (None, "9 folds need 9 rows or more, got 4"),
        (["a"] * 4, "9 groups or more, got 1; add sources"),
    ],
)
def test_too_few_groups_for_the_folds(groups, message):
    with pytest.raises(ValueError, match=message):
        grouped_folds(groups, 4, 9, np.random.default_rng(0))


def test_half_takes_half_of_the_groups_of_each_stratum():
    stratum = (GROUPS >= 6) * 1
    rows, factor = half(GROUPS, np.random.default_rng(0), stratum)
    assert len(set(GROUPS[rows])) == 6 and len(set(GROUPS[rows][stratum[rows] == 0])) == 3
    assert all(np.isin(np.flatnonzero(np.isin(GROUPS, GROUPS[rows])), rows))
    assert factor == 1
    assert half(np.arange(9), np.random.default_rng(0))[1] == pytest.approx(np.sqrt(4 / 5))


def test_deviations_of_halves_spread_like_the_mean():
    rng = np.random.default_rng(0)
    x = rng.normal(size=41)
    draws = [half(np.arange(41), rng) for _ in range(3000)]
    spread = np.std([(x[rows].mean() - x.mean()) * factor for rows, factor in draws])
    assert spread == pytest.approx(x.std(ddof=1) / np.sqrt(41), rel=0.06)


def test_permutations_move_groups_of_equal_size_as_a_whole():
    rng, moved, shuffled = np.random.default_rng(0), False, False
    sizes = np.bincount(GROUPS)
    for _ in range(20):
        order = permutation(GROUPS, rng)
        assert sorted(order) == list(range(len(GROUPS)))
        for g in range(12):
            source = GROUPS[order[g == GROUPS]]
            assert len(set(source)) == 1 and sizes[source[0]] == sizes[g]
            moved |= source[0] != g
            shuffled |= bool(np.any(np.diff(order[g == GROUPS]) < 0))
    assert moved and shuffled


def test_without_groups_every_permutation_is_possible():
    rng = np.random.default_rng(0)
    assert len({tuple(permutation(np.arange(3), rng)) for _ in range(100)}) == 6


def test_groups_are_placed_as_by_sorting_their_loads():
    """The plain form: of every group, the folds sorted by fullest stratum, load and tie."""
    rng = np.random.default_rng(0)
    member, ties = rng.random((40, 3)) < 0.6, rng.random((40, 5))
    member[~member.any(axis=1), 0] = True
    held, expected = np.zeros((5, 3), dtype=int), []
    for inside, tie in zip(member, ties, strict=True):
        load = held[:, inside]
        expected.append(int(np.lexsort((tie, load.sum(axis=1), load.max(axis=1)))[0]))
        held[expected[-1], inside] += 1
    assert _placed(member, ties) == expected
