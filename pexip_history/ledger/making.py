"""A ledger that is made, new or from one of an earlier version; and what rows in files tell it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from pexip_history.ledger.ledger import BEFORE, COVERED, KEPT, Ledger
from pexip_history.ledger.schema import SCHEMA, SCHEMA_VERSION
from pexip_history.ledger.spans import Span
from pexip_history.node.records import uri_id
from pexip_history.resources import BY_NAME, RESOURCES
from pexip_history.values import format_time, parse_time

OLD_TABLES = {
    0: (),
    1: ("resource", "conference", "participant", "expected", "run", "staged"),
    2: ("fact", "resource", "conference", "participant", "expected", "run", "staged"),
}
COPIED = {
    1: (
        "INSERT OR IGNORE INTO conference SELECT id, id FROM old_conference",
        "INSERT OR IGNORE INTO kept SELECT id, :day FROM old_conference",
        "INSERT OR IGNORE INTO participant SELECT id, coalesce(conference, id) FROM old_participant",
        "INSERT OR IGNORE INTO expected SELECT participant, conference, NULL, NULL, NULL, NULL FROM old_expected"
        " WHERE participant NOT IN (SELECT id FROM participant)",
    ),
    2: (
        "INSERT INTO conference SELECT id, id FROM old_conference WHERE exported",
        "INSERT INTO kept SELECT id, until FROM old_conference",
        "INSERT INTO participant SELECT id, conference FROM old_participant",
        "INSERT OR IGNORE INTO expected SELECT * FROM old_expected ORDER BY lost IS NOT NULL",
        "INSERT INTO fact SELECT name, value FROM old_fact WHERE name = 'reconciled' AND value IS NOT NULL",
    ),
}
COPIED_ALWAYS = (
    "UPDATE resource SET rows = coalesce((SELECT old.rows FROM old_resource AS old WHERE old.name = resource.name), 0)",
    "INSERT INTO run SELECT *, 0 FROM old_run",
    "INSERT INTO staged SELECT * FROM old_staged",
)
KEEP = f"INSERT OR IGNORE INTO kept VALUES (?1, max(coalesce(date(?2, '+{KEPT.days} days'), ?3), ?3))"
"""Keep a conference for so long after its end, and at least to a day."""


def make(ledger: Ledger, now: datetime) -> None:
    """Make the tables, with the ids, runs and waiting files of an older ledger; its tables stay until `take_over`."""
    version = ledger.version
    with ledger.transaction() as db:
        for name in OLD_TABLES[version]:
            db.execute(f"ALTER TABLE {name} RENAME TO old_{name}")
        for statement in filter(str.strip, SCHEMA.split(";\n")):
            db.execute(statement)
        for sql in (*COPIED[version], *COPIED_ALWAYS) if version else ():
            db.execute(sql, {"day": f"{now:%Y-%m-%d}"} if ":day" in sql else ())
    ledger.version = SCHEMA_VERSION


def know_rows(ledger: Ledger, resource: str, rows: Iterable[Mapping[str, str]], now: datetime) -> int:
    """Take the records of these rows for exported; how many were not known."""
    time, oldest, count = BY_NAME[resource].time, "", 0
    with ledger.transaction() as db:
        until = f"{now - timedelta(days=1):%Y-%m-%d}"  # an old one is kept only where the node lists it now
        for row in rows:
            if not (record := row.get("id", "")):
                continue
            own, ended = belongs_to(resource, record, row.get("conference")), row.get(time, "")[:26]
            count += db.execute(f"INSERT OR IGNORE INTO {resource} VALUES (?, ?)", (record, own)).rowcount
            if resource == "conference":  # that of a participant may be yet to end: `forget` gives it longer
                db.execute(KEEP, (own, ended[:19], until))
            if is_time(ended):
                oldest = min(oldest or ended, ended)
        if oldest:
            ledger.exported(resource, oldest)
    return count


def belongs_to(resource: str, record: str, conference: object) -> str | None:
    """The conference with which a record is forgotten; None for what is kept for good."""
    if resource == "conference":
        return record
    return (uri_id(conference) or record) if resource == "participant" else None


def take_over(ledger: Ledger, version: int) -> None:
    """Make coverage of what the older ledger knew of time, once the rows in files are known, in its transaction."""
    db = ledger.db
    marks = {name: parse_time(mark) for name, mark in db.execute("SELECT name, mark FROM old_resource")}
    known = [mark for name, mark in marks.items() if mark and name in ("conference", "participant")]
    first, complete = _beginning(db, version)
    if first and known:
        # What ended before was not wanted, and is not until DATA_SINCE asks for it.
        ledger.note(since=first, doubt="the ledger of an earlier version was taken over")
        for resource in RESOURCES:
            if mark := marks.get(resource.name):
                begins = max(first, min(complete or first, mark))
                ledger.cover(resource.name, {BEFORE: [Span(first, begins)], COVERED: [Span(begins, mark)]})
                db.execute("UPDATE resource SET oldest = ? WHERE name = ?", (format_time(first), resource.name))
    for name in OLD_TABLES[version]:
        db.execute(f"DROP TABLE old_{name}")


def _beginning(db: sqlite3.Connection, version: int) -> tuple[datetime | None, datetime | None]:
    """Where collection began, and since when it is complete, as an earlier version knew it."""
    if version == 2:
        facts = dict(db.execute("SELECT name, value FROM old_fact"))
        return parse_time(facts.get("first")), parse_time(facts.get("complete"))
    oldest = [text for (text,) in db.execute("SELECT oldest FROM resource WHERE oldest IS NOT NULL")]
    marks = [text for (text,) in db.execute("SELECT mark FROM old_resource WHERE mark IS NOT NULL")]
    text = max(oldest, default=min(marks, default=None))
    return parse_time(text), None


def is_time(text: str) -> bool:
    """Whether it is a time as the node writes it; those sort as they follow in time."""
    return len(text) >= 19 and text[4] == text[7] == "-" and text[10] == "T" and text[:4].isdecimal()
