"""A data folder as years of collecting leave it, for the report: the aggregates alone, written directly.

A row is one of some hundred shapes (names with line breaks, scripts, media streams as JSON) with ids, times
and a room of its own; about 1.9 kB a participant, as a node's own are.
"""

from __future__ import annotations

import csv
import io
import json
import random
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from tests.management_node.calls import Record, call, stamp

SHAPES = 211
BYTES_EACH = 1640
"""Of a participant's row, about."""
EACH = 5
A_DAY = 10_000
LAST = datetime(2026, 11, 24, 23, 30)
HOURS = [8] * 9 + [9] * 14 + [10] * 13 + [11] * 8 + [12] * 7 + [13] * 13 + [14] * 11 + [15] * 5 + [2, 19]


def write(folder: Path, participants: int) -> None:
    """Fill the folder with that many participants, `A_DAY` of them on each day up to `LAST`."""
    rng = random.Random(13)
    held, people = _shapes(rng)
    days = max(1, participants // A_DAY)
    with (
        (folder / "pexHistoryConf.csv").open("w", encoding="utf-8", newline="") as conferences,
        (folder / "pexHistoryPart.csv").open("w", encoding="utf-8", newline="") as connections,
    ):
        conferences.write(",".join(_columns(call(rng, LAST)[0])) + "\r\n")
        connections.write(",".join(_columns(call(rng, LAST)[1][0])) + "\r\n")
        for number in range(participants // EACH):
            day = LAST.replace(hour=0, minute=0) - timedelta(days=days - 1 - number * days * EACH // participants)
            start = day + timedelta(hours=rng.choice(HOURS), microseconds=rng.randrange(3_600_000_000))
            end = start + timedelta(seconds=rng.randrange(60, 5000))
            own = {"id": _id(rng), "start": stamp(start), "end": stamp(end)}
            conferences.write(held[number % len(held)] % own)
            for seat in range(EACH):
                left = start + (end - start) * rng.random()
                connections.write(
                    people[(number * EACH + seat) % len(people)]
                    % {"id": _id(rng), "conference": own["id"], "start": own["start"], "end": stamp(left)}
                )


def _shapes(rng: random.Random) -> tuple[list[str], list[str]]:
    conferences, participants = [], []
    for _ in range(SHAPES):
        one, present = call(rng, LAST, participants=EACH)
        conferences.append(_line(one, {}))
        participants += [
            _line(each, {"conference": "/api/admin/history/v1/conference/%(conference)s/"}) for each in present
        ]
    return conferences, participants


def _line(record: Record, more: dict[str, str]) -> str:
    """The record's row, to be filled in with `%`."""
    own = {"id": "%(id)s", "start_time": "%(start)s", "end_time": "%(end)s"} | more
    out = io.StringIO()
    csv.writer(out).writerow(own.get(name) or _text(record[name]).replace("%", "%%") for name in _columns(record))
    return out.getvalue()


def _columns(record: Record) -> Iterator[str]:
    return (name for name in record if not name.endswith("cketed_call_quality"))


def _text(value: object) -> str:
    return "" if value is None else json.dumps(value) if isinstance(value, (list, dict)) else str(value)


def _id(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
