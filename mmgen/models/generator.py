"""The generator: noise, fused tokens and remembered latents -> latent, in one forward pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import nn

from mmgen.models.fusion import Fused
from mmgen.models.layers import Attention, GeneratorBlock


class Mapping(nn.Module):
    """Noise z -> style w, without any words, so that truncation never drifts off the prompt (StyleGAN-T, 2023)."""

    def __init__(self, noise_channels: int, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(noise_channels, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, z: torch.Tensor, truncation: torch.Tensor | float = 1.0) -> torch.Tensor:
        """z [N, noise_channels] -> w [N, width], drawn towards the mean style: w = mean + truncation * (w - mean).

        Args:
            truncation: 0 (the mean style) to 1 (as trained), one number or [N, 1].
        """
        style = self.layers(z)
        return self.mean + truncation * (style - self.mean)

    @torch.no_grad()
    def track_mean(self, z: torch.Tensor, momentum: float = 0.998) -> None:
        """Follow the mean style with a batch of noise."""
        self.mean.lerp_(self.layers(z).float().mean(0), 1 - momentum)


@dataclass
class Remembered:
    """Latents that the generator may look at: entries of the memory first, then a person's references.

    Attributes:
        latents: [N, K + R, C, S, S], normalised.
        keys: [N, K + R, D]; zero for references.
        likeness: [N, K + R], of each key to the prompt; 0 for references.
        weights: [N, K + R], 0 to 2; 0 is exactly the same as its absence.
    """

    latents: torch.Tensor
    keys: torch.Tensor
    likeness: torch.Tensor
    weights: torch.Tensor

    def to(self, device: torch.device | str) -> Remembered:
        """The same on a device."""
        return Remembered(**{name: value.to(device) for name, value in vars(self).items()})


OWN_PLACE = 5.0
"""Bias at first on a patch at the token's own place: 64 places share what is left, of which this leaves a third."""


class MemoryReader(nn.Module):
    """How remembered latents enter the generator, in three ways.

    Aligned: each slot's patches, by a linear map of that slot, are summed into the place tokens. By cross-attention:
    in some blocks the tokens attend to all patches of all slots, and what they find counts by the size that the tokens
    have grown to there. And by copying: at the end each token attends to the patches once more and takes their raw
    values, a head for each quarter of the channels, where a gate lets them pass. All copying heads and half of the
    others start by looking at their own place in every slot, by a bias on the distance of places (T5, Raffel et al.
    2020): places alone are told too faintly by the tokens to be found from nothing.

    Args:
        channels: of a patch.
        key_channels: of an entry's key.
        slots: K; references share one more.
        layers: how many blocks attend to the memory.
        side: of the square of places.
    """

    def __init__(self, channels: int, key_channels: int, width: int, heads: int, slots: int, layers: int, side: int):
        super().__init__()
        self.slots, self.heads, self.side = slots, heads, side
        self.patch_in = nn.Linear(channels, width)
        self.key_in = nn.Linear(key_channels + 1, width)
        self.slot = nn.Parameter(torch.randn(slots + 1, width) * 0.02)
        self.nothing = nn.Parameter(torch.randn(width) * 0.02)
        self.norm = nn.LayerNorm(width)
        bound = (slots * channels) ** -0.5  # As of one linear map of all slots; from zero it hardly ever moved away.
        self.aligned = nn.Parameter(torch.empty(slots + 1, channels, width).uniform_(-bound, bound))
        self.aligned_key = nn.Linear(key_channels + 1, width, bias=False)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.blocks = nn.ModuleList(Attention(width, heads) for _ in range(layers))
        self.to_query, self.to_key = nn.Linear(width, width), nn.Linear(width, width)
        self.gate = nn.Linear(width, channels)
        nn.init.zeros_(self.aligned_key.weight)
        for attention in self.blocks:
            nn.init.zeros_(attention.to_out.weight)
            nn.init.zeros_(attention.to_out.bias)
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, -1.0)
        steps = torch.arange(1 - side, side)
        near = OWN_PLACE * torch.exp(-(steps[:, None].square() + steps.square()).float())
        looks_near = torch.arange(heads) % 2 == 0
        self.copy_bias = nn.Parameter(near.repeat(heads, 1, 1))
        self.biases = nn.ParameterList(near * looks_near[:, None, None] for _ in range(layers))

    def read(self, remembered: Remembered, place: torch.Tensor, patch: int) -> MemoryTokens:
        """Remembered latents, and the place tokens [L, width] -> what `align`, `attend` and `copy` take."""
        n, slots = remembered.weights.shape
        patches = F.pixel_unshuffle(remembered.latents.flatten(0, 1), patch).flatten(2).transpose(1, 2)
        patches = patches.unflatten(0, (n, slots))
        kind = torch.arange(slots, device=place.device).clamp_max(self.slots)
        keys = torch.cat([remembered.keys, remembered.likeness[..., None]], dim=-1)
        tokens = self.patch_in(patches) + place + (self.key_in(keys) + self.slot[kind])[:, :, None]
        tokens = torch.cat([self.norm(tokens).flatten(1, 2), self.nothing.expand(n, 1, -1)], dim=1)
        weights = remembered.weights.float()
        log_weights = torch.cat([weights[:, :, None].expand(-1, -1, len(place)).flatten(1), weights.new_ones(n, 1)], 1)
        aligned = torch.einsum("nklc,kcw->nlw", patches * weights[..., None, None].to(patches), self.aligned[kind])
        aligned = aligned + (self.aligned_key(keys) * weights[..., None]).sum(1, keepdim=True)
        present = weights.amax(1).clamp_max(1.0)
        return MemoryTokens(tokens, log_weights.log(), aligned, patches.flatten(1, 2), present)

    def place_bias(self, table: torch.Tensor, slots: int) -> torch.Tensor:
        """A table [heads, 2 * side - 1, 2 * side - 1] by rows and columns apart -> a bias [heads, L, slots * L]."""
        line = torch.arange(self.side, device=table.device)
        apart = line - line[:, None] + self.side - 1
        bias = table[:, apart][..., apart]  # [heads, rows, rows, columns, columns]
        return bias.transpose(2, 3).reshape(len(table), self.side**2, -1).repeat(1, 1, slots)

    def attend(self, layer: int, x: torch.Tensor, memory: MemoryTokens) -> torch.Tensor:
        """Tokens [N, L, width] after they have looked at the memory."""
        bias = self.place_bias(self.biases[layer], memory.tokens.shape[1] // self.side**2)
        bias = F.pad(bias, (0, 1))  # For nothing, which lies nowhere.
        change = self.blocks[layer](self.norms[layer](x), memory.tokens, memory.log_weights, bias)[0]
        size = x.detach().square().mean(-1, keepdim=True).sqrt()
        return x + change * size * memory.present[:, None, None].to(change.dtype)

    def copy(self, x: torch.Tensor, drawn: torch.Tensor, memory: MemoryTokens) -> tuple[torch.Tensor, torch.Tensor]:
        """Let copies of remembered patches pass into drawn ones [N, L, channels], token by token.

        Returns:
            The patches, and how much of each slot's patch went into each token, [N, L, (K + R) * L], from 0 to 1.
        """
        n, length, channels = drawn.shape
        query = self.to_query(x).view(n, length, self.heads, -1).transpose(1, 2)
        key = self.to_key(memory.tokens[:, :-1]).view(n, -1, self.heads, query.shape[-1]).transpose(1, 2)
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        logits = logits + self.place_bias(self.copy_bias, key.shape[2] // length).to(logits.dtype)
        weights = memory.log_weights[:, None, None, :-1]
        absent = (memory.present == 0)[:, None, None, None]
        attention = (logits + torch.where(absent, 0.0, weights).to(logits.dtype)).softmax(-1)
        values = memory.patches.to(attention.dtype).view(n, -1, self.heads, channels // self.heads).transpose(1, 2)
        copied = (attention @ values).transpose(1, 2).flatten(2)
        gate = self.gate(x).sigmoid() * memory.present[:, None, None].to(x.dtype)
        passed = gate.unflatten(2, (self.heads, -1)).mean(3).transpose(1, 2)[..., None]
        return drawn + gate * (copied - drawn), (attention * passed).mean(1)


@dataclass
class MemoryTokens:
    """What a `MemoryReader` has read, M = (K + R) * L patches and one token for nothing.

    Attributes:
        tokens: [N, M + 1, width]; log_weights: [N, M + 1].
        aligned: [N, L, width], to be added to the place tokens.
        patches: [N, M, channels], raw.
        present: [N], 0 where there is nothing to read, up to 1.
    """

    tokens: torch.Tensor
    log_weights: torch.Tensor
    aligned: torch.Tensor
    patches: torch.Tensor
    present: torch.Tensor


class Generator(ModelMixin, ConfigMixin):
    """A plain transformer over patches of the latent, as in GAT (ICML 2026), with cross-attention to the fused tokens.

    Args:
        latent_channels, latent_size: shape of the latent, [latent_channels, latent_size, latent_size].
        patch: side of the square of latent positions that is one token.
        noise_channels: length of z.
        width: of the tokens; must equal the fusion's.
        memory_slots: entries of the memory that it looks at; 0 for a generator without a memory.
        memory_channels: of the entries' keys.
        head_channels: width of the two convolutions that smooth over the patches' borders; 0 for none.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 16,
        latent_size: int = 16,
        patch: int = 2,
        noise_channels: int = 128,
        width: int = 256,
        depth: int = 8,
        heads: int = 4,
        memory_slots: int = 0,
        memory_channels: int = 384,
        head_channels: int = 0,
    ):
        super().__init__()
        self.mapping = Mapping(noise_channels, width)
        self.from_pooled = nn.Linear(width, width)
        self.place = nn.Parameter(torch.randn((latent_size // patch) ** 2, width) * 0.02)
        self.blocks = nn.ModuleList(GeneratorBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.to_patch = nn.Linear(width, latent_channels * patch * patch)
        # The blocks before which the tokens look at the memory: a quarter and two thirds of the way.
        self.memory_blocks = sorted({depth // 4, depth - depth // 3 - 1}) if memory_slots else []
        self.memory_reader = self.head = None
        if memory_slots:
            channels = latent_channels * patch * patch
            layers = len(self.memory_blocks)
            side = latent_size // patch
            self.memory_reader = MemoryReader(channels, memory_channels, width, heads, memory_slots, layers, side)
            self.register_buffer("output_scale", torch.ones(1))  # Of what is drawn and copied together.
        if head_channels:
            first = nn.Conv2d(latent_channels, head_channels, 3, padding=1)
            last = nn.Conv2d(head_channels, latent_channels, 3, padding=1)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.head = nn.Sequential(first, nn.SiLU(), last)

    def forward(
        self,
        z: torch.Tensor,
        fused: Fused,
        truncation: torch.Tensor | float = 1.0,
        remembered: Remembered | None = None,
        copied: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Noise z [N, noise_channels], standard normal -> normalised latents [N, C, S, S].

        Args:
            remembered: what to look at; None, or all weights 0, for a drawing from the weights alone.
            copied: a list that is given how much of each remembered patch went into each token (`MemoryReader.copy`).
        """
        style = self.mapping(z, truncation) + self.from_pooled(fused.pooled)
        x = self.place.expand(len(z), -1, -1)
        memory = None
        if self.memory_reader is not None and remembered is not None and remembered.weights.shape[1]:
            memory = self.memory_reader.read(remembered, self.place, self.config.patch)
            x = x + memory.aligned
        for number, block in enumerate(self.blocks):
            if memory is not None and number in self.memory_blocks:
                x = self.memory_reader.attend(self.memory_blocks.index(number), x, memory)
            x = block(x, style, fused.tokens, fused.log_weights)
        x = self.norm(x)
        patches = self.to_patch(x)
        if memory is not None:
            patches, shares = self.memory_reader.copy(x, patches, memory)
            if copied is not None:
                copied.append(shares)
        side = self.config.latent_size // self.config.patch
        latents = F.pixel_shuffle(patches.transpose(1, 2).unflatten(2, (side, side)), self.config.patch)
        if self.head is not None:
            latents = latents + self.head(latents)
        return latents if self.memory_reader is None else latents * self.output_scale

    @torch.no_grad()
    def with_memory(self, slots: int, key_channels: int, head_channels: int = 128) -> Generator:
        """A copy that can look at a memory and smooth its patches' borders; without a memory it draws as before.

        What is remembered enters at full strength from the start, and copies pass by about a quarter. A gate that was
        closed (.02) stayed closed, and a generator that had its pictures by heart learned nothing from a memory that
        entered at zero: after 320 steps of 64, and after 180 more with the gate open, nothing of it was to be seen.
        """
        more = {"memory_slots": slots, "memory_channels": key_channels, "head_channels": head_channels}
        config = {name: value for name, value in self.config.items() if not name.startswith("_")}
        grown = type(self)(**{**config, **more})
        grown.load_state_dict({**grown.state_dict(), **self.state_dict()})
        return grown

    @torch.no_grad()
    def widened(self, latent_channels: int) -> Generator:
        """A copy that draws more latent channels: the first ones as before, the others still untrained.

        Raises:
            ValueError: fewer channels than there are.
        """
        if latent_channels < self.config.latent_channels:
            raise ValueError(f"{latent_channels} latent channels are fewer than the {self.config.latent_channels} here")
        wide = type(self).from_config({**self.config, "latent_channels": latent_channels})
        state, fresh = self.state_dict(), wide.state_dict()
        for name in ("to_patch.weight", "to_patch.bias"):
            state[name] = torch.cat([state[name], fresh[name][len(state[name]) :]])
        wide.load_state_dict(state)
        return wide
