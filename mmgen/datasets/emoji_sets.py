"""The sets that the emoji data set is made from, pinned: where each comes from, and on what terms."""

from __future__ import annotations

from dataclasses import dataclass

from mmgen.datasets import npm

LABELS = npm.NpmPackage(
    "emojibase-data",
    "17.0.0",
    "sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
)

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


FIRST = ("fluent-3d", "fluent-flat", "noto", "twemoji")
"""Keys of the four sets that came first: they alone share out what is held out, and are recoloured."""


def _iconify(key, style, licence, author, source, version, integrity, name=None, **more) -> EmojiSet:
    """A set that Iconify packs."""
    package = npm.NpmPackage(f"@iconify-json/{name or key}", version, integrity)
    return EmojiSet(
        key, style, licence, f"{author}, packed by Iconify", f"https://github.com/{source}", package, **more
    )


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
        "noto-v1",
        "blob",
        "Apache-2.0",
        "Google Inc.",
        "googlefonts/noto-emoji",
        "1.2.5",
        "sha512-/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
        sibling="noto",
    ),
    _iconify(
        "emojione",
        "emojione",
        "CC-BY-4.0",
        "EmojiOne (EmojiTwo)",
        "EmojiTwo/emojitwo",
        "1.2.3",
        "sha512-T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
    ),
    _iconify(
        "fxemoji",
        "fxemoji",
        "Apache-2.0",
        "Mozilla",
        "mozilla/fxemoji",
        "1.2.2",
        "sha512-UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==",
    ),
    _iconify(
        "streamline-emojis",
        "streamline",
        "CC-BY-4.0",
        "Streamline (Webalys)",
        "webalys-hq/streamline-vectors",
        "1.2.4",
        "sha512-iNr9T9XuZVTyQPJO8ZlLxBzPkpi7qMl+z1l0C31vpEMqhPMelth3n7CeWQYtixdetDPdI81yeG4ROqjWpYJE6A==",
    ),
    _iconify(
        "icon-park",
        "icon park",
        "Apache-2.0",
        "ByteDance",
        "bytedance/IconPark",
        "1.2.4",
        "sha512-S8fVl49LG/M9hvwb7ruFGInK21AHMv3IJehOJRJgXPLE39OOCP3wbfTWjro/XzsjxRwdvX/lYdGetFOZI0TaJQ==",
        kind=ICONS,
    ),
    _iconify(
        "flat-color-icons",
        "flat color icon",
        "MIT",
        "Icons8",
        "icons8/flat-Color-icons",
        "1.2.3",
        "sha512-KcmJ7CY0TKFv5GuBjiS4/v++jEcNXna1jfY+yq014tnw/MN/jMI2oYpoMHGuIpYtUqDu7eove+WySnOYO8nS3w==",
        kind=ICONS,
    ),
    _iconify(
        "fluent-color",
        "fluent color icon",
        "MIT",
        "Microsoft Corporation",
        "microsoft/fluentui-system-icons",
        "1.2.21",
        "sha512-VETjGx7BMpVsCR3HV5g5t6oBGZ92XKzIRClS5xUvDn1YHAkQTF9OyF/aFdtxYOC8JROoI1SNO/Ql6jZeK7mroA==",
        kind=ICONS,
    ),
    _iconify(
        "openmoji",
        "openmoji",
        "CC-BY-SA-4.0",
        "OpenMoji",
        "hfg-gmuend/openmoji",
        "1.2.29",
        "sha512-vXdhkqcXVSO6suy+m9LbcUM3OdVyuNOtpV8/als/WqfkQIRxevL5Geb/g+6GH/Qwnq1OqksEmaDGTCmZ5nFKJQ==",
        held_out=True,
    ),
)
