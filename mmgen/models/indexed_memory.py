"""A memory of millions of entries on its disk: faiss finds the labels, and codes are read when they are drawn from.

In the working memory are the faiss index, a byte or four for each number of a key, and 16 bytes for each entry.

folder/
  index.json              shapes, styles, counts, and which networks made it; written last
  codes/00000.npy ...     quantised latents, uint8 [n, C * S * S / 2], a part each
  levels.npy              float32 [C, LEVELS]
  keys.npy                float16 [U, D], one for each of U different labels
  nearest.faiss           the same keys: flat (exact) for few, by inverted lists for many
  text.npy, style.npy, source.npy       int32 [E], of each entry
  by_text.npy, text_starts.npy          entries in the order of their labels, and where each label's begin, [U + 1]
  texts.txt, sources.txt                a label, or a JSON list of source, licence and author, in each line
  texts.npy, sources.npy                where each line begins

Nothing in it is a pickle.
"""

from __future__ import annotations

import json
import mmap
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import faiss
import numpy as np
import torch

from mmgen.errors import UserError
from mmgen.io import write_json
from mmgen.models.memory import (
    AFFINITY,
    AFFINITY_TEXTS,
    CANDIDATES,
    LEVELS,
    SAME,
    SLOTS,
    TEMPERATURE,
    Retrieved,
    choose,
    dequantise,
    style_affinity,
)

DESCRIPTION = "index.json"
VERSION = 1

FLAT_UP_TO = 20_000
"""Labels that are compared one by one; more are found by inverted lists."""

ONE_BY_ONE = 4096
"""Labels of a style that are compared one by one, however many the others have."""

PROBES = 8
"""Inverted lists that are searched, where they hold enough."""

FOR_STYLES = 256
"""Nearest labels whose styles are told apart; a style that none of them has is never chosen."""


class Lines:
    """The lines of a text file by number, read when asked for."""

    def __init__(self, file: Path):
        self._starts = np.load(file.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
        size = file.stat().st_size
        if self._starts.dtype != np.int64 or self._starts.ndim != 1 or self._starts[-1] != size:
            raise ValueError(f"{file.name} is cut short")
        self._bytes = np.memmap(file, np.uint8, "r").view(np.ndarray) if size else np.zeros(0, np.uint8)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> str:
        return bytes(self._bytes[self._starts[number] : self._starts[number + 1] - 1]).decode("utf-8")

    @staticmethod
    def write(file: Path, lines: Iterable[str]) -> None:
        """Write lines, none of which holds a line break."""
        starts = [0]
        with open(file, "wb") as handle:
            for line in lines:
                starts.append(starts[-1] + handle.write(line.encode("utf-8") + b"\n"))
        np.save(file.with_suffix(".npy"), np.array(starts, dtype=np.int64))


class IndexedMemory:
    """Answers as a `Memory` does, for one look-up at a time, on the processor.

    Attributes:
        config: `styles`, `latent_channels`, `latent_size`, `key_channels`, `image_encoder_hash`, `text_encoder_hash`.

    Raises:
        UserError: the folder holds no such memory, or not a whole one.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._affinity: torch.Tensor | None = None
        if not is_indexed(self.folder):
            raise UserError(
                f"{folder} holds no {DESCRIPTION}, so it is no memory. Make one: python -m mmgen memory build."
            )
        try:
            self._open()
        except Exception as error:  # Whatever the libraries raise at a damaged file.
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise UserError(f"The memory in {folder} is not whole ({first}). Build it again.") from error

    def _open(self) -> None:
        said = json.loads((self.folder / DESCRIPTION).read_text(encoding="utf-8"))
        if said["version"] != VERSION:
            raise ValueError(f"it is of version {said['version']}, and {VERSION} is read here")
        names = ("latent_channels", "latent_size", "key_channels", "image_encoder_hash", "text_encoder_hash")
        self.config = SimpleNamespace(styles=[str(style) for style in said["styles"]], **{n: said[n] for n in names})
        entries, labels, channels = said["entries"], said["texts"], self.config.latent_channels
        numbers = channels * self.config.latent_size**2 // 2
        self._levels = torch.from_numpy(self._array("levels", np.float32, channels, LEVELS).copy())
        self._keys = self._array("keys", np.float16, labels, self.config.key_channels)
        self._text, self._style, self._source = (
            self._array(name, np.int32, entries) for name in ("text", "style", "source")
        )
        self._by_text = self._array("by_text", np.int32, entries)
        self._starts = self._array("text_starts", np.int64, labels + 1)
        self._parts = [self._array(f"codes/{n:05d}", np.uint8, size, numbers) for n, size in enumerate(said["parts"])]
        self._ends = np.cumsum(said["parts"])
        self._texts, self._sources = Lines(self.folder / "texts.txt"), Lines(self.folder / "sources.txt")
        if int(self._ends[-1]) != entries or len(self._texts) != labels:
            raise ValueError("its parts do not fit each other")
        self._faiss = faiss.read_index(str(self.folder / "nearest.faiss"))
        if self._faiss.ntotal != labels or self._faiss.d != self.config.key_channels:
            raise ValueError("nearest.faiss does not fit the keys")
        self._lists = faiss.extract_index_ivf(self._faiss).nlist if labels > FLAT_UP_TO else 0
        self._side = lru_cache(64)(self._make_side)

    def _array(self, name: str, kind: type, *shape: int) -> np.ndarray:
        """An array from its file: what has rows stays there, mapped into memory."""
        stays = len(shape) > 1 and shape[0] > 0
        array = np.load(self.folder / f"{name}.npy", mmap_mode="r" if stays else None, allow_pickle=False)
        if isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
            array.base.madvise(mmap.MADV_RANDOM)  # What lies beside a row is not read along with it.
        if array.dtype != kind or array.shape != shape:
            raise ValueError(f"{name}.npy holds {array.dtype} {array.shape} instead of {np.dtype(kind)} {shape}")
        return array.view(np.ndarray)  # Which is read in a fifth of the time of a `memmap`.

    def __len__(self) -> int:
        return len(self._text)

    def __deepcopy__(self, memo: dict) -> IndexedMemory:
        return self  # It never changes.

    def style_number(self, style: str | None) -> int:
        """The number of a style, or -1 for one that no entry has."""
        return self.config.styles.index(style) if style in self.config.styles else -1

    def about(self, entry: int) -> dict[str, str]:
        """`label`, `style`, `source`, `licence` and `author` of an entry."""
        source, licence, author = json.loads(self._sources[self._source[entry]])
        label, style = self._texts[self._text[entry]], self.config.styles[self._style[entry]]
        return {"label": label, "style": style, "source": source, "licence": licence, "author": author}

    def counts(self, column: str) -> list[int]:
        """How many entries each of the styles or sources has; `column` is `style` or `source`."""
        values, least = (
            (self._style, len(self.config.styles)) if column == "style" else (self._source, len(self._sources))
        )
        return np.bincount(values, minlength=least).tolist()

    @property
    def sources(self) -> list[dict[str, str]]:
        """Of each source its `source`, `licence` and `author`."""
        rows = (json.loads(self._sources[number]) for number in range(len(self._sources)))
        return [dict(zip(("source", "licence", "author"), row, strict=True)) for row in rows]

    def latents(self, entries: torch.Tensor) -> torch.Tensor:
        """Normalised latents [..., C, S, S] of entries by number [...]."""
        c, s = self.config.latent_channels, self.config.latent_size
        numbers = entries.flatten().cpu().numpy()
        parts = np.searchsorted(self._ends, numbers, side="right")
        starts = np.concatenate([[0], self._ends])
        codes = np.stack([self._parts[part][n - starts[part]] for part, n in zip(parts, numbers, strict=True)])
        return dequantise(torch.from_numpy(codes), self._levels, s).view(*entries.shape, c, s, s).to(entries.device)

    def affinity(self) -> torch.Tensor:
        """As `Memory.affinity`."""
        if self._affinity is None:
            starts, by_text = self._starts, self._by_text
            shared = np.flatnonzero(np.diff(starts) > 1)
            shared = (
                shared[np.unique(np.linspace(0, len(shared) - 1, AFFINITY_TEXTS).astype(int))] if len(shared) else []
            )
            entries = [torch.from_numpy(by_text[starts[n] : starts[n + 1]].astype(np.int64)) for n in shared]
            style = torch.from_numpy(self._style[:].astype(np.int64))
            self._affinity = style_affinity(entries, style, len(self.config.styles), self.latents)
        return self._affinity

    def nearest(self, keys: torch.Tensor) -> torch.Tensor:
        """The likeness [n] of the nearest label to each of the keys [n, D]."""
        asked = _array_of(keys)
        best = [float((self._rows(self._search(key, None, 1, len(self._keys))) @ key).max()) for key in asked]
        return torch.tensor(best, device=keys.device)

    def likeness(self, keys: torch.Tensor, entries: torch.Tensor) -> torch.Tensor:
        """The likeness [...] of entries by number [...] to the nearest of the keys [n, D]."""
        found = self._rows(self._text[entries.flatten().cpu().numpy()]) @ _array_of(keys).T
        return torch.from_numpy(found.max(1)).view(entries.shape).to(keys.device)

    def likeness_by_style(self, keys: torch.Tensor, excluded: torch.Tensor | None = None) -> torch.Tensor:
        """As `Memory.likeness_by_style`; of a style that none of the `FOR_STYLES` nearest labels has it is -1."""
        best = np.full(len(self.config.styles), -1.0, dtype=np.float32)
        for key in _array_of(keys):
            texts = self._search(key, None, min(FOR_STYLES, len(self._keys)), len(self._keys))
            entries, scores = self._entries_of(texts, self._rows(texts) @ key)
            if excluded is not None:
                kept = ~excluded.cpu().numpy()[entries]
                entries, scores = entries[kept], scores[kept]
            np.maximum.at(best, self._style[entries], scores)
        return torch.from_numpy(best).to(keys.device)

    def read(self, entries: torch.Tensor, likeness: torch.Tensor, weights: torch.Tensor) -> Retrieved:
        """Keys and latents of entries by number [n, K], where the weights [n, K] are not 0."""
        entries = entries * weights.long()
        keys = torch.from_numpy(self._rows(self._text[entries.flatten().cpu().numpy()])).to(weights)
        return Retrieved(
            entries=entries,
            likeness=likeness.clamp_min(-1.0) * weights,
            keys=keys.view(*entries.shape, -1) * weights[..., None],
            latents=self.latents(entries) * weights[..., None, None, None],
            weights=weights,
        )

    @torch.no_grad()
    def lookup(
        self,
        queries: torch.Tensor,
        style: torch.Tensor,
        excluded: torch.Tensor | None = None,
        temperature: torch.Tensor | float = TEMPERATURE,
        generator: torch.Generator | None = None,
        slots: int = SLOTS,
        never_same: bool = False,
    ) -> Retrieved:
        """As `Memory.lookup`, for n = 1; the same entries, as far as the inverted lists find the nearest labels.

        Raises:
            ValueError: n is not 1.
        """
        if len(queries) != 1:
            raise ValueError(f"{len(queries)} look-ups at once; a memory on disk answers one at a time")
        half = slots // 2
        asked = _array_of(queries[0])
        asked = np.repeat(asked[None], half, 0) if asked.ndim == 1 else asked
        left_out = None if excluded is None else excluded[0].cpu().numpy()
        wanted = int(style[0])
        found: list[int] = []
        scored: list[float] = []
        for own in (False, True):
            taken: list[int] = []
            places = Counter(key.tobytes() for key in (asked[-half:] if own else asked[:half]))
            for numbers, count in places.items():
                key = np.frombuffer(numbers, dtype=np.float32)
                same = asked if own and never_same else None
                entries, scores = self._candidates(key, wanted, own, left_out, same, taken)
                bonus = AFFINITY * self.affinity()[wanted][torch.from_numpy(self._style[entries].astype(np.int64))]
                values, chosen = choose(torch.from_numpy(scores)[None], count, temperature, generator, bonus[None])
                found += [int(entries[place]) for place in chosen[0].tolist()]
                taken += found[-count:]
                scored += values[0].tolist()
        likeness = torch.tensor([scored], device=queries.device)
        return self.read(torch.tensor([found], device=queries.device), likeness, (likeness > -1.5).float())

    def _candidates(
        self,
        key: np.ndarray,
        style: int,
        own: bool,
        left_out: np.ndarray | None,
        same: np.ndarray | None,
        taken: Sequence[int],
    ) -> tuple[np.ndarray, np.ndarray]:
        """The `CANDIDATES` nearest entries in the style, or in all others, and their likeness, the nearest first.

        Where there are fewer they are filled up with number 0 and likeness -2, as far as the memory has entries.

        Args:
            same: keys [m, D] whose very words do not count.
        """
        side, available = self._side(style, own)
        wanted, entries, scores = CANDIDATES + 8, np.zeros(0, np.int64), np.zeros(0, np.float32)
        while available:
            texts = self._search(key, side, min(wanted, available), available)
            rows = self._rows(texts)
            likeness = rows @ key
            if same is not None:
                likeness[(rows @ same.T).max(1) > SAME] = -2.0
            entries, scores = self._entries_of(texts, likeness)
            kept = (scores > -1.5) & ((self._style[entries] == style) == own)
            if left_out is not None:
                kept &= ~left_out[entries]
            if taken:
                kept &= ~np.isin(entries, taken)
            entries, scores = entries[kept], scores[kept]
            if len(entries) >= CANDIDATES or wanted >= available:
                break
            wanted *= 4
        order = np.lexsort((entries, -scores))[:CANDIDATES]
        missing = min(CANDIDATES, len(self)) - len(order)
        return (
            np.concatenate([entries[order], np.zeros(missing, np.int64)]),
            np.concatenate([scores[order], np.full(missing, -2.0, np.float32)]),
        )

    def _entries_of(self, texts: np.ndarray, likeness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All entries of labels by number, and to each its label's likeness."""
        starts = self._starts[texts]
        counts = self._starts[texts + 1] - starts
        before = np.cumsum(counts) - counts
        places = np.arange(counts.sum()) + np.repeat(starts - before, counts)
        return self._by_text[places].astype(np.int64), np.repeat(likeness, counts).astype(np.float32)

    def _rows(self, texts: np.ndarray) -> np.ndarray:
        """Keys float32 [m, D] of labels by number."""
        return self._keys[texts].astype(np.float32)

    def _make_side(self, style: int, own: bool) -> tuple[np.ndarray | None, int]:
        """The labels with an entry in the style, or in others, and how many: None for all, numbers, or bits."""
        has = np.zeros(len(self._keys), dtype=bool)
        has[self._text[(self._style[:] == style) == own]] = True
        count = int(has.sum())
        if count == len(has):
            return None, count
        return (np.flatnonzero(has) if count <= ONE_BY_ONE else np.packbits(has, bitorder="little")), count

    def _search(self, key: np.ndarray, side: np.ndarray | None, count: int, available: int) -> np.ndarray:
        """The `count` labels that are nearest to a key [D], of those of a side (`_make_side`), in no order."""
        if side is not None and side.dtype != np.uint8:
            if count >= len(side):
                return side
            return side[np.argpartition(self._rows(side) @ -key, count)[:count]]
        chosen = None if side is None else faiss.IDSelectorBitmap(side)
        probes = min(PROBES, self._lists)
        while True:
            if self._lists:
                how = faiss.SearchParametersIVF(sel=chosen, nprobe=probes)
            else:
                how = faiss.SearchParameters(sel=chosen)
            found = self._faiss.search(key[None], count, params=how)[1][0]
            found = found[found >= 0]
            if len(found) >= count or probes >= self._lists:
                return found
            probes = min(self._lists, 8 * probes)


def is_indexed(folder: Path) -> bool:
    """Whether a folder holds a memory of this kind, whole or damaged."""
    return (folder / DESCRIPTION).is_file()


def _array_of(keys: torch.Tensor) -> np.ndarray:
    return keys.detach().float().cpu().numpy()


def write_index(
    folder: Path,
    parts: Sequence[int],
    levels: torch.Tensor,
    keys: np.ndarray,
    texts: Sequence[str],
    text: np.ndarray,
    style: np.ndarray,
    source: np.ndarray,
    styles: Sequence[str],
    sources: Sequence[tuple[str, str, str]],
    latent_size: int,
    hashes: dict[str, str],
) -> None:
    """Write all but the codes, which lie there, of E entries with U different labels; the description last.

    Args:
        parts: entries in each of the files of codes.
        levels: [C, LEVELS].
        keys: [U, D], of length 1.
        text, style, source: [E] numbers.
        hashes: as `mmgen.models.memory.encoder_hashes` gives them.
    """
    np.save(folder / "levels.npy", levels.float().numpy())
    np.save(folder / "keys.npy", keys.astype(np.float16, copy=False))
    for name, values in (("text", text), ("style", style), ("source", source)):
        np.save(folder / f"{name}.npy", np.asarray(values, dtype=np.int32))
    np.save(folder / "by_text.npy", np.argsort(text, kind="stable").astype(np.int32))
    counts = np.bincount(text, minlength=len(texts))
    np.save(folder / "text_starts.npy", np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
    Lines.write(folder / "texts.txt", texts)
    Lines.write(folder / "sources.txt", (json.dumps(list(origin), ensure_ascii=False) for origin in sources))
    faiss.write_index(make_faiss(keys), str(folder / "nearest.faiss"))
    said = {
        "version": VERSION,
        "entries": len(text),
        "texts": len(texts),
        "parts": [int(size) for size in parts],
        "styles": list(styles),
        "latent_channels": len(levels),
        "latent_size": latent_size,
        "key_channels": keys.shape[1],
        **hashes,
    }
    write_json(folder / DESCRIPTION, said, indent=2, ensure_ascii=False)


def make_faiss(keys: np.ndarray) -> faiss.Index:
    """A faiss index of keys [U, D] by inner product: flat up to `FLAT_UP_TO`, else inverted lists of 8 bits a number.

    As many lists as twice the root of U, found by k-means on 40 keys a list.
    """
    count, channels = keys.shape
    if count <= FLAT_UP_TO:
        index = faiss.IndexFlatIP(channels)
        index.add(keys.astype(np.float32))
        return index
    lists = 2 * int(count**0.5)
    index = faiss.index_factory(channels, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    faiss.extract_index_ivf(index).cp.spherical = True
    index.train(keys[np.linspace(0, count - 1, 40 * lists).astype(np.int64)].astype(np.float32))
    for start in range(0, count, 65_536):
        index.add(keys[start : start + 65_536].astype(np.float32))
    return index
