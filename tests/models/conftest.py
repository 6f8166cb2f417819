"""Fixtures of the tests of `models`."""

from tests.models.small_clip import arrays, built, clip

__all__ = ["arrays", "built", "clip"]
