"""Stage A of the base model: train a neck to recognise degradations, as CLIP-style pretraining does
for the towers of real VLMs.

A linear read-out on top of the neck predicts, for every degradation word, whether it is present and
how strong it is. The read-out is discarded; the neck stays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rali_lab.data.distortions import WORDS
from rali_lab.data.records import LEVEL_WORDS, Distortion
from rali_lab.models.optimiser import ScheduledAdamW
from rali_lab.reasoner.prompts import findings

LEVELS = len(LEVEL_WORDS) + 1  # absent, 1..5


def targets(distortions: Sequence[Sequence[Distortion]]) -> np.ndarray:
    """(n, words) int64 levels, 0 where the word does not apply."""
    out = np.zeros((len(distortions), len(WORDS)), dtype=np.int64)
    for i, ds in enumerate(distortions):
        for f in findings(ds):
            out[i, WORDS.index(f.word)] = f.level
    return out


def perception_loss(logits: Tensor, levels: Tensor) -> Tensor:
    """Cross-entropy over absent / five levels for every word: logits (B, words * 6), levels (B,
    words).
    """
    flat = logits.view(-1, LEVELS)
    return F.cross_entropy(flat, levels.view(-1), label_smoothing=0.02) * len(WORDS)


def read_levels(logits: Tensor) -> Tensor:
    """Most likely (B, words) level where the word is more likely present than absent, else 0."""
    p = logits.view(len(logits), -1, LEVELS).softmax(-1)
    return torch.where(p[..., 0] < 0.5, p[..., 1:].argmax(-1) + 1, 0)


def scores(predicted: Tensor, levels: Tensor) -> dict[str, float]:
    """Share of images whose words are exactly right, for single and stacked ones, and of exact
    levels.
    """
    right = ((predicted > 0) == (levels > 0)).all(1)
    n = (levels > 0).sum(1)
    both = (predicted > 0) & (levels > 0)
    return {
        "clean": right[n == 0].float().mean().item(),
        "single": right[n == 1].float().mean().item(),
        "stacked": right[n > 1].float().mean().item(),
        "level_exact": (predicted == levels)[both].float().mean().item(),
    }


def perturb(x: Tensor, noise: float, generator: torch.Generator | None = None) -> Tensor:
    """Feature augmentation on standardised statistics: a little noise, and a channel-wise offset
    per image.
    """
    offset = torch.randn(len(x), x.shape[1], *[1] * (x.ndim - 2), generator=generator)
    return x + noise * torch.randn(x.shape, generator=generator) + noise * offset


def train_perception(
    neck: nn.Module,
    statistics: Tensor,
    levels: Tensor,
    width: int,
    *,
    epochs: int,
    lr: float = 2e-3,
    noise: float = 0.1,
    batch: int = 256,
    seed: int = 0,
    report=print,
    held_out: tuple[Tensor, Tensor] | None = None,
) -> nn.Linear:
    """Train `neck` (statistics to (B, width) or (B, width, g, g)) with a linear read-out, which is
    returned.
    """
    torch.manual_seed(seed)
    read_out = nn.Linear(width, len(WORDS) * LEVELS)
    steps = len(statistics) // batch
    optimiser = ScheduledAdamW(
        [*neck.parameters(), *read_out.parameters()],
        lr=lr,
        steps=epochs * steps,
        weight_decay=0.05,
        warm_up=0.1,
    )

    def logits(x: Tensor) -> Tensor:
        z = neck(x)
        return read_out(z.mean(dim=(2, 3)) if z.ndim == 4 else z)

    for epoch in range(epochs):
        order, total = torch.randperm(len(statistics)), 0.0
        neck.train()
        for i in range(steps):
            rows = order[i * batch : (i + 1) * batch]
            loss = perception_loss(logits(perturb(statistics[rows].float(), noise)), levels[rows])
            optimiser.step(loss)
            total += loss.item()
        if held_out is not None and (epoch % 3 == 2 or epoch == epochs - 1):
            neck.eval()
            with torch.inference_mode():
                predicted = torch.cat([logits(x.float()) for x in held_out[0].split(512)])
            found = scores(read_levels(predicted), held_out[1])
            rounded = {k: round(v, 3) for k, v in found.items()}
            report(f"epoch {epoch + 1}: loss {total / steps:.3f} {rounded}")
    return read_out
