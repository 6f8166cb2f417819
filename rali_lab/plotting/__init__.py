"""Every figure of the project, in one style: each function takes data and returns a figure.

Figures are made without pyplot: none stays open, and a notebook shows one when a cell ends with it.
"""

from rali_lab.plotting.attention_maps import (
    plot_image_attention,
    plot_score_attention,
    plot_token_shares,
)
from rali_lab.plotting.charts import (
    plot_dot_interval,
    plot_efficiency,
    plot_mos_histograms,
    plot_score_scatter,
    plot_training_curves,
)
from rali_lab.plotting.comparison import plot_comparison
from rali_lab.plotting.diagrams import plot_basis, plot_pipeline
from rali_lab.plotting.image_grids import plot_distortion_sheet, plot_images_grid
from rali_lab.plotting.intervals import plot_effects, plot_sweeps
from rali_lab.plotting.style import DOMAINS, METHODS, Style, save_figure, style_of, use_style

__all__ = [
    "DOMAINS",
    "METHODS",
    "Style",
    "style_of",
    "plot_basis",
    "plot_comparison",
    "plot_distortion_sheet",
    "plot_dot_interval",
    "plot_efficiency",
    "plot_effects",
    "plot_mos_histograms",
    "plot_image_attention",
    "plot_images_grid",
    "plot_pipeline",
    "plot_score_attention",
    "plot_score_scatter",
    "plot_sweeps",
    "plot_token_shares",
    "plot_training_curves",
    "save_figure",
    "use_style",
]
