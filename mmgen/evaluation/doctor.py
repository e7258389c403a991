"""The pair doctor: looks at a draft with the model's own networks and says what will train badly, and what helps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mmgen.data.draft import Draft, Pair
from mmgen.errors import UserError
from mmgen.evaluation.doctor_captions import Reading, read_captions
from mmgen.evaluation.doctor_compare import caption_outliers, find_copies
from mmgen.evaluation.doctor_measure import content_keys, measure_captions, measure_images, measure_restored
from mmgen.models.autoencoder import GOOD_PSNR
from mmgen.models.encoders import MAX_PROMPT_TOKENS
from mmgen.pipeline import MultimodalGANPipeline

TINY = 64
FEW = 5

Progress = Callable[[float, str], None]

_OF_ONE = {
    "unreadable": "The picture cannot be read any more.",
    "tiny": f"Smaller than {TINY} pixels.",
    "huge": "Scaled down, as the model needs no more.",
    "duplicate": "Nearly the same picture as {partner}.",
    "empty": "No caption: learned from the picture alone.",
    "long": f"Only the first {MAX_PROMPT_TOKENS - 2} word pieces of the caption are read.",
    "other_language": "The caption is in letters that the model does not know.",
    "same_caption": "Another picture has the same caption.",
    "stray": "The caption may belong to another picture.",
    "poor_reconstruction": "Fine detail is lost in the image decoder.",
}
_ERRORS, _REMARKS = {"unreadable"}, {"huge", "poor_reconstruction"}


@dataclass(frozen=True)
class Finding:
    """Something about a draft.

    Attributes:
        kind: `unreadable`, `tiny`, `huge`, `duplicate`, `empty`, `long`, `other_language`, `same_caption`, `stray`,
            `poor_reconstruction`, `few` or `one`.
        names: the pairs it is about; of duplicates the copies; none if it is about the draft as a whole.
        sentence: for the person.
        remedy: the label of the button that mends it, or None.
        partners: for duplicates, the image that each is a copy of.
        captions: for captions that are too long, what would be left of each.
    """

    kind: str
    names: list[str]
    sentence: str
    remedy: str | None = None
    partners: dict[str, str] = field(default_factory=dict)
    captions: dict[str, str] = field(default_factory=dict)


@dataclass
class Embeddings:
    """Of images by pair name, float32 [D]; of captions that are not empty by their text, float32 [W], of length 1."""

    images: dict[str, np.ndarray] = field(default_factory=dict)
    captions: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass
class Examination:
    """What was found in a draft, the gravest first, and what it was found from."""

    findings: list[Finding]
    embeddings: Embeddings

    def __post_init__(self) -> None:
        self._of: defaultdict[str, list[Finding]] = defaultdict(list)
        for finding in self.findings:
            for name in finding.names:
                self._of[name].append(finding)

    def problems(self, name: str) -> list[str]:
        """Short sentences about one pair."""
        return [_OF_ONE[found.kind].format(partner=found.partners.get(name)) for found in self._of.get(name, ())]

    def worst(self, name: str) -> str:
        """`error` if a pair cannot be trained on, `warning` if it should be looked at, else `ok`."""
        kinds = {finding.kind for finding in self._of.get(name, ())} - _REMARKS
        return "error" if kinds & _ERRORS else "warning" if kinds else "ok"


def examine(draft: Draft, pipe: MultimodalGANPipeline, on_progress: Progress | None = None) -> Examination:
    """Look at all pairs of a draft. What was measured is kept in its folder, so a second look after an edit is quick.

    Args:
        on_progress: takes how much is done, 0 to 1, and what is being done, in words.
    """
    tell = on_progress or (lambda share, words: None)
    pairs, folder = draft.pairs, draft.folder / "measured"
    keys = content_keys(pairs, folder)
    features, looks = measure_images(pairs, keys, pipe, folder, _part(tell, 0.0, 0.6))
    readable = [pair for pair in pairs if pair.name in features]
    texts = [pair.text for pair in readable]
    captions = measure_captions(texts, pipe, folder, _part(tell, 0.6, 0.75))
    restored = measure_restored(readable, keys, pipe, folder, _part(tell, 0.75, 1.0))
    readings = read_captions(texts, pipe.tokenizer)
    copies = _copies(readable, features, looks)
    distinct = [pair for pair in readable if pair.name not in copies]
    found = [
        _unreadable([pair.name for pair in pairs if pair.name not in features]),
        _duplicates(copies),
        _caption_outliers(distinct, features, captions),
        *_captions(readable, readings),
        _same_captions(distinct),
        _tiny([pair.name for pair in readable if looks[pair.name][:2].max() < TINY]),
        _few(len(readable)),
        _poor(restored, len(readable)),
        _huge(readable),
    ]
    tell(1.0, "Done")
    return Examination([finding for finding in found if finding], Embeddings(features, captions))


def apply_fix(draft: Draft, finding: Finding) -> None:
    """Do what a finding's button says; pairs that were changed or removed since are left alone.

    Raises:
        UserError: the finding has no remedy.
    """
    if finding.kind == "duplicate":
        draft.merge(finding.partners)
    elif finding.kind == "long":
        now = {pair.name: pair.text for pair in draft.pairs}
        same = {name: cut for name, cut in finding.captions.items() if now.get(name, "").startswith(cut)}
        draft.set_captions(same, machine_written=None)
    elif finding.remedy:
        draft.remove(finding.names)
    else:
        raise UserError("This cannot be mended by itself. Look at the pairs that are named and change them.")


def _part(tell: Progress, start: float, end: float) -> Progress:
    return lambda share, words: tell(start + share * (end - start), words)


def _copies(pairs: list[Pair], features: dict[str, np.ndarray], looks: dict[str, np.ndarray]) -> dict[str, str]:
    if len(pairs) < 2:
        return {}
    look = np.stack([looks[pair.name] for pair in pairs])
    # An image that was scaled down on its way in counts with the size it came in.
    sizes = np.array([pair.scaled_from or tuple(row[:2]) for pair, row in zip(pairs, look, strict=True)], dtype=float)
    copies = find_copies(np.stack([features[pair.name] for pair in pairs]), look[:, 2:], sizes)
    return {pairs[copy].name: pairs[kept].name for copy, kept in sorted(copies.items())}


def _unreadable(names: list[str]) -> Finding | None:
    if names:
        sentence = f"{_images(names)} cannot be read any more: {_list(names)}."
        return Finding("unreadable", names, sentence, "Remove them")
    return None


def _duplicates(copies: dict[str, str]) -> Finding | None:
    if copies:
        examples = _list([f"{copy} of {kept}" for copy, kept in copies.items()])
        has = "is nearly a copy of another" if len(copies) == 1 else "are nearly copies of others"
        sentence = f"{_images(copies)} {has}, and would count double: {examples}."
        return Finding("duplicate", list(copies), sentence, "Keep the largest of each", partners=copies)
    return None


def _caption_outliers(
    pairs: list[Pair], features: dict[str, np.ndarray], captions: dict[str, np.ndarray]
) -> Finding | None:
    told = [pair for pair in pairs if pair.text in captions]
    if not told:
        return None
    images = np.stack([features[pair.name] for pair in told])
    odd = caption_outliers(images, np.stack([captions[pair.text] for pair in told]))
    names = [told[number].name for number in odd]
    if names:
        them = "it" if len(names) == 1 else "them"
        sentence = f"{_images(names)} may have the caption of another, as pictures like {them} are called otherwise: "
        return Finding("stray", names, f"{sentence}{_list(names)}. See whether they are right.")
    return None


def _captions(pairs: list[Pair], readings: dict[str, Reading]) -> list[Finding]:
    found = []
    if names := [pair.name for pair in pairs if not pair.text and not pair.others]:
        has = "has no caption and is" if len(names) == 1 else "have no caption and are"
        found.append(Finding("empty", names, f"{_images(names)} {has} learned from the picture alone: {_list(names)}."))
    if names := [pair.name for pair in pairs if pair.text and readings[pair.text].foreign]:
        sentence = (
            f"{_count(names, 'caption')} in letters that the model does not know count for little: {_list(names)}. "
            "Write them in the language of the model, which is English by default."
        )
        found.append(Finding("other_language", names, sentence))
    if cuts := {pair.name: cut for pair in pairs if pair.text and (cut := readings[pair.text].cut) is not None}:
        count = f"first {MAX_PROMPT_TOKENS - 2} word pieces"
        sentence = f"Of {_count(cuts, 'caption')} only the {count} are read: {_list(list(cuts))}."
        found.append(Finding("long", list(cuts), sentence, "Cut them", captions=cuts))
    return found


def _same_captions(pairs: list[Pair]) -> Finding | None:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        if pair.text:
            groups[" ".join(pair.text.casefold().split())].append(pair.name)
    names = [name for group in groups.values() if len(group) > 1 for name in group]
    if names:
        sentence = f"{_images(names)} have a caption that others have too, so words cannot tell them apart: "
        return Finding("same_caption", names, f"{sentence}{_list(names)}.")
    return None


def _tiny(names: list[str]) -> Finding | None:
    if names:
        has = "is" if len(names) == 1 else "are"
        sentence = f"{_images(names)} {has} smaller than {TINY} pixels and will look blurred: {_list(names)}."
        return Finding("tiny", names, sentence, "Remove them")
    return None


def _huge(pairs: list[Pair]) -> Finding | None:
    names = [pair.name for pair in pairs if pair.scaled_from]
    if names:
        was = "was" if len(names) == 1 else "were"
        sentence = f"{_images(names)} {was} scaled down, as the model needs no more: {_list(names)}."
        return Finding("huge", names, sentence)
    return None


def _few(count: int) -> Finding | None:
    if count == 0:
        return Finding("few", [], "There are no pairs to train on yet. Add some pictures.")
    if count == 1:
        return Finding("one", [], "There is one pair, which is enough to learn one picture. Add more for variety.")
    if count < FEW:
        return Finding(
            "few", [], f"There are only {count} pairs: the model will learn them by heart. Ten or more vary."
        )
    return None


def _poor(restored: dict[str, float], count: int) -> Finding | None:
    names = [name for name, psnr in restored.items() if psnr < GOOD_PSNR]
    if names and sum(restored.values()) / len(restored) < GOOD_PSNR:  # About as fine-tuning decides it.
        of = f" of {len(restored)} that were tried" if len(restored) < count else ""
        loses = "loses" if len(names) == 1 else "lose"
        sentence = f"{_images(names)}{of} {loses} detail in the image decoder, which is then tuned too: {_list(names)}."
        return Finding("poor_reconstruction", names, sentence)
    return None


def _images(names: Sequence[str] | dict) -> str:
    return _count(names, "picture")


def _count(names: Sequence[str] | dict, what: str) -> str:
    return f"1 {what}" if len(names) == 1 else f"{len(names):,} {what}s"


def _list(names: list[str], most: int = 3) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown
