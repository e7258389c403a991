"""The emoji data set: four drawings of every emoji, rendered as RGBA, with captions, attributes and a fixed split."""

from __future__ import annotations

import json
import os
import random
import re
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mmgen.data import npm, recolour
from mmgen.data.captions import emoji_captions
from mmgen.data.splits import TRAIN, split_pairs
from mmgen.errors import UserError

LABELS = npm.NpmPackage(
    "emojibase-data",
    "17.0.0",
    "sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
)


COLOURABLE = frozenset({"animals & nature", "food & drink", "objects", "travel & places", "activities"})
"""Groups whose pictures may be recoloured."""

RECOLOURED_SHARE = 0.5
"""Of the training pictures of those groups, how many are tried."""


@dataclass(frozen=True)
class EmojiSet:
    """One style: where it comes from and on what terms."""

    key: str
    style: str
    licence: str
    author: str
    source: str
    package: npm.NpmPackage


SETS = (
    EmojiSet(
        "fluent-3d",
        "fluent 3d",
        "MIT",
        "Microsoft Corporation, packed by LobeHub",
        "https://github.com/microsoft/fluentui-emoji",
        npm.NpmPackage(
            "@lobehub/fluent-emoji-3d",
            "1.1.0",
            "sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
        ),
    ),
    EmojiSet(
        "fluent-flat",
        "fluent flat",
        "MIT",
        "Microsoft Corporation, packed by Iconify",
        "https://github.com/microsoft/fluentui-emoji",
        npm.NpmPackage(
            "@iconify-json/fluent-emoji-flat",
            "1.2.6",
            "sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
        ),
    ),
    EmojiSet(
        "noto",
        "noto",
        "Apache-2.0",
        "Google Inc., packed by Iconify",
        "https://github.com/googlefonts/noto-emoji",
        npm.NpmPackage(
            "@iconify-json/noto",
            "1.2.9",
            "sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        ),
    ),
    EmojiSet(
        "twemoji",
        "twemoji",
        "CC-BY-4.0",
        "Twitter, Inc. and other contributors (jdecked/twemoji), packed by Iconify",
        "https://github.com/jdecked/twemoji",
        npm.NpmPackage(
            "@iconify-json/twemoji",
            "1.2.5",
            "sha512-uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
        ),
    ),
)


def build_emoji(output: Path, size: int = 256, seed: int = 0, sets: tuple[EmojiSet, ...] = SETS) -> Counter:
    """Fetch, render and write the data set as a Hugging Face image folder.

    Writes `output/pictures/<style>/<codepoints>.png|webp`, recoloured copies in `output/recoloured`,
    `output/metadata.jsonl` and the data card `output/README.md`. The archives are kept in `output/packages`.

    Args:
        size: side of the rendered vector pictures in pixels; the 3D set is 256 px as published.
        seed: of the captions and of the split.

    Returns:
        Pictures for each style.

    Raises:
        UserError: a package could not be fetched, or `output` cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{output} cannot be written ({error.strerror}). Choose another --output.") from error
    packages = output / "packages"
    labels = _labels(npm.fetch(LABELS, packages))
    rows, jobs = [], []
    for emoji_set in sets:
        archive = npm.fetch(emoji_set.package, packages)
        folder = output / "pictures" / emoji_set.key
        folder.mkdir(parents=True, exist_ok=True)
        for code, name, content in _drawings(archive, labels):
            path = folder / f"{code}.{'svg' if isinstance(content, str) else 'webp'}"
            if isinstance(content, str):
                path = path.with_suffix(".png")
                jobs.append((content, str(path), size))
            else:
                path.write_bytes(content)
            rows.append(_row(labels[code], code, name, emoji_set, path.relative_to(output).as_posix(), seed))
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        for _ in pool.map(_render, jobs, chunksize=64):
            pass
    splits = split_pairs(((row["concept"], row["style"]) for row in rows), seed=seed)
    for row in rows:
        row["split"] = splits[row["concept"], row["style"]]
    rows += _recoloured(output, rows, seed)
    with open(output / "metadata.jsonl", "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    (output / "README.md").write_text(data_card(rows, sets), encoding="utf-8")
    return Counter(row["style"] for row in rows)


def _code(hexcode: str) -> str:
    """Code points without variation selectors and leading zeros: equal for equal emoji in every set."""
    return "-".join(part.lstrip("0") for part in hexcode.upper().split("-") if part != "FE0F")


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
            found[_code(variant["hexcode"])] = {"label": variant["label"], "tones": tones, **shared}
    return found


def _drawings(archive: Path, labels: dict[str, dict]):
    """Yield (code, published name, SVG text or WebP bytes) for every drawing whose label is known, once each."""
    seen = set()
    if "iconify" in archive.name:
        icons = json.loads(npm.read(archive, "icons.json"))
        names = json.loads(npm.read(archive, "chars.json"))
        drawings = ((_code(hexcode), name, svg_text(icons, name)) for hexcode, name in names.items())
    else:
        files = npm.read_folder(archive, "assets")
        drawings = ((_code(Path(name).stem), Path(name).stem, content) for name, content in files.items())
    for code, name, content in drawings:
        if code in labels and code not in seen:
            seen.add(code)
            yield code, name, content


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


def _recoloured(output: Path, rows: list[dict], seed: int) -> list[dict]:
    """Rows of recoloured copies of some of the training pictures of things, animals, food and places."""
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
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
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
    captions = emoji_captions(known["label"], emoji_set.style, known["tags"], seed=str(seed))
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
    }


def data_card(rows: list[dict], sets: tuple[EmojiSet, ...] = SETS) -> str:
    """The README.md of the data set: contents, split, sources, licences and attributions."""
    styles, splits = Counter(row["style"] for row in rows), Counter(row["split"] for row in rows)
    table = "\n".join(
        f"| {s.style} | {styles[s.style]} | `{s.package.name}` {s.package.version} | {s.licence} | "
        f"{s.author} ({s.source}) |"
        for s in sets
    )
    recoloured = sum(row["group"] == recolour.GROUP for row in rows)
    split_lines = "\n".join(f"- `{name}`: {splits[name]}" for name in sorted(splits))
    return f"""---
license: other
task_categories: [text-to-image]
language: [en]
pretty_name: mmgen emoji
---

# Emoji in {len(sets)} styles

{len(rows)} RGBA pictures of {len({row["label"] for row in rows})} labels. `metadata.jsonl` gives for each picture
`text`, `captions`, `label`, `concept` (the label without skin tone), `style`, `tags`, `group`, `subgroup`, `tones` (1
light to 5 dark), `split`, and the published `code` and `name`.

## Split

{split_lines}

{recoloured} of the `train` pictures are recoloured copies of others (`group` is `{recolour.GROUP}`, the label names the
colour, the concept is the original's).

`unseen_pairs` holds combinations of concept and style whose concept is trained in another style; `unseen_labels` holds
concepts, with all their skin tones, that are trained in no style.

## Sources and licences

| style | pictures | package | licence | attribution |
|---|---|---|---|---|
{table}

Labels, tags and groups: `{LABELS.name}` {LABELS.version}, MIT, Miles Johnson (https://github.com/milesj/emojibase).

Twemoji graphics are licensed under CC-BY 4.0 (https://creativecommons.org/licenses/by/4.0/); the vector files were
rendered to pixels without other changes. Pictures and models made from them should keep this attribution.
"""
