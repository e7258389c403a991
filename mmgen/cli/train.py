"""`python -m mmgen train`: train a part of the model."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from mmgen.errors import UserError
from mmgen.training.config import AutoencoderConfig, GANConfig, RunConfig


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "train", help="train the autoencoder or the GAN", description="Train a part of the model."
    )
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    autoencoder = parts.add_parser("autoencoder", help="picture <-> latent; first")
    gan = parts.add_parser("gan", help="fusion, generator and discriminator; second")
    for part, default, recipe in (
        (autoencoder, "runs/autoencoder", AutoencoderConfig),
        (gan, "runs/gan", GANConfig),
    ):
        part.add_argument("--data", type=Path, action="append", required=True, help="folder or zip; may be repeated")
        part.add_argument("--encoders", type=Path, default=Path("runs/encoders"), help="made by `mmgen encoders`")
        part.add_argument("--output", default=default, help=f"folder of the run (default {default})")
        part.add_argument("--cache", type=Path, default=Path("runs/cache"), help="for decoded pictures and the like")
        part.add_argument("--size", type=_number(int, 32), default=256, help="side of the pictures (default 256)")
        part.add_argument("--steps", type=_number(int, 1), required=True, help="the step to stop at, from the start")
        part.add_argument("--resume", action="store_true", help="go on from the newest saved state in --output")
        _options(part, RunConfig)
        _options(part.add_argument_group("recipe"), recipe)
        part.set_defaults(run=run)
    gan.add_argument(
        "--autoencoder",
        type=Path,
        default=Path("runs/autoencoder/autoencoder"),
        help="folder of the trained autoencoder (default runs/autoencoder/autoencoder)",
    )
    gan.add_argument("--width", type=_number(int, 4), default=256, help="of fusion and generator (default 256)")
    gan.add_argument("--depth", type=_number(int, 1), default=8, help="blocks of the generator (default 8)")


def _options(parser, config: type) -> None:
    """One option for each field of a config that has a help text."""
    for field in dataclasses.fields(config):
        if "help" in field.metadata:
            least = field.metadata.get("least", 1 if isinstance(field.default, int) else 1e-12)
            choices = field.metadata.get("choices")
            parser.add_argument(
                "--" + field.name.replace("_", "-"),
                type=str if choices else _number(type(field.default), least),
                default=field.default,
                choices=choices,
                help=f"{field.metadata['help']} (default {field.default})",
            )


def _number(kind: type, least: float):
    def read(text: str):
        value = kind(text)
        if not least <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is too small; give at least {least}")
        return value

    read.__name__ = "whole number" if kind is int else "number"
    return read


def run(arguments: argparse.Namespace) -> None:
    for name in ("size", "crop", "picture_size"):
        if getattr(arguments, name, 32) % 32:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(arguments, name)}; give a multiple of 32.")
    {"autoencoder": _autoencoder, "gan": _gan}[arguments.part](arguments)


def _configs(arguments: argparse.Namespace, recipe: type):
    """The run's config, the recipe, and the rest of what was asked for."""
    asked = vars(arguments)
    made = [kind(**{f.name: asked[f.name] for f in dataclasses.fields(kind)}) for kind in (RunConfig, recipe)]
    known = {f.name for kind in (RunConfig, recipe) for f in dataclasses.fields(kind)} | {"run", "command"}
    return *made, {name: value for name, value in asked.items() if name not in known}


def _autoencoder(arguments: argparse.Namespace) -> None:
    import torch

    from mmgen.data.pack import pack_pictures
    from mmgen.models.autoencoder import ImageAutoencoder
    from mmgen.training.autoencoder import train_autoencoder

    run_config, config, rest = _configs(arguments, AutoencoderConfig)
    if config.crop > arguments.size:
        raise UserError(f"--crop is {config.crop}, larger than the pictures ({arguments.size}). Give a smaller one.")
    cnn = _frozen_cnn(arguments.encoders)
    splits = [_train_split(source, need_text=False) for source in arguments.data]
    with _one_after_another():
        pictures = [pack_pictures(split, arguments.size, arguments.cache) for split in splits]
    torch.manual_seed(run_config.seed)
    train_autoencoder(run_config, config, pictures, cnn, ImageAutoencoder(), rest)


def _gan(arguments: argparse.Namespace) -> None:
    import datasets
    import torch

    from mmgen.data.pack import pack_pictures
    from mmgen.devices import best_device
    from mmgen.models.autoencoder import ImageAutoencoder
    from mmgen.models.encoders import load_text_encoder
    from mmgen.models.fusion import Fusion
    from mmgen.models.generator import Generator
    from mmgen.training.cache import build_cache
    from mmgen.training.checkpoint import write_checkpoint
    from mmgen.training.gan import save_path, train_gan
    from mmgen.training.sampling import Sampler

    run_config, config, rest = _configs(arguments, GANConfig)
    if arguments.width % 4:
        raise UserError(f"--width is {arguments.width}; give a multiple of 4.")
    if not (arguments.autoencoder / "config.json").is_file():
        raise UserError(f"There is no autoencoder at {arguments.autoencoder}. Train it first: mmgen train autoencoder.")
    if run_config.steps <= config.regression_steps:
        print(f"Note: the discriminator starts after step {config.regression_steps}, which this run does not reach.")
    data = datasets.concatenate_datasets([_train_split(source) for source in arguments.data])
    cnn = _frozen_cnn(arguments.encoders)
    bert, tokenizer = load_text_encoder(arguments.encoders / "text_encoder", arguments.encoders / "tokenizer")
    autoencoder = ImageAutoencoder.from_pretrained(arguments.autoencoder)
    with _one_after_another():
        pictures = pack_pictures(data, arguments.size, arguments.cache)
        cache = build_cache(
            data, pictures, bert, tokenizer, cnn, autoencoder, arguments.cache, best_device(), config.picture_size
        )
    sampler = Sampler(cache, data["label"], data["style"], data["concept"])
    torch.manual_seed(run_config.seed)
    fusion = Fusion(cache.words.shape[1], cache.references.shape[2], cache.references.shape[1], width=arguments.width)
    latent_channels, latent_size = cache.latents.shape[1:3]
    generator = Generator(latent_channels, latent_size, width=arguments.width, depth=arguments.depth)
    styles = sorted(set(data["style"]) - {""})

    def export(model) -> None:
        folder = save_path(arguments.output)
        write_checkpoint(folder, arguments.encoders, model.fusion, model.generator, autoencoder, styles)

    train_gan(run_config, config, cache, sampler, fusion, generator, autoencoder, cnn, export, rest)


def _train_split(source: Path, need_text: bool = True):
    from mmgen.data.folder import load_pairs

    splits = load_pairs(source, need_text=need_text)
    if "train" not in splits:
        raise UserError(f"{source} has no split train; it has {', '.join(splits)}. Name one of them train.")
    return splits["train"]


def _frozen_cnn(encoders: Path):
    from mmgen.models.encoders import PyramidCNN, load_image_encoder, skip_neutral_squeeze

    model, processor = load_image_encoder(encoders / "image_encoder", encoders / "image_processor")
    cnn = PyramidCNN(model, processor.image_mean, processor.image_std)
    skip_neutral_squeeze(cnn)
    return cnn


def _one_after_another():
    """With several processes the first fills the cache, and the others find it filled."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available()).main_process_first()
