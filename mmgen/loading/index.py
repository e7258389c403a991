"""What a checkpoint's index may name, checked before anything that it names is fetched, imported or loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mmgen.errors import UserError
from mmgen.parts import INDEX, PARTS, current_name

PIPELINE = "MultimodalGANPipeline"


@dataclass(frozen=True)
class Index:
    """What stands in an index.

    Attributes:
        classes: part -> name of its class; an optional part that it lacks is not among them.
        styles: the drawing styles that the model knows as words.
    """

    classes: dict[str, str]
    styles: list[str]


def read_index(file: Path, name: str) -> Index:
    """Read an index and refuse what mmgen does not make.

    Args:
        name: what to call the checkpoint in messages.

    Raises:
        UserError: the file is missing or damaged, or names another pipeline, or a class or a module of somebody else.
    """
    if not file.is_file():
        raise UserError(f"{name} holds no {INDEX}, so it is no checkpoint. Give one made by mmgen.")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        kind = content["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{INDEX} of {name} is damaged. Fetch or train the checkpoint again.") from error
    if kind not in (PIPELINE, ["pipeline", PIPELINE]):
        kind = kind[-1] if isinstance(kind, list) and kind else kind
        raise UserError(f"{name} is a {str(kind)[:80]}, not a model of mmgen. Give one made by mmgen.")
    styles = content.get("styles", [])
    if not isinstance(styles, (list, dict)) or not all(isinstance(style, str) for style in styles):
        raise UserError(f"{INDEX} of {name} is damaged. Fetch or train the checkpoint again.")
    classes: dict[str, str] = {}
    for key, entry in content.items():
        if key == "styles" or key.startswith("_"):
            continue
        part = PARTS.get(current_name(key))
        if part and part.is_optional and entry == [None, None]:
            continue
        is_class = isinstance(entry, list) and len(entry) == 2 and all(isinstance(item, str) for item in entry)
        if not (part and is_class and part.fits(*entry)) or part.name in classes:
            shown = ".".join(map(str, entry)) if isinstance(entry, list) else str(entry)
            raise UserError(
                f"{INDEX} of {name} names {shown[:80]} as its {key[:40]}, which no checkpoint of mmgen does, so "
                "nothing of it is loaded. Give one made by mmgen."
            )
        classes[part.name] = entry[1]
    missing = [part.name for part in PARTS.values() if part.name not in classes and not part.is_optional]
    if missing:
        raise UserError(f"{name} is not whole (its index names no {missing[0]}). Fetch or train the checkpoint again.")
    return Index(classes, list(styles))
