"""The node that the benchmark collects from, a process of its own: TLS, and pages ready made.

It answers as the History API on Tastypie does, as far as a collection can see, but a page is a slice of a file: no
time goes into building it, so that what is timed is the client.

    python -m tests.bench.node FOLDER PARTICIPANTS PAGE DELAY

FOLDER gets the records and ca.pem; DELAY is what it spends on each object, in seconds. It says where it listens and
when the records were made, and at each line on standard input what was asked since the last: lines of JSON.
"""

from __future__ import annotations

import base64
import json
import mmap
import sys
import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

from tests.bench.records import record_id, shapes, template
from tests.bench.stage import PASSWORD, Day
from tests.management_node import certificates
from tests.management_node.calls import ROOT, Record, stamp
from tests.management_node.server import Reply, Request, Server

AUTHORIZATION = f"Basic {base64.b64encode(f'admin:{PASSWORD}'.encode()).decode()}"
EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
SEPARATOR = b", "


class Resource:
    """Records in the order of their ends, in a file, joined as they stand in a JSON list."""

    def __init__(self, file: Path, records: Iterator[tuple[datetime, str]]) -> None:
        self.ends, self.starts = array("q"), array("q")
        with file.open("wb", buffering=1 << 20) as out:
            for end, text in records:
                self.ends.append(_number(end))
                self.starts.append(out.tell())
                out.write(text.encode() + SEPARATOR)
            self.starts.append(out.tell())
        with file.open("rb") as made:
            self.data = mmap.mmap(made.fileno(), 0, prot=mmap.PROT_READ)

    def slice(self, some: range) -> bytes:
        return self.data[self.starts[some.start] : self.starts[some.stop]].removesuffix(SEPARATOR)

    def select(self, filters: dict[str, str]) -> range:
        """Those that ended as it is asked. Raises ValueError at any other filter."""
        low, high = 0, len(self.ends)
        for name, value in filters.items():
            moment = _number(datetime.fromisoformat(value))
            match name:
                case "end_time__gte":
                    low = max(low, bisect_left(self.ends, moment))
                case "end_time__lt":
                    high = min(high, bisect_left(self.ends, moment))
                case "end_time__lte":
                    high = min(high, bisect_right(self.ends, moment))
                case _:
                    raise ValueError(f"The '{name}' field does not allow filtering.")
        return range(low, max(low, high))


class Node:
    def __init__(self, resources: dict[str, Resource], most: int, delay: float) -> None:
        self.resources, self.most, self.delay = resources, most, delay
        self.slept = 0.0

    def answer(self, request: Request) -> Reply:
        resource = self.resources.get(request.resource)
        if request.headers["Authorization"] != AUTHORIZATION:
            return Reply(401)
        if resource is None or request.path != f"{ROOT}{request.resource}/":
            return Reply(404)
        try:
            return self.page(resource, request.path, request.query)
        except ValueError as error:
            return Reply(400, {"Content-Type": "application/json"}, json.dumps({"error": str(error)}).encode())

    def page(self, resource: Resource, path: str, query: dict[str, str]) -> Reply:
        filters = dict(query)
        limit = min(int(filters.pop("limit", 20)) or self.most, self.most)
        offset = int(filters.pop("offset", 0))
        if filters.pop("order_by", "end_time") != "end_time":
            raise ValueError("This field does not allow ordering.")
        found = resource.select(filters)
        page, after = found[offset : offset + limit], None
        if offset + limit < len(found):
            after = f"{path}?{urlencode(query | {'limit': limit, 'offset': offset + limit})}"
        meta = {"limit": limit, "next": after, "offset": offset, "previous": None, "total_count": len(found)}
        time.sleep(self.delay * len(page))
        self.slept += self.delay * len(page)
        body = b'{"meta": %b, "objects": [%b]}' % (json.dumps(meta).encode(), resource.slice(page))
        return Reply(200, {"Content-Type": "application/json"}, body)


def _number(moment: datetime) -> int:
    """Microseconds since 1970; UTC where it says nothing."""
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - EPOCH) // MICROSECOND


def _templates(some: list[Record]) -> list[str]:
    texts = (json.dumps(one, sort_keys=True, ensure_ascii=False) for one in some)
    return [template(text.replace('"<participants>"', "<participants>")) for text in texts]


def _conferences(day: Day, filled: list[str]) -> Iterator[tuple[datetime, str]]:
    for number in range(day.counts["conference"]):
        seats = range(number * day.EACH, (number + 1) * day.EACH)
        uris = (f'"{ROOT}participant/{record_id("participant", seat)}/"' for seat in seats)
        own = {"id": record_id("conference", number), "participants": ", ".join(uris)}
        yield _filled(filled, number, day.left(seats[0]), day.ended(number), own)


def _participants(day: Day, filled: list[str]) -> Iterator[tuple[datetime, str]]:
    for number in range(day.participants):
        own = {"id": record_id("participant", number), "conference": record_id("conference", number // day.EACH)}
        yield _filled(filled, number, day.left(number), day.left(number), own)


def _filled(
    templates: list[str], number: int, left: datetime, end: datetime, own: dict[str, str]
) -> tuple[datetime, str]:
    times = {"start": stamp(left - timedelta(minutes=30)), "end": stamp(end)}
    return end, templates[number % len(templates)] % (own | times)


def main(folder: Path, participants: int, most: int, delay: float) -> None:
    certificate = certificates.issued()
    (folder / "ca.pem").write_bytes(certificate.ca)
    day = Day(participants, datetime.now(UTC).replace(tzinfo=None))
    held, people = shapes(day.EACH)
    rich = [one for one in people if one["media_streams"]]  # two on the average
    conferences = Resource(folder / "conference.json", _conferences(day, _templates(held)))
    participants_ = Resource(folder / "participant.json", _participants(day, _templates(rich)))
    node = Node({"conference": conferences, "participant": participants_}, most, delay)
    server = Server(("127.0.0.1", 0), certificate.context(), node.answer, lambda: None)
    server.start()
    print(json.dumps({"port": server.server_address[1], "made": stamp(day.made)}), flush=True)
    for _ in sys.stdin:  # ends with the benchmark
        print(json.dumps({"requests": len(server.requests), "slept": node.slept}), flush=True)
        server.forget_requests()
        node.slept = 0.0


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:4]), float(sys.argv[4]))
