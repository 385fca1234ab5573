"""Participants that collected conferences list and no window brought: asked for until they came or are gone."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from pexip_history.errors import QUOTED, NodeError, NotFound, Passing, Refused, TooLarge, printable
from pexip_history.ledger.spans import Span, Times
from pexip_history.messages import sentence
from pexip_history.node.records import Page
from pexip_history.resources import PARTICIPANT
from pexip_history.run.reading import Draft, Query, read
from pexip_history.run.seen import Listing
from pexip_history.run.windows import in_time
from pexip_history.values import read_time

FEW_CONFERENCES = 2
"""They are asked for without looking at the time in which they took place."""
MOST_FAILED = 2
"""Of those who are asked for one by one, how many the node may fail on before the rest waits for the next run."""

log = logging.getLogger("collector")


class Missing:
    """Asks for who is missing, by whichever is cheapest: a span of time, the conference, each one's own address.

    A node that answers nothing, 400 or 404 to a filter has said nothing: of that each one's own address decides.
    """

    def __init__(self, draft: Draft, now: datetime) -> None:
        self.draft, self.now = draft, now
        self._missing: set[str] = set()
        self._filter_helps, self._failed = True, 0

    def ask(self, asked_now: Sequence[Span]) -> None:
        """Ask where the conference's time was asked for, by earlier runs or now: elsewhere they may come by themselves.

        What cannot be finished waits.
        """
        before = self.draft.ledger.spans(PARTICIPANT.name)
        self.draft.late_in = Times(before)
        self.draft.seen.find_missing()
        listings = self.draft.seen.to_ask(Times([*before, *asked_now]), self.now)
        self._missing = {participant for listing in listings for participant in listing.participants}
        try:
            if len(listings) > FEW_CONFERENCES:
                self._by_span(listings)
            for listing in listings:
                if self.draft.left(PARTICIPANT.name) != 0:
                    self._by_conference(listing)
        except NodeError as error:
            log.warning(sentence("missing-wait", why=error))
        self.draft.seen.drop_found()

    def _by_span(self, listings: Sequence[Listing]) -> None:
        """Read the time in which the conferences took place, where that takes fewer requests than they are."""
        times = [(read_time(listing.started), read_time(listing.ended)) for listing in listings]
        known = [(start, end) for start, end in times if start and end]
        if not known:
            return
        span = Span(min(start for start, _ in known), max(end for _, end in known) + timedelta(seconds=1))
        with suppress(Refused, TooLarge):
            self._by_filters(in_time(PARTICIPANT.name, span), self._missing, len(known))

    def _by_filters(self, filters: Mapping[str, str], chosen: Collection[str], requests: int) -> None:
        """Take these of the answer, where it takes no more than so many requests."""

        def wanted(page: Page) -> Sequence[int]:
            places = [place for place, i in enumerate(page.ids) if i in self._missing and i in chosen]
            places = places[: self.draft.left(PARTICIPANT.name)]
            self._missing.difference_update(page.ids[place] for place in places)
            return places

        room = requests * self.draft.node.page_size
        read(self.draft, Query(PARTICIPANT.name, filters, wanted, room=room))

    def _by_conference(self, listing: Listing) -> None:
        missing = self._missing.intersection(listing.participants)
        if len(missing) > 1 and self._filter_helps:
            with suppress(Refused, NotFound):
                self._by_filters({"conference": listing.conference}, missing, len(missing))
            self._filter_helps = not missing <= self._missing
        before = self.draft.lost
        for participant in sorted(missing & self._missing):
            if self.draft.left(PARTICIPANT.name) != 0:
                self._by_address(participant)
        if count := self.draft.lost - before:
            log.warning(sentence("participants-gone", count=count, conference=printable(listing.conference, QUOTED)))

    def _by_address(self, participant: str) -> None:
        """Ask for one at its own address; a 404 there says that it is gone."""
        try:
            page = self.draft.node.record(PARTICIPANT.name, participant)
        except NotFound:
            self.draft.lost += self.draft.seen.note_gone(participant, self.now)
            return
        except NodeError as error:
            self.draft.seen.note_asked(participant, self.now)  # for a day, the others go first
            self._failed += 1
            if self._failed > MOST_FAILED or not isinstance(error, Passing):
                raise
            log.warning(sentence("missing-wait", why=error))
            return
        if page.ids == [participant]:
            self.draft.take(PARTICIPANT.name, page, [0])
        self.draft.seen.note_asked(participant, self.now)
