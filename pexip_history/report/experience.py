"""How calls went: quality, disconnect reasons, packet loss, alarms."""

from __future__ import annotations

from collections.abc import Sequence

from pexip_history.messages import counted

from . import charts, moments, ratings
from .blocks import (
    HOURS,
    Cell,
    Figure,
    HeatMap,
    Section,
    Table,
    moment_text,
    percent,
    rate,
    shown,
    span_cell,
    span_text,
)
from .charts import Words
from .material import Material
from .ratings import LEAST, Bad

PLACES = (
    ("location", "Locations"),
    ("node", "Nodes"),
    ("room", "Rooms"),
    ("vendor", "Clients"),
    ("protocol", "Protocols"),
)
PARTS = (("good", "good"), ("ok", "OK"), ("bad", "bad"), ("terrible", "terrible"))
REASONS = 12
BY_SPAN = 5
"""Reasons that are shown by day."""
WIDE, HIGH = 7, 14
"""Protocols and locations of the table of both."""


def quality(m: Material) -> Section:
    section = Section(
        "quality",
        "Call quality",
        "As the node rated each connection. Shares are of rated ones; those under 20 seconds or without media are "
        f"unknown and stand apart. Where fewer than {LEAST} were rated, the numbers stand instead of a share, and the "
        "column is pale.",
    )
    if lack := m.lacks("participant", "quality"):
        section.blocks.append(lack)
        return section
    section.blocks += _by_span(m)
    section.blocks.append(_by_hour(m))
    if not m.lacks("participant", "location", "protocol"):
        section.blocks.append(_crossed(m))
    section.blocks.append(f"Where it is bad, of those with {LEAST} rated calls or more in the period:")
    for column, title in PLACES:
        needed = ("service", column) if column == "room" else (column,)
        if lack := m.lacks("participant", *needed):
            section.blocks.append(lack)
        else:
            section.blocks += _worst(m, column, title)
    section.blocks += moments.blocks(m)
    return section


def _by_span(m: Material) -> list[object]:
    by = dict(ratings.quality(m.db, m.span))
    counts = [by.get(since, [0] * 5) for since in m.every]
    shares = [[row[place] / (sum(row[:4]) or 1) * 100 for row in counts] for place in range(4)]
    now, then = m.rated
    words = Words(
        "quality-days",
        f"Call quality by {m.span}",
        f"Of each {m.span}'s rated calls the shares that were good, OK, bad and terrible. "
        f"Of {now.rated:,} in the period {rate(now.bad, now.rated, LEAST)} were bad or terrible.",
    )
    picture = charts.columns(
        words,
        [span_text(since, m.span) for since in m.every],
        [(kind, shares[place]) for place, (kind, _) in enumerate(PARTS)],
        "of rated calls",
        share=True,
        gaps=m.uncovered,
        pale=[sum(row[:4]) < LEAST for row in counts],
    )
    head = (m.span, "good", "OK", "bad", "terrible", "unknown", "bad or terrible")
    rows: list[tuple[Cell, ...]] = [
        (span_cell(since, m.span, m.covered(since, m.span)), *row, rate(row[2] + row[3], sum(row[:4]), LEAST))
        for since, row in zip(m.every, counts, strict=True)
    ]
    said = f"Bad or terrible in the period: {rate(now.bad, now.rated, LEAST)} of {now.rated:,}"
    if m.compared:
        said += f"; in the previous period {rate(then.bad, then.rated, LEAST)} of {then.rated:,}{trend(now, then)}"
    return [
        f"{said}.",
        Figure(f"Call quality by {m.span}", picture, PARTS),
        Table(f"Call quality by {m.span}", head, rows, folded=True),
    ]


def trend(now: Bad, then: Bad) -> str:
    """By how many points the share went up or down; nothing where there are few."""
    if min(now.rated, then.rated) < LEAST:
        return ""
    return f", {(now.share - then.share) * 100:+.1f} points"


def _by_hour(m: Material) -> list[object]:
    found = ratings.by_hour(m.db)
    hours = counted(len(found), "hour of the day has", "hours of the day have")
    words = Words("quality-hours", "Bad or terrible by hour", f"{hours} rated calls.")
    rows = [(bad.name, bad.bad, bad.rated, rate(bad.bad, bad.rated, LEAST)) for bad in found.values()]
    every = [found.get(hour, Bad("", 0, 0)) for hour in map(int, HOURS)]
    picture = charts.columns(
        words,
        HOURS,
        [("bad", [bad.share * 100 for bad in every])],
        "bad or terrible",
        share=True,
        pale=[bad.rated < LEAST for bad in every],
    )
    caption = "Bad or terrible calls by hour of the day"
    head = ("began at", "bad or terrible", "of rated", "share")
    return [Figure(caption, picture), Table(caption, head, rows, folded=True)]


def _crossed(m: Material) -> HeatMap:
    """Locations by protocol: whether it is the network of a place, or a kind of call."""
    found = ratings.crossed(m.db)
    across, down = ({}, {})  # type: tuple[dict[str, int], dict[str, int]]
    for (location, protocol), bad in found.items():
        across[protocol] = across.get(protocol, 0) + bad.rated
        down[location] = down.get(location, 0) + bad.rated
    protocols = _most(across, WIDE)
    locations = _most(down, HIGH)

    def cell(location: str, protocol: str) -> tuple[str, int]:
        bad = found.get((location, protocol))
        if not bad:
            return "–", 0
        step = min(6, 1 + int(bad.share * 20)) if bad.bad and bad.rated >= LEAST else 0
        return rate(bad.bad, bad.rated, LEAST), step

    return HeatMap(
        "Bad or terrible calls by location and protocol",
        ("location", *(m.place("protocol", name) for name in protocols)),
        [(shown(name), [cell(name, protocol) for protocol in protocols]) for name in locations],
    )


def _most(counts: dict[str, int], most: int) -> Sequence[str]:
    return sorted(counts, key=lambda name: (-counts[name], name))[:most]


def _worst(m: Material, column: str, title: str) -> list[object]:
    found = ratings.worst(m.db, column)
    if not found:
        return [f"{title}: none has that many."]

    def name(bad: Bad) -> str:
        return m.place(column, bad.name)

    caption = f"{title} by share of bad or terrible calls"
    words = Words(
        f"worst-{column}", caption, f"The worst is {name(found[0])} with {percent(found[0].bad, found[0].rated)}."
    )
    picture = charts.bars(words, [(name(bad), bad.share, percent(bad.bad, bad.rated)) for bad in found], "bad")
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
    found = m.queries.reasons(REASONS)
    every = sum(count for _, count in found)
    said = f"{counted(len(found), 'reason')} of {counted(every, 'participant')}."
    words = Words("reasons-bars", "Disconnect reasons", said)
    rows = [(m.reason(reason), count, percent(count, every)) for reason, count in found]
    picture = charts.bars(words, [(reason, count / every, share) for reason, count, share in rows])
    section.blocks.append(
        [
            Figure("Disconnect reasons", picture),
            Table("Disconnect reasons", ("reason", "participants", "share"), rows),
        ]
    )
    names = [reason for reason, _ in found[:BY_SPAN]]
    by = m.queries.reasons_by(m.span, names)
    table: list[tuple[Cell, ...]] = [
        (span_cell(since, m.span, m.covered(since, m.span)), *(by.get((since, name.lower()), 0) for name in names))
        for since in m.every
    ]
    head = (m.span, *(m.reason(name) for name in names))
    section.blocks.append(Table(f"Disconnect reasons by {m.span}", head, table, folded=True))
    return section


def loss(m: Material) -> Section:
    section = Section(
        "loss",
        "Packet loss",
        "Of each media stream the worse of its two directions. Above 1 % people begin to notice.",
    )
    if lack := m.lacks("stream", "received", "sent") or m.lacks("participant", "location"):
        section.blocks.append(lack)
        return section
    found = ratings.loss(m.db)
    rows = [
        (
            shown(loss.location),
            shown(loss.kind),
            loss.streams,
            f"{loss.mean:.2f} %",
            rate(loss.over, loss.streams, LEAST),
        )
        for loss in found
    ]
    caption = "Mean packet loss by location and media"
    words = Words("loss-bars", caption, f"{counted(len(found), 'kind')}, the worst first.")
    pictured = [
        (f"{shown(loss.kind)}, {shown(loss.location)}", loss.mean / 100, f"{loss.mean:.2f} %") for loss in found
    ]
    section.blocks.append(
        [
            Figure(caption, charts.bars(words, pictured, "bad")),
            Table(caption, ("location", "media", "streams", "mean loss", "streams over 1 %"), rows),
        ]
    )
    return section


def alarms(m: Material) -> Section:
    section = Section(
        "alarms",
        "Alarms",
        "What the nodes raised in the period, of licenses and capacity first: when such a one stood, calls may have "
        "been refused.",
    )
    if lack := m.lacks("alarm", "raised", "name"):
        section.blocks.append(lack)
        return section
    found = ratings.alarms(m.db, m.period.span(m.zone))
    if not found:
        section.blocks.append("None was raised in the period.")
        return section
    rows = [
        (
            shown(each.name),
            shown(each.level),
            shown(each.node),
            each.times,
            round(each.hours, 1),
            moment_text(each.last),
        )
        for each in found
    ]
    head = ("alarm", "level", "node", "times", "hours", "raised last")
    section.blocks.append(Table(f"{counted(len(rows), 'kind')} of alarms", head, rows))
    return section
