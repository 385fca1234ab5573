"""What is being rewritten: `.collector/rewriting.sqlite`, from the decision until every file is done.

It holds ids of rows and names of files, and nobody's name. A run or an `erase` that finds one goes on with it.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pexip_history.archive import manifest
from pexip_history.archive.editing import Changing, Edited, Moved, edit
from pexip_history.archive.holdings import AGGREGATE, DATED_FILE, WAITING, Holding
from pexip_history.errors import CollectorError, explain
from pexip_history.folder.names import DATED
from pexip_history.ledger.ledger import Ledger
from pexip_history.ledger.rewritten import begin_rewriting, settle_rewriting
from pexip_history.ledger.schema import check_pages, check_tables, closed_on_failure, connect
from pexip_history.messages import sentence

JOURNAL = "rewriting.sqlite"
SCHEMA = """
-- Rows to empty: by the participant's id what of them is the person's (people.OWN, people.CALLED).
CREATE TABLE IF NOT EXISTS row (id TEXT PRIMARY KEY, what INTEGER NOT NULL) STRICT, WITHOUT ROWID;
-- Dated files that were rewritten, or were about to be, and whose line in the manifest is not written yet.
CREATE TABLE IF NOT EXISTS file (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
"""
IN_MEMORY = 50_000
"""Rows that are looked up in memory; more of them in the file."""

log = logging.getLogger("collector")


class Journal:
    """The journal of one data folder; for the process that holds the lock."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._known: dict[str, int] | None = None

    def add(self, id: str, what: int) -> None:
        """Have a row emptied: the person's are the columns that `what` says."""
        self._db.execute(
            "INSERT INTO row VALUES (?, ?) ON CONFLICT DO UPDATE SET what = what | excluded.what", (id, what)
        )

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Rows that are added within are all noted at its end, or none where it fails."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield
        self._known = None

    def rows(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM row").fetchone()[0])

    def what(self, id: str) -> int:
        """What of the row with this id is to be emptied; 0: nothing."""
        if self._known is None:
            many = self.rows() > IN_MEMORY
            self._known = {} if many else dict(self._db.execute("SELECT id, what FROM row"))
            self._many = many
        if not self._many:
            return self._known.get(id, 0)
        found = self._db.execute("SELECT what FROM row WHERE id = ?", (id,)).fetchone()
        return int(found[0]) if found else 0

    def will_rewrite(self, name: str) -> None:
        """Note a dated file whose line in the manifest will be due."""
        self._db.execute("INSERT OR IGNORE INTO file VALUES (?)", (name,))

    def rewritten(self) -> list[str]:
        return [name for (name,) in self._db.execute("SELECT name FROM file ORDER BY name")]

    def noted(self) -> None:
        """The manifest has the lines of the files that were rewritten."""
        self._db.execute("DELETE FROM file")

    def finished(self) -> None:
        """The rows are emptied everywhere."""
        self._db.execute("DELETE FROM row")
        self._known = None


def exists(folder: Path) -> bool:
    """Whether something is under way; `folder` is `.collector`."""
    return (folder / JOURNAL).exists()


@contextmanager
def open_journal(folder: Path) -> Iterator[Journal]:
    """The journal in `.collector`; it is removed at the end where nothing is left in it.

    One that is damaged, or that something else wrote, is removed and begun again. Raises CollectorError where no file
    can be, sqlite3.Error.
    """
    path = folder / JOURNAL
    try:
        db = _open(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        log.warning(sentence("erasure-note-damaged", path=path))
        for name in (path.with_name(f"{JOURNAL}-journal"), path):
            name.unlink(missing_ok=True)
        db = _open(path)
    journal = Journal(db)
    try:
        yield journal
    finally:
        with closing(db), suppress(sqlite3.Error):
            if not journal.rows() and not journal.rewritten():
                path.unlink(missing_ok=True)


def _open(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.DatabaseError where something else is there."""
    db = connect(path)
    with closed_on_failure(db):
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            check_tables(db, SCHEMA)
        db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
        check_pages(db)
    return db


@contextmanager
def scratch_journal() -> Iterator[Journal]:
    """One that leaves no trace: to find out what would be done."""
    with closing(sqlite3.connect("", isolation_level=None)) as db:
        db.executescript(SCHEMA)
        yield Journal(db)


@dataclass
class Result:
    """What it came to, to rewrite the files: rows and files.

    `waits` says of each file that could not be rewritten now why; `unreadable`, of each that never can be.
    """

    rows: int = 0
    files: int = 0
    waits: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def rewrite_all(
    files: Iterable[Holding], work: Callable[[Holding], int], data: Path, journal: Journal, ledger: Ledger
) -> Result:
    """Do the work on each file, which returns how many rows it changed; the manifest is told. Raises sqlite3.Error."""
    result, half = Result(), ledger.half_published()
    for holding in files:
        if holding.kind in (WAITING, AGGREGATE) and holding.resource.name in half:
            result.waits.append(f"{holding.name}: rows of a run are still to be appended")
            continue
        try:
            rows = work(holding)
        except FileNotFoundError:
            continue
        except (OSError, Moved) as error:
            result.waits.append(explain(error, data))
        except CollectorError as error:
            result.unreadable.append(f"{holding.name}: {error}")
        else:
            result.rows, result.files = result.rows + rows, result.files + bool(rows)
    note_rewritten(data, journal)
    return result


def rewrite(holding: Holding, changing: Changing, journal: Journal, ledger: Ledger) -> Edited:
    """Rewrite a CSV file of ours; the ledger is told, and the manifest by `note_rewritten`. Raises what `edit` does."""
    resource = holding.resource.name

    def ready(edited: Edited) -> None:
        if holding.kind == DATED_FILE:
            journal.will_rewrite(holding.name)
        elif holding.kind == AGGREGATE:
            begin_rewriting(ledger, resource, edited.size, edited.gone)

    edited = edit(holding.path, changing, ready)
    if holding.kind == AGGREGATE:
        settle_rewriting(ledger, lambda name: holding.path)
    return edited


def note_rewritten(data: Path, journal: Journal) -> None:
    """Write the manifest's lines for the dated files that were rewritten. Raises CollectorError, OSError."""
    if names := journal.rewritten():
        there = [name for name in names if DATED.fullmatch(name) and (data / name).exists()]
        manifest.note_change(data, manifest.ERASED, there)
        journal.noted()
