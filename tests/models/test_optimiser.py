"""The shared update is the loop one would write, for both schedules and with clipped gradients."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from rali_lab.models.optimiser import ScheduledAdamW

STEPS = 12


def weights():
    return [torch.nn.Parameter(torch.linspace(-2.0, 3.0, n)) for n in (3, 5)]


def loss_of(parameters, step):
    return sum(((p - step) ** 4).sum() for p in parameters)


@pytest.mark.parametrize("warm_up", [0.0, 0.25])
@pytest.mark.parametrize("max_norm", [None, 0.5])
def test_it_is_the_loop_written_out(warm_up, max_norm):
    ours, theirs = weights(), weights()
    optimiser = ScheduledAdamW(
        ours, lr=0.1, steps=STEPS, weight_decay=0.03, warm_up=warm_up, max_norm=max_norm
    )
    plain = torch.optim.AdamW(theirs, lr=0.1, weight_decay=0.03)
    schedule = (
        OneCycleLR(plain, 0.1, total_steps=STEPS, pct_start=warm_up)
        if warm_up
        else CosineAnnealingLR(plain, STEPS)
    )
    for step in range(STEPS):
        assert optimiser.lr == schedule.get_last_lr()[0]
        optimiser.step(loss_of(ours, step))
        plain.zero_grad()
        loss_of(theirs, step).backward()
        if max_norm:
            torch.nn.utils.clip_grad_norm_(theirs, max_norm)
        plain.step()
        schedule.step()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_groups_keep_their_own_weight_decay():
    decayed, free = weights()
    groups = [{"params": [decayed]}, {"params": [free], "weight_decay": 0.0}]
    optimiser = ScheduledAdamW(groups, lr=0.1, steps=2, weight_decay=0.5)
    before = [decayed.detach().clone(), free.detach().clone()]
    optimiser.step((decayed * 0).sum() + (free * 0).sum())
    assert torch.allclose(decayed, before[0] * 0.95) and torch.equal(free, before[1])
