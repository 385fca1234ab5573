"""Peaks of each location and tag by itself, what was there at a peak, and which conferences were above a number.

All of one period: its connections are those that were there in it, whenever they came.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pexip_history.history.schema import quoted

from .concurrency import COUNT, WIDE, Measure, Peak
from .period import Span

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SHOWN = 5
"""Rooms that are named of a peak; the others are put together."""
GATEWAY = "calls through the gateway"
"""These have a name of their own each, often somebody's."""


@dataclass(frozen=True)
class Apart:
    """The peaks of one value of a column: of participants and of licenses, each by itself."""

    participants: int
    licenses: int
    at: datetime | None
    """When there were first that many participants, local."""


@dataclass(frozen=True)
class There:
    """A room that was there at a peak, and with how many."""

    room: str | None
    """None: calls that are in no room."""
    count: int


def stay(db: DuckDBPyConnection, span: Span) -> None:
    """Make `stay`: the connections that were there in that span, cut to it, with `seconds` and whole `lasted`."""
    start, end = span
    db.execute(f"""
        CREATE OR REPLACE TEMP TABLE stay AS
        SELECT * EXCLUDE (starts, ends), greatest(starts, TIMESTAMP '{start}') AS starts,
               least(ends, TIMESTAMP '{end}') AS ends, {COUNT} AS held FROM participant
        WHERE ends > starts AND starts < TIMESTAMP '{end}' AND ends > TIMESTAMP '{start}'""")


def peaks_by(db: DuckDBPyConnection, column: str) -> dict[str | None, Apart]:
    """By each value of the column (None for those without) the peaks within what `stay` made."""
    # At one moment those who leave come first: so what is there in between is no more than before, or after it.
    mine = f"FROM stay JOIN named ON {column} IS NOT DISTINCT FROM name WHERE person(protocol, service)"
    rows = db.execute(f"""
        WITH named AS (SELECT row_number() OVER () AS number, name FROM (SELECT DISTINCT {column} AS name FROM stay)),
        event AS (SELECT number, starts AS t, 1 AS people, held {mine}
                  UNION ALL SELECT number, ends, -1, -held {mine}),
        level AS (SELECT number, t, sum(people + held * {WIDE}::DOUBLE) OVER w AS pair FROM event
                  WINDOW w AS (PARTITION BY number ORDER BY t, people ROWS UNBOUNDED PRECEDING)),
        apart AS (SELECT number, pair::BIGINT % {WIDE} AS people, max(pair::BIGINT // {WIDE}) AS held, min(t) AS t
                  FROM level GROUP BY number, people)
        SELECT any_value(name), max(people), max(held), local(arg_max(t, people))
        FROM apart JOIN named USING (number) GROUP BY number""").fetchall()
    return {name: Apart(*rest) for name, *rest in rows}


def there(db: DuckDBPyConnection, measure: Measure, peak: Peak) -> list[There]:
    """Which rooms were there at that moment, the largest first; calls that are in no room are one of them."""
    at = f"TIMESTAMP '{peak.moment}'"
    if measure.column == "conferences":
        source, count = f"conference WHERE meeting(service) AND starts <= {at} AND ends > {at}", "1"
    else:
        whose = {"participants": "person(protocol, service)", "licenses": "true", "license_others": "true"}
        mine = whose.get(measure.column, f"license = {quoted(measure.name)}")
        count = "1" if measure.column == "participants" else COUNT
        source = f"participant WHERE {mine} AND starts <= {at} AND ends > {at}"
    rows = db.execute(f"""
        SELECT CASE WHEN held_in(room, service) THEN room END AS name, sum({count})::BIGINT AS n FROM {source}
        GROUP BY name HAVING n > 0 ORDER BY n DESC, name""").fetchall()
    return [There(*row) for row in rows]


def conferences_above(db: DuckDBPyConnection, license_type: str, number: int) -> int:
    """How many conferences had a connection of that type while there were more licenses of it than that number."""
    mine = f"FROM stay WHERE license = {quoted(license_type)} AND held > 0"
    [(conferences,)] = db.execute(
        f"""
        WITH event AS (SELECT starts AS t, held {mine} UNION ALL SELECT ends, -held {mine}),
        moment AS (SELECT t, sum(held) AS held FROM event GROUP BY t),
        level AS (SELECT t, lead(t) OVER (ORDER BY t) AS until,
                         sum(held) OVER (ORDER BY t ROWS UNBOUNDED PRECEDING) AS level FROM moment),
        above AS (SELECT t, until FROM level WHERE level > ?)
        SELECT count(DISTINCT coalesce(conference::VARCHAR, room, '')) FROM
            (SELECT conference, room, starts, ends {mine}) AS one ASOF JOIN above ON above.t < one.ends
        WHERE above.until > one.starts""",
        [number],
    ).fetchall()
    return int(conferences)
