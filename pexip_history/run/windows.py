"""Reading windows: as much of each as the limits leave room for, and since when the node still knows all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from pexip_history.ledger.ledger import BEFORE, COVERED, GAP, Ledger
from pexip_history.ledger.spans import BEGINNING, Span, Times, merge
from pexip_history.node.api import Node
from pexip_history.node.records import Page
from pexip_history.resources import BY_NAME, CONFERENCE, PARTICIPANT
from pexip_history.run.query import Query, Taker
from pexip_history.values import format_time, read_time

OVERLAP = timedelta(hours=1)
"""How far before its window a query begins, for records that were shown late."""
SECOND, INSTANT = timedelta(seconds=1), timedelta(microseconds=1)
ENOUGH = 0.9
"""Of the room, that a shorter window may leave unused: finding a better end costs requests."""


@dataclass
class Allowance:
    """How many more new records this run may take, by resource; None: no limit."""

    limits: Mapping[str, int | None]
    taken: dict[str, int] = field(default_factory=dict)

    def left(self, resource: str) -> int | None:
        limit = self.limits.get(resource)
        return None if limit is None else max(0, limit - self.taken.get(resource, 0))

    def used(self, resource: str, page: Page) -> None:
        self.taken[resource] = self.taken.get(resource, 0) + len(page.ids)


@dataclass
class Outcome:
    """What reading a window came to: the part that was read, how many of the rest wait, whether it held still."""

    read: Span
    waiting: int = 0
    still: bool = True
    oldest: str = ""


def in_time(resource: str, span: Span) -> dict[str, str]:
    """The filters for a span; one that begins at BEGINNING has no lower bound."""
    time = BY_NAME[resource].time
    lower = {} if span.start == BEGINNING else {f"{time}__gte": format_time(span.start)}
    return {**lower, f"{time}__lt": format_time(span.end)}


class Windows:
    """Reads windows of one reading. `asked` are the spans that were asked for before, by resource."""

    def __init__(
        self,
        node: Node,
        taker: Taker,
        allowance: Allowance,
        asked: Mapping[str, Sequence[Span]],
        since: datetime,
    ) -> None:
        self.node, self.taker, self.allowance, self.asked, self.since = node, taker, allowance, asked, since

    def read(self, resource: str, window: Span, *, limited: bool = True) -> Outcome:
        """Take what is new in the window and, of what was asked for before, in the hour before it."""
        room = self.allowance.left(resource) if limited else None
        if room == 0 and window.start < window.end:
            return Outcome(Span(window.start, window.start), waiting=self._count(resource, window))
        answer = self.taker.read(replace(self._query(resource, window), room=room))
        waiting = 0
        if answer.too_many and room is not None:
            total = self._count(resource, window)
            if total > room:
                window, fits = self._shorten(resource, window, room)
                waiting = total - fits
            answer = self.taker.read(self._query(resource, window))
        return Outcome(window, waiting, answer.still, answer.oldest)

    def _query(self, resource: str, window: Span) -> Query:
        lower = window.start
        if lower - BEGINNING > OVERLAP:
            lower = max(lower - OVERLAP, min(self.since, lower))
        times = Times(merge([window, *self.asked[resource]]))
        asked_for = Times([Span(lower, window.end)])

        def wanted(page: Page) -> Sequence[int]:
            if times.has_all(page.times):
                return range(len(page.ids))
            return [place for place, time in enumerate(page.times) if times.has(time)]

        return Query(resource, in_time(resource, Span(lower, window.end)), wanted, asked_for=asked_for)

    def _count(self, resource: str, span: Span) -> int:
        return self.node.count(resource, in_time(resource, span)) if span.start < span.end else 0

    def _shorten(self, resource: str, window: Span, room: int) -> tuple[Span, int]:
        """The longest window from the same start that holds no more than `room`, and how many it holds.

        Its end is found by counting. Where more ended at one instant than that, the instant is taken whole.
        """
        low, fits = self._low(resource, window, room), 0
        high = window.end
        while fits < ENOUGH * room and high - low > (SECOND if fits else INSTANT):
            step = (high - low) / 2
            middle = low + (timedelta(seconds=round(step.total_seconds())) if step > SECOND else max(step, INSTANT))
            if middle >= high:
                middle = high - INSTANT
            count = self._count(resource, Span(window.start, middle))
            if count <= room:
                low, fits = middle, count
            else:
                high = middle
        if not fits:
            return Span(window.start, high), self._count(resource, Span(window.start, high))
        return Span(window.start, low), fits

    def _low(self, resource: str, window: Span, room: int) -> datetime:
        """An end that is early enough: the window's start, or for one without a start some time in the past."""
        if window.start != BEGINNING:
            return window.start
        back = timedelta(days=1)
        while window.end - BEGINNING > 2 * back and self._count(resource, Span(BEGINNING, window.end - back)) > room:
            back *= 2
        return window.end - back


class Memory:
    """Since when the node still knows everything: it forgets its oldest conferences first."""

    def __init__(self, node: Node, ledger: Ledger) -> None:
        self.node, self.ledger = node, ledger
        self._newest_before: dict[datetime, Page] = {}

    def look_before(self, moment: datetime) -> Page:
        """One request: the newest conference that ended before the moment."""
        page = self.node.first_page(
            CONFERENCE.name, in_time(CONFERENCE.name, Span(BEGINNING, moment)), 1, newest_first=True
        )
        self._newest_before[moment] = page
        return page

    def spans(self, resource: str, outcome: Outcome) -> dict[str, list[Span]]:
        """What a window that was read adds to coverage, by kind."""
        window = outcome.read
        if window.start >= window.end:
            return {}
        if window.start == BEGINNING:
            begins = read_time(outcome.oldest) or window.end
            return _split(window, min(max(begins, window.start), window.end), BEFORE)
        if resource not in (CONFERENCE.name, PARTICIPANT.name):
            return {COVERED: [window]}
        start = window.start
        page = (outcome.still and self._newest_before.get(start)) or self.look_before(start)
        if page.ids:  # who still has something older has forgotten nothing since
            return {COVERED: [window]}
        kind = GAP if self.ledger.collected_before(CONFERENCE.name, start) else BEFORE
        return _split(window, min(self._oldest_since(start, window.end), window.end), kind)

    def _oldest_since(self, start: datetime, end: datetime) -> datetime:
        """When the first of the conferences ended that the node lists from `start` on; `end` where it lists none."""
        filters = {f"{CONFERENCE.time}__gte": format_time(start)}
        times = [time for page in self.node.pages(CONFERENCE.name, filters) for time in page.times if time]
        return read_time(min(times, default="")) or end


def _split(window: Span, moment: datetime, kind: str) -> dict[str, list[Span]]:
    return {kind: [Span(window.start, moment)], COVERED: [Span(moment, window.end)]}
