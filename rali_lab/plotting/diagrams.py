"""The pipeline as an image, and the basis vectors that RALI scores against."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from rali_lab.plotting.style import INK, MUTED, caption, style_of, styled

TEACHER, STUDENT = style_of("teacher").color, style_of("rali").color
MIDDLE = {"ha": "center", "va": "center"}
SMALL = {"fontsize": 9, **MIDDLE}
LEARNS = "small image encoder learns\nthe teacher's text,\ncontrastively"
BASIS = "PCA, k-means in score bins:\nvectors $\\mu_i$, scores $f_i$"
SCORE = r"$\Sigma_i\;\mathrm{softmax}_i(\cos(z,\mu_i)/\tau)\;f_i$"
GRPO = "vision-language model;\nGRPO rewards score\nand format"
TRAINING = (  # place (x, y, width, height), title, text, colour
    ((3, 21.5, 17, 14), "Images", "with opinion scores,\nof one domain", MUTED),
    ((28, 21.5, 21, 14), "1  Teacher", GRPO, TEACHER),
    ((57, 21.5, 21, 14), "2  Alignment", LEARNS, STUDENT),
    ((86, 21.5, 21, 14), "3  Basis", BASIS, STUDENT),
)
SCORING = (
    ((3, 2.5, 17, 8.5), "New image", "any domain", MUTED),
    ((57, 2.5, 21, 8.5), "Image encoder", "and PCA", STUDENT),
    ((86, 2.5, 21, 8.5), "Score, 1-5", SCORE, STUDENT),
)


@styled
def plot_pipeline() -> Figure:
    """From images to scores: RL teaches the teacher to reason, RALI learns from its rationales."""
    fig = Figure(figsize=(11, 4.9))
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 110), ylim=(0, 49))
    ax.axis("off")
    _lane(ax, 17, 31, "TRAINING", "once; the teacher's text is needed here only")
    _lane(ax, 1, 14, "SCORING", "no language model, no text")
    for box in TRAINING:
        _box(ax, *box)
    ax.text(
        38.5, 19.3, "“serious noise, slight blur … 2.10”", **SMALL, style="italic", color=TEACHER
    )
    ax.plot([11.5, 11.5, 96.5], [35.8, 40.5, 40.5], color=MUTED, lw=1.8, solid_joinstyle="round")
    for x in (67.5, 96.5):
        _arrow(ax, (x, 40.7), (x, 35.5), MUTED)
    ax.text(82, 41.7, "the same images, and their scores", **SMALL, color=MUTED)
    _arrow(ax, (20, 28.5), (28, 28.5), MUTED)
    _arrow(ax, (49, 28.5), (57, 28.5), TEACHER, "reasoning")
    _arrow(ax, (78, 28.5), (86, 28.5), STUDENT, "encoder")
    for box in SCORING:
        _box(ax, *box)
    _arrow(ax, (20, 6.75), (57, 6.75), MUTED)
    _arrow(ax, (78, 6.75), (86, 6.75), STUDENT, "$z$")
    for x in (67.5, 96.5):
        _arrow(ax, (x, 21.5), (x, 11), STUDENT)
    return fig


@styled
def plot_basis(
    vectors: np.ndarray,
    scores: np.ndarray,
    *,
    images: np.ndarray | None = None,
    label: str = "basis score",
    note: str = "",
) -> Figure:
    """Basis vectors in two dimensions, coloured by the score they stand for.

    Parameters
    ----------
    vectors
        (k, 2) array, any projection (say which in ``note``, with its quality).
    scores
        (k,) array, 1-5.
    images
        (n, 2) array of training embeddings in the same projection, drawn behind.
    label
        Of the score axis.
    note
        Appended to the caption.
    """
    vectors, scores = np.asarray(vectors), np.asarray(scores)
    if vectors.shape != (len(scores), 2):
        raise ValueError(
            f"vectors have shape {vectors.shape}, expected ({len(scores)}, 2); project them first"
        )
    fig = Figure(figsize=(5.6, 4.3), layout="constrained")
    ax = fig.subplots()
    if images is not None:
        ax.scatter(
            *np.asarray(images).T,
            s=7,
            color="#c9ced6",
            lw=0,
            label=f"training images, n = {len(images)}",
        )
    dots = ax.scatter(
        *vectors.T,
        c=scores,
        cmap="viridis",
        vmin=1,
        vmax=5,
        s=42,
        edgecolor="white",
        lw=0.7,
        label=f"basis vectors, K = {len(scores)}",
    )
    fig.colorbar(dots, ax=ax, label=f"{label} (1-5, higher is better)", ticks=range(1, 6))
    ax.set(xlabel="first axis", ylabel="second axis")
    fig.legend(loc="outside upper left", ncols=2)
    caption(fig, note)
    return fig


def _lane(ax, y: float, height: float, title: str, text: str) -> None:
    shape = "round,pad=0,rounding_size=1.2"
    ax.add_patch(FancyBboxPatch((1, y), 108, height, shape, fc="#f6f7f9", ec="none"))
    ax.text(3, y + height - 2.2, title, fontsize=9, fontweight="bold", color=MUTED, va="center")
    ax.text(14, y + height - 2.2, text, fontsize=9, color=MUTED, va="center")


def _box(ax, place: tuple[float, ...], title: str, text: str, color: str) -> None:
    x, y, width, height = place
    shape = "round,pad=0,rounding_size=1"
    ax.add_patch(FancyBboxPatch((x, y), width, height, shape, fc="white", ec=color, lw=1.8))
    middle, large = x + width / 2, {"fontsize": 12, "fontweight": "bold", "color": color}
    ax.text(middle, y + height - 2.4, title, **large, **MIDDLE)
    ax.text(middle, y + (height - 3) / 2, text, fontsize=9.5, color=INK, linespacing=1.4, **MIDDLE)


def _arrow(ax, start: tuple[float, float], end: tuple[float, float], color: str, text="") -> None:
    drawn = {"arrowstyle": "-|>", "mutation_scale": 15, "shrinkA": 2, "shrinkB": 2}
    ax.add_patch(FancyArrowPatch(start, end, lw=1.8, color=color, **drawn))
    place = (start[0] + end[0]) / 2, start[1] + 1
    ax.text(*place, text, ha="center", va="bottom", fontsize=8.5, color=color)
