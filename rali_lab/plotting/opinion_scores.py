"""Charts about opinion scores: what distortions cost, annotation bias, and how an evaluation
flatters a method.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from rali_lab.plotting.image_grids import plot_images_grid
from rali_lab.plotting.style import DOMAINS, MUTED, Style, caption, panels, style_of, styled
from rali_lab.reasoner.prompts import findings

if TYPE_CHECKING:
    import pandas as pd

    from rali_lab.data.records import RatedImage

FAMILIES = {
    "noise": ("noise",),
    "blur": ("blur",),
    "compression": ("compression",),
    "light": ("darken", "brighten", "contrast"),
    "colour and structure": ("colour", "structure"),
}
"""Families of `rali_lab.data.distortions` that share a panel of `plot_levels`, by its title."""
COLORS = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc")  # seaborn's "colorblind"
MARKERS = "osD^v"
SPLITS = {
    "images": Style("#8c8c8c", "o", "split by images"),
    "scenes": Style("#029e73", "D", "split by scenes"),
}
PROTOCOLS = (("o", "#22272e"), ("s", "#0173b2"), ("D", "#029e73"), ("^", "#d55e00"))


def what_was_done(image: RatedImage) -> str:
    """The degradations of an image with their levels, in short lines."""
    found = [f"{f.word}\N{NO-BREAK SPACE}{f.level}" for f in findings(image.distortions)]
    return textwrap.fill(", ".join(found) or "nothing", 22)


def plot_rated_images(images: Sequence[RatedImage], *, note: str = "") -> Figure:
    """Rated images in rows of five, with domain, score and what was done to them."""
    titles = [f"{style_of(p.domain).label}, {p.mos:.1f}\n{what_was_done(p)}" for p in images]
    return plot_images_grid([p.pixels() for p in images], titles, note=note)


@styled
def plot_levels(
    data: pd.DataFrame,
    *,
    value: str,
    label: str,
    groups: Mapping[str, Sequence[str]] | None = None,
    note: str = "",
) -> Figure:
    """A mean at every level of every distortion, one line each.

    Parameters
    ----------
    data
        Columns distortion, level, half (of the interval), the column named by `value`, 1-5, and
        family with `groups`.
    value
        Column of the mean.
    label
        Of the y axis, with unit and direction.
    groups
        Families of each panel by its title, such as `FAMILIES`; by default all share one panel.
    note
        The caption.

    Raises
    ------
    ValueError
        If a family has no panel, or a panel more than five distortions.
    """
    parts = {"": data}
    if groups is not None:
        if lost := set(data["family"]) - {f for families in groups.values() for f in families}:
            raise ValueError(f"no panel for the families {sorted(lost)}; add them to groups")
        parts = {title: data[data["family"].isin(kept)] for title, kept in groups.items()}
    fig, axes = panels(len(parts), size=(3.3, 2.7) if groups else (5.6, 3.6), sharey=True)
    for ax, (title, part) in zip(axes, parts.items(), strict=True):
        if (n := part["distortion"].nunique()) > len(COLORS):
            raise ValueError(f"{n} distortions in one panel, at most {len(COLORS)}; use groups")
        lines = part.groupby("distortion", sort=False)
        for (name, line), color, marker in zip(lines, COLORS, MARKERS, strict=False):
            ax.errorbar(
                line["level"],
                line[value],
                line["half"],
                marker=marker,
                color=color,
                ms=5,
                lw=1.5,
                capsize=2,
                label=name.replace("_", " "),
            )
        ax.set(title=title, xticks=sorted(data["level"].unique()), ylim=(1, 5), xlabel="level")
        ax.tick_params(labelleft=True)
        ax.legend(fontsize=7.5)
    fig.supylabel(label, fontsize=10)
    caption(fig, note)
    return fig


@styled
def plot_annotation_bias(curves: pd.DataFrame) -> Figure:
    """Mean opinion of each domain's panel against the quality of an image.

    Parameters
    ----------
    curves
        Column quality (1-5, rising) and a column for each domain, its mean opinion (1-5).
    """
    fig = Figure(figsize=(5.4, 4.2), layout="constrained")
    ax = fig.subplots()
    for name in curves.columns.drop("quality"):
        color, marker, label = style_of(name)[:3]
        every = max(1, len(curves) // 5)
        ax.plot(
            curves["quality"],
            curves[name],
            marker,
            ls="-",
            color=color,
            markevery=every,
            label=label,
        )
    ax.plot([1, 5], [1, 5], color="white", ls=(0, (3, 4)), lw=1.2, zorder=5)
    ax.set(
        xlabel="full-reference quality (1-5)",
        ylabel="mean opinion of the panel (1-5)",
        xlim=(1, 5),
        ylim=(1, 5),
    )
    ax.legend()
    caption(fig, "dashed diagonal: no bias")
    return fig


@styled
def plot_splits(data: pd.DataFrame, *, note: str = "") -> Figure:
    """Correlation of methods that are tested on unseen images or on unseen scenes.

    Parameters
    ----------
    data
        Columns method, split by ("images" or "scenes"), plcc, ci_low, ci_high.
    note
        Added to the caption.
    """
    fig = _intervals(data, "method", "split by", "plcc", SPLITS, step=0.24, size=(6.4, 2.5))
    fig.axes[0].set(xlim=(0.4, 1), xlabel="PLCC (higher is better)")
    caption(fig, note, "bars: 95 % intervals, scenes resampled")
    return fig


@styled
def plot_shortcuts(data: pd.DataFrame, *, note: str = "") -> Figure:
    """Rank correlation of trivial properties of an image with its score, in every domain.

    Parameters
    ----------
    data
        Columns shortcut, domain, srcc, ci_low, ci_high.
    note
        Added to the caption.
    """
    fig = _intervals(data, "shortcut", "domain", "srcc", DOMAINS, step=0.15, size=(7, 3.6))
    fig.axes[0].axvline(0, color=MUTED, lw=1)
    fig.axes[0].set(xlim=(-1, 1), xlabel="SRCC with the pseudo-MOS (0: no relation)")
    caption(fig, "bars: 95 % intervals, scenes resampled", note)
    return fig


@styled
def plot_random_scores(draws: pd.DataFrame, *, note: str = "") -> Figure:
    """Correlation that a random score gets under each protocol, against the number of images: mean
    and the middle 80 % of the draws.

    Parameters
    ----------
    draws
        One row per draw, columns n, protocol (at most four), plcc.
    note
        Added to the caption.
    """
    fig = Figure(figsize=(6.4, 3.6), layout="constrained")
    ax, at = fig.subplots(), sorted(draws["n"].unique())
    lines = list(draws.groupby("protocol", sort=False))
    if len(lines) > len(PROTOCOLS):
        raise ValueError(f"{len(lines)} protocols, at most {len(PROTOCOLS)} can be told apart")
    for (protocol, part), (marker, color) in zip(lines, PROTOCOLS, strict=False):
        of_n = part.groupby("n")["plcc"]
        low, high = (of_n.quantile(q).reindex(at) for q in (0.1, 0.9))
        ax.plot(at, of_n.mean().reindex(at), marker + "-", color=color, label=protocol)
        ax.fill_between(at, low, high, color=color, alpha=0.12, lw=0)
    ax.axhline(0, color=MUTED, lw=1, ls="--")
    ax.set(
        xscale="log",
        xlabel="test images (log scale)",
        ylabel="PLCC of a random score (0: no relation)",
    )
    ax.set_xticks(at, [str(n) for n in at])
    ax.minorticks_off()
    ax.legend()
    caption(fig, note, "bands: the middle 80 % of the draws")
    return fig


def _intervals(
    data: pd.DataFrame,
    row: str,
    by: str,
    value: str,
    styles: Mapping[str, Style],
    *,
    step: float,
    size: tuple[float, float],
) -> Figure:
    """Values with their intervals: the names of column `row` down, a mark for each of `by`."""
    rows, marks = list(dict.fromkeys(data[row])), list(dict.fromkeys(data[by]))
    fig = Figure(figsize=size, layout="constrained")
    ax = fig.subplots()
    for k, name in enumerate(marks):
        part, (color, marker, label) = data[data[by] == name], styles[name][:3]
        y = np.array([rows.index(r) for r in part[row]]) + (k - (len(marks) - 1) / 2) * step
        ax.hlines(y, part["ci_low"], part["ci_high"], color=color, lw=2, alpha=0.55)
        ax.plot(part[value], y, marker, color=color, ms=6, label=label)
    ax.set(yticks=range(len(rows)), yticklabels=rows, ylim=(len(rows) - 0.5, -0.5))
    ax.grid(axis="y", visible=False)
    fig.legend(loc="outside upper center", ncols=len(marks))
    return fig
