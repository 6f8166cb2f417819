"""What may enter a measure: arrays checked and brought to one form, labels and sources to integers.

Every message says what was found, what was expected and the way out. A measure that passes these
checks returns a finite number or raises; none returns NaN.
"""

from __future__ import annotations

import warnings

import numpy as np

_BLOCK = 2**21  # numbers held at once by the row-blocked computations of this sub-package: 16 MB


class AnalysisWarning(UserWarning):
    """The number can be computed, but the input is probably not what was meant."""


def blocks(n: int, width: int):
    """Slices that cut ``n`` rows of ``width`` numbers into pieces of at most 2**21 numbers (and one
    row at least).
    """
    step = max(1, _BLOCK // max(1, width))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def matrix(
    X, name: str = "X", *, min_n: int = 2, why: str = "", constant: str = "raise"
) -> np.ndarray:
    """``X`` as a finite (n_samples, n_features) array of floats.

    Parameters
    ----------
    X
        Array, data frame, nested list or torch tensor (any device, any float type) of shape (n, d)
        Integers become float64. float64 and float32 arrays are passed on without a copy, memory
        maps too.
    name
        What messages call it.
    min_n, why
        Rows needed, and for what ("debiased CKA needs n >= 4 ...").
    constant
        "raise" or "allow" an array whose rows are all equal.

    Raises
    ------
    TypeError
        Object, string, bool or complex arrays; sparse matrices.
    ValueError
        Not two-dimensional, NaN or infinite values, too few rows, rows that are all equal.

    Warns
    -----
    AnalysisWarning
        The array is probably transposed: 32 columns or more per row; or at least two columns per
        row where the number of rows is a multiple of 64, as widths of networks are, and the number
        of columns is not.

    Examples
    --------
    >>> matrix([[1, 2], [3, 4]])
    array([[1., 2.],
           [3., 4.]])
    """
    X = _floats(X, name)
    if X.ndim == 1:
        raise ValueError(
            f"{name} is one-dimensional with {len(X)} values, expected (n_samples, n_features);"
            f" pass {name}[:, None]"
        )
    if X.ndim != 2:
        raise ValueError(
            f"{name} has shape {X.shape}, expected (n_samples, n_features); pool or reshape the"
            " other axes first"
        )
    n, d = X.shape
    if d < 1:
        raise ValueError(f"{name} has no columns (shape {X.shape}), expected at least one feature")
    if n < min_n:
        raise ValueError(f"{why or f'this measure needs n >= {min_n}'}, got {n}; add rows")
    _check_finite(X, name)
    if constant == "raise" and n > 1 and not np.any(spread(X) > 0):
        raise ValueError(
            f"all {n} rows of {name} are equal (every column is constant): nothing to measure;"
            " check the extraction"
        )
    if d >= 32 * n or (d >= 2 * n and n % 64 == 0 and d % 64):
        text = (
            f"{name} has {n} rows and {d} columns, expected (n_samples, n_features); pass {name}.T"
            " if features are in rows"
        )
        warnings.warn(AnalysisWarning(text), stacklevel=3)
    return X


def pair(X, Y, *, min_n: int = 2, why: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Two arrays whose rows belong together, (n, d1) and (n, d2), each checked by `matrix`.

    Raises
    ------
    ValueError
        Different numbers of rows; the message says so if the arrays agree in the other direction.
    """
    X, Y = matrix(X, "X", min_n=min_n, why=why), matrix(Y, "Y", min_n=min_n, why=why)
    if len(X) != len(Y):
        hint = (
            "they agree in columns: pass X.T and Y.T if features are in rows, else "
            if X.shape[1] == Y.shape[1]
            else ""
        )
        raise ValueError(
            f"X has {len(X)} rows and Y {len(Y)}, expected the same n items in the same order;"
            f" {hint}join them by item first"
        )
    return X, Y


def same_width(X: np.ndarray, Y: np.ndarray, expected: str) -> None:
    """Raise ValueError with what was ``expected`` unless both arrays have equally many columns."""
    if X.shape[1] != Y.shape[1]:
        raise ValueError(
            f"X has {X.shape[1]} columns and Y {Y.shape[1]}, expected {expected}; for two spaces"
            " use cka"
        )


def codes(labels, n: int, name: str = "groups") -> np.ndarray:
    """Labels (n,) as integers 0..m-1 in sorted order; None gives every row its own.

    >>> codes(["b", "a", "b"], 3)
    array([1, 0, 1])
    """
    if labels is None:
        return np.arange(n)
    labels = np.asarray(labels)
    if labels.shape != (n,):
        raise ValueError(f"{name} has shape {labels.shape}, expected one label per row, ({n},)")
    if labels.dtype == object:
        missing = sum(x is None or x != x for x in labels)
        labels = labels.astype(str)
    else:
        missing = int(np.isnan(labels).sum()) if labels.dtype.kind == "f" else 0
    if missing:
        raise ValueError(f"{missing} of {n} {name} are missing; leave those rows out")
    return np.unique(labels, return_inverse=True)[1]


def joint(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One integer (n,) for each combination of two labels (n,).

    >>> joint(np.array([0, 0, 1]), np.array([1, 0, 1]))
    array([1, 0, 2])
    """
    return np.unique(np.stack([a, b]), axis=1, return_inverse=True)[1].ravel()


def vector(values, n: int, name: str = "scores") -> np.ndarray:
    """Finite numbers (n,), one per row and not all equal."""
    values = _floats(values, name).astype(np.float64)
    if values.shape != (n,):
        raise ValueError(f"{name} has shape {values.shape}, expected one number per row, ({n},)")
    if bad := int((~np.isfinite(values)).sum()):
        raise ValueError(
            f"{bad} of {n} {name} are NaN or infinite; leave those rows out of every array"
        )
    if np.ptp(values) <= 1e-12 * np.abs(values).max():
        raise ValueError(
            f"all {n} {name} are {values[0]:.4g}: nothing to measure; check the column"
        )
    return values


def first_of_duplicates(X: np.ndarray) -> np.ndarray:
    """Indices, in order, of the first row of each set of equal rows.

    O(n d) time; keeps one copy of the distinct rows.

    >>> first_of_duplicates(np.array([[1., 2.], [0., 0.], [1., 2.]]))
    array([0, 1])
    """
    seen: dict[bytes, int] = {}
    for i, row in enumerate(X):
        seen.setdefault((row + 0.0).tobytes(), i)  # + 0.0: minus zero equals zero
    return np.fromiter(seen.values(), dtype=np.intp, count=len(seen))


def warn_duplicates(X: np.ndarray, name: str, consequence: str) -> None:
    """Warn that ``X`` holds equal rows, how many, and what follows."""
    if again := len(X) - len(first_of_duplicates(X)):
        text = (
            f"{again} of {len(X)} rows of {name} repeat another row (templated texts? one item"
            f" stored twice?): {consequence}"
        )
        warnings.warn(AnalysisWarning(text), stacklevel=3)


def spread(X: np.ndarray) -> np.ndarray:
    """Range of each column (d,), zero where it is no more than rounding of the column's size."""
    low, high = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
    size = np.maximum(np.abs(low), np.abs(high))
    return np.where(high - low > 1e-12 * size, high / 2 - low / 2, 0.0)


def centred(X: np.ndarray) -> np.ndarray:
    """float64 copy with column means 0 and largest absolute value 1 (unless it is constant).

    For measures that ignore shifts and scale. Values near the ends of the floating-point range
    neither overflow nor vanish when they are squared later, and a large common mean costs no
    digits.
    """
    X = X / np.float64(np.abs(X).max() or 1.0)
    X -= X.mean(axis=0)
    return X / (np.abs(X).max() or 1.0)


def finite(value: float, what: str) -> float:
    """``value`` as float, or an error: no measure returns NaN."""
    if not np.isfinite(value):
        raise ValueError(
            f"{what} came out as {value}: the values overflow; rescale the arrays (for instance to"
            " unit variance)"
        )
    return float(value)


def _floats(X, name: str) -> np.ndarray:
    if hasattr(X, "detach"):  # a torch tensor, without importing torch
        X = X.detach().cpu()
        X = (X.double() if "float16" in str(X.dtype) else X).numpy()
    if hasattr(X, "toarray"):
        raise TypeError(f"{name} is a sparse matrix, expected a dense array; pass {name}.toarray()")
    try:
        X = np.asarray(X)
    except ValueError as error:
        raise TypeError(
            f"{name} is ragged: its rows have different lengths ({error}); pool each item to one"
            " vector"
        ) from error
    if X.dtype == bool:
        raise TypeError(
            f"{name} is a bool array (a mask?); pass {name}.astype(float) if 0 and 1 are the"
            " features"
        )
    if X.dtype.kind not in "fiu":
        raise TypeError(
            f"{name} is an array of {X.dtype}, expected real numbers; pass {name}.astype(float) if"
            " that is what it holds"
        )
    return X if X.dtype in (np.float64, np.float32) else X.astype(np.float64)


def _check_finite(X: np.ndarray, name: str) -> None:
    rows, columns, first = 0, np.zeros(X.shape[1], dtype=bool), None
    for part in blocks(*X.shape):
        bad = ~np.isfinite(X[part])
        if bad.any():
            hit = np.flatnonzero(bad.any(axis=1))
            first = part.start + int(hit[0]) if first is None else first
            rows, columns = rows + len(hit), columns | bad.any(axis=0)
    if rows:
        raise ValueError(
            f"{name} holds NaN or infinite values in {rows} of {len(X)} rows (first: row {first})"
            f" and {int(columns.sum())} of {X.shape[1]} columns; leave those rows out of every"
            " array, or find out where they come from"
        )
