"""What a checkpoint's index may name, checked before anything that it names is fetched, imported or loaded."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from mmgen.errors import UserError
from mmgen.hub.files import OPTIONAL

INDEX = "model_index.json"
PIPELINE = "MultimodalGANPipeline"

OURS = {
    "fusion": ("mmgen.models.fusion", "Fusion"),
    "generator": ("mmgen.models.generator", "Generator"),
    "autoencoder": ("mmgen.models.autoencoder", "ImageAutoencoder"),
    "decoder": ("mmgen.models.decoder", "CaptionDecoder"),
    "decoder_fusion": ("mmgen.models.fusion", "Fusion"),
    "memory": ("mmgen.models.memory", "Memory"),
}
"""Part -> module and class of the trained parts."""

_FROM_TRANSFORMERS = {
    "text_encoder": re.compile(r"BertModel"),
    "tokenizer": re.compile(r"[A-Za-z0-9]+Tokenizer(Fast)?|TokenizersBackend"),
    "image_encoder": re.compile(r"[A-Za-z0-9]+Model"),
    "image_processor": re.compile(r"[A-Za-z0-9]+ImageProcessor(Fast|Pil)?"),
}
"""Part -> names of the classes that transformers itself may bring for it; none of them runs code of the checkpoint."""

PARTS = (*OURS, *_FROM_TRANSFORMERS)


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
    classes = {}
    for part, entry in content.items():
        if part == "styles" or part.startswith("_") or (part in OPTIONAL and entry == [None, None]):
            continue
        if not _is_ours(part, entry):
            shown = ".".join(map(str, entry)) if isinstance(entry, list) else str(entry)
            raise UserError(
                f"{INDEX} of {name} names {shown[:80]} as its {part[:40]}, which no checkpoint of mmgen does, so "
                "nothing of it is loaded. Give one made by mmgen."
            )
        classes[part] = entry[1]
    missing = [part for part in PARTS if part not in classes and part not in OPTIONAL]
    if missing:
        raise UserError(f"{name} is not whole (its index names no {missing[0]}). Fetch or train the checkpoint again.")
    return Index(classes, list(styles))


def _is_ours(part: str, entry: object) -> bool:
    if not (isinstance(entry, list) and len(entry) == 2 and all(isinstance(item, str) for item in entry)):
        return False
    if part in OURS:
        return tuple(entry) == OURS[part]
    library, kind = entry
    names = _FROM_TRANSFORMERS.get(part)
    return names is not None and library == "transformers" and names.fullmatch(kind) is not None
