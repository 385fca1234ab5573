"""The way to the node: TLS, one bounded answer; what to say when there is no way."""

from __future__ import annotations

import hashlib
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from pexip_history import __version__
from pexip_history.errors import NodeError, Passing, TooLarge, printable
from pexip_history.messages import sentence
from pexip_history.node.answers import UNCOUNTED, too_many_values
from pexip_history.node.certificates import certificate_error, tls_context
from pexip_history.node.refusals import Answer
from pexip_history.settings.environment import Settings

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from urllib3 import BaseHTTPResponse

HEADERS = {
    "User-Agent": f"pexip-history-collector/{__version__}",
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
CONNECT_TIMEOUT, READ_TIMEOUT = 5.0, 30.0
"""Seconds: of connecting, and between two bytes of an answer."""
LONGEST_ANSWER = 300.0
"""Seconds for an answer as a whole: a page of 2.6 MB at 10 KB/s passes, a byte a second does not."""
MOST_BYTES = 6_000_000
"""Of an answer, decompressed. A page of 1,000 usual records has 2.6 MB. A character outside of Latin-1 makes text
of it four times as large, a row is text five times over while it is written, and the next page is on its way
meanwhile: so a container stays below 256 MB. A larger page, such as 1,000 records with ten media streams
each (10 MB), is asked for in smaller ones."""
MOST_IN_SMALLEST = 65_536
"""Bytes of an answer to a form: a token is smaller."""
UNPACKED = 65_536
"""Bytes unpacked at once: gzip copies what is behind each of its members."""
MOST_INFORMATIONAL = 20
"""Answers (1xx) before the answer itself."""

BROKEN: tuple[tuple[set[str], type[NodeError], str], ...] = (
    ({"WRONG_VERSION_NUMBER", "HTTP_REQUEST"}, NodeError, "no-tls"),
    (
        {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "WRONG_SSL_VERSION", "NO_PROTOCOLS_AVAILABLE"},
        NodeError,
        "tls-too-old",
    ),
    ({"SSLV3_ALERT_HANDSHAKE_FAILURE", "NO_SHARED_CIPHER", "DH_KEY_TOO_SMALL"}, NodeError, "no-common-cipher"),
    ({"NameResolutionError", "gaierror"}, NodeError, "name-unknown"),
    ({"ConnectionRefusedError"}, Passing, "refused"),
    ({"NewConnectionError"}, Passing, "no-connection"),
    ({"ConnectTimeoutError"}, Passing, "connect-timeout"),
    ({"ReadTimeoutError", "TimeoutError"}, Passing, "answer-timeout"),
    ({"IncompleteRead"}, Passing, "answer-cut"),
)
"""What kept us from an answer, by OpenSSL's reasons and the exceptions within the exception; the first that fits."""


class Connection:
    """One client of the node: its TLS, its bounds, no credentials.

    The pool knows this one host: no proxy, no .netrc, no cookie, no redirect, no authorities of certifi's.
    """

    def __init__(self, settings: Settings) -> None:
        import urllib3
        from urllib3.connection import HTTPSConnection

        watch = self._watch = Watch()

        class Watched(HTTPSConnection):
            response_class = FinalResponse

            def _new_conn(self) -> socket.socket:
                return watch.over(super()._new_conn())

        class Pool(urllib3.HTTPSConnectionPool):
            ConnectionCls = Watched

        if not settings.tls_verify:  # said once a run, not once a request
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._settings = settings
        self._pool = Pool(
            *_host_and_port(settings),
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT),
            ssl_context=tls_context(settings),
            assert_fingerprint=settings.fingerprint,
        )

    def ask(self, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None = None) -> Answer:
        """One request, once, whatever its status is; a POST where there is a form. Raises NodeError."""
        import urllib3

        method, body, most = ("POST", urlencode(form), MOST_IN_SMALLEST) if form else ("GET", None, MOST_BYTES)
        headers = {**HEADERS, **headers, **(FORM if form else {})}
        address = self._settings.address
        try:
            target = urllib3.util.parse_url(url).request_uri
            with (
                self._watch.within(LONGEST_ANSWER),
                self._pool.urlopen(
                    method, target, body, headers, retries=False, redirect=False, preload_content=False
                ) as response,
            ):
                held = _read(response, most)
        except (urllib3.exceptions.HTTPError, OSError, http.client.HTTPException) as error:
            if not self._watch.ended:
                raise connection_error(error, self._settings) from None
        if self._watch.ended:  # what then ends without an error may be cut all the same
            raise Passing(sentence("answer-slow", address=address, seconds=LONGEST_ANSWER))
        what = f"more than {most:,} bytes at once" if len(held) > most else ""
        if len(held) > UNCOUNTED and too_many_values(held):
            what = what or "more values at once than a page of records has"
        if what:
            raise (NodeError if form else TooLarge)(sentence("unlike-the-api", at=address, what=what))
        return Answer(response.status, response.headers, held)


def _read(response: BaseHTTPResponse, most: int) -> bytes:
    """The body, unpacked; one byte more than `most` where it is larger."""
    if not response.headers.get("Content-Encoding"):
        # .data joins pieces of 10 KB, which costs three times as much as this. What says how long it is, is.
        plain = (getattr(response, "length_remaining", None) or most) < most
        return response.read(None if plain else most + 1, decode_content=True)
    body = bytearray()
    while len(body) <= most and (piece := response.read(min(UNPACKED, most + 1 - len(body)), decode_content=True)):
        body += piece
    return bytes(body)


class FinalResponse(http.client.HTTPResponse):
    """The answer itself: informational ones (1xx) that come before it are passed over, as far as they are few."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(MOST_INFORMATIONAL):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException(f"{MOST_INFORMATIONAL} informational answers (1xx) and none besides")


class Watch:
    """Ends a connection that takes too long as a whole, whatever it is at: a handshake, headers, a body."""

    def __init__(self) -> None:
        self.ended = False
        self._twin: socket.socket | None = None

    def over(self, connected: socket.socket) -> socket.socket:
        """Watch this one from now on; the same socket, whatever TLS makes of it."""
        if self._twin:
            self._twin.close()
        self._twin = connected.dup()
        return connected

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        self.ended = False
        timer = threading.Timer(seconds, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end(self) -> None:
        self.ended = True
        with suppress(OSError):
            if self._twin:
                self._twin.shutdown(socket.SHUT_RDWR)


def connection_error(error: Exception, settings: Settings) -> NodeError:
    """The sentence for what kept us from an answer."""
    causes, address = list(_causes(error)), settings.address
    last = causes[-1]
    if isinstance(last, ssl.SSLCertVerificationError) or "Fingerprints did not match" in str(last):
        shown = None
        with suppress(NodeError):
            shown = peer_certificate(replace(settings, tls_verify=False, fingerprint=None))
        return certificate_error(last, address, shown)
    found = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    found |= {str(cause.reason) for cause in causes if isinstance(cause, ssl.SSLError)}
    fits = ((kind, name) for among, kind, name in BROKEN if among & found)
    kind, name = next(fits, (Passing, "connection-broke"))
    why = printable((str(last) or type(last).__name__)[:300])
    return kind(sentence(name, address=address, why=why, connect=CONNECT_TIMEOUT, read=READ_TIMEOUT))


def peer_certificate(settings: Settings) -> Certificate:
    """The node's certificate, verified as a run would, by a handshake alone: no request. Raises NodeError."""
    from cryptography.x509 import load_der_x509_certificate

    host, port = _host_and_port(settings)
    watch = Watch()
    try:
        with (
            watch.within(READ_TIMEOUT),
            watch.over(socket.create_connection((host, port), CONNECT_TIMEOUT)) as plain,
            tls_context(settings).wrap_socket(plain, server_hostname=host) as tls,
        ):
            shown = tls.getpeercert(binary_form=True) or b""
        certificate = load_der_x509_certificate(shown)
    except OSError as error:
        raise connection_error(error, settings) from None
    except ValueError as error:
        why = printable(str(error)[:200])
        raise NodeError(sentence("certificate-unreadable", address=settings.address, why=why)) from None
    if settings.fingerprint and hashlib.sha256(shown).hexdigest() != settings.fingerprint:
        raise certificate_error(NodeError("pinned"), settings.address, certificate)
    return certificate


def _host_and_port(settings: Settings) -> tuple[str, int]:
    split = urlsplit(f"https://{settings.address}")
    return split.hostname or "", split.port or 443


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and all that is wrapped in it, outermost first."""
    found: object = error
    while isinstance(found, BaseException):
        yield found
        wrapped = (*found.args, getattr(found, "reason", None), found.__cause__)
        found = next((item for item in wrapped if isinstance(item, BaseException)), None)
