"""What the page's parts are made from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pexip_history.folder.names import AGGREGATES

from . import concurrency, ratings
from .blocks import shown
from .concurrency import Measure, Peak
from .period import Coverage, Period, last_day, span_of, spans
from .queries import NOT_TOLD, Queries, Totals
from .ratings import Bad
from .reading import TABLES, Reading

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

OWN_REASONS = frozenset(
    {
        "call disconnected", "call failed", "call rejected", "conference terminated", "conference host ended the"
        " conference with a dtmf command", "locked conference", "none given", "participant disconnected",
        "user initiated disconnect", "timer expired awaiting token refresh", "browser closed", "media process"
        " disconnected", "remote disconnect", "no direct route between edge and transcoding", "invalid license",
        "insufficient licenses", "insufficient capacity",
    }
)  # fmt: skip
"""The node's own words, lower case; any other may be an endpoint's."""
OWN_PROTOCOLS = frozenset({"SIP", "H323", "WebRTC", "MSSIP", "RTMP", "API", "TEAMS", "GMS", "BACKPLANE", NOT_TOLD})
PUT_TOGETHER = re.compile("[0-9,]+ other(s?| reasons?)")
"""What stands for the rarer ones."""


@dataclass
class Material:
    """All that the parts are made from."""

    db: DuckDBPyConnection
    archive: Reading
    queries: Queries
    period: Period
    before: Period
    zone: ZoneInfo
    coverage: Coverage
    measures: Sequence[Measure]
    hide_names: bool
    known: Sequence[tuple[str, str]]
    """What is known of the history besides its rows: of each fact its name and its value."""
    any: bool
    """Whether there is a row that counts at all."""
    totals: Totals
    totals_before: Totals
    owned: Mapping[str, int] = field(default_factory=dict)
    """How many licenses of each type there are."""
    rooms: Sequence[str] | None = None
    """The names of all configured rooms, where they were given."""
    numbers: dict[tuple[str, str], int] = field(default_factory=dict)

    @cached_property
    def presence(self) -> dict[tuple[int, int], float]:
        return concurrency.presence(self.db, self.period)

    @cached_property
    def daily(self) -> dict[Measure, Sequence[Peak]]:
        """The peaks of the period's days, of each measure; a day without anybody is not there."""
        return {
            measure: concurrency.peaks(self.db, measure, "day", self.period.first, self.period.last)
            for measure in self.measures
        }

    @cached_property
    def rated(self) -> tuple[Bad, Bad]:
        """The rated calls of the period, and of the one before."""
        return ratings.of_period(self.db, self.period), ratings.of_period(self.db, self.before)

    @property
    def span(self) -> str:
        return span_of(self.period)

    @cached_property
    def every(self) -> Sequence[date]:
        return spans(self.period, self.span)

    @cached_property
    def compared(self) -> bool:
        """Whether the period and the one before are wholly covered."""
        return self.coverage.whole(self.period) and self.coverage.whole(self.before)

    def covered(self, since: date, span: str) -> float:
        """Of the part of that span which lies in the period what share is covered, 0 to 1."""
        return self.coverage.share(max(since, self.period.first), min(last_day(since, span), self.period.last))

    @cached_property
    def uncovered(self) -> list[bool]:
        """Of each of `every` whether something of it is not covered."""
        return [self.covered(since, self.span) < 1 for since in self.every]

    def room(self, name: str) -> str:
        """As it is called on the page."""
        return self._numbered("Room", name)

    def tag(self, name: str | None) -> str:
        return "no tag" if name is None else self._numbered("Tag", name)

    def _numbered(self, kind: str, name: str) -> str:
        if self.hide_names:
            mine = {key: number for key, number in self.numbers.items() if key[0] == kind}
            return f"{kind} {self.numbers.setdefault((kind, name), len(mine) + 1)}"
        return shown(name)

    def reason(self, text: str) -> str:
        """A disconnect reason; with hidden names none that an endpoint may have written."""
        own = text.lower() in OWN_REASONS or PUT_TOGETHER.fullmatch(text)
        return shown(text) if own or not self.hide_names else self._numbered("Reason", text)

    def place(self, column: str, text: str) -> str:
        """A value of a column: a location, a node, a protocol and so on."""
        if column == "room":
            return self.room(text)
        if column == "protocol" and self.hide_names and text not in OWN_PROTOCOLS and not PUT_TOGETHER.fullmatch(text):
            return self._numbered("Protocol", text)
        return shown(text)

    def lacks(self, table: str, *columns: str) -> str:
        """The sentence where a part must be left out; empty where it need not."""
        file, known = AGGREGATES[table], TABLES[table]
        if table not in self.archive.tables:
            return f"Left out: there is no {file}."
        missing = [column for column in columns if column in known and not self.archive.has(table, column)]
        names = ", ".join(known[column].source for column in missing)
        return f"Left out: {file} has no column {names}." if missing else ""


def peak_of(m: Material, measure: Measure) -> Peak | None:
    return concurrency.peak(m.db, measure, m.period.first, m.period.last)


def named(measure: Measure) -> str:
    if measure.column.startswith("license") and measure.column != "licenses":
        return f"Licenses, {shown(measure.name)}"
    return measure.name.capitalize()
