"""Fixtures of the tests of `rali`."""

import pytest

from tests.models.small_clip import arrays, built, clip

__all__ = ["arrays", "built", "clip", "images", "texts"]


@pytest.fixture(scope="session")
def images(arrays):
    return arrays


@pytest.fixture(scope="session")
def texts():
    return ["a flat grey image"] * 8 + ["strong noise everywhere"] * 8 + ["a smooth gradient"] * 8
