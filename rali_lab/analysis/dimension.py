"""How many dimensions does a cloud of representations use: linear (spectrum) and intrinsic
(neighbour distances).

The linear ones ask how many axes hold the variance; the intrinsic ones how many numbers a point
needs *locally*: a curved line in 100 dimensions has intrinsic dimension 1. All are at most the
width d, and none can exceed n - 1 linear dimensions.
"""

from __future__ import annotations

import warnings

import numpy as np

from rali_lab.analysis.distances import nearest
from rali_lab.analysis.inputs import AnalysisWarning, centred, finite, first_of_duplicates, matrix
from rali_lab.analysis.similarity import gram_terms
from rali_lab.analysis.streaming import Moments, least
from rali_lab.estimate import Estimate

# Points share neighbours: the spread over repeated samples is 1.0 to 1.4 times what independent
# points would give (60 Gaussian and 60 torus samples each, d = 2 to 20, n = 300 to 1000, both
# estimators, k = 5 and 20).
_SHARED = 1.3


def spectrum(X) -> np.ndarray:
    """Variance along each principal axis, largest first: the eigenvalues of the covariance, (min(n
    - 1, d),).

    In squared units of ``X``; they sum to the total variance. For n < 10 d the largest are too
    large and the smallest too small.

    Raises
    ------
    ValueError
        Bad or constant input; n < 2.

    Notes
    -----
    O(n d min(n, d)) time, O(min(n, d)²) memory beside a centred copy.

    >>> spectrum(np.array([[0., 0.], [2., 0.], [0., 1.], [2., 1.]])).round(3)
    array([1.333, 0.333])
    """
    X = matrix(X)
    unit = np.float64(np.abs(X).max())
    with np.errstate(over="ignore"):  # refused in the next line
        values = _eigenvalues(X / unit) / (len(X) - 1) * unit * unit
    finite(values.sum(), "the spectrum")
    return values


def participation_ratio(X, *, debiased: bool = True) -> float:
    """Number of equally strong axes that would give this spread of variance: (sum λ)² / sum λ².

    1: all variance on one axis; d: the same on every axis. The plain value of d equal axes is only
    about n d / (n + d); ``debiased`` replaces sum λ² by its unbiased estimate, and may exceed n -
    1, and d by its noise.

    Raises
    ------
    ValueError
        Bad or constant input; n < 4 debiased; a debiased denominator that is not positive (too few
        rows to tell).

    Notes
    -----
    Gao et al. (2017). The unbiased sum λ² = |covariance|² is the debiased HSIC of ``X`` with itself
    (see `cka`). Cost as `spectrum`.

    >>> X = np.random.default_rng(0).normal(size=(50, 100))
    >>> round(participation_ratio(X, debiased=False)), 75 < participation_ratio(X) < 130
    (33, True)
    """
    X = centred(matrix(X, **least(True) if debiased else {}))
    if not debiased:
        values = _eigenvalues(X)
        return finite(values.sum() ** 2 / (values @ values), "participation ratio")
    n, total = len(X), np.vdot(X, X) / (len(X) - 1)
    squares = Moments.of(X, X).hsic(True) if n >= X.shape[1] else _gram_hsic(X @ X.T)
    if squares <= 0:
        raise ValueError(
            f"the {n} rows are all equally far apart and the debiased ratio is undefined; add rows"
            " or pass debiased=False"
        )
    return finite(total**2 / squares, "participation ratio")


def effective_rank(X) -> float:
    """exp of the entropy of the normalised singular values of the centred array, in [1, min(n - 1,
    d)].

    1: one axis; min(n - 1, d): all singular values equal. It counts weak axes more than
    `participation_ratio` does.

    Raises
    ------
    ValueError
        Bad or constant input.

    Notes
    -----
    Roy & Vetterli (2007), definition 1, of the array *after* centring. Singular values under 3e-7
    of the largest count as 0. Cost as `spectrum`. Not debiased: compare arrays with equal n.

    >>> round(effective_rank(np.array([[1., 0.], [-1., 0.], [0., 1.], [0., -1.]])), 6)
    2.0
    """
    share = np.sqrt(_eigenvalues(centred(matrix(X))))
    share = share[share > 0] / share.sum()
    return finite(np.exp(-share @ np.log(share)), "effective rank")


def pca_dimension(X, share: float = 0.9) -> int:
    """Fewest principal axes that hold ``share`` of the variance, from 1 to min(n - 1, d).

    Raises
    ------
    ValueError
        ``share`` outside (0, 1]; bad or constant input.

    Examples
    --------
    >>> pca_dimension(np.array([[0., 0.], [3., 0.], [0., 1.], [3., 1.]]), 0.8)
    1
    """
    if not 0 < share <= 1:
        raise ValueError(f"share={share}, expected a share of the variance in (0, 1], such as 0.9")
    held = np.cumsum(_eigenvalues(centred(matrix(X))))
    return int(np.searchsorted(held / held[-1], share - 1e-12) + 1)


def two_nn(X, *, discard: float = 0.1, level: float = 0.95) -> Estimate:
    """Intrinsic dimension from the ratio of the distances to the second and the first neighbour.

    A number > 0; ``se`` and interval beside it. In high dimensions no neighbour estimate is right
    at usual n (16.5 for a 20-dimensional Gaussian at n = 1000): compare arrays with equal n.

    Parameters
    ----------
    X
        (n, d) array, at least 20 different rows.
    discard
        Share of the largest ratios that only count as "at least this large", as outliers and
        borders distort them.
    level
        Coverage of the interval.

    Raises
    ------
    ValueError
        Fewer than 20 different rows; bad input.

    Warns
    -----
    AnalysisWarning
        Equal rows (templated texts): dropped; the warning and ``notes`` give their number.

    Notes
    -----
    Facco et al. (2017). Departure: the maximum-likelihood estimate of their Pareto law (Denti et
    al. 2022), censored at ``discard``, instead of their line through the origin: the same model,
    with a standard error, 1.3 d / sqrt(n (1 - discard)). The 1.3 is measured, since points share
    neighbours; it speaks of noise, not of the bias in high dimensions. Rows must be independent:
    versions of one image are neighbours for another reason. O(n² d) time, O(n) memory.

    >>> t = np.random.default_rng(0).uniform(0, 6, size=400)
    >>> 0.9 < two_nn(np.stack([np.cos(t), np.sin(t), t], axis=1)).value < 1.1
    True
    """
    if not 0 <= discard < 1:
        raise ValueError(f"discard={discard}, expected a share in [0, 1), usually 0.1")
    Z, notes = _distinct(X, 20)
    r = nearest(Z, 2)[0]
    ratio = np.sort(np.log(r[:, 1] / r[:, 0]))
    kept = max(2, int(np.ceil(len(ratio) * (1 - discard))))
    total = ratio[:kept].sum() + (len(ratio) - kept) * ratio[kept - 1]
    if not total > 1e-9:
        raise ValueError(
            "first and second neighbours are equally far (a regular grid?), TwoNN is undefined; use"
            " mle_dimension"
        )
    return _with_error("two_nn", (kept - 1) / total, np.sqrt(kept) / _SHARED, len(Z), level, notes)


def mle_dimension(X, *, k: int = 20, level: float = 0.95) -> Estimate:
    """Intrinsic dimension from the growth of the distances to the first ``k`` neighbours.

    Range, errors, warnings and limits as `two_nn`; a larger ``k`` has less noise and
    covers a coarser, more curved piece.

    Parameters
    ----------
    X
        (n, d) array.
    k
        Neighbours, 3 <= k < n.
    level
        Of the interval.

    Notes
    -----
    Levina & Bickel (2005), eq. 8; the inverse estimates are averaged, not the estimates (MacKay &
    Ghahramani 2005). Standard error 1.3 d / sqrt(n (k - 1)), as in `two_nn`. O(n² d) time, O(n k)
    memory.

    >>> plane = np.random.default_rng(1).normal(size=(2, 10))
    >>> X = np.random.default_rng(0).uniform(size=(500, 2)) @ plane
    >>> 1.7 < mle_dimension(X).value < 2.2
    True
    """
    if k < 3:
        raise ValueError(f"k={k}, expected 3 or more neighbours; for two use two_nn")
    Z, notes = _distinct(X, max(20, k + 1))
    r = nearest(Z, k)[0]
    inverse = np.log(r[:, -1:] / r[:, :-1]).sum(axis=1) / (k - 1)
    if not inverse.mean() > 1e-9:
        raise ValueError(
            f"the first {k} neighbours are all equally far (a regular grid?): no growth to measure;"
            " pass a larger k"
        )
    root = np.sqrt(len(Z) * (k - 1)) / _SHARED
    return _with_error("mle_dimension", 1 / inverse.mean(), root, len(Z), level, notes)


def _with_error(
    name: str, value: float, root: float, n: int, level: float, notes: tuple[str, ...]
) -> Estimate:
    from scipy.special import ndtri

    se, z = value / root, float(ndtri((1 + level) / 2))
    low, high = value * np.exp(-z / root), value * np.exp(z / root)
    return Estimate(name, finite(value, name), low, high, se=float(se), n=n, notes=notes)


def _distinct(X, min_n: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Different rows, scaled, and what was dropped."""
    X = matrix(X)
    first = first_of_duplicates(X)
    dropped = len(X) - len(first)
    if len(first) < min_n:
        raise ValueError(
            f"{len(first)} different rows ({len(X)} with {dropped} repeats), expected {min_n} or"
            " more: neighbour distances of repeats are 0; add items, or use participation_ratio"
        )
    if not dropped:
        return centred(X), ()
    note = f"{dropped} of {len(X)} rows repeat another row and were dropped"
    warnings.warn(AnalysisWarning(f"{note} (templated texts?)"), stacklevel=3)
    return centred(X[first]), (note,)


def _gram_hsic(K: np.ndarray) -> float:
    """Debiased HSIC of a Gram matrix with itself; its diagonal is set to zero in place."""
    return gram_terms(K, K, True)[0]


def _eigenvalues(X: np.ndarray) -> np.ndarray:
    """Eigenvalues of the scatter matrix of centred ``X``, largest first, min(n - 1, d) of them;
    rounding set to 0.
    """
    X = X - X.mean(axis=0, dtype=np.float64)
    values = np.linalg.eigvalsh(X @ X.T if len(X) < X.shape[1] else X.T @ X)[::-1]
    values = values[: min(len(X) - 1, X.shape[1])]
    return np.where(values > 1e-13 * values[0], values, 0.0)
