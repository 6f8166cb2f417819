"""The small CLIP that RALI starts from: the image side aligned with descriptions of the base
corpus.

RALI fine-tunes OpenAI's CLIP, which has seen hundreds of millions of captioned images. Nothing of
the kind fits here, so the image head is pretrained contrastively on the base corpus: images against
MiniLM embeddings of their descriptions, without any score.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rali_lab.data.records import Distortion
from rali_lab.models.clip import embed_texts
from rali_lab.rali.align import SharedTextClipLoss
from rali_lab.reasoner.prompts import describe, findings
from scripts.base_model.perception import perturb


def train_head(
    model: nn.Module,
    statistics: Tensor,
    distortions: Sequence[Sequence[Distortion]],
    *,
    epochs: int,
    lr: float = 2e-3,
    noise: float = 0.2,
    batch: int = 512,
    temperature: float = 0.03,
    seed: int = 0,
    report=print,
) -> None:
    """Contrastive training of ``model.visual.head`` on standardised corpus statistics (n, 196)."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    texts = [describe(findings(d), rng) for d in distortions]
    place = {t: i for i, t in enumerate(dict.fromkeys(texts))}
    z_text, ids = (
        torch.from_numpy(embed_texts(model, list(place), batch=256)),
        torch.tensor([place[t] for t in texts]),
    )
    head, contrast = model.visual.head.train().requires_grad_(True), SharedTextClipLoss()
    scale = nn.Parameter(torch.tensor(1 / temperature).log())
    optimiser = torch.optim.AdamW([*head.parameters(), scale], lr=lr, weight_decay=0.02)
    steps = len(statistics) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, lr, total_steps=epochs * steps, pct_start=0.1
    )
    for epoch in range(epochs):
        order, total = torch.randperm(len(statistics)), 0.0
        for i in range(steps):
            rows = order[i * batch : (i + 1) * batch]
            z = F.normalize(head(perturb(statistics[rows].float(), noise)), dim=-1)
            loss = contrast(z, z_text[ids[rows]], scale.exp(), ids[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            scale.data.clamp_(0, np.log(100))
            total += loss.item()
        if epoch % 5 == 4 or epoch == epochs - 1:
            report(
                f"clip epoch {epoch + 1}: loss {total / steps:.3f}, temperature"
                f" {1 / scale.exp().item():.3f}"
            )
    model.logit_scale.data.copy_(scale.data)
    head.eval().requires_grad_(False)
