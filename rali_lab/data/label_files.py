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
"""Where the row stands ("scores.csv, line 3"; the header is line 1), and its cells by column, all
as text."""

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}


def read_delimited(path: Path, needed: Sequence[str], separator: str | None = None) -> list[Row]:
    """The rows of a UTF-8 table with a header line; without `separator` the header decides (see
    `read_table`).

    Raises
    ------
    FileNotFoundError : no such file. ValueError : not such a table, a column of `needed` that is
    absent or there twice, no rows, or a row with another number of
        cells than the header, with its line.
    """
    text = _text_of(path, f"a {SEPARATORS.get(separator or '', 'comma')}-separated")
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
    return _some_rows(
        path,
        [
            (f"{path}, line {line}", dict(zip(header, cells, strict=True)))
            for line, cells in lines[1:]
        ],
    )


def read_table(path: Path, needed: Sequence[str]) -> list[Row]:
    """The rows of a Parquet file, or of a text table separated by commas, semicolons or tabs.

    The separator is the one that cuts the header line into the `needed` columns; a header that
    mixes separators is an error. Raises as `read_delimited`; ImportError for Parquet without
    pyarrow.
    """
    if path.suffix.lower() != ".parquet":
        return read_delimited(path, needed)
    frame = _parquet(path)
    require_columns(path, needed, list(frame.columns))
    blank = frame.isna().to_numpy()
    values = enumerate(frame.itertuples(index=False, name=None))
    cells = [
        ["" if blank[i, j] else as_text(value) for j, value in enumerate(row)] for i, row in values
    ]
    return _some_rows(path, _numbered(path, "row", list(frame.columns), enumerate(cells, 1)))


def headers(path: Path) -> list[list[str]]:
    """The columns of a table: of a Parquet file, or as each separator in its first line would have
    them, most columns first.
    """
    if path.suffix.lower() == ".parquet":
        return [list(_parquet(path).columns)]
    return sorted(_cuts(_first_line(_text_of(path, "a"))).values(), key=len, reverse=True)


def read_excel(path: Path, needed: Sequence[str], sheet: str | None = None) -> list[Row]:
    """The rows of a sheet (default: the first) below the first row that holds all `needed` columns,
    wherever that is.

    Raises ValueError for a damaged workbook, an absent sheet or columns, and for no rows.
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

    sheets, table = _loaded(path, "an Excel workbook", load)
    if table is None:
        raise ValueError(
            f"{path}: no sheet {sheet!r}; present are {sheets}, fetch the official workbook"
        )
    top = next((i for i, cells in enumerate(table) if set(needed) <= set(cells)), None)
    if top is None:
        require_columns(
            path, needed, next((list(filter(None, cells)) for cells in table if any(cells)), [])
        )
        raise ValueError(
            f"{path}: the columns {list(needed)} are not in one row; fetch the official workbook"
        )
    width = len(table[top])
    below = (
        (i + 1, [*cells, *[""] * (width - len(cells))])
        for i, cells in enumerate(table)
        if i > top and any(cells)
    )
    return _some_rows(path, _numbered(path, "row", table[top], below))


def read_json(path: Path, needed: Sequence[str]) -> list[Row]:
    """The rows of a JSON list of objects that all have the `needed` keys; other keys are left out.
    Raises ValueError if not.
    """
    items = _loaded(path, "JSON", json.load)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError(
            f"{path}: expected a list of objects, got {type(items).__name__}; fetch the official"
            " file"
        )
    if not items:
        raise ValueError(f"{path}: empty list; expected an entry per image")
    for item in items:
        require_columns(path, needed, list(item))
    return _numbered(
        path,
        "entry",
        needed,
        ((i, [as_text(item[key]) for key in needed]) for i, item in enumerate(items, 1)),
    )


def read_lines(path: Path, columns: Sequence[str], separator: str | None = None) -> list[Row]:
    """The rows of a text without header: each line cut at `separator` (default: spaces) into
    `columns`; empty lines are skipped.
    """
    rows = []
    for line, text in enumerate(_text_of(path, "a").splitlines(), 1):
        cells = [cell.strip() for cell in text.split(separator)]
        if text.strip() and len(cells) != len(columns):
            raise ValueError(
                f"{path}, line {line}: {text[:80]!r}, expected"
                f" {(separator or ' ').join(columns)!r}; fetch the file again"
            )
        if text.strip():
            rows.append((f"{path}, line {line}", dict(zip(columns, cells, strict=True))))
    return _some_rows(path, rows)


def read_mat(path: Path, variable: str) -> list[str]:
    """The entries of one MATLAB variable as text, cells unpacked.

    Raises ValueError for a damaged file or an absent variable.
    """
    import numpy as np
    from scipy.io import loadmat

    contents = _loaded(path, "a MATLAB file", loadmat)
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
    """A cell as the text that a person would have typed; nothing for None.

    >>> as_text(1600.0), as_text(0.25), as_text(None), as_text(float("nan")), as_text("a b.png")
    ('1600', '0.25', '', 'nan', 'a b.png')
    """
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def require_columns(path: Path, needed: Iterable[str], present: Sequence[str]) -> None:
    """Raises ValueError, listing the columns that are present, unless each of `needed` is there
    once.
    """
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
    cuts = _cuts(header)
    fitting = [separator for separator, columns in cuts.items() if set(needed) <= set(columns)]
    if len(fitting) != 1 and len(cuts) > 1:
        mixed = " and ".join(SEPARATORS[separator] for separator in cuts)
        raise ValueError(
            f"{path}, line 1: {header.strip()!r} mixes {mixed}; separate all columns,"
            f" {', '.join(needed)} among them, by one"
        )
    return fitting[0] if fitting else next(iter(cuts))


def _cuts(header: str) -> dict[str, list[str]]:
    """The header's columns by each separator that occurs in it; by comma if there is none."""
    found = [separator for separator in SEPARATORS if separator in header] or [","]
    return {
        separator: [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
        for separator in found
    }


def _first_line(text: str) -> str:
    return next(iter(text.splitlines()), "")


def _text_of(path: Path, kind: str) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: score table not found; check the path")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not {kind} UTF-8 table ({error}); export it as one") from error


def _parquet(path: Path):
    import pandas as pd

    try:
        return _loaded(path, "a Parquet file", pd.read_parquet)
    except ImportError as error:
        raise ImportError(
            f"{path}: Parquet needs pyarrow ({error}); install it, or export the table as CSV"
        ) from error


def _loaded(path: Path, kind: str, load: Callable[[io.BytesIO], Any]) -> Any:
    """What a library makes of a file; its warnings stay inside, and whatever it raises becomes one
    clear error.
    """
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
    except (
        Exception
    ) as error:  # broken bytes come out as zip, XML, struct, zlib, Arrow and type errors
        raise ValueError(
            f"{path}: cannot be read as {kind} ({error}); if it is cut off or damaged, fetch it"
            " again"
        ) from error


def _numbered(
    path: Path, unit: str, columns: Sequence[str], rows: Iterable[tuple[int, Sequence[str]]]
) -> list[Row]:
    return [(f"{path}, {unit} {i}", dict(zip(columns, cells, strict=False))) for i, cells in rows]


def _some_rows(path: Path, rows: list[Row]) -> list[Row]:
    if not rows:
        raise ValueError(f"{path}: no rows below the header; expected one per image")
    return rows
