"""Stand-in of the branch notify; the lead's own takes its place."""

from __future__ import annotations

CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


def printable(text: str) -> str:
    return text.translate(CONTROLS)
