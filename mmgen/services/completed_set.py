"""A completed set on the disk: pictures named by what they show, whole at every moment, to be gone on with.

The folder holds `pictures/`, a `metadata.jsonl` in the layout of the `imagefolder` builder of `datasets` (`file_name`,
`text`, `label`, `own`, `seed`, `source`, `licence`, `author`, and in `drawn_from` the entries that a drawing leaned
on), `set.json`, which says how it was made, `sheet.png` and a README with the card of a data set.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mmgen.attribution import share_facts
from mmgen.completion import Completed, known_labels
from mmgen.data.intake import disk_errors_told, safe_name, unique_names
from mmgen.errors import UserError
from mmgen.evaluation.sheets import grid
from mmgen.hub.licences import strictest
from mmgen.images import save_png
from mmgen.io import read_json, replacing, write_json, write_text
from mmgen.models.memory import Memory
from mmgen.phrases import subject

METADATA, HOW, SHEET, CARD = "metadata.jsonl", "set.json", "sheet.png", "README.md"
COLUMNS, CELL = 12, 128
MANY = 6000
"""Pictures from which on the sheet's cells are half as large."""


class CompletedSet:
    """The set in a folder, made if it is not there.

    Args:
        how: what the drawings depend on, such as the seed; a set is gone on with by the same alone.
        title: of the card; by default the folder's name.

    Raises:
        UserError: something else stands there, the set was begun otherwise, or the disk cannot be written.
    """

    def __init__(self, folder: Path, how: dict[str, Any], title: str = ""):
        self.title = title
        self.folder, self.how = folder, json.loads(json.dumps(how))
        with disk_errors_told():
            if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / HOW).is_file())):
                raise UserError(f"{folder} holds something else than a set. Choose another folder.")
            begun = read_json(folder / HOW)
            other = [key for key in self.how if begun and begun.get(key) != self.how[key]]
            if other:
                raise UserError(
                    f"The set in {folder} was begun with another {' and '.join(other)}. Give the same to go on, or "
                    "choose another folder."
                )
            (folder / "pictures").mkdir(parents=True, exist_ok=True)
            write_json(folder / HOW, self.how)
            self.rows = self._read()

    def _read(self) -> list[dict[str, Any]]:
        """The rows whose pictures are there; a line that was cut short by the end of a process is taken out."""
        file = self.folder / METADATA
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        rows = []
        for line in lines:
            try:
                row = json.loads(line)
                if (self.folder / row["file_name"]).is_file():
                    rows.append(row)
            except (ValueError, KeyError, TypeError):
                continue
        if len(rows) != len(lines) or not file.exists():
            write_text(file, "".join(_line(row) for row in rows))
        return rows

    def labels_to_draw(self, labels: Sequence[str]) -> tuple[list[tuple[str, int]], list[str]]:
        """Of the wanted labels those that are still missing, each with how often it was asked for before.

        Returns:
            (label, times) of each, and the labels that are left out as they are the person's own.
        """
        own = {plain(row["label"]) for row in self.rows if row["own"]}
        drawn = Counter(plain(row["label"]) for row in self.rows if not row["own"])
        times: Counter[str] = Counter()
        missing, left_out = [], []
        for label in labels:
            key = plain(label)
            if key in own:
                left_out.append(label)
                continue
            if times[key] >= drawn[key]:
                missing.append((label, times[key]))
            times[key] += 1
        return missing, left_out

    def add_own(self, image: Image.Image, label: str, about: dict[str, str]) -> Path | None:
        """Add one of a person's own pictures; None if one of this label and bytes is there already.

        Args:
            about: its `source`, `licence` and `author`.
        """
        digest = hashlib.sha256(image.tobytes()).hexdigest()[:16]
        if any(row["own"] and row["digest"] == digest and row["label"] == label for row in self.rows):
            return None
        return self._add(
            image, {"label": label, "own": True, "seed": None, "digest": digest, **about, "drawn_from": []}
        )

    def add_drawn(self, one: Completed, entries: int) -> Path:
        """Add a drawing.

        Args:
            entries: how many the model's memory has; what is numbered on from there is the person's own.
        """
        return self.add_image(one.image, one.label, one.seed, leaned_on(one, entries))

    def add_image(self, image: Image.Image, label: str, seed: int, leaned: list[dict[str, Any]]) -> Path:
        """Add a drawing as it lies somewhere else already.

        Args:
            leaned: what it leaned on, as `leaned_on` gives it.
        """
        row = {"label": label, "own": False, "seed": seed, "digest": "", "source": "mmgen", "licence": ""}
        return self._add(image, {**row, "author": "", "drawn_from": leaned})

    def _add(self, image: Image.Image, row: dict[str, Any]) -> Path:
        taken = [Path(known["file_name"]).name for known in self.rows]
        name = next(unique_names([safe_name(f"{row['label'].replace('.', ' ')}.png")], taken))
        path = self.folder / "pictures" / name
        row = {"file_name": f"pictures/{name}", "text": row["label"], **row}
        with disk_errors_told():
            with replacing(path) as part:
                save_png(image, part, {"prompt": row["label"], "seed": row["seed"], "own": row["own"]})
            with open(self.folder / METADATA, "a", encoding="utf-8", newline="\n") as file:
                file.write(_line(row))
        self.rows.append(row)
        return path

    def finish(self) -> None:
        """Write the sheet, a person's own pictures first, and the card."""
        if not self.rows:
            return
        with disk_errors_told():
            rows = sorted(self.rows, key=lambda row: not row["own"])
            images = (Image.open(self.folder / row["file_name"]) for row in rows)
            cell = CELL if len(rows) <= MANY else CELL // 2
            with replacing(self.folder / SHEET) as part:
                grid(_Loaded(images, len(rows)), min(COLUMNS, len(rows)), cell).save(part, format="PNG")
            write_text(self.folder / CARD, self.card())

    def card(self) -> str:
        """The README: what is a person's own, what is drawn, and what the drawings owe to whom."""
        own = sum(row["own"] for row in self.rows)
        drawn = len(self.rows) - own
        origins: Counter[tuple[str, str, str]] = Counter()
        for row in self.rows:
            if row["own"]:
                origins[tuple(row[name] for name in ("source", "licence", "author"))] += 0
            origins.update({tuple(s[n] for n in ("source", "licence", "author")) for s in row["drawn_from"]})
        lines = [
            "---",
            f"license: {strictest(licence for _, licence, _ in origins)}",
            "tags: [mmgen, imagefolder]",
            "configs:",
            "- config_name: default",
            "  data_files:",
            "  - split: train",
            '    path: ["metadata.jsonl", "pictures/*.png"]',
            "---",
            "",
            f"# {self.title or self.folder.resolve().name}",
            "",
            f"{len(self.rows)} pictures in one style: {own} are the author's own (`own` in `metadata.jsonl`), {drawn} "
            f"were drawn from them by mmgen with the model {self.how.get('checkpoint', '')}.",
            "",
            "Each drawing leaned on the author's pictures for its style and on a memory of other pictures for what it "
            "shows; `drawn_from` in `metadata.jsonl` names them one by one. Whoever publishes the drawings should heed "
            "the licences of these sources:",
            "",
            "| source | licence | author | drawings that leaned on it |",
            "|---|---|---|---|",
        ]
        for (source, licence, author), count in sorted(origins.items(), key=lambda item: -item[1]):
            cells = (source or "the author's own, or not recorded", licence or "not recorded", author or "not recorded")
            lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + f" | {count} |")
        return "\n".join([*lines, "", "![All pictures](sheet.png)", ""])


class _Loaded(Sequence):
    """Pictures that are opened one after the other, as a sheet takes them."""

    def __init__(self, images: Iterable[Image.Image], count: int):
        self._images, self._count = images, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self):
        return iter(self._images)

    def __getitem__(self, index):
        raise IndexError("These pictures are read in order only.")


def leaned_on(one: Completed, entries: int) -> list[dict[str, Any]]:
    """What a drawing leaned on, for JSON, and of each whether it is the person's `own`.

    Args:
        entries: how many the model's memory has; what is numbered on from there is the person's own.
    """
    return [{**share_facts(share), "own": share.entry >= entries} for share in one.drawn_from]


def plain(label: str) -> str:
    """A label without article, case and spaces, by which the same thing is known."""
    return subject(" ".join(label.split())).lower()


def wanted_labels(asked: str, memory: Memory) -> list[str]:
    """What a person wants drawn, in words.

    Args:
        asked: a text file with a label in each line; `all`; a style of the memory, for what it has; or a word, for all
            labels with it, such as `face`.

    Raises:
        UserError: the file cannot be read or is empty, or nothing has this name.
    """
    file = Path(asked)
    if file.is_file():
        try:
            labels = [words for line in file.read_text(encoding="utf-8-sig").splitlines() if (words := line.strip())]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{asked} could not be read as text in UTF-8. Save it so, a label in each line.") from error
        if not labels:
            raise UserError(f"{asked} names nothing. Write a label into each line.")
        return labels
    known = known_labels(memory)
    if asked.lower() == "all":
        return known
    styles = [style.lower() for style in memory.config.styles]
    if asked.strip() and asked.lower() in styles:
        texts = {memory.config.texts[n] for n in memory.text[memory.style == styles.index(asked.lower())].tolist()}
        return [label for label in known if label in texts]
    found = [label for label in known if re.search(rf"\b{re.escape(asked.strip())}\b", label, re.IGNORECASE)]
    if not asked.strip() or not found:
        names = ", ".join(filter(None, memory.config.styles))
        raise UserError(
            f"There is no file {asked!r}, and no label that the model knows has this word. Give a text file with a "
            f"label in each line, all, a style ({names}), or a word such as face."
        )
    return found


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
