"""What a model folder must not do to the machine that reads it: run code, name towers of others, or
hold other weights than those that were recorded.

Weights are read from safetensors only. Every file of a folder is checked before transformers sees
it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig

from rali_lab.io import atomic_write, sha256_file, verify_sha256
from rali_lab.models.towers import TOWERS

LOCAL_ONLY = {"trust_remote_code": False, "local_files_only": True}
"""For every `from_pretrained`: no code that a folder brings along, and no question about it;
nothing from the net."""
HASHES = "SHA256SUMS.json"
UNKNOWN = (KeyError, TypeError, ValueError, AttributeError, OSError, StrictDataclassError)
"""What transformers raises on a configuration that it cannot use."""


def check_model_folder(folder: Path) -> None:
    """All checks below.

    Raises
    ------
    FileNotFoundError
        Without a config.json.
    ValueError
        Naming the file, what was found in it, and the way out.
    """
    if not (folder / "config.json").exists():
        raise FileNotFoundError(
            f"no model in {folder}: config.json is missing; give another folder, or restore the"
            " package's own: `git checkout -- rali_lab`, or install it again"
        )
    refuse_code(folder)
    _refuse_foreign_towers(folder)
    check_hashes(folder)


def refuse_code(folder: str | Path) -> None:
    """Raise ValueError, naming the file, if a JSON file names code to be run with it (`auto_map`).

    All JSON files of the folder are read, at any depth; those of folders below it are not.
    """
    for file in sorted(Path(folder).glob("*.json")):
        for part in _dicts(_json(file)):
            code = part.get("auto_map")
            if isinstance(code, (dict, list, str)) and code:
                named = code.values() if isinstance(code, dict) else [code]
                raise ValueError(
                    f"{file}: the model wants to run its own code "
                    f"({', '.join(map(str, named))[:200]}), which is refused; "
                    "use a model whose class is in transformers"
                )


def _json(file: Path) -> object:
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{file}: cannot be read as JSON ({str(error)[:100]}); fetch or build it again"
        ) from error


def _dicts(value: object) -> Iterator[dict]:
    """Every dict within plain JSON values, at any depth."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _refuse_foreign_towers(folder: Path) -> None:
    """Raise ValueError if a model's configuration asks timm for a tower that is not ours.

    The file is checked as written and as transformers completes it. timm takes a name for a place,
    too ("hf_hub:...", "local-dir:..."), and arguments for files to read.
    """
    file = folder / "config.json"
    _check_towers(file, _json(file))
    try:
        config = AutoConfig.from_pretrained(folder, **LOCAL_ONLY)
    except UNKNOWN as error:
        raise ValueError(
            f"{file}: describes no model that transformers knows ({str(error)[:200]}); "
            "fetch or build it again"
        ) from error
    _check_towers(file, config.to_dict())


def _check_towers(file: Path, config: object) -> None:
    for part in _dicts(config):
        kind = str(part.get("model_type"))
        named = [part[k] for k in ("architecture", "backbone") if part.get(k) is not None]
        if "timm" in kind or named or part.get("use_timm_backbone"):
            wanted = named[0] if named else None
            if wanted not in TOWERS or kind != "timm_wrapper":
                raise ValueError(
                    f"{file}: asks for the tower {str(wanted)[:100]!r}, which is refused; allowed "
                    f"are {', '.join(TOWERS)}"
                )
            if part.get("model_args"):
                given = str(part["model_args"])[:100]
                raise ValueError(
                    f"{file}: gives the tower {wanted} arguments of its own ({given}); leave out "
                    "model_args"
                )
        attention = part.get("attn_implementation") or part.get("_attn_implementation")
        if isinstance(attention, str) and "/" in attention:
            raise ValueError(
                f"{file}: asks for code from the net ({attention[:100]}), which is refused; leave "
                "out attn_implementation"
            )


def write_hashes(folder: Path) -> None:
    """Write the sha256 of a folder's safetensors files to `HASHES`."""
    sums = {f.name: sha256_file(f) for f in sorted(folder.glob("*.safetensors"))}
    atomic_write(folder / HASHES, (json.dumps(sums, indent=2) + "\n").encode())


def check_hashes(folder: Path) -> None:
    """Compare a folder's safetensors with its `HASHES`, if it has one; ValueError on another."""
    sums = folder / HASHES
    for name, expected in (json.loads(sums.read_text()) if sums.exists() else {}).items():
        verify_sha256(folder / name, expected, way_out="fetch or build it again")
