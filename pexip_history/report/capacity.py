"""How much is there at the same time, and when: peaks, days, hours of the week, months."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from pexip_history.messages import counted

from . import apart, charts, concurrency
from .blocks import (
    Cell,
    Figure,
    HeatMap,
    Section,
    Table,
    clock,
    day_text,
    moment_text,
    share,
    shown,
    span_cell,
    span_text,
)
from .charts import Words
from .concurrency import Measure, Peak
from .material import Material, named, peak_of
from .period import last_day
from .queries import MONTHS, NOT_TOLD

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
COLOURS = {"participants": "s1", "conferences": "s2"}
PLACES = 30
"""Locations with a line of their own."""
HATCHED = "Hatched: not all of it is covered, so there may have been more."


def peaks(m: Material) -> Section:
    section = Section(
        "peaks",
        "At the same time",
        "How many were there at once decides how many licenses are needed. A peak that lasts a few minutes in a "
        "month can be a reason to buy more, or to move one meeting.",
    )
    found = {measure: concurrency.peaks(m.db, measure, m.span, m.period.first, m.period.last) for measure in m.measures}
    summary, there = [], []
    for measure in found:
        if not (most := peak_of(m, measure)):
            continue
        before = concurrency.peak(m.db, measure, m.before.first, m.before.last) if m.compared else None
        then: str | int = before.most if before else (0 if m.compared else "–")
        summary.append((named(measure), most.most, moment_text(most.at), clock(most.seconds), then))
        there += _there(m, measure, most)
    head = ("what", "peak", "first reached", "h:mm:ss at 90 % or more", "peak of the previous period")
    section.blocks.append(Table("The highest of the period", head, summary))
    section.blocks.append(_daily(m))
    if there:
        section.blocks.append(
            Table("Which rooms made each peak", ("what", "when", "room", "how many"), there, folded=True)
        )
    section.blocks.append([_peak_blocks(m, measure, each) for measure, each in found.items()])
    if any(m.uncovered):
        section.blocks.append(HATCHED)
    for table, columns in (("participant", ("licenses",)), ("participant", ("license",)), ("conference", ("starts",))):
        if lack := m.lacks(table, *columns):
            section.blocks.append(lack)
    return section


def _daily(m: Material) -> Table:
    """The peaks of days that are not the highest: one day a year is a reason for less than one a week."""
    rows: list[tuple[Cell, ...]] = []
    days = math.ceil(m.coverage.days(m.period))
    for measure, each in m.daily.items():
        most = sorted((peak.most for peak in each), reverse=True)
        if most:
            three = [*most, 0, 0][:3]
            rows.append((named(measure), *three, ninety_fifth(most, days)))
    head = ("what", "highest", "second", "third", "95th percentile")
    return Table("Peaks of the days", head, rows)


def ninety_fifth(peaks: Sequence[int], days: int) -> int:
    """The 95th percentile by nearest rank: on 19 of 20 days there were at most that many. Days without one have 0."""
    every = sorted(peaks) if len(peaks) >= days else [0] * (days - len(peaks)) + sorted(peaks)
    return every[math.ceil(len(every) * 0.95) - 1] if every else 0


def _there(m: Material, measure: Measure, most: Peak) -> list[tuple[Cell, ...]]:
    """The rooms that were there at the peak, the largest by name."""
    found = apart.there(m.db, measure, most)
    rooms = [each for each in found if each.room is not None]
    rows: list[tuple[Cell, ...]] = [
        (named(measure), moment_text(most.at), m.room(each.room or ""), each.count) for each in rooms[: apart.SHOWN]
    ]
    if rest := rooms[apart.SHOWN :]:
        rows.append(
            (named(measure), moment_text(most.at), counted(len(rest), "other room"), sum(each.count for each in rest))
        )
    rows += [(named(measure), moment_text(most.at), apart.GATEWAY, each.count) for each in found if each.room is None]
    return rows


def _peak_blocks(m: Material, measure: Measure, each: Sequence[Peak]) -> list[object]:
    name = named(measure)
    by = {peak.since: peak for peak in each}
    picture = charts.columns(
        Words(
            f"peak-{measure.column}",
            f"{name} at the same time, by {m.span}",
            f"A column for each {m.span}, as high as the most at one time. {_summary(each)}",
        ),
        [span_text(since, m.span) for since in m.every],
        [(COLOURS.get(measure.column, "s3"), [by[since].most if since in by else 0 for since in m.every])],
        "at once",
        gaps=m.uncovered,
    )
    rows = [
        (span_cell(since, m.span, m.covered(since, m.span)), peak.most, moment_text(peak.at), clock(peak.seconds))
        if (peak := by.get(since))
        else (span_cell(since, m.span, m.covered(since, m.span)), 0, "", "0:00:00")
        for since in m.every
    ]
    head = (m.span, "peak", "first reached", f"h:mm:ss at 90 % or more of the {m.span}'s peak")
    return [Figure(f"{name}: peak by {m.span}", picture), Table(f"{name}: peak by {m.span}", head, rows, folded=True)]


def _summary(each: Sequence[Peak]) -> str:
    if not each:
        return "Nobody was there."
    most = max(each, key=lambda peak: peak.most)
    return f"The highest is {most.most:,}, reached on {day_text(most.at.date())} at {most.at:%H:%M}."


def places(m: Material) -> Section:
    section = Section(
        "places",
        "Peaks by location",
        "How many were there at once in each location, by itself: what its nodes must carry. The locations' peaks "
        "need not be at the same moment, so they do not add up.",
    )
    if lack := m.lacks("participant", "location"):
        section.blocks.append(lack)
        return section
    found = sorted(apart.peaks_by(m.db, "location").items(), key=lambda item: (-item[1].participants, item[0] or ""))
    rows: list[tuple[Cell, ...]] = [
        (
            shown(name or NOT_TOLD),
            each.participants,
            moment_text(each.at) if each.at else "",
            *([each.licenses] if m.archive.has("participant", "licenses") else []),
        )
        for name, each in found[:PLACES]
    ]
    head = ("location", "participants", "first reached", "licenses")
    caption = "The peaks of each location"
    if len(found) > len(rows):
        caption += f", the {PLACES} highest of {len(found)}"
    section.blocks.append(Table(caption, head[: len(rows[0])] if rows else head, rows))
    return section


def days(m: Material) -> Section:
    section = Section("days", f"Calls by {m.span}", "What began on each, weekends and holidays included.")
    by = {since: (calls, people) for since, calls, people in m.queries.days(m.span)}
    labels = [span_text(since, m.span) for since in m.every]
    pictures = []
    for place, (name, kind) in enumerate((("Conferences", "s2"), ("Participants", "s1"))):
        values = [by.get(since, (0, 0))[place] for since in m.every]
        words = Words(
            f"days-{place}",
            f"{name} by {m.span}",
            f"A column for each {m.span}; {sum(values):,} in all, {max(values, default=0):,} at most.",
        )
        picture = charts.columns(words, labels, [(kind, values)], name.lower(), gaps=m.uncovered)
        pictures.append(Figure(f"{name} by {m.span}", picture))
    rows = [
        (span_cell(since, m.span, m.covered(since, m.span)) + _cut(m, since), *by.get(since, (0, 0)))
        for since in m.every
    ]
    section.blocks += [
        pictures,
        Table(f"Conferences and participants by {m.span}", (m.span, "conferences", "participants"), rows, folded=True),
    ]
    if any(m.uncovered):
        section.blocks.append(HATCHED)
    return section


def _cut(m: Material, since: date) -> str:
    """What is said of a week, month or year of which the period has a part alone."""
    last = last_day(since, m.span)
    inside = (min(last, m.period.last) - max(since, m.period.first)).days + 1
    every = (last - since).days + 1
    return f", {inside} of {every} days" if inside < every else ""


def hours(m: Material) -> Section:
    section = Section(
        "hours",
        "Hours of the week",
        "How many participants were there on the average, by hour and weekday, over the time that is covered. Plan "
        "maintenance where it is pale. An hour of which nothing is covered, or that no clock showed, has a dash.",
    )
    mean = m.presence
    most = max(mean.values(), default=0.0)
    inside = [m.period.first + timedelta(days=n) for n in range(min(m.period.days, 7))]
    weekdays = sorted({day.isoweekday() for day in inside})
    places = 1 if most < 100 else 0

    def cell(weekday: int, hour: int) -> tuple[str, int]:
        value = mean.get((weekday, hour))
        if value is None:
            return "–", 0
        step = min(6, 1 + int(value / most * 6)) if value > 0 and most else 0
        return (f"{value:.{places}f}" if value > 0 else "0"), step

    section.blocks.append(
        HeatMap(
            "Participants at the same time, on the average",
            ("hour", *(WEEKDAYS[day - 1] for day in weekdays)),
            [(f"{hour:02}–{(hour + 1) % 24:02}", [cell(day, hour) for day in weekdays]) for hour in range(24)],
        )
    )
    return section


def _month_picture(
    place: int, name: str, kind: str, values: Sequence[int], labels: Sequence[str], gaps: Sequence[bool]
) -> Figure:
    text = f"A column for each month, {counted(len(labels), 'month')}; {max(values, default=0):,} at most."
    words = Words(f"months-{place}", name, text)
    return Figure(name, charts.columns(words, labels, [(kind, values)], "", gaps=gaps))


def months(m: Material) -> Section:
    section = Section(
        "months",
        "Months",
        f"All that the history holds, {MONTHS} months at most: whether use and peaks grow. A month that is not wholly "
        "covered says how much of it is; a change from it or to it is that of what a covered day brought, and marked.",
    )
    began = {since: (calls, people) for since, calls, people in m.queries.months()}
    lasted = concurrency.hours(m.db, "month", date(2000, 1, 1), date(2101, 1, 1))
    found = _months(sorted({*began, *(since for since, each in lasted.items() if each > 0)}))
    columns = [measure for measure in m.measures if measure.column in ("participants", "licenses")]
    peaks = [_month_peaks(m, measure, found) for measure in columns]
    covered = {since: m.coverage.share(since, last_day(since, "month")) for since in found}
    gaps = [covered[since] < 1 for since in found]
    labels = [span_text(since, "month") for since in found]
    series = [("Participants by month", "s1", [began.get(since, (0, 0))[1] for since in found])]
    for measure, most in zip(columns[-1:], peaks[-1:], strict=True):
        series.append((f"{named(measure)} at the same time, by month", COLOURS.get(measure.column, "s3"), most))
    pictures = [_month_picture(place, *each, labels, gaps) for place, each in enumerate(series)]
    rows: list[tuple[Cell, ...]] = [
        (
            f"{since:%Y-%m}",
            *began.get(since, (0, 0)),
            round(lasted.get(since, 0)),
            *(most[place] for most in peaks),
            _grown({month: people for month, (_, people) in began.items()}, covered, since),
            _grown(lasted, covered, since),
            share(covered[since]),
        )
        for place, since in enumerate(found)
    ]
    names = [f"peak {measure.name}" for measure in columns]
    head = ("month", "conferences", "participants", "hours", *names, "participants, change", "hours, change", "covered")
    section.blocks += [pictures, Table("By month", head, rows)]
    return section


def _month_peaks(m: Material, measure: Measure, months: Sequence[date]) -> list[int]:
    """Of each month the most at one time."""
    found = concurrency.peaks(m.db, measure, "month", months[0], date(2101, 1, 1)) if months else []
    most = {peak.since: peak.most for peak in found}
    return [most.get(month, 0) for month in months]


def _grown(values: Mapping[date, float], covered: Mapping[date, float], since: date) -> str:
    """By how much that month has more than the one before, of the exact values; where one is partial, a covered day.

    `covered` is how much of each month is, 0 to 1; of a month that is not there nothing is known.
    """
    before = (since - timedelta(days=1)).replace(day=1)
    if not (covered.get(before) and covered[since]):
        return "–"
    whole = covered[since] == covered[before] == 1
    now, then = (
        values.get(month, 0) / (1 if whole else covered[month] * last_day(month, "month").day)
        for month in (since, before)
    )
    said = f"{(now / then - 1) * 100:+,.1f} %" if then else "none before" if now else "none"
    return said if whole else f"{said} a day (partial)"


def _months(found: Sequence[date]) -> list[date]:
    """The newest of them, with those between in which nobody was there."""
    every: list[date] = []
    since = found[0] if found else None
    while since and since <= found[-1]:
        every.append(since)
        since = last_day(since, "month") + timedelta(days=1)
    return every[-MONTHS:]
