"""RALI as in the paper: CLIP's image encoder aligned with the reasoner's rationales, PCA, binned
k-means, the released layout.

The contrastive training is transformers' `Trainer` on transformers' `CLIPModel`, so accelerate,
DeepSpeed and FSDP apply unchanged. Negatives are those of one process's batch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from transformers import TrainingArguments

from rali_lab.data.records import RatedImage, mos_of
from rali_lab.io import atomic_write
from rali_lab.models.model_folder import LOCAL_ONLY, refuse_code
from rali_lab.rali.basis import TAU
from rali_lab.rali.released import OfficialScorer, write_official
from rali_lab.rali.scorer import RaliScorer
from rali_lab.reasoner.checkpoints import last_whole_checkpoint
from rali_lab.reasoner.rationales import valid_rationales
from rali_lab.reasoner.training import chosen_fields


@dataclass
class StudentConfig(TrainingArguments):
    """transformers' `TrainingArguments` with the fields of `rali_lab.rali.scorer.RaliScorer`;
    everything that decides the student.

    The paper prints those of the scorer (`n_components` to `fine_tune_epochs`) and none of the
    contrastive training; these are CLIP fine-tuning's usual ones and were not tuned.
    """

    n_components: int = 512
    n_bins: int = 240
    n_basis: int = 250
    tau: float = TAU
    fine_tune_epochs: int = 30

    num_train_epochs: float = 10
    per_device_train_batch_size: int = 128
    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    lr_scheduler_type: str = "cosine"
    warmup_steps: float = 0.05
    seed: int = 0
    logging_steps: float = 1
    save_strategy: str = "epoch"
    save_total_limit: int | None = 1
    report_to: str = "none"
    remove_unused_columns: bool | None = False
    use_cpu: bool = field(default_factory=lambda: not torch.cuda.is_available())
    disable_tqdm: bool | None = True

    def scorer_options(self) -> dict[str, Any]:
        """Keyword arguments of `RaliScorer`."""
        names = ("n_components", "n_bins", "n_basis", "tau", "fine_tune_epochs")
        return {name: getattr(self, name) for name in names}


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
                f"{len(lost)} of {len(images)} images have no valid rationale, {lost[0]} first;"
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
    *,
    args: StudentConfig,
    resume: bool = False,
) -> OfficialScorer | None:
    """Align, compress, and write a scorer in the released layout to ``args.output_dir``.

    Parameters
    ----------
    clip
        Folder of a Hugging Face CLIP (safetensors; ViT-L/14-336 in the paper). Its text side stays
        frozen.
    images
        Rated training images.
    rationales
        The table of `write_rationales` for them.
    args
        Everything else.
    resume
        Go on from the last checkpoint in ``args.output_dir``.

    Returns
    -------
    OfficialScorer or None
        None on every process but the first. The folder also gets alignment.csv and settings.json.

    Raises
    ------
    ValueError
        When an image has no valid rationale, naming it.
    """
    from transformers import CLIPModel, CLIPProcessor, Trainer

    folder = Path(args.output_dir)
    refuse_code(clip)
    model = CLIPModel.from_pretrained(clip, use_safetensors=True, **LOCAL_ONLY)
    processor = CLIPProcessor.from_pretrained(clip, **LOCAL_ONLY)
    for part in (model.text_model, model.text_projection):
        part.requires_grad_(False)
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=RationalePairs(images, rationales, args.seed),
        data_collator=Collate(processor, model.config.text_config.max_position_embeddings),
    )
    checkpoint = last_whole_checkpoint(folder) if resume else None
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if not trainer.is_world_process_zero():
        return None
    pd.DataFrame(trainer.state.log_history).to_csv(folder / "alignment.csv", index=False)
    settings = chosen_fields(args, always=args.scorer_options().keys())
    atomic_write(folder / "settings.json", json.dumps(settings, indent=2, default=str).encode())
    aligned = trainer.accelerator.unwrap_model(trainer.model).eval()
    scorer = fit_basis(aligned, processor.image_processor, images, args)
    write_official(scorer, folder)
    return scorer


def fit_basis(
    clip, image_processor, images: Sequence[RatedImage], args: StudentConfig
) -> OfficialScorer:
    """PCA, basis vectors and fine-tuned basis scores on top of an aligned CLIP."""
    bare = OfficialScorer(clip, image_processor, None, np.zeros((0, 0)), np.zeros(0), args.tau)
    chunks = (images[i : i + 64] for i in range(0, len(images), 64))
    z = np.concatenate([bare.embed([p.pixels() for p in chunk]) for chunk in chunks])
    fitted = RaliScorer(**args.scorer_options(), random_state=args.seed).fit(z, mos_of(images))
    return OfficialScorer(
        clip, image_processor, fitted.compressor_, fitted.vectors_, fitted.scores_, args.tau
    )
