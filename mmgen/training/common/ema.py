"""Exponential moving average of weights, counted in images."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


class Ema(nn.Module, Generic[Model]):
    """A copy of a model that follows it with a half-life in images, shorter at the start.

    beta = 0.5 ** (batch / min(half_life, ramp * images_seen)), as in StyleGAN2-ADA (Karras et al. 2020).

    Attributes:
        model: the averaged copy, in evaluation mode.
        images: images seen, a scalar tensor that is saved with the weights.
    """

    model: Model
    images: torch.Tensor

    def __init__(self, model: Model, half_life: float = 20_000, ramp: float = 0.05):
        super().__init__()
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.half_life, self.ramp = half_life, ramp
        self.register_buffer("images", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, model: Model, batch: int) -> None:
        """Move towards `model` after a step on `batch` images."""
        self.images += batch
        beta = 0.5 ** (batch / max(min(self.half_life, self.ramp * self.images.item()), 1e-8))
        ours: list[torch.Tensor] = list(self.model.parameters())
        theirs: list[torch.Tensor] = list(model.parameters())
        torch._foreach_lerp_(ours, theirs, 1.0 - beta)
        for mine, its in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(its)
