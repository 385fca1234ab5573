"""Whose rows are meant: a person by display name, alias or address. What `erase` empties, `export` finds."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from pexip_history.folder.cells import RISKY
from pexip_history.folder.reading import cell_of, place_of
from pexip_history.messages import sentence

NAME, ALIAS, ADDRESS = "name", "alias", "address"
FIELD = {NAME: "display_name", ALIAS: "remote_alias", ADDRESS: "remote_address"}
"""By option, the column that says whose row it is."""
LOCAL = "local_alias"
"""The alias that was called, or that called: another person's where a call went through a gateway."""
PERSONAL = ("display_name", "remote_alias", "remote_address", LOCAL, "call_tag", "idp_uuid")
"""The columns that erasing empties."""
OWN, CALLED = 1, 2
"""What of a row is the person's: all of PERSONAL but local_alias; local_alias."""

GUARD = re.compile(f"(^|[;\\t\\r\\n])'+(?={RISKY.pattern}|[\\t\\r\\n])")
"""The formula guard's apostrophes."""
UNSEEN = "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
"""Characters without a width, which come along when a name is copied."""


def canonical(text: str) -> str:
    """The text as it is compared: without outer blanks and the formula guard's apostrophes, in one case and one form.

    `É` as one character or as two is the same.
    """
    before = ""
    while text != before:  # taking one away can bring the other to the end
        before = text
        if "'" in text:
            text = GUARD.sub(r"\1", text)
        text = text.strip().strip(UNSEEN)
    return text.casefold() if text.isascii() else unicodedata.normalize("NFC", _folded(text))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())


@dataclass(frozen=True)
class Person:
    """Who is meant: `option` is name, alias or address, `text` the whole value, in which `*` stands for any text."""

    option: str
    text: str

    def __post_init__(self) -> None:
        """Raises ValueError for a text that would mean everybody without a value."""
        if not canonical(self.text):
            raise ValueError(sentence("nobody-named"))

    @cached_property
    def _pieces(self) -> list[str]:
        return canonical(self.text).split("*")

    @property
    def field(self) -> str:
        """The column that says whose row it is."""
        return FIELD[self.option]

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        first, *rest = map(re.escape, self._pieces)
        if rest:  # each piece between stars is taken at its first place, which is the best: others are not tried
            first += "".join(f"(?>.*?{piece})" for piece in rest[:-1]) + f".*{rest[-1]}"
        return re.compile(first, re.DOTALL)

    def is_value(self, value: str) -> bool:
        """Whether the value, as a cell holds it, is the person's. An empty one is nobody's."""
        text = canonical(value)
        return bool(text and self._pattern.fullmatch(text))

    def is_in(self, text: str) -> bool:
        """Whether a longer text, such as a room's name, holds what is looked for."""
        return bool(self._longest) and self._longest in canonical(text)

    @cached_property
    def _longest(self) -> str:
        return max(self._pieces, key=len)

    def finder(self, columns: Sequence[str]) -> Callable[[Sequence[str]], int]:
        """For rows under these columns: what of a row is the person's, OWN and CALLED added up; 0: nothing.

        Rows may be shorter than their header.
        """
        field, called, alias = (place_of(columns, name) for name in (self.field, LOCAL, FIELD[ALIAS]))

        def find(row: Sequence[str]) -> int:
            is_own, local = self.is_value(cell_of(row, field)), cell_of(row, called)
            is_called = bool(local) and (
                (self.option == ALIAS and self.is_value(local))
                or (is_own and canonical(cell_of(row, alias)) == canonical(local))
            )
            return OWN * is_own + CALLED * is_called

        return find
