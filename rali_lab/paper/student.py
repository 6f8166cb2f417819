"""RALI as in the paper: CLIP's image encoder aligned with the reasoner's words, PCA, binned
k-means, the released layout.

The contrastive training is transformers' `Trainer` on transformers' `CLIPModel`, so accelerate,
DeepSpeed and FSDP apply unchanged. Negatives are those of one process's batch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from rali_lab.data.records import RatedImage, mos_of
from rali_lab.models.vlm import HERE, refuse_code
from rali_lab.rali.basis import TAU
from rali_lab.rali.released import OfficialScorer, write_official
from rali_lab.rali.scorer import RaliScorer
from rali_lab.reasoner.checkpoints import whole_checkpoint
from rali_lab.reasoner.rationales import valid_rationales


@dataclass(frozen=True)
class StudentSettings:
    """Everything that decides the student; names and defaults of the second half are the paper's.

    Attributes
    ----------
    epochs, batch, learning_rate, weight_decay
        of the contrastive training (the paper prints none of them; these are CLIP fine-tuning's
        usual ones and were not tuned).
    trainer_options
        anything else for `transformers.TrainingArguments` (bf16, deepspeed, gradient checkpointing
        ...).
    n_components, n_bins, n_basis, tau, fine_tune_epochs
        of `rali_lab.rali.scorer.RaliScorer`.
    """

    epochs: int = 10
    batch: int = 128
    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    trainer_options: dict = field(default_factory=dict)
    n_components: int = 512
    n_bins: int = 240
    n_basis: int = 250
    tau: float = TAU
    fine_tune_epochs: int = 30
    seed: int = 0


class RationalePairs(torch.utils.data.Dataset):
    """Images with one of their rationales each, drawn anew whenever an image is asked for ("seed
    augmentation").
    """

    def __init__(
        self, images: Sequence[RatedImage], rationales: pd.DataFrame, seed: int = 0
    ) -> None:
        known = valid_rationales(rationales)
        if lost := [p.id for p in images if p.id not in known.index]:
            raise ValueError(
                f"{len(lost)} of {len(images)} images have no readable reasoning, {lost[0]} first;"
                " let the teacher write more samples, or leave them out by name"
            )
        self.images, self.texts = list(images), [known[p.id] for p in images]
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> dict:
        own = self.texts[i]
        return {"image": self.images[i], "text": own[self.rng.integers(len(own))]}


class Collate:
    """Images and texts as CLIP takes them; texts beyond its context are cut (77 tokens for
    OpenAI's).
    """

    def __init__(self, processor, context: int) -> None:
        self.processor, self.context = processor, context

    def __call__(self, rows: list[dict]) -> dict:
        shown = [Image.fromarray(np.asarray(r["image"].pixels())) for r in rows]
        batch = self.processor(
            text=[r["text"] for r in rows],
            images=shown,
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=self.context,
        )
        return {**batch, "return_loss": True}


def train_student(
    clip: str | Path,
    images: Sequence[RatedImage],
    rationales: pd.DataFrame,
    settings: StudentSettings,
    folder: str | Path,
    *,
    resume: bool = False,
) -> OfficialScorer | None:
    """Align, compress, and write a scorer in the released layout to `folder`.

    Parameters
    ----------
    clip
        folder of a Hugging Face CLIP (safetensors; ViT-L/14-336 in the paper). Its text side stays
        frozen.
    images
        rated training images.
    rationales
        the table of `write_rationales` for them.
    resume
        go on from the last checkpoint in `folder`.

    Returns
    -------
    The scorer; None on every process but the first. `folder` also gets alignment.csv and
    settings.json.
    """
    from transformers import CLIPModel, CLIPProcessor, Trainer, TrainingArguments

    folder = Path(folder)
    refuse_code(clip)
    model = CLIPModel.from_pretrained(clip, use_safetensors=True, **HERE)
    processor = CLIPProcessor.from_pretrained(clip, **HERE)
    for part in (model.text_model, model.text_projection):
        part.requires_grad_(False)
    options = {
        "output_dir": str(folder),
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": settings.batch,
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.05,
        "seed": settings.seed,
        "logging_steps": 1,
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "report_to": "none",
        "remove_unused_columns": False,
        "dataloader_drop_last": False,
        "use_cpu": not torch.cuda.is_available(),
        "disable_tqdm": True,
    }
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**{**options, **settings.trainer_options}),
        train_dataset=RationalePairs(images, rationales, settings.seed),
        data_collator=Collate(processor, model.config.text_config.max_position_embeddings),
    )
    checkpoint = whole_checkpoint(folder) if resume else None
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if not trainer.is_world_process_zero():
        return None
    pd.DataFrame(trainer.state.log_history).to_csv(folder / "alignment.csv", index=False)
    (folder / "settings.json").write_text(json.dumps(asdict(settings), indent=2))
    scorer = fit_basis(
        trainer.accelerator.unwrap_model(trainer.model).eval(),
        processor.image_processor,
        images,
        settings,
    )
    write_official(scorer, folder)
    return scorer


def fit_basis(
    clip, image_processor, images: Sequence[RatedImage], settings: StudentSettings
) -> OfficialScorer:
    """PCA, basis vectors and fine-tuned basis scores on top of an aligned CLIP."""
    bare = OfficialScorer(clip, image_processor, None, np.zeros((0, 0)), np.zeros(0), settings.tau)
    chunks = (images[i : i + 64] for i in range(0, len(images), 64))
    z = np.concatenate([bare.embed([p.pixels() for p in chunk]) for chunk in chunks])
    fitted = RaliScorer(
        n_components=settings.n_components,
        n_bins=settings.n_bins,
        n_basis=settings.n_basis,
        tau=settings.tau,
        fine_tune_epochs=settings.fine_tune_epochs,
        random_state=settings.seed,
    ).fit(z, mos_of(images))
    return OfficialScorer(
        clip, image_processor, fitted.compressor_, fitted.vectors_, fitted.scores_, settings.tau
    )
