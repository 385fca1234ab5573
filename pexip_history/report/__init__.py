"""report.html: what the history says, as one page that needs no network.

DuckDB and Jinja are imported by this package alone, and only when a report is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pexip_history.errors import CollectorError
from pexip_history.messages import sentence

from .facts import Facts, coverage_of, known_of
from .output import check_output, where, write
from .period import A_DAY, Coverage, Period, choose_period, midnight, month_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from .material import Material
    from .queries import Queries, Totals
    from .reading import Reading

__all__ = ["Facts", "Page", "choose_period", "write_report"]

GROUP = 122_880
"""Rows of the page's few columns that are written at once."""


@dataclass(frozen=True)
class Page:
    """A page that was written."""

    path: Path
    figures: Sequence[str] = ()
    """The answers of its first screen, a line each: for a message that cannot carry the page."""


@dataclass(frozen=True)
class Wish:
    """What is asked of a page. `first` and `last` are local days, both included."""

    zone: ZoneInfo
    first: date | None
    last: date | None
    hide_names: bool
    licenses: Mapping[str, int] = field(default_factory=dict)
    rooms: Sequence[str] | None = None


def write_report(
    data: Path,
    output: Path,
    *,
    zone: ZoneInfo,
    first: date | None = None,
    last: date | None = None,
    month: tuple[int, int] | None = None,
    licenses: Mapping[str, int] | None = None,
    rooms: Sequence[str] | None = None,
    hide_names: bool = False,
    facts: Facts,
    now: datetime | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Page:
    """Write the page on the files in `data` to `output`, whole or not at all.

    `first` and `last` are local days, both included, `month` a year and a month instead; without them the period is
    the last 30 whole days. `licenses` are those owned by type, `rooms` the names of all that are configured.
    `progress` is told each step as it begins, and of a long one each second how far it is (from a thread). The file
    gets the process's owner and umask.
    Raises CollectorError where the page cannot be made or written, or something else is in its place.
    """
    if first and last and first > last:
        raise CollectorError(sentence("days-reversed", first=first, last=last))
    made = (now or datetime.now(UTC)).astimezone(zone)
    asked = month_of(*month) if month else None
    days = (asked.first, asked.last) if asked else (first, last)
    wish = Wish(zone, *days, hide_names, licenses or {}, rooms)
    try:
        check_output(output, data)
        page, figures = _make(data, wish, facts, made, progress)
        progress(f"writing {output}")
        write(output, page)
    except OSError as error:
        at = where(output) if str(error.filename or "").endswith(".new") or not error.filename else error.filename
        raise CollectorError(sentence("report-not-written", where=at, why=error.strerror)) from error
    return Page(output, figures)


def _make(
    data: Path, wish: Wish, facts: Facts, made: datetime, progress: Callable[[str], None]
) -> tuple[str, Sequence[str]]:
    import duckdb

    from pexip_history.history.database import database, workshop

    from . import page
    from .reading import load_all

    try:
        with workshop(data, "report") as folder, database(folder, group=GROUP) as db:
            archive = load_all(db, data, folder, facts.rows, progress)
            material = _material(db, archive, wish, facts, made, progress)
            progress("drawing")
            return page.render(material, page.made_text(made, facts.version)), page.figures(material)
    except duckdb.Error as error:
        said = str(error).partition("\n")[0]
        raise CollectorError(sentence("report-fails", why=said)) from error


def _know_local_times(
    db: DuckDBPyConnection, zone: ZoneInfo, before: Period, period: Period, known: Sequence[datetime]
) -> None:
    """Local time for all that the page looks at."""
    from . import concurrency

    moments = [midnight(before.first, zone), midnight(period.last + A_DAY, zone)]
    moments += [moment.astimezone(UTC).replace(tzinfo=None) for moment in known]
    concurrency.local_times(db, zone, min(moments), max(moments))


def _totals(db: DuckDBPyConnection, queries: Queries, period: Period) -> Totals:
    from . import concurrency

    return queries.totals(period, sum(concurrency.hours(db, "", period.first, period.last).values()))


def _last_known(coverage: Coverage, newest: datetime | None, zone: ZoneInfo) -> datetime | None:
    """Up to when the history tells of all there was, or has a record; None where it has neither."""
    ends = [end.replace(tzinfo=UTC).astimezone(zone) for _, end in coverage.spans[-1:]] if coverage.known else []
    return max([*ends, *([newest] if newest else [])], default=None)


def _material(
    db: DuckDBPyConnection,
    archive: Reading,
    wish: Wish,
    facts: Facts,
    made: datetime,
    progress: Callable[[str], None],
) -> Material:
    from . import apart, concurrency
    from .material import Material
    from .queries import Queries

    oldest, newest = _bounds(db, made)
    coverage = coverage_of(facts, oldest, newest, made)
    period, before = choose_period(wish.first, wish.last, oldest, _last_known(coverage, newest, wish.zone), made)
    _know_local_times(db, wish.zone, before, period, [at for at in (oldest, newest) if at])
    progress("counting who was there at the same time")
    covered = coverage.within(Period(before.first, period.last))  # of two that meet, a sum of both would lose a digit
    measures = concurrency.sweep(db, archive, covered, tuple(wish.licenses))
    queries = Queries(db, archive, period)
    then, now = (_totals(db, queries, each) for each in (before, period))
    apart.stay(db, period.span(wish.zone))
    return Material(
        db=db,
        archive=archive,
        queries=queries,
        period=period,
        before=before,
        zone=wish.zone,
        coverage=coverage,
        measures=measures,
        hide_names=wish.hide_names,
        known=known_of(facts, archive.sources, made, oldest, newest),
        any=oldest is not None,
        totals=now,
        totals_before=then,
        owned=wish.licenses,
        rooms=wish.rooms,
    )


def _bounds(db: DuckDBPyConnection, made: datetime) -> tuple[datetime | None, datetime | None]:
    """When the first record began, and the last one ended, of those that count; local, None without records.

    A row with a time far ahead, as an edit can leave it, is not the last one unless all are ahead.
    """
    soon = (made + A_DAY).astimezone(UTC).replace(tzinfo=None)
    [row] = db.execute(
        """
        SELECT min(starts), coalesce(max(late) FILTER (late < ?), max(late))
        FROM (SELECT starts, greatest(starts, ends) AS late FROM participant WHERE ends IS NOT NULL
              UNION ALL SELECT starts, greatest(starts, ends) FROM conference WHERE ends IS NOT NULL)
        WHERE starts IS NOT NULL""",
        [soon],
    ).fetchall()
    first, last = (moment and moment.replace(tzinfo=UTC).astimezone(made.tzinfo) for moment in row)
    return first, last
