"""The first screen: how far the page can be trusted, whether there is enough, what changed, what is bad."""

from __future__ import annotations

from pexip_history.folder.names import AGGREGATES
from pexip_history.messages import counted

from . import enough, experience, ratings
from .blocks import Card, Cell, Section, Table, change, day_text, lasting, rate
from .facts import in_words
from .material import Material, named, peak_of
from .ratings import LEAST, Bad

WORSE = 1.5
"""A place is named as bad whose share is that many times the whole's, or more."""
FEWEST = 3
"""Bad calls that such a place has at least."""
NAMED = 5
KINDS = {"location": "Location", "node": "Node", "room": "Room", "vendor": "Client", "protocol": "Protocol"}
WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")


def glance(m: Material) -> Section:
    section = Section("totals", "At a glance")
    if not (m.totals.participants or m.totals.conferences):
        section.lead = "Nobody called in this period, as far as it is covered."
    section.blocks += [cards(m)]
    if lacking := m.coverage.lacking(m.period):
        section.blocks.append(
            f"Not covered: {in_words(lacking, m.zone)}. Totals and peaks are of what is covered, and too low."
        )
    section.blocks += [*unread(m), *_bad(m), *_totals(m)]
    return section


def unread(m: Material) -> list[str]:
    """What of the history is on no page, in short."""
    if not m.archive.remarks:
        return []
    missing = f"In no file: {counted(m.archive.missing, 'row')} of the history. " if m.archive.missing else ""
    more = f" And {len(m.archive.remarks) - 1} more, under What this rests on." if len(m.archive.remarks) > 1 else ""
    return [f"{missing}{m.archive.remarks[0]}{more}"]


def cards(m: Material) -> list[Card]:
    return [_covered(m), *_enough(m), *_changed(m), *_quality(m), *_busiest(m)]


def _covered(m: Material) -> Card:
    days = m.coverage.days(m.period)
    if not m.coverage.known and m.coverage.whole(m.period):
        return Card("Covered", "unknown", "the collector's ledger does not tell; the files reach over all of it")
    if m.coverage.whole(m.period):
        return Card("Covered", f"all {m.period.days} days" if m.period.days > 1 else "the whole day")
    more = "the files do not reach over the rest" if not m.coverage.known else "totals are too low"
    text = f"{days:.1f}".removesuffix(".0") if days >= 0.1 or not days else "under 0.1"
    return Card("Covered", f"{text} of {counted(m.period.days, 'day')}", more)


def _enough(m: Material) -> list[Card]:
    found = []
    for measure in m.measures:
        if measure.column == "participants" or (measure.column == "licenses" and not m.owned):
            if not (most := peak_of(m, measure)):
                continue
            more = f"{day_text(most.at.date())}, {most.at:%H:%M}; 90 % of it or more for {lasting(most.seconds)}"
            found.append(Card(f"Most {measure.name} at the same time", f"{most.most:,}", more))
    for measure, owned in enough.types(m):
        said, why = enough.verdict(m, measure, owned)
        partly = "" if m.coverage.whole(m.period) or said == "no" else ", as far as covered"
        found.append(Card(f"Enough? {named(measure)}", f"{said}{partly}", why))
    return found


def _changed(m: Material) -> list[Card]:
    now, old = m.totals, m.totals_before
    rows = [
        ("Conferences", "conference", now.conferences, f"{now.conferences:,}", old.conferences),
        ("Participants", "participant", now.participants, f"{now.participants:,}", old.participants),
        ("Hours of all participants", "participant", now.hours, f"{now.hours:,.0f}", old.hours),
        ("Mean stay in minutes", "participant", now.mean, _minutes(now.mean), old.mean),
    ]
    otherwise = "" if m.coverage.whole(m.period) else "the period is not wholly covered"
    return [
        Card(name, text, change(value, then or 0) if m.compared and value is not None else otherwise)
        if table in m.archive.tables
        else Card(name, "unknown", f"no {AGGREGATES[table]} was read")
        for name, table, value, text, then in rows
    ]


def _minutes(mean: float | None) -> str:
    return "–" if mean is None else f"{mean:.1f}"


def _quality(m: Material) -> list[Card]:
    if m.lacks("participant", "quality"):
        return []
    now, then = m.rated
    if not now.rated:
        return [Card("Bad or terrible calls", "none rated")]
    more = f"of {now.rated:,} rated"
    if m.compared and then.rated:
        more += f"; {rate(then.bad, then.rated, LEAST)} in the previous period{experience.trend(now, then)}"
    return [Card("Bad or terrible calls", rate(now.bad, now.rated, LEAST), more)]


def _busiest(m: Material) -> list[Card]:
    if not (busy := m.presence) or not max(busy.values()):
        return []
    (weekday, hour), mean = max(busy.items(), key=lambda item: (item[1], -item[0][0], -item[0][1]))
    name = f"{WEEKDAYS[weekday - 1]} {hour:02}–{(hour + 1) % 24:02}"
    return [Card("Busiest hour of the week", name, f"{mean:,.1f} participants on the average")]


def _bad(m: Material) -> list[object]:
    """The places with a share of bad calls far above the whole's."""
    if m.lacks("participant", "quality"):
        return []
    now, _ = m.rated
    found: list[tuple[str, Bad]] = []
    for column in KINDS:
        if not m.lacks("participant", *(("service", column) if column == "room" else (column,))):
            found += [(column, bad) for bad in ratings.worst(m.db, column, LEAST, 3)]
    bad = [(column, each) for column, each in found if each.bad >= FEWEST and each.share >= WORSE * now.share]
    bad.sort(key=lambda item: (-item[1].share, -item[1].rated))
    if not bad:
        return ["No location, node, room, client or protocol stands out by bad calls."]
    rows: list[tuple[Cell, ...]] = [
        (f"{KINDS[column]} {m.place(column, each.name)}", rate(each.bad, each.rated, LEAST), each.bad, each.rated)
        for column, each in bad[:NAMED]
    ]
    return [Table("What is bad", ("where", "bad or terrible", "calls", "of rated"), rows)]


def _totals(m: Material) -> list[object]:
    now, old = m.totals, m.totals_before
    rows: list[tuple[Cell, ...]] = [
        ("Conferences", now.conferences, old.conferences),
        ("Participants", now.participants, old.participants),
        ("Hours of all participants", round(now.hours), round(old.hours)),
        ("Mean stay in minutes", _minutes(now.mean), _minutes(old.mean)),
        ("Participants in test calls and playback", now.tried, old.tried),
    ]
    if m.compared:
        caption = f"Totals, against {day_text(m.before.first)} to {day_text(m.before.last)}"
        return [Table(caption, ("total", "this period", "previous period"), rows, folded=True)]
    why = "This period" if not m.coverage.whole(m.period) else "The previous period"
    table = Table("Totals", ("total", "this period"), [row[:2] for row in rows], folded=True)
    return [f"{why} is not wholly covered, so there is no comparison.", table]
