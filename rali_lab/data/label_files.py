"""Label files of every kind as rows of text: where each row stands, and its cells by column."""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Row = tuple[str, dict[str, str]]
"""Place of a row ("scores.csv, line 3"; the header is line 1), and its cells by column, as text."""

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}


def read_delimited(path: Path, needed: Sequence[str], separator: str | None = None) -> list[Row]:
    """The rows of a UTF-8 table with a header line.

    Parameters
    ----------
    path
        The table.
    needed
        Columns that must be there.
    separator
        One of `SEPARATORS`; by default the one that gives the header line the `needed` columns.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not such a table, a header that mixes separators, a column of `needed` that is absent or
        there twice, no rows, or a row with another number of cells than the header, with its line.
    """
    text = _read_text(path, f"a {SEPARATORS.get(separator or '', 'comma')}-separated")
    separator = separator or _separator(path, text, needed)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise ValueError(
            f"{path}: not a {SEPARATORS[separator]}-separated UTF-8 table ({error}); export it"
            " as one"
        ) from error
    header = [name.strip() for name in lines[0][1]] if lines else []
    require_columns(path, needed, header)
    for line, cells in lines[1:]:
        if len(cells) != len(header):
            raise ValueError(
                f"{path}, line {line}: {len(cells)} cells, expected {len(header)} separated by"
                f" {SEPARATORS[separator]}; look for another separator, a decimal comma or a"
                f" missing quote in {separator.join(cells)[:80]!r}"
            )
    return _rows(path, "line", header, lines[1:])


def read_table(path: Path, needed: Sequence[str]) -> list[Row]:
    """The rows of a Parquet file, or of a text table separated by commas, semicolons or tabs.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_delimited`.
    ImportError
        Parquet without pyarrow.
    """
    if path.suffix.lower() != ".parquet":
        return read_delimited(path, needed)
    frame = _parquet(path)
    require_columns(path, needed, list(frame.columns))
    frame = frame.astype(object).where(frame.notna(), None)
    cells = ([as_text(value) for value in row] for row in frame.itertuples(index=False, name=None))
    return _rows(path, "row", list(frame.columns), enumerate(cells, 1))


def headers(path: Path) -> list[list[str]]:
    """The columns of a Parquet file, or of a text table by each separator in its first line, most
    columns first.
    """
    if path.suffix.lower() == ".parquet":
        return [list(_parquet(path).columns)]
    found = _split_header(_first_line(_read_text(path, "a")))
    return sorted(found.values(), key=len, reverse=True)


def read_excel(path: Path, needed: Sequence[str], sheet: str | None = None) -> list[Row]:
    """The rows of a sheet (default: the first) below the first row that holds all `needed` columns.

    Raises
    ------
    ValueError
        A damaged workbook, an absent sheet or column, or no rows.
    """
    import openpyxl

    def load(data: io.BytesIO) -> tuple[list[str], list[list[str]] | None]:
        book = openpyxl.load_workbook(data, read_only=True, data_only=True)
        name = sheet or book.sheetnames[0]
        if name not in book.sheetnames:
            return book.sheetnames, None
        return book.sheetnames, [
            [as_text(value) for value in row] for row in book[name].iter_rows(values_only=True)
        ]

    sheets, table = _load(path, "an Excel workbook", load)
    if table is None:
        raise ValueError(
            f"{path}: no sheet {sheet!r}; present are {sheets}, fetch the official workbook"
        )
    top = next((i for i, cells in enumerate(table) if set(needed) <= set(cells)), None)
    if top is None:
        first = next((cells for cells in table if any(cells)), [])
        require_columns(path, needed, list(filter(None, first)))
        raise ValueError(
            f"{path}: the columns {list(needed)} are not in one row; fetch the official workbook"
        )
    width = len(table[top])
    below = (
        (i + 1, [*cells, *[""] * (width - len(cells))])
        for i, cells in enumerate(table)
        if i > top and any(cells)
    )
    return _rows(path, "row", table[top], below)


def read_json(path: Path, needed: Sequence[str]) -> list[Row]:
    """The `needed` keys of a JSON list of objects as rows.

    Raises
    ------
    ValueError
        Damaged JSON, no list of objects, an empty list, or an object without a key.
    """
    items = _load(path, "JSON", json.load)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError(
            f"{path}: expected a list of objects, got {type(items).__name__}; fetch the official"
            " file"
        )
    if not items:
        raise ValueError(f"{path}: empty list; expected an entry per image")
    for item in items:
        require_columns(path, needed, list(item))
    cells = ([as_text(item[key]) for key in needed] for item in items)
    return _rows(path, "entry", needed, enumerate(cells, 1))


def read_lines(path: Path, columns: Sequence[str], separator: str | None = None) -> list[Row]:
    """The rows of a text without header, each line split into `columns`; empty lines are skipped.

    Without `separator` lines are split at spaces. ValueError for another number of cells.
    """
    lines = []
    for line, text in enumerate(_read_text(path, "a").splitlines(), 1):
        cells = [cell.strip() for cell in text.split(separator)]
        if text.strip() and len(cells) != len(columns):
            raise ValueError(
                f"{path}, line {line}: {text[:80]!r}, expected"
                f" {(separator or ' ').join(columns)!r}; fetch the file again"
            )
        if text.strip():
            lines.append((line, cells))
    return _rows(path, "line", columns, lines)


def read_mat(path: Path, variable: str) -> list[str]:
    """The entries of one MATLAB variable as text, cells unpacked.

    Raises
    ------
    ValueError
        A damaged file, an absent variable, or an entry that is no single value.
    """
    import numpy as np
    from scipy.io import loadmat

    contents = _load(path, "a MATLAB file", loadmat)
    if variable not in contents:
        raise ValueError(
            f"{path}: no variable {variable!r}; present are"
            f" {[k for k in contents if not k.startswith('_')]}"
        )
    entries = list(np.ravel(contents[variable]))
    for i, entry in enumerate(entries):
        while isinstance(entry, np.ndarray):
            if entry.size != 1:
                raise ValueError(
                    f"{path}, entry {i + 1}: {entry.size} values, expected one; fetch the file"
                    " again"
                )
            entry = entry.item()
        entries[i] = as_text(entry)
    return entries


def as_text(value: Any) -> str:
    """A cell as text, whole numbers without a point; "" for None.

    >>> as_text(1600.0), as_text(0.25), as_text(None), as_text(float("nan")), as_text("a b.png")
    ('1600', '0.25', '', 'nan', 'a b.png')
    """
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def require_columns(path: Path, needed: Iterable[str], present: Sequence[str]) -> None:
    """Raise ValueError, listing the columns present, unless each of `needed` is there once."""
    missing = [column for column in needed if column not in present]
    if missing:
        raise ValueError(
            f"{path}: no column {missing}; present are {list(present)}, name the right ones or"
            " rename them in the file"
        )
    twice = [column for column in needed if list(present).count(column) > 1]
    if twice:
        raise ValueError(f"{path}: column {twice} is there more than once; keep one of each name")


def _separator(path: Path, text: str, needed: Sequence[str]) -> str:
    header = _first_line(text)
    found = _split_header(header)
    fitting = [separator for separator, columns in found.items() if set(needed) <= set(columns)]
    if len(fitting) != 1 and len(found) > 1:
        mixed = " and ".join(SEPARATORS[separator] for separator in found)
        raise ValueError(
            f"{path}, line 1: {header.strip()!r} mixes {mixed}; separate all columns,"
            f" {', '.join(needed)} among them, by one"
        )
    return fitting[0] if fitting else next(iter(found))


def _split_header(header: str) -> dict[str, list[str]]:
    """The header's columns by each separator that occurs in it; by comma if there is none."""
    found = [separator for separator in SEPARATORS if separator in header] or [","]
    return {
        separator: [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
        for separator in found
    }


def _first_line(text: str) -> str:
    return next(iter(text.splitlines()), "")


def _read_text(path: Path, kind: str) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: score table not found; check the path")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not {kind} UTF-8 table ({error}); export it as one") from error


def _parquet(path: Path):
    import pandas as pd

    try:
        return _load(path, "a Parquet file", pd.read_parquet)
    except ImportError as error:
        raise ImportError(
            f"{path}: Parquet needs pyarrow ({error}); install it, or export the table as CSV"
        ) from error


def _load(path: Path, kind: str, load: Callable[[io.BytesIO], Any]) -> Any:
    """A file read by a library without its warnings; whatever it raises becomes one clear error."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: label file not found; check the path, or fetch the rest of the set"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load(io.BytesIO(path.read_bytes()))
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # of zip, XML, struct, zlib, Arrow, or a TypeError
        raise ValueError(
            f"{path}: cannot be read as {kind} ({error}); if it is cut off or damaged, fetch it"
            " again"
        ) from error


def _rows(
    path: Path, unit: str, columns: Sequence[str], lines: Iterable[tuple[int, Sequence[str]]]
) -> list[Row]:
    """Numbered lists of cells as rows; ValueError if there are none."""
    rows = [(f"{path}, {unit} {i}", dict(zip(columns, cells, strict=False))) for i, cells in lines]
    if not rows:
        raise ValueError(f"{path}: no rows below the header; expected one per image")
    return rows
