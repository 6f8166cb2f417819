"""An estimate prints as one line and is plain JSON."""

import json

import pytest

from rali_lab.estimate import Estimate


def test_one_line_with_what_was_computed_only():
    assert str(Estimate("two_nn", 4.9, se=0.25, n=300)) == "two_nn 4.900 ± 0.250, n = 300"
    full = Estimate(
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
        notes=("71% of rows matched",),
    )
    expected = (
        "mmd gap 0.100 [0.050, 0.200], null 1e-05 ± 0.002, z = 50, p = 0.005, floor 0.001, n = 99;"
        " 71% of rows matched"
    )
    assert str(full) == expected
    assert float(full) == 0.1


def test_it_is_frozen_and_json():
    found = Estimate("cka", 0.5, notes=("a",))
    assert json.loads(json.dumps(found.to_dict()))["notes"] == ["a"]
    with pytest.raises(AttributeError):
        found.value = 1


def test_differences_print_their_sign_and_missing_scores_are_counted():
    found = Estimate("PLCC difference", 0.02, -0.01, 0.05, n=40, n_missing=3, missing_share=0.0375)
    text = "PLCC difference +0.020 [-0.010, +0.050], n = 40, 3 scores missing (3.8%)"
    assert str(found) == text
    assert found.text == "+0.020 [-0.010, +0.050]"
