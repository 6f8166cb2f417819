"""RALI for images that people rated and nobody described: the texts are five levels of quality, and
the trunk itself is trained.

A linear map from the trunk's statistics to the text space is fitted in closed form (ridge
regression on how much of each level text a image should be), and its score is RALI's: the softmax
over its cosines with the texts, times a score for each. `tune` then trains the deep half of the
trunk through that score, texts and map held fast. A closed form loses less than contrastive
alignment with a few hundred scores as text (docs/LOG.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rali_lab.models.towers import StatTower, cell_statistics, pixel_statistics, squash, to_pixels
from rali_lab.rali.basis import softmax_score

WORDS = ("bad", "poor", "fair", "good", "excellent")
TEXTS = tuple(f"The quality of this picture is {w}." for w in WORDS)
"""Names of the scores 1 to 5 (ITU-R BT.500)."""
TAU = 0.05
"""Temperature of the score: the level texts lie close together (cosines of .8 and more).

Chosen on LIVE in the Wild (docs/LOG.md)."""
PENALTIES = np.logspace(1, 5, 17)
FIXED = 3
"""Blocks of the trunk that are never trained: edges and textures are the same for everybody, and
they cost most of the time."""


def level_shares(mos: np.ndarray) -> np.ndarray:
    """How a score divides between its two neighbouring levels: (n,) in 1..5 to (n, 5), rows summing
    to 1.

    >>> level_shares(np.array([1.0, 3.25, 5.0])).tolist()
    [[1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.75, 0.25, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]]
    """
    return np.maximum(0.0, 1 - np.abs(mos[:, None] - np.arange(1, 1 + len(WORDS))))


@dataclass(frozen=True)
class LevelReader:
    """From the trunk's statistics (n, d) to scores (n,): standardised, mapped to shares of the
    level texts, read by RALI's equation.

    mean, std : (d,). weight, bias : (5, d) and (5,), the map. texts : (5, e) embeddings of `TEXTS`.
    scores : (5,) what each counts.
    """

    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor
    texts: Tensor
    scores: Tensor

    def embed(self, statistics: Tensor) -> Tensor:
        """Embeddings (n, e) of length 1 in the text space."""
        shares = squash((statistics - self.mean) / self.std) @ self.weight.T + self.bias
        return F.normalize(shares @ self.texts, dim=-1)

    def __call__(self, statistics: Tensor) -> Tensor:
        return softmax_score(self.embed(statistics), self.texts, self.scores, tau=TAU)

    def read(self, statistics: np.ndarray) -> np.ndarray:
        """Scores of an (n, d) array, (n,) float64."""
        with torch.inference_mode():
            return self(torch.from_numpy(statistics).float()).double().numpy()


def fit_levels(
    statistics: np.ndarray, mos: np.ndarray, groups: Sequence[str], texts: np.ndarray
) -> LevelReader:
    """Fit the map to mixtures of the level texts, its penalty chosen by cross-validation over
    sources, and the scores of the levels.

    Parameters
    ----------
    statistics
        (n, d) of training images, as the trunk gives them.
    mos
        (n,) in 1..5.
    groups
        source of each.
    texts
        (5, e) embeddings of `TEXTS`.

    Returns
    -------
    A reader. Its level scores are 1 to 5 on the scale that fits the training scores best (least
    squares).
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold

    mean, std = statistics.mean(axis=0), np.maximum(statistics.std(axis=0), 1e-3)
    x = squash(torch.from_numpy((statistics - mean) / std)).numpy()
    folds = list(GroupKFold(min(5, len(set(groups)))).split(x, groups=list(groups)))
    found = RidgeCV(alphas=PENALTIES, cv=folds).fit(x, level_shares(mos))
    parts = (mean, std, found.coef_, found.intercept_, texts, np.arange(1.0, 6.0))
    reader = LevelReader(*(torch.as_tensor(p, dtype=torch.float32) for p in parts))
    slope, offset = np.polyfit(reader.read(statistics), mos, 1)
    return replace(reader, scores=slope * reader.scores + offset)


class Halves:
    """Images as the fixed half of a trunk leaves them, plain and mirrored: what `tune` starts from,
    for all splits at once.

    Parameters
    ----------
    images
        (H, W, 3) uint8 arrays of any sizes. Memory: about 2.5 bytes for a pixel.
    """

    def __init__(self, images: Iterable[np.ndarray], trunk: StatTower) -> None:
        made = [
            [_first_half(trunk, to_pixels([p])), _first_half(trunk, to_pixels([p[:, ::-1]]))]
            for p in images
        ]
        self.maps = [[m for m, _ in both] for both in made]
        self.early = torch.stack([torch.cat([e for _, e in both]) for both in made])

    def statistics(self, deep: nn.Module, rows: Sequence[int], mirrored: Sequence[int]) -> Tensor:
        """Statistics (n, d) of some images by the blocks `deep`; gradients pass. mirrored : 0 or 1
        for each.
        """
        maps = [self.maps[i][m] for i, m in zip(rows, mirrored, strict=True)]
        early = torch.stack([self.early[i, m] for i, m in zip(rows, mirrored, strict=True)])
        if len({m.shape for m in maps}) == 1:
            return torch.cat([early, _second_half(deep, torch.cat(maps))], dim=1)
        return torch.cat([early, torch.cat([_second_half(deep, m) for m in maps])], dim=1)

    @torch.inference_mode()
    def all_statistics(self, deep: nn.Module, rows: Sequence[int]) -> np.ndarray:
        """The same, unmirrored, one image at a time and without gradients: (n, d) float64."""
        return torch.cat([self.statistics(deep, [i], [0]) for i in rows]).double().numpy()


@torch.inference_mode()
def _first_half(trunk: StatTower, pixels: Tensor) -> tuple[Tensor, Tensor]:
    x, parts = trunk.bn1(trunk.conv_stem(pixels)), [pixel_statistics(pixels, 1)]
    for i in range(FIXED):
        x = trunk.blocks[i](x)
        parts.append(cell_statistics(x, 1))
    return x.bfloat16(), torch.cat(parts, dim=1).flatten(1)


def _second_half(deep: nn.Module, x: Tensor) -> Tensor:
    x, parts = x.float().contiguous(memory_format=torch.channels_last), []
    for block in deep:
        x = block(x)
        parts.append(cell_statistics(x, 1).flatten(1))
    return torch.cat(parts, dim=1)


def tune(
    reader: LevelReader,
    deep: nn.Module,
    halves: Halves,
    rows: Sequence[int],
    mos: np.ndarray,
    *,
    epochs: int = 5,
    lr: float = 2e-4,
    batch_size: int = 16,
    seed: int = 0,
    report: Callable[[str], None] = print,
) -> nn.Module:
    """Train the deep half of a trunk so that the reader's score meets the images' scores.

    AdamW and a one-cycle rate on the smooth absolute error; every image is mirrored at random.
    Batch norms keep their statistics.

    Parameters
    ----------
    reader
        from `fit_levels` on the training images.
    deep
        `trunk.blocks[FIXED:]`; changed in place, returned.
    halves
        of all images.
    rows
        the training images in it.
    mos
        (len(rows),).

    Returns
    -------
    `deep`. Cost: about 0.15 s for an image of 500 x 500 pixels, an epoch and a core.
    """
    torch.manual_seed(seed)
    rng, rows = np.random.default_rng(seed), np.asarray(rows)
    steps, wanted = int(np.ceil(len(rows) / batch_size)), torch.from_numpy(np.asarray(mos)).float()
    deep.eval().requires_grad_(True)
    descent = torch.optim.AdamW(deep.parameters(), lr=lr, weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        descent, lr, total_steps=epochs * steps, pct_start=0.1
    )
    for epoch in range(epochs):
        total = 0.0
        for batch in np.array_split(rng.permutation(len(rows)), steps):
            seen = halves.statistics(deep, rows[batch], rng.integers(2, size=len(batch)))
            loss = F.smooth_l1_loss(reader(seen), wanted[batch], beta=0.3)
            descent.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(deep.parameters(), 1.0)
            descent.step()
            rate.step()
            total += loss.item() * len(batch)
        report(f"epoch {epoch + 1} of {epochs}: loss {total / len(rows):.4f}")
    return deep
