"""The adversarial step: decode, augment, look through the frozen CNN, let the discriminator learn, then face it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from mmgen.images import composite, from_uint8
from mmgen.models.autoencoder import ImageAutoencoder
from mmgen.models.discriminator import picture_maps
from mmgen.models.encoders import PyramidCNN
from mmgen.training.augment import augment_pair
from mmgen.training.batches import Batch
from mmgen.training.losses import discriminator_loss, feature_loss, generator_loss
from mmgen.training.optimizers import step_with_rate
from mmgen.training.run import Run

VALUES = ("adversarial", "features", "judge", "real", "fake", "mismatched")
"""What a step logs: the generator's two losses, the discriminator's, the mean scores of the three kinds of pictures."""


class Duel:
    """The discriminator's side of the training.

    Args:
        judge: the discriminator, prepared by accelerate.
        loss: `bce`, `hinge` or `relativistic`.
        size: side in pixels at which the frozen CNN judges.
    """

    def __init__(
        self,
        run: Run,
        judge: nn.Module,
        optimizer: torch.optim.Optimizer,
        cnn: PyramidCNN,
        autoencoder: ImageAutoencoder,
        loss: str,
        learning_rate: float,
        size: int,
    ):
        self.run, self.judge, self.optimizer, self.cnn, self.autoencoder = run, judge, optimizer, cnn, autoencoder
        self.loss, self.learning_rate, self.size = loss, learning_rate, size

    def play(self, latents: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Train the discriminator once on generated latents [N, C, S, S] and the pictures of their batch.

        Returns:
            The generator's adversarial loss against the discriminator so trained, its feature loss, and the `VALUES`.
        """
        with self.run.accelerator.autocast():
            decoded = self.autoencoder.decode(latents.contiguous(memory_format=torch.channels_last)).float()
        ground = torch.rand(len(latents), 3, 1, 1, device=latents.device) * 2 - 1
        real, fake = augment_pair(self.scaled(from_uint8(batch.restored), ground), self.scaled(decoded, ground))
        with torch.no_grad():
            real_maps = picture_maps(self.cnn, real, self.size)
        fake_maps = picture_maps(self.cnn, fake, self.size)

        # One forward for real, generated and mismatched: under DistributedDataParallel a backward allows no more.
        maps = [torch.cat([r, f.detach(), r]) for r, f in zip(real_maps, fake_maps, strict=True)]
        with self.run.accelerator.autocast():
            scores = self.judge(maps, torch.cat([batch.judged, batch.judged, batch.judged[batch.wrong]]))
        real_scores, fake_scores, wrong_scores = scores.float().chunk(3)
        loss = discriminator_loss(self.loss, real_scores, fake_scores, wrong_scores, batch.has_mismatch)
        self.run.accelerator.backward(loss)
        step_with_rate([self.optimizer], self.run.learning_rate(self.learning_rate))

        opponent = self.run.accelerator.unwrap_model(self.judge)
        learning = [parameter for parameter in opponent.parameters() if parameter.requires_grad]
        opponent.requires_grad_(False)
        with self.run.accelerator.autocast():
            faced = opponent(fake_maps, batch.judged).float()
        for parameter in learning:
            parameter.requires_grad_(True)
        adversarial = generator_loss(self.loss, real_scores.detach(), faced)
        features = feature_loss(fake_maps, real_maps, batch.paired)
        means = (score.mean() for score in (real_scores, fake_scores, wrong_scores))
        return adversarial, features, dict(zip(VALUES, (adversarial, features, loss, *means), strict=True))

    def scaled(self, pixels: torch.Tensor, ground: torch.Tensor) -> torch.Tensor:
        """Premultiplied RGBA [N, 4, H, W], brought to the judged size by averaging, then laid on a ground.

        `TrainingCache.restored` went the same way, so nothing but the picture tells real from generated.
        """
        return composite(F.interpolate(pixels.clamp(-1, 1), size=(self.size, self.size), mode="area"), ground)
