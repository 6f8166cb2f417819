"""The machine as this process may use it: cores, memory, disk and GPUs."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any

from rali_lab.reproduce.project import home

UNLIMITED = 2**60
"""Control groups of version 1 write about 2 ** 63 where there is no limit."""


def cores() -> int:
    """Cores that this process may use: its affinity and its control group's quota count."""
    from joblib import cpu_count

    return cpu_count()


def hardware(root: Path = Path("/")) -> dict[str, Any]:
    """CPU, memory and disk as this process may use them.

    Parameters
    ----------
    root : Path
        Where proc/ and sys/ lie.

    Returns
    -------
    dict
        "system", "cpu" and "cores"; bytes of "memory" and "memory_available" (no more than
        "memory_limit", which is None without a limit), and of "disk_free" where results are kept
        (None if that cannot be read).
    """
    import psutil

    memory, limit = psutil.virtual_memory(), memory_limit(root)
    name = re.search(r"^model name\s*:\s*(.+)$", text_of(root / "proc/cpuinfo"), re.M)
    kept = next(place for place in (home(), *home().parents) if place.exists())
    try:
        free = psutil.disk_usage(str(kept)).free
    except OSError:
        free = None
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": name[1].strip() if name else platform.processor() or platform.machine(),
        "cores": cores(),
        "memory": min(memory.total, limit or memory.total),
        "memory_available": min(memory.available, limit or memory.available),
        "memory_limit": limit,
        "disk_free": free,
    }


def memory_limit(root: Path = Path("/")) -> int | None:
    """The smallest limit of this process's control group and those above it.

    Parameters
    ----------
    root : Path
        Where proc/ and sys/ lie.

    Returns
    -------
    int or None
        Bytes, from version 1 or 2 of the groups; None without a limit.
    """
    limits = []
    # In a container the own group is often mounted as the uppermost one.
    for line in [*text_of(root / "proc/self/cgroup").splitlines(), "0::/", "0:memory:/"]:
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for i in range(len(parts) + 1):
            folder = (root / "sys/fs/cgroup" / controllers).joinpath(*parts[:i])
            for name in ("memory.max", "memory.limit_in_bytes"):
                text = text_of(folder / name).strip()
                limits += [int(text)] if text.isdecimal() else []
    return min((limit for limit in limits if 0 < limit < UNLIMITED), default=None)


def text_of(file: Path) -> str:
    """What is written in a file, "" if it cannot be read."""
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def accelerators() -> dict[str, Any]:
    """GPUs and bf16 as torch finds them.

    Returns
    -------
    dict
        "torch" says what is wrong with torch, "" for nothing; "gpus" lists name, memory in bytes
        and whether bf16 is there; "cpu_bf16_fast" is None where torch cannot be used.
    """
    try:
        import torch

        every = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    except (ImportError, OSError, RuntimeError) as error:
        problem = (str(error) or type(error).__name__).splitlines()[0]
        return {"torch": problem, "gpus": [], "cpu_bf16_fast": None}
    gpus = [{"name": g.name, "memory": g.total_memory, "bf16": g.major >= 8} for g in every]
    # What `rali_lab.precision.use_bf16` asks.
    fast = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return {"torch": "", "gpus": gpus, "cpu_bf16_fast": bool(fast and fast())}
