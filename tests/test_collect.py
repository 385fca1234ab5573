"""The main job: what the node has of a window is in the files, once, cell by cell as it was sent."""

from __future__ import annotations

import json
import re
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from tests.conftest import by_id
from tests.harness import CONF, Row, Site
from tests.management_node import ManagementNode, calls, conference, faults, participant

DAY = date(2026, 11, 23)
MIDNIGHT = datetime(2026, 11, 24, 0, 0, 20)
ONLY_IN_DETAIL = ("bucketed_call_quality", "historic_call_quality")

Record = dict[str, Any]


def cell(value: object) -> str:
    """A value as the contract has it in a file (formulas as they are)."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return str(value)


def assert_same(rows: list[Row], records: list[Record]) -> None:
    """Each record is one row, with the node's fields in the node's order and its values."""
    found, wanted = by_id(list(rows)), by_id(records)
    assert found.keys() == wanted.keys()
    for key, record in wanted.items():
        sent = {name: value for name, value in sorted(record.items()) if name not in ONLY_IN_DETAIL}
        assert list(found[key]) == list(sent)
        for name, value in sent.items():
            assert same_cell(found[key][name], value), (name, value)


def same_cell(text: str, value: object) -> bool:
    if isinstance(value, (list, dict)):
        return bool(json.loads(text) == value) and '": ' not in text  # compact
    if isinstance(value, float):
        return float(text) == value
    return text == cell(value)


def ended(records: list[Record], start: str, end: str) -> list[Record]:
    return [record for record in records if start <= record["end_time"] < end]


def ids(collector: Site, kind: str) -> list[str]:
    return sorted(row["id"] for row in collector.rows(f"pexHistory{kind}.csv"))


@pytest.mark.parametrize("max_limit", [7, 20, 1000])
def test_every_record_of_the_window_is_in_the_dated_file_and_the_aggregate_as_it_was_sent(
    node: ManagementNode, collector: Site, max_limit: int
) -> None:
    day = list(calls(seed=11, day=DAY, conferences=60))
    older = list(calls(seed=12, day=DAY - timedelta(days=1), conferences=5))
    node.load(day + older)
    node.load(calls(seed=13, day=DAY + timedelta(days=1), conferences=5))
    node.max_limit = max_limit
    collector.at(MIDNIGHT)
    collector.env["DATA_CSV_ESCAPE_FORMULAS"] = "false"
    outcome = collector()
    assert (outcome.code, outcome.stdout) == (0, "")
    conferences, participants = collector.dated("Conf"), collector.dated("Part")
    stems = ["2026-11-24_00-00-20", "2026-11-24_00-00-21"]
    assert [file.name for file in conferences] == [f"{stem}_pexHistoryConf.csv" for stem in stems]
    assert [file.name for file in participants] == [f"{stem}_pexHistoryPart.csv" for stem in stems]
    assert_same(collector.rows(conferences[0]), [held for held, _ in day])
    assert_same(collector.rows(conferences[1]), [held for held, _ in older])
    # also those who left days before their conference ended, and who left early from one that goes on
    of_them = [one for _, present in day + older for one in present]
    rows = [row for file in participants for row in collector.rows(file)]
    extra = [row for row in rows if row["id"] not in by_id(of_them)]
    assert all(row["end_time"] < "2026-11-24" for row in extra)
    assert_same([row for row in rows if row not in extra], of_them)
    assert all(row["end_time"] >= "2026-11-23" for row in collector.rows(participants[0]))
    for dated in (conferences, participants):
        aggregate = collector.data / dated[0].name.rpartition("_")[2]
        header, _, behind = dated[1].read_bytes().partition(b"\r\n")
        assert aggregate.read_bytes() == dated[0].read_bytes() + behind
        assert dated[0].read_bytes().startswith(header + b"\r\n")
        assert dated[0].read_bytes().count(b"\r\n") >= len(collector.rows(dated[0])) + 1
    assert node.peak == 1, "one request at a time"
    assert len(node.requests) == len({request.target for request in node.requests}), "nothing asked twice"


# Windows


def windows(collector: Site) -> list[str]:
    return re.findall(r"collecting (\S+ to \S+) UTC", collector.log())


def test_the_first_window_is_a_day_and_the_next_starts_where_the_last_ended(
    node: ManagementNode, collector: Site
) -> None:
    for day in range(9):
        node.load(calls(seed=2, day=DAY + timedelta(days=day), conferences=8))
    runs = [
        datetime(2026, 11, 24, 0, 0, 1),
        datetime(2026, 11, 24, 0, 0, 40),  # the same minute
        datetime(2026, 11, 24, 9, 30, 59),
        datetime(2026, 11, 25, 0, 5, 2),  # cron late by five minutes
        datetime(2026, 12, 1, 18, 0, 0),  # and down for a week
    ]
    for run in runs:
        collector.at(run)
        assert collector().code == 0
    assert windows(collector) == [
        "2026-11-23T00:00:00 to 2026-11-24T00:00:00",
        "2026-11-24T00:00:00 to 2026-11-24T00:00:00",
        "2026-11-24T00:00:00 to 2026-11-24T09:30:00",
        "2026-11-24T09:30:00 to 2026-11-25T00:05:00",
        "2026-11-25T00:05:00 to 2026-12-01T18:00:00",
    ]
    everything = [call for day in range(9) for call in calls(seed=2, day=DAY + timedelta(days=day), conferences=8)]
    held = [one["id"] for one in ended([one for one, _ in everything], "2026-11-23", "2026-12-01T18")]
    assert ids(collector, "Conf") == sorted(held), "each once, none missing"
    present = [one for one_held, some in everything for one in some if one_held["id"] in set(held)]
    assert {one["id"] for one in present} <= set(ids(collector, "Part"))
    for kind in ("Conf", "Part"):
        dated = collector.dated(kind)
        assert len(dated) == len(runs) + 1, "a pair a run, and one for what is older than the first run's day"
        rows = [row for file in dated for row in collector.table(file)[1:]]
        assert rows == collector.table(f"pexHistory{kind}.csv")[1:], "the aggregate is the dated files in order"


def test_a_record_that_appears_up_to_an_hour_late_is_collected_by_the_next_run(
    node: ManagementNode, collector: Site
) -> None:
    late = conference(end_time="2026-11-23T23:10:00", name="late")
    one = participant(late)
    node.load(calls(seed=3, day=DAY, conferences=10))
    collector.at(MIDNIGHT)
    assert collector().code == 0
    node.add([late], [one])
    collector.at(MIDNIGHT + timedelta(hours=6))  # sooner than the node's whole list is read again
    assert collector().code == 0
    (row,) = collector.rows(collector.dated("Conf")[-1])
    assert row["id"] == late["id"]
    assert ids(collector, "Part").count(one["id"]) == 1


def test_a_failed_runs_window_is_covered_by_the_next(node: ManagementNode, collector: Site) -> None:
    node.load(calls(seed=4, day=DAY, conferences=10))
    node.load(calls(seed=4, day=DAY + timedelta(days=1), conferences=10))
    node.load(calls(seed=4, day=DAY + timedelta(days=2), conferences=10))
    for day in range(3):
        collector.at(MIDNIGHT + timedelta(days=day))
        if day == 1:
            node.faults.add(faults.status(403))
        assert collector().code == (day == 1)
    assert windows(collector)[-1] == "2026-11-24T00:00:00 to 2026-11-26T00:00:00"
    assert len(ids(collector, "Conf")) == 30


# Names, log


@pytest.mark.parametrize(
    ("zone", "stem"),
    [("Europe/Oslo", "2026-11-24_01-00-20"), ("America/St_Johns", "2026-11-23_20-30-20")],
)
def test_names_and_log_tell_the_zones_time_and_windows_utc(
    node: ManagementNode, collector: Site, zone: str, stem: str
) -> None:
    collector.env["TZ"] = zone
    collector.at(MIDNIGHT)
    assert collector().code == 0
    assert [file.name for file in collector.dated("Conf")] == [f"{stem}_pexHistoryConf.csv"]
    day, _, time = stem.partition("_")
    lines = collector.log().splitlines()
    minute = time[:5].replace("-", ":")
    assert all(line.startswith(f"{day} {minute}:") for line in lines)
    assert "INFO collecting 2026-11-23T00:00:00 to 2026-11-24T00:00:00 UTC from" in lines[1]


def test_a_name_that_is_taken_is_left_alone_and_the_next_second_is_used(node: ManagementNode, collector: Site) -> None:
    taken = collector.data / "2026-11-24_00-00-20_pexHistoryPart.csv"
    taken.write_text("mine")
    collector.at(MIDNIGHT)
    assert collector().code == 0
    assert taken.read_text() == "mine"
    for kind in ("Conf", "Part"):
        assert (collector.data / f"2026-11-24_00-00-21_pexHistory{kind}.csv").exists()
    assert not (collector.data / "2026-11-24_00-00-20_pexHistoryConf.csv").exists(), "a pair has one name"


def test_names_sort_as_the_runs_do_where_the_clock_is_set_back_an_hour(node: ManagementNode, collector: Site) -> None:
    collector.env["TZ"] = "Europe/Oslo"  # 03:00 becomes 02:00 at 01:00 UTC
    for minute in (20, 40, 70, 90, 140):
        moment = datetime(2026, 10, 25) + timedelta(minutes=minute)
        node.add([conference(id=f"c{minute}", end_time=(moment - timedelta(minutes=5)).isoformat())])
        collector.run(moment)
    times = ["02-20-00", "02-40-00", "02-40-01", "02-40-02", "03-20-00"]
    assert [file.name[11:19] for file in collector.dated(CONF)] == times
    assert collector.dated_ids() == collector.ids()


def test_the_log_is_rotated_at_5_mb_and_four_older_ones_are_kept(collector: Site, node: ManagementNode) -> None:
    collector.at(MIDNIGHT)
    for number in range(5):
        name = "data_collector.log" + (f".{number}" if number else "")
        (collector.data / name).write_text(f"{number}" * 5_000_000)
    assert collector().code == 0
    logs = {path.name: path.read_text()[:1] for path in collector.data.glob("data_collector.log*")}
    assert logs == {"data_collector.log": "2"} | {f"data_collector.log.{n}": f"{n - 1}" for n in range(1, 5)}


def test_a_window_by_hand_on_an_empty_folder_announces_no_other(node: ManagementNode, collector: Site) -> None:
    node.load(calls(seed=5, day=DAY, conferences=10, participants=2))
    collector.at(MIDNIGHT)
    assert collector("collect", "--from", "2026-11-23").code == 0
    assert "the node has 10 conferences" in collector.log()
    assert "collected first" not in collector.log()


def test_the_log_has_a_line_when_a_run_starts_and_one_when_it_ends_and_pages_at_debug(
    node: ManagementNode, collector: Site
) -> None:
    node.max_limit = 7
    node.load(calls(seed=5, day=DAY, conferences=10, participants=2))
    collector.at(MIDNIGHT)
    outcome = collector()
    has, begun, *_, done = collector.log().splitlines()
    oldest = min(held["end_time"] for held, _ in calls(seed=5, day=DAY, conferences=10, participants=2))
    assert f"INFO the node has 10 conferences, the first of {oldest} UTC; the last day is collected first" in has
    assert begun.endswith(f"INFO collecting 2026-11-23T00:00:00 to 2026-11-24T00:00:00 UTC from {node.address}")
    counts = f"10 conferences, {len(ids(collector, 'Part'))} participants"
    assert re.search(rf"INFO {counts}( \(\d+ late\))?, 0 waiting, \d+\.\d s$", done)
    assert outcome.stderr == collector.log(), "the same lines on the output"
    node.requests.clear()
    collector.at(MIDNIGHT + timedelta(minutes=5))
    collector.env["DATA_LOG_LEVEL"] = "debug"
    assert collector().code == 0
    pages = [line for line in collector.log().splitlines() if " DEBUG " in line]
    assert len(pages) == len(node.requests) > 0


# By hand


def test_a_range_by_hand_brings_that_window_and_leaves_the_schedules_own(node: ManagementNode, collector: Site) -> None:
    days = [DAY + timedelta(days=n) for n in range(-3, 2)]
    for day in days:
        node.load(calls(seed=6, day=day, conferences=6))
    collector.at(MIDNIGHT)
    collector.env["DATA_SINCE"] = "2026-11-23"
    assert collector().code == 0
    assert collector("--from", "2026-11-20", "--to", "2026-11-21T12:00").code == 0
    collector.at(MIDNIGHT + timedelta(days=1))
    assert collector("collect").code == 0
    assert windows(collector) == [
        "2026-11-23T00:00:00 to 2026-11-24T00:00:00",
        "2026-11-20T00:00:00 to 2026-11-21T12:00:00",
        "2026-11-24T00:00:00 to 2026-11-25T00:00:00",
    ]
    held = [one for day in days for one, _ in calls(seed=6, day=day, conferences=6)]
    wanted = ended(held, "2026-11-20", "2026-11-21T12") + ended(held, "2026-11-23", "2026-11-25")
    assert ids(collector, "Conf") == sorted(one["id"] for one in wanted)


def test_the_node_s_whole_list_is_read_once_a_day(node: ManagementNode, collector: Site) -> None:
    node.load(calls(seed=6, day=DAY, conferences=6))
    read = []
    for hours in (0, 1, 2, 25, 26):
        collector.at(MIDNIGHT + timedelta(hours=hours))
        read.append("the node's whole list" in collector().stderr)
    assert read[1:] == [False, False, True, False]


def test_a_date_by_hand_is_of_the_zone_and_an_offset_is_kept(node: ManagementNode, collector: Site) -> None:
    collector.env["TZ"] = "Europe/Oslo"
    collector.at(MIDNIGHT)
    assert collector("collect", "--from", "2026-11-20", "--to", "2026-11-20T12:00-05:00").code == 0
    assert collector("collect", "--to", "2026-11-18").code == 0, "the day before it"
    assert windows(collector) == [
        "2026-11-19T23:00:00 to 2026-11-20T17:00:00",
        "2026-11-16T23:00:00 to 2026-11-17T23:00:00",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--from", "yesterday"),
        ("--from", "2026-11-21", "--to", "2026-11-20"),
        ("--from", "2026-11-21", "--to", "2026-11-21"),
        *((option, time) for option in ("--from", "--to") for time in ("0001-01-01", "9999-12-31T23:59:59-10:00")),
        ("--from", "2999-12-31"),
        ("--to", "2026-13-01"),
        ("check", "--from", "2026-11-21"),
        ("harvest",),
        ("status", "--if-due"),
        ("collect", "--json"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(collector: Site, arguments: tuple[str, ...]) -> None:
    outcome = collector(*arguments)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert "error" in outcome.stderr.lower()
    assert not (collector.data / ".collector").exists()
