"""What was exported, and for which time the node was asked. Times are UTC."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta

from pexip_history.folder.names import staged_name
from pexip_history.ledger.schema import SCHEMA_VERSION
from pexip_history.ledger.spans import Span, common, merge, without
from pexip_history.values import format_time, parse_time

KEPT = timedelta(days=30)
"""How long a conference's id, and its participants' with it, is kept after the node last listed it."""
KEPT_UNLISTED = timedelta(days=366)
"""How long a participant's is whose conference the node never listed; and what is known to be lost."""
RUNS_KEPT = 1000
KILLED = "it was killed, or the power failed"
KINDS = COVERED, GAP, BEFORE = "covered", "gap", "before"
"""Kinds of spans that were asked for: all was taken; the node had forgotten it; it is older than all the node had."""


@dataclass(frozen=True)
class Known:
    """An aggregate as it was when it was last written: its size in bytes, and a hash of what it ended with."""

    size: int
    tail: str


@dataclass(frozen=True)
class Staged:
    """A file of rows that waits in `.collector` to be published.

    `head` is where its rows begin (bytes); `size` what the aggregate held (bytes) as publishing began, None before.
    """

    pair: int
    resource: str
    stem: str
    head: int
    rows: int
    size: int | None = None

    @property
    def name(self) -> str:
        return staged_name(self.pair, self.resource)


class Ledger:
    """The ledger of one data folder."""

    def __init__(self, connection: sqlite3.Connection, version: int = SCHEMA_VERSION) -> None:
        self.db, self.version = connection, version

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """What is done within it takes place whole or not at all. Within another it is a part of that one."""
        if self._writing:
            yield self.db
            return
        with self.scratch() as db:
            db.execute("COMMIT")
            db.execute("BEGIN IMMEDIATE")
            self._writing = True
            try:
                yield db
                db.execute("COMMIT")
            finally:
                self._writing = False

    _writing = False

    @contextmanager
    def scratch(self) -> Iterator[sqlite3.Connection]:
        """For changes to temporary tables alone; they are committed with the ledger's next transaction.

        A commit writes the temporary file's changed pages: with random ids, one for each record, every time.
        """
        try:
            if not self.db.in_transaction:
                self.db.execute("BEGIN DEFERRED")
            yield self.db
        except BaseException:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    def one(self, query: str, *values: object) -> int:
        """The number that a query comes to."""
        return int(self.db.execute(query, values).fetchone()[0])

    # Facts

    def fact(self, name: str) -> str | None:
        row = self.db.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def time_of(self, name: str) -> datetime | None:
        """A fact that is a time."""
        return parse_time(self.fact(name))

    def note(self, **facts: str | datetime | None) -> None:
        """Note facts; None forgets one."""
        with self.transaction() as db:
            for name, value in facts.items():
                text = format_time(value) if isinstance(value, datetime) else value
                db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, text))

    def doubt(self, reason: str) -> None:
        """Have the next run compare with the node's whole list; the first reason stays."""
        if not self.fact("doubt"):
            self.note(doubt=reason)

    # Coverage

    def spans(self, resource: str, *kinds: str) -> list[Span]:
        """The spans of these kinds that the resource was asked for, merged; of all kinds without any."""
        rows = self.db.execute('SELECT "start", "end", kind FROM span WHERE resource = ?', (resource,))
        return merge(
            Span(parse_time(start), parse_time(end))  # type: ignore[arg-type]
            for start, end, kind in rows
            if not kinds or kind in kinds
        )

    def cover(self, resource: str, spans: Mapping[str, Sequence[Span]]) -> None:
        """Add spans, by kind; where they overlap others, what is said now counts. What is covered stays so."""
        covered = [*self.spans(resource, COVERED), *spans.get(COVERED, ())]
        told = {kind: without(spans.get(kind, ()), covered) for kind in (GAP, BEFORE)}
        new = [*covered, *told[GAP], *told[BEFORE]]
        kept = {kind: without(self.spans(resource, kind), new) for kind in told}
        self._replace_spans(resource, {COVERED: covered} | {kind: [*kept[kind], *told[kind]] for kind in told})

    def believe(self, resource: str, spans: Sequence[Span]) -> None:
        """Forget of the resource's spans all but these."""
        self._replace_spans(resource, {kind: common(self.spans(resource, kind), spans) for kind in KINDS})

    def _replace_spans(self, resource: str, spans: Mapping[str, Sequence[Span]]) -> None:
        with self.transaction() as db:
            db.execute("DELETE FROM span WHERE resource = ?", (resource,))
            for kind, some in spans.items():
                rows = ((resource, kind, format_time(span.start), format_time(span.end)) for span in merge(some))
                db.executemany("INSERT INTO span VALUES (?, ?, ?, ?)", rows)

    def collected_before(self, resource: str, moment: datetime) -> bool:
        """Whether a record was ever exported whose time lies before the moment."""
        text = format_time(moment)
        return bool(self.one("SELECT coalesce(max(oldest < ?), 0) FROM resource WHERE name = ?", text, resource))

    def exported(self, resource: str, oldest: str) -> None:
        """Note the earliest time of records that are exported; what is known to be earlier stays."""
        with self.transaction() as db:
            sql = "UPDATE resource SET oldest = min(coalesce(oldest, :time), :time) WHERE name = :name"
            db.execute(sql, {"time": oldest, "name": resource})

    def has(self, resource: str, record_id: str) -> bool:
        """Whether the record was exported."""
        return bool(self.one(f"SELECT EXISTS (SELECT 1 FROM {resource} WHERE id = ?)", record_id))

    # Forgetting

    def forget(self, now: datetime) -> None:
        """Forget what the node has not listed for so long that it will not be offered again."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO kept SELECT DISTINCT conference, ? FROM participant",
                (f"{now + KEPT_UNLISTED:%Y-%m-%d}",),
            )
            db.execute("DELETE FROM kept WHERE until < ?", (f"{now:%Y-%m-%d}",))
            for name in ("conference", "participant"):
                db.execute(f"DELETE FROM {name} WHERE conference NOT IN (SELECT conference FROM kept)")
            db.execute("DELETE FROM expected WHERE lost < ?", (format_time(now - KEPT_UNLISTED),))

    def compact(self) -> None:
        """Give room back: the ledger is as large as what the node holds, whatever it was rebuilt from."""
        if 2 * self.one("PRAGMA freelist_count") > self.one("PRAGMA page_count") > 2000:
            self.db.execute("VACUUM")

    # Publishing

    def staged(self) -> list[Staged]:
        """The files that wait to be published, those of the oldest reading first."""
        # By place, for a ledger of 1.0 or 1.1 too: there the first column has another name.
        return [Staged(*row) for row in self.db.execute("SELECT * FROM staged ORDER BY 1, 2")]

    def half_published(self) -> set[str]:
        """The resources whose aggregates may have a part of what is staged behind their known end."""
        return {file.resource for file in self.staged() if file.size is not None}

    def next_pair(self) -> int:
        """A number that no file that waits has."""
        return self.one("SELECT coalesce(max(pair), 0) + 1 FROM staged")

    def stage(self, files: Sequence[Staged]) -> None:
        """Note files to publish."""
        with self.transaction() as db:
            db.executemany("INSERT INTO staged VALUES (?, ?, ?, ?, ?, ?)", map(astuple, files))

    def begin_publishing(self, sizes: Mapping[Staged, int]) -> None:
        """Note what the aggregates held (bytes) before the rows are appended."""
        with self.transaction() as db:
            for file, size in sizes.items():
                where = (size, file.pair, file.resource)
                db.execute("UPDATE staged SET size = ? WHERE pair = ? AND resource = ?", where)

    def published(self, files: Sequence[Staged], names: Sequence[str], aggregates: Mapping[str, Known]) -> None:
        """Forget files that are in place now: their names, and the aggregates by resource."""
        with self.transaction() as db:
            for file in files:
                db.execute("DELETE FROM staged WHERE pair = ? AND resource = ?", (file.pair, file.resource))
                db.execute("UPDATE resource SET rows = rows + ? WHERE name = ?", (file.rows, file.resource))
            self.know_files(names)
            for resource, known in aggregates.items():
                self.know_aggregate(resource, known)

    def rows(self, resource: str) -> int:
        """How many rows of the resource were published."""
        return self.one("SELECT rows FROM resource WHERE name = ?", resource)

    def aggregate(self, resource: str) -> Known | None:
        """The aggregate when it was last written to: up to there it was whole. None where that is not known."""
        row = self.db.execute("SELECT bytes, tail FROM resource WHERE name = ?", (resource,)).fetchone()
        return Known(*row) if row and row[0] is not None and row[1] is not None else None

    def know_aggregate(self, resource: str, known: Known) -> None:
        """Note what the aggregate is now."""
        with self.transaction() as db:
            db.execute("UPDATE resource SET bytes = ?, tail = ? WHERE name = ?", (known.size, known.tail, resource))

    def files(self) -> set[str]:
        """The names of the dated files that are known."""
        return {name for (name,) in self.db.execute("SELECT name FROM file")}

    def know_files(self, names: Iterable[str]) -> None:
        with self.transaction() as db:
            db.executemany("INSERT OR IGNORE INTO file VALUES (?)", ((name,) for name in names))

    def forget_files(self, names: Iterable[str]) -> None:
        with self.transaction() as db:
            db.executemany("DELETE FROM file WHERE name = ?", ((name,) for name in names))

    # Runs

    def begin_run(self, started: datetime, by_hand: bool) -> int:
        """A new run's number; runs that never finished were killed."""
        with self.transaction() as db:
            killed = (format_time(started), "killed", KILLED)
            db.execute("UPDATE run SET finished = ?, outcome = ?, message = ? WHERE finished IS NULL", killed)
            db.execute("DELETE FROM run WHERE id <= (SELECT max(id) FROM run) + 1 - ?", (RUNS_KEPT,))
            sql = "INSERT INTO run (started, outcome, by_hand) VALUES (?, 'running', ?)"
            return int(db.execute(sql, (format_time(started), int(by_hand))).lastrowid or 0)

    def note_run(self, run: int, **values: object) -> None:
        with self.transaction() as db:
            columns = ", ".join(f"{name} = ?" for name in values)
            db.execute(f"UPDATE run SET {columns} WHERE id = ?", (*values.values(), run))

    def windows(self, moment: datetime) -> list[Span]:
        """What runs asked for, each its own window, as far as it ends after the moment."""
        sql = "SELECT window_start, window_end FROM run WHERE window_end > ?"
        rows = self.db.execute(sql, (format_time(moment),))
        return [Span(parse_time(start), parse_time(end)) for start, end in rows]  # type: ignore[arg-type]

    def runs(self, most: int) -> list[dict[str, object]]:
        """The last runs, newest first."""
        cursor = self.db.execute("SELECT * FROM run ORDER BY id DESC LIMIT ?", (most,))
        return [dict(zip([c[0] for c in cursor.description], row, strict=True)) for row in cursor]
