"""Half-sampling: sources stay whole, the interval is that of the whole sample, draws are golden."""

import numpy as np
import pandas as pd
import pytest

from rali_lab.evaluate.half_samples import half_samples, half_sampling

SOURCES = np.repeat([f"s{i}" for i in range(12)], 3)
STRATA = np.repeat(["photo", "novel"], [21, 15])


def random_halves(n: int, n_draws: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.permutation(n)[: n // 2] for _ in range(n_draws)]


def test_sources_stay_whole_and_strata_are_halved():
    for rows in half_samples(SOURCES, STRATA, seeds=range(20)):
        drawn = pd.DataFrame({"source": SOURCES, "stratum": STRATA}).loc[rows]
        assert drawn.index.is_unique
        assert (drawn.groupby("source").size() == 3).all()
        assert drawn.groupby("stratum")["source"].nunique().to_dict() == {"novel": 2, "photo": 4}


def test_draws_are_those_of_pandas():
    """Golden: what `groupby(...).sample` draws from the sorted pairs of stratum and source."""
    table = pd.DataFrame({"stratum": STRATA, "source": SOURCES}).sample(frac=1, random_state=3)
    units = table.reset_index(drop=True).groupby(["stratum", "source"]).indices
    names = pd.DataFrame(list(units), columns=["stratum", "source"])
    for seed, rows in enumerate(half_samples(table["source"], table["stratum"], range(10))):
        half = names.groupby("stratum").sample(frac=0.5, random_state=seed)
        np.testing.assert_array_equal(
            rows, np.concatenate([units[tuple(unit)] for unit in half.to_numpy()])
        )


def test_the_interval_of_a_mean_has_the_width_of_its_standard_error():
    x = np.random.default_rng(0).normal(3, 2, size=400)
    found = half_sampling(lambda rows: x[rows].mean(), 400, random_halves(400, 800), name="mean")
    assert found.value == x.mean() and found.n == 400 and found.n_seeds == 1
    assert (found.ci_high - found.ci_low) / 2 == pytest.approx(1.96 * x.std() / 20, rel=0.1)
    assert found.ci_low < found.value < found.ci_high


def test_several_numbers_are_estimated_as_each_alone():
    x, draws = np.random.default_rng(0).normal(size=(2, 60)), random_halves(60, 50)
    both = half_sampling(lambda rows: {"a": x[0, rows].mean(), "b": x[1, rows].std()}, 60, draws)
    assert both == {
        "a": half_sampling(lambda rows: x[0, rows].mean(), 60, draws, name="a"),
        "b": half_sampling(lambda rows: x[1, rows].std(), 60, draws, name="b"),
    }


def test_a_transform_is_applied_to_the_value_and_both_ends():
    x, draws = np.random.default_rng(0).uniform(1, 2, size=60), random_halves(60, 50)
    plain = half_sampling(lambda rows: np.log(x[rows].mean()), 60, draws)
    found = half_sampling(lambda rows: np.log(x[rows].mean()), 60, draws, transform=np.exp)
    for field in ("value", "ci_low", "ci_high"):
        assert getattr(found, field) == np.exp(getattr(plain, field))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: half_samples(list("abb"), list("xyy"), [0]),
            "one source, 'a'; half-sampling needs two",
        ),
        (lambda: half_sampling(len, 4, random_halves(4, 1)), "1 draws, an interval needs two"),
        (lambda: half_sampling(lambda r: np.nan, 4, random_halves(4, 3)), "of all rows is nan"),
        (
            lambda: half_sampling(lambda r: 1 if len(r) > 2 else np.inf, 4, random_halves(4, 3)),
            "of half-sample 0 is inf",
        ),
    ],
)
def test_errors_name_the_stratum_or_draw(call, text):
    with pytest.raises(ValueError, match=text):
        call()
