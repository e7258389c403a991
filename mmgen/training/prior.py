"""What a checkpoint can already draw, kept in the mix while it learns something new.

A checkpoint brings a list of the captions it was trained on. Before fine-tuning it draws some of them; those drawings,
each with its caption and its noise, are trained on beside the person's pictures, so that what they do not touch stays
as it was (prior preservation, DreamBooth, Ruiz et al. 2023; here of the very function, with its noise, as in
"Learning without forgetting", Li and Hoiem 2016).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from mmgen.devices import autocast
from mmgen.images import to_pil
from mmgen.models.encoders import MAX_PROMPT_TOKENS, text_tokens
from mmgen.models.fusion import Fused
from mmgen.pipeline import MultimodalGANPipeline
from mmgen.training.batches import Batch
from mmgen.training.checkpoint import CAPTIONS_FILE

REFERENCES = 96


def read_captions(checkpoint: Path) -> list[str]:
    """The captions that a checkpoint brings; none if it has no such file."""
    file = checkpoint / CAPTIONS_FILE
    return [line for line in file.read_text(encoding="utf-8").splitlines() if line] if file.is_file() else []


@dataclass
class Prior:
    """Drawings of the base model.

    Attributes:
        z: [N, noise_channels]; latents: [N, C, S, S], what the base makes of them.
        words: [N, T, W] and mask [N, T]: the captions.
        references: [N, 1, grid, D] and weights [N, 1]: a reference for the first `REFERENCES` of them.
    """

    z: torch.Tensor
    latents: torch.Tensor
    words: torch.Tensor
    mask: torch.Tensor
    references: torch.Tensor
    weights: torch.Tensor

    def draw(self, count: int, rng: np.random.Generator) -> Prior:
        """`count` of them at random."""
        rows = torch.from_numpy(rng.integers(len(self.z), size=count))
        return Prior(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@torch.inference_mode()
def remember(pipe: MultimodalGANPipeline, captions: list[str], count: int, seed: int) -> Prior:
    """Let a pipeline draw `count` of its captions; the first `REFERENCES` also look at one of its own pictures."""
    rng = np.random.default_rng((seed, 3))
    chosen = [captions[i] for i in rng.permutation(len(captions))[:count]]
    z = torch.from_numpy(rng.standard_normal((len(chosen), pipe.generator.config.noise_channels)).astype(np.float32))
    pieces = pipe.tokenizer(chosen, padding=True, truncation=True, max_length=MAX_PROMPT_TOKENS, return_tensors="pt")
    mask = pieces["attention_mask"]
    rows = range(0, len(chosen), 64)
    words = torch.cat(
        [text_tokens(pipe.text_encoder, *_to(pipe, pieces["input_ids"][i : i + 64], mask[i : i + 64])) for i in rows]
    ).cpu()
    config = pipe.fusion.config
    references = torch.zeros(len(chosen), 1, config.reference_grid, config.reference_channels)
    made = Prior(z, z, words, mask.bool(), references, torch.zeros(len(chosen), 1))
    made.latents = torch.cat([_latents(pipe, made, slice(i, i + 64)) for i in rows])
    some = slice(0, min(REFERENCES, len(chosen) // 4))
    shown = pipe.autoencoder.decode(made.latents[-len(chosen) // 4 :][some].to(pipe.device)).float()
    if len(shown):
        references[: len(shown), 0] = pipe.encode_references(to_pil(shown)).cpu()
        made.weights[: len(shown)] = 1.0
        made.latents[: len(shown)] = _latents(pipe, made, slice(0, len(shown)))
    return made


def _to(pipe: MultimodalGANPipeline, *tensors: torch.Tensor) -> list[torch.Tensor]:
    return [tensor.to(pipe.device) for tensor in tensors]


def _latents(pipe: MultimodalGANPipeline, prior: Prior, rows: slice) -> torch.Tensor:
    words, mask, references, weights, z = _to(
        pipe, *(value[rows] for value in (prior.words, prior.mask, prior.references, prior.weights, prior.z))
    )
    used = 1 if bool(weights.any()) else 0
    with autocast(pipe.device):
        fused: Fused = pipe.fusion(
            words, mask, torch.ones(len(words), device=words.device), references[:, :used], weights[:, :used]
        )
        return pipe.generator(z, fused).float().cpu()


def mix(batch: Batch, prior: Prior) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """A person's batch and the base's drawings as one.

    Returns:
        z, the arguments of `Fusion`, the target latents and the weights in the paired loss.
    """
    condition, count = batch.condition, len(prior.z)
    length = max(condition["text"].shape[1], prior.words.shape[1])
    slots = condition["references"].shape[1]
    both = {
        "text": torch.cat([_longer(condition["text"], length), _longer(prior.words, length)]),
        "text_mask": torch.cat([_longer(condition["text_mask"], length), _longer(prior.mask, length)]),
        "text_weight": torch.cat([condition["text_weight"], torch.ones(count)]),
        "references": torch.cat([condition["references"], _longer(prior.references, slots)]),
        "reference_weights": torch.cat([condition["reference_weights"], _longer(prior.weights, slots)]),
    }
    paired = torch.cat([batch.paired, torch.ones(count)])
    return torch.cat([batch.z, prior.z]), both, torch.cat([batch.latents, prior.latents]), paired


def _longer(x: torch.Tensor, length: int) -> torch.Tensor:
    """x [N, T, ...] with zeros added until T is `length`."""
    after = [0, 0] * (x.ndim - 2) + [0, length - x.shape[1]]
    return F.pad(x, after)
