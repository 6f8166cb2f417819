"""A scikit-learn PCA out of a joblib pickle, without unpickling: opcodes are walked over, nothing
is made or called.

`read_pickled_pca` gives plain containers, arrays and inert `Node` records of what a pickle would
have made; anything that a fitted PCA, StandardScaler or Pipeline does not need is refused by name.
Every size is compared with the file before memory is taken.
"""

from __future__ import annotations

import io
import math
import pickletools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CONVERTED = "pca.npz"
"""Read in place of `pca.pkl` where it is there: `mean` (d,), `scale` (d,) and `components` (k, d).
"""
MAX_BYTES = 256 * 2**20
"""Larger files are no projection: that of a ViT-L/14 has 5 MB."""
MAX_PLAIN = 2**18
"""Bytes of a pickle beside its arrays, which bound its steps, too; a PCA has a few thousand."""
PCA_NAME = "sklearn.decomposition._pca.PCA"
SCALER_NAME = "sklearn.preprocessing._data.StandardScaler"
PIPELINE_NAME = "sklearn.pipeline.Pipeline"
WRAPPER = "joblib.numpy_pickle.NumpyArrayWrapper"
DTYPE, NDARRAY, ENCODE = "numpy.dtype", "numpy.ndarray", "_codecs.encode"
SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
MADE = (PCA_NAME, SCALER_NAME, PIPELINE_NAME, WRAPPER)
ALLOWED = frozenset(
    {*MADE, *SCALARS, DTYPE, ENCODE, NDARRAY, "numpy.float64", "numpy.float32", "numpy.int64"}
)
"""All that a PCA of scikit-learn, saved by joblib, consists of: names; nothing is imported."""
DTYPES = ("f4", "f8", "i4", "i8")


@dataclass(slots=True, eq=False, repr=False)
class Node:
    """What a pickle names and describes, and what is never made of it.

    Attributes
    ----------
    name
        In full, one of `ALLOWED`.
    args
        What it would be made with; None for the name alone.
    state
        Attributes of an estimator by name, None if there are none.
    """

    name: str
    args: tuple | None = None
    state: dict | None = None


def is_name(value: object, *names: str) -> bool:
    """Whether a value of a pickle is one of these names, nothing made by it."""
    return type(value) is Node and value.args is None and value.name in names


def _is_dtype(value: object) -> bool:
    return type(value) is Node and value.args is not None and value.name == DTYPE


class _Stranger(ValueError):
    """A pickle holds something that a PCA does not need."""


class _Bounded(io.BytesIO):
    """Bytes of which no more than `MAX_PLAIN` can be read, whatever lengths they claim."""

    left = MAX_PLAIN

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self.left:
            raise _Stranger(f"more than {MAX_PLAIN} bytes beside its arrays")
        self.left -= size
        return super().read(size)

    def readline(self, size: int = -1) -> bytes:
        line = super().readline(self.left)
        self.left -= len(line)
        return line


class _PcaReader:
    """Walks over the opcodes of a pickle; the values are plain data, arrays of numbers and `Node`.

    Containers are filled and never compared, hashed, printed or descended into, so that no nesting
    is too deep.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.file = data, _Bounded(data)
        self.stack: list = []
        self.below: list[list] = []  # stacks under a mark
        self.memo: dict[int, object] = {}

    def read(self) -> object:
        """The value that the pickle ends with; ValueError if it is broken or holds a stranger."""
        while code := self.file.read(1):
            op = pickletools.code2op.get(code.decode("latin-1"))
            if op is None:
                raise ValueError(f"no instruction is {code!r}")
            if op.name == "STOP":
                return self.pop()
            if op.name not in KNOWN:  # before its argument is read
                raise _Stranger(f"the instruction {op.name}")
            if op.name == "GLOBAL":  # its own reader resolves escapes, which pickle does not
                self.name(f"{self.line()} {self.line()}")
            else:
                self.step(op.name, op.arg.reader(self.file) if op.arg else None)
        raise ValueError("it has no end")

    def step(self, name: str, arg: object) -> None:
        if name in PLAIN:
            self.stack.append(arg)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in TUPLES:
            items = [self.pop() for _ in range(TUPLES[name])]
            self.stack.append(tuple(reversed(items)))
        elif name in ACTIONS:
            ACTIONS[name](self, arg)

    def line(self) -> str:
        line = self.file.readline()
        if not line.endswith(b"\n"):
            raise ValueError("a name has no end")
        return line[:-1].decode("utf-8")

    def pop(self) -> object:
        if not self.stack:
            raise ValueError("its stack is empty too early")
        return self.stack.pop()

    def top(self, kind: type) -> object:
        """The uppermost value, left where it is; ValueError unless it is of this type."""
        if not self.stack or type(self.stack[-1]) is not kind:
            raise _Stranger(f"an instruction that takes no {kind.__name__}")
        return self.stack[-1]

    def to_mark(self) -> list:
        if not self.below:
            raise ValueError("a mark is missing")
        items, self.stack = self.stack, self.below.pop()
        return items

    def mark(self, arg) -> None:
        self.below.append(self.stack)
        self.stack = []

    def tuple_of(self, arg) -> None:
        items = tuple(self.to_mark())
        self.stack.append(items)

    def memoize(self, arg: int | None) -> None:
        value = self.pop()
        self.stack.append(value)
        self.memo[len(self.memo) if arg is None else arg] = value

    def recall(self, arg: int) -> None:
        if arg not in self.memo:
            raise ValueError(f"its memo has no entry {arg}")
        self.stack.append(self.memo[arg])

    def append(self, arg) -> None:
        value = self.pop()
        self.top(list).append(value)

    def appends(self, arg) -> None:
        values = self.to_mark()
        self.top(list).extend(values)

    def set_item(self, arg) -> None:
        value, key = self.pop(), self.pop()
        self.put([key, value])

    def set_items(self, arg) -> None:
        self.put(self.to_mark())

    def put(self, pairs: list) -> None:
        held = self.top(dict)
        if len(pairs) % 2 or not all(type(key) in (str, int) for key in pairs[::2]):
            raise _Stranger("a dict with other keys than texts and whole numbers")
        held.update(zip(pairs[::2], pairs[1::2], strict=True))

    def name(self, arg: str | None) -> None:
        if arg is None:
            attribute, module = self.pop(), self.pop()
            if type(attribute) is not str or type(module) is not str:
                raise _Stranger("a name that is no text")
            arg = f"{module} {attribute}"
        name = arg.replace(" ", ".", 1)
        if name not in ALLOWED:
            raise _Stranger(_shown(name))
        self.stack.append(Node(name))

    def new(self, arg) -> None:
        args, named = self.pop(), self.pop()
        if not is_name(named, *MADE) or type(args) is not tuple or args:
            raise _Stranger("an object that is made in another way")
        self.stack.append(Node(named.name, ()))

    def call(self, arg) -> None:
        args, named = self.pop(), self.pop()
        if not is_name(named, *ALLOWED) or type(args) is not tuple:
            raise _Stranger("a call of something that is no name")
        if named.name == DTYPE:
            self.stack.append(_dtype(args))
        elif named.name in SCALARS:
            self.stack.append(_scalar(args))
        elif named.name == ENCODE and [type(a) for a in args] == [str, str] and args[1] == "latin1":
            self.stack.append(args[0].encode("latin1"))  # bytes, as protocol 2 writes them
        else:
            raise _Stranger(f"a call of {named.name}")

    def build(self, arg) -> None:
        state = self.pop()
        made = self.top(Node)
        if _is_dtype(made):
            if type(state) is not tuple or [*map(_atom, state)] not in STANDARD:
                raise _Stranger("a dtype with fields of its own")
        elif made.args is None or made.state is not None or type(state) is not dict:
            raise _Stranger(f"other attributes for {made.name}")
        elif made.name == WRAPPER:
            self.stack[-1] = self.array(state)
        else:
            made.state = state

    def array(self, note: dict) -> np.ndarray:
        """The array whose bytes follow in the file: a view of them, so it takes no memory."""
        dtype, shape, order, kind = (note.get(k) for k in ("dtype", "shape", "order", "subclass"))
        if not _is_dtype(dtype):
            raise _Stranger("an array without a dtype")
        if not is_name(kind, NDARRAY) or type(order) is not str or order not in ("C", "F"):
            raise _Stranger("an array of another class or order")
        known = type(shape) is tuple and all(type(n) is int and n > 0 for n in shape)
        if not known or len(shape) > 2:
            raise _Stranger("an array that is empty or has more than two axes")
        start, count, dtype = self.file.tell(), math.prod(shape), np.dtype(dtype.args[0])
        if (align := note.get("numpy_array_alignment_bytes")) is not None:
            if type(align) is not int or start >= len(self.data):
                raise ValueError("an array without its bytes")
            start += 1 + self.data[start]  # the length of the padding, and the padding
        left = max(0, len(self.data) - start)
        if count * dtype.itemsize > left:
            raise ValueError(f"an array of {count} numbers where {left} bytes are left")
        self.file.seek(start + count * dtype.itemsize)
        flat = np.frombuffer(self.data, dtype, count, start)
        return flat.reshape(shape[::-1]).transpose() if order == "F" else flat.reshape(shape)


NUMBERS = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"})
PLAIN = NUMBERS | {"SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES"}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
ACTIONS = {
    "MARK": _PcaReader.mark,
    "EMPTY_LIST": lambda reader, arg: reader.stack.append([]),
    "EMPTY_DICT": lambda reader, arg: reader.stack.append({}),
    "TUPLE": _PcaReader.tuple_of,
    **dict.fromkeys(("MEMOIZE", "BINPUT", "LONG_BINPUT"), _PcaReader.memoize),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _PcaReader.recall),
    "STACK_GLOBAL": _PcaReader.name,
    "APPEND": _PcaReader.append,
    "APPENDS": _PcaReader.appends,
    "SETITEM": _PcaReader.set_item,
    "SETITEMS": _PcaReader.set_items,
    "NEWOBJ": _PcaReader.new,
    "REDUCE": _PcaReader.call,
    "BUILD": _PcaReader.build,
}
KNOWN = frozenset({"PROTO", "FRAME", "GLOBAL", *PLAIN, *CONSTANTS, *TUPLES, *ACTIONS})
STANDARD = [[3, end, None, None, None, -1, -1, 0] for end in "<|="]
"""Of a plain dtype: version, byte order; no subtype, names, fields, size, alignment, flags."""


def _atom(value: object) -> object:
    """A number, text or None as it is; anything else as an empty list, which equals none."""
    return value if value is None or type(value) in (int, str) else []


def _dtype(args: tuple) -> Node:
    code = args[0] if args and type(args[0]) is str else ""
    if code.startswith("O"):
        raise _Stranger("an array of Python objects")
    if code not in DTYPES or len(args) != 3 or not all(type(a) in (bool, int) for a in args[1:]):
        raise _Stranger(f"the dtype {_shown(code)}" if code else "a dtype of another kind")
    return Node(DTYPE, (code,))


def _scalar(args: tuple) -> float | int:
    dtype, raw = args if len(args) == 2 else (None, None)
    if not _is_dtype(dtype) or type(raw) is not bytes:
        raise _Stranger("a number of another kind")
    kind = np.dtype(dtype.args[0])
    if len(raw) != kind.itemsize:
        raise ValueError(f"a number of {len(raw)} bytes, expected {kind.itemsize}")
    return np.frombuffer(raw, kind)[0].item()


def _shown(text: str) -> str:
    """A text from a file, fit for a message: one line, no control characters, not too long."""
    return ascii(text[:120])[1:-1]


def read_pickled_pca(file: str | Path) -> object:
    """What a joblib pickle says of scikit-learn's PCA, StandardScaler and Pipeline.

    Nothing is built by it: an estimator comes as a `Node` with its class's name and its attributes,
    beside numbers, texts, lists, tuples, dicts and arrays.

    Raises
    ------
    ValueError
        Naming the file, the first thing that is not on the list, and the way out; nothing has run.
    """
    file = Path(file)
    if (size := file.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{file}: has {size} bytes, the limit is {MAX_BYTES}; {WAY_OUT}")
    data = file.read_bytes()
    if data[:1] != b"\x80":
        way_out = "save it with `joblib.dump(pca, file)`, uncompressed"
        raise ValueError(f"{file}: is compressed or no pickle; {way_out}")
    try:
        return _PcaReader(data).read()
    except _Stranger as error:
        refused = "which a PCA does not need; it was refused and nothing of it was run"
        raise ValueError(f"{file}: holds {error}, {refused}; {WAY_OUT}") from error
    except ValueError as error:
        raise ValueError(f"{file}: is broken ({_shown(str(error))}); copy it again") from error


WAY_OUT = f"convert it to {CONVERTED} where you trust it (rali_lab.rali.released says how)"
