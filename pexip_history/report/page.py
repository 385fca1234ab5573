"""The page: its parts in their order, the rules at its end. Rendered by page.html."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from pexip_history.messages import counted

from . import capacity, enough, experience, glance, usage
from .blocks import Section, Table, day_text
from .material import Material
from .ratings import LEAST

HERE = Path(__file__).parent


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
        period=title(material),
        sections=sections(material),
        made=made,
    )


def title(m: Material) -> str:
    return m.period.name if m.period.months == 1 else f"{day_text(m.period.first)} to {day_text(m.period.last)}"


def sections(m: Material) -> list[Section]:
    if not m.any:
        first = _about(m)
        first.lead = "The history holds no record yet: nothing was collected, or nobody called."
        return [first, _rules(m)]
    room_part, tag_part = usage.rooms(m), usage.tags(m)  # first, so that hidden names are numbered in their order
    parts: tuple[Callable[[Material], Section], ...] = (
        glance.glance,
        enough.enough,
        capacity.peaks,
        capacity.places,
        *([experience.alarms] if "alarm" in m.archive.tables else []),
        capacity.days,
        capacity.hours,
        experience.quality,
        experience.reasons,
    )
    return [
        *(part(m) for part in parts),
        room_part,
        tag_part,
        usage.used(m),
        *([experience.loss(m)] if "stream" in m.archive.tables else []),
        capacity.months(m),
        _about(m),
        _rules(m),
    ]


def figures(m: Material) -> Sequence[str]:
    """The first screen's answers, a line each, and what could not be read; no name of a person or a room among them."""
    if not m.any:
        return [f"{title(m)}: the history holds no record."]
    return [
        f"{title(m)}",
        *(f"{card.name}: {card.value}{f' ({card.more})' if card.more else ''}" for card in glance.cards(m)),
        *glance.unread(m),
    ]


def _about(m: Material) -> Section:
    section = Section("about", "What this rests on")
    rows = [
        ("Period", f"{m.period.first} to {m.period.last}, {counted(m.period.days, 'day')}, both included"),
        ("Time zone", f"{m.zone.key} (TZ); the files themselves are in UTC"),
        *m.known,
    ]
    section.blocks.append(Table("About this page", ("what", "as of this page"), rows))
    for remark in m.archive.remarks:
        section.blocks.append(remark)
    return section


def _rules(m: Material) -> Section:
    section = Section("rules", "How it is counted")
    left = ""
    if m.any:
        api, reception = counted(m.totals.api, "connection"), counted(m.totals.reception, "stay")
        left = f" In this period that leaves out {api} and {reception}."
    section.blocks += [
        "A participant is a connection with its own row in pexHistoryPart.csv; who leaves and comes back counts "
        "twice. Not counted are connections of protocol API (they control a call and have no media) or BACKPLANE "
        "(between nodes), and stays in a Virtual Reception (two_stage_dialing): its callers are counted in the room "
        f"that they are put through to.{left} Streams and recorders (RTMP) count as participants, test calls and "
        "playback too; how many these are is said.",
        "A conference is a row of pexHistoryConf.csv that is no Virtual Reception. Each id counts once. A row whose "
        "start or end cannot be read is not counted; one that ends before it starts counts as a participant without a "
        "length, and is never there.",
        "Participants, conferences, service tags and what was used belong to the day on which they began, with their "
        "whole length, also where that is past midnight. Hours, the minutes of rooms, and what was there at the same "
        "time look at who was there in the period, whatever day they came on: "
        "from the start until just before the end. Who leaves in the moment in which another joins is not counted "
        "together with them, and a connection of no length is never there. First reached is the first moment with "
        "the peak; the time at 90 % or more adds up all stretches in which that many were there.",
        "Covered is time for which the node was asked, and all that it offered was taken. Averages are over covered "
        "time alone. There is a comparison only where this period and the previous one are wholly covered; whole "
        "months are compared with as many whole months, anything else with as many days. Who was there just before a "
        "gap, and left in it, is missing.",
        "Licenses are the license_count of every connection but those of protocol API or BACKPLANE, also of "
        "those that are no participants, by license_type, as the node noted them. Those by service tag and by location "
        "are of participants. A tenth more is rounded up, a tenth fewer down.",
        "Hours and days are those of the time zone above. On the day on which the clocks go back its hour counts "
        "twice as long; the averages by hour allow for it. The 95th percentile is by nearest rank: on 19 of 20 days "
        "the peak was no higher.",
        f"A location, node, room, client or protocol is ranked by its bad calls only from {LEAST} rated ones on, so "
        "that one bad call does not lead. Names are one where they differ in blanks around them alone, disconnect "
        "reasons also where they differ in case.",
    ]
    return section


def made_text(made: datetime, version: str) -> str:
    return f"Made {made:%Y-%m-%d %H:%M} by pexip-history-collector {version}."
