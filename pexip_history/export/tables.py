"""The tables that can be exported: what each needs of the files, and its SQL."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pexip_history.errors import printable
from pexip_history.export.parquet import typed_column
from pexip_history.export.wanted import PERSON, Misused, Wanted, conferences, participants
from pexip_history.history.files import find
from pexip_history.history.schema import NESTED, NUMBER, TEXT, named
from pexip_history.history.tables import Table, Take, load
from pexip_history.messages import sentence
from pexip_history.report.concurrency import local_times
from pexip_history.report.queries import LENGTH
from pexip_history.report.reading import RULES
from pexip_history.report.reading import TABLES as PAGE

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

RESOURCE = {"conferences": "conference", "participants": "participant", "streams": "stream"}
"""Of the tables that have a file's columns."""
LOCAL = {"start_time": "start_local", "end_time": "end_local"}
"""Local times, beside those in UTC."""
BASE = {
    "conference": ("id", "start_time", "end_time", "name", "service_type", "tag"),
    "participant": (
        *("id", "start_time", "end_time", "conference", "conference_name", "service_type", "service_tag"),
        *("system_location", "call_quality"),
    ),
    "stream": ("participant_id", "id", "start_time", "end_time"),
}
"""Columns that are always read."""
COUNTED = ("duration", "protocol", "license_count", "license_type")
CALLS = ("display_name", "remote_alias", "local_alias", "call_direction", "vendor", "media_node", "disconnect_reason")
MEDIA = {"stream_type": TEXT, **dict.fromkeys(("rx_packet_loss", "tx_packet_loss"), NUMBER)}
MEDIA |= dict.fromkeys(("rx_codec", "tx_codec"), TEXT)
KINDS = ("audio", "video", "presentation")


@dataclass(frozen=True)
class Selected:
    """SQL for the rows, for their order (empty for any), and the columns of the rows that were asked for."""

    sql: str
    order: str
    columns: Sequence[str]


@dataclass
class Tables:
    """Loads what an export needs into DuckDB. The connection is history/database's, `folder` a workshop.

    `known` are the ledger's rows by resource. Raises Misused for a column that no file has, OSError, duckdb.Error.
    """

    db: DuckDBPyConnection
    data: Path
    folder: Path
    wanted: Wanted
    zone: ZoneInfo
    known: dict[str, int]
    progress: Callable[[str], None] = lambda text: None
    loaded: list[Table] = field(default_factory=list)

    def select(self) -> Selected:
        """The SQL for the rows, and what goes with it."""
        table, asked = self.wanted.table, self.wanted
        self.db.execute(RULES)
        self.db.execute("CREATE MACRO conference_id(uri) AS regexp_extract(uri, 'conference/([^/\"]+)', 1)")
        columns = self._columns(RESOURCE[table]) if table in RESOURCE else []
        if table in ("conferences", "rooms"):
            self._load("conference", columns)
        if table != "conferences" or asked.whose:
            self._load("participant", columns if table == "participants" else [])
        if table == "streams" or (table == "calls" and "streams" not in self.loaded[-1].there):
            self._load("stream", columns or list(MEDIA))
        self._local()
        if self.loaded[-1].resource != "conference":
            self.db.execute(f"CREATE VIEW chosen AS FROM participant WHERE {participants(self.db, asked, self.zone)}")
        if table not in RESOURCE:
            counted = f"SELECT *, floor({SECONDS})::BIGINT AS seconds FROM chosen WHERE person(protocol, service_type)"
            self.db.execute(f"CREATE VIEW people AS {counted}")
        if table in ("conferences", "rooms"):
            self.db.execute(f"CREATE VIEW held AS FROM conference WHERE {conferences(asked, self.zone)}")
        if table in RESOURCE:
            return self._records(columns)
        sql, order = {"usage": self._usage, "calls": self._calls, "rooms": self._rooms}[table]()
        every = [str(name) for name, *_ in self.db.execute(f"DESCRIBE {sql}").fetchall()]
        return Selected(sql, order, choose(every, asked.columns))

    # What is read

    def _columns(self, resource: str) -> list[str]:
        """The file's columns that were asked for, local times beside those in UTC. Raises Misused."""
        found = find(self.data, resource)
        files = [*([found.aggregate] if found.aggregate else []), *found.dated]
        there = {name.casefold(): name for file in reversed(files) for name in file.header if name}
        order = list(dict.fromkeys(name for file in files for name in file.header if name in there.values()))
        every = [each for name in order for each in (name, *([LOCAL[name]] if name in LOCAL else []))]
        return choose(every, self.wanted.columns)

    def _load(self, resource: str, columns: Sequence[str]) -> None:
        names = [*(name for name in columns if name not in LOCAL.values()), *BASE[resource]]
        if resource == "participant":
            names += PERSON if self.wanted.person else ()
            names += COUNTED if self.wanted.table not in RESOURCE else ()
            names += CALLS if self.wanted.table == "calls" else ()
        takes = {name: self._take(resource, name) for name in dict.fromkeys(names)}
        if resource == "participant" and self.wanted.table == "calls":
            takes["streams"] = _media()
        given = {"columns": takes, "known": self.known.get(resource, 0), "progress": self.progress}
        self.loaded.append(load(self.db, self.data, resource, self.folder, **given))  # type: ignore[arg-type]

    def _take(self, resource: str, name: str) -> Take:
        """A record's column as it is in the files; in a table that counts, as the page counts it."""
        if self.wanted.table not in RESOURCE:
            return AS_ON_THE_PAGE[resource].get(name) or Take(name)
        return typed_column(name) if self.wanted.format in ("parquet", "jsonl") else Take(name)

    def _local(self) -> None:
        """Make local(t) for all times that are there."""
        spans = [
            f"SELECT min(least(start_time, end_time)) AS low, max(greatest(start_time, end_time)) AS high FROM {name}"
            for name in (table.resource for table in self.loaded)
        ]
        [(low, high)] = self.db.execute(f"SELECT min(low), max(high) FROM ({' UNION ALL '.join(spans)})").fetchall()
        never = datetime(2000, 1, 1)
        local_times(self.db, self.zone, low or never, high or never)

    # The tables

    def _records(self, columns: Sequence[str]) -> Selected:
        table, asked = self.wanted.table, self.wanted
        some = asked.period or asked.whose or asked.tag is not None or asked.room is not None
        meant = " WHERE participant_id IN (SELECT id FROM chosen)" if some else ""
        source = {"conferences": "held", "participants": "chosen", "streams": f"stream{meant}"}[table]
        order = ["start_time", *(["participant_id"] if table == "streams" else []), "id"]
        utc = {local: time for time, local in LOCAL.items()}
        listed = [f"local({utc[n]}) AS {n}" if n in utc else named(n) for n in dict.fromkeys((*columns, *order))]
        # Sorting holds whole rows in memory: those with long texts stay in the order of the files.
        long = any(name in NESTED for name in columns)
        return Selected(f"SELECT {', '.join(listed)} FROM {source}", "" if long else ", ".join(order), columns)

    def _usage(self) -> tuple[str, str]:
        whole = "ceil(seconds / 60)::BIGINT" if self.wanted.round_up else "seconds / 60"
        return (
            f"""
            SELECT local(start_time)::DATE AS day, service_tag AS tag, conference_name AS room,
                   service_type, protocol, system_location AS location, license_type,
                   count(DISTINCT conference) AS conferences, count(*) AS participants,
                   sum(seconds)::BIGINT AS seconds,
                   sum({whole}) AS minutes, sum({whole} * coalesce(license_count, 0)) AS license_minutes
            FROM people WHERE {_TIMED} GROUP BY ALL""",
            ("day, tag NULLS FIRST, room, service_type, protocol, location, license_type"),
        )

    def _calls(self) -> tuple[str, str]:
        if len(self.loaded) > 1:
            flat = f"SELECT participant_id, {', '.join(MEDIA)} FROM stream"
        else:
            fields = ", ".join(f"s.{name}" for name in MEDIA)
            flat = f"SELECT id AS participant_id, {fields} FROM (SELECT id, unnest(streams) AS s FROM chosen)"
        losses = [
            f"max({way}_packet_loss) FILTER (stream_type = '{kind}') AS {way}_{kind}_loss"
            for kind in KINDS
            for way in ("rx", "tx")
        ]
        codecs = [
            f"string_agg(DISTINCT codec, ', ' ORDER BY codec) FILTER (stream_type = '{kind}') AS {kind}_codecs"
            for kind in KINDS
        ]
        return (
            f"""
            WITH flat AS ({flat}),
            lost AS (SELECT participant_id, {", ".join(losses)} FROM flat GROUP BY participant_id),
            used AS (SELECT participant_id, {", ".join(codecs)} FROM (
                SELECT participant_id, stream_type, unnest([rx_codec, tx_codec]) AS codec FROM flat)
                WHERE codec <> '' GROUP BY participant_id)
            SELECT start_time, local(start_time) AS start_local, end_time, local(end_time) AS end_local, seconds,
                   conference_name AS room, service_type, service_tag AS tag, display_name, remote_alias,
                   local_alias, call_direction, protocol, vendor, system_location AS location, media_node, call_quality,
                   lost.* EXCLUDE (participant_id), used.* EXCLUDE (participant_id), disconnect_reason, license_type,
                   license_count, people.id, conference_id(conference) AS conference
            FROM people LEFT JOIN lost ON lost.participant_id = people.id
                        LEFT JOIN used ON used.participant_id = people.id""",
            "start_time, id",
        )

    def _rooms(self) -> tuple[str, str]:
        return (
            f"""
            WITH used AS (SELECT name AS room, tag, start_time, end_time, 1 AS conferences,
                                 0 AS participants, 0 AS seconds FROM held WHERE {_ROOM} AND {_TIMED}
                          UNION ALL
                          SELECT conference_name, service_tag, start_time, end_time, 0, 1, seconds
                          FROM people WHERE {_ROOM} AND {_TIMED}),
            steps AS (SELECT conference_name AS room, start_time AS t, 1 AS step FROM people
                      WHERE {_ROOM} AND end_time > start_time
                      UNION ALL SELECT conference_name, end_time, -1 FROM people
                      WHERE {_ROOM} AND end_time > start_time),
            most AS (SELECT room, max(level)::BIGINT AS most FROM (
                SELECT room, sum(step) OVER (PARTITION BY room ORDER BY t, step ROWS UNBOUNDED PRECEDING) AS level
                FROM steps) GROUP BY room)
            SELECT used.room, arg_max(tag, start_time) AS tag, min(start_time) AS first_used,
                   local(min(start_time)) AS first_local, max(end_time) AS last_used,
                   local(max(end_time)) AS last_local, sum(conferences)::BIGINT AS conferences,
                   sum(participants)::BIGINT AS participants, sum(seconds) / 60 AS minutes,
                   coalesce(any_value(most), 0) AS most_at_once
            FROM used LEFT JOIN most ON most.room = used.room WHERE used.room IS NOT NULL GROUP BY used.room""",
            "room",
        )


SECONDS = LENGTH.replace("starts", "start_time").replace("ends", "end_time")
_TIMED = "start_time IS NOT NULL AND end_time IS NOT NULL"
"""As on the page: of what has no times that can be read, nobody can say how long it took."""
_ROOM = "service_type IN ('conference', 'lecture')"
AS_ON_THE_PAGE = {
    resource: {take.source: take for take in columns.values() if take.type != "UBIGINT"}
    for resource, columns in PAGE.items()
}


def choose(every: Sequence[str], asked: Sequence[str]) -> list[str]:
    """The columns that were asked for, in that order; without any, all. Raises Misused."""
    for name in asked:
        if name not in every:
            near = get_close_matches(name, every, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(every)}"
            raise Misused(sentence("no-such-column", value=printable(name, 100), hint=hint))
    return list(dict.fromkeys(asked or every))


def _media() -> Take:
    """What `calls` needs of a participant's streams."""
    shape = json.dumps([MEDIA]).replace("{", "{{").replace("}", "}}")
    fields = ", ".join(f"{name} {kind}" for name, kind in MEDIA.items())
    return Take("media_streams", f"TRY(from_json({{}}, '{shape}'))", f"STRUCT({fields})[]")
