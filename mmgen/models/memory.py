"""The memory: what the model has seen, to be looked up by words and read by the generator.

A retrieval-augmented generator need not keep every picture in its weights (RDM, Blattmann et al. 2022; Re-Imagen, Chen
et al. 2022; instance conditioning, Casanova et al. 2021). An entry is a picture's latent, quantised to 4 bits a value,
with a key: the mean BERT word token of its label, of length 1. Half of the slots of a look-up go to the entries that
are nearest to the words in other styles (what to draw), half to the nearest in the wanted style (how to draw it).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import nn

SLOTS = 4
"""Entries of one look-up: the first half by content, the second half by style."""

CANDIDATES = 32
"""The nearest entries of each half among which the seed chooses."""

WINDOW = 0.12
"""How much less alike than the best candidate another may be and still be chosen."""

TEMPERATURE = 0.02
"""Of the Gumbel noise on the likeness, where truncation is 1."""

SAME = 0.999
"""Likeness from which on two texts are the same words."""

LEVELS = 16
"""Values that a quantised number of a latent may take."""


@dataclass
class Retrieved:
    """What n look-ups gave.

    Attributes:
        entries: [n, K] numbers of entries; 0 where the weight is 0.
        likeness: [n, K], -1 to 1.
        keys: [n, K, D], of length 1.
        latents: [n, K, C, S, S].
        weights: [n, K], 0 where there was no entry to be had, else 1.
    """

    entries: torch.Tensor
    likeness: torch.Tensor
    keys: torch.Tensor
    latents: torch.Tensor
    weights: torch.Tensor


class Memory(ModelMixin, ConfigMixin):
    """Pictures as latents, with what they show, how they are drawn, and where they come from.

    Args:
        entries: how many there are.
        texts: the different labels, as a person says them; each has one key.
        styles: names of drawing styles; "" for none.
        sources: of each source its `source` (an address or a name), `licence` and `author`.
        latent_channels, latent_size, key_channels: shapes, as the image autoencoder and the text encoder have them.
        image_encoder_hash, text_encoder_hash: of the networks that made latents and keys (`fingerprint`).
    """

    @register_to_config
    def __init__(
        self,
        entries: int = 0,
        texts: Sequence[str] = (),
        styles: Sequence[str] = (),
        sources: Sequence[dict] = (),
        latent_channels: int = 32,
        latent_size: int = 16,
        key_channels: int = 384,
        image_encoder_hash: str = "",
        text_encoder_hash: str = "",
    ):
        super().__init__()
        numbers = latent_channels * latent_size * latent_size
        self.register_buffer("codes", torch.zeros(entries, numbers // 2, dtype=torch.uint8))
        self.register_buffer("levels", torch.zeros(latent_channels, LEVELS))
        self.register_buffer("text_keys", torch.zeros(len(texts), key_channels))
        for name in ("text", "concept", "style", "source"):
            self.register_buffer(name, torch.zeros(entries, dtype=torch.int32))

    def __len__(self) -> int:
        return len(self.codes)

    @classmethod
    @torch.no_grad()
    def build(
        cls,
        latents: torch.Tensor,
        keys: torch.Tensor,
        texts: Sequence[str],
        text: Sequence[int],
        concepts: Sequence[str],
        styles: Sequence[str],
        sources: Sequence[tuple[str, str, str]],
        image_encoder_hash: str,
        text_encoder_hash: str,
    ) -> Memory:
        """A memory of E pictures.

        Args:
            latents: [E, C, S, S], normalised.
            keys: [U, D], one for each of `texts`, made by `text_keys`.
            text: [E] numbers of the pictures' texts.
            concepts, styles: [E] each.
            sources: [E] (source, licence, author).
        """
        kinds = sorted(set(styles))
        origins = list(dict.fromkeys(sources))
        numbers = {concept: number for number, concept in enumerate(dict.fromkeys(concepts))}
        memory = cls(
            entries=len(latents),
            texts=list(texts),
            styles=kinds,
            sources=[dict(zip(("source", "licence", "author"), origin, strict=True)) for origin in origins],
            latent_channels=latents.shape[1],
            latent_size=latents.shape[2],
            key_channels=keys.shape[1],
            image_encoder_hash=image_encoder_hash,
            text_encoder_hash=text_encoder_hash,
        )
        memory.levels.copy_(quantisation_levels(latents))
        for start in range(0, len(latents), 256):
            memory.codes[start : start + 256] = quantise(latents[start : start + 256].float(), memory.levels)
        memory.text_keys.copy_(keys)
        memory.text.copy_(torch.as_tensor(text, dtype=torch.int32))
        for name, values, number in (
            ("concept", concepts, numbers),
            ("style", styles, {style: n for n, style in enumerate(kinds)}),
            ("source", sources, {origin: n for n, origin in enumerate(origins)}),
        ):
            getattr(memory, name).copy_(torch.tensor([number[value] for value in values], dtype=torch.int32))
        return memory.eval().requires_grad_(False)

    def latents(self, entries: torch.Tensor) -> torch.Tensor:
        """Normalised latents [..., C, S, S] of entries by number [...]."""
        c, s = self.config.latent_channels, self.config.latent_size
        return dequantise(self.codes[entries.flatten()], self.levels, s).view(*entries.shape, c, s, s)

    def style_number(self, style: str | None) -> int:
        """The number of a style, or -1 for one that no entry has."""
        return list(self.config.styles).index(style) if style in self.config.styles else -1

    @torch.no_grad()
    def lookup(
        self,
        queries: torch.Tensor,
        style: torch.Tensor,
        excluded: torch.Tensor | None = None,
        temperature: torch.Tensor | float = TEMPERATURE,
        generator: torch.Generator | None = None,
        slots: int = SLOTS,
    ) -> Retrieved:
        """Find what is nearest to some words, half in other styles and half in the wanted one.

        Seeds choose among the `CANDIDATES` nearest by Gumbel top-k over the likeness (Kool et al. 2019); what is
        further than `WINDOW` from the nearest is never chosen where enough others are.

        Args:
            queries: [n, D] as `text_keys` gives them, or [n, slots / 2, D], one for each slot of a half.
            style: [n] numbers of the wanted styles.
            excluded: [n, E] bool, entries that must not be found, or None.
            temperature: of the choice, one number or [n, 1]; 0 takes the nearest.
            generator: of the noise; None for torch's own.
            slots: K, an even number.
        """
        half, rows = slots // 2, len(queries)
        same_query = queries.ndim == 2  # Known without asking the device.
        queries = queries[:, None].expand(-1, half, -1) if queries.ndim == 2 else queries
        own = self.style[None] == style[:, None].to(self.style)
        if excluded is not None:
            own_allowed, other_allowed = own & ~excluded, ~own & ~excluded
        else:
            own_allowed, other_allowed = own, ~own
        found, likeness = [], []
        taken = torch.zeros(rows, 0, dtype=torch.int64, device=queries.device)
        for allowed in (other_allowed, own_allowed):
            left = list(range(half))
            while left:
                # All slots of a half with one query are drawn in one go, from one ranking.
                query = queries[:, left[0]]
                alike = [place for place in left if same_query or torch.equal(queries[:, place], query)]
                left = [place for place in left if place not in alike]
                scores = (query @ self.text_keys.to(query).T)[:, self.text.long()]
                scores = scores.masked_fill(~allowed, -2.0)
                if taken.shape[1]:
                    scores = scores.scatter(1, taken, -2.0)
                entries, values = _choose(scores, len(alike), temperature, generator)
                found.append(entries)
                likeness.append(values)
                taken = torch.cat([taken, entries], dim=1)
        entries, likeness = torch.cat(found, dim=1), torch.cat(likeness, dim=1)
        weights = (likeness > -1.5).float()
        entries = entries * weights.long()
        return Retrieved(
            entries=entries,
            likeness=likeness.clamp_min(-1.0) * weights,
            keys=self.text_keys.to(queries)[self.text[entries].long()] * weights[..., None],
            latents=self.latents(entries) * weights[..., None, None, None],
            weights=weights,
        )


def _choose(
    scores: torch.Tensor, count: int, temperature: torch.Tensor | float, generator: torch.Generator | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` entries of each row of scores [n, E], and their scores; the nearest of those chosen first."""
    values, entries = scores.topk(min(CANDIDATES, scores.shape[1]), dim=1)
    if values.shape[1] < count:  # A memory of fewer entries than slots.
        missing = (0, count - values.shape[1])
        values, entries = F.pad(values, missing, value=-2.0), F.pad(entries, missing)
    uniform = torch.rand(values.shape, generator=generator, device=generator.device if generator else values.device)
    gumbel = -torch.log(-torch.log(uniform.to(values.device).clamp(1e-9, 1 - 1e-7)))
    perturbed = values + temperature * gumbel
    far = values < values[:, :1] - WINDOW
    perturbed = torch.where(far, values - 4.0, perturbed)
    chosen = perturbed.topk(count, dim=1).indices
    values, entries = values.gather(1, chosen), entries.gather(1, chosen)
    order = values.argsort(dim=1, descending=True, stable=True)
    return entries.gather(1, order), values.gather(1, order)


def text_keys(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Word tokens [n, T, D] and mask [n, T] -> keys [n, D]: their mean, of length 1."""
    return F.normalize((tokens.float() * mask[..., None]).sum(1), dim=1)


def without_style(text: str, styles: Sequence[str]) -> tuple[str, str | None]:
    """A prompt without the words that name a style, and that style, the longest name that occurs.

    >>> without_style("a red apple, fluent 3d style", ["fluent 3d", "noto"])
    ('a red apple', 'fluent 3d')
    >>> without_style("noto emoji of a cat", ["noto"])
    ('a cat', 'noto')
    >>> without_style("a cat", ["noto"])
    ('a cat', None)
    """
    words = " ".join(text.split())
    for style in sorted(filter(None, styles), key=len, reverse=True):
        name = re.escape(style)
        if not re.search(rf"\b{name}\b", words, re.IGNORECASE):
            continue
        for pattern in (rf",?\s*(in )?\b{name} style\b", rf"\b{name} emoji of\b", rf",?\s*\b{name}\b"):
            words = re.sub(pattern, " ", words, flags=re.IGNORECASE)
        return " ".join(words.split()).strip(" ,"), style
    return words, None


_JOINTS = re.compile(
    r"\b(?:on|in|at|and|under|over|beside|by|near|behind|above|below|next to|in front of|left of|right of)\b|[,;+&]"
)
_ARTICLES = re.compile(r"^(?:(?:a|an|the|some|one|two|three|his|her|its|my)\b\s*)+", re.IGNORECASE)


def subject(text: str) -> str:
    """A text without the article at its start.

    >>> subject("a cat")
    'cat'
    """
    return _ARTICLES.sub("", text) or text


def phrases(text: str) -> list[str]:
    """The things that a prompt names side by side, each without its article; one where it names one.

    >>> phrases("a beautiful sunset on the beach")
    ['beautiful sunset', 'beach']
    >>> phrases("a wizard with dark skin")
    ['wizard with dark skin']
    """
    parts = [subject(part.strip()) for part in _JOINTS.split(text)]
    return [part for part in parts if part] or [text]


def quantisation_levels(latents: torch.Tensor, rounds: int = 25) -> torch.Tensor:
    """The `LEVELS` values of each channel [C, LEVELS] that cost least (Lloyd 1982), from up to 512 latents."""
    chosen = torch.linspace(0, len(latents) - 1, min(512, len(latents))).long()
    values = latents[chosen].float().transpose(0, 1).flatten(1)
    values = values[:, torch.linspace(0, values.shape[1] - 1, min(20_000, values.shape[1])).long()]
    levels = values.quantile((torch.arange(LEVELS) + 0.5) / LEVELS, dim=1).T.contiguous()
    for _ in range(rounds):
        nearest = torch.searchsorted(((levels[:, 1:] + levels[:, :-1]) / 2).contiguous(), values)
        sums = torch.zeros_like(levels).scatter_add_(1, nearest, values)
        counts = torch.zeros_like(levels).scatter_add_(1, nearest, torch.ones_like(values))
        levels = torch.where(counts > 0, sums / counts.clamp_min(1), levels).sort(dim=1).values
    return levels


def quantise(latents: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Latents [n, C, S, S] -> the nearest levels' numbers, two in a byte, uint8 [n, C * S * S / 2]."""
    flat = latents.transpose(0, 1).flatten(1).contiguous()
    middles = ((levels[:, 1:] + levels[:, :-1]) / 2).contiguous()
    codes = torch.searchsorted(middles.to(flat), flat).view(latents.shape[1], len(latents), -1)
    codes = codes.transpose(0, 1).flatten(1).to(torch.uint8)
    return codes[:, ::2] | (codes[:, 1::2] << 4)


def dequantise(codes: torch.Tensor, levels: torch.Tensor, size: int) -> torch.Tensor:
    """What `quantise` gave -> latents [n, C, size, size]."""
    both = torch.stack([codes & 15, codes >> 4], dim=2).flatten(1)
    channels = both.view(len(codes), len(levels), -1).transpose(0, 1).flatten(1)
    return levels.gather(1, channels.long()).view(len(levels), len(codes), size, size).transpose(0, 1)


def fingerprint(module: nn.Module) -> str:
    """Which weights a network has, in 16 hex digits: the first values of each tensor, as half precision keeps them.

    Stored in float16 and loaded in float32 a network has the same fingerprint; trained further, another.
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if value.is_floating_point():
            some = value.detach().flatten()[:256].cpu().half().float()
            digest.update(f"{name}{tuple(value.shape)}".encode() + some.numpy().tobytes())
    return digest.hexdigest()[:16]
