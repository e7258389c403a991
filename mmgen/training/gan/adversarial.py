"""The adversarial step: decode, augment, look through the frozen CNN, let the discriminator learn, then face it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from mmgen.images import composite
from mmgen.models.autoencoder import ImageAutoencoder
from mmgen.models.discriminator import picture_maps
from mmgen.models.encoders import PyramidCNN
from mmgen.training.augment import augment_pair
from mmgen.training.gan.batch import Batch
from mmgen.training.gan.losses import discriminator_loss, feature_loss, generator_loss
from mmgen.training.optimizers import step_with_rate
from mmgen.training.run import Run

VALUES = ("adversarial", "features", "discriminator", "real", "fake", "mismatched")
"""What a step logs: the generator's two losses, the discriminator's, the mean scores of the three kinds of images."""

VIEWS = 2
"""What the discriminator sees of an image: the whole, made smaller, and a crop at its native size."""


class AdversarialStep:
    """Both players' turns, on one batch of what the generator has drawn.

    Args:
        discriminator: prepared by accelerate, with heads for `VIEWS` views.
        autoencoder: frozen; what it makes of the real latents is what counts as real, so that the generator is not
            blamed for what the autoencoder loses.
        loss: `bce`, `hinge` or `relativistic`.
        size: side in pixels of both views.
    """

    def __init__(
        self,
        run: Run,
        discriminator: nn.Module,
        optimizer: torch.optim.Optimizer,
        cnn: PyramidCNN,
        autoencoder: ImageAutoencoder,
        loss: str,
        learning_rate: float,
        size: int,
    ):
        self.run, self.discriminator, self.optimizer = run, discriminator, optimizer
        self.cnn, self.autoencoder = cnn, autoencoder
        self.loss, self.learning_rate, self.size = loss, learning_rate, size

    def __call__(
        self, latents: torch.Tensor, batch: Batch, decoder: nn.Module | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Train the discriminator once on generated latents [N, C, S, S] and the real ones of their batch.

        Args:
            decoder: an image decoder that learns, instead of the frozen one, for what was generated.

        Returns:
            The generator's adversarial loss against the discriminator so trained, its feature loss, and the `VALUES`.
        """
        # Decode what is real and what is drawn, on grounds of one colour.
        fake_images = self.decode(latents, decoder)
        with torch.no_grad():
            real_images = self.decode(batch.latents)
        ground = torch.rand(len(latents), 3, 1, 1, device=latents.device) * 2 - 1
        real_images, fake_images = composite(real_images, ground), composite(fake_images, ground)

        # Look at the whole and at a native crop through the frozen CNN, real and drawn augmented alike.
        real_maps, fake_maps = [], []
        for real, fake in self.views(real_images, fake_images):
            real, fake = augment_pair(real, fake)
            with torch.no_grad():
                real_maps.append(picture_maps(self.cnn, real, self.size))
            fake_maps.append(picture_maps(self.cnn, fake, self.size))

        # The discriminator learns: real, drawn, and real with a wrong condition. One forward for all of them, as under
        # DistributedDataParallel a backward allows no more.
        together = [
            [torch.cat([r, f.detach(), r]) for r, f in zip(reals, fakes, strict=True)]
            for reals, fakes in zip(real_maps, fake_maps, strict=True)
        ]
        condition = batch.discriminator_condition
        with self.run.accelerator.autocast():
            scores = self.discriminator(together, torch.cat([condition, condition, condition[batch.mismatch_index]]))
        real_scores, fake_scores, mismatched_scores = scores.float().chunk(3)
        loss = discriminator_loss(self.loss, real_scores, fake_scores, mismatched_scores, batch.has_mismatch)
        self.run.accelerator.backward(loss)
        step_with_rate([self.optimizer], self.run.learning_rate(self.learning_rate))

        # The generator faces it, without teaching it.
        opponent = self.run.accelerator.unwrap_model(self.discriminator)
        learning = [parameter for parameter in opponent.parameters() if parameter.requires_grad]
        opponent.requires_grad_(False)
        with self.run.accelerator.autocast():
            faced = opponent(fake_maps, condition).float()
        for parameter in learning:
            parameter.requires_grad_(True)
        adversarial = generator_loss(self.loss, real_scores.detach(), faced)
        pairs = zip(fake_maps, real_maps, strict=True)
        features = torch.stack([feature_loss(fake, real, batch.latent_weight) for fake, real in pairs]).mean()
        means = (score.mean() for score in (real_scores, fake_scores, mismatched_scores))
        return adversarial, features, dict(zip(VALUES, (adversarial, features, loss, *means), strict=True))

    @torch.no_grad()
    def held_out_score(self, latents: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """What the discriminator says of real images [N, C, S, S] that it never saw: its mean score; scalar.

        Where it lies far below the score of training images, the discriminator only remembers these.
        """
        images = self.decode(latents)
        images = composite(images, torch.ones(len(latents), 3, 1, 1, device=latents.device))
        maps = [picture_maps(self.cnn, view, self.size) for view, _ in self.views(images, images)]
        with self.run.accelerator.autocast():
            return self.run.accelerator.unwrap_model(self.discriminator)(maps, condition).float().mean()

    def decode(self, latents: torch.Tensor, decoder: nn.Module | None = None) -> torch.Tensor:
        """Latents [N, C, S, S] -> premultiplied RGBA [N, 4, H, W], clipped to [-1, 1]."""
        with self.run.accelerator.autocast():
            raw = (latents * self.autoencoder.scale + self.autoencoder.shift).contiguous(
                memory_format=torch.channels_last
            )
            return (decoder or self.autoencoder.decoder)(raw).float().clamp(-1, 1)

    def views(self, real: torch.Tensor, fake: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The whole of both, averaged down to `size`, and the same crop of both, as large as `size` where they are."""
        height = real.shape[-1]
        side = min(self.size, height)
        top, left = torch.randint(0, height - side + 1, (2,)).tolist()
        crop = (..., slice(top, top + side), slice(left, left + side))
        whole = (self.size, self.size)
        return [
            (F.interpolate(real, size=whole, mode="area"), F.interpolate(fake, size=whole, mode="area")),
            (real[crop], fake[crop]),
        ]
