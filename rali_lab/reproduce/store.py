"""Results of long work, stored under the hash of everything they depend on.

An artefact is a folder `<name>-<first 16 digits of its key>/` with the files that `make` wrote and
a `manifest.json`. The key covers the name, the parameters, the keys of the inputs, the files read,
and the code that the step can reach (`rali_lab.reproduce.code_keys`); change any of them and a new
artefact is made beside the old one.
"""

from __future__ import annotations

import functools
import json
import math
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rali_lab.io import (
    NO_ROOM,
    StorageError,
    cannot_write,
    digest,
    exclusive,
    sha256_file,
    write_json,
)
from rali_lab.reproduce.code_keys import code_key
from rali_lab.reproduce.project import under_home

MANIFEST = "manifest.json"


class ArtifactError(StorageError):
    """An artefact cannot be made, addressed or trusted."""


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(0.42), duration(210), duration(1500), duration(9000)
    ('0.4 s', '210 s', '25 min', '2.5 h')
    """
    if seconds < 600:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _require_plain(value: Any, where: str) -> None:
    """Accept exactly what JSON gives back unchanged, so that equal parameters always have equal
    keys.
    """
    kind = type(value)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise ArtifactError(f"{where} has the key {key!r}; keys must be str")
            _require_plain(item, f"{where}[{key!r}]")
    elif kind is list:
        for i, item in enumerate(value):
            _require_plain(item, f"{where}[{i}]")
    elif value is not None and kind not in (str, int, float, bool):
        raise ArtifactError(
            f"{where} is a {kind.__name__}, {value!r}; plain JSON values only: pass a str, int,"
            " float, bool, None, list or dict, such as list(...), float(...) or"
            " dataclasses.asdict(...)"
        )
    elif kind is float and not math.isfinite(value):
        raise ArtifactError(
            f"{where} is {value}, which JSON cannot hold; pass a finite number or None"
        )


_asking = ContextVar("asking", default=False)


@contextmanager
def keys_only() -> Iterator[None]:
    """Inside, `ArtifactStore.make` makes nothing: it returns artefacts with the keys that they
    would have.

    So the keys of a whole chain of steps are known in a second, and can be compared with those of a
    stored table.
    """
    token = _asking.set(True)
    try:
        yield
    finally:
        _asking.reset(token)


@dataclass(frozen=True, repr=False)
class Artifact:
    """A finished artefact: its files lie in `path`, `key` says what they depend on.

    `reused` tells whether this call found it made before; `seconds` is what the making took then.
    """

    name: str
    key: str
    path: Path
    reused: bool
    seconds: float

    def __repr__(self) -> str:
        if self.reused:
            return f"reused {self.name} made in {duration(self.seconds)}"
        return f"made {self.name} in {duration(self.seconds)}"


class ArtifactStore:
    """A folder of artefacts addressed by content.

    Parameters
    ----------
    root
        The folder; by default the environment variable RALI_LAB_ARTIFACTS, else `artifacts` of the
        project (`rali_lab.reproduce.project.home`), whatever the current folder is.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = under_home(root or os.environ.get("RALI_LAB_ARTIFACTS") or "artifacts")

    def make(
        self,
        name: str,
        make: Callable[[Path], None],
        *,
        params: dict[str, Any],
        inputs: Sequence[Artifact] = (),
        files: Sequence[str | Path] = (),
        code: Callable | None = None,
    ) -> Artifact:
        """Return the artefact, made now by `make(folder)` or reused after every file was verified.

        Parameters
        ----------
        name
            Lower-case letters, digits, `_`, `.` and `-`.
        make
            Writes its files into `folder`. After a kill or an exception it is called again with
            *the same folder, holding what it had written*, so long work (rationales, training
            checkpoints) can go on from there. It must therefore trust a file only if it wrote it
            whole: write to another name, then rename. Work that does not resume may simply
            overwrite.
        params
            Everything the result depends on, as plain JSON values.
        inputs
            Artefacts that `make` reads.
        files
            Files, or folders of them, whose bytes decide the result: weights, photographs.
        code
            The function whose source, with all it reaches, decides the result; by default the one
            in which `make` is defined.

        Raises
        ------
        ArtifactError
            For parameters that are not plain JSON, for a `make` that writes no file or its own
            manifest.json, for an artefact whose files changed since they were made, and without
            room or rights to write.

        Notes
        -----
        Processes that ask for the same artefact at the same time wait for the first one (POSIX
        only). Every reuse reads all files once to verify them, about a second per gigabyte.
        Versions of libraries, precision and number of threads are recorded, not hashed. The seconds
        of resumed work are those of its last attempt.
        """
        identity = _identity(name, params, inputs, files, code or make)
        key = digest(identity)
        final, partial = self.root / f"{name}-{key[:16]}", self.root / f".{name}-{key[:16]}.partial"
        if _asking.get():
            return Artifact(name, key, final, reused=final.exists(), seconds=0.0)
        if final.exists():
            return _verified(name, key, final)
        with cannot_write(partial):
            partial.mkdir(parents=True, exist_ok=True)
        with exclusive(partial), cannot_write(partial, NO_ROOM):
            if final.exists():  # another process made it while this one waited
                return _verified(name, key, final)
            seconds = _fill(partial, make, {**identity, "key": key})
            partial.replace(final)
        return Artifact(name, key, final, reused=False, seconds=seconds)


def _identity(
    name: str, params: dict, inputs: Sequence[Artifact], files: Sequence, code: Callable
) -> dict[str, Any]:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", name):
        raise ArtifactError(
            f"name {name!r}: use lower-case letters, digits, '_', '.' and '-', such as 'rationales'"
        )
    _require_plain(params, "params")
    read = [files_digest(place) for place in files]
    return {
        "name": name,
        "params": params,
        "inputs": [a.key for a in inputs],
        "files": read,
        "code": code_key(code),
    }


def files_digest(place: str | Path) -> str:
    """The sha256 over a file, or over names and contents of all files in a folder.

    Raises
    ------
    ArtifactError
        If there is no such file or the folder holds none.
    """
    place = Path(place)
    found = [place] if place.is_file() else _files(place)
    if not found:
        raise ArtifactError(
            f"{place}: no such file, or a folder without files; check out or install it again"
        )
    about = [
        (f.relative_to(place).as_posix(), f.stat().st_mtime_ns, f.stat().st_size) for f in found
    ]
    return _contents(place, tuple(about))


@functools.lru_cache(maxsize=256)
def _contents(place: Path, about: tuple) -> str:
    return digest([[name, sha256_file(place / name)] for name, *_ in about])


def _fill(folder: Path, make: Callable[[Path], None], head: dict[str, Any]) -> float:
    """Let `make` fill the folder and close it with a manifest; returns the seconds taken."""
    manifest = folder / MANIFEST
    manifest.unlink(missing_ok=True)  # left by a kill between manifest and rename
    resumed = any(folder.iterdir())
    started = time.perf_counter()
    make(folder)
    seconds = round(time.perf_counter() - started, 3)
    files = {file.relative_to(folder).as_posix(): sha256_file(file) for file in _files(folder)}
    if not files or MANIFEST in files:
        fault = "wrote manifest.json, which the store writes itself" if files else "wrote no file"
        raise ArtifactError(
            f"make of {head['name']!r} {fault}; let it write its result under other names"
        )
    write_json(
        manifest,
        {
            **head,
            "read": head["files"],
            "seconds": seconds,
            "resumed": resumed,
            **_made_with(),
            "files": files,
        },
    )
    return seconds


def _verified(name: str, key: str, folder: Path) -> Artifact:
    """Read the manifest and compare every file with its recorded sha256."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        seconds, files, intact = (
            float(manifest["seconds"]),
            dict(manifest["files"]),
            manifest["key"] == key,
        )
    except (OSError, ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise _spoiled(folder, MANIFEST)
    for file, expected in files.items():
        if not (folder / file).is_file() or sha256_file(folder / file) != expected:
            raise _spoiled(folder, file)
    return Artifact(name, key, folder, reused=True, seconds=seconds)


def _spoiled(folder: Path, file: str) -> ArtifactError:
    return ArtifactError(
        f"{file} of {folder.name} is missing or changed since it was made; "
        f"delete the folder {folder} and run again"
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _made_with() -> dict[str, Any]:
    """What may move the last digits of a result without being part of its key."""
    from rali_lab.reproduce.provenance import versions

    found: dict[str, Any] = {
        "versions": {"python": platform.python_version(), **versions(("numpy", "torch"))}
    }
    if "torch" in sys.modules:
        from rali_lab.precision import arithmetic

        found |= arithmetic()
    return found
