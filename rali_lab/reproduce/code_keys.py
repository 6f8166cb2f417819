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
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType
from typing import Any

from rali_lab.reproduce.sources import (
    OPAQUE,
    PACKAGE,
    CodeError,
    Module,
    Outside,
    Place,
    Scope,
    absolute,
    bound_names,
    find,
    module_named,
    ours,
    read_module,
    scope_of,
)

NOTEBOOK = "__notebook__"


def code_key(function: Callable) -> str:
    """sha256 over everything of its package that `function` can reach; as the process has found it
    when it first asked.

    Parameters
    ----------
    function
        any Python function; for one that is defined inside another, the outermost counts. One
        without a source file (typed at a prompt, or in a notebook) is keyed by its bytecode alone.

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
    return _Reach().key(Place(read_module(name, file), definition))


def definition_key(module: str, name: str) -> str:
    """As `code_key`, for a definition of the package that need not be imported."""
    return _Reach().key(_defined(module, name))


def reached(module: str, name: str) -> set[tuple[str, str | None]]:
    """(module, name) of every definition that a definition can reach; the name is None for a whole
    module.

    >>> ("rali_lab.reproduce.provenance", "scrub") in reached("rali_lab.reproduce.execute", "publish")
    True
    """
    reach = _Reach()
    reach.key(_defined(module, name))
    return {(place.module.name, place.name) for place in reach.order}


def cells_key(cells: Sequence[str]) -> tuple[str, set[tuple[str, str | None]]]:
    """The key of a notebook's code cells (plain Python, no magics), and what they reach as
    `reached` says it.
    """
    reach = _Reach()
    notebook = Module(NOTEBOOK, None, ast.parse("\n".join(cells)), package=False)
    key = reach.key(Place(notebook, None))
    return key, {(place.module.name, place.name) for place in reach.order[1:]}


def _defined(module: str, name: str) -> Place:
    found = module_named(module)
    if found is None or name not in found.bindings:
        raise CodeError(
            f"{module} binds no {name!r} at its top level; name a definition of {PACKAGE}"
        )
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
        raise CodeError(
            f"{found.name} binds no {name!r} at its top level; pass a function that is defined with"
            " `def`"
        )
    return Place(found, name)


def _bytecode(code: CodeType) -> list[Any]:
    consts = [_bytecode(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return [code.co_code.hex(), code.co_names, consts]


class _Reach:
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
        """sha256 of the canonical text of `root`, all it reaches, and what importing that executes."""
        self.number(root)
        return self._digest([self._written(), sorted(self._effects())])

    def _written(self) -> list[Any]:
        texts: list[Any] = []
        while len(texts) < len(self.order):  # writing one may number others
            place = self.order[len(texts)]
            writer = _Writer(self, place.module)
            texts.append(
                writer.cells(place)
                if place.module.name == NOTEBOOK
                else [writer.top(s) for s in place.statements]
            )
        return texts

    def _effects(self) -> Iterator[str]:
        for found in self._running():
            for statement in found.effects:
                inner = _Reach()
                first = _Writer(inner, found).top(statement)
                yield self._digest([first, inner._written()])

    def _running(self) -> list[Module]:
        """Modules that are executed when what was reached is imported."""
        waiting = [place.module for place in self.order] + [
            m for n in self.loaded if (m := module_named(n))
        ]
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

    @staticmethod
    def _digest(value: Any) -> str:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class _Writer:
    """Writes one definition as nested lists: local names become numbers, ours become references."""

    def __init__(self, reach: _Reach, module: Module) -> None:
        self.reach, self.module = reach, module
        self.scopes: list[Scope] = []
        self.locals: dict[tuple[Scope, str], int] = {}

    def top(self, statement: ast.AST) -> Any:
        """A top-level statement, without the name that it binds: what refers to it has its number."""
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            return self.function(statement, named=False)
        if isinstance(statement, ast.ClassDef):
            return self.cls(statement, named=False)
        return self.node(statement)

    def cells(self, place: Place) -> Any:
        """All cells of a notebook, as if they were the body of one function; its names are kept."""
        body = place.module.tree.body
        with self._within(scope_of(body, self.module, bound_names(body))):
            return self.body(body)

    def body(self, statements: Sequence[ast.AST]) -> list[Any]:
        """Statements without docstrings, imports and `pass`."""
        kept = []
        for s in statements:
            if isinstance(s, ast.Import | ast.ImportFrom):
                self._load(s)
            elif not isinstance(s, ast.Pass | ast.Global | ast.Nonlocal) and not _is_text(s):
                kept.append(self.node(s))
        return kept

    def _load(self, statement: ast.Import | ast.ImportFrom) -> None:
        """An import inside a function: its module will run; a star may bind anything of it."""
        for alias in statement.names:
            source = (
                absolute(statement, self.module)
                if isinstance(statement, ast.ImportFrom)
                else alias.name
            )
            if not ours(source):
                continue
            self.reach.loaded += [source, f"{source}.{alias.name}"]
            if alias.name == "*" and (found := module_named(source)) is not None:
                self.reach.number(Place(found, None))

    def node(self, node: Any) -> Any:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                return self.function(node)
            case ast.ClassDef():
                return self.cls(node)
            case ast.Lambda():
                return self.callable(node, [node.body])
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                return self.comprehension(node)
            case ast.Name():
                return self.name(node.id)
            case ast.Attribute():
                return self.attribute(node)
            case ast.Constant():
                return [type(node.value).__name__, repr(node.value)]
            case ast.AnnAssign():
                return self.annotated(node)
            case list():
                return [self.node(x) for x in node]
            case ast.AST():
                return self.fields(node)
        return node

    def fields(self, node: ast.AST) -> list[Any]:
        match node:
            case ast.Call(func=ast.Name(id="getattr"), args=[ast.Name(id=name), *_]):
                if isinstance(
                    found := self.imported(name), Module
                ):  # any of its names may be meant
                    self.reach.number(Place(found, None))
        out: list[Any] = [type(node).__name__]
        for name, value in ast.iter_fields(node):
            if name in ("ctx", "type_comment", "kind", "type_params"):
                continue
            if name in ("name", "rest") and isinstance(value, str):  # except ... as, match
                out.append(self.name(value))
            elif name in ("body", "orelse", "finalbody") and isinstance(value, list):
                out.append(self.body(value))
            else:
                out.append(self.node(value))
        return out

    def annotated(self, node: ast.AnnAssign) -> Any:
        """Fields of classes keep their annotation; elsewhere it is dropped."""
        if self.scopes and self.scopes[-1].is_class:
            return [
                "Field",
                self.node(node.target),
                ast.unparse(node.annotation),
                self.node(node.value),
            ]
        return (
            ["Assign", [self.node(node.target)], self.node(node.value)]
            if node.value
            else ["Declared"]
        )

    def function(self, node: Any, *, named: bool = True) -> Any:
        name = self.name(node.name) if named else ""
        return [name, self.node(node.decorator_list), self.callable(node, node.body)]

    def callable(self, node: Any, body: list[Any]) -> Any:
        a = node.args
        groups = [[p.arg for p in g] for g in (a.posonlyargs, a.args, a.kwonlyargs)]
        stars = [p and p.arg for p in (a.vararg, a.kwarg)]
        signature = [groups, stars, self.node(a.defaults), self.node(a.kw_defaults)]
        with self._within(
            scope_of(body, self.module, {n for n in (*sum(groups, []), *stars) if n})
        ):
            return [type(node).__name__, signature, self.body(body)]

    def cls(self, node: ast.ClassDef, *, named: bool = True) -> Any:
        name = self.name(node.name) if named else ""
        head = [self.node(x) for x in (node.decorator_list, node.bases, node.keywords)]
        scope = scope_of(node.body, self.module, bound_names(node.body))
        scope.is_class = True
        with self._within(scope):
            return ["Class", name, head, self.body(node.body)]

    def comprehension(self, node: Any) -> Any:
        first = self.node(node.generators[0].iter)  # is evaluated outside
        with self._within(Scope(bound_names([g.target for g in node.generators]))):
            loops = [
                [
                    self.node(g.target),
                    self.node(g.iter) if i else first,
                    self.node(g.ifs),
                    g.is_async,
                ]
                for i, g in enumerate(node.generators)
            ]
            made = [
                self.node(getattr(node, f)) for f in ("elt", "key", "value") if hasattr(node, f)
            ]
        return [type(node).__name__, loops, made]

    @contextmanager
    def _within(self, scope: Scope) -> Iterator[None]:
        self.scopes.append(scope)
        yield
        self.scopes.pop()

    def _home(self, name: str) -> Scope | None:
        """The innermost scope in which `name` is bound; class bodies are seen from within
        themselves only.
        """
        for depth, scope in reversed(list(enumerate(self.scopes, 1))):
            if name in scope.names and (not scope.is_class or depth == len(self.scopes)):
                return scope
        return None

    def imported(self, name: str) -> Place | Outside | Module | None:
        """What a name means if an import statement bound it, else None."""
        scope = self._home(name)
        if scope is None and name in self.module.bindings:
            return None
        imports = self.module.imports if scope is None else scope.imports
        return find(*imports[name]) if name in imports else None

    def name(self, name: str) -> Any:
        if (found := self.imported(name)) is not None:
            return self.target(found)
        scope = self._home(name)
        if scope is None:
            return (
                self.target(Place(self.module, name))
                if name in self.module.bindings
                else ["name", name]
            )
        if name in scope.fixed:
            return ["name", name]
        return ["local", self.locals.setdefault((scope, name), len(self.locals))]

    def target(self, found: Place | Outside | Module) -> Any:
        match found:
            case Place():
                return ["ours", self.reach.number(found)]
            case Module():
                return ["ours", self.reach.number(Place(found, None))]
        return ["outside", found.path]

    def attribute(self, node: ast.Attribute) -> Any:
        """`module.name` is what the module defines; any other attribute is a name."""
        chain, inner = [node.attr], node.value
        while isinstance(inner, ast.Attribute):
            chain.insert(0, inner.attr)
            inner = inner.value
        found = self.imported(inner.id) if isinstance(inner, ast.Name) else None
        while isinstance(found, Module) and chain:
            found = find(found.name, chain.pop(0)) or found
        if found is None:
            return ["attribute", self.node(node.value), node.attr]
        return ["of", self.target(found), chain]


def _is_text(statement: ast.AST) -> bool:
    """A docstring, or a string that stands alone."""
    match statement:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
    return False
