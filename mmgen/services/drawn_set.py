"""A person's set while it is being drawn: what was asked for and what came of it, whole on the disk at every moment.

The folder holds `set.json`, `pictures/` with a PNG for each drawing, which says in its text chunks what it was made
from, and `references/` with what single ones were corrected by.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from PIL import Image

from mmgen.completion import Completed
from mmgen.data.intake import disk_errors_told
from mmgen.errors import UserError
from mmgen.images import open_image, save_png
from mmgen.io import read_json, write_json
from mmgen.pipeline import MAX_SEED
from mmgen.services.completed_set import leaned_on, plain

STATE = "set.json"
MAX_LABEL = 200
"""Letters of a label."""

MAX_DRAWINGS = 5000
"""In one set."""

_REFERENCE_SIDE = 1024
_LOCKS: defaultdict[Path, threading.RLock] = defaultdict(threading.RLock)


@dataclass(frozen=True)
class SetOptions:
    """How a set is drawn.

    Attributes:
        model: one of the choices of `mmgen.services.models.Models`.
        cut_out: whether the even ground of the person's pictures is made transparent.
        seed: of a label that is asked for the first time.
        truncation: 0 (the mean style) to 1 (all variety).
    """

    model: str = ""
    cut_out: bool = False
    seed: int = 0
    truncation: float = 1.0

    def check(self) -> None:
        """Raise a `UserError` for the first value that is missing or out of its range."""
        if not isinstance(self.model, str):
            raise UserError("The model must be named by a text.")
        if not isinstance(self.cut_out, bool):
            raise UserError("Say whether to cut out by true or false.")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or not 0 <= self.seed <= MAX_SEED:
            raise UserError(f"The seed is {str(self.seed)[:40] or 'empty'}; give a whole number from 0 to {MAX_SEED}.")
        number = isinstance(self.truncation, (int, float)) and not isinstance(self.truncation, bool)
        if not number or not 0 <= self.truncation <= 1:
            raise UserError(f"The truncation is {str(self.truncation)[:40]}; give a number from 0 to 1.")


@dataclass(frozen=True)
class Drawing:
    """One thing of the set.

    Attributes:
        id: stays the same, and is there once in the set.
        seed: that it is drawn from, or is to be while it is `waiting`.
        waiting: to be drawn, or drawn again.
        urgent: somebody waits for this one.
        kept: not drawn again with all others.
        file: in `pictures/`; "" until it is drawn.
        before: the file that it had before, to be brought back.
        model: name of the model that drew it.
        reference: file in `references/` that it is drawn by; "" without one. weight: of it, 0 to 2.
        note: a sentence for the person.
    """

    id: int
    label: str
    seed: int
    waiting: bool = True
    urgent: bool = False
    kept: bool = False
    file: str = ""
    before: str = ""
    model: str = ""
    reference: str = ""
    weight: float = 1.0
    note: str = ""


@dataclass
class SetState:
    """Attributes:
    drawings: in the order in which they were asked for.
    notes: sentences on the person's pictures, as they were when the set was last drawn.
    """

    drawings: list[Drawing] = field(default_factory=list)
    options: SetOptions = SetOptions()
    notes: list[str] = field(default_factory=list)

    @property
    def waiting(self) -> list[Drawing]:
        """Those to be drawn, the urgent ones first."""
        return sorted((one for one in self.drawings if one.waiting), key=lambda one: not one.urgent)

    @property
    def drawn(self) -> list[Drawing]:
        """Those that there is a picture of."""
        return [one for one in self.drawings if one.file]


class DrawnSet:
    """The set in a folder, made if it is not there. Threads of one process may share the folder.

    Raises:
        UserError: from every method, if the disk is full or cannot be read or written.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock = _LOCKS[folder]

    @property
    def revision(self) -> int:
        """Another one after each change; 0 if nothing was ever asked for."""
        try:
            return (self.folder / STATE).stat().st_mtime_ns
        except OSError:
            return 0

    def read(self) -> SetState:
        """The set as it is now; what cannot be read counts as not asked for."""
        found = read_json(self.folder / STATE)
        drawings = [made for row in _listed(found.get("drawings")) if (made := _made(Drawing, row))]
        options = _made(SetOptions, found.get("options")) or SetOptions()
        return SetState(drawings, options, [str(one) for one in _listed(found.get("notes"))])

    def path(self, drawing: Drawing) -> Path:
        """The PNG of what is drawn."""
        return self.folder / "pictures" / drawing.file

    def reference(self, drawing: Drawing) -> Path | None:
        """What it is corrected by."""
        return self.folder / "references" / drawing.reference if drawing.reference else None

    def set_options(self, options: SetOptions) -> None:
        """Draw otherwise from now on.

        Raises:
            UserError: a value is missing or out of its range.
        """
        options.check()
        with self._change() as state:
            state.options = options

    def set_notes(self, notes: Sequence[str]) -> None:
        """Keep what was said of the person's pictures."""
        with self._change() as state:
            state.notes = list(notes)

    def add(self, labels: Iterable[object], own: Collection[str], most: float = MAX_DRAWINGS) -> list[str]:
        """Ask for labels. What is there already, twice or the person's own is left out.

        Args:
            own: captions of the person's pictures.
            most: drawings that there may be.

        Returns:
            Sentences for the person on what was left out.

        Raises:
            UserError: none is a text, one is too long, or they are too many; then nothing has changed.
        """
        wanted = [" ".join(label.split()) for label in labels if isinstance(label, str) and label.strip()]
        if not wanted:
            raise UserError("There are no labels to draw. Choose some, or write what is missing from your set.")
        long = next((label for label in wanted if len(label) > MAX_LABEL), None)
        if long:
            raise UserError(f'"{long[:40]}..." has {len(long)} letters. Name a thing in {MAX_LABEL} or fewer.')
        theirs = {plain(words) for words in own}
        with self._change() as state:
            known = {plain(one.label) for one in state.drawings}
            new, twice, mine = [], [], []
            for label in wanted:
                if plain(label) in theirs:
                    mine.append(label)
                elif plain(label) in known:
                    twice.append(label)
                else:
                    known.add(plain(label))
                    new.append(label)
            count = len(state.drawings) + len(new)
            if count > most:
                raise UserError(
                    f"With these the set would have {count:,} drawings; it may have {most:,.0f} here. Choose fewer, or "
                    "drop some first."
                )
            first = max((one.id for one in state.drawings), default=-1) + 1
            state.drawings += [Drawing(first + n, label, state.options.seed) for n, label in enumerate(new)]
        notes = []
        if mine:
            notes.append(f"{_named(mine)} {_are(mine)} among your own pictures and {_are(mine)} not drawn.")
        if twice:
            notes.append(
                f"{_named(twice)} {_are(twice)} in the set already and {_are(twice)} drawn once. Draw it again there "
                "for another one."
            )
        return notes

    def keep(self, ids: Collection[int], kept: bool) -> None:
        """Keep drawings as they are when all others are drawn again, or do not."""
        self._each(ids, lambda one: replace(one, kept=kept and bool(one.file)))

    def redraw(self, ids: Collection[int]) -> None:
        """Draw some again, each from another seed."""
        self._each(
            ids, lambda one: replace(one, seed=secrets.randbelow(MAX_SEED + 1), waiting=True, urgent=True, kept=False)
        )

    def draw_again(self) -> int:
        """Draw all again that are not kept, from their seeds, such as with another model; how many that are."""
        with self._change() as state:
            again = [one.id for one in state.drawings if not one.kept]
            state.drawings = [replace(one, waiting=one.waiting or not one.kept) for one in state.drawings]
        return len(again)

    def correct(self, id: int, image: Path | str | bytes, weight: float = 1.0) -> None:
        """Draw one again by a picture of what it is to be like, such as a sketch.

        Args:
            weight: 0 to 2.

        Raises:
            UserError: the picture cannot be read, the weight is out of its range, or the drawing is not there any more.
        """
        if not isinstance(weight, (int, float)) or isinstance(weight, bool) or not 0 <= weight <= 2:
            raise UserError(f"The weight is {str(weight)[:40]}; give a number from 0 to 2.")
        shown = open_image(image, "Your reference" if isinstance(image, bytes) else None)
        shown.thumbnail((_REFERENCE_SIDE, _REFERENCE_SIDE))
        if id not in {one.id for one in self.read().drawings}:
            raise UserError("This drawing is not there any more. Choose another to correct.")
        name = f"{id}-{secrets.token_hex(4)}.png"
        with disk_errors_told():
            (self.folder / "references").mkdir(parents=True, exist_ok=True)
        save_png(shown, self.folder / "references" / name, {})
        self._each(
            [id],
            lambda one: replace(one, reference=name, weight=float(weight), waiting=True, urgent=True, kept=False),
        )

    def forget_reference(self, ids: Collection[int]) -> None:
        """Draw some again without what they were corrected by."""
        self._each(ids, lambda one: replace(one, reference="", waiting=True, urgent=True) if one.reference else one)

    def bring_back(self, ids: Collection[int]) -> None:
        """Let some be as they were before they were last drawn; done again it takes that back."""

        def swapped(one: Drawing) -> Drawing:
            if not one.before:
                return replace(one, waiting=False) if one.file else one
            told = drawn_by(self.folder / "pictures" / one.before)
            seed, model = int(told.get("seed", one.seed)), str(told.get("model", one.model))
            return replace(one, file=one.before, before=one.file, seed=seed, model=model, waiting=False)

        self._each(ids, swapped)

    def drop(self, ids: Collection[int]) -> None:
        """Take some out of the set."""
        with self._change() as state:
            state.drawings = [one for one in state.drawings if one.id not in ids]

    def drop_waiting(self) -> None:
        """Leave out what was never drawn, and leave the others as they are."""
        with self._change() as state:
            state.drawings = [replace(one, waiting=False, urgent=False) for one in state.drawings if one.file]

    def clear(self) -> None:
        """Begin anew."""
        with self._change() as state:
            state.drawings, state.notes = [], []

    def next_waiting(self) -> Drawing | None:
        """What is to be drawn next."""
        return next(iter(self.read().waiting), None)

    def put(self, asked: Drawing, one: Completed, model: str, entries: int) -> None:
        """Take in a drawing; nothing happens if it was dropped, or asked for otherwise meanwhile.

        Args:
            asked: as `next_waiting` gave it.
            model: name of the model that drew it. entries: how many its memory has.
        """
        name = f"{asked.id}-{secrets.token_hex(4)}.png"
        with disk_errors_told():
            (self.folder / "pictures").mkdir(parents=True, exist_ok=True)
        leaned = json.dumps(leaned_on(one, entries), ensure_ascii=False)
        told = {"prompt": one.label, "seed": one.seed, "model": model, "drawn_from": leaned}
        save_png(one.image, self.folder / "pictures" / name, told)

        with self._change() as state:
            for place, now in enumerate(state.drawings):
                same = (now.seed, now.reference, now.weight) == (asked.seed, asked.reference, asked.weight)
                if now.id == asked.id and now.waiting and same:
                    made = replace(now, file=name, before=now.file, model=model, note=" ".join(one.notes))
                    state.drawings[place] = replace(made, waiting=False, urgent=False)
                    return
        (self.folder / "pictures" / name).unlink(missing_ok=True)

    def _each(self, ids: Collection[int], change: Callable[[Drawing], Drawing]) -> None:
        with self._change() as state:
            state.drawings = [change(one) if one.id in ids else one for one in state.drawings]

    @contextmanager
    def _change(self) -> Iterator[SetState]:
        """Change the set, and remove the files that nothing of it names any more."""
        with self._lock, disk_errors_told():
            state = self.read()
            before = _files(state)
            yield state
            self.folder.mkdir(parents=True, exist_ok=True)
            content = {
                "options": asdict(state.options),
                "notes": state.notes,
                "drawings": [asdict(one) for one in state.drawings],
            }
            revision = self.revision
            while True:  # Two changes within a tick of the disk's clock would look the same.
                write_json(self.folder / STATE, content, indent=None, ensure_ascii=False)
                if self.revision != revision:
                    break
            for name in before - _files(state):
                (self.folder / name).unlink(missing_ok=True)


def drawn_by(path: Path) -> dict[str, Any]:
    """What the PNG of a drawing says that it was made from: `prompt`, `seed`, `model` and `drawn_from`.

    Raises:
        UserError: it cannot be read.
    """
    with disk_errors_told(), Image.open(path) as image:
        image.load()
        told: dict[str, Any] = dict(getattr(image, "text", {}))
    try:
        told["drawn_from"] = json.loads(told.get("drawn_from", "[]"))
    except ValueError:
        told["drawn_from"] = []
    return told


def _files(state: SetState) -> set[str]:
    images = {f"pictures/{name}" for one in state.drawings for name in (one.file, one.before) if name}
    return images | {f"references/{one.reference}" for one in state.drawings if one.reference}


def _made(kind: type, row: object) -> Any:
    """A dataclass out of what a file holds, or None; what is not known is passed over."""
    if not isinstance(row, dict):
        return None
    names = {one.name for one in fields(kind)}
    try:
        return kind(**{name: value for name, value in row.items() if name in names})
    except TypeError:
        return None


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _named(labels: Sequence[str]) -> str:
    names = list(dict.fromkeys(labels))
    said = ", ".join(f'"{name[:40]}"' for name in names[:5])
    return said + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _are(labels: Sequence[str]) -> str:
    return "are" if len(set(labels)) > 1 else "is"
