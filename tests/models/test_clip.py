"""The model that is aligned: its size, its text tower, and its files."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch

from rali_lab.models.clip import check_text_tower, embed_texts, load_base_clip, save_base_clip


def test_the_model_is_open_clips_within_budget(clip):
    assert isinstance(clip, open_clip.CustomTextCLIP)
    assert sum(p.numel() for p in clip.visual.parameters()) <= 160_000
    assert not any(p.requires_grad for p in clip.text.parameters())


def test_minilm_knows_synonyms(clip):
    texts = [
        "The image is very blurry.",
        "The image is quite out of focus.",
        "Bread rises in an oven.",
    ]
    a, b, c = embed_texts(clip, texts)
    assert a @ b > 0.5 > a @ c
    np.testing.assert_allclose(np.linalg.norm([a, b, c], axis=1), 1, rtol=1e-5)


def test_text_embeddings_do_not_depend_on_batch_order_or_repeats(clip):
    texts = ["noise", "a long sentence about a slightly blurred image", "noise", "haze"]
    z = embed_texts(clip, texts, batch=1)
    np.testing.assert_allclose(z, embed_texts(clip, texts, batch=8), atol=1e-6)
    np.testing.assert_array_equal(z[0], z[2])
    np.testing.assert_allclose(z[::-1], embed_texts(clip.text, texts[::-1]), atol=1e-6)
    assert embed_texts(clip, []).shape == (0, 384)
    with pytest.raises(ValueError, match="write \\[text\\]"):
        embed_texts(clip, "one")


def test_a_text_tower_with_other_weights_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model.safetensors is missing; .*reinstall"):
        check_text_tower(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"sha256 is d9298a10d1b0\.\.\., expected 53aa.*reinstall"):
        check_text_tower(tmp_path)


def test_a_saved_clip_loads_and_other_weights_are_refused(clip, tmp_path):
    save_base_clip(clip, tmp_path / "clip")
    again = load_base_clip(tmp_path / "clip")
    for name, value in clip.visual.state_dict().items():
        assert torch.equal(again.visual.state_dict()[name], value), name
    assert torch.equal(again.logit_scale, clip.logit_scale)
    assert sorted(f.name for f in (tmp_path / "clip").iterdir()) == ["SHA256", "visual.safetensors"]
    (tmp_path / "clip" / "SHA256").write_text("0" * 64)
    with pytest.raises(ValueError, match=r"visual.safetensors: sha256 is .*; check it out again"):
        load_base_clip(tmp_path / "clip")
    with pytest.raises(FileNotFoundError, match="visual.safetensors is missing; `make base-model`"):
        load_base_clip(tmp_path)
