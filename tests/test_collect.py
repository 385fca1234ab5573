"""The main job: what the node has of a window is in the files, once, cell by cell as it was sent."""

from __future__ import annotations

import json
import re
import sys
import time
from datetime import date, datetime
from typing import Any

import pytest

from pexip_history.run.saying import Progress
from tests.conftest import by_id
from tests.harness import CONF, DAY, HOUR, MIDNIGHT, MINUTE, PART, Row, Site
from tests.management_node import ManagementNode, calls

YESTERDAY = date(2026, 11, 23)
NIGHT = datetime(2026, 11, 24, 0, 0, 20)
ONLY_IN_DETAIL = ("bucketed_call_quality", "historic_call_quality")

Record = dict[str, Any]


def assert_same(rows: list[Row], records: list[Record]) -> None:
    """Each record is one row, with the node's fields in the node's order and its values (formulas as they are)."""
    found, wanted = by_id(list(rows)), by_id(records)
    assert found.keys() == wanted.keys()
    for key, record in wanted.items():
        sent = {name: value for name, value in sorted(record.items()) if name not in ONLY_IN_DETAIL}
        assert list(found[key]) == list(sent)
        for name, value in sent.items():
            assert same_cell(found[key][name], value), (name, value)


def same_cell(text: str, value: object) -> bool:
    """Whether that is how the contract has the value in a file."""
    if isinstance(value, (list, dict)):
        return bool(json.loads(text) == value) and '": ' not in text  # compact
    if isinstance(value, float):
        return float(text) == value
    return text == ("" if value is None else str(value))


@pytest.mark.parametrize("max_limit", [7, 20, 1000])
def test_every_record_of_the_window_is_in_the_dated_file_and_the_aggregate_as_it_was_sent(
    node: ManagementNode, collector: Site, max_limit: int
) -> None:
    day = list(calls(seed=11, day=YESTERDAY, conferences=60))
    older = list(calls(seed=12, day=YESTERDAY - DAY, conferences=5))
    node.load(day + older)
    node.load(calls(seed=13, day=YESTERDAY + DAY, conferences=5))
    node.max_limit = max_limit
    collector.at(NIGHT)
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
    assert node.server.peak == 1, "one request at a time"
    assert len(node.requests) == len({request.target for request in node.requests}), "nothing asked twice"


# Windows


def windows(collector: Site) -> list[str]:
    return re.findall(r"collecting (\S+ to \S+) UTC", collector.log())


def test_the_first_window_is_a_day_and_the_next_starts_where_the_last_ended(site: Site) -> None:
    held = site.hourly(9 * 24, MIDNIGHT - DAY)
    runs = [
        datetime(2026, 11, 24, 0, 0, 1),
        datetime(2026, 11, 24, 0, 0, 40),  # the same minute
        datetime(2026, 11, 24, 9, 30, 59),
        datetime(2026, 11, 25, 0, 5, 2),  # cron late by five minutes
        datetime(2026, 12, 1, 18, 0, 0),  # and down for a week
    ]
    for run in runs:
        site.run(run)
    assert windows(site) == [
        "2026-11-23T00:00:00 to 2026-11-24T00:00:00",
        "2026-11-24T00:00:00 to 2026-11-24T00:00:00",
        "2026-11-24T00:00:00 to 2026-11-24T09:30:00",
        "2026-11-24T09:30:00 to 2026-11-25T00:05:00",
        "2026-11-25T00:05:00 to 2026-12-01T18:00:00",
    ]
    site.once(held[: 8 * 24 + 18])
    assert len(site.dated(CONF)) == len(site.dated(PART)) == len(runs), "a pair a run"


def test_a_record_that_appears_up_to_an_hour_late_is_collected_by_the_next_run(site: Site) -> None:
    site.run(MIDNIGHT)
    site.hold("late", MIDNIGHT - 50 * MINUTE, MINUTE, shown=MIDNIGHT + MINUTE)
    site.run(MIDNIGHT + 6 * HOUR)  # sooner than the node's whole list is read again
    site.check()


def test_a_date_by_hand_is_of_the_zone_and_an_offset_is_kept(site: Site) -> None:
    site.env["TZ"] = "Europe/Oslo"
    site.run(MIDNIGHT, "--from", "2026-11-20", "--to", "2026-11-20T12:00-05:00")
    site.run(MIDNIGHT, "--to", "2026-11-18")  # the day before it
    assert windows(site) == [
        "2026-11-19T23:00:00 to 2026-11-20T17:00:00",
        "2026-11-16T23:00:00 to 2026-11-17T23:00:00",
    ]


def test_the_node_s_whole_list_is_read_once_a_day(site: Site) -> None:
    site.hourly(6)
    read = ["the node's whole list" in site.run(MIDNIGHT + hours * HOUR).output for hours in (0, 1, 2, 25, 26)]
    assert read[1:] == [False, False, True, False]


# Names, log


@pytest.mark.parametrize(
    ("zone", "stem"),
    [("Europe/Oslo", "2026-11-24_01-00-20"), ("America/St_Johns", "2026-11-23_20-30-20")],
)
def test_names_and_log_tell_the_zones_time_and_windows_utc(site: Site, zone: str, stem: str) -> None:
    site.run(NIGHT, TZ=zone)
    assert [file.name for file in site.dated()] == [f"{stem}_{CONF}"]
    day, _, time = stem.partition("_")
    lines = site.log().splitlines()
    assert all(line.startswith(f"{day} {time[:5].replace('-', ':')}:") for line in lines)
    assert "INFO collecting 2026-11-23T00:00:00 to 2026-11-24T00:00:00 UTC from" in lines[1]


def test_a_name_that_is_taken_is_left_alone_and_the_next_second_is_used(site: Site) -> None:
    taken = site.data / f"2026-11-24_00-00-20_{PART}"
    taken.write_text("mine")
    site.run(NIGHT)
    assert taken.read_text() == "mine"
    assert [file.name for file in site.dated()] == [f"2026-11-24_00-00-21_{CONF}"], "a pair has one name"
    assert (site.data / f"2026-11-24_00-00-21_{PART}").exists()


def test_the_files_of_a_run_have_names_of_their_own_an_hour_before_a_name_that_is_taken(site: Site) -> None:
    ids = site.hourly(30)
    (site.data / f"2026-11-24_01-00-19_{CONF}").write_text("id,end_time\r\n")
    site.run(NIGHT)
    assert sorted(site.dated_ids()) == sorted(ids)


def test_names_sort_as_the_runs_do_where_the_clock_is_set_back_an_hour(site: Site) -> None:
    site.env["TZ"] = "Europe/Oslo"  # 03:00 becomes 02:00 at 01:00 UTC
    minutes = (20, 40, 70, 90, 140)
    for minute in minutes:
        moment = datetime(2026, 10, 25) + minute * MINUTE
        site.hold(f"c{minute}", moment - 5 * MINUTE)
        site.run(moment)
    times = ["02-20-00", "02-40-00", "02-40-01", "02-40-02", "03-20-00"]
    assert [file.name[11:19] for file in site.dated()] == times
    site.once([f"c{minute}" for minute in minutes])


def test_the_log_is_rotated_at_5_mb_and_four_older_ones_are_kept(site: Site) -> None:
    for number in range(5):
        name = "data_collector.log" + (f".{number}" if number else "")
        (site.data / name).write_text(f"{number}" * 5_000_000)
    site.run(MIDNIGHT)
    logs = {path.name: path.read_text()[:1] for path in site.data.glob("data_collector.log*")}
    assert logs == {"data_collector.log": "2"} | {f"data_collector.log.{n}": f"{n - 1}" for n in range(1, 5)}


@pytest.mark.parametrize(
    ("by_hand", "order"), [((), "; the last day is collected first, then all the rest"), (("--from", "2026-11-23"), "")]
)
def test_the_log_has_a_line_when_a_run_starts_and_one_when_it_ends_and_pages_at_debug(
    site: Site, by_hand: tuple[str, ...], order: str
) -> None:
    site.hourly(10)
    outcome = site.run(MIDNIGHT, *by_hand, DATA_LOG_LEVEL="debug")
    assert outcome.stderr == site.log(), "the same lines on the output"
    has, begun, *_, done = [line for line in site.log().splitlines() if " DEBUG " not in line]
    assert has.endswith(f"INFO the node has 10 conferences, the first of 2026-11-23T14:30:00 UTC{order}")
    assert begun.endswith(f"INFO collecting 2026-11-23T00:00:00 to 2026-11-24T00:00:00 UTC from {site.node.address}")
    assert re.search(r"INFO 10 conferences, 10 participants, 0 waiting, \d+\.\d s$", done)
    assert site.log().count(" DEBUG ") == len(site.asked) > 0


def test_in_a_log_a_line_a_minute_says_how_far_a_reading_came(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    progress = Progress()
    with caplog.at_level("INFO", "collector"):
        for now in (1, 59, 60, 119, 120, 121):
            progress.advance("conference", int(now), 200)
    assert caplog.messages == ["60 of 200 conference records read", "120 of 200 conference records read"]


def test_a_person_who_watches_sees_a_bar_for_each_resource_and_none_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = Progress()
    for resource, received in (("conference", 1), ("conference", 5), ("participant", 7)):
        progress.advance(resource, received, 10)
    progress.close()
    shown = capsys.readouterr().err
    bars = [("conferences", "10%"), ("conferences", "50%"), ("participants", "70%")]
    assert re.findall(r"(\w+): +(\d+%)", shown) == bars
    assert not shown.rstrip("\r").rpartition("\r")[2].strip()


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
def test_arguments_that_make_no_sense_are_refused(site: Site, arguments: tuple[str, ...]) -> None:
    outcome = site(*arguments)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert "error" in outcome.stderr.lower()
    assert not (site.data / ".collector").exists()
