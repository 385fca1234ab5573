"""A node without any manners: TLS, and then whatever a function writes to the connection.

What answers here need not be HTTP: for endless headers, drips, and answers that no framework would send.
"""

from __future__ import annotations

import gzip
import io
import json
import socket
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.management_node import certificates
from tests.management_node.server import Reply, Request, Send, Served

Talk = Callable[[str, Send], None]
"""Answers one request: its target, and a function that sends bytes."""


class RawNode(Served):
    """Runs in a `with`; `greet` has the plain connection before TLS does."""

    def __init__(
        self,
        talk: Talk,
        *,
        certificate: certificates.Certificate | None = None,
        greet: Callable[[socket.socket], object] | None = None,
    ) -> None:
        def answer(request: Request) -> Reply:
            return Reply(200, raw=lambda send: talk(request.target, send))

        self.serve(certificate or certificates.issued(), answer, greet=greet)

    @property
    def targets(self) -> list[str]:
        return [request.target for request in self.requests]


def reply(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """An answer with its Content-Length; a header is a whole line, in Latin-1."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [] if any(line.lower().startswith("content-type") for line in headers) else [JSON_TYPE]
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body


JSON_TYPE = "Content-Type: application/json"


def listing(objects: bytes, total: int, following: str | None = None) -> bytes:
    """A list's body: its objects are JSON already."""
    meta = json.dumps({"limit": 1000, "offset": 0, "total_count": total, "next": following, "previous": None})
    return b'{"meta": ' + meta.encode() + b', "objects": [' + objects + b"]}"


def zipped(pieces: Iterable[bytes], layers: int = 1) -> bytes:
    """Gzip around gzip; a long run of one byte is made piece by piece."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=9) as file:
        for piece in pieces:
            file.write(piece)
    body = buffer.getvalue()
    return zipped([body], layers - 1) if layers > 1 else body


def conferences(number: int, start: int = 0, **more: Any) -> bytes:
    """So many records that ended at noon of the day, as JSON. `more`: further fields, or others."""
    usual = {"end_time": "2020-01-01T12:00:00", "name": "Room", "participants": []} | more
    records = ({**usual, "id": f"c{n}"} for n in range(start, start + number))
    return ", ".join(json.dumps(record, ensure_ascii=False) for record in records).encode()


def normal(target: str) -> bytes:
    """What a node without a record answers."""
    return reply(listing(b"", 0))


def asked(target: str) -> tuple[str, dict[str, str]]:
    """The resource, and the query."""
    split = urlsplit(target)
    return split.path.split("/")[5] if split.path.count("/") > 5 else "", dict(parse_qsl(split.query))
