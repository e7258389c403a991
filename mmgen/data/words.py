"""Words as people save them: encodings, values that are no words, and names that are written in two ways."""

from __future__ import annotations

import codecs
import math
import unicodedata
from typing import Any

from charset_normalizer import from_bytes

NOTHING = frozenset({"nan", "NaN", "None", "null", "NULL", "<NA>"})
"""What other programs write into a table where there is no word."""

_CANDIDATES = ("cp1251", "cp1253", "cp932", "gb18030", "cp949", "big5", "cp1250")
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def decode(content: bytes) -> tuple[str, str]:
    """The text in a file, and its encoding, "" if that is UTF-8 and so no guess.

    Windows' encoding for Western Europe is tried before `charset_normalizer`, which needs more than a caption's few
    letters to tell languages apart.

    Raises:
        UnicodeDecodeError: it is no text.
    """
    for mark, name in _BOMS:
        if content.startswith(mark):
            return content.decode(name), "" if name == "utf-8-sig" else "UTF-16"
    try:
        return content.decode("utf-8"), ""
    except UnicodeDecodeError as error:
        if b"\0" in content:
            raise error
        found = _western(content) or _japanese(content)
        if found is None:
            best = from_bytes(content, cp_isolation=list(_CANDIDATES)).best()
            if best is None:
                raise error
            found = str(best), best.encoding
        return found


def _western(content: bytes) -> tuple[str, str] | None:
    """The text in Windows' Western encoding, if it reads as words: some accents and quotation marks among letters."""
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError:
        return None
    high = [letter for letter in text if letter > "\x7f"]
    letters = sum(letter.isalpha() for letter in text)
    fit = all(letter.isalpha() or letter in "‘’“”„‚–—…«»°·€£©®™\xa0" for letter in high)
    return (text, "cp1252") if fit and 2 * sum(map(str.isalpha, high)) <= letters else None


def _japanese(content: bytes) -> tuple[str, str] | None:
    try:
        text = content.decode("cp932")
    except UnicodeDecodeError:
        return None
    kana = sum("\u3041" <= letter <= "\u30fc" for letter in text)
    half_width = any("\uff61" <= letter <= "\uff9f" for letter in text)
    return (text, "cp932") if kana and not half_width else None


def clean(words: str) -> str:
    """Without spaces around it and halves of characters, which JSON can name and Arrow cannot hold."""
    return words.encode("utf-8", "ignore").decode().strip()


def as_words(value: Any) -> str | None:
    """A cell of a table as text: "" where there is nothing in it, None if it cannot be words."""
    if value is None or value is False or value is True:
        return None if value is not None else ""
    if isinstance(value, float):
        if not math.isfinite(value):
            return ""
        value = int(value) if value == int(value) else value  # As pandas writes whole numbers beside an empty cell.
    if not isinstance(value, (str, int, float)):
        return None
    words = clean(str(value))
    return "" if words in NOTHING else words


def fold(name: str) -> str:
    """A name as it is compared where no file has it as it is written: in one Unicode form, without case."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
