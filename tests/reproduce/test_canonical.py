"""What the key of a definition depends on, in a package of four small modules."""

from __future__ import annotations

import pytest

from rali_lab.reproduce import sources
from rali_lab.reproduce.code_keys import cells_key, definition_key, reached

SMALL = {
    "__init__.py": "",
    "a.py": (
        "from rali_lab import b\nfrom rali_lab.b import helper as h\n\ndef step(x):\n    x = h(x)\n"
        "    return [y for y in x]\n"
    ),
    "b.py": (
        "from rali_lab.c import deep\nLIMIT = 3\n\ndef helper(x):\n    return deep(x) <"
        " LIMIT\n\ndef other():\n    return 0\n"
    ),
    "c.py": "def deep(x):\n    return x + 1\n",
}


@pytest.fixture
def small(tmp_path, monkeypatch):
    folder = tmp_path / "rali_lab"
    folder.mkdir()
    for name, text in SMALL.items():
        (folder / name).write_text(text)
    monkeypatch.setattr(sources, "package_folder", lambda: folder)
    return folder


@pytest.mark.parametrize(
    ("file", "old", "new", "same"),
    [
        ("c.py", "x + 1", "x - 1", False),  # an operator two imports away
        ("b.py", "LIMIT = 3", "LIMIT = 4", False),
        ("b.py", "return 0", "return 1", True),  # out of reach
        ("a.py", "x = h(x)", "x = h(x); x = b.other()", False),
        ("a.py", "x = h(x)", "h = len; x = h(x)", False),  # a local of the same name hides it
        ("a.py", "[y for y in x]", "[z for z in x]", True),
        ("a.py", "def step(x)", "def step(x: int) -> list", True),
        ("a.py", "import helper as h", "import helper", False),  # h is no longer bound
        ("c.py", "def deep(x)", "@register\ndef deep(x)", False),
        ("c.py", "def deep", "print('imported')\n\ndef deep", False),  # runs on import
        ("a.py", "return [y", "return getattr(b, 'other')() or [y", False),
    ],
)
def test_small_cases(small, file, old, new, same):
    before = definition_key("rali_lab.a", "step")
    assert old in (small / file).read_text()
    (small / file).write_text((small / file).read_text().replace(old, new))
    assert (definition_key("rali_lab.a", "step") == before) is same


def test_getattr_on_a_module_takes_all_of_it(small):
    (small / "a.py").write_text(
        "from rali_lab import b\n\ndef step(n):\n    return getattr(b, n)\n"
    )
    assert ("rali_lab.b", None) in reached("rali_lab.a", "step")
    assert {("rali_lab.b", "other"), ("rali_lab.c", "deep")} & reached("rali_lab.a", "step")
    assert ("rali_lab.c", "deep") in reached("rali_lab.a", "step")


def test_functions_call_each_other_in_a_circle(small):
    (small / "c.py").write_text(
        "from rali_lab.b import helper\n\ndef deep(x):\n    return helper(x - 1) if x else 0\n"
    )
    before = definition_key("rali_lab.a", "step")
    (small / "c.py").write_text(
        "from rali_lab.b import helper\n\ndef deep(x):\n    return helper(x - 2) if x else 0\n"
    )
    assert definition_key("rali_lab.a", "step") != before


def test_cells_reach_what_they_import(small):
    cells = ["from rali_lab import a, b", "x = 1", "a.step(x)"]
    key, found = cells_key(cells)
    assert ("rali_lab.c", "deep") in found and ("rali_lab.b", "other") not in found
    assert cells_key([*cells, "# a remark"])[0] == key
    assert cells_key([*cells[:2], "a.step(x + 1)"])[0] != key
    (small / "c.py").write_text(SMALL["c.py"].replace("+", "-"))
    assert cells_key(cells)[0] != key


LAZY = """from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from rali_lab.b import helper
    from rali_lab.e import unused

def __getattr__(name):
    from importlib import import_module
    return getattr(import_module("rali_lab.b"), name)
"""


def test_names_that_the_package_imports_lazily_are_followed(small):
    """Only as far as they are used: the other modules are neither reached nor executed."""
    (small / "__init__.py").write_text(LAZY)
    (small / "e.py").write_text("def unused():\n    return 0\n\nprint('imported')\n")
    cells = ["import rali_lab as rl", "rl.helper(3)"]
    key, found = cells_key(cells)
    assert {("rali_lab.b", "helper"), ("rali_lab.c", "deep")} <= found
    assert {module for module, _ in found} == {"rali_lab.b", "rali_lab.c"}
    (small / "e.py").write_text("def unused():\n    return 1\n\nprint('again')\n")
    assert cells_key(cells)[0] == key
    (small / "c.py").write_text(SMALL["c.py"].replace("+", "-"))
    assert cells_key(cells)[0] != key
