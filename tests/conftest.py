"""Things that several parts of the tests build from."""

from __future__ import annotations

import numpy as np
import pytest

from rali_lab.data.records import Distortion, RatedImage


@pytest.fixture
def images():
    """Six rated 96-px images with one or two distortions each; noise, so that no two look alike."""
    rng = np.random.default_rng(0)
    kinds = ("gaussian_blur", "jpeg", "darkening")
    return [
        RatedImage(
            id=f"p{i}",
            domain="photo",
            source=f"s{i}",
            split="train",
            mos=1.5 + i / 2,
            std=0.4,
            distortions=tuple(Distortion(k, 1 + i % 5) for k in kinds[: 1 + i % 2]),
            array=rng.integers(0, 256, (96, 96, 3), dtype=np.uint8),
        )
        for i in range(6)
    ]


@pytest.fixture(scope="session")
def livec():
    """The folder of photographs rated by people that RALI_LAB_LIVEC names; tests that need it are
    skipped without.
    """
    from rali_lab.reproduce.project import rated_photographs

    folder = rated_photographs()
    if folder is None:
        pytest.skip("RALI_LAB_LIVEC names no folder of photographs rated by people")
    return folder


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """Folder of a tiny VLM with random weights, large enough that its greedy answers differ from
    image to image.
    """
    import torch

    from rali_lab.data.domains import DOMAINS, draw_distortions
    from rali_lab.models.model_folder import write_hashes
    from rali_lab.models.vlm import build_tiny, tiny_processor, train_tokenizer
    from scripts.base_model.decoder import sample_texts

    rng = np.random.default_rng(0)
    tokenizer = train_tokenizer(
        sample_texts([draw_distortions(DOMAINS["photo"], rng) for _ in range(100)], rng)
    )
    torch.manual_seed(0)
    model = build_tiny(tokenizer, hidden=48, layers=1)
    with torch.no_grad():
        for part in (model.model.language_model, model.model.multi_modal_projector):
            for p in part.parameters():
                if p.ndim == 2:
                    p.mul_(10)
    folder = tmp_path_factory.mktemp("base")
    model.save_pretrained(folder)
    tiny_processor(tokenizer).save_pretrained(folder)
    write_hashes(folder)
    return folder


def qwen_processor():
    """A word-level tokenizer with Qwen's special tokens in Qwen2.5-VL's own processor."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    names = (
        "endoftext",
        "im_start",
        "im_end",
        "vision_start",
        "vision_end",
        "image_pad",
        "video_pad",
    )
    special = [f"<|{name}|>" for name in names]
    words = [
        "[UNK]",
        *'<>/{}":.0123456789',
        "think",
        "answer",
        "rating",
        "system",
        "user",
        "assistant",
        "blur",
        "noise",
    ]
    words = Tokenizer(
        models.WordLevel({w: i for i, w in enumerate(special + words)}, unk_token="[UNK]")
    )
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token=special[0],
        eos_token=special[2],
        unk_token="[UNK]",
        extra_special_tokens={
            "vision_bos_token": special[3],
            "vision_eos_token": special[4],
            "image_token": special[5],
            "video_token": special[6],
        },
    )
    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }} {% if m['content'] is string %}{{"
        " m['content'] }}{% else %}{% for c in m['content'] %}{% if c['type'] == 'image'"
        " %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{%"
        " endfor %}{% endif %}<|im_end|>{% endfor %}{% if add_generation_prompt"
        " %}<|im_start|>assistant {% endif %}"
    )
    image = Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=112 * 112)
    return Qwen2_5_VLProcessor(image, tokenizer, Qwen2VLVideoProcessor(), chat_template=template)


@pytest.fixture(scope="session")
def qwen(tmp_path_factory):
    """Folder of a randomly initialised Qwen2.5-VL of 0.3 million parameters: the class of the
    paper's teacher.
    """
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    processor = qwen_processor()
    number = processor.tokenizer.convert_tokens_to_ids
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={
                "vocab_size": len(processor.tokenizer),
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "bos_token_id": None,
                "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
                "eos_token_id": number("<|im_end|>"),
                "pad_token_id": number("<|endoftext|>"),
            },
            vision_config={
                "depth": 2,
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_heads": 4,
                "out_hidden_size": 64,
                "fullatt_block_indexes": [1],
            },
            image_token_id=number("<|image_pad|>"),
            video_token_id=number("<|video_pad|>"),
            vision_start_token_id=number("<|vision_start|>"),
            vision_end_token_id=number("<|vision_end|>"),
        )
    )
    model.generation_config.eos_token_id = number("<|im_end|>")
    model.generation_config.pad_token_id = number("<|endoftext|>")
    folder = tmp_path_factory.mktemp("qwen")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
