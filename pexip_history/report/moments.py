"""When bad calls were bad: what the node noted of every 20 seconds of them (pexHistoryQuality.csv)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pexip_history.messages import counted

from . import charts
from .blocks import HOURS, Figure, Table, clock, hour_text, moment_text, percent, shown
from .charts import Words
from .material import Material
from .queries import NOT_TOLD, ROWS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

STEP = 20
"""Seconds that a rating stands for."""
MOST = 10_000
"""Ratings that are read of one call: two days and more."""


@dataclass(frozen=True)
class Hour:
    """Of a local hour of the day the minutes of bad calls that were rated, and those that were bad or terrible."""

    hour: int
    rated: float
    bad: float


@dataclass(frozen=True)
class Call:
    """A call with its bad minutes, and after how many seconds the first of them came."""

    began: datetime
    room: str | None
    location: str
    rated: float
    bad: float
    first: int


def note(db: DuckDBPyConnection) -> None:
    """Make `moment`: of each call of the chosen period that was asked for, each rating (1 good to 4 terrible)."""
    db.execute(f"""
        CREATE OR REPLACE TEMP TABLE moment AS
        WITH listed AS (SELECT participant, regexp_extract_all(ratings, '[0-9]+|null')[1:{MOST}] AS each FROM quality),
        apart AS (SELECT participant, unnest(each) AS rating, generate_subscripts(each, 1) - 1 AS place FROM listed)
        SELECT _key, starts, room, service, location, place, rating IN ('3', '4') AS bad
        FROM apart JOIN people ON participant = _key WHERE rating IN ('1', '2', '3', '4')""")


def hours(db: DuckDBPyConnection) -> list[Hour]:
    rows = db.execute(f"""
        SELECT hour(local(starts + to_seconds(place * {STEP}))) AS hour, count(*) * {STEP} / 60.0,
               count(*) FILTER (bad) * {STEP} / 60.0
        FROM moment GROUP BY hour HAVING hour IS NOT NULL ORDER BY hour""").fetchall()
    return [Hour(*row) for row in rows]


def worst(db: DuckDBPyConnection) -> list[Call]:
    """Those with the most bad minutes."""
    rows = db.execute(f"""
        SELECT local(any_value(starts)), any_value(CASE WHEN held_in(room, service) THEN room END),
               coalesce(any_value(location), '{NOT_TOLD}'), count(*) * {STEP} / 60.0,
               count(*) FILTER (bad) * {STEP} / 60.0 AS minutes, min(place) FILTER (bad) * {STEP}
        FROM moment GROUP BY _key HAVING minutes > 0 ORDER BY minutes DESC, 1, _key LIMIT {ROWS}""").fetchall()
    return [Call(*row) for row in rows]


def blocks(m: Material) -> list[object]:
    """For the section on quality; none where no call was asked for."""
    if m.lacks("quality", "ratings"):
        return []
    note(m.db)
    found = hours(m.db)
    if not found:
        return []
    bad, rated = sum(each.bad for each in found), sum(each.rated for each in found)
    said = (
        f"When bad calls were bad: {bad:,.0f} of their {rated:,.0f} minutes were bad or terrible, rated every {STEP} "
        "seconds."
    )
    return [said, _by_hour(found), _calls(m)]


def _by_hour(found: Sequence[Hour]) -> list[object]:
    caption = "Bad minutes of bad calls by hour of the day"
    words = Words("bad-minutes", caption, f"{counted(len(found), 'hour')} of the day.")
    by = {each.hour: each.bad for each in found}
    series = [("bad", [round(by.get(hour, 0)) for hour in map(int, HOURS)])]
    picture = charts.columns(words, HOURS, series, "bad minutes")
    rows = [
        (hour_text(each.hour), round(each.bad, 1), round(each.rated, 1), percent(each.bad, each.rated))
        for each in found
    ]
    return [Figure(caption, picture), Table(caption, ("hour", "bad minutes", "of rated", "share"), rows, folded=True)]


def _calls(m: Material) -> Table:
    rows = [
        (
            moment_text(each.began),
            "no room" if each.room is None else m.room(each.room),
            shown(each.location),
            clock(each.bad * 60),
            clock(each.rated * 60),
            clock(each.first),
        )
        for each in worst(m.db)
    ]
    head = ("began", "room", "location", "bad or terrible", "of rated", "first after")
    return Table("Calls with the most bad minutes", head, rows)
