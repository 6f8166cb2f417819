"""Charts about opinion scores: every value is drawn, and nothing is dropped without a word."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from rali_lab.data.distortions import TYPES
from rali_lab.data.records import Distortion, RatedImage
from rali_lab.plotting import opinion_scores as charts
from rali_lab.plotting.style import DOMAINS

LEVELS = pd.DataFrame(
    [
        (name, kind.family, level, 5.0 - 0.7 * level, 0.1)
        for name, kind in TYPES.items()
        for level in range(1, 6)
    ],
    columns=["distortion", "family", "level", "quality", "half"],
)
ENDS = {"ci_low": 0.5, "ci_high": 0.8}
SPLITS = pd.DataFrame(
    [
        {"method": m, "split by": s, "plcc": v, **ENDS}
        for m, s, v in (("ridge", "images", 0.7), ("ridge", "scenes", 0.6), ("knn", "images", 0.65))
    ]
)
SHORTCUTS = pd.DataFrame(
    [
        {"shortcut": s, "domain": d, "srcc": 0.6, **ENDS}
        for d in ("photo", "novel")
        for s in ("contrast", "brightness")
    ]
)
DRAWS = pd.DataFrame(
    [
        {"n": n, "protocol": p, "plcc": x}
        for n in (100, 25)
        for p in ("raw", "fit")
        for x in np.linspace(0, n / 100, 11)
    ]
)
CURVES = pd.DataFrame({"quality": [1.0, 3.0, 5.0], "photo": [1.0, 3.0, 5.0], "novel": [1, 2, 4]})
FIGURES = {
    "levels": lambda: charts.plot_levels(
        LEVELS, value="quality", label="q", groups=charts.FAMILIES
    ),
    "bias": lambda: charts.plot_annotation_bias(CURVES),
    "splits": lambda: charts.plot_splits(SPLITS, note="n"),
    "shortcuts": lambda: charts.plot_shortcuts(SHORTCUTS, note="n"),
    "random": lambda: charts.plot_random_scores(DRAWS, note="n"),
}


def image(*distortions):
    pixels = np.zeros((32, 32, 3), np.uint8)
    about = {"source": "s", "split": "test", "mos": 2.25, "array": pixels}
    return RatedImage("a", "photo", distortions=distortions, **about)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_and_leaves_no_trace(name):
    before = dict(plt.rcParams)
    fig = FIGURES[name]()
    fig.canvas.draw()
    assert any(ax.lines for ax in fig.axes)
    assert plt.get_fignums() == [] and dict(plt.rcParams) == before


def test_every_distortion_has_its_line_at_its_means():
    axes = [ax for ax in FIGURES["levels"]().axes if ax.get_visible()]
    drawn = {line.get_label(): line[0].get_ydata() for ax in axes for line in ax.containers}
    assert set(drawn) == {name.replace("_", " ") for name in TYPES}
    assert all(np.allclose(y, [4.3, 3.6, 2.9, 2.2, 1.5]) for y in drawn.values())
    assert [ax.get_title() for ax in axes] == list(charts.FAMILIES)


def test_a_family_without_a_panel_and_a_crowded_panel_are_errors():
    with pytest.raises(ValueError, match=r"no panel for the families \['blur'"):
        charts.plot_levels(LEVELS, value="quality", label="q", groups={"noise": ("noise",)})
    with pytest.raises(ValueError, match=f"{len(TYPES)} distortions in one panel, at most 5"):
        charts.plot_levels(LEVELS, value="quality", label="q")


def test_intervals_stand_in_the_row_of_their_name_and_the_colour_of_their_mark():
    (ax,) = FIGURES["splits"]().axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["ridge", "knn"]
    images, scenes = ax.lines
    assert list(images.get_xdata()) == [0.7, 0.65] and list(scenes.get_xdata()) == [0.6]
    assert np.allclose(images.get_ydata(), [-0.12, 0.88]) and scenes.get_ydata() == [0.12]
    (ax,) = FIGURES["shortcuts"]().axes
    assert ax.lines[0].get_color() == DOMAINS["photo"].color


def test_random_scores_are_averaged_for_each_size_in_order():
    (ax,) = FIGURES["random"]().axes
    assert list(ax.lines[0].get_xdata()) == [25, 100]
    assert np.allclose(ax.lines[0].get_ydata(), [0.125, 0.5])
    with pytest.raises(ValueError, match="5 protocols, at most 4"):
        charts.plot_random_scores(
            pd.DataFrame({"n": 25, "protocol": [*"abcde"], "plcc": [0.0] * 5})
        )


def test_a_rated_image_is_titled_with_domain_score_and_distortions():
    assert charts.what_was_done(image()) == "nothing"
    assert charts.what_was_done(image(Distortion("jpeg", 4))).endswith("\N{NO-BREAK SPACE}4")
    fig = charts.plot_rated_images([image(Distortion("jpeg", 4))])
    assert fig.axes[0].get_title().startswith("photo, 2.2\n")
