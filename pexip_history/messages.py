"""The sentences for what is wrong: one table, messages.toml, which docs/troubleshooting.md is made of too."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("messages.toml")


@cache
def table() -> dict[str, Any]:
    """An introduction, and groups of messages with their cause and fix."""
    import tomllib  # a run in which nothing is wrong needs neither it nor the table

    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


@cache
def _texts() -> dict[str, str]:
    return {name: text for group in table()["group"] for name, text in group.get("messages", {}).items()}


def sentence(name: str, /, **gaps: object) -> str:
    """The message of this name, with its gaps filled."""
    return _texts()[name].format(**gaps)
