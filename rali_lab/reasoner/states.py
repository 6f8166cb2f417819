"""What a model holds inside while it reads its own answer: hidden states over the picture, the reasoning and the score.

The completion is given, not generated (teacher forcing), so the states belong to texts that are stored anyway. Works with any
image-text-to-text model of transformers that marks picture tokens with one id, and with fast tokenizers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rali_lab.reasoner.policy import conversation
from rali_lab.reasoner.prompts import SCORE_QUESTION

PLACES = ("picture", "reasoning", "score")
"""Where states are read: the mean over picture tokens, the mean over reasoning tokens, the token before the rating."""

_THINK = re.compile(r"<think>(.+?)</think>", re.DOTALL)
_RATING = re.compile(r'"rating":\s*(?=[0-9])')


def spans(completion: str) -> dict[str, tuple[int, int]] | None:
    """Character spans of the reasoning and of what stands right before the rating; None if either is missing.

    >>> spans('<think>It is blurred.</think><answer>{"rating": 2.10}</answer>')
    {'reasoning': (7, 21), 'score': (38, 48)}
    >>> spans("2.10") is None
    True
    """
    think, rating = _THINK.search(completion), _RATING.search(completion)
    if think is None or rating is None:
        return None
    return {"reasoning": think.span(1), "score": rating.span()}


@torch.inference_mode()
def hidden_states(
    model,
    processor,
    pictures: Sequence[np.ndarray],
    completions: Sequence[str],
    *,
    layer: int | Mapping[str, int] = -1,
    question: str = SCORE_QUESTION,
    system: str | None = None,
    batch: int = 32,
) -> dict[str, np.ndarray]:
    """Hidden states of a model at three places of an answer.

    Parameters
    ----------
    pictures, completions : n (H, W, 3) uint8 arrays and the answer to each.
    layer : which states: 0 what enters the decoder (for picture tokens: the projector's output), -1 what leaves it; one for all places
        or one for each, such as ``{"picture": 0, "reasoning": -1, "score": -1}``.
    question, system : as they were asked.

    Returns
    -------
    {"picture", "reasoning", "score"}: (n, hidden) float32 each; the last two hold rows of NaN where a completion has no reasoning or
    no rating (count them: ``np.isnan(x).any(1).sum()``). Cost: one forward pass over prompt and answer.

    Raises
    ------
    ValueError
        When the prompt holds no picture token or lists differ in length.
    """
    if len(pictures) != len(completions):
        raise ValueError(f"{len(pictures)} pictures but {len(completions)} completions; give one completion for every picture")
    prompt = processor.apply_chat_template(conversation(question, system=system), add_generation_prompt=True, tokenize=False)
    layers = layer if isinstance(layer, Mapping) else dict.fromkeys(PLACES, layer)
    parts: dict[str, list[Tensor]] = {place: [] for place in PLACES}
    for i in range(0, len(pictures), batch):
        inputs, where = _inputs(model, processor, prompt, pictures[i : i + batch], completions[i : i + batch])
        hidden = model(**inputs, output_hidden_states=True, use_cache=False).hidden_states
        for place in PLACES:
            states = hidden[layers[place]].float()
            weight = where[place].to(states.device, states.dtype)
            total = weight.sum(1, keepdim=True)
            mean = torch.einsum("bt,btd->bd", weight, states) / total.clamp_min(1)
            parts[place].append(torch.where(total > 0, mean, torch.nan).cpu())
    return {place: torch.cat(found).numpy() for place, found in parts.items()}


def _inputs(model, processor, prompt: str, pictures, completions) -> tuple[dict, dict[str, Tensor]]:
    """Model inputs for prompt + completion, and where the three places are, (batch, length) bool each."""
    inputs = dict(processor(
        images=[Image.fromarray(np.asarray(x)) for x in pictures], text=[prompt] * len(pictures), padding=True, return_tensors="pt"
    ))  # fmt: skip
    ids, mask = inputs.pop("input_ids"), inputs.pop("attention_mask")
    inputs.pop("mm_token_type_ids", None)  # of the prompt's length; models work without
    picture = ids == getattr(model.config, "image_token_id", getattr(model.config, "image_token_index", None))
    if not picture.any(1).all():
        raise ValueError("the prompt holds no picture token; give the processor that belongs to the model")
    answers = processor.tokenizer(list(completions), add_special_tokens=False, padding=True, padding_side="right",
                                  return_offsets_mapping=True, return_tensors="pt")  # fmt: skip
    where = {place: torch.zeros(answers["input_ids"].shape, dtype=torch.bool) for place in PLACES}
    for row, completion in enumerate(completions):
        found = spans(completion)
        if found is None:
            continue
        start, end = answers["offset_mapping"][row].T
        low, high = found["reasoning"]
        where["reasoning"][row] = (start >= low) & (end <= high) & (end > start)
        where["score"][row, int(torch.nonzero((end > start) & (end <= found["score"][1])).max())] = True
    nothing = torch.zeros_like(picture)
    places = {p: torch.cat([picture if p == "picture" else nothing, where[p]], 1) for p in PLACES}
    inputs |= {"input_ids": torch.cat([ids, answers["input_ids"]], 1), "attention_mask": torch.cat([mask, answers["attention_mask"]], 1)}
    return {k: v.to(model.device) for k, v in inputs.items()}, places
