"""What one reading sees: scratch tables beside the ledger, with what is new, whom conferences list, who is missing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from pexip_history.ledger.ledger import KEPT, Ledger
from pexip_history.ledger.spans import Times
from pexip_history.node.records import Page, listings, uri_id
from pexip_history.resources import RESOURCES
from pexip_history.values import as_text, format_time

MOST_PARAMETERS = 30_000  # of one statement; SQLite takes 32,766
ASK_AGAIN, GIVE_UP = timedelta(days=1), timedelta(days=7)
"""How long until a participant that did not come is asked for again; and since when on one that is gone no more is."""
# seen: what the reading saw, in which pass over a query last, and whether it took it. listed: whom conferences list.
SCRATCH = "PRAGMA temp.journal_mode = OFF; PRAGMA temp.cache_size = -9000;" + "".join(
    f"""
CREATE TEMP TABLE seen_{resource.name} (
    id TEXT PRIMARY KEY, conference TEXT, page INTEGER, pass INTEGER, taken INTEGER
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


class Seen:
    """The scratch of one run; `clear` begins another reading. What is taken is exported at the commit alone."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.db = ledger, ledger.db
        self.pass_number = self._page = 0
        self.db.executescript(SCRATCH)
        self._names = [resource.name for resource in RESOURCES]

    def clear(self) -> None:
        with self.ledger.scratch() as db:
            for name in (*(f"seen_{name}" for name in self._names), "listed", "listing", "missing"):
                db.execute(f"DELETE FROM {name}")

    # What is new

    def take(self, resource: str, page: Page, places: Sequence[int]) -> list[int]:
        """Of these places in a page those whose records are new: no run exported them, and this reading has not.

        They count as taken. All of the page's records count as seen by this pass.
        """
        if len(places) == len(page.ids):
            return self._take(resource, page, True)
        chosen = set(places)
        self._take(resource, page.only([p for p in range(len(page.ids)) if p not in chosen]), False)
        return [places[p] for p in self._take(resource, page.only(places), True)]

    def _take(self, resource: str, page: Page, wanted: bool) -> list[int]:
        if not page.ids:
            return []
        self._page += 1
        column = page.column("conference")
        of = {uri: uri_id(uri) for uri in set(column)} if all(isinstance(c, str) for c in column) else {}
        conferences = map(of.get, column) if of else map(uri_id, column)
        values = list(itertools.chain.from_iterable(zip(page.ids, conferences, strict=True)))
        new = f"NOT EXISTS (SELECT 1 FROM main.{resource} WHERE id = column1)" if wanted else "0"
        found: list[tuple[str, int]] = []
        with self.ledger.scratch() as db:
            for part, places in _rows(values):
                sql = (
                    f"INSERT INTO seen_{resource} SELECT column1, column2, ?, ?, {new}"
                    f" FROM (VALUES {places}) WHERE true"
                    " ON CONFLICT DO UPDATE SET pass = excluded.pass, taken = max(taken, excluded.taken),"
                    " page = iif(taken, 0, excluded.page) RETURNING id, page AND taken"
                )
                found += db.execute(sql, [self._page, self.pass_number, *part])
        fresh = {i for i, is_fresh in found if is_fresh}
        if len(fresh) == len(page.ids):
            return list(range(len(page.ids)))
        # A page may hold one twice: the first counts.
        return [place for place, i in enumerate(page.ids) if i in fresh and not fresh.discard(i)]  # type: ignore[func-returns-value]

    def count(self, resource: str) -> int:
        """How many records the present pass has seen."""
        return self.ledger.one(f"SELECT count(*) FROM seen_{resource} WHERE pass = ?", self.pass_number)

    def known(self, resource: str, ids: Sequence[str]) -> bool:
        """Whether any of these was exported."""
        places = ",".join("?" * len(ids))
        return bool(self.ledger.one(f"SELECT EXISTS (SELECT 1 FROM main.{resource} WHERE id IN ({places}))", *ids))

    # Who is missing

    def expect(self, conferences: Page) -> None:
        """Note whom the conferences list."""
        times = zip(conferences.ids, map(_text, conferences.column("start_time")), conferences.times, strict=True)
        with self.ledger.scratch() as db:
            db.executemany("INSERT OR IGNORE INTO listing VALUES (?, ?, ?)", times)
            for part, places in _rows(list(itertools.chain.from_iterable(listings(conferences)))):
                db.execute(f"INSERT INTO listed VALUES {places}", part)

    def find_missing(self) -> None:
        """Find who of those listed, now and by earlier runs, no run has."""
        with self.ledger.scratch() as db:
            db.execute("INSERT OR IGNORE INTO missing SELECT * FROM main.expected")
            db.execute(
                "INSERT INTO missing SELECT participant, conference, started, ended, NULL, NULL FROM listed"
                " JOIN listing ON listing.id = conference"
                " WHERE NOT EXISTS (SELECT 1 FROM seen_participant WHERE id = participant AND taken)"
                " AND NOT EXISTS (SELECT 1 FROM main.participant WHERE id = participant)"
                " ON CONFLICT DO UPDATE SET conference = excluded.conference, started = excluded.started,"
                " ended = excluded.ended"
            )
            self.drop_found()

    def drop_found(self) -> None:
        """Those who came are missing no more."""
        self.db.execute(
            "DELETE FROM missing WHERE EXISTS (SELECT 1 FROM seen_participant WHERE id = participant AND taken)"
            " OR EXISTS (SELECT 1 FROM main.participant WHERE id = participant)"
        )

    def to_ask(self, covered: Times, now: datetime) -> list[tuple[str, int, str, str]]:
        """The conferences to ask for their participants: (id, how many are missing, its start, its end).

        Not of a time for which participants were not asked yet: there they may come by themselves. Not those that were
        asked for within a day; and those that are gone for a week after that.
        """
        rows = self.db.execute(
            "SELECT conference, count(*), min(coalesce(started, ended, '')), max(coalesce(ended, '')) FROM missing"
            " WHERE NOT coalesce(asked > ? AND asked <= ?, 0) AND NOT coalesce(lost <= ?, 0)"
            " GROUP BY conference ORDER BY 4, 1",
            (format_time(now - ASK_AGAIN), format_time(now), format_time(now - GIVE_UP)),
        ).fetchall()
        return [row for row in rows if covered.has_all([time for time in (row[2], row[3]) if time])]

    def missing_of(self, conference: str, now: datetime) -> list[str]:
        """Whom to ask for at their own addresses."""
        rows = self.db.execute(
            "SELECT participant FROM missing WHERE conference = ? AND NOT coalesce(asked > ? AND asked <= ?, 0)"
            " AND NOT coalesce(lost <= ?, 0) ORDER BY 1",
            (conference, format_time(now - ASK_AGAIN), format_time(now), format_time(now - GIVE_UP)),
        )
        return [i for (i,) in rows]

    def asked(self, participant: str, now: datetime, gone: bool) -> bool:
        """This one was asked for at its own address; whether the node says for the first time that it is gone."""
        moment = format_time(now)
        known = self.ledger.one("SELECT count(lost) FROM missing WHERE participant = ?", participant)
        lost = moment if gone else None
        self.db.execute(
            "UPDATE missing SET asked = ?, lost = coalesce(lost, ?) WHERE participant = ?", (moment, lost, participant)
        )
        return gone and not known

    # At the commit

    def export(self, oldest: dict[str, str], now: datetime) -> None:
        """Note in the ledger what was taken, and who is missing; `oldest` are the earliest times by resource."""
        until = f"{now + KEPT:%Y-%m-%d}"
        with self.ledger.transaction() as db:
            for name in self._names:
                own = {"conference": "id", "participant": "coalesce(conference, id)"}.get(name, "NULL")
                db.execute(f"INSERT OR IGNORE INTO main.{name} SELECT id, {own} FROM seen_{name} WHERE taken")
                if time := oldest.get(name):
                    self.ledger.exported(name, time)
            db.execute("INSERT OR IGNORE INTO kept SELECT id, ? FROM seen_conference WHERE taken", (until,))
            db.execute("DELETE FROM endless WHERE id IN (SELECT id FROM seen_conference WHERE taken)")
            db.execute("DELETE FROM main.expected")
            db.execute("INSERT INTO main.expected SELECT * FROM missing")

    def keep_listed(self, now: datetime, pass_number: int) -> None:
        """The conferences of a pass over the list are listed by the node now: their ids are kept from today on."""
        until = f"{now + KEPT:%Y-%m-%d}"
        with self.ledger.transaction() as db:
            db.execute(
                "INSERT INTO kept SELECT id, ? FROM seen_conference WHERE pass = ?"
                " ON CONFLICT DO UPDATE SET until = excluded.until WHERE until <> excluded.until",
                (until, pass_number),
            )


def _text(value: object) -> str | None:
    return as_text(value) if value else None


def _rows(values: list[str | None]) -> Iterator[tuple[list[str | None], str]]:
    """The values, two a row, for a statement at a time: executemany would let go of the interpreter for each row."""
    for start in range(0, len(values), MOST_PARAMETERS):
        part = values[start : start + MOST_PARAMETERS]
        yield part, ",".join(["(?,?)"] * (len(part) // 2))
