"""The result of a measure: a number with everything needed to trust it, printed as one line."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Measure:
    """A number with its interval, its null and its floor; None where a part was not asked for.

    Attributes
    ----------
    name
        what was measured
    value
        the number; its meaning is told by the function that made it
    ci_low, ci_high
        interval over the draw of items (sources, where ``groups`` were given)
    se
        standard error
    null_mean, null_sd
        the same number where there is nothing to find (rows or labels shuffled)
    z
        (value - null_mean) / null_sd
    p
        share of the null at least as extreme, (1 + hits) / (1 + draws), so never 0
    floor
        the number between two random halves of one domain
    n
        rows it was computed from
    notes
        what was left out, approximated or worth a second look

    >>> print(Measure("cka", 0.81, null_mean=0.001, null_sd=0.004, z=202.25, p=0.001, n=500))
    cka 0.810, null 0.001 ± 0.004, z = 202, p = 0.001, n = 500
    """

    name: str
    value: float
    ci_low: float | None = None
    ci_high: float | None = None
    se: float | None = None
    null_mean: float | None = None
    null_sd: float | None = None
    z: float | None = None
    p: float | None = None
    floor: float | None = None
    n: int | None = None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.name} {_short(self.value)}"]
        if self.se is not None:
            parts[0] += f" ± {_short(self.se)}"
        if self.ci_low is not None and self.ci_high is not None:
            parts[0] += f" [{_short(self.ci_low)}, {_short(self.ci_high)}]"
        if self.null_mean is not None:
            parts.append(
                f"null {_short(self.null_mean)}"
                + (f" ± {_short(self.null_sd)}" if self.null_sd is not None else "")
            )
        parts += [
            f"{key} = {getattr(self, key):.3g}"
            for key in ("z", "p")
            if getattr(self, key) is not None
        ]
        if self.floor is not None:
            parts.append(f"floor {_short(self.floor)}")
        if self.n is not None:
            parts.append(f"n = {self.n}")
        return ", ".join(parts) + "".join(f"; {note}" for note in self.notes)

    def __float__(self) -> float:
        return self.value

    def to_dict(self) -> dict:
        """Plain JSON values, None where not computed."""
        return asdict(self) | {"notes": list(self.notes)}


def null_fields(value: float, null: np.ndarray, *, larger: bool = True) -> dict:
    """``null_mean``, ``null_sd``, ``z`` and ``p`` of a value against draws from its null.

    ``larger``: large values are the finding (similarity, gap); else small ones (mixing). The p of
    the observed value counts itself among the draws (Phipson & Smyth 2010), so the smallest p is 1
    / (draws + 1).

    >>> null_fields(3.0, np.array([1.0, 2.0, 3.0]))
    {'null_mean': 2.0, 'null_sd': 1.0, 'z': 1.0, 'p': 0.5}
    """
    if len(null) == 0:
        return {}
    if not np.isfinite(null).all():  # a comparison with NaN is false, so p would come out small
        raise ValueError(
            f"{(~np.isfinite(null)).sum()} of {len(null)} draws of the null are no numbers; p would"
            " come out wrong"
        )
    slack = 1e-12 * max(1.0, abs(value))  # a permutation that changes nothing must count as equal
    hits = int(np.sum(null >= value - slack) if larger else np.sum(null <= value + slack))
    sd = float(np.std(null, ddof=1)) if len(null) > 1 else None
    centre = float(np.mean(null))
    z = float((value - centre) / sd) if sd is not None and sd > slack else None
    return {"null_mean": centre, "null_sd": sd, "z": z, "p": (1 + hits) / (1 + len(null))}


def _short(x: float) -> str:
    return f"{x:.3f}" if 1e-3 <= abs(x) < 1e3 or x == 0 else f"{x:.3g}"
