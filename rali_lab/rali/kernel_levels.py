"""Levels of quality for images nobody rated: a map to the level texts that generalises from
generated images.

As `rali_lab.rali.quality_levels`, with one difference: the map from the trunk's statistics to
shares of the level texts is kernel ridge regression, and its two constants are chosen by leaving
whole sets of images out. On photographs that people rated, a curved map carries over better than a
straight one (docs/LOG.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.kernel_ridge import KernelRidge

from rali_lab.models.towers import squash
from rali_lab.rali.basis import softmax_score
from rali_lab.rali.quality_levels import TAU, WORDS, level_shares

GAMMAS = (0.3, 1.0, 3.0)
ALPHAS = (0.01, 0.1, 1.0, 10.0)
LEVELS = np.arange(1.0, 1 + len(WORDS))


class KernelLevels(BaseEstimator):
    """Scores from the trunk's statistics by RALI's equation over texts of quality levels, in the
    manner of scikit-learn.

    Parameters
    ----------
    texts
        (5, e) embeddings of `rali_lab.rali.quality_levels.TEXTS`.
    gamma
        of the RBF kernel, times the number of features.
    alpha
        ridge penalty.

    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4)); quality = 3 + np.tanh(X[:, 0])
    >>> reader = KernelLevels(np.eye(5)).fit(X[:150], quality[:150])
    >>> bool(np.corrcoef(reader.predict(X[150:]), quality[150:])[0, 1] > 0.9)
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
        self.map_.fit(self._seen(X), level_shares(quality) - 1 / len(WORDS))
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Scores (n,) in 1..5 of statistics (n, d)."""
        z = (self.map_.predict(self._seen(X)) + 1 / len(WORDS)) @ self.texts
        return softmax_score(z, self.texts, LEVELS, tau=TAU)

    def _seen(self, X: np.ndarray) -> np.ndarray:
        return squash(torch.from_numpy((X - self.mean_) / self.std_)).numpy()


def fit_across_sets(
    X: np.ndarray, quality: np.ndarray, sets: Sequence[str], texts: np.ndarray
) -> KernelLevels:
    """`KernelLevels` whose constants rank the images of sets left out best (mean SRCC), refitted on
    all.

    Parameters
    ----------
    X, quality
        (n, d) and (n,) in 1..5.
    sets
        which set each image is of, at least two.
    texts
        as for `KernelLevels`.
    """
    from scipy.stats import spearmanr

    sets = np.asarray(sets)
    if len(set(sets.tolist())) < 2:
        raise ValueError(f"all images are of the set {str(sets[0])!r}; to leave one out takes two")

    def across(gamma: float, alpha: float) -> float:
        found = []
        for name in np.unique(sets):
            held = sets == name
            reader = KernelLevels(texts, gamma=gamma, alpha=alpha).fit(X[~held], quality[~held])
            found.append(spearmanr(reader.predict(X[held]), quality[held])[0])
        return float(np.mean(found))

    gamma, alpha = max(product(GAMMAS, ALPHAS), key=lambda constants: across(*constants))
    return KernelLevels(texts, gamma=gamma, alpha=alpha).fit(X, quality)
