"""Results of long work, stored under the hash of everything they depend on.

An artefact is a folder `<name>-<first 16 digits of its key>/` with the files that `make` wrote and a
`manifest.json`. The key covers the name, the parameters, the keys of the inputs and the source code named by
the caller; change any of them and a new artefact is made beside the old one.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
import platform
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


class ArtifactError(RuntimeError):
    """An artefact cannot be made, addressed or trusted."""


def duration(seconds: float) -> str:
    """Seconds as a reader says them.

    >>> duration(0.42), duration(210), duration(1500), duration(9000)
    ('0.4 s', '210 s', '25 min', '2.5 h')
    """
    if seconds < 600:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def digest(value: Any) -> str:
    """sha256 of the canonical JSON of `value`: sorted keys, no spaces, no NaN.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON so that a reader, or a kill at any moment, finds the old file or the new one, both whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fresh.write_text(
        json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    fresh.replace(path)


def code_digest(modules: Sequence[str]) -> dict[str, str]:
    """sha256 of the sources of each module or package (all its .py files), found without any import.

    Raises
    ------
    ArtifactError
        If a name has no Python source on the import path.
    """
    return {module: _sources_digest(module) for module in sorted(set(modules))}


def _sources_digest(module: str) -> str:
    files = _source_files(module)
    return digest([[name, hashlib.sha256(file.read_bytes()).hexdigest()] for name, file in files])


def _source_files(module: str) -> list[tuple[str, Path]]:
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top) if top else None
    if spec is not None and not rest and spec.submodule_search_locations is None and spec.has_location:
        return [(module, Path(spec.origin))]
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(location, *rest)
        if path.is_dir() and (found := sorted(path.rglob("*.py"))):
            return [(file.relative_to(path).as_posix(), file) for file in found]
        if path.with_suffix(".py").is_file():
            return [(module, path.with_suffix(".py"))]
    raise ArtifactError(f"code {module!r}: no Python source found; name an importable module or package")


def _require_plain(value: Any, where: str) -> None:
    """Accept exactly what JSON gives back unchanged, so that equal parameters always have equal keys."""
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
            f"{where} is a {kind.__name__}, {value!r}; plain JSON values only: pass a str, int, float, bool, "
            "None, list or dict, such as list(...), float(...) or dataclasses.asdict(...)"
        )
    elif kind is float and not math.isfinite(value):
        raise ArtifactError(f"{where} is {value}, which JSON cannot hold; pass a finite number or None")


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
    root : the folder; by default the environment variable RALI_LAB_ARTIFACTS, else `./artifacts`.
    """

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = Path(root or os.environ.get("RALI_LAB_ARTIFACTS") or "artifacts")

    def make(
        self,
        name: str,
        make: Callable[[Path], None],
        *,
        params: dict[str, Any],
        inputs: Sequence[Artifact] = (),
        code: Sequence[str] = (),
    ) -> Artifact:
        """Return the artefact, made now by `make(folder)` or reused after every file was verified.

        Parameters
        ----------
        name : lower-case letters, digits, `_`, `.` and `-`.
        make : writes its files into `folder`. After a kill or an exception it is called again with *the same
            folder, holding what it had written*, so long work (rationales, training checkpoints) can go on
            from there. It must therefore trust a file only if it wrote it whole: write to another name, then
            rename. Work that does not resume may simply overwrite.
        params : everything the result depends on, as plain JSON values.
        inputs : artefacts that `make` reads.
        code : modules or packages whose source decides the result, such as `["rali_lab.reasoner"]`.

        Raises
        ------
        ArtifactError
            For parameters that are not plain JSON, for code without source, for a `make` that writes no file
            or its own manifest.json, and for an artefact whose files changed since they were made.

        Notes
        -----
        Processes that ask for the same artefact at the same time wait for the first one (POSIX only). Every
        reuse reads all files once to verify them, about a second per gigabyte. Library versions are recorded,
        not hashed. The seconds of resumed work are those of its last attempt.
        """
        identity = _identity(name, params, inputs, code)
        key = digest(identity)
        final, partial = self.root / f"{name}-{key[:16]}", self.root / f".{name}-{key[:16]}.partial"
        if final.exists():
            return _verified(name, key, final)
        partial.mkdir(parents=True, exist_ok=True)
        with _exclusive(partial):
            if final.exists():  # another process made it while this one waited
                return _verified(name, key, final)
            seconds = _fill(partial, make, {**identity, "key": key})
            partial.replace(final)
        return Artifact(name, key, final, reused=False, seconds=seconds)


def _identity(name: str, params: dict, inputs: Sequence[Artifact], code: Sequence[str]) -> dict[str, Any]:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", name):
        raise ArtifactError(
            f"name {name!r}: use lower-case letters, digits, '_', '.' and '-', such as 'rationales'"
        )
    if isinstance(code, str):
        raise ArtifactError(f"code is the str {code!r}; pass a list of module names, [{code!r}]")
    _require_plain(params, "params")
    return {"name": name, "params": params, "inputs": [a.key for a in inputs], "code": code_digest(code)}


def _fill(folder: Path, make: Callable[[Path], None], head: dict[str, Any]) -> float:
    """Let `make` fill the folder and close it with a manifest; returns the seconds taken."""
    manifest = folder / MANIFEST
    manifest.unlink(missing_ok=True)  # left by a kill between manifest and rename
    resumed = any(folder.iterdir())
    started = time.perf_counter()
    make(folder)
    seconds = round(time.perf_counter() - started, 3)
    files = {file.relative_to(folder).as_posix(): _file_digest(file) for file in _files(folder)}
    if not files or MANIFEST in files:
        fault = "wrote manifest.json, which the store writes itself" if files else "wrote no file"
        raise ArtifactError(f"make of {head['name']!r} {fault}; let it write its result under other names")
    write_json(
        manifest, {**head, "seconds": seconds, "resumed": resumed, "versions": _versions(), "files": files}
    )
    return seconds


def _verified(name: str, key: str, folder: Path) -> Artifact:
    """Read the manifest and compare every file with its recorded sha256."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        seconds, files, intact = float(manifest["seconds"]), dict(manifest["files"]), manifest["key"] == key
    except (OSError, ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise _spoiled(folder, MANIFEST)
    for file, expected in files.items():
        if not (folder / file).is_file() or _file_digest(folder / file) != expected:
            raise _spoiled(folder, file)
    return Artifact(name, key, folder, reused=True, seconds=seconds)


def _spoiled(folder: Path, file: str) -> ArtifactError:
    return ArtifactError(
        f"{file} of {folder.name} is missing or changed since it was made; "
        f"delete the folder {folder} and run again"
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _file_digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _versions() -> dict[str, str | None]:
    from rali_lab.lab.provenance import versions

    return {"python": platform.python_version(), **versions(("numpy", "torch"))}


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder` against other processes; the system lets go when the holder dies."""
    try:
        import fcntl
    except ImportError:  # Windows: one process at a time is the user's duty
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
