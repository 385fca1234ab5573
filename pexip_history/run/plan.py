"""What to ask next: a calculation from what was asked, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import zip_longest

from pexip_history.ledger.spans import Span, merge, without
from pexip_history.node.api import CLOCKS_AGREE

DAY = timedelta(days=1)

Reading = Mapping[str, Span]
"""A window for each resource, by its name; together they become one set of dated files."""


def plan(asked: Mapping[str, Sequence[Span]], since: datetime, now: datetime) -> list[Reading]:
    """The readings that are due: everything between `since` and now that was not asked for, each moment once.

    The schedule's own comes first, then what is older, oldest first, because that is what the node forgets next.
    """
    own = {name: own_window(spans, since, now) for name, spans in asked.items()}
    return [own, *_readings({name: without([Span(since, own[name].start)], spans) for name, spans in asked.items()})]


def own_window(asked: Sequence[Span], since: datetime, now: datetime) -> Span:
    """What a scheduled run asks for of one resource: from the end of what was asked to now; at first, the day before.

    It is empty where all was asked up to now.
    """
    spans = merge(asked)
    end = spans[-1].end if spans else now - DAY
    return Span(min(max(end, since), now), now)


def plan_by_hand(window: Span, covered: Mapping[str, Sequence[Span]]) -> list[Reading]:
    """The readings that make up a window that a user asks for: what of it is not covered, oldest first.

    A window that is covered whole is read again as it is.
    """
    readings = _readings({name: without([window], spans) for name, spans in covered.items()})
    return readings or [dict.fromkeys(covered, window)]


def _readings(windows: Mapping[str, Sequence[Span]]) -> list[Reading]:
    """The first window of each resource that has one, the second of each, and so on."""
    together = zip_longest(*([(name, span) for span in spans] for name, spans in windows.items()))
    return [dict(filter(None, entries)) for entries in together]


def believed(spans: Sequence[Span], windows: Sequence[Span], now: datetime) -> list[Span]:
    """The spans as far as they do not reach ahead of now: a clock was wrong, or is.

    First go the `windows` that runs asked for and that end ahead of now: what was asked for before them stays. A span
    that reaches ahead all the same goes whole: what it holds is not known. What reaches ahead by less than a quarter of
    an hour is a clock that was set: there the span ends now.
    """
    near = now + CLOCKS_AGREE
    if any(span.end > near for span in spans):
        spans = without(spans, [window for window in windows if window.end > near])
    return merge(Span(span.start, min(span.end, now)) for span in spans if span.end <= near)
