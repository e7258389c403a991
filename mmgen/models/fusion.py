"""Fusion: words and references become one sequence of condition tokens and one vector."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import nn

from mmgen.models.layers import FusionBlock


@dataclass
class Fused:
    """What the generator is conditioned on.

    Attributes:
        tokens: [N, L, width]; in order one summary token, the words, the reference tokens, "no words", "no reference".
        log_weights: [N, L], the logarithm of each token's weight, -inf where there is none.
        pooled: [N, width], the summary token.
        attention: [layers, N, heads, L] how much the summary attends to each token, or None.
    """

    tokens: torch.Tensor
    log_weights: torch.Tensor
    pooled: torch.Tensor
    attention: torch.Tensor | None = None


class Fusion(ModelMixin, ConfigMixin):
    """A small transformer over word tokens and reference grid tokens.

    Each modality and each reference has a weight from 0 to 2. In every attention a token of weight w counts w times:
    1 is what the model was trained around, 0 is exactly the same as the token's absence. A modality whose weights sum
    to less than 1 leaves the rest to its learned "absent" token, so a weight fades without a jump.

    Args:
        text_channels: width of the text encoder's tokens.
        reference_channels: width of the image encoder's tokens.
        reference_grid: tokens of one reference.
    """

    @register_to_config
    def __init__(
        self,
        text_channels: int = 384,
        reference_channels: int = 768,
        reference_grid: int = 16,
        width: int = 256,
        depth: int = 2,
        heads: int = 4,
    ):
        super().__init__()
        self.text_in = nn.Sequential(nn.LayerNorm(text_channels), nn.Linear(text_channels, width))
        self.reference_in = nn.Sequential(nn.LayerNorm(reference_channels), nn.Linear(reference_channels, width))
        self.text_kind = nn.Parameter(torch.randn(width) * 0.02)
        self.reference_place = nn.Parameter(torch.randn(reference_grid, width) * 0.02)
        self.summary = nn.Parameter(torch.randn(width) * 0.02)
        self.no_text = nn.Parameter(torch.randn(width) * 0.02)
        self.no_reference = nn.Parameter(torch.randn(width) * 0.02)
        self.blocks = nn.ModuleList(FusionBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        text: torch.Tensor,
        text_mask: torch.Tensor,
        text_weight: torch.Tensor,
        references: torch.Tensor,
        reference_weights: torch.Tensor,
        return_attention: bool = False,
    ) -> Fused:
        """Fuse.

        Args:
            text: word tokens [N, T, text_channels].
            text_mask: [N, T], 1 where there is a word token.
            text_weight: [N], 0 to 2; 0 for no words.
            references: grid tokens [N, R, grid, reference_channels]; R may be 0.
            reference_weights: [N, R], 0 to 2; 0 for no reference.
        """
        n, grid = len(text), self.config.reference_grid
        text_weights = text_mask.float() * text_weight.float()[:, None]
        grid_weights = reference_weights.float()[:, :, None].expand(-1, -1, grid).flatten(1)
        no_text = (1 - text_weight.float()[:, None]).clamp_min(0)
        no_reference = (1 - reference_weights.float().sum(1, keepdim=True)).clamp_min(0)
        weights = torch.cat([torch.ones_like(no_text), text_weights, grid_weights, no_text, no_reference], dim=1)
        log_weights = weights.log()

        words = self.text_in(text) + self.text_kind
        images = (self.reference_in(references) + self.reference_place).flatten(1, 2)
        summary, absent_text, absent_reference = (
            token.expand(n, 1, -1) for token in (self.summary, self.no_text, self.no_reference)
        )
        x = torch.cat([summary, words, images, absent_text, absent_reference], dim=1)
        attentions = []
        for block in self.blocks:
            x, attention = block(x, log_weights)
            if return_attention:
                attentions.append(attention[:, :, 0])
        x = self.norm(x)
        return Fused(x, log_weights, x[:, 0], torch.stack(attentions) if return_attention else None)
