"""Errors that a person can act on."""

from __future__ import annotations

import math


class UserError(ValueError):
    """Something outside the program is wrong. The message is one sentence or two: what is wrong, and what to do."""


def shown(value: object, most: int = 40) -> str:
    """A value in a sentence: no more of it than a person would read, nor of a number than Python would write.

    >>> shown(10**399), shown(7), shown("a" * 60, 5)
    ('a number of 400 digits', '7', 'aaaaa')
    """
    if isinstance(value, int) and abs(value) >= 10**20:
        digits = math.floor((value.bit_length() - 1) * math.log10(2)) + 1
        return f"a number of {digits + (abs(value) >= 10**digits)} digits"
    return str(value)[:most]
