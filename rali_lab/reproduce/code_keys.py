"""The code that a function can reach, as a key: nobody lists modules, and rewording a docstring
changes nothing.

`code_key(function)` reads sources and imports nothing. It starts at the definition of the function,
follows every name that stands for a definition of the same package (through imports, re-exports and
attributes of modules), and writes each definition that it meets in a form without docstrings,
comments, layout, annotations of functions, names of local variables, and the names of modules.
The key is the sha256 of that text. So it changes with an operator, a constant or a default anywhere
in what the function can run, and not with anything else.

Where a name cannot be followed, everything it may mean is taken: a module passed around as a value,
`getattr` on a module, or a star import stands for the whole module; a class for all its methods;
and importing a module for the statements that it executes, such as ``register_model``. What is not
seen: code reached only through a string (an entry point, `importlib.import_module` with a computed
name), star imports and imports under conditions at the top of a module, and names or parts of
objects that a module changes after it has bound them. The package does none of this, and a test
keeps it so.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType
from typing import Any

from rali_lab.io import digest
from rali_lab.reproduce.canonical import Writer
from rali_lab.reproduce.sources import (
    OPAQUE,
    PACKAGE,
    CodeError,
    Module,
    Place,
    module_named,
    ours,
    read_module,
)

NOTEBOOK = "__notebook__"


def code_key(function: Callable) -> str:
    """The sha256 over everything of its package that a function can reach.

    It is the key of the sources as the process has found them when it first asked.

    Parameters
    ----------
    function : callable
        Any Python function; for one that is defined inside another, the outermost counts. One
        without a source file (typed at a prompt, or in a notebook) is keyed by its bytecode alone.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    CodeError
        If the source does not define the function at its top level.

    Examples
    --------
    >>> code_key(code_key) == code_key(code_key), len(code_key(code_key))
    (True, 64)
    """
    place = _outermost(function)
    if place is None:
        return hashlib.sha256(repr(_bytecode(function.__code__)).encode()).hexdigest()
    return _key_once(place.module.name, place.module.file, place.name)


@functools.cache
def _key_once(name: str, file: Path, definition: str) -> str:
    return Reach().key(Place(read_module(name, file), definition))


def definition_key(module: str, name: str) -> str:
    """As `code_key`, for a definition of the package that need not be imported."""
    return Reach().key(_defined(module, name))


def reached(module: str, name: str) -> set[tuple[str, str | None]]:
    """(module, name) of every definition that a definition can reach; None names a whole module.

    >>> scrub = ("rali_lab.reproduce.provenance", "scrub")
    >>> scrub in reached("rali_lab.reproduce.execute", "publish")
    True
    """
    reach = Reach()
    reach.key(_defined(module, name))
    return {(place.module.name, place.name) for place in reach.order}


def cells_key(cells: Sequence[str]) -> tuple[str, set[tuple[str, str | None]]]:
    """The key of a notebook's code cells, and what they reach as `reached` says it.

    Parameters
    ----------
    cells : sequence of str
        Plain Python without magics.
    """
    reach = Reach()
    notebook = Module(NOTEBOOK, None, ast.parse("\n".join(cells)), package=False)
    key = reach.key(Place(notebook, None))
    return key, {(place.module.name, place.name) for place in reach.order[1:]}


def _defined(module: str, name: str) -> Place:
    found = module_named(module)
    if found is None or name not in found.bindings:
        way_out = f"name a definition of {PACKAGE}"
        raise CodeError(f"{module} binds no {name!r} at its top level; {way_out}")
    return Place(found, name)


def _outermost(function: Callable) -> Place | None:
    """Where a function is defined; None where there is no file."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:
        file = None
    if file is None or not Path(file).is_file():
        return None
    found, name = read_module(function.__module__, Path(file)), function.__qualname__.split(".")[0]
    if name not in found.bindings:
        way_out = "pass a function that is defined with `def`"
        raise CodeError(f"{found.name} binds no {name!r} at its top level; {way_out}")
    return Place(found, name)


def _bytecode(code: CodeType) -> list[Any]:
    consts = [_bytecode(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return [code.co_code.hex(), code.co_names, consts]


class Reach:
    """Definitions in the order in which they are met, each written once."""

    def __init__(self) -> None:
        self.order: list[Place] = []
        self.loaded: list[str] = []
        """Modules named by import statements inside functions."""
        self._numbers: dict[tuple[str, str | None], int] = {}

    def number(self, place: Place) -> int:
        """The number that stands for a definition; it will be written, too."""
        known = (place.module.name, place.name)
        if known not in self._numbers:
            self._numbers[known] = len(self.order)
            self.order.append(place)
        return self._numbers[known]

    def key(self, root: Place) -> str:
        """The sha256 of `root` in canonical form, of all it reaches and of what that imports."""
        self.number(root)
        return digest([self._written(), sorted(self._effects())])

    def _written(self) -> list[Any]:
        texts: list[Any] = []
        while len(texts) < len(self.order):  # writing one may number others
            place = self.order[len(texts)]
            writer = Writer(self, place.module)
            if place.module.name == NOTEBOOK:
                texts.append(writer.cells(place))
            else:
                texts.append([writer.top(s) for s in place.statements])
        return texts

    def _effects(self) -> Iterator[str]:
        for found in self._running():
            for statement in found.effects:
                inner = Reach()
                first = Writer(inner, found).top(statement)
                yield digest([first, inner._written()])

    def _running(self) -> list[Module]:
        """Modules that are executed when what was reached is imported."""
        named = [found for name in self.loaded if (found := module_named(name))]
        waiting = [place.module for place in self.order] + named
        done: dict[str, Module] = {}
        while waiting:
            found = waiting.pop()
            if found.name in done or found.name in (*OPAQUE, NOTEBOOK):
                continue
            done[found.name] = found
            for source, attribute in found.imports.values():
                names = [n for n in (source, f"{source}.{attribute}") if ours(n)]
                waiting += [other for n in names if (other := module_named(n)) is not None]
        return list(done.values())
