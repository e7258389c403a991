"""A set that was drawn on the page, laid out to take home or to publish: the person's own pictures and the drawings."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mmgen.completion import prepared
from mmgen.data.intake import disk_errors_told
from mmgen.data.pair_folder import Pair
from mmgen.errors import UserError
from mmgen.hub.dataset import publish_set
from mmgen.hub.publish import Published
from mmgen.hub.send import checked_name
from mmgen.images import open_image, to_pil
from mmgen.io import replacing
from mmgen.services.background import KeyedMutex
from mmgen.services.completed_set import CompletedSet
from mmgen.services.drawn_set import Drawing, DrawnSet, drawn_by
from mmgen.services.publishing import checked_private
from mmgen.services.set_drawing import SetService

SIZES = (16, 20, 32, 40, 48, 64, 72, 96, 128, 160, 512)
"""Pixels: of icons, of the bitmaps of fonts (`sbix` 20 to 160, `CBDT` 128), and of stickers (512)."""

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class SetRequest:
    """What of a set is taken, and what is said of the person's own pictures.

    Attributes:
        kept_only: leave out drawings that are not kept.
        with_own: whether the person's own pictures come along.
        author, licence, source: of the person's own pictures, as far as they want to say it.
    """

    kept_only: bool = False
    with_own: bool = True
    author: str = ""
    licence: str = ""
    source: str = ""

    @property
    def about(self) -> dict[str, str]:
        """What is said of each of the person's own pictures."""
        return {name: _line(getattr(self, name)) for name in ("source", "licence", "author")}


class SetParcels:
    """Zips and publishes what `SetService` drew. Threads may share it."""

    def __init__(self, sets: SetService):
        self.sets = sets
        self._busy = KeyedMutex()

    def download(
        self, owner: str, draft_id: object, request: SetRequest, sizes: Sequence[object], file: Path, tell: Progress
    ) -> Path:
        """Write a zip of the set as `lay_out` makes it.

        Args:
            sizes: of `SIZES`; each is a folder of its own besides the pictures as they were drawn.

        Raises:
            UserError: nothing is drawn or kept yet, or a size is none of `SIZES`.
        """
        wanted = sorted({int(size) for size in sizes if size in SIZES})
        if len(wanted) != len(set(sizes)):
            raise UserError(f"Choose the sizes among {', '.join(map(str, SIZES))} pixels.")
        with disk_errors_told(), tempfile.TemporaryDirectory(prefix="mmgen-set-") as temporary:
            folder = Path(temporary) / "set"
            self._lay_out(owner, draft_id, request, folder, "", lambda share, words: tell(0.6 * share, words))
            _make_sizes(folder, wanted, lambda share, words: tell(0.6 + 0.3 * share, words))
            tell(0.95, "Packing them")
            with replacing(file) as part, zipfile.ZipFile(part, "w") as packed:
                for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                    kind = zipfile.ZIP_STORED if path.suffix == ".png" else zipfile.ZIP_DEFLATED
                    packed.write(path, path.relative_to(folder), kind)
        return file

    def stamp(self, owner: str, draft_id: object, name: object, request: SetRequest) -> str:
        """Stands for a set as it is now under a name; another one once anything of it has changed.

        Raises:
            UserError: there is no such set.
        """
        made = self.sets.drawn_set(owner, draft_id)
        pairs = [(pair.name, pair.text) for pair in self.sets.drafts.draft(owner, draft_id).pairs]
        return f"{draft_id}\n{made.revision}\n{hash(tuple(pairs))}\n{_line(name)}\n{request}"

    def look(self, owner: str, draft_id: object, name: object, request: SetRequest, tell: Progress) -> Published:
        """What would be sent; nothing is.

        Raises:
            UserError: nothing is drawn or kept yet, or the name cannot be used.
        """
        return self._publish(owner, draft_id, name, request, tell, dry_run=True)

    def send(
        self,
        owner: str,
        draft_id: object,
        name: object,
        request: SetRequest,
        private: object,
        token: str | None,
        tell: Progress,
    ) -> Published:
        """Publish, and compare what arrived.

        Args:
            private: False to show it to everybody.
            token: as `mmgen.ui.web.account.token_of` gives it.

        Raises:
            UserError: as for `look`; it is being published already; nobody is signed in; or the Hub refuses.
        """
        private = checked_private(private)
        sentence = f"{_line(name)} is being published already. Wait until that has ended."
        with self._busy.doing(owner, _line(name), sentence=sentence):
            return self._publish(owner, draft_id, name, request, tell, private=private, token=token)

    def _publish(
        self, owner: str, draft_id: object, name: object, request: SetRequest, tell: Progress, **options: Any
    ) -> Published:
        repo_id = checked_name(_line(name), "data set")
        with disk_errors_told(), tempfile.TemporaryDirectory(prefix="mmgen-set-") as temporary:
            folder = Path(temporary) / "set"
            title = repo_id.partition("/")[2]
            self._lay_out(owner, draft_id, request, folder, title, lambda share, words: tell(0.2 * share, words))
            return publish_set(folder, repo_id, on_progress=tell, **options)

    def _lay_out(
        self, owner: str, draft_id: object, request: SetRequest, folder: Path, title: str, tell: Progress
    ) -> None:
        made = self.sets.drawn_set(owner, draft_id)
        pairs = [pair for pair in self.sets.drafts.draft(owner, draft_id).pairs if pair.text]
        lay_out(made, pairs if request.with_own else [], request, folder, title, tell)


def lay_out(
    made: DrawnSet, pairs: Sequence[Pair], request: SetRequest, folder: Path, title: str, tell: Progress
) -> CompletedSet:
    """Write a set as `mmgen complete` leaves it: pictures by name, `metadata.jsonl`, a sheet and a card.

    Args:
        pairs: of the person's own, which are written as they are given to the model.
        title: of the card.

    Raises:
        UserError: nothing is drawn or kept yet.
    """
    state = made.read()
    drawings = [one for one in state.drawn if one.kept or not request.kept_only]
    if not drawings:
        raise UserError(
            "No drawing is kept yet. Press those that you like and keep them, or take all."
            if state.drawn
            else "Nothing is drawn yet. Choose labels and draw them first."
        )
    models = ", ".join(dict.fromkeys(one.model for one in drawings))
    options = state.options
    how = {"checkpoint": models, "truncation": options.truncation, "cut_out": options.cut_out}
    written = CompletedSet(folder, how, title or "A completed set")
    count = len(pairs) + len(drawings)
    with Image.open(made.path(drawings[0])) as image:
        side = max(image.size)
    for number, pair in enumerate(pairs):
        pixels, _ = prepared(open_image(pair.path), side, options.cut_out)
        written.add_own(to_pil(pixels[None])[0], pair.text, request.about)
        tell((number + 1) / count, f"{number + 1:,} of {count:,} pictures written")
    for number, one in enumerate(drawings, len(pairs)):
        written.add_image(*_taken(made, one, request.about))
        tell((number + 1) / count, f"{number + 1:,} of {count:,} pictures written")
    written.finish()
    return written


def _taken(made: DrawnSet, one: Drawing, about: dict[str, str]) -> tuple[Image.Image, str, int, list[dict[str, Any]]]:
    """A drawing's picture, label and seed, and what it leaned on, of the person's own with what they say of it."""
    path = made.path(one)
    told = drawn_by(path)
    leaned = [{**share, **about} if share.get("own") else share for share in told["drawn_from"]]
    return open_image(path), one.label, int(told.get("seed", one.seed)), leaned


def _make_sizes(folder: Path, sizes: Sequence[int], tell: Progress) -> None:
    """The pictures of a set once more in each size, resized premultiplied, so that edges keep their colour."""
    paths = sorted((folder / "pictures").glob("*.png"))
    for size in sizes:
        (folder / f"{size}px").mkdir()
    for number, path in enumerate(paths if sizes else ()):
        image = open_image(path).convert("RGBa")
        for size in sizes:
            image.resize((size, size), Image.Resampling.LANCZOS).convert("RGBA").save(folder / f"{size}px" / path.name)
        tell((number + 1) / len(paths), f"{number + 1:,} of {len(paths):,} made smaller")


def _line(text: object) -> str:
    return " ".join(text.split())[:300] if isinstance(text, str) else ""
