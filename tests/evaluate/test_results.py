"""Records: valid by construction, merged by id, written whole or not at all."""

import json

import numpy as np
import pytest

from rali_lab.evaluate import Record, correlate, read_records, write_records

FIELDS = [
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
]


def record(**changes):
    fields = dict(
        profile="tiny", method="rali", domain="photo", role="in", metric="plcc", value=0.9, n=100
    )
    return Record(**(fields | changes))


def test_fields_and_id_are_the_agreed_ones():
    assert list(record().to_dict()) == FIELDS
    assert record(domain="-", metric="parameters", n=None).id == "tiny/rali/-/parameters"


def test_record_of_a_correlation():
    rng = np.random.default_rng(0)
    mos = rng.normal(size=50)
    measured = correlate(mos + rng.normal(size=50), mos, kind="srcc")
    made = Record.of(measured, profile="tiny", method="base", domain="livec", role="real")
    assert (made.metric, made.value, made.n, made.seeds) == ("srcc", measured.value, 50, 1)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"role": "train"}, "role='train', expected one of"),
        ({"value": float("nan")}, "is not finite"),
        ({"ci_low": 0.91, "ci_high": 0.95}, "lies outside its interval"),
        ({"ci_low": 0.8}, "needs both ends"),
        ({"method": "RALI v2"}, "method='RALI v2': expected lower-case"),
        ({"n": 0}, "n=0"),
        ({"seeds": 0}, "seeds=0"),
    ],
)
def test_invalid_records_are_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        record(**changes)


def test_write_merges_by_id_and_keeps_the_order(tmp_path):
    path = tmp_path / "runs" / "results.json"
    write_records(path, [record(), record(method="base", value=0.4)])
    merged = write_records(
        path, [record(value=0.95), record(method="teacher", value=np.float32(0.5))]
    )
    assert [(r.method, round(float(r.value), 2)) for r in merged] == [
        ("rali", 0.95),
        ("base", 0.4),
        ("teacher", 0.5),
    ]
    assert read_records(path) == merged
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_records(path, [record()])
    before = path.read_text()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_records(path, [record(value=0.1)])
    assert path.read_text() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_twice_the_same_id_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="'tiny/rali/photo/plcc' occurs twice"):
        write_records(tmp_path / "r.json", [record(), record(value=0.2)])


@pytest.mark.parametrize(
    "content", ["", "{", '{"a": 1}', "[1]", json.dumps([record().to_dict() | {"id": "x"}])]
)
def test_damaged_files_are_named(tmp_path, content):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"results\.json is not a list of result records"):
        read_records(path)


def test_missing_file_says_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="make reproduce"):
        read_records(tmp_path / "none.json")
