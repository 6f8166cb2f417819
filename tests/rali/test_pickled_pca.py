"""A pickle that holds anything but a PCA is refused unrun, by name, and takes no memory."""

from __future__ import annotations

import pickle
import resource
import struct

import joblib
import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rali_lab.rali.pickled_pca import read_pickled_pca
from rali_lab.rali.released import _projection


def text(x):
    return b"\x8c" + bytes([len(x)]) + x.encode()


def name(module, attribute):
    return text(module) + text(attribute) + b"\x93"


def dtype(code, end="<", *, size=-1, flags=0):
    """A dtype that is made and then re-stated, as numpy writes it where nothing else is asked
    for."""
    made = name("numpy", "dtype") + text(code) + b"\x89\x88\x87R"
    return (
        made
        + b"(K\x03"
        + text(end)
        + b"NNNJ"
        + struct.pack("<i", size)
        + b"J"
        + struct.pack("<i", -1)
        + b"K"
        + bytes([flags])
        + b"tb"
    )


def array(shape, kind=None, *, order="C", align=b"K\x10"):
    kind = dtype("f8") if kind is None else kind
    fields = {
        "subclass": name("numpy", "ndarray"),
        "shape": shape,
        "order": text(order),
        "dtype": kind,
        "allow_mmap": b"\x88",
        "numpy_array_alignment_bytes": align,
    }
    return (
        name("joblib.numpy_pickle", "NumpyArrayWrapper")
        + b")\x81}("
        + b"".join(text(k) + v for k, v in fields.items())
        + b"ub"
    )


PCA_CLASS, SCALAR, EIGHT = (
    name("sklearn.decomposition._pca", "PCA"),
    name("numpy.core.multiarray", "scalar"),
    b"C\x08abcdefgh",
)
HOSTILE = {
    "a command": name("posix", "system") + text("touch pwned") + b"\x85R",
    "a dtype of objects that claims to hold none": dtype("O8", "|"),
    "a dtype of numbers that claims to hold objects": dtype("f8", flags=63),
    "a dtype of another size": dtype("f8", size=2**31 - 1),
    "a dtype of another byte order": dtype("f8", ">"),
    "a dtype of a structure": dtype("V8", "|"),
    "a number made of an object pointer": SCALAR + dtype("O8", "|") + EIGHT + b"\x86R",
    "a number without a dtype": SCALAR + name("numpy", "dtype") + EIGHT + b"\x86R",
    "a number that is too short": SCALAR + dtype("f8") + b"C\x04abcd\x86R",
    "an array of objects": array(b"K\x01\x85", dtype("O8", "|")) + b"\0" * 40,
    "an array larger than the file": array(b"\x8a\x05\0\0\0\0\x01\x85") + b"\0" * 40,
    "an array of a gigantic shape": array(b"\x8a\xfe" + b"\xff" * 253 + b"\0\x85") + b"\0" * 40,
    "an array of a negative shape": array(b"J\xff\xff\xff\xff\x85") + b"\0" * 40,
    "an array of an unknown order": array(b"K\x01\x85", order="CF") + b"\0" * 40,
    "an array without its bytes": array(b"K\x01\x85"),
    "attributes for an array": array(b"K\x01\x85") + b"\0" * 9 + b"}b",
    "attributes for a class": PCA_CLASS + b"}" + text("__init__") + b"Nsb",
    "attributes for a function": SCALAR + b"}b",
    "attributes twice": PCA_CLASS + b")\x81}b}b",
    "slots": PCA_CLASS + b")\x81}}\x86b",
    "arguments for a class": PCA_CLASS + b"N\x85\x81",
    "an array made by its class": name("numpy", "ndarray") + b")\x81",
    "a class that is called": name("numpy", "float64") + b")R",
    "another codec": name("_codecs", "encode") + text("abc") + text("rot13") + b"\x86R",
    "4 GB of bytes": b"\x96" + struct.pack("<Q", 4 << 30) + b"abc",
    "4 GB of text": b"\x8d" + struct.pack("<Q", 4 << 30) + b"abc",
    "2 GB of short bytes": b"B" + struct.pack("<I", 2**31) + b"abc",
    "a registered extension": b"\x82\x01",
    "a persistent id": b"NQ",
    "a persistent id as text": b"Pabc\n",
    "an instance": b"(iposix\nsystem\n",
    "an object": b"(" + PCA_CLASS + b"o",
    "a set": b"\x8f",
    "a buffer of its own": b"\x97",
    "a name that is no text": b"K\x01K\x02\x93",
    "lists in lists": b"]" * 90_000 + b"a" * 89_999,
    "tuples in tuples as a key": b"})" + b"\x85" * 200_000 + b"Ns",
    "marks": b"(" * 200_000,
    "a list in itself": b"]\x94h\0a",
    "more and more": b"}\x94" * 2_000_000,
    "an empty memo": b"h\x05",
    "a text with a wrong escape": b"S'\\q'\n",
    "a name with a wrong escape": b"cos\\e\nsystem\n",
    "a name that is cut": b"cos",
    "half a dict": b"}(" + text("a") + b"u",
    "an empty stack": b"",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_pickles_are_refused_by_name_and_take_no_memory(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pca.pkl").write_bytes(b"\x80\x04" + HOSTILE[what] + b".")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        ValueError, match=r"pca.pkl: (holds .*(refused|no fitted PCA)|is broken)"
    ) as caught:
        _projection(tmp_path / "pca.pkl")
    assert len(str(caught.value)) < 500 + len(str(tmp_path)) and "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    assert not (tmp_path / "pwned").exists()


def test_a_pickle_in_which_a_dtype_is_built_is_refused(tmp_path):
    """By the reader itself: nothing may be left to what is done with the value."""
    (tmp_path / "pca.pkl").write_bytes(b"\x80\x04" + dtype("O8", "|") + b".")
    with pytest.raises(
        ValueError,
        match="pca.pkl: holds an array of Python objects, which a PCA .*convert it to pca.npz",
    ):
        read_pickled_pca(tmp_path / "pca.pkl")
    (tmp_path / "pca.pkl").write_bytes(b"\x80\x04" + dtype("f8", flags=63) + b".")
    with pytest.raises(ValueError, match="pca.pkl: holds a dtype with fields of its own"):
        read_pickled_pca(tmp_path / "pca.pkl")


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_cut_and_changed_pickles_are_errors_or_read(tmp_path):
    rng, file = np.random.default_rng(0), tmp_path / "cut.pkl"
    joblib.dump(make_pipeline(StandardScaler(), PCA(5)).fit(rng.normal(2, 3, (40, 12))), file)
    whole = file.read_bytes()
    for end in range(1, len(whole), 97):
        file.write_bytes(whole[:end])
        with pytest.raises(ValueError, match="cut.pkl: is broken"):
            read_pickled_pca(file)
    for _ in range(400):
        changed = bytearray(whole)
        for at in rng.integers(0, len(whole), 3):
            changed[at] = rng.integers(256)
        file.write_bytes(changed)
        try:
            _projection(file)
        except ValueError as error:
            assert "cut.pkl: " in str(error)


def test_a_gigantic_pickle_is_refused_by_its_size(tmp_path):
    with (tmp_path / "pca.pkl").open("wb") as file:
        file.truncate(2**30)  # takes no room on the disk
    with pytest.raises(
        ValueError,
        match="pca.pkl: has 1073741824 bytes, the limit is 268435456; convert it to pca.npz where",
    ):
        read_pickled_pca(tmp_path / "pca.pkl")


def test_compressed_and_broken_pickles_are_named(tmp_path):
    joblib.dump(
        PCA(2).fit(np.random.default_rng(0).normal(size=(9, 3))), tmp_path / "pca.pkl", compress=3
    )
    with pytest.raises(ValueError, match="compressed or no pickle"):
        read_pickled_pca(tmp_path / "pca.pkl")
    whole = pickle.dumps([1.0] * 50)
    (tmp_path / "pca.pkl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="pca.pkl: (is broken|holds)"):
        read_pickled_pca(tmp_path / "pca.pkl")
