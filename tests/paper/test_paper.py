"""The paper's line, every step of it, on a random miniature Qwen2.5-VL, a random miniature CLIP and
a miniature KonIQ.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from rali_lab.paper import evaluation
from rali_lab.paper.__main__ import main, parse_set
from rali_lab.paper.sets import load_sets
from rali_lab.paper.student import StudentConfig, train_student
from rali_lab.rali.released import read_official

pytestmark = pytest.mark.filterwarnings(
    "ignore:`gradient_checkpointing:FutureWarning"  # TRL 1.16 calls names that transformers renamed
)
TINY = [
    "images_per_step=2",
    "num_generations=4",
    "max_completion_length=8",
    "learning_rate=1e-3",
    "per_device_train_batch_size=8",
    "gradient_accumulation_steps=1",
]


def test_the_teacher_is_trained_by_the_papers_algorithm(qwen, koniq, tmp_path):
    args = [
        "teacher",
        "--base",
        str(qwen),
        "--data",
        f"koniq={koniq}",
        "--out",
        str(tmp_path),
        "--epochs",
        "0.5",
    ]
    assert main([*args, "--set", *TINY]) == 0
    kept = json.loads((tmp_path / "settings.json").read_text())
    assert (kept["beta"], kept["closeness_weight"], kept["degradation_share"], kept["epsilon"]) == (
        1e-3,
        0.0,
        0.0,
        0.2,
    )
    assert kept["max_steps"] == 2, "half a pass over eight images, two a step"
    assert kept["activation_checkpointing"] and kept["system"] and "output_dir" not in kept
    before, after = load_file(qwen / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()


def test_adapters_are_an_option(qwen, koniq, tmp_path):
    pytest.importorskip("peft")
    args = [
        "teacher",
        "--base",
        str(qwen),
        "--data",
        f"koniq={koniq}",
        "--out",
        str(tmp_path),
        "--epochs",
        "0.25",
        "--lora",
    ]
    assert main([*args, "--set", *TINY]) == 0
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists() and (
        tmp_path / "model.safetensors"
    ).exists()


def test_rationales_are_written_and_invalid_ones_are_reported(qwen, koniq, tmp_path, capsys):
    assert (
        main(
            [
                "write",
                "--model",
                str(qwen),
                "--data",
                f"koniq={koniq}",
                "--out",
                str(tmp_path),
                "--max-samples",
                "3",
            ]
        )
        == 1
    )
    table = pd.read_parquet(tmp_path / "rationales.parquet")
    assert (
        table["image"].nunique() == 3 and (table["status"] != "ok").all()
    )  # a random model has no form
    assert "0 of 3 images have a valid rationale" in capsys.readouterr().out


def test_a_student_is_aligned_and_saved_as_released(rali, clip, koniq):
    before, after = (
        load_file(clip / "model.safetensors"),
        load_file(rali / "best" / "model.safetensors"),
    )
    moved = {k for k in before if not np.array_equal(before[k], after[k])}
    assert any(k.startswith("vision_model") for k in moved) and not any(
        k.startswith("text_") for k in moved
    )
    log = pd.read_csv(rali / "alignment.csv")["loss"].dropna()
    assert len(log) == 4 and log.iloc[-1] < log.iloc[0]
    images = load_sets({"koniq": koniq}, split="test")["koniq"]
    assert read_official(rali).predict([p.pixels() for p in images]).shape == (4,)


def test_a_student_needs_a_rationale_of_every_image(clip, koniq, rationales, tmp_path):
    images = load_sets({"koniq": koniq}, split="train")["koniq"]
    args = StudentConfig(output_dir=str(tmp_path))
    with pytest.raises(
        ValueError, match="1 of 8 images have no valid rationale, koniq10k/0.jpg first"
    ):
        train_student(clip, images, rationales.iloc[2:], args=args)


def test_wrong_input_ends_with_one_line(koniq, tmp_path, capsys):
    for data, message in (
        ([f"koniq={koniq}", f"koniq={koniq}"], "twice"),
        ([f"spaq={tmp_path}"], str(tmp_path)),
    ):
        assert main(["write", "--model", "x", "--data", *data, "--out", str(tmp_path / "o")]) == 2
        assert message in capsys.readouterr().err


def test_a_typo_in_a_field_names_what_is_near():
    assert parse_set(["n_basis=4", "bf16=False", "optim=sgd"], StudentConfig) == {
        "n_basis": 4,
        "bf16": False,
        "optim": "sgd",
    }
    with pytest.raises(
        ValueError,
        match="--set 'max_spets=3': expected FIELD=VALUE with a field of StudentConfig, such as",
    ):
        parse_set(["max_spets=3"], StudentConfig)
    with pytest.raises(ValueError, match="--set 'bf16': expected FIELD=VALUE"):
        parse_set(["bf16"], StudentConfig)


def test_accelerate_reads_the_configurations():
    from accelerate.commands.config.config_args import load_config_from_file

    folder = Path(evaluation.__file__).parent / "accelerate"
    kinds = {f.stem: load_config_from_file(str(f)) for f in folder.glob("*.yaml")}
    assert {k: v.distributed_type.value for k, v in kinds.items()} == {
        "one_gpu": "NO",
        "zero3": "DEEPSPEED",
        "fsdp": "FSDP",
    }
    assert kinds["zero3"].num_processes == 8 and kinds["zero3"].mixed_precision == "bf16"
