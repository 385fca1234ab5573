"""A data folder as years of collecting leave it: the aggregates alone, written directly; about 1.6 kB a participant."""

from __future__ import annotations

import csv
import io
import json
import random
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from tests.bench.records import LAST, record_id, shapes, template
from tests.management_node.calls import stamp

EACH = 5
A_DAY = 10_000
HOURS = [8] * 9 + [9] * 14 + [10] * 13 + [11] * 8 + [12] * 7 + [13] * 13 + [14] * 11 + [15] * 5 + [2, 19]


def write(folder: Path, participants: int) -> None:
    """Fill the folder with that many participants, `A_DAY` of them on each day up to `LAST`."""
    rng, days = random.Random(13), max(1, participants // A_DAY)
    with (
        (folder / "pexHistoryConf.csv").open("w", encoding="utf-8", newline="") as conferences,
        (folder / "pexHistoryPart.csv").open("w", encoding="utf-8", newline="") as connections,
    ):
        held, people = shapes(EACH)
        conferences.write(_line(held[0]))
        connections.write(_line(people[0]))
        rows, seats = ([template(_line(map(_text, one.values()))) for one in some] for some in (held, people))
        for number in range(participants // EACH):
            day = LAST.replace(hour=0, minute=0) - timedelta(days=days - 1 - number * days * EACH // participants)
            start = day + timedelta(hours=rng.choice(HOURS), microseconds=rng.randrange(3_600_000_000))
            end = start + timedelta(seconds=rng.randrange(60, 5000))
            own = {"id": record_id("conference", number), "start": stamp(start), "end": stamp(end), "participants": ""}
            conferences.write(rows[number % len(rows)] % own)
            for seat in range(number * EACH, (number + 1) * EACH):
                left = start + (end - start) * rng.random()
                one = {"id": record_id("participant", seat), "conference": own["id"], "end": stamp(left)}
                connections.write(seats[seat % len(seats)] % (own | one))


def _line(cells: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(cells)
    return out.getvalue()


def _text(value: object) -> str:
    return "" if value is None else json.dumps(value) if isinstance(value, (list, dict)) else str(value)


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
