"""What a training elsewhere brings home: averaged weights, its log and sheets; and how they become a checkpoint."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from mmgen.bundle.parts import read_parts, whole_series, write_parts
from mmgen.errors import UserError
from mmgen.io import replacing, write_json
from mmgen.models.autoencoder import ImageAutoencoder
from mmgen.models.fusion import Fusion
from mmgen.models.generator import Generator
from mmgen.models.memory import Memory, encoder_fingerprint
from mmgen.parts import CAPTIONS_FILE, read_captions
from mmgen.pipeline import MultimodalGANPipeline
from mmgen.training.common.checkpoint import save_checkpoint

MAX_PART_BYTES = 16 * 2**20
"""Bytes of a part that comes back."""

FACTS = "result.json"
IMAGE_DECODER = "image_decoder.safetensors"
_WEIGHTS = "diffusion_pytorch_model.safetensors"


def collect(run: Path, autoencoder: Path, logs: Sequence[Path], folder: Path) -> bool:
    """Lay out in an empty folder what a GAN's run has made so far.

    Args:
        run: its folder.
        autoencoder: with which it began; the image decoder is brought home only where it has learned.
        logs: more files to take.

    Returns:
        Whether there are weights; the log is taken in any case.
    """
    checkpoint = run / "pipeline"
    sheets = sorted((run / "samples").glob("*.png"))[-1:]
    for file in (*logs, run / "log.csv", run / "config.json", *sheets):
        if file.is_file():
            name = "training.png" if file in sheets else file.name
            shutil.copyfile(file, folder / name)
    if not (checkpoint / "model_index.json").is_file():
        return False
    for part in ("fusion", "generator"):
        shutil.copytree(checkpoint / part, folder / part)
    before = load_file(autoencoder / _WEIGHTS)
    after = load_file(checkpoint / "autoencoder" / _WEIGHTS)
    names = [name for name in after if name.startswith("decoder.")]
    if any(not torch.equal(after[name].half(), before[name].half()) for name in names):
        save_file({name: after[name].half() for name in names}, folder / IMAGE_DECODER)
    shutil.copyfile(checkpoint / CAPTIONS_FILE, folder / CAPTIONS_FILE)
    index = json.loads((checkpoint / "model_index.json").read_text())
    facts = {
        "styles": index.get("styles", []),
        "autoencoder": encoder_fingerprint(ImageAutoencoder.from_pretrained(autoencoder)),
    }
    write_json(folder / FACTS, facts, indent=2)
    return True


def deliver(folder: Path, output: Path, number: int, most: int = MAX_PART_BYTES) -> list[Path]:
    """Write what `collect` laid out into `output`, in parts; those of an earlier number then go.

    At every moment one whole series lies there.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        parts = write_parts(folder, Path(place), f"result-{number:03d}", most)
        for part in parts:
            with replacing(output / part.name) as copied:
                shutil.copyfile(part, copied)
    for old in output.glob("result-*"):
        if not old.name.startswith(f"result-{number:03d}."):
            old.unlink()
    return [output / part.name for part in parts]


def unbundle(
    parts: Sequence[Path],
    base: Path,
    output: Path,
    data: Sequence[Path] = (),
    cache: Path = Path("runs/cache"),
) -> MultimodalGANPipeline:
    """Join a result with the frozen parts of a checkpoint, and write the whole.

    Args:
        parts: files, or folders with them; of several series the newest whole one is taken.
        base: a checkpoint with the encoders and the autoencoder that were packed; a captioner in it is kept, with the
            fusion that it learned to read.
        data: what it was trained on, to make its memory of; without, the base's memory is kept.

    Raises:
        UserError: the parts are not whole or hold no weights, or the base has another autoencoder, or no memory.
    """
    files = [file for path in parts for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    series = whole_series(files)
    if not series:
        raise UserError("There is no whole result among these files. Bring all parts over, result-001.1of3 and so on.")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        read_parts(series[-1], folder)
        if not (folder / FACTS).is_file():
            raise UserError("This result holds no weights: the training ended before its first sheet.")
        facts = json.loads((folder / FACTS).read_text())
        before = MultimodalGANPipeline.from_pretrained(base)
        if encoder_fingerprint(before.autoencoder) != facts["autoencoder"]:
            raise UserError(f"{base} has another autoencoder than was packed. Give the checkpoint that was.")
        fusion = Fusion.from_pretrained(folder / "fusion", low_cpu_mem_usage=False)
        generator = Generator.from_pretrained(folder / "generator", low_cpu_mem_usage=False)
        if (folder / IMAGE_DECODER).is_file():
            state = {name.removeprefix("decoder."): value for name, value in load_file(folder / IMAGE_DECODER).items()}
            before.autoencoder.decoder.load_state_dict(state)
        memory = _memory(before, generator, data, cache)
        reading = before.captioner and (before.captioner_fusion or before.fusion)
        frozen = {name: before.components[name] for name in ("text_encoder", "tokenizer", "image_encoder")}
        pipe = MultimodalGANPipeline(
            **frozen,
            image_processor=before.image_processor,
            fusion=fusion,
            generator=generator,
            autoencoder=before.autoencoder,
            captioner=before.captioner,
            captioner_fusion=reading,
            memory=memory,
            vocabulary=before.vocabulary,
            styles=facts["styles"],
        )
        output.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(output, pipe, read_captions(folder)[:1], log=folder / "log.csv")
        for sheet in folder.glob("*.png"):
            shutil.copyfile(sheet, output / sheet.name)
    return pipe


def _memory(pipe: MultimodalGANPipeline, generator: Generator, data: Sequence[Path], cache: Path) -> Memory | None:
    """What the generator is to look at: of the data, or the base's."""
    if generator.memory_reader is None:
        return None
    if data:
        import datasets

        from mmgen.data.folder import load_pairs
        from mmgen.data.memmap import pack_images
        from mmgen.devices import best_device
        from mmgen.training.common.cache import build_cache
        from mmgen.training.common.frozen import frozen_cnn
        from mmgen.training.memory import build_memory

        rows = datasets.concatenate_datasets([load_pairs(source)["train"] for source in data])
        seen = frozen_cnn(copy.deepcopy(pipe.image_encoder), pipe.image_processor)
        images = pack_images(rows, pipe.image_size, cache)
        networks = pipe.text_encoder, pipe.tokenizer, seen, pipe.autoencoder
        made = build_cache(rows, images, *networks, cache, best_device())
        memory = build_memory(rows, made, pipe.autoencoder, pipe.text_encoder, generator.config.memory_slots)[0]
        pipe.to("cpu")
        return memory
    if pipe.memory is None or not len(pipe.memory):
        raise UserError("This generator looks at a memory, and the base has none. Add --data, what it was trained on.")
    if pipe.memory.config.image_encoder_hash != encoder_fingerprint(pipe.autoencoder):
        raise UserError("The base's memory was made by another autoencoder. Add --data, what it was trained on.")
    return pipe.memory
