"""A vocabulary at a tiny size: what the tiny pipeline was trained on in words, and a few words of three languages."""

from __future__ import annotations

import torch

from mmgen.models.memory import fingerprint
from mmgen.models.vocabulary import Label, Tables, Terms, Vocabulary
from mmgen.pipeline import MultimodalGANPipeline

SOURCES = ({"source": "a list", "licence": "MIT", "author": "Ann"},)
THINGS = (
    *(("apple", "food", ("fruit",)), ("red apple", "food", ("fruit",)), ("green apple", "food", ())),
    *(("cat", "animals", ("pet", "kitten")), ("cat face", "animals", ("pet",)), ("dog", "animals", ("pet",))),
    *(("star", "shapes", ()), ("circle", "shapes", ("round thing",))),
)


def tables() -> Tables:
    """Eight things, five emoji, and words of German, Polish, Spanish and Japanese."""
    return Tables(
        labels=[Label(*thing) for thing in THINGS],
        words=set("apple red green blue cat face dog star circle fruit pet kitten hat beautiful".split()),
        english={"elephant", "unicorn"},
        emoji={
            "\U0001f431": "cat face",
            "\U0001f436": "dog face",
            "\u2665": "heart suit",
            "#\u20e3": "keycap #",
            "\U0001f1ef\U0001f1f5": "flag of Japan",
            "\U0001f469\u200d\U0001f692": "woman firefighter",
            "\U0001f469\U0001f3fd\u200d\U0001f692": "woman firefighter with medium skin",
            "\U0001f692": "fire engine",
            "\U0001f469": "woman",
        },
        languages={
            "de": Terms(
                {"katze": "cat", "hund": "dog", "roter apfel": "red apple", "hut": "hat", "stern": "star"},
                {
                    "rote": "red",
                    "mit": "with",
                    "ein": "a",
                    "eine": "a",
                    "die": "the",
                    "kot": "pile of poo",
                    "apfel": "apple",
                },
            ),
            "pl": Terms({"kot": "cat"}, {}),
            "es": Terms({"gato": "cat"}, {"un": "a", "rojo": "red"}),
            "ja": Terms({"猫": "cat", "青い星": "blue star"}, {}),
            "ko": Terms({"고양이": "cat"}, {}),
        },
    )


def vocabulary_for(pipe: MultimodalGANPipeline) -> Vocabulary:
    """The tables with the keys of a pipeline."""
    keys = pipe.encode_keys([text for text, *_ in THINGS])
    return Vocabulary.build(tables(), keys, fingerprint(pipe.text_encoder), "an apple artist", SOURCES)


def wordy(pipe: MultimodalGANPipeline) -> MultimodalGANPipeline:
    """The same pipeline with that vocabulary."""
    torch.manual_seed(0)
    return MultimodalGANPipeline(
        **{**pipe.components, "vocabulary": vocabulary_for(pipe)}, styles=list(pipe.config.styles)
    )
