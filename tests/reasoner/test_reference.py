"""The few lines of GRPO that the notebook explains, held against TRL's own loss."""

import torch

from rali_lab.reasoner.reference import advantages, grpo_loss


def test_advantages_have_mean_zero_and_equal_rewards_none():
    a = advantages(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    assert abs(a.mean()) < 1e-6 and a.argmax() == 3
    assert advantages(torch.full((8,), 0.75)).abs().max() < 1e-6


def test_answers_weigh_the_same_whatever_their_length():
    logps, rewards = torch.tensor([[0.1, 0.1, 0.1], [0.0, 0.0, 0.0]]), torch.tensor([1.0, 0.0])
    long = grpo_loss(logps, torch.zeros(2, 3), rewards)
    short = grpo_loss(
        logps, torch.zeros(2, 3), rewards, mask=torch.tensor([[1.0, 0, 0], [1, 1, 1]])
    )
    torch.testing.assert_close(long, short)


def test_the_gradient_raises_what_was_rewarded_and_the_clip_stops_it():
    logps = torch.zeros(2, 1, requires_grad=True)
    grpo_loss(logps, torch.zeros(2, 1), torch.tensor([1.0, 0.0])).backward()
    assert logps.grad[0] < 0 < logps.grad[1]
    far = torch.full((2, 1), 1.0, requires_grad=True)
    grpo_loss(far, torch.zeros(2, 1), torch.tensor([1.0, 0.0])).backward()
    assert far.grad[0] == 0, "a rewarded answer beyond the clip gains nothing more"


def test_the_penalty_is_zero_at_the_reference_and_positive_elsewhere():
    rewards, old = torch.tensor([1.0, 0.0]), torch.zeros(2, 1)
    base = grpo_loss(old, old, rewards)
    torch.testing.assert_close(grpo_loss(old, old, rewards, beta=1.0, ref_logps=old), base)
    assert grpo_loss(old, old, rewards, beta=1.0, ref_logps=old + 0.5) > base
