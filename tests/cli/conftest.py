"""What the tests of the commands share: a scorer in the place of the trained one, and images."""

import importlib

import numpy as np
import pytest
from PIL import Image


class MeanScorer:
    """Scores an image by its mean: black 1, white 5."""

    def predict(self, images):
        return np.array([1 + 4 * image.mean() / 255 for image in images])


@pytest.fixture
def scorer(monkeypatch):
    """Puts a scorer or an error in the place of the trained one; returns the folders asked for."""
    asked = []

    def install(answer=None):
        def load_scorer(model_dir=None):
            asked.append(model_dir)
            if isinstance(answer, Exception):
                raise answer
            return answer or MeanScorer()

        monkeypatch.setattr(
            importlib.import_module("rali_lab.rali.scorer"), "load_scorer", load_scorer
        )
        return asked

    return install


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for name, grey in (("a.png", 0), ("b.png", 255)):
        Image.new("L", (20, 20), grey).save(tmp_path / "in" / name)
    return tmp_path / "in"
