"""Definitions in a canonical form, from which `rali_lab.reproduce.code_keys` makes keys.

Equal are the forms of two definitions that differ in docstrings, comments, layout, annotations of
functions, names of local variables and the names of modules, and nothing else.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rali_lab.reproduce.sources import (
    Module,
    Outside,
    Place,
    Scope,
    absolute,
    bound_names,
    find,
    module_named,
    ours,
    scope_of,
)


class Numbers(Protocol):
    """What gives definitions their numbers."""

    loaded: list[str]

    def number(self, place: Place) -> int:
        """The number that stands for a definition; it will be written, too."""
        ...


class Writer:
    """Writes one definition as nested lists: local names become numbers, ours become references."""

    def __init__(self, reach: Numbers, module: Module) -> None:
        self.reach, self.module = reach, module
        self.scopes: list[Scope] = []
        self.locals: dict[tuple[Scope, str], int] = {}

    def top(self, statement: ast.AST) -> Any:
        """A top-level statement without the name it binds: what refers to it has its number."""
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
            source = alias.name
            if isinstance(statement, ast.ImportFrom):
                source = absolute(statement, self.module)
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
                if isinstance(found := self.imported(name), Module):
                    self.reach.number(Place(found, None))  # any of its names may be meant
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
        target, value = self.node(node.target), self.node(node.value)
        if self.scopes and self.scopes[-1].is_class:
            return ["Field", target, ast.unparse(node.annotation), value]
        return ["Assign", [target], value] if node.value else ["Declared"]

    def function(self, node: Any, *, named: bool = True) -> Any:
        name = self.name(node.name) if named else ""
        return [name, self.node(node.decorator_list), self.callable(node, node.body)]

    def callable(self, node: Any, body: list[Any]) -> Any:
        a = node.args
        groups = [[p.arg for p in g] for g in (a.posonlyargs, a.args, a.kwonlyargs)]
        stars = [p and p.arg for p in (a.vararg, a.kwarg)]
        signature = [groups, stars, self.node(a.defaults), self.node(a.kw_defaults)]
        parameters = {name for name in (*sum(groups, []), *stars) if name}
        with self._within(scope_of(body, self.module, parameters)):
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
            parts = [getattr(node, f) for f in ("elt", "key", "value") if hasattr(node, f)]
            made = [self.node(part) for part in parts]
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
        if scope is None and name in self.module.bindings:
            return self.target(Place(self.module, name))
        if scope is None:
            return ["name", name]
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
