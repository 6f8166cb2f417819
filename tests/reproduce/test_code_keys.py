"""Keys of code, in both directions: an operator anywhere in reach changes them, rewording changes
nothing.
"""

from __future__ import annotations

import ast
import random
import shutil

import pytest

from rali_lab.reproduce import code_keys, sources
from rali_lab.reproduce.code_keys import CodeError, code_key, definition_key, reached

LINE = "rali_lab.experiments.main_line"
SWAPS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Lt: ast.GtE,
    ast.Gt: ast.LtE,
}
SWAPS |= {
    ast.LtE: ast.Gt,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.And: ast.Or,
}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package's sources that keys are taken from, to be changed file by file."""
    original = sources.package_folder()
    copy = tmp_path_factory.mktemp("sources") / "rali_lab"
    shutil.copytree(
        original,
        copy,
        ignore=lambda folder, names: [n for n in names if "." in n and not n.endswith(".py")],
    )
    patch = pytest.MonkeyPatch()
    patch.setattr(sources, "package_folder", lambda: copy)
    yield Package(copy)
    patch.undo()


class Package:
    def __init__(self, folder):
        self.folder = folder

    def file(self, module):
        path = self.folder.joinpath(*module.split(".")[1:])
        return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")

    def steps(self):
        """Every function that makes an artefact."""
        found = []
        for file in sorted(self.folder.rglob("*.py")):
            parts = file.relative_to(self.folder).with_suffix("").parts
            name = ".".join(["rali_lab", *parts]).removesuffix(".__init__")
            for node in ast.parse(file.read_text()).body:
                defines = isinstance(node, ast.FunctionDef | ast.ClassDef)
                if defines and "ArtifactStore().make(" in ast.unparse(node):
                    found.append((name, node.name))
        return found

    def changed(self, module, change):
        """A context in which `change` was applied to the tree of a module."""
        return Changed(self.file(module), change)


class Changed:
    def __init__(self, file, change):
        self.file, self.change = file, change

    def __enter__(self):
        self.before = self.file.read_text()
        written = self.change(self.before)
        self.file.write_text(written if isinstance(written, str) else ast.unparse(written))
        assert self.file.read_text() != self.before

    def __exit__(self, *_):
        self.file.write_text(self.before)


def definition(tree, name):
    return next(n for n in tree.body if getattr(n, "name", None) == name)


def places_to_mutate(node):
    """Operators and numbers of a definition, outside annotations and docstrings."""
    annotations = {
        id(x)
        for n in ast.walk(node)
        for a in ("annotation", "returns")
        if getattr(n, a, None) is not None
        for x in ast.walk(getattr(n, a))
    }
    found = []
    for n in ast.walk(node):
        if id(n) in annotations:
            continue
        operator = n.ops[0] if isinstance(n, ast.Compare) else getattr(n, "op", None)
        number = isinstance(n, ast.Constant) and type(n.value) in (int, float, bool)
        if number or (type(operator) in SWAPS and not isinstance(n, ast.AugAssign | ast.UnaryOp)):
            found.append(n)
    return found


def mutate(name, rng):
    def change(source):
        tree = ast.parse(source)
        node = rng.choice(places_to_mutate(definition(tree, name)))
        if isinstance(node, ast.Constant):
            node.value = not node.value if isinstance(node.value, bool) else node.value + 1
        elif isinstance(node, ast.Compare):
            node.ops[0] = SWAPS[type(node.ops[0])]()
        else:
            node.op = SWAPS[type(node.op)]()
        return tree

    return change


def mutable(package, module, name):
    found = [
        n
        for n in ast.parse(package.file(module).read_text()).body
        if getattr(n, "name", None) == name
    ]
    return bool(found and places_to_mutate(found[0]))


@pytest.mark.parametrize("number", range(20))
def test_a_mutant_anywhere_in_reach_changes_the_key(package, number):
    rng = random.Random(number)
    step = rng.choice(package.steps())
    places = sorted((m, n) for m, n in reached(*step) if n and mutable(package, m, n))
    module, name = rng.choice(places)
    before = definition_key(*step)
    with package.changed(module, mutate(name, rng)):
        assert definition_key(*step) != before, (step, module, name)
    assert definition_key(*step) == before


def redocument(source):
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(
            node
        ):
            node.body[0].value.value = "Said otherwise."
    return tree


def comment(source):
    return "\n".join(
        [
            "# first",
            *(f"{line}  # why" if line.endswith(":") else line for line in source.split("\n")),
        ]
    )


def reformat(source):
    return ast.parse(source)  # unparsed again: other line breaks, quotes and brackets, no comments


class RenameLocals(ast.NodeTransformer):
    """Every local of every top-level function gets another name; parameters and attributes keep
    theirs.
    """

    def visit_FunctionDef(self, node):
        if self.known is None:
            arguments = {a.arg for a in ast.walk(node) if isinstance(a, ast.arg)}
            taken = {
                x
                for n in ast.walk(node)
                if isinstance(n, ast.Global | ast.Nonlocal)
                for x in n.names
            }
            statements = [n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]
            imported = {a.asname or a.name.split(".")[0] for n in statements for a in n.names}
            stored = {
                n.id
                for n in ast.walk(node)
                if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            }
            self.known = stored - arguments - taken - imported
            self.generic_visit(node)
            self.known = None
        else:
            self.generic_visit(node)
        return node

    known = None

    def visit_ClassDef(self, node):
        return node if self.known is None else self.generic_visit(node)

    def visit_Name(self, node):
        if self.known and node.id in self.known:
            node.id += "_renamed"
        return node


def rename_locals(source):
    return RenameLocals().visit(ast.parse(source))


@pytest.mark.parametrize("rewording", [redocument, comment, reformat, rename_locals])
@pytest.mark.parametrize("number", range(5))
def test_rewording_keeps_the_key(package, rewording, number):
    rng = random.Random(number)
    step = rng.choice(package.steps())
    before = definition_key(*step)
    module = rng.choice(
        sorted({m for m, n in reached(*step) if len(package.file(m).read_text()) > 1000})
    )
    with package.changed(module, rewording):
        assert definition_key(*step) == before, (step, module)


def test_the_teachers_modules_change_its_key_and_not_the_images(package):
    teacher = (LINE, "train_teacher")
    images = ("rali_lab.experiments.steps", "make_images")
    own = reached(*teacher) - reached(*images)
    modules = {m for m, n in own if n and mutable(package, m, n)} - {LINE}
    assert {
        "rali_lab.reasoner.grpo",
        "rali_lab.reasoner.rewards",
        "rali_lab.reasoner.prompts",
    } <= modules
    before = definition_key(*teacher), definition_key(*images)
    for module in sorted(modules):
        name = next(
            n for m, n in sorted(own, key=str) if m == module and n and mutable(package, m, n)
        )
        with package.changed(module, mutate(name, random.Random(0))):
            assert definition_key(*teacher) != before[0], (module, name)
            assert definition_key(*images) == before[1], (module, name)


def test_a_tower_that_is_found_by_its_name_counts(package):
    """timm builds it from a string: what runs on import is reached through the import."""
    before = definition_key(LINE, "train_teacher")
    with package.changed("rali_lab.models.towers", mutate("StatTower", random.Random(3))):
        assert definition_key(LINE, "train_teacher") != before


def test_moving_a_module_changes_no_key(package):
    before = {step: definition_key(*step) for step in package.steps()[:6]}
    old, new = (
        package.file("rali_lab.reasoner.rewards"),
        package.folder / "reasoner" / "earnings.py",
    )
    texts = {
        f: f.read_text()
        for f in package.folder.rglob("*.py")
        if "reasoner.rewards" in f.read_text()
    }
    try:
        shutil.move(old, new)
        for file, text in texts.items():
            if file != old:
                file.write_text(text.replace("reasoner.rewards", "reasoner.earnings"))
        assert {step: definition_key(*step) for step in before} == before
    finally:
        shutil.move(new, old)
        for file, text in texts.items():
            file.write_text(text)


def test_an_unrelated_function_in_a_shared_module_changes_nothing(package):
    before = definition_key(LINE, "train_teacher")
    with package.changed(LINE, lambda source: source + "\n\ndef new(x):\n    return x + 1\n"):
        assert definition_key(LINE, "train_teacher") == before


def test_functions_without_a_file_are_keyed_by_their_bytecode():
    spaces = [{}, {}, {}]
    for space, text in zip(spaces, ("x + 1", "x + 1", "x + 2"), strict=True):
        exec(f"def f(x):\n    return {text}", space)
    first, same, other = (code_key(space["f"]) for space in spaces)
    assert first == same != other


def test_unknown_definitions_are_named():
    with pytest.raises(CodeError, match="binds no 'nothing'"):
        definition_key("rali_lab.reproduce.code_keys", "nothing")
    with pytest.raises(CodeError, match="no_such_module"):
        reached("rali_lab.no_such_module", "x")
    assert code_keys.NOTEBOOK not in {
        m for m, _ in reached("rali_lab.reproduce.code_keys", "code_key")
    }


def unseen(tree):
    """Top-level statements that a key would not follow."""
    bound = set()
    for statement in tree.body:
        inner = list(ast.walk(statement))
        if isinstance(statement, ast.If) and ast.unparse(statement.test) in (
            "TYPE_CHECKING",
            "__name__ == '__main__'",
        ):
            continue
        if isinstance(statement, ast.If | ast.Try | ast.With | ast.For | ast.While):
            if any(isinstance(n, ast.Import | ast.ImportFrom) for n in inner):
                yield statement
        elif isinstance(statement, ast.ImportFrom) and any(a.name == "*" for a in statement.names):
            yield statement
        elif isinstance(statement, ast.Assign | ast.AugAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if any(isinstance(t, ast.Attribute | ast.Subscript) for t in targets):
                yield statement
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            bound |= {a.asname or a.name.split(".")[0] for a in statement.names}
        if isinstance(statement, ast.Assign) and bound & {
            t.id for t in statement.targets if isinstance(t, ast.Name)
        }:
            yield statement


def test_the_package_writes_nothing_that_a_key_would_not_follow():
    found = {
        f"{file.name}: {ast.unparse(s)[:60]}"
        for file in sources.package_folder().rglob("*.py")
        for s in unseen(ast.parse(file.read_text()))
    }
    assert not found
    bad = [
        "from x import *",
        "try:\n    import a\nexcept ImportError:\n    a = None",
        "d['k'] = 1",
        "a.b = 2",
        "import f\nf = 1",
    ]
    assert all(list(unseen(ast.parse(text))) for text in bad)
