"""A report read back, and archives to make one of: for tests/test_report.py and tests/browser."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pexip_history.report import Facts, write_report
from tests.management_node.calls import Call, Record, conference, participant

OSLO = ZoneInfo("Europe/Oslo")
NOW = datetime(2026, 11, 25, 6, 0, tzinfo=UTC)
FACTS = Facts("1.1.0")
NOT_LISTED = ("bucketed_call_quality", "historic_call_quality")


class Reader(HTMLParser):
    """Tables by caption, each a list of rows of text; all text; and what the elements are."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.headings: list[str] = []
        self._rows: list[list[str]] = []
        self._row: list[str] = []
        self._said: list[str] = []
        self.feed(page)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("caption", "td", "th", "h2"):
            self._said = []
        elif tag == "tr":
            self._row = []

    def handle_endtag(self, tag: str) -> None:
        said = "".join(self._said)
        if tag == "caption":
            self._rows = self.tables[said] = []
        elif tag == "h2":
            self.headings.append(said)
        elif tag in ("td", "th"):
            self._row.append(said)
        elif tag == "tr":
            self._rows.append(self._row)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        self._said.append(data)

    def table(self, caption: str) -> list[list[str]]:
        """Its rows without the header."""
        return self.tables[caption][1:]

    def about(self, name: str) -> str:
        return {row[0]: row[1] for row in self.table("About this page")}[name]


def one(room: str = "R", *stays: tuple[str, str], **fields: Any) -> Call:
    """A call with a participant for each stay, (start, end) on 2026-11-10 unless it names a day; else from 9 to 10."""
    every = stays or [("09:00:00", "10:00:00")]
    spans = [[text if "T" in text else f"2026-11-10T{text}" for text in stay] for stay in every]
    held = conference(name=room, start_time=min(s for s, _ in spans), end_time=max(e for _, e in spans))
    present = []
    for start, end in spans:
        lasted = datetime.fromisoformat(end) - datetime.fromisoformat(start)
        present.append(
            participant(held, start_time=start, end_time=end, duration=int(lasted.total_seconds()), **fields)
        )
    return held, present


def write_archive(data: Path, calls: Iterable[Call], *, guard: bool = True) -> None:
    """The three aggregates, as the collector writes them."""
    data.mkdir(exist_ok=True)
    conferences: list[Record] = []
    participants: list[Record] = []
    for held, present in calls:
        conferences.append(held)
        participants += present
    streams = [{"participant_id": one["id"], **stream} for one in participants for stream in one["media_streams"]]
    for name, records in (("Conf", conferences), ("Part", participants), ("Stream", streams)):
        if records:
            write_csv(data / f"pexHistory{name}.csv", records, guard=guard)


def write_csv(path: Path, records: Iterable[Mapping[str, object]], *, guard: bool = True) -> None:
    rows = [{name: value for name, value in record.items() if name not in NOT_LISTED} for record in records]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow("" if cell is None else _cell(cell, guard) for cell in row.values())


def _cell(value: object, guard: bool) -> str:
    text = str(value)
    return f"'{text}" if guard and isinstance(value, str) and text[:1] in ("=", "@", "\t", "\r") else text


def report(data: Path, *, zone: ZoneInfo = OSLO, facts: Facts = FACTS, now: datetime = NOW, **more: Any) -> Reader:
    """Make the report of that folder beside it, and read it."""
    output = data.parent / f"{data.name}.html"
    write_report(data, output, zone=zone, facts=facts, now=now, **more)
    return Reader(output.read_text(encoding="utf-8"))


def report_of(folder: Path, *calls: Call, **more: Any) -> Reader:
    """The report of these calls, of which the folder then has an archive."""
    write_archive(folder / "a", calls)
    return report(folder / "a", **more)
