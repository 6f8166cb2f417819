"""Figures of stages: values, intervals, levels and hollow marks are those of the data."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from rali_lab.analysis import project
from rali_lab.plotting import save_figure
from rali_lab.plotting import stages as figures

RNG = np.random.default_rng(0)
NAMES = ["visual", "base_text", "teacher_text", "clip", "rali"]
SPECTRA = pd.DataFrame(
    [(s, i, i / 5) for s in ("visual", "base_text") for i in range(1, 6)],
    columns=["stage", "axis", "share"],
)
INTERVALS = pd.DataFrame(
    {"value": [0.5, 0.4, 0.3, 0.2, 0.1], "ci_low": 0.0, "ci_high": 0.7, "raw": 0.6, "floor": -0.1},
    index=NAMES,
)
KEPT = INTERVALS.rename(columns={"value": "PLCC", "ci_low": "low", "ci_high": "high"}).assign(
    **{"participation ratio": [9.0, 8.0, 7.0, 6.0, 5.0]}
)
PAGE = pd.DataFrame(
    {
        f"{axis}{end}": at + np.arange(5) / 10
        for axis in ("domain", "quality")
        for end, at in (("", 0.5), ("_low", 0.4), ("_high", 0.6))
    },
    index=NAMES,
)
NOISE = pd.DataFrame({"n": [20, 20, 50, 50], "biased": [0.9, 1.0, 0.8, 0.6], "debiased": 0.0})
MAPS = {name: project(RNG.normal(size=(40, 6)), method="pca") for name in ("one", "two")}
DOMAINS = ["photo", "novel"] * 20
FIGURES = {
    "spectra": lambda: figures.plot_spectra(SPECTRA, note="n"),
    "kept": lambda: figures.plot_readout_and_dimension(KEPT, note="n"),
    "intervals": lambda: figures.plot_stage_intervals(INTERVALS, xlabel="gap", marks={"raw": "r"}),
    "plane": lambda: figures.plot_domain_against_quality(PAGE, floor=0.1, note="n"),
    "noise": lambda: figures.plot_cka_of_noise(NOISE),
    "projections": lambda: figures.plot_projections(MAPS),
    "seeds": lambda: figures.plot_projection_seeds(MAPS, DOMAINS),
}


def texts(fig) -> str:
    return "\n".join(t.get_text() for t in fig.findobj(Text))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_and_saved(name, tmp_path):
    fig = save_figure(FIGURES[name](), name, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{name}.png", f"{name}.svg"]
    assert texts(fig).strip()


def test_a_spectrum_is_the_line_of_its_stage():
    (ax,) = FIGURES["spectra"]().axes
    visual, before, level = ax.lines
    np.testing.assert_allclose(visual.get_ydata(), [0.2, 0.4, 0.6, 0.8, 1.0])
    assert visual.get_color() == figures.STAGES["visual"][1] and before.get_linestyle() == ":"
    assert set(level.get_ydata()) == {0.9}
    with pytest.raises(ValueError, match="no style for the stages \\['mystery'\\], known: visual"):
        figures.plot_spectra(SPECTRA.assign(stage="mystery"))


def test_stages_before_training_are_hollow():
    left, right = FIGURES["kept"]().axes
    hollow = [
        line.get_markerfacecolor() == "white" for line in left.lines if len(line.get_xdata()) == 1
    ]
    assert hollow == [False, True, False, True, False]
    assert [t.get_text() for t in left.get_yticklabels()] == NAMES
    assert [line.get_xdata()[1] for line in right.lines if len(line.get_xdata()) == 2] == [
        9,
        8,
        7,
        6,
        5,
    ]


def test_levels_stand_beside_the_value_and_in_the_legend():
    marks = {"raw": "raw", "floor": "floor of random halves"}
    fig = figures.plot_stage_intervals(INTERVALS, xlabel="gap", marks=marks, value_label="equal")
    dots, raw, floor = fig.axes[0].lines
    np.testing.assert_array_equal(dots.get_xdata(), INTERVALS["value"])
    assert set(raw.get_xdata()) == {0.6} and raw.get_marker() == "x"
    assert set(floor.get_xdata()) == {-0.1} and floor.get_marker() == "|"
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["equal", *marks.values()]
    silent = figures.plot_stage_intervals(INTERVALS, xlabel="gap", marks={"raw": ""}, xlim=(0, 1))
    assert silent.legends == [] and silent.axes[0].get_xlim() == (0, 1)


def test_the_plane_names_every_stage_and_draws_the_floor():
    fig = FIGURES["plane"]()
    assert set(NAMES) <= set(texts(fig).split("\n"))
    assert any(set(line.get_xdata()) == {0.1} for line in fig.axes[0].lines)


def test_noise_is_drawn_with_its_means():
    (ax,) = FIGURES["noise"]().axes
    np.testing.assert_allclose(ax.lines[1].get_ydata(), [0.95, 0.7])
    assert ax.lines[1].get_label() == "biased"


def test_projections_print_their_quality():
    assert texts(FIGURES["projections"]()).count("trustworthiness") == 2
    fig = FIGURES["seeds"]()
    assert len(fig.axes) == 2 and texts(fig).count("trust ") == 2
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["photo", "novel"]
    assert [ax.get_ylabel() for ax in fig.axes] == ["one", "two"]
