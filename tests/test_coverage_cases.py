"""What a user or a node once did that cost rows, doubled them, or had status say what is not so: one test each."""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from .conftest import ROOT
from .forked_collector import MEMORY, ForkedCollector
from .management_node.server import Reply
from .scripted_node import BEGINNING, DAY, HOUR, MINUTE, Known, ScriptedNode
from .simulation import PART, Site, is_ours, rows_of, spans_of, within

CASES = ROOT.parent / "shared" / "cases"
TORN = (
    "id,conference,start_time,end_time,display_name\r\n"
    "p1,/api/admin/history/v1/conference/c1/,2026-01-01T08:00:00,2026-01-01T09:00:00,Ada\r\n"
    'p9,/api/admin/history/v1/conference/c1/,2026-01-01T08:00:00,2026-01-01T09:00:00,"Smith, '
)


@pytest.fixture(scope="module")
def deployment() -> Iterator[tuple[ScriptedNode, ForkedCollector]]:
    with ScriptedNode() as node, ForkedCollector() as forked:
        yield node, forked


@pytest.fixture
def site(deployment: tuple[ScriptedNode, ForkedCollector]) -> Iterator[Site]:
    deployment[0].renew()
    with tempfile.TemporaryDirectory(prefix="cases-", dir=MEMORY) as folder:
        yield Site(Path(folder) / "data", *deployment)


def hold(site: Site, id: str, end: datetime, *early: timedelta, shown: datetime | None = None) -> Known:
    """A conference of nine days, and who left it so long before its end: `<id>-0`, `<id>-1`."""
    held = site.node.conference(id, end, shown, start_time=(end - 9 * DAY).isoformat())
    for number, span in enumerate(early):
        site.node.participant(held, f"{id}-{number}", end - span, shown)
    return held


def hourly(site: Site, hours: int, until: datetime | None = None) -> list[str]:
    """A conference with one participant in each of so many hours, oldest first; their ids."""
    until = until or site.node.now
    ids = [f"{until:%m%d}-{hour:03}" for hour in range(hours, 0, -1)]
    for hour, id in zip(range(hours, 0, -1), ids, strict=True):
        hold(site, id, until - hour * HOUR + 30 * MINUTE, MINUTE)
    return ids


def daily(site: Site, days: int, **named: Any) -> str:
    """So many good runs, a day apart; what the last one said."""
    said = ""
    for _ in range(days):
        site.node.wait(DAY)
        said = site.good(**named)
    return said


def once(site: Site, ids: list[str], resource: str = "conference", *, in_order: bool = True) -> None:
    """These and no others are there, once, and the aggregate is the dated files in the order of their names.

    Where a clock was wrong names tell no order.
    """
    assert sorted(site.ids(resource)) == sorted(ids)
    dated = site.dated_ids(resource)
    assert dated == site.ids(resource) if in_order else sorted(dated) == sorted(ids)


def covers(site: Site, moment: datetime) -> bool:
    return within(moment, spans_of(site.status()["coverage"]))


# The first run


def test_all_that_the_node_has_is_collected_from_the_first_run_on_the_day_before_first(site: Site) -> None:
    ids = hourly(site, 240)
    said = site.good()
    once(site, ids)
    first, second = ([row["id"] for row in rows_of(path)] for path in site.dated())
    assert first == ids[-24:], "the day before is the first pair"
    assert second == ids[:-24], "the rest is a pair of its own, oldest first"
    status = site.status()
    assert covers(site, BEGINNING - 240 * HOUR + 30 * MINUTE)
    assert not status["gaps"]
    assert "240" in said or "216" in said, "the log says what the node has"


def test_what_ended_before_data_since_is_not_collected_until_it_is_asked_for(site: Site) -> None:
    ids = hourly(site, 100)
    site.env["DATA_SINCE"] = f"{BEGINNING - 50 * HOUR:%Y-%m-%dT%H:%M:%S}"
    daily(site, 2)
    once(site, ids[50:])
    del site.env["DATA_SINCE"]
    daily(site, 1)
    once(site, ids[50:] + ids[:50])
    assert spans_of(site.status()["coverage"])[0][0] <= BEGINNING - 100 * HOUR + 30 * MINUTE


def test_a_first_run_while_both_clocks_are_a_month_ahead_holds_up_nothing(site: Site) -> None:
    site.node.ahead = 30 * DAY
    ids = hourly(site, 10)
    site.good(ahead=30 * DAY)
    site.node.ahead = timedelta(0)
    site.node.wait(5 * HOUR)
    ids += [hold(site, "later", BEGINNING + 2 * HOUR, MINUTE).id]
    site.good()
    once(site, ids, in_order=False)
    site.node.wait(5 * HOUR)
    ids += [hold(site, "latest", BEGINNING + 7 * HOUR, MINUTE).id]
    site.good()
    once(site, ids, in_order=False)
    assert spans_of(site.status()["coverage"])[-1][1] <= site.node.now


# A wrong clock, and a ledger that is lost or old


def test_a_ledger_lost_under_a_clock_of_2020_after_an_outage_costs_nothing(site: Site) -> None:
    ids = hourly(site, 24)
    site.good()
    site.node.wait(5 * DAY)
    ids += hourly(site, 5 * 24)
    shutil.rmtree(site.data / ".collector")
    site.good(ahead=datetime(2020, 1, 1) - site.node.now)
    once(site, ids, in_order=False)
    daily(site, 1)
    once(site, ids, in_order=False)
    assert covers(site, BEGINNING + 2 * DAY)


@pytest.mark.parametrize("how", ["the ledger", "all but the aggregates"])
def test_what_ended_after_now_by_a_wrong_clock_is_not_doubled_when_its_time_comes(site: Site, how: str) -> None:
    ids = hourly(site, 24)
    site.good()
    site.node.ahead = 3 * DAY
    site.node.wait(2 * HOUR)
    ids += [hold(site, "ahead", site.node.now + 3 * DAY - HOUR, MINUTE, shown=site.node.now).id]
    site.good()
    site.node.ahead = timedelta(0)
    shutil.rmtree(site.data / ".collector")
    for path in site.data.glob("2*.csv") if how == "all but the aggregates" else ():
        path.unlink()
    daily(site, 6)
    assert sorted(site.ids()) == sorted(ids)
    assert sorted(site.ids("participant")) == sorted(f"{id}-0" for id in ids)


def test_what_was_collected_by_hand_ahead_of_its_time_is_not_doubled_a_month_later(site: Site) -> None:
    ids = hourly(site, 24)
    site.good()
    ids += [hold(site, "ahead", BEGINNING + 40 * DAY, MINUTE, shown=site.node.now).id]
    site.by_hand(BEGINNING - DAY, BEGINNING + 50 * DAY)
    daily(site, 45)
    once(site, ids)


def test_an_older_ledger_under_newer_files_doubles_nothing(site: Site) -> None:
    ids = hourly(site, 24)
    site.good()
    old = site.data.parent / "old"
    shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(site.data / ".collector", old)
    for _ in range(3):
        site.node.wait(DAY)
        ids += hourly(site, 24)
        site.good()
    shutil.rmtree(site.data / ".collector")
    shutil.move(old, site.data / ".collector")
    site.node.wait(DAY)
    ids += hourly(site, 24)
    site.good()
    daily(site, 2)
    once(site, ids)
    once(site, [f"{id}-0" for id in ids], "participant")


@pytest.mark.parametrize("torn", ["in a quoted cell", "after a cell", "in the shared case"])
def test_a_copy_made_in_mid_write_loses_its_unfinished_row_to_a_file_of_its_own(site: Site, torn: str) -> None:
    text = TORN if torn == "in a quoted cell" else TORN.rpartition(",")[0].rpartition(",")[0]
    if torn == "in the shared case":
        if not CASES.exists():
            pytest.skip("no cases beside this repository")
        text = (CASES / "torn.csv").read_bytes().decode()
    (site.data / PART).write_text(text, encoding="utf-8", newline="")
    held = site.node.conference("c1", datetime.fromisoformat("2026-01-01T09:30:00"))
    for id in ("p1", "p9", "p10"):
        site.node.participant(held, id, datetime.fromisoformat("2026-01-01T09:00:00"))
    if torn == "in the shared case":
        site.node.now = datetime(2026, 11, 24)
    daily(site, 2)
    assert sorted(site.ids("participant")) == ["p1", "p10", "p9"], "p9 did not count as exported"
    assert site.ids("participant")[0] == "p1"
    others = [path for path in site.data.iterdir() if path.is_file() and not path.name.startswith("2")]
    assert any(b"p9" in path.read_bytes() for path in others if path.name != PART), "the unfinished row is kept"


@pytest.mark.parametrize("step", [1, -1], ids=["as they were", "columns turned round"])
def test_a_file_that_an_editor_wrote_with_quotes_round_every_cell_keeps_all_its_rows(site: Site, step: int) -> None:
    hourly(site, 5)
    site.good()
    path = site.data / PART
    with path.open(encoding="utf-8", newline="") as lines:
        rows = [row[::step] for row in csv.reader(lines)]
    with path.open("w", encoding="utf-8", newline="") as target:
        csv.writer(target, quoting=csv.QUOTE_ALL).writerows(rows)
    edited = path.read_bytes()
    site.node.wait(DAY)
    hourly(site, 5)
    site.good()
    assert path.read_bytes().startswith(edited)
    assert len(site.ids("participant")) == 10


# What the node does


@pytest.mark.parametrize("by", ["id", "name", "ignored", "empty", 400, 404])
def test_early_leavers_come_whatever_conference_is_taken_for(site: Site, by: Any) -> None:
    site.good()
    site.node.by_conference = by
    site.node.wait(5 * DAY)
    for number in range(25):
        held = hold(site, f"c{number:02}", site.node.now - (number + 1) * MINUTE)
        for who in range(2):  # they are shown when the conference ended
            end = site.node.now - 7 * DAY - who * HOUR + number * MINUTE
            site.node.participant(held, f"{held.id}-{who}", end, site.node.now - MINUTE)
    site.node.wait(2 * HOUR)
    daily(site, 2)
    once(site, [f"c{number:02}-{who}" for number in range(25) for who in range(2)], "participant")
    status = site.status()
    assert (status["lost"], status["expected"]) == (0, 0)


def test_a_participant_from_its_own_address_is_a_row_without_more_columns(site: Site) -> None:
    site.good()
    site.node.by_conference, site.node.nested = 404, True
    site.node.wait(3 * DAY)
    held = hold(site, "c1", site.node.now - HOUR, MINUTE)
    site.node.participant(held, "early", BEGINNING - DAY, site.node.now - HOUR)
    daily(site, 2)
    once(site, ["c1-0", "early"], "participant")
    header = (site.data / PART).read_text(encoding="utf-8").partition("\r\n")[0]
    assert "call_quality" not in header, header
    assert {row["conference"] for row in rows_of(site.data / PART)} == {held.record["resource_uri"]}


def test_a_participant_from_its_own_address_is_known_after_a_lost_ledger(site: Site) -> None:
    site.node.by_conference, site.node.nested = 404, True
    site.good()
    site.node.wait(3 * DAY)
    held = hold(site, "c1", site.node.now - HOUR, MINUTE)
    site.node.participant(held, "early", BEGINNING - DAY, site.node.now - HOUR)
    site.good()
    shutil.rmtree(site.data / ".collector")
    daily(site, 3)
    once(site, ["c1-0", "early"], "participant")


def test_a_participant_that_is_gone_is_counted_as_lost_and_no_longer_when_it_comes(site: Site) -> None:
    held = hold(site, "c1", BEGINNING - HOUR, MINUTE)
    late = site.node.participant(held, "late", BEGINNING - 2 * HOUR, BEGINNING + 3 * DAY)
    site.good()
    daily(site, 2)
    status = site.status()
    assert (status["lost"], status["expected"]) == (1, 0)
    daily(site, 2)
    assert late.id in site.ids("participant")
    status = site.status()
    assert (status["lost"], status["expected"]) == (0, 0)
    once(site, ["c1-0", "late"], "participant")


def test_a_participant_that_never_comes_costs_a_request_a_day_for_a_week(site: Site) -> None:
    held = hold(site, "c1", BEGINNING - HOUR, MINUTE)
    site.node.participant(held, "ghost", BEGINNING - 2 * HOUR, datetime.max)
    site.good()
    for _ in range(20 * 4):
        site.node.wait(6 * HOUR)
        before = len(site.node.requests)
        site.good()
        assert sum("ghost" in request.target for request in site.node.requests[before:]) <= 1, "twice in one run"
    asked = [request for request in site.node.requests if "ghost" in request.target]
    assert 1 <= len(asked) <= 9, [request.target for request in asked]
    assert site.status()["lost"] == 1


@pytest.mark.parametrize("nulls_first", [False, True])
def test_a_record_without_an_end_is_counted_and_collected_once_none_will_come(site: Site, nulls_first: bool) -> None:
    site.node.nulls_first = nulls_first
    ids = hourly(site, 5)
    held = site.node.conference("open", None, BEGINNING - HOUR)
    site.node.participant(held, "open-0", None, BEGINNING - HOUR)
    site.good()
    assert "open" not in site.ids()
    site.node.wait(HOUR)
    site.good()
    assert site.status()["without_end"] >= 1
    daily(site, 3)
    once(site, [*ids, "open"])
    once(site, [*(f"{id}-0" for id in ids), "open-0"], "participant")
    assert site.status()["without_end"] == 0


def test_a_record_without_an_end_that_a_clock_ahead_has_seen_is_collected_once_the_clock_is_right(site: Site) -> None:
    ids = hourly(site, 5)
    site.good()
    site.node.ahead = 30 * DAY
    site.node.conference("open", None, BEGINNING - HOUR)
    site.good(ahead=30 * DAY)
    assert site.status()["without_end"] == 1
    site.node.ahead = timedelta(0)
    daily(site, 3)
    once(site, [*ids, "open"])


def test_a_record_that_gets_its_end_late_is_collected_once_with_it(site: Site) -> None:
    ids = hourly(site, 5)
    held = site.node.conference("open", None, BEGINNING - HOUR)
    site.good()
    site.node.wait(6 * HOUR)
    held.record["end_time"] = (site.node.now - HOUR).isoformat()
    site.good()
    daily(site, 3)
    once(site, [*ids, "open"])
    assert rows_of(site.data / "pexHistoryConf.csv")[-1]["end_time"] == held.record["end_time"]


def test_a_participant_whom_two_conferences_list_is_not_lost_when_one_is_forgotten(site: Site) -> None:
    first = hold(site, "c1", BEGINNING - 5 * HOUR, MINUTE)
    second = hold(site, "c2", BEGINNING - HOUR, MINUTE)
    one = site.node.participant(first, "moved", BEGINNING - 6 * HOUR)
    site.node.list_too(second, one)
    site.good()
    site.node.forget(1)
    daily(site, 1)
    before = len(site.node.requests)
    daily(site, 3)
    assert not [
        request for request in site.node.requests[before:] if "moved" in request.target or "c2" in request.query
    ]
    once(site, ["c1-0", "c2-0", "moved"], "participant")
    status = site.status()
    assert (status["lost"], status["expected"]) == (0, 0)


# The schedule and the user


def test_a_killed_run_is_made_good_when_the_container_starts_again(site: Site) -> None:
    ids = hourly(site, 10)
    site.good()
    site.node.now = BEGINNING + DAY + 5 * MINUTE
    ids += hourly(site, 5)
    assert site.collect(fault="kill", at=4).code == -9
    site.node.wait(MINUTE)
    site.good("collect", "--if-due")
    once(site, ids)


def test_a_window_by_hand_does_not_pass_for_the_scheduled_run(site: Site) -> None:
    ids = hourly(site, 10)
    site.good()
    site.node.now = BEGINNING + DAY + 9 * HOUR  # 00:05 was missed
    ids += hourly(site, 24)
    assert site.by_hand(site.node.now - 3 * HOUR).code == 0
    assert site.status()["runs"][0]["by_hand"]
    assert len(site.ids()) < len(ids)
    site.node.wait(10 * MINUTE)
    site.good("collect", "--if-due")
    once(site, site.ids())
    assert sorted(site.ids()) == sorted(ids)
    assert not site.status()["runs"][0]["by_hand"]
    requests = len(site.node.requests)
    site.node.wait(10 * MINUTE)
    site.good("collect", "--if-due")
    assert len(site.node.requests) == requests, "it was served"


def forgotten(site: Site) -> tuple[datetime, datetime]:
    """Two weeks without a run, of which the node remembers three days; from when to when nobody knows."""
    hourly(site, 24)
    site.good()
    end = site.node.now
    site.node.max_age = 3 * DAY
    for _ in range(14):
        site.node.wait(DAY)
        hourly(site, 24)
    return end, site.node.now - 3 * DAY - HOUR


@pytest.mark.parametrize("first", ["scheduled", "failures", "by hand"])
def test_what_the_node_forgot_in_an_outage_is_a_gap_for_good(site: Site, first: str) -> None:
    start, end = forgotten(site)
    if first == "failures":
        site.node.at(1, lambda request: Reply(403))
        assert site.collect().code == 1
    elif first == "by hand":
        assert site.by_hand(site.node.now - 6 * HOUR).code == 0
    site.good()
    for _ in range(2):
        status = site.status()
        gaps = spans_of(status["gaps"])
        assert within(start + HOUR, gaps)
        assert within(end - HOUR, gaps)
        assert not covers(site, start + HOUR)
        assert datetime.fromisoformat(status["complete_since"]) >= end - HOUR
        assert not within(site.node.now - HOUR, gaps)
        daily(site, 1)


def test_a_window_by_hand_in_remembered_time_is_no_gap(site: Site) -> None:
    """The node lists conferences that ended before it, so it has forgotten nothing of it."""
    forgotten(site)
    site.node.wait(10 * HOUR)
    start, end = site.node.now - 9 * HOUR, site.node.now - 2 * HOUR  # nobody called
    assert site.by_hand(start, end).code == 0
    assert not within(start + HOUR, spans_of(site.status()["gaps"]))
    assert covers(site, start + HOUR)


def test_a_ledger_that_is_lost_says_that_older_gaps_are_not_known(site: Site) -> None:
    start, _ = forgotten(site)
    site.good()
    day = site.node.now
    shutil.rmtree(site.data / ".collector")
    daily(site, 1)
    status = site.status()
    unknown = datetime.fromisoformat(status["gaps_unknown_before"])
    assert unknown >= day - DAY
    assert datetime.fromisoformat(status["complete_since"]) >= start + 10 * DAY, status


def test_an_outage_that_the_node_remembers_leaves_no_gap(site: Site) -> None:
    ids = hourly(site, 24)
    site.good()
    site.node.wait(9 * DAY)
    ids += hourly(site, 9 * 24)
    site.good()
    once(site, ids)
    status = site.status()
    assert not status["gaps"]
    assert len(status["coverage"]) == 1


# Limits


@pytest.mark.parametrize("order", ["obeyed", "ignored", "refused"])
def test_a_limit_is_a_shorter_window_and_what_is_beyond_comes_with_the_next_runs(site: Site, order: Any) -> None:
    site.good()
    site.node.order = order
    site.node.wait(DAY)
    ids = hourly(site, 24)
    site.env |= {"DEFAULT_CONF_LIMIT": "7", "DEFAULT_PART_LIMIT": "5"}
    sizes = []
    for _ in range(7):
        said = site.good()
        sizes.append((len(site.ids()), len(site.ids("participant"))))
        assert within(site.node.now - MINUTE, spans_of(site.status()["coverage"])) == (sizes[-1] == (24, 24))
        assert ("DEFAULT_" in said) == (sizes[-1] != (24, 24)), said
        site.node.wait(MINUTE)
    assert all(b[0] - a[0] <= 7 and b[1] - a[1] <= 5 for a, b in pairwise(sizes)), sizes
    once(site, ids)


def test_more_at_one_instant_than_a_limit_is_taken_whole(site: Site) -> None:
    site.good()
    site.node.wait(DAY)
    for number in range(6):
        hold(site, f"c{number}", site.node.now - HOUR, timedelta(0))
    site.env |= {"DEFAULT_CONF_LIMIT": "2", "DEFAULT_PART_LIMIT": "2"}
    for _ in range(3):
        site.node.wait(MINUTE)
        site.good()
    assert len(site.ids()) == len(site.ids("participant")) == 6


def test_a_window_by_hand_repeated_until_nothing_waits_makes_progress(site: Site) -> None:
    site.env["DATA_SINCE"] = f"{BEGINNING - DAY:%Y-%m-%d}"
    ids = hourly(site, 100)
    site.good()
    site.env |= {"DEFAULT_CONF_LIMIT": "10", "DEFAULT_PART_LIMIT": "10"}
    for _ in range(12):
        site.node.wait(MINUTE)
        assert site.by_hand(BEGINNING - 100 * HOUR, BEGINNING - 20 * HOUR).code == 0
    assert sorted(site.ids()) == sorted(ids)


def test_what_a_limit_leaves_of_late_records_comes_with_the_next_runs(site: Site) -> None:
    ids = hourly(site, 24)
    site.good()
    site.node.wait(DAY)
    site.good()
    for number in range(10):  # shown a day after they ended
        ids += [
            hold(site, f"late{number}", site.node.now - 20 * HOUR + number * MINUTE, MINUTE, shown=site.node.now).id
        ]
    site.env |= {"DEFAULT_CONF_LIMIT": "3", "DEFAULT_PART_LIMIT": "4"}
    site.node.wait(DAY + HOUR)
    sizes = [24]
    for _ in range(5):
        site.good()
        sizes.append(len(site.ids()))
        site.node.wait(HOUR)
    assert all(after - before <= 3 for before, after in pairwise(sizes)), sizes
    daily(site, 3)
    once(site, ids)
    once(site, [f"{id}-0" for id in ids], "participant")


# Names, requests


def test_a_dated_name_whose_rows_still_wait_is_not_given_to_another_run(site: Site) -> None:
    ids = hourly(site, 5)
    site.good()
    for _ in range(2):  # in the same second, while a spreadsheet has the aggregate open
        ids += [hold(site, f"c{len(ids)}", site.node.now - MINUTE, timedelta(0)).id]
        assert site.collect(fault="EACCES", at=PART).code == 1
    site.good()
    once(site, ids)
    assert len({path.name for path in site.dated()}) == len(site.dated())


@pytest.mark.slow
@pytest.mark.parametrize(("every", "most"), [(1, 120), (24, 28)], ids=["hourly", "daily"])
def test_a_day_on_a_node_of_ten_thousand_conferences_costs_few_requests(site: Site, every: int, most: int) -> None:
    for number in range(10_000):
        hold(site, f"c{number:05}", site.node.now - (number + 1) * 5 * MINUTE, MINUTE)
    site.env |= {"DEFAULT_CONF_LIMIT": "0", "DEFAULT_PART_LIMIT": "0"}
    site.good()
    daily(site, 1)
    before = len(site.node.requests)
    for hour in range(24):
        site.node.wait(HOUR)
        for number in range(12):
            hold(site, f"d{hour:02}-{number:02}", site.node.now - number * 5 * MINUTE - MINUTE, MINUTE)
        if hour % every == every - 1:
            site.good()
    assert len(site.node.requests) - before <= most


# The other resources


def test_alarms_and_node_events_have_files_where_they_are_asked_for(site: Site) -> None:
    hourly(site, 5)
    site.node.alarm(1, BEGINNING - 2 * HOUR)
    stands = site.node.alarm(2, None)
    site.node.event(1, BEGINNING - 3 * HOUR)
    site.good()
    assert not site.dated("alarm")
    site.env["DATA_EVENTS"] = "true"
    daily(site, 1)
    assert "1" in site.ids("alarm")
    stands.record["time_lowered"] = (site.node.now + HOUR).isoformat()
    site.node.wait(2 * HOUR)
    site.node.event(2, site.node.now - HOUR)
    site.good()
    assert {"1", "2"} == set(site.ids("alarm"))
    once(site, ["1", "2"], "workervm_status_event")
    daily(site, 2)
    assert len(site.ids("alarm")) == 2
    assert is_ours(site.data / "pexHistoryAlarm.csv")
