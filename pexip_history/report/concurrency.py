"""How many were there at the same time: a sweep over all joins and leaves, in DuckDB.

A connection is there from its start until just before its end, [start, end): who leaves at the moment in which
another joins is not counted together with them, and one that lasted no time never was there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import zip_longest
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pexip_history.history.schema import quoted

from .period import Period, Span
from .reading import Reading

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

KINDS = 5
"""License types with a peak of their own; what is beyond the most used ones is put together."""
OTHERS = "other types"
WIDE = 1 << 26
"""More than there are at one time of anything; two such numbers fit into the 53 bits of a DOUBLE."""
COUNT = "coalesce(licenses, 0)"
"""Of a connection's licenses."""
SLOT = 900
"""Seconds. Levels are cut at each quarter of an hour, since local hours and days of every zone begin with one."""


@dataclass(frozen=True)
class Measure:
    """What is counted: its column in the sweep, and its words."""

    column: str
    name: str


@dataclass(frozen=True)
class Peak:
    """The most at one time within a span of days."""

    since: date
    most: int
    at: datetime
    """When that was first reached, local."""
    seconds: int
    """How long it stayed at 90 % of it or more, all times together."""
    moment: datetime
    """The same as `at`; naive, UTC."""


def local_times(db: DuckDBPyConnection, zone: ZoneInfo, first: datetime, last: datetime) -> None:
    """Make local(t), the zone's clock at a UTC time between these; by zoneinfo, as the rest of the collector does."""
    changes = _changes(zone, first - timedelta(days=1), last + timedelta(days=1))
    db.execute(f"CREATE MACRO local(t) AS t + to_seconds({_offset(changes)})")


def _offset(changes: Sequence[tuple[datetime, int]]) -> str:
    """The seconds ahead at t, as SQL that halves the changes: a hundred years have two hundred."""
    if len(changes) == 1:
        return f"{changes[0][1]}"
    half = len(changes) // 2
    since = f"TIMESTAMP '{changes[half][0]}'"
    return f"CASE WHEN t >= {since} THEN {_offset(changes[half:])} ELSE {_offset(changes[:half])} END"


def _changes(zone: ZoneInfo, first: datetime, last: datetime) -> list[tuple[datetime, int]]:
    """From when on (naive, UTC) the zone is how many seconds ahead, beginning before `first`."""

    def offset(moment: datetime) -> int:
        ahead = zone.utcoffset(moment.replace(tzinfo=UTC).astimezone(zone))
        return int(ahead.total_seconds()) if ahead else 0

    found = [(first, offset(first))]
    while first < last:
        after = first + timedelta(days=1)
        if offset(after) != offset(first):
            low, high = first, after
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) / 2
                low, high = (middle, high) if offset(middle) == offset(first) else (low, middle)
            found.append((high.replace(microsecond=0), offset(after)))
        first = after
    return found


def sweep(
    db: DuckDBPyConnection, archive: Reading, covered: Sequence[Span], owned: Sequence[str] = ()
) -> list[Measure]:
    """Make `held`: for each day and measure how long (seconds) each level was held, and when first.

    `covered` are the spans of the averages, `owned` the license types that get a measure whether they are
    much used or not.
    """
    measures, deltas = _measures(db, archive, owned)
    columns = [measure.column for measure in measures]
    pairs = [f"pair{place // 2}" for place in range(0, len(columns), 2)]
    _note_events(db, [deltas[column] for column in columns], covered)
    _carry(db, pairs)
    _hold(db, columns, pairs)
    return measures


def _note_events(db: DuckDBPyConnection, deltas: Sequence[tuple[str, str]], covered: Sequence[Span]) -> None:
    """Make `event`: by how much the measures change, and when.

    Two measures are one DOUBLE, since it is the sums that take the time; the first has a bit for what is covered too.
    """
    db.execute("CREATE TABLE edge (t TIMESTAMP, covered INTEGER)")
    if covered:
        db.executemany("INSERT INTO edge VALUES (?, ?)", [(at, by) for a, b in covered for at, by in ((a, 1), (b, -1))])

    def paired(sign: str, which: int) -> str:
        each = [f"({delta[which]})::INTEGER" for delta in deltas]
        pairs = zip_longest(each[::2], each[1::2], fillvalue="0")
        return ", ".join(f"{sign}({one} + {other} * {WIDE}::DOUBLE) AS pair{n}" for n, (one, other) in enumerate(pairs))

    none = ", 0" * ((len(deltas) - 1) // 2)
    db.execute(f"""
        CREATE VIEW event AS
        SELECT starts AS t, {paired("", 0)} FROM participant WHERE ends > starts
        UNION ALL SELECT ends, {paired("-", 0)} FROM participant WHERE ends > starts
        UNION ALL SELECT starts, {paired("", 1)} FROM conference WHERE ends > starts AND meeting(service)
        UNION ALL SELECT ends, {paired("-", 1)} FROM conference WHERE ends > starts AND meeting(service)
        UNION ALL SELECT t, covered * {WIDE * WIDE}::DOUBLE{none} FROM edge""")


def _carry(db: DuckDBPyConnection, pairs: Sequence[str]) -> None:
    """Make `slot`: the quarters of an hour in which somebody was there, or something changes."""
    net = ", ".join(f"sum({pair}) AS {pair}" for pair in pairs)
    after = ", ".join(f"sum({pair}) OVER (ORDER BY slot ROWS UNBOUNDED PRECEDING) AS {pair}" for pair in pairs)
    somebody = " OR ".join(f"{pair} <> 0" for pair in pairs)
    # Slots in which nobody came or went are there as far as somebody stayed.
    db.execute(f"""
        CREATE TABLE slot AS
        WITH net AS (SELECT epoch_us(t) // {SLOT}000000 AS slot, {net} FROM event GROUP BY ALL),
        moved AS (SELECT slot, {after}, lead(slot) OVER (ORDER BY slot) AS next FROM net),
        carried AS (SELECT slot FROM moved UNION ALL SELECT unnest(range(slot + 1, next)) FROM moved
                    WHERE next > slot + 1 AND ({somebody}))
        SELECT slot, make_timestamp(slot * {SLOT}000000) AS t,
               local(t)::DATE AS day, hour(local(t)) AS hour FROM carried""")


def _hold(db: DuckDBPyConnection, columns: Sequence[str], pairs: Sequence[str]) -> None:
    """Make `held` of the slots and the events within them."""
    sums = ", ".join(f"sum({pair}) OVER (ROWS UNBOUNDED PRECEDING) AS {pair}" for pair in pairs)
    apart = ", ".join(
        f"pair{place // 2}::BIGINT {f'// {WIDE} % {WIDE}' if place % 2 else f'% {WIDE}'} AS {column}"
        for place, column in enumerate(columns)
    )
    each = " ".join(
        f"""UNION ALL SELECT day, NULL, '{column}', {column}, min(t), sum(lasted) / 1e6, NULL, NULL, NULL
            FROM level GROUP BY day, {column}"""
        for column in columns
    )
    # A sum over rows as they come takes a third of the time of one that sorts them itself; that they come in order is
    # looked at. At one moment several come and go: of these the last alone lasts, and its levels are none below zero.
    db.execute(f"""
        CREATE TABLE held AS
        WITH step AS (FROM event UNION ALL SELECT t{", 0" * len(pairs)} FROM slot),
        summed AS (SELECT t, lead(t) OVER () AS next, {sums} FROM (FROM step ORDER BY t)),
        timed AS (SELECT *, epoch_us(t) // {SLOT}000000 AS slot,
                         CASE WHEN next < t THEN error('not in the order of time')
                         ELSE least(epoch_us(next), (slot + 1) * {SLOT}000000) - epoch_us(t)
                         END AS lasted FROM summed),
        level AS (SELECT day, hour, timed.t, lasted, {apart}, pair0 >= {WIDE * WIDE} AS covered
                  FROM timed JOIN (SELECT slot, day, hour FROM slot) USING (slot) WHERE lasted > 0)
        SELECT day, hour, 'presence' AS measure, NULL::BIGINT AS level, NULL::TIMESTAMP AS reached,
               NULL::DOUBLE AS seconds, sum(lasted * participants) / 1e6 AS presence,
               coalesce(sum(lasted) FILTER (covered), 0) / 1e6 AS covered,
               coalesce(sum(lasted * participants) FILTER (covered), 0) / 1e6 AS mean_of
        FROM level GROUP BY day, hour {each}""")


def _measures(
    db: DuckDBPyConnection, archive: Reading, owned: Sequence[str]
) -> tuple[list[Measure], dict[str, tuple[str, str]]]:
    """What is counted, and of each how much a connection and a conference add."""
    measures = [Measure("participants", "participants"), Measure("conferences", "conferences")]
    deltas = {"participants": ("person(protocol, service)", "0"), "conferences": ("0", "1")}
    if archive.has("participant", "licenses"):
        measures.append(Measure("licenses", "licenses"))
        deltas["licenses"] = (COUNT, "0")
    if archive.has("participant", "licenses", "license"):
        used = f"SELECT license FROM participant WHERE {COUNT} > 0 GROUP BY license ORDER BY count(*) DESC, license"
        kinds = [kind for (kind,) in db.execute(used).fetchall()]
        most = KINDS if len(kinds) <= KINDS else KINDS - 1
        alone = [*owned, *(kind for kind in kinds if kind not in owned)][: max(most, len(owned))]
        for number, kind in enumerate(alone):
            measures.append(Measure(f"license{number}", kind))
            deltas[f"license{number}"] = (f"CASE WHEN license = {quoted(kind)} THEN {COUNT} ELSE 0 END", "0")
        if set(kinds) - set(alone):
            measures.append(Measure("license_others", OTHERS))
            listed = ", ".join(map(quoted, alone))
            deltas["license_others"] = (f"CASE WHEN license IN ({listed}) THEN 0 ELSE {COUNT} END", "0")
    return measures, deltas


def peaks(db: DuckDBPyConnection, measure: Measure, span: str, first: date, last: date) -> Sequence[Peak]:
    """By `span` (day, week, month, year; without one: once) the peaks of the days from first to last."""
    since = f"date_trunc('{span}', day)::DATE" if span else "DATE '2000-01-01'"
    rows = db.execute(
        f"""
        WITH mine AS (SELECT {since} AS since, level, min(reached) AS reached, sum(seconds) AS seconds
                      FROM held WHERE measure = ? AND day BETWEEN ? AND ? GROUP BY ALL),
        most AS (SELECT since, max(level) AS most FROM mine GROUP BY ALL)
        SELECT since, most, local(min(reached) FILTER (level = most)),
               round(sum(seconds) FILTER (level * 10 >= most * 9))::BIGINT, min(reached) FILTER (level = most)
        FROM mine JOIN most USING (since) WHERE most > 0 GROUP BY since, most ORDER BY since""",
        [measure.column, first, last],
    ).fetchall()
    return [Peak(*row) for row in rows]


def peak(db: DuckDBPyConnection, measure: Measure, first: date, last: date) -> Peak | None:
    """The peak of all these days together."""
    found = peaks(db, measure, "", first, last)
    return found[0] if found else None


def presence(db: DuckDBPyConnection, period: Period) -> dict[tuple[int, int], float]:
    """By weekday (Monday 1) and hour how many participants were there on the average, over what is covered."""
    rows = db.execute(
        """
        SELECT isodow(day), hour, sum(mean_of) / sum(covered) FROM held
        WHERE measure = 'presence' AND day BETWEEN ? AND ? GROUP BY ALL HAVING sum(covered) > 0""",
        [period.first, period.last],
    ).fetchall()
    return {(weekday, hour): mean for weekday, hour, mean in rows}


def hours(db: DuckDBPyConnection, span: str, first: date, last: date) -> dict[date, float]:
    """By span how long participants were there in it, all together, whenever they came; hours."""
    since = f"date_trunc('{span}', day)::DATE" if span else f"DATE '{first}'"
    rows = db.execute(
        f"SELECT {since} AS since, coalesce(sum(presence), 0) / 3600 FROM held "
        "WHERE measure = 'presence' AND day BETWEEN ? AND ? GROUP BY ALL",
        [first, last],
    ).fetchall()
    return dict(rows)


def above(db: DuckDBPyConnection, measure: Measure, number: int, period: Period) -> tuple[float, int]:
    """How long (seconds) there were more than that number, and on how many days."""
    [(seconds, days)] = db.execute(
        """
        SELECT coalesce(sum(seconds), 0), count(DISTINCT day) FROM held
        WHERE measure = ? AND level > ? AND day BETWEEN ? AND ?""",
        [measure.column, number, period.first, period.last],
    ).fetchall()
    return seconds, days
