"""What became of a data set on its way in: what was taken, what was guessed, and what was left out, and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmgen.io import read_json, write_json

_SHOWN = 3


@dataclass
class Report:
    """What a reader of images and captions tells.

    Attributes:
        taken: names of the images that were taken, once for each of their rows.
        uncaptioned: those of them that have no caption.
        read: files that tell of images: metadata, and captions beside them.
        system: hidden files and folders, which are passed over.
        guessed: a sentence for everything that is not as the documentation asks for.
        places: the path of each of them, as `mmgen.data.shards.open_image_at` takes it, -> its name.
        left_out: what is wrong, as the sentence that follows the name, -> names of the files or rows it is wrong with.
    """

    taken: list[str] = field(default_factory=list)
    uncaptioned: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    guessed: list[str] = field(default_factory=list)
    system: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def leave_out(self, name: str, why: str) -> None:
        """Tell of something that is not taken.

        Args:
            why: the rest of the sentence that begins with the name, with what to do as a second one.
        """
        self.left_out.setdefault(why, []).append(name)

    def refuse(self, name: str, sentence: str) -> None:
        """Tell of something that is not taken, by a sentence that may begin with its name."""
        self.leave_out(name, sentence.removeprefix(name).strip())

    def take(self, name: str, path: str, captioned: bool) -> None:
        """Tell of an image that is taken."""
        self.taken.append(name)
        self.places[path] = name
        if not captioned:
            self.uncaptioned.append(name)

    def withdraw(self, path: str, sentence: str) -> None:
        """Tell that an image which was taken turned out to be unreadable, and is left out after all."""
        name = self.places.get(path, Path(path).name)
        for names in (self.taken, self.uncaptioned):
            if name in names:
                names.remove(name)
        self.refuse(name, sentence if sentence.startswith(name) else sentence.removeprefix(Path(path).name))

    def guess(self, sentence: str) -> None:
        """Tell of a guess, once."""
        if sentence not in self.guessed:
            self.guessed.append(sentence)

    def add(self, other: Report) -> None:
        """Take over all that another report tells."""
        for name in ("taken", "uncaptioned", "read", "system"):
            getattr(self, name).extend(getattr(other, name))
        self.places |= other.places
        for sentence in other.guessed:
            self.guess(sentence)
        for why, names in other.left_out.items():
            self.left_out.setdefault(why, []).extend(names)

    @property
    def count_left_out(self) -> int:
        """How many files and rows were left out."""
        return sum(map(len, self.left_out.values()))

    def problems(self) -> list[str]:
        """A sentence for each reason for which something was left out."""
        return [_sentence(why, names) for why, names in self.left_out.items()]

    def warnings(self) -> list[str]:
        """What was guessed, and which images have no caption."""
        said = list(self.guessed)
        if count := len(self.uncaptioned):
            which = "1 picture has" if count == 1 else f"{count:,} pictures have"
            shown = ", ".join(self.uncaptioned[:_SHOWN]) + (", ..." if count > _SHOWN else "")
            said.append(
                f"{which} no caption ({shown}). Write it in a .txt file of the same name, or in metadata.jsonl."
            )
        return said

    def lines(self) -> Iterator[str]:
        """All of it for a terminal, the counts first."""
        taken = len(self.taken)
        with_words = taken - len(self.uncaptioned)
        yield (
            f"{taken:,} {'picture' if taken == 1 else 'pictures'} taken, {with_words:,} with a caption; "
            f"{len(self.read):,} {'file' if len(self.read) == 1 else 'files'} of words read; "
            f"{self.count_left_out:,} left out; {len(self.system):,} of the system passed over."
        )
        yield from (f"Note: {sentence}" for sentence in self.warnings())
        yield from (f"Left out: {sentence}" for sentence in self.problems())

    def as_dict(self) -> dict[str, Any]:
        """All of it for a program."""
        return {
            "taken": len(self.taken),
            "captioned": len(self.taken) - len(self.uncaptioned),
            "uncaptioned": list(self.uncaptioned),
            "read": list(self.read),
            "guessed": list(self.guessed),
            "system": list(self.system),
            "left_out": [{"why": why, "names": list(names)} for why, names in self.left_out.items()],
        }


def changes_since(folder: Path, report: Report, resumed: bool) -> list[str]:
    """What has come to a run's images and gone from them since it began, which is kept in its `pictures.json`."""
    file = folder / "pictures.json"
    now, before = set(report.taken), read_json(file).get("taken")
    if not resumed or not isinstance(before, list):
        with suppress(OSError):  # A folder that cannot be written is told by the run itself.
            folder.mkdir(parents=True, exist_ok=True)
            write_json(file, {"taken": sorted(now)}, ensure_ascii=False)
        return []
    said = []
    for names, what in ((now - set(before), "is new"), (set(before) - now, "is gone")):
        if names:
            said.append(_sentence(f"{what} since this run began. It goes on with what is there now.", sorted(names)))
    return said


def _sentence(why: str, names: list[str]) -> str:
    first = f"{names[0]}:" if names[0] and why[:1].isupper() else names[0]
    if len(names) == 1:
        return f"{first} {why}".strip()
    head, _, rest = why.partition(". ")
    shown = ", ".join(filter(None, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
    more = f"{first} {head.rstrip('.')}; the same goes for {len(names) - 1} more.".strip()
    return " ".join(filter(None, [more, rest, f"({shown})" if any(names) else ""]))
