"""Where a result comes from: versions, device, platform and commit, and never the path of
somebody's home.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PACKAGES = (
    "rali-lab",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "matplotlib",
    "torch",
    "torchvision",
    "transformers",
    "trl",
    "peft",
    "open_clip_torch",
    "timm",
    "umap-learn",
    "papermill",
    "jupytext",
)
"""Distributions whose version can move a number or a figure."""

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_CELL_FILE = re.compile(r"[^\s\"'<]*ipykernel_\d+[/\\]\d+\.py")


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str | None]:
    """Installed version of each distribution, None where it is not installed; imports nothing.

    >>> versions(["no-such-distribution"])
    {'no-such-distribution': None}
    """
    return {package: _version(package) for package in packages}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def device() -> str:
    """What torch would use, in words: "cuda: NVIDIA H200", "mps" or "cpu: x86_64, 2 cores".

    Imports torch.
    """
    cpu = f"cpu: {platform.machine()}, {os.cpu_count()} cores"
    if _version("torch") is None:
        return cpu
    import torch

    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name()}"
    return "mps" if torch.backends.mps.is_available() else cpu


def commit() -> str | None:
    """Commit of this checkout, with "+changes" if tracked files differ from it.

    None without git, outside a checkout, or where this file is not tracked (an installed copy).
    """
    if _git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None
    head = _git("rev-parse", "HEAD")
    return (
        f"{head}+changes"
        if head and _git("status", "--porcelain", "--untracked-files=no")
        else head
    )


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def stamp() -> dict[str, Any]:
    """Everything above in one dict of plain JSON values; the first call takes the seconds torch
    needs.
    """
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device(),
        "commit": commit(),
        "versions": {
            package: version for package, version in versions().items() if version is not None
        },
    }


def scrub(text: str, root: str | Path | None = None) -> str:
    """`text` without terminal colours, with the absolute paths that name a machine replaced.

    `root` becomes ".", the interpreter's folder "<python>", the home folder "~", a cell's file
    "<cell>".

    >>> scrub("\\x1b[31mno /data/me/lab/runs/a.json\\x1b[0m", root="/data/me/lab")
    'no ./runs/a.json'
    """
    text = _CELL_FILE.sub("<cell>", _COLOUR.sub("", text))
    places = {str(Path.home()): "~", sys.prefix: "<python>"}
    if root is not None:
        places[str(root)] = "."
    for place in sorted(places, key=len, reverse=True):
        if len(Path(place).parts) > 1:  # never "/"
            short = places[place].replace("\\", r"\\")  # in a template a backslash has a meaning
            text = re.sub(rf"(?<![\w.]){re.escape(place)}(?![\w-])", short, text)
    return text
