"""What the page takes of the history's tables, and what of it counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pexip_history.folder.names import AGGREGATES
from pexip_history.history.schema import quoted
from pexip_history.history.tables import Table, Take, load
from pexip_history.messages import counted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

BLANK = quoted(" \t\r\n\x0b\x0c\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B))))


def _usual(words: str, otherwise: str) -> str:
    """SQL that lets the usual words as they are, which is fast, and makes of any other text what is said."""
    listed = ", ".join(map(quoted, words.split()))
    return f"CASE WHEN {{0}} IN ({listed}) THEN {{0}} ELSE {otherwise} END"


AROUND = r"^[\s\p{{Z}}\x0b\x85]+|[\s\p{{Z}}\x0b\x85]+$"
CLEAN = (
    f"CASE WHEN NOT (contains({BLANK}, {{0}}[1]) OR contains({BLANK}, {{0}}[-1])) THEN {{0}}"
    rf" WHEN regexp_matches({{0}}, '[^\s\p{{{{Z}}}}\x0b\x85]') THEN regexp_replace({{0}}, '{AROUND}', '', 'g') END"
)
"""Blanks around a name make no other name. Looking for them first is fast; trim with so many takes ten times that."""
TRIMMED = "CASE WHEN {0}[1] = ' ' OR {0}[-1] = ' ' THEN nullif(trim({0}), '') ELSE {0} END"
CENTURY = "CASE WHEN year({0}) BETWEEN 2000 AND 2100 THEN {0} END"
PROTOCOL = _usual(
    "SIP H323 WebRTC TEAMS MSSIP RTMP API",
    "CASE WHEN upper(split_part(trim({0}), ' ', 1)) IN ('API', 'BACKPLANE') THEN upper(split_part(trim({0}), ' ', 1))"
    " ELSE nullif(replace(upper(trim({0})), 'WEBRTC', 'WebRTC'), '') END",
)
"""Event sinks write protocols in lower case."""
NO_TYPE = "no type"
LICENSE = _usual("port audio", f"coalesce(nullif(nullif(lower(trim({{0}})), ''), 'none'), '{NO_TYPE}')")
SERVICE = _usual(
    "conference lecture gateway two_stage_dialing test_call media_playback", "nullif(lower(trim({0})), '')"
)

RULES = """
CREATE MACRO media(protocol) AS coalesce(protocol NOT IN ('API', 'BACKPLANE'), true);
CREATE MACRO meeting(service) AS service IS DISTINCT FROM 'two_stage_dialing';
CREATE MACRO person(protocol, service) AS media(protocol) AND meeting(service);
CREATE MACRO held_in(room, service) AS room IS NOT NULL AND service IN ('conference', 'lecture');
CREATE MACRO try_out(service) AS coalesce(service, '') IN ('test_call', 'media_playback');
"""
"""Who counts, on columns that are tidied once: the page asks a hundred times; for usage and calls too.

Neither what controls a call (API), nor what connects nodes (BACKPLANE), nor a stay in a Virtual Reception: its caller
is counted in the room that they are put through to. And what has media, a meeting's room, a connection tried out.
"""
SLIP = 86_400
"""Seconds by which a stay's duration may be longer than its times say; what is beyond is a slip of an edit."""

# Of each table its columns: the page's name, and what it is made of.
BOTH = {
    "starts": Take("start_time", CENTURY, plain=True),
    "ends": Take("end_time", CENTURY, plain=True),
    "duration": Take("duration"),
    "service": Take("service_type", SERVICE, plain=True),
}
TABLES: dict[str, dict[str, Take]] = {
    "conference": BOTH | {"room": Take("name", CLEAN), "tag": Take("tag", CLEAN)},
    "participant": BOTH
    | {
        "room": Take("conference_name", CLEAN),
        "tag": Take("service_tag", CLEAN),
        "conference": Take("conference", "CASE WHEN {0} <> '' THEN hash({0}) END", "UBIGINT", plain=True),
        "protocol": Take("protocol", PROTOCOL, plain=True),
        "quality": Take("call_quality", plain=True),
        "reason": Take("disconnect_reason", TRIMMED),
        "location": Take("system_location", TRIMMED),
        "node": Take("media_node", "nullif({}, '')", plain=True),
        "vendor": Take("vendor", plain=True),
        "license": Take("license_type", LICENSE, plain=True),
        "licenses": Take("license_count", "least(greatest({}, 0), 9999)::SMALLINT", "SMALLINT"),
    },
    "stream": {
        "participant": Take("participant_id", "hash({})", "UBIGINT", plain=True),
        "kind": Take("stream_type", CLEAN),
        "received": Take("rx_packet_loss"),
        "sent": Take("tx_packet_loss"),
    },
    "quality": {
        "participant": Take("participant_id", "hash({})", "UBIGINT", plain=True),
        "ratings": Take("historic_call_quality", plain=True),
    },
    "alarm": {
        "raised": Take("time_raised", CENTURY),
        "lowered": Take("time_lowered", CENTURY),
        "name": Take("name", CLEAN),
        "level": Take("level", "nullif(lower(trim({})), '')"),
        "node": Take("node", CLEAN),
        "instance": Take("instance", CLEAN),
    },
}


@dataclass
class Reading:
    """What was found: the tables by name, and sentences on what could not be read, or is not there."""

    tables: dict[str, Table] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    missing: int = 0
    """Conferences and participants that the ledger knows, and no file holds."""

    def has(self, table: str, *columns: str) -> bool:
        return table in self.tables and set(columns) <= self.tables[table].there

    @property
    def sources(self) -> list[str]:
        return [table.source for table in self.tables.values() if table.source]


def load_all(
    db: DuckDBPyConnection, data: Path, folder: Path, rows: Mapping[str, int], progress: Callable[[str], None]
) -> Reading:
    """Make the tables; `rows` is how many each aggregate has, as the ledger says. Raises OSError, duckdb.Error."""
    found = Reading()
    db.execute(RULES)
    for name, columns in TABLES.items():
        known = rows.get(name, 0)
        table = load(db, data, name, folder, columns=columns, known=known, progress=progress)
        found.remarks += [f"{remark}." for remark in table.remarks]
        if not table.files:
            if known:
                found.remarks.append(f"There is no {AGGREGATES[name]}, of {counted(known, 'row')} that were written.")
                found.missing += known if name in ("conference", "participant") else 0
            continue
        found.tables[name] = table
        _remark(found, table)
    if found.has("participant", "licenses", "protocol"):  # a connection that has no media holds none
        db.execute("UPDATE participant SET licenses = 0 WHERE licenses > 0 AND NOT media(protocol)")
    if "participant" in found.tables or "conference" in found.tables:
        found.remarks += _untimed(db, found)
    return found


def _remark(found: Reading, table: Table) -> None:
    aggregate = AGGREGATES[table.resource]
    if table.twice:
        found.remarks.append(f"{table.source}: {counted(table.twice, 'row')} there twice; each id counts once.")
    if table.known and table.short:
        own = table.files[0].name == aggregate
        held = f"{aggregate} is short: {counted(table.known, 'row')} were written to it" if own else ""
        held = held or f"There is no {aggregate} to read, of {counted(table.known, 'row')} that were written to it"
        found.remarks.append(f"{held}; read from {table.source}, {counted(table.rows, 'row')} in all.")
        if table.resource in ("conference", "participant"):
            found.missing += table.missing


def _untimed(db: DuckDBPyConnection, found: Reading) -> list[str]:
    """Sentences on rows whose times cannot be read, or contradict each other, by file."""
    said = []
    kinds = (
        ("starts IS NULL", "whose start cannot be read: not counted"),
        ("starts IS NOT NULL AND ends IS NULL", "whose end cannot be read: not counted"),
        ("ends < starts", "whose end lies before the start: without a length, and never there"),
        (
            f"ends >= starts AND duration NOT BETWEEN 0 AND epoch(ends - starts) + {SLIP}",
            "whose duration cannot be: taken by its times",
        ),
    )
    counts = ", ".join(f"count(*) FILTER ({where})" for where, _ in kinds)
    for name in ("conference", "participant"):
        if name not in found.tables:
            continue
        table = found.tables[name]
        rows = db.execute(f"SELECT _file, {counts} FROM {name} GROUP BY _file ORDER BY _file").fetchall()
        for place, *each in rows:
            for (_, what), count in zip(kinds, each, strict=True):
                if count:
                    said.append(f"{table.files[place].name}: {counted(count, 'row')} {what}.")
    return said
