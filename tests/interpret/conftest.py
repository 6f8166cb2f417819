from __future__ import annotations

import pytest

from rali_lab.models.vlm import load_policy


@pytest.fixture(params=["tiny_base", "qwen"])
def policy(request):
    """A model and its processor: the tiny one, and a random miniature of the paper's teacher."""
    return load_policy(request.getfixturevalue(request.param))
