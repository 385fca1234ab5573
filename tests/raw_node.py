"""A node without any manners: TLS, and then whatever a function writes to the connection.

What answers here need not be HTTP: for endless headers, drips, and answers that no framework would send.
"""

from __future__ import annotations

import gzip
import io
import json
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from tests.management_node import certificates

Send = Callable[[bytes], None]
Talk = Callable[[str, Send], None]
"""Answers one request: its target, and a function that sends bytes."""


class RawNode:
    """Runs between start() and stop(), or in a `with`; `greet` has the plain connection before TLS does."""

    def __init__(
        self,
        talk: Talk,
        *,
        host: str = "127.0.0.1",
        greet: Callable[[socket.socket], object] | None = None,
        certificate: certificates.Certificate | None = None,
    ):
        self.talk, self.greet = talk, greet
        self.certificate = certificate or certificates.issued(host)
        self.targets: list[str] = []
        self.heads: list[bytes] = []
        self.context = self.certificate.context()
        self._listener = socket.create_server((host, 0))
        self._open: set[socket.socket] = set()
        self.address = "{}:{}".format(*self._listener.getsockname())
        self.stopped = threading.Event()
        self.secret = "sesame"

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory()
        self.ca_file = Path(self._folder.name) / "ca.pem"
        self.ca_file.write_bytes(self.certificate.ca)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._folder.cleanup()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        self._open.add(plain)
        with suppress(OSError, ssl.SSLError), plain:
            if self.greet:
                self.greet(plain)
            plain.settimeout(20)
            with self.context.wrap_socket(plain, server_side=True) as connection:
                self._open.add(connection)
                connection.settimeout(60)
                received = b""
                while not self.stopped.is_set():
                    while b"\r\n\r\n" not in received:
                        if not (piece := connection.recv(65536)):
                            return
                        received += piece
                    head, _, received = received.partition(b"\r\n\r\n")
                    length = [line[15:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
                    wanted = int(length[0]) if length else 0
                    while len(received) < wanted:
                        received += connection.recv(65536)
                    received = received[wanted:]
                    self.heads.append(head)
                    self.targets.append(head.split()[1].decode("latin-1"))
                    self.talk(self.targets[-1], connection.sendall)


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
