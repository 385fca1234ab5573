"""The days that a page is about, and how much of them the history covers."""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

DAYS = 30
EARLIEST, LATEST = date(2000, 1, 1), date(2100, 12, 31)
A_DAY = timedelta(days=1)

Span = tuple[datetime, datetime]
"""Half-open, naive, UTC."""


@dataclass(frozen=True)
class Period:
    """Local days, both included."""

    first: date
    last: date

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1

    @property
    def months(self) -> int:
        """How many whole calendar months it is; 0 where it is not that."""
        whole = self.first.day == 1 and (self.last + A_DAY).day == 1
        return (self.last.year - self.first.year) * 12 + self.last.month - self.first.month + 1 if whole else 0

    @property
    def name(self) -> str:
        return f"{self.first:%B %Y}" if self.months == 1 else f"{self.first} to {self.last}"

    def before(self) -> Period:
        """Of whole months as many months before, else as many days."""
        last = max(self.first - A_DAY, EARLIEST)
        if self.months:
            number = self.first.year * 12 + self.first.month - 1 - self.months
            first = date(max(number // 12, 1), number % 12 + 1, 1)
        else:
            first = last - timedelta(days=self.days - 1)
        return Period(max(first, EARLIEST), last)

    def span(self, zone: ZoneInfo) -> Span:
        return midnight(self.first, zone), midnight(self.last + A_DAY, zone)


def month_of(year: int, month: int) -> Period:
    return Period(date(year, month, 1), date(year, month, calendar.monthrange(year, month)[1]))


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """When that day begins in the zone; naive, UTC."""
    return datetime.combine(day, time(), zone).astimezone(UTC).replace(tzinfo=None)


def choose_period(
    first: date | None, last: date | None, oldest: datetime | None, newest: datetime | None, made: datetime
) -> tuple[Period, Period]:
    """The days that were asked for, or 30 whole days up to the end of what is known, and the period before.

    `oldest` and `newest` are where what is known begins and ends, local. Today is no whole day yet, so the default
    leaves it out where there is another.
    """
    if last is None:
        yesterday = made.date() - A_DAY
        last = (newest - timedelta(microseconds=1)).date() if newest else yesterday
        if oldest and last == made.date() and oldest.date() < last:
            last = yesterday
        last = max(last, first) if first else last
    last = min(max(last, EARLIEST), LATEST)
    first = min(max(first or last - timedelta(days=DAYS - 1), EARLIEST), last)
    period = Period(first, last)
    return period, period.before()


def lacking(spans: Sequence[Span], start: datetime, end: datetime) -> list[Span]:
    """What of the time from start to end none of the spans has, which are in order."""
    found = []
    for a, b in spans:
        if start < min(a, end):
            found.append((start, min(a, end)))
        start = max(start, b)
    return [*found, (start, end)] if start < end else found


class Coverage:
    """The spans for which the node was asked and all that it offered was taken."""

    def __init__(self, spans: Sequence[Span], known: bool, zone: ZoneInfo) -> None:
        self.spans = sorted(spans)
        self.known = known
        """Whether the ledger says so; else it is what the files span."""
        self.zone = zone

    def within(self, period: Period) -> list[Span]:
        """Its spans, cut to the period."""
        return self._cut(*period.span(self.zone))

    def _cut(self, start: datetime, end: datetime) -> list[Span]:
        cut = [(max(a, start), min(b, end)) for a, b in self.spans]
        return [(a, b) for a, b in cut if a < b]

    def lacking(self, period: Period) -> list[Span]:
        """What of the period is not covered."""
        return lacking(self.spans, *period.span(self.zone))

    def days(self, period: Period) -> float:
        """How many of the period's days are covered, parts of days included."""
        return self.share(period.first, period.last) * period.days

    def share(self, first: date, last: date) -> float:
        """Of these days how much is covered, 0 to 1."""
        start, end = Period(first, last).span(self.zone)
        covered = sum((b - a for a, b in self._cut(start, end)), timedelta())
        return covered / (end - start)

    def whole(self, period: Period) -> bool:
        return not self.lacking(period)


def _every_day(period: Period) -> list[date]:
    return [date.fromordinal(n) for n in range(period.first.toordinal(), period.last.toordinal() + 1)]


def span_of(period: Period) -> str:
    """By what the page divides the period, so that it stays readable and small."""
    for most, span in ((92, "day"), (750, "week"), (4000, "month")):
        if period.days <= most:
            return span
    return "year"


def spans(period: Period, span: str) -> Sequence[date]:
    """The first day of every span that the period touches, as date_trunc has it."""
    found: list[date] = []
    for day in _every_day(period):
        since = {
            "day": day,
            "week": day - timedelta(days=day.weekday()),
            "month": day.replace(day=1),
            "year": day.replace(month=1, day=1),
        }[span]
        if not found or found[-1] != since:
            found.append(since)
    return found


def last_day(since: date, span: str) -> date:
    """The last day of the span that begins on that day."""
    if span == "month":
        return month_of(since.year, since.month).last
    return {"day": since, "week": since + timedelta(days=6)}.get(span, since.replace(month=12, day=31))
