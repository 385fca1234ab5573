"""What the page's parts are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from . import concurrency
from .blocks import shown
from .concurrency import Measure, Peak
from .queries import Period, Queries, Totals, span_of
from .reading import TABLES, Reading

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass
class Material:
    """All that the parts are made from."""

    db: DuckDBPyConnection
    archive: Reading
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

    @cached_property
    def presence(self) -> dict[tuple[int, int], float]:
        return concurrency.presence(self.db, self.period.first, self.period.last, self.zone)

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


def peak_of(m: Material, measure: Measure) -> Peak | None:
    return concurrency.peak(m.db, measure, m.period.first, m.period.last)


def named(measure: Measure) -> str:
    if measure.column.startswith("license") and measure.column != "licenses":
        return f"Licenses, {shown(measure.name)}"
    return measure.name.capitalize()
