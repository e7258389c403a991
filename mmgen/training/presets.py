"""Which weights learn when a checkpoint is fine-tuned.

`everything` with a prior is narrowed again, to what can learn without disturbing (`mmgen.training.sparing`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

PRESETS = {
    "style": "how things look; the fewest changes",
    "concept": "what new words mean, drawn in the ways the model knows",
    "everything": "what the model draws, the closest to your pictures, and where it disturbs least",
}
"""Plain name -> what it is for."""

_LEARNS = {
    "style": ("generator.mapping.", "generator.from_pooled.", ".modulation.", "generator.norm.", "generator.to_patch."),
    "concept": ("fusion.", "generator.from_pooled.", ".cross_attention.", ".modulation.", "generator.to_patch."),
    "everything": ("",),
}


def choose(model: nn.Module, preset: str) -> int:
    """Let exactly the preset's weights of a `ConditionalGenerator` learn, and return how many numbers that is."""
    count = 0
    for name, parameter in model.named_parameters():
        learns = any(part in name for part in _LEARNS[preset])
        parameter.requires_grad_(learns)
        count += parameter.numel() * learns
    return count
