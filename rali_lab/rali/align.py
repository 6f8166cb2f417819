"""Contrastive alignment of the image encoder with the reasoner's texts: step 1 of RALI."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from torch import Tensor, nn

from rali_lab.models.clip import embed_texts
from rali_lab.models.image_encoder import check_images, embed_images, encode
from rali_lab.models.optimiser import ScheduledAdamW
from rali_lab.models.towers import StatTower

MAX_LOGIT_SCALE = math.log(100)
"""Upper bound of the learned log inverse temperature, as in CLIP."""

Texts = Sequence[str] | Sequence[Sequence[str]]


class SharedTextClipLoss(ClipLoss):
    """open_clip's `ClipLoss` for texts that repeat: images with one text share its target evenly.

    Rationales come from a small vocabulary, so a batch holds equal ones. With a frozen text tower,
    where equal texts have equal embeddings, value and gradient are those of `ClipLoss` (notebook 06
    asserts it). They differ once the text tower is trained.

    >>> x, y = F.normalize(torch.eye(4, 8) + 0.1, dim=-1), F.normalize(torch.eye(4, 8), dim=-1)
    >>> shared = SharedTextClipLoss()(x, y, 10.0, torch.arange(4))
    >>> bool(torch.isclose(shared, ClipLoss()(x, y, 10.0)))
    True
    """

    def forward(
        self, image_features: Tensor, text_features: Tensor, logit_scale, text_ids: Tensor
    ) -> Tensor:
        """(b, d) embeddings of length 1, the scale of their cosines, and (b,) integers that are
        equal for equal texts.
        """
        same = (text_ids[:, None] == text_ids[None, :]).float()
        self.targets = same / same.sum(dim=1, keepdim=True)
        return super().forward(image_features, text_features, logit_scale)

    def get_ground_truth(self, device, num_logits) -> Tensor:
        return self.targets.to(device)


def align(
    model: nn.Module,
    images: Sequence[np.ndarray] | np.ndarray,
    texts: Texts,
    *,
    epochs: int = 60,
    lr: float = 1e-3,
    batch_size: int = 256,
    weight_decay: float = 1e-2,
    temperature: float | None = None,
    train: str = "head",
    anchor: float = 0.0,
    jitter: float = 0.6,
    seed: int = 0,
    holdout: tuple[Sequence[np.ndarray], Texts] | None = None,
) -> pd.DataFrame:
    """Train the image encoder so that an image's embedding lies near the text that the reasoner
    wrote about it.

    AdamW with a cosine learning rate on `SharedTextClipLoss` against frozen text embeddings. Trunk
    features are computed once when only the head is trained. The trunk of a `StatTower` that was
    never standardised is standardised on these images first. Batch norms keep their statistics.

    Parameters
    ----------
    model : open_clip.CustomTextCLIP
        From `build_clip`; changed in place, left in eval mode.
    images : sequence of np.ndarray
        The n arrays (H, W, 3) uint8 of at least 32 px, of any sizes; or, for train="head", the
        features of a `StatTower` before standardisation, one (n, d) array
        (`rali_lab.rali.baselines.visual_features`).
    texts : sequence
        One string per image, or a sequence of strings per image, of which each epoch draws one
        ("seed augmentation" in the paper).
    epochs, lr, batch_size, weight_decay : int, float, int, float
        Of the training; 60 epochs of the head on 2000 images take 4 to 7 s on one core.
    temperature : float, optional
        Start of the learned temperature, ``exp(-logit_scale)``; None continues from the model's
        (0.07 at first).
    train : str
        "head" or "all" (trunk too: slow on a CPU, images of one batch are held in memory).
    anchor : float
        Weight of the squared distance of all trained weights to their start. Above 0 keeps a
        pretrained trunk near its start.
    jitter : float
        Standard deviation of the noise added to standardised trunk features (train="head" only;
        ours, not the paper's). It keeps a small head from overfitting the training images.
    seed : int
        Of the shuffling, drawing and noise. Multi-threaded sums may differ in the last digits
        between machines.
    holdout : tuple, optional
        Images and texts measured after every epoch, never trained on.

    Returns
    -------
    pd.DataFrame
        One row per epoch: epoch, loss, temperature, lr, seconds, and with a holdout its
        holdout_loss and holdout_top1, the share of images whose nearest text among the different
        holdout texts is one of their own.

    Raises
    ------
    ValueError
        On lists of different lengths, an image without text, or an unknown `train`.

    Examples
    --------
    >>> from rali_lab.models.clip import build_clip
    >>> model, _ = build_clip()
    >>> dark, light = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
    >>> history = align(model, [dark, light], ["a dark image", "a bright image"], epochs=5)
    >>> bool(history.loss.iloc[-1] < history.loss.iloc[0])
    True
    """
    if train != "head" and _is_statistics(images):
        raise ValueError(f'statistics train the head alone, got train="{train}"; give images')
    pairs = _Pairs(model, images, texts)
    held = None if holdout is None else _Pairs(model, *holdout)
    steps = math.ceil(len(images) / batch_size)
    trained, scale = _unfreeze(model, train), model.logit_scale.requires_grad_(True)
    start = [p.detach().clone() for p in trained]
    optimiser = ScheduledAdamW(
        [{"params": trained}, {"params": [scale], "weight_decay": 0.0}],
        lr=lr,
        steps=epochs * steps,
        weight_decay=weight_decay,
    )
    if temperature is not None:
        scale.data.fill_(-math.log(temperature))
    _prepare(model.visual.trunk, [p for p in (pairs, held) if p is not None], keep=train == "head")
    rng, noise = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    rows, contrast, began = [], SharedTextClipLoss(), time.perf_counter()
    for epoch in range(1, epochs + 1):
        total, drawn, rate = 0.0, pairs.draw(rng), optimiser.lr
        for batch in np.array_split(rng.permutation(len(images)), steps):
            z = F.normalize(pairs.embed(model, batch, jitter, noise), dim=-1)
            loss = contrast(z, pairs.z[drawn[batch]], scale.exp(), drawn[batch])
            total += loss.item() * len(batch)
            if anchor:
                moved = (((p - p0) ** 2).sum() for p, p0 in zip(trained, start, strict=True))
                loss = loss + anchor * sum(moved)
            optimiser.step(loss)
            scale.data.clamp_(0, MAX_LOGIT_SCALE)
        row = {"epoch": epoch, "loss": total / len(images), "temperature": (-scale).exp().item()}
        row |= {"lr": rate, "seconds": time.perf_counter() - began}
        rows.append(row | (held.measure(model) if held is not None else {}))
    return pd.DataFrame(rows)


def _unfreeze(model: nn.Module, train: str) -> list[nn.Parameter]:
    """Freeze the model but for its head, or its whole image encoder; returns what is trained."""
    if train not in ("head", "all"):
        raise ValueError(f'train must be "head" or "all", got {train!r}')
    model.eval().requires_grad_(False)
    part = model.visual.head if train == "head" else model.visual
    return list(part.requires_grad_(True).parameters())


class _Pairs:
    """Images with their possible texts: embedded texts `z`, once each, and the texts' indices per
    image.
    """

    def __init__(
        self, model: nn.Module, images: Sequence[np.ndarray] | np.ndarray, texts: Texts
    ) -> None:
        if not _is_statistics(images):
            check_images(images)
        if len(images) != len(texts) or not len(images):
            raise ValueError(
                f"expected one text (or list) per image, got {len(texts)} for {len(images)} images"
            )
        own = [[t] if isinstance(t, str) else list(t) for t in texts]
        if not all(own):
            first = [bool(o) for o in own].index(False)
            raise ValueError(f"image {first} has no text; leave it out of the alignment")
        vocabulary = list(dict.fromkeys(t for o in own for t in o))
        position = {t: i for i, t in enumerate(vocabulary)}
        self.images, self.features = images, None
        self.choices = [[position[t] for t in o] for o in own]
        self.z = torch.from_numpy(embed_texts(model, vocabulary)).to(model.logit_scale.device)

    def draw(self, rng: np.random.Generator) -> Tensor:
        return torch.tensor([c[rng.integers(len(c))] for c in self.choices], device=self.z.device)

    def embed(
        self, model: nn.Module, rows: np.ndarray, jitter: float, noise: torch.Generator
    ) -> Tensor:
        if self.features is None:
            return encode(model.visual, [self.images[i] for i in rows])
        x = self.features[torch.from_numpy(rows).to(self.z.device)]
        if jitter:
            x = x + jitter * torch.randn(x.shape, generator=noise).to(x.device)
        return model.visual.head(x)

    @torch.no_grad()
    def measure(self, model: nn.Module) -> dict[str, float]:
        """Loss on every image's first text, and the share of images whose nearest text is one of
        their own.
        """
        if self.features is None:
            z = torch.from_numpy(embed_images(model, self.images)).to(self.z.device)
        else:
            z = F.normalize(model.visual.head(self.features), dim=-1)
        first = torch.tensor([c[0] for c in self.choices], device=z.device)
        loss = SharedTextClipLoss()(z, self.z[first], model.logit_scale.exp(), first).item()
        nearest = (z @ self.z.T).argmax(dim=1).tolist()
        hits = [n in c for n, c in zip(nearest, self.choices, strict=True)]
        return {"holdout_loss": loss, "holdout_top1": float(np.mean(hits))}


@torch.no_grad()
def _prepare(trunk: nn.Module, sets: list[_Pairs], *, keep: bool) -> None:
    """Standardise a fresh `StatTower` on the first set; with `keep`, store every set's features."""
    fresh = isinstance(trunk, StatTower) and bool((trunk.stat_std == 1).all())
    if fresh:
        raw = _features(trunk, sets[0].images)
        trunk.stat_mean.copy_(raw.mean(dim=0))
        trunk.stat_std.copy_(raw.std(dim=0, correction=0).clamp_min(1e-3))
    for i, pairs in enumerate(sets if keep else ()):
        known = fresh and i == 0
        pairs.features = (
            (raw - trunk.stat_mean) / trunk.stat_std if known else _features(trunk, pairs.images)
        )


def _is_statistics(images: Sequence[np.ndarray] | np.ndarray) -> bool:
    return isinstance(images, np.ndarray) and images.ndim == 2


def _features(trunk: nn.Module, images: Sequence[np.ndarray] | np.ndarray) -> Tensor:
    if _is_statistics(images):
        x = torch.from_numpy(images).float().to(trunk.stat_mean.device)
        if x.shape[1] != trunk.num_features:
            raise ValueError(
                f"statistics have {x.shape[1]} columns, this trunk makes {trunk.num_features}; use"
                " the same tower for both"
            )
        return (x - trunk.stat_mean) / trunk.stat_std
    return torch.cat([encode(trunk, [p]) for p in images])
