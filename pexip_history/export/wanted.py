"""What is asked of an export, and the rows that are meant, as SQL over the tables of history/."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pexip_history.errors import CollectorError
from pexip_history.export.choices import QUALITIES
from pexip_history.folder.people import FIELD, LOCAL, Person
from pexip_history.history.schema import quoted
from pexip_history.messages import sentence
from pexip_history.report.period import lacking, midnight

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PERSON = (*FIELD.values(), LOCAL)
"""The columns that tell whose a row is."""
FETCHED = 5000
BLANKS = r"^[\s\p{Z}]+|[\s\p{Z}]+$"


class Misused(CollectorError):
    """What was asked for is not there, or contradicts itself: exit 2."""


@dataclass(frozen=True)
class Wanted:
    """Local days, both included, or None for all; texts in which `*` stands for any text."""

    table: str
    format: str = "xlsx"
    first: date | None = None
    last: date | None = None
    columns: tuple[str, ...] = ()
    tag: str | None = None
    room: str | None = None
    location: str | None = None
    quality: str | None = None
    person: Person | None = None
    delimiter: str = ","
    hide_names: bool = False
    round_up: bool = False

    def __post_init__(self) -> None:
        if self.first and self.last and self.first > self.last:
            raise Misused(sentence("days-reversed", first=self.first, last=self.last))

    @property
    def whose(self) -> bool:
        """Whether participants decide, also where conferences or streams are asked for."""
        return bool(self.location or self.quality or self.person)

    @property
    def period(self) -> str:
        """In words, empty for all."""
        first, last = self.first, self.last
        if first and last:
            return f"{first}" if first == last else f"{first} to {last}"
        return f"from {first}" if first else f"until {last}" if last else ""


def within(wanted: Wanted, zone: ZoneInfo) -> str:
    """The condition that a row began in the period."""
    bounds = []
    if wanted.first:
        bounds.append(f"start_time >= TIMESTAMP '{midnight(wanted.first, zone)}'")
    if wanted.last:
        bounds.append(f"start_time < TIMESTAMP '{midnight(wanted.last + timedelta(days=1), zone)}'")
    return " AND ".join(bounds) or "true"


def trimmed(column: str) -> str:
    """The SQL for a text without blanks around it; NULL for an empty one."""
    return f"nullif(regexp_replace({column}, '{BLANKS}', '', 'g'), '')"


def like(column: str, pattern: str, case: bool) -> str:
    """The condition that the column, without blanks around it, is the pattern; an empty pattern: that it is empty."""
    if not pattern.strip():
        return f"{trimmed(column)} IS NULL"
    escaped = pattern.strip().replace("!", "!!").replace("%", "!%").replace("_", "!_").replace("*", "%")
    return f"{trimmed(column)} {'LIKE' if case else 'ILIKE'} {quoted(escaped)} ESCAPE '!'"


def participants(db: DuckDBPyConnection, wanted: Wanted, zone: ZoneInfo) -> str:
    """The condition for the participants that are meant."""
    conditions = [within(wanted, zone)]
    if wanted.tag is not None:
        conditions.append(like("service_tag", wanted.tag, True))
    for column, pattern in (("conference_name", wanted.room), ("system_location", wanted.location)):
        if pattern is not None:
            conditions.append(like(column, pattern, False))
    if wanted.quality:
        conditions.append(f"call_quality IN ({', '.join(map(quoted, QUALITIES[wanted.quality]))})")
    if wanted.person:
        find(db, wanted.person)
        conditions.append("rowid IN (SELECT place FROM meant)")
    return " AND ".join(conditions)


def find(db: DuckDBPyConnection, person: Person) -> None:
    """Make `meant`: the places (rowid) of the participants that `erase` would find too."""
    db.execute("CREATE TEMP TABLE meant (place BIGINT)")
    is_theirs = person.finder(PERSON)
    found: list[int] = []
    rows = db.cursor().execute(f"SELECT rowid, {', '.join(PERSON)} FROM history.participant")
    while some := rows.fetchmany(FETCHED):
        found += [place for place, *cells in some if is_theirs([cell or "" for cell in cells])]
    for start in range(0, len(found), FETCHED):
        db.execute("INSERT INTO meant SELECT unnest(?)", [found[start : start + FETCHED]])


def conferences(wanted: Wanted, zone: ZoneInfo) -> str:
    """The condition for the conferences that are meant."""
    conditions = [within(wanted, zone)]
    if wanted.tag is not None:
        conditions.append(like("tag", wanted.tag, True))
    if wanted.room is not None:
        conditions.append(like("name", wanted.room, False))
    if wanted.whose:
        conditions.append("id IN (SELECT conference_id(conference) FROM chosen)")
    return " AND ".join(conditions)


def uncovered(
    coverage: Sequence[Sequence[str]], wanted: Wanted, zone: ZoneInfo, now: datetime
) -> list[tuple[datetime, datetime]]:
    """The spans (naive, UTC) of the period that coverage lacks; of an open period up to its first or last day.

    `coverage` is that of operate/status.peek, `now` naive UTC.
    """
    covered = sorted((datetime.fromisoformat(start), datetime.fromisoformat(end)) for start, end in coverage)
    begin = midnight(wanted.first, zone) if wanted.first else covered[0][0] if covered else now
    end = midnight(wanted.last + timedelta(days=1), zone) if wanted.last else now
    return lacking(covered, begin, end)
