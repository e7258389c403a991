"""What a picture owes to the entries of the memory that it was drawn from, in data and in words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmgen.pipeline import MemoryShare

_LICENCES = {
    "CC-BY-4.0": ("CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/"),
    "CC-BY-3.0": ("CC BY 3.0", "https://creativecommons.org/licenses/by/3.0/"),
    "CC-BY-SA-4.0": ("CC BY-SA 4.0", "https://creativecommons.org/licenses/by-sa/4.0/"),
    "CC-BY-SA-3.0": ("CC BY-SA 3.0", "https://creativecommons.org/licenses/by-sa/3.0/"),
    "CC0-1.0": ("CC0 1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
    "Apache-2.0": ("the Apache License 2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
    "MIT": ("the MIT License", "https://opensource.org/license/mit"),
}
"""SPDX identifier -> the licence's name in a sentence, and its address."""


def attributions(shares: Iterable[MemoryShare]) -> str:
    """The attributions that a picture needs where it is published: a line for each source, the most used first.

    Worded as Creative Commons recommends for adaptations: title, author, source, licence, and that it was changed.
    Entries of one source, licence and author share a line. What is not recorded is said to be so.

    Args:
        shares: entries of the memory, of one picture or of several.
    """
    labels: dict[tuple[str, str, str], list[str]] = {}
    for share in shares:
        known = labels.setdefault((share.source, share.licence, share.author), [])
        if share.label not in known:
            known.append(share.label)
    return "\n".join(_line(named, *origin) for origin, named in labels.items())


def _line(labels: Sequence[str], source: str, licence: str, author: str) -> str:
    quoted = [f'"{label}"' for label in labels]
    titles = " and ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))
    by = author or "an author who is not recorded"
    where = f" ({source})" if source else ""
    name, address = _LICENCES.get(licence, (licence or "a licence that is not recorded", ""))
    under = f"{name} ({address})" if address else name
    return f"This picture is adapted from {titles} by {by}{where}, used under {under}."


def share_facts(share: MemoryShare) -> dict[str, object]:
    """An entry that a picture leaned on, for JSON; its share is rounded to four digits."""
    return {
        "entry": share.entry,
        "share": round(share.share, 4),
        "label": share.label,
        "style": share.style,
        "source": share.source,
        "licence": share.licence,
        "author": share.author,
    }


def memory_text(
    weight: float, dropped: Sequence[int], pinned: Sequence[int], shares: Sequence[MemoryShare]
) -> dict[str, object]:
    """What a picture's file says of the memory: how to draw it again, and `drawn_from`, a JSON list of its sources."""
    return {
        "memory_weight": weight,
        "memory_dropped": json.dumps(list(dropped)),
        "memory_pinned": json.dumps(list(pinned)),
        "drawn_from": json.dumps([share_facts(share) for share in shares], ensure_ascii=False),
    }
