"""What the score tokens attend to: attention of the tokens that decide a rating, by kind of token,
layer and head.

Attention says where a head reads, not what the output depends on (Jain & Wallace, arXiv
1902.10186): a head may attend to tokens whose values change nothing. Pair every share with a
knock-out (`rali_lab.interpret.interventions`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rali_lab.interpret.hooks import attention_modules, attention_weights
from rali_lab.interpret.token_groups import GROUPS, batches, lay_out


@dataclass(frozen=True)
class AttentionShare:
    """Attention of the score tokens over `GROUPS`.

    Attributes
    ----------
    share : ndarray
        (n, layers, heads, 6) float32, sums to 1 over the groups; the mean over the tokens that
        decide the digits. Rows of NaN where an answer has no rating (`n_invalid` counts them).
    tokens : ndarray
        (n, 6) tokens of each group that can be attended to (mean over the same positions: earlier
        digits count as "score").
    """

    share: np.ndarray
    tokens: np.ndarray

    @property
    def n_invalid(self) -> int:
        """Answers without a rating, left out of every mean."""
        return int(np.isnan(self.share[:, 0, 0, 0]).sum())

    def mean(self) -> dict[str, float]:
        """Share of each group, mean over answers, layers and heads."""
        return dict(zip(GROUPS, np.nanmean(self.share, axis=(0, 1, 2)).tolist(), strict=True))

    def per_token(self) -> dict[str, float]:
        """Attention per token of a group, in units of an even spread over all tokens (1 = no
        preference).
        """
        even = self.tokens / self.tokens.sum(1, keepdims=True)
        ratio = np.nanmean(self.share, axis=(1, 2)) / np.where(even > 0, even, np.nan)
        return {
            g: float(np.nanmean(ratio[:, i])) if np.isfinite(ratio[:, i]).any() else np.nan
            for i, g in enumerate(GROUPS)
        }

    def text_share(self) -> np.ndarray:
        """Per answer (n,): attention on the reasoning over attention on reasoning and image, mean
        over layers and heads.

        The paper's "95 % on the reasoning, 5 % on the visual tokens" (Fig. 3) in our reading: of
        the attention on these two.
        """
        mean = (
            np.nanmean(self.share, axis=(1, 2)) if len(self.share) else np.zeros((0, len(GROUPS)))
        )
        text, image = (mean[:, GROUPS.index(g)] for g in ("reasoning", "image"))
        return text / (text + image)


@dataclass(frozen=True)
class ScoreRow:
    """One answer's attention: weights (layers, heads, tokens) of its score tokens (their mean), the
    tokens as text and their groups.
    """

    tokens: list[str]
    groups: list[str]
    weights: np.ndarray

    def of(self, group: str) -> np.ndarray:
        """(layers, heads, tokens of the group)."""
        return self.weights[..., [g == group for g in self.groups]]


@torch.inference_mode()
def attention_share(
    model,
    processor,
    images: Sequence[np.ndarray],
    completions: Sequence[str],
    *,
    batch: int = 16,
    **asked: object,
) -> AttentionShare:
    """Attention of the score tokens over the kinds of token.

    Parameters
    ----------
    model, processor
        From `rali_lab.models.vlm.load_policy`.
    images, completions
        N (H, W, 3) uint8 arrays and the whole answer to each.
    batch
        Answers at a time.
    **asked
        `question` and `system` as they were asked (`rali_lab.interpret.token_groups.lay_out`).

    Notes
    -----
    Cost: one forward pass with eager attention; of its maps only the rows of the score tokens are
    kept, one layer at a time.
    """
    shares, tokens = [], []
    for shown, answers in batches(images, completions, batch):
        layout, rows = _rows(model, processor, shown, answers, asked)
        kind = torch.stack([layout.of(g) for g in GROUPS], 1).float()  # (batch, group, key)
        shares.append(torch.einsum("blhk,bgk->blhg", rows, kind).cpu())
        tokens.append(_visible(layout, kind).cpu())
    return AttentionShare(torch.cat(shares).numpy(), torch.cat(tokens).numpy())


@torch.inference_mode()
def score_rows(
    model, processor, images: Sequence[np.ndarray], completions: Sequence[str], **asked: object
) -> list[ScoreRow]:
    """Attention of the score tokens to every single token, for a few answers (figures)."""
    layout, rows = _rows(model, processor, images, completions, asked)
    out = []
    for ids, groups, weights in zip(
        layout.inputs["input_ids"].tolist(), layout.groups.tolist(), rows.cpu().numpy(), strict=True
    ):
        real = [k for k, g in enumerate(groups) if g >= 0]
        names = [processor.tokenizer.decode([ids[k]]) for k in real]
        out.append(ScoreRow(names, [GROUPS[groups[k]] for k in real], weights[..., real]))
    return out


def _rows(model, processor, images, completions, asked):
    """Layout, and the mean attention row of the tokens that decide the rating: (batch, layers,
    heads, keys), NaN without a rating.
    """
    layout = lay_out(model, processor, images, completions, **asked)
    kept: list[torch.Tensor] = [torch.empty(0)] * len(attention_modules(model))
    writes = layout.writes_score.float()
    weight = writes / writes.sum(1, keepdim=True)  # NaN where nothing decides a rating

    def keep(layer: int, weights: torch.Tensor) -> None:
        rows = torch.einsum("bq,bhqk->bhk", weight.nan_to_num(), weights.float())
        kept[layer] = torch.where(weight.isnan().any(1)[:, None, None], torch.nan, rows)

    with attention_weights(model, keep):
        model(**layout.inputs, use_cache=False)
    return layout, torch.stack(kept, 1)


def _visible(layout, kind: torch.Tensor) -> torch.Tensor:
    """Tokens of each group at or before the tokens that decide the rating, mean over these: (batch,
    group).
    """
    writes = layout.writes_score.float()
    before = torch.cumsum(kind, 2)  # tokens of the group up to each position
    return torch.einsum("bgk,bk->bg", before, writes) / writes.sum(1, keepdim=True)
