"""The page: its parts in their order, the answers at its top, the rules at its end. Rendered by page.html."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from . import capacity, experience
from .blocks import Card, Section, Table, change, counted, day_text, lasting, percent, shown
from .material import Material, peak_of
from .queries import LEAST

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
        period=f"{day_text(material.period.first)} to {day_text(material.period.last)}",
        sections=sections(material),
        made=made,
    )


def sections(material: Material) -> list[Section]:
    if material.oldest is None:
        first = _about(material)
        first.lead = "The history holds no record yet: nothing was collected, or nobody called."
        return [first, _rules(material)]
    room_part = experience.rooms(material)  # first, so that hidden names are numbered in its order
    parts: tuple[Callable[[Material], Section], ...] = (
        capacity.peaks,
        capacity.days,
        capacity.hours,
        experience.quality,
        experience.reasons,
    )
    return [
        _glance(material),
        _about(material),
        *(part(material) for part in parts),
        room_part,
        experience.used(material),
        *([experience.loss(material)] if "stream" in material.archive.columns else []),
        capacity.months(material),
        _rules(material),
    ]


def _glance(m: Material) -> Section:
    now = m.totals
    section = Section("totals", "At a glance")
    answers = []
    for measure in m.measures:
        if measure.column in ("participants", "licenses") and (most := peak_of(m, measure)):
            answers.append(
                Card(
                    f"Most {measure.name} at the same time",
                    f"{most.most:,}",
                    f"{day_text(most.at.date())}, {most.at:%H:%M}; 90 % of it or more for {lasting(most.seconds)}",
                )
            )
    busy = m.presence
    if busy and max(busy.values()) > 0:
        (weekday, hour), mean = max(busy.items(), key=lambda item: (item[1], -item[0][0], -item[0][1]))
        name = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")[weekday - 1]
        answers.append(
            Card(
                "Busiest hour of the week",
                f"{name} {hour:02}–{(hour + 1) % 24:02}",
                f"{mean:,.1f} participants on the average",
            )
        )
    if not m.lacks("participant", "quality"):
        counts = [sum(column) for column in zip(*(row for _, row in m.queries.quality(m.span)), strict=True)]
        if counts and (rated := sum(counts[:4])):
            worst = m.queries.worst("location") if not m.lacks("participant", "location") else []
            more = (
                f"worst location: {shown(worst[0].name)}, {percent(worst[0].bad, worst[0].rated)}"
                if worst and worst[0].bad
                else ""
            )
            answers.append(Card("Bad or terrible calls", percent(counts[2] + counts[3], rated), more))
    section.blocks.append(answers)
    old = m.totals_before
    rows = [
        ("Conferences", now.conferences, f"{now.conferences:,}", old.conferences),
        ("Participants", now.participants, f"{now.participants:,}", old.participants),
        ("Hours of all participants", round(now.hours), f"{now.hours:,.0f}", round(old.hours)),
        ("Mean stay in minutes", round(now.mean, 1), f"{now.mean:.1f}", round(old.mean, 1)),
    ]
    section.blocks.append(
        [Card(name, text, change(value, then) if m.compared else "") for name, value, text, then in rows]
    )
    if m.compared:
        section.blocks.append(
            Table(
                f"Totals, against {day_text(m.before.first)} to {day_text(m.before.last)}",
                ("total", "this period", "the period before"),
                [(name, value, then) for name, value, _, then in rows],
                folded=True,
            )
        )
    else:
        section.blocks.append("The history does not reach over the whole period before, so there is no comparison.")
    return section


def _about(m: Material) -> Section:
    section = Section("about", "What this rests on")
    rows = [
        ("Period", f"{m.period.first} to {m.period.last}, {m.period.days} days, both included"),
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
    if m.oldest is not None:
        api, reception = counted(m.totals.api, "connection"), counted(m.totals.reception, "stay")
        left = f" In this period that leaves out {api} and {reception}."
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


def made_text(made: datetime, version: str) -> str:
    return f"Made {made:%Y-%m-%d %H:%M} by pexip-history-collector {version}."
