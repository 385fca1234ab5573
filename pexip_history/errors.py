"""What can go wrong, as the user reads it. (A stand-in: the lead's file takes its place.)"""

from __future__ import annotations

import unicodedata


class CollectorError(Exception):
    """A run cannot go on; the text is one line for the user, with the fix in it."""


class NodeError(CollectorError):
    """The Management Node cannot be used as it answers now."""


class Passing(NodeError):
    """A fault that may be over in a moment; `retry_after` (seconds) is the node's own advice."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def printable(text: str) -> str:
    """Control and bidi characters, made visible."""
    return "".join(f"\\x{ord(c):02x}" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in text)
