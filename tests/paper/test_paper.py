"""The paper's line, every step of it, on a random miniature Qwen2.5-VL, a random miniature CLIP and
a miniature KonIQ.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file

from rali_lab.paper import evaluation
from rali_lab.paper.__main__ import changed, main, test_part
from rali_lab.paper.sets import SETS, load_sets, parse_data, published
from rali_lab.paper.student import StudentSettings, train_student
from rali_lab.rali.released import read_official
from rali_lab.reasoner.prompts import score_answer
from rali_lab.reasoner.rationales import to_table

test_part.__test__ = False  # a function of the package, whatever its name
TINY = [
    "images_per_step=2",
    "generations=4",
    "max_completion_length=8",
    "learning_rate=1e-3",
    "trl_options.per_device_train_batch_size=8",
    "trl_options.gradient_accumulation_steps=1",
]
STUDENT = [
    "n_components=4",
    "n_bins=3",
    "n_basis=4",
    "fine_tune_epochs=2",
    "epochs=2",
    "batch=4",
    "learning_rate=1e-3",
]


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
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


def valid_rationales(images):
    answers = [
        [score_answer(f"blur {i}", 2.0), score_answer("noise", 3.0)] for i in range(len(images))
    ]
    return to_table([p.id for p in images], answers)


@pytest.fixture(scope="module")
def rali(koniq, clip, tmp_path_factory):
    """A student made by the command line, and where its images' words lie."""
    folder = tmp_path_factory.mktemp("student")
    valid_rationales(load_sets({"koniq": koniq}, split="train")["koniq"]).to_parquet(
        folder / "words.parquet"
    )
    assert (
        main(
            [
                "student",
                "--clip",
                str(clip),
                "--rationales",
                str(folder / "words.parquet"),
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
    assert kept["steps"] == 2, "half a pass over eight images, two a step"
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


def test_words_are_written_and_silence_is_reported(qwen, koniq, tmp_path, capsys):
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
    assert "0 of 3 images have a readable reasoning" in capsys.readouterr().out


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


def test_a_student_needs_words_about_every_image(clip, koniq, tmp_path):
    images = load_sets({"koniq": koniq}, split="train")["koniq"]
    with pytest.raises(
        ValueError, match="1 of 8 images have no readable reasoning, koniq10k/0.jpg first"
    ):
        train_student(clip, images, valid_rationales(images).iloc[2:], StudentSettings(), tmp_path)


@pytest.mark.parametrize("kind", ["rali", "reasoner"])
def test_evaluation_keeps_every_image_and_resumes(
    kind, request, koniq, tmp_path, capsys, monkeypatch
):
    model = request.getfixturevalue("rali" if kind == "rali" else "qwen")
    args = ["evaluate", f"--{kind}", str(model), "--data", f"koniq={koniq}", "--out", str(tmp_path)]
    silent = kind == "reasoner"  # a random reasoner has no readable score, and that is said
    assert main([*args, "--max-samples", "3"]) == int(silent)
    first = pd.read_parquet(tmp_path / "predictions.parquet")
    assert first["image"].tolist() == [f"koniq10k/{i}.jpg" for i in (10, 11, 12)]
    assert first["score"].isna().all() == silent and set(first["status"]) == {
        "no readable score" if silent else "ok"
    }
    assert main(args) == 2 and "pass --resume" in capsys.readouterr().err
    asked = []
    real = evaluation._scored
    monkeypatch.setattr(
        evaluation,
        "_scored",
        lambda s, n, images: asked.extend(p.id for p in images) or real(s, n, images),
    )
    assert main([*args, "--resume"]) == int(silent)
    assert (
        asked == ["koniq10k/13.jpg"] and len(pd.read_parquet(tmp_path / "predictions.parquet")) == 4
    )
    about = json.loads((tmp_path / "run.json").read_text())
    assert about["about"]["kind"] == kind and about["sets"] == {"koniq": 4} and about["provenance"]
    assert (tmp_path / "table.csv").exists()


def test_predictions_of_two_models_are_not_mixed(rali, koniq, tmp_path, capsys):
    args = ["evaluate", "--rali", str(rali), "--data", f"koniq={koniq}", "--out", str(tmp_path)]
    assert main(args) == 0
    run = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(
        json.dumps({**run, "about": {**run["about"], "weights": "other"}})
    )
    assert main([*args, "--resume"]) == 2
    assert "were made with another weights; give another --out" in capsys.readouterr().err


def test_a_broken_image_is_a_row_without_score_and_an_exit_code(rali, koniq, tmp_path, capsys):
    import shutil

    copy = tmp_path / "koniq"
    shutil.copytree(koniq, copy)
    (copy / "1024x768" / "11.jpg").write_bytes(b"no image")
    assert (
        main(
            [
                "evaluate",
                "--rali",
                str(rali),
                "--data",
                f"koniq={copy}",
                "--out",
                str(tmp_path / "out"),
            ]
        )
        == 1
    )
    rows = pd.read_parquet(tmp_path / "out" / "predictions.parquet").set_index("image")
    assert rows["score"].isna().sum() == 1 and "11.jpg" in rows.loc["koniq10k/11.jpg", "status"]
    assert "koniq10k/11.jpg first" in capsys.readouterr().err


def test_the_table_stands_next_to_the_papers_and_never_under_its_name():
    rng = np.random.default_rng(0)
    mos = rng.uniform(1, 5, 30)
    rows = pd.DataFrame(
        {
            "set": ["koniq"] * 15 + ["tid2013"] * 15,
            "source": [f"s{i}" for i in range(30)],
            "mos": mos,
            "score": [*(mos[:14] + rng.normal(0, 0.2, 14)), np.nan, *[3.0] * 15],
        }
    )
    table = evaluation.table(rows, method="mine", n_boot=50).set_index("set")
    assert list(table.columns) == [
        "n",
        "unscored",
        "mine PLCC [95 %]",
        "mine SRCC [95 %]",
        "paper: Q-Insight",
        "paper: RALI",
    ]
    assert (
        table.loc["koniq", "paper: RALI"] == "0.939 / 0.922"
        and table.loc["tid2013", "paper: RALI"] == "-"
    )
    assert (table.loc["koniq", "n"], table.loc["koniq", "unscored"]) == (14, 1)
    assert table.loc["tid2013", "mine PLCC [95 %]"] == "collapsed"


def test_the_printed_numbers_agree_with_their_printed_means():
    rows = published()
    seven = rows[(rows["trained_on"] == "koniq")].groupby("method")["plcc"].mean()
    for method, mean in {
        "RALI": 0.798,
        "Q-Insight": 0.806,
        "DeQA-Score": 0.786,
        "NIQE": 0.521,
    }.items():
        assert seven[method] == pytest.approx(mean, abs=0.0011), method
    eight = rows[(rows["trained_on"] != "koniq") & (rows["method"] == "RACT")]
    assert len(eight) == 8 and eight["plcc"].mean() == pytest.approx(0.855, abs=0.001)
    assert set(rows["set"]) == set(SETS)


def test_only_the_test_part_of_a_set_that_was_trained_on_counts(koniq):
    sets = load_sets({"koniq": koniq})
    assert (
        len(test_part(sets, ["koniq"], None)["koniq"]) == 4
        and len(test_part(sets, ["spaq"], None)["koniq"]) == 14
    )
    with pytest.raises(ValueError, match=r"--trained-on \['kon'\]: expected names among koniq"):
        test_part(sets, ["kon"], None)


@pytest.mark.parametrize("argument", ["koniq", "konik=x", "koniq="])
def test_data_arguments_name_a_known_set(argument):
    with pytest.raises(ValueError, match="expected NAME=FOLDER with NAME one of koniq, spaq"):
        parse_data([argument])


def test_wrong_input_ends_with_one_line(koniq, tmp_path, capsys):
    for data, said in (
        ([f"koniq={koniq}", f"koniq={koniq}"], "twice"),
        ([f"spaq={tmp_path}"], str(tmp_path)),
    ):
        assert main(["write", "--model", "x", "--data", *data, "--out", str(tmp_path / "o")]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(
        ValueError, match="--set 'spets=3': expected FIELD=VALUE with a field of StudentSettings"
    ):
        changed(StudentSettings(), ["spets=3"])


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
