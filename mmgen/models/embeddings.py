"""What networks made of words and pictures, kept for as long as the networks and the memory stay what they were.

A slider that touches the seed alone asks for the same words and references again: what was made of them is taken from
here, the very same tensors, so that a drawing is the same to the bit with and without.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import nn

Made = TypeVar("Made")

KEPT_WORDS = 256
"""Prompts whose tokens are kept, at most 100 kB each; a look-up and a condition for as many."""

KEPT_REFERENCES = 64
"""References whose tokens and latents are kept, about 80 kB each."""


class State:
    """What modules hold at one moment, to be compared without reading a single weight.

    A tensor is known by where it lies and by how often it was changed in place, which PyTorch counts (`_version`). Its
    storage is held, so that no other can come to lie in the same place. What is changed behind the counter's back, by
    `tensor.data` or `numpy()`, is not seen: call `EmbeddingCache.clear` after that.

    Args:
        owners: modules, whose parameters and buffers count (and a memory's description); of anything else, which it is.
    """

    def __init__(self, owners: Sequence[object]):
        self._objects: list[object] = []
        self._seen: list[tuple[int, int]] = []
        for owner in owners:
            if not isinstance(owner, nn.Module):
                self._objects.append(owner)
                continue
            self._objects.append(getattr(owner, "config", None))
            for module in owner.modules():
                for tensor in (*module._parameters.values(), *module._buffers.values()):
                    if tensor is not None:
                        self._objects.append(tensor.untyped_storage())
                        self._seen.append((tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version))

    def is_same(self, other: State) -> bool:
        """Whether nothing was changed between the two."""
        if self._seen != other._seen or len(self._objects) != len(other._objects):
            return False
        pairs = zip(self._objects, other._objects, strict=True)
        return all(one is two or isinstance(one, torch.UntypedStorage) for one, two in pairs)


class EmbeddingCache:
    """The results that were asked for last, as many as `limit`; threads may share it. A copy of it is empty.

    What is made by modules that are in training, or to be differentiated, is not kept.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self._made: OrderedDict[Hashable, Any] = OrderedDict()
        self._state: State | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type, tuple[int]]:
        return type(self), (self.limit,)

    def __len__(self) -> int:
        return len(self._made)

    def get(self, owners: Sequence[object], key: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` gives, from here if it was made before by the same owners in the same state.

        Args:
            owners: what `make` depends on beside the key, as `State` takes it.
        """
        if torch.is_grad_enabled() or any(isinstance(owner, nn.Module) and owner.training for owner in owners):
            return make()
        state = State(owners)
        with self._lock:
            if self._state is None or not self._state.is_same(state):
                self._made.clear()
                self._state = state
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
        with torch.inference_mode(False), torch.no_grad():  # Of use in a training, too.
            made = make()
        with self._lock:
            if self._state is not None and self._state.is_same(state):
                self._made[key] = made
                while len(self._made) > self.limit:
                    self._made.popitem(last=False)
        return made

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._made.clear()
            self._state = None


class Embeddings:
    """The caches of a pipeline.

    Attributes:
        words: tokens and keys of prompts.
        references: tokens and latents of reference images, by their content.
        queries: what is looked up in the memory for a prompt.
        conditions: words and references together, as the generator takes them.
    """

    def __init__(self) -> None:
        self.words = EmbeddingCache(KEPT_WORDS)
        self.queries = EmbeddingCache(KEPT_WORDS)
        self.conditions = EmbeddingCache(KEPT_WORDS)
        self.references = EmbeddingCache(KEPT_REFERENCES)

    def clear(self) -> None:
        """Forget all."""
        for cache in (self.words, self.queries, self.conditions, self.references):
            cache.clear()


def image_hash(image: Image.Image) -> str:
    """What an image shows, in 32 hex digits."""
    digest = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    return digest.hexdigest()


def tensor_hash(tensor: torch.Tensor) -> str:
    """The numbers of a tensor, in 32 hex digits."""
    digest = hashlib.blake2b(f"{tensor.dtype} {tuple(tensor.shape)}".encode(), digest_size=16)
    digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
