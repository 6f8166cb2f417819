"""The whole probe in one call: what do several representations of the same images hold, and how do
they relate?
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rali_lab.analysis.decode import decode_domain, decode_score
from rali_lab.analysis.dimension import (
    effective_rank,
    mle_dimension,
    participation_ratio,
    pca_dimension,
    two_nn,
)
from rali_lab.analysis.domain_gap import GAPS, domain_gap
from rali_lab.analysis.inputs import codes, matrix, vector
from rali_lab.analysis.significance import significance
from rali_lab.analysis.similarity import cka
from rali_lab.estimate import Estimate

if TYPE_CHECKING:
    import pandas as pd

DIMENSIONS: dict[str, Callable] = {
    "participation_ratio": participation_ratio,
    "effective_rank": effective_rank,
    "pca_dimension_90": pca_dimension,
    "two_nn": two_nn,
    "mle_dimension": mle_dimension,
}
NUMBERS = ("value", "ci_low", "ci_high", "null_mean", "p", "floor")
COLUMNS = ("representation", "measure", "conditioned", *NUMBERS, "n", "notes")


@dataclass(frozen=True)
class Comparison:
    """Result of `compare`; prints as its table.

    Attributes
    ----------
    table
        Data frame, one row per representation (or pair "a ~ b" for CKA), measure and conditioning;
        missing where not computed.
    skipped
        "representation, measure: reason" for every number that could not be computed.
    """

    table: pd.DataFrame
    skipped: tuple[str, ...] = ()

    @property
    def cka(self) -> pd.DataFrame:
        """Debiased CKA between the representations, symmetric, 1 on the diagonal; empty for one
        representation.
        """
        import pandas as pd

        rows = self.table[self.table["measure"] == "cka"]
        pairs = {tuple(r.representation.split(" ~ ")): r.value for r in rows.itertuples()}
        names = list(dict.fromkeys(name for pair in pairs for name in pair))
        values = [
            [1.0 if a == b else pairs.get((a, b), pairs.get((b, a), np.nan)) for b in names]
            for a in names
        ]
        return pd.DataFrame(values, index=names, columns=names)

    def __str__(self) -> str:
        text = self.table.drop(columns="notes").to_string(
            index=False, na_rep="", float_format=lambda x: f"{x:.3f}"
        )
        return text + "".join(f"\nskipped: {reason}" for reason in self.skipped)


def compare(
    representations: Mapping[str, object],
    *,
    scores=None,
    domains=None,
    groups=None,
    gaps: Sequence[str] = ("mmd", "proxy_a", "knn_mixing"),
    n_bins: int = 5,
    n_permutations: int = 200,
    n_boot: int = 100,
    random_state: int = 0,
) -> Comparison:
    """Dimension, decodable score and domain, domain gaps raw and at equal score, and CKA, for
    several arrays of the same rows.

    Parameters
    ----------
    representations
        {name: (n, d) array}; row i is the same image in all, the widths may differ.
    scores
        (n,) numbers such as MOS; without them, nothing about the score and no conditioned gap.
    domains
        (n,) labels; without them, nothing about domains.
    groups
        (n,) labels, the source of each image: held out, permuted and drawn as a whole everywhere.
    gaps
        Of ``mmd, frechet, proxy_a, silhouette, knn_mixing``.
    n_bins
        Quantile bins of the score that conditioned gaps are matched in.
    n_permutations, n_boot
        Draws of each null and interval; 0 leaves them out. Readouts use ten times ``n_boot`` (they
        cost nothing).
    random_state
        Seed of everything.

    Returns
    -------
    Comparison
        Rows "participation_ratio", "effective_rank", "pca_dimension_90", "two_nn", "mle_dimension",
        "score_plcc", "domain_accuracy", one per gap and conditioning, and "cka" per pair; each
        means what the function of its name says.

    Raises
    ------
    ValueError
        No array; different numbers of rows; a bad array, named; bad scores, domains or groups. A
        single measure that cannot be computed is left out instead and named in ``skipped``.

    Notes
    -----
    It grows with n² per draw and with the number of pairs of domains; "proxy_a" with n³ and
    "frechet" with d³ per draw are the expensive ones. Three arrays of 600 rows and 384, 768 and 50
    columns with five domains took 40 s on one core with the defaults. For a first run, pass
    n_permutations=20, n_boot=0.

    >>> rng = np.random.default_rng(0)
    >>> text, pixels = rng.normal(size=(80, 4)), rng.normal(size=(80, 9))
    >>> labels = {"scores": text[:, 0], "domains": ["a", "b"] * 40}
    >>> report = compare({"text": text, "pixels": pixels}, **labels, n_permutations=19, n_boot=0)
    >>> report.table.query("measure == 'score_plcc'")["value"].round(1).tolist()[0]
    1.0
    >>> sorted(report.table["measure"].unique())[:4]
    ['cka', 'domain_accuracy', 'effective_rank', 'knn_mixing']
    """
    import pandas as pd

    arrays = _checked(representations)
    n = len(next(iter(arrays.values())))
    unknown = set(gaps) - set(GAPS)
    if unknown:
        raise ValueError(f"gaps={sorted(unknown)} not known; choose from {', '.join(GAPS)}")
    scores = None if scores is None else vector(scores, n)
    for labels, name in ((domains, "domains"), (groups, "groups")):
        codes(labels, n, name)
    draws = {"n_permutations": n_permutations, "groups": groups, "random_state": random_state}
    rows: list[dict] = []
    skipped: list[str] = []

    def add(name: str, measure: str, compute: Callable, /, *args, conditioned=False, **options):
        try:
            found = compute(*args, **options)
        except ValueError as error:
            where = f"{name}, {measure}{' at equal score' if conditioned else ''}"
            skipped.append(f"{where}: {error}")
            return
        if not isinstance(found, Estimate):
            found = Estimate(measure, float(found), n=n)
        row = found.to_dict() | {"representation": name, "measure": measure}
        row |= {"conditioned": conditioned, "notes": "; ".join(found.notes)}
        rows.append({key: row[key] for key in COLUMNS})

    for name, X in arrays.items():
        for measure, function in DIMENSIONS.items():
            add(name, measure, function, X)
        if scores is not None:
            add(name, "score_plcc", decode_score, X, scores, n_boot=10 * n_boot, **draws)
        if domains is None:
            continue
        add(name, "domain_accuracy", decode_domain, X, domains, n_boot=10 * n_boot, **draws)
        for gap, given in itertools.product(gaps, (None,) if scores is None else (None, scores)):
            settings = {"measure": gap, "scores": given, "n_bins": n_bins, "n_boot": n_boot}
            conditioned = given is not None
            add(name, gap, domain_gap, X, domains, conditioned=conditioned, **settings, **draws)
    for a, b in itertools.combinations(arrays, 2):
        add(f"{a} ~ {b}", "cka", significance, cka, arrays[a], arrays[b], n_boot=n_boot, **draws)
    table = pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(NUMBERS, float))
    return Comparison(table, tuple(skipped))


def _checked(representations: Mapping[str, object]) -> dict[str, np.ndarray]:
    if not representations:
        raise ValueError("no representation given, expected {name: (n, d) array}")
    if ambiguous := [name for name in representations if "~" in name]:
        raise ValueError(
            f"names {ambiguous} hold a ~, which joins the names of a pair; choose others"
        )
    arrays = {
        name: matrix(X, f"representation {name!r}", min_n=8) for name, X in representations.items()
    }
    sizes = {name: len(X) for name, X in arrays.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"representations have different numbers of rows, {sizes}; join them by image first"
        )
    return arrays
