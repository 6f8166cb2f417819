"""Figures: every function draws, styles are fixed and distinct, files reproduce to the byte."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from rali_lab import plotting
from rali_lab.analysis import Comparison, compare
from rali_lab.analysis.compare import DIMENSIONS
from rali_lab.evaluate import correlate

RNG = np.random.default_rng(0)
SCORES = pd.DataFrame({"domain": ["novel", "photo"] * 20, "mos": RNG.uniform(1, 5, 40)}).assign(
    score=lambda d: d["mos"] + 0.3
)
RESULTS = pd.DataFrame(
    [
        {
            "method": m,
            "domain": d,
            "role": "in",
            "value": 0.5,
            "ci_low": -0.1,
            "ci_high": 0.6,
            "n": 40,
        }
        for m in ("rali", "base")
        for d in ("livec", "photo")
    ]
)
COSTS = pd.DataFrame(
    [
        {"method": m, "metric": c, "value": v}
        for m, v in (("teacher", 10.0), ("rali", 0.5))
        for c in ("parameters", "seconds_per_image", "peak_memory_bytes")
    ]
)
HISTORY = pd.DataFrame(
    {"step": range(40), "reward": RNG.random(40), "plcc": [0.5, *[np.nan] * 38, 0.8]}
)
IMAGES = [np.full((16, 24, 3), 50 * i, dtype=np.uint8) for i in range(5)]
KINDS = ["sink", "image", "image", "prompt", "reasoning", "format", "score"]
SHARES = pd.DataFrame(
    [
        {"method": m, "group": g, "share": 1 / 6, "per_token": 1.0}
        for m in ("base", "teacher")
        for g in dict.fromkeys(KINDS)
    ]
)
SWEEP = pd.DataFrame(
    {
        "setting": ["tau"] * 3,
        "at": [0.1, 1.0, 10.0],
        "images": "validation",
        "value": [0.5, 0.7, 0.6],
    }
)
EFFECTS = RESULTS.rename(columns={"domain": "effect"}).assign(
    method=lambda d: d["method"].replace("rali", "teacher")
)
FIGURES = {
    "score_attention": lambda: plotting.plot_score_attention(
        [*"abcdef$"], KINDS, RNG.random((2, 3, 7))
    ),
    "image_attention": lambda: plotting.plot_image_attention(
        IMAGES[:2], RNG.random((2, 4, 4)), ["a", "b"]
    ),
    "shares": lambda: plotting.plot_token_shares(SHARES, note="n"),
    "sweeps": lambda: plotting.plot_sweeps(SWEEP, chosen={"tau": 1.0}),
    "effects": lambda: plotting.plot_effects(EFFECTS, xlabel="PLCC", bands=["photo"], xlim=(0, 1)),
    "dots": lambda: plotting.plot_dot_interval(RESULTS, note="1 seed"),
    "training": lambda: plotting.plot_training_curves(HISTORY, targets={"plcc": 0.85}),
    "scatter": lambda: plotting.plot_score_scatter(SCORES),
    "histograms": lambda: plotting.plot_mos_histograms(SCORES),
    "efficiency": lambda: plotting.plot_efficiency(COSTS, limits={"parameters": 0.05}),
    "grid": lambda: plotting.plot_images_grid(IMAGES, list("abcde"), columns=3),
    "sheet": lambda: plotting.plot_distortion_sheet({"noise": IMAGES}, pristine=IMAGES[0]),
    "pipeline": plotting.plot_pipeline,
    "basis": lambda: plotting.plot_basis(RNG.normal(size=(9, 2)), np.linspace(1, 5, 9), note="PCA"),
}


def texts(fig):
    return " ".join(t.get_text() for t in fig.findobj(plt.Text))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_and_leaves_no_trace(name, tmp_path):
    before = dict(plt.rcParams)
    fig = plotting.save_figure(FIGURES[name](), name, tmp_path)
    photographs = {
        "grid",
        "sheet",
        "image_attention",
    }  # an SVG of them would only hold the pixels again
    endings = ["png"] if name in photographs else ["png", "svg"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{name}.{ending}" for ending in endings]
    assert texts(fig).strip() or name == "grid"
    assert plt.get_fignums() == []
    assert dict(plt.rcParams) == before


def test_files_are_the_same_bytes_twice_and_name_their_origin(tmp_path):
    for folder in ("a", "b"):
        fig = plotting.plot_dot_interval(RESULTS)
        plotting.save_figure(
            fig, "dots", tmp_path / folder, RESULTS, provenance="profile tiny, seed 0"
        )
    for ending in ("png", "svg", "csv"):
        first, second = ((tmp_path / f / f"dots.{ending}").read_bytes() for f in ("a", "b"))
        assert first == second
    csv = tmp_path / "a" / "dots.csv"
    assert csv.read_text().startswith("# figure dots, rali_lab ")
    assert "profile tiny, seed 0" in csv.read_text().splitlines()[0]
    pd.testing.assert_frame_equal(pd.read_csv(csv, comment="#"), RESULTS)


def test_styles_are_distinct_within_methods_and_within_domains():
    for styles in (plotting.METHODS, plotting.DOMAINS):
        for field in ("color", "marker", "label"):
            assert len({getattr(one, field) for one in styles.values()}) == len(styles)
    assert not {m.color for m in plotting.METHODS.values()} & {
        d.color for d in plotting.DOMAINS.values()
    }


def test_unknown_method_is_an_error_not_a_random_colour():
    with pytest.raises(ValueError, match="no style for 'mystery', known: base, teacher"):
        plotting.plot_dot_interval(RESULTS.assign(method="mystery"))


def test_two_metrics_at_once_are_refused():
    with pytest.raises(ValueError, match="4 rows repeat a method and domain"):
        plotting.plot_dot_interval(pd.concat([RESULTS, RESULTS]))


def test_order_is_fixed_whatever_the_order_of_rows():
    fig = plotting.plot_dot_interval(RESULTS)
    assert [t.get_text().split("\n")[0] for t in fig.axes[0].get_yticklabels()] == [
        "photo",
        "LIVE Challenge",
    ]
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["base VLM", "RALI"]


def test_axis_says_direction_and_shows_negative_values():
    axis = plotting.plot_dot_interval(RESULTS).axes[0]
    assert axis.get_xlabel() == "PLCC (higher is better)"
    assert axis.get_xlim()[0] <= -0.1


def test_missing_scores_are_said_in_the_scatter():
    scores = SCORES.copy()
    scores.loc[1, "score"] = np.nan
    found = {"photo": correlate(scores["score"][1::2], scores["mos"][1::2])}
    shown = texts(plotting.plot_score_scatter(scores, correlations=found))
    assert "n = 19 of 20" in shown
    assert "PLCC 1.00 [1.00, 1.00]" in shown


def test_efficiency_writes_the_shares():
    shown = texts(FIGURES["efficiency"]())
    assert shown.count("(5 %)") == 3
    assert "paper: 5 %" in shown


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: plotting.plot_images_grid(IMAGES, ["one"]), "got 1 captions for 5 images"),
        (lambda: plotting.plot_images_grid([]), "nothing to plot"),
        (lambda: plotting.plot_distortion_sheet({"noise": IMAGES[:3]}), "{'noise': 3}"),
        (lambda: plotting.plot_basis(np.zeros((4, 3)), np.ones(4)), r"\(4, 3\), expected \(4, 2\)"),
    ],
)
def test_errors_say_what_is_wrong(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_use_style_sets_the_defaults():
    with plt.rc_context():
        plotting.use_style()
        assert plt.rcParams["svg.hashsalt"] == "rali_lab"


def test_the_tokens_of_an_image_are_drawn_as_one_that_holds_their_sum():
    weights = np.zeros((1, 1, 7))
    weights[..., 1:3] = 0.2, 0.3
    fig = plotting.plot_score_attention([*"abcdefg"], KINDS, weights)
    image = fig.axes[0].images[0].get_array()
    assert image.shape == (1, 6) and image[0, 1] == pytest.approx(0.5)
    assert "image (2)" in texts(fig)
    with pytest.raises(ValueError, match="7 tokens are too many to read, at most 3"):
        plotting.plot_score_attention([*"abcdefg"], ["prompt"] * 7, weights, widest=3)
    with pytest.raises(ValueError, match="2 images but 1 attention"):
        plotting.plot_image_attention(IMAGES[:2], RNG.random((1, 4, 4)))


def test_a_comparison_has_a_panel_per_measure():
    rng = np.random.default_rng(0)
    arrays = {"text": rng.normal(size=(80, 4)), "pixels": rng.normal(size=(80, 6))}
    labels = {"scores": arrays["text"][:, 0], "domains": ["photo", "novel"] * 40}
    report = compare(arrays, **labels, n_bins=2, n_permutations=9, n_boot=0)
    fig = plotting.plot_comparison(report)
    titles = [ax.get_title() for ax in fig.axes if ax.get_visible()]
    assert len(titles) == report.table["measure"].nunique() == len(set(titles))
    assert titles[-1].startswith("Debiased CKA") and "null at most" in titles[-1]
    assert {t.get_text() for t in fig.axes[0].get_yticklabels()} == {"text", "pixels"}
    assert [t.get_text() for t in fig.legends[0].get_texts()] == [
        "raw",
        "at equal score",
        "null",
        "floor",
    ]
    bare = Comparison(report.table[report.table["measure"].isin(DIMENSIONS)])
    assert [t.get_text() for t in plotting.plot_comparison(bare).legends[0].get_texts()] == ["raw"]
