"""RALI for images that people rated and nobody described: the texts are five levels of quality.

A map from the trunk's statistics to the text space is fitted to how much of each level text an
image should be, and its score is RALI's: the softmax over its cosines with the texts, times a score
for each.

- `fit_levels` takes a linear map (ridge regression), and `tune` then trains the deep blocks of the
  trunk through that score, texts and map unchanged. A closed form loses less than contrastive
  alignment with a few hundred scores as text (docs/LOG.md).
- `fit_across_sets` takes kernel ridge regression, for images nobody rated: learned from generated
  images, a curved map carries over to photographs better than a linear one (docs/LOG.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator
from sklearn.kernel_ridge import KernelRidge
from torch import Tensor, nn

from rali_lab.models.optimiser import ScheduledAdamW
from rali_lab.models.towers import StatTower, cell_statistics, pixel_statistics, squash, to_pixels
from rali_lab.rali.basis import softmax_score

TEXTS = tuple(
    f"The quality of this picture is {name}."
    for name in ("bad", "poor", "fair", "good", "excellent")
)
"""Names of the scores 1 to 5 (ITU-R BT.500)."""
LEVELS = np.arange(1.0, 1 + len(TEXTS))
TAU = 0.05
"""Temperature of the score: the level texts lie close together (cosines of .8 and more).

Chosen on LIVE in the Wild (docs/LOG.md)."""
PENALTIES = np.logspace(1, 5, 17)
"""Of the linear map."""
GAMMAS, ALPHAS = (0.3, 1.0, 3.0), (0.01, 0.1, 1.0, 10.0)
"""Of the kernel map: widths and penalties."""
FIXED = 3
"""Blocks of the trunk that are never trained: edges and textures are the same for every data set,
and they cost most of the time."""


def level_shares(mos: np.ndarray) -> np.ndarray:
    """How a score divides between its two neighbouring levels: (n,) in 1..5 to (n, 5), rows summing
    to 1.

    >>> level_shares(np.array([1.0, 3.25, 5.0])).tolist()
    [[1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.75, 0.25, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]]
    """
    return np.maximum(0.0, 1 - np.abs(mos[:, None] - LEVELS))


@dataclass(frozen=True)
class LinearLevels:
    """From the trunk's statistics to scores: standardised, mapped linearly to shares of the level
    texts, scored by RALI's equation.

    Attributes
    ----------
    mean, std : Tensor
        (d,) of the statistics.
    weight, bias : Tensor
        (5, d) and (5,), the map.
    texts : Tensor
        (5, e) embeddings of `TEXTS`.
    scores : Tensor
        (5,), the score of each level.
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

    def predict(self, statistics: np.ndarray) -> np.ndarray:
        """Scores of an (n, d) array, (n,) float64."""
        with torch.inference_mode():
            return self(torch.from_numpy(statistics).float()).double().numpy()


def fit_levels(
    statistics: np.ndarray, mos: np.ndarray, groups: Sequence[str], texts: np.ndarray
) -> LinearLevels:
    """Fit the linear map to mixtures of the level texts, its penalty chosen by cross-validation
    over sources, and the scores of the levels.

    Parameters
    ----------
    statistics : np.ndarray
        (n, d) of training images, as the trunk gives them.
    mos : np.ndarray
        (n,) in 1..5.
    groups : sequence of str
        Source of each image.
    texts : np.ndarray
        (5, e) embeddings of `TEXTS`.

    Returns
    -------
    LinearLevels
        Its level scores are 1 to 5 on the scale that fits the training scores best (least squares).
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold

    mean, std = statistics.mean(axis=0), np.maximum(statistics.std(axis=0), 1e-3)
    x = squash(torch.from_numpy((statistics - mean) / std)).numpy()
    folds = list(GroupKFold(min(5, len(set(groups)))).split(x, groups=list(groups)))
    found = RidgeCV(alphas=PENALTIES, cv=folds).fit(x, level_shares(mos))
    parts = (mean, std, found.coef_, found.intercept_, texts, LEVELS)
    levels = LinearLevels(*(torch.as_tensor(p, dtype=torch.float32) for p in parts))
    slope, offset = np.polyfit(levels.predict(statistics), mos, 1)
    return replace(levels, scores=slope * levels.scores + offset)


class CachedTrunkFeatures:
    """Outputs of the fixed blocks of a trunk for images and their mirror images: what `tune` starts
    from, for all splits at once.

    Parameters
    ----------
    images : iterable of np.ndarray
        (H, W, 3) uint8 arrays of any sizes. Memory: about 2.5 bytes for a pixel.
    trunk : StatTower
        With a grid of one cell.
    """

    def __init__(self, images: Iterable[np.ndarray], trunk: StatTower) -> None:
        made = [[_fixed_blocks(trunk, to_pixels([x])) for x in (p, p[:, ::-1])] for p in images]
        self.maps = [[m for m, _ in both] for both in made]
        self.early = torch.stack([torch.cat([e for _, e in both]) for both in made])

    def statistics(self, deep: nn.Module, rows: Sequence[int], mirrored: Sequence[int]) -> Tensor:
        """Statistics (n, d) of some images by the blocks `deep`; gradients pass.

        Parameters
        ----------
        deep : nn.Module
            `trunk.blocks[FIXED:]`.
        rows : sequence of int
            Positions of the n images.
        mirrored : sequence of int
            1 for the mirror image, else 0.
        """
        maps = [self.maps[i][m] for i, m in zip(rows, mirrored, strict=True)]
        early = torch.stack([self.early[i, m] for i, m in zip(rows, mirrored, strict=True)])
        if len({m.shape for m in maps}) == 1:
            return torch.cat([early, _deep_blocks(deep, torch.cat(maps))], dim=1)
        return torch.cat([early, torch.cat([_deep_blocks(deep, m) for m in maps])], dim=1)

    @torch.inference_mode()
    def all_statistics(self, deep: nn.Module, rows: Sequence[int]) -> np.ndarray:
        """The same, unmirrored, one image at a time and without gradients: (n, d) float64."""
        return torch.cat([self.statistics(deep, [i], [0]) for i in rows]).double().numpy()


@torch.inference_mode()
def _fixed_blocks(trunk: StatTower, pixels: Tensor) -> tuple[Tensor, Tensor]:
    x, parts = trunk.bn1(trunk.conv_stem(pixels)), [pixel_statistics(pixels, 1)]
    for block in trunk.blocks[:FIXED]:
        x = block(x)
        parts.append(cell_statistics(x, 1))
    return x.bfloat16(), torch.cat(parts, dim=1).flatten(1)


def _deep_blocks(deep: nn.Module, x: Tensor) -> Tensor:
    x, parts = x.float().contiguous(memory_format=torch.channels_last), []
    for block in deep:
        x = block(x)
        parts.append(cell_statistics(x, 1).flatten(1))
    return torch.cat(parts, dim=1)


def tune(
    levels: LinearLevels,
    deep: nn.Module,
    features: CachedTrunkFeatures,
    rows: Sequence[int],
    mos: np.ndarray,
    *,
    epochs: int = 5,
    lr: float = 2e-4,
    batch_size: int = 16,
    seed: int = 0,
    report: Callable[[str], None] = print,
) -> nn.Module:
    """Train the deep blocks of a trunk so that the scores of `levels` meet the images' scores.

    AdamW and a one-cycle rate on the smooth absolute error; every image is mirrored at random.
    Batch norms keep their statistics. Cost: about 0.15 s for an image of 500 x 500 pixels, an epoch
    and a core.

    Parameters
    ----------
    levels : LinearLevels
        From `fit_levels` on the training images.
    deep : nn.Module
        `trunk.blocks[FIXED:]`; changed in place.
    features : CachedTrunkFeatures
        Of all images.
    rows : sequence of int
        Positions of the training images in `features`.
    mos : np.ndarray
        (len(rows),).
    epochs, lr, batch_size : int, float, int
        Of the training.
    seed : int
        Of the shuffling and mirroring.
    report : callable
        Gets one line per epoch.

    Returns
    -------
    nn.Module
        `deep`.
    """
    torch.manual_seed(seed)
    rng, rows = np.random.default_rng(seed), np.asarray(rows)
    steps, target = int(np.ceil(len(rows) / batch_size)), torch.from_numpy(np.asarray(mos)).float()
    deep.eval().requires_grad_(True)
    optimiser = ScheduledAdamW(
        deep.parameters(),
        lr=lr,
        steps=epochs * steps,
        weight_decay=1e-2,
        warm_up=0.1,
        max_norm=1.0,
    )
    for epoch in range(epochs):
        total = 0.0
        for batch in np.array_split(rng.permutation(len(rows)), steps):
            x = features.statistics(deep, rows[batch], rng.integers(2, size=len(batch)))
            loss = F.smooth_l1_loss(levels(x), target[batch], beta=0.3)
            optimiser.step(loss)
            total += loss.item() * len(batch)
        report(f"epoch {epoch + 1} of {epochs}: loss {total / len(rows):.4f}")
    return deep


class KernelLevels(BaseEstimator):
    """As `LinearLevels`, with kernel ridge regression for the map: a scikit-learn estimator.

    Parameters
    ----------
    texts : np.ndarray
        (5, e) embeddings of `TEXTS`.
    gamma : float
        Of the RBF kernel, times the number of features.
    alpha : float
        Ridge penalty.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4)); quality = 3 + np.tanh(X[:, 0])
    >>> levels = KernelLevels(np.eye(5)).fit(X[:150], quality[:150])
    >>> bool(np.corrcoef(levels.predict(X[150:]), quality[150:])[0, 1] > 0.9)
    True
    """

    def __init__(self, texts: np.ndarray, *, gamma: float = 1.0, alpha: float = 0.1) -> None:
        self.texts, self.gamma, self.alpha = texts, gamma, alpha

    def fit(self, X: np.ndarray, quality: np.ndarray) -> KernelLevels:
        """Learn from statistics (n, d) of images and their quality (n,) in 1..5; ValueError
        outside. Cost: n^2 d + n^3.
        """
        if not ((quality >= 1) & (quality <= 5)).all():
            raise ValueError(
                f"quality must lie in 1..5, got {np.nanmin(quality):g} to {np.nanmax(quality):g}"
            )
        self.mean_, self.std_ = X.mean(axis=0), X.std(axis=0) + 1e-6
        self.map_ = KernelRidge(kernel="rbf", gamma=self.gamma / X.shape[1], alpha=self.alpha)
        self.map_.fit(self._standardised(X), level_shares(quality) - 1 / len(TEXTS))
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Scores (n,) in 1..5 of statistics (n, d)."""
        z = (self.map_.predict(self._standardised(X)) + 1 / len(TEXTS)) @ self.texts
        return softmax_score(z, self.texts, LEVELS, tau=TAU)

    def _standardised(self, X: np.ndarray) -> np.ndarray:
        return squash(torch.from_numpy((X - self.mean_) / self.std_)).numpy()


def fit_across_sets(
    X: np.ndarray, quality: np.ndarray, sets: Sequence[str], texts: np.ndarray
) -> KernelLevels:
    """`KernelLevels` whose constants rank the images of sets left out best (mean SRCC), refitted on
    all.

    Parameters
    ----------
    X, quality : np.ndarray
        (n, d) and (n,) in 1..5.
    sets : sequence of str
        The set of each image, at least two different ones.
    texts : np.ndarray
        As for `KernelLevels`.
    """
    from scipy.stats import spearmanr

    sets = np.asarray(sets)
    if len(set(sets.tolist())) < 2:
        raise ValueError(f"all images are of the set {str(sets[0])!r}; to leave one out takes two")

    def across(gamma: float, alpha: float) -> float:
        found = []
        for name in np.unique(sets):
            held = sets == name
            levels = KernelLevels(texts, gamma=gamma, alpha=alpha).fit(X[~held], quality[~held])
            found.append(spearmanr(levels.predict(X[held]), quality[held])[0])
        return float(np.mean(found))

    gamma, alpha = max(product(GAMMAS, ALPHAS), key=lambda constants: across(*constants))
    return KernelLevels(texts, gamma=gamma, alpha=alpha).fit(X, quality)
