"""What a page is made of, and how its values are written. No markup: the template has that."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from markupsafe import Markup

from pexip_history.errors import printable

LONGEST = 120
"""Characters of a name on the page; one may have 1,000."""

PHONE = 40
"""Letters that a line of a table has on a telephone."""

Cell = str | int | float


@dataclass(frozen=True)
class Table:
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    folded: bool = False
    """Shown on a click: a picture beside it says the same."""

    @property
    def wide(self) -> bool:
        """Whether a telephone shows it by scrolling, as far as letters tell."""
        words = [max(map(len, name.split()), default=0) for name in self.head]
        cells = [max((len(str(row[place])) for row in self.rows), default=0) for place in range(len(self.head))]
        first = min(cells[0], 14)  # a name has more lines where it must
        return sum(max(pair) for pair in zip(words[1:], cells[1:], strict=True)) + first + 2 * len(words) > PHONE


@dataclass(frozen=True)
class Figure:
    caption: str
    picture: Markup
    legend: Sequence[tuple[str, str]] = ()
    """Style's class and name of each series, where there is more than one."""


@dataclass(frozen=True)
class Card:
    name: str
    value: str
    more: str = ""


@dataclass(frozen=True)
class HeatMap:
    caption: str
    head: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[str, int]]]]
    """Of each row its name, and its cells: the text, and the step of the colour."""


@dataclass
class Section:
    ident: str
    title: str
    lead: str = ""
    blocks: list[object] = field(default_factory=list)
    """Of Table, Figure, HeatMap; a list of Cards; a list of blocks (side by side); a sentence."""


def shown(text: str) -> str:
    """A text of the history as it may stand on a page: short, and nothing in it that acts on what is around it."""
    kept, marks = [], 0
    for character in printable(" ".join(text.splitlines())):
        marks = marks + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if marks <= 2:
            kept.append(character)
    short = "".join(kept)
    return short if len(short) <= LONGEST else f"{short[: LONGEST - 1]}…"


def day_text(day: date) -> str:
    return f"{day:%a} {day.day} {day:%b %Y}"


def moment_text(moment: datetime) -> str:
    """To the minute, as a spreadsheet reads it too."""
    return f"{moment:%Y-%m-%d %H:%M}"


def span_text(since: date, span: str) -> str:
    """How a day, a week, a month or a year is called below a picture."""
    return {"day": f"{since.day} {since:%b}", "week": f"{since.day} {since:%b %y}", "month": f"{since:%b %Y}"}.get(
        span, f"{since:%Y}"
    )


def span_cell(since: date, span: str, covered: float = 1) -> str:
    """The same in a table: sortable, with the weekday where it tells something; and how much of it is covered."""
    name = {
        "day": f"{since} {since:%a}",
        "week": f"{since} (week {since.isocalendar().week})",
        "month": f"{since:%Y-%m}",
    }.get(span, f"{since:%Y}")
    return name if covered == 1 else f"{name}, {share(covered)} covered"


def share(part: float) -> str:
    """Of one; never 100 % for less, nor 0 % for more than nothing."""
    if part in (0, 1):
        return "not" if not part else "wholly"
    return f"{min(max(part * 100, 0.1), 99.9):.{0 if 1 <= part * 100 <= 99 else 1}f} %"


HOURS = [f"{hour:02}" for hour in range(24)]
"""How the hours of the day are called below a picture: all of them, whichever have something."""


def hour_text(hour: int) -> str:
    return f"{hour:02}–{(hour + 1) % 24:02}"


def clock(seconds: float) -> str:
    """h:mm:ss, which needs no decimal sign and which every spreadsheet takes for a time."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def lasting(seconds: float) -> str:
    """In words for a sentence."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def percent(part: float, whole: float) -> str:
    return f"{part / whole * 100:.1f} %" if whole else "–"


def rate(part: int, whole: int, least: int) -> str:
    """A share in percent, but in numbers where there are too few: 1 of 1 is not 100.0 %."""
    return percent(part, whole) if whole >= least or not whole else f"{part} of {whole}"


def change(now: float, before: float) -> str:
    """Against the previous period, in words; of the exact values."""
    if not before:
        return "none in the previous period" if now else ""
    difference = (now - before) / before * 100
    if now == before:
        return "as in the previous period"
    return f"{difference:+,.1f} % against the previous period"
