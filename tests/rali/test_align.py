"""The contrastive training."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch

from rali_lab.models.clip import embed_texts
from rali_lab.models.image_encoder import embed_images
from rali_lab.rali.align import SharedTextClipLoss, align
from rali_lab.rali.baselines import visual_features


def moved(model, before):
    return {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}


def state(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def test_training_the_head_moves_the_head_and_nothing_else(clip, images, texts):
    before = state(clip)
    holdout = (images[::3], texts[::3])
    history = align(clip, images, texts, epochs=15, lr=3e-3, batch_size=12, holdout=holdout)
    buffers = {"visual.trunk.stat_mean", "visual.trunk.stat_std"}
    head = {k for k in before if k.startswith("visual.head")}
    assert moved(clip, before) == head | buffers | {"logit_scale"}
    assert history.loss.iloc[-1] < history.loss.iloc[0]
    assert list(history.epoch) == list(range(1, 16)) and history.lr.is_monotonic_decreasing
    assert history.holdout_top1.iloc[-1] > 0.9 and history.holdout_loss.notna().all()
    z, t = embed_images(clip, images), embed_texts(clip, texts)
    own = (z * t).sum(1).mean()
    assert own > (z @ t.T).mean()


def test_training_all_moves_every_trainable_weight_but_no_batch_norm_statistic(clip, images, texts):
    before = state(clip)
    history = align(clip, images[::2], texts[::2], epochs=2, lr=1e-4, batch_size=6, train="all")
    changed = moved(clip, before)
    assert {f"visual.{n}" for n, _ in clip.visual.named_parameters()} <= changed
    assert not [k for k in changed if "running_" in k or k.startswith("text.")]
    assert len(history) == 2


def test_an_anchor_holds_the_weights(clip, images, texts):
    before = state(clip)
    distance = []
    for anchor in (0.0, 10.0):
        clip.load_state_dict(before)
        align(clip, images, texts, epochs=5, anchor=anchor)
        head = clip.visual.head.state_dict(prefix="visual.head.")
        distance.append(sum(float((v - before[k]).norm()) for k, v in head.items()))
    assert distance[1] < 0.5 * distance[0]


def test_same_seed_same_weights_and_several_texts_per_image(clip, images, texts):
    before = state(clip)
    several = [[t, t + ", clearly"] for t in texts]
    losses = []
    for seed in (0, 0, 1):
        clip.load_state_dict(before)
        losses.append(
            align(
                clip, images, several, epochs=2, batch_size=8, jitter=0.1, seed=seed
            ).loss.tolist()
        )
    assert losses[0] == losses[1] != losses[2]


def test_equal_texts_are_no_negatives():
    z = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), dim=1)
    plain = open_clip.ClipLoss()(z, z, 50.0)
    shared = SharedTextClipLoss()(z, z, 50.0, torch.tensor([7, 7, 3]))
    assert torch.isclose(shared, plain)  # log 2 for each of the two equal images: the minimum
    wrong = SharedTextClipLoss()(z.flip(0), z, 50.0, torch.tensor([7, 7, 3]))
    assert wrong > shared


def test_bad_pairs_are_named(clip, images):
    with pytest.raises(ValueError, match="got 1 for 2 images"):
        align(clip, images[:2], ["one"], epochs=1)
    with pytest.raises(ValueError, match="image 1 has no text"):
        align(clip, images[:2], [["one"], []], epochs=1)
    with pytest.raises(ValueError, match='must be "head" or "all", got'):
        align(clip, images[:2], ["one", "two"], epochs=1, train="neck")
    with pytest.raises(ValueError, match="statistics train the head alone"):
        align(clip, np.zeros((2, 196)), ["one", "two"], epochs=1, train="all")
    with pytest.raises(ValueError, match="statistics have 5 columns, this trunk makes 196"):
        align(clip, np.zeros((2, 5)), ["one", "two"], epochs=1)


def test_raw_features_train_the_head_as_images_do(clip, images, texts):
    before = state(clip)
    features = visual_features(images, tower="lite0_stats_s8")
    losses = []
    for shown in (images, features):
        clip.load_state_dict(before)
        losses.append(align(clip, shown, texts, epochs=3, batch_size=8).loss)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
