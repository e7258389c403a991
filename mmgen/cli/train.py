"""`python -m mmgen train`: train a part of the model."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path


def add_parser(commands) -> None:
    parser = commands.add_parser("train", help="train the autoencoder or the GAN", description="Train a part of the model.")
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    autoencoder = parts.add_parser("autoencoder", help="picture <-> latent; first")
    autoencoder.add_argument("--crop", type=int, default=128, help="side of the training crops (default 128)")
    for part, default in ((autoencoder, "runs/autoencoder"),):
        _shared(part, default)


def _shared(parser: argparse.ArgumentParser, output: str) -> None:
    parser.add_argument("--data", type=Path, action="append", required=True, help="data set: folder or zip; may be repeated")
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
    parser.add_argument("--precision", default="auto", choices=["auto", "bf16", "no"], help="bf16 where it is fast (auto)")
    parser.add_argument("--resume", action="store_true", help="go on from the newest saved state in --output")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from mmgen.training.run import RunConfig, restart_with_allocator

    restart_with_allocator()
    names = {field.name for field in dataclasses.fields(RunConfig)}
    config = RunConfig(**{name: value for name, value in vars(arguments).items() if name in names})
    rate = {"learning_rate": arguments.learning_rate} if arguments.learning_rate else {}
    {"autoencoder": _autoencoder}[arguments.part](arguments, config, rate)


def _autoencoder(arguments: argparse.Namespace, config, rate: dict) -> None:
    from mmgen.data.folder import load_pairs
    from mmgen.data.pack import pack_pictures
    from mmgen.models.autoencoder import ImageAutoencoder
    from mmgen.models.encoders import PyramidCNN, load_image_encoder, skip_neutral_squeeze
    from mmgen.training.autoencoder import train_autoencoder

    model, processor = load_image_encoder(arguments.encoders / "image_encoder", arguments.encoders / "image_processor")
    cnn = PyramidCNN(model, processor.image_mean, processor.image_std)
    skip_neutral_squeeze(cnn)
    splits = [load_pairs(source, need_text=False)["train"] for source in arguments.data]
    pictures = [pack_pictures(split, arguments.size, arguments.cache) for split in splits]
    train_autoencoder(config, pictures, cnn, ImageAutoencoder(), crop=arguments.crop, **rate)
