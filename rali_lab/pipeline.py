"""From a profile to artefacts: the one line that the notebooks follow, step by step.

Every function returns something that is computed once, stored by the hash of what went into it, and reused until an input, a
setting or the code behind it changes (`rali_lab.lab.artifacts`). Nothing here teaches; the notebooks and the modules do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from rali_lab.data.records import Picture, load_pictures, mos_of, save_pictures, select
from rali_lab.lab.artifacts import Artifact, ArtifactStore
from rali_lab.profiles import Profile

DATA = ("rali_lab.data.domains", "rali_lab.data.content", "rali_lab.data.distortions", "rali_lab.data.strengths", "rali_lab.data.labels")
REASONER = ("rali_lab.reasoner", "rali_lab.vision")
RALI = ("rali_lab.rali", "rali_lab.vision")
TEACHERS = ("base", "teacher", "teacher_no_reasoning")


def pictures_artifact(profile: Profile, *, seed: int = 0) -> Artifact:
    """All generated domains of a profile."""
    from rali_lab.data.domains import build

    def make(folder: Path) -> None:
        save_pictures(build(profile.pictures, seed=seed), folder)

    return ArtifactStore().make("pictures", make, params={"pictures": profile.pictures, "seed": seed}, code=DATA)


def pictures(profile: Profile, *, seed: int = 0) -> list[Picture]:
    """The pictures of all generated domains of a profile; see `rali_lab.data.domains`."""
    return load_pictures(pictures_artifact(profile, seed=seed).path)


def base_path(profile: Profile) -> Path:
    """Folder of the profile's base model."""
    from rali_lab.reasoner.policy import base_folder

    return Path(profile.base) if profile.base else base_folder()
