#!/usr/bin/env python3
"""Collect Pexip Infinity's call detail records into CSV files, each record exactly once.

This file reads the way a record travels: settings, the node, the ledger, the files, the run,
the commands. docs/design.md says what is promised and how each promise is kept.
"""

from __future__ import annotations

import argparse
import csv
import errno
import fcntl
import hashlib
import io
import itertools
import json
import logging
import logging.handlers
import os
import re
import shutil
import signal
import sqlite3
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from operator import attrgetter, le
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import quote, urlencode, urljoin, urlsplit
from zoneinfo import ZoneInfo

from pexip_history import errors as rooms
from pexip_history import settings as checked
from pexip_history.folder import NotAFile, behind_link, own, own_folder, read_file, refuse_other_kinds
from pexip_history.privileges import become_owner, protect_memory

if TYPE_CHECKING:
    import msgspec
    import requests
    from cryptography.x509 import Certificate
    from tqdm import tqdm

__version__ = "1.0.0"

API = "/api/admin/history/v1/"
CONFERENCE, PARTICIPANT, STREAM = "conference", "participant", "stream"
FILE_NAMES = {
    CONFERENCE: "pexHistoryConf",
    PARTICIPANT: "pexHistoryPart",
    STREAM: "pexHistoryStream",
}
# The columns that tell a row of the file, and that a file of ours must have.
KEYS = {CONFERENCE: ("id",), PARTICIPANT: ("id",), STREAM: ("participant_id",)}

# 1,000 is Tastypie's own maximum and measures best here (docs/design.md, "Page size").
PAGE_SIZE = 1000
OVERLAP = timedelta(hours=1)
FIRST_WINDOW = timedelta(days=1)
SWEEPS = 6
ATTEMPTS, PATIENCE, LONGEST_WAIT = 5, 60.0, 120.0  # tries, seconds of them, seconds of one wait
CONNECT_TIMEOUT, READ_TIMEOUT = 5.0, 30.0  # seconds
LOG_BYTES, LOG_FILES = 5_000_000, 4
RUNS_KEPT = 1000
CRON_PID = Path("/run/crond.pid")
IMAGE_DATA = Path("/app/data")
CRON_COMMAND = "/app/entrypoint.sh scheduled >&3 2>&1"

DONE, FAILED, MISUSED, BUSY = 0, 1, 2, 75

log = logging.getLogger("collector")
csv.field_size_limit(2**31 - 1)

Record = dict[str, object]
Columns = dict[str, Sequence[object]]


T = TypeVar("T")


CollectorError = rooms.CollectorError


class NodeError(CollectorError):
    """The Management Node cannot be used as it answers now."""


class Refused(NodeError):
    """The node answered 400: it does not do what the query asks."""


class NotFound(NodeError):
    """The node answered 404."""


class Passing(NodeError):
    """A fault that may be over in a moment; `retry_after` (seconds) is the node's own advice."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Busy(CollectorError):
    """Another run holds the lock."""


class Stopped(BaseException):
    """SIGTERM or SIGINT came."""


class SettingsError(Exception):
    """Every problem of every setting, a line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


# --- Settings -------------------------------------------------------------------------------------

CRON_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
BOOLEANS = {"true": True, "yes": True, "on": True, "1": True}
BOOLEANS |= {"false": False, "no": False, "off": False, "0": False}
LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
HOST = re.compile(rf"(?=.{{1,253}}$){LABEL}(\.{LABEL})*\.?")


@dataclass(frozen=True)
class Settings:
    """What the environment asks for, checked. Limits are counts; 0 stands for no limit."""

    address: str
    username: str
    secret: bytes = field(repr=False)
    ca_file: str | None
    fingerprint: str | None
    tls_verify: bool
    conf_limit: int
    part_limit: int
    schedule: str | None
    data_dir: Path
    run_on_start: bool
    csv_bom: bool
    escape_formulas: bool
    media_streams: bool
    keep_days: int
    log_level: str
    umask: int
    zone: ZoneInfo

    @property
    def resources(self) -> tuple[str, ...]:
        """The kinds of file a run writes."""
        return (CONFERENCE, PARTICIPANT, STREAM)[: 3 if self.media_streams else 2]


class _Reader:
    """Reads variables one by one and gathers what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.files: Mapping[str, bytes] = {}
        self.problems: list[str] = []

    def problem(self, name: str, text: str) -> None:
        self.problems.append(f"{name}: {text}")

    def text(self, name: str, default: str = "") -> str:
        """The value without the quotes that `docker run --env-file` leaves around it."""
        value = self.environ.get(name, "").strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1].strip()
        return value or default

    def flag(self, name: str, default: bool) -> bool:
        value = self.text(name, str(default)).lower()
        if value not in BOOLEANS:
            self.problem(name, f"{value!r} is neither true nor false")
        return BOOLEANS.get(value, default)

    def count(self, name: str, default: int) -> int:
        value = self.text(name, str(default))
        if not re.fullmatch("[0-9]{1,15}", value):
            self.problem(name, f"{value!r} is not a number; give 0, 1, 2 and so on")
            return default
        return int(value)


def read_settings(
    environ: Mapping[str, str], files: Mapping[str, bytes] = {}, *, node: bool = True, schedule: bool = False
) -> Settings:
    """Read the settings; `node` and `schedule` say what must be there. Raises SettingsError.

    `files` are what variables' files hold that root read before it became another user.
    """
    read = _Reader(environ)
    read.files = files
    zone = _read_zone(read)
    level = read.text("DATA_LOG_LEVEL", "INFO").upper()
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        read.problem("DATA_LOG_LEVEL", f"{level!r} is none of DEBUG, INFO, WARNING, ERROR")
        level = "INFO"
    umask = read.text("UMASK", "027")
    if not re.fullmatch("0?0[0-7]{2}", umask):
        read.problem("UMASK", f"{umask!r} is no octal mask that leaves the owner everything; give one such as 027")
        umask = "027"
    folder = IMAGE_DATA
    for name, default in (("PUID", None), ("PGID", None), ("DATA_DIR", IMAGE_DATA)):
        try:
            value = checked.read_variable(environ, name)
        except rooms.SettingsError as error:
            read.problems += error.problems
            value = default
        if name == "DATA_DIR":
            folder = value  # type: ignore[assignment]
    username = read.text("DEFAULT_MGR_USERNAME", "admin")
    if ":" in username:
        read.problem("DEFAULT_MGR_USERNAME", "a colon cannot be part of the name of an API user")
    settings = Settings(
        address=_read_address(read, node),
        username=username,
        secret=_read_secret(read, node),
        ca_file=read.text("DEFAULT_MGR_CA_FILE") or None,
        fingerprint=_read_fingerprint(read),
        tls_verify=read.flag("DEFAULT_MGR_TLS_VERIFY", True),
        conf_limit=read.count("DEFAULT_CONF_LIMIT", 5000),
        part_limit=read.count("DEFAULT_PART_LIMIT", 10000),
        schedule=_read_schedule(read, schedule),
        data_dir=folder,
        run_on_start=read.flag("DATA_RUN_ON_START", False),
        csv_bom=read.flag("DATA_CSV_BOM", False),
        escape_formulas=read.flag("DATA_CSV_ESCAPE_FORMULAS", True),
        media_streams=read.flag("DATA_MEDIA_STREAMS", False),
        keep_days=read.count("DATA_KEEP_DAYS", 0),
        log_level=level,
        umask=int(umask, 8),
        zone=zone,
    )
    if settings.keep_days > 36500:
        read.problem("DATA_KEEP_DAYS", f"{settings.keep_days} is more than a hundred years; 0 keeps the files for ever")
    for name, value in (
        ("DEFAULT_MGR_CA_FILE", settings.ca_file),
        ("DEFAULT_MGR_TLS_FINGERPRINT", settings.fingerprint),
    ):
        if value and not settings.tls_verify:
            read.problem(name, "contradicts DEFAULT_MGR_TLS_VERIFY=false; remove one of the two")
    if settings.ca_file:
        try:
            ssl.create_default_context(cafile=settings.ca_file)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror if error.errno and not isinstance(error, ssl.SSLError) else None
            read.problem(
                "DEFAULT_MGR_CA_FILE",
                f"{settings.ca_file!r} cannot be used ({reason or 'no certificate in it'});"
                " give a PEM file that the container can read",
            )
    if read.problems:
        raise SettingsError(read.problems)
    return settings


def _read_zone(read: _Reader) -> ZoneInfo:
    name = read.text("TZ", "UTC").removeprefix(":")
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        read.problem("TZ", f"{name!r} is no known zone; give one such as Europe/Oslo")
        return ZoneInfo("UTC")


def _read_address(read: _Reader, needed: bool) -> str:
    """HOST or HOST:PORT."""
    name, value = "DEFAULT_MGR_ADDRESS", read.text("DEFAULT_MGR_ADDRESS")
    if not value:
        if needed:
            read.problem(name, "is missing; give the Management Node's name or IP address")
        return ""
    if value.lower().startswith("http://"):
        read.problem(name, f"{value!r} asks for plain HTTP; give the name alone, as in mgr.example.com")
        return ""
    rest = re.sub("^https://", "", value, flags=re.IGNORECASE).removesuffix("/")
    if rest.count(":") > 1 and not rest.startswith("["):
        rest = f"[{rest}]"  # an IPv6 address
    host, bracket, port = re.fullmatch(r"(\[.*\]|[^:]*)(:?)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    if set("/@?#") & set(rest):
        read.problem(name, f"{value!r} is more than a name; give the name alone, as in mgr.example.com")
    elif not (_is_ipv6(host[1:-1]) if host.startswith("[") else HOST.fullmatch(host)):
        read.problem(name, f"{value!r} is no name or IP address; give one such as mgr.example.com")
    elif bracket and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        read.problem(name, f"{value!r} has no valid port; give one from 1 to 65535 or none")
    return rest


def _is_ipv6(text: str) -> bool:
    from ipaddress import IPv6Address

    with suppress(ValueError):
        return bool(IPv6Address(text))
    return False


def _read_secret(read: _Reader, needed: bool) -> bytes:
    """The password's bytes, as they are: no quote and no space is taken away."""
    name, file_name = "DEFAULT_MGR_SECRET", read.text("DEFAULT_MGR_SECRET_FILE")
    secret = os.fsencode(read.environ.get(name, ""))
    if secret and file_name:
        read.problem("DEFAULT_MGR_SECRET_FILE", f"{name} is set too; remove one of the two")
    elif file_name:
        try:
            held = read.files.get("DEFAULT_MGR_SECRET_FILE")
            secret = without_line_end(read_file(Path(file_name)) if held is None else held)
        except (OSError, ValueError) as error:
            read.problem(
                "DEFAULT_MGR_SECRET_FILE",
                f"{file_name!r} cannot be read ({getattr(error, 'strerror', error)}); give a file that the container"
                " can read",
            )
            return b""
        if not secret:
            read.problem("DEFAULT_MGR_SECRET_FILE", f"{file_name!r} is empty; put the password in it")
    elif not secret and needed:
        read.problem(name, f"is missing; give the password here or a file in {name}_FILE")
    return secret


def without_line_end(text: bytes) -> bytes:
    """Without the one that editors leave."""
    return text.removesuffix(b"\n").removesuffix(b"\r")


def _read_fingerprint(read: _Reader) -> str | None:
    name, value = "DEFAULT_MGR_TLS_FINGERPRINT", read.text("DEFAULT_MGR_TLS_FINGERPRINT")
    digits = re.sub("^sha-?256[^=:]*[=:]|[: ]", "", value, flags=re.IGNORECASE).lower()
    if value and not re.fullmatch("[0-9a-f]{64}", digits):
        read.problem(name, f"{value!r} is no SHA-256 fingerprint; give its 64 hexadecimal digits")
    return digits or None


def _read_schedule(read: _Reader, needed: bool) -> str | None:
    """Five fields that Debian's cron runs; the aliases but @reboot are spelt out."""
    from cronsim import CronSim, CronSimError

    name, value = "DATA_CRON_TIME", read.text("DATA_CRON_TIME")
    if not value:
        if needed:
            read.problem(name, "is missing; give five fields such as '5 0 * * *', or @daily")
        return None
    fields = CRON_ALIASES.get(value.lower(), value).split()
    if value.startswith("@") and len(fields) != 5:
        hint = "; DATA_RUN_ON_START=true collects at the start" if value == "@reboot" else ""
        read.problem(name, f"{value!r} is none of {', '.join(CRON_ALIASES)}{hint}")
        return None
    if len(fields) != 5:
        read.problem(name, f"{value!r} is not five fields such as '5 0 * * *', nor @daily")
        return None
    titles = {"minute": 59, "hour": 23, "day-of-month": 31, "month": 12, "day-of-week": 7}
    for (title, most), given in zip(titles.items(), fields, strict=True):
        # What cronsim knows and Debian's cron does not: last days, n-th weekdays, steps from a number.
        steps = map(int, re.findall(r"/(\d+)", given))
        if re.search(r"#|(^|[,/\d])L|LW|(^|,)\d+/", given.upper()) or any(step > most for step in steps):
            read.problem(name, f"{value!r}: {given!r} in the field {title} is not for Debian's cron")
            return None
    try:
        CronSim(" ".join(fields), datetime(2026, 1, 1))
    except CronSimError as error:
        wrong = str(error).removeprefix("Bad ")
        read.problem(name, f"{value!r}: the field {wrong} is wrong; five fields such as '5 0 * * *' are right")
        return None
    return " ".join(fields)


def scheduled(settings: Settings, moment: datetime) -> datetime:
    """The next time (UTC) after the moment that cron starts a run."""
    from cronsim import CronSim

    return next(CronSim(settings.schedule or "", moment.astimezone(settings.zone))).astimezone(UTC)


def last_scheduled(settings: Settings, moment: datetime) -> datetime:
    """The last time (UTC) at or before the moment that cron started a run, or five years before it.

    Found by walking on, as cron does: backwards, cronsim differs where the clocks change.
    """
    for days in (1 / 24, 1, 8, 32, 367, 5 * 366):
        found, due = None, scheduled(settings, moment - timedelta(days=days))
        while due <= moment:
            found, due = due, scheduled(settings, due)
        if found:
            return found
    return moment - timedelta(days=5 * 366)


# --- The node -------------------------------------------------------------------------------------

NOT_THE_API = "answered JSON that is not the History API's"
IS_IT_A_NODE = "is DEFAULT_MGR_ADDRESS a Management Node?"


@dataclass(frozen=True)
class Page:
    """One answer of a list, by column: its records' fields in the node's order.

    `total` is how many records the query has, `following` where the next page is.
    """

    columns: Columns
    total: int
    following: str | None = None

    @cached_property
    def ids(self) -> list[str]:
        return list(map(str, self.columns.get("id", ())))

    @cached_property
    def ends(self) -> list[str]:
        """End times, UTC as the node writes them, empty where there is none."""
        return [str(end or "") for end in self.columns.get("end_time", [""] * len(self.ids))]

    def only(self, places: Sequence[int]) -> Page:
        """The records at these places alone."""
        if len(places) == len(self.ids):
            return self
        return Page({n: [column[i] for i in places] for n, column in self.columns.items()}, self.total)


class PageReader:
    """Reads the answers of one resource; the faster, the more a page is like the one before.

    Nested values stay JSON (msgspec.Raw), as the node wrote it, where all records have the same
    fields. `envelope` raises ValueError for what is not JSON and NodeError for what no list answers.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._decoder: msgspec.json.Decoder[Any] | None = None
        self._row: Callable[[Any], tuple[object, ...]] = tuple[object, ...]

    def __call__(self, body: bytes) -> tuple[Record, Columns]:
        """The answer's meta and its records by column."""
        if found := self._quick(body):
            return found
        answer = decode(body)
        meta, objects = (answer.get("meta"), answer.get("objects")) if isinstance(answer, dict) else (None, None)
        if not (isinstance(meta, dict) and isinstance(objects, list) and all(isinstance(o, dict) for o in objects)):
            raise NodeError(NOT_THE_API)
        names = list(dict.fromkeys(itertools.chain.from_iterable(objects)))
        self._learn(names, objects)
        return self._quick(body) or (meta, {name: [record.get(name) for record in objects] for name in names})

    def _quick(self, body: bytes) -> tuple[Record, Columns] | None:
        """The same where every record has the fields that were learnt."""
        import msgspec

        if not self._decoder:
            return None
        try:
            answer = self._decoder.decode(body)
        except (msgspec.DecodeError, RecursionError):
            return None
        rows = zip(*map(self._row, answer.objects), strict=True)
        return answer.meta, dict(zip(self._names, rows, strict=False))

    def _learn(self, names: list[str], objects: list[Record]) -> None:
        """Expect records with these fields from now on."""
        import msgspec

        self._decoder = None
        if not names:
            return
        lists = {name for record in objects for name, value in record.items() if isinstance(value, (list, dict))}
        places = {name: f"f{number}" for number, name in enumerate(names)}
        fields = [(place, msgspec.Raw if name in lists else object) for name, place in places.items()]
        rename = {place: name for name, place in places.items()}
        with suppress(ValueError):  # a name that msgspec does not take
            record = msgspec.defstruct("Record", fields, rename=rename, forbid_unknown_fields=True, gc=False)
            shape = msgspec.defstruct("Answer", [("meta", dict[str, object]), ("objects", list[record])])  # type: ignore[valid-type]
            # A fraction stays the text that it came as: 1.50 is not made 1.5.
            self._decoder = msgspec.json.Decoder(shape, float_hook=str)
        self._row = attrgetter(*rename, "f0")
        self._names = names


class Node:
    """The Management Node's History API: one client, one request at a time.

    Every method raises NodeError: Passing when repeating did not help, Refused for a 400,
    NotFound for a 404.
    """

    def __init__(self, settings: Settings) -> None:
        import requests
        import urllib3
        from requests.adapters import HTTPAdapter

        tls = {"ssl_context": tls_context(settings), "assert_fingerprint": settings.fingerprint}

        class Adapter(HTTPAdapter):
            """Our TLS settings and nothing else: not certifi's authorities, not the environment's."""

            def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **_: object) -> None:
                self.poolmanager = urllib3.PoolManager(num_pools=connections, maxsize=maxsize, **tls)  # type: ignore[arg-type]

            def get_connection_with_tls_context(self, request, verify, proxies=None, cert=None):  # type: ignore[no-untyped-def]
                return self.poolmanager.connection_from_url(request.url)

            def cert_verify(self, conn: object, url: object, verify: object, cert: object) -> None:
                """The context does."""

        if not settings.tls_verify:  # said once a run, not once a request
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self.settings = settings
        self.root = f"https://{settings.address}{API}"
        self.clock_skew: timedelta | None = None  # the node's clock less ours, from its Date header
        self._readers = {CONFERENCE: PageReader(), PARTICIPANT: PageReader()}
        self._unordered: set[str] = set()
        self._turn = threading.Lock()
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy, no .netrc
        self._session.auth = (os.fsencode(settings.username), settings.secret)  # type: ignore[assignment]
        self._session.headers["User-Agent"] = f"pexip-history-collector/{__version__}"
        self._session.headers["Accept"] = "application/json"
        self._session.mount("https://", Adapter())

    def pages(self, resource: str, filters: Mapping[str, str]) -> Iterator[Page]:
        """Every page of a query, oldest first where the node orders; the next is fetched ahead.

        `meta.next` is followed wherever the node's own maximum cut the page.
        """
        query = {**filters, "limit": str(PAGE_SIZE)}
        try:
            page = self.page(resource, {**query, **self._order(resource)})
        except Refused:
            if resource in self._unordered:
                raise
            self._unordered.add(resource)
            page = self.page(resource, query)
        while page.following:
            ahead = in_background(lambda url=page.following: self._page(resource, url))  # type: ignore[misc]
            yield page
            page = ahead.result()
        yield page

    def page(self, resource: str, query: Mapping[str, str]) -> Page:
        """One page."""
        return self._page(resource, f"{self.root}{resource}/?{urlencode(query)}")

    def first(self, resource: str, filters: Mapping[str, str]) -> Page:
        """The first record alone, in the order of `pages`."""
        return self.page(resource, {**filters, "limit": "1", **self._order(resource)})

    def orders(self, resource: str) -> bool:
        """Whether the pages of the resource come oldest first."""
        return resource not in self._unordered

    def distrust_order(self, resource: str) -> None:
        """Note that the node said yes to order_by and did not order."""
        self._unordered.add(resource)

    def has(self, resource: str, record_id: str) -> bool:
        """Whether the node still has the record."""
        try:
            self._get(f"{self.root}{resource}/{quote(record_id, safe='')}/", decode)
        except NotFound:
            return False
        return True

    def fields(self, resource: str) -> list[str]:
        """The field names in the node's order, from any record, or from the schema where there is none."""
        if names := list(self.first(resource, {}).columns):
            return names
        schema = self._get(f"{self.root}{resource}/schema/", decode)
        listed = schema.get("fields") if isinstance(schema, dict) else None
        return [name for name in listed or {} if not name.endswith("_call_quality")]  # those two lists leave out

    def fetch(self, url: str) -> tuple[requests.Response, bytes]:
        """One request, once, and its whole body, whatever the status is."""
        import requests
        import urllib3

        timeout, started = (CONNECT_TIMEOUT, READ_TIMEOUT), time.monotonic()
        try:
            with self._session.get(url, timeout=timeout, stream=True, allow_redirects=False) as answer:
                # .content joins pieces of 10 KB, which costs three times as much as this.
                body = answer.raw.read(decode_content=True)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise connection_error(error, self.settings) from None
        took = time.monotonic() - started
        log.debug("%s: %d, %d bytes, %.2f s", url, answer.status_code, len(body), took)
        if self.clock_skew is None and (ahead := _seconds(answer.headers.get("Date"))) is not None:
            self.clock_skew = timedelta(seconds=ahead)
        return answer, body

    def ask(self, url: str, reader: Callable[[bytes], T]) -> T:
        """One request, once: what the reader makes of the body."""
        answer, body = self.fetch(url)
        if answer.status_code != 200:
            raise self._status_error(url, answer)
        try:
            return reader(body)
        except NodeError as error:
            raise NodeError(f"{self._name(url)} {error}; {IS_IT_A_NODE}") from None
        except ValueError:
            kind = answer.headers.get("Content-Type", "no Content-Type")
            if "json" in kind:
                raise Passing(
                    f"{self._name(url)} answered JSON that is cut or damaged; is a proxy on the way?"
                ) from None
            raise Passing(f"{self._name(url)} answered {kind} instead of JSON; {IS_IT_A_NODE}") from None

    def _order(self, resource: str) -> dict[str, str]:
        return {"order_by": "end_time"} if self.orders(resource) else {}

    def _page(self, resource: str, url: str) -> Page:
        """The page at the address, with the address of the next."""
        meta, columns = self._get(url, self._readers[resource])
        total, ids = meta.get("total_count"), columns.get("id", ())
        if not isinstance(total, int):
            raise NodeError(f"{self._name(url)} {NOT_THE_API}; {IS_IT_A_NODE}")
        if not all(isinstance(i, (str, int)) for i in ids) or (columns and not ids):
            raise NodeError(f"{self._name(url)} answered a record without an id; {IS_IT_A_NODE}")
        if meta.get("next") is None:
            return Page(columns, total)
        following = str(meta["next"])
        try:
            target = urljoin(url, following)
            stays = urlsplit(target)[:2] == urlsplit(url)[:2]
        except ValueError:
            stays = False
        if not stays:
            raise NodeError(
                f"{self._name(url)} names a next page elsewhere ({following}): that is not followed, it would get"
                " the password; look at what answers at DEFAULT_MGR_ADDRESS"
            )
        if not columns or target == url:
            raise NodeError(
                f"{self._name(url)} names a next page that never comes ({following}); is a proxy on the way that"
                " changes what is asked?"
            )
        return Page(columns, total, target)

    def _get(self, url: str, reader: Callable[[bytes], T]) -> T:
        """One request, repeated through passing faults with backoff and jitter."""
        from tenacity import (
            RetryCallState,
            Retrying,
            retry_if_exception,
            stop_after_attempt,
            stop_after_delay,
            stop_any,
            wait_exponential_jitter,
        )

        backoff = wait_exponential_jitter(multiplier=0.5, max=15)

        def failure(state: RetryCallState) -> Passing:
            error = state.outcome.exception() if state.outcome else None
            return error if isinstance(error, Passing) else Passing("")

        def say(state: RetryCallState) -> None:
            pause = state.next_action.sleep if state.next_action else 0
            log.info("%s; trying again in %.1f s", failure(state), pause)

        retry = Retrying(
            retry=retry_if_exception(lambda e: isinstance(e, Passing) and e.retry_after <= LONGEST_WAIT),
            wait=lambda state: max(backoff(state), failure(state).retry_after),
            stop=stop_any(stop_after_attempt(ATTEMPTS), stop_after_delay(PATIENCE)),
            before_sleep=say,
            reraise=True,
        )
        with self._turn:
            result: T = retry(self.ask, url, reader)
            return result

    def _name(self, url: str) -> str:
        return f"{self.settings.address} ({urlsplit(url).path.removeprefix(API)})"

    def _status_error(self, url: str, answer: requests.Response) -> NodeError:
        code, user = answer.status_code, self.settings.username
        said = f"{self._name(url)} answered {code}"
        wait = _seconds(answer.headers.get("Retry-After")) or 0.0
        patience = f" and asks to wait {wait:.0f} s" if wait > LONGEST_WAIT else ""
        if code == 400:
            return Refused(f"{said}: it does not know the query; is it Pexip Infinity with its History API?")
        if code == 401:
            secret = self.settings.secret
            quoted = secret[:1] in (b"'", b'"') and secret[-1:] == secret[:1]
            hint = "; the password is in quotes, which `docker run --env-file` keeps: remove them" if quoted else ""
            return NodeError(
                f"{said}: wrong name or password; check DEFAULT_MGR_USERNAME ({user}) and DEFAULT_MGR_SECRET{hint}"
            )
        if code == 403:
            return NodeError(
                f"{said}: DEFAULT_MGR_USERNAME ({user}) may not read the history; give the account a role that"
                " may use the API and view the history"
            )
        if code == 404:
            return NotFound(f"{said}: there is no History API; {IS_IT_A_NODE}")
        if 300 <= code < 400:
            target = answer.headers.get("Location", "nowhere")
            return NodeError(
                f"{said}, a redirect to {target}: it is not followed, the password goes to DEFAULT_MGR_ADDRESS"
                " only; give the address that answers itself"
            )
        if code == 429:
            return Passing(f"{said}: too many requests{patience}; what else calls this node's API so often?", wait)
        if code >= 500:
            return Passing(f"{said}: the node has a problem of its own{patience}; look at its status page", wait)
        return NodeError(f"{said}, which the History API never does; {IS_IT_A_NODE}")


def decode(body: bytes) -> object:
    """JSON to Python. Raises ValueError.

    Whole numbers keep every digit. What only json takes (NaN, half a surrogate pair) goes there.
    """
    import msgspec

    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return json.loads(body)
    except RecursionError:
        raise ValueError("nested too deep") from None


def tls_context(settings: Settings) -> ssl.SSLContext:
    """The settings and the system's authorities; not what SSL_CERT_FILE or its kin name."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        os.environ.pop(name, None)
    context = ssl.create_default_context(cafile=settings.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # As Python 3.13 has it: a CA_FILE may hold the node's own certificate. But not its strictness
    # about extensions that older company CAs lack.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not settings.tls_verify or (settings.fingerprint and not settings.ca_file):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def connection_error(error: Exception, settings: Settings) -> NodeError:
    """The sentence for what kept us from an answer, by the causes within the exception."""
    from http.client import IncompleteRead

    import requests
    from urllib3 import exceptions as urllib3

    causes, address = list(_causes(error)), settings.address

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if caused_by(ssl.SSLCertVerificationError) or "Fingerprints did not match" in str(causes[-1]):
        return certificate_error(causes[-1], settings)
    if any(isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER" for cause in causes):
        return NodeError(f"{address}: no TLS is spoken on that port; check the port in DEFAULT_MGR_ADDRESS")
    if caused_by(urllib3.NameResolutionError):
        return NodeError(f"{address}: the name is not known; check DEFAULT_MGR_ADDRESS and the container's DNS")
    if caused_by(ConnectionRefusedError):
        return Passing(f"{address}: the connection was refused; check DEFAULT_MGR_ADDRESS and its port")
    if caused_by(requests.ConnectTimeout, urllib3.ConnectTimeoutError) and not caused_by(urllib3.NewConnectionError):
        return Passing(
            f"{address}: no connection within {CONNECT_TIMEOUT:.0f} s; check DEFAULT_MGR_ADDRESS and the firewall"
            " between here and the node"
        )
    if caused_by(requests.ReadTimeout, urllib3.ReadTimeoutError, TimeoutError):
        return Passing(f"{address}: no answer within {READ_TIMEOUT:.0f} s; is the node overloaded?")
    if caused_by(IncompleteRead, urllib3.IncompleteRead, urllib3.InvalidChunkLength):
        return Passing(f"{address}: the answer was cut short; is a proxy on the way, or the node restarting?")
    detail = str(causes[-1]) or type(causes[-1]).__name__
    return Passing(f"{address}: the connection broke ({detail}); is the node restarting?")


def certificate_error(error: BaseException, settings: Settings) -> NodeError:
    """What is wrong with the certificate, which one it is, and the ways on, safest first."""
    from cryptography.x509 import DNSName, ExtensionNotFound, IPAddress, SubjectAlternativeName

    shown, listed = "it could not be read", ["none"]
    with suppress(NodeError, ValueError, ExtensionNotFound):
        certificate = peer_certificate(settings, verify=False)
        shown = describe(certificate)
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
        listed = [*names.get_values_for_type(DNSName), *map(str, names.get_values_for_type(IPAddress))]
    pin = "DEFAULT_MGR_TLS_FINGERPRINT=that fingerprint, once compared with the node's own"
    off = "DEFAULT_MGR_TLS_VERIFY=false, which anyone on the way can abuse"
    if not isinstance(error, ssl.SSLCertVerificationError):
        return NodeError(
            f"{settings.address}: the certificate is not the one that DEFAULT_MGR_TLS_FINGERPRINT names."
            f" Presented: {shown}. If the node's certificate was renewed, compare and set the new fingerprint;"
            " if it was not, someone is in between"
        )
    reason, ca = error.verify_message.rstrip("."), "DEFAULT_MGR_CA_FILE=a PEM file with the CA that signed it"
    first = {
        18: "DEFAULT_MGR_CA_FILE=a PEM file with that certificate, once compared with the node's own",
        10: "renew the node's certificate, it has expired",
        62: f"DEFAULT_MGR_ADDRESS=a name that the certificate has ({', '.join(listed)})",
        64: f"DEFAULT_MGR_ADDRESS=a name that the certificate has ({', '.join(listed)})",
    }.get(error.verify_code, ca)
    return NodeError(
        f"{settings.address}: the certificate does not verify ({reason}). Presented: {shown}."
        f" Ways on, safest first: (1) {first}; (2) {pin}; (3) {off}"
    )


def peer_certificate(settings: Settings, verify: bool) -> Certificate:
    """The node's certificate, by a handshake alone: no request, no password. Raises NodeError, ValueError."""
    import socket

    from cryptography.x509 import load_der_x509_certificate

    context = tls_context(settings if verify else replace(settings, ca_file=None, fingerprint=None, tls_verify=False))
    split = urlsplit(f"https://{settings.address}")
    host = split.hostname or ""
    try:
        with (
            socket.create_connection((host, split.port or 443), CONNECT_TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=host) as tls,
        ):
            shown = tls.getpeercert(binary_form=True) or b""
    except OSError as error:
        raise connection_error(error, settings) from None
    if verify and settings.fingerprint and hashlib.sha256(shown).hexdigest() != settings.fingerprint:
        raise certificate_error(NodeError("pinned"), settings)
    return load_der_x509_certificate(shown)


def describe(certificate: Certificate) -> str:
    """Subject, issuer, expiry (UTC) and SHA-256 fingerprint."""
    from cryptography.hazmat.primitives.hashes import SHA256

    fingerprint = certificate.fingerprint(SHA256()).hex(":").upper()
    return (
        f"subject {certificate.subject.rfc4514_string()!r}, issuer {certificate.issuer.rfc4514_string()!r},"
        f" valid until {certificate.not_valid_after_utc:%Y-%m-%d}, SHA-256 {fingerprint}"
    )


def in_background(function: Callable[[], T]) -> Future[T]:
    """Call it in a thread that does not keep the process from ending."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and all that is wrapped in it, outermost first."""
    found: object = error
    while isinstance(found, BaseException):
        yield found
        wrapped = (*found.args, getattr(found, "reason", None), found.__cause__)
        found = next((item for item in wrapped if isinstance(item, BaseException)), None)


def _seconds(header: str | None) -> float | None:
    """A number of seconds or a date, as HTTP headers have them, in seconds from now."""
    from email.utils import parsedate_to_datetime

    with suppress(ValueError, TypeError, OverflowError):
        return float(header or "")
    with suppress(ValueError, TypeError, OverflowError):
        return (parsedate_to_datetime(header or "") - datetime.now(UTC)).total_seconds()
    return None


# --- The ledger -----------------------------------------------------------------------------------

APPLICATION_ID, SCHEMA_VERSION = 0x50784852, 1
# Ids stay while they can come back: for an hour (OVERLAP) behind the mark, and a participant until
# its conference was collected, as that lists it; after a year nobody waits for a conference's end.
SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
CREATE TABLE resource (name TEXT PRIMARY KEY, mark TEXT, first TEXT, rows INTEGER NOT NULL DEFAULT 0);
INSERT INTO resource (name) VALUES ('conference'), ('participant'), ('stream');
CREATE TABLE conference (id TEXT PRIMARY KEY, end_time TEXT NOT NULL, conference TEXT) WITHOUT ROWID;
CREATE TABLE participant (id TEXT PRIMARY KEY, end_time TEXT NOT NULL, conference TEXT) WITHOUT ROWID;
CREATE TABLE expected (participant TEXT PRIMARY KEY, conference TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE run (
    id INTEGER PRIMARY KEY, started TEXT NOT NULL, finished TEXT, outcome TEXT NOT NULL, message TEXT,
    window_start TEXT, window_end TEXT, conferences INTEGER, participants INTEGER, late INTEGER,
    waiting INTEGER
);
CREATE TABLE staged (
    run INTEGER, resource TEXT, stem TEXT NOT NULL, head INTEGER NOT NULL, rows INTEGER NOT NULL,
    size INTEGER, PRIMARY KEY (run, resource)
) WITHOUT ROWID;
"""
# What one run knows besides. `seen` is kept by end time, as records come so: an index of random ids
# would cost more than all the rest. `recalled` are the ids of an aggregate.
SCRATCH = "PRAGMA temp.journal_mode = OFF; PRAGMA temp.cache_size = -8000;" + "".join(
    f"""
CREATE TEMP TABLE seen_{resource} (
    end_time TEXT, id TEXT, conference TEXT, sweep INTEGER, page INTEGER, taken INTEGER DEFAULT 1,
    PRIMARY KEY (end_time, id)
) WITHOUT ROWID;
CREATE TEMP TABLE recalled_{resource} (id TEXT PRIMARY KEY, end_time TEXT, conference TEXT) WITHOUT ROWID;
"""
    for resource in (CONFERENCE, PARTICIPANT)
)
SCRATCH += "CREATE TEMP TABLE listed (participant TEXT, conference TEXT);"
# The conferences that were collected: no more participants of theirs are to be remembered for them.
COLLECTED = """conference IN (
    SELECT id FROM main.conference UNION ALL SELECT id FROM seen_conference
    UNION ALL SELECT id FROM recalled_conference UNION ALL SELECT conference FROM main.expected)"""


@dataclass(frozen=True)
class Staged:
    """A file of rows that waits in `.collector` to be published.

    `head` is where its rows begin (bytes); `size` what the aggregate held (bytes) as publishing
    began, None before that.
    """

    run: int
    resource: str
    stem: str
    head: int
    rows: int
    size: int | None = None

    @property
    def name(self) -> str:
        return f"{self.run}-{self.resource}.csv"


class Ledger:
    """What was exported and how far: SQLite, rollback journal, every commit synced. Times are UTC."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.db = connection
        self.sweep = self.page = 0

    @contextmanager
    def transaction(self, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """All or nothing; DEFERRED where only scratch tables change."""
        self.db.execute(f"BEGIN {kind}")
        try:
            yield self.db
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    def one(self, query: str, *values: object) -> int:
        """The number that a query comes to."""
        return int(self.db.execute(query, values).fetchone()[0])

    # How far

    def mark(self, resource: str) -> datetime | None:
        """Where the last complete window of the resource ended; None before the first."""
        (text,) = self.db.execute("SELECT mark FROM resource WHERE name = ?", (resource,)).fetchone()
        return parse_time(text)

    def horizon(self, resource: str) -> datetime | None:
        """Where the next query starts; ids of records that ended earlier are forgotten."""
        mark = self.mark(resource)
        return mark - OVERLAP if mark else None

    def first(self, resource: str, start: datetime) -> datetime:
        """Where the first window starts: where it did when it was first tried, whatever became of that."""
        with self.transaction() as db:
            db.execute("UPDATE resource SET first = ? WHERE name = ? AND first IS NULL", (format_time(start), resource))
        (text,) = self.db.execute("SELECT first FROM resource WHERE name = ?", (resource,)).fetchone()
        return parse_time(text) or start

    # What this run sees

    def fresh(self, resource: str, page: Page) -> list[int]:
        """Places in a page of the records that no run exported and this one did not see; they count as taken."""
        if not page.ids:
            return []
        self.page += 1
        conferences = map(uri_id, page.columns.get("conference", [None] * len(page.ids)))
        values = list(itertools.chain.from_iterable(zip(page.ends, page.ids, conferences, strict=True)))
        sql = (
            f"INSERT INTO seen_{resource} (sweep, page, end_time, id, conference) SELECT ?, ?, *"
            " FROM (VALUES {}) WHERE true ON CONFLICT DO UPDATE SET sweep = excluded.sweep"
        )
        here = "end_time BETWEEN ? AND ? AND page = ?"
        span = (min(page.ends), max(page.ends), self.page)
        with self.transaction("DEFERRED") as db:
            # Many rows a statement: executemany would let go of the interpreter for each.
            for start in range(0, len(values), 3 * PAGE_SIZE):
                part = values[start : start + 3 * PAGE_SIZE]
                rows = ",".join(["(?,?,?)"] * (len(part) // 3))
                db.execute(sql.format(rows), [self.sweep, self.page, *part])
            db.execute(
                f"UPDATE seen_{resource} SET taken = 0 WHERE {here} AND (id IN (SELECT id FROM main.{resource})"
                f" OR id IN (SELECT id FROM recalled_{resource}))",
                span,
            )
            count = f"SELECT count(*) FROM seen_{resource} WHERE {here} AND taken"
            if db.execute(count, span).fetchone()[0] == len(page.ids):
                return list(range(len(page.ids)))
            new = {i for (i,) in db.execute(f"SELECT id FROM seen_{resource} WHERE {here} AND taken", span)}
        # A page may hold one twice: the first counts.
        return [place for place, i in enumerate(page.ids) if i in new and not new.discard(i)]  # type: ignore[func-returns-value]

    def untake(self, resource: str, page: Page, places: Iterable[int]) -> None:
        """These records wait for a later run after all."""
        keys = ((page.ends[i], page.ids[i]) for i in places)
        self.db.executemany(f"DELETE FROM seen_{resource} WHERE end_time = ? AND id = ?", keys)

    def pass_over(self, resource: str, page: Page, places: Iterable[int]) -> None:
        """These records were exported, though the ledger has forgotten when."""
        keys = ((page.ends[i], page.ids[i]) for i in places)
        self.db.executemany(f"UPDATE seen_{resource} SET taken = 0 WHERE end_time = ? AND id = ?", keys)

    def untake_newest(self, resource: str, keep: int) -> tuple[int, str | None]:
        """Let all but the oldest so many wait after all; their number and oldest end time."""
        newest = f"FROM seen_{resource} WHERE taken ORDER BY end_time, id LIMIT -1 OFFSET {keep}"
        query = f"SELECT count(*), min(end_time) FROM (SELECT end_time {newest})"
        count, oldest = self.db.execute(query).fetchone()
        self.db.execute(f"DELETE FROM seen_{resource} WHERE (end_time, id) IN (SELECT end_time, id {newest})")
        self.db.execute("DELETE FROM listed WHERE conference NOT IN (SELECT id FROM seen_conference)")
        return count, oldest

    def list_participants(self, conferences: Page) -> None:
        """Note the participants that collected conferences list."""
        listings = list(_listings(conferences.ids, conferences.columns.get("participants", ())))
        with self.transaction("DEFERRED") as db:
            db.executemany("INSERT INTO listed VALUES (?, ?)", listings)

    def swept(self, resource: str) -> int:
        """How many records the present sweep has seen."""
        return self.one(f"SELECT count(*) FROM seen_{resource} WHERE sweep = ?", self.sweep)

    def is_taken(self, resource: str, record_id: str) -> bool:
        return bool(self.one(f"SELECT count(*) FROM seen_{resource} WHERE id = ? AND taken", record_id))

    def find_missing(self) -> list[str]:
        """Note which listed participants no run has; their conferences."""
        for resource in (CONFERENCE, PARTICIPANT):
            self.db.execute(f"CREATE INDEX temp.{resource}_id ON seen_{resource} (id)")
        self.db.execute(
            "CREATE TEMP TABLE missing AS"
            " SELECT participant, conference FROM (SELECT * FROM expected UNION ALL SELECT * FROM listed)"
            " WHERE NOT EXISTS (SELECT 1 FROM seen_participant WHERE id = participant)"
            " AND NOT EXISTS (SELECT 1 FROM main.participant WHERE id = participant)"
            " AND NOT EXISTS (SELECT 1 FROM recalled_participant WHERE id = participant)"
        )
        self.db.execute("CREATE INDEX temp.missing_of ON missing (conference)")
        return [c for (c,) in self.db.execute("SELECT conference FROM missing GROUP BY 1 ORDER BY min(rowid)")]

    def missing(self, conference: str) -> set[str]:
        """The ids that are missing of a conference."""
        query = "SELECT participant FROM missing WHERE conference = ?"
        return {participant for (participant,) in self.db.execute(query, (conference,))}

    def still_missing(self, conference: str = "") -> int:
        """How many did not come, of the conference that was just asked for, or of all."""
        self.db.execute(
            "DELETE FROM missing WHERE conference = ? AND participant IN (SELECT id FROM seen_participant)",
            (conference,),
        )
        where = "conference = ?" if conference else "? = ''"
        return self.one(f"SELECT count(DISTINCT participant) FROM missing WHERE {where}", conference)

    def give_up(self, conference: str) -> None:
        """Expect no more participants of it."""
        self.db.execute("DELETE FROM missing WHERE conference = ?", (conference,))

    # The commit point

    def commit(self, files: Sequence[Staged], run: Mapping[str, object], marks: Mapping[str, str]) -> None:
        """One transaction: what was taken, what is expected, how far, and the files to publish.

        After it the rows are exported, whatever happens; before it nothing was.
        """
        with self.transaction() as db:
            for resource in (CONFERENCE, PARTICIPANT):
                if mark := marks.get(resource):
                    sql = "UPDATE resource SET mark = max(coalesce(mark, ''), ?) WHERE name = ?"
                    db.execute(sql, (mark, resource))
                horizon = self.horizon(resource) or datetime.min.replace(tzinfo=UTC)
                span = {"horizon": format_time(horizon), "a_year": "0001-01-01"}
                if horizon.year > 1:
                    span["a_year"] = format_time(horizon - timedelta(days=366))
                db.execute(f"UPDATE main.{resource} SET conference = NULL WHERE {COLLECTED}")
                db.execute(
                    f"INSERT OR IGNORE INTO main.{resource} SELECT id, end_time,"
                    f" CASE WHEN {COLLECTED} THEN NULL ELSE conference END AS open FROM seen_{resource}"
                    " WHERE taken AND (end_time >= :horizon OR open IS NOT NULL)",
                    span,
                )
                db.execute(
                    f"DELETE FROM main.{resource} WHERE end_time < :horizon"
                    " AND (conference IS NULL OR end_time < :a_year)",
                    span,
                )
            db.execute("DELETE FROM expected")
            db.execute("INSERT OR IGNORE INTO expected SELECT participant, conference FROM missing")
            for file in files:
                row = (file.run, file.resource, file.stem, file.head, file.rows)
                db.execute("INSERT INTO staged VALUES (?, ?, ?, ?, ?, NULL)", row)
            _update_run(db, files[0].run, run)

    # Publishing

    def staged(self) -> list[list[Staged]]:
        """The files that wait to be published, a list for each run, oldest first."""
        files = [Staged(*row) for row in self.db.execute("SELECT * FROM staged ORDER BY run, resource")]
        return [list(group) for _, group in itertools.groupby(files, lambda file: file.run)]

    def begin_publishing(self, sizes: Mapping[Staged, int]) -> None:
        """Note what the aggregates held before the rows of a run are appended."""
        with self.transaction() as db:
            for file, size in sizes.items():
                where = (size, file.run, file.resource)
                db.execute("UPDATE staged SET size = ? WHERE run = ? AND resource = ?", where)

    def published(self, files: Sequence[Staged]) -> None:
        with self.transaction() as db:
            for file in files:
                db.execute("DELETE FROM staged WHERE run = ? AND resource = ?", (file.run, file.resource))
                db.execute("UPDATE resource SET rows = rows + ? WHERE name = ?", (file.rows, file.resource))

    # Runs

    def begin_run(self, started: datetime) -> int:
        """A new run's number; runs that never finished were killed."""
        with self.transaction() as db:
            killed = (format_time(started), "killed", "it was killed, or the power failed")
            db.execute("UPDATE run SET finished = ?, outcome = ?, message = ? WHERE finished IS NULL", killed)
            db.execute("DELETE FROM run WHERE id <= (SELECT max(id) FROM run) - ?", (RUNS_KEPT,))
            sql = "INSERT INTO run (started, outcome) VALUES (?, 'running')"
            return int(db.execute(sql, (format_time(started),)).lastrowid or 0)

    def note_run(self, run: int, **values: object) -> None:
        with self.transaction() as db:
            _update_run(db, run, values)

    def runs(self, most: int) -> list[dict[str, object]]:
        """The last runs, newest first."""
        cursor = self.db.execute("SELECT * FROM run ORDER BY id DESC LIMIT ?", (most,))
        return [dict(zip([c[0] for c in cursor.description], row, strict=True)) for row in cursor]

    # A lost ledger

    def is_blank(self) -> bool:
        """Whether it knows nothing yet, as after a crash between making and filling it."""
        marks = self.mark(CONFERENCE) or self.mark(PARTICIPANT)
        return not marks and not self.one(
            "SELECT (SELECT count(*) FROM conference) + (SELECT count(*) FROM participant)"
        )

    def recall(self, resource: str, rows: Iterable[Mapping[str, str]]) -> None:
        """Take the records of an aggregate's rows for exported, until the run ends."""
        values = ((r["id"], iso_time(r["end_time"]), uri_id(r.get("conference"))) for r in rows if r["id"])
        with self.transaction("DEFERRED") as db:
            db.executemany(f"INSERT OR IGNORE INTO recalled_{resource} VALUES (?, ?, ?)", values)

    def rebuild(self, listings: Iterable[tuple[str, str]]) -> None:
        """Fill an empty ledger from what was recalled, and from what (participant, conference) are listed."""
        now = datetime.now(UTC)
        with self.transaction() as db:
            for resource in (CONFERENCE, PARTICIPANT):
                sql = f"SELECT max(end_time), count(*) FROM recalled_{resource}"
                newest, rows = db.execute(sql).fetchone()
                if not rows:
                    continue
                # Where a spreadsheet made the times unreadable, as in a first run: a day back.
                mark = newest or format_time(now - FIRST_WINDOW)
                db.execute("UPDATE resource SET mark = ?, rows = ? WHERE name = ?", (mark, rows, resource))
                db.execute(
                    f"INSERT OR IGNORE INTO main.{resource} SELECT id, coalesce(end_time, :now),"
                    f" CASE WHEN {COLLECTED} THEN NULL ELSE conference END AS open FROM recalled_{resource}"
                    " WHERE coalesce(end_time, :now) >= :horizon OR open IS NOT NULL",
                    {"now": format_time(now), "horizon": format_time(self.horizon(resource) or now)},
                )
            db.executemany("INSERT INTO listed VALUES (?, ?)", listings)
            # Only as far back as the participants go: before that their aggregate was another.
            db.execute(
                "INSERT OR IGNORE INTO expected SELECT participant, conference FROM listed"
                " WHERE participant NOT IN (SELECT id FROM recalled_participant) AND conference IN (SELECT id"
                " FROM recalled_conference WHERE end_time >= (SELECT min(end_time) FROM recalled_participant))"
            )
            db.execute("DELETE FROM listed")


def open_ledger(folder: Path) -> Ledger | None:
    """The ledger in the folder, made where there is none; None when an unusable one is there.

    Raises CollectorError where a newer collector wrote it.
    """
    path = folder / "ledger.sqlite"
    for name in (path, folder / "ledger.sqlite-journal"):
        refuse_other_kinds(name)
    # Scratch tables belong on the data volume: /tmp may be memory.
    os.environ["SQLITE_TMPDIR"] = str(folder)
    db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    try:
        # EXTRA also syncs the folder when the journal goes: a commit that power can take back
        # after its rows were published would publish them twice.
        db.executescript("PRAGMA journal_mode = DELETE; PRAGMA synchronous = EXTRA;")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (application,) = db.execute("PRAGMA application_id").fetchone()
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application == APPLICATION_ID and version > SCHEMA_VERSION:
            raise CollectorError(
                f"{path} was written by a newer collector (version {version}, this one knows"
                f" {SCHEMA_VERSION}); run that version again, or move the folder {folder} away to have"
                " the ledger rebuilt from the aggregates"
            )
        if not tables and not version:
            db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
        elif (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
            raise sqlite3.DatabaseError("not a ledger")
        elif db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("damaged")
    except sqlite3.OperationalError:
        db.close()
        raise
    except sqlite3.DatabaseError:
        db.close()
        return None
    except BaseException:
        db.close()
        raise
    return Ledger(db)


def _update_run(db: sqlite3.Connection, run: int, values: Mapping[str, object]) -> None:
    columns = ", ".join(f"{name} = ?" for name in values)
    db.execute(f"UPDATE run SET {columns} WHERE id = ?", (*values.values(), run))


def _listings(conferences: Iterable[str], participants: Iterable[object]) -> Iterator[tuple[str, str]]:
    """(participant, conference) for each participant that a conference lists."""
    for conference, listed in zip(conferences, participants, strict=False):
        for entry in nested(listed):
            if participant := uri_id(entry):
                yield participant, conference


def nested(value: object) -> list[object]:
    """A nested value as a list, whether it was decoded, is still JSON (of the node, or of a cell), or is none."""
    import msgspec

    if isinstance(value, (str, msgspec.Raw)):
        try:
            value = decode(value.encode() if isinstance(value, str) else bytes(value))
        except ValueError:
            return []
    return value if isinstance(value, list) else []


def uri_id(value: object) -> str | None:
    """The id at the end of a resource URI (or the id itself)."""
    return value.rstrip("/").rpartition("/")[2] or None if isinstance(value, str) else None


ISO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?")


def iso_time(text: str) -> str | None:
    """The text where it is a time as the node writes it; those sort as they follow in time."""
    return text if ISO_TIME.fullmatch(text) else None


def format_time(moment: datetime) -> str:
    """UTC as the node writes it: no zone, no fraction where there is none."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() if moment.tzinfo else moment.isoformat()


def parse_time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).replace(tzinfo=UTC) if text else None


# --- The files ------------------------------------------------------------------------------------

BOM = b"\xef\xbb\xbf"
# What a spreadsheet runs begins so; + and - only where no number and no telephone number follows.
RISKY = frozenset("=@\t\r+-")
HARMLESS = re.compile(r"[+-](\d[\d ()./-]*|\d*\.?\d+([eE][+-]?\d+)?)?", re.ASCII)
CHUNK = 250  # rows made at once; more memory than this is given back and faulted in anew


def guard(text: str) -> str:
    """The text with an apostrophe before it where a spreadsheet would run it as a formula."""
    if text[:1] not in RISKY or not text or (text[0] in "+-" and HARMLESS.fullmatch(text)):
        return text
    return "'" + text


def cells(values: Sequence[object], escape: bool) -> list[str]:
    """A column's values as CSV cells (RFC 4180)."""
    import msgspec

    kinds = set(map(type, values))
    texts: list[str]
    if kinds == {msgspec.Raw}:
        raws = [msgspec.json.format(value, indent=-1) for value in values]  # type: ignore[call-overload]
        texts = b"\n".join(raws).decode().split("\n")
        if all(text[0] in "[{" for text in texts):
            return [f'"{text.replace(_Q, _QQ)}"' for text in texts]
        return cells([decode(raw) for raw in raws], escape)
    if kinds <= {str, type(None)}:
        texts = [value or "" for value in values]  # type: ignore[misc]
    elif kinds <= {int, float, bool, type(None)}:
        return ["" if value is None else str(value) for value in values]
    else:
        # Only text can be taken for a formula: a number, a list and an object keep their signs.
        texts = ["" if v is None else guard(v) if isinstance(v, str) and escape else compact(v) for v in values]
        escape = False
    if escape and not RISKY.isdisjoint({text[:1] for text in texts}):
        texts = [guard(text) if text[:1] in RISKY else text for text in texts]
    joined = "".join(texts)
    if _Q in joined:
        return [f'"{t.replace(_Q, _QQ)}"' if _Q in t or _breaks(t) else t for t in texts]
    if _breaks(joined):
        return [f'"{t}"' if _breaks(t) else t for t in texts]
    return texts


def compact(value: object) -> str:
    """A list or an object as compact JSON, anything else as its text."""
    import msgspec

    if not isinstance(value, (list, dict)):
        return str(value)
    try:
        return msgspec.json.encode(value).decode()
    except ValueError:  # half a surrogate pair
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_Q, _QQ = '"', '""'


def _breaks(text: str) -> bool:
    return "," in text or "\n" in text or "\r" in text


def encode(text: str) -> bytes:
    """UTF-8; half of a surrogate pair, which UTF-8 cannot hold, becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def header_line(columns: Sequence[str], bom: bool) -> bytes:
    return (BOM if bom else b"") + encode(",".join(cells(columns, False)) + "\r\n")


class Stage:
    """A dated file in the making: rows of one resource under columns that may still grow."""

    def __init__(self, path: Path, columns: Sequence[str], bom: bool, escape: bool) -> None:
        self.path, self.bom, self.escape = path, bom, escape
        self.columns = list(columns)
        self.rows = 0
        self._widened = False
        self._file = open(path, "wb", opener=own)  # noqa: SIM115
        self._file.write(header_line(self.columns, bom) if columns else b"")

    def write(self, columns: Columns) -> None:
        """Append rows, by the names of their fields; new names become new last columns."""
        self._grow([name for name in columns if name not in self.columns])
        count = len(next(iter(columns.values()), ()))
        for start in range(0, count, CHUNK):
            size = min(CHUNK, count - start)
            blank = [""] * size
            texts = [
                cells(columns[name][start : start + size], self.escape) if name in columns else blank
                for name in self.columns
            ]
            lines = map(",".join, zip(*texts, strict=True))
            self._file.write(encode("\r\n".join((*lines, ""))))
            self.rows += size

    def _grow(self, names: Sequence[str]) -> None:
        if names and not self.columns:
            self._file.write(header_line(names, self.bom))
        elif names:
            self._widened = True
        self.columns += names

    def finish(self, columns: Sequence[str] = (), drop: Callable[[dict[str, str]], bool] | None = None) -> int:
        """Give every row every column, sync, and tell where the rows begin (bytes).

        `columns` name the header where no row did; `drop` chooses rows to leave out after all.
        """
        if not self.columns:
            self._grow(columns)
        self._file.flush()
        if self._widened or drop:
            with new_file(self.path) as target:
                self.rows = rewrite(self.path, target, self.columns, self.columns, self.bom, drop)
        else:
            os.fsync(self._file.fileno())
        self._file.close()
        return len(header_line(self.columns, self.bom))


def rewrite(
    source: Path,
    target: IO[bytes],
    header: Sequence[str],
    columns: Sequence[str],
    bom: bool,
    drop: Callable[[dict[str, str]], bool] | None = None,
) -> int:
    """Copy a file of ours under other columns, by name, and tell the number of rows.

    `header` are the source's columns; short rows are padded, cells beyond the header stay last.
    """
    picks = [header.index(name) if name in header else None for name in columns]
    rows = 0
    text = io.TextIOWrapper(target, "utf-8", "surrogateescape", newline="", write_through=True)
    with source.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        text.write(header_line(columns, bom).decode())
        reader, writer = csv.reader(lines), csv.writer(text, lineterminator="\r\n")
        next(reader, None)
        for row in reader:
            if not row or (drop and drop(dict(zip(header, row, strict=False)))):
                continue
            width = len(row)
            writer.writerow(
                [row[pick] if pick is not None and pick < width else "" for pick in picks] + row[len(header) :]
            )
            rows += 1
    text.detach()
    return rows


@contextmanager
def new_file(path: Path, folder: Path | None = None) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` whole and synced, or not at all."""
    place, path = path, behind_link(path)
    draft = (folder if folder and path == place else path.parent) / f"{path.name}.new"
    with open(draft, "wb", opener=own) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        shutil.copymode(path, draft)
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames durable; some network shares know no such thing."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


class Archive:
    """The data folder: aggregates, dated files, and `.collector`, where files wait."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.data = settings.data_dir
        self.folder = settings.data_dir / ".collector"

    def aggregate(self, resource: str) -> Path:
        return self.data / f"{FILE_NAMES[resource]}.csv"

    def waiting(self, file: Staged) -> Path:
        return self.folder / file.name

    def dated(self, file: Staged) -> Path:
        return self.data / f"{file.stem}_{FILE_NAMES[file.resource]}.csv"

    def free_stem(self, started: datetime, pending: Sequence[Sequence[Staged]]) -> str:
        """The run's start in the settings' zone, or the first second after it that no file has."""
        taken = {file.stem for files in pending for file in files}
        for seconds in itertools.count():
            stem = f"{(started + timedelta(seconds=seconds)).astimezone(self.settings.zone):%Y-%m-%d_%H-%M-%S}"
            if stem not in taken and not any((self.data / f"{stem}_{n}.csv").exists() for n in FILE_NAMES.values()):
                return stem
        raise AssertionError

    def discard(self, ledger: Ledger) -> None:
        """Remove what a run that did not reach its commit point left."""
        wanted = {"lock", *(file.name for files in ledger.staged() for file in files)}
        for path in self.folder.iterdir():
            if path.name not in wanted and not path.name.startswith("ledger.sqlite") and path.is_file():
                path.unlink()

    def header(self, resource: str) -> list[str] | None:
        """The aggregate's columns; None where there is none, or one that is not ours."""
        try:
            path = behind_link(self.aggregate(resource))
            with open(path, encoding="utf-8-sig", errors="replace", newline="", opener=own) as lines:
                header = next(csv.reader(lines), [])
        except FileNotFoundError:
            return None
        except (csv.Error, NotAFile):
            if behind_link(self.aggregate(resource)).is_dir():
                raise
            return None
        return header if set(KEYS[resource]) <= set(header) else None

    def rows(self, resource: str) -> Iterator[dict[str, str]]:
        """The aggregate's rows by column name, every one with the keys and `end_time`."""
        header = self.header(resource)
        if header is None:
            return
        blank = dict.fromkeys((*KEYS[resource], "end_time"), "")
        with self.aggregate(resource).open(encoding="utf-8-sig", errors="replace", newline="") as lines:
            reader = csv.reader(lines)
            next(reader)
            for row in reader:
                yield blank | dict(zip(header, row, strict=False))

    def prepare(self, resource: str, columns: Sequence[str]) -> list[str]:
        """Make the aggregate ready to take rows with these columns, and tell its own.

        Its rows stay what they are, so this can be repeated: what is not ours is set aside, a
        missing file is begun, missing columns are added, a last line gets its end.
        """
        path = self.aggregate(resource)
        header = self.header(resource)
        if header is None and path.exists() and (not path.is_file() or path.stat().st_size):
            self.set_aside(path, _why_not_ours(path))
        if header is None:
            with new_file(path, self.folder) as file:
                file.write(header_line(columns, self.settings.csv_bom))
            if resource == STREAM:
                log.info("%s begins; streams of participants collected before are not in it", path.name)
            return list(columns)
        with path.open("r+b") as file:
            has_bom = file.read(3) == BOM
            file.seek(-1, os.SEEK_END)
            if (last := file.read(1)) != b"\n":
                file.write(b"\n" if last == b"\r" else b"\r\n")
                file.flush()
                os.fsync(file.fileno())
        new = [name for name in columns if name not in header]
        bom = has_bom or self.settings.csv_bom
        if new or bom != has_bom:
            what = [f"the new columns {', '.join(new)}"] if new else []
            what += ["a byte order mark (DATA_CSV_BOM)"] if bom != has_bom else []
            with new_file(path, self.folder) as file:
                rewrite(path, file, header, header + new, bom)
            log.info("%s got %s", path.name, " and ".join(what))
        return header + new

    def set_aside(self, path: Path, why: str) -> None:
        """Give a file that we cannot go on with another name."""
        stamp = datetime.now(self.settings.zone).strftime("%Y-%m-%d_%H-%M-%S")
        for number in itertools.count():
            other = path.with_name(f"{path.name}.set-aside-{stamp}{f'-{number}' if number else ''}")
            if not other.exists():
                break
        path.rename(other)
        sync_folder(path.parent)
        log.warning("%s %s; it is kept as %s and a new one starts", path.name, why, other.name)

    def publish(self, ledger: Ledger) -> None:
        """Put every file that waits where it belongs. Raises OSError; then they go on waiting.

        Can be cut anywhere and repeated. The order is what makes it so:
        1. the aggregates are made ready, which changes none of their rows;
        2. the ledger notes their sizes;
        3. the rows are appended and synced. Whoever comes here again finds, behind the noted
           size, the beginning of the same rows, and writes the rest;
        4. the waiting files are renamed to dated files: one that is gone was appended before;
        5. the ledger forgets them.
        """
        for files in ledger.staged():
            there = [file for file in files if self.waiting(file).exists()]
            sizes = {file: file.size for file in files if file.size is not None}
            if not sizes:
                for file in there:
                    self.prepare(file.resource, self._columns(file))
                for file in set(files) - set(there):
                    log.warning("%s is gone, and %d rows with it; who removed it?", self.waiting(file), file.rows)
                sizes = {file: self.aggregate(file.resource).stat().st_size for file in there}
                ledger.begin_publishing(sizes)
            for file in there:
                self._append(file, sizes[file])
            for file in there:
                self.waiting(file).replace(self.dated(file))
            sync_folder(self.data)
            sync_folder(self.folder)
            ledger.published(files)

    def _append(self, file: Staged, size: int) -> None:
        """Append the rows behind `size`, or what is still missing of them."""
        header, columns = self.header(file.resource), self._columns(file)
        if header is None or not set(columns) <= set(header):
            return self._append_missing(file)
        source, start = self.waiting(file), file.head
        if header != columns:  # the user's file has another order
            source = self._reordered(file, header)
            start = len(header_line(header, False))
        # Unbuffered: what a full disk refused must not be tried again when the file is closed.
        with source.open("rb") as rows, self.aggregate(file.resource).open("r+b", buffering=0) as target:
            rows.seek(start)
            end = target.seek(0, os.SEEK_END)
            target.seek(size)
            if end < size or not _is_prefix(target, rows):
                return self._append_missing(file)
            try:
                while piece := memoryview(rows.read(1 << 20)):
                    while piece:
                        piece = piece[target.write(piece) :]
                os.fsync(target.fileno())
            except BaseException:  # a full disk, SIGTERM: no half of a row stays
                with suppress(OSError):
                    os.ftruncate(target.fileno(), end)
                raise
        return None

    def _append_missing(self, file: Staged) -> None:
        """Add the rows that the aggregate lacks, after someone changed it in mid-publishing."""
        header = self.prepare(file.resource, self._columns(file))
        keys = dict.fromkeys((*KEYS[file.resource], "id"))
        places = [header.index(name) for name in keys if name in header]
        there = set()
        with self.aggregate(file.resource).open(encoding="utf-8-sig", errors="replace", newline="") as lines:
            for row in csv.reader(lines):
                if len(row) >= len(header):
                    there.add(tuple(row[place] for place in places))
        source = self._reordered(file, header, lambda row: tuple(row[header[place]] for place in places) in there)
        path = self.aggregate(file.resource)
        with new_file(path, self.folder) as target, path.open("rb") as old, source.open("rb") as rows:
            shutil.copyfileobj(old, target, 1 << 20)
            rows.seek(len(header_line(header, False)))
            shutil.copyfileobj(rows, target, 1 << 20)

    def _reordered(
        self, file: Staged, columns: Sequence[str], drop: Callable[[dict[str, str]], bool] | None = None
    ) -> Path:
        """A copy of the waiting rows under the aggregate's columns."""
        path = self.folder / f"{file.name}.ordered"
        with open(path, "wb", opener=own) as target:
            rewrite(self.waiting(file), target, self._columns(file), columns, False, drop)
        return path

    def _columns(self, file: Staged) -> list[str]:
        with self.waiting(file).open(encoding="utf-8-sig", newline="") as lines:
            return next(csv.reader(lines))

    def expire(self, now: datetime) -> None:
        """Remove dated files older than DATA_KEEP_DAYS."""
        if not self.settings.keep_days:
            return
        oldest = (now - timedelta(days=self.settings.keep_days)).astimezone(self.settings.zone)
        for path in self.data.glob("*_pexHistory*.csv"):
            match = re.fullmatch(r"(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)_pexHistory(Conf|Part|Stream)\.csv", path.name)
            if match and match[1] < f"{oldest:%Y-%m-%d_%H-%M-%S}":
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    log.warning("%s cannot be removed (%s); DATA_KEEP_DAYS wants it gone", path.name, error.strerror)


def _is_prefix(target: IO[bytes], rows: IO[bytes]) -> bool:
    """Whether the rest of `target` begins `rows`; both are left where it ended."""
    while piece := target.read(1 << 20):
        if rows.read(len(piece)) != piece:
            return False
    return True


def _why_not_ours(path: Path) -> str:
    if not path.is_file():
        return "is no regular file"
    with path.open("rb") as file:
        first = file.readline(1 << 16)
    if first.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "is UTF-16, not UTF-8"
    if first.count(b";") > first.count(b","):
        return "was saved with semicolons"
    return "has no header with the columns of the history"


# --- The run --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """A span of end times, [start, end), in UTC; `by_hand` where the user named it."""

    start: datetime
    end: datetime
    by_hand: bool = False

    def __str__(self) -> str:
        return f"{format_time(self.start)} to {format_time(self.end)} UTC"


@dataclass
class Swept:
    """What sweeping a query came to.

    `waits_from` is the end time of the oldest record that the limit left, `waiting` how many it
    left; `still` is False where the query never held still.
    """

    waiting: int = 0
    waits_from: str | None = None
    still: bool = False


class Run:
    """One collection: from the node through the ledger into staged files."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        archive: Archive,
        number: int,
        started: datetime,
        progress: Progress,
    ) -> None:
        self.settings, self.ledger, self.archive, self.number = settings, ledger, archive, number
        self.started, self.progress = started, progress
        self.node = Node(settings)
        self.stages: dict[str, Stage] = {}
        self.taken = {CONFERENCE: 0, PARTICIPANT: 0}
        self.limit = {
            CONFERENCE: settings.conf_limit or sys.maxsize,
            PARTICIPANT: settings.part_limit or sys.maxsize,
        }
        self.trimmed = False

    def collect(self, window: Window) -> str:
        """Fetch, stage, commit; the summary for the log. Raises CollectorError, OSError, sqlite3.Error."""
        began = time.monotonic()
        self._open_stages()
        marks, waiting = {}, 0
        for resource in (CONFERENCE, PARTICIPANT):
            start = self._query_start(resource, window)
            times = {"end_time__gte": format_time(start), "end_time__lt": format_time(window.end)}
            swept = self.sweep(resource, times)
            waiting += self._warn_of_waiting(resource, swept.waiting, window)
            if not window.by_hand and swept.still:
                marks[resource] = swept.waits_from or format_time(window.end)
        late = self._collect_late()
        if not waiting and self.taken[PARTICIPANT] >= self.limit[PARTICIPANT]:
            waiting = self._warn_of_waiting(PARTICIPANT, self.ledger.still_missing(), window)
        self._compare_clocks()
        counts = {
            **{f"{name}s": count for name, count in self.taken.items()},
            "late": late,
            "waiting": waiting,
        }
        self.ledger.commit(self._finish_stages(), counts, marks)
        return (
            f"{counts['conferences']} conferences, {counts['participants']} participants"
            f"{f' ({late} late)' if late else ''}, {waiting} waiting, {time.monotonic() - began:.1f} s"
        )

    def _open_stages(self) -> None:
        for resource in self.settings.resources:
            columns = self.archive.header(resource) or (["participant_id"] if resource == STREAM else [])
            path = self.archive.folder / f"{self.number}-{resource}.csv"
            self.stages[resource] = Stage(path, columns, self.settings.csv_bom, self.settings.escape_formulas)

    def _query_start(self, resource: str, window: Window) -> datetime:
        """The window's start by hand or the first time; else an hour before the resource's own mark."""
        horizon = self.ledger.horizon(resource)
        if window.by_hand:
            if horizon is None or window.start < horizon:
                # The ledger has forgotten what was exported of that time; the aggregate has not.
                self.ledger.recall(resource, self.archive.rows(resource))
            return window.start
        start = horizon or self.ledger.first(resource, window.start)
        if start >= window.end:
            raise CollectorError(
                f"this machine's clock says {format_time(window.end)} UTC, but the last window ended at"
                f" {format_time(start + OVERLAP)} UTC; set the clock, or where that time is wrong move"
                f" {self.archive.folder} away: the ledger is then rebuilt from the aggregates"
            )
        return start

    def sweep(self, resource: str, filters: Mapping[str, str], wanted: set[str] | None = None) -> Swept:
        """Take what is new in a query, again until it holds still, as far as the limit allows.

        `wanted` are the only ids to take, where there are such.
        """
        for _ in range(SWEEPS):
            swept = self._sweep_once(resource, filters, wanted)
            if swept.still:
                break
            log.info("the %s records moved while they were read; reading them again", resource)
        else:
            log.warning(
                "the %s records did not hold still in %d readings; what came is kept, and the next run reads"
                " this window again",
                resource,
                SWEEPS,
            )
        if self.taken[resource] > self.limit[resource]:  # unordered: only now are the oldest known
            swept.waiting, swept.waits_from = self.ledger.untake_newest(resource, self.limit[resource])
            self.taken[resource] = self.limit[resource]
            self.trimmed = True
        return swept

    def _sweep_once(self, resource: str, filters: Mapping[str, str], wanted: set[str] | None) -> Swept:
        ledger, node = self.ledger, self.node
        ledger.sweep += 1
        swept, received, total, first, last, number = Swept(still=True), 0, 0, [""], "", 0
        for number, page in enumerate(node.pages(resource, filters), 1):
            if number == 1:
                total, first = page.total, page.ids[:1]
            if not all(map(le, [last, *page.ends], page.ends)):
                node.distrust_order(resource)
            last = page.ends[-1] if page.ends else last
            swept.still = swept.still and page.total == total
            fresh = ledger.fresh(resource, page)
            if wanted is not None:
                ledger.pass_over(resource, page, [i for i in fresh if page.ids[i] not in wanted])
                fresh = [i for i in fresh if page.ids[i] in wanted]
            room = self.limit[resource] - self.taken[resource]
            if len(fresh) > room and node.orders(resource):
                ledger.untake(resource, page, fresh[room:])
                self._take(resource, page.only(fresh[:room]))
                swept.waits_from = page.ends[fresh[room]]
                swept.waiting = total - received - fresh[room]
                swept.still = swept.still and self._begins_so(resource, filters, number, total, first)
                return swept
            self._take(resource, page.only(fresh))
            received += len(page.ids)
            self.progress.advance(resource, received, total)
            if received > total:
                break
        if swept.still and received != total:
            raise NodeError(
                f"{node.settings.address} ({resource}/) counts {total} records and sent {received};"
                " the next run tries again, and if it stays so ask Pexip's support"
            )
        swept.still = swept.still and ledger.swept(resource) == received == total
        swept.still = swept.still and self._begins_so(resource, filters, number, total, first)
        return swept

    def _begins_so(self, resource: str, filters: Mapping[str, str], pages: int, total: int, first: list[str]) -> bool:
        """Whether the query, read in more than one page, still begins with the same record.

        One forgotten and one come late leave the count as it was, but not the first record.
        """
        if pages == 1:
            return True
        again = self.node.first(resource, filters)
        return again.total == total and again.ids == first

    def _take(self, resource: str, page: Page) -> None:
        """Write records to the run's files and note what they call for."""
        if not page.ids:
            return
        self.taken[resource] += len(page.ids)
        self.stages[resource].write(page.columns)
        if resource == CONFERENCE:
            self.ledger.list_participants(page)
        elif STREAM in self.stages:
            self.stages[STREAM].write(_streams(page))

    def _collect_late(self) -> int:
        """Ask by conference for the participants that no window brought; how many came."""
        before = self.taken[PARTICIPANT]
        for conference in self.ledger.find_missing():
            if self.taken[PARTICIPANT] >= self.limit[PARTICIPANT]:
                break
            # Those alone: the ledger may have forgotten that it exported the others.
            self.sweep(PARTICIPANT, {"conference": conference}, self.ledger.missing(conference))
            missing = self.ledger.still_missing(conference)
            if missing and not self.node.has(CONFERENCE, conference):
                self.ledger.give_up(conference)
                log.warning(
                    "%d participants of conference %s are gone: the node forgot the conference before it"
                    " showed them; a more frequent DATA_CRON_TIME leaves it less time to",
                    missing,
                    conference,
                )
        return self.taken[PARTICIPANT] - before

    def _warn_of_waiting(self, resource: str, waiting: int, window: Window) -> int:
        if waiting:
            name = {CONFERENCE: "DEFAULT_CONF_LIMIT", PARTICIPANT: "DEFAULT_PART_LIMIT"}[resource]
            log.warning(
                "%s=%d reached: %d %s records wait for the next run%s",
                name,
                self.limit[resource],
                waiting,
                resource,
                " of this same command" if window.by_hand else "; raise it, or schedule runs more often",
            )
        return waiting

    def _compare_clocks(self) -> None:
        skew = self.node.clock_skew
        if skew and abs(skew) > OVERLAP / 4:
            log.warning(
                "the node's clock is %.0f minutes %s this machine's; set them alike, from an hour on records are lost",
                abs(skew.total_seconds()) / 60,
                "ahead of" if skew > timedelta(0) else "behind",
            )

    def _finish_stages(self) -> list[Staged]:
        """Every file of the run complete and synced, ready for the commit point."""
        stem = self.archive.free_stem(self.started, self.ledger.staged())
        files = []
        for resource, stage in self.stages.items():
            known = [] if stage.columns else self.node.fields(resource) or ["id", "end_time"]
            drop = None
            if self.trimmed:
                owner, key = (PARTICIPANT, "participant_id") if resource == STREAM else (resource, "id")
                drop = lambda row, owner=owner, key=key: not self.ledger.is_taken(owner, row[key])  # noqa: E731
            head = stage.finish(known, drop)
            files.append(Staged(self.number, resource, stem, head, stage.rows, None))
        sync_folder(self.archive.folder)
        return files


def _streams(participants: Page) -> Columns:
    """The media streams of participants, each keyed by its participant's id."""
    streams = [
        {"participant_id": participant, **stream}
        for participant, listed in zip(participants.ids, participants.columns.get("media_streams", ()), strict=False)
        for stream in nested(listed)
        if isinstance(stream, dict)
    ]
    names = dict.fromkeys(itertools.chain.from_iterable(streams))
    return {name: [stream.get(name) for stream in streams] for name in names}


class Progress:
    """A bar for a person who watches; in a log, a line a minute."""

    def __init__(self) -> None:
        self._said = time.monotonic()
        self._bar: tqdm[NoReturn] | None = None

    def advance(self, resource: str, received: int, total: int) -> None:
        if sys.stderr.isatty():
            from tqdm import tqdm

            if self._bar is None or self._bar.desc != f"{resource}s: ":
                self.close()
                self._bar = tqdm(desc=f"{resource}s", unit=" records", leave=False)
            self._bar.total, self._bar.n = total, received
            self._bar.refresh()
        elif time.monotonic() - self._said >= 60:
            self._said = time.monotonic()
            log.info("%d of %d %s records read", received, total, resource)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """One run at a time for a data folder, by a lock on `.collector/lock`. Raises Busy."""
    with open(folder / "lock", "a+", opener=own) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Busy(f"another run is under way (process {file.read().strip() or 'unknown'}); let it end") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def open_or_rebuild(archive: Archive) -> Ledger:
    """The folder's ledger; one that is lost or damaged is made anew from the aggregates."""
    path = archive.folder / "ledger.sqlite"
    lost = not path.exists()
    ledger = open_ledger(archive.folder)
    if ledger is None:
        journal = path.with_name(f"{path.name}-journal")
        if journal.exists():
            archive.set_aside(journal, "belongs to a damaged ledger")
        archive.set_aside(path, "is damaged or no ledger")
        lost, ledger = True, open_ledger(archive.folder)
        if ledger is None:
            raise CollectorError(f"{path} cannot be made anew; move {archive.folder} away and run again")
    ledger.db.executescript(SCRATCH)
    if lost or ledger.is_blank():
        for resource in (CONFERENCE, PARTICIPANT):
            ledger.recall(resource, archive.rows(resource))
        rows = archive.rows(CONFERENCE)
        ledger.rebuild(x for row in rows for x in _listings([row["id"]], [row.get("participants")]))
        if ledger.mark(CONFERENCE) or ledger.mark(PARTICIPANT):
            log.warning("the ledger was rebuilt from the aggregates; collection goes on where their newest rows end")
    return ledger


def collect(settings: Settings, start: datetime | None, end: datetime | None, if_due: bool = False) -> int:
    """One run, whole: the lock, the ledger, the rows, the commit, the publishing. The exit code."""
    archive, now = Archive(settings), datetime.now(UTC).replace(microsecond=0)
    os.umask(settings.umask)
    open_log(settings, to_file=False)
    if start and start >= (end or this_minute(now)):
        log.error(
            "--from %s UTC is not before the end, %s UTC; give an earlier one",
            format_time(start),
            format_time(end or this_minute(now)),
        )
        return MISUSED
    try:
        own_folder(archive.folder)
        with run_lock(archive.folder):
            open_log(settings, to_file=True)
            return _collect_locked(settings, archive, start, end, if_due, now)
    except Stopped:
        log.warning("stopped on request before anything was collected; the next run covers this window")
        return FAILED
    except Busy as error:
        log.warning("%s", error)
        return BUSY
    except (CollectorError, OSError, sqlite3.Error) as error:
        log.error("%s", explain(error, settings))
        return FAILED


def _collect_locked(
    settings: Settings, archive: Archive, start: datetime | None, end: datetime | None, if_due: bool, now: datetime
) -> int:
    ledger = open_or_rebuild(archive)
    with closing(ledger.db):
        if if_due and settings.schedule and _served(ledger, last_scheduled(settings, now)):
            log.info("the last scheduled time was served; nothing to collect at the start")
            return DONE
        number, progress = ledger.begin_run(now), Progress()
        outcome, message = "failed", "stopped on request; no data file was changed, the next run covers this window"
        try:
            archive.discard(ledger)
            with suppress(OSError):
                archive.publish(ledger)  # what an earlier run left; where it still cannot be, that is said below
            window = _window(ledger, now, start, end)
            ledger.note_run(number, window_start=format_time(window.start), window_end=format_time(window.end))
            log.info("collecting %s from %s", window, settings.address)
            if not settings.tls_verify:
                log.warning("DEFAULT_MGR_TLS_VERIFY=false: whoever is on the way can read the password")
            summary = Run(settings, ledger, archive, number, now, progress).collect(window)
            archive.publish(ledger)
            archive.expire(now)
            outcome, message = "done", summary
            log.info("%s", summary)
        except Exception as error:
            message = explain(error, settings).encode(errors="backslashreplace").decode()
            if message.startswith("unexpected"):
                log.debug("the unexpected error:", exc_info=True)
            message += "; the next run covers this window" if isinstance(error, Passing) else ""
            if waiting := sum(file.rows for files in ledger.staged() for file in files):
                message += f"; {waiting} rows wait in {archive.folder} for the next run"
            log.error("%s", message)
        except Stopped:
            if ledger.staged():
                message = "stopped on request while publishing; the next run finishes it"
            log.warning("%s", message)
        finally:
            progress.close()
            with suppress(sqlite3.Error, OSError):
                archive.discard(ledger)
                ledger.note_run(number, finished=format_time(datetime.now(UTC)), outcome=outcome, message=message)
        return DONE if outcome == "done" else FAILED


def this_minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _window(ledger: Ledger, now: datetime, start: datetime | None, end: datetime | None) -> Window:
    """The run's window: what the user named, or from where the last one ended to this minute."""
    by_hand = start is not None or end is not None
    end = end or this_minute(now)
    if by_hand:
        start = start or end - FIRST_WINDOW
        return Window(start, end, by_hand=True)
    first = end - FIRST_WINDOW
    return Window(min(ledger.mark(name) or ledger.first(name, first) for name in (CONFERENCE, PARTICIPANT)), end)


def _served(ledger: Ledger, moment: datetime) -> bool:
    """Whether a run that ended well started at or after the moment, or is under way."""
    return any(
        parse_time(str(run["started"])) >= moment and run["outcome"] in ("done", "running")  # type: ignore[operator]
        for run in ledger.runs(20)
    )


def explain(error: Exception, settings: Settings) -> str:
    """One line for the user, with the mend in it."""
    folder = settings.data_dir
    if isinstance(error, CollectorError):
        return str(error)
    if isinstance(error, sqlite3.Error):
        if "disk is full" in str(error):
            return f"{folder}: the disk is full; make room"
        return f"the ledger in {folder}/.collector cannot be used ({error}); check the folder's disk and permissions"
    if isinstance(error, OSError):
        where = error.filename or folder
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"{where}: the disk is full; make room"
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return (
                f"{where}: {error.strerror}; close the program that holds it, and let user"
                f" {os.geteuid()} (PUID) write the data folder"
            )
        return f"{where}: {error.strerror or error}; is DATA_DIR ({folder}) a folder on a sound disk?"
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    line = trace.tb_lineno if trace else 0
    return f"unexpected {type(error).__name__} at line {line} of this version ({__version__}); please report it"


CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127)}


def open_log(settings: Settings, to_file: bool) -> None:
    """Lines on standard error, and in the data folder's log where this process holds the lock."""

    class Formatter(logging.Formatter):
        def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
            return f"{datetime.fromtimestamp(record.created, settings.zone):%Y-%m-%d %H:%M:%S}"

        def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
            record.message = record.message.translate(CONTROLS)  # what a node says forges no line
            return super().formatMessage(record)

    class Screen(logging.StreamHandler):  # type: ignore[type-arg]
        def emit(self, record: logging.LogRecord) -> None:
            if "tqdm" not in sys.modules:
                return super().emit(record)
            from tqdm import tqdm

            return tqdm.write(self.format(record), file=sys.stderr)

    class LogFile(logging.handlers.RotatingFileHandler):
        def _open(self) -> Any:
            return open(self.baseFilename, self.mode, encoding=self.encoding, errors=self.errors, opener=own)

    handlers: list[logging.Handler] = [Screen()]
    if to_file:
        path = settings.data_dir / "data_collector.log"
        handlers.append(
            LogFile(path, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8", errors="backslashreplace")
        )
    for handler in handlers:
        handler.setFormatter(Formatter("%(asctime)s %(levelname)s %(message)s"))
    for handler in log.handlers:
        handler.close()
    log.handlers, log.propagate = handlers, False
    log.setLevel(settings.log_level)


# --- The commands ---------------------------------------------------------------------------------


def check(settings: Settings) -> int:
    """One line for each thing that must hold: ok, or how to mend it."""
    node = Node(settings)
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("settings", lambda: "all valid"),
        ("name", lambda: _check_name(settings)),
        ("TLS", lambda: describe(peer_certificate(settings, verify=True))),
        ("credentials", lambda: _check_credentials(settings, node)),
        ("history", lambda: _check_history(node)),
        ("clock", lambda: _check_clock(node)),
        ("data folder", lambda: _check_folder(settings)),
        ("schedule", lambda: _check_schedule(settings)),
    )
    failed, node_fails = False, False
    for label, look in checks:
        if node_fails and label in ("TLS", "credentials", "history", "clock"):
            continue
        try:
            _say(label, True, look())
        except (CollectorError, OSError) as error:
            failed = True
            node_fails = node_fails or label in ("name", "TLS", "credentials")
            _say(label, False, explain(error, settings))
    return FAILED if failed else DONE


def _say(label: str, good: bool, text: str) -> None:
    mark = "ok  " if good else "FAIL"
    if sys.stdout.isatty():
        mark = f"\033[{32 if good else 31}m{mark}\033[0m"
    print(f"{mark} {label}: {text}")


def _check_name(settings: Settings) -> str:
    import socket

    host = urlsplit(f"https://{settings.address}").hostname or ""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        raise CollectorError("the name is not known; check DEFAULT_MGR_ADDRESS and the container's DNS") from None
    return f"{host} is {', '.join(sorted(found))}"


def _check_credentials(settings: Settings, node: Node) -> str:
    for resource in (CONFERENCE, PARTICIPANT):
        node.ask(f"{node.root}{resource}/?limit=1", decode)
    return f"{settings.username} may read the history"


def _check_history(node: Node) -> str:
    meta, columns = node.ask(f"{node.root}conference/?limit=0", PageReader())
    ends = sorted(map(str, columns.get("end_time", ())))
    if not ends:
        return "the node has no conference yet"
    with suppress(Refused):
        ends = [node.page(CONFERENCE, {"limit": "1", "order_by": f"{sign}end_time"}).ends[0] for sign in ("", "-")]
    return (
        f"{meta.get('total_count')} conferences, ended {ends[0]} to {ends[-1]} UTC; at most {meta.get('limit')} a page"
    )


def _check_clock(node: Node) -> str:
    skew = node.clock_skew
    if skew is None:
        return "the node does not tell its time"
    seconds = round(skew.total_seconds())
    if abs(skew) > OVERLAP / 4:
        raise CollectorError(f"the node's clock is {seconds} s off this machine's; set them alike (NTP)")
    return f"{abs(seconds)} s apart from the node's"


def _check_folder(settings: Settings) -> str:
    folder = settings.data_dir
    probe = folder / ".collector" / "probe"
    own_folder(probe.parent)
    open(probe, "wb", opener=own).close()
    probe.unlink()
    stat, usage = folder.stat(), shutil.disk_usage(folder)
    mount = "" if is_mount(folder) else "; NOT a mount, the files go with the container"
    return f"{folder}, owner {stat.st_uid}:{stat.st_gid}, {usage.free / 1e9:.1f} GB free{mount}"


def is_mount(folder: Path) -> bool:
    """False where it is the image's folder and nothing is mounted there."""
    folder = Path(os.path.realpath(folder))
    if folder != IMAGE_DATA:
        return True
    with suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        points = {line.split()[4] for line in mounts}
        return any(str(parent) in points for parent in (folder, *folder.parents) if str(parent) != "/")
    return True


def _check_schedule(settings: Settings) -> str:
    if settings.schedule is None:
        return "none (DATA_CRON_TIME is not set); fine where something else starts the runs"
    times, moment = [], datetime.now(UTC)
    for _ in range(3):
        moment = scheduled(settings, moment)
        times.append(f"{moment.astimezone(settings.zone):%Y-%m-%d %H:%M}")
    return f"{in_words(settings)}; next {', '.join(times)} ({settings.zone})"


def in_words(settings: Settings) -> str:
    from cronsim.explain import explain as explained

    return str(explained(settings.schedule or ""))


def status(settings: Settings, as_json: bool) -> int:
    """Last runs, next run, the files, and what waits."""
    archive, found = Archive(settings), _peek(settings)
    if found is None:
        found = {"runs": [], "resources": [], "staged": 0, "expected": 0}
    files = []
    for resource, rows, mark in found.pop("resources"):  # type: ignore[attr-defined]
        path = archive.aggregate(resource)
        size = path.stat().st_size if path.exists() else None
        if size is not None or rows:
            files.append({"file": path.name, "rows": rows, "bytes": size, "collected_to": mark})
    due = format_time(scheduled(settings, datetime.now(UTC))) if settings.schedule else None
    report = {"version": __version__, "next_run": due, "files": files, **found}
    if as_json:
        print(json.dumps(report, indent=2))
        return DONE
    print("Last runs, newest first (UTC):")
    for run in report["runs"][:10]:  # type: ignore[index]
        print(f"  {run['started'][:19]}  {run['outcome']:<8} {run['message'] or ''}")
        if run["window_start"]:
            print(f"  {'':19}  window   {run['window_start']} to {run['window_end']}")
    if not report["runs"]:
        print("  none yet")
    print(f"Next run: {due or 'none scheduled, DATA_CRON_TIME is not set'}{' UTC' if due else ''}")
    print("Files:")
    for file in files:
        held = "missing" if file["bytes"] is None else f"{file['bytes'] / 1e6:.1f} MB"
        until = f", complete up to {file['collected_to']}" if file["collected_to"] else ""
        print(f"  {file['file']:<22} {file['rows']:>10} rows collected, {held}{until}")
    print(f"Waiting to be written: {report['staged']} rows")
    print(f"Participants expected of collected conferences: {report['expected']}")
    return DONE


def _peek(settings: Settings) -> dict[str, object] | None:
    """What the ledger says, read without changing it; None where there is none. Raises sqlite3.Error."""
    path = Archive(settings).folder / "ledger.sqlite"
    if not path.exists():
        return None
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as db:
        return {
            "runs": Ledger(db).runs(30),
            "resources": db.execute("SELECT name, rows, mark FROM resource ORDER BY name").fetchall(),
            "staged": db.execute("SELECT coalesce(sum(rows), 0) FROM staged").fetchone()[0],
            "expected": db.execute("SELECT count(*) FROM expected").fetchone()[0],
        }


GRACE, LONGEST_RUN = timedelta(minutes=2), timedelta(hours=6)


def health(settings: Settings) -> int:
    """For HEALTHCHECK: one line that says why, 0 healthy or 1."""
    now = datetime.now(UTC)
    found = _peek(settings)
    runs: list[dict[str, object]] = found["runs"] if found else []  # type: ignore[assignment]
    running = bool(runs) and runs[0]["outcome"] == "running"
    if running and not _locked(settings):
        print(f"unhealthy: the run of {runs[0]['started']} UTC was killed before its end; the next one makes up for it")
        return FAILED
    if running and now - (parse_time(str(runs[0]["started"])) or now) > LONGEST_RUN:
        print(f"unhealthy: the run of {runs[0]['started']} UTC has not ended; restart the container, nothing is lost")
        return FAILED
    if running:
        print(f"healthy: a run is under way since {runs[0]['started']} UTC")
        return DONE
    if runs and runs[0]["outcome"] != "done":
        print(f"unhealthy: the run of {runs[0]['started']} UTC failed: {runs[0]['message']}")
        return FAILED
    if settings.schedule and CRON_PID.exists():
        since = datetime.fromtimestamp(CRON_PID.stat().st_mtime, UTC)
        due = last_scheduled(settings, now - GRACE)
        ended = parse_time(str(runs[0]["finished"])) if runs else None
        if due > since and (ended is None or ended < due):
            print(f"unhealthy: the run of {due:%Y-%m-%d %H:%M} UTC did not happen; look at the container's log")
            return FAILED
    print(f"healthy: {runs[0]['message']} at {runs[0]['started']} UTC" if runs else "healthy: no run was due yet")
    return DONE


def _locked(settings: Settings) -> bool:
    """Whether a run holds the lock."""
    try:
        with open(Archive(settings).folder / "lock", "a", opener=own) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def crontab(settings: Settings) -> int:
    """The crontab on standard output; what it means, for the container's log, on standard error."""
    from crontab import CronTab

    # Read back by python-crontab, but printed as it was given: its own rendering makes `*` of 1-31,
    # and whether a field is a star decides how Debian's cron joins the two fields for days.
    line = f"{settings.schedule} {CRON_COMMAND}"
    jobs = list(CronTab(tab=f"{line}\n"))
    if [job.command for job in jobs if job.is_valid()] != [CRON_COMMAND]:
        raise CollectorError(f"DATA_CRON_TIME: {settings.schedule!r} does not make one line of a crontab")
    print(line)
    due = scheduled(settings, datetime.now(UTC)).astimezone(settings.zone)
    who = f"as {os.geteuid()}:{os.getegid()}"
    print(f"{in_words(settings)} ({settings.zone}), next {due:%Y-%m-%d %H:%M}, {who}", file=sys.stderr)
    if not is_mount(settings.data_dir):
        print(
            f"WARNING {settings.data_dir} is not a mount: the files go when the container goes;"
            f" start it with -v ./data:{settings.data_dir}",
            file=sys.stderr,
        )
    return DONE


def _moment(zone: ZoneInfo) -> Callable[[str], datetime]:
    def parse(text: str) -> datetime:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is neither a date (2026-11-23) nor a time (2026-11-23T18:00)"
            ) from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)

    return parse


def main(arguments: Sequence[str], environ: dict[str, str]) -> int:
    """Carry out one command and tell the exit code."""
    protect_memory()
    zone = _read_zone(_Reader(environ))  # what is wrong with it read_settings says
    parser = argparse.ArgumentParser(prog="collector.py", description=(__doc__ or "").partition("\n")[0])
    commands = ("collect", "check", "status", "health", "crontab")
    parser.add_argument("command", nargs="?", choices=commands, default="collect")
    parser.add_argument("--from", dest="start", type=_moment(zone), metavar="T", help="collect from this date or time")
    parser.add_argument("--to", dest="end", type=_moment(zone), metavar="T", help="collect to before this one")
    parser.add_argument("--if-due", action="store_true", help="collect only if the last scheduled time was missed")
    parser.add_argument("--json", action="store_true", help="status for machines")
    parser.add_argument("--version", action="version", version=__version__)
    asked = parser.parse_args(arguments)
    if asked.command != "collect" and (asked.start or asked.end or asked.if_due):
        parser.error("--from, --to and --if-due go with collect")
    if asked.command != "status" and asked.json:
        parser.error("--json goes with status")
    logging.raiseExceptions = False
    try:
        files = become_owner(environ)
    except (CollectorError, OSError) as error:
        print(error, file=sys.stderr)
        return FAILED
    try:
        needs_node = asked.command in ("collect", "check", "crontab")
        settings = read_settings(environ, files, node=needs_node, schedule=asked.command == "crontab")
    except SettingsError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return MISUSED
    try:
        if asked.command == "collect":
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, _stop)
            return collect(settings, asked.start, asked.end, asked.if_due)
        if asked.command == "check":
            return check(settings)
        if asked.command == "status":
            return status(settings, asked.json)
        if asked.command == "health":
            return health(settings)
        return crontab(settings)
    except (CollectorError, OSError, sqlite3.Error) as error:
        print(explain(error, settings), file=sys.stderr)
        return FAILED


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    for again in (signal.SIGTERM, signal.SIGINT):
        signal.signal(again, signal.SIG_IGN)
    raise Stopped


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], dict(os.environ)))
