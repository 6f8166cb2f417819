"""A miniature KonIQ, a random miniature CLIP, and a student of them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from rali_lab.paper.__main__ import main
from rali_lab.paper.sets import load_sets
from rali_lab.reasoner.prompts import score_answer
from rali_lab.reasoner.rationales import to_table

STUDENT = [
    "n_components=4",
    "n_bins=3",
    "n_basis=4",
    "fine_tune_epochs=2",
    "num_train_epochs=2",
    "per_device_train_batch_size=4",
    "learning_rate=1e-3",
]


@pytest.fixture(scope="session")
def koniq(tmp_path_factory):
    """Eight training, two validation and four test images in KonIQ's own layout."""
    folder, rng = tmp_path_factory.mktemp("data") / "koniq10k", np.random.default_rng(0)
    (folder / "1024x768").mkdir(parents=True)
    rows = ["image_name,c1,c2,c3,c4,c5,c_total,MOS,SD,set"]
    for i, part in enumerate(["training"] * 8 + ["validation"] * 2 + ["test"] * 4):
        Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(
            folder / "1024x768" / f"{i}.jpg"
        )
        rows.append(f"{i}.jpg,1,2,3,4,5,15,{20 + 5 * i},0.5,{part}")
    (folder / "koniq10k_distributions_sets.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """Folder of a random CLIP with a word-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPProcessor,
        PreTrainedTokenizerFast,
    )

    words = ["[UNK]", "[PAD]", "[EOS]", "blur", "noise", "0", "1", "2", "3", "4", "5", "6", "7"]
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", eos_token="[EOS]"
    )
    small = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    torch.manual_seed(0)
    model = CLIPModel(
        CLIPConfig(
            text_config=small
            | {
                "vocab_size": 13,
                "max_position_embeddings": 8,
                "bos_token_id": 0,
                "eos_token_id": 2,
                "pad_token_id": 1,
            },
            vision_config=small | {"image_size": 32, "patch_size": 16},
            projection_dim=12,
        )
    )
    folder = tmp_path_factory.mktemp("clip")
    model.save_pretrained(folder)
    side = {"height": 32, "width": 32}
    CLIPProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=side), tokenizer
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def rationales(koniq):
    """Two valid answers about every training image."""
    images = load_sets({"koniq": koniq}, split="train")["koniq"]
    answers = [
        [score_answer(f"blur {i}", 2.0), score_answer("noise", 3.0)] for i in range(len(images))
    ]
    return to_table([p.id for p in images], answers)


@pytest.fixture(scope="session")
def rali(koniq, clip, rationales, tmp_path_factory):
    """A student made by the command line, and the rationales of its images."""
    folder = tmp_path_factory.mktemp("student")
    rationales.to_parquet(folder / "rationales.parquet")
    assert (
        main(
            [
                "student",
                "--clip",
                str(clip),
                "--rationales",
                str(folder / "rationales.parquet"),
                "--data",
                f"koniq={koniq}",
                "--out",
                str(folder / "rali"),
                "--set",
                *STUDENT,
            ]
        )
        == 0
    )
    return folder / "rali"
