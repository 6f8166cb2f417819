"""Stages of a model, drawn: spectra, dimensions, gaps between domains, projections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from rali_lab.plotting.style import DOMAINS, METHODS, caption, styled

if TYPE_CHECKING:
    import pandas as pd

    from rali_lab.analysis import Projection

VALUE, MARK, PALE = METHODS["teacher"].color, METHODS["rali"].color, METHODS["base"].color
STAGES = {  # stage of `rali_lab.experiments.represent`: label, colour, line
    "visual": ("visual features", METHODS["ridge_visual"].color, "-"),
    "teacher_image": ("into the decoder", "#56b4e9", "-"),
    "teacher_reasoning": ("states over reasoning", METHODS["teacher"].color, "-"),
    "base_reasoning": ("the same before RL", METHODS["teacher"].color, ":"),
    "teacher_text": ("rationale text", "#332288", "-"),
    "base_text": ("the same before RL", "#332288", ":"),
    "rali": ("RALI's image embedding", METHODS["rali"].color, "-"),
}


@styled
def plot_spectra(data: pd.DataFrame, *, note: str = "") -> Figure:
    """Share of the variance on the leading principal axes, one line per stage; grey: nine tenths.

    Parameters
    ----------
    data
        Columns stage (of `STAGES`), axis (from 1) and share (cumulative, in [0, 1]).
    note
        The caption.

    Raises
    ------
    ValueError
        For a stage without a style.
    """
    if unknown := sorted(set(data["stage"]) - set(STAGES)):
        raise ValueError(
            f"no style for the stages {unknown}, known: {', '.join(STAGES)}; add them to STAGES in"
            " rali_lab/plotting/stages.py"
        )
    fig = Figure(figsize=(7, 3.8), layout="constrained")
    ax = fig.subplots()
    for stage, rows in data.groupby("stage", sort=False):
        label, colour, line = STAGES[stage]
        ax.plot(rows["axis"], rows["share"], line, color=colour, lw=2, label=label)
    ax.axhline(0.9, color="#999999", lw=1)
    ax.set(xlabel="principal axes", ylabel="share of the variance", xscale="log", ylim=(0, 1.02))
    ax.legend(frameon=False, fontsize=8.5)
    caption(fig, note)
    return fig


@styled
def plot_readout_and_dimension(data: pd.DataFrame, *, note: str = "") -> Figure:
    """What each stage keeps (PLCC of a readout, with its interval) beside its participation ratio.

    Parameters
    ----------
    data
        Index: stages, drawn from below; columns PLCC, low, high, participation ratio.
    note
        The caption.
    """
    fig = Figure(figsize=(8, 4.2), layout="constrained")
    left, right = fig.subplots(1, 2, sharey=True)
    for i, (name, row) in enumerate(data.iterrows()):
        colour = STAGES[name][1] if name in STAGES else PALE
        dot = {"color": colour, "mfc": _fill(name, colour), "ms": 7}
        left.plot([row["low"], row["high"]], [i, i], color=colour, lw=2, alpha=0.6)
        left.plot(row["PLCC"], i, "o", **dot)
        right.plot([0, row["participation ratio"]], [i, i], color=colour, lw=1, alpha=0.6)
        right.plot(row["participation ratio"], i, "o", **dot)
    left.set(
        yticks=range(len(data)),
        yticklabels=data.index,
        xlabel="PLCC of a held-out readout (higher is better)",
    )
    right.set(xlabel="participation ratio (lower: more compact)", xlim=(0, None))
    caption(fig, note)
    return fig


@styled
def plot_stage_intervals(
    data: pd.DataFrame,
    *,
    xlabel: str,
    marks: Mapping[str, str],
    value_label: str = "",
    xlim: tuple[float, float] | None = None,
    note: str = "",
) -> Figure:
    """One number per stage with its interval, and the levels to compare it with.

    Parameters
    ----------
    data
        Index: stages, drawn from above; columns value, ci_low, ci_high, and those of ``marks``.
    xlabel
        Names the number.
    marks
        Columns of levels and what the legend calls them ("" leaves the entry out): "raw" is drawn
        as a grey cross, any other as an orange bar.
    value_label
        What the legend calls the value.
    xlim
        Ends of the axis, where it has natural ones.
    note
        The caption.
    """
    fig = Figure(figsize=(7, 4), layout="constrained")
    ax, y = fig.subplots(), np.arange(len(data))
    ax.hlines(y, data["ci_low"], data["ci_high"], color=VALUE, lw=2)
    ax.plot(data["value"], y, "o", color=VALUE, label=value_label)
    for column, label in marks.items():
        style = (
            {"marker": "x", "color": PALE} if column == "raw" else {"marker": "|", "color": MARK}
        )
        ax.plot(data[column], y, ls="", ms=6 if column == "raw" else 14, label=label, **style)
    ax.set(yticks=y, yticklabels=data.index, xlabel=xlabel, xlim=xlim)
    ax.invert_yaxis()
    if any((value_label, *marks.values())):
        fig.legend(loc="outside upper center", ncols=1 + len(marks))
    caption(fig, note)
    return fig


@styled
def plot_domain_against_quality(data: pd.DataFrame, *, floor: float, note: str = "") -> Figure:
    """Stages by how far they tell domains apart (across) and how much quality they hold (up).

    Parameters
    ----------
    data
        Index: stages; columns domain and quality, each with ``_low`` and ``_high``.
    floor
        The gap between random halves of one domain, drawn as a dashed line.
    note
        The caption; squares are text stages, hollow ones stand before RL or alignment.
    """
    colours = {"visual": "ridge_visual", "clip": "rali", "rali": "rali"}
    fig = Figure(figsize=(7, 4.6), layout="constrained")
    ax = fig.subplots()
    for name, row in data.iterrows():
        colour = METHODS[colours.get(name, "teacher")].color
        at = row["domain"], row["quality"]
        around = [
            [[row[axis] - row[f"{axis}_low"]], [row[f"{axis}_high"] - row[axis]]]
            for axis in ("domain", "quality")
        ]
        ax.errorbar(
            *at,
            xerr=around[0],
            yerr=around[1],
            fmt="s" if "text" in name else "o",
            color=colour,
            mfc=_fill(name, colour),
            ms=8,
            lw=1.2,
        )
        left = name.endswith("reasoning") or name == "base_image"
        low = name in ("visual", "base_text", "base_reasoning", "rali")
        ax.annotate(
            name,
            at,
            xytext=(-7 if left else 7, -12 if low else 6),
            textcoords="offset points",
            fontsize=8.5,
            ha="right" if left else "left",
        )
    ax.axvline(floor, color=MARK, lw=1, ls="--")
    ax.set(
        xlabel="domain: proxy A-distance at equal score (less to the left)",
        ylabel="quality: PLCC of a held-out readout\n(higher is better)",
    )
    caption(fig, note)
    return fig


@styled
def plot_cka_of_noise(data: pd.DataFrame, *, note: str = "") -> Figure:
    """Biased and debiased CKA of independent noise against the number of items: dots and means.

    Parameters
    ----------
    data
        Columns n, biased, debiased; one row per draw.
    note
        The caption.
    """
    mean = data.groupby("n").mean()
    fig = Figure(figsize=(6, 3.4), layout="constrained")
    ax = fig.subplots()
    for name, colour in (("biased", MARK), ("debiased", VALUE)):
        ax.plot(data["n"], data[name], ".", color=colour, alpha=0.6)
        ax.plot(mean.index, mean[name], color=colour, lw=2, label=name)
    ax.set(
        xscale="log",
        xlabel="items n",
        ylabel="CKA of independent noise\n(should be 0)",
        ylim=(-0.15, 1),
    )
    ax.legend(frameon=False)
    caption(fig, note)
    return fig


@styled
def plot_projections(maps: Mapping[str, Projection], *, note: str = "") -> Figure:
    """The first seed of several projections side by side, each with its quality in the title.

    Parameters
    ----------
    maps
        Projections by name.
    note
        The caption.
    """
    fig = Figure(figsize=(10, 3.5), layout="constrained")
    for ax, (name, found) in zip(fig.subplots(1, len(maps)), maps.items(), strict=True):
        ax.scatter(*found.coordinates[0].T, s=7, color="#555555", lw=0)
        quality = f"trustworthiness {found.trustworthiness[0]:.2f}, overlap {found.overlap[0]:.2f}"
        ax.set(xticks=[], yticks=[], title=f"{name}\n{quality}")
    caption(fig, note)
    return fig


@styled
def plot_projection_seeds(
    maps: Mapping[str, Projection], domains: Sequence[str], *, note: str = ""
) -> Figure:
    """Every seed of several projections: a row for each projection, a column for each seed.

    Parameters
    ----------
    maps
        Projections by label, all with the same seeds.
    domains
        Domain of each row, which gives its colour.
    note
        The caption.
    """
    domains = np.asarray(domains)
    columns = len(next(iter(maps.values())).seeds)
    fig = Figure(figsize=(9.5, 3 * len(maps)), layout="constrained")
    axes = fig.subplots(len(maps), columns, squeeze=False)
    for row, (name, found) in zip(axes, maps.items(), strict=True):
        for j, (ax, z) in enumerate(zip(row, found.coordinates, strict=True)):
            for domain in dict.fromkeys(domains):
                style, pick = DOMAINS[domain], domains == domain
                dots = {"s": 9, "lw": 0, "alpha": 0.75}
                ax.scatter(*z[pick].T, color=style.color, label=style.label, **dots)
            quality = f"trust {found.trustworthiness[j]:.2f}, overlap {found.overlap[j]:.2f}"
            ax.set(xticks=[], yticks=[], title=f"seed {found.seeds[j]}: {quality}")
        row[0].set_ylabel(name)
    handles = axes[0, 0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside upper center", ncols=5, markerscale=2)
    caption(fig, note)
    return fig


def _fill(stage: str, colour: str) -> str:
    """Hollow where a stage stands before RL or alignment."""
    return "white" if stage.startswith("base") or stage == "clip" else colour
