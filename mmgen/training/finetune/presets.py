"""Which weights learn when a checkpoint is fine-tuned.

`everything` with a prior is narrowed again, to what can learn without disturbing (`projection.py`).
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

# Of what reads the memory each preset lets that learn which does its own work. A style is how much of what was found
# passes as it is (the gate) and how the edges of it all are smoothed (the head); which entries are looked at, and for
# what, stays. A concept is new words, so how an entry's words and their likeness count, where the tokens look (the
# queries and keys of copying, and the cross-attention, which is what `.cross_attention.` is to words) have to learn;
# what a patch of a latent means does not change with words, and neither do the maps that sum patches in place.
_LEARNS = {
    "style": (
        "generator.mapping.",
        "generator.from_pooled.",
        ".modulation.",
        "generator.norm.",
        "generator.to_patch.",
        "generator.memory_reader.gate.",
        "generator.head.",
    ),
    "concept": (
        "fusion.",
        "generator.from_pooled.",
        ".cross_attention.",
        ".modulation.",
        "generator.to_patch.",
        "generator.memory_reader.key_in.",
        "generator.memory_reader.aligned_key.",
        "generator.memory_reader.blocks.",
        "generator.memory_reader.to_query.",
        "generator.memory_reader.to_key.",
    ),
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
