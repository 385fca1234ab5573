"""How much is needed, and when: peaks, days, hours of the week, months."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from . import charts, concurrency
from .blocks import Cell, Figure, HeatMap, Section, Table, clock, day_text, moment_text, span_cell, span_text
from .charts import Words
from .concurrency import Measure, Peak
from .material import Material, named, peak_of
from .queries import MONTHS, spans

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
COLOURS = {"participants": "s1", "conferences": "s2"}


def peaks(m: Material) -> Section:
    section = Section(
        "peaks",
        "At the same time",
        "How many were there at once decides how many licenses are needed. A peak that lasts a few minutes in a "
        "month can be a reason to buy more, or to move one meeting.",
    )
    found = {measure: concurrency.peaks(m.db, measure, m.span, m.period.first, m.period.last) for measure in m.measures}
    summary = []
    for measure in found:
        if most := peak_of(m, measure):
            before = concurrency.peak(m.db, measure, m.before.first, m.before.last) if m.compared else None
            then: str | int = before.most if before else (0 if m.compared else "–")
            summary.append((named(measure), most.most, moment_text(most.at), clock(most.seconds), then))
    section.blocks.append(
        Table(
            "The highest of the period",
            ("what", "peak", "first reached", "h:mm:ss at 90 % or more", "peak of the period before"),
            summary,
        )
    )
    section.blocks.append([_peak_blocks(m, measure, each) for measure, each in found.items()])
    for table, columns in (("participant", ("licenses",)), ("participant", ("license",)), ("conference", ("starts",))):
        if lack := m.lacks(table, *columns):
            section.blocks.append(lack)
    return section


def _peak_blocks(m: Material, measure: Measure, each: Sequence[Peak]) -> list[object]:
    name = named(measure)
    by = {peak.since: peak for peak in each}
    every = spans(m.period, m.span)
    picture = charts.columns(
        Words(
            f"peak-{measure.column}",
            f"{name} at the same time, by {m.span}",
            f"A column for each {m.span}, as high as the most at one time. {_summary(each, m.span)}",
        ),
        [span_text(since, m.span) for since in every],
        [(COLOURS.get(measure.column, "s3"), [by[since].most if since in by else 0 for since in every])],
        "at once",
    )
    rows = [
        (span_cell(since, m.span), peak.most, moment_text(peak.at), clock(peak.seconds))
        if (peak := by.get(since))
        else (span_cell(since, m.span), 0, "", "0:00:00")
        for since in every
    ]
    head = (m.span, "peak", "first reached", f"h:mm:ss at 90 % or more of the {m.span}'s peak")
    return [Figure(f"{name}: peak by {m.span}", picture), Table(f"{name}: peak by {m.span}", head, rows, folded=True)]


def _summary(each: Sequence[Peak], span: str) -> str:
    if not each:
        return "Nobody was there."
    most = max(each, key=lambda peak: peak.most)
    return f"The highest is {most.most:,}, reached on {day_text(most.at.date())} at {most.at:%H:%M}."


def days(m: Material) -> Section:
    section = Section("days", f"Calls by {m.span}", "What began on each, weekends and holidays included.")
    by = {since: (calls, people) for since, calls, people in m.queries.days(m.span)}
    every = spans(m.period, m.span)
    labels = [span_text(since, m.span) for since in every]
    pictures = []
    for place, (name, kind) in enumerate((("Conferences", "s2"), ("Participants", "s1"))):
        values = [by.get(since, (0, 0))[place] for since in every]
        words = Words(
            f"days-{place}",
            f"{name} by {m.span}",
            f"A column for each {m.span}; {sum(values):,} in all, {max(values):,} at most.",
        )
        pictures.append(Figure(f"{name} by {m.span}", charts.columns(words, labels, [(kind, values)], name.lower())))
    rows = [(span_cell(since, m.span), *by.get(since, (0, 0))) for since in every]
    section.blocks += [
        pictures,
        Table(f"Conferences and participants by {m.span}", (m.span, "conferences", "participants"), rows, folded=True),
    ]
    return section


def hours(m: Material) -> Section:
    section = Section(
        "hours",
        "Hours of the week",
        "How many participants were there on the average, by hour and weekday. Plan maintenance where it is pale.",
    )
    mean = m.presence
    most = max(mean.values(), default=0.0)
    weekdays = [day for day in range(1, 8) if any((day, hour) in mean for hour in range(24))]
    places = 1 if most < 100 else 0

    def cell(weekday: int, hour: int) -> tuple[str, int]:
        value = mean.get((weekday, hour), 0.0)
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


def months(m: Material) -> Section:
    section = Section(
        "months", "Months", f"All that the history holds, {MONTHS} months at most: whether use and peaks grow."
    )
    found = m.queries.months()
    peaks: dict[str, dict[date, Peak]] = {}
    if found:
        end = date(2101, 1, 1)
        for measure in m.measures:
            if measure.column in ("participants", "licenses"):
                each = concurrency.peaks(m.db, measure, "month", found[0][0], end)
                peaks[measure.column] = {peak.since: peak for peak in each}
    columns = [measure for measure in m.measures if measure.column in peaks]
    labels = [span_text(since, "month") for since, *_ in found]
    pictures = []
    for name, kind, values in (
        ("Participants by month", "s1", [people for _, _, people, _ in found]),
        *(
            (
                f"{named(measure)} at the same time, by month",
                COLOURS.get(measure.column, "s3"),
                [by[since].most if since in (by := peaks[measure.column]) else 0 for since, *_ in found],
            )
            for measure in columns[-1:]
        ),
    ):
        words = Words(f"months-{kind}", name, f"A column for each of {len(found)} months, {max(values):,} at most.")
        pictures.append(Figure(name, charts.columns(words, labels, [(kind, values)], "")))
    rows: list[tuple[Cell, ...]] = [
        (
            f"{since:%Y-%m}",
            calls,
            people,
            round(hours),
            *(peaks[measure.column][since].most if since in peaks[measure.column] else 0 for measure in columns),
        )
        for since, calls, people, hours in found
    ]
    head = ("month", "conferences", "participants", "hours", *(f"peak {measure.name}" for measure in columns))
    section.blocks += [pictures, Table("By month", head, rows)]
    section.blocks.append("The first and the last month may hold only a part of their days.")
    return section
