"""Things that are built once for all tests of RALI."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from rali_lab.rali.align import build_clip


@pytest.fixture(scope="session")
def _built():
    return build_clip()[0]


@pytest.fixture
def clip(_built):
    """A fresh model: the text tower is shared, the image side is this test's own."""
    model = copy.copy(_built)
    model._modules = dict(_built._modules, visual=copy.deepcopy(_built.visual))
    model._parameters = copy.deepcopy(_built._parameters)
    return model


@pytest.fixture(scope="session")
def images():
    """24 tiny random images of three kinds and two sizes."""
    rng = np.random.default_rng(0)
    grey = [np.full((32, 32 + 8 * (i % 2), 3), 20 + 8 * i, np.uint8) for i in range(8)]
    noise = [rng.integers(0, 256, (32, 32, 3)).astype(np.uint8) for _ in range(8)]
    ramp = [
        np.broadcast_to(np.linspace(0, 255 - 9 * i, 32, dtype=np.uint8)[:, None, None], (32, 32, 3))
        for i in range(8)
    ]
    return grey + noise + ramp


@pytest.fixture(scope="session")
def texts():
    return ["a flat grey image"] * 8 + ["strong noise everywhere"] * 8 + ["a smooth gradient"] * 8
