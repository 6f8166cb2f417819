"""The image encoder: sizes, batches, folding, refusals."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from rali_lab.models.image_encoder import embed_images, fold_batch_norm, image_tower


def test_embeddings_depend_on_no_other_image(clip, arrays):
    z = embed_images(clip, arrays, batch=1)
    assert z.shape == (24, 384) and z.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(embed_images(clip, arrays, batch=16), z, atol=1e-5)
    np.testing.assert_allclose(embed_images(clip, arrays[::-1]), z[::-1], atol=1e-5)


def test_any_size_from_32_px_at_native_resolution(clip):
    rng = np.random.default_rng(0)
    z = embed_images(
        clip,
        [
            rng.integers(0, 256, (h, w, 3)).astype(np.uint8)
            for h, w in ((32, 33), (200, 57), (32, 33))
        ],
    )
    assert np.isfinite(z).all()


def test_the_training_mode_is_restored(clip, arrays):
    clip.visual.train()
    embed_images(clip, arrays[:1])
    assert clip.visual.training


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((31, 64, 3), np.uint8), r"image 1 is 64 x 31 pixels, at least 32 x 32"),
        (
            np.zeros((64, 64), np.uint8),
            r"image 1: expected a \(H, W, 3\) uint8 array, got \(64, 64\) uint8",
        ),
        (np.zeros((64, 64, 3), np.float32), "got .* float32; read files with read_image"),
        ("photo.jpg", "got str"),
    ],
)
def test_unfit_images_are_named(clip, image, message):
    with pytest.raises(ValueError, match=message):
        embed_images(clip, [np.zeros((64, 64, 3), np.uint8), image])


def test_one_array_is_not_a_list(clip):
    with pytest.raises(ValueError, match=r"write \[image\]"):
        embed_images(clip, np.zeros((64, 64, 3), np.uint8))


def test_folding_keeps_the_output_and_leaves_no_batch_norm(clip, arrays):
    folded = fold_batch_norm(copy.deepcopy(clip.visual).eval())
    assert not [m for m in folded.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    np.testing.assert_allclose(embed_images(folded, arrays), embed_images(clip, arrays), atol=1e-5)


def test_weights_go_from_open_clips_image_encoder_to_the_bare_tower(clip, arrays):
    bare = image_tower()
    bare.load_state_dict(clip.visual.state_dict())
    np.testing.assert_array_equal(embed_images(bare, arrays), embed_images(clip, arrays))
