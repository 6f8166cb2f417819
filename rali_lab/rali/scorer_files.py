"""A fitted scorer on disk: `model.safetensors` (encoder, PCA, basis) and `config.json` (hash,
architecture, stored texts, versions).

No pickle is written or read, and the text tower is left out: it is not needed to score.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from rali_lab.io import atomic_write, sha256_file, verify_sha256
from rali_lab.models.image_encoder import fold_batch_norm, image_tower
from rali_lab.models.towers import TOWERS
from rali_lab.rali.basis import build_compressor, compressor_arrays

if TYPE_CHECKING:
    from rali_lab.rali.scorer import RaliScorer

FORMAT = 2
TENSORS, CONFIG = "model.safetensors", "config.json"
KEYS = ("sha256", "tower", "hyper_parameters", "explained_share", "trained_ids", "words")
"""Of the config that loading needs; `words` are the stored texts."""
WAY_OUT = "copy the folder again, or fit and save the scorer anew"


def save(scorer: RaliScorer, folder: str | Path) -> Path:
    """Write a fitted scorer to `folder` (made if missing, replaced if there) and return it.

    The config is written last, with the tensors' sha256, so that `load` detects an interrupted
    save.

    Raises
    ------
    ValueError
        When the scorer was fitted without an image encoder.
    """
    if scorer.visual_ is None:
        raise ValueError("the scorer has no image tower to save; fit(..., model=...)")
    folder = Path(folder)
    atomic_write(folder / TENSORS, safetensors.torch.save(_tensors(scorer)))
    config = {
        "format": FORMAT,
        "sha256": sha256_file(folder / TENSORS),
        "tower": _architecture(scorer.visual_),
        "hyper_parameters": scorer.get_params(),
        "explained_share": scorer.explained_share_,
        "parameters": scorer.parameters(),
        "trained_ids": sorted(scorer.trained_ids_),
        "words": scorer.texts_,
        "versions": {name: version(name) for name in ("torch", "timm", "safetensors", "numpy")},
    }
    text = json.dumps(config, indent=1, default=lambda number: number.item())
    atomic_write(folder / CONFIG, f"{text}\n".encode())
    return folder


def load(scorer: RaliScorer, folder: str | Path) -> RaliScorer:
    """Fill an unfitted scorer from `folder`.

    Sizes are compared with the file before any memory is taken for them.

    Raises
    ------
    FileNotFoundError
        When one of the two files is missing.
    ValueError
        On a config that cannot be read, a wrong hash, a missing or surplus tensor, or a wrong
        shape, naming the file.
    """
    folder = Path(folder)
    file, config = folder / TENSORS, _read_config(folder / CONFIG)
    data = _read(file)
    verify_sha256(file, str(config["sha256"]), way_out=WAY_OUT)
    try:
        scorer.set_params(**config["hyper_parameters"])
        _check_tower(config["tower"], len(data))
        visual = fold_batch_norm(image_tower(**config["tower"]).eval()).requires_grad_(False)
        scorer.texts_ = list(config["words"])
        expected = _expected(visual, scorer)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        found = str(error).partition("\n")[0][:200]  # torch adds a trace to some
        raise ValueError(f"{folder / CONFIG}: describes no scorer ({found}); {WAY_OUT}") from error
    try:
        tensors = safetensors.torch.load(data)
        expected.load_state_dict(tensors, strict=True, assign=True)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{file}: cannot be read ({str(error)[:100]}); {WAY_OUT}") from error
    except RuntimeError as error:
        found = " ".join(str(error).split("\n\t")[1:])[:300]
        raise ValueError(f"{file}: is not what {CONFIG} describes ({found}); {WAY_OUT}") from error
    arrays = {k: v.numpy() for k, v in tensors.items() if not k.startswith("visual.")}
    scorer.compressor_ = build_compressor(
        *(arrays[f"pca.{name}"] for name in ("mean", "scale", "components"))
    )
    scorer.visual_, scorer.explained_share_ = visual, config["explained_share"]
    scorer.vectors_, scorer.scores_ = arrays["basis.vectors"], arrays["basis.scores"]
    scorer.text_vectors_ = arrays["words.vectors"]
    scorer.trained_ids_ = frozenset(config["trained_ids"])
    return scorer


def _expected(visual: nn.Module, scorer: RaliScorer) -> nn.ModuleDict:
    """What the file must hold, by name and shape: the encoder, and buffers that take no memory."""
    d, n = visual.head[-1].out_features, scorer.n_basis
    k = scorer.n_components or d
    parts = {
        "pca": {"mean": (d,), "scale": (d,), "components": (k, d)},
        "basis": {"vectors": (n, k), "scores": (n,)},
        "words": {"vectors": (len(scorer.texts_), k)},
    }
    whole = nn.ModuleDict({"visual": visual})
    for part, shapes in parts.items():
        whole[part] = nn.Module()
        for name, shape in shapes.items():
            whole[part].register_buffer(name, torch.empty(shape, device="meta"))
    return whole


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
    arrays = {f"pca.{name}": a for name, a in compressor_arrays(scorer.compressor_).items()}
    arrays |= {"basis.vectors": scorer.vectors_, "basis.scores": scorer.scores_}
    no_texts = np.zeros((0, scorer.vectors_.shape[1]), np.float32)
    arrays["words.vectors"] = scorer.text_vectors_ if scorer.texts_ else no_texts
    encoder = {f"visual.{k}": v.detach().cpu() for k, v in scorer.visual_.state_dict().items()}
    tensors = {k: torch.from_numpy(np.ascontiguousarray(a)) for k, a in arrays.items()}
    return {k: v.contiguous() for k, v in (encoder | tensors).items()}


def _architecture(visual: nn.Module) -> dict[str, str | int | bool]:
    """Arguments of `image_tower` that rebuild `visual`."""
    first, last = visual.head[1], visual.head[-1]
    sizes = {"hidden": first.out_features, "embed_dim": last.out_features}
    curved = {} if len(visual.head) > 3 else {"curved": False}
    return {"name": visual.trunk_name, **sizes, **curved}


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
        return {key: config[key] for key in KEYS}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file}: cannot be read as a scorer's configuration ({error}); {WAY_OUT}"
        ) from error
