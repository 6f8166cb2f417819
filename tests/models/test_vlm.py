"""The policy: texts survive the tokenizer, weights the disk; answers do not depend on the batch."""

import numpy as np
import pytest
import torch

from rali_lab.data.content import photographs
from rali_lab.models import SCORE_QUESTION
from rali_lab.models.model_folder import write_hashes
from rali_lab.models.vlm import (
    IMAGE,
    SPECIAL,
    ask,
    build_tiny,
    conversation,
    freeze_tower,
    load_policy,
    tiny_processor,
    train_tokenizer,
)
from rali_lab.reasoner import prompts
from rali_lab.reasoner.prompts import score_answer

TEXTS = [
    "serious blur and slight noise: edges are soft.",
    score_answer("grain covers the even areas", 3.25),
]
UNICODE = [
    "Grüße, 漢字 🙂",
    " two  spaces \n\t",
    "a\u200bb\r\n\x00\ufeff",
    "e\u0301 İ ﬁ",
    "n't I 'm ok .",
    TEXTS[1],
]


@pytest.fixture(scope="module")
def loaded(tiny_base):
    return load_policy(tiny_base)


@pytest.fixture(scope="module")
def photos():
    """Three images of three sizes, one of them not square."""
    noise = np.random.default_rng(0).integers(0, 256, (128, 140, 3), dtype=np.uint8)
    return [
        photographs("coffee", count=1, size=96)[0],
        noise,
        photographs("china", count=1, size=128)[0],
    ]


def logits(model, processor, pixels):
    text = processor.apply_chat_template(
        conversation("Rate it."), add_generation_prompt=True, tokenize=False
    )
    inputs = processor(images=list(pixels), text=[text] * len(pixels), return_tensors="pt")
    with torch.inference_mode():
        return model(**inputs).logits


@pytest.mark.parametrize("text", UNICODE)
def test_the_tokenizer_loses_nothing(text):
    tokenizer = train_tokenizer(TEXTS)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_tags_and_digits_are_single_tokens_that_decoding_keeps():
    tokenizer = train_tokenizer(TEXTS)
    pieces = tokenizer.tokenize(score_answer("", 3.25))
    assert pieces == [
        "<think>",
        "</think>",
        "<answer>",
        '{"rating": ',
        "3",
        ".",
        "2",
        "5",
        "}",
        "</answer>",
    ]
    ids = tokenizer(TEXTS[1])["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == TEXTS[1]
    assert all(len(tokenizer.tokenize(t)) == 1 for t in (*SPECIAL.values(), IMAGE))


def test_saving_and_loading_changes_no_logit(tmp_path, photos):
    torch.manual_seed(1)
    tokenizer = train_tokenizer(TEXTS)
    model, processor = build_tiny(tokenizer, hidden=48, layers=1).eval(), tiny_processor(tokenizer)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    write_hashes(tmp_path)
    again = load_policy(tmp_path)
    torch.testing.assert_close(
        logits(*again, photos), logits(model, processor, photos), rtol=0, atol=0
    )
    assert not again[0].training and again[1].tokenizer.padding_side == "left"


def test_the_question_is_the_one_that_the_base_was_pretrained_on():
    assert prompts.SCORE_QUESTION is SCORE_QUESTION


def test_greedy_answers_repeat_and_do_not_depend_on_the_batch(loaded, photos):
    greedy = {"temperature": 0, "max_new_tokens": 12}
    together = ask(*loaded, photos, **greedy)
    assert len({a for (a,) in together}) == 3  # the answers are about the images
    assert together == ask(*loaded, photos, **greedy)
    assert (
        together
        == [ask(*loaded, [x], **greedy)[0] for x in photos]
        == ask(*loaded, photos, batch=2, **greedy)
    )


def test_every_image_gets_its_samples_and_torchs_seed_decides(loaded, photos):
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        runs.append(ask(*loaded, photos, samples=4, batch=8, max_new_tokens=8))
    assert [len(a) for a in runs[0]] == [4, 4, 4] and all(len(set(a)) > 1 for a in runs[0])
    assert runs[0] == runs[1] != runs[2]
    assert ask(*loaded, []) == []


def test_samples_stay_with_their_image(loaded, photos):
    """Close to temperature zero every sample is the greedy answer to its own image."""
    greedy = ask(*loaded, photos, temperature=0, max_new_tokens=8)
    cold = ask(*loaded, photos, temperature=1e-4, samples=2, max_new_tokens=8)
    assert cold == [[a, a] for (a,) in greedy] and cold[0] != cold[1]


def test_a_prefill_is_part_of_the_answer_and_changes_what_follows(loaded, photos):
    plain, begun = (
        ask(*loaded, photos, prefill=p, temperature=0, max_new_tokens=8)
        for p in ("", "<think></think><answer>")
    )
    assert all(a.startswith("<think></think><answer>") for (a,) in begun)
    assert [a.removeprefix("<think></think><answer>") for (a,) in begun] != [a for (a,) in plain]


def test_greedy_decoding_has_one_answer(loaded, photos):
    with pytest.raises(
        ValueError,
        match="greedy decoding gives one completion, got samples=2; set temperature above 0",
    ):
        ask(*loaded, photos, temperature=0, samples=2)


def test_sampling_ignores_what_a_checkpoint_likes(tiny_base, photos):
    """Released checkpoints ship generation settings of their own; an answer must follow the
    arguments of `ask` alone.
    """
    answers = []
    for liked in ({}, {"repetition_penalty": 5.0, "top_p": 0.01}):
        model, processor = load_policy(tiny_base)
        model.generation_config.update(**liked)
        torch.manual_seed(0)
        answers.append(
            [ask(model, processor, photos, temperature=t, max_new_tokens=8) for t in (1.0, 0)]
        )
    assert answers[0] == answers[1]


def test_a_frozen_tower_gives_the_same_logits_and_encodes_an_image_once(
    tiny_base, photos, monkeypatch
):
    model, processor = load_policy(tiny_base)
    expected = logits(model, processor, photos)
    freeze_tower(model)
    tower, encoded = model.model.vision_tower.timm_model, []
    plain = tower.statistics
    monkeypatch.setattr(
        tower, "statistics", lambda pixels: encoded.append(len(pixels)) or plain(pixels)
    )
    for order in ([0, 1, 2], [2, 0, 2], [1, 1, 1]):
        found = logits(model, processor, [photos[i] for i in order])
        torch.testing.assert_close(found, expected[order], rtol=1e-5, atol=1e-5)
    assert sum(encoded) == 3
    assert not any(p.requires_grad for p in model.model.vision_tower.parameters())
    assert all(p.requires_grad for p in model.model.language_model.parameters())


def test_images_seen_while_asking_can_be_trained_on(tiny_base, photos):
    """`ask` fills the cache in inference mode, whose tensors must not leak into a graph."""
    model, processor = load_policy(tiny_base)
    freeze_tower(model)
    ask(model, processor, photos, max_new_tokens=2)
    text = processor.apply_chat_template(
        conversation("Rate it."), add_generation_prompt=True, tokenize=False
    )
    model.train()(
        **processor(images=photos, text=[text] * 3, return_tensors="pt")
    ).logits.mean().backward()
    assert model.model.multi_modal_projector.linear_1.weight.grad.abs().sum() > 0


def test_a_frozen_tower_works_in_bfloat16(tiny_base, photos):
    model, processor = load_policy(tiny_base)
    freeze_tower(model)
    assert len(ask(model.bfloat16(), processor, photos, max_new_tokens=2)) == 3
