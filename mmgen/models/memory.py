"""The memory: what the model has seen, to be looked up by words and read by the generator.

A retrieval-augmented generator need not keep every picture in its weights (RDM, Blattmann et al. 2022; Re-Imagen, Chen
et al. 2022; instance conditioning, Casanova et al. 2021). An entry is a picture's latent, quantised to 4 bits a value,
with a key: the mean BERT word token of its label, of length 1. Half of the slots of a look-up go to the entries that
are nearest to the words in other styles (what to draw), half to the nearest in the wanted style (how to draw it).
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import re
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from PIL import Image
from torch import nn

from mmgen.errors import UserError
from mmgen.io import replacing_folder

SLOTS = 4
"""Entries of one look-up: the first half by content, the second half by style."""

CANDIDATES = 32
"""The nearest entries of each half among which the seed chooses."""

WINDOW = 0.12
"""How much less alike than the best candidate another may be and still be chosen."""

TEMPERATURE = 0.02
"""Of the Gumbel noise on the likeness, where truncation is 1."""

AFFINITY = 0.08
"""How much the likeness counts more of an entry whose style is nearer to the wanted one by a latent distance of 1."""

AFFINITY_TEXTS, AFFINITY_ENTRIES = 128, 12
"""From how many labels the distances of styles are measured, and from how many entries of each at most."""

SAME = 0.999
"""Likeness from which on two texts are the same words."""

UNLIKE = 0.5
"""Likeness below which the memory holds nothing like some words."""

LEVELS = 16
"""Values that a quantised number of a latent may take."""

_ORIGIN = ("source", "licence", "author")

ENOUGH = 64
"""Latents that tell by themselves which levels are right; to fewer, standard normal ones are added."""


@dataclass
class Retrieved:
    """What n look-ups gave.

    Attributes:
        entries: [n, K] numbers of entries; 0 where the weight is 0.
        likeness: [n, K], -1 to 1.
        keys: [n, K, D], of length 1.
        latents: [n, K, C, S, S].
        weights: [n, K], 0 where there was no entry to be had, else 1.
    """

    entries: torch.Tensor
    likeness: torch.Tensor
    keys: torch.Tensor
    latents: torch.Tensor
    weights: torch.Tensor


class Memory(ModelMixin, ConfigMixin):
    """Pictures as latents, with what they show, how they are drawn, and where they come from.

    Args:
        entries: how many there are.
        texts: the different labels, as a person says them; each has one key.
        styles: names of drawing styles; "" for none.
        sources: of each source its `source` (an address or a name), `licence` and `author`.
        latent_channels, latent_size, key_channels: shapes, as the image autoencoder and the text encoder have them.
        image_encoder_hash, text_encoder_hash: of the networks that made latents and keys (`fingerprint`).
    """

    codes: torch.Tensor
    levels: torch.Tensor
    text_keys: torch.Tensor
    text: torch.Tensor
    concept: torch.Tensor
    style: torch.Tensor
    source: torch.Tensor

    @register_to_config
    def __init__(
        self,
        entries: int = 0,
        texts: Sequence[str] = (),
        styles: Sequence[str] = (),
        sources: Sequence[dict] = (),
        latent_channels: int = 32,
        latent_size: int = 16,
        key_channels: int = 384,
        image_encoder_hash: str = "",
        text_encoder_hash: str = "",
    ):
        super().__init__()
        numbers = latent_channels * latent_size * latent_size
        self.register_buffer("codes", torch.zeros(entries, numbers // 2, dtype=torch.uint8))
        self.register_buffer("levels", torch.zeros(latent_channels, LEVELS))
        self.register_buffer("text_keys", torch.zeros(len(texts), key_channels))
        for name in ("text", "concept", "style", "source"):
            self.register_buffer(name, torch.zeros(entries, dtype=torch.int32))
        self._bound: list[weakref.ref] = []
        self._frozen = False
        self._affinity: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.codes)

    def __getstate__(self) -> dict:
        """A copy is bound to no pipeline, and may change."""
        return {**self.__dict__, "_bound": [], "_frozen": False}

    @classmethod
    @torch.no_grad()
    def build(
        cls,
        latents: torch.Tensor,
        keys: torch.Tensor,
        texts: Sequence[str],
        text: Sequence[int],
        concepts: Sequence[str],
        styles: Sequence[str],
        sources: Sequence[tuple[str, str, str]],
        image_encoder_hash: str,
        text_encoder_hash: str,
    ) -> Memory:
        """A memory of E pictures.

        Args:
            latents: [E, C, S, S], normalised.
            keys: [U, D], one for each of `texts`, made by `text_keys`.
            text: [E] numbers of the pictures' texts.
            concepts, styles: [E] each.
            sources: [E] (source, licence, author).
        """
        kinds = sorted(set(styles))
        origins = list(dict.fromkeys(sources))
        number_of_style = {style: number for number, style in enumerate(kinds)}
        number_of_concept = {concept: number for number, concept in enumerate(dict.fromkeys(concepts))}
        number_of_origin = {origin: number for number, origin in enumerate(origins)}
        memory = cls(
            entries=len(latents),
            texts=list(texts),
            styles=kinds,
            sources=[dict(zip(("source", "licence", "author"), origin, strict=True)) for origin in origins],
            latent_channels=latents.shape[1],
            latent_size=latents.shape[2],
            key_channels=keys.shape[1],
            image_encoder_hash=image_encoder_hash,
            text_encoder_hash=text_encoder_hash,
        )
        memory.levels.copy_(quantisation_levels(latents))
        for start in range(0, len(latents), 256):
            memory.codes[start : start + 256] = quantise(latents[start : start + 256].float(), memory.levels)
        memory.text_keys.copy_(keys)
        memory.text.copy_(torch.as_tensor(text, dtype=torch.int32))
        memory.concept.copy_(torch.tensor([number_of_concept[concept] for concept in concepts], dtype=torch.int32))
        memory.style.copy_(torch.tensor([number_of_style[style] for style in styles], dtype=torch.int32))
        memory.source.copy_(torch.tensor([number_of_origin[origin] for origin in sources], dtype=torch.int32))
        return memory.eval().requires_grad_(False)

    def latents(self, entries: torch.Tensor) -> torch.Tensor:
        """Normalised latents [..., C, S, S] of entries by number [...]."""
        c, s = self.config.latent_channels, self.config.latent_size
        return dequantise(self.codes[entries.flatten()], self.levels, s).view(*entries.shape, c, s, s)

    def style_number(self, style: str | None) -> int:
        """The number of a style, or -1 for one that no entry has."""
        return list(self.config.styles).index(style) if style in self.config.styles else -1

    def about(self, entry: int) -> dict[str, str]:
        """`label`, `style`, `source`, `licence` and `author` of an entry."""
        label, style = self.config.texts[int(self.text[entry])], self.config.styles[int(self.style[entry])]
        return {"label": label, "style": style, **self.config.sources[int(self.source[entry])]}

    @property
    def sources(self) -> list[dict[str, str]]:
        """Of each source its `source`, `licence` and `author`."""
        return [dict(origin) for origin in self.config.sources]

    def counts(self, column: str) -> list[int]:
        """How many entries each of the `styles` or `sources` has; `column` is `style` or `source`."""
        least = len(getattr(self.config, f"{column}s"))
        return torch.bincount(getattr(self, column).long().cpu(), minlength=least).tolist()

    def affinity(self) -> torch.Tensor:
        """How much nearer each style [columns] is to a wanted one [rows, last of them none] than styles are on average.

        In units of the latents' L1, [styles + 1, styles]. Fluent's flat and 3D pictures of a thing differ by half of
        what others do: of equal words, those are to be shown that have the least to be changed.
        """
        if self._affinity is None:
            by_text = torch.argsort(self.text.long(), stable=True).split(torch.bincount(self.text.long()).tolist())
            self._affinity = style_affinity(by_text, self.style.long(), len(self.config.styles), self.latents)
        self._affinity = self._affinity.to(self.codes.device)
        return self._affinity

    def nearest(self, keys: torch.Tensor) -> torch.Tensor:
        """The likeness [n] of the nearest label to each of the keys [n, D]."""
        return (keys @ self.text_keys.to(keys).T).amax(1)

    def likeness(self, keys: torch.Tensor, entries: torch.Tensor) -> torch.Tensor:
        """The likeness [...] of entries by number [...] to the nearest of the keys [n, D]."""
        found = self.text_keys[self.text[entries.flatten()].long()].to(keys)
        return (found @ keys.T).amax(1).view(entries.shape)

    def likeness_by_style(self, keys: torch.Tensor, excluded: torch.Tensor | None = None) -> torch.Tensor:
        """The likeness [styles] of each style's nearest entry to any of the keys [n, D]; -1 where there is none.

        Args:
            excluded: [E] bool, entries that do not count.
        """
        likeness = (keys @ self.text_keys.to(keys).T).amax(0)[self.text.long()]
        if excluded is not None:
            likeness = likeness.masked_fill(excluded, -1.0)
        best = likeness.new_full((len(self.config.styles),), -1.0)
        return best.scatter_reduce(0, self.style.long(), likeness, "amax")

    def read(self, entries: torch.Tensor, likeness: torch.Tensor, weights: torch.Tensor) -> Retrieved:
        """Keys and latents of entries by number [n, K], where the weights [n, K] are not 0."""
        entries = entries * weights.long()
        return Retrieved(
            entries=entries,
            likeness=likeness.clamp_min(-1.0) * weights,
            keys=self.text_keys[self.text[entries].long()].to(weights) * weights[..., None],
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
        one_by_one: bool = False,
    ) -> Retrieved:
        """Find what is nearest to some words, half in other styles and half in the wanted one.

        Seeds choose among the `CANDIDATES` nearest by Gumbel top-k over the likeness (Kool et al. 2019); what is
        further than `WINDOW` from the nearest is never chosen where enough others are. Where a style is wanted, styles
        that differ little from it count more (`affinity`).

        Args:
            queries: [n, D] as `text_keys` gives them; or [n, slots / 2, D], one for each slot of a half; or
                [n, slots, D], one for each slot.
            style: [n] numbers of the wanted styles.
            excluded: [n, E] bool, entries that must not be found, or None.
            temperature: of the choice, one number or [n, 1]; 0 takes the nearest.
            generator: of the noise; None for torch's own.
            slots: K, an even number.
            never_same: whether to leave out what has the words of a query in the wanted style: what was asked for.
            one_by_one: whether to draw slots with queries of their own each by itself; else those with equal ones are
                drawn from one ranking, for which a GPU has to be asked which they are.
        """
        half, rows = slots // 2, len(queries)
        same_query = queries.ndim == 2  # Known without asking the device.
        queries = queries[:, None].expand(-1, half, -1) if queries.ndim == 2 else queries
        own = self.style[None] == style[:, None].to(self.style)
        if excluded is not None:
            own_allowed, other_allowed = own & ~excluded, ~own & ~excluded
        else:
            own_allowed, other_allowed = own, ~own
        # Slots of a half with one query are drawn in one go, from one ranking; both halves may share it.
        first: list[int] = []
        for place in range(queries.shape[1]):
            before = () if one_by_one else dict.fromkeys(first)
            equal = (p for p in before if same_query or torch.equal(queries[:, p], queries[:, place]))
            first.append(next(equal, place))
        text, labels = self.text.long(), self.text_keys.to(queries).T
        alike = {place: queries[:, place] @ labels for place in dict.fromkeys(first)}
        if never_same:
            own_allowed = own_allowed & ~(torch.stack(list(alike.values())).amax(0) > SAME)[:, text]
        ranked = {place: likeness[:, text] for place, likeness in alike.items()}
        bonus = AFFINITY * self.affinity()[style.to(self.codes.device)][:, self.style.long()]
        found, scored = [], []
        for allowed, asked in ((other_allowed, first[:half]), (own_allowed, first[-half:])):
            taken = torch.zeros(rows, 0, dtype=torch.int64, device=queries.device)
            for place, count in Counter(asked).items():
                scores = ranked[place].masked_fill(~allowed, -2.0)
                if taken.shape[1]:
                    scores = scores.scatter(1, taken, -2.0)
                values, entries = choose(scores, count, temperature, generator, bonus)
                found.append(entries)
                scored.append(values)
                taken = torch.cat([taken, entries], dim=1)
        likeness = torch.cat(scored, dim=1)
        return self.read(torch.cat(found, dim=1), likeness, (likeness > -1.5).float())

    def bind(self, pipeline: object) -> None:
        """Let `add` encode by a pipeline, which this does not keep alive."""
        alive = [one for one in self._bound if one() is not None and one() is not pipeline]
        self._bound = [*alive, weakref.ref(pipeline)]

    def freeze(self) -> None:
        """Refuse changes from now on, for a memory that many people draw from; a copy of it may change."""
        self._frozen = True

    @torch.no_grad()
    def add(
        self,
        images: Sequence[str | Path | bytes | Image.Image] | str | Path | bytes | Image.Image,
        captions: Sequence[str] | str,
        style: Sequence[str] | str = "",
        source: Sequence[str] | str = "",
        licence: Sequence[str] | str = "",
        author: Sequence[str] | str = "",
    ) -> list[int]:
        """Add pictures, all of them or none. A picture that is there already with the same caption stays one entry.

        Args:
            images: one or any number, as `mmgen.images.open_image` takes them.
            captions: one for each, in plain words; the style's name in them is not looked up by.
            style, source, licence, author: one text for all, or one for each.

        Returns:
            The number of each picture's entry; an entry that was there takes over the style and the source given now.

        Raises:
            UserError: there are no pictures, one cannot be read, a caption is missing, or this memory is frozen, bound
                to no pipeline or made by other encoders.
        """
        self._check_writable()
        alive = [pipeline for one in self._bound if (pipeline := one()) is not None]
        if not alive:
            raise UserError("This memory belongs to no model that could read pictures for it. Add to `pipe.memory`.")
        pipeline = alive[-1]
        images = [images] if isinstance(images, (str, Path, bytes, Image.Image)) else list(images)
        captions = [captions] if isinstance(captions, str) else captions
        captions = [" ".join(str(caption or "").split()) for caption in captions]
        if not images:
            raise UserError("There are no pictures to add to the memory. Give at least one.")
        if len(captions) != len(images):
            raise UserError(f"There are {len(captions)} captions for {len(images)} pictures; give as many.")
        if "" in captions:
            raise UserError(f"Picture {captions.index('') + 1} has no caption, by which it could be found. Write one.")
        about = {
            name: _for_each(name, value, len(images))
            for name, value in (("style", style), ("source", source), ("licence", licence), ("author", author))
        }
        if len(self):
            check_encoders(self.config, pipeline.autoencoder, pipeline.text_encoder)
        labels = [without_style(words, [one])[0] or words for words, one in zip(captions, about["style"], strict=True)]
        latents = pipeline.encode_images(images).to(self.levels)
        levels = self.levels if bool(self.levels.any()) else quantisation_levels(latents)
        codes = quantise(latents, levels)

        texts, number_of = list(self.config.texts), {text: n for n, text in enumerate(self.config.texts)}
        fresh = [label for label in dict.fromkeys(labels) if label not in number_of]
        keys = [self.text_keys] + ([pipeline.encode_keys(fresh).to(self.text_keys)] if fresh else [])
        texts += fresh
        number_of.update((text, n) for n, text in enumerate(texts))
        styles = list(dict.fromkeys([*self.config.styles, *about["style"]]))
        origins = [dict(zip(_ORIGIN, row, strict=True)) for row in zip(*(about[name] for name in _ORIGIN), strict=True)]
        sources = list(self.config.sources)
        sources += [origin for n, origin in enumerate(origins) if origin not in sources and origin not in origins[:n]]

        columns = {name: getattr(self, name).tolist() for name in ("text", "concept", "style", "source")}
        concept_of = dict(zip(columns["text"], columns["concept"], strict=True))
        new_concepts = itertools.count(max(columns["concept"], default=-1) + 1)
        wanted = {number_of[label] for label in labels}
        rows = [row for row, text in enumerate(columns["text"]) if text in wanted]
        known = {(columns["text"][row], bytes(self.codes[row].cpu().numpy())): row for row in rows}
        added, entries = [], []
        for image, label in enumerate(labels):
            text = number_of[label]
            entry = known.setdefault((text, bytes(codes[image].cpu().numpy())), len(columns["text"]))
            if entry == len(columns["text"]):
                added.append(image)
                columns["text"].append(text)
                if text not in concept_of:
                    concept_of[text] = next(new_concepts)
                columns["concept"].append(concept_of[text])
                columns["style"].append(0)
                columns["source"].append(0)
            columns["style"][entry] = styles.index(about["style"][image])
            columns["source"][entry] = sources.index(origins[image])
            entries.append(entry)
        self.levels = levels
        self.register_to_config(**encoder_hashes(pipeline.autoencoder, pipeline.text_encoder))
        self._assign(torch.cat([self.codes, codes[added]]), torch.cat(keys), columns, texts, styles, sources)
        return entries

    def remove(
        self, entries: Sequence[int] | None = None, *, style: str | None = None, source: str | None = None
    ) -> int:
        """Remove the entries that fit all that is given, and say how many; the others move up, and keep their order.

        Args:
            entries: numbers.
            style: only those of this style.
            source: only those of this source, as it was given.

        Raises:
            UserError: nothing is given, or there is no such entry, style or source.
        """
        self._check_writable()
        if entries is None and style is None and source is None:
            raise UserError("Nothing says what the memory is to forget. Name entries, a style or a source.")
        gone = torch.ones(len(self), dtype=torch.bool)
        if entries is not None:
            entries = [int(entry) for entry in entries]
            if wrong := [entry for entry in entries if not 0 <= entry < len(self)]:
                raise UserError(f"The memory has no entry {wrong[0]}; it has {len(self)}, counted from 0.")
            gone &= torch.zeros_like(gone).index_fill(0, torch.tensor(entries, dtype=torch.int64), True)
        named = {"style": (style, self.config.styles), "source": (source, [o["source"] for o in self.config.sources])}
        for column, (wanted, names) in named.items():
            if wanted is None:
                continue
            if wanted not in names:
                known = ", ".join(filter(None, dict.fromkeys(names)))[:200] or "none"
                raise UserError(f"The memory has no {column} {wanted!r}; it has {known}.")
            fitting = torch.tensor([name == wanted for name in names])
            gone &= fitting[getattr(self, column).long().cpu()]
        kept = (~gone).nonzero()[:, 0].to(self.codes.device)
        columns = {name: getattr(self, name)[kept].tolist() for name in ("text", "concept", "style", "source")}
        config = self.config
        self._assign(self.codes[kept], self.text_keys, columns, config.texts, config.styles, config.sources)
        return int(gone.sum())

    def save(self, folder: str | Path) -> None:
        """Write the memory by itself into a folder, whole or not at all; a memory that stood there is replaced.

        Raises:
            UserError: something else stands there, or it cannot be written.
        """
        folder = Path(folder)
        try:
            if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or _holds_memory(folder))):
                raise UserError(f"{folder} holds something else than a memory. Choose another folder.")
            with replacing_folder(folder) as part:
                copy.deepcopy(self).cpu().half().save_pretrained(part)
        except OSError as error:
            why = error.strerror or error
            raise UserError(
                f"The memory cannot be written to {folder} ({why}). Make room, or choose another."
            ) from error

    def check(self) -> None:
        """Find out whether its parts fit each other.

        Raises:
            ValueError: a number points to what is not there, or a name is no text.
        """
        config = self.config
        if not all(isinstance(text, str) for text in (*config.texts, *config.styles)):
            raise ValueError("memory: a text or a style is no text")
        if not all(isinstance(origin, dict) and set(origin) == set(_ORIGIN) for origin in config.sources):
            raise ValueError("memory: a source has not exactly source, licence and author")
        if not all(isinstance(value, str) for origin in config.sources for value in origin.values()):
            raise ValueError("memory: a source is no text")
        for name, count in (("text", config.texts), ("style", config.styles), ("source", config.sources)):
            numbers = getattr(self, name)
            if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(count):
                raise ValueError(f"memory: an entry names a {name} that it does not hold")

    def _check_writable(self) -> None:
        if self._frozen:
            raise UserError("This memory is shared by everybody who draws here, so it cannot be changed.")

    def _assign(
        self,
        codes: torch.Tensor,
        keys: torch.Tensor,
        columns: dict[str, list[int]],
        texts: Sequence[str],
        styles: Sequence[str],
        sources: Sequence[dict],
    ) -> None:
        """Take on these entries, without the texts, styles and sources that none of them has."""
        device = self.codes.device
        used = {name: sorted(set(columns[name])) for name in ("text", "style", "source")}
        for name, numbers in used.items():
            new = {old: number for number, old in enumerate(numbers)}
            columns[name] = [new[number] for number in columns[name]]
        self._affinity = None
        self.codes, self.text_keys = codes, keys[torch.tensor(used["text"], dtype=torch.int64, device=device)]
        for name, values in columns.items():
            setattr(self, name, torch.tensor(values, dtype=torch.int32, device=device))
        self.register_to_config(
            entries=len(codes),
            texts=[texts[number] for number in used["text"]],
            styles=[styles[number] for number in used["style"]],
            sources=[sources[number] for number in used["source"]],
        )


def _for_each(name: str, value: Sequence[str] | str, count: int) -> list[str]:
    values = [value] * count if isinstance(value, str) else list(value)
    if len(values) != count or not all(isinstance(one, str) for one in values):
        raise UserError(f"The {name} must be one text for all {count} pictures, or one for each.")
    return [" ".join(one.split()) for one in values]


def _holds_memory(folder: Path) -> bool:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"] == Memory.__name__
    except (OSError, ValueError, KeyError, TypeError):
        return False


@torch.no_grad()
def style_affinity(
    by_text: Sequence[torch.Tensor],
    style: torch.Tensor,
    styles: int,
    latents: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """See `Memory.affinity`; a pair of styles that share few labels counts as average as far as it is unknown.

    Args:
        by_text: the entries of each label, by number.
        style: [E] of each entry; styles: how many there are.
        latents: of entries by number.
    """
    shared = [entries for entries in by_text if len(entries) > 1]
    pairs = []
    for number in np.linspace(0, len(shared) - 1, min(AFFINITY_TEXTS, len(shared))).astype(int):
        entries = shared[number][:AFFINITY_ENTRIES]
        pairs.append(entries[torch.combinations(torch.arange(len(entries), device=entries.device))])
    total, count = torch.zeros(2, styles, styles, dtype=torch.float64)
    for entries in torch.cat(pairs).split(512) if pairs else []:
        first, second = latents(entries).float().flatten(2).unbind(1)
        distance = (first - second).abs().mean(1).double().cpu()
        places = style[entries.to(style.device)].cpu().unbind(1)
        total.index_put_(places, distance, accumulate=True)
        count.index_put_(places, torch.ones_like(distance), accumulate=True)
    total, count = (part + part.T for part in (total, count))
    mean = total.sum() / count.sum().clamp_min(1)
    nearer = (mean * count - total) / (count + 4)
    return torch.cat([nearer, torch.zeros(1, styles)]).float()


def choose(
    scores: torch.Tensor,
    count: int,
    temperature: torch.Tensor | float,
    generator: torch.Generator | None,
    bonus: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The scores of `count` entries of each row of scores [n, E], and their numbers; the best of those chosen first.

    Args:
        temperature, generator: as `Memory.lookup` takes them.
        bonus: [n, E], counts beside the scores in the choice alone.
    """
    values, entries = scores.topk(min(CANDIDATES, scores.shape[1]), dim=1)
    if values.shape[1] < count:  # A memory of fewer entries than slots.
        missing = (0, count - values.shape[1])
        values, entries = F.pad(values, missing, value=-2.0), F.pad(entries, missing)
    uniform = torch.rand(values.shape, generator=generator, device=generator.device if generator else values.device)
    gumbel = -torch.log(-torch.log(uniform.to(values.device).clamp(1e-9, 1 - 1e-7)))
    wanted = values if bonus is None else values + bonus.gather(1, entries)
    far = values < values[:, :1] - WINDOW
    perturbed = torch.where(far, values - 4.0, wanted + temperature * gumbel)
    chosen = perturbed.topk(count, dim=1).indices
    order = chosen.gather(1, wanted.gather(1, chosen).argsort(dim=1, descending=True, stable=True))
    return values.gather(1, order), entries.gather(1, order)


def text_keys(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Word tokens [n, T, D] and mask [n, T] -> keys [n, D]: their mean, of length 1."""
    return F.normalize((tokens.float() * mask[..., None]).sum(1), dim=1)


def without_style(text: str, styles: Sequence[str]) -> tuple[str, str | None]:
    """A prompt without the words that name a style, and that style, the longest name that occurs.

    >>> without_style("a red apple, fluent 3d style", ["fluent 3d", "noto"])
    ('a red apple', 'fluent 3d')
    >>> without_style("noto emoji of a cat", ["noto"])
    ('a cat', 'noto')
    >>> without_style("a cat", ["noto"])
    ('a cat', None)
    """
    words = " ".join(text.split())
    for style in sorted(filter(None, styles), key=len, reverse=True):
        name = re.escape(style)
        if not re.search(rf"\b{name}\b", words, re.IGNORECASE):
            continue
        for pattern in (rf",?\s*(in )?\b{name} style\b", rf"\b{name} emoji of\b", rf",?\s*\b{name}\b"):
            words = re.sub(pattern, " ", words, flags=re.IGNORECASE)
        return " ".join(words.split()).strip(" ,"), style
    return words, None


def quantisation_levels(latents: torch.Tensor, rounds: int = 25) -> torch.Tensor:
    """The `LEVELS` values of each channel [C, LEVELS] that cost least (Lloyd 1982), from up to 512 latents.

    Of fewer than `ENOUGH` latents, too few to speak for those that are added later, as many standard normal ones are
    added as are missing.
    """
    if len(latents) < ENOUGH:
        shape = (ENOUGH - len(latents), *latents.shape[1:])
        normal = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        latents = torch.cat([latents, normal.to(latents)])
    chosen = torch.linspace(0, len(latents) - 1, min(512, len(latents))).long()
    values = latents[chosen].float().transpose(0, 1).flatten(1)
    values = values[:, torch.linspace(0, values.shape[1] - 1, min(20_000, values.shape[1])).long()]
    levels = values.quantile((torch.arange(LEVELS) + 0.5) / LEVELS, dim=1).T.contiguous()
    for _ in range(rounds):
        nearest = torch.searchsorted(((levels[:, 1:] + levels[:, :-1]) / 2).contiguous(), values)
        sums = torch.zeros_like(levels).scatter_add_(1, nearest, values)
        counts = torch.zeros_like(levels).scatter_add_(1, nearest, torch.ones_like(values))
        levels = torch.where(counts > 0, sums / counts.clamp_min(1), levels).sort(dim=1).values
    return levels


def quantise(latents: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """Latents [n, C, S, S] -> the nearest levels' numbers, two in a byte, uint8 [n, C * S * S / 2]."""
    flat = latents.transpose(0, 1).flatten(1).contiguous()
    middles = ((levels[:, 1:] + levels[:, :-1]) / 2).contiguous()
    codes = torch.searchsorted(middles.to(flat), flat).view(latents.shape[1], len(latents), -1)
    codes = codes.transpose(0, 1).flatten(1).to(torch.uint8)
    return codes[:, ::2] | (codes[:, 1::2] << 4)


def dequantise(codes: torch.Tensor, levels: torch.Tensor, size: int) -> torch.Tensor:
    """What `quantise` gave -> latents [n, C, size, size]."""
    both = torch.stack([codes & 15, codes >> 4], dim=2).flatten(1)
    channels = both.view(len(codes), len(levels), -1).transpose(0, 1).flatten(1)
    return levels.gather(1, channels.long()).view(len(levels), len(codes), size, size).transpose(0, 1)


def fingerprint(module: nn.Module) -> str:
    """Which weights a network has, in 16 hex digits: the first values of each tensor, as half precision keeps them.

    Stored in float16 and loaded in float32 a network has the same fingerprint; trained further, another.
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if value.is_floating_point():
            some = value.detach().flatten()[:256].cpu().half().float()
            digest.update(f"{name}{tuple(value.shape)}".encode() + some.numpy().tobytes())
    return digest.hexdigest()[:16]


def encoder_fingerprint(autoencoder: nn.Module) -> str:
    """Of an image autoencoder's half that makes latents; the other may learn on without making a memory useless."""
    encoder = nn.Module()
    encoder.add_module("encoder", autoencoder.get_submodule("encoder"))
    for name in ("shift", "scale"):
        encoder.register_buffer(name, autoencoder.get_buffer(name))
    return fingerprint(encoder)


def encoder_hashes(autoencoder: nn.Module, text_encoder: nn.Module) -> dict[str, str]:
    """What a `Memory` says of the networks that made its latents and keys."""
    return {"image_encoder_hash": encoder_fingerprint(autoencoder), "text_encoder_hash": fingerprint(text_encoder)}


def check_encoders(made_by: object, autoencoder: nn.Module, text_encoder: nn.Module) -> None:
    """Find out whether these networks made a memory's latents and keys.

    Args:
        made_by: has `image_encoder_hash` and `text_encoder_hash`, as a memory's config.

    Raises:
        UserError: others did.
    """
    for name, own in encoder_hashes(autoencoder, text_encoder).items():
        if getattr(made_by, name) != own:
            what = "text encoder" if name.startswith("text") else "autoencoder"
            raise UserError(
                f"The memory was made by another {what} than this model's, so the model cannot read it. Build it anew "
                "with `python -m mmgen memory build`."
            )
