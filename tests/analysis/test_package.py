"""What importing costs, and that everything public is documented."""

import inspect
import subprocess
import sys

import pytest

from rali_lab import analysis

HEAVY = ("torch", "umap", "sklearn", "pandas", "matplotlib", "scipy.stats", "numba")


def test_import_is_light_and_silent():
    code = f"import sys, rali_lab.analysis; print([m for m in {HEAVY} if m in sys.modules])"
    out = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]" and out.stderr == ""


@pytest.mark.parametrize("name", analysis.__all__)
def test_everything_public_is_documented_with_an_example(name):
    thing = getattr(analysis, name)
    text = inspect.getdoc(thing)
    assert text and len(text) > 60
    if inspect.isfunction(thing):
        assert ">>>" in text, f"{name} has no example"


def test_public_names_are_sorted_and_unique():
    assert list(analysis.__all__) == sorted(set(analysis.__all__))
