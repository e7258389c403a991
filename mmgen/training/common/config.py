"""What a training command can be asked for. Each field is an option of the command line, with this help."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LOSSES = ("bce", "hinge", "relativistic")


def option(default: Any, help: str, **more: Any) -> Any:
    """A field that is an option of the command line, with this help; `more` as `mmgen.cli.options` takes it."""
    return field(default=default, metadata={"help": help, **more})


@dataclass
class RunConfig:
    """What every training command shares."""

    output: str
    steps: int | None
    batch_size: int = option(32, "pictures a step and process")
    seed: int = option(0, "of everything random", least=0)
    cooldown: int = option(0, "last steps over which the learning rates fall to 0", least=0)
    save_minutes: float = option(5.0, "minutes between saved states", least=0)
    sample_every: int = option(500, "steps between sample sheets, 0 for none", least=0)
    sample_minutes: float = option(0.0, "minutes of training between sample sheets beside those, 0 for none", least=0)
    log_every: int = option(20, "steps between log lines")
    log_with: str = option("tensorboard", "where the log goes", choices=("tensorboard", "wandb", "trackio", "none"))
    precision: str = option("auto", "bf16 where it is fast (auto)", choices=("auto", "bf16", "no"))
    resume: bool = False
    minutes: float | None = None  # Of training; then `steps` is None.
    deadline: float | None = None  # In seconds since 1970: fewer minutes, if they would end later.
    cooldown_share: float = 0.0  # Of the minutes, the last, in place of `cooldown`.
    sample_seconds: float = 5.0  # Between samples, where they come by time.


@dataclass
class AutoencoderRunConfig(RunConfig):
    """What training the autoencoder shares with the others."""

    cooldown_share: float = option(0.4, "with --minutes: their share, the last, in which the rate falls to 0", least=0)


@dataclass
class AutoencoderConfig:
    """The recipe of the autoencoder."""

    learning_rate: float = option(1e-3, "of AdamW")
    crop: int = option(128, "side of the training crops in pixels, a multiple of 32")
    noise: float = option(0.2, "strongest Gaussian noise on the unnormalised latents", least=0)
    square_weight: float = option(0.0, "of the mean squared error beside L1", least=0)
    feature_weight: float = option(0.1, "of the feature loss beside L1", least=0)


@dataclass
class GANConfig:
    """The recipe of the GAN: regression first, then against the discriminator."""

    regression_steps: int = option(5000, "steps before the discriminator starts", least=0)
    regression_share: float = option(0.6, "with --minutes: their share before the discriminator starts", least=0)
    regression_cooldown: float = option(0.25, "share of those, the last, in which the learning rate falls to 0")
    adversarial_batch_size: int = option(0, "pictures a step against the discriminator, 0 for --batch-size", least=0)
    learning_rate: float = option(1e-3, "of the regression")
    adversarial_learning_rate: float = option(1e-4, "of the generator against the discriminator")
    discriminator_learning_rate: float = option(2e-4, "of the discriminator")
    image_decoder_learning_rate: float = option(1e-4, "of the image decoder", former="decoder_learning_rate")
    loss: str = option("hinge", "adversarial loss", choices=LOSSES)
    adversarial_weight: float = option(0.3, "of the adversarial loss beside the latents' L1", least=0)
    feature_weight: float = option(0.5, "of the loss in the frozen CNN's features beside the adversarial one", least=0)
    latent_start: float = option(4.0, "weight of the latents' L1 when the discriminator starts", least=0)
    latent_end: float = option(1.0, "weight of the latents' L1 after the fade", least=0)
    fade_steps: int = option(600, "steps in which that weight goes from start to end")
    image_decoder_share: float = option(
        0.0, "last share of the adversarial part; the image decoder learns in it", least=0, former="decoder_share"
    )
    image_size: int = option(128, "side in pixels of what the frozen CNN sees, a multiple of 32", least=64)
    ema_images: float = option(20_000, "half-life in images of the averaged weights")
    memory_slots: int = option(4, "entries of the memory that the generator looks at, even, 0 for none", least=0)
    largest_gap: float = option(
        1.5,
        "of the scores of trained and unseen images, above which the run ends, 0 for none",
        least=0,
    )
    compile: int = option(1, "whether a step on a GPU is compiled, 0 or 1", least=0)


@dataclass
class CaptionerRunConfig(RunConfig):
    """What training the captioner shares with the others."""

    batch_size: int = option(128, "samples a step and process")
    cooldown: int = 0  # The learning rate falls all the way.
    sample_every: int = option(1000, "steps between sheets of unseen pictures with their captions, 0 for none", least=0)


@dataclass
class CaptionerConfig:
    """The recipe of the captioner."""

    learning_rate: float = option(1.5e-3, "of AdamW, at its highest")
    views: int = option(4, "varied views of each picture, beside itself", least=0)
    drawings: int = option(4000, "pictures that the base draws from training captions, to be read too", least=0)
    captions: int = option(15_000, "captions, about, that are read as words")
    drawn_share: float = option(0.15, "of the samples with a picture, how many show such a drawing", least=0)
    ema_images: float = option(10_000, "half-life in samples of the averaged weights")
