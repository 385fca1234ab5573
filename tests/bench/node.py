"""The node that the benchmark collects from, a process of its own: TLS, and pages ready made.

It answers as the History API on Tastypie does, as far as a collection can see, but a page is a
slice of a file: no time goes into building it, so that what is timed is the client.

    python -m tests.bench.node FOLDER PARTICIPANTS

FOLDER gets the records and ca.pem. It then says {"port": ..., "made": ...} on standard output and
takes one request a line on standard input: {"delay": seconds an object, "maximum": objects a page},
answered by what was served and slept since the last one.
"""

from __future__ import annotations

import base64
import json
import mmap
import socket
import ssl
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import trustme

from tests.bench.history import (
    API,
    EPOCH,
    MICROSECOND,
    PARTICIPANTS_EACH,
    PASSWORD,
    USERNAME,
    History,
    Rendered,
    Series,
    index_of,
    render,
)

DEFAULT_PAGE = 20
_AUTHORIZATION = b"Basic " + base64.b64encode(f"{USERNAME}:{PASSWORD}".encode())


class RefusedError(Exception):
    """An answer other than a page."""

    def __init__(self, status: HTTPStatus, why: str = "") -> None:
        super().__init__(why)
        self.status = status
        self.why = why


@dataclass
class Resource:
    series: Series
    rendered: Rendered
    data: mmap.mmap

    def slice(self, first: int, after: int) -> memoryview:
        start, end = self.rendered.span(first, after)
        return memoryview(self.data)[start:end]

    def select(self, filters: dict[str, str]) -> range:
        """The records that the filters ask for, which are always neighbours."""
        low, high = 0, self.series.count
        for name, value in filters.items():
            match name:
                case "end_time__gte":
                    low = max(low, self.series.before(_moment(value)))
                case "end_time__gt":
                    low = max(low, self.series.before(_moment(value) + 1))
                case "end_time__lt":
                    high = min(high, self.series.before(_moment(value)))
                case "end_time__lte":
                    high = min(high, self.series.before(_moment(value) + 1))
                case "conference" if self.series.resource == "participant":
                    listed = _of_conference(value, self.series.count)
                    low, high = max(low, listed.start), min(high, listed.stop)
                case _:
                    raise RefusedError(HTTPStatus.BAD_REQUEST, f"The '{name}' field does not allow filtering.")
        return range(low, max(high, low))


@dataclass
class Node:
    resources: dict[str, Resource]
    maximum: int = 1000
    delay: float = 0.0
    served: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.served = {"requests": 0, "objects": 0, "bytes": 0, "slept": 0.0}

    def answer(self, target: str) -> list[bytes | memoryview]:
        """The body of the answer to a GET, in pieces; RefusedError when it is not a page."""
        url = urlsplit(target)
        name, _, rest = url.path.removeprefix(f"{API}/").partition("/")
        resource = self.resources.get(name)
        if resource is None or not url.path.startswith(f"{API}/"):
            raise RefusedError(HTTPStatus.NOT_FOUND)
        if rest:
            index = index_of(rest.removesuffix("/"), name)
            if index is None or index >= resource.series.count:
                raise RefusedError(HTTPStatus.NOT_FOUND)
            return [resource.slice(index, index + 1)]
        return self.page(resource, url.path, dict(parse_qsl(url.query, keep_blank_values=True)))

    def page(self, resource: Resource, path: str, query: dict[str, str]) -> list[bytes | memoryview]:
        filters = dict(query)
        limit = _number(filters.pop("limit", ""), DEFAULT_PAGE) or self.maximum
        limit = min(limit, self.maximum)
        offset = _number(filters.pop("offset", ""), 0)
        order = filters.pop("order_by", "end_time")
        filters.pop("format", None)
        if order != "end_time":
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"The '{order}' field does not allow ordering.")
        found = resource.select(filters)
        page = found[offset : offset + limit]

        def beside(start: int) -> str:
            return f"{path}?{urlencode(query | {'limit': str(limit), 'offset': str(start)})}"

        meta = {
            "limit": limit,
            "next": beside(offset + limit) if offset + limit < len(found) else None,
            "offset": offset,
            "previous": beside(offset - limit) if offset >= limit else None,
            "total_count": len(found),
        }
        if self.delay:
            time.sleep(self.delay * len(page))
            self.served["slept"] += self.delay * len(page)
        self.served["objects"] += len(page)
        head = b'{"meta": %b, "objects": [' % json.dumps(meta).encode()
        return [head, resource.slice(page.start, page.stop), b"]}"]

    def respond(self, request: bytes) -> list[bytes | memoryview]:
        """The whole answer to a request's head."""
        line, *headers = request.split(b"\r\n")
        method, target, _ = line.split(b" ")
        fields = {name.lower(): value.strip() for name, _, value in (h.partition(b":") for h in headers)}
        status = HTTPStatus.OK
        try:
            if fields.get(b"authorization") != _AUTHORIZATION:
                raise RefusedError(HTTPStatus.UNAUTHORIZED)
            if method != b"GET":
                raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED)
            body = self.answer(target.decode())
        except RefusedError as refused:
            status = refused.status
            body = [json.dumps({"error": refused.why}).encode() if refused.why else b""]
        length = sum(map(len, body))
        self.served["requests"] += 1
        self.served["bytes"] += length
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\n"
            f"Date: {formatdate(usegmt=True)}\r\n"
            "Content-Type: application/json; charset=utf-8\r\n"
            "Cache-Control: no-cache\r\n"
            "Vary: Accept\r\n"
            f"Content-Length: {length}\r\n\r\n"
        )
        return [head.encode() + bytes(body[0]), *body[1:]]


def serve(node: Node, listener: socket.socket, context: ssl.SSLContext) -> None:
    """Answer every connection in a thread, until the process ends."""
    while True:
        plain, _ = listener.accept()
        threading.Thread(target=_talk, args=(node, plain, context), daemon=True).start()


def _talk(node: Node, plain: socket.socket, context: ssl.SSLContext) -> None:
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        with context.wrap_socket(plain, server_side=True) as connection:
            waiting = b""
            while received := connection.recv(65536):
                waiting += received
                while b"\r\n\r\n" in waiting:
                    request, _, waiting = waiting.partition(b"\r\n\r\n")
                    for piece in node.respond(request):
                        connection.sendall(piece)
    except OSError:
        pass  # the client is gone


def _moment(text: str) -> int:
    """Microseconds since 1970 of a time that a filter names; UTC where it says nothing."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"Invalid time {text!r}.") from None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - EPOCH) // MICROSECOND


def _number(text: str, default: int) -> int:
    if text and not text.isdecimal():
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"Invalid number {text!r}.")
    return int(text or default)


def _of_conference(text: str, participants: int) -> range:
    index = index_of(text, "conference")
    if index is None or index >= participants // PARTICIPANTS_EACH:
        return range(0)
    return range(index * PARTICIPANTS_EACH, (index + 1) * PARTICIPANTS_EACH)


def _mapped(series: Series, rendered: Rendered) -> Resource:
    with rendered.path.open("rb") as file:
        return Resource(series, rendered, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))


def main(folder: Path, participants: int) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)

    history = History(participants, datetime.now(UTC))
    rendered = render(history, folder)
    node = Node(
        {
            series.resource: _mapped(series, rendered[series.resource])
            for series in (history.conferences, history.participants)
        }
    )
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, args=(node, listener, context), daemon=True).start()
    ready = {"port": listener.getsockname()[1], "made": history.made.isoformat()}
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:  # ends with the benchmark
        wanted = json.loads(line)
        print(json.dumps(node.served), flush=True)
        node.forget()
        node.delay = wanted.get("delay", node.delay)
        node.maximum = wanted.get("maximum", node.maximum)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
