"""A fitted scorer as one ONNX file, pixels in and scores out, in 32-bit floats or with 8-bit
convolutions, for onnxruntime.

The whole scorer is in the graph: encoder, PCA, basis. Images of any size from 32 px on are taken,
those of one batch in one size. Needs the extra `onnx`: pip install "rali_lab[onnx]".
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rali_lab.models.image_encoder import check_images
from rali_lab.models.towers import to_pixels
from rali_lab.rali.basis import compressor_arrays
from rali_lab.rali.scorer import RaliScorer

INPUT, OUTPUT = "pixels", "score"


class ScoringGraph(nn.Module):
    """What `RaliScorer.predict` does, as one torch module on normalised pixels (n, 3, H, W) ->
    (n,), in float32.
    """

    def __init__(self, scorer: RaliScorer) -> None:
        super().__init__()
        if scorer.visual_ is None:
            raise ValueError("the scorer has no image tower to export; fit(..., model=...)")
        self.visual, self.tau = scorer.visual_, scorer.tau
        norms = np.linalg.norm(scorer.vectors_, axis=1, keepdims=True)
        basis = {"vectors": scorer.vectors_ / np.maximum(norms, 1e-12), "scores": scorer.scores_}
        for name, array in (compressor_arrays(scorer.compressor_) | basis).items():
            self.register_buffer(name, torch.tensor(np.asarray(array), dtype=torch.float32))

    def forward(self, pixels: Tensor) -> Tensor:
        z = (F.normalize(self.visual(pixels), dim=-1) - self.mean) / self.scale @ self.components.T
        cosines = F.normalize(z, dim=-1) @ self.vectors.T
        return torch.softmax(cosines / self.tau, dim=-1) @ self.scores


def export_onnx(scorer: RaliScorer, file: str | Path) -> Path:
    """Write a fitted scorer as ONNX (one file, weights inside) and return its path.

    Cost: about 10 s, once.

    Raises
    ------
    ModuleNotFoundError
        Without the extra `onnx`, naming it.
    ValueError
        When the scorer was fitted without an image encoder.
    """
    _require("onnx", "onnxscript")
    file = Path(file)
    example = torch.zeros(2, 3, 96, 128)
    sizes = {0: "n", 2: "height", 3: "width"}
    with warnings.catch_warnings(), _silent():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        torch.onnx.export(
            ScoringGraph(scorer).eval(),
            (example,),
            file,
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={INPUT: sizes},
        )
    return file


def quantise(file: str | Path, out: str | Path, images: Sequence[np.ndarray]) -> Path:
    """An ONNX scorer with 8-bit convolutions, their ranges calibrated on images.

    Convolutions alone: the statistics behind them take logarithms of small variances, which 8 bits
    do not hold. Measure what it costs before you use it (notebook 07 does).

    Parameters
    ----------
    file, out : str or Path
        An ONNX scorer, and where the quantised one is written (returned).
    images : sequence of np.ndarray
        Some dozens, from training: (H, W, 3) uint8 arrays.

    Raises
    ------
    ModuleNotFoundError
        Without the extra `onnx`, naming it.
    """
    _require("onnx", "onnxruntime")
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    check_images(images)

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict | None:
            image = next(self.left, None)
            return None if image is None else {INPUT: to_pixels([image]).contiguous().numpy()}

    with _silent():
        quantize_static(
            str(file),
            str(out),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            op_types_to_quantize=["Conv"],
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return Path(out)


class OnnxScorer:
    """A scorer in an ONNX file, run by onnxruntime on the CPU; torch only prepares the pixels.

    Parameters
    ----------
    file : str or Path
        From `export_onnx` or `quantise`.
    threads : int
        Of one call; 1 is fastest for small images.

    Raises
    ------
    ModuleNotFoundError
        Without the extra `onnx`, naming it.
    FileNotFoundError
        When there is no such file.
    ValueError
        When it is not a scorer.
    """

    def __init__(self, file: str | Path, *, threads: int = 1) -> None:
        _require("onnxruntime")
        import onnxruntime

        self.file = Path(file)
        if not self.file.exists():
            raise FileNotFoundError(f"{self.file}: no such file; write it with `export_onnx`")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        try:
            self.session = onnxruntime.InferenceSession(
                str(self.file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own kinds of error share no parent
            raise ValueError(
                f"{self.file}: onnxruntime cannot read it ({str(error)[:120]}); export it again"
            ) from error
        if (inputs := [i.name for i in self.session.get_inputs()]) != [INPUT]:
            raise ValueError(f"{self.file}: is not a scorer, it takes {inputs}")

    def predict(self, images: Sequence[np.ndarray], *, batch: int = 1) -> np.ndarray:
        """Scores (n,) float64, those of the exported scorer, of uint8 images (H, W, 3).

        At most `batch` neighbours of one size are scored at once.
        """
        check_images(images)
        out: list[np.ndarray] = [np.zeros(0, np.float32)]
        for _, same in groupby(images, key=np.shape):
            run = list(same)
            for i in range(0, len(run), batch):
                pixels = to_pixels(run[i : i + batch]).contiguous().numpy()
                out.append(self.session.run([OUTPUT], {INPUT: pixels})[0])
        return np.concatenate(out).astype(np.float64)


def _require(*packages: str) -> None:
    """ModuleNotFoundError naming the extra `onnx` unless all of these are installed."""
    for name in packages:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(
                f'{name} is not installed; pip install "rali_lab[onnx]"', name=name
            )


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Suppress what exporter and quantiser print about their progress."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
