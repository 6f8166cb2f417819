"""Hidden states are read where they should be: checked against a plain forward pass, on the tiny
model and on a Qwen2.5-VL.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from rali_lab.interpret.hidden_states import PLACES, hidden_states
from rali_lab.models.vlm import conversation
from rali_lab.reasoner.prompts import SCORE_QUESTION, score_answer

ANSWERS = [score_answer("blur noise", 2.10), score_answer("noise", 4.25)]


def by_hand(model, processor, image, answer):
    """States of one prompt and answer, written out: (tokens, hidden), and the token ids."""
    prompt = processor.apply_chat_template(
        conversation(SCORE_QUESTION), add_generation_prompt=True, tokenize=False
    )
    inputs = processor(images=[Image.fromarray(image)], text=[prompt + answer], return_tensors="pt")
    with torch.inference_mode():
        states = model(**inputs, output_hidden_states=True).hidden_states
    return states, inputs["input_ids"][0]


@pytest.mark.parametrize("layer", [0, -1])
def test_states_equal_those_of_a_plain_forward_pass_read_at_the_same_tokens(policy, images, layer):
    model, processor = policy
    found = hidden_states(model, processor, [p.pixels() for p in images[:2]], ANSWERS, layer=layer)
    for row, answer in enumerate(ANSWERS):
        states, ids = by_hand(model, processor, images[row].pixels(), answer)
        image = getattr(model.config, "image_token_id", None) or model.config.image_token_index
        h = states[layer][0]
        np.testing.assert_allclose(found["image"][row], h[ids == image].mean(0), atol=1e-4)
        words = [processor.tokenizer.decode([i]) for i in ids.tolist()]
        rating = max(
            i
            for i, w in enumerate(words)
            if w.strip() == f"{answer.split(': ')[1][0]}" and "." in "".join(words[i : i + 3])
        )
        np.testing.assert_allclose(found["score"][row], h[rating - 1], atol=1e-4)


def test_the_state_over_the_reasoning_does_not_see_the_rating(policy, images):
    model, processor = policy
    x = [images[0].pixels()] * 2
    found = hidden_states(
        model, processor, x, [score_answer("blur noise", 2.10), score_answer("blur noise", 4.25)]
    )
    for place in PLACES:
        np.testing.assert_allclose(
            found[place][0], found[place][1], atol=1e-5
        )  # all stand before the first digit
    other = hidden_states(model, processor, x[:1], [score_answer("noise blur blur", 2.10)])
    assert np.abs(other["reasoning"] - found["reasoning"][:1]).max() > 1e-4
    np.testing.assert_allclose(
        other["image"], found["image"][:1], atol=1e-5
    )  # images come before words


def test_padding_and_batches_do_not_change_a_state(policy, images):
    model, processor = policy
    x, texts = (
        [p.pixels() for p in images[:3]],
        [
            ANSWERS[0],
            score_answer("noise " * 9, 3.00),
            ANSWERS[1],
        ],
    )
    together, alone = (hidden_states(model, processor, x, texts, batch=b) for b in (3, 1))
    for place in PLACES:
        np.testing.assert_allclose(together[place], alone[place], atol=1e-4)


def test_an_answer_without_a_rating_gives_nan_and_nothing_else(policy, images):
    model, processor = policy
    found = hidden_states(
        model, processor, [p.pixels() for p in images[:2]], ["no rating", ANSWERS[0]]
    )
    assert np.isfinite(found["image"]).all()
    assert [bool(np.isnan(found[p]).all(1)[0]) for p in ("reasoning", "score")] == [True, True]
    assert [bool(np.isfinite(found[p]).all(1)[1]) for p in ("reasoning", "score")] == [True, True]


def test_bad_input_is_named(policy, images):
    model, processor = policy
    with pytest.raises(ValueError, match="2 images but 1 answers"):
        hidden_states(model, processor, [p.pixels() for p in images[:2]], ANSWERS[:1])


def test_places_may_be_read_at_different_layers_in_one_pass(policy, images):
    model, processor = policy
    x = [p.pixels() for p in images[:2]]
    mixed = hidden_states(
        model, processor, x, ANSWERS, layer={"image": 0, "reasoning": -1, "score": -1}
    )
    first, last = (hidden_states(model, processor, x, ANSWERS, layer=n) for n in (0, -1))
    for place, alone in (("image", first), ("reasoning", last), ("score", last)):
        np.testing.assert_array_equal(mixed[place], alone[place])
