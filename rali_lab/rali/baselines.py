"""Baselines that the paper leaves out: plain regressions on the features that RALI, or the teacher,
starts from.

Every regression is fitted on scored images, chooses its settings by cross-validation over sources,
and predicts new ones.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch

ALPHAS = np.logspace(-1, 6, 29)


@functools.cache
def frozen_tower(tower: str) -> torch.nn.Module:
    """A tower of `rali_lab.models.towers` with its pretrained trunk, built once: copy it before
    changing it.
    """
    import timm

    from rali_lab.models.towers import load_lite0

    model = load_lite0(timm.create_model(tower, num_classes=0))
    return model.eval().to(memory_format=torch.channels_last)


@torch.inference_mode()
def visual_features(
    images: Sequence[np.ndarray], *, tower: str = "lite0_stats_s16", batch: int = 16
) -> np.ndarray:
    """Features of images from a frozen pretrained tower.

    Means and deviations of the channels of every pooled stage and the pixel statistics, averaged
    over the cells.

    Parameters
    ----------
    images : sequence of np.ndarray
        (H, W, 3) uint8 arrays of any sizes from 64 px on.
    tower : str
        A tower of `rali_lab.models.towers`.
    batch : int
        Images at a time, where all are of one size.

    Returns
    -------
    np.ndarray
        (n, d) float64.
    """
    from rali_lab.models.towers import to_pixels

    model = frozen_tower(tower)
    same = len({np.shape(x) for x in images}) == 1
    step = batch if same else 1
    parts = [
        model.statistics(to_pixels(images[i : i + step])).mean(dim=(2, 3))
        for i in range(0, len(images), step)
    ]
    return torch.cat(parts).double().numpy()


def ridge_scores(
    X: np.ndarray, mos: np.ndarray, groups: Sequence[str], X_new: np.ndarray
) -> np.ndarray:
    """Ridge regression from features to MOS, its penalty chosen by cross-validation over sources,
    applied to `X_new`.

    Features are standardised on the training part of each fold, and the penalty has the least
    squared error over all held-out images. Cost: 0.4 s of one core for 440 images, 700 features and
    five folds.

    Parameters
    ----------
    X, mos : np.ndarray
        (n, d) and (n,), for training.
    groups : sequence of str
        Source of each training image; a source is never on both sides of a fold.
    X_new : np.ndarray
        (m, d).

    Returns
    -------
    np.ndarray
        (m,) predicted scores, not clipped (clipping would only help in-range ties).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(40, 3))
    >>> bool(np.corrcoef(ridge_scores(X, X[:, 0], list("abcde") * 8, X), X[:, 0])[0, 1] > 0.99)
    True
    """
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # One target for each penalty, all alike: a single decomposition serves all penalties.
    every_penalty = make_pipeline(StandardScaler(), Ridge(ALPHAS, solver="svd"))
    targets, folds = np.tile(mos, (len(ALPHAS), 1)).T, GroupKFold(min(5, len(set(groups))))
    held_out = cross_val_predict(every_penalty, X, targets, groups=list(groups), cv=folds)
    best = ((held_out - targets) ** 2).sum(axis=0).argmin()
    return every_penalty.fit(X, targets).predict(X_new)[:, best]


def read_scores(
    name: str,
    Z: np.ndarray,
    mos: np.ndarray,
    groups: Sequence[str],
    Z_new: np.ndarray,
    *,
    seed: int = 0,
) -> np.ndarray:
    """Scores from features by one of `READOUTS`, its settings chosen by cross-validation.

    Parameters
    ----------
    name : str
        "ridge", "knn", "kernel_ridge", "svr", "mlp" or "isotonic" (of the first principal
        component).
    Z, mos, groups
        (n, d), (n,) and (n,), for training; a source is never on both sides of a fold.
    Z_new : np.ndarray
        (m, d).
    seed : int
        Of "mlp".

    Returns
    -------
    np.ndarray
        (m,) predicted scores.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> Z, sources = rng.normal(size=(60, 3)) * [5, 1, 1], list("abcde") * 12
    >>> found = [read_scores(name, Z, Z[:, 0], sources, Z) for name in READOUTS]
    >>> all(np.corrcoef(scores, Z[:, 0])[0, 1] > 0.9 for scores in found)
    True
    """
    if name not in READOUTS:
        raise ValueError(f"unknown readout {name!r}; known: {', '.join(READOUTS)}")
    if name == "ridge":
        return ridge_scores(Z, mos, groups, Z_new)
    if name == "isotonic":
        return _isotonic(Z, mos, Z_new)
    from sklearn.model_selection import GridSearchCV, GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model, grid = _regressor(name, seed, len(Z))
    folds = GroupKFold(min(5, len(set(groups))))
    search = GridSearchCV(
        make_pipeline(StandardScaler(), model), grid, cv=folds, scoring="neg_mean_squared_error"
    )
    mean = float(np.mean(mos))  # kernel ridge has no intercept
    return mean + search.fit(Z, np.asarray(mos) - mean, groups=list(groups)).predict(Z_new)


READOUTS = ("ridge", "knn", "kernel_ridge", "svr", "mlp", "isotonic")


def _regressor(name: str, seed: int, n: int):
    """A regressor of scikit-learn and the settings to choose from, named as inside a pipeline."""
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.neural_network import MLPRegressor
    from sklearn.svm import SVR

    wide = np.logspace(-4, -1, 4)
    if name == "knn":
        return KNeighborsRegressor(weights="distance"), {
            "kneighborsregressor__n_neighbors": [k for k in (3, 5, 10, 20, 40) if k <= n // 2]
        }
    if name == "kernel_ridge":
        return KernelRidge(kernel="rbf"), {
            "kernelridge__alpha": [0.01, 0.1, 1.0],
            "kernelridge__gamma": wide,
        }
    if name == "svr":
        return SVR(), {"svr__C": [0.1, 1.0, 10.0], "svr__gamma": wide}
    small = MLPRegressor(
        hidden_layer_sizes=(32,),
        learning_rate_init=3e-3,
        max_iter=500,
        early_stopping=True,
        random_state=seed,
    )
    return small, {"mlpregressor__alpha": [0.1, 1.0, 10.0]}


def _isotonic(Z: np.ndarray, mos: np.ndarray, Z_new: np.ndarray) -> np.ndarray:
    from sklearn.decomposition import PCA
    from sklearn.isotonic import IsotonicRegression

    first = PCA(1).fit(Z)
    x, x_new = first.transform(Z)[:, 0], first.transform(Z_new)[:, 0]
    rising = bool(np.corrcoef(x, mos)[0, 1] >= 0)
    return IsotonicRegression(increasing=rising, out_of_bounds="clip").fit(x, mos).predict(x_new)


@torch.inference_mode()
def brisque_features(images: Sequence[np.ndarray]) -> np.ndarray:
    """Natural scene statistics of BRISQUE (Mittal et al., IEEE TIP 2012): (n, 36) float64.

    They come from a private function of `piq`; a test compares them with what piq's own `brisque`
    gives to its regressor. That regressor was trained on LIVE and its weights would have to be
    fetched; retrain one with ``read_scores("svr", ...)``.
    """
    from piq.brisque import _natural_scene_statistics
    from piq.functional import imresize, rgb2yiq

    rows = []
    for image in images:
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
        x = torch.round(rgb2yiq(x)[:, :1])  # as in the original, which keeps 8 bits
        half = imresize(x, sizes=(x.shape[2] // 2, x.shape[3] // 2))
        scales = [_natural_scene_statistics(scale, 7, 7 / 6) for scale in (x, half)]
        rows.append(torch.cat(scales, dim=-1)[0])
    return torch.stack(rows).double().numpy()
