"""Reasoning as representation in image quality assessment, step by step and on your own machine.

The names below are imported when they are first used, so `import rali_lab` costs nothing:

>>> import rali_lab as rl
>>> rl.load_scorer().predict([rl.read_image("photo.jpg")])  # doctest: +SKIP
array([3.42])
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rali_lab.data.datasets import read_dataset
    from rali_lab.data.images import find_images, read_image
    from rali_lab.experiments.fit_scorer import fit_scorer
    from rali_lab.rali.scorer import RaliScorer, load_scorer

__version__ = "0.2.0"
__all__ = ["RaliScorer", "find_images", "fit_scorer", "load_scorer", "read_dataset", "read_image"]

_MODULES = {
    "RaliScorer": "rali.scorer",
    "find_images": "data.images",
    "fit_scorer": "experiments.fit_scorer",
    "load_scorer": "rali.scorer",
    "read_dataset": "data.datasets",
    "read_image": "data.images",
}


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
