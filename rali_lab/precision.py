"""In which arithmetic models are trained here: bfloat16 where the machine is fast at it, else
float32.
"""

from __future__ import annotations

import os

VARIABLE = "RALI_LAB_PRECISION"
"""Environment variable that forces the arithmetic: fp32 or bf16."""


def use_bf16() -> bool:
    """Whether training runs in bfloat16 (autocast; weights stay as they are).

    RALI_LAB_PRECISION decides where it is set; else a GPU of this decade, or a CPU with
    AVX512-BF16, computes in bfloat16 and everything else in float32. Results differ a little
    between the two, as they do between processors and numbers of threads (OMP_NUM_THREADS).

    Raises
    ------
    ValueError
        If RALI_LAB_PRECISION is neither fp32 nor bf16.
    """
    named = os.environ.get(VARIABLE)
    if named not in (None, "", "fp32", "bf16"):
        raise ValueError(f"{VARIABLE} is {named!r}; set it to fp32 or bf16, or unset it")
    if named:
        return named == "bf16"
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported()


def training_attention() -> str:
    """The attention implementation to train with: "eager" on a CPU, else "sdpa".

    On a CPU the fused kernel is the slower one at our sizes: a GRPO step of the tiny teacher took
    2.6 s with it and 2.0 s without (one thread, bf16; docs/LOG.md). The two agree up to rounding.
    """
    import torch

    return "sdpa" if torch.cuda.is_available() else "eager"


def arithmetic() -> dict[str, object]:
    """Precision of training and number of threads, to be recorded beside a result.

    Imports torch.
    """
    import torch

    return {"precision": "bf16" if use_bf16() else "fp32", "threads": torch.get_num_threads()}
