"""One look: colours, markers and names that mean the same in every figure, and files that can be
checked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

from rali_lab import __version__

if TYPE_CHECKING:
    import pandas as pd

INK, MUTED, GRID = "#22272e", "#6b7280", "#e5e7eb"


class Look(NamedTuple):
    """Colour, marker and printed name of a method or domain."""

    color: str
    marker: str
    label: str


# Methods: seaborn's "colorblind" (Okabe-Ito); domains: Paul Tol's "muted". Markers do without
# colour.
METHODS = {
    "base": Look("#8c8c8c", "o", "base VLM"),
    "teacher": Look("#0173b2", "s", "teacher"),
    "teacher_no_reasoning": Look("#56b4e9", "v", "teacher, no reasoning"),
    "supervised": Look("#de8f05", "X", "supervised"),
    "unreasoned": Look("#ca9161", "p", "RL without reasoning"),
    "ridge_visual": Look("#029e73", "D", "ridge, visual features"),
    "rali": Look("#d55e00", "^", "RALI"),
    "rali_onnx": Look("#a6761d", "h", "RALI, ONNX"),
    "rali_int8": Look("#e6ab02", "H", "RALI, 8 bits"),
    "ract": Look("#b30059", "P", "RACT"),
    "naive_mixing": Look("#7f7f00", "*", "naive mixing"),
    "scaled_mixing": Look("#5e4fa2", "8", "mixing, rescaled scores"),
    "aligned": Look("#882255", "<", "aligned features"),
    "unaligned": Look("#cc79a7", ">", "before alignment"),
    "raw": Look("#4d4d4d", "d", "trunk statistics"),
}
DOMAINS = {
    "photo": Look("#332288", "o", "photo"),
    "authentic": Look("#44aa99", "s", "authentic"),
    "procedural": Look("#b8952b", "D", "procedural"),
    "novel": Look("#cc6677", "^", "novel"),
    "generated": Look("#aa4499", "v", "generated"),
    "snapshots": Look("#88ccee", "X", "snapshots"),
    "livec": Look("#117733", "P", "LIVE Challenge"),
}
STYLE = {
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.dpi": 100,
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same letters on every machine
    "grid.color": GRID,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "savefig.dpi": 150,
    "svg.hashsalt": "rali_lab",
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 9,
    "ytick.color": INK,
    "ytick.labelsize": 9,
}


def look(name: str) -> Look:
    """Fixed look of a method or domain; an unknown name is an error, so that no colour changes
    meaning.

    >>> look("rali").label
    'RALI'
    """
    known = METHODS | DOMAINS
    if name not in known:
        raise ValueError(
            f"no look for {name!r}, known: {', '.join(known)}; add one to"
            " rali_lab/plotting/style.py"
        )
    return known[name]


def use_style() -> None:
    """Make the style the default for a notebook's own plots; the figure functions here carry it
    anyway.
    """
    sns.set_theme(style="whitegrid", rc=STYLE)


def styled(function: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw with the style whatever the global settings are, and leave those alone."""

    @functools.wraps(function)
    def draw(*args, **kwargs) -> Figure:
        with sns.axes_style("whitegrid"), mpl.rc_context(STYLE):
            return function(*args, **kwargs)

    return draw


def caption(fig: Figure, text: str) -> None:
    """A line of small print under the figure: n, what the bars are, how they were made."""
    fig.supxlabel(text, fontsize=8.5, color=MUTED)


def save_figure(
    fig: Figure,
    name: str,
    folder: str | Path,
    data: pd.DataFrame | None = None,
    *,
    provenance: str = "",
) -> Figure:
    """Write ``name.png`` (150 dpi, 100 with photographs in it), ``name.svg`` and, with ``data``,
    ``name.csv`` with the plotted values.

    A figure that shows photographs gets no SVG, which could only hold the same pixels once more.

    The same figure gives the same bytes: no dates, fixed SVG ids, numbers to 6 digits. The CSV
    starts with a comment line (read with ``comment="#"``) naming the figure, the version and
    ``provenance``.

    Parameters
    ----------
    fig
        any matplotlib figure
    name
        file name without ending
    folder
        made if missing
    data
        the plotted values
    provenance
        where they come from, such as "profile tiny, seed 0, results.json sha256 12ab"

    Returns
    -------
    Figure
        ``fig``, so that the last line of a cell saves and shows it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        dpi = 100 if _shows_photographs(fig) else STYLE["savefig.dpi"]
        for ending, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            if ending == "svg" and _shows_photographs(fig):
                (folder / f"{name}.svg").unlink(missing_ok=True)  # of an older run
                continue
            fig.savefig(
                folder / f"{name}.{ending}",
                bbox_inches="tight",
                facecolor="white",
                metadata=metadata,
                dpi=dpi,
            )
    if data is not None:
        comment = ", ".join(
            part for part in (f"figure {name}", f"rali_lab {__version__}", provenance) if part
        )
        text = data.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        (folder / f"{name}.csv").write_text(
            "# " + comment.replace("\n", " ") + "\n" + text, encoding="utf-8"
        )
    return fig


def _shows_photographs(fig: Figure) -> bool:
    return any(image.get_array().ndim == 3 for ax in fig.axes for image in ax.images)


def panels(n: int, *, columns: int = 3, size: tuple[float, float] = (3.2, 2.8), **options):
    """A figure with ``n`` axes in rows of at most ``columns``, each of ``size`` (width, height)
    inches; four stand two by two.
    """
    if n < 1:
        raise ValueError("nothing to plot: the data hold no panel; check the filter that made them")
    columns = 2 if n == 4 and columns == 3 else min(columns, n)
    rows = -(-n // columns)
    fig = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False, **options).ravel()
    for ax in axes[n:]:
        ax.set_visible(False)
    return fig, axes[:n]
