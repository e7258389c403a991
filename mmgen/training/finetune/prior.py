"""What a checkpoint can already draw, kept in the mix while it learns something new.

A checkpoint brings a list of the captions it was trained on. At every step of fine-tuning the base, frozen, draws some
of them from fresh noise; the learner is to draw the same beside the person's pictures, so that what they do not touch
stays as it was ("Learning without forgetting", Li and Hoiem 2016; prior preservation, DreamBooth, Ruiz et al. 2023).
A base with a memory looks it up for them as it does in use, and the learner is shown the very same entries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from mmgen.devices import autocast
from mmgen.images import to_pil
from mmgen.models.generator import Remembered
from mmgen.pipeline import MultimodalGANPipeline
from mmgen.training.common.frozen import alike, encode_pieces, text_pieces
from mmgen.training.finetune.presets import PRIOR_KINDS
from mmgen.training.gan.batch import Batch
from mmgen.training.lookup import PromptLookup

REFERENCES = 96
"""How many of its own pictures the base is shown as references."""

MOST = 4096
"""Captions that are kept at most: a fine-tuning of some minutes draws a tenth of them."""


@dataclass
class PriorBatch:
    """What the base makes of n conditions.

    Attributes:
        z: [n, noise_channels].
        condition: the arguments of `Fusion`, with one reference.
        remembered: what the base looked at, or None for one without a memory.
        latents: [n, C, S, S].
    """

    z: torch.Tensor
    condition: dict[str, torch.Tensor]
    remembered: Remembered | None
    latents: torch.Tensor


class PriorSampler:
    """The base, which draws what it knows.

    A caption is drawn the more often the smaller its group, by the square root: the twenty captions of a fine-tuning
    would else be lost among thousands in the next one.

    Args:
        pipe: the base; its parts are read, never changed.
        groups: captions, as `mmgen.parts.read_captions` gives them; at least one.
        seed: of the pictures that it is shown as references, and of which captions are kept of more than `MOST`.
        known: what `state` gave for such a base, captions and seed, so that it is not made again.
        on_part: called with the share that is done, 0 to 1; what it raises ends the work.
        kinds: shares of words alone, words and a reference, a reference alone, and neither.
    """

    @torch.inference_mode()
    def __init__(
        self,
        pipe: MultimodalGANPipeline,
        groups: list[list[str]],
        seed: int,
        known: dict[str, torch.Tensor] | None = None,
        on_part: Callable[[float], object] = lambda share: None,
        kinds: tuple[float, ...] = PRIOR_KINDS,
    ):
        self.pipe, self.kinds = pipe, kinds
        captions, self.chances = _chosen(groups, np.random.default_rng((seed, 5)))
        if known is not None:
            lengths = known["lengths"].tolist()
            self.words = list(known["words"].split(lengths))
            self.references, self.reference_latents = known["references"], known["reference_latents"]
            looked_up = {name.removeprefix("lookup."): one for name, one in known.items() if name.startswith("lookup.")}
            self.lookup = PromptLookup(pipe, captions, looked_up) if pipe.has_memory else None
            on_part(1.0)
            return
        has_memory = pipe.has_memory
        self.words = _encode(pipe, captions, lambda share: on_part((0.4 if has_memory else 0.8) * share))
        self.lookup = (
            PromptLookup(pipe, captions, on_part=lambda share: on_part(0.4 + 0.4 * share)) if has_memory else None
        )
        config, latent = pipe.fusion.config, pipe.generator.config
        self.references = torch.zeros(1, config.reference_grid, config.reference_channels)
        self.reference_latents = torch.zeros(1, latent.latent_channels, latent.latent_size, latent.latent_size)
        shown = self.draw(REFERENCES, np.random.default_rng((seed, 3)), kinds=(1.0, 0.0, 0.0, 0.0)).latents
        images = [to_pil(pipe.autoencoder.decode(one[None].to(pipe.device)).float())[0] for one in shown]
        self.references = pipe.encode_references(images).cpu()
        self.reference_latents = pipe.reference_latents(images).cpu()
        on_part(1.0)

    def state(self) -> dict[str, torch.Tensor]:
        """All that was made, to be given as `known` another time."""
        looked_up = {f"lookup.{name}": value for name, value in self.lookup.state().items()} if self.lookup else {}
        return {
            "words": torch.cat(self.words),
            "lengths": torch.tensor([len(one) for one in self.words]),
            "references": self.references,
            "reference_latents": self.reference_latents,
            **looked_up,
        }

    @torch.no_grad()
    def draw(self, count: int, rng: np.random.Generator, kinds: tuple[float, ...] | None = None) -> PriorBatch:
        """Let the base draw `count` of its captions, with its own pictures as references, in the shares of `kinds`."""
        kinds = self.kinds if kinds is None else kinds
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
        remembered = self._remember(torch.from_numpy(chosen), condition, shown, rng)
        with autocast(device):
            fused = self.pipe.fusion(**{name: value.to(device) for name, value in condition.items()})
            latents = self.pipe.generator(z.to(device), fused, remembered=remembered and remembered.to(device))
        return PriorBatch(z, condition, remembered, latents.float().cpu())

    def _remember(
        self, chosen: torch.Tensor, condition: dict[str, torch.Tensor], shown: torch.Tensor, rng: np.random.Generator
    ) -> Remembered | None:
        """What the base looks at for captions by number [n] and a reference each [n], on the CPU."""
        if self.pipe.generator.memory_reader is None:
            return None
        weights, n = condition["reference_weights"], len(chosen)
        absent = torch.zeros(n, 1, self.pipe.generator.config.memory_channels + 1)
        references = Remembered(self.reference_latents[shown][:, None], absent[..., 1:], absent[..., 0], weights)
        if self.lookup is None:  # As many slots as a person's batch has.
            empty = absent.expand(-1, self.pipe.generator.config.memory_slots, -1)
            blank = references.latents.new_zeros(*empty.shape[:2], *references.latents.shape[2:])
            return _joined(Remembered(blank, empty[..., 1:], empty[..., 0], empty[..., 0]), references)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        found = self.lookup(chosen, weights[:, 0] > 0, generator)
        entries = Remembered(found.latents, found.keys, found.likeness, found.weights).to("cpu")
        entries.weights = entries.weights * condition["text_weight"][:, None]
        return _joined(entries, references)


def _chosen(groups: list[list[str]], rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Up to about `MOST` captions, and how likely each is drawn: a group by the square root of its size."""
    sizes = np.array([len(group) for group in groups])
    shares = sizes**0.5 / (sizes**0.5).sum()
    captions: list[str] = []
    chances: list[np.ndarray] = []
    for group, share in zip(groups, shares, strict=True):
        room = max(1, int(MOST * share))
        some = group
        if sizes.sum() > MOST and len(group) > room:
            some = [group[index] for index in sorted(rng.choice(len(group), room, replace=False).tolist())]
        captions += some
        chances.append(np.full(len(some), share / len(some)))
    made = np.concatenate(chances)
    return captions, made / made.sum()


def _encode(
    pipe: MultimodalGANPipeline, captions: list[str], on_part: Callable[[float], object] = lambda share: None
) -> list[torch.Tensor]:
    """The word tokens of each caption, float16 [T, W]; captions of like length are read together."""
    pieces = text_pieces(pipe.tokenizer, captions)
    tokens: dict[int, torch.Tensor] = {}
    for rows in alike([len(one) for one in pieces]):
        hidden, _ = encode_pieces(pipe.text_encoder, pipe.tokenizer, [pieces[row] for row in rows], pipe.device)
        read = zip(rows.tolist(), hidden.half().cpu(), strict=True)
        tokens.update((row, one[: len(pieces[row])].clone()) for row, one in read)
        on_part(len(tokens) / len(captions))
    return [tokens[index] for index in range(len(captions))]


def _joined(entries: Remembered, references: Remembered) -> Remembered:
    """Entries of the memory, then references."""
    pairs = zip(vars(entries).items(), vars(references).values(), strict=True)
    return Remembered(**{name: torch.cat([ours, theirs], dim=1) for (name, ours), theirs in pairs})


def mix(batch: Batch, recalled: PriorBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor], Remembered | None]:
    """A person's batch and what the base recalls, after it, as one: z, `Fusion`'s arguments, what is remembered."""
    remembered = None
    if recalled.remembered:
        theirs = vars(recalled.remembered)
        nothing = {name: value.new_zeros(len(batch), *value.shape[1:]) for name, value in theirs.items()}
        ours = vars(batch.remembered) if batch.remembered else nothing
        remembered = Remembered(**_mixed(ours, theirs))
    z = torch.cat([batch.z, recalled.z.to(batch.z)])
    return z, _mixed(batch.condition, recalled.condition), remembered


def _mixed(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Both, by name, with as many word tokens, references or slots in one as in the other."""
    both = {}
    for name, mine in ours.items():
        its = theirs[name].to(mine.device)
        if mine.ndim > 1:
            length = max(mine.shape[1], its.shape[1])
            mine, its = _longer(mine, length), _longer(its, length)
        both[name] = torch.cat([mine, its])
    return both


def _longer(x: torch.Tensor, length: int) -> torch.Tensor:
    """x [N, T, ...] with zeros added until T is `length`."""
    after = [0, 0] * (x.ndim - 2) + [0, length - x.shape[1]]
    return F.pad(x, after)
