"""Hooks on the attention modules of a decoder, in the eager implementation that yields weights and
takes any mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn


def attention_modules(model) -> list[nn.Module]:
    """The self-attention modules of a model's language decoder, layer by layer.

    Raises
    ------
    ValueError
        When the decoder is not a stack of layers with `self_attn`.
    """
    layers = getattr(model.get_decoder(), "layers", None)
    found = [getattr(layer, "self_attn", None) for layer in layers or ()]
    if not found or None in found:
        raise ValueError(
            f"{type(model).__name__}: its decoder {type(model.get_decoder()).__name__} is not a"
            " stack of layers with `self_attn`; attention can be read and blocked in decoders"
            " built like Llama or Qwen2, take one of these"
        )
    return found


@contextmanager
def eager(model) -> Iterator[None]:
    """Compute attention in the plain ("eager") implementation; what was set before comes back
    afterwards.

    Fused kernels neither return weights nor take masks of every form. Raises ValueError for a model
    that cannot switch.
    """
    decoder = model.get_decoder()
    before = decoder.config._attn_implementation
    if before != "eager":
        if not decoder._can_set_attn_implementation():
            raise ValueError(
                f"{type(decoder).__name__} has no eager attention to switch to (it runs"
                f' {before!r}); load the model with attn_implementation="eager", or take one that'
                " implements it"
            )
        decoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        if before != "eager":
            decoder.set_attn_implementation(before)


@contextmanager
def attention_weights(model, use: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Call ``use(layer, weights)`` with every layer's attention weights, (batch, heads, queries,
    keys), as they are computed.

    Only one layer's weights exist at a time; keep what you need of them.
    """

    def hook(layer: int):
        def after(module, args, output):
            weights = output[1] if isinstance(output, tuple) and len(output) > 1 else None
            if weights is None:
                raise ValueError(
                    f"{type(module).__name__} gave no attention weights although eager attention is"
                    " set; this model's code drops them, take another class of it"
                )
            use(layer, weights)

        return after

    with eager(model), ExitStack() as stack:
        for i, module in enumerate(attention_modules(model)):
            stack.callback(module.register_forward_hook(hook(i)).remove)
        yield


@contextmanager
def masking(
    model, change: Callable[[int, int], Tensor | None], *, layers: Sequence[int] | None = None
) -> Iterator[None]:
    """Block attention within the context.

    Parameters
    ----------
    model
        A vision-language model.
    change
        ``change(queries, keys)`` from the numbers of both: what is blocked, bool broadcastable to
        (batch, 1, queries, keys), or None.
    layers
        Where it is blocked (0 is the first); everywhere if None.
    """

    def hook(module, args, kwargs):
        mask = kwargs.get("attention_mask")
        if mask is None or mask.ndim != 4:
            raise ValueError(
                f"{type(module).__name__} was called without a 4-d attention mask although eager"
                " attention is set; this model's code makes masks of its own, take another class"
                " of it"
            )
        blocked = change(mask.shape[-2], mask.shape[-1])
        if blocked is None:
            return None
        least = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
        return args, kwargs | {
            "attention_mask": mask.expand(len(blocked), -1, -1, -1).masked_fill(blocked, least)
        }

    with eager(model), ExitStack() as stack:
        every = attention_modules(model)
        for module in every if layers is None else [every[i] for i in layers]:
            stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield
