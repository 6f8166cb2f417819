"""The kind of every token of a prompt and its answer, so that attention, knock-outs and states can
be read by kind.

The answer is given, not generated (teacher forcing). Works with any image-text-to-text model of
transformers that marks image tokens with one id, and with fast tokenizers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rali_lab.models.vlm import conversation
from rali_lab.reasoner.prompts import SCORE_QUESTION

GROUPS = ("sink", "image", "prompt", "reasoning", "format", "score")
"""Kinds of token: the first one of the sequence, which attracts attention whatever it is (Xiao et
al., arXiv 2309.17453); the image's; the rest of the prompt; what stands between <think> and
</think>; tags and JSON of the answer; the digits of the rating."""
PADDING = -1

_THINK = re.compile(r"<think>(.*?)(?:</think>|$)", re.DOTALL)
_RATING = re.compile(r'"rating":\s*([0-9.]*)')


class Spans(NamedTuple):
    """Character spans (start, end) of an answer's reasoning and of its rating's digits; None where
    there is none.

    A rating that is still to be written (the answer ends before its first digit) is an empty span.
    """

    reasoning: tuple[int, int] | None
    score: tuple[int, int] | None


def spans(answer: str) -> Spans:
    """Where the reasoning and the rating stand in an answer.

    >>> spans('<think>It is blurred.</think><answer>{"rating": 2.10}</answer>')
    Spans(reasoning=(7, 21), score=(48, 52))
    >>> spans("2.10"), spans('<think>x</think><answer>{"rating": ').score
    (Spans(reasoning=None, score=None), (35, 35))
    """
    think, rating = _THINK.search(answer), _RATING.search(answer)
    open_ended = rating is not None and (
        rating.end(1) > rating.start(1) or rating.end() == len(answer)
    )
    return Spans(
        think.span(1) if think and think.end(1) > think.start(1) else None,
        rating.span(1) if open_ended else None,
    )


@dataclass(frozen=True)
class Layout:
    """A batch of prompts with answers, padded on the left.

    Attributes
    ----------
    inputs : dict of Tensor
        What the model takes.
    groups : Tensor
        (batch, length) int8, index into `GROUPS`, -1 for padding.
    writes_score : Tensor
        (batch, length) bool, tokens whose next token is a digit of the rating, that is, those that
        decide it.
    """

    inputs: dict[str, Tensor]
    groups: Tensor
    writes_score: Tensor

    def of(self, group: str) -> Tensor:
        """(batch, length) bool: tokens of a group."""
        return self.groups == GROUPS.index(group)

    def to(self, device: torch.device | str) -> Layout:
        return Layout(
            {k: v.to(device) for k, v in self.inputs.items()},
            self.groups.to(device),
            self.writes_score.to(device),
        )


def lay_out(
    model,
    processor,
    images: Sequence[np.ndarray] | None,
    answers: Sequence[str],
    *,
    question: str = SCORE_QUESTION,
    system: str | None = None,
) -> Layout:
    """Prompt and answer of every image as one batch of inputs, with the kind of every token.

    Parameters
    ----------
    model, processor
        From `rali_lab.models.vlm.load_policy`.
    images
        N (H, W, 3) uint8 arrays, or None: the question is then asked without an image.
    answers
        The n answers or beginnings of answers.
    question, system
        As they were asked.

    Raises
    ------
    ValueError
        When lists differ in length, the model marks no image tokens, or the prompt holds none
        although there are images.
    """
    require_same_length(images, answers)
    turns = conversation(question, system=system)
    if images is None:
        turns[-1]["content"] = [c for c in turns[-1]["content"] if c["type"] != "image"]
    prompt = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    shown = {} if images is None else {"images": [Image.fromarray(np.asarray(x)) for x in images]}
    inputs = dict(
        processor(text=[prompt] * len(answers), padding=True, return_tensors="pt", **shown)
    )
    asked, real = inputs.pop("input_ids"), inputs.pop("attention_mask").bool()
    prompts = [ids[mask] for ids, mask in zip(asked, real, strict=True)]
    written = processor.tokenizer(
        list(answers), add_special_tokens=False, return_offsets_mapping=True
    )
    rows = [
        _row(p, ids, offsets, answer, _image_token(model), images is not None)
        for p, ids, offsets, answer in zip(
            prompts, written["input_ids"], written["offset_mapping"], answers, strict=True
        )
    ]
    ids, groups, writes = zip(*rows, strict=True)
    if (
        kinds := inputs.get("mm_token_type_ids")
    ) is not None:  # Qwen2.5-VL places its image tokens by them; answers are text, 0
        known = [k[mask] for k, mask in zip(kinds, real, strict=True)]
        inputs["mm_token_type_ids"] = _pad(
            [torch.cat([k, k.new_zeros(len(i) - len(k))]) for k, i in zip(known, ids, strict=True)],
            0,
        )
    inputs |= {
        "input_ids": _pad(ids, processor.tokenizer.pad_token_id),
        "attention_mask": _pad([torch.ones_like(i) for i in ids], 0),
    }
    return Layout(inputs, _pad(groups, PADDING), _pad(writes, False)).to(model.device)


def batches(
    images: Sequence | None, answers: Sequence[str], size: int
) -> Iterator[tuple[Sequence | None, Sequence[str]]]:
    """Images (or None) and answers, `size` at a time; ValueError when there is not one of each."""
    require_same_length(images, answers)
    for i in range(0, len(answers), size):
        yield None if images is None else images[i : i + size], answers[i : i + size]


def require_same_length(images: Sequence | None, answers: Sequence[str]) -> None:
    if images is not None and len(images) != len(answers):
        raise ValueError(
            f"{len(images)} images but {len(answers)} answers; give one answer for every image"
        )


def _image_token(model) -> int:
    for name in ("image_token_id", "image_token_index"):
        if (found := getattr(model.config, name, None)) is not None:
            return found
    raise ValueError(
        f"{type(model).__name__} marks no image tokens (its config has neither image_token_id nor"
        " image_token_index); it mixes images in elsewhere, and these measures do not apply to it"
    )


def _row(
    prompt: Tensor, ids: list[int], offsets, answer: str, image_token: int, with_image: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, their groups and whether each decides a digit, for one prompt and its answer."""
    image = prompt == image_token
    if with_image and not image.any():
        raise ValueError(
            "the prompt holds no image token; give the processor that belongs to the model"
        )
    asked = torch.where(image, GROUPS.index("image"), GROUPS.index("prompt")).to(torch.int8)
    asked[0] = GROUPS.index("image" if image[0] else "sink")
    start, end = torch.tensor(offsets, dtype=torch.long).reshape(-1, 2).T
    written, found = torch.full((len(ids),), GROUPS.index("format")).to(torch.int8), spans(answer)
    for group, span in found._asdict().items():
        if span is not None:
            written[(start >= span[0]) & (end <= span[1]) & (end > start)] = GROUPS.index(group)
    groups = torch.cat([asked, written])
    writes = torch.cat([groups[1:] == GROUPS.index("score"), torch.tensor([False])])
    if found.score is not None and found.score[1] == len(answer):
        writes[-1] = True  # the answer breaks off where its rating, or the rest of it, belongs
    return torch.cat([prompt, torch.tensor(ids, dtype=torch.long)]), groups, writes


def _pad(rows: Sequence[Tensor], value) -> Tensor:
    longest = max(map(len, rows))
    return torch.stack([torch.cat([r.new_full((longest - len(r),), value), r]) for r in rows])
