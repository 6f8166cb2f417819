"""Controls change what they say and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rali_lab.interpret.controls import donors, paraphrase, swap_language, without_severity
from rali_lab.models.vlm import build_tiny, load_policy
from rali_lab.reasoner.prompts import named


def test_severities_go_and_words_stay():
    text = "There is serious blur, slight noise and obvious tint: grain covers the even areas."
    assert without_severity(text) == "There is blur, noise and tint: grain covers the even areas."
    assert without_severity(without_severity(text)) == without_severity(text)


def test_a_paraphrase_names_the_same_in_other_words():
    text, rng = "There is serious blur and slight noise: edges are soft.", np.random.default_rng(0)
    said = {paraphrase(text, rng) for _ in range(20)}
    assert len(said) > 2 and {named(t) for t in said} == {named(text)}


@pytest.mark.parametrize("seed", range(20))
def test_nobody_gets_text_from_the_same_image(seed):
    groups = np.repeat(np.arange(7), [1, 2, 3, 2, 1, 4, 2])
    found = donors(len(groups), np.random.default_rng(seed), groups)
    assert sorted(found) == list(range(len(groups)))
    assert (groups[found] != groups).all()


def test_donors_that_cannot_be_found_are_an_error():
    with pytest.raises(ValueError, match="3 of them in one group"):
        donors(4, np.random.default_rng(0), [0, 0, 0, 1])
    with pytest.raises(ValueError, match="1 items"):
        donors(1, np.random.default_rng(0))


def state(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def test_only_the_language_module_is_swapped(policy):
    model, processor = policy
    other = type(model)(model.config)
    before, theirs = state(model), state(other)
    swap_language(model, other)
    after = state(model)
    language = {k for k in after if "language_model" in k or "lm_head" in k}
    assert language and language != set(after)
    for k, v in after.items():
        assert torch.equal(v, theirs[k] if k in language else before[k]), k
    with torch.no_grad():
        next(other.get_decoder().parameters()).add_(1)
    assert all(torch.equal(v, after[k]) for k, v in model.state_dict().items()), (
        "the other model is copied, not shared"
    )


def test_modules_of_another_size_are_refused_and_nothing_changes(tiny_base):
    model, processor = load_policy(tiny_base)
    before = state(model)
    with pytest.raises(ValueError, match=r"layers.1\.\S+ is missing in one"):
        swap_language(model, build_tiny(processor.tokenizer, hidden=48, layers=2))
    with pytest.raises(ValueError, match=r"is \(\d+, 48\) in one, \(\d+, 96\) in the"):
        swap_language(model, build_tiny(processor.tokenizer, hidden=96, layers=1))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
