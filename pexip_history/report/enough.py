"""Whether there are licenses enough: of each type what was needed beyond what is owned."""

from __future__ import annotations

import math

from pexip_history.messages import counted

from . import apart, concurrency
from .blocks import Cell, Section, Table, clock, lasting, moment_text, shown
from .concurrency import Measure
from .material import Material, peak_of

HOW = (
    "Tell how many licenses are owned, and this answers whether that is enough: DATA_LICENSES in the settings, or "
    "--licenses port=100,audio=20."
)


def enough(m: Material) -> Section:
    section = Section(
        "enough",
        "Enough?",
        "How long, on how many days and by how many conferences more licenses were held at the same time than are "
        "owned, and what a tenth more or fewer would make of it.",
    )
    if lack := m.lacks("participant", "licenses", "license"):
        section.blocks.append(lack)
        return section
    if not m.owned:
        section.blocks.append(HOW)
        return section
    rows: list[tuple[Cell, ...]] = []
    for measure, owned in types(m):
        for what, number in (
            ("owned", owned),
            ("a tenth more", math.ceil(owned * 11 / 10)),
            ("a tenth fewer", owned * 9 // 10),
        ):
            seconds, days = concurrency.above(m.db, measure, number, m.period)
            conferences = apart.conferences_above(m.db, measure.name, number) if seconds else 0
            rows.append((shown(measure.name), what, number, clock(seconds), days, conferences))
    head = ("type", "licenses", "number", "h:mm:ss above", "days", "conferences")
    section.blocks.append(Table("Above what is owned", head, rows))
    section.blocks += [answer(m, measure, owned) for measure, owned in types(m)]
    section.blocks.append(
        "A call that was refused because no license was free left no license in the history: a peak that just reaches "
        "what is owned can hide that more were wanted. Alarms about licenses tell."
    )
    return section


def types(m: Material) -> list[tuple[Measure, int]]:
    """The measures of the types that are owned, and how many are."""
    return [
        (measure, m.owned[measure.name])
        for measure in m.measures
        if measure.name in m.owned and measure.column not in ("participants", "conferences", "licenses")
    ]


def verdict(m: Material, measure: Measure, owned: int) -> tuple[str, str]:
    """Yes or no, and what it rests on."""
    peak = peak_of(m, measure)
    if not peak:
        return "yes", f"none of {owned:,} was held"
    when = f"at most {peak.most:,} of {owned:,}, {moment_text(peak.at)}"
    if peak.most <= owned:
        return ("yes" if peak.most < owned else "just"), when
    seconds, days = concurrency.above(m.db, measure, owned, m.period)
    return "no", f"{when}; above for {lasting(seconds)} on {counted(days, 'day')}"


def answer(m: Material, measure: Measure, owned: int) -> str:
    said, why = verdict(m, measure, owned)
    words = {"yes": "enough", "just": "just enough", "no": "not enough"}[said]
    partly = "" if m.coverage.whole(m.period) else " The period is not wholly covered: there may have been more."
    return f"Licenses, {shown(measure.name)}: {words}; {why}.{partly}"
