"""Find and load checkpoints."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from mmgen.errors import UserError
from mmgen.pipeline import MultimodalGANPipeline

FOLDER = Path(__file__).resolve().parent.parent / "checkpoints"


def default_checkpoint() -> Path:
    """The checkpoint named by `MMGEN_CHECKPOINT`, or else the first in the repository's `checkpoints/`.

    Raises:
        UserError: there is none.
    """
    if os.environ.get("MMGEN_CHECKPOINT"):
        return Path(os.environ["MMGEN_CHECKPOINT"])
    found = sorted(path.parent for path in FOLDER.glob("*/model_index.json"))
    if not found:
        raise UserError(f"There is no checkpoint in {FOLDER}. Name one, or train one as the README says.")
    return found[0]


def load_pipeline(folder: str | Path, device: str | None = None) -> MultimodalGANPipeline:
    """Load a checkpoint onto a device; by default the GPU where there is one.

    Raises:
        UserError: no checkpoint of mmgen, or no such device.
    """
    pipe = MultimodalGANPipeline.from_pretrained(folder)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return pipe.to(device)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UserError(f"The device {device} cannot be used here. Leave --device away, or give cpu.") from error
