"""Records to cells and rows; rewriting a file of ours, whole or not at all."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence

from pexip_history.folder.reading import BOM as BOM
from pexip_history.node.answers import as_sent
from pexip_history.resources import FILES

CHUNK = 250  # rows made at once; more take more memory and no less time
UNGUARDED = frozenset(name for resource in FILES for name in resource.key)
"""Keys are compared: they stay what they are."""

# What a spreadsheet runs begins with a sign; + and - only where no number and no telephone number follows.
# The wide, small, raised and lowered forms are taken for the sign itself; blanks, quotes and characters
# without a width before it are passed over; where `;`, `|` or a tab separates cells, or a line breaks, another begins.
SIGNS = "=+@\\-\uff1d\uff0b\uff20\uff0d\ufe66\ufe62\ufe6b\ufe63\u207a\u207b\u207c\u208a\u208b\u208c"
# Each pattern takes time in proportion to the text, for the text is a stranger's.
BLANKS = '\\s"\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\x00-\x1f'
RISKY = re.compile(f"(?:(?![\t\r\n])[{BLANKS}])*+[{SIGNS}]")
SEPARATORS = ";|\t\r\n"
"""Behind each of them another cell may begin."""
RISKY_INSIDE = re.compile(f"[{SEPARATORS}](?={RISKY.pattern})")
SUSPECT = re.compile(f"[{BLANKS}{SIGNS}]")
HARMLESS = re.compile(r" *[+-](\d[\d ()./-]*|(\d+(\.\d+)?|\.\d+)([eE][+-]?\d+)?)?", re.ASCII)
HARMLESS_INSIDE = re.compile(rf"(?:{HARMLESS.pattern})(?=[{SEPARATORS}]|\Z)", re.ASCII)
_Q, _QQ = '"', '""'


def guard(text: str) -> str:
    """The text with an apostrophe wherever a spreadsheet would take what follows for a formula."""
    if HARMLESS.fullmatch(text):
        return text
    guarded, done = io.StringIO(), 0  # a list of pieces can take a hundred times as much as the text
    guarded.write("'" if RISKY.match(text) or text[:1] in ("\t", "\r", "\n") else "")
    for found in RISKY_INSIDE.finditer(text):
        if not HARMLESS_INSIDE.match(text, found.end()):
            guarded.write(text[done : found.end()])
            guarded.write("'")
            done = found.end()
    guarded.write(text[done:])
    return guarded.getvalue()


def cells(values: Sequence[object], escape: bool) -> list[str]:
    """A column's values as CSV cells (RFC 4180)."""
    import msgspec

    kinds = set(map(type, values))
    if len(kinds) == 1 and kinds <= {str, int, bool} and 2 * len(distinct := set(values)) < len(values):
        shown = dict(zip(distinct, cells([*distinct], escape), strict=True))
        return list(map(shown.__getitem__, values))
    texts: list[str]
    if kinds == {msgspec.Raw}:
        raws = [msgspec.json.format(value, indent=-1) for value in values]  # type: ignore[call-overload]
        texts = b"\n".join(raws).decode(errors="replace").split("\n")
        if all(text[0] in "[{" for text in texts):
            return [f'"{text.replace(_Q, _QQ)}"' for text in texts]
        return cells([as_sent(raw) for raw in raws], escape)
    if kinds <= {str, type(None)}:
        texts = [value or "" for value in values]  # type: ignore[misc]
    elif kinds <= {int, float, bool, type(None)}:
        return ["" if value is None else str(value) for value in values]
    else:
        # Only text can be taken for a formula: a number, a list and an object keep their signs.
        texts = ["" if v is None else guard(v) if isinstance(v, str) and escape else compact(v) for v in values]
        escape = False
    joined = "".join(texts)
    if escape:
        suspects = {first for first in {text[:1] for text in texts} if SUSPECT.match(first)}
        inside = any(sign in joined for sign in SEPARATORS) and RISKY_INSIDE.search(joined)
        if inside:
            texts = [guard(t) if t[:1] in suspects or RISKY_INSIDE.search(t) else t for t in texts]
        elif suspects:
            texts = [guard(t) if t[:1] in suspects else t for t in texts]
    if _Q in joined:
        return [f'"{t.replace(_Q, _QQ)}"' if _Q in t or _breaks(t) else t for t in texts]
    if _breaks(joined):
        return [f'"{t}"' if _breaks(t) else t for t in texts]
    return texts


def compact(value: object) -> str:
    """A list or an object as compact JSON, anything else as its text."""
    import msgspec

    if isinstance(value, (msgspec.Raw, bytes)):
        return msgspec.json.format(bytes(value), indent=-1).decode(errors="replace")
    if not isinstance(value, (list, dict)):
        return str(value)
    try:
        return msgspec.json.encode(value).decode()
    except ValueError:  # half a surrogate pair
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _breaks(text: str) -> bool:
    return "," in text or "\n" in text or "\r" in text


def encode(text: str) -> bytes:
    """UTF-8; half of a surrogate pair, which UTF-8 cannot hold, becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def header_line(columns: Sequence[str], bom: bool) -> bytes:
    return (BOM if bom else b"") + encode(",".join(cells(columns, False)) + "\r\n")
