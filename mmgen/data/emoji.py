"""The emoji data set: every emoji in up to eight trained styles, rendered as RGBA, with captions, attributes and a fixed
split; three sets of named icons beside them; and one whole style, OpenMoji, held out of every training.
"""

from __future__ import annotations

import json
import os
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mmgen.data import npm, recolour
from mmgen.data.captions import emoji_captions
from mmgen.data.splits import TRAIN, UNSEEN_LABELS, UNSEEN_STYLE, split_pairs
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


ICONS = "icons"
"""The `group` and `subgroup` of pictures that no emoji label names."""


@dataclass(frozen=True)
class EmojiSet:
    """One style: where it comes from and on what terms.

    Attributes:
        kind: `emoji`, whose drawings are matched to the labels, or `icons`, which are named by their own names where
            the words of the labels and tags can say them.
        sibling: style whose older or newer version this one is: pairs are held out in both together, as many of their
            drawings are the same.
        held_out: whether the whole style is for measuring alone.
    """

    key: str
    style: str
    licence: str
    author: str
    source: str
    package: npm.NpmPackage
    kind: str = "emoji"
    sibling: str | None = None
    held_out: bool = False


def _iconify(key, style, licence, author, source, version, integrity, name=None, **more) -> EmojiSet:
    """A set that Iconify packs."""
    package = npm.NpmPackage(f"@iconify-json/{name or key}", version, integrity)
    return EmojiSet(key, style, licence, f"{author}, packed by Iconify", f"https://github.com/{source}", package, **more)


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
    _iconify(
        "noto-v1", "blob", "Apache-2.0", "Google Inc.", "googlefonts/noto-emoji", "1.2.5",
        "sha512-/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
        sibling="noto",
    ),
    _iconify(
        "emojione", "emojione", "CC-BY-4.0", "EmojiOne (EmojiTwo)", "EmojiTwo/emojitwo", "1.2.3",
        "sha512-T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
    ),
    _iconify(
        "fxemoji", "fxemoji", "Apache-2.0", "Mozilla", "mozilla/fxemoji", "1.2.2",
        "sha512-UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==",
    ),
    _iconify(
        "streamline-emojis", "streamline", "CC-BY-4.0", "Streamline (Webalys)", "webalys-hq/streamline-vectors", "1.2.4",
        "sha512-iNr9T9XuZVTyQPJO8ZlLxBzPkpi7qMl+z1l0C31vpEMqhPMelth3n7CeWQYtixdetDPdI81yeG4ROqjWpYJE6A==",
    ),
    _iconify(
        "icon-park", "icon park", "Apache-2.0", "ByteDance", "bytedance/IconPark", "1.2.4",
        "sha512-S8fVl49LG/M9hvwb7ruFGInK21AHMv3IJehOJRJgXPLE39OOCP3wbfTWjro/XzsjxRwdvX/lYdGetFOZI0TaJQ==",
        kind=ICONS,
    ),
    _iconify(
        "flat-color-icons", "flat color icon", "MIT", "Icons8", "icons8/flat-Color-icons", "1.2.3",
        "sha512-KcmJ7CY0TKFv5GuBjiS4/v++jEcNXna1jfY+yq014tnw/MN/jMI2oYpoMHGuIpYtUqDu7eove+WySnOYO8nS3w==",
        kind=ICONS,
    ),
    _iconify(
        "fluent-color", "fluent color icon", "MIT", "Microsoft Corporation", "microsoft/fluentui-system-icons", "1.2.21",
        "sha512-VETjGx7BMpVsCR3HV5g5t6oBGZ92XKzIRClS5xUvDn1YHAkQTF9OyF/aFdtxYOC8JROoI1SNO/Ql6jZeK7mroA==",
        kind=ICONS,
    ),
    _iconify(
        "openmoji", "openmoji", "CC-BY-SA-4.0", "OpenMoji", "hfg-gmuend/openmoji", "1.2.29",
        "sha512-vXdhkqcXVSO6suy+m9LbcUM3OdVyuNOtpV8/als/WqfkQIRxevL5Geb/g+6GH/Qwnq1OqksEmaDGTCmZ5nFKJQ==",
        held_out=True,
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
    archive = npm.fetch(LABELS, packages)
    labels = _labels(archive)
    archives = {emoji_set.key: npm.fetch(emoji_set.package, packages) for emoji_set in sets}
    names = _names(archive, labels, archives.values())
    rows, jobs = [], []
    for emoji_set in sets:
        archive = archives[emoji_set.key]
        folder = output / "pictures" / emoji_set.key
        folder.mkdir(parents=True, exist_ok=True)
        if emoji_set.kind == ICONS:
            drawings, known = _icons(archive, labels, names), None
        else:
            drawings, known = _drawings(archive, labels, names), labels
        for code, name, content in drawings:
            path = folder / f"{code}.{'svg' if isinstance(content, str) else 'webp'}"
            if isinstance(content, str):
                path = path.with_suffix(".png")
                jobs.append((content, str(path), size))
            else:
                path.write_bytes(content)
            described = known[code] if known else _icon(name)
            rows.append(_row(described, code, name, emoji_set, path.relative_to(output).as_posix(), seed))
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        for _ in pool.map(_render, jobs, chunksize=64):
            pass
    _split(rows, sets, seed)
    first = {emoji_set.style for emoji_set in sets[:4]}
    rows += _recoloured(output, [row for row in rows if row["style"] in first], seed)
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


def _slug(words: str) -> str:
    """Words as icon sets spell them in names: "Côte d'Ivoire" -> "cote-divoire"."""
    plain = unicodedata.normalize("NFKD", re.sub("['\u2019]", "", words)).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _names(archive: Path, labels: dict[str, dict], sets: Iterator[Path]) -> dict[str, str]:
    """Name -> code: the labels themselves, the names that sets with code points use, then the published short codes.

    Each name is there with hyphens and without, as some sets write theirs in one word.
    """
    found: dict[str, str] = {}
    for code, label in labels.items():
        found.setdefault(_slug(label["label"]), code)
    for icons in sets:
        characters = json.loads(npm.read(icons, "chars.json")) if "iconify" in icons.name else {}
        for hexcode, name in characters.items():
            if _code(hexcode) in labels:
                found.setdefault(name, _code(hexcode))
    for kind in ("emojibase", "cldr", "github", "joypixels", "emojibase-legacy", "iamcal"):
        for hexcode, some in json.loads(npm.read(archive, f"en/shortcodes/{kind}.json")).items():
            for name in [some] if isinstance(some, str) else some:
                if _code(hexcode) in labels:
                    found.setdefault(_slug(name), _code(hexcode))
    for name, code in list(found.items()):
        found.setdefault(name.replace("-", ""), code)
    return found


def _code_of(name: str, names: dict[str, str]) -> str | None:
    """The code of a drawing that is known by its published name alone, or None."""
    plain = re.sub(r"-\d+$", "", name).removeprefix("flag-for-").removeprefix("flag-")
    in_one_word = name.replace("-", "")
    flags = [f"flag-{plain}"] if name.startswith("flag-for-") else []
    if in_one_word.endswith("flag"):
        flags.append(f"flag{in_one_word[:-4]}")
    older = name.replace("cat-face", "cat")
    candidates = [*flags, name, re.sub(r"-\d+$", "", name), plain, f"flag-{name}", in_one_word, older]
    return next((names[candidate] for candidate in candidates if candidate in names), None)


def _icons(archive: Path, labels: dict[str, dict], names: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield (file name, words, SVG text) of the icons whose words all occur in the emoji's labels or tags.

    So "swimming-ring" is taken and "align-text-both-one" is not. Of several sizes of one icon the largest is taken; what
    an emoji label names already is left out, as are arrows and signs, which have no subject.
    """
    vocabulary = {word for known in labels.values() for word in _slug(known["label"]).split("-")}
    vocabulary |= {word for known in labels.values() for tag in known["tags"] for word in _slug(tag).split("-")}
    icons = json.loads(npm.read(archive, "icons.json"))
    chosen: dict[str, str] = {}
    for name in sorted(icons["icons"], key=lambda name: (len(name), name)):
        words = [word for word in name.split("-") if not word.isdigit() and word not in _NUMBERED]
        short, plain = min(map(len, words), default=0) < 3, "-".join(words)
        if not short and set(words) <= vocabulary and not set(words) & _NO_SUBJECT and plain not in names:
            chosen[" ".join(words)] = name
    for words, name in sorted(chosen.items()):
        yield name, words, svg_text(icons, name)


_NUMBERED = frozenset({"one", "two", "three", "four", "five", "six"})
_NO_SUBJECT = frozenset(
    "arrow arrows up down left right top bottom back forward next previous add remove plus minus check cross sign symbol "
    "square circle on off in out to of and from all more new not no end start open close turn with by for the".split()
)


def _icon(words: str) -> dict:
    """What is known of an icon: its words."""
    return {"label": words, "concept": words, "tags": [], "group": ICONS, "subgroup": ICONS, "tones": []}


def _split(rows: list[dict], sets: tuple[EmojiSet, ...], seed: int) -> None:
    """Give each row its split.

    The first four styles share out pairs and labels as `split_pairs` says, so their split does not change when a style
    is added. A label that they hold out is held out of every style; a sibling holds out the same pairs; a style that is
    held out is a split of its own; all else is for training.
    """
    first = {emoji_set.style for emoji_set in sets[:4]}
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


def _drawings(archive: Path, labels: dict[str, dict], names: dict[str, str]):
    """Yield (code, published name, SVG text or WebP bytes) for every drawing whose label is known, once each."""
    seen = set()
    if "iconify" in archive.name:
        icons = json.loads(npm.read(archive, "icons.json"))
        coded = [(_code(code), name) for code, name in json.loads(npm.read(archive, "chars.json")).items()]
        if not coded:
            every = [*icons["icons"], *icons.get("aliases", {})]
            coded = [(_code_of(name, names), name) for name in every]
        drawings = ((code, name, svg_text(icons, name)) for code, name in coded if code in labels)
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
        "source": emoji_set.source,
        "licence": emoji_set.licence,
        "author": emoji_set.author,
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

{recoloured} of the `train` pictures are recoloured copies of others, in the first four styles (`group` is `{recolour.GROUP}`, the label names the
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
