"""Files that wait to be published, and what is known of an aggregate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """An aggregate as it was when it was last written: its size in bytes, and a hash of what it ended with."""

    size: int
    tail: str


@dataclass(frozen=True)
class Staged:
    """A file of rows that waits in `.collector` to be published.

    `head` is where its rows begin (bytes); `size` what the aggregate held (bytes) as publishing
    began, None before that.
    """

    pair: int
    resource: str
    stem: str
    head: int
    rows: int
    size: int | None = None

    @property
    def name(self) -> str:
        return f"{self.pair}-{self.resource}.csv"
