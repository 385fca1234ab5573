"""Comparing the ledger with the node's whole list of conferences: once a day, and on doubt."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from pexip_history.ledger.ledger import Ledger
from pexip_history.ledger.spans import Times
from pexip_history.node.records import Page
from pexip_history.resources import CONFERENCE
from pexip_history.run.plan import DAY
from pexip_history.run.query import Query, Taker
from pexip_history.run.seen import Seen
from pexip_history.run.windows import Allowance
from pexip_history.values import format_time, utc_times

log = logging.getLogger("collector")


def is_due(ledger: Ledger, now: datetime) -> bool:
    """Whether the list is to be read: a day after the last time, or where somebody doubts."""
    last = ledger.time_of("reconciled")
    return bool(ledger.fact("doubt")) or last is None or not last <= now < last + DAY


class Reconciling:
    """Reads the list and takes what the ledger lacks within what was asked for.

    The list is read newest first, so that what the node forgets meanwhile shifts nothing that is yet to be read. A
    conference without an end time is taken when it was listed so a day ago: then none will come. `since` bounds what
    is taken; `waiting` is how many the limit left.
    """

    def __init__(
        self, ledger: Ledger, seen: Seen, taker: Taker, allowance: Allowance, asked: Times, since: datetime
    ) -> None:
        self.ledger, self.seen, self.taker, self.allowance = ledger, seen, taker, allowance
        self.asked, self.since = asked, format_time(since)
        self._left: set[str] = set()
        self._endless: set[str] = set()
        self._long_endless: set[str] = set()

    def read(self, now: datetime) -> bool:
        """Whether the list was read whole, while it held still, and nothing waits."""
        log.info("comparing with the node's whole list of conferences")
        self._long_endless = {
            i for (i,) in self.ledger.db.execute("SELECT id FROM endless WHERE seen <= ?", (format_time(now - DAY),))
        }
        answer = self.taker.read(Query(CONFERENCE.name, {}, self._wanted, newest_first=True), self._look)
        return answer.still and not self.waiting

    def record(self, now: datetime, pass_number: int) -> None:
        """Note in the ledger what the list says of conferences that were known. Within the commit's transaction."""
        self.seen.keep_listed(now, pass_number)
        with self.ledger.transaction() as db:
            db.execute("CREATE TEMP TABLE IF NOT EXISTS endless_now (id TEXT PRIMARY KEY) WITHOUT ROWID")
            db.execute("DELETE FROM endless_now")
            db.executemany("INSERT OR IGNORE INTO endless_now VALUES (?)", ((i,) for i in self._endless))
            db.execute("DELETE FROM main.endless WHERE id NOT IN (SELECT id FROM endless_now)")
            db.execute(
                "INSERT OR IGNORE INTO main.endless SELECT id, ? FROM endless_now WHERE id NOT IN (SELECT id FROM"
                " main.conference)",
                (format_time(now),),
            )

    def _wanted(self, page: Page) -> Sequence[int]:
        places = self._asked_for(page)
        left = self.allowance.left(CONFERENCE.name)
        if left is None or left >= len(places):
            return places
        known = [place for place in places if self.seen.known(CONFERENCE.name, [page.ids[place]])]
        new = [place for place in places if place not in set(known)]
        self._left |= {page.ids[place] for place in new[left:]}
        return sorted(known + new[:left])

    @property
    def waiting(self) -> int:
        return len(self._left)

    def _asked_for(self, page: Page) -> Sequence[int]:
        if self.asked.has_all(page.times):
            return range(len(page.ids))
        starts = utc_times(page.column("start_time"))
        return [
            place
            for place, time in enumerate(page.times)
            if self.asked.has(time)
            or (not time and page.ids[place] in self._long_endless and (starts[place] or "9") >= self.since)
        ]

    def _look(self, page: Page) -> None:
        places = [place for place in self._asked_for(page) if page.ids[place] not in self._left]
        self.seen.expect(page.only(places))
        self._endless |= {i for i, time in zip(page.ids, page.times, strict=True) if not time}
