"""A pipeline's memory, looked up for many prompts at once: what a pipeline does for one prompt, for whole batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from mmgen.models.memory import SAME, TEMPERATURE, Retrieved, text_keys, without_style
from mmgen.pipeline import MultimodalGANPipeline, choose_keys, choose_style, things_of
from mmgen.training.common.frozen import alike, encode_pieces, text_pieces

_STATE = ("queries", "whole", "has_words", "styles")


class PromptLookup:
    """M prompts, each with what it is looked up by, as `MultimodalGANPipeline.memory_query` says.

    Args:
        pipe: a pipeline that `has_memory`; its parts are read, never changed.
        prompts: as a person writes them, with a style's name or without.
        known: what `state` gave for such a pipeline and prompts, so that it is not made again.
        on_part: called with the share that is done, 0 to 1.
    """

    @torch.no_grad()
    def __init__(
        self,
        pipe: MultimodalGANPipeline,
        prompts: Sequence[str],
        known: dict[str, torch.Tensor] | None = None,
        on_part: Callable[[float], object] = lambda share: None,
    ):
        self.memory, self.slots = pipe.memory, pipe.generator.config.memory_slots
        if known is not None:
            made = {name: value.to(pipe.device) for name, value in known.items()}
            self.queries, self.whole, self.has_words, self.styles = (made[name] for name in _STATE)
            self.is_whole = (self.queries[:, 0] == self.whole).all(1)
            return
        split = [without_style(prompt, self.memory.config.styles) for prompt in prompts]
        asked = [things_of(words) if words else [] for words, _ in split]
        texts = list(dict.fromkeys(text for group in asked for text in group))
        places = {text: place for place, text in enumerate(texts)}
        keys = _keys(pipe, texts, on_part=on_part)
        best = torch.cat([(some @ self.memory.text_keys.T).amax(1) for some in keys.split(512)]) if texts else keys
        queries = keys.new_zeros(len(prompts), self.slots, self.memory.config.key_channels)
        self.whole = keys.new_zeros(len(prompts), self.memory.config.key_channels)
        for row, group in enumerate(asked):
            if group:
                own = torch.tensor([places[text] for text in group], device=keys.device)
                self.whole[row : row + 1], queries[row] = choose_keys(keys[own], best[own], self.slots)
        self.queries = queries
        self.is_whole = (queries[:, 0] == self.whole).all(1)
        self.has_words = torch.tensor([bool(group) for group in asked], device=keys.device)
        self.styles = torch.tensor([self.memory.style_number(style) for _, style in split], device=keys.device)

    def state(self) -> dict[str, torch.Tensor]:
        """All that was made, to be given as `known` another time."""
        return {name: getattr(self, name) for name in _STATE}

    @torch.no_grad()
    def __call__(self, prompts: torch.Tensor, has_references: torch.Tensor, generator: torch.Generator) -> Retrieved:
        """Look up prompts by number [n], as `MultimodalGANPipeline.retrieve` does at truncation 1.

        Args:
            has_references: [n] bool; they say the style where the words do not.
            generator: of all that a seed chooses.
        """
        memory, device = self.memory, self.queries.device
        prompts, has_references = prompts.to(device), has_references.to(device)
        queries, style = self.queries[prompts], self.styles[prompts].clone()
        likeness = (self.whole[prompts] @ memory.text_keys.T)[:, memory.text.long()]
        for row in ((style < 0) & ~has_references).nonzero()[:, 0].tolist():
            style[row] = choose_style(memory.likeness_by_style(self.whole[prompts[row]][None]), 1.0, generator)
        same = (likeness > SAME) & self.is_whole[prompts, None]
        excluded = same & (memory.style[None] == style[:, None])
        found = memory.lookup(queries, style, excluded, TEMPERATURE, generator, self.slots)
        found.likeness = likeness.gather(1, found.entries) * found.weights
        found.weights = found.weights * self.has_words[prompts][:, None]
        return found


def _keys(
    pipe: MultimodalGANPipeline, texts: list[str], on_part: Callable[[float], object] = lambda share: None
) -> torch.Tensor:
    """The keys of T texts [T, D]; texts of like length are read together."""
    pieces = text_pieces(pipe.tokenizer, texts)
    keys = torch.zeros(len(texts), pipe.memory.config.key_channels, device=pipe.device)
    done = 0
    for rows in alike([len(one) for one in pieces]):
        some = [pieces[row] for row in rows]
        keys[torch.from_numpy(rows)] = text_keys(*encode_pieces(pipe.text_encoder, pipe.tokenizer, some, pipe.device))
        done += len(rows)
        on_part(done / len(texts))
    return keys
