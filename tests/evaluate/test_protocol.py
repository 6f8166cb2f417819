"""The protocol line and the leakage guard."""

from types import SimpleNamespace

import pytest

from rali_lab.evaluate import LeakageError, Protocol, assert_disjoint


def image(id, source):
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
    assert_disjoint([image("a1", "a")], [image("b1", "b")])


def test_shared_source_names_the_first_offenders():
    test = [image(f"a{i}", "a") for i in range(5)] + [image("c1", "c")]
    with pytest.raises(
        LeakageError, match=r"5 of 6 test images.*source.*a0 \(source a\), a1 .*and 2 more"
    ):
        assert_disjoint([image("x", "a")], test)


def test_shared_id_is_named_first():
    with pytest.raises(LeakageError, match="share their id with training, expected 0: p1"):
        assert_disjoint([image("p1", "a")], [image("p1", "a")])
