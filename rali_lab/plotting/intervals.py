"""What a change does: effects with their intervals, and a setting varied over its range."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from rali_lab.plotting.style import GRID, INK, METHODS, MUTED, caption, panels, style_of, styled


@styled
def plot_effects(
    data: pd.DataFrame,
    *,
    xlabel: str,
    reference: float | None = 0.0,
    bands: Sequence[str] = (),
    xlim: tuple[float, float] | None = None,
    note: str = "",
) -> Figure:
    """Effects with their intervals: what was done down, one mark per method, a dashed line at
    `reference`.

    Parameters
    ----------
    data
        Columns effect, method, value, ci_low, ci_high; rows are drawn in the order in which effects
        first occur.
    xlabel
        Of the common axis, with unit and direction.
    reference
        Where a vertical line is drawn; None for none.
    bands
        Effects that begin a new block (a thin line is drawn above them).
    xlim
        Ends of the axis, where it has natural ones.
    note
        Appended to the caption.
    """
    effects = list(dict.fromkeys(data["effect"]))
    methods = [m for m in METHODS if m in set(data["method"])]
    step = 0.8 / max(len(methods), 2)
    height = 1.1 + len(effects) * (0.2 + 0.16 * len(methods))
    fig = Figure(figsize=(7.6, height), layout="constrained")
    ax = fig.subplots()
    for k, method in enumerate(methods):
        rows, style = data[data["method"] == method], style_of(method)
        shift = (k - (len(methods) - 1) / 2) * step
        y = np.array([effects.index(e) for e in rows["effect"]]) + shift
        around = np.stack([rows["value"] - rows["ci_low"], rows["ci_high"] - rows["value"]]).clip(0)
        drawn = {"fmt": style.marker, "color": style.color, "label": style.label}
        ax.errorbar(rows["value"], y, xerr=around, **drawn, ms=5, lw=1.4, capsize=0)
    for i in range(len(effects)):
        if i % 2:
            ax.axhspan(i - 0.5, i + 0.5, color=GRID, alpha=0.45, lw=0)
        if effects[i] in bands:
            ax.axhline(i - 0.5, color=MUTED, lw=0.8)
    if reference is not None:
        ax.axvline(reference, color=INK, lw=1, ls="--")
    ax.set(yticks=range(len(effects)), yticklabels=effects, xlabel=xlabel)
    ax.set_ylim(len(effects) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    if xlim is not None:
        ax.set_xlim(*xlim)
    fig.legend(loc="outside upper center", ncols=min(4, len(methods)))
    caption(fig, note)
    return fig


@styled
def plot_sweeps(
    data: pd.DataFrame,
    *,
    chosen: dict[str, float] | None = None,
    ylabel: str = "PLCC",
    note: str = "",
) -> Figure:
    """One setting varied at a time, the others as they are: a panel for each setting, a line for
    each set of images.

    Parameters
    ----------
    data
        Columns setting, at (the setting's value), images, value.
    chosen
        The value in use of each setting, drawn as a dashed line.
    ylabel
        Of the common axis.
    note
        Appended to the caption.
    """
    settings, sets = list(dict.fromkeys(data["setting"])), list(dict.fromkeys(data["images"]))
    colors = (INK, METHODS["rali"].color, METHODS["teacher"].color)
    fig, axes = panels(len(settings), columns=4, size=(3.0, 2.7), sharey=True)
    for ax, setting in zip(axes, settings, strict=True):
        for color, images in zip(colors, sets, strict=False):
            rows = data[(data["setting"] == setting) & (data["images"] == images)].sort_values("at")
            ax.plot(rows["at"], rows["value"], "o-", color=color, ms=4, lw=1.5, label=images)
        at = data.loc[data["setting"] == setting, "at"]
        if at.min() > 0 and at.max() / at.min() > 8:
            ax.set_xscale("log")
        if chosen and setting in chosen:
            ax.axvline(chosen[setting], color=MUTED, lw=1, ls="--")
        ax.set_xlabel(setting)
    axes[0].set_ylabel(ylabel)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(sets))
    caption(fig, note)
    return fig
