"""The page's tables: totals, days, rooms, tags and what was used, of participants that joined in a period.

A connection and a conference belong to the day on which they began, in the zone of TZ, with their whole length;
where a part looks at who was there instead, it says so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from pexip_history.messages import counted

from .period import Period
from .reading import NO_TYPE, SLIP, Reading

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ROWS = 15
MONTHS = 24
NOT_TOLD = "not told"

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
LENGTH = f"""CASE WHEN ends < starts THEN NULL
             WHEN duration BETWEEN 0 AND epoch(ends - starts) + {SLIP} THEN duration
             ELSE floor(epoch(ends - starts)) END"""
"""Seconds; none where the end lies before the start."""


@dataclass(frozen=True)
class Totals:
    conferences: int
    participants: int
    hours: float
    """That participants were there in the period, all together, whenever they came."""
    mean: float | None
    """Length of a participant's stay, minutes, of those that have one; None where none has."""
    tried: int
    """Of the participants those in test calls and playback."""
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
class Room:
    name: str
    calls: int
    participants: int
    minutes: int
    """That participants were there in the period, whenever they came."""


@dataclass
class Tag:
    """What a customer or a department used; name None: those without a tag."""

    name: str | None
    conferences: int
    participants: int
    minutes: int
    licenses: dict[str, int] = field(default_factory=dict)
    """License-minutes by license type."""


class Queries:
    """Over the tables of reading.load_all; `chosen`, `people` and `calls` are what began in the period."""

    def __init__(self, db: DuckDBPyConnection, archive: Reading, period: Period) -> None:
        self.db = db
        self.archive = archive
        # What began, as local days; once, since each answer needs it.
        for table in ("participant", "conference"):
            db.execute(
                f"CREATE VIEW {table}_day AS SELECT *, local(starts)::DATE AS day FROM {table} WHERE ends IS NOT NULL"
            )
        db.execute(f"""
            CREATE TEMP TABLE chosen AS SELECT *, {LENGTH} AS seconds FROM participant_day WHERE {_within(period)};
            CREATE TEMP VIEW people AS FROM chosen WHERE person(protocol, service);
            CREATE TEMP TABLE calls AS FROM conference_day WHERE {_within(period)} AND meeting(service)""")

    def totals(self, period: Period, hours: float) -> Totals:
        """Those of any period; `hours` are those of all participants in it."""
        people, mean, tried, api, reception = self._one(f"""
            SELECT count(*) FILTER (person(protocol, service)), avg({LENGTH}) FILTER (person(protocol, service)),
                   count(*) FILTER (person(protocol, service) AND try_out(service)),
                   count(*) FILTER (NOT media(protocol)), count(*) FILTER (NOT meeting(service) AND media(protocol))
            FROM participant_day WHERE {_within(period)}""")
        (calls,) = self._one(f"SELECT count(*) FROM conference_day WHERE {_within(period)} AND meeting(service)")
        return Totals(calls, people, hours, None if mean is None else mean / 60, tried, api, reception)

    def days(self, span: str) -> list[tuple[date, int, int]]:
        """Of each span the conferences and participants that began in it."""
        return self._all(f"""
            WITH began AS (SELECT day, 1 AS calls, 0 AS people FROM calls UNION ALL SELECT day, 0, 1 FROM people)
            SELECT date_trunc('{span}', day)::DATE AS since, sum(calls)::BIGINT, sum(people)::BIGINT
            FROM began GROUP BY since ORDER BY since""")

    def months(self) -> list[tuple[date, int, int]]:
        """Of each month in which something began: conferences, participants."""
        return self._all("""
            WITH began AS (
                SELECT day, 1 AS calls, 0 AS people FROM conference_day WHERE meeting(service)
                UNION ALL SELECT day, 0, 1 FROM participant_day WHERE person(protocol, service))
            SELECT date_trunc('month', day)::DATE AS since, sum(calls)::BIGINT, sum(people)::BIGINT
            FROM began WHERE day IS NOT NULL GROUP BY since ORDER BY since""")

    def reasons(self, most: int) -> list[tuple[str, int]]:
        """Why connections ended, most frequent first; what differs in case alone is one, what is rarer together."""
        rows = self._all("""
            SELECT coalesce(first(reason ORDER BY n DESC, reason), 'none given') AS name, sum(n)::BIGINT AS n
            FROM (SELECT reason, count(*) AS n FROM people GROUP BY reason) GROUP BY lower(reason)
            ORDER BY 2 DESC, name""")
        rest = sum(count for _, count in rows[most:])
        return rows[:most] + ([(counted(len(rows) - most, "other reason"), rest)] if rest else [])

    def reasons_by(self, span: str, names: Collection[str]) -> dict[tuple[date, str], int]:
        """Of each span how many had each of these reasons; in lower case."""
        rows = self._all(
            f"""SELECT date_trunc('{span}', day)::DATE, lower(coalesce(reason, 'none given')) AS name, count(*)
                FROM people WHERE list_contains(?, name) GROUP BY ALL""",
            [[name.lower() for name in names]],
        )
        return {(since, name): count for since, name, count in rows}

    def rooms(self) -> tuple[list[Room], int]:
        """Those with the most minutes in the period, and how many were used in it."""
        rows = self._all(f"""
            WITH held AS (SELECT room, count(*) AS calls FROM calls WHERE held_in(room, service) GROUP BY ALL),
            came AS (SELECT room, count(*) AS people FROM people WHERE held_in(room, service) GROUP BY ALL),
            there AS (SELECT room, sum(epoch(ends - starts)) AS seconds FROM stay
                      WHERE held_in(room, service) AND person(protocol, service) GROUP BY ALL),
            name AS (SELECT room FROM held UNION SELECT room FROM came UNION SELECT room FROM there)
            SELECT room, coalesce(calls, 0), coalesce(people, 0), floor(coalesce(seconds, 0) / 60)::BIGINT,
                   count(*) OVER ()
            FROM name LEFT JOIN held USING (room) LEFT JOIN came USING (room) LEFT JOIN there USING (room)
            ORDER BY seconds DESC NULLS LAST, room LIMIT {ROWS}""")
        return [Room(*row[:4]) for row in rows], rows[0][4] if rows else 0

    def room_minutes(self) -> float:
        """Of all rooms together, in the period."""
        (seconds,) = self._one(
            "SELECT sum(epoch(ends - starts)) FROM stay WHERE held_in(room, service) AND person(protocol, service)"
        )
        return float(seconds or 0) / 60

    def _in_use(self) -> str:
        """SQL for the rooms that somebody was in, or that held a conference, in the period."""
        return """SELECT room FROM stay WHERE held_in(room, service) UNION
                  SELECT room FROM chosen WHERE held_in(room, service) UNION
                  SELECT room FROM calls WHERE held_in(room, service)"""

    def unused(self, before: Period) -> tuple[list[tuple[str, int]], int]:
        """Rooms of the period before that nobody was in since, with their participants then; and how many."""
        rows = self._all(f"""
            SELECT room, count(*) AS people, count(*) OVER () FROM participant_day
            WHERE {_within(before)} AND held_in(room, service)
              AND person(protocol, service) AND room NOT IN ({self._in_use()})
            GROUP BY room ORDER BY people DESC, room LIMIT {2 * ROWS}""")
        return [(name, people) for name, people, _ in rows], rows[0][2] if rows else 0

    def never(self, names: Collection[str]) -> tuple[list[str], set[str]]:
        """Of these rooms those that nobody was in, in the period; and of them those that the history does not know."""
        given = "SELECT unnest(?::VARCHAR[]) AS room"
        idle = self._all(f"SELECT room FROM ({given}) WHERE room NOT IN ({self._in_use()}) ORDER BY 1", [list(names)])
        ever = "SELECT room FROM participant UNION SELECT room FROM conference"
        known = self._all(
            f"SELECT room FROM ({given}) WHERE room IN ({ever})",
            [[name for (name,) in idle]],
        )
        return [name for (name,) in idle], {name for (name,) in idle} - {name for (name,) in known}

    def tags(self) -> list[Tag]:
        """By service tag, of what began in the period, most minutes first."""
        has_type = self.archive.has("participant", "licenses", "license")
        calls = dict(self._all("SELECT tag, count(*) FROM calls GROUP BY tag"))
        found = {
            name: Tag(name, calls.pop(name, 0), people, minutes)
            for name, people, minutes in self._all("""
                SELECT tag, count(*), floor(coalesce(sum(seconds), 0) / 60)::BIGINT AS minutes FROM people GROUP BY tag
                ORDER BY minutes DESC, count(*) DESC, tag""")
        }
        found |= {name: Tag(name, count, 0, 0) for name, count in calls.items()}
        if has_type:
            for name, kind, minutes in self._all("""
                SELECT tag, license, floor(sum(seconds * licenses) / 60)::BIGINT FROM people
                WHERE licenses > 0 AND seconds IS NOT NULL GROUP BY ALL"""):
                found[name].licenses[kind or NO_TYPE] = minutes
        return list(found.values())

    def used(self, column: str) -> list[Used]:
        """By protocol, location, service or vendor; what is rarer is put together."""
        rows = self._all(f"""
            SELECT name, sum(n)::BIGINT AS people, floor(coalesce(sum(seconds), 0) / 60)::BIGINT
            FROM {named(column, "count(*) AS n, sum(seconds) AS seconds")} GROUP BY name ORDER BY people DESC, name""")
        shown = [Used(*row) for row in rows[:ROWS]]
        if rest := rows[ROWS:]:
            shown.append(Used(counted(len(rest), "other"), sum(row[1] for row in rest), sum(row[2] for row in rest)))
        return shown

    def _all(self, query: str, values: list[object] | None = None) -> list[tuple]:  # type: ignore[type-arg]
        return self.db.execute(query, values).fetchall()

    def _one(self, query: str) -> tuple:  # type: ignore[type-arg]
        [row] = self._all(query)
        return row


def _within(period: Period) -> str:
    return f"day BETWEEN DATE '{period.first}' AND DATE '{period.last}'"


def named(column: str, sums: str, more: str = "") -> str:
    """A subquery of `people` with `name`, the column's value, and sums by it; of a vendor what people call it.

    One name can have several rows. `more` are columns to group by besides.
    """
    if column != "vendor":
        return f"(SELECT coalesce({column}, '{NOT_TOLD}') AS name, {sums} {more} FROM people GROUP BY ALL)"
    cases = " ".join(f"WHEN contains(text, '{sign}') THEN '{name}'" for sign, name in VENDORS)
    return f"""(SELECT CASE {cases} WHEN text = '' THEN '{NOT_TOLD}' ELSE 'other' END AS name, * EXCLUDE (text)
                FROM (SELECT lower(coalesce(vendor, '')) AS text, {sums} {more} FROM people GROUP BY ALL))"""
