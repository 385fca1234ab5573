"""report.html: what the history says, as one page that needs no network.

DuckDB and Jinja are imported by this package alone, and only when a report is made.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pexip_history.errors import CollectorError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from .queries import Period

DAYS = 30
MEMORY = "256MB"
THREADS = 2
EARLIEST, LATEST = date(2000, 1, 1), date(2100, 12, 31)


@dataclass(frozen=True)
class Facts:
    """What the ledger knows of the history, and the files do not tell; times are aware."""

    version: str
    complete_since: datetime | None = None
    reconciled: datetime | None = None
    """When the history was last compared with the node's whole list."""
    waiting: int = 0
    """Rows that are staged and not in the files yet."""
    lost: Sequence[tuple[datetime | None, int]] = ()
    """Participants that the node forgot before they came: when that was noticed, and how many."""
    gaps: Sequence[tuple[datetime, datetime]] = ()
    """Spans of time that no run has asked for."""


def write_report(
    data: Path,
    output: Path,
    *,
    zone: ZoneInfo,
    first: date | None = None,
    last: date | None = None,
    hide_names: bool = False,
    facts: Facts,
    now: datetime | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> None:
    """Write the page on the files in `data` to `output`, whole or not at all.

    `first` and `last` are local days, both included; without them the period is the last 30 whole days up to the
    newest record. `progress` is told each step as it begins, and of a long one each second how far it is (from a
    thread). The file gets the process's owner and umask.
    Raises CollectorError where a file is none of ours, or where the page cannot be made or written.
    """
    if first and last and first > last:
        raise CollectorError(f"--from {first} is after --to {last}; the first day comes first")
    made = (now or datetime.now(UTC)).astimezone(zone)
    try:
        with _workshop(data) as folder, _database(folder) as db:
            page = _make(db, data, zone, first, last, hide_names, facts, made, progress)
        progress(f"writing {output}")
        _write(output, page)
    except OSError as error:
        where = error.filename or output
        raise CollectorError(
            f"the report cannot be made: {where}: {error.strerror}; "
            "make it readable and writable, or name another place with --output"
        ) from error


def _make(
    db: DuckDBPyConnection,
    data: Path,
    zone: ZoneInfo,
    first: date | None,
    last: date | None,
    hide_names: bool,
    facts: Facts,
    made: datetime,
    progress: Callable[[str], None],
) -> str:
    import duckdb

    from . import concurrency, page, reading
    from .blocks import counted
    from .material import Material
    from .queries import Queries

    try:
        archive = reading.load(db, data, progress)
        oldest, newest, latest = _bounds(db, made, zone)
        period, before = choose_period(first, last, oldest, newest, made)
        midnights = [concurrency.midnight(day, zone) for day in (before.first, period.last + timedelta(days=1))]
        known = [moment.astimezone(UTC).replace(tzinfo=None) for moment in (oldest, latest) if moment]
        concurrency.local_times(db, zone, min(midnights + known), max(midnights + known))
        progress("counting who was there at the same time")
        measures = concurrency.sweep(db, archive)
        queries = Queries(db, archive)
        queries.choose(before)
        totals_before = queries.totals()
        queries.choose(period)
        if unreadable := queries.unreadable():
            archive.remarks.append(
                f"{counted(unreadable, 'row')} without a start and an end that can be read: not counted in any time."
            )
        progress("drawing")
        material = Material(
            db=db,
            archive=archive,
            queries=queries,
            period=period,
            before=before,
            zone=zone,
            measures=measures,
            hide_names=hide_names,
            known=_known(list(archive.sources.values()), facts, made, oldest, latest),
            oldest=_since(oldest, facts, zone),
            totals=queries.totals(),
            totals_before=totals_before,
        )
        return page.render(material, page.made_text(made, facts.version))
    except duckdb.Error as error:
        said = str(error).partition("\n")[0]
        raise CollectorError(f"the report cannot be made: {said}") from error


def _since(oldest: datetime | None, facts: Facts, zone: ZoneInfo) -> date | None:
    """The local day from which on the history tells of all there was; None where it holds no record."""
    known = [moment.astimezone(zone) for moment in (oldest, facts.complete_since) if moment]
    return min(known).date() if oldest else None


def _bounds(db: DuckDBPyConnection, made: datetime, zone: ZoneInfo) -> tuple[datetime | None, ...]:
    """When the first record began, the last one began, and the last one ended; local, None without records.

    A row with a time far ahead, as an edit can leave it, is not the last one unless all are ahead.
    """
    soon = (made + timedelta(days=1)).astimezone(UTC).replace(tzinfo=None)
    row = db.execute(
        """
        SELECT min(starts), coalesce(max(starts) FILTER (starts < ?), max(starts)), max(greatest(starts, ends))
        FROM (SELECT starts, ends FROM participant UNION ALL SELECT starts, ends FROM conference)""",
        [soon],
    ).fetchone()
    return tuple(moment and moment.replace(tzinfo=UTC).astimezone(zone) for moment in row or (None, None, None))


def choose_period(
    first: date | None, last: date | None, oldest: datetime | None, newest: datetime | None, made: datetime
) -> tuple[Period, Period]:
    """The period, and the one of the same length before it.

    `oldest` and `newest` are when the first and the last record began, local. Today is no whole day yet, so the
    default leaves it out where there is another.
    """
    from .queries import Period

    if last is None:
        yesterday = made.date() - timedelta(days=1)
        last = newest.date() if newest else yesterday
        if oldest and last == made.date() and oldest.date() < last:
            last = yesterday
        last = max(last, first) if first else last
    last = min(max(last, EARLIEST), LATEST)
    first = min(max(first or max(last, EARLIEST + timedelta(days=DAYS)) - timedelta(days=DAYS - 1), EARLIEST), last)
    length = last - first
    end = max(first - timedelta(days=1), EARLIEST)
    return Period(first, last), Period(max(end - length, EARLIEST), end)


def _known(
    sources: Sequence[str], facts: Facts, made: datetime, oldest: datetime | None, newest: datetime | None
) -> list[tuple[str, str]]:
    """The facts, in words; times local."""

    def when(moment: datetime | None, otherwise: str) -> str:
        return f"{moment.astimezone(made.tzinfo):%Y-%m-%d %H:%M}" if moment else otherwise

    lost = [f"{count:,} participant(s) ({when(moment, 'time not known')})" for moment, count in facts.lost if count]
    gaps = [f"{when(start, '')} to {when(end, '')}" for start, end in facts.gaps]
    return [
        ("Made", f"{made:%Y-%m-%d %H:%M}"),
        ("Read from", "; ".join(sources) or "no files: the data folder holds none of the history's"),
        ("First record", when(oldest, "none")),
        ("Last record", when(newest, "none")),
        ("Complete since", when(facts.complete_since, "not known; the collector's ledger does not tell")),
        ("Compared with the node's whole list", when(facts.reconciled, "not yet")),
        ("Gaps", "; ".join(_few(gaps)) or "none known"),
        ("Waiting for the next run", f"{facts.waiting:,} row(s), not on this page" if facts.waiting else "nothing"),
        ("Lost for good", "; ".join(_few(lost)) or "nothing known"),
    ]


def _few(texts: list[str]) -> list[str]:
    return texts if len(texts) <= 8 else [f"{len(texts) - 7} earlier ones", *texts[-7:]]


@contextmanager
def _workshop(data: Path) -> Iterator[Path]:
    """A folder in `.collector`, which has the room that the files have; gone afterwards."""
    hidden = data / ".collector"
    if data.is_dir():
        hidden.mkdir(exist_ok=True)
    _clear(hidden.glob("report-*"))
    folder = Path(tempfile.mkdtemp(prefix="report-", dir=hidden))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _database(folder: Path) -> Iterator[DuckDBPyConnection]:
    """DuckDB on disk, bounded in memory; it neither installs nor loads anything that did not come with it."""
    import duckdb

    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY,
        "threads": THREADS,
        "temp_directory": str(folder / "temp"),
        "extension_directory": str(folder / "none"),
        "home_directory": str(folder),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "preserve_insertion_order": False,
    }
    with duckdb.connect(folder / "history.duckdb", config=settings) as db:
        db.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = true; SET enable_progress_bar_print = false")
        db.execute("SET lock_configuration = true")
        yield db


def _write(output: Path, page: str) -> None:
    """A draft beside it takes its place; a link there is replaced, never followed."""
    _clear(output.parent.glob(f".{output.name}.*.new"))
    draft = output.parent / f".{output.name}.{os.getpid()}.new"
    draft.unlink(missing_ok=True)
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(page.encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)


def _clear(paths: Iterator[Path]) -> None:
    """Remove what reports that were killed have left, a day ago or longer."""
    for path in paths:
        if path.stat().st_mtime < time.time() - 86_400:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
