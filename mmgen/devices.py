"""How a model runs on this machine: on which device, in what precision, and on how many cores.

Measured on an AVX2 core at one picture of 256 pixels: the decoder's convolutions run near the peak of matrix products.
Other ways to run them change the last bits, and gain little: channels last 0.93 of the decoder's time, Winograd's
transform written in PyTorch 0.64 to 0.88 of a convolution's; weights packed by oneDNN 0.75 to 1.1 of a linear layer's.
What pays is to run nothing twice.
"""

from __future__ import annotations

import math
import os
from contextlib import AbstractContextManager
from pathlib import Path

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


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that this process may use: those it may run on, and no more than its container's share of time allows.

    Args:
        cgroup: where Linux tells that share, `cpu.max` or the older `cpu/cpu.cfs_quota_us`.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((cgroup / name).read_text() for name in names).split()
            if int(quota) > 0:  # -1 or "max" where there is no limit.
                return max(1, min(cores, math.ceil(int(quota) / int(period))))
        except (OSError, ValueError):
            continue
    return cores


def prepare_to_draw() -> None:
    """For a process that draws all day: no more threads than cores.

    PyTorch counts the cores of the machine, not those that a container was given; with more threads than cores they
    wait for each other. `OMP_NUM_THREADS` is left as it is. (glibc told to keep freed blocks, which helps training,
    gained nothing here: 0.96 to 1.04 of a picture's time.)
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
