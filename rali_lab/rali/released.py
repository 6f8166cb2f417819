"""The layout of the released RALI checkpoint, read and written: ckpt.pt, pca.pkl, basis.npz and the
folder best/.

`best/` is a Hugging Face CLIP model and `ckpt.pt` a state dict whose tensors replace those of the
same name in it; `pca.pkl` is a joblib pickle of scikit-learn objects, `basis.npz` holds `vectors`
(K, d) and `scores` (K,). The two pickles are never trusted: the first is read with
``weights_only=True``, the second by walking over its opcodes: no class is made and nothing is
called, only the numbers of a PCA and a scaler are taken out. A `pca.pkl` of another kind can be
converted where it is trusted; `pca.npz` is read in its place:

    import joblib, numpy as np
    scaler, pca = joblib.load("pca.pkl")                      # however they are kept
    scale = np.sqrt(np.where(scaler.var_ > 0, scaler.var_, 1.0))
    mean = scaler.mean_ + scale * pca.mean_
    np.savez("pca.npz", mean=mean, scale=scale, components=pca.components_)
"""

from __future__ import annotations

import pickle
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import torch
from PIL import Image
from sklearn.pipeline import Pipeline
from torch import nn

from rali_lab.rali.basis import TAU, build_compressor, softmax_score
from rali_lab.rali.pickled_pca import (
    CONVERTED,
    MAX_BYTES,
    PCA_NAME,
    PIPELINE_NAME,
    SCALER_NAME,
    Node,
    read_pickled_pca,
)

WEIGHTS, PROJECTION, BASIS, CLIP = "ckpt.pt", "pca.pkl", "basis.npz", "best"
APART = "the parts do not belong together"
RELEASED_SIDE = 336
"""Pixels on a side of the released evaluation's images, where `best/` says nothing else."""


@dataclass
class OfficialScorer:
    """A scorer in the form of the released one: CLIP image features, standardised, projected,
    compared with the basis.

    Attributes
    ----------
    clip, image_processor
        The CLIPModel of transformers and what prepares its images.
    compressor : Pipeline
        Standardisation and projection (`rali_lab.rali.basis.build_compressor`).
    vectors, scores : np.ndarray
        The basis, (K, d) and (K,).
    tau : float
        Temperature of the softmax.
    """

    clip: nn.Module
    image_processor: object
    compressor: Pipeline
    vectors: np.ndarray
    scores: np.ndarray
    tau: float = TAU

    @torch.inference_mode()
    def embed(self, images: Sequence[np.ndarray], *, batch: int = 8) -> np.ndarray:
        """CLIP image features (n, d) float32 of (H, W, 3) uint8 images, resized as the processor
        says.
        """
        parts = []
        for i in range(0, len(images), batch):
            shown = [Image.fromarray(np.asarray(p)) for p in images[i : i + batch]]
            x = self.image_processor(images=shown, return_tensors="pt")["pixel_values"].to(
                self.clip.device, self.clip.dtype
            )
            found = self.clip.get_image_features(pixel_values=x)
            found = getattr(found, "pooler_output", found)  # an output object since transformers 5
            parts.append(found.float().cpu().numpy())
        width = self.clip.config.projection_dim
        return np.concatenate(parts) if parts else np.zeros((0, width), np.float32)

    def predict_embeddings(self, z: np.ndarray) -> np.ndarray:
        """Scores (n,) of image features (n, d)."""
        return softmax_score(self.compressor.transform(z), self.vectors, self.scores, tau=self.tau)

    def predict(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Scores (n,) of images, on the scale of the basis scores."""
        return self.predict_embeddings(self.embed(images)) if len(images) else np.zeros(0)


def read_official(folder: str | Path, *, tau: float = TAU) -> OfficialScorer:
    """A scorer from a folder in the released layout.

    Parameters
    ----------
    folder : str or Path
        Holds `ckpt.pt`, `pca.pkl` or `pca.npz`, `basis.npz` and `best/`.
    tau : float
        Temperature; the folder does not say, the released code's default is 0.07.

    Raises
    ------
    FileNotFoundError
        When one of the four parts is missing.
    ValueError
        When a part cannot be read safely or does not fit the others: the message names file,
        finding and way out.
    """
    from transformers import AutoImageProcessor, CLIPImageProcessor, CLIPModel

    from rali_lab.models.model_folder import LOCAL_ONLY, refuse_code

    folder = Path(folder)
    projection = CONVERTED if (folder / CONVERTED).exists() else PROJECTION
    for part in (WEIGHTS, projection, BASIS, CLIP):
        if not (folder / part).exists():
            whole = f"{WEIGHTS}, {PROJECTION}, {BASIS} and {CLIP}/"
            raise FileNotFoundError(
                f"{folder / part} is missing; a released RALI folder holds {whole}"
            )
    refuse_code(folder)
    refuse_code(folder / CLIP)
    clip = (
        CLIPModel.from_pretrained(folder / CLIP, use_safetensors=True, **LOCAL_ONLY)
        .eval()
        .requires_grad_(False)
    )
    _overlay(clip, folder / WEIGHTS)
    known = (folder / CLIP / "preprocessor_config.json").exists()
    side = {"shortest_edge": RELEASED_SIDE}
    crop = {"height": RELEASED_SIDE, "width": RELEASED_SIDE}
    own = CLIPImageProcessor(size=side, crop_size=crop)
    processor = AutoImageProcessor.from_pretrained(folder / CLIP, **LOCAL_ONLY) if known else own
    compressor = _projection(folder / projection)
    vectors, scores = _basis(folder / BASIS, compressor)
    width = compressor["pca"].n_features_in_
    if width != clip.config.projection_dim:
        raise ValueError(
            f"{folder / projection}: projects {width} features, {CLIP}/ gives"
            f" {clip.config.projection_dim}; the parts belong to different models"
        )
    return OfficialScorer(clip, processor, compressor, vectors, scores, tau)


def write_official(scorer: OfficialScorer, folder: str | Path) -> Path:
    """Write a scorer in the released layout (made if missing, files replaced) and return the
    folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    scorer.clip.save_pretrained(folder / CLIP)
    scorer.image_processor.save_pretrained(folder / CLIP)
    torch.save(scorer.clip.state_dict(), folder / WEIGHTS)
    joblib.dump(scorer.compressor[1:], folder / PROJECTION)  # scaler and PCA, without the check
    np.savez(folder / BASIS, vectors=scorer.vectors, scores=scorer.scores)
    return folder


def _overlay(clip: nn.Module, file: Path) -> None:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{file}: cannot be read as plain weights ({str(error).splitlines()[0][:120]}); it is"
            " not loaded"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError(
            f"{file}: expected a state dict of tensors, got {type(state).__name__}; save"
            " `model.state_dict()`"
        )
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    own = clip.state_dict()
    if strangers := [n for n in state if n not in own]:
        raise ValueError(
            f"{file}: {len(strangers)} tensors have no place in {CLIP}/, {strangers[0]!r} first;"
            f" {APART}"
        )
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise ValueError(
                f"{file}: {name} is {tuple(tensor.shape)}, {CLIP}/ has {tuple(own[name].shape)};"
                f" {APART}"
            )
    clip.load_state_dict(state, strict=False)


def _basis(file: Path, compressor: Pipeline) -> tuple[np.ndarray, np.ndarray]:
    vectors, scores = _plain_arrays(file, ("vectors", "scores"))
    k = len(compressor["pca"].components_)
    if vectors.ndim != 2 or scores.shape != (len(vectors),) or vectors.shape[1] != k:
        raise ValueError(
            f"{file}: vectors {vectors.shape} and scores {scores.shape} do not fit {k} projected"
            " dimensions; expected (K, d) and (K,)"
        )
    return vectors, scores


def _plain_arrays(file: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Arrays, as float64, by their names in an npz file; ValueError on anything but numbers."""
    try:
        with zipfile.ZipFile(file) as parts:
            size = sum(part.file_size for part in parts.infolist())
        if size > MAX_BYTES:
            raise ValueError(f"{size} bytes once unpacked, the limit is {MAX_BYTES}")
        with np.load(file, allow_pickle=False) as found:
            return [np.asarray(found[name], dtype=np.float64) for name in names]
    except UNREADABLE as error:
        expected = " and ".join(f"`{name}`" for name in names)
        raise ValueError(
            f"{file}: expected plain arrays {expected} ({error}); write them with np.savez"
        ) from error


UNREADABLE = (
    KeyError,
    ValueError,
    TypeError,
    OSError,
    EOFError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy and zipfile say of a file that is no npz, or not a whole one."""


def _projection(file: Path) -> Pipeline:
    """The projection in a `pca.pkl` or in a `pca.npz`.

    Raises
    ------
    ValueError
        When its arrays do not fit each other or hold anything but numbers.
    """
    if file.name == CONVERTED:
        mean, scale, components = _plain_arrays(file, ("mean", "scale", "components"))
    else:
        mean, scale, components = _pickled_arrays(read_pickled_pca(file), file)
    fit = mean.shape == scale.shape == components.shape[1:] and mean.ndim == 1
    if not fit or not components.size:
        raise ValueError(
            f"{file}: mean {mean.shape}, scale {scale.shape} and components {components.shape} do "
            "not fit each other; expected (d,), (d,) and (k, d)"
        )
    if not all(np.isfinite(a).all() for a in (mean, scale, components)) or not (scale > 0).all():
        raise ValueError(
            f"{file}: holds values that are no numbers, or a scale that is not above 0; fit and "
            "save the PCA again"
        )
    return build_compressor(mean, scale, np.array(components, order="C"))


def _pickled_arrays(found: object, file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, scale and components of a PCA, alone or after a scaler, in a pipeline, list, tuple or
    dict.
    """
    states = {}
    for part in _parts(found):
        if isinstance(part, Node) and part.state is not None:
            states.setdefault(part.name, part.state)
    pca, scaler = states.get(PCA_NAME), states.get(SCALER_NAME)
    if pca is None or "components_" not in pca:
        raise ValueError(
            f"{file}: holds no fitted PCA; expected one, alone or with a StandardScaler"
        )
    if pca.get("whiten") is not False:
        raise ValueError(
            f"{file}: the PCA whitens, the released formula does not; refit with whiten=False"
        )
    components, centre = _array_of(pca, "components_", file), _array_of(pca, "mean_", file)
    mean, scale = np.zeros(centre.shape), np.ones(centre.shape)
    if scaler is not None and scaler.get("with_mean", True) is True:
        mean = _array_of(scaler, "mean_", file)
    if scaler is not None and scaler.get("with_std", True) is True:
        var = _array_of(scaler, "var_", file)
        scale = np.sqrt(np.where(var > 0, var, 1.0))
    if mean.shape != centre.shape or scale.shape != centre.shape:
        raise ValueError(
            f"{file}: the scaler is of {mean.shape} and {scale.shape} features, the PCA of "
            f"{centre.shape}; save the two that were fitted together"
        )
    with np.errstate(all="ignore"):  # what is no number is refused
        return mean + scale * centre, scale, components  # the PCA centres what the scaler leaves


def _parts(found: object) -> list:
    """What lies in a pipeline, list, tuple or dict, one level deep; else the thing alone."""
    if isinstance(found, Node) and found.name == PIPELINE_NAME:
        steps = (found.state or {}).get("steps")
        steps = steps if type(steps) is list else []
        return [step[1] for step in steps if type(step) is tuple and len(step) == 2]
    if type(found) is dict:
        return list(found.values())
    return list(found) if type(found) in (list, tuple) else [found]


def _array_of(state: dict, name: str, file: Path) -> np.ndarray:
    """A copy of an array of numbers among the attributes of an estimator."""
    if not isinstance(state.get(name), np.ndarray):
        raise ValueError(
            f"{file}: {name} is {type(state.get(name)).__name__}, expected an array; fit and save "
            "the PCA again"
        )
    return np.array(state[name], dtype=np.result_type(state[name], np.float32))
