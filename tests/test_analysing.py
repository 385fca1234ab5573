"""docs/analysing.md, followed as written: its blocks are run on collected files, SQL and pandas alike.

A section's `sql` and `python` blocks must give the same table; what the table must say is checked
against the records that the node had.
"""

from __future__ import annotations

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

from .harness import ROOT, Site, environment_for
from .management_node import ManagementNode, calls
from .management_node.calls import Record

PAGE = (ROOT / "docs" / "analysing.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ZONE = ZoneInfo("Europe/Oslo")
ROUNDING = 0.11
"""What rounding to one place does."""
DAYS = [date(2026, 10, 24) + timedelta(days=n) for n in range(3)]  # the clocks go back on the 25th


def sections() -> dict[str, dict[str, str]]:
    """Of each heading the blocks by their language."""
    parts = re.split(r"^#{2,3} (.+)$", PAGE, flags=re.MULTILINE)
    return {title: dict(BLOCK.findall(body)) for title, body in zip(parts[1::2], parts[2::2], strict=True)}


SECTIONS = sections()
READING = SECTIONS["Reading the files"]
ANSWERS = [title for title, blocks in SECTIONS.items() if "sql" in blocks and title != "Reading the files"]


@dataclass
class Collected:
    data: Path
    conferences: list[Record]
    participants: list[Record]
    sql: duckdb.DuckDBPyConnection
    names: dict[str, Any]


def collect_days(data: Path) -> tuple[list[Record], list[Record]]:
    """Three days, collected by three runs, into that folder; the conferences and participants that the node had."""
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
    return [held for held, _ in sent], [one for _, present in sent for one in present]


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collected]:
    data = tmp_path_factory.mktemp("analysing") / "data"
    data.mkdir()
    sent = collect_days(data)
    names: dict[str, Any] = {}
    with chdir(data), duckdb.connect() as sql:
        sql.execute(READING["sql"])
        exec(READING["python"], names)
        yield Collected(data, *sent, sql, names)


def rows(table: Sequence[Sequence[object]]) -> list[list[object]]:
    """Values as plain Python's, so that types of two programs can be compared."""

    def plain(value: Any) -> object:
        value = value.item() if hasattr(value, "item") else "" if value is None else value
        return value if isinstance(value, (str, date)) else float(value)

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
    assert by_pandas(collected, title) == [pytest.approx(row, abs=ROUNDING) for row in answer]


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).astimezone(ZONE).replace(tzinfo=None)


def test_calls_a_day_are_those_that_the_node_had_by_local_days(collected: Collected) -> None:
    wanted = Counter(local(held["start_time"]).date() for held in collected.conferences)
    assert {row[0]: row[1] for row in by_sql(collected, "Calls a day")} == wanted
    by_utc = Counter(datetime.fromisoformat(held["start_time"]).date() for held in collected.conferences)
    assert wanted != by_utc, "the days would tell a mistake about zones"


def test_minutes_and_streams_add_up_to_what_the_node_had(collected: Collected) -> None:
    month = by_sql(collected, "One month")
    october = [one for one in collected.participants if local(one["start_time"]).month == 10]
    assert sum(row[1] for row in month) == len(october) > 0  # type: ignore[misc]
    total = sum(one["duration"] for one in october) / 60
    assert total - len(month) < sum(row[2] for row in month) <= total  # type: ignore[misc]
    joined = "SELECT count(*) FROM streams AS s JOIN participants AS p ON s.participant_id = p.id"
    streams = sum(len(one["media_streams"]) for one in collected.participants)
    assert collected.sql.execute(joined).fetchall() == [(streams,)]
    assert len(collected.names["streams"]) == streams


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
            assert rows(sql.execute(SECTIONS[title]["sql"]).fetchall()) == by_sql(collected, title)
