"""What a checkpoint can already draw, kept in the mix while it learns something new.

A checkpoint brings a list of the captions it was trained on. At every step of fine-tuning the base, frozen, draws some
of them from fresh noise; the learner is to draw the same beside the person's pictures, so that what they do not touch
stays as it was ("Learning without forgetting", Li and Hoiem 2016; prior preservation, DreamBooth, Ruiz et al. 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from mmgen.devices import autocast
from mmgen.images import to_pil
from mmgen.models.encoders import MAX_PROMPT_TOKENS, text_tokens
from mmgen.pipeline import MultimodalGANPipeline
from mmgen.training.gan.batch import Batch

REFERENCES = 96
"""How many of its own pictures the base is shown as references."""

KINDS = (0.6, 0.25, 0.1, 0.05)
"""Shares of words alone, words and a reference, a reference alone, and neither."""


@dataclass
class Recalled:
    """What the base makes of n conditions.

    Attributes:
        z: [n, noise_channels].
        condition: the arguments of `Fusion`, with one reference.
        latents: [n, C, S, S].
    """

    z: torch.Tensor
    condition: dict[str, torch.Tensor]
    latents: torch.Tensor


class Prior:
    """The base, which draws what it knows.

    A caption is drawn the more often the smaller its group, by the square root: the twenty captions of a fine-tuning
    would else be lost among thousands in the next one.

    Args:
        pipe: the base; its parts are read, never changed.
        groups: captions, as `mmgen.hub.files.read_captions` gives them; at least one.
        seed: of the pictures that it is shown as references.
    """

    @torch.inference_mode()
    def __init__(self, pipe: MultimodalGANPipeline, groups: list[list[str]], seed: int):
        self.pipe = pipe
        captions = [caption for group in groups for caption in group]
        chances = np.concatenate([np.full(len(group), len(group) ** -0.5) for group in groups])
        self.chances = chances / chances.sum()
        self.words = _encode(pipe, captions)
        config = pipe.fusion.config
        self.references = torch.zeros(1, config.reference_grid, config.reference_channels)
        shown = self.draw(REFERENCES, np.random.default_rng((seed, 3)), kinds=(1.0, 0.0, 0.0, 0.0)).latents
        pictures = [to_pil(pipe.autoencoder.decode(one[None].to(pipe.device)).float())[0] for one in shown]
        self.references = pipe.encode_references(pictures).cpu()

    @torch.no_grad()
    def draw(self, count: int, rng: np.random.Generator, kinds: tuple[float, ...] = KINDS) -> Recalled:
        """Let the base draw `count` of its captions, with its own pictures as references, in the shares of `KINDS`."""
        chosen = rng.choice(len(self.chances), count, p=self.chances)
        kind = torch.from_numpy(rng.choice(4, count, p=kinds))
        words = [self.words[index] for index in chosen]
        text = pad_sequence([one.float() for one in words], batch_first=True)
        lengths = torch.tensor([len(one) for one in words])
        shown = torch.from_numpy(rng.integers(len(self.references), size=count))
        condition = {
            "text": text,
            "text_mask": torch.arange(text.shape[1]) < lengths[:, None],
            "text_weight": (kind < 2).float(),
            "references": self.references[shown][:, None],
            "reference_weights": ((kind == 1) | (kind == 2)).float()[:, None],
        }
        noise_channels = self.pipe.generator.config.noise_channels
        z = torch.from_numpy(rng.standard_normal((count, noise_channels)).astype(np.float32))
        device = self.pipe.device
        with autocast(device):
            fused = self.pipe.fusion(**{name: value.to(device) for name, value in condition.items()})
            latents = self.pipe.generator(z.to(device), fused)
        return Recalled(z, condition, latents.float().cpu())


def _encode(pipe: MultimodalGANPipeline, captions: list[str]) -> list[torch.Tensor]:
    """The word tokens of each caption, float16 [T, W]; captions of like length are read together."""
    pieces = pipe.tokenizer(captions, truncation=True, max_length=MAX_PROMPT_TOKENS)["input_ids"]
    order = sorted(range(len(captions)), key=lambda index: len(pieces[index]))
    tokens: dict[int, torch.Tensor] = {}
    for start in range(0, len(order), 256):
        rows = order[start : start + 256]
        padded = pipe.tokenizer.pad({"input_ids": [pieces[row] for row in rows]}, return_tensors="pt").to(pipe.device)
        hidden = text_tokens(pipe.text_encoder, padded["input_ids"], padded["attention_mask"]).half().cpu()
        tokens.update((row, one[: len(pieces[row])].clone()) for row, one in zip(rows, hidden, strict=True))
    return [tokens[index] for index in range(len(captions))]


def mix(batch: Batch, recalled: Recalled) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A person's batch and what the base recalls, after it, as one: z and the arguments of `Fusion`."""
    both = {}
    for name, ours in batch.condition.items():
        theirs = recalled.condition[name]
        if ours.ndim > 1:  # As many word tokens, or references, in both.
            length = max(ours.shape[1], theirs.shape[1])
            ours, theirs = _longer(ours, length), _longer(theirs, length)
        both[name] = torch.cat([ours, theirs])
    return torch.cat([batch.z, recalled.z]), both


def _longer(x: torch.Tensor, length: int) -> torch.Tensor:
    """x [N, T, ...] with zeros added until T is `length`."""
    after = [0, 0] * (x.ndim - 2) + [0, length - x.shape[1]]
    return F.pad(x, after)
