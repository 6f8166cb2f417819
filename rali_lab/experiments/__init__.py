"""From a profile to artefacts: what the notebooks call, step by step.

Every function returns something that is computed once, stored by the hash of what went into it, and
reused until an input, a setting or the code behind it changes (`rali_lab.reproduce.store`).
"""

from .ablations import ablate, ablate_controls
from .main_line import (
    NO_REASONING,
    UNREASONED,
    base_path,
    export_rali,
    fine_tune_teacher,
    fit_rali,
    grpo_settings,
    images,
    make_images,
    score_everything,
    train_teacher,
    write_reasoning,
)
from .mixed_datasets import (
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
from .representations import SWAPS, explain, explain_controls, read_images, represent
from .seed_tables import kept_tables_folder
from .studies import SeedTables, seed_tables

__all__ = [
    "LABELS",
    "MIXINGS",
    "NO_REASONING",
    "REFERENCE",
    "SWAPS",
    "UNREASONED",
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
    "grpo_settings",
    "kept_tables_folder",
    "make_images",
    "mix",
    "mix_live",
    "mixed_scores",
    "mixing_words",
    "images",
    "read_images",
    "represent",
    "score_everything",
    "seed_tables",
    "train_teacher",
    "training_sets",
    "write_reasoning",
]
