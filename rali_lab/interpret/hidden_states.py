"""Hidden states of a model over its own answer: at the image, the reasoning and the score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from rali_lab.interpret.token_groups import batches, lay_out

PLACES = ("image", "reasoning", "score")
"""Where states are read: the mean over image tokens, the mean over reasoning tokens, the token
before the rating."""


@torch.inference_mode()
def hidden_states(
    model,
    processor,
    images: Sequence[np.ndarray],
    completions: Sequence[str],
    *,
    layer: int | Mapping[str, int] = -1,
    batch: int = 32,
    **asked: object,
) -> dict[str, np.ndarray]:
    """Hidden states of a model at three places of an answer.

    Parameters
    ----------
    model, processor
        From `rali_lab.models.vlm.load_policy`.
    images, completions
        N (H, W, 3) uint8 arrays and the answer to each.
    layer
        Which states: 0 what enters the decoder (for image tokens: the projector's output), -1 what
        leaves it; one for all places or one for each, such as ``{"image": 0, "reasoning": -1,
        "score": -1}``.
    batch
        Answers at a time.
    **asked
        `question` and `system` as they were asked.

    Returns
    -------
    dict
        "image", "reasoning", "score": (n, hidden) float32 each; the last two hold rows of NaN where
        a completion has no reasoning or no rating (count them: ``np.isnan(x).any(1).sum()``).

    Raises
    ------
    ValueError
        When the prompt holds no image token or lists differ in length.

    Notes
    -----
    Cost: one forward pass over prompt and answer.
    """
    layers = layer if isinstance(layer, Mapping) else dict.fromkeys(PLACES, layer)
    parts: dict[str, list[Tensor]] = {place: [] for place in PLACES}
    for shown, answers in batches(images, completions, batch):
        layout = lay_out(model, processor, shown, answers, **asked)
        hidden = model(**layout.inputs, output_hidden_states=True, use_cache=False).hidden_states
        first = layout.writes_score & (layout.writes_score.cumsum(1) == 1)
        both = (layout.of("reasoning").any(1) & first.any(1))[:, None]
        where = {
            "image": layout.of("image"),
            "reasoning": layout.of("reasoning") & both,
            "score": first & both,
        }
        for place in PLACES:
            states = hidden[layers[place]].float()
            weight = where[place].to(states.dtype)
            total = weight.sum(1, keepdim=True)
            mean = torch.einsum("bt,btd->bd", weight, states) / total.clamp_min(1)
            parts[place].append(torch.where(total > 0, mean, torch.nan).cpu())
    return {place: torch.cat(found).numpy() for place, found in parts.items()}
