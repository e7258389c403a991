"""What a model was trained on, in words, as a part of its checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from mmgen.data.folder import load_pairs
from mmgen.data.splits import TRAIN
from mmgen.datasets import npm, recolour, synthetic_styles
from mmgen.datasets.captions import phrase
from mmgen.datasets.emoji_languages import emoji_words
from mmgen.datasets.emoji_sets import LABELS
from mmgen.errors import UserError
from mmgen.io import replacing_folder, write_json
from mmgen.models.memory import fingerprint
from mmgen.models.vocabulary import Label, Tables, Vocabulary, term
from mmgen.parts import INDEX, PARTS
from mmgen.pipeline import MultimodalGANPipeline

MAX_LABELS = 20_000
BATCH = 64
SOURCES = (
    {
        "source": f"{LABELS.name} {LABELS.version} (https://github.com/milesj/emojibase)",
        "licence": "MIT",
        "author": "Miles Johnson",
    },
    {
        "source": "Unicode CLDR, as emojibase packs it (https://cldr.unicode.org)",
        "licence": "Unicode-3.0",
        "author": "Unicode, Inc.",
    },
)
"""Of names and words; their licences ask for their notices to be kept."""

_MADE = (recolour.GROUP, synthetic_styles.GROUP)


def build_vocabulary(data: Path, pipe: MultimodalGANPipeline, packages: Path, about: str = "") -> Vocabulary:
    """The vocabulary of a model.

    Args:
        data: what it was trained on, as `load_pairs` takes it; of the styles that the model knows by name, if it knows
            any of them.
        packages: where the archive of `emojibase-data` lies; it is fetched if it does not.

    Raises:
        UserError: the data or the package cannot be read, or holds no captions for training.
    """
    labels, words = known_words(data, list(pipe.config.styles))
    said = emoji_words(npm.fetch(LABELS, packages))
    tables = Tables(labels, words, said.english - words, said.names, said.languages)
    texts = [label.text for label in labels]
    keys = torch.cat([pipe.encode_keys(texts[at : at + BATCH]).cpu() for at in range(0, len(texts), BATCH)])
    return Vocabulary.build(tables, keys, fingerprint(pipe.text_encoder), about, SOURCES)


def known_words(data: Path, styles: list[str]) -> tuple[list[Label], set[str]]:
    """The labels that a model was trained on, without tones of skin, and all words of its captions.

    Raises:
        UserError: the data cannot be read, or holds no captions for training.
    """
    splits = load_pairs(data, need_text=False)
    if TRAIN not in splits:
        raise UserError(
            f"{data} has no split {TRAIN}, so it does not say what was learned. Give what it was trained on."
        )
    names = ("text", "captions", "label", "concept", "style", "tags", "group")
    columns = {name: splits[TRAIN][name][:] for name in names}
    rows = [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    rows = [row for row in rows if row["group"] not in _MADE and (row["text"] or row["captions"])]
    named = [row for row in rows if row["style"] in styles]
    labels: dict[str, Label] = {}
    words: set[str] = set()
    for row in named or rows:
        for caption in (row["text"], *(row["captions"] or ())):
            words.update(term(caption).split())
        label = phrase(row["concept"] or row["label"] or row["text"])
        labels.setdefault(label, Label(label, row["group"] or "", tuple(row["tags"] or ())))
    if not labels:
        raise UserError(f"{data} holds no captions for training. Give what the model was trained on.")
    return list(labels.values())[:MAX_LABELS], words


def write_vocabulary(vocabulary: Vocabulary, checkpoint: Path) -> int:
    """Put a vocabulary into a checkpoint's folder and its index; returns its bytes.

    Raises:
        UserError: the folder cannot be written.
    """
    part = PARTS["vocabulary"]
    try:
        index = json.loads((checkpoint / INDEX).read_text(encoding="utf-8"))
        with replacing_folder(checkpoint / part.name) as folder:
            vocabulary.save_pretrained(folder)
        write_json(checkpoint / INDEX, {**index, part.name: [part.module, part.kind]}, indent=2)
    except OSError as error:
        raise UserError(
            f"{checkpoint} cannot be written ({error.strerror}). Copy it to where you may write."
        ) from error
    return sum(file.stat().st_size for file in (checkpoint / part.name).iterdir())
