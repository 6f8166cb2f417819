"""What a reader finds: nothing stale, no heavy import, notebooks of one form, no outside paths."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

import rali_lab as rl
from rali_lab.experiments.publish import problems
from rali_lab.profiles import PROFILES, get_profile
from rali_lab.reproduce.claims import CLAIM_ID, read_claims
from rali_lab.reproduce.code_keys import cells_key
from rali_lab.reproduce.plan import mismatched
from rali_lab.reproduce.sources import module_named

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "notebooks").glob("[0-9]*.py"))


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / f for f in listed.splitlines()]


def test_committed_notebooks_belong_to_their_sources():
    assert mismatched(ROOT / "notebooks") == []


def test_generated_tables_belong_to_the_committed_results():
    assert problems(ROOT) == []


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import rali_lab; dir(rali_lab)", ("numpy", "torch", "argparse", "rali_lab.data")),
        ("import rali_lab as rl; rl.read_image, rl.find_images", ("torch", "transformers")),
        ("import rali_lab.evaluate, rali_lab.analysis", ("torch", "transformers", "umap")),
    ],
)
def test_importing_the_package_is_light(statement, absent):
    code = f"import sys; {statement}; print([m for m in {absent} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]" and out.stderr == ""


def test_public_names_are_those_of_their_modules():
    for name in rl.__all__:
        found = getattr(rl, name)
        assert found is getattr(sys.modules[found.__module__], name) and name in dir(rl)
    assert set(rl.__all__) == set(module_named("rali_lab").lazy) == set(rl._MODULES)
    with pytest.raises(AttributeError, match="'rali_lab' has no attribute 'load_score'"):
        _ = rl.load_score


def test_keys_follow_the_public_names():
    reached = cells_key(["import rali_lab as rl", "rl.read_image('photo.jpg')"])[1]
    assert ("rali_lab.data.images", "read_image") in reached
    assert ("rali_lab", None) not in reached


def test_unknown_profile_names_the_known_ones():
    with pytest.raises(ValueError, match="tiny"):
        get_profile("huge")
    assert set(PROFILES) >= {"tiny", "small"}


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_notebook_has_the_house_form(source):
    book = jupytext.read(source)
    code = [c for c in book.cells if c.cell_type == "code"]
    text = (
        "\n".join(c.source for c in book.cells if c.cell_type == "markdown")
        .lower()
        .replace("take away", "takeaways")
    )
    assert len(code) <= 25
    assert [c for c in code if "parameters" in c.metadata.get("tags", [])] == [code[0]]
    assert re.match(r"# \d\d · ", book.cells[0].source), "the title carries number and verb"
    for part in (
        "What you'll do",
        "What you'll learn",
        "What you need",
        "Exercises",
        "Takeaways",
        "Reuse this",
        "References",
    ):
        assert part.lower() in text, f"{source.name} lacks {part!r}"
    assert "expect(" in "\n".join(c.source for c in code), "a notebook without a check cannot fail"


def test_claims_name_notebooks_that_exist():
    numbers = {s.name[:2] for s in SOURCES}
    assert {c.notebook[:2] for c in read_claims(ROOT / "notebooks" / "claims.toml")} <= numbers


def code_of(source: Path) -> str:
    return "\n".join(c.source for c in jupytext.read(source).cells if c.cell_type == "code")


def test_every_claim_has_its_cell_and_every_cell_its_claim():
    declared = {c.id: c for c in read_claims(ROOT / "notebooks" / "claims.toml")}
    named = {source.stem: set(CLAIM_ID.findall(code_of(source))) for source in SOURCES}
    kinds = {id.split(".")[0] for id in declared}
    files = {"csv", "onnx", "parquet", "json", "png"}
    claims = {
        (name, id)
        for name, ids in named.items()
        for id in ids
        if id.split(".")[0] in kinds and id.split(".")[1] not in files
    }
    stray = {(name, id) for name, id in claims if id not in declared}
    assert not stray, "a notebook gives a verdict on something that claims.toml does not declare"
    for claim in declared.values():
        homes = [name for name, ids in named.items() if claim.id in ids]
        assert len(homes) == 1 and claim.belongs_to(homes[0]), (
            f"{claim.id} is judged in {homes}, declared for {claim.notebook}"
        )


def test_every_claim_is_shown_in_a_figure_that_exists():
    for claim in read_claims(ROOT / "notebooks" / "claims.toml"):
        assert (ROOT / "figures" / f"{claim.figure}.png").exists(), claim.id


def test_the_published_ledger_names_its_cells(capsys, monkeypatch, tmp_path):
    from rali_lab import cli

    monkeypatch.setenv("RALI_LAB_HOME", str(tmp_path))  # where no run is
    assert cli.main(["claims", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {r["id"] for r in rows} == {
        c.id for c in read_claims(ROOT / "notebooks" / "claims.toml")
    }
    for row in rows:
        assert set(row) == {
            "id",
            "sentence",
            "rule",
            "cell",
            "profile",
            "value",
            "ci_low",
            "ci_high",
            "verdict",
        }
        name, cell = row["cell"].split("#")
        book = json.loads((ROOT / "notebooks" / name).read_text())
        assert f'"{row["id"]}"' in "".join(
            next(c for c in book["cells"] if c["id"] == cell)["source"]
        )
        assert row["verdict"] in {"reproduced", "partly", "contradicted", "not testable"}
    assert cli.main(["claims"]) == 0 and "mechanism.attention_share" in capsys.readouterr().out


def test_no_absolute_paths_and_no_large_files():
    for file in tracked():
        assert file.stat().st_size < 10_000_000, f"{file} is over 10 MB"
        if file.suffix in {".py", ".md", ".toml", ".ipynb", ".json", ".yml"}:
            found = re.search(r"/(root|home/[a-z]+|work)/", file.read_text())
            assert found is None or file.name in ALLOWED, (
                f"{file.name} holds an absolute path: {found}"
            )


ALLOWED = {Path(__file__).name, "test_provenance.py", "test_runner.py", "test_execute.py"}
"""Tests that must write such paths down in order to look for them."""


@pytest.mark.parametrize("profile", ["tiny"])
def test_published_results_have_the_promised_fields(profile):
    rows = json.loads((ROOT / "docs" / "results" / f"{profile}-results.json").read_text())
    fields = {
        "id",
        "profile",
        "method",
        "domain",
        "role",
        "metric",
        "value",
        "ci_low",
        "ci_high",
        "n",
        "seeds",
    }
    assert all(set(r) == fields for r in rows)
    assert {"base", "teacher", "teacher_no_reasoning", "ridge_visual", "rali"} <= {
        r["method"] for r in rows
    }
