"""The package's sources, parsed and not imported: what each name of a module is bound by, and what
it stands for.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = "rali_lab"
OPAQUE = (
    "rali_lab.io",
    "rali_lab.reproduce.store",
    "rali_lab.reproduce.code_keys",
    "rali_lab.reproduce.canonical",
    "rali_lab.reproduce.sources",
    "rali_lab.reproduce.project",
)
"""Where results are kept, and how their keys are made, decides no result: the key stops there."""
NEUTRAL = {"dataclass", "contextmanager", "cache", "lru_cache", "cached_property", "wraps"}
NEUTRAL |= {"inference_mode", "no_grad", "overload", "total_ordering", "singledispatch"}
"""Decorators that register nothing. Those of the package itself count as neutral, too."""
Imports = dict[str, tuple[str, str | None]]
"""Names bound by import statements: (module, None) or (module, attribute)."""


class CodeError(RuntimeError):
    """The source of a function cannot be found."""


@dataclass(frozen=True, eq=False)
class Module:
    """A source file: what each of its names is bound by."""

    name: str
    file: Path | None
    tree: ast.Module
    package: bool

    @functools.cached_property
    def bindings(self) -> dict[str, list[ast.AST]]:
        """Top-level statements that bind a name; imports as (module, attribute or None) in
        `imports`.
        """
        found: dict[str, list[ast.AST]] = {}
        for statement in _flat(self.tree.body):
            if not isinstance(statement, ast.Import | ast.ImportFrom):
                for name in bound_names([statement]):
                    found.setdefault(name, []).append(statement)
        return found

    @functools.cached_property
    def imports(self) -> Imports:
        return _imported(_flat(self.tree.body), self)

    @functools.cached_property
    def lazy(self) -> Imports:
        """Names that a module-level `__getattr__` imports when asked for.

        Its module shows them to type checkers: they are the imports under `if TYPE_CHECKING`.
        """
        if "__getattr__" not in self.bindings:
            return {}
        guarded = [s for s in self.tree.body if isinstance(s, ast.If) and _for_type_checkers(s)]
        return _imported([inner for s in guarded for inner in s.body], self)

    @functools.cached_property
    def effects(self) -> list[ast.AST]:
        """Statements whose execution may change something beyond a name of this module."""
        return [s for s in _flat(self.tree.body) if _acts(s, self)]


def _flat(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Top-level statements without those for type checkers and for running as a script."""
    for statement in body:
        if isinstance(statement, ast.If) and _not_run_on_import(statement):
            yield from statement.orelse
        else:
            yield statement


def _not_run_on_import(statement: ast.If) -> bool:
    return _for_type_checkers(statement) or ast.unparse(statement.test).startswith("__name__ ==")


def _for_type_checkers(statement: ast.If) -> bool:
    return ast.unparse(statement.test).endswith("TYPE_CHECKING")


def _acts(statement: ast.stmt, module: Module) -> bool:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return any(not _neutral(d, module) for d in statement.decorator_list)
    binds = ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Pass
    if isinstance(statement, binds):
        return False
    return not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))


def _neutral(decorator: ast.expr, module: Module) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    own = name in module.bindings or ours(module.imports.get(name, ("", None))[0])
    return name in NEUTRAL or own


def ours(name: str) -> bool:
    return name.split(".")[0] == PACKAGE


def module_named(name: str) -> Module | None:
    """The parsed source of a module of the package; None where there is none."""
    file = _file(name)
    return None if file is None else read_module(name, file)


def read_module(name: str, file: Path) -> Module:
    """A source file, parsed once as long as it does not change."""
    about = file.stat()
    return _parse(name, file, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=1024)
def _parse(name: str, file: Path, changed: int, size: int) -> Module:
    return Module(name, file, ast.parse(file.read_bytes()), package=file.name == "__init__.py")


@functools.cache
def package_folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise CodeError(
            f"the sources of {PACKAGE} are not on the import path; install it with `make setup`"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _file(name: str) -> Path | None:
    top, *rest = name.split(".")
    if top != PACKAGE:
        return None
    path = package_folder().joinpath(*rest)
    for file in (path / "__init__.py", path.with_suffix(".py") if rest else path / "__init__.py"):
        if file.is_file():
            return file
    return None


def _imported(statements: Iterable[ast.AST], module: Module) -> Imports:
    found: Imports = {}
    for statement in statements:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                bound = alias.asname or alias.name.split(".")[0]
                found[bound] = (alias.name if alias.asname else bound, None)
        elif isinstance(statement, ast.ImportFrom):
            source = absolute(statement, module)
            for alias in statement.names:
                found[alias.asname or alias.name] = (source, alias.name)
    return found


def absolute(statement: ast.ImportFrom, module: Module) -> str:
    if not statement.level:
        return statement.module or ""
    parts = module.name.split(".")
    base = parts[: len(parts) - statement.level + (1 if module.package else 0)]
    return ".".join([*base, *([statement.module] if statement.module else [])])


@dataclass(frozen=True)
class Place:
    """A definition: all top-level statements of a module that bind a name; without a name the whole
    module.
    """

    module: Module
    name: str | None

    @property
    def statements(self) -> list[ast.AST]:
        if self.name is None:
            return [
                s
                for s in _flat(self.module.tree.body)
                if not isinstance(s, ast.Import | ast.ImportFrom)
            ]
        return self.module.bindings[self.name]


@dataclass
class Outside:
    """A name from elsewhere: a library's, or one of the opaque modules."""

    path: str


def find(source: str, attribute: str | None, seen: tuple = ()) -> Place | Outside | Module | None:
    """What `attribute` of the module `source` (or the module itself) is."""
    if not ours(source):
        return Outside(".".join(filter(None, [source, attribute])))
    if source in OPAQUE:
        return Outside(attribute or "store")
    found = module_named(source)
    if found is None:
        return None
    if attribute is None:
        return found
    if (source, attribute) in seen:
        return None
    if attribute in found.bindings:
        return Place(found, attribute)
    imports = found.lazy | found.imports
    if attribute in imports:
        return find(*imports[attribute], (*seen, (source, attribute)))
    if (below := module_named(f"{source}.{attribute}")) is not None:
        return find(below.name, None)
    return Place(found, None)  # __getattr__, a star import: the whole module


@dataclass(eq=False)
class Scope:
    """Names of a function, comprehension or class body.

    `imports` are those bound by import statements; `fixed` are written as they are: parameters,
    which callers may name, and attributes of classes.
    """

    names: set[str]
    imports: Imports = field(default_factory=dict)
    fixed: set[str] = field(default_factory=set)
    is_class: bool = False


NESTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def _own(nodes: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """Nodes of one scope: nested functions and classes are named but not entered, comprehensions
    neither.
    """
    stack = list(nodes)
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, COMPREHENSIONS):
            stack += [n for n in ast.walk(node) if isinstance(n, ast.NamedExpr)]
        elif not isinstance(node, NESTED):
            stack += ast.iter_child_nodes(node)


def bound_names(statements: Sequence[ast.AST]) -> set[str]:
    """Names that statements bind in their own scope."""
    found: set[str] = set()
    for node in _own(statements):
        match node:
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                found.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                found.add(name)
            case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                found.add(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found |= {a.asname or a.name.split(".")[0] for a in names}
    return found


def scope_of(body: Sequence[ast.AST], module: Module, fixed: set[str]) -> Scope:
    """The scope of a function with this body and these parameters."""
    elsewhere = {n for s in _own(body) if isinstance(s, ast.Global | ast.Nonlocal) for n in s.names}
    imports = [n for n in _own(body) if isinstance(n, ast.Import | ast.ImportFrom)]
    return Scope((bound_names(body) - elsewhere) | fixed, _imported(imports, module), fixed)
