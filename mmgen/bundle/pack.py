"""Pack a training: code, data, frozen networks, a base's weights and wheels, in parts that can be carried."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

import mmgen
from mmgen.bundle.parts import sha256, write_parts
from mmgen.data.folder import load_pairs
from mmgen.datasets import emoji, npm
from mmgen.errors import UserError
from mmgen.io import write_json
from mmgen.models.encoders import MAX_PROMPT_TOKENS

NAME = "mmgen-bundle"
OPTIONS = "options.json"
WHEELS = ("diffusers", "datasets", "dill", "multiprocess", "xxhash", "resvg-py")
"""What a machine with PyTorch, transformers and accelerate lacks for a training."""

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
EMBEDDING = "embeddings.word_embeddings.weight"
KEPT = "kept_pieces"
_WEIGHTS = ("model.safetensors", "diffusion_pytorch_model.safetensors")


@dataclass
class BundleRecipe:
    """What is packed.

    Attributes:
        data: folders as `load_pairs` takes them; one made by `mmgen data emoji` goes as its packages.
        encoders: folder with text_encoder, tokenizer, image_encoder and image_processor, such as a checkpoint.
        autoencoder: folder of a trained one.
        base: a checkpoint whose fusion and generator to go on from, or None to start anew.
        wheels: a folder with wheels to take, or None to fetch those of `WHEELS`; with `no_wheels` there are none.
        python: version of the interpreter there.
        train_options: of `mmgen train default` there.
    """

    data: list[Path]
    encoders: Path
    autoencoder: Path
    base: Path | None = None
    wheels: Path | None = None
    no_wheels: bool = False
    python: str = "3.12"
    train_options: list[str] = field(default_factory=list)


def make_bundle(recipe: BundleRecipe, output: Path, most: int) -> list[Path]:
    """Write `output/part-1`, `output/part-2`, ..., each with a `run.sh` and at most `most` bytes of the bundle.

    Returns:
        Those folders.

    Raises:
        UserError: something that is to be packed is missing, or the wheels could not be fetched.
    """
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{output} is not empty. Choose another --output, or empty it.")
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output) as place:
        folder = Path(place)
        pack_code(folder / "code")
        for number, source in enumerate(recipe.data):
            pack_data(source, folder / "data" / str(number))
        captions = [text for source in recipe.data for text in captions_of(source)]
        pack_encoders(recipe.encoders, folder / "encoders", captions)
        pack_part(recipe.autoencoder, folder / "autoencoder")
        if recipe.base:
            for name in ("fusion", "generator"):
                pack_part(recipe.base / name, folder / "base" / name)
        if not recipe.no_wheels:
            pack_wheels(folder / "wheels", recipe.wheels, recipe.python)
        write_json(folder / OPTIONS, recipe.train_options, indent=2)
        # Leave room for run.sh and the digests.
        parts = write_parts(folder, output, NAME, most - (1 << 16))
    digests = "".join(f"{sha256(file)}  {file.name}\n" for file in parts)
    folders = []
    for number, part in enumerate(parts, start=1):
        folders.append(output / f"part-{number}")
        folders[-1].mkdir()
        part.rename(folders[-1] / part.name)
        shutil.copyfile(Path(__file__).with_name("run.sh"), folders[-1] / "run.sh")
        (folders[-1] / "SHA256SUMS").write_text(digests)
    return folders


def pack_code(target: Path) -> None:
    """All of mmgen but its page."""
    source = Path(mmgen.__file__).parent
    for path in source.rglob("*"):
        place = path.relative_to(source)
        if path.is_file() and place.parts[0] != "ui" and "__pycache__" not in place.parts:
            (target / "mmgen" / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / "mmgen" / place)


def pack_data(source: Path, target: Path) -> None:
    """The packages of an emoji data set, reduced to what is read of them; of another folder all.

    Raises:
        UserError: one of the packages is missing.
    """
    packages = source / "packages"
    if not packages.is_dir():
        shutil.copytree(source, target)
        return
    sets = [emoji_set.package for emoji_set in emoji.SETS]
    for package in (emoji.LABELS, *sets):
        if not (packages / package.archive).is_file():
            raise UserError(f"{packages} lacks {package.archive}. Make the data set anew: mmgen data emoji.")
        if package is emoji.LABELS or "iconify" in package.archive:
            folder = "en/" if package is emoji.LABELS else ""
            npm.reduce(package, packages, target / "packages", partial(_is_json_in, folder))
        else:  # Pictures, which cannot be packed tighter.
            (target / "packages").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(packages / package.archive, target / "packages" / package.archive)


def _is_json_in(folder: str, name: str) -> bool:
    return name.startswith(folder) and name.endswith(".json")


def captions_of(source: Path) -> list[str]:
    """All different captions of a data set."""
    splits = load_pairs(source, need_text=False)
    return sorted({text for split in splits.values() for texts in split["captions"] for text in texts})


def pack_encoders(source: Path, target: Path, captions: Sequence[str]) -> None:
    """The frozen encoders in float16, of BERT's embedding the word pieces of the captions alone.

    The tokenizer stays whole: the rows keep their numbers, and `unpack_encoders` puts them in their places again.

    Raises:
        UserError: one is missing.
    """
    for part in ("text_encoder", "image_encoder"):
        pack_part(source / part, target / part)
    for part in ("tokenizer", "image_processor"):
        shutil.copytree(source / part, target / part)
    tokenizer = AutoTokenizer.from_pretrained(target / "tokenizer")
    kept = set(tokenizer.all_special_ids)
    for start in range(0, len(captions), 10_000):
        some = list(captions[start : start + 10_000])
        for pieces in tokenizer(some, truncation=True, max_length=MAX_PROMPT_TOKENS)["input_ids"]:
            kept.update(pieces)
    file = target / "text_encoder" / "model.safetensors"
    state = load_file(file)
    rows = torch.tensor(sorted(kept), dtype=torch.int32)
    state[EMBEDDING], state[KEPT] = state[EMBEDDING][rows.long()].contiguous(), rows
    save_file(state, file, {"format": "pt"})


def unpack_encoders(folder: Path) -> None:
    """Give a packed text encoder the whole embedding back; a piece that no caption has is read as an unknown one."""
    file = folder / "text_encoder" / "model.safetensors"
    state = load_file(file)
    rows = state.pop(KEPT).long()
    vocabulary = json.loads((folder / "text_encoder" / "config.json").read_text())["vocab_size"]
    unknown = AutoTokenizer.from_pretrained(folder / "tokenizer").unk_token_id
    some = state[EMBEDDING]
    whole = some[int((rows == unknown).nonzero()[0])].repeat(vocabulary, 1)
    whole[rows] = some
    state[EMBEDDING] = whole
    save_file(state, file, {"format": "pt"})


def pack_part(source: Path, target: Path) -> None:
    """One network's config and weights; matrices and kernels in float16, vectors as they are.

    So the variances of batch norms, which float16 cannot hold, stay.

    Raises:
        UserError: it is missing.
    """
    file = next((source / name for name in _WEIGHTS if (source / name).is_file()), None)
    if file is None or not (source / "config.json").is_file():
        raise UserError(f"There is no {source.name} at {source}. Name a folder with config.json and safetensors.")
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / "config.json", target / "config.json")
    state = load_file(file)
    halved = {
        name: value.half() if value.dtype == torch.float32 and value.ndim > 1 else value
        for name, value in state.items()
    }
    save_file(halved, target / file.name, {"format": "pt"})


def pack_wheels(target: Path, source: Path | None, python: str) -> None:
    """Wheels from a folder, or those of `WHEELS` in the versions that are installed here, for Linux on x86-64.

    Raises:
        UserError: they could not be fetched.
    """
    target.mkdir()
    if source:
        for wheel in sorted(source.glob("*.whl")):
            shutil.copyfile(wheel, target / wheel.name)
        return
    from importlib.metadata import version

    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--dest", str(target)]
    command += ["--python-version", python, "--implementation", "cp"]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    done = subprocess.run(
        [*command, *(f"{name}=={version(name)}" for name in WHEELS)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(
            f"The wheels could not be fetched ({last}). Fetch them elsewhere and name their folder: --wheels."
        )
