"""Parameters, seconds per image and peak memory, measured so that two models can be compared."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Median and full range over the repeats."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class SideBySide:
    """Result of `measure_side_by_side`; prints one line per name.

    Attributes
    ----------
    seconds
        Seconds per image, by name.
    ratio
        The same divided by the reference (the first name) *within a round*, by name.
    n_images, repeats
        Images per call, timed rounds.
    """

    seconds: dict[str, Spread]
    ratio: dict[str, Spread]
    n_images: int
    repeats: int

    def __str__(self) -> str:
        return "\n".join(
            f"{name}: {1e3 * s.median:.3g} ms per image ({1e3 * s.low:.3g} to {1e3 * s.high:.3g}), "
            f"{r.median:.2%} of {next(iter(self.seconds))} ({r.low:.2%} to {r.high:.2%})"
            for (name, s), r in zip(self.seconds.items(), self.ratio.values(), strict=True)
        )


def count_parameters(*parts) -> int:
    """Numbers held by modules, tensors or arrays, each storage counted once.

    Tied weights and views count once, wherever they occur among ``parts``. Buffers of modules
    (running means) do not count; tables kept outside a module (PCA, basis vectors) should be passed
    as arrays, else they are overlooked.

    Parameters
    ----------
    *parts
        Modules (torch.nn.Module), torch.Tensor or numpy arrays.
    """
    import numpy as np
    import torch

    numbers: dict[int, int] = {}
    storages = {}
    for part in parts:
        tensors = part.parameters() if isinstance(part, torch.nn.Module) else [part]
        for tensor in tensors:
            tensor = torch.from_numpy(tensor) if isinstance(tensor, np.ndarray) else tensor
            storage = tensor.untyped_storage()
            storages[storage._cdata] = storage  # kept, so that no address is used twice
            whole = storage.nbytes() // tensor.element_size()
            numbers[storage._cdata] = min(whole, numbers.get(storage._cdata, 0) + tensor.numel())
    return sum(numbers.values())


def measure_side_by_side(
    callables: Mapping[str, Callable[[], object]],
    *,
    n_images: int,
    repeats: int = 5,
    warmup: int = 1,
) -> SideBySide:
    """Time several methods in turn, round after round, in one process.

    A machine speeds up and slows down by tens of per cent over minutes; runs taken one after the
    other mistake that for a difference. Here every round runs all methods, in alternating order,
    and ratios are formed inside a round.

    Parameters
    ----------
    callables
        {name: function that scores ``n_images`` images}; the first is the reference.
    n_images
        Images scored by one call.
    repeats, warmup
        Timed and untimed rounds.

    Returns
    -------
    SideBySide
        Wall-clock medians with the full range of the rounds, which for 5 rounds covers the median
        with 94 %.
    """
    if not callables or n_images < 1 or repeats < 1:
        raise ValueError(
            f"got {len(callables)} callables, n_images={n_images}, repeats={repeats}; expected 1 or"
            " more"
        )
    rounds: list[dict[str, float]] = []
    for turn in range(-warmup, repeats):
        names = list(callables) if turn % 2 == 0 else list(callables)[::-1]
        rounds.append({name: _seconds(callables[name]) / n_images for name in names})
    rounds = rounds[warmup:]
    reference = next(iter(callables))
    return SideBySide(
        seconds={name: Spread.of(r[name] for r in rounds) for name in callables},
        ratio={name: Spread.of(r[name] / r[reference] for r in rounds) for name in callables},
        n_images=n_images,
        repeats=repeats,
    )


def peak_memory(
    function: Callable[[], object], *, resident: Iterable = (), device: str | None = None
) -> int:
    """Most bytes of torch tensors alive at once while ``function()`` runs.

    On a CPU every operation is intercepted: a storage counts from the first operation that makes or
    reads it until it is freed, views and tied weights once. The process's resident set (RSS) is not
    used, because the interpreter and the libraries hold some 500 MB, the allocator keeps freed
    pages, and both would drown a model of a few megabytes and hide the difference
    between two models. Not counted: work space inside a kernel (im2col, matrix packing), arrays
    outside torch, tensors made in other threads. On CUDA: `torch.cuda.max_memory_allocated`, which
    counts work space too, but also whatever else lives on the device.

    Parameters
    ----------
    function
        Called once, without arguments.
    resident
        Modules or tensors loaded for the call; all their parameters and buffers count throughout.
    device
        "cpu" or "cuda"; by default where the resident tensors are, "cpu" if there are none.
    """
    import torch

    tensors = [
        t
        for part in resident
        for t in (
            [*part.parameters(), *part.buffers()] if isinstance(part, torch.nn.Module) else [part]
        )
    ]
    device = device or next((t.device.type for t in tensors), "cpu")
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    if device != "cpu":
        raise ValueError(
            f"device={device!r} cannot be measured; move the models to 'cpu' or 'cuda'"
        )
    tracker = _live_storages()
    tracker.add(tensors)
    try:
        with tracker:
            function()
    finally:
        tracker.detach()
    return tracker.peak


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    _synchronize()
    return time.perf_counter() - start


def _synchronize() -> None:
    import sys

    torch = sys.modules.get("torch")  # without torch loaded there is no device work to wait for
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()


def _live_storages():
    """A torch dispatch mode that keeps the sum and the peak of the live storages' bytes."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class LiveStorages(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.live, self.peak = 0, 0
            self._tracked: dict = {}

        def add(self, tensors) -> None:
            for tensor in tensors:
                if isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided:
                    storage = tensor.untyped_storage()
                    known, finalizer = self._tracked.get(id(storage), (0, None))
                    finalizer = finalizer or weakref.finalize(storage, self._freed, id(storage))
                    self._tracked[id(storage)] = (storage.nbytes(), finalizer)
                    self.live += storage.nbytes() - known
            self.peak = max(self.peak, self.live)

        def _freed(self, key: int) -> None:
            self.live -= self._tracked.pop(key)[0]

        def detach(self) -> None:
            for _, finalizer in self._tracked.values():
                finalizer.detach()

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            kwargs = kwargs or {}
            with self:  # inference mode hands over composites: decompose them into operations
                out = func.decompose(*args, **kwargs)
            if out is NotImplemented:
                self.add(tree_leaves((args, kwargs)))
                out = func(*args, **kwargs)
            self.add(tree_leaves(out))
            return out

    return LiveStorages()
