"""The page's tables: totals, days, quality, rooms and what was used, of participants that joined in a period.

A connection and a conference belong to the day on which they began, in the zone of TZ, with their whole length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from .reading import Reading

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LEAST = 20
"""Rated calls that a location, node, room or protocol must have to be ranked by its bad ones."""
ROWS = 15
REASONS = 12
MONTHS = 24
QUALITIES = ("1_good", "2_ok", "3_bad", "4_terrible", "0_unknown")

# What a user agent is called by people; the first that is found in it, in this order.
VENDORS = (
    ("pexip infinity connect", "Pexip app"),
    ("pexip", "Pexip app"),
    ("teams", "Microsoft Teams"),
    ("skype", "Skype for Business"),
    ("uccapi", "Skype for Business"),
    ("rtcc/", "Skype for Business"),
    ("roomos", "Cisco room system"),
    ("tandberg", "Cisco room system"),
    ("webex", "Cisco Webex"),
    ("jabber", "Cisco Jabber"),
    ("cisco", "Cisco, other"),
    ("polycom", "Poly room system"),
    ("poly", "Poly room system"),
    ("realpresence", "Poly room system"),
    ("lifesize", "Lifesize"),
    ("yealink", "Yealink"),
    ("huawei", "Huawei"),
    ("logitech", "Logitech"),
    ("avaya", "Avaya"),
    ("zoom", "Zoom"),
    ("sony", "Sony"),
    ("starleaf", "StarLeaf"),
    ("asterisk", "Asterisk"),
    ("linphone", "Linphone"),
    ("edg/", "Edge"),
    ("opr/", "Opera"),
    ("firefox/", "Firefox"),
    ("chrome/", "Chrome"),
    ("crios/", "Chrome"),
    ("safari/", "Safari"),
    ("mozilla/", "other browser"),
)


@dataclass(frozen=True)
class Totals:
    conferences: int
    participants: int
    hours: float
    """All participants' time together."""
    mean: float
    """Length of a participant's stay, minutes."""
    api: int
    """Connections that control a call and have no media; left out of the rest."""
    reception: int
    """Stays in a Virtual Reception; left out of the rest."""


@dataclass(frozen=True)
class Used:
    """One row of what was used: how many participants, and their minutes together."""

    name: str
    participants: int
    minutes: int


@dataclass(frozen=True)
class Bad:
    """How many of the rated calls of one place were bad or terrible."""

    name: str
    rated: int
    bad: int


@dataclass(frozen=True)
class Room:
    name: str
    calls: int
    participants: int
    minutes: int


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
class Period:
    """Local days, both included."""

    first: date
    last: date

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1


class Queries:
    """Over the tables of reading.load; `here` and `people` are of the period that was chosen last."""

    def __init__(self, db: DuckDBPyConnection, archive: Reading) -> None:
        self.db = db
        self.archive = archive
        # What began, as local days; once, since each answer needs it.
        for table in ("participant", "conference"):
            db.execute(f"CREATE VIEW {table}_day AS SELECT *, local(starts)::DATE AS day FROM {table}")

    def choose(self, period: Period) -> None:
        """From now on the answers are about this period."""
        between = f"day BETWEEN DATE '{period.first}' AND DATE '{period.last}'"
        length = "greatest(coalesce(duration, epoch(ends - starts)), 0)"
        self.db.execute(f"""
            CREATE OR REPLACE TEMP TABLE chosen AS SELECT *, {length} AS seconds FROM participant_day WHERE {between};
            CREATE OR REPLACE TEMP VIEW people AS FROM chosen WHERE person(protocol, service);
            CREATE OR REPLACE TEMP TABLE calls AS FROM conference_day WHERE {between} AND meeting(service)""")

    def totals(self) -> Totals:
        people, seconds, api, reception = self._one("""
            SELECT count(*) FILTER (person(protocol, service)), sum(seconds) FILTER (person(protocol, service)),
                   count(*) FILTER (protocol IN ('API', 'BACKPLANE')), count(*) FILTER (NOT meeting(service)
                       AND coalesce(protocol, '') NOT IN ('API', 'BACKPLANE')) FROM chosen""")
        (calls,) = self._one("SELECT count(*) FROM calls")
        seconds = float(seconds or 0)
        return Totals(calls, people, seconds / 3600, seconds / 60 / people if people else 0.0, api, reception)

    def days(self, span: str) -> list[tuple[date, int, int]]:
        """Of each span the conferences and participants that began in it."""
        return self._all(f"""
            WITH began AS (SELECT day, 1 AS calls, 0 AS people FROM calls UNION ALL SELECT day, 0, 1 FROM people)
            SELECT date_trunc('{span}', day)::DATE AS since, sum(calls)::BIGINT, sum(people)::BIGINT
            FROM began GROUP BY since ORDER BY since""")

    def months(self) -> list[tuple[date, int, int, float]]:
        """Of the newest months of the whole history: conferences, participants, hours."""
        return self._all(f"""
            WITH began AS (
                SELECT starts, day, 1 AS calls, 0 AS people, 0 AS seconds FROM conference_day WHERE meeting(service)
                UNION ALL SELECT starts, day, 0, 1, greatest(coalesce(duration, epoch(ends - starts)), 0)
                FROM participant_day WHERE person(protocol, service))
            SELECT date_trunc('month', day)::DATE AS since, sum(calls)::BIGINT, sum(people)::BIGINT,
                   sum(seconds)::DOUBLE / 3600
            FROM began WHERE day IS NOT NULL GROUP BY since ORDER BY since DESC LIMIT {MONTHS}""")[::-1]

    def quality(self, span: str) -> list[tuple[date, list[int]]]:
        """Of each span how many were of each of QUALITIES; any other is unknown."""
        counts = ", ".join(f"count(*) FILTER (quality = '{quality}')" for quality in QUALITIES[:-1])
        rows = self._all(f"""
            SELECT date_trunc('{span}', day)::DATE AS since, {counts}, count(*) FROM people
            GROUP BY since ORDER BY since""")
        return [(since, [*known, every - sum(known)]) for since, *known, every in rows]

    def worst(self, column: str) -> list[Bad]:
        """The places with the largest share of bad calls, of those with LEAST rated ones."""
        named = f"{column} IS NOT NULL" + (" AND service IN ('conference', 'lecture')" if column == "room" else "")
        rows = self._all(f"""
            SELECT {column}, count(*) AS rated, count(*) FILTER (quality IN ('3_bad', '4_terrible')) AS bad
            FROM people WHERE quality IN ('1_good', '2_ok', '3_bad', '4_terrible') AND {named}
            GROUP BY ALL HAVING rated >= {LEAST} ORDER BY bad / rated DESC, rated DESC, 1 LIMIT 8""")
        return [Bad(*row) for row in rows]

    def reasons(self) -> list[tuple[str, int]]:
        """Why connections ended, most frequent first; what is rarer is put together."""
        rows = self._all(
            "SELECT coalesce(reason, 'none given'), count(*) AS n FROM people GROUP BY ALL ORDER BY n DESC, 1"
        )
        rest = sum(count for _, count in rows[REASONS:])
        return rows[:REASONS] + ([(f"{len(rows) - REASONS} other reasons", rest)] if rest else [])

    def rooms(self) -> tuple[list[Room], int]:
        """Those with the most minutes, and how many were used."""
        rows = self._all(f"""
            WITH held AS (SELECT room, count(*) AS calls FROM calls WHERE {_ROOM} GROUP BY ALL),
            there AS (SELECT room, count(*) AS people, sum(seconds) AS seconds FROM people WHERE {_ROOM} GROUP BY ALL)
            SELECT coalesce(held.room, there.room) AS name, coalesce(calls, 0), coalesce(people, 0),
                   floor(coalesce(seconds, 0) / 60)::BIGINT AS minutes, count(*) OVER ()
            FROM held FULL JOIN there ON held.room = there.room ORDER BY seconds DESC NULLS LAST, name LIMIT {ROWS}""")
        return [Room(*row[:4]) for row in rows], rows[0][4] if rows else 0

    def unused(self, before: Period) -> tuple[list[tuple[str, int]], int]:
        """Rooms of the period before that nobody was in since, with their participants then; and how many."""
        rows = self._all(f"""
            SELECT room, count(*) AS people, count(*) OVER () FROM participant_day
            WHERE day BETWEEN DATE '{before.first}' AND DATE '{before.last}' AND {_ROOM} AND person(protocol, service)
              AND room NOT IN (SELECT room FROM chosen WHERE {_ROOM} UNION SELECT room FROM calls WHERE {_ROOM})
            GROUP BY room ORDER BY people DESC, room LIMIT {2 * ROWS}""")
        return [(name, people) for name, people, _ in rows], rows[0][2] if rows else 0

    def used(self, column: str) -> list[Used]:
        """By protocol, location, service or vendor; what is rarer is put together."""
        if column == "vendor":
            cases = " ".join(f"WHEN contains(text, '{sign}') THEN '{name}'" for sign, name in VENDORS)
            source = f"""(SELECT CASE {cases} WHEN text = '' THEN 'not told' ELSE 'other' END AS name, n, seconds
                          FROM (SELECT lower(coalesce(vendor, '')) AS text, count(*) AS n, sum(seconds) AS seconds
                                FROM people GROUP BY ALL))"""
        else:
            source = f"(SELECT coalesce({column}, 'not told') AS name, 1 AS n, seconds FROM people)"
        rows = self._all(f"""
            SELECT name, sum(n)::BIGINT AS people, floor(sum(seconds) / 60)::BIGINT FROM {source}
            GROUP BY ALL ORDER BY people DESC, name""")
        shown = [Used(*row) for row in rows[:ROWS]]
        if rest := rows[ROWS:]:
            shown.append(Used(f"{len(rest)} others", sum(row[1] for row in rest), sum(row[2] for row in rest)))
        return shown

    def loss(self) -> list[Loss]:
        """Packet loss by location and kind of media, of those who joined in the period."""
        rows = self._all(f"""
            SELECT coalesce(location, 'not told'), coalesce(kind, 'not told'), count(*) AS streams, avg(lost),
                   count(*) FILTER (lost > 1) AS over
            FROM (SELECT location, kind, greatest(received, sent) AS lost
                  FROM stream JOIN people ON stream.participant = people.id)
            WHERE lost IS NOT NULL GROUP BY 1, 2 ORDER BY avg(lost) DESC, streams DESC, 1, 2 LIMIT {2 * ROWS}""")
        return [Loss(*row) for row in rows]

    def unreadable(self) -> int:
        """Rows of any time whose start or end is none, or whose end lies before the start."""
        return int(
            self._one("""
            SELECT count(*) FROM (SELECT starts, ends FROM participant UNION ALL SELECT starts, ends FROM conference)
            WHERE starts IS NULL OR ends IS NULL OR ends < starts""")[0]
        )

    def _all(self, query: str) -> list[tuple]:  # type: ignore[type-arg]
        return self.db.execute(query).fetchall()

    def _one(self, query: str) -> tuple:  # type: ignore[type-arg]
        return self.db.execute(query).fetchone() or ()


_ROOM = "room IS NOT NULL AND service IN ('conference', 'lecture')"


def span_of(period: Period) -> str:
    """By what the page divides the period, so that it stays readable and small."""
    for most, span in ((92, "day"), (750, "week"), (4000, "month")):
        if period.days <= most:
            return span
    return "year"


def spans(period: Period, span: str) -> Sequence[date]:
    """The first day of every span that the period touches, as date_trunc has it."""
    found: list[date] = []
    for ordinal in range(period.first.toordinal(), period.last.toordinal() + 1):
        day = date.fromordinal(ordinal)
        since = {
            "day": day,
            "week": date.fromordinal(ordinal - day.weekday()),
            "month": day.replace(day=1),
            "year": day.replace(month=1, day=1),
        }[span]
        if not found or found[-1] != since:
            found.append(since)
    return found
