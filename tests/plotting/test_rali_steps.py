"""Figures of the steps of RALI: what is drawn, and where the marks stand."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from rali_lab.plotting import rali_steps as draw
from rali_lab.plotting import save_figure

RNG = np.random.default_rng(0)
PLACES = pd.DataFrame(RNG.normal(size=(12, 2)), columns=["x", "y"]).assign(
    view=["texts"] * 6 + ["images"] * 6, mos=RNG.uniform(1, 5, 12)
)
SPECTRA = pd.DataFrame({"component": [1, 2, 3], "before": [0.5, 0.8, 1], "after": [0.7, 0.9, 1]})
TAUS, MOS = np.array([0.1, 1.0, 10.0]), np.linspace(1, 5, 9)
SWEEP = pd.DataFrame({"tau": TAUS, "relative_spread": [1.1, 0.5, 0.1], "plcc": [0.9, 0.9, 0.8]})
SCORES = 3 + (MOS - 3) * SWEEP["relative_spread"].to_numpy()[:, None]
TUNING = pd.DataFrame(
    {"epoch": [0, 1, 2], "train_mse": [0.5, 0.4, 0.3], "validation_mse": [0.6, 0.4, 0.5]}
)
RATED = pd.DataFrame({"set": [*"ab"] * 5, "quality": np.linspace(1, 5, 10)}).assign(
    set=lambda d: d["set"].map({"a": "photo", "b": "snapshots"}), mos=lambda d: d["quality"]
)
OPINIONS = {"photo": lambda quality: quality, "snapshots": lambda quality: quality - 0.8}
ALIGNMENT = pd.DataFrame(
    {"epoch": [1, 2], "loss": [3.0, 2.0], "holdout_loss": [3.0, 2.5], "holdout_top1": [0.1, 0.3]}
)
IMAGES = [np.full((16, 24, 3), 50 * i, dtype=np.uint8) for i in range(3)]
WRITTEN = pd.DataFrame({"mos": [1.0, 2.0, 4.0], "rating": [1.2, 2.0, 3.9], "rationale": [*"abc"]})
HEAVIEST = pd.DataFrame({"weight": [0.5, 0.25], "score": [4.5, 4.0], "rationale": ["sharp", "c"]})
FIGURES = {
    "projection": lambda: draw.plot_projection(PLACES, axes_of="texts", note="n = 6"),
    "spectra": lambda: draw.plot_variance_held(SPECTRA, kept=2),
    "temperatures": lambda: draw.plot_temperatures(SWEEP, SCORES, MOS, marked=(0.1, 1.0), lines=3),
    "fine_tuning": lambda: draw.plot_fine_tuning(TUNING),
    "raters": lambda: draw.plot_rater_panels(RATED, OPINIONS),
    "alignment": lambda: draw.plot_alignment(ALIGNMENT),
    "rationales": lambda: draw.plot_rationales(IMAGES, WRITTEN),
    "explanation": lambda: draw.plot_explanation(IMAGES[0], "asked", IMAGES[1:], HEAVIEST),
}


def titles(fig):
    return [ax.get_title() for ax in fig.axes if ax.get_visible() and ax.get_title()]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_twice_the_same_and_leaves_no_trace(name, tmp_path):
    before = dict(plt.rcParams)
    for folder in ("a", "b"):
        save_figure(FIGURES[name](), name, tmp_path / folder)
    assert len({(tmp_path / f / f"{name}.png").read_bytes() for f in ("a", "b")}) == 1
    assert plt.get_fignums() == [] and dict(plt.rcParams) == before


def test_a_projection_has_a_panel_for_each_view_with_all_its_points():
    fig = FIGURES["projection"]()
    assert titles(fig) == ["texts", "images"]
    dots = [ax.collections[0].get_offsets() for ax in fig.axes[:2]]
    np.testing.assert_allclose(np.vstack(dots), PLACES[["x", "y"]])
    assert fig.axes[0].get_xlabel() == "first component of the texts"


def test_spectra_are_named_and_the_kept_components_marked():
    ax = FIGURES["spectra"]().axes[0]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["before", "after"]
    assert list(ax.lines[2].get_xdata()) == [2, 2] and ax.get_xscale() == "log"


def test_temperatures_show_single_scores_and_their_spread():
    left, right = FIGURES["temperatures"]().axes
    marks = [line for line in left.lines if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in marks] == [0.1, 1.0]
    drawn = np.array([line.get_ydata() for line in left.lines if line not in marks])
    np.testing.assert_allclose(drawn, SCORES.T[::3])
    np.testing.assert_allclose(right.lines[0].get_ydata(), SWEEP["relative_spread"])


def test_fine_tuning_marks_the_epoch_of_the_smallest_validation_error():
    ax = FIGURES["fine_tuning"]().axes[0]
    kept = next(line for line in ax.lines if line.get_label() == "kept")
    assert list(kept.get_xdata()) == [1, 1] and ax.get_ylim()[0] == 0


def test_rater_panels_hold_the_opinion_beside_that_of_raters_without_bias():
    fig = FIGURES["raters"]()
    assert titles(fig) == ["photo (n = 5)", "snapshots (n = 5)"]
    fair, opinion = fig.axes[1].lines
    np.testing.assert_allclose(fair.get_ydata() - opinion.get_ydata(), 0.8)
    with pytest.raises(KeyError, match="snapshots"):
        draw.plot_rater_panels(RATED, {"photo": OPINIONS["photo"]})


def test_images_carry_what_is_known_about_them():
    assert titles(FIGURES["rationales"]())[0] == "pseudo-MOS 1.0, teacher 1.2\na"
    assert titles(FIGURES["explanation"]()) == [
        "asked",
        "weight 0.50, score 4.50\nsharp",
        "weight 0.25, score 4.00\nc",
    ]
