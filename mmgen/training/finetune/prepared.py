"""What a base knows, read once for all fine-tunings that start from it.

How its captions are read and looked up, what it shows as references and which directions its layers leave free
(`prior.py`, `projection.py`) depend on its weights and captions alone, not on a person's pictures. So that is kept
below `mmgen.home.root()`, under a name made of all of it, and the next job on the same base begins at once. The folder
may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mmgen.home import root
from mmgen.io import replacing
from mmgen.pipeline import MultimodalGANPipeline
from mmgen.training.common.cache import digest, weights_digest
from mmgen.training.finetune.presets import prior_kinds
from mmgen.training.finetune.prior import PriorSampler
from mmgen.training.finetune.projection import NullSpaceProjection

FOLDER = ".prepared"
KEPT = 4
"""Bases whose state is kept; of more, those used longest ago are deleted."""

SEED = 0
"""Of the preparation, whatever the job's seed is: so all jobs share it."""

_VERSION = "1"
_PARTS = ("text_encoder", "image_encoder", "fusion", "generator", "autoencoder", "memory")


def prepare_prior(
    pipe: MultimodalGANPipeline,
    groups: list[list[str]],
    preset: str,
    on_part: Callable[[float], object] = lambda share: None,
    folder: Path | None = None,
) -> tuple[PriorSampler, NullSpaceProjection | None]:
    """The prior of a base, and with the preset `everything` what its layers leave free; what is kept is not made again.

    Args:
        groups: the base's captions, as `mmgen.parts.read_captions` gives them; at least one.
        on_part: called with the share that is done, 0 to 1; what it raises ends the work.
        folder: where states are kept, by default below `mmgen.home.root()`; where it cannot be written, nothing is.
    """
    folder = folder or root() / FOLDER
    key = base_digest(pipe, groups)
    projects = preset == "everything"
    prior_file, projection_file = folder / key / "prior.safetensors", folder / key / "projection.safetensors"
    known, free = _read(prior_file), _read(projection_file) if projects else None
    made = 0.5 if projects and free is None else 1.0
    prior = PriorSampler(
        pipe, groups, SEED, known=known, on_part=lambda share: on_part(made * share), kinds=prior_kinds(preset)
    )
    if known is None:
        _keep(prior_file, prior.state())
    if not projects:
        return prior, None
    projection = NullSpaceProjection(prior, SEED, lambda share: on_part(made + (1 - made) * share), known=free)
    if free is None:
        _keep(projection_file, projection.free)
    return prior, projection


def base_digest(pipe: MultimodalGANPipeline, groups: list[list[str]]) -> str:
    """What tells a base from all others that know or say anything else."""
    parts = [part for name in _PARTS if (part := getattr(pipe, name)) is not None]
    memory = pipe.memory
    names = "" if memory is None else "\n".join([*memory.config.texts, "", *memory.config.styles])
    captions = "\n\n".join("\n".join(group) for group in groups)
    said = [_VERSION, str(pipe.device.type), names, captions, *map(weights_digest, parts)]
    return digest(*(text.encode("utf-8", "replace") + b"\0" for text in said))


def _read(file: Path) -> dict[str, torch.Tensor] | None:
    try:
        known = load_file(file)
        os.utime(file.parent)
        return known
    except (OSError, SafetensorError, ValueError):  # None there, or one that was cut short.
        return None


def _keep(file: Path, state: dict[str, torch.Tensor]) -> None:
    """Write a state, whole or not at all, and make room; on a full disk the job goes on without."""
    with contextlib.suppress(OSError, SafetensorError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as part:
            save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, part)
        others = sorted(file.parent.parent.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in others[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
