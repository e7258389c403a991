"""`python -m mmgen train`: train a part of the model."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "train", help="train the autoencoder or the GAN", description="Train a part of the model."
    )
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    autoencoder = parts.add_parser("autoencoder", help="picture <-> latent; first")
    autoencoder.add_argument("--crop", type=int, default=128, help="side of the training crops (default 128)")
    gan = parts.add_parser("gan", help="fusion, generator and discriminator; second")
    recipe = gan.add_argument_group("recipe")
    recipe.add_argument(
        "--autoencoder",
        type=Path,
        default=Path("runs/autoencoder/autoencoder"),
        help="folder of the trained autoencoder",
    )
    recipe.add_argument(
        "--base", type=Path, help="checkpoint whose fusion and generator to start from (default: from nothing)"
    )
    recipe.add_argument("--regression-steps", type=int, help="steps before the discriminator starts")
    recipe.add_argument("--fade-steps", type=int, help="steps after that in which the paired weight falls")
    recipe.add_argument("--loss", choices=["bce", "hinge", "relativistic"], help="adversarial loss (default hinge)")
    recipe.add_argument("--adversarial-weight", type=float)
    recipe.add_argument("--paired-end", type=float, help="paired weight at the end of the fade (default 1)")
    recipe.add_argument("--width", type=int, default=256, help="width of fusion and generator (default 256)")
    recipe.add_argument("--depth", type=int, default=8, help="blocks of the generator (default 8)")
    for part, default in ((autoencoder, "runs/autoencoder"), (gan, "runs/gan")):
        _shared(part, default)


def _shared(parser: argparse.ArgumentParser, output: str) -> None:
    parser.add_argument(
        "--data", type=Path, action="append", required=True, help="data set: folder or zip; may be repeated"
    )
    parser.add_argument("--encoders", type=Path, default=Path("runs/encoders"), help="folder made by `mmgen encoders`")
    parser.add_argument("--output", default=output, help=f"folder of the run (default {output})")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="decoded pictures (default runs/cache)")
    parser.add_argument("--size", type=int, default=256, help="side of the pictures in pixels (default 256)")
    parser.add_argument("--steps", type=int, required=True, help="step to stop at, counted from the start of the run")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures a step and process (default 32)")
    parser.add_argument("--learning-rate", type=float, help="base learning rate (default: the recipe's)")
    parser.add_argument("--cooldown", type=int, default=0, help="last steps over which the learning rate falls to 0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-minutes", type=float, default=5.0, help="minutes between saved states (default 5)")
    parser.add_argument("--sample-every", type=int, default=500, help="steps between sample sheets, 0 for none")
    parser.add_argument("--log-every", type=int, default=20, help="steps between log lines (default 20)")
    parser.add_argument("--log-with", default="tensorboard", choices=["tensorboard", "wandb", "trackio", "none"])
    parser.add_argument(
        "--precision", default="auto", choices=["auto", "bf16", "no"], help="bf16 where it is fast (auto)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the newest saved state in --output")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from mmgen.training.run import RunConfig, restart_with_allocator

    restart_with_allocator()
    names = {field.name for field in dataclasses.fields(RunConfig)}
    config = RunConfig(**{name: value for name, value in vars(arguments).items() if name in names})
    rate = {"learning_rate": arguments.learning_rate} if arguments.learning_rate else {}
    {"autoencoder": _autoencoder, "gan": _gan}[arguments.part](arguments, config, rate)


def _autoencoder(arguments: argparse.Namespace, config, rate: dict) -> None:
    import torch

    from mmgen.data.folder import load_pairs
    from mmgen.data.pack import pack_pictures
    from mmgen.models.autoencoder import ImageAutoencoder
    from mmgen.training.autoencoder import train_autoencoder

    cnn, _ = _frozen_cnn(arguments.encoders)
    splits = [load_pairs(source, need_text=False)["train"] for source in arguments.data]
    pictures = [pack_pictures(split, arguments.size, arguments.cache) for split in splits]
    torch.manual_seed(config.seed)
    train_autoencoder(config, pictures, cnn, ImageAutoencoder(), crop=arguments.crop, **rate)


def _gan(arguments: argparse.Namespace, config, rate: dict) -> None:
    import datasets
    import torch

    from mmgen.data.folder import load_pairs
    from mmgen.data.pack import pack_pictures
    from mmgen.errors import UserError
    from mmgen.models.autoencoder import ImageAutoencoder
    from mmgen.models.encoders import load_text_encoder
    from mmgen.models.fusion import Fusion
    from mmgen.models.generator import Generator
    from mmgen.pipeline import MultimodalGANPipeline
    from mmgen.training.cache import build_cache
    from mmgen.training.checkpoint import write_checkpoint
    from mmgen.training.gan import GANConfig, save_path, train_gan
    from mmgen.training.run import best_device
    from mmgen.training.sampling import Sampler

    if not (arguments.autoencoder / "config.json").is_file():
        raise UserError(f"There is no autoencoder at {arguments.autoencoder}. Train it first: mmgen train autoencoder.")
    data = datasets.concatenate_datasets([load_pairs(source)["train"] for source in arguments.data])
    pictures = pack_pictures(data, arguments.size, arguments.cache)
    cnn, processor = _frozen_cnn(arguments.encoders)
    bert, tokenizer = load_text_encoder(arguments.encoders / "text_encoder", arguments.encoders / "tokenizer")
    autoencoder = ImageAutoencoder.from_pretrained(arguments.autoencoder)
    cache = build_cache(data, pictures, bert, tokenizer, cnn, autoencoder, arguments.cache, best_device())
    sampler = Sampler(cache, data["label"], data["style"], data["concept"])
    if arguments.base:
        base = MultimodalGANPipeline.from_pretrained(arguments.base)
        fusion, generator = (part.requires_grad_(True).train() for part in (base.fusion, base.generator))
    else:
        torch.manual_seed(config.seed)
        fusion = Fusion(
            cache.words.shape[1], cache.references.shape[2], cache.references.shape[1], width=arguments.width
        )
        latent_channels, latent_size = cache.latents.shape[1:3]
        generator = Generator(latent_channels, latent_size, width=arguments.width, depth=arguments.depth)
    named = {name: getattr(arguments, name) for name in vars(GANConfig()) if getattr(arguments, name, None) is not None}
    styles = sorted(set(data["style"]) - {""})

    def export(model) -> None:
        write_checkpoint(
            save_path(arguments.output), arguments.encoders, model.fusion, model.generator, autoencoder, styles
        )

    train_gan(config, GANConfig(**{**named, **rate}), cache, sampler, fusion, generator, autoencoder, cnn, export)


def _frozen_cnn(encoders: Path):
    from mmgen.models.encoders import PyramidCNN, load_image_encoder, skip_neutral_squeeze

    model, processor = load_image_encoder(encoders / "image_encoder", encoders / "image_processor")
    cnn = PyramidCNN(model, processor.image_mean, processor.image_std)
    skip_neutral_squeeze(cnn)
    return cnn, processor
