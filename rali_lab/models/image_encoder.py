"""RALI's image encoder: a timm trunk and a small head, from images of any size to one embedding.

Nothing of the text side is needed here, so a trained scorer loads without open_clip or a language
model. The two parts are called `trunk` and `head`, as in open_clip's `TimmModel`, and exchange
weights with it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rali_lab.models.towers import squash, to_pixels  # importing it registers our towers with timm

EMBED_DIM = 384
"""Width of the shared space: MiniLM's."""
HIDDEN = 128
"""Width of the head's two hidden layers."""
MIN_SIDE = 32
"""Shortest side of an image in pixels: below it a tower of stride 8 has too few cells."""
SMALL = 200 * 200
"""Pixels up to which one thread is faster than two: such images give a second thread less to do
than its start costs."""


class Head(nn.Sequential):
    """Maps trunk features, limited to +-4 deviations, to the shared space by two hidden layers.

    An image unlike any in training (a procedural one, say) can lie tens of standard deviations out;
    the smooth limit keeps it from ruling the embedding.

    Parameters
    ----------
    n_features : int
        Width of the trunk's features.
    hidden : int
        Width of the hidden layers.
    embed_dim : int
        Width of the shared space.
    curved : bool
        False for a linear map of rank `hidden`, with no activation.
    """

    def __init__(
        self,
        n_features: int,
        hidden: int = HIDDEN,
        embed_dim: int = EMBED_DIM,
        *,
        curved: bool = True,
    ) -> None:
        between = (nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()) if curved else ()
        super().__init__(
            Squash(), nn.Linear(n_features, hidden), *between, nn.Linear(hidden, embed_dim)
        )


class Squash(nn.Module):
    """`rali_lab.models.towers.squash` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        return squash(x)


def image_tower(
    name: str = "lite0_stats_s8",
    *,
    hidden: int = HIDDEN,
    embed_dim: int = EMBED_DIM,
    curved: bool = True,
) -> nn.Sequential:
    """An untrained image encoder: timm's model `name` without classifier, and a `Head`.

    >>> image_tower()(torch.zeros(1, 3, 64, 48)).shape
    torch.Size([1, 384])
    """
    trunk = timm.create_model(name, num_classes=0)
    tower = nn.Sequential(
        OrderedDict(trunk=trunk, head=Head(trunk.num_features, hidden, embed_dim, curved=curved))
    )
    tower.trunk_name = name
    return tower


def encode(visual: nn.Module, images: Sequence[np.ndarray]) -> Tensor:
    """Output of `visual` for images of possibly different sizes, (n, d), in their order; gradients
    pass.

    >>> encode(image_tower().eval(), [np.zeros((40, 48, 3), np.uint8)] * 2).shape
    torch.Size([2, 384])
    """
    device = next(visual.parameters()).device
    order, parts = [], []
    for rows in _same_size(images):
        order += rows
        parts.append(visual(to_pixels([images[i] for i in rows]).to(device)))
    return torch.cat(parts)[torch.tensor(order, device=device).argsort()]


@torch.inference_mode()
def embed_images(model: nn.Module, images: Sequence[np.ndarray], *, batch: int = 2) -> np.ndarray:
    """Embeddings of images at their native resolution, of length 1.

    Parameters
    ----------
    model : nn.Module
        An open_clip model, its `.visual`, or an `image_tower`. Its training mode is restored.
    images : sequence of np.ndarray
        The n arrays (H, W, 3) uint8, of any sizes from 32 px on.
    batch : int
        Images in memory at a time. Small on purpose: it bounds the peak memory and costs no speed
        on a CPU.

    Returns
    -------
    np.ndarray
        (n, d) float32.

    Raises
    ------
    ValueError
        On an image of another shape, type or size, naming its position in the list.

    Examples
    --------
    >>> embed_images(image_tower(), []).shape
    (0, 384)
    """
    check_images(images)
    visual = getattr(model, "visual", model)
    if not len(images):
        return np.zeros((0, visual.head[-1].out_features), np.float32)
    training = visual.training
    visual.eval()
    out: list[np.ndarray | None] = [None] * len(images)
    for rows in _same_size(images):
        for start in range(0, len(rows), batch):
            chunk = rows[start : start + batch]
            with _threads_for(images[chunk[0]]):
                z = F.normalize(encode(visual, [images[i] for i in chunk]).float(), dim=-1)
            for i, row in zip(chunk, z.cpu().numpy(), strict=True):
                out[i] = row
    visual.train(training)
    return np.stack(out)


@contextmanager
def _threads_for(image: np.ndarray) -> Iterator[None]:
    """One thread for a small image; torch's own number before and after."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if image.shape[0] * image.shape[1] <= SMALL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_images(images: Sequence[np.ndarray]) -> None:
    """Raise ValueError unless every image is (H, W, 3) uint8 with both sides of at least 32 px.

    >>> check_images([np.zeros((8, 64, 3), np.uint8)])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: image 0 is 64 x 8 pixels, at least 32 x 32 are needed; leave it out ...
    """
    if isinstance(images, np.ndarray) and images.ndim == 3:
        raise ValueError(
            f"expected a list of images, got one array of shape {images.shape}; write [image]"
        )
    for i, p in enumerate(images):
        if not isinstance(p, np.ndarray) or p.dtype != np.uint8 or p.ndim != 3 or p.shape[2] != 3:
            found = f"{p.shape} {p.dtype}" if isinstance(p, np.ndarray) else type(p).__name__
            raise ValueError(
                f"image {i}: expected a (H, W, 3) uint8 array, got {found}; read files with"
                " read_image"
            )
        if min(p.shape[:2]) < MIN_SIDE:
            raise ValueError(
                f"image {i} is {p.shape[1]} x {p.shape[0]} pixels, at least {MIN_SIDE} x {MIN_SIDE}"
                " are needed; leave it out or give the original size"
            )


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Merge every batch norm into the convolution before it, in place; exact up to rounding, for
    inference only.

    timm's `BatchNormAct2d` holds an activation, which is kept. `module` must be in eval mode.
    Registration order is taken for execution order, as it is in timm's EfficientNets.

    >>> tower, x = image_tower().eval(), torch.rand(1, 3, 64, 64)
    >>> before = tower(x)
    >>> torch.allclose(before, fold_batch_norm(tower)(x), atol=1e-5)
    True
    """
    previous = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and isinstance(previous, nn.Conv2d):
            conv_name = next(n for n, c in module.named_children() if c is previous)
            setattr(module, conv_name, fuse_conv_bn_eval(previous, child))
            setattr(module, name, getattr(child, "act", nn.Identity()))
        elif not isinstance(child, nn.Identity):
            fold_batch_norm(child)
        previous = previous if isinstance(child, nn.Identity) else child
    return module


def _same_size(images: Sequence[np.ndarray]) -> Iterator[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, p in enumerate(images):
        groups.setdefault(p.shape, []).append(i)
    yield from groups.values()
