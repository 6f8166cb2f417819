"""Files that are written whole or not at all, hashes of what they hold, and turns between
processes.

Files outside an artefact's folder are written by `atomic_write`; every hash of a file is made by
`sha256_file`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent / "assets"
"""Weights and photographs that come with the package: vlm/, clip/, rali/, photographs/."""


class StorageError(RuntimeError):
    """A file cannot be written: no room, or no rights."""


def digest(value: Any) -> str:
    """The sha256 of the canonical JSON of `value`: sorted keys, no spaces, no NaN.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(file: str | Path) -> str:
    """The sha256 of a file's bytes, read in pieces."""
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def verify_sha256(file: str | Path, expected: str, *, way_out: str) -> None:
    """Compare a file with its recorded sha256.

    Raises
    ------
    ValueError
        If they differ, naming the file and what to do (`way_out`).
    """
    found = sha256_file(file)
    if found != expected:
        raise ValueError(
            f"{file}: sha256 is {found[:12]}..., expected {expected[:12]}...; {way_out}"
        )


def atomic_write(path: str | Path, data: bytes) -> None:
    """Write a file so that a reader, or a kill at any moment, finds the old one or the new one,
    both whole.

    Raises
    ------
    StorageError
        Without room or rights, saying where; what was there before stays.
    """
    path = Path(path)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    with cannot_write(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            fresh.write_bytes(data)
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """`atomic_write` of JSON with an indent of 1."""
    atomic_write(
        path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    )


def update_json(path: str | Path, change: Callable[[Any], Any], *, empty: Any) -> None:
    """Replace what a JSON file holds by `change` of it; processes and threads that do so at once
    take turns.
    """
    path = Path(path)
    with cannot_write(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(path.parent):
        write_json(
            path, change(json.loads(path.read_text(encoding="utf-8")) if path.exists() else empty)
        )


NO_ROOM = {errno.ENOSPC: "there is no space left", errno.EDQUOT: "the quota is used up"}
NO_RIGHTS = {errno.EROFS: "the disk is read-only"}
NO_RIGHTS |= dict.fromkeys((errno.EACCES, errno.EPERM), "this user may not write there")


@contextmanager
def cannot_write(place: Path, reasons: dict[int, str] = NO_ROOM | NO_RIGHTS) -> Iterator[None]:
    """Turn a full or closed disk into a sentence; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in reasons:
            raise
        cure = (
            "make room"
            if error.errno in NO_ROOM
            else "set RALI_LAB_HOME to a folder that can be written"
        )
        raise StorageError(
            f"{place.name} cannot be written to {place.parent}: {reasons[error.errno]}; {cure} and"
            " run again: what was finished is kept, nothing is half-written"
        ) from error


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder` against other processes; the system lets go when the holder dies."""
    try:
        import fcntl
    except ImportError:  # Windows: one process at a time is the user's duty
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with _waiting():
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


WAITING_VARIABLE = "RALI_LAB_WAITING_FILE"
"""Environment variable: a file that exists while this process waits for what another one makes."""


@contextmanager
def _waiting() -> Iterator[None]:
    """Let the runner know that this process needs no core for now."""
    note = os.environ.get(WAITING_VARIABLE)
    if note:
        Path(note).touch()
    try:
        yield
    finally:
        if note:
            Path(note).unlink(missing_ok=True)
