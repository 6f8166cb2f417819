"""CKA without all rows at once: exact from a stream of batches, and the minibatch estimate.

All sums are taken in float64 around a centre near the data, so that a large mean costs no digits.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from rali_lab.analysis.inputs import finite, matrix, pair


def least(debiased: bool) -> dict:
    """How many rows an HSIC needs, in the words of the error message."""
    if debiased:
        return {
            "min_n": 4,
            "why": (
                "debiased CKA needs n >= 4 (debiased=False takes fewer, and means nothing there)"
            ),
        }
    return {"min_n": 2, "why": "CKA needs n >= 2"}


def hsic(n: int, kl: float, k: np.ndarray, l: np.ndarray, debiased: bool) -> float:  # noqa: E741
    """HSIC of two kernel matrices from sum(K * L) and their row sums ``k`` and ``l`` (n,); 0 if
    only rounding is left.

    Debiased (Song et al. 2012, eq. 5), both diagonals are taken to be zero.
    """
    if debiased:
        terms = kl, k.sum() * l.sum() / ((n - 1) * (n - 2)), -2 / (n - 2) * (k @ l)
    else:
        terms = kl, k.sum() * l.sum() / n**2, -2 / n * (k @ l)
    return finite(_beyond_rounding(terms), "HSIC") / (n * (n - 3) if debiased else (n - 1) ** 2)


def _beyond_rounding(terms: tuple[float, ...]) -> float:
    """The sum of terms that cancel, 0 if only rounding is left of them."""
    return sum(terms) if abs(sum(terms)) > 1e-12 * sum(map(abs, terms)) else 0.0


def align(xy: float, xx: float, yy: float) -> float:
    """xy / sqrt(xx yy) of three HSIC, in [-1, 1].

    Raises
    ------
    ValueError
        A self-term is not positive: all pairs of rows are equally alike, and CKA is 0 / 0.
    """
    for name, own in (("X", xx), ("Y", yy)):
        if own <= 0:
            raise ValueError(
                f"all pairs of rows of {name} are equally alike and CKA is 0 / 0; add rows, or use"
                " procrustes or mutual_knn"
            )
    return finite(np.clip(xy / (np.sqrt(xx) * np.sqrt(yy)), -1, 1), "CKA")


@dataclass(frozen=True)
class Moments:
    """Sums over rows x_i (d1,) and y_i (d2,), with d_i = |x_i|² and e_i = |y_i|²; they add up over
    batches.
    """

    n: int
    x: np.ndarray  # sum x_i
    y: np.ndarray  # sum y_i
    xy: np.ndarray  # sum x_i y_i', (d1, d2)
    d: float  # sum d_i
    e: float  # sum e_i
    de: float  # sum d_i e_i
    dy: np.ndarray  # sum d_i y_i
    ex: np.ndarray  # sum e_i x_i

    @classmethod
    def of(cls, X: np.ndarray, Y: np.ndarray) -> Moments:
        """Moments of one batch."""
        d, e = np.einsum("ij,ij->i", X, X), np.einsum("ij,ij->i", Y, Y)
        return cls(
            len(X), X.sum(axis=0), Y.sum(axis=0), X.T @ Y, d.sum(), e.sum(), d @ e, d @ Y, e @ X
        )

    def __add__(self, other: Moments) -> Moments:
        return Moments(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def moved(self, a: np.ndarray, b: np.ndarray) -> Moments:
        """The moments of x_i - a and y_i - b, by expanding the products."""
        n, aa, bb = self.n, a @ a, b @ b
        xy = self.xy - np.outer(self.x, b) - np.outer(a, self.y) + n * np.outer(a, b)
        d = self.d - 2 * a @ self.x + n * aa
        e = self.e - 2 * b @ self.y + n * bb
        de = self.de - 2 * b @ self.dy + bb * self.d - 2 * a @ self.ex + 4 * a @ self.xy @ b
        de += -2 * bb * (a @ self.x) + aa * self.e - 2 * aa * (b @ self.y) + n * aa * bb
        dy = self.dy - 2 * self.xy.T @ a + aa * self.y - b * d
        ex = self.ex - 2 * self.xy @ b + bb * self.x - a * e
        return Moments(n, self.x - n * a, self.y - n * b, xy, d, e, de, dy, ex)

    def scaled(self, a: float, b: float) -> Moments:
        """The moments of a x_i and b y_i."""
        aa, bb = a * a, b * b
        return Moments(
            self.n,
            a * self.x,
            b * self.y,
            a * b * self.xy,
            aa * self.d,
            bb * self.e,
            aa * bb * self.de,
            aa * b * self.dy,
            bb * a * self.ex,
        )

    def hsic(self, debiased: bool) -> float:
        """HSIC of the linear kernels: for centred rows every row sum of a Gram matrix is minus its
        diagonal, or 0.
        """
        c, n = self.moved(self.x / self.n, self.y / self.n), self.n
        square = np.vdot(c.xy, c.xy)
        if not debiased:
            return finite(square, "HSIC") / (n - 1) ** 2
        terms = square, -n / (n - 2) * c.de, c.d * c.e / ((n - 1) * (n - 2))
        return finite(_beyond_rounding(terms), "HSIC") / (n * (n - 3))


class StreamingCKA:
    """Exact linear CKA of more rows than fit in memory: feed batches, read the result at any time.

    Gives what `cka` gives for all rows at once, whatever the batches, up to rounding. Streams of
    parts of the data can be merged, for instance from several machines.

    Parameters
    ----------
    centres
        (d1,) and (d2,) vectors near the means, if known; default the means of the first batch. They
        affect rounding only.

    Notes
    -----
    Time O(n (d1 + d2)²), memory 3 (d1² + d1 d2 + d2²) numbers at most, whatever n.

    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 5))
    >>> Y = X[:, :3] + rng.normal(size=(300, 3))
    >>> stream = StreamingCKA()
    >>> for start in range(0, 300, 64):
    ...     stream = stream.update(X[start : start + 64], Y[start : start + 64])
    >>> from rali_lab.analysis import cka
    >>> bool(abs(stream.result() - cka(X, Y)) < 1e-12)
    True
    """

    def __init__(self, *, centres: tuple[np.ndarray, np.ndarray] | None = None) -> None:
        self._centres: Any = centres
        # None before the first batch: the units of X and Y, and the moments of (X, X), (X, Y) and
        # (Y, Y).
        self._units: Any = None
        self._moments: Any = None

    @property
    def n(self) -> int:
        """Rows added so far."""
        return self._moments[0].n if self._moments else 0

    def update(self, X, Y) -> StreamingCKA:
        """Add a batch (m, d1), (m, d2) of m >= 1 paired rows, arrays or tensors; checked as in
        `cka`. Returns self.
        """
        X, Y = (matrix(A, name, min_n=1, constant="allow") for A, name in ((X, "X"), (Y, "Y")))
        if len(X) != len(Y):
            raise ValueError(
                f"this batch has {len(X)} rows of X and {len(Y)} of Y, expected the same items in"
                " the same order"
            )
        if self._moments and (X.shape[1], Y.shape[1]) != self._widths:
            raise ValueError(
                f"this batch has {X.shape[1]} and {Y.shape[1]} columns, expected {self._widths} as"
                " before; check the source"
            )
        self.add(X, Y)
        return self

    def add(self, X: np.ndarray, Y: np.ndarray) -> None:
        """`update` for arrays that are checked already."""
        if self._centres is None:
            self._centres = X.mean(axis=0, dtype=np.float64), Y.mean(axis=0, dtype=np.float64)
        X, Y = X - self._centres[0], Y - self._centres[1]
        if self._units is None:
            self._units = tuple(float(np.abs(A).max()) or 1.0 for A in (X, Y))
        X /= self._units[0]
        Y /= self._units[1]
        new = Moments.of(X, X), Moments.of(X, Y), Moments.of(Y, Y)
        self._moments = (
            new
            if self._moments is None
            else tuple(a + b for a, b in zip(self._moments, new, strict=True))
        )

    def merge(self, other: StreamingCKA) -> StreamingCKA:
        """A new stream that holds the rows of both."""
        if not (self.n and other.n):
            full = self if self.n else other
        elif self._widths != other._widths:
            raise ValueError(
                f"the streams have {self._widths} and {other._widths} columns; merge streams of the"
                " same two representations"
            )
        else:
            full = other._around(self._centres, self._units)
            full._moments = tuple(a + b for a, b in zip(self._moments, full._moments, strict=True))
            return full
        return full._around(full._centres, full._units) if full.n else StreamingCKA()

    def result(self, *, debiased: bool = True) -> float:
        """CKA of all rows so far; range, meaning and errors as `cka` with the linear kernel."""
        limit = least(debiased)
        if self.n < limit["min_n"]:
            raise ValueError(f"{limit['why']}, got {self.n}; add batches")
        xx, xy, yy = (m.hsic(debiased) for m in self._moments)
        return align(xy, xx, yy)

    @property
    def _widths(self) -> tuple[int, ...]:
        return self._moments[1].xy.shape

    def _around(self, centres, units) -> StreamingCKA:
        """The same sums around other centres and in other units."""
        moved = StreamingCKA(centres=centres)
        moved._units = units
        by = [
            (c - own) / unit
            for c, own, unit in zip(centres, self._centres, self._units, strict=True)
        ]
        times = [own / unit for own, unit in zip(self._units, units, strict=True)]
        sides = (0, 0), (0, 1), (1, 1)
        moved._moments = tuple(
            m.moved(by[i], by[j]).scaled(times[i], times[j])
            for m, (i, j) in zip(self._moments, sides, strict=True)
        )
        return moved


def minibatch_cka(
    X, Y, *, batch_size: int = 256, n_epochs: int = 1, debiased: bool = True, random_state: int = 0
) -> float:
    """Linear CKA from the mean HSIC of random batches, as in Nguyen et al. (2021), section 3; for
    comparison with that literature.

    The same ends as `cka`, which is exact and rarely slower: use this only to reproduce published
    minibatch values.

    Parameters
    ----------
    X, Y
        (n, d1) and (n, d2) arrays.
    batch_size
        Rows per batch; rows are spread evenly, so that no small last batch is left.
    n_epochs
        Times that all rows are drawn in a new order.
    debiased, random_state
        As `cka`; seed of the order.

    Raises
    ------
    ValueError
        As `cka`; batches of fewer than 4 rows.

    Notes
    -----
    The three HSIC are averaged over batches in float64 *before* the one square root. A root per
    batch, or float32, is what makes other implementations return NaN. O(n (d1 + d2)² ) time at
    most.

    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> round(minibatch_cka(X, 2 * X, batch_size=20), 6)
    1.0
    """
    limit = least(debiased)
    X, Y = pair(X, Y, **limit)
    if batch_size < limit["min_n"]:
        raise ValueError(
            f"{limit['why']} in every batch, got batch_size={batch_size}; pass a larger batch_size"
        )
    rng, terms = np.random.default_rng(random_state), np.zeros(3)
    n_batches = max(1, len(X) // batch_size)
    centres = X.mean(axis=0, dtype=np.float64), Y.mean(axis=0, dtype=np.float64)
    units = None
    for _ in range(n_epochs):
        for rows in np.array_split(rng.permutation(len(X)), n_batches):
            batch = StreamingCKA(centres=centres)
            batch._units = units
            batch.add(X[rows], Y[rows])
            units = batch._units
            terms += [m.hsic(debiased) for m in batch._moments]
    return align(terms[1], terms[0], terms[2])
