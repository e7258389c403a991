"""What a model knows in words: the things that it can draw, the names of emoji, and words of other languages.

A text encoder that has read English alone, and captions that are English alone, make a prompt of another language or a
prompt of emoji unreadable. Both are brought into English words that the captions use, by tables that the checkpoint
carries: CLDR's names of emoji, and labels and search words of other languages as `emojibase-data` brings them, each
with the English word that stands beside it.
"""

from __future__ import annotations

import json
import lzma
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config

MAX_UNPACKED = 64 * 1024 * 1024
"""Bytes of the unpacked tables; more is refused before it fills the memory."""

PRESET = 6
"""Of xz; 9 saves a hundredth and takes many times as long."""

MAX_READ = 4000
"""Characters of a prompt that are read by the tables; far more than the text encoder reads."""

MAX_TERM = 12
"""Words of the longest term, or characters of one in a script without spaces."""

NEAR = 0.64
"""Likeness of a word's key to that of a label from which on the word is near to what the model knows."""

FAR = 0.42
"""Likeness below which even the nearest label has nothing to do with a word."""

FUNCTION_WORDS = frozenset(
    "a an the of in on at with without and or for to from by is are as it its this that some one two three four five "
    "draw make show me my please picture image icon emoji sticker style not no very".split()
)
"""Words that name no thing, so that they are evidence of no language and never far."""

_UNSPACED = "\u0e00-\u0e7f\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORDS = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])[^\W_](?:\u200d(?=\w))?)+")
_CLOSE = re.compile(rf"(?<=[{_UNSPACED}]) (?=[{_UNSPACED}])")
_MARKS = re.compile(r"[\ufe0e\ufe0f]")
_HANGUL = re.compile(r"[\uac00-\ud7a3]+")
_LATIN = re.compile(r"[a-z]+")
_PUNCTUATION = str.maketrans({"，": ", ", "、": ", ", "。": ". ", "：": ": ", "；": "; ", "！": "! ", "？": "? "})
_SPACE = re.compile(r"\s+")
_LOST = re.compile(r"\s+(?=[,.;:!?](?:\s|$))")


@dataclass(frozen=True)
class Label:
    """A thing that the model has learned to draw, as its captions say it."""

    text: str
    group: str
    tags: tuple[str, ...] = ()


@dataclass
class Reading:
    """How a prompt was read.

    Attributes:
        text: in English words; the prompt itself where nothing was to be changed.
        changed: whether it is another text than the prompt.
        language: the language that most of it is in, as emojibase names it, or "" for English.
        unread: parts in scripts that the text encoder cannot read and the tables do not know; they are left out.
    """

    text: str
    changed: bool = False
    language: str = ""
    unread: list[str] = field(default_factory=list)


@dataclass
class _Piece:
    """A word, a character of a script without spaces, or an emoji, from `start` to `end` of the text.

    `said` is what it is replaced by: None where it stays, "" where it is left out or is a part of the piece before.
    """

    start: int
    end: int
    word: str
    emoji: bool = False
    said: str | None = None

    @property
    def unspaced(self) -> bool:
        return not self.emoji and re.match(rf"[{_UNSPACED}]", self.word) is not None


@dataclass
class Terms:
    """What is known of a language.

    Attributes:
        labels: term as `term` writes it -> English words, of what names an emoji as a whole.
        words: the same of search words and words of labels; no term of `labels` is among them.
    """

    labels: dict[str, str]
    words: dict[str, str]

    def get(self, word: str) -> str | None:
        """The English words for a term; None without."""
        said = self.labels.get(word)
        return self.words.get(word) if said is None else said


@dataclass
class Tables:
    """What is packed in a `Vocabulary`.

    Attributes:
        labels: what it can draw.
        words: lower-case words of the captions that it was trained on.
        english: more English words, of things that it was not trained on.
        emoji: characters, without variation selectors -> name.
        languages: what is known of each.
    """

    labels: list[Label]
    words: set[str]
    english: set[str]
    emoji: dict[str, str]
    languages: dict[str, Terms]


class Vocabulary(ModelMixin, ConfigMixin):
    """The tables, packed, and a key of each label, by which the nearest one to a word is found.

    Args:
        size: bytes of the packed tables.
        labels: how many there are.
        key_channels: of a key, as the text encoder has them.
        text_encoder_hash: of the network that made the keys (`mmgen.models.memory.fingerprint`).
        about: what the model is, in a few words, such as "an emoji artist".
        sources: where the words come from, of each `source`, `licence` and `author`.
    """

    packed: torch.Tensor
    label_keys: torch.Tensor

    @register_to_config
    def __init__(
        self,
        size: int = 0,
        labels: int = 0,
        key_channels: int = 384,
        text_encoder_hash: str = "",
        about: str = "",
        sources: Sequence[dict] = (),
    ):
        super().__init__()
        self.register_buffer("packed", torch.zeros(size, dtype=torch.uint8))
        self.register_buffer("label_keys", torch.zeros(labels, key_channels, dtype=torch.int8))
        self._tables: Tables | None = None
        self._spoken: list[tuple[str, str]] | None = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_tables": None, "_spoken": None}

    @classmethod
    @torch.no_grad()
    def build(
        cls, tables: Tables, keys: torch.Tensor, text_encoder_hash: str, about: str, sources: Sequence[dict]
    ) -> Vocabulary:
        """Pack tables.

        Args:
            keys: [L, D], of length 1, one for each label; stored in 8 bits a number.
        """
        packed = np.frombuffer(pack(tables), dtype=np.uint8).copy()
        made = cls(
            size=len(packed),
            labels=len(tables.labels),
            key_channels=keys.shape[1],
            text_encoder_hash=text_encoder_hash,
            about=about,
            sources=[dict(source) for source in sources],
        )
        made.packed.copy_(torch.from_numpy(packed))
        largest = keys.abs().amax().clamp_min(1e-6)
        made.label_keys.copy_((keys.float() / largest * 127).round().to(torch.int8))
        return made.eval()

    @property
    def tables(self) -> Tables:
        """What is packed; unpacked once."""
        if self._tables is None:
            self._tables = unpack(self.packed.cpu().numpy().tobytes())
        return self._tables

    def check(self) -> None:
        """Find out whether it is whole.

        Raises:
            ValueError: the tables are damaged, too large or not as many as the keys.
        """
        config = self.config
        if not isinstance(config.about, str) or not all(isinstance(one, dict) for one in config.sources):
            raise ValueError("vocabulary: what it is or where it comes from is no text")
        if len(self.tables.labels) != len(self.label_keys):
            raise ValueError(f"vocabulary: {len(self.label_keys)} keys for {len(self.tables.labels)} labels")

    def learned(self, captions: Iterable[str]) -> Vocabulary:
        """The same with the words of more captions, of a training since; itself where there is no new one."""
        words = {word for caption in captions for word in term(caption).split()}
        if words <= self.tables.words:
            return self
        tables = replace(self.tables, words=self.tables.words | words)
        packed = np.frombuffer(pack(tables), dtype=np.uint8).copy()
        made = type(self).from_config({**self.config, "size": len(packed)})
        made.packed.copy_(torch.from_numpy(packed))
        made.label_keys.copy_(self.label_keys)
        return made.eval()

    def read(self, prompt: str, is_common: Callable[[str], bool] = lambda word: False) -> Reading:
        """Bring emoji and words of other languages into English words; English is left alone.

        The longest term that a language knows is taken at each place. The language is the one that knows most of the
        prompt, among those that know a word which is not English too. Words that only another language knows are read
        in that one.

        Args:
            is_common: says of a lower-case word whether the text encoder knows it as a whole; such a word in an
                otherwise English prompt is taken for English.
        """
        pieces = self._pieces(prompt[:MAX_READ])
        language = self._translate(pieces, is_common)
        if all(piece.said is None for piece in pieces):
            return Reading(prompt)
        unread = _leave_out(prompt, pieces)
        text = _assemble(prompt[:MAX_READ], pieces) + prompt[MAX_READ:]
        return Reading(text, text != " ".join(prompt.split()), language, unread)

    def far_words(self, text: str, known: Collection[str] = ()) -> list[str]:
        """Words of an English text that no caption has, each once.

        Args:
            known: more words that are known, such as those of styles.
        """
        words = [word for word in _LATIN.findall(text[:MAX_READ].casefold()) if len(word) > 2]
        skipped = {part for one in known for part in one.casefold().split()} | FUNCTION_WORDS
        return [word for word in dict.fromkeys(words) if word not in skipped and not self.is_known(word)]

    def is_known(self, word: str) -> bool:
        """Whether a caption has a lower-case word, in the singular or the plural, or in another form of a verb."""
        endings = ("s", "es", "ed", "d", "ing", "ly", "y", "er")
        stems = [word[: -len(end)] for end in endings if word.endswith(end) and len(word) > len(end) + 2]
        stems += [stem + "e" for stem in stems] + [stem[:-1] for stem in stems if stem[-1:] == stem[-2:-1]]
        return any(form in self.tables.words for form in (word, word + "s", *stems))

    def nearest_spelling(self, word: str) -> str | None:
        """The known word that a lower-case one is a slip of, by one change, or two in a long word; None without.

        Letters that sound alike are no change.
        """
        most, sound = (1 if len(word) < 6 else 2), _sound(word)
        best: tuple[int, int, str] | None = None
        letters = set(sound)
        for other, said in self._sounds():
            if abs(len(said) - len(sound)) <= most and len(letters ^ set(said)) <= 2 * most:
                distance = edit_distance(sound, said, most)
                found = (distance, other[0] != word[0], other)
                if distance <= most and (best is None or found < best):
                    best = found
        return best[2] if best else None

    def _sounds(self) -> list[tuple[str, str]]:
        """The words that may be meant, each with how it sounds."""
        if self._spoken is None:
            words = sorted(self.tables.words | self.tables.english)
            self._spoken = [(word, _sound(word)) for word in words if len(word) > 2 and word.isalpha()]
        return self._spoken

    @torch.no_grad()
    def nearest_labels(self, keys: torch.Tensor) -> list[tuple[Label, float]]:
        """The nearest label to each key [n, D] of length 1, and its likeness, -1 to 1; none where there is no label."""
        if not len(self.label_keys):
            return []
        likeness, numbers = (keys.float().cpu() @ F.normalize(self.label_keys.float().cpu(), dim=1).T).max(1)
        labels = self.tables.labels
        return [(labels[n], like) for n, like in zip(numbers.tolist(), likeness.tolist(), strict=True)]

    def _pieces(self, text: str) -> list[_Piece]:
        """The words and emoji of a text; marks that only choose how an emoji is drawn belong to it."""
        emoji, longest = self.tables.emoji, max(map(len, self.tables.emoji), default=0)
        first = {key[0] for key in emoji}
        pieces: list[_Piece] = []
        start = plain = 0
        while start < len(text):
            found = _emoji_at(text, start, emoji, longest) if text[start] in first else None
            if found:
                pieces += _words(text, plain, start)
                end, key = found
                pieces.append(_Piece(start, end, key, emoji=True, said=emoji[key]))
                start = plain = end
            else:
                start += 1
        return pieces + _words(text, plain, len(text))

    def _translate(self, pieces: list[_Piece], is_common: Callable[[str], bool]) -> str:
        """Put English words to the pieces of other languages; returns the language of most."""
        tables = self.tables
        words = [piece for piece in pieces if not piece.emoji]
        if not words:
            return ""
        english = {piece.word for piece in words if piece.word in FUNCTION_WORDS or self._is_english(piece.word)}
        if len(english) == len({piece.word for piece in words}):
            return ""
        found = {name: _matches(pieces, terms) for name, terms in tables.languages.items()}
        strong: dict[str, int] = {}
        covered: dict[str, int] = {}
        for name, matches in found.items():
            taken = [(pieces[at : at + count], said) for at, count, said in matches]
            known = {piece.word for some, _ in taken for piece in some}
            evidence = [
                some for some, said in taken
                if said not in FUNCTION_WORDS and not all(piece.word in english for piece in some)
            ]  # fmt: skip
            sure = [some for some in evidence if not all(is_common(piece.word) for piece in some)]
            whole = not any(piece.word not in known for piece in words)
            if sure or (evidence and whole):
                strong[name] = len(evidence)
                covered[name] = sum(len(piece.word) for some, _ in taken for piece in some)
        if not covered:
            return ""
        votes = Counter(said for name in covered for _, _, said in found[name])
        order = list(tables.languages)

        def rank(name: str) -> tuple:
            agreed = sum(votes[said] for _, _, said in found[name])
            named = sum(
                _joined([piece.word for piece in pieces[at : at + count]]) in tables.languages[name].labels
                for at, count, _ in found[name]
            )
            return covered[name], strong[name], named, agreed, -order.index(name)

        language = max(covered, key=rank)
        for name in sorted(covered, key=rank, reverse=True):
            known = {piece.word for at, count, _ in found[name] for piece in pieces[at : at + count]}
            only_english = sum(word not in known for word in english)
            for at, count, said in found[name]:
                some = pieces[at : at + count]
                if any(piece.said is not None for piece in some):
                    continue
                is_english = all(piece.word in english for piece in some)
                if is_english and (name != language or strong[name] <= only_english):
                    continue
                some[0].said = said
                for piece in some[1:]:
                    piece.said = ""
        return language

    def _is_english(self, word: str) -> bool:
        return word in self.tables.words or word in self.tables.english


def pack(tables: Tables) -> bytes:
    """Tables as compressed JSON."""
    groups = list(dict.fromkeys(label.group for label in tables.labels))
    content = {
        "groups": groups,
        "labels": [[label.text, groups.index(label.group), list(label.tags)] for label in tables.labels],
        "words": sorted(tables.words),
        "english": sorted(tables.english - tables.words),
        "emoji": dict(sorted(tables.emoji.items())),
        "languages": {
            name: [dict(sorted(part.items())) for part in (terms.labels, terms.words)]
            for name, terms in tables.languages.items()
        },
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return lzma.compress(text.encode(), preset=PRESET)


def unpack(packed: bytes) -> Tables:
    """Tables from what `pack` wrote.

    Raises:
        ValueError: it is damaged, too large, or something else.
    """
    try:
        unpacker = lzma.LZMADecompressor()
        text = unpacker.decompress(packed, max_length=MAX_UNPACKED)
        if not unpacker.eof:
            raise ValueError("the tables are larger than any that mmgen writes")
        content = json.loads(text)
        groups = [_text(group) for group in content["groups"]]
        return Tables(
            labels=[
                Label(_text(label), groups[group], tuple(map(_text, tags))) for label, group, tags in content["labels"]
            ],
            words=set(map(_text, content["words"])),
            english=set(map(_text, content["english"])),
            emoji=_texts(content["emoji"]),
            languages={name: Terms(*map(_texts, parts)) for name, parts in content["languages"].items()},
        )
    except (lzma.LZMAError, EOFError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"vocabulary: the tables are damaged ({error})") from error


def term(text: str) -> str:
    """A word or some as the tables hold them: without case, punctuation and marks of no sound.

    >>> term("Flagge: Südkorea"), term("猫の 顔")
    ('flagge südkorea', '猫の顔')
    """
    return _joined([piece.word for piece in _words(text, 0, len(text))])


def bare(emoji: str) -> str:
    """An emoji without the marks that only choose how it is drawn."""
    return _MARKS.sub("", emoji)


def edit_distance(a: str, b: str, most: int) -> int:
    """Letters to insert, leave out, change or swap with the next (optimal string alignment); `most` + 1 for more.

    >>> edit_distance("elefant", "elephant", 2), edit_distance("grial", "grail", 1), edit_distance("cat", "tiger", 2)
    (2, 1, 3)
    """
    if abs(len(a) - len(b)) > most:
        return most + 1
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        row = [i]
        for j, y in enumerate(b, start=1):
            least = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and y == a[i - 2]:
                least = min(least, before[j - 2] + 1)
            row.append(least)
        if min(row) > most:
            return most + 1
        before, last = last, row
    return min(last[-1], most + 1)


def _sound(word: str) -> str:
    """A word with one letter for those that sound alike, and none twice in a row."""
    for letters, sound in (("ph", "f"), ("ck", "k"), ("qu", "kw"), ("c", "k"), ("y", "i"), ("z", "s")):
        word = word.replace(letters, sound)
    return re.sub(r"(.)\1", r"\1", word)


def _joined(words: Sequence[str]) -> str:
    return _CLOSE.sub("", " ".join(words))


def _words(text: str, start: int, end: int) -> list[_Piece]:
    """The words between two places of a text, folded; letters keep the vowel signs that follow them."""
    pieces: list[_Piece] = []
    for found in _WORDS.finditer(text, start, end):
        pieces.append(_Piece(found.start(), found.end(), found[0]))
        last = pieces[-1]
        stop = last.end
        while stop < end and unicodedata.category(text[stop]) in ("Mn", "Mc") and not _MARKS.match(text[stop]):
            stop += 1
        before = pieces[-2] if len(pieces) > 1 else None
        # A vowel sign stood between the two.
        if before is not None and before.end == last.start and not (before.unspaced or last.unspaced):
            before.end = stop
            pieces.pop()
        else:
            last.end = stop
    for piece in pieces:
        piece.word = unicodedata.normalize("NFKC", text[piece.start : piece.end]).casefold()
    return pieces


def _emoji_at(text: str, start: int, emoji: dict[str, str], longest: int) -> tuple[int, str] | None:
    """The end and the key of the longest emoji that begins at a place; variation selectors are passed over."""
    key, end, best = "", start, None
    while end < len(text) and len(key) < longest:
        if not _MARKS.match(text[end]):
            key += text[end]
        end += 1
        if key in emoji:
            best = (end, key)
    if best is None:
        return None
    end, key = best
    while end < len(text) and (_MARKS.match(text[end]) or (text[end] == "\u200d" and end + 1 < len(text))):
        end += 1  # A joiner left over from a sequence that has no name of its own.
    return end, key


def _matches(pieces: Sequence[_Piece], terms: Terms) -> list[tuple[int, int, str]]:
    """Where a language knows something: (first piece, pieces, English words), the longest at each place."""
    found = []
    at = 0
    while at < len(pieces):
        if pieces[at].emoji:
            at += 1
            continue
        most = at
        while most < len(pieces) and most < at + MAX_TERM and not pieces[most].emoji:
            most += 1
        for stop in range(most, at, -1):
            said = terms.get(_joined([piece.word for piece in pieces[at:stop]]))
            if said is None and stop == at + 1:
                said = _without_ending(pieces[at].word, terms)
            if said is not None:
                found.append((at, stop - at, said))
                at = stop
                break
        else:
            at += 1
    return found


def _without_ending(word: str, terms: Terms) -> str | None:
    """A Korean word without its particle."""
    if not _HANGUL.fullmatch(word):
        return None
    return next((said for cut in (1, 2, 3) if len(word) > cut and (said := terms.get(word[:-cut]))), None)


def _leave_out(text: str, pieces: list[_Piece]) -> list[str]:
    """Leave out what no table knows in scripts that the text encoder cannot read; returns what it was, joined."""
    unread: list[str] = []
    last = -1
    for piece in pieces:
        if piece.said is None and piece.unspaced:
            if last == piece.start:
                unread[-1] += text[piece.start : piece.end]
            else:
                unread.append(text[piece.start : piece.end])
            piece.said, last = "", piece.end
    return unread


def _assemble(text: str, pieces: list[_Piece]) -> str:
    """The text with what is said instead of its pieces."""
    out = ""
    place = 0
    last: _Piece | None = None
    for piece in pieces:
        gap = text[place : piece.start].translate(_PUNCTUATION)
        said = text[piece.start : piece.end] if piece.said is None else piece.said
        if last is not None and not gap.strip() and piece.emoji and last.emoji:
            gap = ", "
        elif out and said and not gap and (piece.said is not None or (last is not None and last.said is not None)):
            gap = " "
        out += gap + said
        place, last = piece.end, piece
    return _LOST.sub("", _SPACE.sub(" ", out + text[place:].translate(_PUNCTUATION))).strip()


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("something is no text")
    return value


def _texts(table: dict) -> dict[str, str]:
    return {_text(key): _text(value) for key, value in table.items()}
