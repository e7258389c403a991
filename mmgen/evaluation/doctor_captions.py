"""What BERT can read of captions: where it stops, and what letters it does not know."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from mmgen.models.encoders import MAX_PROMPT_TOKENS

READ_AT_MOST = 20_000
"""Characters of a caption that are looked at; no 62 words are as long."""

UNKNOWN_SHARE = 0.25
OWN_SCRIPT_SHARE = 0.25
"""A vocabulary with fewer pieces in other than Latin letters knows single letters of those scripts, but no words."""


@dataclass
class Reading:
    """How a caption is read.

    Attributes:
        cut: the caption up to the last word that is read, if it is too long to be read whole.
        foreign: whether much of it is in letters that the vocabulary does not know.
    """

    cut: str | None
    foreign: bool


def read_captions(texts: list[str], tokenizer) -> dict[str, Reading]:
    """How each caption that is not empty is read by the tokenizer of a BERT."""
    texts = [text for text in dict.fromkeys(texts) if text]
    if not texts:
        return {}
    pieces = tokenizer([text[:READ_AT_MOST] for text in texts], return_offsets_mapping=True, verbose=False)
    latin_only = _latin_only(tokenizer)
    return {
        text: Reading(_cut(text, spans), _foreign(text, ids, spans, tokenizer.unk_token_id, latin_only))
        for text, ids, spans in zip(texts, pieces["input_ids"], pieces["offset_mapping"], strict=True)
    }


def _cut(text: str, spans: list[tuple[int, int]]) -> str | None:
    if len(spans) <= MAX_PROMPT_TOKENS:
        return text[:READ_AT_MOST].rstrip() if len(text) > READ_AT_MOST else None
    end = spans[MAX_PROMPT_TOKENS - 2][1]  # the last place but one, as the very last is the end's own piece
    kept = text[:end]
    if (
        end < len(text)
        and text[end - 1].isalnum()
        and text[end].isalnum()
        and (words := kept.rsplit(None, 1))[0] != kept
    ):
        kept = words[0]
    return kept.rstrip()


def _foreign(text: str, ids: list[int], spans: list[tuple[int, int]], unknown: int, latin_only: bool) -> bool:
    inner = list(zip(ids, spans, strict=True))[1:-1][: MAX_PROMPT_TOKENS - 2]
    read = text[: inner[-1][1][1]] if inner else ""
    letters = sum(map(str.isalpha, read))
    lost = sum(letter.isalpha() for piece, (start, end) in inner if piece == unknown for letter in text[start:end])
    if letters == 0:
        return bool(inner) and all(piece == unknown for piece, _ in inner)
    others = sum(map(_other_script, read))
    return lost / letters >= UNKNOWN_SHARE or (latin_only and others / letters >= 0.5)


def _latin_only(tokenizer) -> bool:
    vocabulary = [piece.removeprefix("##") for piece in tokenizer.get_vocab()]
    return sum(any(map(_other_script, piece)) for piece in vocabulary) < OWN_SCRIPT_SHARE * len(vocabulary)


@lru_cache(maxsize=65536)
def _other_script(letter: str) -> bool:
    return letter.isalpha() and not unicodedata.name(letter, "LATIN").startswith("LATIN")
