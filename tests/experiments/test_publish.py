"""Which notebooks show tables that other code than today's has made."""

from __future__ import annotations

from rali_lab.experiments import publish


def test_a_notebook_is_marked_by_the_studies_that_its_source_names(tmp_path, monkeypatch):
    sources = {
        "03_explain": 'tables = seed_tables(sizes, "mechanism", live)',
        "08_ablate": 'tables = seed_tables(sizes, "ablations", live)',
        "10_own": 'folder = kept_tables_folder(sizes, f"people-{name}")',
        "00_start": "print(1)",
    }
    for name, text in sources.items():
        (tmp_path / f"{name}.py").write_text(text)
    older = {"mechanism", "people-livec"}
    monkeypatch.setattr(publish, "kept_studies", lambda profile: ["ablations", *sorted(older)])
    monkeypatch.setattr(publish, "staleness", lambda profile, study: study in older)
    found = publish.notebooks_with_stale_tables(tmp_path, "tiny")
    assert found == {"03_explain", "10_own"}


def test_outside_a_checkout_nothing_is_published(monkeypatch, capsys):
    monkeypatch.setattr(publish, "checkout", lambda: None)
    assert publish.main([]) == 1
    assert "clone the repository" in capsys.readouterr().err
