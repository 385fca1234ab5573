"""The sentences for what is wrong: one table, messages.toml, which docs/troubleshooting.md is made of too."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from string import Formatter
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


def counted(number: int, one: str, many: str = "") -> str:
    """`1 row`, `2,000 rows`; `many` is what stands for the word and an s."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


class _Filled(Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        """`row waits|rows wait` is what is counted."""
        one, many, words = format_spec.partition("|")
        return counted(value, one, words) if many else str(super().format_field(value, format_spec))


def sentence(name: str, /, **gaps: object) -> str:
    """The message of this name, with its gaps filled."""
    return _Filled().vformat(_texts()[name], (), gaps)
