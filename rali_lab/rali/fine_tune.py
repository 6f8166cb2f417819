"""Basis vectors and basis scores fitted end to end by the squared error of the scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from rali_lab.rali.basis import softmax_score

if TYPE_CHECKING:
    import pandas as pd

LOWEST, HIGHEST = 1.0, 5.0
"""Range of opinion scores, and of basis scores while they are trained."""
BATCH_SIZE = 128


def fine_tune(
    vectors: np.ndarray,
    scores: np.ndarray,
    z: np.ndarray,
    mos: np.ndarray,
    *,
    tau: float,
    epochs: int,
    lr: float,
    seed: int,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Adam on basis vectors and scores; the epoch with the least validation error is kept.

    Parameters
    ----------
    vectors, scores : np.ndarray
        (k, d) and (k,) to start from.
    z, mos : np.ndarray
        (n, d) compressed embeddings and (n,) scores to train on.
    tau : float
        Temperature of the softmax.
    epochs : int
        0 leaves the basis as it is.
    lr : float
        Learning rate.
    seed : int
        Of the shuffling.
    validation : tuple of np.ndarray, optional
        Embeddings and scores held out. Without it the last epoch is kept.

    Returns
    -------
    vectors, scores : np.ndarray
        The trained basis.
    history : pd.DataFrame
        One row per epoch from 0: epoch, train_mse, validation_mse (NaN without validation).
    """
    import pandas as pd

    def errors(epoch: int) -> dict[str, float]:
        def mse(z: np.ndarray, mos: np.ndarray) -> float:
            return float(np.mean((softmax_score(z, vectors, scores, tau=tau) - mos) ** 2))

        held = mse(*validation) if validation else np.nan
        return {"epoch": epoch, "train_mse": mse(z, mos), "validation_mse": held}

    basis = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (vectors, scores)]
    optimiser, rng = torch.optim.Adam(basis, lr=lr), np.random.default_rng(seed)
    z_all, mos_all = torch.as_tensor(z, dtype=torch.float64), torch.as_tensor(mos)
    rows, best = [errors(0)], (vectors, scores)
    for epoch in range(1, epochs + 1):
        for batch in torch.from_numpy(rng.permutation(len(z))).split(BATCH_SIZE):
            optimiser.zero_grad()
            F.mse_loss(softmax_score(z_all[batch], *basis, tau=tau), mos_all[batch]).backward()
            optimiser.step()
            basis[1].data.clamp_(LOWEST, HIGHEST)
        vectors, scores = (b.detach().numpy().copy() for b in basis)
        rows.append(errors(epoch))
        if validation is None or rows[-1]["validation_mse"] <= min(
            row["validation_mse"] for row in rows
        ):
            best = vectors, scores
    return *best, pd.DataFrame(rows)


def check_scores(mos: np.ndarray, n: int) -> np.ndarray:
    """(n,) scores as float64; ValueError on another number of them or one outside 1..5."""
    mos = np.asarray(mos, dtype=np.float64)
    if mos.shape != (n,):
        raise ValueError(f"expected {n} scores, one per image, got shape {mos.shape}")
    bad = ~((mos >= LOWEST) & (mos <= HIGHEST))
    if bad.any():
        i = int(bad.argmax())
        raise ValueError(
            f"score {i} is {mos[i]}, expected {LOWEST:g}..{HIGHEST:g}; rescale the scores, drop"
            " unrated images"
        )
    return mos
