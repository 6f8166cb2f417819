"""One type for every measured number: the value, its uncertainty, and what it was computed from.

A function that measures something returns an `Estimate`; figures draw it, `Ledger.record` judges
it, and tables print it. Nothing in between takes it apart.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, its null and its floor; None where a part was not asked for.

    Attributes
    ----------
    name : str
        What was measured, such as "SRCC", "PLCC difference" or "cka"; differences print their sign.
    value : float
        The number; its meaning is documented by the function that made it.
    ci_low, ci_high : float or None
        Interval over the draw of items (sources, where they were given).
    se : float or None
        Standard error.
    null_mean, null_sd : float or None
        The same number where there is nothing to find (rows or labels permuted).
    z : float or None
        ``(value - null_mean) / null_sd``.
    p : float or None
        Share of the null at least as extreme, ``(1 + hits) / (1 + draws)``, so never 0.
    floor : float or None
        The number between two random halves of one domain.
    n : int or None
        Items it was computed from.
    n_seeds : int
        Training seeds averaged over.
    n_missing : int
        Scores that should be there and are not (invalid answers), over all seeds and methods.
    missing_share : float
        ``n_missing`` over all scores that should be there, in [0, 1].
    notes : tuple of str
        What was left out, approximated or unusual.

    Examples
    --------
    >>> print(Estimate("cka", 0.81, null_mean=0.001, null_sd=0.004, z=202.25, p=0.001, n=500))
    cka 0.810, null 0.001 ± 0.004, z = 202, p = 0.001, n = 500
    >>> print(Estimate("SRCC difference", 0.1, ci_low=-0.02, ci_high=0.2, n=90, n_seeds=3))
    SRCC difference +0.100 [-0.020, +0.200], n = 90, 3 seeds
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
    n_seeds: int = 1
    n_missing: int = 0
    missing_share: float = 0.0
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.name} {self.text}"]
        if self.null_mean is not None:
            spread = f" ± {_short(self.null_sd)}" if self.null_sd is not None else ""
            parts.append(f"null {_short(self.null_mean)}{spread}")
        for key in ("z", "p"):
            if (number := getattr(self, key)) is not None:
                parts.append(f"{key} = {number:.3g}")
        if self.floor is not None:
            parts.append(f"floor {_short(self.floor)}")
        if self.n is not None:
            parts.append(f"n = {self.n}")
        if self.n_seeds > 1:
            parts.append(f"{self.n_seeds} seeds")
        if self.n_missing:
            parts.append(f"{self.n_missing} scores missing ({self.missing_share:.1%})")
        return ", ".join(parts) + "".join(f"; {note}" for note in self.notes)

    @property
    def text(self) -> str:
        """The value with its standard error and interval, three digits each.

        >>> Estimate("PLCC", 0.5, 0.4, 0.6).text
        '0.500 [0.400, 0.600]'
        """
        sign = "+" if self.name.endswith("difference") else ""
        text = _short(self.value, sign)
        if self.se is not None:
            text += f" ± {_short(self.se)}"
        if self.ci_low is not None and self.ci_high is not None:
            text += f" [{_short(self.ci_low, sign)}, {_short(self.ci_high, sign)}]"
        return text

    def __float__(self) -> float:
        return float(self.value)

    def to_dict(self) -> dict:
        """Plain JSON values, None where not computed."""
        return asdict(self) | {"notes": list(self.notes)}


def _short(x: float, sign: str = "") -> str:
    return f"{x:{sign}.3f}" if 1e-3 <= abs(x) < 1e3 or x == 0 else f"{x:{sign}.3g}"
