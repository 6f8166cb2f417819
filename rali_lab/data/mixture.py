"""Three training sets whose raters disagree: what RACT and naive mixing are compared on.

Every published data set has its own degradations *and* its own scale, and that is what makes mixing
them dangerous: a word that occurs in one set alone inherits that set's scale. `photo` and
`procedural` are the domains of `rali_lab.data.domains`; `snapshots` holds what goes wrong when an
image is taken, rated by a harsh panel. No scene of a test image is in any of them.
"""

from __future__ import annotations

from rali_lab.data.domains import DOMAINS, TRAIN, VAL, Domain, build_domain
from rali_lab.data.labels import RaterPanel
from rali_lab.data.records import RatedImage

SNAPSHOTS = Domain(
    "snapshots",
    {"train": TRAIN, "val": VAL},
    ("defocus_blur", "shot_noise", "darkening", "haze", "colour_cast", "jpeg2000"),
    (0.08, 0.52, 0.4, 0.0),
    RaterPanel(gain=0.7, shift=-0.8),
    "in",
)
SETS = ("photo", "procedural", "snapshots")
"""Training sets, the one whose scale counts first."""


def build_set(
    name: str, counts: dict[str, int], *, size: int = 128, seed: int = 0
) -> list[RatedImage]:
    """Training and validation images of one of `SETS`, rated by its own panel; as
    `rali_lab.data.domains.build_domain`.
    """
    return build_domain({**DOMAINS, SNAPSHOTS.name: SNAPSHOTS}[name], counts, size=size, seed=seed)
