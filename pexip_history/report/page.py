"""The page, part by part: which question each answers, in which words. Rendered by page.html."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from . import charts, concurrency
from .blocks import (
    Card,
    Figure,
    HeatMap,
    Section,
    Table,
    change,
    clock,
    day_text,
    lasting,
    moment_text,
    percent,
    shown,
    span_cell,
    span_text,
)
from .charts import Words
from .concurrency import Measure, Peak
from .queries import LEAST, MONTHS, Bad, Period, Queries, Totals, span_of, spans
from .reading import TABLES, Archive

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

HERE = Path(__file__).parent
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
PLACES = (("location", "Locations"), ("node", "Nodes"), ("room", "Rooms"), ("protocol", "Protocols"))
USES = (
    ("protocol", "Protocol"),
    ("location", "Location"),
    ("service", "Service type"),
    ("vendor", "Client or endpoint"),
)
COLOURS = {"participants": "s1", "conferences": "s2"}


@dataclass
class Material:
    """All that the parts are made from."""

    db: DuckDBPyConnection
    archive: Archive
    queries: Queries
    period: Period
    before: Period
    zone: ZoneInfo
    measures: Sequence[Measure]
    hide_names: bool
    known: Sequence[tuple[str, str]]
    """What is known of the history besides its rows: of each fact its name and its value."""
    oldest: date | None
    """Local day of the first record; None where there is none."""
    totals: Totals
    totals_before: Totals
    numbers: dict[str, int] = field(default_factory=dict)

    @property
    def span(self) -> str:
        return span_of(self.period)

    @property
    def compared(self) -> bool:
        """Whether the history reaches over the whole period before."""
        return self.oldest is not None and self.oldest <= self.before.first

    def room(self, name: str) -> str:
        """As it is called on the page."""
        if self.hide_names:
            return f"Room {self.numbers.setdefault(name, len(self.numbers) + 1)}"
        return shown(name)

    def lacks(self, table: str, *columns: str) -> str:
        """The sentence where a part must be left out; empty where it need not."""
        file, known = TABLES[table]
        if table not in self.archive.columns:
            return f"Left out: there is no {file}."
        missing = [known[column][1] if column in known else column for column in columns]
        missing = [name for column, name in zip(columns, missing, strict=True) if not self.archive.has(table, column)]
        return f"Left out: {file} has no column {', '.join(missing)}." if missing else ""


def render(material: Material, made: str) -> str:
    """The page's HTML; everything in it that is not Markup is escaped."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    style = (HERE / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, keep_trailing_newline=True
    )
    return environment.get_template("page.html").render(
        style=Markup(style),
        style_hash=f"sha256-{digest}",
        period=f"{day_text(material.period.first)} to {day_text(material.period.last)}",
        sections=sections(material),
        made=made,
    )


def sections(material: Material) -> list[Section]:
    if material.oldest is None:
        first = _about(material)
        first.lead = "The history holds no record yet: nothing was collected, or nobody called."
        return [first, _rules(material)]
    room_part = _rooms(material)  # first, so that hidden names are numbered in its order
    parts: tuple[Callable[[Material], Section], ...] = (_peaks, _days, _hours, _quality, _reasons)
    return [
        _glance(material),
        _about(material),
        *(part(material) for part in parts),
        room_part,
        _used(material),
        *([_loss(material)] if "stream" in material.archive.columns else []),
        _months(material),
        _rules(material),
    ]


def _glance(m: Material) -> Section:
    now, then = m.totals, m.totals_before if m.compared else None
    section = Section("totals", "At a glance")
    answers = []
    for measure in m.measures:
        if measure.column in ("participants", "licenses") and (most := _peak(m, measure)):
            answers.append(
                Card(
                    f"Most {measure.name} at the same time",
                    f"{most.most:,}",
                    f"{day_text(most.at.date())}, {most.at:%H:%M}; 90 % of it or more for {lasting(most.seconds)}",
                )
            )
    busy = concurrency.presence(m.db, m.period.first, m.period.last, m.zone)
    if busy and max(busy.values()) > 0:
        (weekday, hour), mean = max(busy.items(), key=lambda item: (item[1], -item[0][0], -item[0][1]))
        name = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")[weekday - 1]
        answers.append(Card("Busiest hour of the week", f"{name} {hour:02}–{(hour + 1) % 24:02}", f"{mean:,.1f} participants on the average"))
    if not m.lacks("participant", "quality"):
        counts = [sum(column) for column in zip(*(row for _, row in m.queries.quality(m.span)), strict=True)]
        if counts and (rated := sum(counts[:4])):
            worst = m.queries.worst("location") if not m.lacks("participant", "location") else []
            more = f"worst location: {shown(worst[0].name)}, {percent(worst[0].bad, worst[0].rated)}" if worst and worst[0].bad else ""
            answers.append(Card("Bad or terrible calls", percent(counts[2] + counts[3], rated), more))
    section.blocks.append(answers)
    rows = [
        ("Conferences", now.conferences, f"{now.conferences:,}", then and then.conferences),
        ("Participants", now.participants, f"{now.participants:,}", then and then.participants),
        ("Hours of all participants", now.hours, f"{now.hours:,.0f}", then and then.hours),
        ("Mean stay", now.mean, f"{now.mean:.1f} min", then and then.mean),
    ]
    section.blocks.append(
        [Card(name, text, change(value, old) if old is not None else "") for name, value, text, old in rows]
    )
    if then is None:
        section.blocks.append("The history does not reach over the whole period before, so there is no comparison.")
    else:
        units = (0, 0, 1, 1)
        section.blocks.append(
            Table(
                f"Totals, against {day_text(m.before.first)} to {day_text(m.before.last)}",
                ("", "this period", "the period before"),
                [
                    (name, _number(value, places), _number(old or 0, places))
                    for (name, value, _, old), places in zip(rows, units, strict=True)
                ],
                folded=True,
            )
        )
    return section


def _about(m: Material) -> Section:
    section = Section("about", "What this rests on")
    rows = [
        ("Period", f"{m.period.first} to {m.period.last}, {m.period.days} days, both included"),
        ("Time zone", f"{m.zone.key} (TZ); the files themselves are in UTC"),
        *m.known,
    ]
    section.blocks.append(Table("About this page", ("", ""), rows))
    for remark in m.archive.remarks:
        section.blocks.append(remark)
    return section


def _peaks(m: Material) -> Section:
    section = Section(
        "peaks",
        "At the same time",
        "How many were there at once decides how many licenses are needed. A peak that lasts a few minutes in a "
        "month can be a reason to buy more, or to move one meeting.",
    )
    kinds = [measure for measure in m.measures if measure.column.startswith("license") and measure.column != "licenses"]
    shown_kinds = kinds if len(kinds) > 1 else []
    found = {
        measure: concurrency.peaks(m.db, measure, m.span, m.period.first, m.period.last)
        for measure in m.measures
        if measure not in kinds or measure in shown_kinds
    }
    summary = []
    for measure in found:
        if most := _peak(m, measure):
            before = concurrency.peak(m.db, measure, m.before.first, m.before.last) if m.compared else None
            then: str | int = before.most if before else (0 if m.compared else "–")
            summary.append((_named(measure), most.most, moment_text(most.at), clock(most.seconds), then))
    section.blocks.append(
        Table(
            "The highest of the period",
            ("", "peak", "first reached", "h:mm:ss at 90 % or more", "peak of the period before"),
            summary,
        )
    )
    for measure, each in found.items():
        section.blocks += _peak_blocks(m, measure, each)
    for table, columns in (("participant", ("licenses",)), ("participant", ("license",)), ("conference", ("starts",))):
        if lack := m.lacks(table, *columns):
            section.blocks.append(lack)
    return section


def _peak_blocks(m: Material, measure: Measure, each: Sequence[Peak]) -> list[object]:
    name = _named(measure)
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


def _days(m: Material) -> Section:
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


def _hours(m: Material) -> Section:
    section = Section(
        "hours",
        "Hours of the week",
        "How many participants were there on the average, by hour and weekday. Plan maintenance where it is pale.",
    )
    mean = concurrency.presence(m.db, m.period.first, m.period.last, m.zone)
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


def _quality(m: Material) -> Section:
    section = Section(
        "quality",
        "Call quality",
        "As the node rated each connection. Shares are of rated ones; those under 20 seconds or without media are "
        "unknown and stand apart.",
    )
    if lack := m.lacks("participant", "quality"):
        section.blocks.append(lack)
        return section
    by = dict(m.queries.quality(m.span))
    every = spans(m.period, m.span)
    parts = (("good", "good"), ("ok", "OK"), ("bad", "bad"), ("terrible", "terrible"))
    empty = [0] * 5
    counts = [by.get(since, empty) for since in every]
    shares = [[row[place] / (sum(row[:4]) or 1) * 100 for row in counts] for place in range(4)]
    rated = sum(sum(row[:4]) for row in counts)
    bad = sum(row[2] + row[3] for row in counts)
    words = Words(
        "quality-days",
        f"Call quality by {m.span}",
        f"Of each {m.span}'s rated calls the shares that were good, OK, bad and terrible. "
        f"Of {rated:,} in the period {percent(bad, rated)} were bad or terrible.",
    )
    picture = charts.columns(
        words,
        [span_text(since, m.span) for since in every],
        [(kind, shares[place]) for place, (kind, _) in enumerate(parts)],
        "of rated calls",
        share=True,
    )
    head = (m.span, "good", "OK", "bad", "terrible", "unknown", "bad or terrible")
    rows = [
        (span_cell(since, m.span), *row, percent(row[2] + row[3], sum(row[:4])))
        for since, row in zip(every, counts, strict=True)
    ]
    section.blocks += [
        Figure(f"Call quality by {m.span}", picture, parts),
        Table(f"Call quality by {m.span}", head, rows, folded=True),
    ]
    section.blocks.append(f"Where it is bad, of those with {LEAST} rated calls or more in the period:")
    for column, title in PLACES:
        needed = ("service", column) if column == "room" else (column,)
        if lack := m.lacks("participant", *needed):
            section.blocks.append(lack)
        else:
            section.blocks += _worst(m, column, title)
    return section


def _worst(m: Material, column: str, title: str) -> list[object]:
    found = m.queries.worst(column)
    if not found:
        return [f"{title}: none has that many."]

    def name(bad: Bad) -> str:
        return m.room(bad.name) if column == "room" else shown(bad.name)

    caption = f"{title} by share of bad or terrible calls"
    words = Words(
        f"worst-{column}", caption, f"The worst is {name(found[0])} with {percent(found[0].bad, found[0].rated)}."
    )
    picture = charts.bars(
        words, [(name(bad), bad.bad / bad.rated, percent(bad.bad, bad.rated)) for bad in found], "bad"
    )
    head = (title, "bad or terrible", "of rated", "share")
    rows = [(name(bad), bad.bad, bad.rated, percent(bad.bad, bad.rated)) for bad in found]
    return [[Figure(caption, picture), Table(caption, head, rows)]]


def _reasons(m: Material) -> Section:
    section = Section(
        "reasons",
        "Why calls ended",
        "The node's own words. Most end because somebody hung up; look at what speaks of timeouts, failed media or "
        "lost connections.",
    )
    if lack := m.lacks("participant", "reason"):
        section.blocks.append(lack)
        return section
    found = m.queries.reasons()
    every = sum(count for _, count in found)
    words = Words("reasons-bars", "Disconnect reasons", f"{len(found)} reasons of {every:,} participants.")
    rows = [(shown(reason), count, percent(count, every)) for reason, count in found]
    picture = charts.bars(words, [(reason, count, share) for reason, count, share in rows])
    section.blocks.append(
        [
            Figure("Disconnect reasons", picture),
            Table("Disconnect reasons", ("reason", "participants", "share"), rows),
        ]
    )
    return section


def _rooms(m: Material) -> Section:
    section = Section(
        "rooms",
        "Rooms",
        "Meeting rooms (VMRs and auditoriums) by the time that participants spent in them. Calls through the gateway "
        "are no rooms.",
    )
    if lack := m.lacks("participant", "room", "service"):
        section.blocks.append(lack)
        return section
    found, used = m.queries.rooms()
    rows = [(m.room(room.name), room.minutes, room.calls, room.participants) for room in found]
    caption = f"The {len(rows)} of {used:,} rooms with the most minutes" if used > len(rows) else "Rooms by minutes"
    words = Words("rooms-bars", caption, f"{used:,} rooms were used.")
    picture = charts.bars(words, [(name, minutes, f"{minutes:,} min") for name, minutes, _, _ in rows], "s2")
    section.blocks.append(
        [
            Figure(caption, picture),
            Table(caption, ("room", "participant minutes", "conferences", "participants"), rows),
        ]
    )
    idle, many = m.queries.unused(m.before)
    if not m.compared:
        section.blocks.append("The history does not reach over the whole period before: unused rooms are not told.")
    elif not idle:
        section.blocks.append("Every room of the period before was used in this one too.")
    else:
        caption = f"{many:,} rooms of the period before that nobody used in this one"
        if many > len(idle):
            caption += f"; the {len(idle)} with the most participants then"
        section.blocks.append(
            Table(caption, ("room", "participants then"), [(m.room(name), people) for name, people in idle])
        )
    return section


def _used(m: Material) -> Section:
    section = Section("used", "What was used")
    for column, title in USES:
        if lack := m.lacks("participant", column):
            section.blocks.append(lack)
            continue
        found = m.queries.used(column)
        every = sum(used.participants for used in found)
        words = Words(f"used-{column}", f"Participants by {title.lower()}", f"{every:,} participants in all.")
        rows = [
            (shown(used.name), used.participants, percent(used.participants, every), used.minutes) for used in found
        ]
        picture = charts.bars(words, [(name, count, share) for name, count, share, _ in rows])
        caption = f"Participants by {title.lower()}"
        table = Table(caption, (title.lower(), "participants", "share", "participant minutes"), rows)
        section.blocks.append([Figure(caption, picture), table])
    return section


def _loss(m: Material) -> Section:
    section = Section(
        "loss",
        "Packet loss",
        "Of each media stream the worse of its two directions. Above 1 % people begin to notice.",
    )
    if lack := m.lacks("stream", "received", "sent") or m.lacks("participant", "id", "location"):
        section.blocks.append(lack)
        return section
    found = m.queries.loss()
    rows = [
        (shown(loss.location), shown(loss.kind), loss.streams, f"{loss.mean:.2f} %", percent(loss.over, loss.streams))
        for loss in found
    ]
    words = Words("loss-bars", "Mean packet loss by location and media", f"{len(found)} kinds, the worst first.")
    pictured = [(f"{shown(loss.location)[:20]}, {shown(loss.kind)}", loss.mean, f"{loss.mean:.2f} %") for loss in found]
    caption = "Mean packet loss by location and media"
    section.blocks.append(
        [
            Figure(caption, charts.bars(words, pictured, "bad")),
            Table(caption, ("location", "media", "streams", "mean loss", "streams over 1 %"), rows),
        ]
    )
    return section


def _months(m: Material) -> Section:
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
                f"{_named(measure)} at the same time, by month",
                COLOURS.get(measure.column, "s3"),
                [by[since].most if since in (by := peaks[measure.column]) else 0 for since, *_ in found],
            )
            for measure in columns[-1:]
        ),
    ):
        words = Words(f"months-{kind}", name, f"A column for each of {len(found)} months, {max(values):,} at most.")
        pictures.append(Figure(name, charts.columns(words, labels, [(kind, values)], "")))
    rows = [
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


def _rules(m: Material) -> Section:
    section = Section("rules", "How it is counted")
    left = ""
    if m.oldest is not None:
        left = f" In this period that leaves out {m.totals.api:,} and {m.totals.reception:,}."
    section.blocks += [
        "A participant is a connection with its own row in pexHistoryPart.csv; who leaves and comes back counts "
        "twice. Not counted are connections of protocol API (they control a call and have no media) or BACKPLANE "
        "(between nodes), and stays in a Virtual Reception (two_stage_dialing): its callers are counted in the room "
        f"that they are put through to.{left} Streams and recorders (RTMP) count as participants.",
        "A conference is a row of pexHistoryConf.csv that is no Virtual Reception.",
        "Participants and conferences belong to the day on which they began, with their whole length, also where "
        "that is past midnight. At the same time counts who is there at each moment, whatever day they began on: "
        "from the start until just before the end. Who leaves in the moment in which another joins is not counted "
        "together with them, and a connection of no length is never there. First reached is the first moment with "
        "the peak; the time at 90 % or more adds up all stretches in which that many were there.",
        "Licenses are the license_count of every connection, also of those that are no participants, by "
        "license_type, as the node noted them.",
        "Hours and days are those of the time zone above. On the day on which the clocks go back its hour counts "
        "twice as long; the averages by hour allow for it.",
        f"A location, node, room or protocol is ranked by its bad calls only from {LEAST} rated ones on, so that one "
        "bad call does not lead.",
    ]
    return section


def _peak(m: Material, measure: Measure) -> Peak | None:
    return concurrency.peak(m.db, measure, m.period.first, m.period.last)


def _named(measure: Measure) -> str:
    if measure.column.startswith("license") and measure.column != "licenses":
        return f"Licenses, {shown(measure.name)}"
    return measure.name.capitalize()


def _number(value: float, places: int) -> int | str:
    return round(value) if not places else f"{value:.{places}f}"


def made_text(made: datetime, version: str) -> str:
    return f"Made {made:%Y-%m-%d %H:%M} by pexip-history-collector {version}."
