"""Model folders: damage is named, and code, towers of others and surplus arguments are refused."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from rali_lab.models.model_folder import HASHES, check_hashes, write_hashes
from rali_lab.models.vlm import load_policy


def cut_in_half(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip_a_bit(file):
    data = bytearray(file.read_bytes())
    data[-9] ^= 1
    file.write_bytes(data)


def drop_a_tensor(file):
    state = load_file(file)
    state.pop("model.language_model.norm.weight")
    save_file(state, file, metadata={"format": "pt"})


def cut_a_tensor(file):
    state = load_file(file)
    state["model.language_model.norm.weight"] = state["model.language_model.norm.weight"][
        :7
    ].clone()
    save_file(state, file, metadata={"format": "pt"})


@pytest.mark.parametrize("damage", [cut_in_half, flip_a_bit, drop_a_tensor, cut_a_tensor])
def test_damaged_weights_are_named(tiny_base, tmp_path, damage):
    folder = shutil.copytree(tiny_base, tmp_path / "m")
    damage(folder / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"m/model.safetensors: sha256 is \w+..., expected \w+...; fetch or build"
    ):
        load_policy(folder)


@pytest.mark.parametrize("damage", [cut_in_half, drop_a_tensor, cut_a_tensor])
def test_damaged_weights_are_found_without_a_list_of_hashes_too(tiny_base, tmp_path, damage):
    folder = shutil.copytree(tiny_base, tmp_path / "m")
    (folder / HASHES).unlink()
    damage(folder / "model.safetensors")
    with pytest.raises(ValueError, match=str(folder)):
        load_policy(folder)


def test_what_is_missing_is_named(tiny_base, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=f"no model in {tmp_path}/gone: config.json is missing; "
    ):
        load_policy(tmp_path / "gone")
    folder = shutil.copytree(tiny_base, tmp_path / "m")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="m/model.safetensors"):
        load_policy(folder)


def rewrite(file, **changes):
    """Change a JSON file at its upper level (made if missing)."""
    config = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**config, **changes}))


CONFIGS = [
    "config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "other.json",
]


@pytest.mark.parametrize("file", CONFIGS)
def test_code_that_a_folder_brings_is_refused_by_name_and_without_a_question(
    tiny_base, tmp_path, monkeypatch, file
):
    folder = shutil.copytree(tiny_base, tmp_path / "m")
    (folder / "evil.py").write_text("raise SystemExit('ran')\n")
    asked = {
        "auto_map": {"AutoProcessor": "evil.P", "AutoTokenizer": ["evil.T", "evil.T"]},
        "processor_class": "Unknown",
    }
    rewrite(folder / file, **asked)
    monkeypatch.setattr("builtins.input", lambda *a: pytest.fail("it asks"))
    with pytest.raises(
        ValueError,
        match=rf"m/{file}: the model wants to run its own code \(evil.P, .*\), which is refused",
    ):
        load_policy(folder)
    (
        shutil.copy(tiny_base / file, folder / file)
        if (tiny_base / file).exists()
        else (folder / file).unlink()
    )
    rewrite(folder / file, within=[{"deeper": asked}])
    with pytest.raises(ValueError, match=rf"m/{file}: the model wants to run its own code"):
        load_policy(folder)


def test_a_token_by_that_name_is_no_code_and_broken_json_is_named(tiny_base, tmp_path):
    folder = shutil.copytree(tiny_base, tmp_path / "m")
    rewrite(folder / "vocab.json", auto_map=7)
    load_policy(folder)
    for content in ("{", "[" * 100_000, "\udcff"):
        (folder / "vocab.json").write_text(content, errors="surrogateescape")
        with pytest.raises(ValueError, match="m/vocab.json: cannot be read as JSON"):
            load_policy(folder)


FOREIGN = ["hf_hub:evil/model", "local-dir:/somewhere", "vit_giant_patch14_224", "resnet18", "", 7]


@pytest.mark.parametrize("name", FOREIGN)
def test_towers_of_others_are_refused_before_anything_is_built(
    tiny_base, tmp_path, monkeypatch, name
):
    folder = shutil.copytree(tiny_base, tmp_path / "m")
    vision = json.loads((folder / "config.json").read_text())["vision_config"]
    monkeypatch.setattr("timm.create_model", lambda *a, **k: pytest.fail("it is built"))
    for changed in (
        {**vision, "architecture": name},
        {"model_type": "timm_backbone", "backbone": name},
        {k: v for k, v in {**vision, "architecture": name}.items() if k != "model_type"},
    ):
        rewrite(folder / "config.json", vision_config=changed)
        with pytest.raises(
            ValueError,
            match=r"m/config.json: asks for the tower .*refused; allowed are lite0_stats_s8, ",
        ):
            load_policy(folder)


def test_a_tower_that_transformers_fills_in_is_refused_too(tiny_base, tmp_path):
    folder = shutil.copytree(tiny_base, tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    del config["vision_config"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match="m/config.json: asks for the tower 'fastvit_mci3', which is refused"
    ):
        load_policy(folder)


def test_arguments_for_a_tower_and_attention_from_the_net_are_refused(tiny_base, tmp_path):
    folder = shutil.copytree(tiny_base, tmp_path / "m")
    vision = json.loads((folder / "config.json").read_text())["vision_config"]
    rewrite(
        folder / "config.json",
        vision_config={**vision, "model_args": {"checkpoint_path": "/x.pth"}},
    )
    with pytest.raises(
        ValueError,
        match=r"m/config.json: gives the tower lite0_stats_s16 arguments .*\(.*checkpoint_path",
    ):
        load_policy(folder)
    rewrite(folder / "config.json", vision_config=vision, attn_implementation="evil/kernel")
    with pytest.raises(
        ValueError, match=r"m/config.json: asks for code from the net \(evil/kernel\)"
    ):
        load_policy(folder)
    rewrite(folder / "config.json", attn_implementation=None, model_type="unheard_of")
    with pytest.raises(
        ValueError, match="m/config.json: describes no model that transformers knows"
    ):
        load_policy(folder)


def test_hashes_are_checked_until_a_file_changes(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"weights")
    check_hashes(tmp_path)  # no list, nothing to compare
    write_hashes(tmp_path)
    check_hashes(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"others!")
    with pytest.raises(
        ValueError, match=r"a.safetensors: sha256 is \w+..., expected \w+...; fetch"
    ):
        check_hashes(tmp_path)
