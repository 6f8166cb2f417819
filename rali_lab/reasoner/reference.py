"""GRPO's loss in a few lines of plain torch: what the notebook explains and TRL is checked by."""

from __future__ import annotations

import torch
from torch import Tensor


def advantages(rewards: Tensor) -> Tensor:
    """Rewards of one group (g,) minus their mean, over their standard deviation (DeepSeekMath,
    arXiv 2402.03300, section 4.1).

    >>> advantages(torch.tensor([1.0, 1.0])).tolist()
    [0.0, 0.0]
    """
    return (rewards - rewards.mean()) / (rewards.std() + 1e-4)


def grpo_loss(
    logps: Tensor,
    old_logps: Tensor,
    rewards: Tensor,
    *,
    mask: Tensor | None = None,
    epsilon: float = 0.2,
    beta: float = 0.0,
    ref_logps: Tensor | None = None,
) -> Tensor:
    """Loss of one group of answers, each averaged over its own tokens (`loss_type="grpo"` in TRL).

    Parameters
    ----------
    logps, old_logps : Tensor
        (g, tokens) log-probabilities under the policy, and under that which wrote the answers.
    rewards : Tensor
        (g,).
    mask : Tensor
        (g, tokens), 1 for tokens that count.
    epsilon : float
        Clip of the probability ratio.
    beta : float
        Weight of the KL estimate ``exp(ref - logp) - (ref - logp) - 1``.
    ref_logps : Tensor
        (g, tokens) log-probabilities under the reference; needed where `beta` is above 0.

    Returns
    -------
    Tensor
        A scalar.

    Examples
    --------
    >>> abs(grpo_loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0.0, 0.0])).item())
    0.0
    """
    mask = torch.ones_like(logps) if mask is None else mask
    a = advantages(rewards.to(logps.dtype))[:, None]
    ratio = (logps - old_logps).exp()
    loss = -torch.minimum(ratio * a, ratio.clamp(1 - epsilon, 1 + epsilon) * a)
    if beta:
        gap = ref_logps - logps
        loss = loss + beta * (gap.exp() - gap - 1)
    return ((loss * mask).sum(1) / mask.sum(1)).mean()
