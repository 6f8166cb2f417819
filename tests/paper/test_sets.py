"""The data sets of the paper's tables, their test parts, and the printed numbers."""

from __future__ import annotations

import pytest

from rali_lab.paper.__main__ import test_part
from rali_lab.paper.sets import SETS, load_sets, parse_data, published

test_part.__test__ = False  # a function of the package, whatever its name


def test_the_printed_numbers_agree_with_their_printed_means():
    rows = published()
    seven = rows[(rows["trained_on"] == "koniq")].groupby("method")["plcc"].mean()
    for method, mean in {
        "RALI": 0.798,
        "Q-Insight": 0.806,
        "DeQA-Score": 0.786,
        "NIQE": 0.521,
    }.items():
        assert seven[method] == pytest.approx(mean, abs=0.0011), method
    eight = rows[(rows["trained_on"] != "koniq") & (rows["method"] == "RACT")]
    assert len(eight) == 8 and eight["plcc"].mean() == pytest.approx(0.855, abs=0.001)
    assert set(rows["set"]) == set(SETS)


def test_only_the_test_part_of_a_set_that_was_trained_on_counts(koniq):
    sets = load_sets({"koniq": koniq})
    assert (
        len(test_part(sets, ["koniq"], None)["koniq"]) == 4
        and len(test_part(sets, ["spaq"], None)["koniq"]) == 14
    )
    with pytest.raises(ValueError, match=r"--trained-on \['kon'\]: expected names among koniq"):
        test_part(sets, ["kon"], None)


@pytest.mark.parametrize("argument", ["koniq", "konik=x", "koniq="])
def test_data_arguments_name_a_known_set(argument):
    with pytest.raises(ValueError, match="expected NAME=FOLDER with NAME one of koniq, spaq"):
        parse_data([argument])
