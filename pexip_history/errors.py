"""What goes wrong, in the words that the user reads. (A stand-in until the lead's own is there.)"""

from __future__ import annotations

import re

_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class CollectorError(Exception):
    """A failure with its fix, in one line."""


def printable(text: str) -> str:
    """The text with what moves a cursor or turns a line around made visible."""
    return _HIDDEN.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
