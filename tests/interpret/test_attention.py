"""Shares are what the model's own attention maps say, summed over the right tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rali_lab.interpret import GROUPS, attention_share, lay_out, score_rows
from rali_lab.interpret.hooks import attention_weights, eager
from rali_lab.reasoner.prompts import score_answer

ANSWERS = [score_answer("blur noise", 2.10), score_answer("noise noise noise blur", 4.25)]


def test_shares_equal_those_from_the_full_maps(policy, images):
    model, processor = policy
    x = [p.pixels() for p in images[:2]]
    found = attention_share(model, processor, x, ANSWERS)
    layout = lay_out(model, processor, x, ANSWERS)
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        maps = torch.stack(
            model(**layout.inputs, output_attentions=True).attentions, 1
        )  # (batch, layer, head, query, key)
    for i in range(2):
        rows = maps[i][:, :, layout.writes_score[i]].mean(2)
        for g, group in enumerate(GROUPS):
            np.testing.assert_allclose(
                found.share[i, ..., g], rows[..., layout.of(group)[i]].sum(-1), atol=1e-5
            )
    np.testing.assert_allclose(found.share.sum(-1), 1, atol=1e-5)


def test_tokens_are_those_that_can_be_seen(policy, images):
    model, processor = policy
    x = [images[0].pixels()]
    found, layout = (
        attention_share(model, processor, x, ANSWERS[:1]),
        lay_out(model, processor, x, ANSWERS[:1]),
    )
    seen = dict(zip(GROUPS, found.tokens[0], strict=True))
    assert seen["reasoning"] == layout.of("reasoning").sum() == 2
    assert seen["image"] == layout.of("image").sum() and seen["sink"] == 1
    assert seen["score"] == 1.5, "before the four digits of 2.10 stand 0, 1, 2 and 3 of them"


def test_an_even_head_has_no_preference(policy, images):
    """With all query weights zero every visible token gets the same attention: one per token, and
    shares follow the counts.
    """
    model, processor = policy
    with torch.no_grad():
        for layer in model.get_decoder().layers:
            layer.self_attn.q_proj.weight.zero_()
            layer.self_attn.q_proj.bias.zero_()
    found = attention_share(model, processor, [p.pixels() for p in images[:2]], ANSWERS)
    for group, ratio in found.per_token().items():
        assert ratio == pytest.approx(1, rel=0.1 if group == "score" else 0.02), group
    assert found.text_share() == pytest.approx(
        found.tokens[:, 3] / (found.tokens[:, 3] + found.tokens[:, 1]), abs=1e-5
    )


def test_rows_name_their_tokens(policy, images):
    model, processor = policy
    row = score_rows(model, processor, [images[0].pixels()], ANSWERS[:1])[0]
    assert len(row.tokens) == len(row.groups) == row.weights.shape[2]
    share = attention_share(model, processor, [images[0].pixels()], ANSWERS[:1]).share[0]
    np.testing.assert_allclose(
        row.of("reasoning").sum(-1), share[..., GROUPS.index("reasoning")], atol=1e-5
    )


def test_an_answer_without_rating_is_counted_not_averaged(policy, images):
    model, processor = policy
    x = [p.pixels() for p in images[:2]]
    found = attention_share(model, processor, x, ["noise", ANSWERS[1]])
    assert found.n_invalid == 1 and np.isnan(found.share[0]).all()
    alone = attention_share(model, processor, x[1:], ANSWERS[1:])
    assert found.mean() == pytest.approx(alone.mean(), abs=1e-4)


def test_the_attention_that_was_set_comes_back(policy):
    model, _ = policy
    decoder = model.get_decoder()
    before = decoder.config._attn_implementation
    with eager(model):
        assert decoder.config._attn_implementation == "eager"
    with pytest.raises(RuntimeError, match="on the way"), eager(model):
        raise RuntimeError("on the way")
    assert decoder.config._attn_implementation == before


def test_a_model_that_cannot_run_eager_is_named(policy, monkeypatch):
    model, _ = policy
    decoder = model.get_decoder()
    decoder.set_attn_implementation("sdpa")
    monkeypatch.setattr(
        type(decoder), "_can_set_attn_implementation", classmethod(lambda cls: False)
    )
    with (
        pytest.raises(ValueError, match="no eager attention.*'sdpa'"),
        attention_weights(model, lambda *_: None),
    ):
        pass


def test_a_decoder_of_another_build_is_named(policy, monkeypatch):
    model, _ = policy
    monkeypatch.setattr(type(model), "get_decoder", lambda self: torch.nn.Linear(2, 2))
    from rali_lab.interpret.hooks import attention_modules

    with pytest.raises(ValueError, match="Linear is not a stack of layers"):
        attention_modules(model)


def test_bad_input_is_named(policy, images):
    with pytest.raises(ValueError, match="33 images but 32 answers"):
        attention_share(*policy, [images[0].pixels()] * 33, ANSWERS[:1] * 32)
