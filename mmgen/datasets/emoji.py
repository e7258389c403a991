"""The emoji data set: every emoji in up to eight trained styles as RGBA, with captions, attributes and a fixed split.

Three sets of named icons stand beside them, and one whole style, OpenMoji, is held out of every training.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path

from mmgen.data.splits import TRAIN, UNSEEN_LABELS, UNSEEN_STYLE, split_pairs
from mmgen.datasets import npm, recolour, synthetic_styles
from mmgen.datasets.captions import emoji_captions
from mmgen.datasets.emoji_names import EmojiNames, code_points
from mmgen.datasets.emoji_sets import FIRST, ICONS, LABELS, SETS, EmojiSet
from mmgen.datasets.icon_names import icon_words
from mmgen.errors import UserError

COLOURABLE = frozenset({"animals & nature", "food & drink", "objects", "travel & places", "activities"})
"""Groups whose pictures may be recoloured."""

RECOLOURED_SHARE = 0.5
"""Of the training pictures of those groups, how many are tried."""


def build_emoji(
    output: Path, size: int = 256, seed: int = 0, sets: tuple[EmojiSet, ...] = SETS, synthetic: int = 0
) -> Counter:
    """Fetch, render and write the data set as a Hugging Face image folder.

    Writes `output/pictures/<style>/<codepoints>.png|webp`, recoloured copies in `output/recoloured`, synthetic styles
    in `output/synthetic`, `output/metadata.jsonl` and the data card `output/README.md`. The archives are kept in
    `output/packages`.

    Args:
        size: side of the rendered vector pictures in pixels; the 3D set is 256 px as published.
        seed: of the captions, of the split and of the synthetic styles.
        synthetic: how many synthetic styles to add (`mmgen.datasets.synthetic_styles`).

    Returns:
        Pictures for each style.

    Raises:
        UserError: a package could not be fetched, or `output` cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{output} cannot be written ({error.strerror}). Choose another --output.") from error
    rows, contents, published = list_emoji(output / "packages", seed, sets)
    jobs = []
    for row, content in zip(rows, contents, strict=True):
        path = output / row["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            jobs.append((content, str(path), size))
        else:
            path.write_bytes(content)
    first = {emoji_set.style for emoji_set in sets if emoji_set.key in FIRST}
    drawn = [row for row in rows if row["group"] != ICONS]
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        for _ in pool.map(_render, jobs, chunksize=64):
            pass
        rows += _recoloured(output, [row for row in drawn if row["style"] in first], seed, pool)
        rows += synthetic_styles.add_styles(output, drawn, synthetic, seed, pool)
    with open(output / "metadata.jsonl", "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    (output / "README.md").write_text(data_card(rows, published, sets), encoding="utf-8")
    return Counter(row["style"] for row in rows)


def list_emoji(
    packages: Path, seed: int = 0, sets: tuple[EmojiSet, ...] = SETS
) -> tuple[list[dict], list[str | bytes], dict[str, int]]:
    """Fetch the packages into a folder and list what is in them, nothing rendered.

    Returns:
        rows as the metadata has them, of each its SVG text or the bytes of its WebP file, and of each style how many
        drawings its package holds.

    Raises:
        UserError: a package could not be fetched.
    """
    archive = npm.fetch(LABELS, packages)
    labels = _labels(archive)
    archives = {emoji_set.key: npm.fetch(emoji_set.package, packages) for emoji_set in sets}
    packed = [archives[emoji_set.key] for emoji_set in sets if emoji_set.package.name.startswith("@iconify-json/")]
    names = EmojiNames(archive, labels, packed)
    rows: list[dict] = []
    contents: list[str | bytes] = []
    published: dict[str, int] = {}
    for emoji_set in sets:
        archive = archives[emoji_set.key]
        if archive in packed:
            icons, codes = (json.loads(npm.read(archive, f"{name}.json")) for name in ("icons", "chars"))
            published[emoji_set.style] = len(icons["icons"])
        else:
            files = npm.read_folder(archive, "assets")
            published[emoji_set.style] = len(files)
        if emoji_set.kind == ICONS:
            named = icon_words(icons["icons"], labels, names)
            drawings, known = ((name, words, svg_text(icons, name)) for words, name in named), None
        elif archive in packed:
            drawings, known = _drawings(icons, codes, labels, names, emoji_set.key), labels
        else:
            coded: dict[str, tuple[str, bytes]] = {}
            for name, content in files.items():  # Some come twice, with a variation selector and without.
                coded.setdefault(code_points(Path(name).stem), (Path(name).stem, content))
            drawings, known = ((code, *drawing) for code, drawing in coded.items() if code in labels), labels
        drawn: Counter[str] = Counter()
        for code, name, content in drawings:
            stem = f"{code}_{drawn[code]}" if drawn[code] else code
            drawn[code] += 1
            file_name = f"pictures/{emoji_set.key}/{stem}.{'png' if isinstance(content, str) else 'webp'}"
            described = known[code] if known else _icon(name)
            rows.append(_row(described, code, name, emoji_set, file_name, seed))
            contents.append(content)
    _split(rows, sets, seed)
    return rows, contents, published


def _labels(archive: Path) -> dict[str, dict]:
    """Code -> label, concept (the label without skin tone), tags, group, subgroup and skin tones."""
    messages = json.loads(npm.read(archive, "en/messages.json"))
    groups = {entry["order"]: entry["message"] for entry in messages["groups"]}
    subgroups = {entry["order"]: entry["message"] for entry in messages["subgroups"]}
    found = {}
    for entry in json.loads(npm.read(archive, "en/data.json")):
        shared = {
            "concept": entry["label"],
            "tags": entry.get("tags", []),
            "group": groups.get(entry.get("group"), "symbols"),
            "subgroup": subgroups.get(entry.get("subgroup"), "alphanumeric symbols"),
        }
        for variant in (entry, *entry.get("skins", [])):
            tone = variant.get("tone", [])
            tones = tone if isinstance(tone, list) else [tone]
            found[code_points(variant["hexcode"])] = {"label": variant["label"], "tones": tones, **shared}
    return found


def _icon(words: str) -> dict:
    """What is known of an icon: its words."""
    return {"label": words, "concept": words, "tags": [], "group": ICONS, "subgroup": ICONS, "tones": []}


def _split(rows: list[dict], sets: tuple[EmojiSet, ...], seed: int) -> None:
    """Give each row its split.

    The first four styles share out pairs and labels as `split_pairs` says, so their split does not change when a style
    is added. A label that they hold out is held out of every style; a sibling holds out the same pairs; a style that is
    held out is a split of its own; all else is for training.
    """
    first = {emoji_set.style for emoji_set in sets if emoji_set.key in FIRST}
    siblings = {emoji_set.style: emoji_set.sibling for emoji_set in sets if emoji_set.sibling}
    held_out = {emoji_set.style for emoji_set in sets if emoji_set.held_out}
    splits = split_pairs(((row["concept"], row["style"]) for row in rows if row["style"] in first), seed=seed)
    unseen = {concept for (concept, _), split in splits.items() if split == UNSEEN_LABELS}
    for row in rows:
        concept, style = row["concept"], row["style"]
        if style in held_out:
            row["split"] = UNSEEN_STYLE
        elif concept in unseen:
            row["split"] = UNSEEN_LABELS
        else:
            row["split"] = splits.get((concept, siblings.get(style, style)), TRAIN)


def _drawings(
    icons: dict, codes: dict[str, str], labels: dict[str, dict], names: EmojiNames, key: str
) -> Iterator[tuple[str, str, str]]:
    """Yield (code, published name, SVG text) for every drawing of an Iconify collection whose label is known.

    Each code comes once, except where a set publishes several drawings of it, numbered.

    Args:
        codes: code points -> name; empty for a set that names its drawings by words alone.
    """
    coded = [(code_points(code), name) for code, name in codes.items()]
    if not coded:
        coded = [(names.code(name, key), name) for name in [*icons["icons"], *icons.get("aliases", {})]]
    seen = set()
    for code, name in coded:
        another = not codes and re.search(r"[a-z]-\d$", name)
        if code in labels and (code not in seen or another):
            seen.add(code)
            yield code, name, svg_text(icons, name)


def svg_text(icons: dict, name: str) -> str:
    """The SVG document of an icon in an Iconify JSON collection; aliases may flip or turn their parent."""
    alias, turns = {}, []
    while name not in icons["icons"]:
        alias = icons["aliases"][name]
        if alias.get("hFlip"):
            turns.append("translate(W 0) scale(-1 1)")
        if alias.get("vFlip"):
            turns.append("translate(0 H) scale(1 -1)")
        if alias.get("rotate"):
            turns.append(f"rotate({90 * alias['rotate']} CX CY)")
        name = alias["parent"]
    icon = icons["icons"][name]
    width = icon.get("width", icons.get("width", 16))
    height = icon.get("height", icons.get("height", 16))
    numbers = {"W": width, "H": height, "CX": width / 2, "CY": height / 2}
    transform = re.sub(r"\b(CX|CY|W|H)\b", lambda match: str(numbers[match[0]]), " ".join(turns))
    body = f'<g transform="{transform}">{icon["body"]}</g>' if transform else icon["body"]
    left, top = icon.get("left", 0), icon.get("top", 0)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}">{body}</svg>'
    )


def _render(job: tuple[str, str, int]) -> None:
    """Render one SVG to a PNG of straight RGBA, fully transparent outside the drawing."""
    import resvg_py

    svg, path, size = job
    Path(path).write_bytes(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size)))


def _recoloured(output: Path, rows: list[dict], seed: int, pool: Executor) -> list[dict]:
    """Rows of recoloured copies of some of the given rows that are for training: things, animals, food and places."""
    rng = random.Random(f"{seed}/recoloured")
    chosen = [
        row for row in rows if row["split"] == TRAIN and row["group"] in COLOURABLE and rng.random() < RECOLOURED_SHARE
    ]
    jobs = []
    for row in chosen:
        source = output / row["file_name"]
        target = output / "recoloured" / source.parent.name / source.stem
        target.parent.mkdir(parents=True, exist_ok=True)
        jobs.append((str(source), str(target), rng.random()))
    colours = list(pool.map(recolour.write_recoloured, jobs, chunksize=32))
    made = []
    for row, (_, target, _), colour in zip(chosen, jobs, colours, strict=True):
        label = colour and recolour.coloured_label(row["label"], colour)
        if label:
            captions = emoji_captions(label, row["style"], [], seed=str(seed))
            file_name = Path(f"{target}-{colour}.png").relative_to(output).as_posix()
            fresh = {"file_name": file_name, "text": captions[0], "captions": captions, "label": label}
            made.append({**row, **fresh, "tags": [], "group": recolour.GROUP})
    return made


def _row(known: dict, code: str, name: str, emoji_set: EmojiSet, file_name: str, seed: int) -> dict:
    kind = "icon" if emoji_set.kind == ICONS else "emoji"
    captions = emoji_captions(known["label"], emoji_set.style, known["tags"], seed=str(seed), kind=kind)
    return {
        "file_name": file_name,
        "text": captions[0],
        "captions": captions,
        "label": known["label"],
        "concept": known["concept"],
        "style": emoji_set.style,
        "tags": known["tags"],
        "group": known["group"],
        "subgroup": known["subgroup"],
        "tones": known["tones"],
        "code": code,
        "name": name,
        "source": emoji_set.source,
        "licence": emoji_set.licence,
        "author": emoji_set.author,
    }


_ATTRIBUTED = {"CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/"}
"""Licences that ask for attribution, with their text."""


def data_card(rows: list[dict], published: dict[str, int], sets: tuple[EmojiSet, ...] = SETS) -> str:
    """The README.md of the data set: contents, split, sources, licences and attributions.

    Args:
        published: of each style how many drawings its package holds.
    """
    made = (recolour.GROUP, synthetic_styles.GROUP)
    styles = Counter(row["style"] for row in rows if row["group"] not in made)
    splits, groups = Counter(row["split"] for row in rows), Counter(row["group"] for row in rows)
    table = "\n".join(
        f"| {s.style} | {s.kind} | {styles[s.style]} | {published[s.style]} | "
        f"{styles[s.style] / published[s.style]:.1%} | `{s.package.name}` {s.package.version} | "
        f"{s.licence} | {s.author} ({s.source}) |"
        for s in sets
    )
    split_lines = "\n".join(f"- `{name}`: {splits[name]}" for name in sorted(splits))
    used = sorted({s.licence for s in sets if not s.held_out and s.licence in _ATTRIBUTED})
    held_out = "\n".join(
        f"- {s.style} ({s.author}, {s.source}) is {s.licence} and for measuring only: it is in no training, in no "
        "weights and in no memory, so nothing that is trained here is a work made from it."
        for s in sets
        if s.held_out
    )
    attributed = "\n".join(
        f"- {s.style}: {s.author}, {s.source}, {s.licence} ({_ATTRIBUTED[s.licence]})"
        for s in sets
        if s.licence in _ATTRIBUTED and not s.held_out
    )
    synthetic = len({row["style"] for row in rows if row["group"] == synthetic_styles.GROUP})
    return f"""---
license: other
task_categories: [text-to-image]
language: [en]
pretty_name: mmgen emoji
---

# Emoji and icons in {len(sets)} styles

{len(rows)} RGBA pictures of {len({row["label"] for row in rows})} labels. `metadata.jsonl` gives for each picture
`text`, `captions`, `label`, `concept` (the label without skin tone), `style`, `tags`, `group`, `subgroup`, `tones` (1
light to 5 dark), `split`, the published `code` and `name`, where it comes from as `source`, `licence` and `author`, and
`base_style` for a picture in a synthetic style.

## Split

{split_lines}

{groups[recolour.GROUP]} of the `train` pictures are recoloured copies of others, in the first four styles (`group` is
`{recolour.GROUP}`, the label names the colour, the concept is the original's). {groups[synthetic_styles.GROUP]} are
in {synthetic} synthetic styles (`group` is `{synthetic_styles.GROUP}`): each is one fixed treatment of training
pictures of the style in `base_style`, whose source, licence and author they keep; their captions name no style.

`unseen_pairs` holds combinations of concept and style whose concept is trained in another style; `unseen_labels` holds
concepts, with all their skin tones, that are trained in no style; `unseen_style` holds a whole style.

## Sources and licences

"Matched" is the share of a package's drawings that are here: of emoji those whose label is known by code points or by
name, of icons those whose words the labels and tags can say.

| style | kind | pictures | published | matched | package | licence | attribution |
|---|---|---|---|---|---|---|---|
{table}

Labels, tags and groups: `{LABELS.name}` {LABELS.version}, MIT, Miles Johnson (https://github.com/milesj/emojibase).

### Attribution

Pictures and models made from sets under {" or ".join(used) or "such a licence"} should keep these attributions; the
vector files were rendered to pixels, and some recoloured or redrawn in synthetic styles:

{attributed}

### For measuring only

{held_out}
"""
