"""Dependencies point one way, files stay short, and no file name is used twice."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from rali_lab.reproduce.sources import absolute, module_named

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "rali_lab").rglob("*.py"))
LAYERS = (
    "io precision estimate",
    "evaluate",
    "analysis",
    "data",
    "profiles",
    "models",
    "reasoner rali",
    "interpret",
    "plotting",
    "reproduce",
    "experiments",
    "paper",
    "cli rali_lab",
)
"""Sub-packages and modules, lowest first; the package itself imports its public names lazily."""
FORBIDDEN = {
    "reasoner": {"rali"},
    "rali": {"reasoner"},
    "reproduce": {"analysis", "data", "models", "reasoner", "rali", "interpret"},
}
"""What sub-packages may not import, though it is not above them: `reproduce` knows no models."""
HEAVY = {"torch", "torchvision", "transformers", "timm", "trl"}


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(file: Path, *, lazy: bool) -> set[str]:
    """Modules that a file imports; with `lazy` also inside functions and for type checkers."""
    module, found = module_named(module_of(file)), set()
    nodes: list[ast.AST] = [module.tree]
    while nodes:
        node = nodes.pop()
        checker = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if lazy or not (checker or isinstance(node, ast.FunctionDef)):
            nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = absolute(node, module)
            names = {f"{source}.{alias.name}" for alias in node.names}
            found |= {name if module_named(name) else source for name in names}
    return found - {module.name}


def part(name: str) -> str:
    """The sub-package, or the module, of `rali_lab` that a name belongs to."""
    return name.split(".")[1] if "." in name else name


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_imports_point_to_lower_layers(file):
    height = {name: i for i, names in enumerate(LAYERS) for name in names.split()}
    own = part(module_of(file))
    others = {part(n) for n in imports(file, lazy=True) if n.startswith("rali_lab.")} - {own}
    forbidden = FORBIDDEN.get(own, set())
    assert {n for n in others if height[n] > height[own] or n in forbidden} == set()
    if own in ("analysis", "evaluate"):
        assert not {name.split(".")[0] for name in imports(file, lazy=False)} & HEAVY


def test_no_circle_at_import_time():
    waiting = {module_of(file): imports(file, lazy=False) for file in FILES}
    while free := [name for name, needs in waiting.items() if not needs & waiting.keys()]:
        for name in free:
            del waiting[name]
    assert not waiting


def test_no_file_name_is_used_twice():
    counts = Counter(file.name for file in FILES if not file.name.startswith("__"))
    assert [name for name, n in counts.items() if n > 1] == []


LONGEST = {"rali_lab": 350, "tests": 350, "notebooks": 500}


@pytest.mark.parametrize("folder", LONGEST)
def test_files_are_short(folder):
    lengths = {f.name: f.read_text().count("\n") for f in (ROOT / folder).rglob("*.py")}
    assert {name: n for name, n in lengths.items() if n > LONGEST[folder]} == {}
