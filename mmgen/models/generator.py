"""The generator: noise and fused tokens -> latent, in one forward pass."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import nn

from mmgen.models.fusion import Fused
from mmgen.models.layers import GeneratorBlock


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


class Generator(ModelMixin, ConfigMixin):
    """A plain transformer over patches of the latent, as in GAT (ICML 2026), with cross-attention to the fused tokens.

    Args:
        latent_channels, latent_size: shape of the latent, [latent_channels, latent_size, latent_size].
        patch: side of the square of latent positions that is one token.
        noise_channels: length of z.
        width: of the tokens; must equal the fusion's.
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
    ):
        super().__init__()
        self.mapping = Mapping(noise_channels, width)
        self.from_pooled = nn.Linear(width, width)
        self.place = nn.Parameter(torch.randn((latent_size // patch) ** 2, width) * 0.02)
        self.blocks = nn.ModuleList(GeneratorBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.to_patch = nn.Linear(width, latent_channels * patch * patch)

    def forward(self, z: torch.Tensor, fused: Fused, truncation: torch.Tensor | float = 1.0) -> torch.Tensor:
        """Noise z [N, noise_channels], standard normal -> normalised latents [N, C, S, S]."""
        style = self.mapping(z, truncation) + self.from_pooled(fused.pooled)
        x = self.place.expand(len(z), -1, -1)
        for block in self.blocks:
            x = block(x, style, fused.tokens, fused.log_weights)
        patches = self.to_patch(self.norm(x))
        side = self.config.latent_size // self.config.patch
        return F.pixel_shuffle(patches.transpose(1, 2).unflatten(2, (side, side)), self.config.patch)

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
