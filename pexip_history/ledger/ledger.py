"""What was exported and how far: SQLite, rollback journal, every commit synced. Times are UTC."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from pexip_history.errors import CollectorError
from pexip_history.folder.opening import refuse_other_kinds
from pexip_history.ledger.staged import Staged
from pexip_history.node.records import CONFERENCE, PARTICIPANT, Page, listings, uri_id
from pexip_history.values import as_text, format_time, parse_time

APPLICATION_ID, SCHEMA_VERSION = 0x50784852, 2
KEPT = timedelta(days=30)
"""How long a conference's id, and its participants' with it, is kept after the node last listed it."""
KEPT_UNLISTED = timedelta(days=366)
"""How long a participant's is whose conference the node never listed; and what is known to be lost."""
DAY = timedelta(days=1)
RUNS_KEPT = 1000
SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
-- first: where collection began; reconciled: when with the node's whole list; complete: since when the history is.
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE resource (name TEXT PRIMARY KEY, mark TEXT, rows INTEGER NOT NULL DEFAULT 0);
INSERT INTO resource (name) VALUES ('conference'), ('participant'), ('stream');
-- until: the day up to which it is kept. One that was not exported is here for its participants alone.
CREATE TABLE conference (id TEXT PRIMARY KEY, until TEXT NOT NULL, exported INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE participant (id TEXT PRIMARY KEY, conference TEXT NOT NULL) WITHOUT ROWID;
-- What conferences list and no run has; started and ended are the conference's. One who was transferred is listed by
-- several, and to be had from only one of them.
CREATE TABLE expected (
    participant TEXT, conference TEXT, started TEXT, ended TEXT, asked TEXT, lost TEXT,
    PRIMARY KEY (participant, conference)
) WITHOUT ROWID;
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
# What one run knows besides: the records that it saw (taken: 1; known already or not wanted: 0; NULL: left for a
# later run), whom conferences list, and who of them is missing.
SCRATCH = "PRAGMA temp.journal_mode = OFF; PRAGMA temp.cache_size = -24000;" + "".join(
    f"""
CREATE TEMP TABLE seen_{resource} (
    id TEXT PRIMARY KEY, conference TEXT, page INTEGER, sweep INTEGER, taken INTEGER
) WITHOUT ROWID;
"""
    for resource in (CONFERENCE, PARTICIPANT)
)
SCRATCH += """
CREATE TEMP TABLE left_over (id TEXT, ended TEXT);
CREATE TEMP TABLE wanted (id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TEMP TABLE listed (participant TEXT, conference TEXT);
CREATE TEMP TABLE listing (id TEXT PRIMARY KEY, started TEXT, ended TEXT) WITHOUT ROWID;
CREATE TEMP TABLE missing (
    participant TEXT, conference TEXT, started TEXT, ended TEXT, asked TEXT, lost TEXT,
    PRIMARY KEY (participant, conference)
) WITHOUT ROWID;
"""
EXPORTED = {
    CONFERENCE: "EXISTS (SELECT 1 FROM main.conference WHERE id = column1 AND exported)",
    PARTICIPANT: "EXISTS (SELECT 1 FROM main.participant WHERE id = column1)",
}
MOST_VALUES = 30_000  # of one statement; SQLite takes 32,766


class Ledger:
    """The ledger of one data folder."""

    def __init__(self, connection: sqlite3.Connection, version: int = SCHEMA_VERSION) -> None:
        self.db, self.version = connection, version
        self.sweep = self._page = 0

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing."""
        with self.scratch() as db:
            db.execute("COMMIT")
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")

    @contextmanager
    def scratch(self) -> Iterator[sqlite3.Connection]:
        """For changes to scratch tables alone; they are committed with the ledger's next transaction.

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

    # How far

    def mark(self, resource: str) -> datetime | None:
        """Where the last window of the resource ended; None before the first."""
        (text,) = self.db.execute("SELECT mark FROM resource WHERE name = ?", (resource,)).fetchone()
        return parse_time(text)

    def fact(self, name: str) -> datetime | None:
        """`first`, `reconciled` or `complete`."""
        row = self.db.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return parse_time(row[0]) if row else None

    def first(self, start: datetime, *, known: bool = False) -> datetime:
        """Where collection began: where the first window started when it was first tried; there now, if `known`."""
        begun = self.fact("first")
        # A start that lies ahead of a first window was written while the clock was ahead.
        if begun is None or known or (start < begun and not self.mark(CONFERENCE) and not self.mark(PARTICIPANT)):
            with self.transaction() as db:
                for name in ("first", "complete"):
                    db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, format_time(start)))
            return start
        return begun

    # What this run sees

    def fresh(self, resource: str, page: Page, wanted_only: bool = False) -> list[int]:
        """Places in a page of the records that no run exported and this one did not see; they count as taken."""
        if not page.ids:
            return []
        self._page += 1
        new = f"NOT {EXPORTED[resource]}"
        if wanted_only:  # what is not wanted goes on waiting
            new = f"iif({new}, iif(EXISTS (SELECT 1 FROM wanted WHERE id = column1), 1, NULL), 0)"
        column = page.column("conference")
        of = {uri: uri_id(uri) for uri in set(column)} if all(isinstance(c, str) for c in column) else {}
        conferences = map(of.get, column) if of else map(uri_id, column)
        values = list(itertools.chain.from_iterable(zip(page.ids, conferences, strict=True)))
        found: list[tuple[str, int]] = []
        with self.scratch() as db:
            for part, places in _rows(values):
                sql = (
                    f"INSERT INTO seen_{resource} SELECT column1, column2, ?, ?, {new}"
                    f" FROM (VALUES {places}) WHERE true"
                    " ON CONFLICT DO UPDATE SET sweep = excluded.sweep, taken = coalesce(taken, excluded.taken),"
                    " page = iif(taken IS NULL, excluded.page, 0) RETURNING id, page AND taken"
                )
                found += db.execute(sql, [self._page, self.sweep, *part])
        fresh = {i for i, is_fresh in found if is_fresh}
        if len(fresh) == len(page.ids):
            return list(range(len(page.ids)))
        # A page may hold one twice: the first counts.
        return [place for place, i in enumerate(page.ids) if i in fresh and not fresh.discard(i)]  # type: ignore[func-returns-value]

    def let_wait(self, resource: str, records: Sequence[tuple[str, str]]) -> None:
        """These records (id, end time) wait for a later run after all."""
        with self.scratch() as db:
            db.executemany(f"UPDATE seen_{resource} SET taken = NULL WHERE id = ?", ((i,) for i, _ in records))
            db.executemany("INSERT INTO left_over VALUES (?, ?)", records)

    def want_oldest(self, resource: str, most: int) -> int:
        """Want the oldest of what waits, so many at most; how many they are."""
        with self.scratch() as db:
            db.execute("DELETE FROM wanted")
            waits = f"id IN (SELECT id FROM seen_{resource} WHERE taken IS NULL)"
            sql = f"INSERT OR IGNORE INTO wanted SELECT id FROM left_over WHERE {waits} ORDER BY ended, id LIMIT ?"
            return db.execute(sql, (most,)).rowcount

    def want_missing(self) -> None:
        """Want the participants that are missing."""
        with self.scratch() as db:
            db.execute("DELETE FROM wanted")
            db.execute("INSERT OR IGNORE INTO wanted SELECT participant FROM missing WHERE lost IS NULL")

    def leave(self, resource: str, ids: Iterable[str]) -> None:
        """These records are not to be taken."""
        self.db.executemany(f"UPDATE seen_{resource} SET taken = 0 WHERE id = ?", ((i,) for i in ids))

    def swept(self, resource: str) -> int:
        """How many records the present sweep has seen."""
        return self.one(f"SELECT count(*) FROM seen_{resource} WHERE sweep = ?", self.sweep)

    def listed_before(self) -> bool:
        """Whether the present sweep saw a conference that an earlier run exported, or no run exported any."""
        seen = "SELECT 1 FROM seen_conference WHERE sweep = ? AND NOT taken"
        return bool(
            self.one(
                f"SELECT EXISTS ({seen} AND id IN (SELECT id FROM main.conference WHERE exported))"
                " OR NOT EXISTS (SELECT 1 FROM main.conference WHERE exported)",
                self.sweep,
            )
        )

    # Participants that conferences list

    def expect(self, conferences: Page) -> None:
        """Note whom the conferences list."""
        ends = conferences.ends
        times = zip(conferences.ids, map(_text, conferences.column("start_time")), ends, strict=True)
        with self.scratch() as db:
            db.executemany("INSERT OR IGNORE INTO listing VALUES (?, ?, ?)", times)
            for part, places in _rows(list(itertools.chain.from_iterable(listings(conferences)))):
                db.execute(f"INSERT INTO listed VALUES {places}", part)

    def find_missing(self) -> None:
        """Find who of those listed, now and by earlier runs, no run has."""
        with self.scratch() as db:
            db.execute("INSERT INTO missing SELECT * FROM main.expected")
            db.execute(
                "INSERT INTO missing SELECT participant, conference, started, ended, NULL, NULL FROM listed"
                " JOIN listing ON listing.id = conference"
                " WHERE NOT EXISTS (SELECT 1 FROM seen_participant WHERE id = participant AND taken)"
                " AND NOT EXISTS (SELECT 1 FROM main.participant WHERE id = participant)"
                " ON CONFLICT DO UPDATE SET started = excluded.started, ended = excluded.ended,"
                " asked = iif(lost IS NULL, asked, NULL), lost = NULL"
            )
            # One that was lost with its conference may be listed by another, to which it was transferred.
            db.execute(
                "DELETE FROM missing WHERE lost IS NOT NULL"
                " AND participant IN (SELECT participant FROM missing WHERE lost IS NULL)"
            )
            db.execute(
                "DELETE FROM missing WHERE EXISTS (SELECT 1 FROM seen_participant WHERE id = participant AND taken)"
            )

    def to_ask(self, now: datetime) -> list[tuple[str, int, str | None, str | None]]:
        """The conferences to ask for their participants: (id, how many are missing, its start, its end).

        None that was asked for within a day.
        """
        return self.db.execute(
            "SELECT conference, count(*), min(started), max(ended) FROM missing WHERE lost IS NULL"
            " AND NOT coalesce(asked > ? AND asked <= ?, 0) GROUP BY conference ORDER BY 4, 1",
            (format_time(now - DAY), format_time(now)),
        ).fetchall()

    def asked(self, conference: str, now: datetime) -> None:
        """The node was asked for this conference's participants; those that came are no longer missing."""
        with self.scratch() as db:
            db.execute(
                "DELETE FROM missing WHERE conference = ? AND participant IN (SELECT id FROM seen_participant"
                " WHERE taken)",
                (conference,),
            )
            db.execute("UPDATE missing SET asked = ? WHERE conference = ?", (format_time(now), conference))

    def still_missing(self) -> set[str]:
        """The conferences of which participants are missing that can still come."""
        self.db.execute(
            "DELETE FROM missing WHERE EXISTS (SELECT 1 FROM seen_participant WHERE id = participant AND taken)"
        )
        return {c for (c,) in self.db.execute("SELECT DISTINCT conference FROM missing WHERE lost IS NULL")}

    def newly_missing(self) -> bool:
        """Whether someone was asked for in vain whom no earlier run had asked for."""
        return bool(
            self.one(
                "SELECT EXISTS (SELECT 1 FROM missing WHERE asked IS NOT NULL AND lost IS NULL AND participant NOT IN"
                " (SELECT participant FROM main.expected WHERE asked IS NOT NULL))"
            )
        )

    def give_up(self, sweep: int, now: datetime) -> list[tuple[str, int]]:
        """Count as lost what is missing of conferences that a sweep of the whole list did not see; how many."""
        gone = "lost IS NULL AND conference NOT IN (SELECT id FROM seen_conference WHERE sweep = ?)"
        self.db.execute(  # who is listed by another is not lost, or is lost once
            f"DELETE FROM missing WHERE {gone} AND EXISTS (SELECT 1 FROM missing AS other"
            " WHERE other.participant = missing.participant AND other.lost IS NULL AND (other.conference <"
            " missing.conference OR other.conference IN (SELECT id FROM seen_conference WHERE sweep = ?)))",
            (sweep, sweep),
        )
        query = f"SELECT conference, count(*) FROM missing WHERE {gone} GROUP BY 1"
        found = self.db.execute(query, (sweep,)).fetchall()
        self.db.execute(f"UPDATE missing SET lost = ? WHERE {gone}", (format_time(now), sweep))
        return found

    # The commit point

    def commit(
        self,
        files: Sequence[Staged],
        run: Mapping[str, object],
        marks: Mapping[str, datetime],
        facts: Mapping[str, datetime | None],
        now: datetime,
        forget: bool,
    ) -> None:
        """One transaction: what was taken, what is missing, how far, and the files to publish.

        After it the rows are exported, whatever happens; before it nothing was. `forget`: the node's whole
        list was read, so what it no longer lists can go.
        """
        until, today = f"{now + KEPT:%Y-%m-%d}", f"{now:%Y-%m-%d}"
        with self.transaction() as db:
            for resource, mark in marks.items():
                db.execute("UPDATE resource SET mark = ? WHERE name = ?", (format_time(mark), resource))
            for name, moment in facts.items():
                db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, moment and format_time(moment)))
            db.execute(
                "INSERT INTO main.conference SELECT id, ?, 1 FROM seen_conference WHERE taken"
                " ON CONFLICT DO UPDATE SET exported = 1",
                (until,),
            )
            db.execute(
                "UPDATE main.conference SET until = ? WHERE until <> ? AND id IN (SELECT id FROM seen_conference)",
                (until, until),
            )
            db.execute(
                "INSERT OR IGNORE INTO main.participant SELECT id, coalesce(conference, id)"
                " FROM seen_participant WHERE taken"
            )
            db.execute("DELETE FROM main.expected")
            db.execute("INSERT INTO main.expected SELECT * FROM missing")
            if forget:
                self._forget(today, f"{now + KEPT_UNLISTED:%Y-%m-%d}", format_time(now - KEPT_UNLISTED))
            for file in files:
                row = (file.run, file.resource, file.stem, file.head, file.rows)
                db.execute("INSERT INTO staged VALUES (?, ?, ?, ?, ?, NULL)", row)
            _update_run(db, files[0].run, run)
        if 2 * self.one("PRAGMA freelist_count") > self.one("PRAGMA page_count") > 2000:
            self.db.execute("VACUUM")  # as large as what the node holds, whatever it was rebuilt from

    def _forget(self, today: str, a_year_on: str, a_year_ago: str) -> None:
        self.db.execute(
            "INSERT OR IGNORE INTO main.conference SELECT DISTINCT conference, ?, 0 FROM main.participant",
            (a_year_on,),
        )
        self.db.execute("DELETE FROM main.conference WHERE until < ?", (today,))
        self.db.execute("DELETE FROM main.participant WHERE conference NOT IN (SELECT id FROM main.conference)")
        self.db.execute("DELETE FROM main.expected WHERE lost < ?", (a_year_ago,))

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
            db.execute("DELETE FROM run WHERE id <= (SELECT max(id) FROM run) + 1 - ?", (RUNS_KEPT,))
            sql = "INSERT INTO run (started, outcome) VALUES (?, 'running')"
            return int(db.execute(sql, (format_time(started),)).lastrowid or 0)

    def note_run(self, run: int, **values: object) -> None:
        with self.transaction() as db:
            _update_run(db, run, values)

    def runs(self, most: int) -> list[dict[str, object]]:
        """The last runs, newest first."""
        cursor = self.db.execute("SELECT * FROM run ORDER BY id DESC LIMIT ?", (most,))
        return [dict(zip([c[0] for c in cursor.description], row, strict=True)) for row in cursor]


def _text(value: object) -> str | None:
    return as_text(value) if value else None


def open_ledger(folder: Path) -> Ledger | None:
    """The ledger in the folder, empty where there is none (version 0); None when an unusable one is there.

    Raises CollectorError where a newer collector wrote it.
    """
    path = folder / "ledger.sqlite"
    for name in (path, folder / "ledger.sqlite-journal"):
        refuse_other_kinds(name)
    db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
    try:
        # EXTRA also syncs the folder when the journal goes: a commit that power can take back
        # after its rows were published would publish them twice.
        db.executescript("PRAGMA journal_mode = DELETE; PRAGMA synchronous = EXTRA;")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application == APPLICATION_ID and version > SCHEMA_VERSION:
            raise CollectorError(
                f"{path} was written by a newer collector (version {version}, this one knows"
                f" {SCHEMA_VERSION}); run that version again, or move the folder {folder} away to have"
                " the ledger rebuilt from the CSV files"
            )
        if tables and application != APPLICATION_ID:
            raise sqlite3.DatabaseError("not a ledger")
        if tables and db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("damaged")
        # Scratch tables belong on the data volume: /tmp may be memory. SQLITE_TMPDIR is read as sqlite3 is imported.
        quoted = str(folder).replace("'", "''")
        db.execute(f"PRAGMA temp_store_directory = '{quoted}'")
        db.executescript(SCRATCH)
    except sqlite3.OperationalError:
        db.close()
        raise
    except sqlite3.DatabaseError:
        db.close()
        return None
    except BaseException:
        db.close()
        raise
    return Ledger(db, version if tables else 0)


def _rows(values: list[str | None]) -> Iterator[tuple[list[str | None], str]]:
    """The values, two a row, for a statement at a time: executemany would let go of the interpreter for each row."""
    for start in range(0, len(values), MOST_VALUES):
        part = values[start : start + MOST_VALUES]
        yield part, ",".join(["(?,?)"] * (len(part) // 2))


def _update_run(db: sqlite3.Connection, run: int, values: Mapping[str, object]) -> None:
    columns = ", ".join(f"{name} = ?" for name in values)
    db.execute(f"UPDATE run SET {columns} WHERE id = ?", (*values.values(), run))
