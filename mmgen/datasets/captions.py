"""Captions for emoji and icons by a written grammar with a seed.

A Unicode label ("woman firefighter: medium-dark skin tone") becomes a phrase ("woman firefighter with medium-dark
skin"), and the phrase, the style and the tags become several captions. Some name the style and some do not, some ask
("draw a cat"), some turn the words ("dark-skinned woman"), some give only tags, and some carry words that change
nothing ("a cute ..."), so that the model learns what to ignore.
"""

from __future__ import annotations

import random
import re

_HAIR = ("red hair", "curly hair", "white hair", "bald", "blond hair", "beard")
_PLAIN_PREFIXES = {"flag": "flag of {}", "keycap": "keycap {}"}

_WITHOUT_STYLE = (
    "{a} {phrase}",
    "the {phrase}",
    "{phrase} {kind}",
    "{kind} of {a} {phrase}",
    "{a} {phrase} {kind}",
    "a picture of {a} {phrase}",
    "an image of {a} {phrase}",
    "an icon of {a} {phrase}",
    "draw {a} {phrase}",
    "draw me {a} {adjective} {phrase}",
    "{a} {adjective} {phrase}",
    "{adjective} {phrase}",
    "{phrase}, {adjective}",
    "{phrase} sticker",
    "{turned}",
    "{turned}, {tag}",
    "{tag}, {phrase}",
)
_WITH_STYLE = (
    "{style} {phrase}",
    "{style} style {phrase}",
    "{style} style, {phrase}",
    "{a} {phrase}, {style} style",
    "{a} {phrase} in {style} style",
    "the {phrase} in {style} style",
    "{a} {adjective} {phrase}, {style} style",
    "{turned}, {style} style",
    "{phrase}, {tag}, {style} style",
    "{style} emoji of {a} {phrase}",
    "draw {a} {phrase} in {style} style",
    "an image of {a} {phrase}, {style} style",
)
_ADJECTIVES = ("beautiful", "cute", "nice", "little", "lovely", "simple", "pretty", "funny", "cool", "good")
_SINGULAR = frozenset("gas canvas christmas rhinoceros".split())


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
    """'a' or 'an' by the first letter, 'some' for many things.

    >>> article("apple"), article("clapping hands"), article("glass of milk"), article("Pisces")
    ('an', 'some', 'a', 'a')
    """
    if re.match(r"(?:man|woman|person|boy|girl)\b(?! and)", words):
        return "a"
    last = re.split(r" (?:with|of|in|on|without|showing)\b", words)[0].split(" ")[-1]
    if re.fullmatch(r"[a-z]+(?<![suia])s|[a-z]+(?:ias|ues|ies)|people|men|women", last) and last not in _SINGULAR:
        return "some"
    return "an" if words[:1].lower() in "aeiou" else "a"


def turned(words: str) -> str:
    """A phrase in another order, or as it is where it has but one.

    >>> turned("woman firefighter with medium-dark skin"), turned("flag of Bhutan"), turned("cat")
    ('medium-dark-skinned woman firefighter', 'Bhutan flag', 'cat')
    """
    if skin := re.fullmatch(r"(.+) with ((?:medium|light|dark|-)+) skin", words):
        return f"{skin[2]}-skinned {skin[1]}"
    if flag := re.fullmatch(r"flag of (.+)", words):
        return f"{flag[1]} flag"
    return words


def emoji_captions(
    label: str, style: str, tags: list[str], seed: str, kind: str = "emoji", naming: bool = True
) -> list[str]:
    """Captions of one picture; the first is the label's phrase alone, the second names the style too.

    Args:
        label: Unicode label, with skin tone and hair, or the words that name an icon.
        style: name of the drawing style in plain words.
        tags: search words of the label.
        seed: any string; equal arguments give equal captions.
        kind: what such a picture is called.
        naming: whether captions name the style at all.

    Returns:
        Eight to ten captions without repeats, or five to seven where none names the style.
    """
    rng = random.Random(f"{seed}/{label}/{style}")
    words = phrase(label)
    known = [tag for tag in tags if tag.lower() not in words.lower()]
    fill = {"phrase": words, "style": style, "a": article(words), "kind": kind, "turned": turned(words)}

    def said(templates: tuple[str, ...], count: int) -> list[str]:
        able = [template for template in templates if known or "{tag}" not in template]
        able = [template for template in able if fill["turned"] != words or "{turned}" not in template]
        able = [template for template in able if kind == "emoji" or "emoji" not in template]
        made = []
        for template in rng.sample(able, count):
            adjective, tag = rng.choice(_ADJECTIVES), rng.choice(known or [""])
            values = {**fill, "adjective": adjective, "tag": tag}
            values["a"] = fill["a"] if fill["a"] == "some" or "{a} {phrase}" in template else article(adjective)
            made.append(template.format(**values))
        return made

    traits = words.partition(" with ")[2]
    skin = f" with {traits}" if traits and "skin" in traits else ""

    def tagged(separator: str) -> str:
        return separator.join(rng.sample(tags, min(len(tags), 3)) or [words]) + skin * bool(tags)

    more = ", ".join([words, *rng.sample(known, min(len(known), 2))])
    captions = [words, *said(_WITHOUT_STYLE, 3), tagged(", "), more]
    if naming:
        captions[1:1] = [f"{words}, {style} style"]
        captions += [*said(_WITH_STYLE, 2), f"{tagged(' ')}, {style} style"]
    captions = list(dict.fromkeys(captions))
    missing = (8 if naming else 5) - len(captions)
    return list(dict.fromkeys(captions + said(_WITHOUT_STYLE, 8)[: max(0, missing)]))
