"""A person's rows found in every file, and emptied: the rows stay, what says whose they were goes.

1. Every file is read, and the ids of the person's rows are noted in the journal: the decision, in one transaction.
2. Each file that has such a row is rewritten, whole or not at all.
3. The manifest gets the lines of the dated files that changed, and the journal is removed.
From the end of step 1 on, whatever cuts it: the next run or `erase` goes on with what the journal says.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pexip_history.archive.archive import Archive
from pexip_history.archive.editing import Change, Changing, emptied, open_table
from pexip_history.archive.holdings import PARQUET, Holding, holdings, remove_drafts
from pexip_history.archive.journal import Journal, Result, exists, open_journal, rewrite, rewrite_all
from pexip_history.archive.parquet_rows import empty_cells, parquet_cells
from pexip_history.errors import CollectorError
from pexip_history.folder.people import CALLED, LOCAL, OWN, PERSONAL, Person
from pexip_history.folder.reading import cell_of, place_of
from pexip_history.ledger.ledger import Ledger
from pexip_history.ledger.rewritten import settle_rewriting
from pexip_history.messages import counted, sentence

ROOMS = ("conference_name", "name")
"""Columns with a room's name, which may be a person's; it stays."""
MOST_NAMES = 1000
"""Names that are kept to be shown."""

log = logging.getLogger("collector")


@dataclass
class Matches:
    """What of one file is the person's: rows, and the first and last time of them, as the file has it."""

    name: str
    rows: int = 0
    first: str = ""
    last: str = ""

    def add(self, time: str) -> None:
        self.rows += 1
        if time[:4].isdecimal():  # in a row that somebody edited it may be a name, and this goes to the log
            self.first = min(self.first or time, time)
            self.last = max(self.last, time)


@dataclass
class Found:
    """What was found in all files.

    `names` are the values in the person's columns. `similar` is how many rows hold the text within a longer value of
    the column, `rooms` in how many the room's name holds it. `unreadable` are files that nobody can look into.
    """

    files: list[Matches] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    similar: int = 0
    rooms: int = 0
    unreadable: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def span(self) -> tuple[str, str]:
        """The first and the last time, as the files have them."""
        times = [time for file in self.files for time in (file.first, file.last) if time]
        return min(times, default=""), max(times, default="")


# Finding


def find(data: Path, person: Person, journal: Journal, tell: Callable[[str], None]) -> Found:
    """Note the person's rows in the journal, from every file that can be read; `tell` is told each file's name.

    Raises OSError, sqlite3.Error.
    """
    found = Found()
    for holding in holdings(data):
        tell(holding.name)
        try:
            with _cells_of(holding) as (columns, rows):
                _look(holding, columns, rows, person, journal, found)
        except (CollectorError, PermissionError) as error:
            found.unreadable.append(f"{holding.name}: {error}")
    found.files = [file for file in found.files if file.rows]
    return found


@contextmanager
def _cells_of(holding: Holding) -> Iterator[tuple[list[str], Iterable[list[str]]]]:
    if holding.kind == PARQUET:
        wanted = (holding.key, *PERSONAL, *ROOMS, holding.resource.time, "start_time")
        yield parquet_cells(holding.path, list(dict.fromkeys(wanted)))
    else:
        with open_table(holding.path) as table:
            if table.header and holding.key not in table.header:
                raise CollectorError("it has no header with the columns of the history")
            yield table.header, table


def _look(
    holding: Holding, columns: list[str], rows: Iterable[list[str]], person: Person, journal: Journal, found: Found
) -> None:
    here, is_theirs, field = Matches(holding.name), person.finder(columns), person.field
    found.files.append(here)
    key, near = place_of(columns, holding.key), place_of(columns, field)
    time = place_of(columns, holding.resource.time, "start_time")
    said = [(name, columns.index(name)) for name in PERSONAL[:4] if name in columns]
    room = place_of(columns, *ROOMS)
    if not said and room < 0:
        return
    for row in rows:
        if what := is_theirs(row):
            journal.add(id_of(row, key), what)
            here.add(cell_of(row, time)[:26])
            if len(found.names) < MOST_NAMES:
                found.names.update(
                    cell_of(row, place) for name, place in said if what & (CALLED if name == LOCAL else OWN)
                )
        elif person.is_in(cell_of(row, near)):
            found.similar += 1
        found.rooms += person.is_in(cell_of(row, room))


def id_of(row: Sequence[str], place: int) -> str:
    """The row's id; of one without an id, what tells it apart from others and gives nothing away."""
    return cell_of(row, place) or "row " + hashlib.sha256("\0".join(row).encode("utf-8", "surrogatepass")).hexdigest()


# Emptying


def go_on(archive: Archive, ledger: Ledger, journal: Journal) -> Result:
    """Empty what the journal says in every file; what is done already is left as it is. Raises sqlite3.Error.

    A file that cannot be rewritten now waits, and the journal with it.
    """

    def empty(holding: Holding) -> int:
        if holding.kind == PARQUET:
            return _empty_parquet(holding, journal)
        return rewrite(holding, emptying(journal, holding.key), journal, ledger).changed

    files = holdings(archive.data) if journal.rows() else ()
    done = rewrite_all(files, empty, archive.data, journal, ledger)
    if not done.waits:
        journal.finished()
    return done


def emptying(journal: Journal, key: str) -> Changing:
    """The change that empties the personal columns of the rows that the journal names."""

    def changing(columns: list[str]) -> Change:
        place = place_of(columns, key)
        cells = [(CALLED if name == LOCAL else OWN, columns.index(name)) for name in PERSONAL if name in columns]

        def change(row: list[str]) -> list[str]:
            what = journal.what(id_of(row, place)) if cells else 0
            return emptied(row, [cell for of, cell in cells if what & of])

        return change

    return changing


def _empty_parquet(holding: Holding, journal: Journal) -> int:
    own: list[str] = []
    called: list[str] = []
    for row in parquet_cells(holding.path, (holding.key,))[1]:
        what = journal.what(id_of(row, 0))
        own += row if what & OWN else []
        called += row if what & CALLED else []
    if not own and not called:
        return 0
    return empty_cells(holding.path, {name: called if name == LOCAL else own for name in PERSONAL})


def resume(archive: Archive, ledger: Ledger) -> None:
    """Go on with an erasure that was cut, and say so in the log.

    For a run, behind publishing. Raises OSError, sqlite3.Error.
    """
    remove_drafts(archive.data)
    settle_rewriting(ledger, archive.aggregate)
    try:
        if exists(archive.folder):
            with open_journal(archive.folder) as journal:
                _resume(archive, ledger, journal)
    except CollectorError as error:  # something else has its name
        log.warning(sentence("erasure-cannot-go-on", why=error))


def _resume(archive: Archive, ledger: Ledger, journal: Journal) -> None:
    pending, done = journal.rows(), go_on(archive, ledger, journal)
    for reason in done.unreadable:
        log.warning(sentence("erasure-left-out", why=reason))
    for reason in done.waits:
        log.warning(sentence("erasure-waits", why=reason))
    if pending and not done.waits:
        log.info("an erasure was finished: %s in %s", counted(done.rows, "more row"), counted(done.files, "file"))
