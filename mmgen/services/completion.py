"""A person's set, completed for a page or a program within what they may have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mmgen.completion import Completed, known_labels
from mmgen.errors import UserError
from mmgen.quota import quota_of
from mmgen.services.drafts import DraftService
from mmgen.services.inference import InferenceService

MAX_LABELS = 64
"""That are drawn for one call; who wants more asks again, and is served in turn with all others."""


@dataclass(frozen=True)
class CompletionRequest:
    """What a person asked for: pictures of theirs by path with a caption each, or those of a draft, and labels.

    Attributes:
        seeds: one for all labels, or one for each.
    """

    images: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    draft: str = ""
    labels: tuple[str, ...] = ()
    seeds: int | tuple[int, ...] = 0
    truncation: float = 1.0
    memory_weight: float = 1.0
    cut_out: bool = False

    def draw(self, owner: str, drafts: DraftService, service: InferenceService) -> Iterator[Completed]:
        """Draw the labels one after the other; whoever stops taking them stops it.

        Raises:
            UserError: before anything is drawn, if something is missing, out of its range or more than they may have,
                there is no such draft, or the model has no memory.
        """
        images, captions = self._pictures(owner, drafts)
        most = quota_of(owner).pairs
        if len(images) > most:
            raise UserError(f"There are {len(images)} pictures; a set may have {most:,.0f} here. Send fewer.")
        if len(self.labels) > MAX_LABELS:
            raise UserError(f"There are {len(self.labels)} labels; ask for {MAX_LABELS} at a time.")
        options: dict[str, Any] = {"truncation": self.truncation, "memory_weight": self.memory_weight}
        return service.complete(images, captions, self.labels, self.seeds, cut_out=self.cut_out, **options)

    def _pictures(self, owner: str, drafts: DraftService) -> tuple[Sequence[str], Sequence[str]]:
        if not self.draft:
            return self.images, self.captions
        if self.images:
            raise UserError("There are pictures and a draft. Give one of the two, or add the pictures to the draft.")
        pairs = [pair for pair in drafts.draft(owner, self.draft).pairs if pair.text]
        if not pairs:
            raise UserError("No pair of this draft has a caption. Say of each picture in a word what it shows.")
        return [str(pair.path) for pair in pairs], [pair.text for pair in pairs]


def completable(service: InferenceService) -> list[str]:
    """What a model knows and can draw for any set; nothing without a memory."""
    memory = service.pipe.memory
    return [] if memory is None else known_labels(memory)
