"""What this machine computes on, and in what precision."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

import torch


def best_device() -> torch.device:
    """The GPU of this process where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies matrices faster in bfloat16 than in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    told = getattr(torch.cpu, "get_capabilities", dict)  # Older releases of PyTorch do not tell.
    capabilities: dict[str, bool] = told() if device.type == "cpu" else {}
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def autocast(device: torch.device) -> AbstractContextManager:
    """bfloat16 where it is fast, float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bf16(device))


def use_fast_kernels(device: torch.device) -> None:
    """For a training on a GPU: float32 products in TF32, and the convolutions that are fastest for the shapes seen."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
