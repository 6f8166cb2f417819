"""A training of two steps, and a reward under which every step of it teaches something."""

from __future__ import annotations

import pytest

from rali_lab.reasoner.grpo import GrpoConfig, train_grpo

SMALL = {
    "max_steps": 2,
    "images_per_step": 2,
    "num_generations": 4,
    "learning_rate": 1e-3,
    "max_completion_length": 10,
    "eval_every": 2,
    "eval_samples": 1,
    "patience": 99,
}


def odd_lengths(completions, **columns):
    """No group of completions agrees on it, so that every step has something to learn."""
    return [float(sum(map(ord, c[-1]["content"])) % 7) for c in completions]


@pytest.fixture
def small_args():
    """``small_args(folder, **changes)``: arguments of a small run."""

    def make(folder, **changes):
        return GrpoConfig(output_dir=str(folder), **{**SMALL, **changes})

    return make


@pytest.fixture
def run(small_args):
    """``run(base, images, folder, **changes)``: train on four images with `odd_lengths`."""

    def train(
        base,
        images,
        folder,
        *,
        rewards=((odd_lengths, 1.0),),
        callbacks=(),
        report=lambda line: None,
        **changes,
    ):
        args = small_args(folder, **changes)
        options = {"args": args, "rewards": rewards, "callbacks": callbacks, "report": report}
        return train_grpo(base, images[:4], images[4:], **options)

    return train
