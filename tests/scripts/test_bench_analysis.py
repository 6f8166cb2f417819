"""The bench runs at toy sizes, compares equal things, and its page says what was not reached."""

import pytest

from rali_lab.analysis import cka
from scripts.bench_analysis import Sizes, arrays, gram_as_written, gram_elementwise, measure, page


def test_the_formulas_it_compares_with_are_equal():
    X, Y = arrays(50, 8, 0)
    assert gram_as_written(X, Y) == pytest.approx(cka(X, Y), abs=1e-10)
    assert gram_elementwise(X, Y) == pytest.approx(cka(X, Y), abs=1e-10)


def test_it_runs_and_reports():
    found = measure(
        Sizes(n=64, d=8, stream_n=3000, batch=256, null_n=60, null_d=5, draws=9, repeats=1)
    )
    assert found["stream"]["value"] == pytest.approx(0.5, abs=0.05) and found["stream"]["n"] == 3000
    assert found["import"]["heavy"] == "[]"
    text = page(found)
    assert (
        "| ours |" in text
        and "## torch-cka" in text
        and "Not installed" in page(found | {"torch_cka": {"installed": False}})
    )
    found["gram"]["gram as written"]["times ours"] = 3
    assert "| 3 x | **no** |" in page(found)
