"""`python -m mmgen train`: train a part of the model."""

from __future__ import annotations

import argparse
import dataclasses
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from mmgen.cli import train_captioner, train_default
from mmgen.cli.options import add_options, number
from mmgen.cli.sources import Sources
from mmgen.errors import UserError
from mmgen.parts import PARTS
from mmgen.training.common.config import AutoencoderConfig, AutoencoderRunConfig, GANConfig, RunConfig

HELD_OUT = ("unseen_pairs", "validation", "test")
"""Splits on which it is watched whether the discriminator only remembers, the first one that there is."""


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "train", help="train the autoencoder, the GAN or the captioner", description="Train a part of the model."
    )
    parts = parser.add_subparsers(dest="part", required=True, metavar="PART")
    autoencoder = parts.add_parser("autoencoder", help="picture <-> latent; first")
    gan = parts.add_parser("gan", help="fusion, generator and discriminator; second")
    train_captioner.add_parser(parts)
    train_default.add_parser(parts)
    for part, default, shared, recipe in (
        (autoencoder, "runs/autoencoder", AutoencoderRunConfig, AutoencoderConfig),
        (gan, "runs/gan", RunConfig, GANConfig),
    ):
        part.add_argument(
            "--data", type=Path, action="append", required=True, help="folder, zip or shards; may be repeated"
        )
        part.add_argument("--encoders", type=Path, default=Path("runs/encoders"), help="made by `mmgen encoders`")
        part.add_argument("--output", default=default, help=f"folder of the run (default {default})")
        part.add_argument("--cache", type=Path, default=Path("runs/cache"), help="for decoded pictures and the like")
        part.add_argument("--size", type=number(int, 32), default=256, help="side of the pictures (default 256)")
        length = part.add_mutually_exclusive_group(required=True)
        length.add_argument("--steps", type=number(int, 1), help="the step to stop at, from the start")
        length.add_argument("--minutes", type=number(float, 1e-3), help="of training, over all sittings")
        part.add_argument(
            "--deadline",
            type=number(float, 0),
            help="with --minutes: when they end at the latest, in seconds since 1970",
        )
        part.add_argument("--resume", action="store_true", help="go on from the newest saved state in --output")
        add_options(part, shared)
        add_options(part.add_argument_group("recipe"), recipe)
        part.add_argument("--base", type=Path, help="a checkpoint whose weights to start from")
        part.set_defaults(run=run)
    autoencoder.add_argument(
        "--latent-channels", type=number(int, 1), help="channels of the latent (default 16, or those of --base)"
    )
    gan.add_argument(
        "--autoencoder",
        type=Path,
        default=Path("runs/autoencoder/autoencoder"),
        help="folder of the trained autoencoder (default runs/autoencoder/autoencoder)",
    )
    gan.add_argument("--width", type=number(int, 4), default=256, help="of fusion and generator (default 256)")
    gan.add_argument("--depth", type=number(int, 1), default=8, help="blocks of the generator (default 8)")


def run(arguments: argparse.Namespace) -> None:
    for name in ("size", "crop", "image_size"):
        if getattr(arguments, name, 32) % 32:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(arguments, name)}; give a multiple of 32.")
    {"autoencoder": _autoencoder, "gan": _gan}[arguments.part](arguments)


def _configs(arguments: argparse.Namespace, recipe: type, shared: type = RunConfig):
    """The run's config, whose folder can take it, the recipe, and the rest of what was asked for."""
    from mmgen.training.common.run import check_output

    asked = vars(arguments)
    if asked["minutes"] is not None and asked["cooldown"]:
        raise UserError("--cooldown is in steps; leave it away with --minutes, in shares of which the rate falls.")
    fields = [{f.name for f in dataclasses.fields(kind)} & asked.keys() for kind in (shared, recipe)]
    kinds = zip((shared, recipe), fields, strict=True)
    made = [kind(**{name: asked[name] for name in names}) for kind, names in kinds]
    known = set().union(*fields, {"run", "command", "build_parser"})
    check_output(made[0])
    return *made, {name: value for name, value in asked.items() if name not in known}


def _autoencoder(arguments: argparse.Namespace) -> None:
    import torch

    from mmgen.data.memmap import pack_readable
    from mmgen.models.autoencoder import ImageAutoencoder
    from mmgen.training.autoencoder import train_autoencoder
    from mmgen.training.common.frozen import load_frozen_cnn

    run_config, config, rest = _configs(arguments, AutoencoderConfig, AutoencoderRunConfig)
    if config.crop > arguments.size:
        raise UserError(f"--crop is {config.crop}, larger than the pictures ({arguments.size}). Give a smaller one.")
    cnn = load_frozen_cnn(arguments.encoders)
    with one_after_another():
        sources = Sources.read(arguments.data, need_text=False)
        splits = [source.split("train") for source in sources]
        images = [pack_readable(split, arguments.size, arguments.cache, sources.withdraw)[1] for split in splits]
        sources.tell(_ranks().print)
    torch.manual_seed(run_config.seed)
    channels = arguments.latent_channels
    if arguments.base:
        model = _part_of(arguments.base, "autoencoder", ImageAutoencoder)
        model = model.widened(channels or model.config.latent_channels)
    else:
        model = ImageAutoencoder(channels or 16)
    train_autoencoder(run_config, config, images, cnn, model, rest)


def _gan(arguments: argparse.Namespace) -> None:
    import datasets
    import torch

    from mmgen.data.memmap import pack_readable
    from mmgen.datasets.synthetic_styles import without_synthetic
    from mmgen.devices import best_device
    from mmgen.models.autoencoder import ImageAutoencoder
    from mmgen.models.encoders import load_text_encoder
    from mmgen.models.fusion import Fusion
    from mmgen.models.generator import Generator
    from mmgen.training.common.cache import build_cache
    from mmgen.training.common.checkpoint import write_checkpoint
    from mmgen.training.common.frozen import load_frozen_cnn
    from mmgen.training.gan.sampler import Sampler
    from mmgen.training.gan.train import held_out_sample, save_path, train_gan
    from mmgen.training.memory import build_memory

    run_config, config, rest = _configs(arguments, GANConfig)
    if arguments.width % 4:
        raise UserError(f"--width is {arguments.width}; give a multiple of 4.")
    if not (arguments.autoencoder / "config.json").is_file():
        raise UserError(f"There is no autoencoder at {arguments.autoencoder}. Train it first: mmgen train autoencoder.")
    if config.memory_slots % 2:
        raise UserError(f"--memory-slots is {config.memory_slots}; give an even number, or 0.")
    if run_config.steps and run_config.steps <= config.regression_steps:
        _ranks().print(
            f"Note: the discriminator starts after step {config.regression_steps}, which this run does not reach."
        )
    cnn = load_frozen_cnn(arguments.encoders)
    bert, tokenizer = load_text_encoder(arguments.encoders / "text_encoder", arguments.encoders / "tokenizer")
    autoencoder = ImageAutoencoder.from_pretrained(arguments.autoencoder)
    with one_after_another():
        sources = Sources.read(arguments.data)
        data = datasets.concatenate_datasets([source.split("train") for source in sources])
        data, images = pack_readable(data, arguments.size, arguments.cache, sources.withdraw)
        unseen = _unseen(sources)
        if unseen is not None:
            unseen, unseen_images = pack_readable(unseen, arguments.size, arguments.cache, sources.withdraw)
        sources.tell(_ranks().print)  # Before what takes long.
        frozen = bert, tokenizer, cnn, autoencoder, arguments.cache, best_device()
        cache = build_cache(data, images, *frozen)
        held_out = None
        if unseen is not None:
            held_out = held_out_sample(build_cache(unseen, unseen_images, *frozen))
    device = best_device()
    memory = index = None
    if config.memory_slots:
        memory, index = build_memory(data, cache, autoencoder, bert, config.memory_slots)
        index = index.to(device)
    cache = cache.to(device)
    sampler = Sampler(cache, data["label"], data["style"], data["concept"], device=device, groups=data["group"])
    torch.manual_seed(run_config.seed)
    latent_channels, latent_size = cache.latents.shape[1:3]
    if arguments.base:
        fusion = _part_of(arguments.base, "fusion", Fusion)
        generator = _part_of(arguments.base, "generator", Generator).widened(latent_channels)
        if config.memory_slots and generator.memory_reader is None:
            generator = generator.with_memory(config.memory_slots, cache.words.shape[1])
        if config.memory_slots != generator.config.memory_slots:
            raise UserError(
                f"--memory-slots is {config.memory_slots}, and the generator of {arguments.base} has "
                f"{generator.config.memory_slots}. Give as many."
            )
        reading = _reading_of(arguments.base)
    else:
        reading = {}
        sizes = (cache.words.shape[1], cache.references.shape[2], cache.references.shape[1])
        fusion = Fusion(*sizes, width=arguments.width)
        memorised = {"memory_slots": config.memory_slots, "memory_channels": cache.words.shape[1], "head_channels": 128}
        generator = Generator(
            latent_channels,
            latent_size,
            width=arguments.width,
            depth=arguments.depth,
            **(memorised if memory else {}),
        )
    styles = sorted(set(without_synthetic(data)["style"]) - {""})

    def export(model, learned_autoencoder) -> None:
        folder = save_path(arguments.output)
        parts = model.fusion, model.generator, learned_autoencoder
        log = Path(arguments.output) / "log.csv"
        write_checkpoint(folder, arguments.encoders, *parts, styles, cache.captions, **reading, log=log, memory=memory)

    networks = fusion, generator, autoencoder, cnn
    known = {"memory": index, "held_out": held_out}
    train_gan(run_config, config, cache, sampler, *networks, **known, export=export, recipe=rest)


def _part_of(base: Path, name: str, kind: type):
    """One trained part of a checkpoint, in full precision."""
    home = PARTS[name].folder(base)
    if not (home / "config.json").is_file():
        raise UserError(f"{base} holds no {name}. Give a checkpoint made by mmgen.")
    return kind.from_pretrained(home, use_safetensors=True, low_cpu_mem_usage=False).float()


def _reading_of(base: Path) -> dict[str, object]:
    """The captioner of a checkpoint, if it has one, with the fusion it learned to read: that of the GAN learns on."""
    from mmgen.models.decoder import CaptionDecoder
    from mmgen.models.fusion import Fusion

    if not PARTS["captioner"].folder(base).is_dir():
        return {}
    fusion = "captioner_fusion" if PARTS["captioner_fusion"].folder(base).is_dir() else "fusion"
    return {
        "captioner": _part_of(base, "captioner", CaptionDecoder),
        "captioner_fusion": _part_of(base, fusion, Fusion),
    }


def _unseen(sources: Sources, most: int = 64):
    """Up to `most` rows that are not trained on, evenly spread, of the first source that has such a split; or None."""
    import numpy as np

    for source in sources:
        for name in HELD_OUT:
            if name in source.splits:
                data = source.splits[name]
                return data.select(np.unique(np.linspace(0, len(data) - 1, most).astype(int)))
    return None


@contextmanager
def one_after_another():
    """With several processes the first fills the cache, then the first of each other machine, then the rest.

    So each cache is filled once: on a disk that the machines share the others find it filled, on disks of their own
    each machine fills its own.
    """
    ranks = _ranks()
    turn = 0 if ranks.is_main_process else 1 if ranks.is_local_main_process else 2
    for _ in range(turn):
        ranks.wait_for_everyone()
    yield
    for _ in range(turn, 2):
        ranks.wait_for_everyone()


def _ranks():
    """What accelerate knows of this process among all; they wait for each other as long as filling a cache may take."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=7))
