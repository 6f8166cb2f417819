"""The protocol line and the leakage guard."""

from types import SimpleNamespace

import pytest

from rali_lab.evaluate import LeakageError, Protocol, assert_disjoint


def picture(id, source):
    return SimpleNamespace(id=id, source=source)


def test_protocol_says_everything_a_reader_needs():
    line = str(Protocol(split="val", label="DMOS, 0-1", higher_is_better=False, fit="logistic4"))
    for part in (
        "val split",
        "DMOS, 0-1 (lower is better)",
        "PLCC after logistic4",
        "95 %",
        "1000 resamples of source",
    ):
        assert part in line


@pytest.mark.parametrize("wrong", [{"fit": "isotonic"}, {"score_range": (5, 1)}])
def test_protocol_refuses_what_it_cannot_mean(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Protocol(**wrong)


def test_disjoint_sources_pass():
    assert_disjoint([picture("a1", "a")], [picture("b1", "b")])


def test_shared_source_names_the_first_offenders():
    test = [picture(f"a{i}", "a") for i in range(5)] + [picture("c1", "c")]
    with pytest.raises(LeakageError, match=r"5 of 6 test pictures.*source.*a0 \(source a\), a1 .*and 2 more"):
        assert_disjoint([picture("x", "a")], test)


def test_shared_id_is_named_first():
    with pytest.raises(LeakageError, match="share their id with training, expected 0: p1"):
        assert_disjoint([picture("p1", "a")], [picture("p1", "a")])
