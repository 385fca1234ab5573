"""Text for a service that shows it to people, where it must be text and nothing else.

A message repeats what strangers wrote: the subject of a certificate, the target of a redirect, a line of the ledger.
A chat would make mentions, links and markup of it, each service by its own rules.
"""

from __future__ import annotations

import re

from pexip_history.errors import printable

SIGNS = str.maketrans(
    {"@": "(at)", "<": "‹", ">": "›", "[": "(", "]": ")", "`": "'", "*": "∗", "~": "∼", "|": "¦", "#": "♯"}
)
"""What begins a mention or markup, and what stands for it."""
LOOSE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
"""An underscore that is not within a word, as it is in the names of settings."""
DOT = re.compile(r"[.\u3002\uff0e\uff61]")
DOTTED = re.compile(rf"[\w-]+(?:{DOT.pattern}[\w-]+)+")
ADDRESS = re.compile(r"(\d+\.){3}\d+")
OURS = re.compile(r"collector\.py|.+\.(csv|html|jsonl|log|parquet|sqlite|xlsx)", re.IGNORECASE)
"""Files, whose names no service takes for a host's."""


def plain(text: str, host: str) -> str:
    """The text without anything that a service could take for a mention, for markup, or for a link to another host.

    Lines stay lines. Names of hosts but `host`, the user's own, are written as in evil[.]example.
    """

    def defused(found: re.Match[str]) -> str:
        name = found[0]
        return DOT.sub("[.]", name) if _is_host(name) and name.lower() != host.lower() else name

    def line(text: str) -> str:
        text = LOOSE.sub("-", printable(text).translate(SIGNS)).replace("://", "[:]//")
        return DOTTED.sub(defused, text)

    return "\n".join(map(line, text.split("\n")))


def _is_host(name: str) -> bool:
    last = DOT.split(name)[-1]
    return bool(last.isalpha() or last.lower().startswith("xn--") or ADDRESS.fullmatch(name)) and not OURS.fullmatch(
        name
    )
