"""The adversarial step: decode, augment, look through the frozen CNN, let the discriminator learn, then face it.

Decoding costs several times more than drawing, so no image is decoded whole at its full size: the whole is seen
small, as a preview decoder draws it, and a crop of the latent is decoded for what is seen at its native size. The
preview decoder learns from the image decoder, first on real latents and then, a few a step, on what is drawn, so that
the generator cannot please the one without the other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from mmgen.images import composite
from mmgen.models.autoencoder import ImageAutoencoder
from mmgen.models.discriminator import image_maps
from mmgen.models.encoders import PyramidCNN
from mmgen.training.common.augment import augment_pair
from mmgen.training.common.optimizers import step_with_rate
from mmgen.training.common.run import Run
from mmgen.training.common.schedules import preview_rate
from mmgen.training.gan.batch import Batch
from mmgen.training.gan.losses import discriminator_loss, feature_loss, generator_loss

VALUES = ("adversarial", "features", "discriminator", "real", "fake", "mismatched")
"""What a step logs: the generator's two losses, the discriminator's, the mean scores of the three kinds of images."""

VIEWS = 2
"""What the discriminator sees of an image: the whole, made smaller, and a crop at its native size."""

CROPPED = 4
"""One of so many images of a batch is seen by a crop too: that one is decoded, which is most of what a view costs."""

PREVIEW_STEPS, PREVIEW_BATCH = 160, 16
"""How long the preview decoder learns before the first adversarial step, and on how many latents a step."""

PREVIEWED = 3
"""Drawn latents of each later step from which it learns on."""

PREVIEW_LEARNING_RATE = 1e-3
"""Of the preview decoder at first; half of it later."""


def mean(values: Iterable[torch.Tensor]) -> torch.Tensor:
    """Of scalars."""
    return torch.stack(list(values)).mean()


class AdversarialStep:
    """Both players' turns, on one batch of what the generator has drawn.

    Args:
        discriminator: prepared by accelerate, with heads for `VIEWS` views; `preview`: prepared too.
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
        preview: nn.Module,
        preview_optimizer: torch.optim.Optimizer,
        cnn: PyramidCNN,
        autoencoder: ImageAutoencoder,
        loss: str,
        learning_rate: float,
        size: int,
    ):
        self.run, self.discriminator, self.optimizer = run, discriminator, optimizer
        self.preview, self.preview_optimizer = preview, preview_optimizer
        self.is_prepared = False
        self.cnn, self.autoencoder = cnn, autoencoder
        self.loss, self.learning_rate, self.size = loss, learning_rate, size

    def __call__(
        self, latents: torch.Tensor, batch: Batch, image_decoder: nn.Module | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Train the discriminator once on generated latents [N, C, S, S] and the real ones of their batch.

        Args:
            image_decoder: one that learns, instead of the frozen one, for what was generated.

        Returns:
            The generator's adversarial loss against the discriminator so trained, its feature loss, and the `VALUES`.
        """
        # Decode what is real and what is drawn: the whole of each, and a crop of some.
        self.teach_preview(latents.detach()[:PREVIEWED], 0.5 * PREVIEW_LEARNING_RATE)
        corner = self.corner(latents)
        fake_views = self.views(latents, corner, image_decoder)
        with torch.no_grad():
            real_views = self.views(batch.latents, corner)

        # Look at both through the frozen CNN, on grounds of one colour, real and drawn augmented alike.
        ground = torch.rand(len(latents), 3, 1, 1, device=latents.device) * 2 - 1
        real_maps, fake_maps = [], []
        for real, fake in zip(real_views, fake_views, strict=True):
            real, fake = augment_pair(composite(real, ground[: len(real)]), composite(fake, ground[: len(fake)]))
            with torch.no_grad():
                real_maps.append(image_maps(self.cnn, real, self.size))
            fake_maps.append(image_maps(self.cnn, fake, self.size))

        # The discriminator learns: real, drawn, and real with a wrong condition. One forward for all of them, as under
        # DistributedDataParallel a backward allows no more.
        together = [
            [torch.cat([r, f.detach(), r]) for r, f in zip(reals, fakes, strict=True)]
            for reals, fakes in zip(real_maps, fake_maps, strict=True)
        ]
        shown = [len(view) for view in fake_views]  # The first ones of the batch.
        condition, wrong = batch.discriminator_condition, batch.mismatched_condition
        with self.run.accelerator.autocast():
            scores = self.discriminator(together, [torch.cat([condition[:n], condition[:n], wrong[:n]]) for n in shown])
        real_scores, fake_scores, mismatched_scores = zip(*(score.float().chunk(3) for score in scores), strict=True)
        loss = mean(
            discriminator_loss(self.loss, real, fake, mismatched, batch.has_mismatch[: len(real)])
            for real, fake, mismatched in zip(real_scores, fake_scores, mismatched_scores, strict=True)
        )
        self.run.accelerator.backward(loss)
        step_with_rate([self.optimizer], self.run.learning_rate(self.learning_rate))

        # The generator faces it, without teaching it.
        opponent = self.run.accelerator.unwrap_model(self.discriminator)
        learning = [parameter for parameter in opponent.parameters() if parameter.requires_grad]
        opponent.requires_grad_(False)
        with self.run.accelerator.autocast():
            faced = opponent(fake_maps, [condition[:n] for n in shown])
        for parameter in learning:
            parameter.requires_grad_(True)
        pairs = zip(real_scores, faced, strict=True)
        adversarial = mean(generator_loss(self.loss, real.detach(), fake.float()) for real, fake in pairs)
        features = mean(
            feature_loss(fake, real, batch.latent_weight[:n])
            for fake, real, n in zip(fake_maps, real_maps, shown, strict=True)
        )
        means = (mean(score.mean() for score in kind) for kind in (real_scores, fake_scores, mismatched_scores))
        return adversarial, features, dict(zip(VALUES, (adversarial, features, loss, *means), strict=True))

    def prepare(self, latents: torch.Tensor) -> None:
        """Teach the preview decoder, if it has not learned yet, on real latents [N, C, h, w] more or less disturbed.

        Of a run that has a time it takes a tenth at most.
        """
        if self.is_prepared:  # Known here, as asking a GPU for `steps` would make every step wait for it.
            return
        learner = self.run.accelerator.unwrap_model(self.preview)
        minutes = self.run.config.minutes
        deadline = time.monotonic() + (6 * minutes if minutes else math.inf)
        for step in range(int(learner.steps), PREVIEW_STEPS):
            chosen = latents[torch.randint(len(latents), (PREVIEW_BATCH,)).to(latents.device)]
            chosen = chosen.to(self.run.device).float()
            strength = 0.5 * torch.rand(len(chosen), 1, 1, 1, device=chosen.device)
            rate = preview_rate(PREVIEW_LEARNING_RATE, step, PREVIEW_STEPS)
            self.teach_preview(chosen + strength * torch.randn_like(chosen), rate)
            late = torch.tensor(float(time.monotonic() > deadline), device=self.run.device)
            self.run.average(late)  # Over all processes, so that they end together.
            if late > 0:
                break
        learner.steps.clamp_(min=PREVIEW_STEPS)
        self.is_prepared = True

    def teach_preview(self, latents: torch.Tensor, rate: float) -> None:
        """Let the preview decoder learn what the frozen image decoder makes of latents [n, C, h, w]."""
        learner = self.run.accelerator.unwrap_model(self.preview)
        learner.requires_grad_(True)
        with torch.no_grad():
            pixels = self.decode(latents)
        with self.run.accelerator.autocast():
            drawn = self.preview(latents)
        self.run.accelerator.backward(F.l1_loss(drawn.float(), F.avg_pool2d(pixels, 2)))
        step_with_rate([self.preview_optimizer], rate)
        learner.requires_grad_(False)
        learner.steps += 1

    @torch.no_grad()
    def held_out_score(self, latents: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """What the discriminator says of real images [N, C, S, S] that it never saw: its mean score; scalar.

        Where it lies far below the score of training images, the discriminator only remembers these.
        """
        ground = torch.ones(len(latents), 3, 1, 1, device=latents.device)
        views = self.views(latents, self.corner(latents))
        maps = [image_maps(self.cnn, composite(view, ground[: len(view)]), self.size) for view in views]
        with self.run.accelerator.autocast():
            scores = self.run.accelerator.unwrap_model(self.discriminator)(
                maps, [condition[: len(view)] for view in views]
            )
        return mean(score.float().mean() for score in scores)

    def decode(self, latents: torch.Tensor, image_decoder: nn.Module | None = None) -> torch.Tensor:
        """Latents [N, C, S, S] -> premultiplied RGBA [N, 4, H, W], clipped to [-1, 1]."""
        with self.run.accelerator.autocast():
            raw = (latents * self.autoencoder.scale + self.autoencoder.shift).contiguous(
                memory_format=torch.channels_last
            )
            return (image_decoder or self.autoencoder.decoder)(raw).float().clamp(-1, 1)

    def corner(self, latents: torch.Tensor) -> tuple[int, int, int]:
        """Where a crop of latents [N, C, h, w] lies, the same for all: top, left and side, in latent positions."""
        height = latents.shape[-1]
        side = max(1, min(self.size // self.autoencoder.stride, height))
        top, left = torch.randint(0, height - side + 1, (2,)).tolist()
        return top, left, side

    def views(
        self, latents: torch.Tensor, corner: tuple[int, int, int], image_decoder: nn.Module | None = None
    ) -> list[torch.Tensor]:
        """Premultiplied RGBA of latents [N, C, h, w]: the whole at `size`, by the preview decoder, and the crop at
        `corner`, decoded, of one in `CROPPED`, the first ones.
        """
        preview = self.run.accelerator.unwrap_model(self.preview)
        with self.run.accelerator.autocast():
            whole = preview(latents).float().clamp(-1, 1)
        top, left, side = corner
        some = latents[: math.ceil(len(latents) / CROPPED)]
        crop = self.decode(some[..., top : top + side, left : left + side], image_decoder)
        return [F.interpolate(whole, size=(self.size, self.size), mode="area"), crop]
