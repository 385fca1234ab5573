"""Participants that collected conferences list and no window brought: asked for until they came or are gone."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from pexip_history.errors import NodeError, NotFound, Refused, TooLarge, printable
from pexip_history.ledger.spans import Span, Times
from pexip_history.messages import sentence
from pexip_history.node.api import Node
from pexip_history.node.records import Page
from pexip_history.resources import PARTICIPANT
from pexip_history.run.query import Query, Taker
from pexip_history.run.seen import Seen
from pexip_history.run.windows import Allowance, in_time
from pexip_history.values import read_time

FEW = 2
"""Conferences that are asked for without looking at the time in which they took place."""

log = logging.getLogger("collector")

MissingOf = tuple[str, int, str, str]
"""A conference, how many of its participants are missing, its start and its end."""


class Missing:
    """Asks for who is missing, by whichever is cheapest: a span of time, the conference, each one's own address.

    A node that answers nothing, 400 or 404 to a filter has said nothing: of that each one's own address decides.
    `lost` counts those of whom the node said there that they are gone; `newly` is True where it says so for the first
    time.
    """

    def __init__(self, node: Node, seen: Seen, taker: Taker, allowance: Allowance, now: datetime) -> None:
        self.node, self.seen, self.taker, self.allowance, self.now = node, seen, taker, allowance, now
        self.lost, self.newly, self._filter_helps = 0, False, True

    def collect(self, covered: Times) -> None:
        """Ask for everybody whose conference lies in time that is covered; what cannot be finished waits."""
        self.seen.find_missing()
        asked = self.seen.to_ask(covered, self.now)
        try:
            if len(asked) > FEW:
                self._by_span(asked)
                self.seen.drop_found()
                asked = self.seen.to_ask(covered, self.now)
            for conference, *_ in asked:
                if self.allowance.left(PARTICIPANT.name) == 0:
                    break
                self._by_conference(conference)
        except NodeError as error:
            log.warning(sentence("missing-wait", why=error))
        self.seen.drop_found()

    def _by_span(self, asked: Sequence[MissingOf]) -> None:
        """Read the time in which the conferences took place, where that takes fewer requests than they are."""
        times = [(read_time(start), read_time(end)) for _, _, start, end in asked]
        known = [(start, end) for start, end in times if start and end]
        if not known:
            return
        span = Span(min(start for start, _ in known), max(end for _, end in known) + timedelta(seconds=1))
        missing = [one for conference, *_ in asked for one in self.seen.missing_of(conference, self.now)]
        with suppress(Refused, TooLarge):
            self._ask(in_time(PARTICIPANT.name, span), missing, len(known))

    def _ask(self, filters: Mapping[str, str], missing: Collection[str], requests: int) -> None:
        """Take who is missing from the answer, where it takes no more than so many requests."""
        chosen = set(missing)

        def wanted(page: Page) -> Sequence[int]:
            places = [place for place, i in enumerate(page.ids) if i in chosen]
            return places[: self.allowance.left(PARTICIPANT.name)]

        self.taker.read(Query(PARTICIPANT.name, filters, wanted, room=requests * self.node.page_size))

    def _by_conference(self, conference: str) -> None:
        missing = self.seen.missing_of(conference, self.now)
        if len(missing) > 1 and self._filter_helps:
            before = self.taker.taken.get(PARTICIPANT.name, 0)
            with suppress(Refused, NotFound):
                self._ask({"conference": conference}, missing, len(missing))
            self._filter_helps = self.taker.taken.get(PARTICIPANT.name, 0) > before
            self.seen.drop_found()
            missing = self.seen.missing_of(conference, self.now)
        gone: Counter[str] = Counter()
        for participant in missing:
            if self.allowance.left(PARTICIPANT.name) == 0:
                return
            gone[conference] += self._at_own_address(participant)
        for name, count in gone.items():
            if count:
                log.warning(sentence("participants-gone", count=count, conference=printable(name, 300)))

    def _at_own_address(self, participant: str) -> bool:
        """Ask for one; whether the node says for the first time that it is gone."""
        try:
            page = self.node.record(PARTICIPANT.name, participant)
        except NotFound:
            first = self.seen.asked(participant, self.now, gone=True)
            self.lost += first
            self.newly = self.newly or first
            return first
        if page.ids == [participant]:
            self.taker.take(PARTICIPANT.name, page, [0])
        self.seen.asked(participant, self.now, gone=False)
        return False
