"""What a linear readout finds in a representation on held-out sources: score and domain."""

from __future__ import annotations

from typing import Any

import numpy as np

from rali_lab.analysis.folds import grouped_folds, permutation
from rali_lab.analysis.inputs import centred, codes, joint, matrix, vector
from rali_lab.analysis.significance import null_fields
from rali_lab.estimate import Estimate

PENALTIES = 10.0 ** np.arange(-5, 4)  # in mean eigenvalues of the training rows


def decode_score(
    X,
    scores,
    *,
    groups=None,
    n_folds: int = 5,
    n_permutations: int = 200,
    n_boot: int = 1000,
    random_state: int = 0,
) -> Estimate:
    """Held-out PLCC of a ridge regression from ``X`` (n, d) to ``scores`` (n,): how well the score
    can be read off linearly.

    1: perfectly; about 0: not at all (the null is permuted scores). Predictions and scores are
    centred inside each fold before they are correlated: without that, a readout that knows nothing
    but its training mean gets a clearly *negative* correlation.

    Parameters
    ----------
    X
        (n, d) array.
    scores
        (n,) scores to predict.
    groups
        (n,) labels; whole sources are held out, drawn for the interval and permuted for the null.
    n_folds
        Folds of the cross-validation.
    n_permutations, n_boot
        Draws of the null and of the interval (bootstrap of sources, predictions fixed); 0 leaves it
        out.
    random_state
        Seed of folds and draws.

    Raises
    ------
    ValueError
        Bad arrays, constant scores, fewer sources than folds; `rali_lab.evaluate.CollapsedScores`
        for constant predictions.

    Notes
    -----
    The penalty is chosen per training part by its leave-one-out error in closed form (Golub et al.
    1979). One decomposition per fold serves all penalties and all permutations: O(n_folds n d
    min(n, d)) time, plus O(n d) per permutation.

    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> decode_score(X, X @ [1, 2, 0], n_permutations=19, n_boot=50).value > 0.99
    True
    """
    from rali_lab.evaluate import correlate

    X = matrix(X, min_n=8)
    y, group = vector(scores, len(X)), codes(groups, len(X))
    rng = np.random.default_rng(random_state)
    folds = grouped_folds(groups, len(X), n_folds, rng)
    targets = np.stack([y, *(y[permutation(group, rng)] for _ in range(n_permutations))], axis=1)
    held = _within(held_out(X, targets[:, :, None], folds)[:, :, 0], folds)
    known = _within(targets, folds)
    size = np.linalg.norm(held, axis=0) * np.linalg.norm(known, axis=0)
    draws = np.divide((held * known).sum(axis=0), size, out=np.zeros(len(size)), where=size > 0)
    resampled = {"n_boot": max(1, n_boot), "seed": random_state}
    found = correlate(held[:, 0], known[:, 0], groups=groups, **resampled)
    low, high = (found.ci_low, found.ci_high) if n_boot else (None, None)
    null = null_fields(found.value, draws[1:])
    return Estimate("score_plcc", found.value, low, high, n=len(X), **null)


def decode_domain(
    X,
    domains,
    *,
    groups=None,
    n_folds: int = 5,
    n_permutations: int = 200,
    n_boot: int = 1000,
    random_state: int = 0,
) -> Estimate:
    """Held-out balanced accuracy of a linear classifier of ``domains`` (n,) from ``X`` (n, d).

    1: the domain is always found; 1 / number of domains: chance, which ``notes`` state and the
    null (permuted labels of sources) measures. Parameters, folds, cost as `decode_score`; every
    fold holds sources of every domain.

    Raises
    ------
    ValueError
        Fewer than two domains; a domain with fewer sources than folds; bad arrays.

    Notes
    -----
    Ridge regression on one-hot labels, then the nearest class mean in the fitted values by their
    spread within classes: linear discriminant analysis with equal priors (Hastie, Tibshirani & Buja
    1994), so a rare domain counts as much as a frequent one.

    >>> X = np.random.default_rng(0).normal(size=(60, 2)) + np.repeat([[0.], [9.]], 30, axis=0)
    >>> decode_domain(X, ["a"] * 30 + ["b"] * 30, n_permutations=19, n_boot=50).value
    1.0
    """
    X = matrix(X, min_n=8)
    label, group = codes(domains, len(X), "domains"), codes(groups, len(X))
    rng = np.random.default_rng(random_state)
    if (n_domains := int(label.max()) + 1) < 2:
        raise ValueError("got one domain, expected two or more; check the labels")
    folds = grouped_folds(groups, len(X), n_folds, rng, strata=label)
    unit = joint(group, label)
    labels = np.stack(
        [label, *(permuted_labels(label, unit, rng) for _ in range(n_permutations))], axis=1
    )
    right = classified(X, labels, folds) == labels
    values = np.mean(
        [(right & (labels == c)).sum(axis=0) / (labels == c).sum(axis=0) for c in range(n_domains)],
        axis=0,
    )
    low = high = None
    if n_boot:
        shares = [
            _resampled_share(right[label == c, 0], group[label == c], n_boot, rng)
            for c in range(n_domains)
        ]
        low, high = np.quantile(np.mean(shares, axis=0), [0.025, 0.975]).tolist()
    value, notes = float(values[0]), (f"chance {1 / n_domains:.3f}",)
    null = null_fields(value, values[1:])
    return Estimate("domain_accuracy", value, low, high, n=len(X), notes=notes, **null)


def held_out(X: np.ndarray, Y: np.ndarray, folds: list[np.ndarray]) -> np.ndarray:
    """Ridge predictions (n, t, c) of ``Y`` (n, t, c) for rows in folds that were not fitted.

    The t targets choose a penalty each; the c columns of a target share it.
    """
    out = np.empty(Y.shape)
    for held, _, new, _ in _fits(X, Y, folds):
        out[held] = new
    return out


def classified(X: np.ndarray, labels: np.ndarray, folds: list[np.ndarray]) -> np.ndarray:
    """Held-out class (n, t) for each of t labellings (n, t) with integers 0..c-1: discriminant
    analysis with equal priors.
    """
    onehot = (labels[:, :, None] == np.arange(labels.max() + 1)).astype(float)
    found = np.empty(labels.shape, dtype=int)
    for held, fit, new, old in _fits(X, onehot, folds):
        member = onehot[fit]
        sizes = member.sum(axis=0)
        centre = np.einsum("mtk,mtc->tkc", member, old) / np.maximum(1, sizes)[:, :, None]
        apart = old - np.einsum("mtk,tkc->mtc", member, centre)
        within = np.einsum("mtc,mtd->tcd", apart, apart) / len(fit)
        jitter = 1e-6 * old.var(axis=0).sum(axis=1) + 1e-300
        within += jitter[:, None, None] * np.eye(onehot.shape[2])
        offset = new[:, :, None] - centre
        solved = np.linalg.solve(within[:, None], np.moveaxis(offset, 0, -1))
        distance = np.einsum("htkc,tkch->htk", offset, solved)
        found[held] = np.where(sizes > 0, distance, np.inf).argmin(axis=2)
    return found


def _fits(X: np.ndarray, Y: np.ndarray, folds: list[np.ndarray]):
    """For each fold: its rows, the others, and the ridge fit to the others evaluated on both."""
    X = centred(X)
    for held in folds:
        fit = np.setdiff1d(np.arange(len(X)), held)
        centre, mean = X[fit].mean(axis=0), Y[fit].mean(axis=0)
        A, B = X[fit] - centre, X[held] - centre
        R = (Y[fit] - mean).reshape(len(fit), -1)
        U, squares, W = _decomposed(A, B)
        if not len(squares):
            raise ValueError(
                "the rows outside one fold are all equal: nothing to fit; drop duplicates or pass"
                " fewer folds"
            )
        within = U.T @ R
        best: Any = None
        error: Any = None
        for penalty in PENALTIES * squares.mean():
            shrink = squares / (squares + penalty)
            leverage = U**2 @ shrink + 1 / len(fit)
            spared = np.maximum(1 - leverage, 1e-9)[:, None]
            left_out = (R - U @ (shrink[:, None] * within)) / spared
            now = (left_out**2).sum(axis=0).reshape(Y.shape[1:]).sum(axis=1, keepdims=True)
            shrink = np.broadcast_to(shrink[:, None, None], (len(squares), *Y.shape[1:]))
            best = shrink if best is None else np.where(now < error, shrink, best)
            error = now if error is None else np.minimum(now, error)
        weights = best.reshape(len(squares), -1) * within
        yield (
            held,
            fit,
            mean + (W @ weights).reshape(len(held), *Y.shape[1:]),
            mean + (U @ weights).reshape(len(fit), *Y.shape[1:]),
        )


def permuted_labels(
    label: np.ndarray, unit: np.ndarray, rng: np.random.Generator, stratum: np.ndarray | None = None
) -> np.ndarray:
    """Labels (n,) permuted over the units (rows of one source and label), inside each stratum."""
    first = np.unique(unit, return_index=True)[1]
    of_unit = label[first]
    stratum = np.zeros(len(first), dtype=int) if stratum is None else stratum[first]
    for s in np.unique(stratum):
        members = np.flatnonzero(stratum == s)
        of_unit[members] = of_unit[rng.permutation(members)]
    return of_unit[unit]


def _decomposed(A: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """U, s², and the new rows ``B`` in the coordinates V / s, where ``A`` = U s V', by the smaller
    Gram matrix.
    """
    wide = len(A) < A.shape[1]
    squares, vectors = np.linalg.eigh(A @ A.T if wide else A.T @ A)
    keep = squares > 1e-12 * max(squares[-1], 1e-300)
    squares, vectors = squares[keep], vectors[:, keep]
    if wide:
        return vectors, squares, B @ (A.T @ vectors) / squares
    return A @ vectors / np.sqrt(squares), squares, B @ vectors / np.sqrt(squares)


def _within(Y: np.ndarray, folds: list[np.ndarray]) -> np.ndarray:
    Y = Y.copy()
    for held in folds:
        Y[held] -= Y[held].mean(axis=0)
    return Y


def _resampled_share(
    right: np.ndarray, group: np.ndarray, n_boot: int, rng: np.random.Generator
) -> np.ndarray:
    """Share of ``right`` in each bootstrap of the groups, (n_boot,)."""
    group = np.unique(group, return_inverse=True)[1]
    hits, sizes = np.bincount(group, weights=right), np.bincount(group)
    counts = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=n_boot)
    return (counts @ hits) / (counts @ sizes)
