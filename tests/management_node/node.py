"""A management node: its records, its behaviour, its address."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from io import BytesIO
from itertools import count, islice
from pathlib import Path
from typing import Any, Self

from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.db.models import OuterRef, Subquery

from . import certificates, framework
from .behaviour import Behaviour
from .calls import Call, Record
from .faults import Faults
from .models import Conference, Participant
from .resources import INTERNAL, ConferenceResource, ParticipantResource
from .server import Reply, Request, Server

BATCH = 900  # SQLite's older limit of variables in one statement is 999

_aliases = (f"node{number}" for number in count(1))
_handler = WSGIHandler()

TIMES = ("end_time", "start_time")
RESOURCES = {Conference: ConferenceResource, Participant: ParticipantResource}
LISTED = {
    model: {name for name, field in resource.base_fields.items() if field.use_in == "all"}
    for model, resource in RESOURCES.items()
}
COLUMNS = {model: {field.name for field in model._meta.fields} - INTERNAL for model in LISTED}


class ManagementNode(Behaviour):
    """Runs in threads of this process between start() and stop(), or in a `with`.

    `behaviour` is what clear() returns to. With `certificate`, or `tls` alone, HTTPS is spoken.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: bool = True,
        certificate: certificates.Certificate | None = None,
        **behaviour: Any,
    ) -> None:
        super().__init__(**behaviour)
        self._made = copy.deepcopy(behaviour)
        self._where = (host, port)
        self._certificate = (certificate or certificates.issued()) if tls else None
        self._folder = Path(tempfile.mkdtemp(prefix="management-node-"))
        self.database = next(_aliases)
        self.ca_file = self._folder / "ca.pem"
        self.faults = Faults()

    def start(self) -> Self:
        framework.create_database(self.database, self._folder / "history.sqlite")
        context = None
        if self._certificate:
            self.ca_file.write_bytes(self._certificate.ca)
            context = self._certificate.context()
        self.server = Server(self._where, context, self._answer, framework.close_connections)
        self.server.start()
        return self

    def stop(self) -> None:
        self.server.stop()
        framework.drop_database(self.database)
        shutil.rmtree(self._folder)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    # Where it is, and what it was asked

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def address(self) -> str:
        """As in DEFAULT_MGR_ADDRESS: 127.0.0.1:PORT."""
        return f"{self._where[0]}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.server.context else 'http'}://{self.address}"

    @property
    def certificate(self) -> certificates.Certificate | None:
        """Set it to show another one from the next handshake on; ca_file stays as it is."""
        return self._certificate

    @certificate.setter
    def certificate(self, certificate: certificates.Certificate) -> None:
        self._certificate = certificate
        self.server.context = certificate.context()

    @property
    def requests(self) -> list[Request]:
        return self.server.requests

    @property
    def peak(self) -> int:
        """The most requests that were under way at the same time."""
        return self.server.peak

    @property
    def connections(self) -> int:
        """How many connections were opened."""
        return self.server.connections

    def _answer(self, request: Request) -> Reply:
        with framework.using(self):
            return self.faults.apply(request, lambda: self._dated(_ask_framework(request)))

    def _dated(self, reply: Reply) -> Reply:
        if self.tells_time:
            now = self.now or datetime.now(UTC)
            now = now if now.tzinfo else now.replace(tzinfo=UTC)
            reply.headers.setdefault("Date", format_datetime(now.astimezone(UTC), usegmt=True))
        return reply

    # What it knows

    def add(self, conferences: Iterable[Record] = (), participants: Iterable[Record] = ()) -> None:
        """Takes records in the API's own form; one with a known id replaces it.

        A field that a record lacks is missing in its answer, one that the API has not is added.
        """
        with framework.using(self):
            ended = [_stored(Conference, record) for record in conferences]
            left = [_stored(Participant, record) for record in participants]
            for one in left:
                one.conference_end = one.end_time
            _replace(Conference, ended)
            _replace(Participant, left)
            _tell_ends({one.id for one in ended} | {one.conference_id for one in left})

    def load(self, calls: Iterable[Call]) -> None:
        """Adds calls, a few hundred at a time."""
        each = iter(calls)
        while batch := list(islice(each, 500)):
            self.add(
                (conference for conference, _ in batch),
                (one for _, participants in batch for one in participants),
            )

    def clear(self) -> None:
        """As new: no records, requests or faults, and the behaviour that it was made with."""
        with framework.using(self):
            for model in RESOURCES:
                model.objects.all().delete()
        fresh = Behaviour(**copy.deepcopy(self._made), database=self.database)
        vars(self).update(vars(fresh))
        self.faults.clear()
        self.server.forget_requests()


def _ask_framework(request: Request) -> Reply:
    environ: dict[str, Any] = {
        "CONTENT_LENGTH": str(len(request.body)),
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "REQUEST_METHOD": request.method,
        "PATH_INFO": request.path.encode().decode("latin-1"),
        "QUERY_STRING": request.target.partition("?")[2],
        "SERVER_NAME": "management-node",
        "SERVER_PORT": "443",
        "wsgi.input": BytesIO(request.body),
        "wsgi.url_scheme": "https",
    }
    for name, value in request.headers.items():
        environ["HTTP_" + name.upper().replace("-", "_")] = value
    response = _handler.get_response(WSGIRequest(environ))
    return Reply(response.status_code, dict(response.items()), response.content)


def _stored(model: type[Any], record: Record) -> Any:
    columns = {name: value for name, value in record.items() if name in COLUMNS[model]}
    for name in COLUMNS[model].intersection(TIMES):
        columns[name] = _utc(columns.get(name))
    if "conference" in columns:
        uri = columns.pop("conference")
        columns["conference_id"] = uri and uri.rstrip("/").rsplit("/", 1)[-1]
    known = COLUMNS[model] | {"resource_uri"}
    return model(
        **columns,
        absent_fields=sorted(LISTED[model] - record.keys()) or None,
        further_fields={name: record[name] for name in record.keys() - known} or None,
    )


def _utc(value: str | datetime | None) -> datetime | None:
    time = datetime.fromisoformat(value) if isinstance(value, str) else value
    return time.astimezone(UTC).replace(tzinfo=None) if time and time.tzinfo else time


def _replace(model: type[Any], records: list[Any]) -> None:
    for batch in _batches([one.pk for one in records]):
        model.objects.filter(pk__in=batch).delete()
    model.objects.bulk_create(records)


def _tell_ends(conferences: set[str]) -> None:
    """Copies the ends of these conferences to their participants."""
    end = Conference.objects.filter(pk=OuterRef("conference_id")).values("end_time")
    for batch in _batches(list(conferences)):
        Participant.objects.filter(
            conference_id__in=Subquery(Conference.objects.filter(pk__in=batch).values("pk"))
        ).update(conference_end=Subquery(end))


def _batches(ids: list[str]) -> Iterator[list[str]]:
    return (ids[start : start + BATCH] for start in range(0, len(ids), BATCH))
