"""The policy: build, load and question a vision-language model through transformers' own classes.

The tiny model is `FastVlmForConditionalGeneration` around our timm tower with a small Qwen2 decoder
and a byte-level BPE tokenizer; larger ones (`Qwen2.5-VL`) load through the same `load_policy`.
Weights are read from safetensors only.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
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

import rali_lab.models.towers  # noqa: F401  (registers the towers with timm)
from rali_lab.io import ASSETS
from rali_lab.rali.scorer_files import TOWERS
from rali_lab.reasoner import prompts

HERE = {"trust_remote_code": False, "local_files_only": True}
"""For every `from_pretrained`: no code that a folder brings along, and no question about it;
nothing from the net."""
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
    """The processor of a model folder, padding on the left; FileNotFoundError or ValueError when
    the folder holds no usable model.
    """
    folder = Path(folder)
    if not (folder / "config.json").exists():
        raise FileNotFoundError(
            f"no model in {folder}: config.json is missing; run `make reproduce` or give another"
            " folder"
        )
    refuse_code(folder)
    _refuse_foreign_towers(folder)
    check_hashes(folder)
    processor = AutoProcessor.from_pretrained(folder, **HERE)
    processor.tokenizer.padding_side = "left"
    return processor


def refuse_code(folder: str | Path) -> None:
    """Raise ValueError, naming the file, if a JSON file names code to be run with it (`auto_map`).

    All JSON files of the folder are read, at any depth; those of folders below it are not.
    """
    for file in sorted(Path(folder).glob("*.json")):
        for part in _dicts(_json(file)):
            code = part.get("auto_map")
            if isinstance(code, (dict, list, str)) and code:
                named = code.values() if isinstance(code, dict) else [code]
                raise ValueError(
                    f"{file}: the model wants to run its own code "
                    f"({', '.join(map(str, named))[:200]}), which is refused; "
                    "use a model whose class is in transformers"
                )


def _json(file: Path) -> object:
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{file}: cannot be read as JSON ({str(error)[:100]}); fetch or build it again"
        ) from error


def _dicts(found: object) -> Iterator[dict]:
    """Every dict within plain JSON values, at any depth."""
    waiting = [found]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _refuse_foreign_towers(folder: Path) -> None:
    """Raise ValueError if a model's configuration asks timm for a tower that is not ours.

    Looked at is the file as written and as transformers completes it. timm takes a name for a
    place, too ("hf_hub:...", "local-dir:..."), and arguments for files to read.
    """
    file = folder / "config.json"
    _check_towers(file, _json(file))
    try:
        config = AutoConfig.from_pretrained(folder, **HERE)
    except UNKNOWN as error:
        raise ValueError(
            f"{file}: describes no model that transformers knows ({str(error)[:200]}); "
            "fetch or build it again"
        ) from error
    _check_towers(file, config.to_dict())


UNKNOWN = (KeyError, TypeError, ValueError, AttributeError, OSError, StrictDataclassError)


def _check_towers(file: Path, config: object) -> None:
    for part in _dicts(config):
        kind = str(part.get("model_type"))
        named = [part[k] for k in ("architecture", "backbone") if part.get(k) is not None]
        if "timm" in kind or named or part.get("use_timm_backbone"):
            wanted = named[0] if named else None
            if wanted not in TOWERS or kind != "timm_wrapper":
                raise ValueError(
                    f"{file}: asks for the tower {str(wanted)[:100]!r}, which is refused; allowed "
                    f"are {', '.join(TOWERS)}"
                )
            if part.get("model_args"):
                given = str(part["model_args"])[:100]
                raise ValueError(
                    f"{file}: gives the tower {wanted} arguments of its own ({given}); leave out "
                    "model_args"
                )
        attention = part.get("attn_implementation") or part.get("_attn_implementation")
        if isinstance(attention, str) and "/" in attention:
            raise ValueError(
                f"{file}: asks for code from the net ({attention[:100]}), which is refused; leave "
                "out attn_implementation"
            )


def load_policy(
    folder: str | Path, *, dtype: torch.dtype | str = torch.float32
) -> tuple[PreTrainedModel, LlavaProcessor]:
    """A VLM and its processor from a folder (safetensors only, no remote code), in eval mode.

    If the folder holds `SHA256SUMS.json`, every file named there is checked first. `dtype` "auto"
    keeps that of the file.

    Raises
    ------
    FileNotFoundError, ValueError
        Naming the folder or file, what was found, and the way out.
    """
    folder = Path(folder)
    processor = load_processor(folder)
    try:
        model, found = AutoModelForImageTextToText.from_pretrained(
            folder, use_safetensors=True, dtype=dtype, output_loading_info=True, **HERE
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


def write_hashes(folder: Path) -> None:
    """Write SHA256SUMS.json for the safetensors files of a folder."""
    sums = {
        f.name: hashlib.sha256(f.read_bytes()).hexdigest()
        for f in sorted(folder.glob("*.safetensors"))
    }
    (folder / "SHA256SUMS.json").write_text(json.dumps(sums, indent=2) + "\n")


def check_hashes(folder: Path) -> None:
    """Compare a folder's safetensors with its SHA256SUMS.json, if it has one."""
    sums = folder / "SHA256SUMS.json"
    for name, expected in (json.loads(sums.read_text()) if sums.exists() else {}).items():
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != expected:
            raise ValueError(
                f"{folder / name}: sha256 is {found[:12]}..., expected {expected[:12]}...; fetch or"
                " build it again"
            )


def base_folder() -> Path:
    """Folder of the committed tiny base model (see docs/BASE_MODEL.md)."""
    return ASSETS / "vlm"


def freeze_tower(model: PreTrainedModel, *, memoise: bool = True) -> None:
    """Freeze the vision tower; with `memoise` an image seen before is not encoded again (exact,
    keyed by its bytes).
    """
    parts = dict(model.named_modules())
    tower = next(
        (m for n, m in parts.items() if n.split(".")[-1] in ("vision_tower", "visual")), None
    )
    if tower is None:
        raise ValueError(
            f"{type(model).__name__} has neither `vision_tower` nor `visual`; freeze its vision"
            " part yourself"
        )
    tower.requires_grad_(False)
    if memoise and hasattr(tower, "timm_model") and hasattr(tower.timm_model, "memo"):
        tower.timm_model.memo = {}


def conversation(question: str, *, system: str | None = None) -> list[dict]:
    """One user turn with an image, in the form of transformers' chat templates."""
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}
    return (
        [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    ) + [turn]


def with_prefill(processor: ProcessorMixin, prefill: str) -> ProcessorMixin:
    """A copy of a processor whose generation prompt ends with `prefill`, as if the model had begun
    its answer so.
    """
    opened = copy.copy(processor)
    opened.chat_template = (
        processor.chat_template
        + "{% if add_generation_prompt %}{{ "
        + json.dumps(prefill)
        + " }}{% endif %}"
    )
    return opened if prefill else processor


@torch.inference_mode()
def ask(
    model: PreTrainedModel,
    processor: LlavaProcessor,
    images: Sequence[np.ndarray],
    *,
    question: str = prompts.SCORE_QUESTION,
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
    images
        (H, W, 3) uint8 arrays; the processor resizes them.
    prefill
        beginning of the answer put into the model's mouth; it is part of the returned completions.
    samples
        completions per image.
    temperature
        0 for greedy decoding (then `samples` must be 1).
    top_k, top_p
        sample among the likeliest tokens only; the defaults, with temperature 1, are those of
        Q-Insight's inference.
    batch
        completions generated together.

    Returns
    -------
    For every image a list of `samples` completions. Sampling follows torch's global seed.
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
