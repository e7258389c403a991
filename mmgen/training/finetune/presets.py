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
    "set": "the style of a set of your pictures, for drawing its missing ones out of the memory",
    "everything": "what the model draws, the closest to your pictures, and where it disturbs least",
}
"""Plain name -> what it is for."""

# Of what reads the memory each preset lets that learn which does its own work. A style is how much of what was found
# passes as it is (the gate) and how the edges of it all are smoothed (the head); which entries are looked at, and for
# what, stays. A concept is new words, so how an entry's words and their likeness count, where the tokens look (the
# queries and keys of copying, and the cross-attention, which is what `.cross_attention.` is to words) have to learn;
# what a patch of a latent means does not change with words, and neither do the maps that sum patches in place.
#
# A set is a style of which the memory holds the examples: beside what a style is, how all that is found in its slots is
# read, summed, attended to and copied.
_STYLE = (
    "generator.mapping.",
    "generator.from_pooled.",
    ".modulation.",
    "generator.norm.",
    "generator.to_patch.",
    "generator.memory_reader.gate.",
    "generator.head.",
)
_LEARNS = {
    "style": _STYLE,
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
    "set": (*_STYLE, "generator.memory_reader."),
    "everything": ("",),
}

# A set's missing pictures are asked for by words and drawn from what the memory brings: half its slots say what, half
# show the set. So a person's samples have words and slots, hardly ever references; and what must not change is above
# all what the base draws by words, from its own memory.
_SAMPLES = {"set": (0.97, 0.0, 0.0, 0.03)}
_PRIOR = {"set": (0.9, 0.05, 0.0, 0.05)}
KINDS = (0.85, 0.1, 0.03, 0.02)
"""Shares of the kinds of samples: few pictures have to be learned by their words, above all."""

PRIOR_KINDS = (0.6, 0.25, 0.1, 0.05)
"""Shares of words alone, words and a reference, a reference alone, and neither, of what the base draws."""


def sample_kinds(preset: str) -> tuple[float, ...]:
    """Shares of words alone, words and references, references alone, and neither, among a person's samples."""
    return _SAMPLES.get(preset, KINDS)


def prior_kinds(preset: str) -> tuple[float, ...]:
    """The same shares among what the base draws to be kept."""
    return _PRIOR.get(preset, PRIOR_KINDS)


def choose(model: nn.Module, preset: str) -> int:
    """Let exactly the preset's weights of a `ConditionalGenerator` learn, and return how many numbers that is."""
    count = 0
    for name, parameter in model.named_parameters():
        learns = any(part in name for part in _LEARNS[preset])
        parameter.requires_grad_(learns)
        count += parameter.numel() * learns
    return count
