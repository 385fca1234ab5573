"""What was used: rooms, service tags, protocols and clients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pexip_history.messages import counted

from . import apart, charts
from .blocks import Cell, Figure, Section, Table, percent, shown
from .charts import Words
from .material import Material
from .queries import Tag

USES = (
    ("protocol", "Protocol"),
    ("location", "Location"),
    ("service", "Service type"),
    ("vendor", "Client or endpoint"),
)
TAGS = 60
"""Tags with a line of their own; a bill of all is made of `export usage`."""
TYPES = 4
NEVER = 100


def rooms(m: Material) -> Section:
    section = Section(
        "rooms",
        "Rooms",
        "Meeting rooms (VMRs and auditoriums) by the time that participants spent in them in the period, whenever they "
        "came. Calls through the gateway are no rooms.",
    )
    if lack := m.lacks("participant", "room", "service"):
        section.blocks.append(lack)
        return section
    found, used = m.queries.rooms()
    rows = [(m.room(room.name), room.minutes, room.calls, room.participants) for room in found]
    every = m.queries.room_minutes() or 1
    caption = f"The {len(rows)} of {used:,} rooms with the most minutes" if used > len(rows) else "Rooms by minutes"
    rooms = counted(used, "room was", "rooms were")
    words = Words("rooms-bars", caption, f"{rooms} used. A full bar would be all minutes of all rooms.")
    picture = charts.bars(words, [(name, minutes / every, f"{minutes:,} min") for name, minutes, _, _ in rows], "s2")
    section.blocks.append(
        [
            Figure(caption, picture),
            Table(caption, ("room", "participant minutes", "conferences", "participants"), rows),
        ]
    )
    section.blocks += _idle(m)
    if m.rooms is not None:
        section.blocks += _never(m, m.rooms)
    return section


def _idle(m: Material) -> list[object]:
    if not m.compared:
        return ["This period or the previous one is not wholly covered: unused rooms are not told."]
    idle, many = m.queries.unused(m.before)
    if not idle:
        return ["Every room of the previous period was used in this one too."]
    caption = f"{counted(many, 'room')} of the previous period that nobody used in this one"
    if many > len(idle):
        caption += f"; the {len(idle)} with the most participants then"
    return [Table(caption, ("room", "participants then"), [(m.room(name), people) for name, people in idle])]


def _never(m: Material, names: Sequence[str]) -> list[object]:
    idle, unknown = m.queries.never(names)
    if not idle:
        return [f"Each of {counted(len(names), 'configured room')} was used in the period."]
    rows = [(m.room(name), "never" if name in unknown else "earlier") for name in idle[:NEVER]]
    caption = f"{len(idle):,} of {counted(len(names), 'configured room')} that nobody used in the period"
    if len(idle) > len(rows):
        caption += f"; {NEVER} of them"
    partly = [] if m.coverage.whole(m.period) else ["The period is not wholly covered: some may have been used."]
    return [Table(caption, ("room", "used before, as far as the history reaches"), rows), *partly]


def tags(m: Material) -> Section:
    section = Section(
        "tags",
        "Service tags",
        "By service tag, which tells customers or departments apart: what began in the period, with its whole length. "
        "License-minutes are the minutes of each connection times its licenses; the peak is the most licenses that a "
        "tag held at the same time.",
    )
    if lack := m.lacks("participant", "tag"):
        section.blocks.append(lack)
        return section
    section.blocks.append(_by_tag(m, m.queries.tags()))
    if not m.coverage.whole(m.period):
        section.blocks.append("The period is not wholly covered: no bill should be made of this yet.")
    return section


def _by_tag(m: Material, found: Sequence[Tag]) -> Table:
    peaks = apart.peaks_by(m.db, "tag")
    totals: Counter[str] = Counter()
    for tag in found:
        totals.update(tag.licenses)
    types = sorted(kind for kind, _ in totals.most_common(TYPES))
    more = [kind for kind in totals if kind not in types]

    def cells(tag: Tag) -> list[int]:
        each = [tag.licenses.get(kind, 0) for kind in types]
        rest = [sum(tag.licenses.get(kind, 0) for kind in more)] if more else []
        return [tag.conferences, tag.participants, tag.minutes, *each, *rest]

    most = {name: peak.licenses for name, peak in peaks.items()}
    rows: list[list[Cell]] = [[m.tag(tag.name), *cells(tag), most.get(tag.name, 0)] for tag in found[:TAGS]]
    if rest := found[TAGS:]:
        rows.append([counted(len(rest), "other"), *map(sum, zip(*map(cells, rest), strict=True)), "–"])
    kinds = [f"{shown(kind)} license-minutes" for kind in types] + (["other license-minutes"] if more else [])
    return Table("By service tag", ("tag", "conferences", "participants", "minutes", *kinds, "peak licenses"), rows)


def used(m: Material) -> Section:
    section = Section("used", "What was used")
    for column, title in USES:
        if lack := m.lacks("participant", column):
            section.blocks.append(lack)
            continue
        found = m.queries.used(column)
        every = sum(used.participants for used in found)
        words = Words(f"used-{column}", f"Participants by {title.lower()}", f"{counted(every, 'participant')} in all.")
        rows = [
            (m.place(column, used.name), used.participants, percent(used.participants, every), used.minutes)
            for used in found
        ]
        picture = charts.bars(words, [(name, count / every, share) for name, count, share, _ in rows])
        caption = f"Participants by {title.lower()}"
        table = Table(caption, (title.lower(), "participants", "share", "participant minutes"), rows)
        section.blocks.append([Figure(caption, picture), table])
    return section
