"""The small CLIP that RALI starts from: its head aligned with descriptions of the base corpus.

RALI fine-tunes OpenAI's CLIP, which has seen hundreds of millions of captioned images. Nothing of
the kind fits here, so the head is pretrained contrastively on the base corpus: images against
MiniLM embeddings of their descriptions, without any score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import open_clip

from rali_lab.data.records import Distortion
from rali_lab.models.clip import build_clip
from rali_lab.rali.align import align
from rali_lab.reasoner.prompts import describe, findings


def pretrain_clip(
    statistics: np.ndarray,
    distortions: Sequence[Sequence[Distortion]],
    *,
    epochs: int,
    noise: float = 0.2,
    batch_size: int = 512,
    seed: int = 0,
    report: Callable[[str], None] = print,
) -> open_clip.CustomTextCLIP:
    """`rali_lab.rali.align.align` of a fresh head with one description per corpus image.

    Parameters
    ----------
    statistics : np.ndarray
        (n, 196) raw statistics of the corpus images; the trunk is standardised on them.
    distortions : sequence
        Of each image.
    epochs, batch_size : int
        Of the training.
    noise : float
        Of `scripts.base_model.perception.perturb`, which adds it twice to statistics without
        cells.
    seed : int
        Of the head, the descriptions and the training.
    report : callable
        Gets a line for every fifth epoch.

    Returns
    -------
    open_clip.CustomTextCLIP
        For `rali_lab.models.clip.save_base_clip`.
    """
    rng = np.random.default_rng(seed)
    texts = [describe(findings(d), rng) for d in distortions]
    model, _ = build_clip(seed=seed)
    history = align(
        model,
        statistics,
        texts,
        epochs=epochs,
        lr=2e-3,
        batch_size=batch_size,
        weight_decay=0.02,
        temperature=0.03,
        jitter=noise * 2**0.5,
        seed=seed,
    )
    for row in history.itertuples():
        if row.epoch % 5 == 0 or row.epoch == epochs:
            report(
                f"clip epoch {row.epoch}: loss {row.loss:.3f}, temperature {row.temperature:.3f}"
            )
    return model
