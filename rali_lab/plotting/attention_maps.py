"""Where a score comes from, drawn: attention over words and over images, and what happens when
something is taken away.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from rali_lab.plotting.style import INK, METHODS, caption, panels, styled

GROUPS = {
    "sink": "#9ca3af",
    "image": "#44aa99",
    "prompt": "#ddcc77",
    "reasoning": "#332288",
    "format": "#cc6677",
    "score": "#aa4499",
}
"""Colour of every kind of token (`rali_lab.interpret.GROUPS`), one meaning in all figures."""


@styled
def plot_score_attention(
    tokens: Sequence[str],
    groups: Sequence[str],
    weights: np.ndarray,
    *,
    title: str = "",
    note: str = "",
    widest: int = 60,
) -> Figure:
    """Attention of the score tokens to every other token: heads down (layer by layer), tokens
    across, their kinds as colours below.

    Parameters
    ----------
    tokens, groups, weights
        Of a `rali_lab.interpret.ScoreRow`; weights (layers, heads, tokens). Neighbouring image
        tokens are drawn as one column that holds their sum, so that hundreds of them still fit.
    title
        Above the panel.
    note
        Appended to the caption.
    widest
        Tokens a line at most.
    """
    tokens, groups, weights = _image_as_one(tokens, groups, weights)
    if len(tokens) > widest:
        raise ValueError(
            f"{len(tokens)} tokens are too many to read, at most {widest}; take a shorter answer or"
            " raise `widest`"
        )
    layers, heads, n = weights.shape
    fig = Figure(figsize=(1.6 + 0.23 * n, 1.9 + 0.13 * layers * heads), layout="constrained")
    ratios = {"height_ratios": [layers * heads, 0.9]}
    top, band = fig.subplots(2, 1, sharex=True, gridspec_kw=ratios)
    span = {"vmin": 0, "vmax": max(0.3, float(np.quantile(weights, 0.995)))}
    image = top.imshow(weights.reshape(-1, n), aspect="auto", cmap="magma_r", **span)
    top.grid(False)
    for layer in range(1, layers):
        top.axhline(layer * heads - 0.5, color="white", lw=2)
    middles = [heads * (i + 0.5) - 0.5 for i in range(layers)]
    top.set_yticks(middles, [f"layer {i + 1}" for i in range(layers)])
    top.set_title(title)
    fig.colorbar(image, ax=top, label="attention", shrink=0.8, pad=0.01)
    for i, group in enumerate(groups):
        band.bar(i, 1, width=1, color=GROUPS[group], lw=0)
    band.set(yticks=[], ylim=(0, 1), xlim=(-0.5, n - 0.5))
    font = {"rotation": 90, "fontsize": 7.5, "family": "DejaVu Sans Mono"}
    band.set_xticks(range(n), [t.replace("$", r"\$") for t in tokens], **font)
    band.grid(False)
    _legend(fig, [g for g in GROUPS if g in groups])
    caption(fig, note)
    return fig


def _legend(fig: Figure, groups: list[str]) -> None:
    handles = [Patch(color=GROUPS[g], label=g) for g in groups]
    fig.legend(handles=handles, loc="outside upper center", ncols=len(groups))


def _image_as_one(tokens, groups, weights):
    at = [i for i, g in enumerate(groups) if g == "image"]
    if not at:
        return list(tokens), list(groups), weights
    kept = [i for i, g in enumerate(groups) if g != "image" or i == at[0]]
    merged = weights.copy()
    merged[..., at[0]] = weights[..., at].sum(-1)
    names = [f"image ({len(at)})" if i == at[0] else repr(tokens[i])[1:-1] for i in kept]
    return names, [groups[i] for i in kept], merged[..., kept]


@styled
def plot_image_attention(
    images: Sequence[np.ndarray],
    weights: Sequence[np.ndarray],
    captions: Sequence[str] | None = None,
    *,
    columns: int = 4,
    note: str = "",
) -> Figure:
    """Attention of the score tokens over the image: each image with its (rows, columns) attention
    per token laid over it.

    Darkened where attention is below the image's own maximum; the caption should carry how much
    there is in all.
    """
    if len(images) != len(weights):
        raise ValueError(f"{len(images)} images but {len(weights)} attention grids; give one each")
    fig, axes = panels(len(images), columns=columns, size=(2.0, 2.25))
    for i, (ax, image, grid) in enumerate(zip(axes, images, weights, strict=True)):
        h, w = image.shape[:2]
        ax.imshow(image, interpolation="nearest", extent=(0, w, h, 0))
        ax.imshow(
            np.zeros((*grid.shape, 3)),
            alpha=0.75 * (1 - grid / max(float(grid.max()), 1e-12)),
            extent=(0, w, h, 0),
            interpolation="nearest",
        )
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
        if captions is not None:
            ax.set_title(captions[i], fontsize=8, fontweight="normal")
    caption(fig, note)
    return fig


@styled
def plot_token_shares(data: pd.DataFrame, *, note: str = "") -> Figure:
    """Share of attention by kind of token, one stacked bar per method, and the same per token (1 =
    an even spread).

    Parameters
    ----------
    data
        Columns method, group, share (sums to 1 within a method), per_token.
    note
        Appended to the caption.
    """
    methods = [m for m in METHODS if m in set(data["method"])]
    fig = Figure(figsize=(9.0, 1.5 + 0.5 * len(methods)), layout="constrained")
    left, right = fig.subplots(1, 2)
    for y, method in enumerate(methods):
        rows, start = data[data["method"] == method].set_index("group"), 0.0
        for group, color in GROUPS.items():
            share = float(rows.loc[group, "share"])
            left.barh(y, share, left=start, color=color, height=0.62, edgecolor="white")
            if share > 0.045:
                font = {"ha": "center", "va": "center", "color": "white", "fontsize": 8.5}
                left.text(start + share / 2, y, f"{100 * share:.0f}", **font)
            start += share
    wide = 0.8 / len(methods)
    for k, method in enumerate(methods):
        rows = data[data["method"] == method].set_index("group").loc[list(GROUPS)]
        at = np.arange(len(GROUPS)) + (k - (len(methods) - 1) / 2) * wide
        color, label = METHODS[method].color, METHODS[method].label
        right.bar(at, rows["per_token"], width=0.9 * wide, color=color, label=label)
    left.set_yticks(range(len(methods)), [METHODS[m].label for m in methods])
    left.set(xlim=(0, 1), xlabel="share of attention (figures: %)")
    left.invert_yaxis()
    left.grid(axis="y", visible=False)
    right.axhline(1, color=INK, lw=1, ls="--")
    right.set(ylabel="per token, 1 = even")
    right.set_xticks(range(len(GROUPS)), list(GROUPS), fontsize=8.5)
    right.grid(axis="x", visible=False)
    right.legend()
    _legend(fig, list(GROUPS))
    caption(fig, note)
    return fig
