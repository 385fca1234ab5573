"""A Management Node that does what a test wants: its records are a dictionary, each shown and forgotten at a time.

What the real node does is tested against tests/management_node (the real framework); what it might do, against this
one: `conference=` taken otherwise, rows that are listed twice or shift, another order, no clock or a wrong one, records
without an end, a memory by count or by age. Times are naive and UTC.

    with ScriptedNode() as node:
        held = node.conference("c1", end=node.now - HOUR)
        node.participant(held, "p1", end=node.now - 2 * HOUR, shown=node.now + HOUR)
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Literal, Self
from urllib.parse import urlencode

from .management_node import certificates
from .management_node import conference as conference_record
from .management_node import participant as participant_record
from .management_node.calls import ROOT, Record, stamp
from .management_node.faults import Faults
from .management_node.server import Reply, Request, Served

MIDNIGHT = datetime(2026, 11, 24)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
NEVER = datetime.max
TIMES = {
    "conference": "end_time",
    "participant": "end_time",
    "alarm": "time_lowered",
    "workervm_status_event": "time_changed",
}
"""The resources, and the field that a span of time is compared with."""
LISTED = {
    "conference": ("end_time", "id", "name", "participants", "start_time"),
    "participant": ("call_quality", "conference", "display_name", "end_time", "id", "media_streams", "start_time"),
    "alarm": ("details", "id", "level", "name", "node", "time_lowered", "time_raised"),
    "workervm_status_event": ("details", "event_type", "id", "state", "time_changed"),
}
"""The fields that lists have: few, for the sake of speed."""
QUALITY = {"bucketed_call_quality": [0, 57, 1, 0, 0], "historic_call_quality": [1, 1, 4]}
"""What only a participant's own address shows."""


@dataclass(eq=False)
class Known:
    """A record with its history: shown from then on, until the node forgot it."""

    resource: str
    record: Record
    shown: datetime
    forgotten: datetime | None = None
    listed_by: list[str] = field(default_factory=list)
    """Of a participant: the ids of the conferences that list it."""

    @property
    def id(self) -> str:
        return str(self.record["id"])

    @property
    def people(self) -> set[str]:
        """Of a conference: the ids that it lists."""
        return {uri.split("/")[-2] for uri in self.record["participants"]}

    @property
    def stands(self) -> bool:
        """Of an alarm: it has no end, since it is still raised."""
        return self.resource == "alarm" and not self.end

    @property
    def end(self) -> datetime | None:
        told = self.record[TIMES[self.resource]]
        return datetime.fromisoformat(told) if told else None


@dataclass
class ScriptedNode(Served):
    """Every field may be changed while it runs."""

    now: datetime = MIDNIGHT
    """The true time."""
    ahead: timedelta = timedelta(0)
    """The node's clock less the true time; `conference()` and the others make records by the true time."""
    tells_time: bool = True
    """Whether answers carry its clock as their Date."""
    date_error: timedelta = timedelta(0)
    """A Date less the node's clock, where something on the way writes it."""
    secret: str = "sesame, open"

    order: Literal["obeyed", "ignored", "refused"] = "obeyed"
    arrangement: Callable[[Known], Any] = lambda one: one.id[::-1]
    """What records come by that nothing orders."""
    ties: Literal["steady", "by limit"] = "steady"
    """By limit: records that tie come in one order where the limit is even, in the other where it is odd."""
    nulls_first: bool = False
    """Where order_by puts records without a time."""
    page: int = 1000
    """Larger pages are cut to this without a word."""
    by_conference: Literal["id", "name", "ignored", "empty", 400, 404] = "id"
    """What `conference=` on participants is taken for; or what it is answered."""
    gone: Literal[200, 400, 404] = 200
    """The answer to `conference=` about one that the node does not have; 200: an empty list."""
    twice: set[str] = field(default_factory=set)
    """Ids that lists have, and count, twice (as a database's join makes them)."""
    nested: bool = False
    """Whether a participant's own address nests its conference instead of naming it."""
    newer: dict[str, Any] = field(default_factory=dict)
    """Fields of a newer release."""
    appear: Literal["left", "ended"] = "left"
    """When a participant is shown: as soon as it left, or when its conference ended."""
    hidden: set[str] = field(default_factory=set)
    """Ids of records that are not shown (yet)."""

    keep: int | None = None
    """The newest conferences that are kept, with those who were in them; None: all."""
    max_age: timedelta | None = None
    """What ended longer ago is forgotten; None: nothing."""

    known: dict[str, dict[str, Known]] = field(default_factory=lambda: {name: {} for name in TIMES})
    """All that there ever was."""
    horizon: datetime = datetime.min
    """What ended before and is first shown later than others were forgotten is forgotten at once."""
    faults: Faults = field(default_factory=Faults)

    # Running

    def __enter__(self) -> Self:
        self.serve(certificates.issued(), self.answer)
        return super().__enter__()

    def renew(self) -> None:
        """As it was made, on the same address."""
        for name, value in vars(ScriptedNode()).items():
            setattr(self, name, value)
        self.server.forget_requests()

    # Its records

    def conference(self, id: str, end: datetime | None, shown: datetime | None = None, **fields: Any) -> Known:
        """One more; it is shown when it ended, or when `shown` says."""
        start = (end or self.now) - HOUR
        record = conference_record(**{"name": f"room of {id}", "start_time": stamp(start)} | fields, id=id)
        return self.add("conference", record | {"end_time": stamp(end)}, shown or end)

    def participant(
        self, held: Known, id: str, end: datetime | None, shown: datetime | None = None, **fields: Any
    ) -> Known:
        """One who was in that conference."""
        record = participant_record(held.record, **fields, id=id, end_time=stamp(end))
        one = self.add("participant", record, shown or end)
        one.listed_by.append(held.id)
        return one

    def list_too(self, held: Known, one: Known) -> None:
        """That conference lists the participant as well: someone was transferred."""
        held.record["participants"].append(one.record["resource_uri"])
        one.listed_by.append(held.id)

    def alarm(self, id: int, lowered: datetime | None, raised: datetime | None = None) -> Known:
        raised = raised or (lowered or self.now) - HOUR
        record = {"id": id, "name": "licenses", "level": "warning", "node": "10.44.1.10", "details": "few are left"}
        return self.add("alarm", record | {"time_raised": stamp(raised), "time_lowered": stamp(lowered)}, raised)

    def event(self, id: int, changed: datetime) -> Known:
        record = {"id": id, "event_type": "status", "state": "up", "details": "", "time_changed": stamp(changed)}
        return self.add("workervm_status_event", record, changed)

    def add(self, resource: str, record: Record, shown: datetime | None = None) -> Known:
        one = Known(resource, record, shown or self.now)
        self.known[resource][one.id] = one
        return one

    def has(self, resource: str) -> list[Known]:
        """What it shows now."""
        return [one for one in self.known[resource].values() if self.shows(one)]

    def shows(self, one: Known) -> bool:
        if one.shown > self.now or one.forgotten or one.id in self.hidden:
            return False
        if self.appear == "ended" and one.resource == "participant":
            held = self.known["conference"][one.record["conference"].split("/")[-2]]
            return not held.end or held.end <= self.now
        return True

    def ended(self) -> list[Known]:
        """The conferences that it shows and that have an end, oldest first."""
        return sorted((one for one in self.has("conference") if one.end), key=lambda one: one.end or NEVER)

    def forget(self, number: int) -> list[str]:
        """The oldest conferences, and those who were in them; the conferences' ids."""
        oldest = self.ended()[:number]
        self._forget(oldest)
        return [one.id for one in oldest]

    def delete(self, *ids: str) -> None:
        """These records, of either resource, and nothing else."""
        for name in ("conference", "participant"):
            for id in ids:
                if id in self.known[name]:
                    self.known[name][id].forgotten = self.now

    def _forget(self, some: list[Known]) -> None:
        for held in some:
            held.forgotten = self.now
            self.horizon = max(self.horizon, min(held.end or self.horizon, self.now))
        uris = {held.record["resource_uri"] for held in some}
        for one in self.known["participant"].values():
            if one.record["conference"] in uris:
                one.forgotten = self.now

    def wait(self, span: timedelta) -> None:
        """Time passes; what is beyond the node's memory is forgotten."""
        self.now += span
        ended, oldest = self.ended(), self.now - self.max_age if self.max_age else datetime.min
        surplus = max(len(ended) - self.keep, 0) if self.keep is not None else 0
        for one in ended:
            if (one.end or NEVER) < self.horizon:
                one.shown = NEVER  # it came too late to be kept
        self._forget([one for place, one in enumerate(ended) if place < surplus or (one.end or NEVER) < oldest])

    # Its answers

    def answer(self, request: Request) -> Reply:
        return self.faults.apply(request, lambda: self._dated(self.own_answer(request)))

    def _dated(self, reply: Reply) -> Reply:
        if self.tells_time:
            moment = self.now + self.ahead + self.date_error
            reply.headers["Date"] = format_datetime(moment.replace(tzinfo=UTC), usegmt=True)
        return reply

    def own_answer(self, request: Request) -> Reply:
        """What it says of itself."""
        expected = "Basic " + base64.b64encode(b"admin:" + self.secret.encode()).decode()
        if request.headers["Authorization"] != expected:
            return Reply(401)
        resource, *rest = request.path.removeprefix(ROOT).strip("/").split("/")
        if not request.path.startswith(ROOT) or not request.path.endswith("/") or resource not in TIMES:
            return Reply(404)
        if rest == ["schema"]:
            return _json({"fields": {name: {} for name in (*LISTED[resource], *QUALITY)}})
        if rest:
            return self._own_address(self.known[resource].get("/".join(rest)))
        return self._list(resource, request)

    def _own_address(self, one: Known | None) -> Reply:
        if not one or not self.shows(one):
            return Reply(404)
        document = self.listed(one)
        if one.resource == "participant":
            document |= QUALITY
            if self.nested:
                of = one.record["conference"]
                document["conference"] = {"id": of.split("/")[-2], "name": "", "resource_uri": of}
        return _json(document)

    def _list(self, resource: str, request: Request) -> Reply:
        query = request.query
        limit, offset = int(query.pop("limit", 20)), int(query.pop("offset", 0))
        order = query.pop("order_by", "")
        if order and self.order == "refused":
            return Reply(400)
        found = self.has(resource)
        if asked := query.pop("conference", None):
            by = self.by_conference
            held = [one for one in self.has("conference") if asked in (one.id, one.record["name"])]
            if isinstance(by, int) or (self.gone != 200 and not held):
                return Reply(by if isinstance(by, int) else self.gone)
            uris = {one.record["resource_uri"] for one in held if one.record.get(by) == asked}
            found = [one for one in found if by == "ignored" or one.record["conference"] in uris]
        if any(name.partition("__")[0] not in LISTED[resource] for name in query):
            return Reply(400)
        found = [one for one in found if all(_fits(one, *pair) for pair in query.items())]
        found += [one for one in found if one.id in self.twice]
        if order and self.order == "obeyed":
            nulls = datetime.min if self.nulls_first else NEVER
            found.sort(key=lambda one: one.id[::-1], reverse=self.ties == "by limit" and limit % 2 == 1)
            found.sort(key=lambda one: one.end or nulls, reverse=order.startswith("-"))
        else:
            found.sort(key=lambda one: (self.arrangement(one), one.id))
        limit = min(limit or self.page, self.page)
        following = None
        if offset + limit < len(found):
            following = f"{request.path}?{urlencode(request.query | {'limit': limit, 'offset': offset + limit})}"
        meta = {"limit": limit, "offset": offset, "total_count": len(found), "previous": None, "next": following}
        return _json({"meta": meta, "objects": [self.listed(one) for one in found[offset : offset + limit]]})

    def listed(self, one: Known) -> Record:
        return {name: one.record.get(name) for name in LISTED[one.resource]} | self.newer


def _fits(one: Known, name: str, value: str) -> bool:
    """Whether the record is in a query; nothing compares with null."""
    field, _, how = name.partition("__")
    held, asked = one.record[field], datetime.fromisoformat(value)
    return held is not None and (datetime.fromisoformat(held) < asked) == {"lt": True, "gte": False}[how]


def _json(document: object) -> Reply:
    return Reply(200, {"Content-Type": "application/json"}, json.dumps(document).encode())
