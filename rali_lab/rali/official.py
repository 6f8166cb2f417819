"""The layout of the released RALI checkpoint, read and written: ckpt.pt, pca.pkl, basis.npz and the folder best/.

`best/` is a Hugging Face CLIP model and `ckpt.pt` a state dict whose tensors replace those of the same name in it; `pca.pkl` is a joblib
pickle of scikit-learn objects, `basis.npz` holds `vectors` (K, d) and `scores` (K,). The two pickles are never trusted: the first is
read with ``weights_only=True``, the second by a reader that builds nothing but PCA, scaler and arrays and names what else it met.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import torch
from joblib.numpy_pickle import NumpyArrayWrapper, NumpyUnpickler
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from rali_lab.rali.basis import TAU, Compressor, softmax_score

WEIGHTS, PROJECTION, BASIS, CLIP = "ckpt.pt", "pca.pkl", "basis.npz", "best"
APART = "the parts do not belong together"
RELEASED_SIDE = 336
"""Pixels on a side of the released evaluation's pictures, where `best/` says nothing else."""


@dataclass
class OfficialScorer:
    """A scorer in the form of the released one: CLIP image features, standardised, projected, compared with the basis.

    Attributes
    ----------
    clip, image_processor : transformers' CLIPModel and what prepares its pictures.
    compressor : standardisation and projection. vectors, scores, tau : the basis (K, d), (K,) and the softmax's temperature.
    """

    clip: nn.Module
    image_processor: object
    compressor: Compressor
    vectors: np.ndarray
    scores: np.ndarray
    tau: float = TAU

    @torch.inference_mode()
    def embed(self, pictures: Sequence[np.ndarray], *, batch: int = 8) -> np.ndarray:
        """CLIP image features (n, d) float32 of (H, W, 3) uint8 pictures, resized as the processor says."""
        parts = []
        for i in range(0, len(pictures), batch):
            shown = [Image.fromarray(np.asarray(p)) for p in pictures[i : i + batch]]
            x = self.image_processor(images=shown, return_tensors="pt")["pixel_values"].to(self.clip.device, self.clip.dtype)
            found = self.clip.get_image_features(pixel_values=x)
            parts.append(getattr(found, "pooler_output", found).float().cpu().numpy())  # an output object since transformers 5
        return np.concatenate(parts) if parts else np.zeros((0, self.clip.config.projection_dim), np.float32)

    def predict_embeddings(self, z: np.ndarray) -> np.ndarray:
        """Scores (n,) of image features (n, d)."""
        return softmax_score(self.compressor.transform(z), self.vectors, self.scores, tau=self.tau)

    def predict(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """Scores (n,) of pictures, on the scale of the basis scores."""
        return self.predict_embeddings(self.embed(pictures)) if len(pictures) else np.zeros(0)


def read_official(folder: str | Path, *, tau: float = TAU) -> OfficialScorer:
    """A scorer from a folder in the released layout.

    Parameters
    ----------
    tau : temperature; the folder does not say, the released code's default is 0.07.

    Raises
    ------
    FileNotFoundError
        When one of the four parts is missing.
    ValueError
        When a part cannot be read safely or does not fit the others: the message names file, finding and way out.
    """
    from transformers import AutoImageProcessor, CLIPImageProcessor, CLIPModel

    folder = Path(folder)
    for part in (WEIGHTS, PROJECTION, BASIS, CLIP):
        if not (folder / part).exists():
            whole = f"{WEIGHTS}, {PROJECTION}, {BASIS} and {CLIP}/"
            raise FileNotFoundError(f"{folder / part} is missing; a released RALI folder holds {whole}")
    clip = CLIPModel.from_pretrained(folder / CLIP, use_safetensors=True).eval().requires_grad_(False)
    _overlay(clip, folder / WEIGHTS)
    known = (folder / CLIP / "preprocessor_config.json").exists()
    side = {"shortest_edge": RELEASED_SIDE}
    crop = {"height": RELEASED_SIDE, "width": RELEASED_SIDE}
    processor = AutoImageProcessor.from_pretrained(folder / CLIP) if known else CLIPImageProcessor(size=side, crop_size=crop)
    compressor = _compressor(read_pickled_pca(folder / PROJECTION), folder / PROJECTION)
    vectors, scores = _basis(folder / BASIS, compressor)
    if len(compressor.mean_) != clip.config.projection_dim:
        raise ValueError(f"{folder / PROJECTION}: projects {len(compressor.mean_)} features, {CLIP}/ gives {clip.config.projection_dim}; "
                         "the parts belong to different models")  # fmt: skip
    return OfficialScorer(clip, processor, compressor, vectors, scores, tau)


def write_official(scorer: OfficialScorer, folder: str | Path) -> Path:
    """Write a scorer in the released layout (made if missing, files replaced) and return the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    scorer.clip.save_pretrained(folder / CLIP)
    scorer.image_processor.save_pretrained(folder / CLIP)
    torch.save(scorer.clip.state_dict(), folder / WEIGHTS)
    joblib.dump(_sklearn(scorer.compressor), folder / PROJECTION)
    np.savez(folder / BASIS, vectors=scorer.vectors, scores=scorer.scores)
    return folder


def _overlay(clip: nn.Module, file: Path) -> None:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{file}: cannot be read as plain weights ({str(error).splitlines()[0][:120]}); it is not loaded") from error
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError(f"{file}: expected a state dict of tensors, got {type(state).__name__}; save `model.state_dict()`")
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    own = clip.state_dict()
    if strangers := [n for n in state if n not in own]:
        raise ValueError(f"{file}: {len(strangers)} tensors have no place in {CLIP}/, {strangers[0]!r} first; {APART}")
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise ValueError(f"{file}: {name} is {tuple(tensor.shape)}, {CLIP}/ has {tuple(own[name].shape)}; {APART}")
    clip.load_state_dict(state, strict=False)


def _basis(file: Path, compressor: Compressor) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as found:
            vectors, scores = (np.asarray(found[name], dtype=np.float64) for name in ("vectors", "scores"))
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{file}: expected plain arrays `vectors` and `scores` ({error})") from error
    if vectors.ndim != 2 or scores.shape != (len(vectors),) or vectors.shape[1] != len(compressor.components_):
        raise ValueError(f"{file}: vectors {vectors.shape} and scores {scores.shape} do not fit {len(compressor.components_)} projected "
                         "dimensions; expected (K, d) and (K,)")  # fmt: skip
    return vectors, scores


def _compressor(found: object, file: Path) -> Compressor:
    """Our `Compressor` from what the pickle holds: a PCA, alone or after a scaler, in a pipeline, list or dict."""
    parts = [step for _, step in found.steps] if isinstance(found, Pipeline) else found
    parts = list(parts.values()) if isinstance(parts, dict) else list(parts) if isinstance(parts, (list, tuple)) else [parts]
    pca = next((p for p in parts if isinstance(p, PCA)), None)
    scaler = next((p for p in parts if isinstance(p, StandardScaler)), None)
    if pca is None or not hasattr(pca, "components_"):
        raise ValueError(f"{file}: holds no fitted PCA; expected one, alone or with a StandardScaler")
    if pca.whiten:
        raise ValueError(f"{file}: the PCA whitens, the released formula does not; refit with whiten=False")
    out = Compressor(len(pca.components_))
    mean = np.zeros(pca.components_.shape[1]) if scaler is None else scaler.mean_
    out.scale_ = np.ones_like(mean) if scaler is None else np.sqrt(np.where(scaler.var_ > 0, scaler.var_, 1.0))
    out.mean_ = mean + out.scale_ * pca.mean_  # the PCA centres what the scaler leaves
    out.components_, out.explained_share_ = np.ascontiguousarray(pca.components_), float(np.nansum(pca.explained_variance_ratio_))
    return out


def _sklearn(compressor: Compressor) -> Pipeline:
    """A fitted scaler and PCA of scikit-learn that do what `compressor` does."""
    d = len(compressor.mean_)
    scaler, pca = StandardScaler(), PCA(compressor.n_components)
    scaler.mean_, scaler.scale_, scaler.var_ = compressor.mean_, compressor.scale_, compressor.scale_**2
    scaler.n_features_in_, scaler.n_samples_seen_ = d, 1
    pca.components_, pca.mean_, pca.n_features_in_ = compressor.components_, np.zeros(d), d
    pca.n_components_, pca.noise_variance_, pca.n_samples_ = compressor.n_components, 0.0, 1
    pca.explained_variance_ratio_ = np.full(compressor.n_components, compressor.explained_share_ / compressor.n_components)
    pca.explained_variance_, pca.singular_values_ = np.ones(compressor.n_components), np.ones(compressor.n_components)
    return make_pipeline(scaler, pca)


class _PlainArray(NumpyArrayWrapper):
    """joblib's note about an array, without its way of unpickling objects inside one."""

    def read(self, unpickler, *args):
        if self.dtype.hasobject:
            raise pickle.UnpicklingError("an array of Python objects")
        return super().read(unpickler, *args)


ALLOWED = {
    ("sklearn.decomposition._pca", "PCA"): PCA,
    ("sklearn.preprocessing._data", "StandardScaler"): StandardScaler,
    ("sklearn.pipeline", "Pipeline"): Pipeline,
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): _PlainArray,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "float64"): np.float64,
    ("numpy", "float32"): np.float32,
    ("numpy", "int64"): np.int64,
    **{(f"{core}.multiarray", "scalar"): np.float64(0).__reduce__()[0] for core in ("numpy.core", "numpy._core")},
}
"""All that a scikit-learn PCA, saved by joblib, consists of."""


class _PcaReader(NumpyUnpickler):
    def find_class(self, module: str, name: str):
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return ALLOWED[module, name]


def read_pickled_pca(file: str | Path) -> object:
    """What a joblib pickle holds, if it holds nothing but scikit-learn's PCA, StandardScaler, Pipeline, plain containers and arrays.

    Raises
    ------
    ValueError
        Naming the first thing that is not on the list; nothing of it has been run or built.
    """
    file = Path(file)
    with file.open("rb") as handle:
        if handle.peek(1)[:1] != b"\x80":
            raise ValueError(f"{file}: is compressed or no pickle; save it with `joblib.dump(pca, file)`, uncompressed")
        try:
            return _PcaReader(str(file), handle, ensure_native_byte_order=True).load()
        except pickle.UnpicklingError as error:
            raise ValueError(f"{file}: holds {error}, which a PCA does not need; it was refused and nothing of it was run") from error
        except (EOFError, AttributeError, TypeError, IndexError, KeyError) as error:
            raise ValueError(f"{file}: is broken ({type(error).__name__}: {error}); copy it again") from error
