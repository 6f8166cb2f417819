"""Strict notebook parameters: declared as literals in one tagged cell, checked before anything
runs.

papermill only warns of an unknown parameter and never notices one that nothing reads; here both are
errors.
"""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterator, Mapping
from typing import Any

TAG = "parameters"


class ParameterError(ValueError):
    """A notebook's parameters are declared, passed or used wrongly."""


def declared(notebook: Any, *, name: str = "notebook") -> dict[str, Any]:
    """Parameters of a notebook with their defaults, in order.

    Parameters
    ----------
    notebook
        An nbformat notebook with exactly one code cell tagged `parameters`.
    name
        How errors call the notebook.

    Raises
    ------
    ParameterError
        Without exactly one such cell, or if it holds anything but `name = literal` lines (derived
        values would not be recomputed after injection).
    """
    cell = notebook.cells[_position(notebook, name)]
    defaults: dict[str, Any] = {}
    for statement in ast.parse(cell.source).body:
        key, value = _declaration(statement, name)
        if key in defaults:
            raise ParameterError(f"{name}: parameter {key!r} is declared twice; keep one")
        defaults[key] = value
    return defaults


def check(notebook: Any, passed: Mapping[str, Any], *, name: str = "notebook") -> dict[str, Any]:
    """The values the notebook will run with: its defaults, overridden by `passed`.

    Raises
    ------
    ParameterError
        If a passed parameter is unknown or of another type than its default (an int may stand for a
        float, a bool never for an int, None only where None is the default), or if a declared one
        is never read in a later cell or is assigned again there.
    """
    defaults = declared(notebook, name=name)
    for key, value in passed.items():
        if key not in defaults:
            raise ParameterError(
                f"{name}: unknown parameter {key!r}; it declares {sorted(defaults)}"
            )
        if not _fits(value, defaults[key]):
            kind = type(defaults[key]).__name__
            raise ParameterError(
                f"{name}: parameter {key!r} must be {kind} like {defaults[key]!r}, got {value!r}"
            )
    read, assigned = _later_use(notebook, name)
    for key in defaults:
        if key in assigned:
            raise ParameterError(
                f"{name}: parameter {key!r} is assigned again below; use another name there"
            )
        if key not in read:
            raise ParameterError(
                f"{name}: parameter {key!r} is never read below; use it or remove it"
            )
    return {**defaults, **passed}


def plain_cells(notebook: Any) -> list[str]:
    """The code cells as plain Python: magics, shell lines and cells of other languages are turned
    into `pass`.
    """
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return [
        "pass" if source.lstrip().startswith("%%") else _without_magics(source) for source in cells
    ]


def _position(notebook: Any, name: str) -> int:
    tagged = [
        i
        for i, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and TAG in cell.metadata.get("tags", [])
    ]
    if len(tagged) != 1:
        raise ParameterError(
            f"{name}: {len(tagged)} code cells are tagged; mark exactly one with # %%"
            f' tags=["{TAG}"]'
        )
    return tagged[0]


def _declaration(statement: ast.stmt, name: str) -> tuple[str, Any]:
    """`key = literal` or `key: type = literal`, taken apart."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=key)], value=value):
            pass
        case ast.AnnAssign(target=ast.Name(id=key), value=ast.expr() as value):
            pass
        case _:
            text = ast.unparse(statement)
            raise ParameterError(
                f"{name}: {text!r} in the parameters cell; only `name = literal` may stand there"
            )
    try:
        return key, ast.literal_eval(value)
    except ValueError:
        text = ast.unparse(statement)
        raise ParameterError(
            f"{name}: {text!r} is derived; declare a literal and derive in a later cell"
        ) from None


def _fits(value: Any, default: Any) -> bool:
    if value is None or default is None:
        return default is None
    if isinstance(value, bool) or isinstance(default, bool):
        return type(value) is type(default)
    return isinstance(value, int | float if isinstance(default, float) else type(default))


def _later_use(notebook: Any, name: str) -> tuple[set[str], set[str]]:
    """Global names read and global names bound in the code cells after the parameters cell."""
    read, assigned = set(), set()
    for i, cell in enumerate(notebook.cells):
        if (
            i <= _position(notebook, name)
            or cell.cell_type != "code"
            or cell.source.lstrip().startswith("%%")
        ):
            continue
        try:
            module = symtable.symtable(_without_magics(cell.source), f"cell {i}", "exec")
        except SyntaxError as error:
            raise ParameterError(
                f"{name}: cell {i} is not valid Python, line {error.lineno}: {error.msg}"
            ) from None
        for symbol in _global_symbols(module):
            if symbol.is_referenced():
                read.add(symbol.get_name())
            if symbol.is_assigned() or symbol.is_imported():
                assigned.add(symbol.get_name())
    return read, assigned


def _global_symbols(table: symtable.SymbolTable) -> Iterator[symtable.Symbol]:
    """Symbols that mean a name of the notebook: the top level, and the globals of functions and
    classes.
    """
    for symbol in table.get_symbols():
        if table.get_type() == "module" or symbol.is_global():
            yield symbol
    for child in table.get_children():
        yield from _global_symbols(child)


def _without_magics(source: str) -> str:
    """IPython's line magics and shell lines turned into `pass`."""
    lines = source.split("\n")
    return "\n".join(
        _indent(line) + "pass" if line.lstrip().startswith(("%", "!")) else line for line in lines
    )


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]
