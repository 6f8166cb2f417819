"""Every token has its kind, and there are as many image tokens as the model makes features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from rali_lab.interpret.token_groups import GROUPS, PADDING, lay_out, spans
from rali_lab.models.vlm import conversation
from rali_lab.reasoner.prompts import SCORE_QUESTION, score_answer

ANSWERS = [score_answer("blur noise", 2.10), score_answer("noise noise noise blur", 4.25)]


def texts(processor, layout, group):
    rows = []
    for ids, mask in zip(layout.inputs["input_ids"], layout.of(group), strict=True):
        rows.append("".join(processor.tokenizer.decode([i]) for i in ids[mask]).replace(" ", ""))
    return rows


def features_per_image(model, layout, n):
    with torch.inference_mode():
        keys = [k for k in ("pixel_values", "image_grid_thw") if k in layout.inputs]
        found = model.get_image_features(**{k: layout.inputs[k] for k in keys})
    found = getattr(found, "pooler_output", found)
    return [
        len(x.reshape(-1, x.shape[-1]))
        for x in (
            found if isinstance(found, (list, tuple)) else found.reshape(n, -1, found.shape[-1])
        )
    ]


def test_groups_hold_what_their_name_says(policy, images):
    model, processor = policy
    layout = lay_out(model, processor, [p.pixels() for p in images[:2]], ANSWERS)
    assert texts(processor, layout, "reasoning") == ["blurnoise", "noisenoisenoiseblur"]
    assert texts(processor, layout, "score") == ["2.10", "4.25"]
    assert all(
        "rating" in t and "think" in t and "blur" not in t
        for t in texts(processor, layout, "format")
    )
    assert (layout.of("sink").sum(1) == 1).all() and (layout.of("prompt").sum(1) > 2).all()
    mask = layout.inputs["attention_mask"].bool()
    assert torch.equal(mask, layout.groups != PADDING) and (layout.groups[mask] >= 0).all()
    assert mask[:, -1].all(), "padding stands on the left, so that generation can go on"


def test_there_are_as_many_image_tokens_as_features(policy, images):
    model, processor = policy
    layout = lay_out(model, processor, [p.pixels() for p in images[:2]], ANSWERS)
    assert layout.of("image").sum(1).tolist() == features_per_image(model, layout, 2)


def test_the_tokens_that_decide_a_digit_stand_right_before_it(policy, images):
    model, processor = policy
    layout = lay_out(model, processor, [images[0].pixels()], ANSWERS[:1])
    assert torch.equal(layout.writes_score[0, :-1], layout.of("score")[0, 1:])
    cut = lay_out(model, processor, [images[0].pixels()], [ANSWERS[0][: ANSWERS[0].index("2.10")]])
    assert cut.writes_score[0].nonzero().tolist() == [[cut.groups.shape[1] - 1]], (
        "the rating is still to be written"
    )


def test_a_image_may_be_left_out(policy):
    model, processor = policy
    layout = lay_out(model, processor, None, ANSWERS)
    assert not layout.of("image").any() and "pixel_values" not in layout.inputs
    assert texts(processor, layout, "reasoning") == ["blurnoise", "noisenoisenoiseblur"]


def test_an_answer_without_rating_decides_nothing(policy, images):
    model, processor = policy
    layout = lay_out(model, processor, [images[0].pixels()], ["noise"])
    assert not layout.writes_score.any() and not layout.of("reasoning").any()


def test_a_processor_with_another_token_count_is_refused_by_the_model(tiny_base, images):
    from rali_lab.models.vlm import load_policy

    model, processor = load_policy(tiny_base)
    processor.patch_size = 16  # four times as many places as the model makes features
    layout = lay_out(model, processor, [images[0].pixels()], ANSWERS[:1])
    with pytest.raises(ValueError, match="(?i)image features and image tokens do not match"):
        model(**layout.inputs)


def test_bad_input_is_named(policy, images):
    model, processor = policy
    with pytest.raises(ValueError, match="2 images but 1 answers"):
        lay_out(model, processor, [p.pixels() for p in images[:2]], ANSWERS[:1])
    image = getattr(model.config, "image_token_id", None) or model.config.image_token_index
    other = image + 1
    if hasattr(model.config, "image_token_id"):
        model.config.image_token_id = other
    else:
        model.config.image_token_index = other
    with pytest.raises(ValueError, match="no image token"):
        lay_out(model, processor, [images[0].pixels()], ANSWERS[:1])


def test_a_model_without_placeholder_tokens_is_named(policy, images):
    from types import SimpleNamespace

    with pytest.raises(ValueError, match="SimpleNamespace marks no image tokens"):
        lay_out(
            SimpleNamespace(config=SimpleNamespace()), policy[1], [images[0].pixels()], ANSWERS[:1]
        )


def test_spans():
    assert spans('<think>x</think><answer>{"rating": high}</answer>').score is None
    assert spans('<think></think><answer>{"rating": 2.0}</answer>').reasoning is None
    assert spans('<think>x</think><answer>{"rating": 2.').score == (35, 37)
    assert len(GROUPS) == 6 and np.unique(GROUPS).size == 6


def test_a_model_sees_what_it_would_see_had_it_been_given_the_whole_text(policy, images):
    """Logits equal those of prompt and answer processed as one text: positions and kinds of image
    tokens included.
    """
    model, processor = policy
    for p, answer in zip(images[:2], ANSWERS, strict=True):
        prompt = processor.apply_chat_template(
            conversation(SCORE_QUESTION), add_generation_prompt=True, tokenize=False
        )
        whole = processor(
            images=[Image.fromarray(p.pixels())], text=[prompt + answer], return_tensors="pt"
        )
        layout = lay_out(model, processor, [p.pixels()], [answer])
        with torch.inference_mode():
            torch.testing.assert_close(
                model(**layout.inputs).logits, model(**whole).logits, atol=1e-4, rtol=1e-4
            )
