"""What the model's own networks see of a draft's images and captions, kept on disk by content.

An image or caption that was measured once is not measured again, whatever else of the draft has changed.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mmgen.data.draft import Pair
from mmgen.data.shards import pixel_stamp
from mmgen.errors import UserError
from mmgen.images import HEAD, from_uint8, open_image, pixel_version, psnr, square
from mmgen.io import read_json, replacing, write_json
from mmgen.models.encoders import MAX_PROMPT_TOKENS, PyramidCNN, reference_view, text_tokens
from mmgen.pipeline import MultimodalGANPipeline

BATCH = 16
SAVE_EVERY = 1000  # images, so that an examination that is cut short need not begin again
TRIALS = 64
"""Images that the autoencoder is tried on at most; it takes longer than all else."""

Progress = Callable[[float, str], None]


class Store:
    """Vectors by key in one `.npz`, read at the start and written when there are new ones; a damaged file is forgotten.

    A disk that is full costs no more than the time it takes to measure again.
    """

    def __init__(self, file: Path):
        self.file = file
        self.values: dict[str, np.ndarray] = {}
        try:
            with np.load(file, allow_pickle=False) as arrays:
                self.values = dict(zip(arrays["keys"].tolist(), arrays["values"], strict=True))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            pass
        self._saved = set(self.values)

    def save(self, only: set[str] | None = None) -> None:
        """Write what is there, or what of it is in `only`."""
        kept = {key: value for key, value in self.values.items() if only is None or key in only}
        if kept.keys() == self._saved:
            return
        with suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.file) as part, open(part, "wb") as target:
                np.savez(target, keys=np.array(list(kept), dtype=str), values=np.array(list(kept.values())))
            self._saved = set(kept)


def content_keys(pairs: list[Pair], folder: Path) -> dict[str, str]:
    """A digest of each image's bytes, and of how they are read, by name; made again only where the file has changed.

    An image that is not there any more, or cannot be read, is left out.
    """
    file = folder / "contents.json"
    known = read_json(file)
    keys, stamps = {}, {}
    for pair in pairs:
        try:
            path = str(pair.path)
            stamp = pair.name + pixel_stamp(path).removeprefix(path)
            keys[pair.name] = stamps[stamp] = known.get(stamp) or _content_key(pair.path.read_bytes())
        except OSError:
            continue
    if stamps != known:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            write_json(file, stamps, indent=None)
    return keys


@torch.inference_mode()
def measure_images(
    pairs: list[Pair], keys: dict[str, str], pipe: MultimodalGANPipeline, folder: Path, on_progress: Progress
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What the CNN makes of the images, and what they look like.

    Args:
        keys: the content of each image by pair name.
        on_progress: takes 0 to 1.

    Returns:
        by pair name: float32 [D], the means of the stride-32 and the stride-16 map; and float32 [1026], the image's
        width and height in pixels, and its 16x16 premultiplied RGBA, 0 to 255. Images that cannot be read are left
        out.
    """
    processor = pipe.image_processor
    cnn = PyramidCNN(pipe.image_encoder, processor.image_mean, processor.image_std).to(pipe.device)
    seen = Store(folder / f"features-{weights_key(pipe.image_encoder)}-{pipe.image_size}.npz")
    looks = Store(folder / "looks.npz")
    todo = list({keys[pair.name]: pair for pair in pairs if pair.name in keys}.items())
    todo = [(key, pair) for key, pair in todo if key not in seen.values or key not in looks.values]
    for start in range(0, len(todo), BATCH):
        read = []
        for key, pair in todo[start : start + BATCH]:
            try:
                image = open_image(pair.path)
            except (UserError, OSError):
                continue
            pixels = from_uint8(torch.from_numpy(square(image, pipe.image_size)))
            read.append((key, image.size, pixels))
        if read:
            x = torch.stack([pixels for _, _, pixels in read])
            *_, fine, coarse = cnn(reference_view(x.to(pipe.device)))
            vectors = torch.cat([coarse.mean((2, 3)), fine.mean((2, 3))], dim=1).float().cpu().numpy()
            small = F.interpolate(x, size=(16, 16), mode="area").add(1).mul(127.5).flatten(1).numpy()
            for (key, size, _), vector, look in zip(read, vectors, small, strict=True):
                seen.values[key] = vector
                looks.values[key] = np.concatenate([np.array(size, np.float32), look])
        done = start + len(todo[start : start + BATCH])
        on_progress(done / len(todo), f"{done:,} of {len(todo):,} pictures looked at")
        if done % SAVE_EVERY < BATCH:
            seen.save()
            looks.save()
    for store in (seen, looks):
        store.save(only=set(keys.values()))
    there = {name: key for name, key in keys.items() if key in seen.values and key in looks.values}
    return (
        {name: seen.values[key] for name, key in there.items()},
        {name: looks.values[key] for name, key in there.items()},
    )


@torch.inference_mode()
def measure_restored(
    pairs: list[Pair], keys: dict[str, str], pipe: MultimodalGANPipeline, folder: Path, on_progress: Progress
) -> dict[str, float]:
    """How well the autoencoder gives back images: PSNR in dB over premultiplied RGBA, by name of at most `TRIALS`."""
    store = Store(folder / f"restored-{weights_key(pipe.autoencoder)}.npz")
    readable = [pair for pair in pairs if pair.name in keys]
    tried = sorted(readable, key=lambda pair: keys[pair.name])[:TRIALS]  # By content: the same ones after an edit.
    for number, pair in enumerate(tried, 1):
        key = keys[pair.name]
        if key not in store.values:
            try:
                image = open_image(pair.path)
            except (UserError, OSError):  # removed since it was looked at
                continue
            pixels = from_uint8(torch.from_numpy(square(image, pipe.image_size)))[None].to(pipe.device)
            restored = pipe.autoencoder.decode(pipe.autoencoder.encode(pixels))
            store.values[key] = psnr(restored, pixels)[0].float().cpu().numpy()
        on_progress(number / len(tried), f"{number} of {len(tried)} pictures taken through the autoencoder")
    store.save(only={keys[pair.name] for pair in tried})
    return {pair.name: float(store.values[key]) for pair in tried if (key := keys[pair.name]) in store.values}


@torch.inference_mode()
def measure_captions(
    texts: list[str], pipe: MultimodalGANPipeline, folder: Path, on_progress: Progress
) -> dict[str, np.ndarray]:
    """What BERT makes of each caption that is not empty: the mean of its tokens, float32 [W], of length 1."""
    store = Store(folder / f"captions-{weights_key(pipe.text_encoder)}.npz")
    keys = {text: _digest(text.encode()) for text in dict.fromkeys(texts) if text}
    todo = sorted((text for text, key in keys.items() if key not in store.values), key=len)
    for start in range(0, len(todo), BATCH * 4):
        chosen = [text[:20_000] for text in todo[start : start + BATCH * 4]]
        pieces = pipe.tokenizer(
            chosen, truncation=True, max_length=MAX_PROMPT_TOKENS, padding=True, return_tensors="pt"
        ).to(pipe.device)
        mask = pieces["attention_mask"]
        hidden = text_tokens(pipe.text_encoder, pieces["input_ids"], mask)
        vectors = F.normalize((hidden * mask[..., None]).sum(1), dim=1).cpu().numpy()
        for text, vector in zip(todo[start:], vectors, strict=False):
            store.values[keys[text]] = vector
        done = start + len(chosen)
        on_progress(done / len(todo), f"{done:,} of {len(todo):,} captions read")
    store.save(only=set(keys.values()))
    return {text: store.values[key] for text, key in keys.items()}


def weights_key(model: nn.Module) -> str:
    """A digest of a network's weights."""
    return _digest(*_bytes(model))


def _bytes(model: nn.Module) -> Iterator[bytes]:
    for value in model.state_dict().values():
        yield value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()


def _content_key(content: bytes) -> str:
    version = pixel_version(content[:HEAD])
    return _digest(content, *([str(version).encode()] if version > 1 else []))


def _digest(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
