"""JSON of the node to pages by column: fast where a page is like the one before, exact and bounded everywhere."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from pexip_history.errors import NodeError

if TYPE_CHECKING:
    import msgspec

MOST_FIELDS = 500
"""Of a record: the API has 45. A column once in an aggregate stays there."""
LOOKED_AT = {"id", "conference", "start_time", "end_time"}
"""Fields that are never kept as the JSON that they came as."""
LISTS = {"participants", "media_streams"}
"""Fields that are kept so, though the first page that is seen may have none of them."""
PLAIN = str | int | bool | None
"""What the other fields have: a page with something else in one of them is read the slow way, and learned from."""
MOST_VALUES = 400_000
"""Of an answer. A page of 1,000 usual records has 90,000; what is decoded of so many stays below 100 MB."""
UNCOUNTED = 3_000_000
"""Bytes of an answer whose values need no counting, for so few cannot become too much."""
LONGEST_NAME = 200
"""Characters of a field's name, which stays in an aggregate as its column's."""
NOT_THE_API = "JSON that is not the History API's"

Record = dict[str, object]
Columns = dict[str, Sequence[object]]
"""Each field of all records, in their order."""


class PageReader:
    """Reads the answers of one resource; the faster, the more a page is like the one before.

    Nested values stay JSON (msgspec.Raw) and fractions text, as the node wrote them. Raises ValueError
    for what is not JSON and NodeError for what no list answers, as one of more than `most` records.
    """

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._names: list[str] = []
        self._kept = set(LISTS)
        self._decoder: msgspec.json.Decoder[Any] | None = None
        self._row: Callable[[Any], tuple[object, ...]] = tuple[object, ...]

    def __call__(self, body: bytes) -> tuple[Record, Columns]:
        """The answer's meta and its records by column."""
        if found := self._quick(body):
            return found
        if too_many_values(body):
            raise NodeError("more values than a page of records has")
        meta, objects = envelope(body, self._most)
        names = names_of(objects)
        self._learn(names, objects)
        return self._quick(body) or (meta, {name: [as_sent(record.get(name)) for record in objects] for name in names})

    def _quick(self, body: bytes) -> tuple[Record, Columns] | None:
        """The same where every record has the fields that were learned, and nothing else in them."""
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
        self._kept |= {name for record in objects for name, value in record.items() if not _is_plain(value)} - LOOKED_AT
        kinds = dict.fromkeys(self._kept, msgspec.Raw) | dict.fromkeys(LOOKED_AT, object)
        places = {name: f"f{number}" for number, name in enumerate(names)}
        fields = [(place, kinds.get(name, PLAIN)) for name, place in places.items()]
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
        raise NodeError(f"{len(objects)} records at once where at most {most} were asked for")


def names_of(records: Iterable[Iterable[str]]) -> list[str]:
    """Every field that a record has, in the order of their appearance."""
    names = list(dict.fromkeys(itertools.chain.from_iterable(records)))
    if len(names) > MOST_FIELDS:
        raise NodeError(f"records with {len(names)} fields, of which the History API has under 100")
    if names and (longest := max(map(len, names))) > LONGEST_NAME:
        raise NodeError(f"a field name of {longest} characters, longer than any of the History API's")
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


def _is_plain(value: object) -> bool:
    """Whether it is neither nested nor a fraction."""
    import msgspec

    if not isinstance(value, msgspec.Raw):
        return not isinstance(value, (list, dict, float))
    first = bytes(value)[:1]
    return first not in b"[{" and (first not in b"-0123456789" or bytes(value).lstrip(b"-").isdigit())


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
