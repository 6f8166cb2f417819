"""The claims ledger: sentences and bounds are written down before the run, verdicts follow by one
fixed rule.

A claim is a table in a TOML file:

    [[claim]]
    id = "rali.accuracy"
    sentence = "Aligned images score as well as the teacher that reasons."
    source = "paper, section 4, table 2"
    notebook = "07"
    measure = "PLCC of RALI minus PLCC of the teacher, mean over domains"
    relation = ">="
    bound = -0.05
    figure = "07_accuracy"  # optional: the figure that shows it
    note = "optional"
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from rali_lab.estimate import Estimate
from rali_lab.io import update_json

REPRODUCED, PARTLY, CONTRADICTED = "reproduced", "partly", "contradicted"
NOT_TESTABLE, NOT_RUN = "not testable", "not run"
_UNMEASURED = {
    "value": None,
    "ci_low": None,
    "ci_high": None,
    "n": None,
    "seeds": None,
    "detail": "",
}


class ClaimError(ValueError):
    """A claim is declared or recorded in a way that has no meaning."""


@dataclass(frozen=True)
class Claim:
    """One sentence of a paper, where it stands, what is measured for it and the bound fixed
    beforehand.

    `notebook` is the whole name ("07_evaluate") or its number ("07").
    """

    id: str
    sentence: str
    source: str
    notebook: str
    measure: str
    relation: str
    bound: float
    figure: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if self.relation not in (">=", "<="):
            raise ClaimError(
                f"claim {self.id!r}: relation must be '>=' or '<=', got {self.relation!r}"
            )
        if (
            isinstance(self.bound, bool)
            or not isinstance(self.bound, int | float)
            or not math.isfinite(self.bound)
        ):
            raise ClaimError(
                f"claim {self.id!r}: bound must be a finite number, got {self.bound!r}"
            )

    def belongs_to(self, notebook: str) -> bool:
        return notebook == self.notebook or notebook.startswith(f"{self.notebook}_")

    @property
    def rule(self) -> str:
        """What is measured and the bound it is held against, in one line."""
        return f"{self.measure} {self.relation} {self.bound:g}"

    def verdict(self, ci_low: float, ci_high: float) -> str:
        """All of the interval satisfies the relation: reproduced; none: contradicted; some: partly.

        >>> claim = Claim("a", "It works.", "section 4", "07", "PLCC", ">=", 0.7)
        >>> claim.verdict(0.7, 0.8), claim.verdict(0.6, 0.8), claim.verdict(0.6, 0.69)
        ('reproduced', 'partly', 'contradicted')
        """
        worst, best = (ci_low, ci_high) if self.relation == ">=" else (-ci_high, -ci_low)
        bound = self.bound if self.relation == ">=" else -self.bound
        return REPRODUCED if worst >= bound else CONTRADICTED if best < bound else PARTLY


def read_claims(path: str | Path) -> tuple[Claim, ...]:
    """Claims of a TOML file in their order; missing, unknown or repeated entries are errors."""
    path = Path(path)
    claims = tuple(
        _claim(entry) for entry in tomllib.loads(path.read_text(encoding="utf-8")).get("claim", [])
    )
    seen: set[str] = set()
    for claim in claims:
        if claim.id in seen:
            raise ClaimError(
                f"{path.name}: claim id {claim.id!r} is declared twice; give each its own"
            )
        seen.add(claim.id)
    return claims


def _claim(entry: dict[str, Any]) -> Claim:
    known = [field.name for field in fields(Claim)]
    missing = [name for name in known if name not in entry and name not in ("figure", "note")]
    unknown = [name for name in entry if name not in known]
    if missing or unknown:
        raise ClaimError(
            f"claim {entry.get('id', '?')!r}: missing {missing}, unknown {unknown}; the fields are"
            f" {known}"
        )
    return Claim(**entry)


class Ledger:
    """The declared claims and what this run found, in a JSON file that the notebooks write one
    after another.

    A record made under an earlier wording or bound counts as not run.
    """

    def __init__(self, claims_file: str | Path, out_json: str | Path) -> None:
        self.claims = {claim.id: claim for claim in read_claims(claims_file)}
        self.path = Path(out_json)

    def record(
        self,
        id: str,
        estimate: Estimate,
        *,
        detail: str = "",
        seeds: int | Sequence[int] | None = None,
    ) -> str:
        """Print, store and return the verdict on a claim.

        Parameters
        ----------
        id : str
            A declared claim.
        estimate : Estimate
            Its value, interval and number of items, in the unit of the claim's bound.
        detail : str
            What a reader of docs/CLAIMS.md should know beside the numbers.
        seeds : int, sequence of int or None
            How many training seeds, or which; by default ``estimate.n_seeds``.

        Returns
        -------
        str
            "reproduced", "partly" or "contradicted" (`Claim.verdict`).

        Raises
        ------
        ClaimError
            For an unknown id, a value that is not finite, an interval that is missing, NaN or
            reversed, or fewer than one item.
        """
        claim = self._known(id)
        value, low, high, n = estimate.value, estimate.ci_low, estimate.ci_high, estimate.n
        if low is None or high is None or n is None:
            raise ClaimError(
                f"claim {id!r}: measured {value} [{low}, {high}], n={n}; a verdict needs an"
                " interval and n: ask for them where the estimate is made"
            )
        value, low, high = float(value), float(low), float(high)
        if not math.isfinite(value) or math.isnan(low) or math.isnan(high):
            raise ClaimError(
                f"claim {id!r}: measured {value} [{low}, {high}]; NaN has no verdict: "
                "find its cause or call not_testable(id, why)"
            )
        if low > high or n < 1:
            raise ClaimError(
                f"claim {id!r}: needs ci_low <= ci_high and n >= 1, got [{low}, {high}], n={n}"
            )
        seeds = estimate.n_seeds if seeds is None else seeds
        verdict = claim.verdict(low, high)
        finding = {
            "verdict": verdict,
            "value": value,
            "ci_low": _finite(low),
            "ci_high": _finite(high),
            "n": int(n),
            "seeds": [int(s) for s in seeds] if isinstance(seeds, Sequence) else int(seeds),
            "detail": detail,
        }
        interval = f"{value:.4g} [{low:.4g}, {high:.4g}]"
        asked = f"asked {claim.relation} {claim.bound:.4g}"
        print(f"{id}: {verdict}; {interval}, {asked}, n={n}")
        self._store(id, finding)
        return verdict

    def not_testable(self, id: str, why: str) -> str:
        """State that this run is too small, or the wrong kind, to judge a claim, and why."""
        self._known(id)
        if not why.strip():
            raise ClaimError(f"claim {id!r}: say why it is not testable here")
        print(f"{id}: {NOT_TESTABLE}; {why}")
        self._store(id, {"verdict": NOT_TESTABLE, **_UNMEASURED, "detail": why})
        return NOT_TESTABLE

    def table(self) -> list[dict[str, Any]]:
        """One row per declared claim, in the order of the file; the verdict may be "not run"."""
        return self._rows(self._recorded())

    def rows(self, notebook: str) -> list[dict[str, Any]]:
        """The rows of `table` whose claims belong to `notebook`."""
        return [row for row in self.table() if self.claims[row["id"]].belongs_to(notebook)]

    def forget(self, notebook: str) -> None:
        """Set the claims of one notebook back to "not run"."""

        def without(rows: list) -> list:
            found = self._known_findings(rows)
            return self._rows(
                {id: row for id, row in found.items() if not self.claims[id].belongs_to(notebook)}
            )

        update_json(self.path, without, empty=[])

    def _known(self, id: str) -> Claim:
        if id not in self.claims:
            raise ClaimError(
                f"claim {id!r} is not declared; declared are {sorted(self.claims)}: add it before"
                " the run"
            )
        return self.claims[id]

    def _recorded(self) -> dict[str, dict[str, Any]]:
        """Findings by id, of claims that are still declared just as they were when recorded."""
        return self._known_findings(
            json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else []
        )

    def _known_findings(self, rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        found = {}
        for row in rows:
            declared = asdict(self.claims[row["id"]]) if row["id"] in self.claims else None
            finding = {name: item for name, item in row.items() if name not in (declared or ())}
            if declared == {name: row[name] for name in row.keys() - finding.keys()}:
                found[row["id"]] = finding
        return {id: finding for id, finding in found.items() if finding["verdict"] != NOT_RUN}

    def _rows(self, findings: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
        blank = {"verdict": NOT_RUN, **_UNMEASURED}
        return [{**asdict(claim), **findings.get(id, blank)} for id, claim in self.claims.items()]

    def _store(self, id: str, finding: dict[str, Any]) -> None:
        update_json(
            self.path,
            lambda rows: self._rows({**self._known_findings(rows), id: finding}),
            empty=[],
        )


def ledger_rows(
    claims_json: str | Path, notebooks: str | Path, *, profile: str
) -> list[dict[str, Any]]:
    """The ledger of a run as plain rows.

    Parameters
    ----------
    claims_json : str or Path
        What the notebooks of a run have written.
    notebooks : str or Path
        Folder of the executed notebooks.
    profile : str
        Size of that run.

    Returns
    -------
    list of dict
        One row per claim: id, sentence, rule, cell, profile, value, ci_low, ci_high and verdict.
        The cell is the notebook and the cell that gives the verdict, "03_explain.ipynb#cell-017";
        None if it never ran.
    """
    rows, where = json.loads(Path(claims_json).read_text(encoding="utf-8")), cells(notebooks)
    declared = [field.name for field in fields(Claim)]
    return [
        {
            "id": row["id"],
            "sentence": row["sentence"],
            "rule": Claim(**{k: row[k] for k in declared}).rule,
            "cell": where.get(row["id"]),
            "profile": profile,
            **{k: row[k] for k in ("value", "ci_low", "ci_high", "verdict")},
        }
        for row in rows
    ]


CLAIM_ID = re.compile(r"""["']([a-z]+\.[a-z_]+)["']""")
"""How an id stands in the code of a notebook: quoted, two words joined by a dot."""


def cells(notebooks: str | Path) -> dict[str, str]:
    """Where each claim gets its verdict: the first code cell of an executed notebook that names its
    id in quotes.
    """
    found: dict[str, str] = {}
    for file in sorted(Path(notebooks).glob("[0-9][0-9]_*.ipynb")):
        for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                for id in CLAIM_ID.findall("".join(cell["source"])):
                    found.setdefault(id, f"{file.name}#{cell.get('id', '')}")
    return found


def _finite(bound: float) -> float | str:
    """An open end of an interval is written as a word, because JSON has no infinity."""
    return bound if math.isfinite(bound) else str(bound)
