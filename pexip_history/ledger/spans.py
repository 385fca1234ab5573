"""Half-open spans of time, [start, end), in UTC: merged, and what lies between them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from pexip_history.values import format_time

BEGINNING = datetime.min.replace(tzinfo=UTC)
"""As far back as a node goes: a span that begins here is asked for without a lower bound."""


class Span(NamedTuple):
    start: datetime
    end: datetime

    def __str__(self) -> str:
        start = "the beginning" if self.start == BEGINNING else format_time(self.start)
        return f"{start} to {format_time(self.end)} UTC"


def merge(spans: Iterable[Span]) -> list[Span]:
    """The same time in as few spans as it takes, in order; empty ones go."""
    merged: list[Span] = []
    for span in sorted(spans):
        if span.start >= span.end:
            continue
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged


def without(spans: Iterable[Span], taken: Iterable[Span]) -> list[Span]:
    """What of the spans none of `taken` has, merged."""
    left = merge(spans)
    for hole in merge(taken):
        left = [
            piece
            for span in left
            for piece in (Span(span.start, min(span.end, hole.start)), Span(max(span.start, hole.end), span.end))
            if piece.start < piece.end
        ]
    return left


def common(some: Iterable[Span], others: Iterable[Span]) -> list[Span]:
    """The time that both have, merged."""
    some = merge(some)
    return without(some, without(some, others))


class Times:
    """Spans as the node writes times, to look its records' times up in."""

    def __init__(self, spans: Iterable[Span]) -> None:
        merged = merge(spans)
        self._starts = [format_time(span.start) for span in merged]
        self._ends = [format_time(span.end) for span in merged]

    def has(self, time: str) -> bool:
        place = bisect_right(self._starts, time) - 1
        return place >= 0 and time < self._ends[place]

    def has_all(self, times: Sequence[str]) -> bool:
        """Whether one of the spans has them all; True where there are none."""
        if not times:
            return True
        place = bisect_right(self._starts, min(times)) - 1
        return place >= 0 and max(times) < self._ends[place]
