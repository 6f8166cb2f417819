"""Dynamic basis selection, a next step that the paper names: other weights of the same basis
vectors for one image.

All keep the fitted basis and change the weights alone; `rali_lab.rali.basis.softmax_weights` is the
fixed rule they are compared with. Every function takes `z`, (n, d) compressed embeddings, and
`vectors`, (k, d), and returns (n, k), rows summing to 1.
"""

from __future__ import annotations

import numpy as np

from rali_lab.rali.basis import TAU, softmax_weights


def nearest_weights(
    z: np.ndarray, vectors: np.ndarray, *, tau: float = TAU, k: int = 5
) -> np.ndarray:
    """The softmax among the `k` nearest basis vectors of each image alone (selection by distance).

    >>> vectors = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    >>> nearest_weights(np.array([[1.0, 0.1]]), vectors, tau=1.0, k=1).tolist()
    [[1.0, 0.0, 0.0]]
    """
    if not 1 <= k <= len(vectors):
        raise ValueError(f"k must be 1..{len(vectors)}, the number of basis vectors, got {k}")
    weights = softmax_weights(z, vectors, tau=tau)
    smallest_kept = np.sort(weights, axis=1)[:, -k, None]
    kept = np.where(weights >= smallest_kept, weights, 0.0)
    return kept / kept.sum(axis=1, keepdims=True)


def entropy_weights(
    z: np.ndarray, vectors: np.ndarray, *, entropy: float, low: float = 1e-3, high: float = 1e3
) -> np.ndarray:
    """A temperature of its own for every image, so that the weights of all have the same entropy
    (selection by certainty).

    Solved by bisection on the logarithm of the temperature, with which the entropy grows.

    Parameters
    ----------
    z, vectors : np.ndarray
        (n, d) and (k, d).
    entropy : float
        In nats, 0 < entropy < log(k).
    low, high : float
        Range of the temperature.

    Examples
    --------
    >>> w = entropy_weights(np.array([[1.0, 0.2], [0.3, 1.0]]), np.eye(2), entropy=0.5)
    >>> (-(w * np.log(w)).sum(axis=1)).round(3).tolist()
    [0.5, 0.5]
    """
    if not 0 < entropy < np.log(len(vectors)):
        raise ValueError(
            f"entropy must be between 0 and log({len(vectors)}) = {np.log(len(vectors)):.2f}, got"
            f" {entropy}"
        )
    bottom, top = np.full(len(z), np.log(low)), np.full(len(z), np.log(high))
    cosines = np.log(softmax_weights(z, vectors, tau=1.0))  # up to a constant of each row
    for _ in range(60):
        middle = (bottom + top) / 2
        weights = _softmax(cosines / np.exp(middle)[:, None])
        too_flat = -(weights * np.log(np.maximum(weights, 1e-300))).sum(axis=1) > entropy
        bottom, top = np.where(too_flat, bottom, middle), np.where(too_flat, middle, top)
    return weights


def domain_weights(
    z: np.ndarray, vectors: np.ndarray, *, tau: float = TAU, strength: float = 1.0
) -> np.ndarray:
    """The mean weight of each vector over all of `z` as a prior (selection by domain, without
    labels).

    `strength` is the prior's exponent, 0 for none. Transductive: the score of an image then depends
    on the others, so give one domain at a time.

    >>> z, v = np.array([[1.0, 0.1]] * 9 + [[0.1, 1.0]]), np.eye(2)
    >>> bool(domain_weights(z, v, tau=0.5)[9, 0] > softmax_weights(z, v, tau=0.5)[9, 0])
    True
    """
    weights = softmax_weights(z, vectors, tau=tau)
    weights = weights * weights.mean(axis=0) ** strength
    return weights / weights.sum(axis=1, keepdims=True)


def _softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)
