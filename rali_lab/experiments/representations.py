"""Representations of the test images at every stage, from the visual features to RALI."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from rali_lab.data.records import RatedImage, load_images, select
from rali_lab.experiments.main_line import fit_rali, score_everything, train_teacher
from rali_lab.experiments.steps import base_path, image_table, make_images, seed_all
from rali_lab.profiles import Profile
from rali_lab.reproduce.store import Artifact, ArtifactStore


def represent(profile: Profile, *, seed: int = 0) -> Artifact:
    """What every stage makes of the test images: representations.npz, tokens.npz, images.parquet
    (rows in one order).

    representations: `visual` (statistics of the frozen tower, standardised, mean over cells); for
    `base` and `teacher`: `_image` (projector output, mean over image tokens), `_reasoning` and
    `_score` (last-layer states over the reasoning and before the rating), `_text` (MiniLM embedding
    of the reasoning), each the mean over `profile.state_samples` answers; `clip` and `rali` (image
    embeddings before and after alignment). Rows of NaN where no answer could be read. tokens: all
    visual tokens of some images, before merging (`map`), merged (`cells`), projected (`projected`),
    (images, tokens, channels).
    """
    data, scored = make_images(profile), score_everything(profile, seed=seed)
    folders = {"base": base_path(profile), "teacher": train_teacher(profile, seed=seed).path}
    rali = fit_rali(profile, seed=seed)

    def make(folder: Path) -> None:
        test = select(load_images(data.path), split="test")
        answers = pd.read_parquet(scored.path / "answers.parquet")
        few = answers[answers["sample"] < profile.state_samples]
        by_model = {name: few[few["method"] == name] for name in folders}
        np.savez(
            folder / "representations.npz", **_stages(test, folders, by_model, rali.path / "model")
        )
        photos = select(test, domain="photo")[:TOKENS_OF]
        np.savez(folder / "tokens.npz", **_visual_tokens(photos, folders["base"]))
        image_table(test).to_parquet(folder / "images.parquet", index=False)

    return ArtifactStore().make(
        "representations",
        make,
        params={"samples": profile.state_samples},
        inputs=[data, scored, rali],
    )


TOKENS_OF = 60
"""Test images of the RL domain whose single visual tokens `represent` keeps."""


def represent_images(
    profile: Profile, made: list[RatedImage], *, seed: int = 0
) -> dict[str, np.ndarray]:
    """The stages of `represent` for other images, (n, d) each; base and teacher are asked now.

    Nothing is stored.
    """
    from rali_lab.models.vlm import load_policy
    from rali_lab.reasoner.rationales import write_rationales

    folders = {"base": base_path(profile), "teacher": train_teacher(profile, seed=seed).path}
    seed_all(seed)
    answers = {
        who: write_rationales(*load_policy(where), made, samples=profile.state_samples)
        for who, where in folders.items()
    }
    return _stages(made, folders, answers, fit_rali(profile, seed=seed).path / "model")


def _stages(
    made: list[RatedImage], folders: dict[str, Path], answers: dict[str, pd.DataFrame], rali: Path
) -> dict[str, np.ndarray]:
    import torch

    from rali_lab.models.clip import load_base_clip
    from rali_lab.models.image_encoder import embed_images
    from rali_lab.models.towers import to_pixels
    from rali_lab.models.vlm import load_policy
    from rali_lab.rali.scorer import RaliScorer

    pixels, clip = [p.pixels() for p in made], load_base_clip()
    tower = load_policy(folders["base"])[0].model.vision_tower.timm_model
    with torch.inference_mode():
        seen = [
            tower.standardise(tower.statistics(to_pixels(pixels[i : i + 32])))
            for i in range(0, len(pixels), 32)
        ]
    found = {"visual": torch.cat(seen).mean((2, 3)).numpy()}
    for who, where in folders.items():
        found |= {
            f"{who}_{place}": x
            for place, x in _read_states(where, made, answers[who], clip).items()
        }
    return found | {
        "clip": embed_images(clip, pixels),
        "rali": embed_images(RaliScorer.load(rali).visual_, pixels),
    }


def _visual_tokens(shown: list[RatedImage], base: Path) -> dict[str, np.ndarray]:
    import torch

    from rali_lab.models.towers import to_pixels
    from rali_lab.models.vlm import load_policy

    vlm = load_policy(base)[0].model
    tower, pixels = vlm.vision_tower.timm_model, to_pixels([p.pixels() for p in shown])
    with torch.inference_mode():
        cells = tower.forward_features(pixels).flatten(2).mT
        tokens = {
            "map": tower.feature_map(pixels).flatten(2).mT,
            "cells": cells,
            "projected": vlm.multi_modal_projector(cells),
        }
    return {k: v.numpy() for k, v in tokens.items()}


def _read_states(folder: Path, made: list[RatedImage], answers: pd.DataFrame, clip) -> dict:
    """States and text embeddings of one model's answers, (n, d) each, averaged over the answers of
    an image.
    """
    from rali_lab.interpret.hidden_states import hidden_states
    from rali_lab.models.clip import embed_texts
    from rali_lab.models.vlm import load_policy
    from rali_lab.reasoner.rationales import is_valid

    row = {p.id: i for i, p in enumerate(made)}
    at = answers["image"].map(row).to_numpy()
    layers = {"image": 0, "reasoning": -1, "score": -1}
    states = hidden_states(
        *load_policy(folder), [made[i].pixels() for i in at], answers["text"].tolist(), layer=layers
    )
    text = embed_texts(clip, answers["reasoning"].tolist())
    states["text"] = np.where(is_valid(answers).to_numpy()[:, None], text, np.nan)
    means = {
        place: pd.DataFrame(x).groupby(at).mean().reindex(range(len(made)))
        for place, x in states.items()
    }  # NaN rows are left out
    return {place: mean.to_numpy(np.float32) for place, mean in means.items()}
