"""Lay out what is published: a checkpoint's own files, its card, and the code by which diffusers alone loads it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from mmgen.checkpoints import FOLDER, load_pipeline
from mmgen.errors import UserError
from mmgen.evaluation.sheets import grid
from mmgen.hub.card import card, images_of, read_description
from mmgen.hub.standalone import standalone
from mmgen.io import write_json
from mmgen.loading.index import PIPELINE
from mmgen.parts import DESCRIPTIONS, INDEX, PARTS, SAMPLES, current_name, read_captions

MAX_SAMPLES = 12
_COLUMNS = 4
_OF_THIS_MACHINE = ("_name_or_path", "name_or_path", "checkpoint")
"""Keys of descriptions that hold a path."""


def prepare(checkpoint: Path, folder: Path, name: str) -> str:
    """Write everything that is published into an empty folder.

    Files of the checkpoint that mmgen does not know, pickles and code among them, stay behind, and so do the paths of
    this machine in its descriptions.

    Args:
        name: `user/name` on the Hub.

    Returns:
        The card.

    Raises:
        UserError: the checkpoint is not whole, or a description in it is damaged.
    """
    pipe = load_pipeline(checkpoint)
    training = read_description(checkpoint / "training.json")
    captions = _samples(read_captions(checkpoint))
    if captions:
        images = [pipe(caption, seed=0).images[0] for caption in captions]
        grid(images, columns=min(_COLUMNS, len(images)), cell=192).save(folder / SAMPLES)
    text = card(checkpoint, name, pipe.image_size, pipe.config.styles, captions, _card_of(training.get("base")))
    for part in PARTS.values():
        for file in part.files:
            place(part.folder(checkpoint) / file, folder / part.name / file)
    for file in (*DESCRIPTIONS, *images_of(text)):
        if file not in ("README.md", SAMPLES):
            place(checkpoint / file, folder / file)
    (folder / "README.md").write_text(text, encoding="utf-8")
    index = json.loads((checkpoint / INDEX).read_text(encoding="utf-8"))
    index = {current_name(key): value for key, value in index.items()}
    index["_class_name"] = ["pipeline", PIPELINE]
    index["styles"] = dict.fromkeys(pipe.config.styles)  # Because diffusers takes every list for a part.
    _write_json(folder / INDEX, index)
    for part in PARTS.values():
        if part.is_ours and pipe.components[part.name] is not None:
            # The file's whole name is the module's, so that one index serves both.
            code = standalone(part.module, part.kind)
            (folder / part.name / f"{part.module}.py").write_text(code, encoding="utf-8")
    code = standalone("mmgen.pipeline", PIPELINE, leave_out=("from_pretrained",))
    (folder / "pipeline.py").write_text(code, encoding="utf-8")
    return text


def _samples(groups: list[list[str]]) -> list[str]:
    """Captions to draw, spread evenly; half of them of the last training, where there was another before it."""
    last, before = (groups[0] if groups else []), [caption for group in groups[1:] for caption in group]
    first = _spread(last, MAX_SAMPLES // 2 if before else MAX_SAMPLES)
    return first + _spread(before, MAX_SAMPLES - len(first))


def _spread(captions: list[str], most: int) -> list[str]:
    count = min(most, len(captions))
    return [captions[index * len(captions) // count] for index in range(count)]


def _card_of(base: object) -> str:
    """The card of the model it was fine-tuned from, if that is one of those in `checkpoints/`; "" otherwise."""
    found = [path for path in FOLDER.glob("*/README.md") if path.parent.name == base]
    return found[0].read_text(encoding="utf-8") if found else ""


def place(source: Path, target: Path) -> None:
    """Put a file of the checkpoint there if it has it: a description without paths, all else as it is."""
    if not source.is_file():
        return
    target.parent.mkdir(exist_ok=True)
    if source.suffix == ".json" and source.name != "tokenizer.json":
        try:
            content = json.loads(source.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{source} is damaged. Fetch or train the checkpoint again.") from error
        _write_json(target, content)
        return
    try:
        os.link(source.resolve(), target)
    except OSError:  # Another disk, or one without links.
        shutil.copyfile(source, target)


def _write_json(file: Path, content: object) -> None:
    if isinstance(content, dict):
        content = {key: value for key, value in content.items() if key not in _OF_THIS_MACHINE}
    write_json(file, content, indent=2, ensure_ascii=False)
