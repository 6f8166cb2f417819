"""Rate again from given reasoning: without the image, with another image's reasoning, or with
attention blocked.

This is the causal side of the paper's sentence that the score is read from the text. The reasoning
is a prefill and only the digits of the rating are sampled, so whatever changes in the rating comes
from what was changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch

from rali_lab.interpret.hooks import masking
from rali_lab.interpret.token_groups import GROUPS, Layout, batches, lay_out
from rali_lab.reasoner.prompts import parse

Block = tuple[tuple[str, ...], str]
"""Which tokens (of these groups) must not attend to which group; see `KNOCKOUTS`."""

ALL = ("prompt", "reasoning", "format", "score")
KNOCKOUTS: dict[str, Block] = {
    "score to image": (("score",), "image"),
    "reasoning to image": (("reasoning",), "image"),
    "all to image": (ALL, "image"),
    "score to reasoning": (("score",), "reasoning"),
    "answer to reasoning": (("format", "score"), "reasoning"),
    "score to prompt": (("score",), "prompt"),
}
"""Named interventions. "score" stands for the tokens that decide the digits.

A token that may attend to one that has attended to the image still has access to it, so the wide
ones ("all ...", "answer ...") close these detours; "score to prompt" is a control: what does
blocking something that should not matter cost?"""


@torch.inference_mode()
def rate(
    model,
    processor,
    images: Sequence[np.ndarray] | None,
    reasonings: Sequence[str],
    *,
    block: Block | None = None,
    layers: Sequence[int] | None = None,
    samples: int = 4,
    temperature: float = 1.0,
    top_k: int = 50,
    top_p: float = 0.95,
    batch: int = 64,
    **asked: object,
) -> np.ndarray:
    """Ratings a model gives after a reasoning that is prefilled.

    Parameters
    ----------
    model, processor
        From `rali_lab.models.vlm.load_policy`.
    images
        N (H, W, 3) uint8 arrays, or None: the model reads the reasoning alone.
    reasonings
        What stands between <think> and </think>, one for each image.
    block
        Attention that is blocked, such as ``KNOCKOUTS["score to image"]``.
    layers
        In these alone (0 is the first), all if None.
    samples
        Ratings sampled for each.
    temperature, top_k, top_p
        As in `rali_lab.models.vlm.ask`; 0 for greedy decoding.
    batch
        Reasonings at a time.
    **asked
        `question` and `system` as they were asked.

    Returns
    -------
    ndarray
        (n, samples) float64; NaN where no rating within 1..5 was written (count them, they are
        never replaced). Sampling follows torch's global seed.

    Raises
    ------
    ValueError
        When lists differ in length, a group is unknown, or attention cannot be blocked in this
        model (see `rali_lab.interpret.hooks`).

    Notes
    -----
    Cost: one pass over prompt and reasoning, and a few single tokens.
    """
    if temperature == 0 and samples != 1:
        raise ValueError(
            f"greedy decoding gives one rating, got samples={samples}; set temperature above 0"
        )
    for group in (*block[0], block[1]) if block else ():
        if group not in GROUPS:
            raise ValueError(f"unknown kind of token {group!r}; there are {', '.join(GROUPS)}")
    sampling = (
        {"do_sample": True, "temperature": temperature, "top_k": top_k, "top_p": top_p}
        if temperature
        else {"do_sample": False}
    )
    prefills = [f'<think>{r}</think><answer>{{"rating": ' for r in reasonings]
    out: list[list[float]] = []
    for shown, part in batches(images, prefills, batch):
        layout = lay_out(model, processor, shown, part, **asked)
        with (
            masking(model, blocker(layout, block, samples), layers=layers)
            if block
            else nullcontext()
        ):
            ids = model.generate(
                **layout.inputs,
                max_new_tokens=12,
                num_return_sequences=samples,
                repetition_penalty=1.0,
                **sampling,
            )
        texts = processor.batch_decode(ids[:, layout.groups.shape[1] :], skip_special_tokens=True)
        out += [
            [parse(prefill + t).rating for t in texts[j * samples : (j + 1) * samples]]
            for j, prefill in enumerate(part)
        ]
    return np.array(out, dtype=np.float64).reshape(-1, samples)


def blocker(layout: Layout, block: Block, samples: int = 1):
    """What `rali_lab.interpret.hooks.masking` needs, for `layout` and the single tokens generated
    after it.
    """
    who, what = block
    keys = layout.of(what).repeat_interleave(samples, 0)
    queries = torch.zeros_like(keys)
    for group in who:
        rows = layout.writes_score if group == "score" else layout.of(group)
        queries |= rows.repeat_interleave(samples, 0)

    def change(n_queries: int, n_keys: int) -> torch.Tensor | None:
        blocked = torch.nn.functional.pad(keys, (0, n_keys - keys.shape[1]))[:, None, None, :]
        if n_queries == keys.shape[1]:  # the prompt and the given beginning of the answer
            return queries[:, None, :, None] & blocked
        return blocked if "score" in who else None  # what is generated decides the rating

    return change
