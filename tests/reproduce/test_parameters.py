"""Parameters: what papermill lets pass is an error here."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rali_lab.reproduce.parameters import ParameterError, check, declared


def cell(source, *tags, kind="code"):
    return SimpleNamespace(cell_type=kind, source=source, metadata={"tags": list(tags)})


def notebook(parameters, *later):
    cells = [
        cell("# Title", kind="markdown"),
        cell(parameters, "parameters"),
        *(cell(source) for source in later),
    ]
    return SimpleNamespace(cells=cells)


def test_defaults_in_order_with_annotations_and_comments():
    nb = notebook(
        "# sizes\nprofile = 'tiny'\nk: int = 3\nrate = -1e-3\nnote: str | None = None\nsizes ="
        " [1, 2]"
    )
    assert declared(nb) == {"profile": "tiny", "k": 3, "rate": -1e-3, "note": None, "sizes": [1, 2]}
    assert list(declared(nb)) == ["profile", "k", "rate", "note", "sizes"]


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("k = 3\nn = k * 2", "'n = k \\* 2' is derived"),
        ("k = int('3')", "derived"),
        ("import os", "only `name = literal`"),
        ("a = b = 1", "only `name = literal`"),
        ("a, b = 1, 2", "only `name = literal`"),
        ("k: int", "only `name = literal`"),
        ("k = 1\nk = 2", "declared twice"),
    ],
)
def test_only_literals_are_declarations(source, complaint):
    with pytest.raises(ParameterError, match=complaint):
        declared(notebook(source), name="02_demo")


def test_exactly_one_cell_is_tagged():
    nb = notebook("k = 3", "print(k)")
    nb.cells.append(nb.cells[1])
    with pytest.raises(ParameterError, match="2 code cells are tagged"):
        declared(nb)
    with pytest.raises(ParameterError, match="0 code cells are tagged"):
        declared(SimpleNamespace(cells=[cell("k = 3")]))


def test_passed_values_override_defaults():
    nb = notebook("k = 3\nrate = 0.1\nnote = None", "print(k, rate, note)")
    assert check(nb, {"rate": 1, "note": "x"}) == {"k": 3, "rate": 1, "note": "x"}


def test_a_typo_is_an_error_that_lists_the_known():
    with pytest.raises(
        ParameterError, match=r"02_demo: unknown parameter 'profil'; it declares \['k', 'profile'\]"
    ):
        check(
            notebook("profile = 'tiny'\nk = 1", "print(profile, k)"),
            {"profil": "tiny"},
            name="02_demo",
        )


@pytest.mark.parametrize(
    ("default", "value"),
    [
        ("3", True),
        ("True", 1),
        ("3", 3.0),
        ("3", "3"),
        ("0.5", "x"),
        ("'a'", None),
        ("0.5", False),
        ("[]", (1,)),
    ],
)
def test_wrong_types_are_errors(default, value):
    with pytest.raises(ParameterError, match="parameter 'k' must be"):
        check(notebook(f"k = {default}", "print(k)"), {"k": value})


@pytest.mark.parametrize(
    "later",
    [
        "print('k')",
        "obj.k = 1",
        "def f(k):\n    return k",
        "[k for k in range(3)]",
        "f(k=1)",
        "%%bash\necho k",
    ],
)
def test_a_parameter_that_nothing_reads_is_an_error(later):
    with pytest.raises(ParameterError, match="'k' is never read"):
        check(notebook("k = 3", later), {})


@pytest.mark.parametrize(
    "later",
    [
        "print(f'{k}')",
        "def f():\n    return k",
        "[x + k for x in range(3)]",
        "%matplotlib inline\nif k:\n    !ls",
    ],
)
def test_every_way_to_read_a_parameter_counts(later):
    assert check(notebook("k = 3", later), {}) == {"k": 3}


@pytest.mark.parametrize(
    "later",
    [
        "k = k + 1",
        "k += 1",
        "for k in range(3):\n    print(k)",
        "import numpy as k\nprint(k)",
        "if (k := 2):\n    print(k)",
        "def f():\n    global k\n    k = 2\nprint(k)",
        "def k():\n    pass\nk()",
    ],
)
def test_every_way_to_assign_again_is_an_error(later):
    with pytest.raises(ParameterError, match="assigned again"):
        check(notebook("k = 3", later), {})


def test_a_local_of_the_same_name_is_no_second_assignment():
    assert check(notebook("k = 3", "def f(k):\n    k = 1\n    return k\nf(k)"), {}) == {"k": 3}


def test_broken_cells_are_named():
    with pytest.raises(ParameterError, match="cell 2 is not valid Python, line 1"):
        check(notebook("k = 3", "print(k"), {})
