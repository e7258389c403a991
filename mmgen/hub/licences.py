"""Which one licence a model names whose memory holds images under several."""

from __future__ import annotations

import re
from collections.abc import Iterable

OTHER = "other"
"""What the Hub calls a licence that is not in its list; the card has to say what holds."""

_KINDS = (
    re.compile(r"cc0-1\.0|unlicense|pddl"),
    re.compile(r"mit|isc|0bsd|bsd-[23]-clause|apache-2\.0|zlib"),
    re.compile(r"cc-by-\d\.\d"),
    re.compile(r"cc-by-sa-\d\.\d|a?gpl-[23]\.0|lgpl-[23](\.\d)?|mpl-2\.0|ofl-1\.1"),
    re.compile(r"cc-by-nc(-sa)?-\d\.\d"),
    re.compile(r"cc-by-(nc-)?nd-\d\.\d"),
)
"""From what asks for nothing to what forbids most: attribution, the same licence, no trade, no changes."""

_SHARE_ALIKE = 3
_ALIASES = {
    "cc0": "cc0-1.0",
    "public domain": "cc0-1.0",
    "apache 2.0": "apache-2.0",
    "gpl-2": "gpl-2.0",
    "gpl-3": "gpl-3.0",
}


def strictest(licences: Iterable[str]) -> str:
    """The licence, as the Hub names it, that asks for all that the others ask for; `other` where none does.

    A licence that is missing or not known here counts as `other`, as do two that each want to be the only one: two
    different ones of those that ask for the same licence, or forbid trade or changes. Of two versions the newer counts.

    >>> strictest(["MIT", "Apache-2.0", "CC-BY-4.0"])
    'cc-by-4.0'
    >>> strictest(["CC-BY-SA-4.0", "GPL-2.0"])
    'other'
    """
    names = {" ".join(licence.lower().split()) for licence in licences}
    names = {_ALIASES.get(name, name) for name in names}
    kinds = {name: n for name in names for n, kind in enumerate(_KINDS) if kind.fullmatch(name)}
    if not kinds or len(kinds) < len(names):
        return OTHER
    families = {re.sub(r"-?\d.*", "", name) for name, kind in kinds.items() if kind >= _SHARE_ALIKE}
    if len(families) > 1:
        return OTHER
    highest = max(kinds.values())
    found = [name for name, kind in kinds.items() if kind == highest]
    # Of those that ask for little, Apache-2.0 asks for most.
    return "apache-2.0" if "apache-2.0" in found else max(found)
