"""Do images and texts share one region of the joint space, or sit in two?"""

from __future__ import annotations

import numpy as np

from rali_lab.analysis.distances import squared_distances, unit_rows
from rali_lab.analysis.inputs import blocks, matrix, pair, same_width
from rali_lab.analysis.significance import null_fields
from rali_lab.estimate import Estimate


def modality_gap(
    X, Y, *, paired: bool = True, n_permutations: int = 200, random_state: int = 0
) -> Estimate:
    """Distance of the centroids of two sets of embeddings on the unit sphere.

    0: the same centre; 2: all rows of each in one point, opposite each other. Even without a gap it
    is a little above 0, the more the fewer rows: that is the null.

    Parameters
    ----------
    X, Y
        (n, d) and (m, d) arrays, such as images and texts; rows are normalised here.
    paired
        Row i of both is one item (n = m), and the null swaps the modality label inside random
        pairs; else it deals the labels anew to all rows.
    n_permutations, random_state
        Draws of the null; seed.

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        Bad arrays, different widths, rows of zeros, ``paired`` with different n.

    Notes
    -----
    Liang et al. (2022). The gap depends on the temperature of the training and is closed by
    subtracting each modality's mean (`close_gap`), so by itself it says nothing about retrieval or
    quality. O((n + m) d) time per draw.

    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(50, 8))
    >>> print(modality_gap(X + 1, X - 1, n_permutations=99))  # doctest: +ELLIPSIS
    modality gap 1.4..., null ..., p = 0.01, n = 100
    """
    X, Y = _same_space(X, Y)
    if paired and len(X) != len(Y):
        raise ValueError(
            f"X has {len(X)} rows and Y {len(Y)}, expected pairs; pass paired=False for unpaired"
            " sets"
        )
    X, Y, rng = unit_rows(X, "X"), unit_rows(Y, "Y"), np.random.default_rng(random_state)
    value = float(np.linalg.norm(X.mean(axis=0) - Y.mean(axis=0)))
    if paired:
        signs = rng.choice([-1.0, 1.0], size=(n_permutations, len(X)))
        null = np.linalg.norm(signs @ (X - Y) / len(X), axis=1)
    else:
        both, n = np.concatenate([X, Y]), len(X)
        draws = (rng.permutation(len(both)) for _ in range(n_permutations))
        null = np.array(
            [np.linalg.norm(both[o[:n]].mean(axis=0) - both[o[n:]].mean(axis=0)) for o in draws]
        )
    return Estimate("modality gap", value, n=len(X) + len(Y), **null_fields(value, null))


def close_gap(X, Y) -> tuple[np.ndarray, np.ndarray]:
    """Both sets on the unit sphere, each minus its own mean and normalised again: (n, d), (m, d).

    Raises as `modality_gap`; also if a row equals its mean. The centroids that remain differ a
    little, by the last normalisation.

    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(50, 8)) + 1, rng.normal(size=(50, 8)) - 1
    >>> modality_gap(X, Y).value > 3 * modality_gap(*close_gap(X, Y)).value
    True
    """
    X, Y = (unit_rows(A, name) for A, name in zip(_same_space(X, Y), ("X", "Y"), strict=True))
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    return unit_rows(X, "X minus its mean"), unit_rows(Y, "Y minus its mean")


def alignment(X, Y) -> float:
    """Mean squared distance of paired rows (n, d) on the unit sphere, in [0, 4]; 0: the members of
    every pair coincide.

    Wang & Isola (2020), alpha = 2. Raises as `modality_gap`. Two independent uniform sets get 2.

    >>> alignment([[1., 0.], [0., 1.]], [[2., 0.], [0., -1.]])
    2.0
    """
    X, Y = pair(X, Y)
    same_width(X, Y, "one joint space")
    return float(np.mean(np.sum((unit_rows(X, "X") - unit_rows(Y, "Y")) ** 2, axis=1)))


def uniformity(X) -> float:
    """log of the mean of exp(-2 distance²) over pairs of rows (n, d) on the unit sphere, in [-8,
    0].

    0: all rows in one direction; about -4: spread evenly in many dimensions. Wang & Isola (2020), t
    = 2. O(n² d) time in blocks.

    >>> round(uniformity([[1., 0.], [-1., 0.]]), 3)
    -8.0
    """
    X = unit_rows(matrix(X, constant="allow"))
    n = len(X)
    total = sum(np.exp(-2 * squared_distances(X[part], X)).sum() for part in blocks(n, n)) - n
    return float(np.log(total / (n * (n - 1))))


def _same_space(X, Y) -> tuple[np.ndarray, np.ndarray]:
    X, Y = (matrix(A, name, constant="allow") for A, name in ((X, "X"), (Y, "Y")))
    same_width(X, Y, "one joint space")
    return X, Y
