"""The policy: build, load and question a vision-language model through transformers' own classes.

The tiny model is `FastVlmForConditionalGeneration` around our timm tower with a small Qwen2 decoder
and a byte-level BPE tokenizer; larger ones (`Qwen2.5-VL`) load through the same `load_policy`.
What a folder may hold is checked by `rali_lab.models.model_folder`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    FastVlmConfig,
    FastVlmForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2Config,
)
from transformers.models.timm_wrapper import TimmWrapperConfig

from rali_lab.io import ASSETS
from rali_lab.models import SCORE_QUESTION
from rali_lab.models.model_folder import LOCAL_ONLY, check_model_folder
from rali_lab.models.towers import StatTower

IMAGE_SIZE, PATCH = 128, 32
SPECIAL = {"pad_token": "<|pad|>", "bos_token": "<|user|>", "eos_token": "<|end|>"}
IMAGE, ASSISTANT = "<image>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|user|>' if m['role'] != 'assistant' else '<|assistant|>' }}"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{% if m['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int = 640) -> PreTrainedTokenizerFast:
    """A lossless byte-level BPE with single digits, trained on `texts`; the tags of an answer are
    one token each.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [*SPECIAL.values(), ASSISTANT, IMAGE]
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet
        ),
    )
    bpe.add_tokens(
        [
            AddedToken(t, normalized=False)
            for t in ("<think>", "</think>", "<answer>", "</answer>", '{"rating": ')
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        **SPECIAL,
        extra_special_tokens={"image_token": IMAGE},
        padding_side="left",
    )


def tiny_config(
    vocab_size: int, image_token_id: int, *, hidden: int = 192, layers: int = 4
) -> FastVlmConfig:
    """Configuration of the tiny VLM: our stride-16 tower and a Qwen2 decoder of `layers` x
    `hidden`.
    """
    return FastVlmConfig(
        vision_config=TimmWrapperConfig(
            architecture="lite0_stats_s16", hidden_size=256, do_pooling=False
        ),
        text_config=Qwen2Config(
            vocab_size=vocab_size,
            hidden_size=hidden,
            intermediate_size=3 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=hidden // 48,
            num_key_value_heads=hidden // 48,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=None,
        ),
        image_token_index=image_token_id,
        image_seq_length=(IMAGE_SIZE // PATCH) ** 2,
        tie_word_embeddings=True,
    )


def tiny_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Images of 128 x 128 (others are resized), normalised as lite0 was, 16 image tokens each."""
    from transformers import CLIPImageProcessor

    image = CLIPImageProcessor(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        do_center_crop=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return LlavaProcessor(
        image_processor=image,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
        image_token=IMAGE,
    )


def build_tiny(tokenizer: PreTrainedTokenizerFast, **sizes: int) -> FastVlmForConditionalGeneration:
    """The tiny VLM with random weights (the tower's trunk too); the generation settings know the
    end token.
    """
    model = FastVlmForConditionalGeneration(
        tiny_config(len(tokenizer), tokenizer.convert_tokens_to_ids(IMAGE), **sizes)
    )
    for config in (model.generation_config, model.config.text_config):
        config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
        config.bos_token_id = tokenizer.bos_token_id
    return model


def load_processor(folder: str | Path) -> ProcessorMixin:
    """The processor of a model folder, padding on the left.

    Raises
    ------
    FileNotFoundError, ValueError
        When the folder holds no usable model (`rali_lab.models.model_folder.check_model_folder`).
    """
    check_model_folder(Path(folder))
    processor = AutoProcessor.from_pretrained(folder, **LOCAL_ONLY)
    processor.tokenizer.padding_side = "left"
    return processor


def load_policy(
    folder: str | Path, *, dtype: torch.dtype | str = torch.float32
) -> tuple[PreTrainedModel, LlavaProcessor]:
    """A VLM and its processor from a folder (safetensors only, no remote code), in eval mode.

    If the folder holds `SHA256SUMS.json`, every file named there is checked first.

    Parameters
    ----------
    folder
        As written by `save_pretrained`.
    dtype
        Of the weights; "auto" keeps that of the file.

    Raises
    ------
    FileNotFoundError, ValueError
        Naming the folder or file, what was found, and the way out.
    """
    folder = Path(folder)
    processor = load_processor(folder)
    try:
        model, found = AutoModelForImageTextToText.from_pretrained(
            folder, use_safetensors=True, dtype=dtype, output_loading_info=True, **LOCAL_ONLY
        )
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"{folder}: the weights cannot be read ({str(error)[:100]}); fetch or build it again"
        ) from error
    if found["missing_keys"]:
        raise ValueError(
            f"{folder}: the weights lack {sorted(found['missing_keys'])[:3]}; fetch or build it"
            " again"
        )
    return model.eval(), processor


def base_folder() -> Path:
    """Folder of the committed tiny base model (see docs/BASE_MODEL.md)."""
    return ASSETS / "vlm"


def vision_tower(model: PreTrainedModel) -> nn.Module:
    """The vision tower of a model; ValueError where none is found."""
    for name, part in model.named_modules():
        if name.split(".")[-1] in ("vision_tower", "visual"):
            return part
    raise ValueError(
        f"{type(model).__name__} has neither `vision_tower` nor `visual`; freeze its vision"
        " part yourself"
    )


def stat_tower(model: PreTrainedModel) -> StatTower | None:
    """The tower within a model's vision tower if it is one of ours, else None."""
    own = getattr(vision_tower(model), "timm_model", None)
    return own if isinstance(own, StatTower) else None


def freeze_tower(model: PreTrainedModel, *, cache: bool = True) -> None:
    """Freeze the vision tower; with `cache` one of ours encodes every image once
    (`rali_lab.models.towers.StatTower.cache_features`).
    """
    vision_tower(model).requires_grad_(False)
    if cache and (own := stat_tower(model)) is not None:
        own.cache_features()


def conversation(question: str, *, system: str | None = None) -> list[dict]:
    """One user turn with an image, in the form of transformers' chat templates."""
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    if system:
        turns.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    return turns


def with_prefill(processor: ProcessorMixin, prefill: str) -> ProcessorMixin:
    """A copy of a processor whose generation prompt ends with `prefill`, as if the model had begun
    its answer so.
    """
    if not prefill:
        return processor
    prefilled = copy.copy(processor)
    prefilled.chat_template += (
        "{% if add_generation_prompt %}{{ " + json.dumps(prefill) + " }}{% endif %}"
    )
    return prefilled


@torch.inference_mode()
def ask(
    model: PreTrainedModel,
    processor: LlavaProcessor,
    images: Sequence[np.ndarray],
    *,
    question: str = SCORE_QUESTION,
    system: str | None = None,
    prefill: str = "",
    samples: int = 1,
    temperature: float = 1.0,
    top_k: int = 50,
    top_p: float = 0.95,
    max_new_tokens: int = 64,
    batch: int = 128,
) -> list[list[str]]:
    """Question the model about images.

    Parameters
    ----------
    model, processor
        From `rali_lab.models.vlm.load_policy`.
    images
        (H, W, 3) uint8 arrays; the processor resizes them.
    question, system
        What is asked, and the system prompt before it.
    prefill
        Beginning of the answer that the model continues; it is part of the returned completions.
    samples
        Completions per image.
    temperature
        0 for greedy decoding (then `samples` must be 1).
    top_k, top_p
        Sample among the likeliest tokens only; the defaults, with temperature 1, are those of
        Q-Insight's inference.
    max_new_tokens
        Length at which a completion is cut.
    batch
        Completions generated together.

    Returns
    -------
    list of list of str
        For every image `samples` completions. Sampling follows torch's global seed.
    """
    if temperature == 0 and samples != 1:
        raise ValueError(
            f"greedy decoding gives one completion, got samples={samples}; set temperature above 0"
        )
    text = processor.apply_chat_template(
        conversation(question, system=system), add_generation_prompt=True, tokenize=False
    )
    sampling = (
        {"do_sample": True, "temperature": temperature, "top_k": top_k, "top_p": top_p}
        if temperature
        else {"do_sample": False}
    )
    out: list[list[str]] = []
    step = max(1, batch // samples)
    for i in range(0, len(images), step):
        chunk = [Image.fromarray(np.asarray(x)) for x in images[i : i + step]]
        inputs = processor(
            images=chunk, text=[text + prefill] * len(chunk), padding=True, return_tensors="pt"
        ).to(model.device)
        ids = model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            num_return_sequences=samples,
            repetition_penalty=1.0,
            **sampling,
        )
        texts = processor.batch_decode(
            ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        out += [
            [prefill + t for t in texts[j * samples : (j + 1) * samples]] for j in range(len(chunk))
        ]
    return out
