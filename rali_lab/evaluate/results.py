"""Headline numbers as data: one record per number, one JSON list per profile."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from rali_lab.estimate import Estimate
from rali_lab.io import write_json

ROLES = ("in", "out", "real")
_NAME = re.compile(r"[a-z0-9_]+|-")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One number of a run.

    Attributes
    ----------
    profile, method, domain, metric
        Lower-case names; domain "-" for numbers of the model itself, such as its size.
    role
        "in" (the domain RL saw), "out" (not trained on) or "real" (human scores).
    value, ci_low, ci_high
        Finite, with ci_low <= value <= ci_high; both ends None without an interval.
    n
        Images behind the number, None where there are none.
    seeds
        Training seeds behind the number, >= 1.

    Examples
    --------
    >>> Record(profile="tiny", method="rali", domain="photo", role="in", metric="plcc", value=.9).id
    'tiny/rali/photo/plcc'
    """

    profile: str
    method: str
    domain: str
    role: str
    metric: str
    value: float
    ci_low: float | None = None
    ci_high: float | None = None
    n: int | None = None
    seeds: int = 1

    def __post_init__(self) -> None:
        for field in ("profile", "method", "domain", "metric"):
            if not (isinstance(name := getattr(self, field), str) and _NAME.fullmatch(name)):
                raise ValueError(
                    f"{field}={name!r}: expected lower-case letters, digits and _ (or '-' for none)"
                )
        if self.role not in ROLES:
            raise ValueError(
                f"{self.id}: role={self.role!r}, expected one of {ROLES}; use 'in' for numbers of"
                " the model"
            )
        if any(
            x is not None and not math.isfinite(x) for x in (self.value, self.ci_low, self.ci_high)
        ):
            raise ValueError(
                f"{self.id}: {self.value} [{self.ci_low}, {self.ci_high}] is not finite; leave the"
                " record out"
            )
        if (self.ci_low is None) != (self.ci_high is None):
            raise ValueError(
                f"{self.id}: an interval needs both ends, got [{self.ci_low}, {self.ci_high}]"
            )
        if (
            self.ci_low is not None
            and self.ci_high is not None
            and not self.ci_low <= self.value <= self.ci_high
        ):
            raise ValueError(
                f"{self.id}: value {self.value} lies outside its interval [{self.ci_low},"
                f" {self.ci_high}]"
            )
        if self.seeds < 1 or (self.n is not None and self.n < 1):
            raise ValueError(
                f"{self.id}: n={self.n}, seeds={self.seeds}, expected 1 or more; n=None if there"
                " are none"
            )

    @property
    def id(self) -> str:
        """Unique name of the number: profile/method/domain/metric."""
        return f"{self.profile}/{self.method}/{self.domain}/{self.metric}"

    @classmethod
    def of(cls, measured: Estimate, **names: str) -> Record:
        """Record of an `Estimate`; ``names`` are profile, method, domain, role, and metric if not
        its name in lower case.

        A percentile interval can miss its own value in rare, tiny samples; it is then widened to
        hold it.
        """
        value, low, high = measured.value, measured.ci_low, measured.ci_high
        return cls(
            metric=names.pop("metric", measured.name.lower().replace(" ", "_")),
            value=value,
            ci_low=None if low is None else min(low, value),
            ci_high=None if high is None else max(high, value),
            n=measured.n,
            seeds=measured.n_seeds,
            **names,
        )

    @classmethod
    def from_dict(cls, fields: dict) -> Record:
        """Record of one JSON object; unknown or missing fields and an id that does not fit are
        errors.
        """
        fields = dict(fields)
        stated = fields.pop("id", None)
        record = cls(**fields)
        if stated != record.id:
            raise ValueError(f"id {stated!r} does not fit its fields, expected {record.id!r}")
        return record

    def to_dict(self) -> dict:
        """JSON object with the fields of the class, ``id`` first; NumPy scalars become numbers."""
        plain = {k: v.item() if hasattr(v, "item") else v for k, v in asdict(self).items()}
        return {"id": self.id, **plain}


def read_records(path: str | Path) -> list[Record]:
    """Records of a results file.

    Raises
    ------
    FileNotFoundError, ValueError
        Naming the file: missing, not a JSON list of records, or with an id that occurs twice.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; run `make reproduce` first")
    try:
        records = [
            Record.from_dict(fields) for fields in json.loads(path.read_text(encoding="utf-8"))
        ]
        _by_id(records)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not a list of result records ({error}); delete it and run `make reproduce`"
        ) from error
    return records


def write_records(path: str | Path, records: Iterable[Record]) -> list[Record]:
    """Merge ``records`` into the file by id; a killed run leaves the old file or the new one,
    whole.

    A known id is replaced where it stands, a new one is appended. Writers must take turns: of two
    at the same moment the last one wins.

    Returns
    -------
    list of Record
        All records now in the file.
    """
    path = Path(path)
    merged = _by_id(read_records(path) if path.exists() else [])
    merged.update(_by_id(records))
    write_json(path, [record.to_dict() for record in merged.values()])
    return list(merged.values())


def _by_id(records: Iterable[Record]) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for record in records:
        if record.id in found:
            raise ValueError(f"id {record.id!r} occurs twice; each number is recorded once")
        found[record.id] = record
    return found
