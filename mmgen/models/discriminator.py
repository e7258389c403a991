"""The discriminator: small heads over a frozen CNN's features of the decoded picture (training only).

Projected GAN (Sauer et al., NeurIPS 2021): features at four strides are mixed by fixed random convolutions, across
channels (CCM) and top-down across scales (CSM), and one small spectrally normalised head a scale judges them. The
condition enters by projection (Miyato and Koyama, 2018), sample by sample.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from mmgen.models.encoders import PyramidCNN


class Discriminator(nn.Module):
    """Is the picture real, and does it fit the words and the reference?

    Args:
        channels: of the frozen CNN's four maps, fine to coarse.
        condition_channels: length of the condition vector.
        width: of the mixed maps and the heads.
        seed: of the fixed random mixing.
        views: of each picture, such as the whole and a crop; each has heads of its own.
    """

    def __init__(self, channels: list[int], condition_channels: int, width: int = 64, seed: int = 0, views: int = 1):
        super().__init__()
        self.mixing = FixedMixing(channels, width, seed)
        self.heads = nn.ModuleList(Head(width, condition_channels) for _ in range(views) for _ in channels)

    def forward(self, views: list[list[torch.Tensor]], conditions: list[torch.Tensor]) -> list[torch.Tensor]:
        """Feature maps of views, and the conditions of what they show -> scores [n, scales] of each view.

        Args:
            views: of each view its maps, fine to coarse, of n images; n may differ from view to view.
            conditions: of each view [n, condition_channels].
        """
        scales = len(self.heads) // len(views)
        scores = []
        for number, (maps, condition) in enumerate(zip(views, conditions, strict=True)):
            heads = self.heads[number * scales : (number + 1) * scales]
            pairs = zip(heads, self.mixing(maps), strict=True)
            scores.append(torch.stack([head(x, condition) for head, x in pairs], dim=1))
        return scores


class FixedMixing(nn.Module):
    """CCM and CSM: random convolutions that are never trained."""

    def __init__(self, channels: list[int], width: int, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.across_channels = nn.ModuleList(nn.Conv2d(c, width, 1, bias=False) for c in channels)
        self.across_scales = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in channels)
        for convolution in (*self.across_channels, *self.across_scales):
            fan_in = convolution.weight[0].numel()
            convolution.weight.data.copy_(torch.randn(convolution.weight.shape, generator=generator) / fan_in**0.5)
        self.requires_grad_(False)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Maps fine to coarse -> mixed maps of `width` channels, at the same sizes."""
        mixed, above = [], None
        for index in reversed(range(len(maps))):
            scale = maps[index].detach().float().square().mean((1, 2, 3), keepdim=True).add(1e-6).rsqrt()
            x = self.across_channels[index](maps[index] * scale)
            if above is not None:
                x = (x + F.interpolate(above, size=x.shape[-2:], mode="bilinear")) * 0.5**0.5
            above = self.across_scales[index](x)
            mixed.insert(0, above)
        return mixed


class Head(nn.Module):
    """Two convolutions and a projection on the condition; one score a picture, the mean over places."""

    def __init__(self, width: int, condition_channels: int):
        super().__init__()
        self.conv1 = spectral_norm(nn.Conv2d(width, width, 3, padding=1))
        self.conv2 = spectral_norm(nn.Conv2d(width, width, 3, padding=1, stride=2))
        self.score = spectral_norm(nn.Conv2d(width, 1, 1))
        self.from_condition = spectral_norm(nn.Linear(condition_channels, width))

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu(self.conv2(F.leaky_relu(self.conv1(x), 0.2)), 0.2)
        projection = (x * self.from_condition(condition)[:, :, None, None]).sum(1) * x.shape[1] ** -0.5
        return (self.score(x)[:, 0] + projection).flatten(1).mean(1)


def image_maps(cnn: PyramidCNN, rgb: torch.Tensor, size: int) -> list[torch.Tensor]:
    """Feature maps of RGB pictures [N, 3, H, W] in [-1, 1], scaled to `size`; `PyramidCNN` alone normalises them."""
    if rgb.shape[-1] != size:
        rgb = F.interpolate(rgb, size=(size, size), mode="area")
    return cnn(rgb)
