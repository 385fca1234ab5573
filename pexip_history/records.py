"""Conferences, participants and streams as the node sends them: pages, ids, times."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from .errors import NodeError

if TYPE_CHECKING:
    import msgspec

CONFERENCE, PARTICIPANT, STREAM = "conference", "participant", "stream"
KEYS = {CONFERENCE: ("id",), PARTICIPANT: ("id",), STREAM: ("participant_id",)}
"""The columns that identify a row of a file, and that a file of ours must have."""
PLAIN = {"id", "conference", "start_time", "end_time"}
"""Fields that are looked at, and never kept as the JSON that they came as."""
MOST_FIELDS = 500
"""Of a record: the API has 45. A column once in an aggregate stays there."""
MOST_VALUES = 400_000
"""Of an answer. A page of 1,000 usual records has 90,000; what is decoded of so many stays below 100 MB."""
STREAMS = 5000
"""Made into columns at once: those of a page of usual records."""
UNCOUNTED = 3_000_000
"""Bytes of an answer whose values need no counting, for so few cannot become too much."""
LONGEST_NAME = 200
"""Characters of a field's name, which stays in an aggregate as its column's."""
NOT_THE_API = "answered JSON that is not the History API's"

Record = dict[str, object]
Columns = dict[str, Sequence[object]]


@dataclass(frozen=True)
class Page:
    """One answer of a list, by column: its records' fields in the node's order.

    `total` is how many records the query has, `following` where the next page is.
    """

    columns: Columns
    total: int
    following: str | None = None

    @cached_property
    def ids(self) -> list[str]:
        """As text, whatever JSON type they have."""
        return [as_text(i) for i in self.columns.get("id", ())]

    @cached_property
    def ends(self) -> list[str]:
        """End times, UTC in the node's usual form, empty where there is none."""
        return utc_times(self.columns.get("end_time", [""] * len(self.ids)))

    def column(self, name: str) -> Sequence[object]:
        """The field of every record, None where records lack it."""
        return self.columns.get(name) or [None] * len(self.ids)

    def only(self, places: Sequence[int]) -> Page:
        """The records at these places alone."""
        if len(places) == len(self.ids):
            return self
        return Page({n: [column[i] for i in places] for n, column in self.columns.items()}, self.total)


class PageReader:
    """Reads the answers of one resource; the faster, the more a page is like the one before.

    Nested values stay JSON (msgspec.Raw) and fractions text, as the node wrote them. Raises ValueError
    for what is not JSON and NodeError for what no list answers, as one of more than `most` records.
    """

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._names: list[str] = []
        self._decoder: msgspec.json.Decoder[Any] | None = None
        self._row: Callable[[Any], tuple[object, ...]] = tuple[object, ...]

    def __call__(self, body: bytes) -> tuple[Record, Columns]:
        """The answer's meta and its records by column."""
        if found := self._quick(body):
            return found
        if too_many_values(body):
            raise NodeError("answered more values than a page of records has")
        meta, objects = envelope(body, self._most)
        names = _names_of(objects)
        self._learn(names, objects)
        return self._quick(body) or (
            meta,
            {name: [as_sent(record.get(name)) for record in objects] for name in names},
        )

    def _quick(self, body: bytes) -> tuple[Record, Columns] | None:
        """The same where every record has the fields that were learned."""
        import msgspec

        if not self._decoder:
            return None
        try:
            answer = self._decoder.decode(body)
        except (msgspec.DecodeError, RecursionError):
            return None
        _check_number(answer.objects, self._most)
        rows = zip(*map(self._row, answer.objects), strict=True)
        return answer.meta, dict(zip(self._names, rows, strict=False))

    def _learn(self, names: list[str], objects: list[Record]) -> None:
        """Expect records with these fields from now on."""
        import msgspec

        self._decoder = None
        if not names:
            return
        lists = {name for record in objects for name, value in record.items() if _is_nested(value)} - PLAIN
        places = {name: f"f{number}" for number, name in enumerate(names)}
        fields = [(place, msgspec.Raw if name in lists else object) for name, place in places.items()]
        rename = {place: name for name, place in places.items()}
        with suppress(ValueError):  # a name that msgspec does not take
            record = msgspec.defstruct("Record", fields, rename=rename, forbid_unknown_fields=True, gc=False)
            shape: Any = msgspec.defstruct("Answer", [("meta", dict[str, object]), ("objects", list[record])])  # type: ignore[valid-type]
            self._decoder = msgspec.json.Decoder(shape, float_hook=str)
        self._row = attrgetter(*rename, "f0")
        self._names = names


def too_many_values(body: bytes) -> bool:
    """Whether JSON may hold more values than a page has: a few bytes can each become a list of 60."""
    return sum(map(body.count, (b",", b"[", b"{"))) > MOST_VALUES


def _check_number(objects: Sequence[object], most: int) -> None:
    if len(objects) > most:
        raise NodeError(f"answered {len(objects)} records at once where at most {most} were asked for")


def _names_of(records: Iterable[Iterable[str]]) -> list[str]:
    """Every field that a record has, in the order of their appearance."""
    names = list(dict.fromkeys(itertools.chain.from_iterable(records)))
    if len(names) > MOST_FIELDS:
        raise NodeError(f"answered records with {len(names)} fields, of which the History API has under 100")
    if names and (longest := max(map(len, names))) > LONGEST_NAME:
        raise NodeError(f"answered a field name of {longest} characters, longer than any of the History API's")
    return names


def envelope(body: bytes, most: int) -> tuple[Record, list[Record]]:
    """The meta and the records of a list's answer, whatever fields each has; values are msgspec.Raw where they can be.

    Raises ValueError, NodeError.
    """
    import msgspec

    shape: Any = msgspec.defstruct("Answer", [("meta", dict[str, object]), ("objects", list[dict[str, msgspec.Raw]])])
    try:
        answer = msgspec.json.decode(body, type=shape)
        _check_number(answer.objects, most)
        return answer.meta, answer.objects
    except (msgspec.DecodeError, RecursionError):
        pass  # what only json takes, or no list at all
    found = decode(body)
    meta, objects = (found.get("meta"), found.get("objects")) if isinstance(found, dict) else (None, None)
    if not (isinstance(meta, dict) and isinstance(objects, list) and all(isinstance(o, dict) for o in objects)):
        raise NodeError(NOT_THE_API)
    _check_number(objects, most)
    return meta, objects


def _is_nested(value: object) -> bool:
    import msgspec

    return bytes(value)[:1] in b"[{" if isinstance(value, msgspec.Raw) else isinstance(value, (list, dict))


def as_sent(value: object) -> object:
    """Of JSON as it came: a list or an object as it is; a fraction as the text that it is."""
    import msgspec

    if not isinstance(value, (msgspec.Raw, bytes)):
        return value
    text = bytes(value)
    return msgspec.Raw(text) if text[:1] in b"[{" else msgspec.json.Decoder(float_hook=str).decode(text)


def decode(body: bytes) -> object:
    """JSON to Python; whole numbers keep every digit. Raises ValueError.

    What only json takes (NaN, half a surrogate pair) goes there.
    """
    import msgspec

    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("nested too deep") from None


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
            names = _names_of(some)
        except NodeError as error:
            raise NodeError(f"the node {error} (media_streams); is DEFAULT_MGR_ADDRESS a Management Node?") from None
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
    """The id at the end of a resource URI (or the id itself)."""
    if isinstance(value, str):
        text = value if value.isascii() else as_text(value)
        return text.rstrip("/").rpartition("/")[2] or None
    return None if value is None or isinstance(value, (dict, list, bool)) else as_text(value)


def as_text(value: object) -> str:
    """An id as the ledger knows it; half of a surrogate pair, which UTF-8 cannot hold, becomes `?`."""
    text = str(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def utc_times(values: Iterable[object]) -> list[str]:
    """Times as the node usually writes them, UTC without a zone, which sort as they follow in time.

    Z and offsets are taken into account; what is no time stays as it is.
    """
    texts = [str(value or "") for value in values]
    joined = "".join(texts)
    if not joined.isascii():
        texts = list(map(as_text, texts))
    if joined.count("-") <= 2 * len(texts) and not any(sign in joined for sign in "Zz+ "):
        return texts
    return [_utc(text) for text in texts]


def _utc(text: str) -> str:
    moment = read_time(text)
    return format_time(moment) if moment else text


def read_time(text: str) -> datetime | None:
    """The moment (UTC) of an ISO 8601 time, UTC where it has no offset; None for what is none."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def format_time(moment: datetime) -> str:
    """UTC as the node writes it: no zone, no fraction where there is none."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat()


def parse_time(text: str | None) -> datetime | None:
    """The moment (UTC) that `format_time` wrote."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC) if text else None
