"""HTTP/1.1 with keep-alive and TLS, in threads, down to the socket: faults happen there.

What is answered comes from elsewhere: the server hands each Request on and sends the Reply.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from .certificates import Certificate

HANDSHAKE_SECONDS = 10
Send = Callable[[bytes], None]


@dataclass
class Request:
    """One request, as it came; `status` is what it was answered (None: not at all)."""

    number: int
    method: str
    target: str
    headers: Message
    body: bytes = b""
    status: int | None = None

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def resource(self) -> str:
        """`conference`, `participant`, or empty for any other path."""
        parts = self.path.split("/")
        return parts[5] if len(parts) > 5 and parts[4] == "v1" else ""


@dataclass
class Reply:
    """An answer. The last five fields say how its sending goes wrong."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    delay: float = 0
    """Seconds before the first byte."""
    sent: int | None = None
    """So many bytes of the body are sent, then the connection is closed; None: all."""
    chunked: bool = False
    reset: bool = False
    """The connection ends with a RST instead of the first byte."""
    raw: Callable[[Send], object] | None = None
    """Writes to the connection itself, instead of all that."""


class Server(ThreadingMixIn, TCPServer):
    """`answer` runs in the connection's thread; `released` runs when that thread ends.

    `greet` has the plain connection before TLS does.
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        context: ssl.SSLContext | None,
        answer: Callable[[Request], Reply],
        released: Callable[[], None] = lambda: None,
        greet: Callable[[socket.socket], object] | None = None,
    ) -> None:
        self.context = context
        self.greet = greet
        self.answer = answer
        self.released = released
        self.stopping = threading.Event()
        self.requests: list[Request] = []
        self.connections = 0
        self.peak = 0
        self._busy: list[Request] = []
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        super().__init__(address, Handler)

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Ends every connection and waits for its thread."""
        self.stopping.set()
        self.shutdown()
        self.server_close()
        with self._lock:
            still_open = list(self._open.items())
        for connection, thread in still_open:
            with suppress(OSError):  # gone already
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(5)

    def forget_requests(self) -> None:
        with self._lock:
            self.requests.clear()
            self.connections = 0
            self.peak = 0
            self._busy.clear()  # where an answer to an earlier test's run hangs

    def begin(self, method: str, target: str, headers: Message, body: bytes) -> Request:
        with self._lock:
            request = Request(len(self.requests) + 1, method, target, headers, body)
            self.requests.append(request)
            self._busy.append(request)
            self.peak = max(self.peak, len(self._busy))
        return request

    def end(self, request: Request) -> None:
        with self._lock:
            if request in self._busy:
                self._busy.remove(request)

    def finish_request(self, request: Any, client_address: Any) -> None:
        connection: socket.socket = request
        with self._lock:
            self._open[connection] = threading.current_thread()
            self.connections += 1
        try:
            if self.context:
                connection = self._secured(connection)
            super().finish_request(connection, client_address)
        finally:
            with self._lock:
                self._open.pop(request, None)
                self._open.pop(connection, None)
            self.released()
            self.shutdown_request(connection)

    def _secured(self, plain: socket.socket) -> ssl.SSLSocket:
        assert self.context
        if self.greet:
            self.greet(plain)
        plain.settimeout(HANDSHAKE_SECONDS)
        secured = self.context.wrap_socket(plain, server_side=True)
        secured.settimeout(None)
        with self._lock:
            self._open[secured] = self._open.pop(plain)
        return secured

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that leave or distrust the certificate are part of the tests."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Served:
    """Runs in a `with`: what is served over TLS, on this machine; `ca_file` has the CA that vouches for it."""

    secret = "sesame"
    ca_file: Path
    server: Server

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.stop()
        self._folder.cleanup()

    def serve(
        self,
        certificate: Certificate,
        answer: Callable[[Request], Reply],
        where: tuple[str, int] = ("127.0.0.1", 0),
        tls: bool = True,
        **more: Any,
    ) -> None:
        """From when the `with` begins; `more` is the Server's."""
        self._certificate = certificate
        self._folder = tempfile.TemporaryDirectory()
        self.ca_file = Path(self._folder.name) / "ca.pem"
        self.ca_file.write_bytes(certificate.ca)
        self.server = Server(where, certificate.context() if tls else None, answer, **more)

    @property
    def certificate(self) -> Certificate:
        """Set it to show another one from the next handshake on; ca_file stays as it is."""
        return self._certificate

    @certificate.setter
    def certificate(self, certificate: Certificate) -> None:
        self._certificate = certificate
        self.server.context = certificate.context()

    @property
    def address(self) -> str:
        """As in DEFAULT_MGR_ADDRESS: 127.0.0.1:PORT."""
        return "{}:{}".format(*self.server.server_address)

    @property
    def url(self) -> str:
        return f"https://{self.address}"

    @property
    def requests(self) -> list[Request]:
        return self.server.requests


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = self.server.begin(self.command, self.path, self.headers, body)
        try:
            reply = self.server.answer(request)
            if reply.delay:
                self.server.stopping.wait(reply.delay)
            if reply.raw:
                reply.raw(self.connection.sendall)
            elif reply.reset:
                self._reset()
            else:
                request.status = reply.status
                self._send(reply)
        finally:
            self.server.end(request)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def _send(self, reply: Reply) -> None:
        headers = {"Content-Type": "text/html; charset=utf-8", **reply.headers}
        if reply.chunked:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(len(reply.body))
        if reply.sent is not None:
            self.close_connection = True
        if self.close_connection:
            headers["Connection"] = "close"
        phrase = HTTPStatus(reply.status).phrase
        head = f"HTTP/1.1 {reply.status} {phrase}\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in headers.items()
        )
        body = b"" if self.command == "HEAD" else reply.body[: reply.sent]
        if reply.chunked:
            last = b"0\r\n\r\n" if reply.sent is None else b""
            body = b"%x\r\n%s\r\n" % (len(body), body) + last
        # In one piece: head and body apart would wait for the client's delayed ACK.
        self.connection.sendall(head.encode("latin-1") + b"\r\n" + body)

    def _reset(self) -> None:
        self.close_connection = True
        at_once = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        os.close(self.connection.detach())

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: the requests are in the server's list."""
