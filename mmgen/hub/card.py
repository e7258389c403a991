"""The card of a published checkpoint, filled in from what lies in its folder."""

from __future__ import annotations

import csv
import html
import json
import math
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from huggingface_hub import CardData, RepoCard
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from safetensors import safe_open

from mmgen.data.words import decode
from mmgen.errors import UserError
from mmgen.hub.licences import OTHER, strictest
from mmgen.loading.index import read_index
from mmgen.parts import EVALUATION, INDEX, PARTS, SAMPLES, TRAINING_LOG

TAGS = ("text-to-image", "gan", "mmgen")
_MARK = "<!-- From here on written by `python -m mmgen publish`, anew each time. -->"
_FIRST_LINE = re.compile(r"\A---[ \t]+(?=\r?\n)")  # Spaces in it are more than the Hub's client takes.
_IMAGE = re.compile(r"!\[[^\]\n]*\]\(([\w][\w. -]*\.(?:png|jpe?g|webp))\)")
_ROWS = 6
_MAX_SOURCES = 200


def card(checkpoint: Path, name: str, image_size: int, styles: list[str], captions: list[str], base: str = "") -> str:
    """README.md with its metadata. A card that the checkpoint brings is kept, and what it lacks is added.

    Args:
        name: `user/name` on the Hub.
        image_size: side of the pictures in pixels.
        captions: of `SAMPLES`, in its order; none if there is no such picture.
        base: the card of the model that it was fine-tuned from, if that is known.

    Raises:
        UserError: a card, training.json or evaluation.json in the checkpoint is damaged.
    """
    metadata, brought = _brought(checkpoint / "README.md")
    training = read_description(checkpoint / "training.json")
    tags = metadata.get("tags") or []
    tags = tags if isinstance(tags, list) else [tags]
    metadata = {"library_name": "diffusers", "pipeline_tag": "text-to-image", **metadata}
    metadata["tags"] = list(dict.fromkeys([*TAGS, *tags]))
    origins = _origins(checkpoint)
    # What a model was fine-tuned on is under licences that nobody knows here.
    default = OTHER if training or not origins else strictest(origin["licence"] for origin, _ in origins)
    named = metadata.setdefault("license", default)
    if origins:
        metadata["license"] = strictest(
            [*map(str, named if isinstance(named, list) else [named]), *(origin["licence"] for origin, _ in origins)]
        )
    if re.fullmatch(r"[\w.-]+/[\w.-]+", str(training.get("base", ""))):
        metadata.setdefault("base_model", training["base"])
    sections = [_MARK]
    if not brought:
        sections += [_introduction(name, image_size, styles), _samples(captions)]
    sections.append(_loading(name))
    if brought:
        sections.append(_samples(captions))
    else:
        sections += [_parts(checkpoint), _data(training, base), _training(checkpoint, training)]
    sections.append(_memory(origins, str(metadata["license"])))
    sections.append(_vocabulary(checkpoint))
    sections.append(_evaluation(read_description(checkpoint / EVALUATION)))
    return with_metadata(metadata, "\n\n".join(filter(None, [brought, *sections])))


def with_metadata(metadata: dict[str, Any], text: str) -> str:
    """A card of the Hub: its metadata as YAML, and its text."""
    return f"---\n{CardData(**metadata).to_yaml()}\n---\n\n{text}\n"


def images_of(text: str) -> list[str]:
    """The pictures beside a card that it shows, by name."""
    return list(dict.fromkeys(_IMAGE.findall(text)))


def read_description(file: Path) -> dict:
    """A JSON file beside the parts; empty if it is not there.

    Raises:
        UserError: it is damaged.
    """
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("no names and values")
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is damaged. Write it anew, or delete it.") from error
    return content


def _brought(file: Path) -> tuple[dict, str]:
    """Metadata and text of a card, without what an earlier `publish` wrote."""
    if not file.is_file():
        return {}, ""
    try:
        content = _FIRST_LINE.sub("---", decode(file.read_bytes())[0])
        metadata, text = {}, content
        if REGEX_YAML_BLOCK.search(content):
            found = RepoCard(content)  # Not ModelCard, which changes what it reads, such as evaluation results.
            metadata, text = found.data.to_dict(), found.text
    except (OSError, TypeError, ValueError, yaml.YAMLError) as error:  # Names that are no strings are a TypeError.
        raise UserError(f"The head of {file} is damaged. Mend what stands between its lines of ---.") from error
    return metadata, text.partition(_MARK)[0].strip()


def _introduction(name: str, image_size: int, styles: list[str]) -> str:
    known = f" It knows these styles by name: {', '.join(map(_plain, styles))}." if styles else ""
    return (
        f"# {name.partition('/')[2]}\n\n"
        f"A GAN that draws {image_size}x{image_size} pictures with transparency from words and up to four reference "
        f"pictures, in one forward pass.{known} Made with mmgen."
    )


def _samples(captions: list[str]) -> str:
    if not captions:
        return ""
    lines = [f"{number}. {_plain(caption)}" for number, caption in enumerate(captions, start=1)]
    return (
        f"## Samples\n\n![Pictures of {len(captions)} captions]({SAMPLES})\n\n"
        "Captions it was trained on, row by row, each drawn once, from seed 0:\n\n" + "\n".join(lines)
    )


def _loading(name: str) -> str:
    versions = " and ".join(f"{package} {version(package)}" for package in ("diffusers", "transformers"))
    return f"""## Load it

With mmgen, which runs no code that comes with a model:

```python
from mmgen import MultimodalGANPipeline

pipe = MultimodalGANPipeline.from_pretrained("{name}")
pipe("a red apple", seed=1).images[0].save("apple.png")
```

```bash
python -m mmgen generate "a red apple" --checkpoint {name} --output apple.png
```

Without mmgen, by the code beside the weights, which `trust_remote_code` allows to run (published with {versions}):

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("{name}", trust_remote_code=True)
pipe("a red apple", seed=1).images[0].save("apple.png")
```

Both draw the same picture from the same seed."""


def _parts(checkpoint: Path) -> str:
    lines = ["## Parts", "", "| part | what | parameters | stored as |", "|---|---|---|---|"]
    classes = read_index(checkpoint / INDEX, checkpoint.name).classes
    for name, part in PARTS.items():
        if not (part.weights and name in classes):
            continue
        with safe_open(part.folder(checkpoint) / part.weights, "pt") as weights:
            slices = [weights.get_slice(key) for key in weights.keys()]
        count = sum(math.prod(piece.get_shape()) for piece in slices)
        kinds = "/".join(sorted({piece.get_dtype() for piece in slices if piece.get_dtype().startswith(("F", "BF"))}))
        lines.append(f"| `{name}` | {classes[name]} | {count:,} | {kinds} |")
    return "\n".join(lines)


def _origins(checkpoint: Path) -> list[tuple[dict[str, str], int]]:
    """The sources of the memory's entries, with how many come from each, the most first; none without a memory."""
    home = checkpoint / "memory"
    file = home / PARTS["memory"].weights
    if not file.is_file():
        return []
    sources = json.loads((home / "config.json").read_text(encoding="utf-8")).get("sources", [])
    with safe_open(file, "np") as weights:
        counts = np.bincount(weights.get_tensor("source"), minlength=len(sources)).tolist()
    return sorted(((origin, n) for origin, n in zip(sources, counts, strict=True) if n), key=lambda row: -row[1])


def _memory(origins: list[tuple[dict[str, str], int]], licence: str) -> str:
    if not origins:
        return ""
    total = sum(count for _, count in origins)
    names = ("source", "licence", "author")
    rows = [
        f"| {count:,} | {' | '.join(_plain(origin[name]) or 'not given' for name in names)} |"
        for origin, count in origins[:_MAX_SOURCES]
    ]
    if len(origins) > _MAX_SOURCES:
        rows.append(
            f"| {sum(count for _, count in origins[_MAX_SOURCES:]):,} | {len(origins) - _MAX_SOURCES} more | | |"
        )
    why = (
        "They do not all ask for what one licence would, or one of them is not known, so the licence of this model is "
        "given as *other*: each picture's own holds."
        if licence == OTHER
        else f"The licence of this model is given as *{licence}*, the strictest of them and of its weights'."
    )
    table = "\n".join(["| pictures | source | licence | author |", "|---|---|---|---|", *rows])
    return (
        f"## What it remembers\n\nThe memory holds {total:,} pictures as quantised latents, and a drawing may copy "
        f"parts of them; `drawn_from` names those that a drawing leaned on, with source, licence and author. {why}"
        f"\n\n{table}"
    )


def _vocabulary(checkpoint: Path) -> str:
    """Where the words come from by which prompts are read."""
    file = checkpoint / "vocabulary" / "config.json"
    sources = json.loads(file.read_text(encoding="utf-8")).get("sources", []) if file.is_file() else []
    if not sources:
        return ""
    names = ("source", "licence", "author")
    rows = [f"| {' | '.join(_plain(str(one.get(name) or 'not given')) for name in names)} |" for one in sources]
    table = "\n".join(["| source | licence | author |", "|---|---|---|", *rows])
    return (
        f"## What it reads\n\nEmoji and words of other languages are read as English words, by names from:\n\n{table}"
    )


def _data(training: dict, base: str) -> str:
    text = "## Data and licences\n\n"
    if not training:
        return text + "What this model was trained on is not written in its checkpoint."
    text += f"Fine-tuned from {_plain(str(training.get('base') or 'another model'))}"
    if "pictures" in training:
        text += f" on {_plain(str(training['pictures']))} pictures, whose licence is not written in the checkpoint"
    found = re.search(r"^## Data[^\n]*\n+(.*?)(?=^## |\Z)", base, re.MULTILINE | re.DOTALL)
    return text + "." + (f" Of its base:\n\n{found[1].strip()}" if found else "")


def _training(checkpoint: Path, training: dict) -> str:
    lines = [f"| {_plain(str(key))} | {_plain(str(value))} |" for key, value in training.items() if _is_figure(value)]
    tables = ["\n".join(["| | |", "|---|---|", *lines])] if lines else []
    file = checkpoint / TRAINING_LOG
    if file.is_file():
        with file.open(encoding="utf-8", errors="replace", newline="") as log:
            rows = [row for row in csv.reader(log) if row]
        if len(rows) > 1 and all(len(row) == len(rows[0]) for row in rows):
            columns = [index for index, title in enumerate(rows[0]) if title != "time"]
            last = len(rows) - 1
            chosen = sorted({1 + round(i * (last - 1) / (_ROWS - 1)) for i in range(_ROWS)})
            shown = [[_plain(rows[number][index]) for index in columns] for number in (0, *chosen)]
            shown.insert(1, ["---"] * len(columns))
            tables.append("\n".join(f"| {' | '.join(row)} |" for row in shown) + f"\n\nAll of it is in `{file.name}`.")
    return "\n\n".join(["## Training", *tables]) if tables else ""


def _is_figure(value: object) -> bool:
    return isinstance(value, (str, int, float, bool))


def _evaluation(report: dict) -> str:
    if not report:
        return ""
    from mmgen.evaluation.report import table

    try:
        judge = _plain(str(report["judge"]))
        second = f", the second {_plain(str(report['second_judge']))}" if "second_judge" in report else ""
        return f"## Evaluation\n\nBy `python -m mmgen evaluate`; the judge is {judge}{second}.\n\n{table(report)}"
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{EVALUATION} is not what `mmgen evaluate --json` writes. Write it anew.") from error


def _plain(text: str) -> str:
    """A text as Markdown that shows it as it is, in one line."""
    return re.sub(r"([\\`*_\[\]#|~]|^[-+])", r"\\\1", html.escape(" ".join(text.split()), quote=False))
