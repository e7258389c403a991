"""Names of emoji, and words of other languages with the English words that stand beside them, from `emojibase-data`.

A label of another language is the English label of the same emoji. A search word is translated by the emoji that it
stands at: into the English label, search word or word of a label that stands at nearly the same ones (by Dice's
coefficient). So is a word of a label, which brings inflected forms: "roter" stands where "red" does.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmgen.datasets import npm
from mmgen.datasets.captions import phrase
from mmgen.models.vocabulary import MAX_TERM, Terms, bare, term

LANGUAGES = (
    *("zh", "es", "hi", "pt", "bn", "ru", "ja", "de", "fr", "ko", "vi", "it", "pl", "uk", "nl", "th", "ms", "zh-hant"),
    *("hu", "sv", "da", "fi", "nb", "lt", "et", "es-mx", "en-gb"),
)
"""Those that the package may bring; where two read a word differently and nothing else tells, the first one counts."""

ENOUGH = 0.4
"""Dice's coefficient from which on two words stand at the same emoji."""

_SMALL = {
    "a": "de:ein eine einen einem einer eines|fr:un une|es:un una|pt:um uma|it:un una uno|nl:een|da:en et|nb:en et ei|"
    "sv:en ett|hu:egy|vi:một|zh:一 一只 一个 一隻 一個",
    "the": "de:der die das den dem|fr:le la les l|es:el la los las|pt:o a os as|it:il lo la gli le|nl:de het",
    "with": "de:mit|fr:avec|es:con|pt:com|it:con|nl:met|da:med|nb:med|sv:med|ru:с|uk:з|pl:z",
    "and": "de:und|fr:et|es:y|pt:e|it:e|nl:en|da:og|nb:og|sv:och|ru:и|uk:і|pl:i|zh:和|ja:と",
    "in": "de:im|fr:dans|es:en|pt:em|nl:in|ru:в|uk:в|pl:w",
    "on": "de:auf am|fr:sur|es:sobre|nl:op|da:på|nb:på|sv:på|ru:на|uk:на|pl:na",
    "of": "de:von|fr:de du des|es:de del|pt:de do da|it:di del|nl:van|zh:的|ja:の",
    "red": "de:rot rote roter rotes roten|fr:rouge rouges|es:rojo roja|pt:vermelho vermelha|it:rosso rossa|"
    "nl:rood rode|da:rød røde|nb:rød røde|sv:röd röda|ru:красный красная красное|uk:червоний червона|"
    "pl:czerwony czerwona|zh:红 红色 红色的 紅色|ja:赤 赤い|ko:빨간 빨강",
    "blue": "de:blau blaue blauer blaues blauen|fr:bleu bleue|es:azul|pt:azul|it:blu|nl:blauw blauwe|da:blå|nb:blå|"
    "sv:blå|ru:синий синяя синее голубой|uk:синій синя|"
    "pl:niebieski niebieska|zh:蓝 蓝色 蓝色的 藍色|ja:青 青い|ko:파란 파랑",
    "green": "de:grün grüne grüner grünes grünen|fr:vert verte|es:verde|pt:verde|it:verde|nl:groen groene|da:grøn|"
    "nb:grønn|sv:grön|ru:зелёный зеленый зелёная зеленая|uk:зелений зелена|pl:zielony zielona|zh:绿 绿色 绿色的 綠色|"
    "ja:緑 緑色 緑の|ko:초록 초록색",
    "yellow": "de:gelb gelbe gelber gelbes gelben|fr:jaune|es:amarillo amarilla|pt:amarelo amarela|it:giallo gialla|"
    "nl:geel gele|da:gul|nb:gul|sv:gul|ru:жёлтый желтый жёлтая желтая|uk:жовтий жовта|pl:żółty żółta|"
    "zh:黄 黄色 黄色的 黃色|ja:黄色 黄色い|ko:노란 노랑",
    "black": "de:schwarz schwarze schwarzer schwarzes schwarzen|fr:noir noire|es:negro negra|pt:preto preta|"
    "it:nero nera|nl:zwart zwarte|da:sort|nb:svart|sv:svart|ru:чёрный черный чёрная черная|uk:чорний чорна|"
    "pl:czarny czarna|zh:黑 黑色 黑色的|ja:黒 黒い|ko:검은 검정",
    "white": "de:weiß weiße weißer weißes weißen|fr:blanc blanche|es:blanco blanca|pt:branco branca|it:bianco bianca|"
    "nl:wit witte|da:hvid|nb:hvit|sv:vit|ru:белый белая белое|uk:білий біла|pl:biały biała|"
    "zh:白 白色 白色的|ja:白 白い|ko:하얀 흰",
    "big": "de:groß große großer großes|fr:grand grande|es:grande|pt:grande|it:grande|nl:groot grote|"
    "ru:большой большая|zh:大 大的|ja:大きい 大きな|ko:큰",
    "little": "de:klein kleine kleiner kleines|fr:petit petite|es:pequeño pequeña|pt:pequeno pequena|"
    "it:piccolo piccola|nl:klein kleine|ru:маленький маленькая|zh:小 小的|ja:小さい 小さな|ko:작은",
}
"""English word -> of some languages the words for it that name no thing, so that no emoji tells what they mean."""


@dataclass(frozen=True)
class EmojiWords:
    """What the package says.

    Attributes:
        names: characters of every emoji and each of its skin tones, without variation selectors -> its name, as
            captions say it.
        english: all words of the English labels and search words, in lower case.
        languages: language -> term of it -> English words, of every language that there is.
    """

    names: dict[str, str]
    english: set[str]
    languages: dict[str, Terms]


def emoji_words(archive: Path) -> EmojiWords:
    """Read an archive of `emojibase-data`."""
    files = npm.read_all(archive, "/data.json")
    known = [name for name in ("en", *LANGUAGES) if f"{name}/data.json" in files]
    entries = {name: json.loads(files[f"{name}/data.json"]) for name in known}
    names = {}
    words: set[str] = set()
    for entry in entries["en"]:
        for variant in (entry, *entry.get("skins", [])):
            characters = "".join(chr(int(code, 16)) for code in variant["hexcode"].split("-"))
            names[bare(characters)] = phrase(variant["label"])
        for text in (entry["label"], *entry.get("tags", [])):
            words.update(term(text).split())
    english = _Side(entries.pop("en"), phrase)
    return EmojiWords(names, words, {name: _aligned(_Side(some, str), english, name) for name, some in entries.items()})


class _Side:
    """The words of one language and the emoji that each stands at."""

    def __init__(self, entries: list[dict], say: Callable[[str], str]):
        self.labels: dict[str, str] = {}
        self.said: dict[str, str] = {}
        self.label_at: dict[str, set[str]] = defaultdict(set)
        self.tag_at: dict[str, set[str]] = defaultdict(set)
        self.word_at: dict[str, set[str]] = defaultdict(set)
        self.tail_of: dict[str, str] = {}
        for entry in entries:
            code, label = entry["hexcode"], say(entry["label"])
            key = term(label)
            self.labels[code] = label
            self.said.setdefault(key, label)
            self.label_at[key].add(code)
            for tag in entry.get("tags", []):
                self.said.setdefault(term(tag), tag)
                self.tag_at[term(tag)].add(code)
            words = key.split()
            if len(words) > 1:
                for word in words:
                    self.word_at[word].add(code)
            head, colon, tail = entry["label"].partition(": ")
            if colon and entry.get("group") == 9 and head:  # A country's flag, by the country alone.
                self.tail_of[term(tail)] = code
        self.units: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self.count: dict[tuple[str, str], int] = {}
        for kind, table in (("label", self.label_at), ("tag", self.tag_at), ("word", self.word_at)):
            for word, codes in table.items():
                self.count[kind, word] = len(codes)
                for code in codes:
                    self.units[code].append((kind, word))


def _aligned(foreign: _Side, english: _Side, name: str) -> Terms:
    words: dict[str, str] = {}
    for word, codes in foreign.word_at.items():
        if len(codes) > 1 and (said := _partner(codes, english, ("word", "tag"), single=True)):
            words[word] = said
    for tag, codes in foreign.tag_at.items():
        if said := _partner(codes, english, ("label", "tag", "word")):
            words[tag] = said
    for word, code in foreign.tail_of.items():
        words[word] = english.labels[code]
    labels = {
        label: english.labels[code] for label, at in foreign.label_at.items() if (code := min(at)) in english.labels
    }
    small = _small_words(name.partition("-")[0])
    labels = {word: said for word, said in labels.items() if _is_worth(word, said)}
    words = {word: said for word, said in words.items() if _is_worth(word, said) and word not in labels}
    return Terms({word: said for word, said in labels.items() if word not in small}, words | small)


def _small_words(name: str) -> dict[str, str]:
    """Of a language what `_SMALL` knows."""
    made: dict[str, str] = {}
    for said, all_of_it in _SMALL.items():
        for part in all_of_it.split("|"):
            language, _, words = part.partition(":")
            if language == name:
                made |= dict.fromkeys(words.split(), said)
    return {term(word): said for word, said in made.items()}


def _is_worth(word: str, said: str) -> bool:
    """Whether a term is of use: no number, no code of a country, not too long, and not English itself."""
    short = word.isascii() and len(word) < 3
    return term(said) != word and 0 < len(word.split()) <= MAX_TERM and not word.isdigit() and not short


def _partner(codes: set[str], english: _Side, kinds: tuple[str, ...], single: bool = False) -> str | None:
    """The English words that stand at nearly the same emoji; of equally good ones a label for one emoji, and a search
    word for several."""
    preferred = ("label", "tag", "word") if len(codes) == 1 else ("tag", "word", "label")
    shared = Counter(unit for code in codes for unit in english.units.get(code, ()))
    best: tuple[float, int, int, str] | None = None
    for (kind, word), count in shared.items():
        if kind in kinds and not (single and " " in word):
            score = 2 * count / (len(codes) + english.count[kind, word])
            found = (-score, preferred.index(kind), len(word), word)
            if score >= ENOUGH and (best is None or found < best):
                best = found
    if best is None:
        return None
    return english.said.get(best[3], best[3])
