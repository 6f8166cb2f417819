"""The machine as this process may use it: CPU, memory, disk and GPUs; None for whatever a system
does not tell.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rali_lab.reproduce.project import home


def hardware(root: Path = Path("/")) -> dict[str, Any]:
    """CPU, memory and disk (bytes) as this process may use them, below `root`; None for what this
    system does not tell.
    """
    name = re.search(r"^model name\s*:\s*(.+)$", text_of(root / "proc/cpuinfo"), re.M)
    told = {
        k: int(v) * 1024
        for k, v in re.findall(r"^(\w+):\s+(\d+) kB", text_of(root / "proc/meminfo"), re.M)
    }
    quota, limit = cgroup_limits(root)
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    total, available = told.get("MemTotal") or _physical_memory(), told.get("MemAvailable")
    try:
        free = shutil.disk_usage(_existing(home())).free
    except OSError:
        free = None
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": name[1].strip() if name else platform.processor() or platform.machine(),
        "cores": cores,
        "cores_quota": quota,
        "memory": _least(total, limit),
        "memory_available": _least(available, limit),
        "memory_limit": limit,
        "disk_free": free,
    }


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def _least(*values: float | None) -> float | None:
    return min((v for v in values if v is not None), default=None)


def _physical_memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def text_of(file: Path) -> str:
    """What is written in a file, "" if it cannot be read."""
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def cgroup_limits(root: Path = Path("/")) -> tuple[float | None, int | None]:
    """Cores and bytes that the control groups (v1 or v2) of this process and those above it leave
    to it; None where there is no limit.
    """
    cores, memory = [], []
    for folder in _groups(root):
        memory += [
            _positive(text_of(folder / name)) for name in ("memory.max", "memory.limit_in_bytes")
        ]
        pairs = (
            text_of(folder / "cpu.max").split(),
            [text_of(folder / f"cpu.cfs_{w}_us") for w in ("quota", "period")],
        )
        for quota, period in (p for p in pairs if len(p) == 2):
            given, of = _positive(quota), _positive(period)
            if given and of:
                cores.append(given / of)
    return _least(*cores), min((m for m in memory if m is not None), default=None)


def _groups(root: Path) -> Iterator[Path]:
    """Folders of this process's groups and of all above them; in a container its own group is often
    mounted as the uppermost.
    """
    for line in [*text_of(root / "proc/self/cgroup").splitlines(), "0::/", "0:memory:/", "0:cpu:/"]:
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        parts = [p for p in path.split("/") if p not in ("", "..")]
        for mounted in (
            controllers,
            *controllers.split(","),
        ):  # "cpu,cpuacct" is one folder, and both names lead to it
            top = root / "sys/fs/cgroup" / mounted
            yield from (top.joinpath(*parts[:i]) for i in range(len(parts) + 1))


def _positive(text: str) -> int | None:
    """The number in a file of a control group; None for "max", -1, nothing, and version 1's "no
    limit" of about 2 ** 63.

    >>> _positive("1024"), _positive("max"), _positive("-1"), _positive("9223372036854771712")
    (1024, None, None, None)
    """
    number = int(text) if text.strip().isdecimal() else 0
    return number if 0 < number < 2**60 else None


def accelerators() -> dict[str, Any]:
    """GPUs (memory in bytes) and bf16 as torch sees them; "torch" says what is wrong with torch, ""
    for nothing.
    """
    try:
        import torch

        every = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    except (ImportError, OSError, RuntimeError) as error:
        return {
            "torch": (str(error) or type(error).__name__).splitlines()[0],
            "gpus": [],
            "cpu_bf16_fast": None,
        }
    gpus = [{"name": g.name, "memory": g.total_memory, "bf16": g.major >= 8} for g in every]
    fast = getattr(
        torch.cpu, "_is_avx512_bf16_supported", None
    )  # what `rali_lab.precision.use_bf16` asks
    return {"torch": "", "gpus": gpus, "cpu_bf16_fast": bool(fast and fast())}
