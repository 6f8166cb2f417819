"""The figure of what `rali_lab.analysis.compare` found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from rali_lab.plotting.style import DOMAINS, INK, METHODS, MUTED, caption, panels, styled

if TYPE_CHECKING:
    import pandas as pd

    from rali_lab.analysis import Comparison

TITLES = {
    "participation_ratio": "Participation ratio (axes)",
    "effective_rank": "Effective rank (axes)",
    "pca_dimension_90": "PCA axes for 90 %",
    "two_nn": "Intrinsic dimension, TwoNN",
    "mle_dimension": "Intrinsic dimension, MLE",
    "score_plcc": "Score decoded, PLCC\n(higher: more quality)",
    "domain_accuracy": "Domain decoded, accuracy\n(higher: more domain)",
    "mmd": "Domain gap, MMD²\n(higher: further apart)",
    "frechet": "Domain gap, Fréchet\n(higher: further apart)",
    "proxy_a": "Proxy A-distance\n(0-2, higher: further apart)",
    "silhouette": "Domain gap, silhouette\n(higher: further apart)",
    "knn_mixing": "k-NN domain mixing\n(1: mixed, lower: further apart)",
}
_RAW, _EQUAL = METHODS["teacher"].color, METHODS["rali"].color


@styled
def plot_comparison(report: Comparison) -> Figure:
    """One panel per measure, representations as rows: dots with intervals, rings for the null, bars
    for the floor. CKA comes last, as a heat map, if there are several representations.
    """
    table, cka = report.table, report.cka
    measures = [m for m in TITLES if (table["measure"] == m).any()]
    names = list(dict.fromkeys(table.loc[table["measure"] != "cka", "representation"]))
    size = (3.2, 1.25 + 0.36 * max(3, len(names)))
    fig, axes = panels(len(measures) + bool(len(cka)), size=size)
    for i, (ax, measure) in enumerate(zip(axes, measures, strict=False)):
        _dots(ax, table[table["measure"] == measure], names)
        ax.tick_params(labelleft=i % 3 == 0)
        ax.set_title(TITLES[measure], fontsize=9.5)
    if len(cka):
        rows = table[table["measure"] == "cka"]
        _heat_map(axes[-1], cka, rows["null_mean"].max())
        axes[-1].tick_params(
            labelleft=len(measures) % 3 == 0
        )  # else the panel to the left names the same rows
    fig.legend(handles=_legend(table), loc="outside upper center", ncols=5)
    n = sorted(table["n"].unique())
    marks = (
        "bars: 95 % intervals over sources; rings: null (permuted); |: floor (two halves of one"
        " domain)"
    )
    caption(fig, f"n = {n[-1]} images; {marks}")
    return fig


def _dots(ax, rows: pd.DataFrame, names: list[str]) -> None:
    both = rows["conditioned"].nunique() > 1
    for conditioned, part in rows.groupby("conditioned"):
        part = part.set_index("representation").reindex(names)
        y = np.arange(len(names)) + (0.15 if conditioned else -0.15) * both
        color, marker = (_EQUAL, "s") if conditioned else (_RAW, "o")
        ax.hlines(y, part["ci_low"], part["ci_high"], color=color, lw=2, alpha=0.5)
        ax.plot(part["null_mean"], y, "o", mfc="none", mec=MUTED, ms=5)
        ax.plot(part["floor"], y, "|", color=INK, ms=9, mew=1.2)
        ax.plot(part["value"], y, marker, color=color, ms=6, mec="white", mew=0.8)
    ax.set_yticks(range(len(names)), [_label(name) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    if rows["value"].min() >= 0:
        ax.set_xlim(left=min(0, ax.get_xlim()[0]))


def _heat_map(ax, cka: pd.DataFrame, null: float) -> None:
    ax.imshow(np.clip(cka, 0, 1), vmin=0, vmax=1, cmap="viridis", aspect="auto")
    ax.grid(visible=False)
    for (i, j), value in np.ndenumerate(cka.to_numpy()):
        ax.text(
            j,
            i,
            f"{value:.2f}" if np.isfinite(value) else "-",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if value < 0.6 else INK,
        )
    labels = [_label(name) for name in cka.columns]
    ax.set_xticks(range(len(cka)), labels, rotation=20, ha="right")
    ax.set_yticks(range(len(cka)), labels)
    ax.set_title(
        "Debiased CKA (0 to 1)" + (f"\nnull at most {null:.3f}" if np.isfinite(null) else ""),
        fontsize=9.5,
    )


def _legend(table: pd.DataFrame) -> list:
    from matplotlib.lines import Line2D

    shown: list[tuple[str, dict[str, Any]]] = [("raw", {"color": _RAW, "marker": "o"})]
    if table["conditioned"].any():
        shown.append(("at equal score", {"color": _EQUAL, "marker": "s"}))
    if table["null_mean"].notna().any():
        shown.append(("null", {"color": MUTED, "marker": "o", "mfc": "none"}))
    if table["floor"].notna().any():
        shown.append(("floor", {"color": INK, "marker": "|"}))
    return [Line2D([], [], ls="", label=label, **style) for label, style in shown]


def _label(name: str) -> str:
    known = METHODS | DOMAINS
    return known[name].label if name in known else name
