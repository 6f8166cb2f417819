"""One update of AdamW under a learning-rate schedule, the same in every training loop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR


class ScheduledAdamW:
    """AdamW whose learning rate follows a schedule over a known number of steps.

    Parameters
    ----------
    parameters : iterable
        Tensors, or parameter groups as torch takes them.
    lr : float
        The highest learning rate.
    steps : int
        How often `step` will be called.
    weight_decay : float
        Of AdamW.
    betas : tuple of float
        Of AdamW; the one-cycle schedule moves the first one.
    warm_up : float
        Share of the steps in which the rate rises (one-cycle schedule, Smith 2018). 0 for a rate
        that falls from the first step on, as a cosine.
    max_norm : float, optional
        Gradients are scaled down to this norm.

    Examples
    --------
    >>> weight = torch.nn.Parameter(torch.ones(1))
    >>> optimiser = ScheduledAdamW([weight], lr=0.1, steps=2, weight_decay=0.0)
    >>> for _ in range(2):
    ...     optimiser.step((weight**2).sum())
    >>> round(weight.item(), 2), optimiser.lr
    (0.85, 0.0)
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        *,
        lr: float,
        steps: int,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.999),
        warm_up: float = 0.0,
        max_norm: float | None = None,
    ) -> None:
        self.optimiser = torch.optim.AdamW(
            parameters, lr=lr, weight_decay=weight_decay, betas=betas
        )
        self.schedule = (
            OneCycleLR(self.optimiser, lr, total_steps=steps, pct_start=warm_up)
            if warm_up
            else CosineAnnealingLR(self.optimiser, steps)
        )
        self.max_norm = max_norm

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        return self.schedule.get_last_lr()[0]

    def step(self, loss: Tensor) -> None:
        """One update down the gradient of `loss`."""
        self.optimiser.zero_grad()
        loss.backward()
        if self.max_norm is not None:
            trained = [p for group in self.optimiser.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(trained, self.max_norm)
        self.optimiser.step()
        self.schedule.step()
