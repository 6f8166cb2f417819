"""What is looked at inside the models that the line has made: representations, and where a score
comes from.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from rali_lab.data.records import RatedImage, load_images, mos_of, select
from rali_lab.experiments.main_line import (
    UNREASONED,
    base_path,
    fine_tune_teacher,
    finished,
    fit_rali,
    make_images,
    score_everything,
    seed_all,
    train_teacher,
)
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
        found = _stages(
            test, folders, {who: few[few["method"] == who] for who in folders}, rali.path / "model"
        )
        np.savez(folder / "representations.npz", **found)
        np.savez(
            folder / "tokens.npz",
            **_visual_tokens(select(test, domain="photo")[:TOKENS_OF], folders["base"]),
        )
        about = {
            "image": [p.id for p in test],
            "domain": [p.domain for p in test],
            "source": [p.source for p in test],
        }
        pd.DataFrame({**about, "mos": mos_of(test)}).to_parquet(
            folder / "images.parquet", index=False
        )

    return ArtifactStore().make(
        "representations",
        make,
        params={"samples": profile.state_samples},
        inputs=[data, scored, rali],
    )


TOKENS_OF = 60
"""Test images of the RL domain whose single visual tokens `represent` keeps."""


def read_images(
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

    row = {p.id: i for i, p in enumerate(made)}
    at = answers["image"].map(row).to_numpy()
    layers = {"image": 0, "reasoning": -1, "score": -1}
    states = hidden_states(
        *load_policy(folder), [made[i].pixels() for i in at], answers["text"].tolist(), layer=layers
    )
    text = embed_texts(clip, answers["reasoning"].tolist())
    states["text"] = np.where((answers["reasoning"] == "").to_numpy()[:, None], np.nan, text)
    means = {
        place: pd.DataFrame(x).groupby(at).mean().reindex(range(len(made)))
        for place, x in states.items()
    }  # NaN rows are left out
    return {place: mean.to_numpy(np.float32) for place, mean in means.items()}


PROBE_TABLES = ("ratings", "conflict", "attention")


def explain(profile: Profile, *, seed: int = 0, report=print) -> Artifact:
    """Where base and teacher take their scores from (`rali_lab.interpret.probe`): ratings,
    conflict, attention.parquet, unread.json.

    Of every domain the first `profile.probe_images` test images are asked about, all scenes among
    them.
    """
    data, base = (
        make_images(profile),
        _explain_base(profile, seed, report),
    )  # before the teacher: it need not wait for the training
    teacher = train_teacher(profile, seed=seed)

    def make(folder: Path) -> None:
        _write_probes(
            folder,
            _probed(load_images(data.path), profile),
            {"teacher": teacher.path},
            profile,
            seed,
            report,
        )
        _add_probes(folder, base.path)

    params = {"images": profile.probe_images, "samples": profile.score_samples, "seed": seed}
    return ArtifactStore().make("mechanism", make, params=params, inputs=[data, teacher, base])


def _explain_base(profile: Profile, seed: int, report) -> Artifact:
    data, base = make_images(profile), base_path(profile)

    def make(folder: Path) -> None:
        _write_probes(
            folder, _probed(load_images(data.path), profile), {"base": base}, profile, seed, report
        )

    params = {"images": profile.probe_images, "samples": profile.score_samples, "seed": seed}
    return ArtifactStore().make("mechanism-base", make, params=params, inputs=[data], files=[base])


def explain_controls(profile: Profile, *, seed: int = 0, report=print) -> Artifact:
    """What the controls say: the tables of `explain` for a supervised model, and scores.parquet
    (method, image, ...) of these:

    `unreasoned`, trained and asked without reasoning; `supervised`; `VISION|LANGUAGE` for modules
    trained on `photo`, on `procedural` or not at all (`base`). Three trainings beside the
    teacher's, so this is run by a command of its own (`make bench-seeds`).
    """
    data, teacher = make_images(profile), train_teacher(profile, seed=seed, report=report)
    supervised = fine_tune_teacher(profile, seed=seed, report=report)
    unreasoned = train_teacher(
        profile, seed=seed, name="unreasoned", prefill=UNREASONED, report=report
    )
    elsewhere = train_teacher(profile, seed=seed, domain="procedural", report=report)

    def make(folder: Path) -> None:
        from rali_lab.models.vlm import load_policy

        shown = _probed(load_images(data.path), profile)
        _write_probes(folder, shown, {"supervised": finished(supervised)}, profile, seed, report)
        modules = {
            "photo": finished(teacher),
            "procedural": finished(elsewhere),
            "base": base_path(profile),
        }
        parts = [
            _scored(
                "unreasoned",
                load_policy(finished(unreasoned)),
                shown,
                profile,
                seed,
                prefill=UNREASONED,
            ),
            _scored("supervised", load_policy(supervised.path), shown, profile, seed),
        ]
        for vision, language in SWAPS:
            report(f"modules: {vision} with the language of {language}")
            parts.append(
                _scored(
                    f"{vision}|{language}",
                    _combined(modules[vision], modules[language]),
                    shown,
                    profile,
                    seed,
                )
            )
        pd.concat(parts, ignore_index=True).to_parquet(folder / "scores.parquet", index=False)

    params = {"images": profile.probe_images, "samples": profile.score_samples, "seed": seed}
    inputs = [data, teacher, supervised, unreasoned, elsewhere]
    return ArtifactStore().make("mechanism-controls", make, params=params, inputs=inputs)


SWAPS = (
    ("photo", "photo"),
    ("photo", "procedural"),
    ("procedural", "procedural"),
    ("procedural", "photo"),
    ("photo", "base"),
    ("base", "photo"),
    ("base", "base"),
)
"""Where the vision side and the language module of a combined model come from; the last three are
controls."""


def _probed(everything: list[RatedImage], profile: Profile) -> list[RatedImage]:
    test = select(everything, split="test")
    return [
        p for domain in profile.images for p in select(test, domain=domain)[: profile.probe_images]
    ]


def _write_probes(
    folder: Path,
    shown: list[RatedImage],
    models: dict[str, Path],
    profile: Profile,
    seed: int,
    report,
) -> None:
    from rali_lab.interpret.probe import probe
    from rali_lab.models.vlm import load_policy
    from rali_lab.reasoner.rationales import write_rationales

    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in PROBE_TABLES}
    unread = {}
    for who, where in models.items():
        model, processor = load_policy(where)
        seed_all(seed)
        answers = write_rationales(model, processor, shown, samples=2)
        answers.to_parquet(folder / f"answers-{who}.parquet", index=False)
        found = probe(
            model,
            processor,
            shown,
            answers,
            samples=profile.score_samples // 2,
            seed=seed,
            report=lambda condition, who=who: report(f"{who}: {condition}"),
        )
        unread[who] = {"answers": len(answers), "unread": found.unread}
        for name in PROBE_TABLES:
            tables[name].append(getattr(found, name).assign(model=who))
    for name, parts in tables.items():
        pd.concat(parts, ignore_index=True).to_parquet(folder / f"{name}.parquet", index=False)
    (folder / "unread.json").write_text(json.dumps(unread, indent=1))


def _add_probes(folder: Path, other: Path) -> None:
    """Put the probes of another folder before those of this one."""
    for name in PROBE_TABLES:
        parts = [pd.read_parquet(place / f"{name}.parquet") for place in (other, folder)]
        pd.concat(parts, ignore_index=True).to_parquet(folder / f"{name}.parquet", index=False)
    for file in other.glob("answers-*.parquet"):
        shutil.copy(file, folder)
    unread = [json.loads((place / "unread.json").read_text()) for place in (other, folder)]
    (folder / "unread.json").write_text(json.dumps(unread[0] | unread[1], indent=1))


def _combined(vision: Path, language: Path):
    from rali_lab.interpret.controls import swap_language
    from rali_lab.models.vlm import load_policy

    model, processor = load_policy(vision)
    swap_language(model, load_policy(language)[0])
    return model, processor


def _scored(
    method: str, policy, shown: list[RatedImage], profile: Profile, seed: int, *, prefill: str = ""
) -> pd.DataFrame:
    from rali_lab.reasoner.rationales import ratings, write_rationales

    seed_all(seed)
    table, ids = (
        write_rationales(*policy, shown, samples=profile.score_samples, prefill=prefill),
        [p.id for p in shown],
    )
    return pd.DataFrame(
        {
            "method": method,
            "image": ids,
            "domain": [p.domain for p in shown],
            "source": [p.source for p in shown],
            "mos": mos_of(shown),
            "score": ratings(table, ids),
        }
    )
