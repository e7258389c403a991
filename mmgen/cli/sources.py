"""The data sets that a command is given, and what became of their files, told as one report each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mmgen.errors import UserError

if TYPE_CHECKING:
    import datasets

    from mmgen.data.report import Report


@dataclass
class Source:
    """One `--data`.

    Attributes:
        splits: as `mmgen.data.folder.load_pairs` gives them.
        report: what was taken, guessed and left out of it.
    """

    path: Path
    splits: datasets.DatasetDict
    report: Report

    def split(self, name: str) -> datasets.Dataset:
        """The split of a name.

        Raises:
            UserError: there is none.
        """
        if name not in self.splits:
            raise UserError(
                f"{self.path} has no split {name}; it has {', '.join(self.splits)}. Name one of them {name}."
            )
        return self.splits[name]


@dataclass
class Sources:
    """All of them."""

    each: list[Source] = field(default_factory=list)

    @classmethod
    def read(cls, paths: Sequence[Path], need_text: bool = True) -> Sources:
        """Read each; what is wrong with single pictures, rows and captions costs those alone.

        Raises:
            UserError: one cannot be read at all, or a picture has no caption and `need_text` asks for one.
        """
        from mmgen.data.folder import load_pairs
        from mmgen.data.report import Report

        found = cls()
        for path in paths:
            report = Report()
            found.each.append(Source(path, load_pairs(path, need_text=need_text, report=report), report))
        return found

    def __iter__(self) -> Iterator[Source]:
        return iter(self.each)

    def withdraw(self, place: str, sentence: str) -> None:
        """Note in its source's report that a picture cannot be read; as `pack_readable` takes it."""
        for source in self.each:
            if place in source.report.places:
                source.report.withdraw(place, sentence)
                return

    def tell(self, say: Callable[[str], object] = print) -> None:
        """Say what was taken, guessed and left out; once everything that may be left out is known."""
        for source in self.each:
            for line in source.report.lines():
                say(f"{source.path}: {line}")
