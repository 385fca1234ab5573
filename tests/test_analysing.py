"""docs/analysing.md, followed as written: its blocks are run on collected files, SQL and pandas alike.

A section's `sql` and `python` blocks must give the same table; what the table must say is checked
against the records that the node had.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pandas
import pytest

from pexip_history.folder.cells import guard

from .harness import ROOT, Site, environment_for
from .management_node import ManagementNode, calls
from .management_node.calls import Record

PAGE = (ROOT / "docs" / "analysing.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ZONE = ZoneInfo("Europe/Oslo")
DAYS = [date(2026, 10, 24) + timedelta(days=n) for n in range(3)]  # the clocks go back on the 25th


def sections() -> dict[str, dict[str, str]]:
    """Of each heading the blocks by their language."""
    parts = re.split(r"^#{2,3} (.+)$", PAGE, flags=re.MULTILINE)
    return {title: dict(BLOCK.findall(body)) for title, body in zip(parts[1::2], parts[2::2], strict=True)}


SECTIONS = sections()
READING = SECTIONS["Reading the files"]
PEAKS = "Peak concurrent participants and licenses"
ANSWERS = [title for title, blocks in SECTIONS.items() if "answer" in blocks.get("python", "")]


@dataclass
class Collected:
    data: Path
    sent: list[tuple[Record, list[Record]]]
    sql: duckdb.DuckDBPyConnection
    names: dict[str, Any]

    @property
    def conferences(self) -> list[Record]:
        return [held for held, _ in self.sent]

    @property
    def participants(self) -> list[Record]:
        return [one for _, present in self.sent for one in present]


def collect_days(data: Path) -> list[tuple[Record, list[Record]]]:
    """Three days, collected by three runs, into that folder; what the node had."""
    sent = []
    with ManagementNode(dropped_fields={"participant": ["vendor"]}) as node:
        run = Site(data, environment_for(node, data) | {"DATA_MEDIA_STREAMS": "true"})
        for day in DAYS:
            # What was left before the first window is not collected: nobody is to be in a call for days.
            some = [(h, p) for h, p in calls(seed=41, day=day, conferences=60) if h["duration"] < 80_000]
            node.load(some)
            sent += some
            if day == DAYS[-1]:  # an upgrade: the last files have a column more, and a mark
                node.dropped_fields = {}
                run.env["DATA_CSV_BOM"] = "true"
            node.now = datetime.combine(day, time(0, 0, 20)) + timedelta(days=1)
            run.at(node.now)
            outcome = run()
            assert outcome.code == 0, outcome.output
    return sent


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collected]:
    data = tmp_path_factory.mktemp("analysing") / "data"
    data.mkdir()
    sent = collect_days(data)
    names: dict[str, Any] = {}
    with chdir(data), duckdb.connect() as sql:
        sql.execute(READING["sql"])
        exec(READING["python"], names)
        yield Collected(data, sent, sql, names)


def rows(table: Sequence[Sequence[object]]) -> list[list[object]]:
    """Values as plain Python's, so that types of two programs can be compared."""

    def plain(value: Any) -> object:
        if hasattr(value, "item"):
            value = value.item()
        if isinstance(value, str) or value is None:
            return value or ""
        return float(value) if not isinstance(value, date) else value

    return [[plain(value) for value in row] for row in table]


def by_sql(collected: Collected, title: str) -> list[list[object]]:
    return rows(collected.sql.execute(SECTIONS[title]["sql"]).fetchall())


def by_pandas(collected: Collected, title: str) -> list[list[object]]:
    names = dict(collected.names)
    exec(SECTIONS[title]["python"], names)
    answer = names["answer"]
    frame = answer.to_frame() if isinstance(answer, pandas.Series) else answer
    return rows(list(frame.itertuples(index=False, name=None)))


@pytest.mark.parametrize("title", ANSWERS)
def test_sql_and_pandas_give_the_same_answer(collected: Collected, title: str) -> None:
    answer = by_sql(collected, title)
    assert len(answer) > 1
    assert same(by_pandas(collected, title), answer)


def same(one: list[list[object]], other: list[list[object]]) -> bool:
    """Equal but for what rounding to one place does."""
    return len(one) == len(other) and all(
        a == b or (isinstance(a, float) and isinstance(b, float) and abs(a - b) < 0.11)
        for left, right in zip(one, other, strict=True)
        for a, b in zip(left, right, strict=True)
    )


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def local(text: str) -> datetime:
    return utc(text).astimezone(ZONE).replace(tzinfo=None)


def test_calls_a_day_are_those_that_the_node_had_by_local_days(collected: Collected) -> None:
    wanted = Counter(local(held["start_time"]).date() for held in collected.conferences)
    found = {row[0]: row[1] for row in by_sql(collected, "Calls a day")}
    assert found == wanted
    by_utc = Counter(datetime.fromisoformat(held["start_time"]).date() for held in collected.conferences)
    assert wanted != by_utc, "the days would tell a mistake about zones"


def test_peaks_are_the_most_that_were_there_at_any_moment(collected: Collected) -> None:
    there = [one for one in collected.participants if one["protocol"] != "API"]
    spans = [(utc(one["start_time"]), utc(one["end_time"]), one["license_count"]) for one in there]
    answer = by_sql(collected, PEAKS)
    first, last = (min(spans)[0].astimezone(ZONE).date(), max(end for _, end, _ in spans).astimezone(ZONE).date())
    assert [day for day, *_ in answer] == [first + timedelta(days=n) for n in range((last - first).days + 1)]
    for day, most, licenses in answer:
        moments = [moment for span in spans for moment in span[:2] if moment.astimezone(ZONE).date() == day]
        moments.append(datetime.combine(day, time(), ZONE))  # type: ignore[arg-type]  # some stayed past midnight
        present = [[count for start, end, count in spans if start <= moment < end] for moment in moments]
        assert (most, licenses) == (max(map(len, present)), max(map(sum, present))), day


def test_who_stays_past_midnight_is_in_the_next_days_peak(tmp_path: Path) -> None:
    (tmp_path / "pexHistoryPart.csv").write_bytes((ROOT / "tests" / "cases" / "midnight.csv").read_bytes())
    (tmp_path / "pexHistoryConf.csv").write_text("id,start_time,end_time,duration,participant_count\n")
    blocks = {name: text.replace("Europe/Oslo", "UTC") for name, text in SECTIONS[PEAKS].items()}
    names: dict[str, Any] = {}
    with chdir(tmp_path), duckdb.connect() as sql:
        for statement in READING["sql"].split("\n\n"):
            if "VIEW participants" in statement:
                sql.execute(statement.replace("Europe/Oslo", "UTC"))
        found = sql.execute(blocks["sql"]).fetchall()
        exec(READING["python"].replace("Europe/Oslo", "UTC"), names)
        exec(blocks["python"], names)
    assert [row[:2] for row in found] == [(date(2026, 11, 23), 1), (date(2026, 11, 24), 2)]
    assert [row[:2] for row in names["answer"].itertuples(index=False, name=None)] == [row[:2] for row in found]


def test_minutes_shares_and_rooms_add_up_to_what_the_node_had(collected: Collected) -> None:
    minutes = by_sql(collected, "Minutes by protocol and location")
    total = sum(one["duration"] for one in collected.participants) / 60
    assert total - len(minutes) < sum(row[2] for row in minutes) <= total  # type: ignore[misc]
    shares = by_sql(collected, "Call quality shares")
    assert sum(row[2] for row in shares) == pytest.approx(100, abs=0.3)  # type: ignore[misc]
    known = sum(one["call_quality"] != "0_unknown" for one in collected.participants)
    assert sum(row[1] for row in shares) == known  # type: ignore[misc]
    streams = by_sql(collected, "Packet loss by location")
    assert sum(row[2] for row in streams) == sum(len(one["media_streams"]) for one in collected.participants)  # type: ignore[misc]


def test_undoing_the_guard_gives_the_names_that_were_typed(collected: Collected) -> None:
    typed = sorted(one["display_name"] or "" for one in collected.participants)
    assert any(name.startswith("=") for name in typed)
    for table in (by_sql, by_pandas):
        assert sorted(str(row[0]) for row in table(collected, "The apostrophe before `=`")) == typed


def test_undoing_the_guard_is_exact_for_any_name() -> None:
    """Except for one that was typed with an apostrophe, of which these have none."""
    chosen, letters = random.Random(1), '=+-@\t\r\n; "a1.é(\uff1d\uff0d\u00a0\u061c\u200b\u2068\u3000'
    typed = ["".join(chosen.choices(letters, k=chosen.randint(0, 8))) for _ in range(5000)]
    participants = pandas.DataFrame({"display_name": [guard(name) for name in typed]})
    assert sum(participants["display_name"] != typed) > 1000
    blocks = SECTIONS["The apostrophe before `=`"]
    names: dict[str, Any] = {"participants": participants}
    exec(blocks["python"], names)
    assert list(names["answer"]) == typed
    with duckdb.connect() as sql:
        sql.register("participants", participants)
        assert [name for (name,) in sql.execute(blocks["sql"]).fetchall()] == typed


def test_parquet_holds_the_same(collected: Collected) -> None:
    collected.sql.execute(SECTIONS["When the files outgrow one machine"]["sql"])
    (there,) = collected.sql.execute(
        "SELECT count(*) FROM (FROM participants EXCEPT FROM 'participants.parquet')"
    ).fetchall()
    assert there == (0,)
    assert collected.sql.execute("SELECT count(*) FROM 'participants.parquet'").fetchall() == [
        (len(collected.participants),)
    ]


def test_every_column_of_the_files_is_on_the_page(collected: Collected) -> None:
    columns = set(re.findall(r"\w+", PAGE.partition("## Columns")[2].partition("## Times")[0]))
    for kind in ("Conf", "Part", "Stream"):
        header = Site(collected.data, {}).table(f"pexHistory{kind}.csv")[0]
        ends = {name for name in header if f"...{name[2:]}" in PAGE} if kind == "Stream" else set()
        assert not set(header) - ends - columns, kind


def test_the_dated_files_by_name_give_the_same_as_the_aggregate(collected: Collected) -> None:
    script = re.sub(r"'(pexHistory\w+\.csv)', ", r"'*_\1', union_by_name = true, ", READING["sql"])
    assert script.count("union_by_name") == 3
    with duckdb.connect() as sql:
        sql.execute(script)
        for title in ANSWERS:
            if title != "The apostrophe before `=`":
                assert rows(sql.execute(SECTIONS[title]["sql"]).fetchall()) == by_sql(collected, title)
