"""How the node rated the calls of the chosen period, by day, hour and place; packet loss; alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from .blocks import hour_text
from .period import Period, Span
from .queries import NOT_TOLD, ROWS, named

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LEAST = 20
"""Rated calls that a location, node, room, client or protocol must have to be ranked by its bad ones."""
WORST = 8
QUALITIES = ("1_good", "2_ok", "3_bad", "4_terrible", "0_unknown")
RATED = "quality IN ('1_good', '2_ok', '3_bad', '4_terrible')"
BAD = "quality IN ('3_bad', '4_terrible')"
COUNTS = f"count(*) FILTER ({RATED}) AS rated, count(*) FILTER ({BAD}) AS bad"


@dataclass(frozen=True)
class Bad:
    """How many of the rated calls of one place were bad or terrible."""

    name: str
    rated: int
    bad: int

    @property
    def share(self) -> float:
        return self.bad / self.rated if self.rated else 0.0


@dataclass(frozen=True)
class Loss:
    location: str
    kind: str
    streams: int
    mean: float
    """Percent, the worse of the two directions."""
    over: int
    """Streams that lost more than 1 %."""


@dataclass(frozen=True)
class Alarm:
    """One kind of alarm: how often it was raised, and how long it stood in the period."""

    name: str
    level: str
    node: str
    times: int
    hours: float
    last: datetime
    """When it was raised last, local."""


def quality(db: DuckDBPyConnection, span: str) -> list[tuple[date, list[int]]]:
    """Of each span how many were of each of QUALITIES; any other is unknown."""
    counts = ", ".join(f"count(*) FILTER (quality = '{quality}')" for quality in QUALITIES[:-1])
    rows = db.execute(f"""
        SELECT date_trunc('{span}', day)::DATE AS since, {counts}, count(*) FROM people
        GROUP BY since ORDER BY since""").fetchall()
    return [(since, [*known, every - sum(known)]) for since, *known, every in rows]


def by_hour(db: DuckDBPyConnection) -> dict[int, Bad]:
    """By the local hour in which the calls began, those of the day that have rated ones."""
    rows = db.execute(
        f"SELECT hour(local(starts)) AS hour, {COUNTS} FROM people GROUP BY hour HAVING rated > 0 ORDER BY hour"
    ).fetchall()
    return {hour: Bad(hour_text(hour), rated, bad) for hour, rated, bad in rows}


def worst(db: DuckDBPyConnection, column: str, least: int = LEAST, most: int = WORST) -> list[Bad]:
    """The places with the largest share of bad calls, of those with enough rated ones."""
    if column == "room":
        source = f"(SELECT room AS name, {COUNTS} FROM people WHERE held_in(room, service) GROUP BY ALL)"
    else:
        source = named(column, COUNTS)
    rows = db.execute(f"""
        SELECT name, sum(rated)::BIGINT AS rated, sum(bad)::BIGINT AS bad FROM {source}
        GROUP BY name HAVING sum(rated) >= {least} ORDER BY sum(bad) / sum(rated) DESC, sum(rated) DESC, name
        LIMIT {most}""").fetchall()
    return [Bad(*row) for row in rows]


def crossed(db: DuckDBPyConnection) -> dict[tuple[str, str], Bad]:
    """By location and protocol, those that have rated calls."""
    source = named("location", COUNTS, f", coalesce(protocol, '{NOT_TOLD}') AS protocol")
    rows = db.execute(f"SELECT name, protocol, rated, bad FROM {source} WHERE rated > 0").fetchall()
    return {(location, protocol): Bad(location, rated, bad) for location, protocol, rated, bad in rows}


def loss(db: DuckDBPyConnection) -> list[Loss]:
    """Packet loss by location and kind of media, of those who joined in the period."""
    rows = db.execute(f"""
        SELECT coalesce(location, '{NOT_TOLD}'), coalesce(kind, '{NOT_TOLD}'), count(*) AS streams, avg(lost),
               count(*) FILTER (lost > 1) AS over
        FROM (SELECT location, kind, greatest(received, sent) AS lost
              FROM stream JOIN people ON stream.participant = people._key)
        WHERE lost BETWEEN 0 AND 100
        GROUP BY 1, 2 ORDER BY avg(lost) DESC, streams DESC, 1, 2 LIMIT {2 * ROWS}""").fetchall()
    return [Loss(*row) for row in rows]


def alarms(db: DuckDBPyConnection, span: Span) -> Sequence[Alarm]:
    """Those that stood in the period, of licenses and capacity first, then by how long they stood."""
    start, end = (f"TIMESTAMP '{moment}'" for moment in span)
    rows = db.execute(f"""
        SELECT coalesce(name, '{NOT_TOLD}') AS what, coalesce(level, '{NOT_TOLD}') AS level,
               CASE count(DISTINCT node) WHEN 0 THEN '' WHEN 1 THEN min(node) ELSE count(DISTINCT node) || ' nodes' END,
               count(*), sum(greatest(epoch(least(lowered, {end}) - greatest(raised, {start})), 0)) / 3600 AS hours,
               local(max(raised))
        FROM alarm WHERE raised < {end} AND coalesce(lowered, {end}) >= {start}
        GROUP BY what, level
        ORDER BY regexp_matches(lower(what), 'licen[cs]e|capacity') DESC, hours DESC NULLS LAST, count(*) DESC, what
        LIMIT {ROWS}""").fetchall()
    return [Alarm(name, level, node, times, hours or 0.0, last) for name, level, node, times, hours, last in rows]


def of_period(db: DuckDBPyConnection, period: Period) -> Bad:
    """All rated calls of a period, whichever is chosen."""
    [row] = db.execute(
        f"SELECT {COUNTS} FROM participant_day WHERE person(protocol, service) AND day BETWEEN ? AND ?",
        [period.first, period.last],
    ).fetchall()
    return Bad(period.name, *row)
