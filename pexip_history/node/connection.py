"""The way to the node: TLS, one bounded answer; what to say when there is no way."""

from __future__ import annotations

import hashlib
import http.client
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pexip_history import __version__
from pexip_history.errors import NodeError, Passing, TooLarge, printable
from pexip_history.messages import sentence
from pexip_history.node.answers import UNCOUNTED, too_many_values
from pexip_history.node.certificates import Trust, certificate_error, tls_context, unverified

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

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
CENTURY = 100 * 366 * 86400.0  # seconds
PIECE = 65_536
"""Bytes unpacked at once: gzip copies what is behind each of its members."""
MOST_INFORMATIONAL = 20
"""Answers (1xx) before the answer itself."""

# What kept us from an answer, by the exceptions within the exception; the first that fits is it.
BROKEN: tuple[tuple[set[str], type[NodeError], str], ...] = (
    ({"NameResolutionError", "gaierror"}, NodeError, "name-unknown"),
    ({"ConnectionRefusedError"}, Passing, "refused"),
    ({"NewConnectionError"}, Passing, "no-connection"),
    ({"ConnectTimeout", "ConnectTimeoutError"}, Passing, "connect-timeout"),
    ({"ReadTimeout", "ReadTimeoutError", "TimeoutError"}, Passing, "answer-timeout"),
    ({"IncompleteRead", "InvalidChunkLength"}, Passing, "answer-cut"),
    (set(), Passing, "connection-broke"),
)

OLD_TLS = {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "WRONG_SSL_VERSION", "NO_PROTOCOLS_AVAILABLE"}
NO_CIPHER = {"SSLV3_ALERT_HANDSHAKE_FAILURE", "NO_SHARED_CIPHER", "DH_KEY_TOO_SMALL"}
"""OpenSSL's reasons for a handshake that fails."""


@dataclass(frozen=True)
class Answer:
    """What came back to one request."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """One client of the node: its TLS, its bounds, no credentials.

    Not certifi's authorities, not the environment's, no proxy, no .netrc, no redirect.
    """

    def __init__(self, trust: Trust) -> None:
        import http.cookiejar

        import requests
        import urllib3
        from requests.adapters import HTTPAdapter
        from urllib3.connection import HTTPSConnection
        from urllib3.connectionpool import HTTPSConnectionPool

        watch = self._watch = Watch()

        class Watched(HTTPSConnection):
            response_class = FinalResponse

            def _new_conn(self) -> socket.socket:
                return watch.over(super()._new_conn())

        class Pool(HTTPSConnectionPool):
            ConnectionCls = Watched

        tls: dict[str, Any] = {"ssl_context": tls_context(trust), "assert_fingerprint": trust.fingerprint}

        class Adapter(HTTPAdapter):
            def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **_: object) -> None:
                self.poolmanager = urllib3.PoolManager(num_pools=connections, maxsize=maxsize, **tls)
                self.poolmanager.pool_classes_by_scheme = {"https": Pool}

            def get_connection_with_tls_context(self, request, verify, proxies=None, cert=None):  # type: ignore[no-untyped-def]
                return self.poolmanager.connection_from_url(request.url)

            def cert_verify(self, conn: object, url: object, verify: object, cert: object) -> None:
                """The context does."""

        class Session(requests.Session):
            def get_redirect_target(self, resp: object) -> None:
                """None is followed; requests would read the body of one whole, and its address by its own rules."""

        if not trust.tls_verify:  # said once a run, not once a request
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._trust = trust
        self._session = Session()
        self._session.trust_env = False
        self._session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.clear()
        self._session.headers["User-Agent"] = f"pexip-history-collector/{__version__}"
        self._session.headers["Accept"] = "application/json"
        self._session.headers["Accept-Encoding"] = "gzip, deflate"
        self._session.mount("https://", Adapter())

    def ask(self, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None = None) -> Answer:
        """One request, once, whatever its status is; a POST where there is a form. Raises NodeError."""
        import requests
        import urllib3

        method, timeout = "POST" if form else "GET", (CONNECT_TIMEOUT, READ_TIMEOUT)
        try:
            with (
                self._watch.within(LONGEST_ANSWER),
                self._session.request(
                    method, url, headers=dict(headers), data=form, timeout=timeout, stream=True, allow_redirects=False
                ) as answer,
            ):
                body = _read(answer.raw, MOST_IN_SMALLEST if form else MOST_BYTES)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, http.client.HTTPException) as error:
            if not self._watch.ended:
                raise connection_error(error, self._trust) from None
        if self._watch.ended:  # what then ends without an error may be cut all the same
            raise Passing(sentence("answer-slow", address=self._trust.address, seconds=LONGEST_ANSWER))
        if len(body) > (MOST_IN_SMALLEST if form else MOST_BYTES):
            raise (NodeError if form else TooLarge)(
                f"{self._trust.address} answered more than {len(body) - 1:,} bytes at once, which a Management Node"
                " never does; is DEFAULT_MGR_ADDRESS one?"
            )
        if len(body) > UNCOUNTED and too_many_values(body):
            raise TooLarge(
                sentence(
                    "unlike-the-api", at=self._trust.address, what="more values at once than a page of records has"
                )
            )
        return Answer(answer.status_code, answer.headers, body)


def _read(raw: Any, most: int) -> bytes:
    """The body, unpacked; one byte more than `most` where it is larger."""
    if not raw.headers.get("Content-Encoding"):
        # .content joins pieces of 10 KB, which costs three times as much as this. What says how long it is, is.
        plain = (raw.length_remaining or most) < most
        return bytes(raw.read(None if plain else most + 1, decode_content=True))
    body = bytearray()
    while len(body) <= most and (piece := raw.read(min(PIECE, most + 1 - len(body)), decode_content=True)):
        body += piece
    return bytes(body)


class FinalResponse(http.client.HTTPResponse):
    """The answer itself: informational ones (1xx) that come before it are passed over, as far as they are few."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(MOST_INFORMATIONAL):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200 or status == 101:
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


def connection_error(error: Exception, trust: Trust) -> NodeError:
    """The sentence for what kept us from an answer, by the causes within the exception."""
    causes, address = list(_causes(error)), trust.address
    last = causes[-1]
    if isinstance(last, ssl.SSLCertVerificationError) or "Fingerprints did not match" in str(last):
        shown = None
        with suppress(NodeError):
            shown = peer_certificate(trust, verify=False)
        return certificate_error(last, address, shown)
    reasons = {str(cause.reason) for cause in causes if isinstance(cause, ssl.SSLError)}
    if reasons & {"WRONG_VERSION_NUMBER", "HTTP_REQUEST"}:
        return NodeError(sentence("no-tls", address=address))
    if reasons & OLD_TLS:
        return NodeError(sentence("tls-too-old", address=address))
    if reasons & NO_CIPHER:
        return NodeError(sentence("no-common-cipher", address=address))
    names = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    detail = printable((str(last) or type(last).__name__)[:300])
    kind, name = next((kind, name) for among, kind, name in BROKEN if not among or among & names)
    return kind(sentence(name, address=address, why=detail, connect=CONNECT_TIMEOUT, read=READ_TIMEOUT))


def peer_certificate(trust: Trust, verify: bool) -> Certificate:
    """The node's certificate, by a handshake alone: no request, no password. Raises NodeError."""
    from cryptography.x509 import load_der_x509_certificate

    context = tls_context(trust) if verify else unverified()
    split = urlsplit(f"https://{trust.address}")
    host, watch = split.hostname or "", Watch()
    try:
        with (
            watch.within(READ_TIMEOUT),
            watch.over(socket.create_connection((host, split.port or 443), CONNECT_TIMEOUT)) as plain,
            context.wrap_socket(plain, server_hostname=host) as tls,
        ):
            shown = tls.getpeercert(binary_form=True) or b""
    except OSError as error:
        raise connection_error(error, trust) from None
    try:
        certificate = load_der_x509_certificate(shown)
    except ValueError as error:
        raise NodeError(
            sentence("certificate-unreadable", address=trust.address, why=printable(str(error)[:200]))
        ) from None
    if verify and trust.fingerprint and hashlib.sha256(shown).hexdigest() != trust.fingerprint:
        raise certificate_error(NodeError("pinned"), trust.address, certificate)
    return certificate


def seconds_ahead(header: str | None) -> float | None:
    """How far a header lies in the future: seconds as Retry-After has them, or an HTTP date.

    None where it is neither, or no date that a clock shows.
    """
    from email.utils import parsedate_to_datetime

    if re.fullmatch("[0-9]{1,9}", header or ""):
        return float(header or 0)
    with suppress(ValueError, TypeError, OverflowError, IndexError, AttributeError):
        moment = parsedate_to_datetime(header or "")
        ahead = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
        return ahead if abs(ahead) < CENTURY else None
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and all that is wrapped in it, outermost first."""
    found: object = error
    while isinstance(found, BaseException):
        yield found
        wrapped = (*found.args, getattr(found, "reason", None), found.__cause__)
        found = next((item for item in wrapped if isinstance(item, BaseException)), None)
