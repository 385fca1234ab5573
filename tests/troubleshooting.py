"""docs/troubleshooting.md, made of the table of messages: python -m tests.troubleshooting writes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from string import Formatter
from typing import Any

from pexip_history.messages import table
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"


def shown(text: str) -> str:
    """A message as the page shows it: … for what differs, and the word for several of what is counted."""
    found = ""
    for words, name, spec, _ in Formatter().parse(text):
        several = (spec or "").partition("|")[2]
        found += f"{words}{'…' if name else ''}{f' {shown(several)}' if several else ''}"
    return found


def _item(text: str) -> str:
    return f"- `` {text} ``" if "`" in text else f"- `{text}`"


def _lines(group: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {group['section']}\n" if "section" in group else ""
    yield f"### {group['heading']}\n" if "heading" in group else ""
    before = group.get("before", "")
    of = before if isinstance(before, dict) else {"*": before}
    items = [of.get(name, of.get("*", "")) + shown(text) for name, text in group.get("messages", {}).items()]
    items += [f"entrypoint: {shown(text)}" for text in group.get("entrypoint", {}).values()]
    yield "".join(f"{_item(text)}\n" for text in items)
    yield f"{group['about']}\n"


def page() -> str:
    parts = ["# Troubleshooting\n", f"{table()['introduction']}\n"]
    parts += [line for group in table()["group"] for line in _lines(group) if line]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
