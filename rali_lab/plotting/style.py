"""One style: colours, markers and names that mean the same in every figure, and files that can be
checked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    import pandas as pd

INK, MUTED, GRID = "#22272e", "#6b7280", "#e5e7eb"


class Style(NamedTuple):
    """Colour, marker and printed name of a method or domain; `main`: in the README's table."""

    color: str
    marker: str
    label: str
    main: bool = False


# Methods: seaborn's "colorblind" (Okabe-Ito); domains: Paul Tol's "muted". Markers do without
# colour.
METHODS = {
    "base": Style("#8c8c8c", "o", "base VLM", main=True),
    "teacher": Style("#0173b2", "s", "teacher", main=True),
    "teacher_no_reasoning": Style("#56b4e9", "v", "teacher, no reasoning", main=True),
    "supervised": Style("#de8f05", "X", "supervised"),
    "unreasoned": Style("#ca9161", "p", "RL without reasoning"),
    "ridge_visual": Style("#029e73", "D", "ridge, visual features", main=True),
    "rali": Style("#d55e00", "^", "RALI", main=True),
    "rali_onnx": Style("#a6761d", "h", "RALI, ONNX"),
    "rali_int8": Style("#e6ab02", "H", "RALI, 8 bits"),
    "ract": Style("#b30059", "P", "RACT"),
    "naive_mixing": Style("#7f7f00", "*", "naive mixing"),
    "scaled_mixing": Style("#5e4fa2", "8", "mixing, rescaled scores"),
    "aligned": Style("#882255", "<", "aligned features"),
    "unaligned": Style("#cc79a7", ">", "before alignment"),
    "raw": Style("#4d4d4d", "d", "trunk statistics"),
}
DOMAINS = {
    "photo": Style("#332288", "o", "photo"),
    "authentic": Style("#44aa99", "s", "authentic"),
    "procedural": Style("#b8952b", "D", "procedural"),
    "novel": Style("#cc6677", "^", "novel"),
    "generated": Style("#aa4499", "v", "generated"),
    "snapshots": Style("#88ccee", "X", "snapshots"),
    "livec": Style("#117733", "P", "LIVE Challenge"),
}
RC = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "white",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same letters on every machine
    "grid.color": GRID,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.solid_capstyle": "round",
    "patch.edgecolor": "w",
    "patch.force_edgecolor": True,
    "savefig.dpi": 150,
    "svg.hashsalt": "rali_lab",
    "text.color": INK,
    "xtick.bottom": False,
    "xtick.color": INK,
    "xtick.labelsize": 9,
    "ytick.color": INK,
    "ytick.labelsize": 9,
    "ytick.left": False,
}


def style_of(name: str) -> Style:
    """Fixed style of a method or domain; an unknown name is an error, so that no colour changes
    meaning.

    >>> style_of("rali").label
    'RALI'
    """
    known = METHODS | DOMAINS
    if name not in known:
        raise ValueError(
            f"no style for {name!r}, known: {', '.join(known)}; add one to"
            " rali_lab/plotting/style.py"
        )
    return known[name]


def use_style() -> None:
    """Make the style the default for a notebook's own plots, with seaborn's sizes and palette; the
    figure functions here carry it anyway.
    """
    import seaborn as sns

    sns.set_theme(style="whitegrid", rc=RC)


def styled(function: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw with the style whatever the global settings are, and leave those alone."""

    @functools.wraps(function)
    def draw(*args, **kwargs) -> Figure:
        with mpl.rc_context(RC):
            return function(*args, **kwargs)

    return draw


def caption(fig: Figure, *parts: str) -> None:
    """A line of small print under the figure: n, what the bars are, how they were made. Empty parts
    are left out; without any, nothing is written.
    """
    if text := "; ".join(filter(None, parts)):
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
        Any matplotlib figure.
    name
        File name without ending.
    folder
        Made if missing.
    data
        The plotted values.
    provenance
        Where they come from, such as "profile tiny, seed 0, results.json sha256 12ab".

    Returns
    -------
    Figure
        ``fig``, so that the last line of a cell saves and shows it.
    """
    from rali_lab import __version__

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(RC):
        dpi = 100 if _shows_photographs(fig) else RC["savefig.dpi"]
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
        origin = (f"figure {name}", f"rali_lab {__version__}", provenance)
        comment = ", ".join(filter(None, origin))
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
