"""Make the base models: `python -m scripts.base_model.build` (what `make base-model` runs).

Four steps, seeded: statistics of the corpus, the neck of the teacher's tower, the decoder, the head
of the small CLIP. The results replace `vlm/` and `clip/` in rali_lab/assets; `card.json` records
data, sizes, cost and what the model can do on corpus images held out.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rali_lab.io import ASSETS, write_json
from rali_lab.models.clip import save_base_clip
from rali_lab.models.model_folder import write_hashes
from rali_lab.models.towers import load_lite0, squash
from rali_lab.models.vlm import build_tiny, tiny_processor, train_tokenizer
from scripts.base_model.decoder import sample_texts, train_decoder
from scripts.base_model.features import Features, extract
from scripts.base_model.perception import read_levels, scores, targets, train_perception
from scripts.base_model.pretrain_clip import pretrain_clip

HELD_OUT = 2000


class PooledNeck(nn.Module):
    """A tower's neck on statistics already averaged over cells: what `Neck` does to the mean of its
    tokens, but faster.
    """

    def __init__(self, neck: nn.Module) -> None:
        super().__init__()
        self.neck = neck

    def forward(self, x: Tensor) -> Tensor:
        return self.neck.cell(x[:, :, None, None])[:, :, 0, 0] + self.neck.whole(x)


def standardised(raw: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Float16 statistics (n, d, g, g) as standardised float16, with the mean and deviation (d,) per
    channel over images and cells.
    """
    x, axes = torch.from_numpy(raw), (0, 2, 3)
    n = x.numel() / x.shape[1]
    mean = (sum(p.double().sum(axes) for p in x.split(2000)) / n).view(1, -1, 1, 1)
    var = sum(((p.double() - mean) ** 2).sum(axes) for p in x.split(2000)) / n
    mean, std = mean.float(), var.sqrt().float().clamp_min(1e-3).view(1, -1, 1, 1)
    z = [((p.float() - mean) / std).clamp(-100, 100).half() for p in x.split(2000)]
    return torch.cat(z), mean.flatten(), std.flatten()


def build(
    features: Features,
    out: Path,
    *,
    epochs: int,
    steps: int,
    clip_epochs: int,
    noise: float,
    clip_noise: float,
    seed: int,
    report=print,
) -> dict:
    """Train everything on `features` and save it under `out`; returns the card."""
    n, started, card = len(features.distortions) - HELD_OUT, time.perf_counter(), {}
    levels = torch.from_numpy(targets(features.distortions))
    z, mean, std = standardised(features.s16)
    pooled = torch.cat([squash(x.float()).mean((2, 3)) for x in z.split(2000)])

    rng = np.random.default_rng(seed)
    tokenizer = train_tokenizer(sample_texts(features.distortions[:8000], rng))
    torch.manual_seed(seed)
    processor, model = tiny_processor(tokenizer), build_tiny(tokenizer)
    tower = load_lite0(model.model.vision_tower.timm_model)
    tower.stat_mean.copy_(mean)
    tower.stat_std.copy_(std)
    neck = PooledNeck(tower.neck)
    read_out = train_perception(
        neck,
        pooled[:n],
        levels[:n],
        tower.num_features,
        epochs=epochs,
        noise=noise,
        seed=seed,
        held_out=(pooled[n:], levels[n:]),
        report=report,
    )
    with torch.inference_mode():
        found = read_levels(read_out(neck.eval()(pooled[n:])))
    card["perception_held_out"] = scores(found, levels[n:])
    train_decoder(
        model,
        processor,
        z[:n],
        features.distortions[:n],
        steps=steps,
        noise=noise,
        seed=seed,
        report=report,
    )
    model.eval().half().save_pretrained(out / "vlm")  # half the size; loaded as float32
    processor.save_pretrained(out / "vlm")
    write_hashes(out / "vlm")

    clip = pretrain_clip(
        features.s8[:n],
        features.distortions[:n],
        epochs=clip_epochs,
        noise=clip_noise,
        seed=seed,
        report=report,
    )
    save_base_clip(clip, out / "clip")
    card |= {
        "corpus_images": n,
        "epochs": epochs,
        "decoder_steps": steps,
        "clip_epochs": clip_epochs,
        "noise": noise,
        "clip_noise": clip_noise,
        "seed": seed,
        "vlm_parameters": sum(p.numel() for p in model.parameters()),
        "clip_image_parameters": sum(p.numel() for p in clip.visual.parameters()),
        "training_seconds": round(time.perf_counter() - started),
        "cores": torch.get_num_threads(),
    }
    write_json(out / "card.json", card)
    return card


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=84000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--clip-epochs", type=int, default=40)
    parser.add_argument("--noise", type=float, default=0.25)
    parser.add_argument("--clip-noise", type=float, default=0.15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ASSETS)
    args = parser.parse_args(argv)
    features = extract(args.images, seed=1000 + args.seed)
    card = build(
        features,
        args.out,
        epochs=args.epochs,
        steps=args.steps,
        clip_epochs=args.clip_epochs,
        noise=args.noise,
        clip_noise=args.clip_noise,
        seed=args.seed,
    )
    print(json.dumps(card, indent=2))


if __name__ == "__main__":
    main()
