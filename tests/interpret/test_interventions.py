"""A knock-out takes away exactly what it says: tested by what the model can no longer know."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rali_lab.interpret import KNOCKOUTS, lay_out, rate
from rali_lab.interpret.hooks import masking
from rali_lab.interpret.interventions import ALL, blocker

OPENING = '<think>{}</think><answer>{{"rating": '


def logits(policy, pixels, reasoning, block):
    """Next-token scores where the rating is decided, with attention taken away."""
    model, processor = policy
    layout = lay_out(model, processor, pixels, [OPENING.format(reasoning)] * len(pixels))
    with torch.inference_mode(), masking(model, blocker(layout, block)):
        return model(**layout.inputs).logits[:, -1]


@pytest.fixture
def two(images):
    return [images[0].pixels(), 255 - images[3].pixels()]


def test_without_any_sight_of_the_image_two_images_are_the_same(policy, two):
    seen = logits(policy, two, "blur noise", (("score",), "sink"))
    assert (seen[0] - seen[1]).abs().max() > 1e-3, "two images differ while they are seen"
    blind = logits(policy, two, "blur noise", KNOCKOUTS["all to image"])
    torch.testing.assert_close(blind[0], blind[1], atol=1e-5, rtol=0)


def test_the_narrow_knock_out_leaves_the_detour_through_the_reasoning(qwen, two):
    """Two layers: what the reasoning tokens read in the first reaches the score in the second."""
    from rali_lab.models.vlm import load_policy

    narrow = logits(load_policy(qwen), two, "blur noise", KNOCKOUTS["score to image"])
    assert (narrow[0] - narrow[1]).abs().max() > 1e-4


def test_without_any_sight_of_the_reasoning_two_reasonings_are_the_same(policy, two):
    block = (("format", "score"), "reasoning")
    assert KNOCKOUTS["answer to reasoning"] == block
    blind = [logits(policy, two[:1], words, block) for words in ("blur noise", "noise blur")]
    torch.testing.assert_close(blind[0], blind[1], atol=1e-5, rtol=0)
    seen = [
        logits(policy, two[:1], words, (("score",), "sink"))
        for words in ("blur noise", "noise blur")
    ]
    assert (seen[0] - seen[1]).abs().max() > 1e-4


def test_ratings_with_a_block_hold_for_generated_digits_too(policy, two):
    """Greedy ratings of two images agree when nothing may look at them, through prefill and cached
    steps alike.
    """
    for reasoning in ("blur noise", "noise"):
        found = rate(*policy, two, [reasoning] * 2, block=(ALL, "image"), samples=1, temperature=0)
        np.testing.assert_array_equal(found[0], found[1])


def test_a_block_that_hides_nothing_changes_nothing(policy, two):
    model, processor = policy
    layout = lay_out(model, processor, two, [OPENING.format("blur")] * 2)
    with torch.inference_mode():
        plain = model(**layout.inputs).logits[:, -1]
    empty = lay_out(model, processor, two, [OPENING.format("blur")] * 2)
    empty.groups[:] = 2  # no token is an image's
    with torch.inference_mode(), masking(model, blocker(empty, (("score",), "image"))):
        torch.testing.assert_close(
            model(**layout.inputs).logits[:, -1], plain, atol=1e-5, rtol=1e-4
        )


def test_padding_and_batches_do_not_change_a_rating(tiny_base, two):
    from rali_lab.models.vlm import load_policy

    policy, words = load_policy(tiny_base), ["blur " * 9, "noise"]
    together = rate(*policy, two, words, samples=1, temperature=0, batch=2)
    alone = rate(*policy, two, words, samples=1, temperature=0, batch=1)
    np.testing.assert_array_equal(together, alone)


def test_samples_are_rows_and_unreadable_ones_stay_nan(policy, two):
    torch.manual_seed(0)
    found = rate(*policy, two, ["blur", "noise"], samples=3)
    assert found.shape == (2, 3)
    assert (np.isnan(found) | ((found >= 1) & (found <= 5))).all()
    assert rate(*policy, [], [], samples=3).shape == (0, 3)


def test_the_text_alone_is_rated_without_an_image(policy):
    assert rate(*policy, None, ["blur", "noise"], samples=2).shape == (2, 2)


def test_bad_input_is_named(policy, two):
    with pytest.raises(ValueError, match="unknown kind of token 'text'"):
        rate(*policy, two, ["blur"] * 2, block=(("score",), "text"))
    with pytest.raises(ValueError, match="2 images but 1 answers"):
        rate(*policy, two, ["blur"])
    with pytest.raises(ValueError, match="samples=4"):
        rate(*policy, two, ["blur"] * 2, temperature=0)
