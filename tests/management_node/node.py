"""A management node: its records, its behaviour, its address."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from io import BytesIO
from itertools import count, islice
from pathlib import Path
from typing import Any, Self

from django.core.handlers.wsgi import WSGIHandler, WSGIRequest

from . import certificates, framework
from .calls import Call, Record
from .faults import Faults
from .models import Conference, Participant
from .oauth import OAuth2
from .server import Reply, Request, Served

_aliases = (f"node{number}" for number in count(1))
_handler = WSGIHandler()


@dataclass
class Behaviour:
    """What a test may change about a node while it runs. Times are UTC, spans are seconds."""

    username: str = "admin"
    secret: str = "sesame, open"
    basic: bool = True
    """Whether a name and password are taken at all (the product: api_oauth2_disable_basic)."""
    oauth2: OAuth2 | None = None
    """Its OAuth2 clients; None: a node without."""

    max_limit: int = 1000
    """Larger pages are clamped to this without a word, as Tastypie does."""

    now: datetime | None = None
    """The node's clock; None: the real one. What ends later is not shown."""
    tells_time: bool = False
    """Whether answers carry its clock as their Date, as a real node's do; a test with a clock of its own need not."""

    extra_fields: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Fields of a newer release: {"participant": {"bandwidth_class": "HD"}}."""
    dropped_fields: dict[str, list[str]] = field(default_factory=dict)
    """Fields that an older release lacks: {"conference": ["tag"]}."""

    database: str = field(default="", repr=False)

    def clock(self) -> datetime:
        """In UTC."""
        now = self.now or datetime.now(UTC)
        return now.astimezone(UTC) if now.tzinfo else now.replace(tzinfo=UTC)


class ManagementNode(Behaviour, Served):
    """`behaviour` is what clear() returns to. `tls` alone is for a port that speaks plain HTTP."""

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
        self.database = next(_aliases)
        self.faults = Faults()
        shown = certificate or certificates.issued()
        self.serve(shown, self._answer, (host, port), tls=tls, released=framework.close_connections)

    def __enter__(self) -> Self:
        framework.create_database(self.database, Path(self._folder.name) / "history.sqlite")
        return super().__enter__()

    def __exit__(self, *exception: object) -> None:
        super().__exit__()
        framework.drop_database(self.database)

    def _answer(self, request: Request) -> Reply:
        with framework.using(self):
            return self.faults.apply(request, lambda: self._dated(_ask_framework(request)))

    def _dated(self, reply: Reply) -> Reply:
        if self.tells_time:
            reply.headers["Date"] = format_datetime(self.clock(), usegmt=True)
        return reply

    # What it knows

    def add(self, conferences: Iterable[Record] = (), participants: Iterable[Record] = ()) -> None:
        """Takes records in the API's own form."""
        with framework.using(self):
            for model, records in ((Conference, conferences), (Participant, participants)):
                model.objects.bulk_create([_stored(model, record) for record in records])

    def load(self, calls: Iterable[Call]) -> None:
        """Adds calls, a few hundred at a time."""
        each = iter(calls)
        while batch := list(islice(each, 500)):
            self.add((held for held, _ in batch), (one for _, present in batch for one in present))

    def clear(self) -> None:
        """As new: no records, requests or faults, and the behaviour that it was made with."""
        with framework.using(self):
            for model in (Conference, Participant):
                model.objects.all().delete()
        vars(self).update(vars(Behaviour(**copy.deepcopy(self._made), database=self.database)))
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
    columns = {name: value for name, value in record.items() if name != "resource_uri"}
    columns |= {name: datetime.fromisoformat(columns[name]) for name in ("end_time", "start_time")}
    if uri := columns.pop("conference", None):
        columns["conference_id"] = uri.split("/")[-2]
    return model(**columns)
