"""RALI with one piece taken out, with other words, read in other ways: scores of every variant on
every test image.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from rali_lab.data.records import RatedImage, load_images, mos_of, select
from rali_lab.experiments.main_line import fine_tune_teacher, fit_rali, write_reasoning
from rali_lab.experiments.steps import (
    Reporter,
    ask_model,
    base_path,
    finished,
    image_table,
    make_images,
    score_table,
)
from rali_lab.profiles import Profile
from rali_lab.reproduce.store import Artifact, ArtifactStore

Parts = dict[str, list[RatedImage]]


def ablate(profile: Profile, *, seed: int = 0, report: Reporter = print) -> Artifact:
    """scores.parquet (method, image, domain, source, mos, score) of RALI, of each ablation and each
    baseline.

    Methods: `rali`; without a piece (`no_alignment`, `no_pca`, `no_binned_kmeans`,
    `no_fine_tuning`, `no_augmentation`); aligned with other texts (`text_permuted`, `text_words`,
    `text_noise`, `text_score`, `text_base`); from an image side that never met a word
    (`fresh_no_alignment`; `fresh_rali`, `fresh_permuted`, `fresh_noise`, `fresh_score`, and a ridge
    on each, `..._ridge`); other readouts of the aligned features (`aligned_ridge`, ...), of those
    before alignment (`unaligned_ridge`, ...) and of the trunk's (`raw_ridge`, ...); other weights
    on the same basis (`dynamic_nearest`, ...); `brisque`.
    """
    data, reasoning = make_images(profile), write_reasoning(profile, seed=seed)
    rali, naturalness = fit_rali(profile, seed=seed), _naturalness(data)

    def make(folder: Path) -> None:
        from rali_lab.rali import text_controls as other

        parts = _parts(load_images(data.path))

        def written_by(folder: Path) -> pd.DataFrame:
            samples = profile.rationale_samples
            return ask_model(folder, parts["train"], samples=samples, seed=seed)

        own = _texts(pd.read_parquet(reasoning.path / "rationales.parquet"), parts["train"])
        words = {
            "no_augmentation": [t[:1] for t in own],
            "text_permuted": other.permuted(own, seed),
            "text_words": other.random_words(own, seed),
            "text_noise": other.noise(own, seed),
            "text_score": other.score_only(own, mos_of(parts["train"])),
            "text_base": _texts(written_by(base_path(profile)), parts["train"]),
        }
        study = _Study(profile, parts, seed, report)
        study.readers(rali.path / "model", np.load(naturalness.path / "features.npz"))
        for method, texts in words.items():
            study.aligned_with(method, texts)
        fresh = {"fresh_rali": own} | {
            f"fresh_{k}": words[f"text_{k}"] for k in ("permuted", "noise", "score")
        }
        for method, texts in fresh.items():
            study.aligned_with(method, texts, fresh=True)
        study.table().to_parquet(folder / "scores.parquet", index=False)

    params = _params(profile, seed)
    return ArtifactStore().make(
        "ablations", make, params=params, inputs=[data, reasoning, rali, naturalness]
    )


def ablate_controls(profile: Profile, *, seed: int = 0, report: Reporter = print) -> Artifact:
    """As `ablate`, for the one variant that needs a training of its own: `text_supervised`, words
    of the supervised control.
    """
    data, supervised = make_images(profile), fine_tune_teacher(profile, seed=seed, report=report)

    def make(folder: Path) -> None:
        parts = _parts(load_images(data.path))
        study = _Study(profile, parts, seed, report)
        samples = profile.rationale_samples
        written = ask_model(finished(supervised), parts["train"], samples=samples, seed=seed)
        study.aligned_with("text_supervised", _texts(written, parts["train"]))
        study.table().to_parquet(folder / "scores.parquet", index=False)

    params = _params(profile, seed)
    return ArtifactStore().make(
        "ablations-controls", make, params=params, inputs=[data, supervised]
    )


def _params(profile: Profile, seed: int) -> dict:
    sizes = {"align": asdict(profile.align), "rali": asdict(profile.rali)}
    return {**sizes, "seed": seed, "samples": profile.rationale_samples}


def _parts(everything: list[RatedImage]) -> Parts:
    photo = select(everything, domain="photo")
    return {
        "train": select(photo, split="train"),
        "val": select(photo, split="val"),
        "test": select(everything, split="test"),
    }


def _texts(written: pd.DataFrame, images: list[RatedImage]) -> list[list[str]]:
    """Rationales of images, a list each.

    Raises ValueError where an image has none: a variant would then learn from fewer images than the
    others.
    """
    from rali_lab.reasoner.rationales import valid_rationales

    known = valid_rationales(written)
    if lost := [p.id for p in images if p.id not in known.index]:
        raise ValueError(
            f"{len(lost)} images have no valid rationale, {lost[0]} first; raise the profile's"
            " `rationale_samples`"
        )
    return [known[p.id] for p in images]


def _naturalness(data: Artifact) -> Artifact:
    """BRISQUE's features of the training and test images: features.npz (train, test)."""

    def make(folder: Path) -> None:
        from rali_lab.rali.baselines import brisque_features

        parts = _parts(load_images(data.path))
        np.savez(
            folder / "features.npz",
            **{k: brisque_features([p.pixels() for p in parts[k]]) for k in ("train", "test")},
        )

    return ArtifactStore().make("naturalness", make, params={}, inputs=[data])


class _Study:
    """Scores on the test images, variant by variant, all fitted on the same training images.

    Only heads are trained, so the trunk's statistics of all images are computed once.
    """

    def __init__(self, profile: Profile, parts: Parts, seed: int, report: Reporter) -> None:
        import torch

        from rali_lab.models.clip import load_base_clip
        from rali_lab.models.image_encoder import encode

        self.profile, self.parts, self.seed, self.report = profile, parts, seed, report
        self.pixels = {k: [p.pixels() for p in v] for k, v in parts.items()}
        self.mos = {k: mos_of(v) for k, v in parts.items()}
        self.sources = [p.source for p in parts["train"]]
        self.scores: dict[str, np.ndarray] = {}
        trunk = load_base_clip().visual.trunk
        with torch.inference_mode():
            seen = {
                k: torch.cat([encode(trunk, v[i : i + 16]) for i in range(0, len(v), 16)])
                for k, v in self.pixels.items()
            }
        self.statistics = {k: x * trunk.stat_std + trunk.stat_mean for k, x in seen.items()}

    def table(self) -> pd.DataFrame:
        return score_table(image_table(self.parts["test"]), self.scores)

    def aligned_with(self, method: str, texts: list[list[str]], *, fresh: bool = False) -> None:
        """Align anew with other texts and fit RALI on top.

        `fresh` starts from a random head instead of the pretrained one, with `align`'s own
        settings: the profile's are for a head that only needs a touch. A ridge then reads the same
        embeddings (`<method>_ridge`), so that alignment is not confused with the readout.
        """
        from rali_lab.models.clip import build_clip, load_base_clip
        from rali_lab.rali.align import align

        self.report(f"aligning: {method}")
        model = build_clip(seed=self.seed)[0] if fresh else load_base_clip()
        align(
            model,
            self.pixels["train"],
            texts,
            seed=self.seed,
            **({} if fresh else asdict(self.profile.align)),
        )
        z = self._embed(model.visual)
        self._fit(method, z)
        if fresh:
            self.scores[f"{method}_ridge"] = self._read("ridge", z)

    def readers(self, rali: Path, naturalness) -> None:
        """Everything that needs no new alignment."""
        from rali_lab.models.clip import load_base_clip
        from rali_lab.rali.baselines import READOUTS
        from rali_lab.rali.scorer import RaliScorer

        aligned, unaligned = (
            self._embed(RaliScorer.load(rali).visual_),
            self._embed(load_base_clip().visual),
        )
        raw = {k: x.double().numpy() for k, x in self.statistics.items()}
        full = self._fit("rali", aligned)
        self._fit("no_alignment", unaligned)
        self._fit("fresh_no_alignment", raw)
        self._fit("no_pca", aligned, n_components=None)
        self._fit("no_binned_kmeans", aligned, n_bins=1)
        self._fit("no_fine_tuning", aligned, fine_tune_epochs=0)
        self._fit(
            "conditional_means",
            aligned,
            fine_tune_epochs=0,
            n_basis=_filled(self.mos["train"], self.profile.rali.n_bins),
        )
        for kind, z in (("aligned", aligned), ("unaligned", unaligned), ("raw", raw)):
            for readout in READOUTS:
                self.report(f"{readout} on {kind} features")
                self.scores[f"{kind}_{readout}"] = self._read(readout, z)
        self.scores["brisque"] = self._read("svr", naturalness)
        self._dynamic(full, aligned)

    def _read(self, readout: str, z) -> np.ndarray:
        from rali_lab.rali.baselines import read_scores

        return read_scores(
            readout, z["train"], self.mos["train"], self.sources, z["test"], seed=self.seed
        )

    def _dynamic(self, scorer, z: dict[str, np.ndarray]) -> None:
        """Other weights on the fitted basis; each setting is the one with the smallest error on the
        validation images.
        """
        from rali_lab.rali.dynamic import domain_weights, entropy_weights, nearest_weights

        x, tau = {k: scorer.compressor_.transform(v) for k, v in z.items()}, scorer.tau
        most = np.log(len(scorer.vectors_))
        rules = {
            "dynamic_nearest": lambda k: (
                lambda a: nearest_weights(a, scorer.vectors_, tau=tau, k=k)
            ),
            "dynamic_entropy": lambda e: (
                lambda a: entropy_weights(a, scorer.vectors_, entropy=e * most)
            ),
            "dynamic_domain": lambda s: (
                lambda a: domain_weights(a, scorer.vectors_, tau=tau, strength=s)
            ),
        }
        settings = {
            "dynamic_nearest": [k for k in (3, 5, 10, 20, 40) if k <= len(scorer.vectors_)],
            "dynamic_entropy": [0.5, 0.6, 0.7, 0.8, 0.9, 0.95],
            "dynamic_domain": [0.25, 0.5, 1.0],
        }
        domain = np.array([p.domain for p in self.parts["test"]])
        for method, rule in rules.items():
            error = {
                s: np.mean((rule(s)(x["val"]) @ scorer.scores_ - self.mos["val"]) ** 2)
                for s in settings[method]
            }
            weigh, score = rule(min(error, key=error.get)), np.empty(len(domain))
            for name in dict.fromkeys(
                domain
            ):  # one domain at a time: the rule by domain looks at its neighbours
                score[domain == name] = weigh(x["test"][domain == name]) @ scorer.scores_
            self.scores[method] = score

    def _embed(self, visual) -> dict[str, np.ndarray]:
        """Embeddings of all images, (n, d) of length 1 each, by the head of an image side whose
        trunk is the frozen one.
        """
        import torch

        trunk = visual.trunk
        with torch.inference_mode():
            z = {
                k: visual.head((x - trunk.stat_mean) / trunk.stat_std)
                for k, x in self.statistics.items()
            }
        return {k: torch.nn.functional.normalize(x, dim=-1).numpy() for k, x in z.items()}

    def _fit(self, method: str, z: dict[str, np.ndarray], **changes: object):
        from rali_lab.rali.scorer import RaliScorer

        scorer = RaliScorer(random_state=self.seed, **{**asdict(self.profile.rali), **changes})
        scorer.fit(z["train"], self.mos["train"], validation=(z["val"], self.mos["val"]))
        self.scores[method] = scorer.predict_embeddings(z["test"])
        return scorer


def _filled(mos: np.ndarray, n_bins: int) -> int:
    """Bins of equal score width that hold an image."""
    return int((np.histogram(mos, bins=n_bins)[0] > 0).sum())
