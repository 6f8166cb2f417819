"""A fitted scorer on disk: `model.safetensors` (tower, PCA, basis) and `config.json` (hash,
architecture, remembered texts, versions).

No pickle is written or read, and the text tower is left out: it is not needed to score.
"""

from __future__ import annotations

import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from rali_lab.models.image_encoder import fold_batch_norm, image_tower
from rali_lab.rali.basis import Compressor

if TYPE_CHECKING:
    from rali_lab.rali.scorer import RaliScorer

FORMAT = 2
TENSORS, CONFIG = "model.safetensors", "config.json"
FITTED = {"pca.mean": "mean_", "pca.scale": "scale_", "pca.components": "components_"}
TOWERS = ("lite0_stats_s8", "lite0_stats_s16", "lite0_stats_s32")
"""Of `rali_lab.models.towers`: a folder may name no other, as timm takes a name for a place, too.
"""
WAY_OUT = "copy the folder again, or fit and save the scorer anew"


def save(scorer: RaliScorer, folder: str | Path) -> Path:
    """Write a fitted scorer to `folder` (made if missing, replaced if there) and return it.

    Both files are written beside and renamed, the config with the tensors' sha256 last, so that an
    interrupted save is found out by `load`. Raises ValueError when the scorer was fitted without an
    image tower.
    """
    if scorer.visual_ is None:
        raise ValueError("the scorer has no image tower to save; fit(..., model=...)")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = safetensors.torch.save({k: v.contiguous() for k, v in _tensors(scorer).items()})
    config = {
        "format": FORMAT,
        "sha256": hashlib.sha256(data).hexdigest(),
        "tower": _architecture(scorer.visual_),
        "hyper_parameters": scorer.get_params(),
        "explained_share": scorer.compressor_.explained_share_,
        "parameters": scorer.parameters(),
        "trained_ids": sorted(scorer.trained_ids_),
        "words": scorer.texts_,
        "versions": {name: version(name) for name in ("torch", "timm", "safetensors", "numpy")},
    }
    _replace(folder / TENSORS, data)
    _replace(
        folder / CONFIG,
        (json.dumps(config, indent=1, default=lambda number: number.item()) + "\n").encode(),
    )
    return folder


def load(scorer: RaliScorer, folder: str | Path) -> RaliScorer:
    """Fill an unfitted scorer from `folder`.

    Raises
    ------
    FileNotFoundError
        When one of the two files is missing.
    ValueError
        On a config that cannot be read, a wrong hash, a missing or surplus tensor, or a wrong
        shape, naming the file.
    """
    folder = Path(folder)
    config, data = _read_config(folder / CONFIG), _read(folder / TENSORS)
    found = hashlib.sha256(data).hexdigest()
    if found != config["sha256"]:
        raise ValueError(
            f"{folder / TENSORS}: sha256 is {found}, {CONFIG} says {config['sha256']}; {WAY_OUT}"
        )
    try:
        scorer.set_params(**config["hyper_parameters"])
        _check_tower(config["tower"], len(data))
        visual = fold_batch_norm(image_tower(**config["tower"]).eval()).requires_grad_(False)
        scorer.texts_ = list(config["words"])
        expected = _expected_shapes(visual, scorer)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{folder / CONFIG}: describes no scorer ({error}); {WAY_OUT}") from error
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{folder / TENSORS}: cannot be read ({str(error)[:100]}); {WAY_OUT}"
        ) from error
    _check_shapes(folder / TENSORS, {k: tuple(v.shape) for k, v in tensors.items()}, expected)
    visual.load_state_dict({k: tensors[f"visual.{k}"] for k in visual.state_dict()})
    compressor = Compressor(scorer.n_components)
    for key, name in FITTED.items():
        setattr(compressor, name, tensors[key].numpy())
    compressor.explained_share_ = config["explained_share"]
    scorer.visual_, scorer.compressor_ = visual, compressor
    scorer.vectors_, scorer.scores_ = (
        tensors["basis.vectors"].numpy(),
        tensors["basis.scores"].numpy(),
    )
    scorer.text_vectors_ = tensors["words.vectors"].numpy()
    scorer.trained_ids_ = frozenset(config["trained_ids"])
    return scorer


def _check_tower(tower: dict, size: int) -> None:
    """ValueError unless the tower is ours and a file of `size` bytes can hold its head.

    Nothing has been built yet: neither a tower from elsewhere nor a head that takes all memory.
    """
    name, hidden, width = tower["name"], tower["hidden"], tower["embed_dim"]
    if name not in TOWERS:
        allowed = ", ".join(TOWERS)
        raise ValueError(f"the tower {str(name)[:100]!r} is refused, allowed are {allowed}")
    known = all(type(n) is int and n > 0 for n in (hidden, width))
    if not known or 2 * hidden * (width + hidden * bool(tower.get("curved", True))) > size:
        sizes = f"{str(hidden)[:20]} and {str(width)[:20]}"
        raise ValueError(f"a head of {sizes} numbers is not what {TENSORS} holds")


def _tensors(scorer: RaliScorer) -> dict[str, Tensor]:
    arrays = {key: getattr(scorer.compressor_, name) for key, name in FITTED.items()}
    arrays |= {
        "basis.vectors": scorer.vectors_,
        "basis.scores": scorer.scores_,
        "words.vectors": _word_vectors(scorer),
    }
    tower = {f"visual.{k}": v.detach().cpu() for k, v in scorer.visual_.state_dict().items()}
    return tower | {k: torch.from_numpy(np.ascontiguousarray(a)) for k, a in arrays.items()}


def _word_vectors(scorer: RaliScorer) -> np.ndarray:
    return (
        scorer.text_vectors_
        if scorer.texts_
        else np.zeros((0, scorer.vectors_.shape[1]), np.float32)
    )


def _architecture(visual: nn.Module) -> dict[str, str | int | bool]:
    """Arguments of `image_tower` that rebuild `visual`."""
    first, last = visual.head[1], visual.head[-1]
    straight = {} if len(visual.head) > 3 else {"curved": False}
    return {
        "name": visual.trunk_name,
        "hidden": first.out_features,
        "embed_dim": last.out_features,
        **straight,
    }


def _expected_shapes(visual: nn.Module, scorer: RaliScorer) -> dict[str, tuple[int, ...]]:
    d, n = visual.head[-1].out_features, scorer.n_basis
    k = scorer.n_components or d
    shapes = {f"visual.{name}": tuple(t.shape) for name, t in visual.state_dict().items()}
    return shapes | {
        "pca.mean": (d,),
        "pca.scale": (d,),
        "pca.components": (k, d),
        "basis.vectors": (n, k),
        "basis.scores": (n,),
        "words.vectors": (len(scorer.texts_), k),
    }


def _check_shapes(file: Path, found: dict[str, tuple], expected: dict[str, tuple]) -> None:
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            raise ValueError(
                f"{file}: tensor {name!r} is {found.get(name, 'missing')}, expected"
                f" {expected.get(name, 'none')} by {CONFIG}; {WAY_OUT}"
            )


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{file}: no such file; give the folder that RaliScorer.save wrote"
        ) from error


def _read_config(file: Path) -> dict:
    try:
        config = json.loads(_read(file))
        if config["format"] != FORMAT:
            raise ValueError(f"format {config['format']}, this version reads {FORMAT}")
        return {
            k: config[k]
            for k in (
                "sha256",
                "tower",
                "hyper_parameters",
                "explained_share",
                "trained_ids",
                "words",
            )
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file}: cannot be read as a scorer's configuration ({error}); {WAY_OUT}"
        ) from error


def _replace(file: Path, data: bytes) -> None:
    beside = file.with_name(file.name + ".part")
    beside.write_bytes(data)
    os.replace(beside, file)
