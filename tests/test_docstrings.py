"""A docstring that lists parameters lists all of them; numpydoc itself checks the rest."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
docscrape = pytest.importorskip("numpydoc.docscrape", reason="numpydoc comes with the extra `dev`")


def signature(node: ast.FunctionDef) -> set[str]:
    a = node.args
    every = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    return {argument.arg for argument in every} - {"self", "cls"}


def undocumented(node: ast.AST) -> set[str]:
    """Parameters of a function, or of a class's constructor, that its list leaves out."""
    text = ast.get_docstring(node)
    listed = docscrape.NumpyDocString(text)["Parameters"] if text else []
    if not listed:
        return set()
    if isinstance(node, ast.ClassDef):
        makers = [n for n in node.body if getattr(n, "name", "") == "__init__"]
        wanted = signature(makers[0]) if makers else set()
    else:
        wanted = signature(node)
    return wanted - {name.strip(" *") for p in listed for name in p.name.split(",")}


@pytest.mark.parametrize("package", sorted({f.name for f in (ROOT / "rali_lab").iterdir()}))
def test_a_list_of_parameters_is_whole(package):
    place = ROOT / "rali_lab" / package
    files = place.rglob("*.py") if place.is_dir() else [place] if place.suffix == ".py" else []
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    found = {
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}": names
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, kinds) and (names := undocumented(node))
    }
    assert found == {}
