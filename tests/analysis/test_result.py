"""A measure prints as one line, is plain JSON, and its p counts itself."""

import json

import numpy as np
import pytest

from rali_lab.analysis import Measure
from rali_lab.analysis.result import null_fields


def test_one_line_with_what_was_computed_only():
    assert str(Measure("two_nn", 4.9, se=0.25, n=300)) == "two_nn 4.900 ± 0.250, n = 300"
    full = Measure(
        "mmd gap",
        0.1,
        0.05,
        0.2,
        None,
        1e-5,
        0.002,
        50.0,
        0.005,
        0.001,
        99,
        ("71% of rows matched",),
    )
    expected = (
        "mmd gap 0.100 [0.050, 0.200], null 1e-05 ± 0.002, z = 50, p = 0.005, floor 0.001, n = 99;"
        " 71% of rows matched"
    )
    assert str(full) == expected
    assert float(full) == 0.1


def test_it_is_frozen_and_json():
    found = Measure("cka", 0.5, notes=("a",))
    assert json.loads(json.dumps(found.to_dict()))["notes"] == ["a"]
    with pytest.raises(AttributeError):
        found.value = 1


def test_p_counts_the_observed_value_and_follows_the_direction():
    null = np.arange(99.0)
    assert null_fields(1000, null)["p"] == 0.01
    assert null_fields(-1, null)["p"] == 1
    assert null_fields(-1, null, larger=False)["p"] == 0.01
    assert null_fields(98, null)["p"] == 0.02


def test_no_spread_no_z():
    assert null_fields(1.0, np.ones(5)) == {"null_mean": 1.0, "null_sd": 0.0, "z": None, "p": 1.0}
    assert null_fields(1.0, np.ones(1))["null_sd"] is None
    assert null_fields(1.0, np.array([])) == {}
