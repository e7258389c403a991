"""Everybody's sets: drawn one picture after the other while the page looks on, stopped, gone on with, corrected."""

from __future__ import annotations

import logging
import math
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmgen.completion import StyleSet, known_labels
from mmgen.data.draft import Pair
from mmgen.errors import UserError
from mmgen.home import home
from mmgen.models.memory import Memory
from mmgen.quota import disk_use, quota_of
from mmgen.services.drafts import DraftService
from mmgen.services.drawn_set import MAX_DRAWINGS, Drawing, DrawnSet, SetOptions
from mmgen.services.inference import InferenceService
from mmgen.services.models import DEFAULT, Models

NO_MEMORY = (
    "This model has no memory, by which it would know other things to draw in your style. Choose a model that has one, "
    "or give it one made by `python -m mmgen memory build`."
)
NO_PAIRS = "There are no pictures yet. Add some twenty of one style above, and say of each in a word what it shows."
NO_CAPTIONS = "None of your pictures has a caption. Say of each in a word what it shows."

MAX_STYLES = 2
"""Sets of pictures that are kept read."""

MAX_GROUPS = 16
"""Words by which labels are grouped."""

FEWEST = 3
"""Labels that make a group."""

_KEPT_RUNS = 256
_SMALL = frozenset("a an and at by for from in into no not of off on or over the to under up with without".split())
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelGroup:
    """Labels that have something in common.

    Attributes:
        name: a style of the memory, or a word.
        is_style: whether it is a style.
        labels: places of its labels among all that are known.
    """

    name: str
    is_style: bool
    labels: list[int]


@dataclass
class Run:
    """A drawing of what waits in a set.

    Attributes:
        stopped: set by who wants it to end.
        busy: until it has ended.
        share, words: how far reading the pictures is, None and "" once they are drawn in.
        error: why it broke off; "" if it did not.
    """

    stopped: threading.Event = field(default_factory=threading.Event)
    busy: bool = True
    share: float | None = None
    words: str = ""
    error: str = ""


class SetService:
    """Draws sets in threads of their own; an owner reaches only what is theirs. Threads may share it.

    Args:
        models: to draw with.
        drafts: whose pairs show the style.
    """

    def __init__(self, models: Models, drafts: DraftService):
        self.models, self.drafts = models, drafts
        self._runs: OrderedDict[tuple[str, str], Run] = OrderedDict()
        self._styles: OrderedDict[tuple[Any, ...], tuple[InferenceService, StyleSet]] = OrderedDict()
        self._lock, self._reading = threading.Lock(), threading.Lock()

    def drawn_set(self, owner: str, draft_id: object) -> DrawnSet:
        """The set of a draft.

        Raises:
            UserError: the owner has no such draft.
        """
        return DrawnSet(self.drafts.draft(owner, draft_id).folder.parent.parent / "sets" / str(draft_id))

    def pairs(self, owner: str, draft_id: object) -> list[Pair]:
        """The pairs that have a caption.

        Raises:
            UserError: there is no pair, or none with a caption.
        """
        if not self.drafts.has_draft(owner, draft_id):
            raise UserError(NO_PAIRS)
        pairs = self.drafts.draft(owner, draft_id).pairs
        named = [pair for pair in pairs if pair.text]
        if not named:
            raise UserError(NO_CAPTIONS if pairs else NO_PAIRS)
        return named

    def run(self, owner: str, draft_id: object) -> Run | None:
        """The last drawing of a set, if it was since the studio was started."""
        return self._runs.get((owner, str(draft_id)))

    def is_busy(self, owner: str, draft_id: object) -> bool:
        """Whether a set is being drawn."""
        run = self.run(owner, draft_id)
        return run is not None and run.busy

    def known(self, owner: str, model: object) -> tuple[list[str], list[LabelGroup]]:
        """What a model knows and can draw, and how that is grouped.

        Raises:
            UserError: there is no such model, or it has no memory.
        """
        service = self.models.asked_for(owner, model)
        if not service.has_memory:
            raise UserError(NO_MEMORY)
        labels = known_labels(service.pipe.looked_up)
        return labels, grouped(labels, service.pipe.looked_up)

    def draw(self, owner: str, draft_id: object, labels: Iterable[object], options: SetOptions) -> list[str]:
        """Ask for labels, and draw what waits.

        Returns:
            Sentences for the person on what was left out.

        Raises:
            UserError: there are no pairs, a value is out of its range, or it is more than they may have.
        """
        pairs = self.pairs(owner, draft_id)
        most = min(MAX_DRAWINGS, quota_of(owner).pairs)
        made = self._checked(owner, draft_id, options)
        notes = made.add(labels, [pair.text for pair in pairs], most)
        self._start(owner, str(draft_id))
        return notes

    def draw_again(self, owner: str, draft_id: object, options: SetOptions) -> str:
        """Draw all again that are not kept, from their seeds, such as with a model that was trained meanwhile.

        Raises:
            UserError: as `draw`, or all are kept.
        """
        self.pairs(owner, draft_id)
        count = self._checked(owner, draft_id, options).draw_again()
        if not count:
            raise UserError("There is nothing to draw again: all that there is, is kept.")
        self._start(owner, str(draft_id))
        return f"{count} {'drawing is' if count == 1 else 'drawings are'} drawn again."

    def go_on(self, owner: str, draft_id: object) -> None:
        """Draw what still waits.

        Raises:
            UserError: there are no pairs, or nothing waits.
        """
        self.pairs(owner, draft_id)
        if self.drawn_set(owner, draft_id).next_waiting() is None:
            raise UserError("There is nothing left to draw. Choose labels first.")
        self._start(owner, str(draft_id))

    def stop(self, owner: str, draft_id: object) -> None:
        """Stop after the drawing that is being made; what waits can be gone on with."""
        run = self.run(owner, draft_id)
        if run:
            run.stopped.set()

    def act(self, owner: str, draft_id: object, act: str, ids: Collection[int]) -> None:
        """Do something with drawings: `keep`, `release`, `redraw`, `back`, `plain` (without a reference) or `drop`.

        Raises:
            UserError: none is named, or there is no such act.
        """
        made = self.drawn_set(owner, draft_id)
        if not ids:
            raise UserError("No drawing is chosen. Press one or more first.")
        match act:
            case "keep" | "release":
                made.keep(ids, act == "keep")
            case "back":
                made.bring_back(ids)
            case "drop":
                made.drop(ids)
            case "redraw" | "plain":
                self.pairs(owner, draft_id)
                (made.redraw if act == "redraw" else made.forget_reference)(ids)
                self._start(owner, str(draft_id))
            case _:
                raise UserError("The page sent something else than was expected. Reload it.")

    def correct(self, owner: str, draft_id: object, id: int, image: Path | str, weight: float) -> None:
        """Draw one again by a reference, such as a sketch.

        Raises:
            UserError: it cannot be read, or the drawing is not there any more.
        """
        self.pairs(owner, draft_id)
        self.drawn_set(owner, draft_id).correct(id, image, weight)
        self._start(owner, str(draft_id))

    def _checked(self, owner: str, draft_id: object, options: SetOptions) -> DrawnSet:
        quota = quota_of(owner)
        if not math.isinf(quota.disk) and disk_use(home(owner)) >= quota.disk:
            raise UserError(f"Your {quota.disk / 1e6:,.0f} MB here are full. Drop drawings, or delete jobs or pairs.")
        self.models.find(owner, options.model)  # One that is gone says so here.
        made = self.drawn_set(owner, draft_id)
        made.set_options(options)
        return made

    def _start(self, owner: str, draft_id: str) -> None:
        """Draw what waits, unless that is done already."""
        with self._lock:
            known = self._runs.get((owner, draft_id))
            if known and known.busy and not known.stopped.is_set():
                return  # It takes what was asked for now, too.
            run = self._runs[owner, draft_id] = Run()
            self._runs.move_to_end((owner, draft_id))
            for key in [key for key, one in self._runs.items() if not one.busy][: max(0, len(self._runs) - _KEPT_RUNS)]:
                del self._runs[key]
        threading.Thread(target=self._draw, args=(run, owner, draft_id), daemon=True).start()

    def _draw(self, run: Run, owner: str, draft_id: str) -> None:
        made = self.drawn_set(owner, draft_id)
        drawn_with: SetOptions | None = None
        try:
            while True:
                with self._lock:  # So that what is asked for at the very end is not forgotten.
                    asked = None if run.stopped.is_set() else made.next_waiting()
                    if asked is None:
                        run.busy = False
                        return
                options = made.read().options
                if drawn_with is None or (options.model, options.cut_out) != (drawn_with.model, drawn_with.cut_out):
                    service, style = self._style(run, owner, draft_id, options)
                    drawn_with = options
                    made.set_notes([*self._left_out(owner, draft_id), *style.notes])
                    run.share, run.words = None, ""
                    continue  # Reading took its time: the person may want something else by now.
                self._draw_one(made, asked, options, service, style, self._name(owner, options.model))
        except UserError as error:
            run.error = str(error)
        except Exception as error:  # Whatever it is, the person is told, and what was drawn is kept.
            _log.exception("A set could not be drawn")
            run.error = f"The drawing broke off ({type(error).__name__}: {str(error)[:200]}). What was drawn is kept."
        finally:
            run.busy = False

    def _draw_one(
        self,
        made: DrawnSet,
        asked: Drawing,
        options: SetOptions,
        service: InferenceService,
        style: StyleSet,
        model: str,
    ) -> None:
        shown = made.reference(asked)
        by: dict[str, Any] = {"references": [shown], "reference_weights": [asked.weight]} if shown else {}
        one = service.draw_in(style, asked.label, asked.seed, options.truncation, **by)
        made.put(asked, one, model, len(service.pipe.looked_up))

    def _style(self, run: Run, owner: str, draft_id: str, options: SetOptions) -> tuple[InferenceService, StyleSet]:
        """The person's pictures as a style, read once for a model and a choice of pairs."""
        pairs = self.pairs(owner, draft_id)
        run.words = "Loading the model"
        service = self.models.asked_for(owner, options.model)
        shown = tuple((str(pair.path), pair.text) for pair in pairs)
        key = (id(service), owner, draft_id, options.cut_out, shown)
        with self._lock:
            found = self._styles.get(key)
        if found and found[0] is service:
            return found

        def tell(done: int, count: int) -> None:
            run.share, run.words = done / count, f"{done:,} of your {count:,} pictures read"
            if run.stopped.is_set():
                raise _Stopped("Stopped before anything was drawn. Press Go on to draw.")

        run.words = "Waiting for others, whose pictures are being read"
        with self._reading:  # One at a time, as it takes the whole processor.
            run.words = "Reading your pictures"
            style = StyleSet(
                service.pipe,
                [pair.path for pair in pairs],
                [pair.text for pair in pairs],
                cut_out=options.cut_out,
                on_picture=tell,
            )
        with self._lock:
            self._styles[key] = service, style
            while len(self._styles) > MAX_STYLES:
                self._styles.popitem(last=False)
        return service, style

    def _left_out(self, owner: str, draft_id: str) -> list[str]:
        empty = sum(not pair.text for pair in self.drafts.draft(owner, draft_id).pairs)
        if not empty:
            return []
        those = "One of your pictures has" if empty == 1 else f"{empty} of your pictures have"
        return [f"{those} no caption and {'is' if empty == 1 else 'are'} left out. Say in a word what each shows."]

    def _name(self, owner: str, model: str) -> str:
        names = {key: name for name, key in self.models.choices(owner)}
        return names.get(model, model).removesuffix(" (default)") or names[DEFAULT]


class _Stopped(UserError):
    """Somebody wanted it to end while pictures were read."""


def grouped(labels: Sequence[str], memory: Memory) -> list[LabelGroup]:
    """Styles of a memory, each with the labels it has, the largest first, and words that are in several labels.

    Args:
        labels: as `mmgen.completion.known_labels` gives them.
    """
    place = {label: number for number, label in enumerate(labels)}
    groups = []
    for style, name in enumerate(memory.config.styles):
        texts = {memory.config.texts[text] for text in memory.text[memory.style == style].tolist()}
        found = sorted(place[text] for text in texts if text in place)
        if name and len(found) >= FEWEST:
            groups.append(LabelGroup(name, True, found))
    groups.sort(key=lambda group: -len(group.labels))
    words = [{word for word in re.findall(r"\w+", label.lower()) if word not in _SMALL} for label in labels]
    counts = Counter(word for some in words for word in some if len(word) > 1)
    for word, count in counts.most_common(MAX_GROUPS):
        if count >= FEWEST:
            groups.append(LabelGroup(word, False, [number for number, some in enumerate(words) if word in some]))
    return groups
