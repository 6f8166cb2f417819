"""GRPO through TRL: what should move moves, what is frozen stays, a run gone wrong stops; a tiny
Qwen2.5-VL does it too.
"""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from rali_lab.data.records import Distortion
from rali_lab.models.vlm import ask, load_policy, with_prefill
from rali_lab.reasoner import grpo
from rali_lab.reasoner.grpo import (
    GrpoSettings,
    RunStopped,
    paper_settings,
    prompts_of,
    train_grpo,
    trl_config,
    whole_checkpoint,
)

SETTINGS = GrpoSettings(
    steps=2,
    images_per_step=2,
    generations=4,
    learning_rate=1e-3,
    max_completion_length=10,
    eval_every=2,
    eval_samples=1,
    patience=99,
)


@pytest.fixture
def lottery(monkeypatch):
    """A reward that no group agrees on, so that every step has something to learn."""

    def odd_lengths(completions, **columns):
        return [float(sum(map(ord, c[-1]["content"])) % 7) for c in completions]

    monkeypatch.setattr(grpo, "reward_functions", lambda settings: ([odd_lengths], [1.0]))


def run(base, images, folder, **changes):
    return train_grpo(
        base, images[:4], images[4:], replace(SETTINGS, **changes), folder, report=lambda line: None
    )


def weights(folder):
    return load_file(folder / "model.safetensors")


def moved(base, folder):
    """Names of the tensors that training changed, and of those it did not."""
    before, after = weights(base), weights(folder)
    assert before.keys() == after.keys()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    return changed, before.keys() - changed


def farthest(a, b):
    return max((a[k] - b[k]).abs().max().item() for k in a if a[k].is_floating_point())


def test_everything_but_the_tower_moves(tiny_base, images, tmp_path, lottery):
    curve = run(tiny_base, images, tmp_path / "t")
    changed, kept = moved(tiny_base, tmp_path / "t")
    assert kept and all("vision_tower" in k for k in kept)
    assert changed and not any("vision_tower" in k for k in changed)
    assert curve["step"].tolist() == [0, 2] and (curve["n_missing"] == 2).all()


def test_a_run_leaves_a_model_that_loads_its_curves_and_its_settings(
    tiny_base, images, tmp_path, lottery
):
    curve = run(tiny_base, images, tmp_path)
    assert ask(*load_policy(tmp_path), [images[0].pixels()], max_new_tokens=2)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "validation.csv"), curve, check_dtype=False
    )
    log = pd.read_csv(tmp_path / "log.csv")
    assert {"reward", "frac_reward_zero_std", "kl", "rewards/odd_lengths/mean"} <= set(log.columns)
    assert log["kl"].iloc[1] > 0  # the reference stayed where it was
    assert json.loads((tmp_path / "settings.json").read_text())["generations"] == 4


def test_a_seed_repeats_and_neither_watching_nor_accumulation_changes_a_run(
    tiny_base, images, tmp_path, lottery
):
    exact = {"bf16": False}  # bfloat16 rounds differently in batches of another size
    split = {
        "trl_options": {**exact, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
    }
    for name, changes in {
        "a": {},
        "watched": {"eval_every": 1},
        "split": split,
        "seed": {"seed": 1},
    }.items():
        run(
            tiny_base,
            images,
            tmp_path / name,
            **{"eval_every": 0, "degradation_share": 0, "trl_options": exact, **changes},
        )
    a, watched, split, seed = (
        weights(tmp_path / name) for name in ("a", "watched", "split", "seed")
    )
    assert farthest(a, watched) == 0
    assert farthest(a, split) < 2e-5 < 1e-4 < farthest(a, seed)


def test_equal_rewards_teach_nothing_but_the_penalty(tiny_base, images, tmp_path, monkeypatch):
    monkeypatch.setattr(
        grpo,
        "reward_functions",
        lambda s: ([lambda completions, **c: [1.0] * len(completions)], [1.0]),
    )
    run(tiny_base, images, tmp_path, eval_every=0, beta=0.0)
    assert not moved(tiny_base, tmp_path)[0]


def test_the_real_rewards_reach_the_log_by_name(tiny_base, images, tmp_path):
    run(tiny_base, images, tmp_path, eval_every=0, steps=1)
    columns = pd.read_csv(tmp_path / "log.csv").columns
    parts = {"format_reward", "score", "closeness", "degradation_reward"}
    assert {f"rewards/{part}/mean" for part in parts} <= set(columns)


def test_a_run_without_format_stops_and_keeps_what_it_has(tiny_base, images, tmp_path, lottery):
    with pytest.raises(
        RunStopped,
        match=r"only 0% of the answers have the required form after 1 steps \(needed: 90%\)",
    ):
        run(tiny_base, images, tmp_path, steps=3, eval_every=1, patience=1)
    assert pd.read_csv(tmp_path / "validation.csv")["step"].tolist() == [0, 1]
    assert load_policy(tmp_path)


def test_a_run_whose_ratings_collapse_stops(tiny_base, images, tmp_path, lottery, monkeypatch):
    healthy = {
        "plcc": 0.5,
        "srcc": 0.5,
        "format_share": 1.0,
        "naming_accuracy": 0.5,
        "spread": 0.9,
        "n_missing": 0,
    }
    spreads = iter([0.9, 0.1, 0.4, 0.1])
    monkeypatch.setattr(
        grpo, "summarise", lambda table, images: {**healthy, "spread": next(spreads)}
    )
    with pytest.raises(
        RunStopped, match=r"the ratings have collapsed: their spread is 0.10 of .* after 3 steps"
    ):
        run(tiny_base, images, tmp_path, steps=4, eval_every=1, patience=2)


def test_fewer_images_than_a_step_needs_is_an_error_not_an_untrained_model(
    tiny_base, images, tmp_path, lottery
):
    with pytest.raises(ValueError, match=r"\b5\b.*\b4\b|\b4\b.*\b5\b"):
        run(tiny_base, images, tmp_path, images_per_step=5)


def test_unrated_images_are_refused_by_name(images):
    with pytest.raises(ValueError, match="have no score, the first is 'p0'"):
        prompts_of([replace(images[0], mos=None)], SETTINGS)


def test_prompts_ask_for_both_tasks_in_the_right_share(images):
    rows = prompts_of(images * 100, replace(SETTINGS, degradation_share=0.3, system="Look."))
    share = np.mean([r["task"] == "degradation" for r in rows])
    assert share == pytest.approx(0.3, abs=0.06)
    asked = {r["task"]: r["prompt"] for r in rows}
    assert [m["role"] for m in asked["score"]] == ["system", "user"] and asked["score"][0][
        "content"
    ] == "Look."
    assert asked["score"][1]["content"] == SETTINGS.score_question
    assert asked["degradation"][1]["content"] == SETTINGS.degradation_question
    assert {r["task"] for r in prompts_of(images, replace(SETTINGS, degradation_share=0))} == {
        "score"
    }


def test_prompts_carry_what_the_rewards_need(images):
    clean = replace(images[0], distortions=())
    stacked = replace(
        images[0], distortions=(Distortion("defocus_blur", 2), Distortion("shot_noise", 4))
    )
    rows = prompts_of([clean, stacked], SETTINGS)
    assert [(r["word"], r["level"], r["mos"]) for r in rows] == [
        ("null", 0, 1.5),
        ("noise", 4, 1.5),
    ]
    np.testing.assert_array_equal(np.asarray(rows[0]["image"]), clean.pixels())


def test_the_paper_preset_is_the_papers_algorithm(tmp_path):
    config = trl_config(paper_settings(7), tmp_path)
    assert (config.beta, config.learning_rate, config.epsilon) == (1e-3, 1e-6, 0.2)
    assert (config.num_generations, config.max_completion_length, config.temperature) == (
        8,
        256,
        1.0,
    )
    assert (config.loss_type, config.scale_rewards, config.max_steps) == ("grpo", "group", 7)
    rewards, shares = grpo.reward_functions(paper_settings(7))
    assert [r.__name__ for r in rewards] == ["format_reward", "score", "degradation_reward"]
    assert shares == config.reward_weights
    assert rewards[1].threshold == 0.35 and paper_settings(7, seed=3).seed == 3


def test_a_qwen_answers_about_images_of_any_size(qwen, images):
    wide = np.ascontiguousarray(images[1].pixels()[:64])
    answers = ask(
        *load_policy(qwen), [images[0].pixels(), wide], samples=2, max_new_tokens=6, system="Look."
    )
    assert [len(a) for a in answers] == [2, 2] and all(
        isinstance(t, str) for a in answers for t in a
    )


def test_a_qwen_learns_with_the_papers_settings_shrunk(qwen, images, tmp_path, lottery):
    sizes = {"images_per_step": 2, "max_completion_length": 8, "eval_every": 2, "eval_samples": 1}
    shrunk = paper_settings(2, learning_rate=1e-3, **sizes)
    curve = train_grpo(qwen, images[:4], images[4:], shrunk, tmp_path, report=lambda line: None)
    changed, kept = moved(qwen, tmp_path)
    assert curve["step"].tolist() == [0, 2]
    assert {"visual" in k for k in kept} == {True} and {"visual" in k for k in changed} == {False}


def test_a_given_opening_is_in_every_prompt_and_counts_in_the_rewards(
    tiny_base, images, tmp_path, monkeypatch
):
    """Training without reasoning: the model sees the opening as its own words, and rewards judge
    opening and completion together.
    """
    opening, judged, seen = "<think></think><answer>", [], []
    real = grpo.format_reward

    def watched(completions, **columns):
        judged.extend(completions)
        return real(completions, **columns)

    monkeypatch.setattr(grpo, "format_reward", watched)
    monkeypatch.setattr(
        grpo, "write_rationales", lambda *a, prefill, **k: seen.append(prefill) or pd.DataFrame()
    )
    monkeypatch.setattr(
        grpo,
        "summarise",
        lambda *a: {
            "plcc": 0.5,
            "srcc": 0.5,
            "format_share": 1.0,
            "naming_accuracy": 0.5,
            "spread": 0.9,
            "n_missing": 0,
        },
    )
    run(tiny_base, images, tmp_path, steps=1, prefill=opening)
    assert len(judged) == 8 and all(text.startswith(opening) for text in judged)
    assert seen == [opening, opening]
    _, processor = load_policy(tmp_path)
    assert opening not in processor.chat_template, "the saved processor asks as before"


def test_the_opening_stands_at_the_end_of_the_generation_prompt_alone(tiny_base, qwen):
    for folder in (tiny_base, qwen):
        _, processor = load_policy(folder)
        turn = [{"role": "user", "content": [{"type": "text", "text": "Rate."}]}]
        plain, opened = (
            p.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
            for p in (processor, with_prefill(processor, '<think>"'))
        )
        assert opened == plain + '<think>"'
        assert with_prefill(processor, "x").apply_chat_template(
            turn, tokenize=False
        ) == processor.apply_chat_template(turn, tokenize=False)


def test_adapters_alone_are_trained_and_merged_into_what_is_saved(qwen, images, tmp_path, lottery):
    pytest.importorskip("peft")
    lora = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    small = paper_settings(
        2, learning_rate=1e-2, images_per_step=2, max_completion_length=8, eval_every=0, lora=lora
    )
    train_grpo(qwen, images[:4], images[4:], small, tmp_path, report=lambda line: None)
    changed, _ = moved(qwen, tmp_path)
    assert changed and all(
        k.split(".")[-2] in ("q_proj", "v_proj") and "visual" not in k for k in changed
    )
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists() and not list(
        tmp_path.rglob("*.bin")
    )
    assert ask(*load_policy(tmp_path), [images[0].pixels()], max_new_tokens=2)


def test_every_parameter_of_a_qwen_moves_when_vision_is_not_frozen(qwen, images, tmp_path, lottery):
    small = paper_settings(
        2,
        learning_rate=1e-2,
        images_per_step=2,
        max_completion_length=8,
        eval_every=0,
        freeze_vision=False,
    )
    train_grpo(qwen, images[:4], images[4:], small, tmp_path, report=lambda line: None)
    _, kept = moved(qwen, tmp_path)
    assert all(k.endswith("bias") for k in kept), (
        kept
    )  # a key's bias has no gradient: softmax does not see it


def test_a_model_that_wants_to_run_its_own_code_is_refused(tiny_base, images, tmp_path):
    for file in tiny_base.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps({**config, "auto_map": {"AutoModel": "modeling_x.X"}})
    )
    with pytest.raises(
        ValueError, match=r"wants to run its own code \(modeling_x.X\), which is refused"
    ):
        load_policy(tmp_path)


def test_without_validation_nothing_is_measured(tiny_base, images, tmp_path, lottery):
    curve = train_grpo(
        tiny_base,
        images[:4],
        [],
        replace(SETTINGS, eval_every=0),
        tmp_path,
        report=lambda line: None,
    )
    assert len(curve) == 0 and load_policy(tmp_path)


class Killed(Exception):
    """In the place of a kill."""


@pytest.fixture
def interrupted(tiny_base, images, tmp_path, lottery, monkeypatch):
    """A run of three steps that ended in the third; checkpoints of the first two."""
    real = grpo.ValidationCallback.on_step_end

    def die(self, args, state, control, **kwargs):
        real(self, args, state, control, **kwargs)
        if state.global_step == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(grpo.ValidationCallback, "on_step_end", die)
        with pytest.raises(Killed):
            run(tiny_base, images, tmp_path / "t", **THREE)
    assert sorted(p.name for p in (tmp_path / "t").glob("checkpoint-*")) == [
        "checkpoint-1",
        "checkpoint-2",
    ]
    return tmp_path / "t"


THREE = {"steps": 3, "eval_every": 1, "trl_options": {"save_steps": 1, "save_total_limit": 2}}


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGES = {
    "killed within the weights": lambda c: (
        cut(c / "model.safetensors"),
        (c / "trainer_state.json").unlink(),
    ),
    "weights cut": lambda c: cut(c / "model.safetensors"),
    "weights empty": lambda c: (c / "model.safetensors").write_bytes(b""),
    "no weights": lambda c: (c / "model.safetensors").unlink(),
    "state cut": lambda c: cut(c / "trainer_state.json"),
    "state empty": lambda c: (c / "trainer_state.json").write_bytes(b""),
    "no state": lambda c: (c / "trainer_state.json").unlink(),
    "optimizer cut": lambda c: cut(c / "optimizer.pt"),
    "no optimizer": lambda c: (c / "optimizer.pt").unlink(),
    "scheduler cut": lambda c: cut(c / "scheduler.pt"),
    "no scheduler": lambda c: (c / "scheduler.pt").unlink(),
    "random state cut": lambda c: cut(c / "rng_state.pth"),
    "no random state": lambda c: (c / "rng_state.pth").unlink(),
    "a shard missing": (
        lambda c: (c / "model.safetensors.index.json").write_text(
            '{"weight_map": {"a": "model-1.safetensors"}}'
        )
    ),
    "nothing in it": lambda c: (shutil.rmtree(c), c.mkdir()),
}


def test_checkpoints_that_are_not_whole_are_skipped_named_and_removed(interrupted, tmp_path):
    said, good = [], interrupted
    assert whole_checkpoint(good, said.append) == good / "checkpoint-2" and said == []
    for what, damage in DAMAGES.items():
        folder = shutil.copytree(good, tmp_path / "copy", dirs_exist_ok=True)
        damage(folder / "checkpoint-2")
        assert whole_checkpoint(folder, said.append) == folder / "checkpoint-1", what
        (line,) = said
        assert (
            line.startswith(f"{folder / 'checkpoint-2'} is not whole (")
            and "skipped and removed" in line
        ), what
        assert not (folder / "checkpoint-2").exists() and (folder / "checkpoint-1").exists(), what
        said.clear()
        damage(folder / "checkpoint-1")
        assert whole_checkpoint(folder, said.append) is None, what
        assert said[-1] == f"no checkpoint in {folder} is whole; the run starts from the beginning"
        said.clear()
    assert whole_checkpoint(tmp_path / "empty", said.append) is None and said == []


def test_a_second_process_chooses_the_same_and_leaves_the_removing_to_the_first(
    interrupted, monkeypatch
):
    monkeypatch.setenv("RANK", "1")
    cut(interrupted / "checkpoint-2" / "model.safetensors")
    assert whole_checkpoint(interrupted, pytest.fail) == interrupted / "checkpoint-1"
    assert (interrupted / "checkpoint-2").exists()


@pytest.mark.parametrize("broken", [("checkpoint-2",), ("checkpoint-1", "checkpoint-2")])
def test_a_run_killed_while_it_saved_goes_on_from_what_is_whole(
    interrupted, tiny_base, images, broken
):
    for name in broken:
        cut(interrupted / name / "model.safetensors")
        (interrupted / name / "trainer_state.json").unlink()
    said = []
    curve = train_grpo(
        tiny_base,
        images[:4],
        images[4:],
        replace(SETTINGS, **THREE),
        interrupted,
        report=said.append,
    )
    assert curve["step"].tolist() == [0, 1, 2, 3] and load_policy(interrupted)
    assert not list(interrupted.glob("checkpoint-*"))
    found = (
        "an interrupted run goes on from step 1"
        if len(broken) == 1
        else "the run starts from the beginning"
    )
    assert [line for line in said[:3] if found in line]


@pytest.mark.parametrize("step", [1, 2])
def test_a_run_that_goes_on_ends_as_one_that_was_never_killed(
    interrupted, tiny_base, images, tmp_path, step
):
    """Within an epoch (two steps) and after one: the next images are those that would have
    come."""
    if step == 1:
        shutil.rmtree(interrupted / "checkpoint-2")
    run(tiny_base, images, interrupted, **THREE)
    run(tiny_base, images, tmp_path / "never", **THREE)
    assert farthest(weights(interrupted), weights(tmp_path / "never")) == 0


@pytest.mark.parametrize("content", ["", "step,plcc\n", "a,b\n1,2\n"])
def test_a_curve_that_cannot_be_read_does_not_stop_a_run(interrupted, tiny_base, images, content):
    (interrupted / "validation.csv").write_text(content)
    watch, said = grpo.ValidationCallback(images[4:], None, SETTINGS, interrupted, None), []
    watch.report = said.append
    assert watch.resume() == str(interrupted / "checkpoint-2") and watch.curve == []
    assert said[0] == "an interrupted run goes on from step 2"
    assert ("cannot be read" in said[-1]) == (content != "step,plcc\n")
