"""The ledger's tables, and opening it: SQLite, rollback journal, every commit synced."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from pexip_history.errors import CollectorError
from pexip_history.folder.names import STEM
from pexip_history.folder.opening import own, refuse_other_kinds
from pexip_history.messages import sentence
from pexip_history.resources import BY_NAME, FILES, RESOURCES

APPLICATION_ID, SCHEMA_VERSION = 0x50784852, 3
LEDGER = "ledger.sqlite"
MOST_STEPS = 200_000_000
"""Of SQLite's machine, for one statement of those who only read: a second or two. A ledger that another has written
into must not keep `health` from answering."""
STEP = 1_000_000
"""Of these steps, how many are taken between two looks at their count."""
IDS = "\n".join(
    f"CREATE TABLE {r.name} (id TEXT PRIMARY KEY, conference TEXT) STRICT, WITHOUT ROWID;" for r in RESOURCES
)
SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
-- reconciled: when the node's whole list was last compared; doubt: why it is to be compared again; since: what ended
-- before is not wanted (as version 1.1 left it); unknown_before: gaps before that day are not known, the ledger was
-- lost; kept_from: what is older was removed (DATA_KEEP_HISTORY_DAYS); by_key: what waits may be in the aggregates, its
-- keys tell.
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT) STRICT, WITHOUT ROWID;
-- rows: published; bytes, tail: the aggregate's size after that, and what it ended with (a hash); oldest: the earliest
-- time of a record that was exported.
CREATE TABLE resource (
    name TEXT PRIMARY KEY, rows INTEGER NOT NULL DEFAULT 0, bytes INTEGER, tail TEXT, oldest TEXT
) STRICT, WITHOUT ROWID;
INSERT INTO resource (name) VALUES {", ".join(f"('{resource.name}')" for resource in FILES)};
-- Coverage: merged half-open spans. kind: covered; gap, asked for when the node had forgotten it; before, asked for
-- and older than the first record that the node had.
CREATE TABLE span (
    resource TEXT, kind TEXT, "start" TEXT NOT NULL, "end" TEXT NOT NULL, PRIMARY KEY (resource, "start")
) STRICT, WITHOUT ROWID;
-- What was exported. `conference` is the one that a participant belongs to, and a conference's own id.
{IDS}
-- The day up to which the ids of a conference and of its participants are kept.
CREATE TABLE kept (conference TEXT PRIMARY KEY, until TEXT NOT NULL) STRICT, WITHOUT ROWID;
-- Participants that conferences list and no run has. lost: when the node said that it is gone (404).
CREATE TABLE expected (
    participant TEXT PRIMARY KEY, conference TEXT NOT NULL, started TEXT, ended TEXT, asked TEXT, lost TEXT
) STRICT, WITHOUT ROWID;
-- Conferences that the node lists without an end time, and since when.
CREATE TABLE endless (id TEXT PRIMARY KEY, seen TEXT NOT NULL) STRICT, WITHOUT ROWID;
-- The dated files that are known.
CREATE TABLE file (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE run (
    id INTEGER PRIMARY KEY, started TEXT NOT NULL, finished TEXT, outcome TEXT NOT NULL, message TEXT,
    window_start TEXT, window_end TEXT, conferences INTEGER, participants INTEGER, late INTEGER,
    waiting INTEGER, by_hand INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE staged (
    pair INTEGER, resource TEXT, stem TEXT NOT NULL, head INTEGER NOT NULL, rows INTEGER NOT NULL,
    size INTEGER, PRIMARY KEY (pair, resource)
) STRICT, WITHOUT ROWID;
"""
JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
"""At a journal's end: it names another journal (sqlite.org/fileformat2.html, "The Rollback Journal")."""


class Damaged(sqlite3.DatabaseError):
    """What is there is no ledger, or one that something else wrote into."""


def connect(path: Path, *, only_read: bool = False) -> sqlite3.Connection:
    """Open a database of ours; a link, a FIFO or the like is refused. Raises CollectorError, sqlite3.Error."""
    journal = path.with_name(f"{path.name}-journal")
    for name in (path, journal):
        refuse_other_kinds(name)
    if not only_read:
        _refuse_super_journal(journal)
    uri = f"{path.absolute().as_uri()}?mode={'ro' if only_read else 'rwc'}"
    db = sqlite3.connect(uri, uri=True, timeout=10, isolation_level=None, check_same_thread=False)
    with closed_on_failure(db):
        db.executescript("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")
        if only_read:
            db.execute("PRAGMA query_only = ON")
            pieces = itertools.count(STEP, STEP)
            db.set_progress_handler(lambda: next(pieces) > MOST_STEPS, STEP)
        else:
            # EXTRA also syncs the folder when the journal goes: a commit that a power cut can take back after its
            # rows were published would publish them twice.
            db.executescript("PRAGMA journal_mode = DELETE; PRAGMA synchronous = EXTRA;")
    return db


@contextmanager
def closed_on_failure(db: sqlite3.Connection) -> Iterator[None]:
    """The connection stays open, but where what is done within fails."""
    try:
        yield
    except BaseException:
        db.close()
        raise


def version_of(db: sqlite3.Connection, path: Path) -> int:
    """The version of the tables that are there, 0 without any. Raises Damaged, or CollectorError where it is newer."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    entries = db.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    if application == APPLICATION_ID and version > SCHEMA_VERSION:
        raise CollectorError(
            sentence("ledger-newer", file=path, version=version, known=SCHEMA_VERSION, folder=path.parent)
        )
    if not entries:
        return 0
    if application != APPLICATION_ID:
        raise Damaged("not a ledger")
    # A view, a trigger or a column that is computed would run whatever another wrote into it.
    if version == SCHEMA_VERSION:
        check_tables(db, SCHEMA)
    if version < SCHEMA_VERSION and any(kind != "table" and sql for kind, _, sql in entries):
        raise Damaged("more than tables")
    return int(version)


def check_tables(db: sqlite3.Connection, schema: str) -> None:
    """Hold what the database has to the schema, to the letter. Raises Damaged."""
    with closing(sqlite3.connect(":memory:")) as made:
        made.executescript(schema)
        ours, theirs = (each.execute("SELECT type, name, sql FROM sqlite_master").fetchall() for each in (made, db))
    if sorted(ours, key=str) != sorted(theirs, key=str):
        raise Damaged("tables that are not ours")


def check_pages(db: sqlite3.Connection) -> None:
    """Raises Damaged where what the file holds contradicts itself."""
    if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise Damaged("damaged")


def _check_staged(db: sqlite3.Connection) -> None:
    """The names of files come from here: none may lead out of the folder. Raises Damaged."""
    for resource, stem in db.execute("SELECT resource, stem FROM staged"):
        if resource not in BY_NAME or not STEM.fullmatch(str(stem)):
            raise Damaged("a file name that is not the ledger's")


def _refuse_super_journal(path: Path) -> None:
    """A journal of ours names no other file; SQLite would delete the one that it names. Raises Damaged."""
    with suppress(FileNotFoundError), open(path, "rb", opener=own) as journal:
        journal.seek(max(0, journal.seek(0, os.SEEK_END) - len(JOURNAL_MAGIC)))
        if journal.read() == JOURNAL_MAGIC:
            raise Damaged("a journal that names another file")


def open_to_write(folder: Path) -> tuple[sqlite3.Connection, int] | None:
    """The ledger in `.collector` and its version, 0 where it is new; None where what is there cannot be used.

    Raises CollectorError where a newer collector wrote it, sqlite3.OperationalError where it cannot be opened now.
    """
    path = folder / LEDGER
    try:
        db = connect(path)
        with closed_on_failure(db):
            if version := version_of(db, path):
                check_pages(db)
                _check_staged(db)
            # Scratch tables belong on the data volume: /tmp may be memory. SQLITE_TMPDIR is read on sqlite3's import.
            quoted = str(folder).replace("'", "''")
            db.execute(f"PRAGMA temp_store_directory = '{quoted}'")
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        return None
    return db, version
