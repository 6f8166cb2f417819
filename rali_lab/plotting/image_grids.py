"""Sheets of images: check the data before any number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from rali_lab.plotting.style import MUTED, caption, panels, styled

LEVELS = ("1 slight", "2 moderate", "3 obvious", "4 serious", "5 catastrophic")


@styled
def plot_images_grid(
    images: Sequence[np.ndarray],
    captions: Sequence[str] | None = None,
    *,
    columns: int = 5,
    note: str = "",
) -> Figure:
    """Images in rows, each (H, W, 3) or (H, W) uint8, with a caption of one or two short lines
    above it.
    """
    if captions is not None and len(captions) != len(images):
        raise ValueError(
            f"got {len(captions)} captions for {len(images)} images; give one each, or none"
        )
    lines = max((text.count("\n") + 1 for text in captions or []), default=0)
    fig, axes = panels(len(images), columns=columns, size=(1.75, 1.75 + 0.17 * lines))
    for i, (ax, image) in enumerate(zip(axes, images, strict=True)):
        _show(ax, image)
        if captions is not None:
            ax.set_title(captions[i], fontsize=8, fontweight="normal")
    caption(fig, note)
    return fig


@styled
def plot_distortion_sheet(
    sheet: Mapping[str, Sequence[np.ndarray]], *, pristine: np.ndarray | None = None, note: str = ""
) -> Figure:
    """Distortions down, severities across: ``{name: five uint8 images, mildest first}``."""
    if wrong := {name: len(row) for name, row in sheet.items() if len(row) != len(LEVELS)}:
        raise ValueError(f"expected {len(LEVELS)} severities for each distortion, got {wrong}")
    rows = [[pristine, *row] if pristine is not None else list(row) for row in sheet.values()]
    heads = ["pristine", *LEVELS] if pristine is not None else list(LEVELS)
    fig = Figure(figsize=(1.3 * len(heads) + 1.1, 1.3 * len(rows) + 0.4), layout="constrained")
    fig.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    axes = fig.subplots(len(rows), len(heads), squeeze=False)
    for line, row, name in zip(axes, rows, sheet, strict=True):
        for ax, image in zip(line, row, strict=True):
            _show(ax, image)
        line[0].set_ylabel(name.replace("_", " "), rotation=0, ha="right", va="center", fontsize=9)
    for ax, head in zip(axes[0], heads, strict=True):
        ax.set_title(head, fontsize=9, fontweight="normal")
    caption(fig, note)
    return fig


def _show(ax, image: np.ndarray) -> None:
    ax.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set(visible=True, color=MUTED, linewidth=0.5)
