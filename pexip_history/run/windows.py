"""Reading windows: as much of each as the limits leave room for, and since when the node still knows all of it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pexip_history.ledger.ledger import BEFORE, COVERED, GAP, Ledger
from pexip_history.ledger.spans import BEGINNING, Span, Times, without
from pexip_history.node.api import Node
from pexip_history.node.records import Page
from pexip_history.resources import BY_NAME, CONFERENCE, PARTICIPANT
from pexip_history.run.reading import Draft, Query, read
from pexip_history.values import format_time, read_time

OVERLAP = timedelta(hours=1)
"""How far before its window a query begins, for records that were shown late."""
SECOND, INSTANT = timedelta(seconds=1), timedelta(microseconds=1)
ENOUGH = 0.9
"""Of the room, that a shorter window may leave unused: finding a better end costs requests."""


SpansByKind = Mapping[str, Sequence[Span]]
"""What is added to a resource's coverage, by kind."""


@dataclass(frozen=True)
class Outcome:
    """What reading a window came to: the part that was read, how many of the rest wait; the rest as in a Result."""

    read: Span
    waiting: int = 0
    still: bool = True
    oldest: str = ""
    first: str = ""


def in_time(resource: str, span: Span) -> dict[str, str]:
    """The filters for a span; one that begins at BEGINNING has no lower bound."""
    time = BY_NAME[resource].time
    lower = {} if span.start == BEGINNING else {f"{time}__gte": format_time(span.start)}
    return {**lower, f"{time}__lt": format_time(span.end)}


def read_window(draft: Draft, resource: str, window: Span, since: datetime) -> Outcome:
    """Take what is new in the window and, of what was asked for before, in the hour before it, back to `since`.

    Where the window has more new records than the limit leaves room for, a shorter one is read. A window that is
    covered is read whole: it has few that are new. Raises NodeError.
    """
    uncovered = without([window], draft.ledger.spans(resource, COVERED))
    room = draft.left(resource) if uncovered else None
    if room == 0:
        return Outcome(Span(window.start, window.start), waiting=_count(draft.node, resource, window))
    result, waiting = read(draft, _query(draft, resource, window, since, room)), 0
    if room is not None and result.total > room:
        if (total := _count(draft.node, resource, window)) > room:
            window, fits = _shorten(draft.node, resource, window, room, total)
            waiting = total - fits
        result = read(draft, _query(draft, resource, window, since))
    return Outcome(window, waiting, result.still, result.oldest, result.first)


def _query(draft: Draft, resource: str, window: Span, since: datetime, room: int | None = None) -> Query:
    lower = window.start
    if lower - BEGINNING > OVERLAP:
        lower = max(lower - OVERLAP, min(since, lower))
    span, times = Span(lower, window.end), Times([window, *draft.ledger.spans(resource)])

    def wanted(page: Page) -> Sequence[int]:
        if times.has_all(page.times):
            return range(len(page.ids))
        return [place for place, time in enumerate(page.times) if times.has(time)]

    return Query(resource, in_time(resource, span), wanted, room=room, asked_for=Times([span]))


def _count(node: Node, resource: str, span: Span) -> int:
    return node.count(resource, in_time(resource, span))


def _shorten(node: Node, resource: str, window: Span, room: int, total: int) -> tuple[Span, int]:
    """The longest window from the same start that holds no more than `room` of the `total`, and how many it holds.

    Its end is found by counting. Where more ended at one instant than that, the instant is taken whole.
    """
    low, fits = _early_end(node, resource, window, room), 0
    high, too_many = window.end, total
    while fits < ENOUGH * room and high - low > (SECOND if fits else INSTANT):
        half = (high - low) / 2
        middle = low + (half - half % SECOND if half > SECOND else half)
        count = _count(node, resource, Span(window.start, middle))
        if count <= room:
            low, fits = middle, count
        else:
            high, too_many = middle, count
    return (Span(window.start, low), fits) if fits else (Span(window.start, high), too_many)


def _early_end(node: Node, resource: str, window: Span, room: int) -> datetime:
    """An end that is early enough: the window's start, or for one without a start some time in the past."""
    if window.start != BEGINNING:
        return window.start
    back = timedelta(days=1)
    while window.end - BEGINNING > 2 * back and _count(node, resource, Span(BEGINNING, window.end - back)) > room:
        back *= 2
    return window.end - back


class Memory:
    """Since when the node still knows everything: it forgets its oldest conferences first.

    For one reading, once all of its windows are read: what the node forgot before, it had not before.
    """

    def __init__(self, node: Node, ledger: Ledger, conferences: Outcome | None) -> None:
        self.node, self.ledger = node, ledger
        self._has_before: dict[datetime, bool] = {}
        self._first = read_time(conferences.oldest) if conferences and conferences.read.start == BEGINNING else None
        # A query begins before its window: what it brought from there, and is no news, the node lists.
        if (
            conferences
            and conferences.still
            and conferences.oldest < format_time(conferences.read.start)
            and ledger.has(CONFERENCE.name, conferences.first)
        ):
            self._has_before[conferences.read.start] = True

    def coverage(self, resource: str, outcome: Outcome) -> SpansByKind:
        """What a window that was read adds."""
        window = outcome.read
        if window.start >= window.end:
            return {}
        if window.start == BEGINNING:
            begins, kind = self._beginning(resource, outcome) or window.end, BEFORE
        elif BY_NAME[resource].optional or self._has_older(window.start):
            begins, kind = window.start, BEFORE
        else:
            begins = self._oldest_since(window)
            kind = GAP if self.ledger.collected_before(CONFERENCE.name, window.start) else BEFORE
        begins = min(max(begins, window.start), window.end)
        return {kind: [Span(window.start, begins)], COVERED: [Span(begins, window.end)]}

    def _beginning(self, resource: str, outcome: Outcome) -> datetime | None:
        """From when on the node has all of a resource, of which everything was asked for.

        Participants go with their conference: of those who left before the oldest one's end some may be gone.
        """
        if resource != PARTICIPANT.name:
            return read_time(outcome.oldest)
        if self._first and self._has_older(self._first + INSTANT):
            return self._first
        return self._oldest_since(outcome.read)

    def _has_older(self, moment: datetime) -> bool:
        """Whether the node lists a conference that ended before the moment: then it has forgotten nothing since.

        Where some were collected before, one that nobody collected in time that was asked for tells nothing: its end
        was written by a clock that was wrong, or it came late.
        """
        if moment not in self._has_before:
            before = in_time(CONFERENCE.name, Span(BEGINNING, moment))
            page = self.node.first_page(CONFERENCE.name, before, 1, newest_first=True)
            pages = self.node.pages(CONFERENCE.name, before, newest_first=True) if page.total > 1 else ()
            self._has_before[moment] = any(self._tells(each, moment) for each in itertools.chain([page], pages))
        return self._has_before[moment]

    def _tells(self, page: Page, moment: datetime) -> bool:
        if not self.ledger.collected_before(CONFERENCE.name, moment):
            return bool(page.total)
        asked = Times(self.ledger.spans(CONFERENCE.name))
        return any(
            not asked.has(time) or self.ledger.has(CONFERENCE.name, i)
            for i, time in zip(page.ids, page.times, strict=True)
        )

    def _oldest_since(self, window: Span) -> datetime:
        """When the first of the conferences ended that the node lists from the window's start on."""
        start = window.start
        filters = {} if start == BEGINNING else {f"{CONFERENCE.time}__gte": format_time(start)}
        times = [time for page in self.node.pages(CONFERENCE.name, filters) for time in page.times if time]
        return read_time(min(times, default="")) or window.end
