"""Fine-tuning on written answers through TRL: what should move moves, what is frozen stays, and no
more is learned than was meant.
"""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from rali_lab.models.vlm import load_policy
from rali_lab.reasoner import callbacks, sft
from rali_lab.reasoner.callbacks import KeepBestCallback, RunStopped
from rali_lab.reasoner.prompts import parse, score_answer
from rali_lab.reasoner.rationales import to_table
from rali_lab.reasoner.sft import ReasoningOnly, SftConfig, choose_trained, rated_answers, train_sft

SMALL = {
    "max_steps": 2,
    "answers_per_step": 4,
    "learning_rate": 1e-3,
    "max_completion_length": 8,
    "eval_every": 2,
    "eval_samples": 1,
    "patience": 9,
}


def train(base, images, folder, *, n=4, val=None, **changes):
    """Fine-tune on valid answers about the first images."""
    args = SftConfig(output_dir=str(folder), **{**SMALL, **changes})
    answers = rated_answers(written(images[:n]), images[:n])
    val = images[4:] if val is None else val
    return train_sft(base, images[:n], answers, val, args=args, report=lambda line: None)


def written(images):
    return to_table(
        [p.id for p in images],
        [[score_answer(f"blur {i}", 1.0), "no form"] for i in range(len(images))],
    )


def test_rationales_are_kept_and_ratings_replaced(images):
    rows = rated_answers(written(images), images)
    assert rows["image"].tolist() == [p.id for p in images]
    for text, p, i in zip(rows["text"], images, range(6), strict=True):
        assert parse(text).reasoning == f"blur {i}" and parse(text).rating == pytest.approx(
            p.mos, abs=0.005
        )


@pytest.mark.parametrize(("column", "value"), [("status", "broken"), ("reasoning", "")])
def test_an_image_without_a_valid_answer_is_named(images, column, value):
    table = written(images)
    table.loc[table["image"] == "p2", column] = value
    with pytest.raises(ValueError, match="1 images have no valid answer, p2 first"):
        rated_answers(table, images)


@pytest.mark.parametrize("base", ["tiny_base", "qwen"])
def test_everything_but_the_tower_learns(base, request, images, tmp_path):
    folder = request.getfixturevalue(base)
    curve = train(folder, images, tmp_path)
    before, after = (
        load_file(folder / "model.safetensors"),
        load_file(tmp_path / "model.safetensors"),
    )
    still = {k for k in before if torch.equal(before[k], after[k])}
    tower = {k for k in before if "vision_tower" in k or "visual" in k}
    assert still - tower == set() or all(
        "embed" in k or "norm" in k or "bias" in k for k in still - tower
    )
    assert tower <= still and tower
    assert curve["step"].tolist() == [0, 2]
    assert pd.read_csv(tmp_path / "log.csv")["loss"].notna().any()


def test_only_the_answer_is_learned(tiny_base, images):
    """TRL masks the prompt: the loss of a batch counts the answer's tokens and the end token,
    nothing of the question.
    """
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    _, processor = load_policy(tiny_base)
    row = {
        "prompt": [{"role": "user", "content": "Rate."}],
        "completion": [{"role": "assistant", "content": score_answer("blur", 2.0)}],
        "image": Image.fromarray(images[0].pixels()),
    }
    batch = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)([row])
    learned = processor.tokenizer.decode(batch["labels"][batch["labels"] >= 0])
    assert learned.startswith("<think>") and "Rate" not in learned and learned.endswith("<|end|>")


@pytest.mark.parametrize(
    ("plcc", "form", "best"),
    [((0.9, 0.1), (1, 1), 1), ((0.1, 0.9), (1, 1), 2), ((0.1, 0.9), (1, 0.9), 1)],
)
def test_the_weights_with_the_best_validation_are_kept(
    plcc, form, best, tiny_base, images, tmp_path, monkeypatch
):
    """Of two steps with these results, the weights of the better one are saved, if its answers have
    the form.
    """
    rated = iter(
        {"plcc": p, "format_share": f} for p, f in zip((0, *plcc), (1, *form), strict=True)
    )
    summarise, seen = callbacks.summarise, {}
    monkeypatch.setattr(callbacks, "summarise", lambda *args: {**summarise(*args), **next(rated)})

    class Noting(KeepBestCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            seen[state.global_step] = {k: v.detach().clone() for k, v in model.state_dict().items()}
            super().on_step_end(args, state, control, model=model, **kwargs)

    monkeypatch.setattr(sft, "KeepBestCallback", Noting)
    (tmp_path / "best-1").mkdir()  # left by a run that was killed
    train(tiny_base, images, tmp_path, eval_every=1, min_format=0.95, keep_best=True)
    saved, _ = load_policy(tmp_path)  # after checking the hashes
    assert not list(tmp_path.glob("best*"))
    for k, v in saved.state_dict().items():
        assert torch.equal(v, seen[best][k])
    assert any(not torch.equal(seen[1][k], seen[2][k]) for k in seen[1])


def test_a_run_that_is_stopped_keeps_its_best(tiny_base, images, tmp_path, monkeypatch):
    rated, summarise = iter([0.0, 0.9, 0.1]), callbacks.summarise
    monkeypatch.setattr(
        callbacks,
        "summarise",
        lambda *args: {**summarise(*args), "plcc": next(rated), "spread": 0.1, "format_share": 1.0},
    )
    with pytest.raises(RunStopped, match="collapsed"):
        train(tiny_base, images, tmp_path, eval_every=1, patience=2, keep_best=True)
    load_policy(tmp_path)
    assert not list(tmp_path.glob("best*"))


@pytest.mark.parametrize(("change", "rated"), [({"eval_every": 0}, 2), ({}, 1)])
def test_without_validation_none_is_best(change, rated, tiny_base, images, tmp_path):
    with pytest.raises(
        ValueError,
        match="keep_best needs eval_every above 0, and validation images of two different MOS",
    ):
        train(tiny_base, images, tmp_path, val=images[4 : 4 + rated], keep_best=True, **change)


def test_fewer_answers_than_a_step_needs_is_an_error(tiny_base, images, tmp_path):
    with pytest.raises(ValueError, match="answers_per_step=4 answers, got 2"):
        train(tiny_base, images, tmp_path, n=2)


def is_language(name):
    return not any(part in name for part in ("vision_tower", "visual", "projector"))


@pytest.mark.parametrize("base", ["tiny_base", "qwen"])
@pytest.mark.parametrize("parts", ["vision", "both"])
def test_the_vision_side_learns_from_rationales(base, parts, request, images, tmp_path):
    folder = request.getfixturevalue(base)
    train(folder, images, tmp_path, train_parts=parts, reasoning_only=True)
    before, after = (
        load_file(folder / "model.safetensors"),
        load_file(tmp_path / "model.safetensors"),
    )
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    assert any(is_language(k) for k in moved) == (parts == "both")
    vision = {k for k in before if not is_language(k)}
    if base == "tiny_base":  # the trunk stays, neck and projector move
        assert {k for k in vision & moved} == {
            k for k in vision if ".neck." in k or "projector" in k
        }
    else:
        assert all("bias" in k for k in vision - moved), (
            vision - moved
        )  # a key's bias has no gradient: softmax does not see it


def test_an_image_is_encoded_once_and_as_before(tiny_base, images):
    from rali_lab.models.towers import to_pixels

    model, _ = load_policy(tiny_base)
    tower = model.model.vision_tower.timm_model
    pixels = to_pixels([p.pixels() for p in images])
    before = tower.forward_features(pixels).detach()
    choose_trained(model, "vision")
    passes = []
    tower.conv_stem.register_forward_hook(lambda *_: passes.append(1))
    for _ in range(2):
        assert torch.allclose(tower.forward_features(pixels), before, atol=1e-5)
    assert len(passes) == 1


@pytest.mark.parametrize("base", ["tiny_base", "qwen"])
def test_only_the_reasoning_is_learned(base, request, images):
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    _, processor = load_policy(request.getfixturevalue(base))
    rows = [
        {
            "prompt": [{"role": "user", "content": "Rate."}],
            "image": Image.fromarray(p.pixels()),
            "completion": [{"role": "assistant", "content": text}],
        }
        for p, text in zip(
            images, (score_answer("blur blur noise", 2.0), "<think>blur</think>"), strict=False
        )
    ]
    collate = ReasoningOnly(
        DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True),
        processor.tokenizer,
    )
    for row, text in zip(
        collate(rows)["labels"],
        ("<think>blurblurnoise</think>", "<think>blur</think>"),
        strict=True,
    ):
        assert "".join(processor.tokenizer.decode(row[row >= 0]).split()) == text


def test_an_answer_that_never_ends_its_reasoning_is_an_error(tiny_base, images):
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    _, processor = load_policy(tiny_base)
    row = {
        "prompt": [{"role": "user", "content": "Rate."}],
        "completion": [{"role": "assistant", "content": "<think>blur"}],
        "image": Image.fromarray(images[0].pixels()),
    }
    with pytest.raises(ValueError, match="has no </think>"):
        ReasoningOnly(
            DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True),
            processor.tokenizer,
        )([row])


def test_an_unknown_part_is_an_error(tiny_base):
    with pytest.raises(ValueError, match="train_parts is 'head', expected"):
        choose_trained(load_policy(tiny_base)[0], "head")
