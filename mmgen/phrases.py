"""The things that a prompt names: noun chunks, without what only says how many, how large or where they are.

Word order is lost in a mean of word tokens, and a memory knows things one by one. So each thing of a prompt is looked
up by itself, and the words between them are left to the generator, which reads them all.
"""

from __future__ import annotations

import re

_JOINTS = re.compile(
    r"\b(?:(?:to|on|at) the (?:left|right|top|bottom)(?: (?:side )?of)?|(?:left|right|in front|on top|out|inside) of|"
    r"next to|close to|along with|together with|followed by|on|in|at|and|under|underneath|over|beside|besides|by|near|"
    r"behind|above|below|beneath|between|among|inside|around)\b|[,;+&]",
    re.IGNORECASE,
)
_ARTICLES = re.compile(
    r"^(?:(?:a|an|the|some|one|two|three|four|five|six|seven|eight|nine|ten|his|her|its|my|(?:[2-9]|10)(?=\s+\w\w))\b(?!-)\s*)+",
    re.IGNORECASE,
)
_SEVERAL = re.compile(
    r"^(?:the\s+)?(?:two|three|four|five|six|seven|eight|nine|ten|(?:[2-9]|10)(?=\s+\w\w))\s", re.IGNORECASE
)
_ASKING = re.compile(
    r"^(?:(?:please )?(?:draw|make|show|paint)(?: me)? |"
    r"(?:an? |the )?(?:picture|image|icon|emoji|sticker|drawing) of )+",
    re.IGNORECASE,
)
_GROUND = re.compile(
    r"(?:,|\b(?:on|in|against|with|over|in front of))\s*(?:an?\s|the\s)?\s*(?:[\w-]+\s){0,3}?"
    r"(?:ground|background|backdrop|tile|disc)\b(?! of)",
    re.IGNORECASE,
)
_MANNER = r"(?:mirrored|flipped|large|larger|big|bigger|huge|small|smaller|tiny)"
_HIDDEN = re.compile(r"\b(?:half|partly|partially)[ -](?:hidden|covered|concealed)\b", re.IGNORECASE)
_BEFORE = re.compile(rf"^(?:{_MANNER}\s+)+(?=\S)", re.IGNORECASE)
_ALONE = re.compile(rf"^(?:{_MANNER}|the other way round|row)$", re.IGNORECASE)
_THAN = re.compile(r"\b(?:larger|bigger|smaller) than\b", re.IGNORECASE)
_ODD_PLURALS = {"men": "man", "women": "woman", "people": "person", "children": "child", "mice": "mouse"} | {
    **{"geese": "goose", "feet": "foot", "teeth": "tooth", "knives": "knife", "leaves": "leaf", "wolves": "wolf"},
    **{"loaves": "loaf", "scarves": "scarf", "oxen": "ox", "tomatoes": "tomato", "potatoes": "potato"},
}
ODD_SINGULARS = {one: several for several, one in _ODD_PLURALS.items()}
"""Nouns whose plural follows no rule, and that plural."""


def subject(text: str) -> str:
    """A text without the article or the number at its start.

    >>> subject("a cat"), subject("two hearts")
    ('cat', 'hearts')
    """
    return _ARTICLES.sub("", text) or text


def singular(words: str) -> str:
    """A noun with its last word in the singular; what stays as it is, such as "glasses of", is left so.

    >>> singular("red apples"), singular("boxes"), singular("cherries"), singular("men"), singular("sheep")
    ('red apple', 'box', 'cherry', 'man', 'sheep')
    """
    head, space, last = words.rpartition(" ")
    low = last.lower()
    if low in _ODD_PLURALS:
        last = _ODD_PLURALS[low]
    elif re.search(r"[^aeiou]ies$", low):
        last = last[:-3] + "y"
    elif re.search(r"(?:x|ch|sh|ss|zz|us)es$", low):
        last = last[:-2]
    elif re.search(r"[^su]s$", low):
        last = last[:-1]
    return head + space + last


def phrases(text: str) -> list[str]:
    """The things that a prompt names side by side, each without its article; one where it names one.

    What says how many, how large, which way round or on what ground is not a thing.

    >>> phrases("a beautiful sunset on the beach")
    ['beautiful sunset', 'beach']
    >>> phrases("a wizard with dark skin")
    ['wizard with dark skin']
    >>> phrases("a large cat to the left of three trees"), phrases("a mirrored cat on a light blue tile")
    (['cat', 'tree'], ['cat'])
    >>> phrases("a cat half hidden behind a tree")
    ['cat', 'tree']
    """
    bare = _HIDDEN.sub(" ", _THAN.sub(",", _GROUND.sub(" ", _ASKING.sub("", text))))
    found = []
    for part in _JOINTS.split(bare):
        part = " ".join(part.split())
        several, thing = bool(_SEVERAL.match(part)), subject(part)
        thing = _BEFORE.sub("", thing) if not _ALONE.match(thing) else ""
        found.append(singular(thing) if several else thing)
    return [thing for thing in found if thing] or [text]


def places_of_things(count: int, slots: int) -> list[int]:
    """Which of `count` things each of K slots is looked up by: each in both halves, where there is room for it.

    What finds no place among the entries in other styles comes first among those in the wanted one.

    >>> places_of_things(1, 4), places_of_things(2, 4), places_of_things(3, 4), places_of_things(5, 4)
    ([0, 0, 0, 0], [0, 1, 0, 1], [0, 1, 2, 0], [0, 1, 2, 3])
    """
    half = slots // 2
    start = half if count > half else 0
    return [place % count for place in range(half)] + [(start + place) % count for place in range(half)]
