"""The small CLIP and images for it, built once for the tests of `models` and `rali`."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from rali_lab.models.clip import build_clip


@pytest.fixture(scope="session")
def built():
    return build_clip()[0]


@pytest.fixture
def clip(built):
    """A fresh model: the text tower is shared, the image encoder is this test's own."""
    model = copy.copy(built)
    model._modules = dict(built._modules, visual=copy.deepcopy(built.visual))
    model._parameters = copy.deepcopy(built._parameters)
    return model


@pytest.fixture(scope="session")
def arrays():
    """24 tiny random images of three kinds and two sizes."""
    rng = np.random.default_rng(0)
    grey = [np.full((32, 32 + 8 * (i % 2), 3), 20 + 8 * i, np.uint8) for i in range(8)]
    noise = [rng.integers(0, 256, (32, 32, 3)).astype(np.uint8) for _ in range(8)]
    ramp = [
        np.broadcast_to(np.linspace(0, 255 - 9 * i, 32, dtype=np.uint8)[:, None, None], (32, 32, 3))
        for i in range(8)
    ]
    return grey + noise + ramp
