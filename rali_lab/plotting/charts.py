"""Charts of numbers: accuracy with intervals, training, scores against opinions, cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rali_lab.plotting.style import DOMAINS, INK, METHODS, MUTED, caption, panels, style_of, styled

if TYPE_CHECKING:
    import pandas as pd

ROLES = {"in": "in domain", "out": "out of domain", "real": "human scores"}
METRICS = {
    "plcc": "PLCC",
    "srcc": "SRCC",
    "format_share": "format share",
    "naming_accuracy": "naming accuracy",
}
COSTS = {  # metric: title, unit, factor
    "parameters": ("Parameters", "million", 1e-6),
    "seconds_per_image": ("Time", "ms per image", 1e3),
    "peak_memory_bytes": ("Peak memory", "MB", 1e-6),
}
SIDE, BELOW = ("axes fraction", "data"), ("data", "axes fraction")


@styled
def plot_dot_interval(data: pd.DataFrame, *, metric: str = "plcc", note: str = "") -> Figure:
    """Methods by domains: a dot with its interval each, domains as rows, methods side by side
    inside a row.

    Parameters
    ----------
    data
        Columns method, domain, value, ci_low, ci_high, n, and role if known; of one metric.
    metric
        Names the axis.
    note
        Added to the caption.
    """
    domains, methods = _in_order(data["domain"], DOMAINS), _in_order(data["method"], METHODS)
    if (twice := data.duplicated(["method", "domain"])).any():
        raise ValueError(
            f"{twice.sum()} rows repeat a method and domain; keep one metric and one profile"
        )
    height = 1.3 + len(domains) * (0.3 + 0.17 * len(methods))
    fig = Figure(figsize=(7.2, height), layout="constrained")
    ax = fig.subplots()
    for j, method in enumerate(methods):
        rows = data[data["method"] == method].set_index("domain").reindex(domains)
        y = np.arange(len(domains)) + (j - (len(methods) - 1) / 2) * 0.78 / len(methods)
        style = style_of(method)
        ax.hlines(y, rows["ci_low"], rows["ci_high"], color=style.color, lw=2, alpha=0.55)
        drawn = {"color": style.color, "label": style.label, "mec": "white", "mew": 0.8}
        ax.plot(rows["value"], y, style.marker, ms=9 if style.marker == "*" else 6.5, **drawn)
    for row in range(0, len(domains), 2):
        ax.axhspan(row - 0.5, row + 0.5, color="#f6f7f9", zorder=0)
    if (low := float(np.nanmin(data[["value", "ci_low"]]))) < 0:
        ax.axvline(0, color=MUTED, lw=1)
    ax.set(xlim=(min(0, low - 0.03), 1), ylim=(len(domains) - 0.5, -0.5))
    ax.set_yticks(range(len(domains)), [_domain_label(data, d) for d in domains])
    ax.set_xlabel(f"{METRICS.get(metric, metric)} (higher is better)")
    ax.grid(axis="y", visible=False)
    fig.legend(loc="outside upper center", ncols=min(3, len(methods)))
    caption(fig, "bars: 95 % intervals, sources resampled", note)
    return fig


@styled
def plot_training_curves(
    history: pd.DataFrame,
    *,
    metrics: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    targets: Mapping[str, float] | None = None,
    note: str = "",
) -> Figure:
    """Logged metrics against the training step, one small panel each.

    Parameters
    ----------
    history
        Column step, one column per metric (NaN where not logged), and "run" if there are several.
    metrics
        Which, in order; default all.
    labels
        Printed names with unit and direction, such as {"kl": "KL to base (nats per token)"}.
    targets
        Levels drawn as dashed lines, such as {"format_share": .98}.
    note
        Appended to the caption.
    """
    metrics = list(metrics or [c for c in history.columns if c not in ("step", "run")])
    labels, targets = labels or {}, targets or {}
    runs = list(history.groupby("run", sort=False)) if "run" in history else [("", history)]
    shades = [METHODS[m].color for m in ("teacher", "rali", "ridge_visual", "unaligned")] + [MUTED]
    fig, axes = panels(len(metrics), size=(3.1, 2.3), sharex=True)
    for ax, metric in zip(axes, metrics, strict=True):
        for i, (run, rows) in enumerate(runs):
            _curve(ax, rows[["step", metric]].dropna(), shades[i % len(shades)], str(run))
        if metric in targets:
            ax.axhline(targets[metric], color=MUTED, ls="--", lw=1)
            place = {"xycoords": SIDE, "ha": "right", "va": "bottom"}
            ax.annotate("target", (0.99, targets[metric]), **place, fontsize=8, color=MUTED)
        ax.set_title(labels.get(metric, METRICS.get(metric, metric.replace("_", " "))))
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(4))
        ax.tick_params(labelbottom=True)
    if len(runs) > 1:
        shown = axes[0].get_legend_handles_labels()
        fig.legend(*shown, loc="outside upper center", ncols=min(5, len(runs)))
    smooth = "pale: logged, line: running mean of 1/20 of the run"
    caption(fig, "training step", smooth, note)
    return fig


@styled
def plot_score_scatter(
    data: pd.DataFrame,
    *,
    correlations: Mapping[str, object] | None = None,
    label: str = "pseudo-MOS",
    note: str = "",
) -> Figure:
    """Predicted score against opinion score, one panel per domain, with the diagonal of a perfect
    scorer.

    Parameters
    ----------
    data
        Columns domain, mos, score, both 1-5; a NaN score is counted in the title's n, not drawn.
    correlations
        Per domain, an `Estimate` for the title; default plain raw PLCC.
    label
        What the opinion score is called.
    note
        Appended to the caption.
    """
    domains = _in_order(data["domain"], DOMAINS)
    fig, axes = panels(len(domains), size=(2.7, 2.9), sharex=True, sharey=True)
    for ax, domain in zip(axes, domains, strict=True):
        rows = data[data["domain"] == domain]
        drawn, style = rows.dropna(subset="score"), style_of(domain)
        ax.plot([1, 5], [1, 5], color=MUTED, lw=1, ls="--", zorder=1)
        dots = {"color": style.color, "marker": style.marker, "alpha": 0.6, "lw": 0}
        ax.scatter(drawn["mos"], drawn["score"], s=18, **dots)
        ax.set(xlim=(0.8, 5.2), ylim=(0.8, 5.2), aspect="equal")
        ax.set(xticks=range(1, 6), yticks=range(1, 6))
        ax.tick_params(labelbottom=True)
        n = f"n = {len(drawn)}" + (f" of {len(rows)}" if len(drawn) < len(rows) else "")
        value = _value_line(drawn, (correlations or {}).get(domain))
        ax.set_title(f"{style.label}\n{value}", fontsize=9.5)
        ax.text(0.97, 0.04, n, transform=ax.transAxes, ha="right", fontsize=8, color=MUTED)
    fig.supylabel("predicted score (1-5)", fontsize=10)
    fig.supxlabel(f"{label} (1-5, higher is better)" + (f"; {note}" if note else ""), fontsize=10)
    return fig


@styled
def plot_mos_histograms(data: pd.DataFrame, *, label: str = "pseudo-MOS", note: str = "") -> Figure:
    """How opinion scores spread in each domain; data: columns domain, mos (1-5).

    Dashed: the mean.
    """
    domains = _in_order(data["domain"], DOMAINS)
    fig, axes = panels(len(domains), size=(2.7, 2.1), sharex=True)
    for ax, domain in zip(axes, domains, strict=True):
        mos, style = data.loc[data["domain"] == domain, "mos"].dropna(), style_of(domain)
        bars = {"color": style.color, "alpha": 0.8, "edgecolor": "white", "lw": 0.6}
        ax.hist(mos, bins=np.linspace(1, 5, 17), **bars)
        ax.axvline(mos.mean(), color=INK, lw=1.2, ls="--")
        ax.set_title(style.label)
        text = f"n = {len(mos)}\n{mos.mean():.2f} ± {mos.std():.2f}"
        ax.text(0.02, 0.97, text, transform=ax.transAxes, va="top", fontsize=8, color=MUTED)
        ax.set(xlim=(1, 5), xticks=range(1, 6), ylim=(0, ax.get_ylim()[1] * 1.3))
        ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        ax.tick_params(labelbottom=True)
    fig.supylabel("images", fontsize=10)
    text = f"{label} (1-5, higher is better), mean ± sd"
    fig.supxlabel(text + (f"; {note}" if note else ""), fontsize=10)
    return fig


@styled
def plot_efficiency(
    data: pd.DataFrame,
    *,
    limits: Mapping[str, float] | None = None,
    reference: str = "teacher",
    note: str = "",
) -> Figure:
    """Parameters, time and memory per method on log scales, with the share of the reference written
    out.

    Parameters
    ----------
    data
        Columns method, metric, value, and ci_low, ci_high where measured repeatedly (drawn as
        whiskers).
    limits
        The share of the reference to stay under, per metric, such as {"parameters": .05}; drawn
        dashed.
    reference
        The method that the shares refer to.
    note
        Appended to the caption.
    """
    methods = _in_order(data["method"], METHODS)
    fig, axes = panels(len(COSTS), size=(3.2, 0.45 * len(methods) + 1.35), sharey=True)
    for ax, (metric, (title, unit, factor)) in zip(axes, COSTS.items(), strict=True):
        rows = data[data["metric"] == metric].set_index("method").reindex(methods)
        whole, values = rows.loc[reference, "value"], rows["value"] * factor
        ax.barh(range(len(methods)), values, color=[style_of(m).color for m in methods], height=0.6)
        if "ci_low" in rows:
            ends = (rows[end] * factor for end in ("ci_low", "ci_high"))
            ax.hlines(range(len(methods)), *ends, color=INK, lw=1.4)
        if limits and metric in limits:
            at = limits[metric] * whole * factor
            ax.axvline(at, color=INK, ls=":", lw=1.3)
            text, place = f"paper: {_percent(limits[metric])}", {"ha": "center", "va": "bottom"}
            ax.annotate(text, (at, 1.01), xycoords=BELOW, **place, fontsize=8, color=INK)
        ends = np.fmax(rows["value"], rows.get("ci_high", np.nan)) * factor
        for y, (method, value) in enumerate(values.items()):
            share = "" if method == reference else f"  ({_percent(value / factor / whole)})"
            place = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "fontsize": 9}
            box = {"fc": "white", "ec": "none", "pad": 1}
            ax.annotate(f"{value:.3g}{share}", (ends[method], y), **place, bbox=box)
        ax.set(xscale="log", xlim=(values.min() / 3, values.max() * 8))
        ax.set_xlabel(f"{unit} (lower is better)")
        ax.set_title(title, pad=16 if limits else 6)
        ax.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(methods)), [style_of(m).label for m in methods])
    axes[0].invert_yaxis()
    caption(fig, f"log scales; in brackets: share of the {style_of(reference).label}", note)
    return fig


def _curve(ax, rows: pd.DataFrame, color: str, label: str) -> None:
    if len(rows) <= 25:
        ax.plot(*rows.to_numpy().T, "o-", color=color, lw=1.6, ms=3, label=label)
        return
    ax.plot(*rows.to_numpy().T, color=color, lw=0.8, alpha=0.3)
    smooth = rows.rolling(max(1, len(rows) // 20), center=True, min_periods=1).mean()
    ax.plot(rows.iloc[:, 0], smooth.iloc[:, 1], color=color, lw=1.8, label=label)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _in_order(names: pd.Series, known: Mapping) -> list[str]:
    present = {name: style_of(name) for name in names}  # an unknown name raises
    return [name for name in known if name in present]


def _domain_label(data: pd.DataFrame, domain: str) -> str:
    rows = data[data["domain"] == domain]
    sizes = sorted({int(n) for n in rows["n"].dropna()})
    size = f"n = {sizes[0]}" + (f"-{sizes[-1]}" if len(sizes) > 1 else "") if sizes else ""
    role = ROLES[rows["role"].iloc[0]] if "role" in rows else ""
    return "\n".join(part for part in (style_of(domain).label, role, size) if part)


def _value_line(rows: pd.DataFrame, found) -> str:
    if found is None:
        return f"PLCC {np.corrcoef(rows['mos'], rows['score'])[0, 1]:.2f}"
    return f"{found.name} {found.value:.2f} [{found.ci_low:.2f}, {found.ci_high:.2f}]"
