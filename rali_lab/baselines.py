"""The baseline that the paper leaves out: a ridge regression on the teacher's own frozen visual features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

ALPHAS = np.logspace(-1, 6, 29)


@torch.inference_mode()
def visual_features(pictures: Sequence[np.ndarray], *, tower: str = "lite0_stats_s16", batch: int = 16) -> np.ndarray:
    """What the frozen tower says about pictures before anything is learned: (n, d) float64.

    Parameters
    ----------
    pictures : (H, W, 3) uint8 arrays of any sizes from 64 px on. tower : a tower of `rali_lab.vision`.

    Returns
    -------
    Means and deviations of the channels of every pooled stage and the pixel statistics, averaged over the cells.
    """
    import timm

    from rali_lab.vision import load_lite0, to_pixels

    model = load_lite0(timm.create_model(tower, num_classes=0)).eval().to(memory_format=torch.channels_last)
    same = len({np.shape(x) for x in pictures}) == 1
    step = batch if same else 1
    parts = [model.statistics(to_pixels(pictures[i : i + step])).mean(dim=(2, 3)) for i in range(0, len(pictures), step)]
    return torch.cat(parts).double().numpy()


def ridge_scores(X: np.ndarray, mos: np.ndarray, groups: Sequence[str], X_new: np.ndarray) -> np.ndarray:
    """Ridge regression from features to MOS, its penalty chosen by cross-validation over sources, applied to `X_new`.

    Parameters
    ----------
    X, mos : (n, d) and (n,), for training. groups : source of each training picture; a source is never on both sides of a fold.
    X_new : (m, d).

    Returns
    -------
    (m,) predicted scores, not clipped (clipping would only help in-range ties).

    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(40, 3))
    >>> bool(np.corrcoef(ridge_scores(X, X[:, 0], list("abcde") * 8, X), X[:, 0])[0, 1] > 0.99)
    True
    """
    from sklearn.model_selection import GroupKFold

    groups = list(groups)
    errors = np.zeros(len(ALPHAS))
    for fit, held in GroupKFold(min(5, len(set(groups)))).split(X, groups=groups):
        errors += ((ridge_path(X[fit], mos[fit], X[held]) - mos[held]) ** 2).sum(axis=1)
    return ridge_path(X, mos, X_new)[errors.argmin()]


def ridge_path(X: np.ndarray, y: np.ndarray, X_new: np.ndarray) -> np.ndarray:
    """Predictions (alphas, m) of ridge regressions with every penalty in `ALPHAS`, features standardised on `X`.

    One singular value decomposition serves all penalties: scikit-learn's `Ridge`, fitted once for each penalty and fold, gives the same
    numbers (a test holds it to that) in many times the time.
    """
    mean, std = X.mean(axis=0), X.std(axis=0)
    std = np.where(std > 0, std, 1.0)
    u, s, vt = np.linalg.svd((X - mean) / std, full_matrices=False)
    shrunk = s / (s**2 + ALPHAS[:, None]) * (u.T @ (y - y.mean()))
    return y.mean() + shrunk @ (vt @ ((X_new - mean) / std).T)
