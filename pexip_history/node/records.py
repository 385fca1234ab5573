"""Conferences, participants and streams as the node sends them: pages, ids, times."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

from pexip_history.errors import NodeError
from pexip_history.messages import sentence
from pexip_history.node.answers import NOT_THE_API, Columns, decode, names_of
from pexip_history.resources import Resource
from pexip_history.values import as_text, utc_times

OWN_ADDRESS_ONLY = frozenset({"bucketed_call_quality", "historic_call_quality"})
"""Fields that only a record's own address shows (an old release in lists too): they make no column."""
MOST_RECORDS = 100_000_000
"""That a query can have: a node keeps 10,000 conferences."""
STREAMS = 5000
"""Made into columns at once: those of a page of usual records."""


@dataclass(frozen=True)
class Page:
    """One answer of a list, by column: its records' fields in the node's order.

    `total` is how many records the query has, `following` where the next page is, `time` the field that spans are
    compared with, `left_out` how many records of the answer have no id and are not here.
    """

    columns: Columns
    total: int
    following: str | None = None
    time: str = "end_time"
    left_out: int = 0

    @cached_property
    def ids(self) -> list[str]:
        """As text, whatever JSON type they have."""
        return [as_text(i) for i in self.columns.get("id", ())]

    @cached_property
    def times(self) -> list[str]:
        """When they ended (UTC, in the node's usual form), empty where that is not said."""
        return utc_times(self.columns.get(self.time, [""] * len(self.ids)))

    def column(self, name: str) -> Sequence[object]:
        """The field of every record, None where records lack it."""
        return self.columns.get(name) or [None] * len(self.ids)

    def only(self, places: Sequence[int]) -> Page:
        """The records at these places alone."""
        if len(places) == len(self.ids):
            return self
        columns: Columns = {name: [column[i] for i in places] for name, column in self.columns.items()}
        return replace(self, columns=columns)


def page_of(resource: Resource, meta: Mapping[str, object], columns: Columns, *, whole: bool = False) -> Page:
    """The page that an answer is; `whole`: with the fields that only a record's own address shows.

    `following` is as the node names it. Raises NodeError: what the History API never answers.
    """
    total, following = meta.get("total_count"), meta.get("next")
    if not isinstance(total, int) or total < 0:
        raise NodeError(NOT_THE_API)
    if total > MOST_RECORDS:
        raise NodeError(f"a count of {total} records")
    if columns and not columns.get("id"):
        raise NodeError("records without an id")
    columns = {name: values for name, values in columns.items() if whole or name not in OWN_ADDRESS_ONLY}
    if "conference" in columns:
        columns["conference"] = _as_uris(columns["conference"])
    return Page(columns, total, str(following) if following else None, resource.time)


def _as_uris(values: Sequence[object]) -> Sequence[object]:
    """A column of records' URIs, also where the node nests the record itself: what a row refers to is one thing."""
    if not any(isinstance(value, dict) for value in values):
        return values
    return [value.get("resource_uri") or value.get("id") if isinstance(value, dict) else value for value in values]


def listings(conferences: Page) -> Iterator[tuple[str, str]]:
    """(participant, conference) for each participant that a page of conferences lists."""
    for conference, listed in zip(conferences.ids, conferences.column("participants"), strict=True):
        for participant in map(uri_id, nested(listed)):
            if participant:
                yield participant, conference


def streams(participants: Page) -> Iterator[Columns]:
    """The media streams of participants, each keyed by its participant's id, some thousand at a time."""
    found = (
        {"participant_id": participant, **stream}
        for participant, listed in zip(participants.ids, participants.column("media_streams"), strict=True)
        for stream in nested(listed)
        if isinstance(stream, dict)
    )
    while some := list(itertools.islice(found, STREAMS)):
        try:
            names = names_of(some)
        except NodeError as error:
            raise NodeError(sentence("streams-malformed", what=error)) from None
        yield {name: [stream.get(name) for stream in some] for name in names}


def nested(value: object) -> list[object]:
    """A nested value as a list, whether it was decoded, is still JSON (of the node, or of a cell), or is none."""
    import msgspec

    if isinstance(value, (str, msgspec.Raw)):
        try:
            value = decode(value.encode() if isinstance(value, str) else bytes(value))
        except ValueError:
            return []
    return value if isinstance(value, list) else []


def uri_id(value: object) -> str | None:
    """The id at the end of a resource URI (or the id itself, or that of a record in place of its URI)."""
    if isinstance(value, str) and value[:1] == "{":  # so an earlier version wrote it
        with suppress(ValueError):
            value = decode(value.encode())
    if isinstance(value, dict):
        value = value.get("id") or value.get("resource_uri")
    if isinstance(value, str):
        text = value if value.isascii() else as_text(value)
        return text.rstrip("/").rpartition("/")[2] or None
    return None if value is None or isinstance(value, (list, dict, bool)) else as_text(value)
