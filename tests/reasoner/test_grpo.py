"""GRPO through TRL: what should move moves, what is frozen stays, a run gone wrong stops; a tiny
Qwen2.5-VL does it too.
"""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from rali_lab.data.records import Distortion
from rali_lab.models.vlm import ask, load_policy, with_prefill
from rali_lab.reasoner import callbacks, prompts
from rali_lab.reasoner.grpo import (
    GrpoConfig,
    RunStopped,
    default_rewards,
    paper_options,
    prompts_of,
    train_grpo,
)
from rali_lab.reasoner.rewards import format_reward

HEALTHY = {
    "plcc": 0.5,
    "srcc": 0.5,
    "format_share": 1.0,
    "naming_accuracy": 0.5,
    "spread": 0.9,
    "n_missing": 0,
}


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


def test_everything_but_the_tower_moves(tiny_base, images, tmp_path, run):
    curve = run(tiny_base, images, tmp_path / "t")
    changed, kept = moved(tiny_base, tmp_path / "t")
    assert kept and all("vision_tower" in k for k in kept)
    assert changed and not any("vision_tower" in k for k in changed)
    assert curve["step"].tolist() == [0, 2] and (curve["n_missing"] == 2).all()


def test_a_run_leaves_a_model_that_loads_its_curves_and_its_settings(
    tiny_base, images, tmp_path, run
):
    curve = run(tiny_base, images, tmp_path)
    assert ask(*load_policy(tmp_path), [images[0].pixels()], max_new_tokens=2)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "validation.csv"), curve, check_dtype=False
    )
    log = pd.read_csv(tmp_path / "log.csv")
    assert {"reward", "frac_reward_zero_std", "kl", "rewards/odd_lengths/mean"} <= set(log.columns)
    assert log["kl"].iloc[1] > 0  # the reference stayed where it was
    assert json.loads((tmp_path / "settings.json").read_text())["num_generations"] == 4


def test_a_seed_repeats_and_neither_validation_nor_accumulation_changes_a_run(
    tiny_base, images, tmp_path, run
):
    exact = {"bf16": False}  # bfloat16 rounds differently in batches of another size
    split = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
    for name, changes in {
        "a": {},
        "validated": {"eval_every": 1},
        "split": split,
        "seed": {"seed": 1},
    }.items():
        plain = {"eval_every": 0, "degradation_share": 0, **exact}
        run(tiny_base, images, tmp_path / name, **{**plain, **changes})
    a, validated, split, seed = (
        weights(tmp_path / name) for name in ("a", "validated", "split", "seed")
    )
    assert farthest(a, validated) == 0
    assert farthest(a, split) < 2e-5 < 1e-4 < farthest(a, seed)


def test_equal_rewards_teach_nothing_but_the_penalty(tiny_base, images, tmp_path, run):
    equal = [(lambda completions, **columns: [1.0] * len(completions), 1.0)]
    run(tiny_base, images, tmp_path, rewards=equal, eval_every=0, beta=0.0)
    assert not moved(tiny_base, tmp_path)[0]


def test_the_default_rewards_reach_the_log_by_name(tiny_base, images, tmp_path, run):
    run(tiny_base, images, tmp_path, rewards=None, eval_every=0, max_steps=1)
    columns = pd.read_csv(tmp_path / "log.csv").columns
    parts = {"format_reward", "score", "closeness", "degradation_reward"}
    assert {f"rewards/{part}/mean" for part in parts} <= set(columns)


def test_a_reward_of_ones_own_is_an_argument_with_its_weight(tiny_base, images, tmp_path, run):
    def brevity(completions, mos, **columns):
        assert len(mos) == len(completions)
        return [1 / (1 + len(c[-1]["content"])) for c in completions]

    rewards = [(format_reward, 1.0), (brevity, 0.25)]
    run(tiny_base, images, tmp_path, rewards=rewards, eval_every=0, max_steps=1)
    log = pd.read_csv(tmp_path / "log.csv").iloc[0]
    parts = log["rewards/format_reward/mean"] + 0.25 * log["rewards/brevity/mean"]
    assert log["rewards/brevity/mean"] > 0 and log["reward"] == pytest.approx(parts, abs=1e-5)
    with pytest.raises(ValueError, match="put each weight beside its function in `rewards`"):
        run(tiny_base, images, tmp_path, rewards=rewards, reward_weights=[1.0, 1.0])


def test_a_callback_of_ones_own_is_called_at_every_step(tiny_base, images, tmp_path, run):
    class Steps(TrainerCallback):
        seen = []

        def on_step_end(self, args, state, control, **kwargs):
            self.seen.append((state.global_step, args.images_per_step))

    run(tiny_base, images, tmp_path, callbacks=[Steps()], eval_every=0)
    assert Steps.seen == [(1, 2), (2, 2)]


def test_a_run_without_format_stops_and_keeps_what_it_has(tiny_base, images, tmp_path, run):
    with pytest.raises(
        RunStopped,
        match=r"only 0% of the answers have the required form after 1 steps \(needed: 90%\)",
    ):
        run(tiny_base, images, tmp_path, max_steps=3, eval_every=1, patience=1)
    assert pd.read_csv(tmp_path / "validation.csv")["step"].tolist() == [0, 1]
    assert load_policy(tmp_path)


def test_a_run_whose_ratings_collapse_stops(tiny_base, images, tmp_path, run, monkeypatch):
    spreads = iter([0.9, 0.1, 0.4, 0.1])
    monkeypatch.setattr(
        callbacks, "summarise", lambda table, images: {**HEALTHY, "spread": next(spreads)}
    )
    with pytest.raises(
        RunStopped, match=r"the ratings have collapsed: their spread is 0.10 of .* after 3 steps"
    ):
        run(tiny_base, images, tmp_path, max_steps=4, eval_every=1, patience=2)


def test_fewer_images_than_a_step_needs_is_an_error_not_an_untrained_model(
    tiny_base, images, tmp_path, run
):
    with pytest.raises(ValueError, match=r"\b5\b.*\b4\b|\b4\b.*\b5\b"):
        run(tiny_base, images, tmp_path, images_per_step=5)


def test_unrated_images_are_refused_by_name(images, small_args):
    with pytest.raises(ValueError, match="have no score, the first is 'p0'"):
        prompts_of([replace(images[0], mos=None)], small_args("x"))


def test_prompts_ask_for_both_tasks_in_the_right_share(images, small_args):
    rows = prompts_of(images * 100, small_args("x", degradation_share=0.3, system="Look."))
    share = np.mean([r["task"] == "degradation" for r in rows])
    assert share == pytest.approx(0.3, abs=0.06)
    asked = {r["task"]: r["prompt"] for r in rows}
    assert [m["role"] for m in asked["score"]] == ["system", "user"]
    assert asked["score"][0]["content"] == "Look."
    assert asked["score"][1]["content"] == prompts.SCORE_QUESTION
    assert asked["degradation"][1]["content"] == prompts.DEGRADATION_QUESTION
    only = prompts_of(images, small_args("x", degradation_share=0))
    assert {r["task"] for r in only} == {"score"}


def test_prompts_carry_what_the_rewards_need(images, small_args):
    clean = replace(images[0], distortions=())
    stacked = replace(
        images[0], distortions=(Distortion("defocus_blur", 2), Distortion("shot_noise", 4))
    )
    rows = prompts_of([clean, stacked], small_args("x"))
    assert [(r["word"], r["level"], r["mos"]) for r in rows] == [
        ("null", 0, 1.5),
        ("noise", 4, 1.5),
    ]
    np.testing.assert_array_equal(np.asarray(rows[0]["image"]), clean.pixels())


def test_the_paper_preset_is_the_papers_algorithm(tmp_path):
    options = paper_options(7)
    config = GrpoConfig.from_options(options, tmp_path)
    assert (config.beta, config.learning_rate, config.epsilon) == (1e-3, 1e-6, 0.2)
    assert (config.num_generations, config.max_completion_length, config.temperature) == (
        8,
        256,
        1.0,
    )
    assert (config.loss_type, config.scale_rewards, config.max_steps) == ("grpo", "group", 7)
    assert (config.system, config.score_question) == (
        prompts.PAPER_SYSTEM,
        prompts.PAPER_QUESTION,
    )
    rewards, weights = zip(*default_rewards(config), strict=True)
    assert [r.__name__ for r in rewards] == ["format_reward", "score", "degradation_reward"]
    assert weights == (1.0, 1.0, 1.0)
    assert rewards[1].threshold == 0.35 and paper_options(7, seed=3).seed == 3
    assert options.closeness_weight == 0.0


def test_a_qwen_answers_about_images_of_any_size(qwen, images):
    wide = np.ascontiguousarray(images[1].pixels()[:64])
    answers = ask(
        *load_policy(qwen), [images[0].pixels(), wide], samples=2, max_new_tokens=6, system="Look."
    )
    assert [len(a) for a in answers] == [2, 2] and all(
        isinstance(t, str) for a in answers for t in a
    )


def train_like_the_paper(base, images, folder, **changes):
    """Two steps with the paper's preset shrunk, and a reward that every step learns from."""
    small = {"images_per_step": 2, "max_completion_length": 8, "eval_every": 0, **changes}
    args = GrpoConfig.from_options(paper_options(2, **small), folder)

    def odd_lengths(completions, **columns):
        return [float(sum(map(ord, c[-1]["content"])) % 7) for c in completions]

    rewards = [(odd_lengths, 1.0)]
    return train_grpo(base, images[:4], images[4:], args=args, rewards=rewards, report=len)


def test_a_qwen_learns_with_the_papers_settings_shrunk(qwen, images, tmp_path):
    validated = {"learning_rate": 1e-3, "eval_every": 2, "eval_samples": 1}
    curve = train_like_the_paper(qwen, images, tmp_path, **validated)
    changed, kept = moved(qwen, tmp_path)
    assert curve["step"].tolist() == [0, 2]
    assert {"visual" in k for k in kept} == {True} and {"visual" in k for k in changed} == {False}


def test_a_prefill_is_in_every_prompt_and_counts_in_the_rewards(
    tiny_base, images, tmp_path, monkeypatch, run
):
    """Training without reasoning: the model continues the prefill, and rewards judge prefill and
    completion together.
    """
    prefill, judged, asked = "<think></think><answer>", [], []

    def noting(completions, **columns):
        judged.extend(completions)
        return format_reward(completions, **columns)

    monkeypatch.setattr(
        callbacks,
        "write_rationales",
        lambda *a, prefill, **k: asked.append(prefill) or pd.DataFrame(),
    )
    monkeypatch.setattr(callbacks, "summarise", lambda *a: HEALTHY)
    run(tiny_base, images, tmp_path, rewards=[(noting, 1.0)], max_steps=1, prefill=prefill)
    assert len(judged) == 8 and all(text.startswith(prefill) for text in judged)
    assert asked == [prefill, prefill]
    _, processor = load_policy(tmp_path)
    assert prefill not in processor.chat_template, "the saved processor asks as before"


def test_a_prefill_stands_at_the_end_of_the_generation_prompt_alone(tiny_base, qwen):
    for folder in (tiny_base, qwen):
        _, processor = load_policy(folder)
        turn = [{"role": "user", "content": [{"type": "text", "text": "Rate."}]}]
        plain, prefilled = (
            p.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
            for p in (processor, with_prefill(processor, '<think>"'))
        )
        assert prefilled == plain + '<think>"'
        assert with_prefill(processor, "x").apply_chat_template(
            turn, tokenize=False
        ) == processor.apply_chat_template(turn, tokenize=False)


def test_adapters_alone_are_trained_and_merged_into_what_is_saved(qwen, images, tmp_path):
    pytest.importorskip("peft")
    lora = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
    train_like_the_paper(qwen, images, tmp_path, learning_rate=1e-2, lora=lora)
    changed, _ = moved(qwen, tmp_path)
    assert changed and all(
        k.split(".")[-2] in ("q_proj", "v_proj") and "visual" not in k for k in changed
    )
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists() and not list(
        tmp_path.rglob("*.bin")
    )
    assert ask(*load_policy(tmp_path), [images[0].pixels()], max_new_tokens=2)


def test_every_parameter_of_a_qwen_moves_when_vision_is_not_frozen(qwen, images, tmp_path):
    train_like_the_paper(qwen, images, tmp_path, learning_rate=1e-2, freeze_vision=False)
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


def test_without_validation_nothing_is_measured(tiny_base, images, tmp_path, run):
    curve = run(tiny_base, images[:4], tmp_path, eval_every=0)
    assert len(curve) == 0 and load_policy(tmp_path)
