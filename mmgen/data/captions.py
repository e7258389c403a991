"""Captions for emoji by a written grammar with a seed.

A Unicode label ("woman firefighter: medium-dark skin tone") becomes a phrase ("woman firefighter with medium-dark
skin"), and the phrase, the style and the tags become several captions. Some name the style and some do not, some give
only tags, and some carry words that change nothing ("a cute ..."), so that the model learns what to ignore.
"""

from __future__ import annotations

import random
import re

_HAIR = ("red hair", "curly hair", "white hair", "bald", "blond hair", "beard")
_PLAIN_PREFIXES = {"flag": "flag of {}", "keycap": "keycap {}"}

_WITHOUT_STYLE = (
    "{a} {phrase}",
    "{phrase} emoji",
    "a picture of {a} {phrase}",
    "a {adjective} {phrase}",
    "{phrase} sticker",
    "an icon of {a} {phrase}",
)
_WITH_STYLE = (
    "{phrase}, {style} style",
    "{style} {phrase}",
    "{a} {phrase} in {style} style",
    "{style} emoji of {a} {phrase}",
    "a {adjective} {phrase}, {style} style",
    "{style} style {phrase}",
)
_ADJECTIVES = ("beautiful", "cute", "nice", "little", "lovely", "simple", "pretty", "funny", "cool", "good")


def phrase(label: str) -> str:
    """A Unicode emoji label as a person would say it.

    >>> phrase("woman firefighter: medium-dark skin tone")
    'woman firefighter with medium-dark skin'
    >>> phrase("man: dark skin tone, white hair")
    'man with dark skin and white hair'
    >>> phrase("flag: Bhutan")
    'flag of Bhutan'
    """
    head, colon, tail = label.partition(": ")
    if not colon:
        return label
    if head in _PLAIN_PREFIXES:
        return _PLAIN_PREFIXES[head].format(tail)
    parts = [re.sub(r" skin tone$", " skin", part) for part in tail.split(", ")]
    who = [part for part in parts if not part.endswith("skin") and part not in _HAIR]
    traits = [part for part in parts if part.endswith("skin") or part in _HAIR]
    text = head
    if who:
        text += " of " + " and ".join(who)
    if traits:
        text += " with " + " and ".join("bald head" if trait == "bald" else trait for trait in traits)
    return text


def article(words: str) -> str:
    """'a' or 'an', by the first letter."""
    return "an" if words[:1].lower() in "aeiou" else "a"


def emoji_captions(label: str, style: str, tags: list[str], seed: str) -> list[str]:
    """Captions of one picture; the first is the label's phrase alone, the second names the style too.

    Args:
        label: Unicode label, with skin tone and hair.
        style: name of the drawing style in plain words.
        tags: search words of the label.
        seed: any string; equal arguments give equal captions.

    Returns:
        Eight captions, without repeats where the grammar allows it.
    """
    rng = random.Random(f"{seed}/{label}/{style}")
    words = phrase(label)
    fill = {"phrase": words, "style": style, "a": article(words)}
    captions = [words, f"{words}, {style} style"]
    captions += [t.format(adjective=rng.choice(_ADJECTIVES), **fill) for t in rng.sample(_WITHOUT_STYLE, 2)]
    captions += [t.format(adjective=rng.choice(_ADJECTIVES), **fill) for t in rng.sample(_WITH_STYLE, 2)]
    known = [tag for tag in tags if tag.lower() not in words.lower()]
    picked = rng.sample(known, min(len(known), 3))
    captions.append(", ".join([words, *picked[:2]]))
    some = rng.sample(tags, min(len(tags), 3)) or [words]
    traits = words.partition(" with ")[2]
    captions.append(" ".join(some) + (f" with {traits}" if traits and "skin" in traits else "") + f", {style} style")
    return captions
