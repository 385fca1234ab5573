"""A ledger that is new, lost, or of version 1: made from what the files and the old one know."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime

from pexip_history.ledger.ledger import DAY, SCHEMA, SCHEMA_VERSION, Ledger
from pexip_history.node.records import CONFERENCE, PARTICIPANT, uri_id
from pexip_history.values import format_time

INSERT = {
    CONFERENCE: "INSERT OR IGNORE INTO conference VALUES (:id, :until, 1)",
    PARTICIPANT: "INSERT OR IGNORE INTO participant VALUES (:id, coalesce(:conference, :id))",
}


def take_over(ledger: Ledger, rows: Mapping[str, Iterable[Mapping[str, str]]], now: datetime) -> int:
    """Make the tables, and fill them with what files (their rows) and a ledger of version 1 know; how many records.

    One transaction: it is done whole or not at all. Collection began where the rows of both kinds do; what a
    user moved away lies before that, and is neither known nor asked for.
    """
    oldest: list[str] = []
    yesterday = f"{now - DAY:%Y-%m-%d}"  # to be kept, the node must list it now
    ledger.db.execute("PRAGMA cache_size = -64000")
    with ledger.transaction() as db:
        old = ledger.version == 1
        names = ("resource", "conference", "participant", "expected", "run", "staged") if old else ()
        for name in names:
            db.execute(f"ALTER TABLE {name} RENAME TO old_{name}")
        for statement in filter(str.strip, SCHEMA.split(";\n")):
            db.execute(statement)
        newest, latest = "", format_time(now)
        for resource in (CONFERENCE, PARTICIPANT):
            sql, began, ended, count = INSERT[resource], "9999", "", 0
            for row in rows[resource]:
                end = row["end_time"][:26]
                if row["id"]:
                    values = {"id": row["id"], "conference": uri_id(row.get("conference")), "until": yesterday}
                    count += db.execute(sql, values).rowcount
                    if is_time(end) and end <= latest:  # one of the future must not decide where collection began
                        began, ended = min(began, end), max(ended, end)
            newest = max(newest, ended)
            oldest.append(began if ended else "")
            db.execute("UPDATE resource SET mark = ?, rows = ? WHERE name = ?", (ended or None, count, resource))
        if old:
            _take_over_version_1(db, yesterday)
            newest = newest or str(db.execute("SELECT coalesce(max(mark), '') FROM resource").fetchone()[0])
        if newest:
            first = min(max(began or newest for began in oldest), latest)
            db.executemany("INSERT INTO fact VALUES (?, ?)", (("first", first), ("complete", first)))
        count = ledger.one("SELECT (SELECT count(*) FROM conference) + (SELECT count(*) FROM participant)")
    ledger.version = SCHEMA_VERSION
    ledger.db.execute("PRAGMA cache_size = -2000")
    return count


def _take_over_version_1(db: sqlite3.Connection, yesterday: str) -> None:
    for sql in (
        "INSERT OR IGNORE INTO conference SELECT id, :day, 1 FROM old_conference",
        "INSERT OR IGNORE INTO participant SELECT id, coalesce(conference, id) FROM old_participant",
        "INSERT OR IGNORE INTO expected SELECT participant, conference, NULL, NULL, NULL, NULL FROM old_expected"
        " WHERE participant NOT IN (SELECT id FROM participant)",
        "UPDATE resource SET (mark, rows) = (SELECT mark, rows FROM old_resource WHERE old_resource.name ="
        " resource.name)",
        "INSERT INTO run SELECT * FROM old_run",
        "INSERT INTO staged SELECT * FROM old_staged",
        *(f"DROP TABLE old_{name}" for name in ("resource", "conference", "participant", "expected", "run", "staged")),
    ):
        db.execute(sql, {"day": yesterday} if ":day" in sql else ())


def is_time(text: str) -> bool:
    """Whether it is a time as the node writes it; those sort as they follow in time."""
    return len(text) >= 19 and text[4] == text[7] == "-" and text[10] == "T" and text[:4].isdecimal()
