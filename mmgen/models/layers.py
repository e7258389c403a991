"""Transformer parts shared by the fusion and the generator.

Attention is written out (matmul, softmax, matmul): with the few dozen tokens of these models its backward on a CPU is
several times faster than that of the fused kernel, and its weights can be read.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    """Multi-head attention whose keys carry weights.

    A key of weight w counts as if it stood there w times: log w is added to its logits, so 0 removes it exactly and 1
    changes nothing.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_query = nn.Linear(width, width)
        self.to_key_value = nn.Linear(width, 2 * width)
        self.to_out = nn.Linear(width, width)

    def forward(
        self,
        x: torch.Tensor,
        context: torch.Tensor,
        log_weights: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attend from x [N, Q, D] to context [N, K, D].

        Args:
            log_weights: [N, K], the logarithm of each key's weight; None for ones.
            bias: [heads, Q, K], added to the logits; None for none.

        Returns:
            The result [N, Q, D] and the attention [N, heads, Q, K].
        """
        n, queries, width = x.shape
        query = self.to_query(x).view(n, queries, self.heads, -1).transpose(1, 2)
        key, value = self.to_key_value(context).view(n, context.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        if log_weights is not None:
            logits = logits + log_weights[:, None, None].to(logits.dtype)
        if bias is not None:
            logits = logits + bias.to(logits.dtype)
        attention = logits.softmax(-1)
        return self.to_out((attention @ value).transpose(1, 2).reshape(n, queries, width)), attention


class FeedForward(nn.Module):
    """Two linear layers around a squared ReLU (So et al., "Primer", 2021), cheaper on a CPU than a GELU."""

    def __init__(self, width: int, factor: int = 4):
        super().__init__()
        self.up, self.down = nn.Linear(width, factor * width), nn.Linear(factor * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.relu(self.up(x)).square())


class FusionBlock(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.feed_forward = FeedForward(width)

    def forward(self, x: torch.Tensor, log_weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        normed = self.norm1(x)
        change, attention = self.attention(normed, normed, log_weights)
        x = x + change
        return x + self.feed_forward(self.norm2(x)), attention


class GeneratorBlock(nn.Module):
    """Self-attention, cross-attention to the fused tokens, feed-forward; scale, shift and gate from a style vector.

    The modulation is adaLN-zero (Peebles and Xie, "Scalable Diffusion Models with Transformers", 2023): every block
    starts as the identity.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm3 = (nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.norm2 = nn.LayerNorm(width)
        self.self_attention = Attention(width, heads)
        self.cross_attention = Attention(width, heads)
        self.feed_forward = FeedForward(width)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        nn.init.zeros_(self.cross_attention.to_out.weight)

    def forward(
        self, x: torch.Tensor, style: torch.Tensor, context: torch.Tensor, log_weights: torch.Tensor
    ) -> torch.Tensor:
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(F.silu(style)).unsqueeze(1).chunk(6, dim=-1)
        normed = self.norm1(x) * (1 + scale1) + shift1
        x = x + gate1 * self.self_attention(normed, normed)[0]
        x = x + self.cross_attention(self.norm2(x), context, log_weights)[0]
        return x + gate2 * self.feed_forward(self.norm3(x) * (1 + scale2) + shift2)
