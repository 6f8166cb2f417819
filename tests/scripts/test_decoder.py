"""Verbalising: what the decoder is taught has the right form, its ratings are weak, and only the
answer is learnt.
"""

import numpy as np
import pytest
import torch

from rali_lab.data.domains import DOMAINS, draw_distortions
from rali_lab.data.records import Distortion
from rali_lab.models.vlm import conversation, load_policy
from rali_lab.reasoner.prompts import DEGRADATION_QUESTION, SCORE_QUESTION, findings, named, parse
from rali_lab.reasoner.rewards import degradation_reward, format_reward
from scripts.base_model import decoder
from scripts.base_model.decoder import Batches, example, sample_texts, train_decoder, weak_rating

STACK = (Distortion("gaussian_blur", 4), Distortion("jpeg", 2))


@pytest.fixture
def loaded(tiny_base):
    return load_policy(tiny_base)


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    return [draw_distortions(DOMAINS["photo"], rng) for _ in range(400)]


def test_ratings_are_valid_and_only_faintly_informed(drawn):
    rng = np.random.default_rng(0)
    rating = np.array([weak_rating(d, rng) for d in drawn * 5])
    severity = np.array([sum(f.level for f in findings(d)) for d in drawn * 5])
    assert rating.min() >= 1 and rating.max() <= 5 and rating.std() > 0.4
    assert -0.75 < np.corrcoef(rating, severity)[0, 1] < 0


def test_examples_have_the_form_their_question_asks_for_and_tell_the_truth(drawn):
    rng = np.random.default_rng(0)
    pairs = [example(d, rng, degradation_share=0.4) for d in drawn]
    task = ["score" if q == SCORE_QUESTION else "degradation" for q, _ in pairs]
    assert set(format_reward([a for _, a in pairs], task=task)) == {1.0}
    assert np.mean([t == "degradation" for t in task]) == pytest.approx(0.4, abs=0.08)
    for d, (_, answer), t in zip(drawn, pairs, task, strict=True):
        found = findings(d)
        assert named(parse(answer).reasoning) == found
        word, level = (found[0].word, found[0].level) if found else ("null", 0)
        assert t == "score" or degradation_reward(
            [answer], task=[t], word=[word], level=[level]
        ) == [1.0]


def test_texts_for_the_tokenizer_hold_questions_and_answers(drawn):
    texts = sample_texts(drawn[:50], np.random.default_rng(0))
    assert len(texts) == 100 and {SCORE_QUESTION, DEGRADATION_QUESTION} <= set(texts)


def test_only_answer_and_end_token_are_labelled(loaded):
    processor = loaded[1]
    tokenizer = processor.tokenizer
    batch = Batches(processor, 16).make(
        [(), STACK, (Distortion("haze", 1),)], np.random.default_rng(0)
    )
    assert {x.shape for x in batch.values()} == {batch["input_ids"].shape}
    for ids, mask, labels in zip(
        batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True
    ):
        text = tokenizer.decode(labels[labels != -100])
        assert (
            text.endswith(tokenizer.eos_token)
            and parse(text.removesuffix(tokenizer.eos_token)).status == "ok"
        )
        assert torch.equal(ids[labels != -100], labels[labels != -100])
        assert (labels[mask == 0] == -100).all() and (
            ids[mask == 0] == tokenizer.pad_token_id
        ).all()
        assert mask.diff().max() <= 0  # padded on the right


def test_the_prompt_taught_is_the_prompt_asked(loaded, images):
    """Token for token what the processor makes of a question and an image."""
    model, processor = loaded
    batches = Batches(processor, model.config.image_seq_length)
    for question, ids in batches.prompts.items():
        text = processor.apply_chat_template(
            conversation(question), add_generation_prompt=True, tokenize=False
        )
        asked = processor(images=[images[0].pixels()], text=[text], return_tensors="pt")[
            "input_ids"
        ][0]
        assert asked.tolist() == ids


def test_the_decoder_learns_and_the_neck_stays(loaded, drawn):
    model, processor = loaded
    tower = model.model.vision_tower.timm_model
    with torch.no_grad():
        for p in model.model.language_model.parameters():
            if p.ndim == 2:
                p.mul_(0.1)  # back to the usual size of fresh weights
    before = {k: v.clone() for k, v in model.state_dict().items()}
    statistics, lines = torch.randn(32, len(tower.stat_mean), 4, 4).half(), []
    train_decoder(
        model, processor, statistics, drawn[:32], steps=30, batch=8, lr=3e-3, report=lines.append
    )
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and not any("vision_tower" in k for k in changed)
    assert any("multi_modal_projector" in k for k in changed) and any(
        "language_model" in k for k in changed
    )
    chance = np.log(len(processor.tokenizer))
    assert float(lines[-1].split("loss ")[1]) < 0.8 * chance


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_as_if_nothing_had_happened(loaded, drawn, tmp_path):
    model, processor = loaded
    begun = {k: v.clone() for k, v in model.state_dict().items()}
    statistics = torch.randn(32, len(model.model.vision_tower.timm_model.stat_mean), 4, 4).half()

    def run(report=lambda line: None, **options):
        train_decoder(
            model,
            processor,
            statistics,
            drawn[:32],
            steps=6,
            batch=4,
            lr=1e-3,
            report=report,
            **options,
        )
        return {k: v.clone() for k, v in model.state_dict().items()}

    whole = run()
    model.load_state_dict(begun)
    perturbed, calls = decoder.perturb, []

    def dies(*args):
        calls.append(1)
        if len(calls) == 6:
            raise Killed
        return perturbed(*args)

    kept, lines = tmp_path / "kept.pt", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "perturb", dies)
        with pytest.raises(Killed):
            run(checkpoint=kept, checkpoint_every=4)
    model.load_state_dict(begun)
    with pytest.raises(ValueError, match="holds a run with .*'steps': 6.*'steps': 9"):
        train_decoder(model, processor, statistics, drawn[:32], steps=9, batch=4, checkpoint=kept)
    again = run(lines.append, checkpoint=kept, checkpoint_every=4)
    assert lines[0] == "an interrupted run goes on from step 4"
    for name, weight in whole.items():
        torch.testing.assert_close(again[name], weight, rtol=0, atol=0, msg=name)
    model.load_state_dict(begun)
    assert all(torch.equal(weight, whole[name]) for name, weight in run(checkpoint=kept).items()), (
        "nothing is left to do"
    )
