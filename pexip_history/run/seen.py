"""What one reading sees: scratch tables beside the ledger, with what is new, whom conferences list, who is missing."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from pexip_history.ledger.ledger import KEPT, Ledger
from pexip_history.ledger.spans import Times
from pexip_history.node.records import Page, listings, uri_id
from pexip_history.resources import RESOURCES
from pexip_history.values import as_text, format_time

MOST_PARAMETERS = 30_000  # of one statement; SQLite takes 32,766
ASK_AGAIN, GIVE_UP = timedelta(days=1), timedelta(days=7)
"""How long until a participant that did not come is asked for again; and for how long one that is gone was."""
# seen: in which pass over a query a record was seen last, whether the reading took it, and whether that pass did.
# listed: whom conferences list. missing: as the ledger's `expected`.
SCRATCH = "PRAGMA temp.journal_mode = OFF; PRAGMA temp.cache_size = -9000;" + "".join(
    f"""
CREATE TEMP TABLE seen_{resource.name} (
    id TEXT PRIMARY KEY, conference TEXT, pass INTEGER, taken INTEGER, fresh INTEGER
) WITHOUT ROWID;
"""
    for resource in RESOURCES
)
SCRATCH += """
CREATE TEMP TABLE listed (participant TEXT, conference TEXT);
CREATE TEMP TABLE listing (id TEXT PRIMARY KEY, started TEXT, ended TEXT) WITHOUT ROWID;
CREATE TEMP TABLE missing (
    participant TEXT PRIMARY KEY, conference TEXT NOT NULL, started TEXT, ended TEXT, asked TEXT, lost TEXT
) WITHOUT ROWID;
"""
CAME = """
    (EXISTS (SELECT 1 FROM seen_participant WHERE id = participant AND taken)
    OR EXISTS (SELECT 1 FROM main.participant WHERE id = participant))
"""


class Listing(NamedTuple):
    """A conference, its times ("" where the node tells none), and who of those that it lists is missing."""

    conference: str
    started: str
    ended: str
    participants: Sequence[str]


class Seen:
    """The scratch of one run; `clear` begins another reading. What is taken is exported at the commit alone."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.db, self._pass = ledger, ledger.db, 0
        self.db.executescript(SCRATCH)

    def clear(self) -> None:
        with self.ledger.scratch() as db:
            for name in (*(f"seen_{resource.name}" for resource in RESOURCES), "listed", "listing", "missing"):
                db.execute(f"DELETE FROM {name}")

    # What is new

    def begin_pass(self) -> None:
        """A query is read from its beginning, perhaps again."""
        self._pass += 1

    def take(self, resource: str, page: Page, places: Sequence[int]) -> list[int]:
        """Of these places in a page those whose records are new: no run exported them, and this reading has not.

        They count as taken. All of the page's records count as seen by this pass.
        """
        if len(places) == len(page.ids):
            return self._take(resource, page, True)
        rest = set(range(len(page.ids))).difference(places)
        self._take(resource, page.only(sorted(rest)), False)
        return [places[p] for p in self._take(resource, page.only(places), True)]

    def _take(self, resource: str, page: Page, wanted: bool) -> list[int]:
        column = page.column("conference")
        of = {uri: uri_id(uri) for uri in set(column)} if all(isinstance(c, str) for c in column) else {}
        conferences = map(of.get, column) if of else map(uri_id, column)
        values = list(itertools.chain.from_iterable(zip(page.ids, conferences, strict=True)))
        new = f"NOT EXISTS (SELECT 1 FROM main.{resource} WHERE id = column1)" if wanted else "0"
        found: list[tuple[str, int]] = []
        with self.ledger.scratch() as db:
            for part, places in _rows(values):
                sql = (
                    f"INSERT INTO seen_{resource} SELECT column1, column2, ?, {new}, 1 FROM (VALUES {places})"
                    " WHERE true ON CONFLICT DO UPDATE SET"
                    " pass = excluded.pass, taken = max(taken, excluded.taken), fresh = NOT taken"
                    " RETURNING id, fresh AND taken"
                )
                found += db.execute(sql, [self._pass, *part])
        fresh = {i for i, is_fresh in found if is_fresh}
        if len(fresh) == len(page.ids):
            return list(range(len(page.ids)))
        # A page may hold one twice: the first counts.
        return [place for place, i in enumerate(page.ids) if i in fresh and not fresh.discard(i)]  # type: ignore[func-returns-value]

    def count(self, resource: str) -> int:
        """How many records the present pass has seen."""
        return self.ledger.one(f"SELECT count(*) FROM seen_{resource} WHERE pass = ?", self._pass)

    def is_new(self, resource: str, record_id: str) -> bool:
        """Whether neither a run exported the record nor this reading took it."""
        taken = f"SELECT EXISTS (SELECT 1 FROM seen_{resource} WHERE id = ? AND taken)"
        return not (self.ledger.one(taken, record_id) or self.ledger.has(resource, record_id))

    # Who is missing

    def expect(self, conferences: Page) -> None:
        """Note whom the conferences list."""
        starts = (as_text(start) if start else None for start in conferences.column("start_time"))
        with self.ledger.scratch() as db:
            times = zip(conferences.ids, starts, conferences.times, strict=True)
            db.executemany("INSERT OR IGNORE INTO listing VALUES (?, ?, ?)", times)
            for part, places in _rows(list(itertools.chain.from_iterable(listings(conferences)))):
                db.execute(f"INSERT INTO listed VALUES {places}", part)

    def find_missing(self) -> None:
        """Find who of those listed, now and by earlier runs, no run has."""
        with self.ledger.scratch() as db:
            db.execute("INSERT OR IGNORE INTO missing SELECT * FROM main.expected")
            db.execute(
                "INSERT INTO missing SELECT participant, conference, started, ended, NULL, NULL FROM listed"
                f" JOIN listing ON listing.id = conference WHERE NOT {CAME}"
                " ON CONFLICT DO UPDATE SET conference = excluded.conference, started = excluded.started,"
                " ended = excluded.ended"
            )
        self.drop_found()

    def drop_found(self) -> None:
        """Those who came are missing no more."""
        with self.ledger.scratch() as db:
            db.execute(f"DELETE FROM missing WHERE {CAME}")

    def to_ask(self, asked: Times, now: datetime) -> list[Listing]:
        """Whom to ask for, by the conference that lists them, in the order in which those ended.

        Those whom no run has asked for come first. Only where the conference's time was `asked` for: else they may
        come by themselves. Not those that were asked for within a day; nor those of whom the node said, a week after
        the first time, that they are gone.
        """
        rows = self.db.execute(
            "SELECT conference, min(coalesce(started, ended, '')), max(coalesce(ended, '')) AS last,"
            " json_group_array(participant) FROM missing"
            " WHERE NOT coalesce(asked <= ? AND (asked > ? OR julianday(asked) - julianday(lost) >= ?), 0)"
            " GROUP BY conference ORDER BY max(asked IS NOT NULL), last, conference",
            (format_time(now), format_time(now - ASK_AGAIN), GIVE_UP.days),
        )
        return [
            Listing(conference, started, ended, json.loads(participants))
            for conference, started, ended, participants in rows
            if asked.has_all([time for time in (started, ended) if time])
        ]

    def note_asked(self, participant: str, now: datetime) -> None:
        """This one was asked for at its own address."""
        with self.ledger.scratch() as db:
            db.execute("UPDATE missing SET asked = ? WHERE participant = ?", (format_time(now), participant))

    def note_gone(self, participant: str, now: datetime) -> bool:
        """The node says there that it is gone; whether for the first time."""
        self.note_asked(participant, now)
        sql = "UPDATE missing SET lost = asked WHERE participant = ? AND lost IS NULL"
        return bool(self.db.execute(sql, (participant,)).rowcount)

    # At the commit

    def export(self, oldest: Mapping[str, str], now: datetime) -> None:
        """Note in the ledger what was taken, and who is missing; `oldest` are the earliest times by resource."""
        with self.ledger.transaction() as db:
            for name in (resource.name for resource in RESOURCES):
                own = {"conference": "id", "participant": "coalesce(conference, id)"}.get(name, "NULL")
                db.execute(f"INSERT OR IGNORE INTO main.{name} SELECT id, {own} FROM seen_{name} WHERE taken")
                if time := oldest.get(name):
                    self.ledger.exported(name, time)
            db.execute("INSERT OR IGNORE INTO kept SELECT id, ? FROM seen_conference WHERE taken", (_until(now),))
            db.execute("DELETE FROM endless WHERE id IN (SELECT id FROM seen_conference WHERE taken)")
            db.execute("DELETE FROM main.expected")
            db.execute("INSERT INTO main.expected SELECT * FROM missing")

    def keep_listed(self, now: datetime) -> None:
        """The conferences of the last pass over the whole list, and whom they list: kept from today on."""
        with self.ledger.transaction() as db:
            db.execute(
                "INSERT INTO kept SELECT id, ? FROM seen_conference"
                " WHERE pass = (SELECT max(pass) FROM seen_conference)"
                " ON CONFLICT DO UPDATE SET until = excluded.until WHERE until <> excluded.until",
                (_until(now),),
            )
            # Whom two conferences list belongs to the one that the node still has.
            db.execute(
                "UPDATE participant SET conference = listed.conference FROM listed"
                " WHERE participant.id = listed.participant AND participant.conference NOT IN"
                " (SELECT id FROM seen_conference WHERE pass = (SELECT max(pass) FROM seen_conference))"
            )


def _until(now: datetime) -> str:
    """The day up to which the ids of a conference that is listed now are kept."""
    return f"{now + KEPT:%Y-%m-%d}"


def _rows(values: list[str | None]) -> Iterator[tuple[list[str | None], str]]:
    """The values, two a row, for a statement at a time: executemany would let go of the interpreter for each row."""
    for start in range(0, len(values), MOST_PARAMETERS):
        part = values[start : start + MOST_PARAMETERS]
        yield part, ",".join(["(?,?)"] * (len(part) // 2))
