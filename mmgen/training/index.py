"""Build a memory of any size from a data set, on one process or many; what is done is kept when it is stopped.

While it is made, FOLDER/work holds the plan, the levels, and a note for each part that is whole; the codes lie in
FOLDER/codes from the start. Each process encodes every so many-th part, and the first puts them together.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from tqdm import tqdm

from mmgen.data.folder import load_pairs
from mmgen.data.hub import stream_pairs
from mmgen.data.intake import safe_name
from mmgen.data.report import Report
from mmgen.data.shards import PATTERN, file_of, open_image_at
from mmgen.datasets import composed, recolour
from mmgen.devices import autocast
from mmgen.errors import UserError
from mmgen.images import from_uint8, open_image, square
from mmgen.io import replacing, write_json
from mmgen.models.indexed_memory import is_indexed, write_index
from mmgen.models.memory import encoder_hashes, quantisation_levels, quantise, without_style
from mmgen.pipeline import MultimodalGANPipeline

PART = 4096
"""Entries, or different labels, that are kept together: what is lost when it is stopped."""

BATCH = 32
FOR_LEVELS = 512
"""Pictures that tell which levels are right, where the checkpoint has none."""


@dataclass
class Rows:
    """N pictures that are to be entries.

    Attributes:
        paths: as `mmgen.data.shards.open_image_at` takes them.
        labels, styles: of each.
        origins: of each (source, licence, author).
    """

    paths: list[str]
    labels: list[str]
    styles: list[str]
    origins: list[tuple[str, str, str]]

    def digest(self) -> str:
        """Changes with any of the pictures' files, and with all else."""
        found = hashlib.sha256()
        status: dict[str, os.stat_result] = {}
        for row in zip(self.paths, self.labels, self.styles, self.origins, strict=True):
            file = file_of(row[0])
            if file not in status:
                status[file] = os.stat(file)
            found.update(f"{row}{status[file].st_size}{status[file].st_mtime_ns}".encode())
        return found.hexdigest()[:16]


def load_rows(source: str, split: str, folder: Path, about: dict[str, str]) -> Rows:
    """The captioned pictures of a split, without recoloured and composed ones; the Hub's are fetched into `folder`.

    Args:
        source: what `mmgen.data.folder.load_pairs` takes, or `user/name` on the Hub where there is no such folder.
        about: `style`, `source`, `licence` and `author` of the pictures that have none of their own.

    Raises:
        UserError: it cannot be read, or nothing in it has a caption.
    """
    path = Path(source).expanduser()
    if is_indexed(folder):
        raise UserError(f"{folder} holds a memory already. Choose another --output, or delete it.")
    if not (path.exists() or PATTERN & set(source)) and source.count("/") == 1:
        path = _fetched(source, split, folder / "work" / "pictures")
        about, split = {**about, "source": about["source"] or f"{source} on the Hugging Face Hub"}, "train"
    splits = load_pairs(path, need_text=False)
    if split not in splits:
        raise UserError(f"{source} has no split {split}; it has {', '.join(splits)}. Name one of them by --split.")
    data = splits[split]
    columns = {name: data[name][:] for name in ("text", "style", "group", "source", "licence", "author")}
    made = (recolour.GROUP, composed.GROUP)
    kept = [row for row, text in enumerate(columns["text"]) if text.strip() and columns["group"][row] not in made]
    if not kept:
        raise UserError(f"No picture of {source} has a caption, by which it could be found. Write captions first.")
    columns = {name: [" ".join(values[row].split()) for row in kept] for name, values in columns.items()}
    for name, value in about.items():
        columns[name] = [own or value for own in columns[name]]
    labels = [
        without_style(*pair)[0] or pair[0]
        for pair in zip(columns["text"], ([s] for s in columns["style"]), strict=True)
    ]
    paths = [image["path"] for image in data.select(kept)["image"]]
    origins = list(zip(*(columns[name] for name in ("source", "licence", "author")), strict=True))
    return Rows(paths, labels, columns["style"], origins)


def _fetched(name: str, split: str, folder: Path) -> Path:
    """The folder with the pictures of a data set of the Hub; what was there when it was stopped is not written anew."""
    if (folder / "whole").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    report = Report()
    table = folder / "metadata.jsonl"
    lines = (
        [line for line in table.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
        if table.exists()
        else []
    )
    table.write_text("".join(lines), encoding="utf-8")
    arrivals = stream_pairs(name, None, None, None, split, sys.maxsize, report)
    with open(table, "a", encoding="utf-8") as handle:
        for number, arrival in enumerate(tqdm(arrivals, desc="fetching pictures", unit="img")):
            if number < len(lines):
                continue
            file = f"{number:08d}-{safe_name(arrival.name)}"
            content = arrival.source if isinstance(arrival.source, bytes) else Path(arrival.source).read_bytes()
            if Path(file).suffix == "":
                image = open_image(content, arrival.name)
                file += ".png"
                image.save(folder / file)
            else:
                (folder / file).write_bytes(content)
            handle.write(json.dumps({"file_name": file, "captions": arrival.captions}, ensure_ascii=False) + "\n")
            handle.flush()
    for sentence in (*report.warnings(), *report.problems()):
        print(f"Note: {sentence}", file=sys.stderr)
    (folder / "whole").touch()
    return folder


def build_index(rows: Rows, pipe: MultimodalGANPipeline, folder: Path) -> int:
    """Encode all rows, and write the memory into a folder; called by every process of several, each with the same rows.

    Returns:
        how many entries it has; 0 on all processes but the first.

    Raises:
        UserError: the folder holds a memory, or the work on another; no picture can be read; the processes do not see
            the same folder; or the disk is full.
    """
    try:
        return _build(rows, pipe, folder)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "the disk is full" if full else error.strerror or error
        raise UserError(f"The memory cannot be written to {folder} ({why}). Mend that, and start it again.") from error


def _build(rows: Rows, pipe: MultimodalGANPipeline, folder: Path) -> int:
    ranks = PartialState()
    work = folder / "work"
    if ranks.is_main_process:
        _begin(rows, pipe, folder)
    ranks.wait_for_everyone()
    levels = torch.from_numpy(np.load(work / "levels.npy", allow_pickle=False)).to(pipe.device)
    texts = sorted(set(rows.labels))
    parts, text_parts = range(-(-len(rows.paths) // PART)), range(-(-len(texts) // PART))
    mine = [part for part in parts if part % ranks.num_processes == ranks.process_index]
    with tqdm(
        total=sum(min(PART, len(rows.paths) - PART * part) for part in mine),
        desc="encoding pictures" + (", share of the first process" if ranks.num_processes > 1 else ""),
        unit="img",
        disable=not ranks.is_main_process,
        mininterval=0.5 if sys.stderr.isatty() else 30.0,
    ) as bar:
        for part in mine:
            span = range(PART * part, min(PART * (part + 1), len(rows.paths)))
            if not _note(work, part).exists():
                _encode_part(rows, span, pipe, levels, folder, part, bar)
            else:
                bar.update(len(span))
    for part in text_parts:
        file = work / f"keys-{part:05d}.npy"
        if part % ranks.num_processes == ranks.process_index and not file.exists():
            _save(file, _keys(pipe, texts[PART * part : PART * (part + 1)]))
    ranks.wait_for_everyone()
    return (
        _assemble(rows, texts, pipe, levels.cpu(), folder, len(parts), len(text_parts)) if ranks.is_main_process else 0
    )


def _begin(rows: Rows, pipe: MultimodalGANPipeline, folder: Path) -> None:
    """Write the plan and the levels, or find that what lies there belongs to the same plan."""
    work = folder / "work"
    plan = {"rows": rows.digest(), "count": len(rows.paths), **encoder_hashes(pipe.autoencoder, pipe.text_encoder)}
    file = work / "plan.json"
    work.mkdir(parents=True, exist_ok=True)
    if file.exists():
        if json.loads(file.read_text(encoding="utf-8")) != plan:
            raise UserError(
                f"{folder} holds the work on a memory of other pictures, or by another checkpoint. Choose another "
                "--output, or delete it."
            )
        done, parts = len(list(work.glob("part-*.json"))), -(-len(rows.paths) // PART)
        print(f"Going on with what lies in {folder}: {done} of {parts} parts.", file=sys.stderr)
        return
    (folder / "codes").mkdir(exist_ok=True)
    levels = pipe.memory.levels if pipe.memory is not None else torch.zeros(0)
    if not bool(levels.any()):
        chosen = np.unique(np.linspace(0, len(rows.paths) - 1, FOR_LEVELS).astype(int))
        found = [pixels for row in chosen if not isinstance(pixels := _pixels(rows.paths[row], pipe.image_size), str)]
        if not found:
            raise UserError(f"None of the pictures can be read. {_pixels(rows.paths[0], pipe.image_size)}")
        levels = quantisation_levels(torch.cat(list(_latents(pipe, found))))
    _save(work / "levels.npy", levels.float().cpu().numpy())
    write_json(file, plan, indent=None)


def _encode_part(rows, span: range, pipe, levels: torch.Tensor, folder: Path, part: int, bar: tqdm) -> None:
    """Encode some rows, write their codes, and note which could not be read."""
    refused: dict[int, str] = {}
    codes = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for start in range(span.start, span.stop, BATCH):
            numbers = range(start, min(start + BATCH, span.stop))
            pixels = list(pool.map(lambda row: _pixels(rows.paths[row], pipe.image_size), numbers))
            refused |= {row: said for row, said in zip(numbers, pixels, strict=True) if isinstance(said, str)}
            if good := [one for one in pixels if not isinstance(one, str)]:
                codes += [quantise(latents, levels).cpu().numpy() for latents in _latents(pipe, good)]
            bar.update(len(numbers))
    numbers = levels.shape[0] * pipe.generator.config.latent_size**2 // 2
    _save(folder / f"codes/{part:05d}.npy", np.concatenate([np.zeros((0, numbers), np.uint8), *codes]))
    write_json(_note(folder / "work", part), {"refused": sorted(refused.items())}, indent=None)


def _pixels(path: str, size: int) -> np.ndarray | str:
    """A picture uint8 [4, size, size], or why there is none."""
    try:
        return square(open_image_at(path), size)
    except UserError as error:
        return str(error)


@torch.inference_mode()
def _latents(pipe: MultimodalGANPipeline, pixels: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
    """Normalised latents [n, C, S, S] of pictures, a batch at a time."""
    for start in range(0, len(pixels), BATCH):
        some = from_uint8(torch.from_numpy(np.stack(pixels[start : start + BATCH]))).to(pipe.device)
        with autocast(pipe.device):
            latents = pipe.autoencoder.encode(some)
        yield latents.float()


@torch.inference_mode()
def _keys(pipe: MultimodalGANPipeline, texts: Sequence[str]) -> np.ndarray:
    """What labels are looked up by, float16 [n, D]."""
    some = (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))
    return np.concatenate([pipe.encode_keys(batch).half().cpu().numpy() for batch in some])


def _assemble(rows, texts: list[str], pipe, levels: torch.Tensor, folder: Path, parts: int, text_parts: int) -> int:
    work = folder / "work"
    missing = [part for part in range(parts) if not _note(work, part).exists()]
    if missing:
        raise UserError(
            f"{len(missing)} of {parts} parts are not in {folder}. Put it on a disk that all machines see, and start "
            "again."
        )
    refused = [
        row for part in range(parts) for row in json.loads(_note(work, part).read_text(encoding="utf-8"))["refused"]
    ]
    kept = np.setdiff1d(np.arange(len(rows.paths)), [row for row, _ in refused])
    if refused:
        print(f"Note: {len(refused):,} pictures were left out. {refused[0][1]}", file=sys.stderr)
    if not len(kept):
        raise UserError("None of the pictures can be read, so there is nothing to remember. Look at the data set.")
    keys = np.concatenate([np.load(work / f"keys-{part:05d}.npy", allow_pickle=False) for part in range(text_parts)])
    styles, origins = sorted(set(rows.styles)), list(dict.fromkeys(rows.origins))
    numbers = ({value: n for n, value in enumerate(values)} for values in (texts, styles, origins))
    columns = zip(numbers, (rows.labels, rows.styles, rows.origins), strict=True)
    text, style, source = (np.array([number[value] for value in values], np.int32)[kept] for number, values in columns)
    sizes = np.bincount(kept // PART, minlength=parts)
    hashes = encoder_hashes(pipe.autoencoder, pipe.text_encoder)
    size = pipe.generator.config.latent_size
    write_index(folder, sizes.tolist(), levels, keys, texts, text, style, source, styles, origins, size, hashes)
    shutil.rmtree(work)
    return len(kept)


def _note(work: Path, part: int) -> Path:
    """What tells that a part is whole."""
    return work / f"part-{part:05d}.json"


def _save(file: Path, array: np.ndarray) -> None:
    """Write an array, whole or not at all."""
    with replacing(file) as part, open(part, "wb") as handle:
        np.save(handle, array)
