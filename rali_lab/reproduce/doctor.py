"""What this machine is, what is installed on it, and which profiles it can run: the command
`rali-lab doctor`.

Nothing here needs torch: what cannot be found out is None in the report, and the text says what is
missing and the way out.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rali_lab.profiles import PROFILES, Profile
from rali_lab.reproduce.installation import OPTIONAL, model_files, packages
from rali_lab.reproduce.machine import accelerators, hardware
from rali_lab.reproduce.project import checkout, home, under_home
from rali_lab.reproduce.provenance import scrub, versions

DEFAULT = "tiny"
"""The profile that decides the exit code; `make reproduce` runs it when none is named."""
MEMORY, DISK = 3e9, 1e9
"""Bytes a run needs: a notebook of the tiny profile took 2.8 GB at most, its artefacts and figures
take 0.2."""
SLOW = 60.0
"""Minutes from which a run is called slow."""
GB = 1e9

PAPER_PARAMETERS = 7.6e9
PAPER_ACTIVATIONS = 10e9
"""Bytes; rough: eight answers about one image at a time, activations recomputed, with their keys,
values and logits."""
USABLE = 0.95
"""Share of a GPU's memory that the formula may fill; the rest goes to the driver and to fragments.
"""


@dataclass(frozen=True)
class Verdict:
    """What becomes of a profile here.

    Attributes
    ----------
    profile : str
        Name of the profile.
    verdict : str
        "runs here", "runs, but slowly" or "does not run here".
    reason : str
        Why.
    minutes : float or None
        What the published run took; None where none is published.
    """

    profile: str
    verdict: str
    reason: str
    minutes: float | None = None


def paper_bytes(gpus: int) -> float:
    """Bytes that each GPU needs for GRPO of all weights of a 7.6 B model.

    A parameter takes 2 bytes for the weight in bf16, 2 for its gradient and 12 for AdamW (float32
    weight and two moments), all sharded; the reference model takes another 2 on every GPU, and the
    activations are recomputed.

    Parameters
    ----------
    gpus : int
        How many share the training state, at least 1.

    Examples
    --------
    >>> [round(paper_bytes(n) / 1e9, 1) for n in (1, 4, 8)]
    [146.8, 55.6, 40.4]
    """
    return PAPER_PARAMETERS * (2 + 2 + 12) / gpus + PAPER_PARAMETERS * 2 + PAPER_ACTIVATIONS


def paper_need(gpus: Sequence[Mapping]) -> dict[str, Any]:
    """Whether these GPUs hold the training of the paper's teacher, and how many of their kind do.

    Parameters
    ----------
    gpus : sequence of mappings
        Name, memory in bytes, and whether bf16 is there (`accelerators`).
    """
    fit = [g["memory"] for g in gpus if g["bf16"]]
    memory = min(fit, default=80 * GB)
    needed = next((n for n in range(1, 65) if paper_bytes(n) <= USABLE * memory), None)
    enough = bool(fit) and needed is not None and len(fit) >= needed
    if needed is None:
        asks = f"64 or fewer of more than {paper_bytes(64) / USABLE / GB:.0f} GB each"
    else:
        asks = f"{needed} or more of {memory / GB:.0f} GB each" + ("" if fit else ", for example")
    need = {n: f"{paper_bytes(n) / GB:.0f} GB" for n in (1, 4, 8)}
    text = (
        f"GRPO of all weights of a 7.6 B model takes {need[1]} on one GPU, {need[4]} on each of 4,"
        f" {need[8]} on each of 8; found {len(fit)} with bf16, expected {asks}"
    )
    return {
        "enough": enough,
        "bytes_per_gpu": paper_bytes(max(1, len(fit))),
        "gpus_needed": needed,
        "text": text,
    }


def published_times(root: Path | None) -> dict[str, dict[str, Any]]:
    """What the published runs took.

    Parameters
    ----------
    root : Path or None
        The checkout; an installed copy has none.

    Returns
    -------
    dict
        By profile: minutes, and the machine in words.
    """
    found = {}
    for file in sorted(root.glob("docs/results/*-summary.json")) if root else []:
        run = json.loads(file.read_text(encoding="utf-8"))
        machine = run.get("device") or f"{run['cores']} cores"
        found[run["profile"]] = {"minutes": run["wall_seconds"] / 60, "machine": machine}
    return found


def judge(profile: Profile, report: Mapping[str, Any]) -> Verdict:
    """The verdict on one profile from the other parts of a report (`examine`)."""
    against = _obstacles(profile, report)
    if against:
        more = f"; and {len(against) - 3} more" if against[3:] else ""
        return Verdict(profile.name, "does not run here", "; ".join(against[:3]) + more)
    run = report["published"].get(profile.name)
    if run is None:
        return Verdict(profile.name, "runs here", "time not known: no run of it is published")
    verdict = "runs, but slowly" if run["minutes"] > SLOW else "runs here"
    reason = f"the published run took {run['minutes']:.0f} min on {run['machine']}"
    return Verdict(profile.name, verdict, reason, round(run["minutes"], 1))


def judge_paper(need: Mapping[str, Any]) -> Verdict:
    """The verdict on the paper's own line, which is a command and no profile, from `paper_need`."""
    verdict = "should run here, not tried" if need["enough"] else "does not run here"
    command = "the command `python -m rali_lab.paper` (docs/PAPER_RUN.md)"
    return Verdict("paper", verdict, f"{command}; {need['text']}")


def _obstacles(profile: Profile, report: Mapping[str, Any]) -> list[str]:
    here = report["machine"]
    found = [f"{p['name']} {p['problem']}" for p in report["packages"] if p["problem"]]
    if here["torch"] and not any(line.startswith("torch ") for line in found):
        found.append(f"torch cannot be used: {here['torch']}; install it again")
    own_base = {"base model"} if profile.base else set()
    found += [
        f"{f['name']} {f['problem']}"
        for f in report["files"]
        if f["problem"] and f["name"] not in own_base
    ]
    for what, need in (("memory", MEMORY), ("disk_free", DISK)):
        if here[what] is not None and here[what] < need:
            found.append(
                f"{what.replace('_', ' ')} is {_size(here[what])}, expected {_size(need)}; free"
                " some or take a larger machine"
            )
    if profile.base and not (under_home(profile.base) / "config.json").is_file():
        found.append(
            f"no base model in {profile.base}; `make base-{Path(profile.base).name}` makes it, or"
            " copy one there"
        )
    return found


def examine() -> dict[str, Any]:
    """The whole report in plain JSON values."""
    found = accelerators()
    report: dict[str, Any] = {
        "python": platform.python_version(),
        "rali_lab": versions(["rali-lab"])["rali-lab"],
        "packages": [asdict(p) for p in packages()],
        "machine": {**hardware(), **found},
        "files": [asdict(f) for f in model_files()],
        "published": published_times(checkout()),
        "paper": paper_need(found["gpus"]),
    }
    report["profiles"] = [asdict(judge(p, report)) for p in PROFILES.values()]
    return report


def render(report: Mapping[str, Any]) -> str:
    """The report as text, a part a paragraph."""
    verdicts = [(v["profile"], f"{v['verdict']}: {v['reason']}") for v in report["profiles"]]
    paper = judge_paper(report["paper"])
    verdicts.append((paper.profile, f"{paper.verdict}: {paper.reason}"))
    parts = {
        f"rali-lab {report['rali_lab'] or 'not installed'}": [
            ("python", report["python"]),
            *map(_software, report["packages"]),
        ],
        "machine": _hardware(report["machine"]),
        "model files": [(f["name"], f["problem"] or "ok") for f in report["files"]],
        "profiles": verdicts,
    }
    width = max(len(name) for rows in parts.values() for name, _ in rows)
    return "\n\n".join(
        "\n".join([title, *(f"  {name.ljust(width)}  {text}" for name, text in rows)])
        for title, rows in parts.items()
    )


def _software(p: Mapping[str, Any]) -> tuple[str, str]:
    fine = "optional" if p["name"] in OPTIONAL else "ok"
    about = p["problem"] or (f"ok ({p['bounds']})" if p["bounds"] else fine)
    if not p["version"] and p["problem"]:
        return p["name"], about
    return p["name"], f"{p['version'] or 'not installed'}, {about}"


def _hardware(here: Mapping[str, Any]) -> list[tuple[str, str]]:
    bf16 = {None: "not known", True: "fast", False: "slow"}[here["cpu_bf16_fast"]]
    gpus = [
        f"{g['name']}, {_size(g['memory'])}, bf16 {'yes' if g['bf16'] else 'no'}"
        for g in here["gpus"]
    ] or ["none"]
    memory = f"{_size(here['memory'])}, {_size(here['memory_available'])} available"
    return [
        ("system", here["system"]),
        ("CPU", f"{here['cpu']}, {here['cores']} cores for this process, bf16 {bf16}"),
        ("memory", f"{memory}, limit of the control group: {_size(here['memory_limit'], 'none')}"),
        ("disk", f"{_size(here['disk_free'])} free where results are kept: {scrub(str(home()))}"),
        ("GPU", f"not known: {here['torch']}" if here["torch"] else "; ".join(gpus)),
    ]


def _size(n: float | None, absent: str = "not known") -> str:
    return absent if n is None else f"{n / GB:.1f} GB"


def main(*, as_json: bool = False) -> int:
    """Print the report; 0 if the default profile can run here, else 1."""
    report = examine()
    print(json.dumps(report, indent=1, allow_nan=False) if as_json else render(report))
    runs = (v["profile"] for v in report["profiles"] if v["verdict"] != "does not run here")
    return 0 if DEFAULT in runs else 1
