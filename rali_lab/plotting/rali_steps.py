"""The steps of RALI as figures: embeddings in a plane, spectra, temperature, fine-tuning; and how
the raters of a data set judge.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from rali_lab.plotting.charts import plot_training_curves
from rali_lab.plotting.image_grids import plot_images_grid
from rali_lab.plotting.style import INK, METHODS, MUTED, caption, panels, style_of, styled

BASE, TEACHER, RALI = (METHODS[name].color for name in ("base", "teacher", "rali"))
MOS_LABEL = "pseudo-MOS (1-5, higher is better)"


@styled
def plot_projection(
    data: pd.DataFrame, *, axes_of: str = "", label: str = MOS_LABEL, note: str = ""
) -> Figure:
    """Several sets of embeddings in one plane, a panel each, coloured by opinion score.

    Parameters
    ----------
    data
        Columns x, y, view (the set) and mos (1-5).
    axes_of
        What the plane was fitted on, for the names of its axes.
    label
        Of the colour bar.
    note
        Small print under the figure, such as n and the share of variance held.
    """
    views = list(data.groupby("view", sort=False))
    fig, axes = panels(len(views), size=(3.5, 3.3), sharex=True, sharey=True)
    of = f" of the {axes_of}" if axes_of else ""
    for ax, (view, rows) in zip(axes, views, strict=True):
        dots = ax.scatter(
            rows["x"],
            rows["y"],
            c=rows["mos"],
            cmap="viridis",
            vmin=1,
            vmax=5,
            s=14,
            lw=0,
            alpha=0.8,
        )
        ax.set(title=view, xlabel=f"first component{of}")
    axes[0].set_ylabel(f"second component{of}")
    fig.colorbar(dots, ax=list(axes), label=label, ticks=range(1, 6))
    caption(fig, note)
    return fig


@styled
def plot_variance_held(spectra: pd.DataFrame, *, kept: int, note: str = "") -> Figure:
    """Share of the variance that the leading principal components hold, one line for each set.

    Parameters
    ----------
    spectra
        Column component (1, 2, ...), and up to three columns of cumulative shares (0-1) by the
        name of the set.
    kept
        Components in use, drawn as a dotted line.
    note
        Small print under the figure.
    """
    fig = Figure(figsize=(5.6, 3.5), layout="constrained")
    ax = fig.subplots()
    names = [name for name in spectra if name != "component"]
    marked = [i for i in (0, 1, 3, 7, 15, 31, 63) if i < len(spectra)]
    for name, marker, color in zip(names, "os^", (BASE, RALI, TEACHER), strict=False):
        line = {"color": color, "marker": marker, "markevery": marked, "label": name}
        ax.plot(spectra["component"], spectra[name], **line)
    ax.axvline(kept, color=INK, ls=":", lw=1.3)
    ax.annotate("kept", (kept, 0.04), xytext=(4, 0), textcoords="offset points", fontsize=9)
    labels = {"xlabel": "principal components (log scale)", "ylabel": "share of the variance held"}
    ax.set(xscale="log", ylim=(0, 1.02), **labels)
    ax.legend(loc="center right")
    caption(fig, note)
    return fig


@styled
def plot_temperatures(
    sweep: pd.DataFrame,
    scores: np.ndarray,
    mos: np.ndarray,
    *,
    marked: Sequence[float] = (),
    lines: int = 30,
    note: str = "",
) -> Figure:
    """What the temperature of the softmax does to scores: their size, and their order.

    Parameters
    ----------
    sweep
        Columns tau, relative_spread (standard deviation of the scores over that of the opinion
        scores) and plcc, ascending in tau.
    scores
        (n_tau, n) scores of validation images at every temperature.
    mos
        (n,) opinion scores, 1-5, the colours of the lines.
    marked
        Temperatures with a dotted line.
    lines
        Of the n images, about so many are drawn, evenly over the opinion scores.
    note
        Small print under the figure.
    """
    fig = Figure(figsize=(9.6, 3.6), layout="constrained")
    left, right = fig.subplots(1, 2)
    taus, relative = sweep["tau"], sweep["relative_spread"]
    for i in np.argsort(mos)[:: max(1, len(mos) // lines)]:
        color = colormaps["viridis"]((mos[i] - 1) / 4)
        left.plot(taus, scores[:, i], color=color, lw=1, alpha=0.8)
    left.set(ylim=(1, 5), ylabel="score (1-5)", title="scores of validation images")
    right.plot(taus, relative, "-", color=RALI, label="spread of scores / of pseudo-MOS")
    right.plot(taus, sweep["plcc"], "--", color=TEACHER, label="PLCC with pseudo-MOS")
    right.axhline(1, color=MUTED, lw=1)
    right.set(ylabel="share, and correlation", title="size and order are two things")
    right.set_ylim(min(0, sweep["plcc"].min()), 1.25 * max(1, relative.max()))
    right.legend(loc="upper right")
    for ax in (left, right):
        ax.set(xscale="log", xlabel="temperature τ (log scale)")
        for tau in marked:
            ax.axvline(tau, color=INK, ls=":", lw=1.2)
    caption(fig, note)
    return fig


@styled
def plot_fine_tuning(history: pd.DataFrame, *, note: str = "") -> Figure:
    """Squared error of the basis over the epochs of its fine-tuning; dotted: the epoch kept.

    Parameters
    ----------
    history
        Columns epoch, train_mse and validation_mse (points squared), as
        `rali_lab.rali.scorer.RaliScorer.history_`. The smallest validation error was kept.
    note
        Small print under the figure.
    """
    fig = Figure(figsize=(5.2, 3.2), layout="constrained")
    ax, epochs = fig.subplots(), history["epoch"]
    ax.plot(epochs, history["train_mse"], color=BASE, marker="o", ms=3.5, label="training")
    held = {"color": RALI, "marker": "^", "ms": 4, "label": "validation (unseen scenes)"}
    ax.plot(epochs, history["validation_mse"], **held)
    best = epochs[history["validation_mse"].idxmin()]
    ax.axvline(best, color=INK, ls=":", lw=1.3, label="kept")
    ylabel = "mean squared error (points², lower is better)"
    ax.set(xlabel="epoch of fine-tuning", ylabel=ylabel, ylim=(0, None))
    ax.legend()
    caption(fig, note)
    return fig


@styled
def plot_rater_panels(
    data: pd.DataFrame,
    opinions: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    *,
    label: str = "pseudo-MOS",
    note: str = "",
) -> Figure:
    """Opinion score against quality, a panel for each data set: which raters are mild, which harsh.

    Parameters
    ----------
    data
        Columns set, quality (before any rater, 1-5) and mos (1-5).
    opinions
        For each set, the mean score that its raters give to (n,) quality; drawn as a line. Dashed:
        raters without bias.
    label
        What the opinion score is called.
    note
        Small print under the figure.
    """
    sets = list(data.groupby("set", sort=False))
    fig, axes = panels(len(sets), size=(2.9, 2.9), sharex=True, sharey=True)
    quality = np.linspace(1, 5, 50)
    for ax, (name, rows) in zip(axes, sets, strict=True):
        ax.scatter(rows["quality"], rows["mos"], s=5, alpha=0.5, color=style_of(name).color)
        ax.plot(quality, quality, "--", lw=1, color="0.4")
        ax.plot(quality, opinions[name](quality), lw=1.5, color="0.1")
        ax.set(title=f"{name} (n = {len(rows)})", xlabel="quality before any panel")
    axes[0].set_ylabel(label)
    caption(fig, note)
    return fig


@styled
def plot_rationales(
    images: Sequence[np.ndarray],
    data: pd.DataFrame,
    *,
    note: str = "training images from best to worst, with the first rationale of the teacher",
) -> Figure:
    """Images with their opinion scores, and what a reasoner wrote about them.

    Parameters
    ----------
    images
        Arrays (H, W, 3) uint8.
    data
        One row for each image: mos (1-5), rating (the reasoner's, 1-5) and rationale.
    note
        Small print under the figure.
    """
    titles = [
        f"pseudo-MOS {row.mos:.1f}, teacher {row.rating:.1f}\n{textwrap.fill(row.rationale, 42)}"
        for row in data.itertuples()
    ]
    fig = plot_images_grid(images, titles, columns=3, note=note)
    fig.set_size_inches(8, 3.2 * -(-len(images) // 3))
    return fig


@styled
def plot_alignment(history: pd.DataFrame) -> Figure:
    """Loss and text retrieval over the epochs of an alignment.

    Parameters
    ----------
    history
        Columns epoch, loss, holdout_loss and holdout_top1, as `rali_lab.rali.align.align` returns
        them.
    """
    labels = {
        "loss": "contrastive loss, training (nats)",
        "holdout_loss": "the same, validation (nats)",
        "holdout_top1": "validation: share with own text nearest",
    }
    curves = history.rename(columns={"epoch": "step"})
    return plot_training_curves(
        curves, metrics=list(labels), labels=labels, note="a step is an epoch"
    )


@styled
def plot_explanation(
    image: np.ndarray, title: str, neighbours: Sequence[np.ndarray], data: pd.DataFrame
) -> Figure:
    """An image beside the training images nearest to its heaviest basis vectors.

    Parameters
    ----------
    image, title
        The image (H, W, 3) uint8 that was scored, and what to print above it.
    neighbours
        One (H, W, 3) uint8 image for each basis vector.
    data
        One row for each basis vector: weight, score, rationale.
    """
    titles = [title] + [
        f"weight {row.weight:.2f}, score {row.score:.2f}\n{textwrap.fill(row.rationale, 34)}"
        for row in data.itertuples()
    ]
    note = (
        "left: a validation image; then the training images nearest to its heaviest basis vectors"
    )
    fig = plot_images_grid([image, *neighbours], titles, columns=5, note=note)
    fig.set_size_inches(12.5, 3.1)
    return fig
