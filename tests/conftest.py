"""Things that several parts of the tests build from."""

from __future__ import annotations

import numpy as np
import pytest

from rali_lab.data.records import Distortion, Picture


@pytest.fixture
def pictures():
    """Six rated 96-px pictures with one or two distortions each; noise, so that no two look alike."""
    rng = np.random.default_rng(0)
    kinds = ("gaussian_blur", "jpeg", "darkening")
    return [
        Picture(
            id=f"p{i}", domain="photo", source=f"s{i}", split="train", mos=1.5 + i / 2, std=0.4,
            distortions=tuple(Distortion(k, 1 + i % 5) for k in kinds[: 1 + i % 2]),
            array=rng.integers(0, 256, (96, 96, 3), dtype=np.uint8),
        )
        for i in range(6)
    ]  # fmt: skip


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """Folder of a tiny VLM with random weights, large enough that its greedy answers differ from picture to picture."""
    import torch

    from rali_lab.base.verbalise import sample_texts
    from rali_lab.data.domains import DOMAINS, draw_distortions
    from rali_lab.reasoner.policy import build_tiny, tiny_processor, train_tokenizer, write_hashes

    rng = np.random.default_rng(0)
    tokenizer = train_tokenizer(sample_texts([draw_distortions(DOMAINS["photo"], rng) for _ in range(100)], rng))
    torch.manual_seed(0)
    model = build_tiny(tokenizer, hidden=48, layers=1)
    with torch.no_grad():
        for part in (model.model.language_model, model.model.multi_modal_projector):
            for p in part.parameters():
                if p.ndim == 2:
                    p.mul_(10)
    folder = tmp_path_factory.mktemp("base")
    model.save_pretrained(folder)
    tiny_processor(tokenizer).save_pretrained(folder)
    write_hashes(folder)
    return folder
