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
from pexip_history.run.reading import Draft, Query, read
from pexip_history.values import format_time, utc_times

log = logging.getLogger("collector")


def is_due(ledger: Ledger, now: datetime) -> bool:
    """Whether the list is to be read: a day after the last time, or where somebody doubts."""
    last = ledger.time_of("reconciled")
    return bool(ledger.fact("doubt")) or last is None or not last <= now < last + DAY


class WholeList:
    """Reads the list and takes what the ledger lacks within what was `asked` for.

    The list is read newest first, so that what the node forgets meanwhile shifts nothing that is yet to be read. A
    conference without an end time is taken when it was listed so a day ago: then none will come; not where it began
    before `since`. `waiting` are those that the limit left.
    """

    def __init__(self, draft: Draft, asked: Times, since: datetime, now: datetime) -> None:
        self.draft, self.asked, self.since, self.now = draft, asked, format_time(since), now
        self.waiting: set[str] = set()
        # A clock that was ahead may have noted a time that is yet to come.
        rows = draft.ledger.db.execute("SELECT id, min(seen, ?) FROM endless", (format_time(now),))
        self._endless_since: dict[str, str] = dict(rows)
        self._endless: set[str] = set()

    def read(self) -> bool:
        """Whether the list was read whole, while it held still, and nothing waits. Raises NodeError."""
        log.info("comparing with the node's whole list of conferences")
        result = read(self.draft, Query(CONFERENCE.name, {}, self._wanted, newest_first=True))
        return result.still and not self.waiting

    def note(self) -> None:
        """Note in the ledger what the list says of conferences that were known. Within the commit's transaction."""
        self.draft.seen.keep_listed(self.now)
        now = format_time(self.now)
        with self.draft.ledger.transaction() as db:
            db.execute("DELETE FROM endless")
            rows = ((i, self._endless_since.get(i, now)) for i in self._endless)
            db.executemany("INSERT INTO endless VALUES (?, ?)", rows)
            db.execute("DELETE FROM endless WHERE id IN (SELECT id FROM conference)")

    def _wanted(self, page: Page) -> Sequence[int]:
        self._endless.update(i for i, time in zip(page.ids, page.times, strict=True) if not time)
        places = self._asked_for(page)
        left = self.draft.left(CONFERENCE.name)
        if left is not None and left < len(places):
            new = [place for place in places if self.draft.seen.is_new(CONFERENCE.name, page.ids[place])]
            self.waiting.update(page.ids[place] for place in new[left:])
            places = [place for place in places if page.ids[place] not in self.waiting]
        self.draft.seen.expect(page.only(places))
        return places

    def _asked_for(self, page: Page) -> Sequence[int]:
        if self.asked.has_all(page.times):
            return range(len(page.ids))
        starts, day_ago = utc_times(page.column("start_time")), format_time(self.now - DAY)

        def long_endless(place: int) -> bool:
            seen = self._endless_since.get(page.ids[place], "9")
            return not page.times[place] and seen <= day_ago and (starts[place] or "9") >= self.since

        return [place for place, time in enumerate(page.times) if self.asked.has(time) or long_endless(place)]
