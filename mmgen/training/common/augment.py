"""Augmentation of images, of each training its own.

discriminator   `augment_pair`, `augment`: colour, shift, cutout, differentiable (Zhao et al., NeurIPS 2020)
autoencoder     `random_crops`, then `augment_colours`: mirrors, permuted channels, grounds
captioner       `vary_view`: views that a reader of images must not mind
fine-tuning     `vary_copy`: slight variations of a person's few images

None but the autoencoder's, which draws what it is given whatever it means, flips: letters and arrows have a side.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from mmgen.images import composite, from_uint8
from mmgen.models.encoders import REFERENCE_SIZE


def augment_pair(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Augment RGB images [N, 3, H, W] a and b, sample by sample in the same way."""
    both = augment(torch.cat([a, b], dim=1))
    return both[:, :3], both[:, 3:]


def augment(images: torch.Tensor) -> torch.Tensor:
    """Change brightness, saturation and contrast, shift by up to an eighth, and cut out a quarter-side square.

    Args:
        images: [N, 3k, H, W] in [-1, 1], k RGB images a sample that are changed alike.
    """
    n, channels, height, width = images.shape
    device = images.device

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(n, 1, 1, 1, device=device) * (high - low) + low

    x = images + uniform(-0.3, 0.3)
    grouped = x.unflatten(1, (channels // 3, 3))
    grey = grouped.mean(2, keepdim=True)
    x = (grey + (grouped - grey) * uniform(0.3, 1.7)[:, None]).flatten(1, 2)
    grouped = x.unflatten(1, (channels // 3, 3))
    middle = grouped.mean((2, 3, 4), keepdim=True)
    x = (middle + (grouped - middle) * uniform(0.7, 1.3)[:, None]).flatten(1, 2)

    def below(high: int) -> torch.Tensor:
        return torch.randint(0, high, (n, 1), device=device)

    # Rows, then columns, each image's from where it is shifted to; what comes in from outside repeats the border.
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    shift_y, shift_x = height // 8, width // 8
    source_y = (rows + below(2 * shift_y + 1) - shift_y).clamp(0, height - 1)
    source_x = (columns + below(2 * shift_x + 1) - shift_x).clamp(0, width - 1)
    x = x.gather(2, source_y[:, None, :, None].expand(-1, channels, -1, width))
    x = x.gather(3, source_x[:, None, None, :].expand(-1, channels, height, -1))

    # Half of the images lose a square.
    top, left = below(height - height // 4 + 1), below(width - width // 4 + 1)
    cut_y, cut_x = (rows >= top) & (rows < top + height // 4), (columns >= left) & (columns < left + width // 4)
    is_cut = torch.rand(n, 1, 1, 1, device=device) < 0.5
    return x.masked_fill(is_cut & cut_y[:, None, :, None] & cut_x[:, None, None, :], 0.0)


def random_crops(images: list[np.ndarray], count: int, crop: int) -> torch.Tensor:
    """Random crops [count, 4, crop, crop] in [-1, 1]; a third of them are whole images scaled down."""
    sizes = torch.tensor([len(array) for array in images], dtype=torch.float)
    crops = []
    for source in torch.multinomial(sizes, count, replacement=True).tolist():
        array = images[source]
        index, shape = int(torch.randint(len(array), ())), array.shape[-1]
        if torch.rand(()) < 1 / 3 and shape > crop:
            whole = from_uint8(torch.from_numpy(array[index].copy()))
            crops.append(F.interpolate(whole[None], size=crop, mode="area")[0])
        else:
            top, left = (int(torch.randint(shape - crop + 1, ())) for _ in range(2))
            crops.append(from_uint8(torch.from_numpy(array[index, :, top : top + crop, left : left + crop].copy())))
    return torch.stack(crops)


def augment_colours(pixels: torch.Tensor) -> torch.Tensor:
    """Show the autoencoder colours and grounds that the data lacks: mirrored, recoloured, laid on a ground.

    A flip for half of the images, a permutation of the colour channels for a third, and for a third an opaque
    ground of one colour.
    """
    count, device = len(pixels), pixels.device
    flip = torch.rand(count, device=device) < 0.5
    pixels = torch.where(flip.view(-1, 1, 1, 1), pixels.flip(-1), pixels)
    order = torch.arange(4, device=device).repeat(count, 1)
    for row in torch.nonzero(torch.rand(count) < 1 / 3).flatten().tolist():
        order[row, :3] = torch.randperm(3, device=device)
    pixels = torch.gather(pixels, 1, order.view(count, 4, 1, 1).expand_as(pixels))
    ground = torch.rand(count, 3, 1, 1, device=device) * 2 - 1
    opaque = torch.cat([composite(pixels, ground), torch.ones_like(pixels[:, 3:])], dim=1)
    return torch.where((torch.rand(count, device=device) < 1 / 3).view(-1, 1, 1, 1), opaque, pixels)


def vary_view(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turn, scale, shift, blur and tint images a little, on a ground that is white for half of them.

    No flips, as letters and arrows have a side, and no change of hue, as captions name colours.

    Args:
        pixels: premultiplied RGBA [N, 4, S, S] in [-1, 1].

    Returns:
        RGB [N, 3, REFERENCE_SIZE, REFERENCE_SIZE] in [-1, 1].
    """
    n = len(pixels)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return (torch.rand(n, *shape, generator=generator) * (high - low) + low).to(pixels.device)

    small = F.interpolate(pixels, size=(REFERENCE_SIZE, REFERENCE_SIZE), mode="area")
    angle, scale, stretch = uniform(-0.2, 0.2), uniform(0.85, 1.35), uniform(-0.1, 0.1).exp()
    cos, sin = angle.cos() * scale, angle.sin() * scale
    shift = uniform(-0.12, 0.12, 2)
    place = torch.stack([cos * stretch, -sin, shift[:, 0], sin, cos / stretch, shift[:, 1]], dim=1).view(n, 2, 3)
    grid = F.affine_grid(place, list(small.shape), align_corners=False)
    moved = F.grid_sample(small + 1, grid, align_corners=False) - 1  # Nothing, -1, comes in from outside.
    soft = F.avg_pool2d(F.pad(moved, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    blurred = uniform(-1, 1, 1, 1, 1).clamp_min(0)
    moved = moved + (soft - moved) * blurred
    ground = torch.where(uniform(0, 1, 1, 1, 1) < 0.5, 1.0, uniform(-1, 1, 3, 1, 1))
    rgb = composite(moved, ground)
    grey, middle = rgb.mean(1, keepdim=True), rgb.mean((1, 2, 3), keepdim=True)
    rgb = grey + (rgb - grey) * uniform(0.6, 1.4, 1, 1, 1)
    rgb = middle + (rgb - middle) * uniform(0.75, 1.25, 1, 1, 1) + uniform(-0.15, 0.15, 1, 1, 1)
    return rgb.clamp(-1, 1)


def vary_copy(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One image [4, S, S] in [-1, 1], premultiplied, turned by up to 8 degrees, scaled by up to 8%, moved by up to 5%
    and lit by up to 6% differently. It is never mirrored, as letters and faces have a side.
    """
    angle, scale, right, down, light = (2 * torch.rand(5, generator=generator) - 1).tolist()
    angle, scale = math.radians(8 * angle), 1 + 0.08 * scale
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    matrix = torch.tensor([[cos, -sin, 0.1 * right], [sin, cos, 0.1 * down]])
    opaque = bool((pixels[3] > 0.99).all())
    grid = F.affine_grid(matrix[None], [1, *pixels.shape], align_corners=False)
    padding = "border" if opaque else "zeros"
    turned = F.grid_sample(pixels[None] + 1, grid, padding_mode=padding, align_corners=False)[0]
    turned[:3] = torch.minimum(turned[:3] * (1 + 0.06 * light), turned[3:])
    return (turned - 1).clamp(-1, 1)
