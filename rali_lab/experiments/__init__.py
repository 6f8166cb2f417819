"""From a profile to artefacts: what the notebooks call, step by step.

Most functions return an artefact: computed once, stored by the hash of what went into it, and
reused until an input, a setting or the code behind it changes (`rali_lab.reproduce.store`).
"""

from rali_lab.experiments.ablations import ablate, ablate_controls
from rali_lab.experiments.kept_tables import kept_tables_folder
from rali_lab.experiments.main_line import (
    export_rali,
    fine_tune_teacher,
    fit_rali,
    score_everything,
    train_teacher,
    write_reasoning,
)
from rali_lab.experiments.mechanism import SWAPS, explain, explain_controls
from rali_lab.experiments.mixed_datasets import (
    LABELS,
    MIXINGS,
    REFERENCE,
    fit_wide,
    mix,
    mix_live,
    mixed_scores,
    mixing_words,
    training_sets,
)
from rali_lab.experiments.representations import represent, represent_images
from rali_lab.experiments.steps import NO_THINKING, RATING_ONLY, base_path, images, make_images
from rali_lab.experiments.studies import SeedTables, seed_tables

__all__ = [
    "LABELS",
    "MIXINGS",
    "NO_THINKING",
    "RATING_ONLY",
    "REFERENCE",
    "SWAPS",
    "SeedTables",
    "ablate",
    "ablate_controls",
    "base_path",
    "explain",
    "explain_controls",
    "export_rali",
    "fine_tune_teacher",
    "fit_rali",
    "fit_wide",
    "images",
    "kept_tables_folder",
    "make_images",
    "mix",
    "mix_live",
    "mixed_scores",
    "mixing_words",
    "represent_images",
    "represent",
    "score_everything",
    "seed_tables",
    "train_teacher",
    "training_sets",
    "write_reasoning",
]
