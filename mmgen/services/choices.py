"""Which entries of the memory a person has dropped or pinned, prompt by prompt, as the page keeps them."""

from __future__ import annotations

from typing import Any

from mmgen.services.inference import InferenceService

_MAX_PROMPTS = 50


def known_entries(service: InferenceService, entries: list[object]) -> tuple[int, ...]:
    """Of what a page sent, the numbers of entries that a model's memory has, each once."""
    count = len(service.pipe.looked_up) if service.has_memory else 0
    whole = (entry for entry in entries if isinstance(entry, int) and not isinstance(entry, bool))
    return tuple(dict.fromkeys(entry for entry in whole if 0 <= entry < count))


def choices_of(choices: object, prompt: object, service: InferenceService) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The dropped and the pinned entries of a prompt; those that a model's memory does not have are left out."""
    mine = choices.get(_key(prompt)) if isinstance(choices, dict) else None
    mine = mine if isinstance(mine, dict) else {}
    lists = (mine.get(name) for name in ("dropped", "pinned"))
    dropped, pinned = (known_entries(service, one if isinstance(one, list) else []) for one in lists)
    slots = service.pipe.generator.config.memory_slots
    return dropped, tuple(entry for entry in pinned if entry not in dropped)[:slots]


def choose(choices: object, prompt: object, entry: object, choice: object) -> dict[str, Any]:
    """The choices after an entry was dropped, or pinned, or let go again, or all of a prompt's were reset.

    Args:
        choices: for each prompt its `dropped` and `pinned` entries.
        choice: `drop`, `pin` (again to let it go) or `reset`.
    """
    others = {key: value for key, value in choices.items() if key != _key(prompt)} if isinstance(choices, dict) else {}
    if choice == "reset" or not isinstance(entry, int):
        return others
    mine = choices.get(_key(prompt), {}) if isinstance(choices, dict) else {}
    dropped, pinned = ([one for one in mine.get(name, []) if one != entry] for name in ("dropped", "pinned"))
    if choice == "drop":
        dropped.append(entry)
    elif choice == "pin" and entry not in mine.get("pinned", []):
        pinned.append(entry)
    kept = dict(list(others.items())[-_MAX_PROMPTS + 1 :])
    return {**kept, _key(prompt): {"dropped": dropped, "pinned": pinned}}


def _key(prompt: object) -> str:
    return " ".join(str(prompt or "").split())[:1000]
