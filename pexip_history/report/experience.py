"""How calls went, and what was used: quality, disconnect reasons, packet loss, rooms, clients."""

from __future__ import annotations

from . import charts
from .blocks import Cell, Figure, Section, Table, counted, percent, shown, span_cell, span_text
from .charts import Words
from .material import Material
from .queries import LEAST, Bad, spans

PLACES = (("location", "Locations"), ("node", "Nodes"), ("room", "Rooms"), ("protocol", "Protocols"))
USES = (
    ("protocol", "Protocol"),
    ("location", "Location"),
    ("service", "Service type"),
    ("vendor", "Client or endpoint"),
)


def quality(m: Material) -> Section:
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
    rows: list[tuple[Cell, ...]] = [
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


def reasons(m: Material) -> Section:
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


def rooms(m: Material) -> Section:
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
        caption = f"{counted(many, 'room')} of the period before that nobody used in this one"
        if many > len(idle):
            caption += f"; the {len(idle)} with the most participants then"
        section.blocks.append(
            Table(caption, ("room", "participants then"), [(m.room(name), people) for name, people in idle])
        )
    return section


def used(m: Material) -> Section:
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


def loss(m: Material) -> Section:
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
    pictured = [(f"{shown(loss.kind)}, {shown(loss.location)}", loss.mean, f"{loss.mean:.2f} %") for loss in found]
    caption = "Mean packet loss by location and media"
    section.blocks.append(
        [
            Figure(caption, charts.bars(words, pictured, "bad")),
            Table(caption, ("location", "media", "streams", "mean loss", "streams over 1 %"), rows),
        ]
    )
    return section
