"""The policy: words survive the tokenizer, weights the disk, damage is named, and answers do not
depend on the batch.
"""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from rali_lab.data.content import photographs
from rali_lab.models.vlm import (
    IMAGE,
    SPECIAL,
    ask,
    build_tiny,
    conversation,
    freeze_tower,
    load_policy,
    tiny_processor,
    train_tokenizer,
    write_hashes,
)
from rali_lab.reasoner.prompts import score_answer

TEXTS = [
    "serious blur and slight noise: edges are soft.",
    score_answer("grain covers the even areas", 3.25),
]
UNICODE = [
    "Grüße, 漢字 🙂",
    " two  spaces \n\t",
    "a\u200bb\r\n\x00\ufeff",
    "e\u0301 İ ﬁ",
    "n't I 'm ok .",
    TEXTS[1],
]


@pytest.fixture(scope="module")
def loaded(tiny_base):
    return load_policy(tiny_base)


@pytest.fixture(scope="module")
def photos():
    """Three images of three sizes, one of them not square."""
    noise = np.random.default_rng(0).integers(0, 256, (128, 140, 3), dtype=np.uint8)
    return [
        photographs("coffee", count=1, size=96)[0],
        noise,
        photographs("china", count=1, size=128)[0],
    ]


def logits(model, processor, pixels):
    text = processor.apply_chat_template(
        conversation("Rate it."), add_generation_prompt=True, tokenize=False
    )
    inputs = processor(images=list(pixels), text=[text] * len(pixels), return_tensors="pt")
    with torch.inference_mode():
        return model(**inputs).logits


@pytest.mark.parametrize("text", UNICODE)
def test_the_tokenizer_loses_nothing(text):
    tokenizer = train_tokenizer(TEXTS)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_tags_and_digits_are_single_tokens_that_decoding_keeps():
    tokenizer = train_tokenizer(TEXTS)
    pieces = tokenizer.tokenize(score_answer("", 3.25))
    assert pieces == [
        "<think>",
        "</think>",
        "<answer>",
        '{"rating": ',
        "3",
        ".",
        "2",
        "5",
        "}",
        "</answer>",
    ]
    ids = tokenizer(TEXTS[1])["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == TEXTS[1]
    assert all(len(tokenizer.tokenize(t)) == 1 for t in (*SPECIAL.values(), IMAGE))


def test_saving_and_loading_changes_no_logit(tmp_path, photos):
    torch.manual_seed(1)
    tokenizer = train_tokenizer(TEXTS)
    model, processor = build_tiny(tokenizer, hidden=48, layers=1).eval(), tiny_processor(tokenizer)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    write_hashes(tmp_path)
    again = load_policy(tmp_path)
    torch.testing.assert_close(
        logits(*again, photos), logits(model, processor, photos), rtol=0, atol=0
    )
    assert not again[0].training and again[1].tokenizer.padding_side == "left"


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
    (folder / "SHA256SUMS.json").unlink()
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


def test_greedy_answers_repeat_and_do_not_depend_on_the_batch(loaded, photos):
    greedy = {"temperature": 0, "max_new_tokens": 12}
    together = ask(*loaded, photos, **greedy)
    assert len({a for (a,) in together}) == 3  # the answers are about the images
    assert together == ask(*loaded, photos, **greedy)
    assert (
        together
        == [ask(*loaded, [x], **greedy)[0] for x in photos]
        == ask(*loaded, photos, batch=2, **greedy)
    )


def test_every_image_gets_its_samples_and_torchs_seed_decides(loaded, photos):
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        runs.append(ask(*loaded, photos, samples=4, batch=8, max_new_tokens=8))
    assert [len(a) for a in runs[0]] == [4, 4, 4] and all(len(set(a)) > 1 for a in runs[0])
    assert runs[0] == runs[1] != runs[2]
    assert ask(*loaded, []) == []


def test_samples_stay_with_their_image(loaded, photos):
    """Close to temperature zero every sample is the greedy answer to its own image."""
    greedy = ask(*loaded, photos, temperature=0, max_new_tokens=8)
    cold = ask(*loaded, photos, temperature=1e-4, samples=2, max_new_tokens=8)
    assert cold == [[a, a] for (a,) in greedy] and cold[0] != cold[1]


def test_the_prefix_is_part_of_the_answer_and_changes_what_follows(loaded, photos):
    plain, begun = (
        ask(*loaded, photos, prefill=p, temperature=0, max_new_tokens=8)
        for p in ("", "<think></think><answer>")
    )
    assert all(a.startswith("<think></think><answer>") for (a,) in begun)
    assert [a.removeprefix("<think></think><answer>") for (a,) in begun] != [a for (a,) in plain]


def test_greedy_decoding_has_one_answer(loaded, photos):
    with pytest.raises(
        ValueError,
        match="greedy decoding gives one completion, got samples=2; set temperature above 0",
    ):
        ask(*loaded, photos, temperature=0, samples=2)


def test_sampling_ignores_what_a_checkpoint_likes(tiny_base, photos):
    """Released checkpoints ship generation settings of their own; an answer must follow the
    arguments of `ask` alone.
    """
    answers = []
    for liked in ({}, {"repetition_penalty": 5.0, "top_p": 0.01}):
        model, processor = load_policy(tiny_base)
        model.generation_config.update(**liked)
        torch.manual_seed(0)
        answers.append(
            [ask(model, processor, photos, temperature=t, max_new_tokens=8) for t in (1.0, 0)]
        )
    assert answers[0] == answers[1]


def test_a_memoised_tower_gives_the_same_logits_and_encodes_a_image_once(
    tiny_base, photos, monkeypatch
):
    model, processor = load_policy(tiny_base)
    expected = logits(model, processor, photos)
    freeze_tower(model)
    tower, encoded = model.model.vision_tower.timm_model, []
    plain = tower.statistics
    monkeypatch.setattr(
        tower, "statistics", lambda pixels: encoded.append(len(pixels)) or plain(pixels)
    )
    for order in ([0, 1, 2], [2, 0, 2], [1, 1, 1]):
        found = logits(model, processor, [photos[i] for i in order])
        torch.testing.assert_close(found, expected[order], rtol=1e-5, atol=1e-5)
    assert sum(encoded) == 3
    assert not any(p.requires_grad for p in model.model.vision_tower.parameters())
    assert all(p.requires_grad for p in model.model.language_model.parameters())


def test_images_seen_while_asking_can_be_trained_on(tiny_base, photos):
    """`ask` fills the memo in inference mode, whose tensors must not leak into a graph."""
    model, processor = load_policy(tiny_base)
    freeze_tower(model)
    ask(model, processor, photos, max_new_tokens=2)
    text = processor.apply_chat_template(
        conversation("Rate it."), add_generation_prompt=True, tokenize=False
    )
    model.train()(
        **processor(images=photos, text=[text] * 3, return_tensors="pt")
    ).logits.mean().backward()
    assert model.model.multi_modal_projector.linear_1.weight.grad.abs().sum() > 0


def test_a_memoised_tower_works_in_bfloat16(tiny_base, photos):
    model, processor = load_policy(tiny_base)
    freeze_tower(model)
    assert len(ask(model.bfloat16(), processor, photos, max_new_tokens=2)) == 3
