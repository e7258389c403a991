"""What a model knows in words, for the page: the list of it, and how a prompt was read while it is typed."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from mmgen.errors import UserError
from mmgen.models.memory import fingerprint
from mmgen.models.vocabulary import FAR, NEAR, Vocabulary
from mmgen.services.inference import ANY_STYLE, GenerationRequest, InferenceService

MAX_FAR = 3
"""Words that are told of at once."""

MAX_LOOKED_AT = 12
"""Unknown words of a prompt that are looked at; a long text in no language has hundreds."""

MAX_THUMBNAILS = 6
"""Of one request, so that whoever draws beside is never kept waiting for long."""


_COMPARABLE: WeakKeyDictionary[InferenceService, bool] = WeakKeyDictionary()
"""Whether the keys of a model's labels are those of its text encoder, which takes a while to find out."""


def vocabulary_of(service: InferenceService) -> Vocabulary | None:
    """What the model of a service knows in words, if it says so."""
    return service.pipe.vocabulary


def summary(service: InferenceService) -> dict[str, Any] | None:
    """What the model is, and how many things it knows; None where it does not say."""
    vocabulary = vocabulary_of(service)
    if vocabulary is None or not vocabulary.tables.labels:
        return None
    return {"about": vocabulary.config.about, "count": len(vocabulary.tables.labels), "styles": len(service.styles)}


def listing(service: InferenceService) -> dict[str, Any]:
    """All that the model knows: groups by name, and labels as (text, number of its group, tags)."""
    vocabulary = vocabulary_of(service)
    labels = vocabulary.tables.labels if vocabulary else []
    groups = sorted({label.group for label in labels})
    return {
        "groups": groups,
        "labels": [[label.text, groups.index(label.group), list(label.tags)] for label in labels],
    }


def told_of_prompt(service: InferenceService, prompt: object) -> dict[str, Any]:
    """How a prompt was read, and which of its words are far from all that the model was trained on.

    Returns:
        `read_as`, "" where the prompt was taken as it is; `unread`, sentences; and `far`, each with its `word`, the
        nearest known `thing` or "", and whether it seems to be a `slip` of the pen.
    """
    vocabulary = vocabulary_of(service)
    if vocabulary is None or not isinstance(prompt, str):
        return {"read_as": "", "unread": [], "far": []}
    words, unread = service.read(GenerationRequest(prompt, ANY_STYLE))
    changed = words != GenerationRequest(prompt, ANY_STYLE).words
    return {"read_as": words if changed else "", "unread": list(unread), "far": _far(service, vocabulary, words)}


def thumbnails(service: InferenceService, labels: object, style: object) -> dict[str, str]:
    """Small pictures of labels that the model knows, at most `MAX_THUMBNAILS`, in a style that it knows, or any."""
    vocabulary = vocabulary_of(service)
    if vocabulary is None or not isinstance(labels, list):
        return {}
    known = {label.text for label in vocabulary.tables.labels}
    asked = [label for label in labels if isinstance(label, str) and label in known]
    chosen = style if isinstance(style, str) and style in service.styles else ANY_STYLE
    made = {}
    for label in asked[:MAX_THUMBNAILS]:
        try:
            made[label] = service.small(label, chosen)
        except UserError:  # A label that the model cannot read has no picture.
            continue
    return made


def _far(service: InferenceService, vocabulary: Vocabulary, words: str) -> list[dict[str, Any]]:
    told = []
    unknown = vocabulary.far_words(words, service.styles)[:MAX_LOOKED_AT]
    if unknown and service not in _COMPARABLE:
        _COMPARABLE[service] = vocabulary.config.text_encoder_hash == fingerprint(service.pipe.text_encoder)
    for word in unknown:
        slip = None if service.pipe.knows_word(word) else vocabulary.nearest_spelling(word)
        near = vocabulary.nearest_labels(service.key(word)[None]) if _COMPARABLE[service] else []
        label, likeness = near[0] if near else (None, 0.0)
        if slip is None and likeness >= NEAR:
            continue
        thing = slip or (label.text if label and likeness >= FAR else "")
        told.append({"word": word, "thing": thing, "slip": slip is not None})
    return told[:MAX_FAR]
