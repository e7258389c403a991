"""How long a memory on disk takes to answer, and how often it finds what comparing all labels would find.

    python benchmarks/memory.py [--entries 1000000] [--styles 10] [--lookups 200] [--keep FOLDER]

Keys are made up: as many clusters as the root of the labels, as spread as the words of labels are; each label is there
in two styles. The codes are a file without content, which reads as zeros. Building is timed too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402
import torch  # noqa: E402

from mmgen.models.indexed_memory import IndexedMemory, is_indexed, write_index  # noqa: E402
from mmgen.models.memory import CANDIDATES, LEVELS  # noqa: E402

CHANNELS, SIZE, KEY_CHANNELS = 32, 16, 384


def make(folder: Path, entries: int, styles: int) -> None:
    """Write a made-up memory."""
    rng = np.random.default_rng(0)
    count = entries // 2
    clusters = int(count**0.5)
    centres = rng.standard_normal((clusters, KEY_CHANNELS), dtype=np.float32)
    keys = np.empty((count, KEY_CHANNELS), dtype=np.float16)
    for start in range(0, count, 65_536):
        of = rng.integers(0, clusters, min(65_536, count - start))
        some = centres[of] + 0.8 * rng.standard_normal((len(of), KEY_CHANNELS), dtype=np.float32)
        keys[start : start + len(of)] = some / np.linalg.norm(some, axis=1, keepdims=True)
    (folder / "codes").mkdir(parents=True, exist_ok=True)
    shape = (2 * count, CHANNELS * SIZE * SIZE // 2)
    np.lib.format.open_memmap(folder / "codes/00000.npy", mode="w+", dtype=np.uint8, shape=shape)
    text = np.concatenate([np.arange(count), np.arange(count)])
    style = np.concatenate([rng.integers(0, styles - 1, count), np.full(count, styles - 1)])
    write_index(
        folder,
        parts=[2 * count],
        levels=torch.zeros(CHANNELS, LEVELS),
        keys=keys,
        texts=[f"label {number}" for number in range(count)],
        text=text,
        style=style,
        source=np.zeros(2 * count),
        styles=[f"style {number}" for number in range(styles)],
        sources=[("made up", "CC0-1.0", "")],
        latent_size=SIZE,
        hashes={"image_encoder_hash": "", "text_encoder_hash": ""},
    )


def exact(memory: IndexedMemory, keys: np.ndarray, query: np.ndarray, style: int, own: bool) -> set[int]:
    """The labels of the `CANDIDATES` nearest entries in the style, or in all others, by comparing all."""
    allowed = memory._text[(memory._style[:] == style) == own]
    scores = keys[allowed] @ query
    return {int(allowed[place]) for place in np.argpartition(-scores, CANDIDATES)[:CANDIDATES]}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--styles", type=int, default=10)
    parser.add_argument("--lookups", type=int, default=200)
    parser.add_argument("--keep", type=Path, help="make it here, or measure what is here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        if not is_indexed(folder):
            start = time.perf_counter()
            make(folder, arguments.entries, arguments.styles)
            print(f"made in {time.perf_counter() - start:.0f} s")
        start = time.perf_counter()
        memory = IndexedMemory(folder)
        print(f"{len(memory):,} entries, opened in {1000 * (time.perf_counter() - start):.0f} ms")
        measure(memory, arguments.lookups)


def measure(memory: IndexedMemory, lookups: int) -> None:
    """Look up labels that were slightly changed, and print times and what was missed."""
    rng = np.random.default_rng(1)
    keys = np.load(memory.folder / "keys.npy").astype(np.float32)
    picked = keys[rng.integers(0, len(keys), lookups)]
    queries = picked + 0.02 * rng.standard_normal(picked.shape, dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    styles = rng.integers(0, len(memory.config.styles), lookups)
    for style in range(len(memory.config.styles)):  # What is told apart by style is so once.
        memory.lookup(torch.from_numpy(queries[:1]), torch.tensor([style]))
    names = ("a look-up of one thing", "of two things", "the style by the words")
    wall, own_time = {name: [] for name in names}, {name: [] for name in names}
    for number in range(lookups):
        one, style = torch.from_numpy(queries[number : number + 1]), torch.tensor([int(styles[number])])
        two = torch.from_numpy(np.stack([queries[number], queries[number - 1]]))[None]
        generator = torch.Generator().manual_seed(number)
        looked_up = partial(memory.lookup, style=style, generator=generator, never_same=True)
        calls = partial(looked_up, one), partial(looked_up, two), partial(memory.likeness_by_style, one)
        for name, call in zip(names, calls, strict=True):
            start, begun = time.perf_counter(), time.process_time()
            call()
            wall[name].append(1000 * (time.perf_counter() - start))
            own_time[name].append(1000 * (time.process_time() - begun))
    print("milliseconds                waited (the fastest tenth)   computed")
    for name in names:
        fast = sorted(wall[name])[lookups // 10]
        waited, computed = statistics.median(wall[name]), statistics.median(own_time[name])
        print(f"{name:24s} {waited:9.2f} {fast:18.2f} {computed:11.2f}")
    shares = {True: [], False: []}
    for number in range(min(20, lookups)):
        for own in (True, False):
            style = int(styles[number])
            entries, _ = memory._candidates(queries[number], style, own, None, None, [])
            wanted = exact(memory, keys, queries[number], style, own)
            shares[own].append(len(wanted & {int(text) for text in memory._text[entries]}) / len(wanted))
    for own, found in shares.items():
        print(f"of the {CANDIDATES} nearest in {'the' if own else 'other'} style found: {100 * np.mean(found):.0f}%")


if __name__ == "__main__":
    main()
