"""What a user, a clock or a node once did that cost rows, doubled them, or had status say what is not so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from .forked import Fault
from .harness import CONF, DAY, HOUR, MIDNIGHT, MINUTE, PART, ROOT, Site
from .management_node import faults
from .management_node.server import Request
from .simulation import spans_of, within

CASES = ROOT.parent / "shared" / "cases"
TORN = (
    "id,conference,start_time,end_time,display_name\r\n"
    "p1,/api/admin/history/v1/conference/c1/,2026-01-01T08:00:00,2026-01-01T09:00:00,Ada\r\n"
    'p9,/api/admin/history/v1/conference/c1/,2026-01-01T08:00:00,2026-01-01T09:00:00,"Smith, '
)
SEMICOLONS = "saved with semicolons"


def people(ids: list[str]) -> list[str]:
    """Of conferences with one participant each."""
    return [f"{id}-0" for id in ids]


def covers(site: Site, moment: datetime) -> bool:
    return within(moment, spans_of(site.status()["coverage"]))


# Where collection begins


def test_the_first_run_brings_all_that_the_node_has_and_the_last_day_first(site: Site) -> None:
    ids = site.hourly(240)
    said = site.run().output
    site.once(ids)
    site.once(people(ids), PART)
    first, second = ([row["id"] for row in site.rows(path)] for path in site.dated())
    assert first == ids[-24:], "the day before is the first pair"
    assert second == ids[:-24], "the rest is a pair of its own, oldest first"
    assert covers(site, MIDNIGHT - 240 * HOUR + 30 * MINUTE)
    assert not site.status()["gaps"]
    assert "240" in said or "216" in said, "the log says what the node has"


def test_a_first_run_that_fails_in_what_is_older_has_brought_the_last_day(site: Site) -> None:
    ids = site.hourly(96, None, MINUTE, 30 * HOUR)

    def older(request: Request) -> bool:
        query = request.query
        return "end_time__lt" in query and "end_time__gte" not in query and query["limit"] != "1"

    site.node.faults.add(faults.status(401), when=older, times=None)
    assert "The run's own window is collected; the rest waits for the next run" in site.run().output
    assert sorted(site.ids()) == ids[72:96]
    site.node.faults.clear()
    site.run(MIDNIGHT + HOUR)
    site.check()


def test_a_run_does_not_count_what_a_reading_took_that_failed_afterwards(site: Site) -> None:
    site.hourly(96, None, MINUTE, 30 * HOUR)

    def older_participants(request: Request) -> bool:
        query = request.query
        return "/participant/" in request.target and "end_time__lt" in query and "end_time__gte" not in query

    site.node.faults.add(faults.status(401), when=older_participants, times=None)
    assert " 24 conferences, " in site.run().output
    assert len(site.ids()) == 24
    site.node.faults.clear()
    site.run(MIDNIGHT + HOUR)
    site.check()


def test_what_ended_before_data_since_is_not_collected_until_it_is_asked_for(site: Site) -> None:
    ids = site.hourly(100)
    site.want_since(MIDNIGHT - 50 * HOUR)
    site.daily(2)
    site.once(ids[50:])
    site.want_since(MIDNIGHT - 70 * HOUR)
    site.daily(1)
    site.once(ids[50:] + ids[30:50])
    site.want_since(None)
    site.daily(1)
    site.once(ids[50:] + ids[30:50] + ids[:30])
    assert spans_of(site.status()["coverage"])[0][0] <= MIDNIGHT - 100 * HOUR + 30 * MINUTE


def test_a_lost_ledger_does_not_make_what_is_older_than_data_since_come(site: Site) -> None:
    site.want_since(MIDNIGHT - DAY)
    site.hourly(48, None, MINUTE, 30 * HOUR)
    site.run()
    site.lose_ledger()
    site.runs(MIDNIGHT + HOUR, MIDNIGHT + 60 * HOUR, 12 * HOUR)
    site.check()


def test_reconciling_takes_what_windows_missed_since_data_since_and_nothing_older(site: Site) -> None:
    site.want_since(MIDNIGHT - DAY)
    site.hourly(72)
    site.hourly(10, MIDNIGHT)
    late = MIDNIGHT + 31 * HOUR
    site.hold("missed", MIDNIGHT - 20 * HOUR, MINUTE, 2 * HOUR, shown=late)
    site.hold("older", MIDNIGHT - 25 * HOUR, MINUTE, shown=late)
    site.runs(MIDNIGHT, MIDNIGHT + 70 * HOUR, 5 * HOUR)
    assert "missed" in site.ids()
    site.check()


# Clocks


@pytest.mark.parametrize(
    ("ahead", "fails"),
    [(3650 * DAY, False), (-20 * 365 * DAY, False), (7 * HOUR, False), (40 * DAY, True)],
)
def test_a_first_run_with_a_wrong_clock_loses_nothing(site: Site, ahead: timedelta, fails: bool) -> None:
    """As on a machine without a battery for its clock, until the time server was reached."""
    site.hourly(60, MIDNIGHT - DAY)
    if fails:
        site.node.faults.add(faults.status(401))
    site.run(MIDNIGHT, ahead=ahead, code=int(fails))
    site.run(MIDNIGHT + HOUR)
    site.run(MIDNIGHT + 40 * HOUR)
    site.check()


def test_a_first_run_while_both_clocks_are_a_month_ahead_holds_up_nothing(site: Site) -> None:
    site.node.ahead = 30 * DAY
    site.hourly(10)
    site.run(ahead=30 * DAY)
    site.node.ahead = timedelta(0)
    for hours in (2, 7):
        site.hold(f"later{hours}", MIDNIGHT + hours * HOUR, MINUTE)
        site.run(MIDNIGHT + (hours + 3) * HOUR)
        site.check()
    assert spans_of(site.status()["coverage"])[-1][1] <= site.node.now


@pytest.mark.parametrize("told", [True, False], ids=["with a Date", "without a Date"])
@pytest.mark.parametrize(
    ("hours", "after"),
    [
        (3, (7, 8, 9)),
        pytest.param(-3, (7, 8, 9), marks=pytest.mark.slow),
        pytest.param(10 * 365 * 24, (7, 8, 9), marks=pytest.mark.slow),
        (3, (12, 15)),  # when the moment that it claimed has passed
        (4, (9,)),
    ],
)
def test_a_clock_that_was_wrong_for_one_run_loses_nothing_and_holds_up_no_later_run(
    site: Site, hours: int, after: tuple[int, ...], told: bool
) -> None:
    site.node.tells_time = told
    ids = site.hourly(14, MIDNIGHT)
    site.runs(MIDNIGHT, MIDNIGHT + 5 * HOUR)
    right = 0 if told else None  # without the node's clock a run cannot know which of its times is wrong
    site.run(MIDNIGHT + 6 * HOUR, ahead=hours * HOUR, code=right if hours > 0 else None)
    for hour in after:
        site.run(MIDNIGHT + hour * HOUR + 10 * MINUTE, code=right)
        assert sorted(site.ids()) == ids[:hour] or not told
    site.runs(MIDNIGHT + 16 * HOUR, MIDNIGHT + 40 * HOUR, 12 * HOUR)
    site.check()


@pytest.mark.slow
def test_a_date_that_something_on_the_way_writes_wrong_loses_nothing(site: Site) -> None:
    site.hourly(16, MIDNIGHT)
    for hour in range(20):
        site.node.date_error = {4: 5 * HOUR, 9: -5 * HOUR}.get(hour, timedelta(0))
        site.run(MIDNIGHT + hour * HOUR, code=None if site.node.date_error else 0)
    site.run(MIDNIGHT + 52 * HOUR)
    site.check()


@pytest.mark.parametrize("ahead", [3650 * DAY, 40 * DAY, 20 * MINUTE])
def test_no_dated_file_is_removed_while_the_clocks_differ(site: Site, ahead: timedelta) -> None:
    """Each of them is five minutes younger than DATA_KEEP_DAYS says, by the node's clock."""
    site.hourly(10, MIDNIGHT)
    site.env["DATA_KEEP_DAYS"] = "1"
    site.run(MIDNIGHT + 5 * MINUTE)
    site.run(MIDNIGHT + HOUR)
    files = site.dated(CONF) + site.dated(PART)
    site.run(MIDNIGHT + DAY, ahead=ahead)
    assert [file.name for file in files if not file.exists()] == []
    site.check()
    site.run(MIDNIGHT + DAY + 2 * HOUR)
    assert not any(file.exists() for file in files), "with the clock right again, what is too old goes"
    assert sorted(site.ids()) == sorted(site.owed()[CONF])


def test_a_dated_file_that_waited_longer_than_files_are_kept_is_there_until_the_next_run(site: Site) -> None:
    site.hourly(10, MIDNIGHT)
    site.env["DATA_KEEP_DAYS"] = "1"
    site.run(MIDNIGHT + 5 * HOUR, fault="EACCES", at=CONF, code=1)
    name = f"{MIDNIGHT + 5 * HOUR:%Y-%m-%d_%H-%M-%S}"
    site.run(MIDNIGHT + 3 * DAY)
    assert name in site.dated()[0].name
    site.check()
    site.run(MIDNIGHT + 3 * DAY + HOUR)
    assert name not in site.dated()[0].name


@pytest.mark.slow
def test_a_long_pause_forgets_no_id_that_the_node_still_has(site: Site) -> None:
    """The ledger forgets 30 days after the node last listed a conference: not after it was last asked."""
    site.hourly(10, MIDNIGHT, MINUTE, 30 * HOUR)
    site.runs(MIDNIGHT, MIDNIGHT + 12 * HOUR, 3 * HOUR)
    for hours in (0, 30):
        site.run(MIDNIGHT + 45 * DAY + hours * HOUR)
        site.run(MIDNIGHT + 45 * DAY + (hours + 1) * HOUR, "--from", "2026-11-20")
    site.check()


# A ledger that is lost or old


def test_a_ledger_lost_under_a_clock_of_2020_after_an_outage_costs_nothing(site: Site) -> None:
    ids = site.hourly(24)
    site.run()
    site.node.wait(5 * DAY)
    ids += site.hourly(5 * 24)
    shutil.rmtree(site.data / ".collector")
    site.run(ahead=datetime(2020, 1, 1) - site.node.now)
    site.once(ids, in_order=False)
    site.daily(1)
    site.once(ids, in_order=False)
    assert covers(site, MIDNIGHT + 2 * DAY)


@pytest.mark.parametrize("how", ["the ledger", "all but the aggregates"])
def test_what_ended_after_now_by_a_wrong_clock_is_not_doubled_when_its_time_comes(site: Site, how: str) -> None:
    ids = site.hourly(24)
    site.run()
    site.node.ahead = 3 * DAY
    site.node.wait(2 * HOUR)
    ids += [site.hold("ahead", site.node.now + 3 * DAY - HOUR, MINUTE, shown=site.node.now).id]
    site.run()
    site.node.ahead = timedelta(0)
    shutil.rmtree(site.data / ".collector")
    for path in site.data.glob("2*.csv") if how == "all but the aggregates" else ():
        path.unlink()
    site.daily(6)
    assert sorted(site.ids()) == sorted(ids)
    assert sorted(site.ids(PART)) == sorted(people(ids))


def test_what_was_collected_by_hand_ahead_of_its_time_is_not_doubled_a_month_later(site: Site) -> None:
    ids = site.hourly(24)
    site.run()
    ids += [site.hold("ahead", MIDNIGHT + 40 * DAY, MINUTE, shown=site.node.now).id]
    site.by_hand(MIDNIGHT - DAY, MIDNIGHT + 50 * DAY)
    site.runs(MIDNIGHT + 3 * DAY, MIDNIGHT + 45 * DAY, 3 * DAY)
    site.once(ids)


def test_an_older_ledger_under_newer_files_doubles_nothing(site: Site) -> None:
    ids = site.hourly(24)
    site.run()
    old = site.data.parent / "old"
    shutil.copytree(site.data / ".collector", old)
    for _ in range(3):
        site.node.wait(DAY)
        ids += site.hourly(24)
        site.run()
    shutil.rmtree(site.data / ".collector")
    shutil.move(old, site.data / ".collector")
    site.node.wait(DAY)
    ids += site.hourly(24)
    site.run()
    site.daily(2)
    site.once(ids)
    site.once(people(ids), PART)


def by_hand_in_the_middle(site: Site) -> None:
    """The newest end time in the files is not how far collection came."""
    site.run(MIDNIGHT + 8 * HOUR)
    site.run(MIDNIGHT + 19 * HOUR, "--from", "2026-11-24T12:00", "--to", "2026-11-24T18:00")


def aggregates_without_dated_files(site: Site) -> None:
    by_hand_in_the_middle(site)
    for file in site.data.glob("2*.csv"):
        file.unlink()


def moved_with_newer_rows(site: Site) -> None:
    """What was taken by hand ended later than what came after it."""
    site.run(MIDNIGHT)
    site.run(MIDNIGHT + 17 * HOUR, "--from", "2026-11-24T06:00", "--to", "2026-11-24T16:00")
    for name in (CONF, PART):
        site.take_away(name)
    site.run(MIDNIGHT + 18 * HOUR)


def taken_away(name: str, how: str) -> Callable[[Site], None]:
    def happens(site: Site) -> None:
        site.runs(MIDNIGHT, MIDNIGHT + 10 * HOUR, 5 * HOUR)
        site.take_away(name, how)
        site.run(MIDNIGHT + 12 * HOUR)

    return happens


def rows_wait(site: Site) -> None:
    site.runs(MIDNIGHT, MIDNIGHT + 5 * HOUR, 5 * HOUR)
    for hour in (7, 9):
        site.run(MIDNIGHT + hour * HOUR, fault="EACCES", at=CONF, code=1)


def a_limit_holds_records_back(site: Site) -> None:
    limits = {"DEFAULT_CONF_LIMIT": "4", "DEFAULT_PART_LIMIT": "3"}
    site.run(MIDNIGHT + 18 * HOUR, **limits)
    site.run(MIDNIGHT + 19 * HOUR, "--from", "2026-11-24T12:00", **limits)


def participants_are_expected(site: Site) -> None:
    site.hold("late", MIDNIGHT + 2 * HOUR, 10 * HOUR, 20 * HOUR)
    for id in ("late-0", "late-1"):
        site.node.known["participant"][id].shown = MIDNIGHT + 26 * HOUR
    site.runs(MIDNIGHT, MIDNIGHT + 19 * HOUR, 4 * HOUR)


@pytest.mark.parametrize(
    "happens",
    [
        by_hand_in_the_middle,
        aggregates_without_dated_files,
        moved_with_newer_rows,
        rows_wait,
        a_limit_holds_records_back,
        participants_are_expected,
        taken_away(CONF, "moved"),
        taken_away(PART, SEMICOLONS),
    ],
)
def test_a_ledger_that_is_lost_leaves_no_gap_and_doubles_nothing(site: Site, happens: Callable[[Site], None]) -> None:
    site.hourly(20, MIDNIGHT)
    happens(site)
    shutil.rmtree(site.data / ".collector")
    removed = {name: [] if site.dated() else site.ids(name) for name in (CONF, PART)}
    site.run(MIDNIGHT + 20 * HOUR + 40 * MINUTE)
    site.runs(MIDNIGHT + 27 * HOUR, MIDNIGHT + 52 * HOUR, 25 * HOUR)
    for name, owed in site.owed().items():
        assert sorted(site.ids(name)) == sorted(owed)
        assert sorted(site.dated_ids(name) + removed[name]) == sorted(owed)


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
    site.daily(2)
    assert sorted(site.ids(PART)) == ["p1", "p10", "p9"], "p9 did not count as exported"
    assert site.ids(PART)[0] == "p1"
    others = [path for path in site.data.iterdir() if path.is_file() and not path.name.startswith("2")]
    assert any(b"p9" in path.read_bytes() for path in others if path.name != PART), "the unfinished row is kept"


# Records without an end


@pytest.mark.parametrize("nulls_first", [False, True])
def test_a_record_without_an_end_is_counted_and_collected_once_none_will_come(site: Site, nulls_first: bool) -> None:
    site.node.nulls_first = nulls_first
    ids = site.hourly(5)
    held = site.node.conference("open", None, MIDNIGHT - HOUR)
    site.node.participant(held, "open-0", None, MIDNIGHT - HOUR)
    site.run()
    assert "open" not in site.ids()
    site.run(MIDNIGHT + HOUR)
    assert site.status()["without_end"] >= 1
    site.daily(3)
    site.once([*ids, "open"])
    site.once(people([*ids, "open"]), PART)
    assert site.status()["without_end"] == 0


def test_a_record_without_an_end_that_a_clock_ahead_has_seen_is_collected_once_the_clock_is_right(site: Site) -> None:
    ids = site.hourly(5)
    site.run()
    site.node.ahead = 30 * DAY
    site.node.conference("open", None, MIDNIGHT - HOUR)
    site.run(ahead=30 * DAY)
    assert site.status()["without_end"] == 1
    site.node.ahead = timedelta(0)
    site.daily(3)
    site.once([*ids, "open"])


def test_a_record_that_gets_its_end_late_is_collected_once_with_it(site: Site) -> None:
    ids = site.hourly(5)
    held = site.node.conference("open", None, MIDNIGHT - HOUR)
    site.run()
    site.node.wait(6 * HOUR)
    held.record["end_time"] = (site.node.now - HOUR).isoformat()
    site.run()
    site.daily(3)
    site.once([*ids, "open"])
    assert site.rows(CONF)[-1]["end_time"] == held.record["end_time"]


# The schedule and windows by hand


def test_a_killed_run_is_made_good_when_the_container_starts_again(site: Site) -> None:
    ids = site.hourly(10)
    site.run()
    site.node.now = MIDNIGHT + DAY + 5 * MINUTE
    ids += site.hourly(5)
    site.run(fault="kill", at=4, code=-9)
    site.node.wait(MINUTE)
    site.run(None, "collect", "--if-due")
    site.once(ids)


def test_a_window_by_hand_does_not_pass_for_the_scheduled_run(site: Site) -> None:
    ids = site.hourly(10)
    site.run()
    site.node.now = MIDNIGHT + DAY + 9 * HOUR  # 00:05 was missed
    ids += site.hourly(24)
    site.by_hand(site.node.now - 3 * HOUR)
    assert site.status()["runs"][0]["by_hand"]
    assert len(site.ids()) < len(ids)
    site.node.wait(10 * MINUTE)
    site.run(None, "collect", "--if-due")
    site.once(site.ids())
    assert sorted(site.ids()) == sorted(ids)
    assert not site.status()["runs"][0]["by_hand"]
    site.node.wait(10 * MINUTE)
    site.run(None, "collect", "--if-due")
    assert not site.asked, "it was served"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "at"),
    [("EBUSY", CONF), ("ENOSPC", f"write {CONF}"), ("EACCES", PART)],
    ids=["EBUSY", "ENOSPC", "EACCES of participants"],
)
@pytest.mark.parametrize("still", [True, False], ids=["still locked", "free again"])
def test_a_window_by_hand_while_rows_wait_doubles_none_of_them(site: Site, fault: Fault, at: str, still: bool) -> None:
    site.hourly(14, MIDNIGHT)
    site.runs(MIDNIGHT, MIDNIGHT + 4 * HOUR, 2 * HOUR)
    for hour in range(5, 10):
        steps = site.run(MIDNIGHT + hour * HOUR, fault=fault, at=at, code=1).steps
        assert any(at.rpartition(" ")[2] in step for step in steps)
    waits: dict[str, Any] = {"fault": fault, "at": at, "code": None} if still else {}
    site.run(MIDNIGHT + 10 * HOUR, "--from", "2026-11-24", "--to", "2026-11-24T09:00", **waits)
    site.run(MIDNIGHT + 15 * HOUR)
    site.check()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "how"), [(CONF, "moved"), (PART, "moved"), (PART, SEMICOLONS)])
def test_a_window_by_hand_after_an_aggregate_was_taken_away_doubles_nothing(site: Site, name: str, how: str) -> None:
    site.hourly(20, MIDNIGHT)
    site.runs(MIDNIGHT, MIDNIGHT + 10 * HOUR, 5 * HOUR)
    site.take_away(name, how)
    site.run(MIDNIGHT + 12 * HOUR, "--from", "2026-11-24")
    site.run(MIDNIGHT + 12 * HOUR + MINUTE, "--from", "2026-11-23")
    site.run(MIDNIGHT + 25 * HOUR)
    site.check()


def test_a_window_by_hand_that_ends_in_the_future_leaves_no_gap(site: Site) -> None:
    site.hourly(20, MIDNIGHT)
    site.runs(MIDNIGHT, MIDNIGHT + 3 * HOUR)
    site.run(MIDNIGHT + 5 * HOUR, "--from", "2026-11-24", "--to", "2026-11-30")
    site.runs(MIDNIGHT + 8 * HOUR, MIDNIGHT + 22 * HOUR, 7 * HOUR)
    site.run(MIDNIGHT + 23 * HOUR)
    site.check()


def test_a_window_by_hand_before_data_since_brings_what_was_asked_for_and_no_more(site: Site) -> None:
    site.want_since(MIDNIGHT - DAY)
    site.hourly(96, MIDNIGHT - 5 * DAY, HOUR, 2 * HOUR, prefix="old")
    site.hourly(20, MIDNIGHT)
    site.runs(MIDNIGHT, MIDNIGHT + 4 * HOUR, 2 * HOUR)
    start, end = datetime(2026, 11, 20), datetime(2026, 11, 21)
    site.run(MIDNIGHT + 6 * HOUR, "--from", "2026-11-20", "--to", "2026-11-21")
    # Participants of the next day's first conferences left within the window.
    asked, perhaps = (
        {id for id, one in site.node.known[name].items() if one.end and start <= one.end < end}
        for name in ("conference", "participant")
    )
    site.taken_by_hand |= asked
    site.runs(MIDNIGHT + 7 * HOUR, MIDNIGHT + 60 * HOUR, 10 * HOUR)
    assert len(asked) == 24
    site.check(perhaps=perhaps)


# Gaps


def forgotten(site: Site) -> tuple[datetime, datetime]:
    """Two weeks without a run, of which the node remembers three days; from when to when nobody knows."""
    site.hourly(24)
    site.run()
    end = site.node.now
    site.node.max_age = 3 * DAY
    for _ in range(14):
        site.node.wait(DAY)
        site.hourly(24)
    return end, site.node.now - 3 * DAY - HOUR


@pytest.mark.parametrize("first", ["scheduled", "failures", "by hand"])
def test_what_the_node_forgot_in_an_outage_is_a_gap_for_good(site: Site, first: str) -> None:
    start, end = forgotten(site)
    if first == "failures":
        site.node.faults.add(faults.status(403))
        site.run(code=1)
    elif first == "by hand":
        site.by_hand(site.node.now - 6 * HOUR)
    site.run()
    for _ in range(2):
        status = site.status()
        gaps = spans_of(status["gaps"])
        assert within(start + HOUR, gaps)
        assert within(end - HOUR, gaps)
        assert not covers(site, start + HOUR)
        assert datetime.fromisoformat(status["complete_since"]) >= end - HOUR
        assert not within(site.node.now - HOUR, gaps)
        site.daily(1)


def test_a_window_by_hand_in_remembered_time_is_no_gap(site: Site) -> None:
    """The node lists conferences that ended before it, so it has forgotten nothing of it."""
    forgotten(site)
    site.node.wait(10 * HOUR)
    start = site.node.now - 9 * HOUR
    site.by_hand(start, site.node.now - 2 * HOUR)  # nobody called
    assert not within(start + HOUR, spans_of(site.status()["gaps"]))
    assert covers(site, start + HOUR)


def test_a_ledger_that_is_lost_says_that_older_gaps_are_not_known(site: Site) -> None:
    start, _ = forgotten(site)
    site.run()
    day = site.node.now
    shutil.rmtree(site.data / ".collector")
    site.daily(1)
    status = site.status()
    assert datetime.fromisoformat(status["gaps_unknown_before"]) >= day - DAY
    assert datetime.fromisoformat(status["complete_since"]) >= start + 10 * DAY, status


def test_an_outage_that_the_node_remembers_leaves_no_gap(site: Site) -> None:
    ids = site.hourly(24)
    site.run()
    site.node.wait(9 * DAY)
    ids += site.hourly(9 * 24)
    site.run()
    site.once(ids)
    status = site.status()
    assert not status["gaps"]
    assert len(status["coverage"]) == 1


@pytest.mark.slow
def test_a_node_that_keeps_few_conferences_loses_only_what_it_forgot(site: Site) -> None:
    """Five an hour come and it keeps 18; runs come each hour, but for an outage of six."""
    site.node.keep = 18
    for hour in range(20):
        for n in range(5):
            site.hold(f"c{hour:02}{n}", MIDNIGHT + hour * HOUR + n * MINUTE, MINUTE, 9 * HOUR)
        site.at(MIDNIGHT + hour * HOUR + 30 * MINUTE)
        if hour not in range(8, 14):
            site.run()
    gone = {id for id in site.node.known["conference"] if "c080" <= id < "c112"}  # at 14:30 it had the newest 18
    site.check(never=gone | {f"{id}-{n}" for id in gone for n in (0, 1)})


# Limits


@pytest.mark.parametrize("order", ["obeyed", "ignored", "refused"])
def test_a_limit_is_a_shorter_window_and_what_is_beyond_comes_with_the_next_runs(site: Site, order: Any) -> None:
    site.run()
    site.node.order, site.node.page = order, 10
    site.node.wait(DAY)
    ids = site.hourly(24)
    site.env |= {"DEFAULT_CONF_LIMIT": "7", "DEFAULT_PART_LIMIT": "5"}
    sizes = []
    for _ in range(7):
        said = site.run().output
        sizes.append((len(site.ids()), len(site.ids(PART))))
        assert within(site.node.now - MINUTE, spans_of(site.status()["coverage"])) == (sizes[-1] == (24, 24))
        for name, kind, left in (("CONF", "conference", 24 - sizes[-1][0]), ("PART", "participant", 24 - sizes[-1][1])):
            assert (f"DEFAULT_{name}_LIMIT" in said) == (left > 0), said
            assert not left or f" reached: {left} {kind} records wait" in said
        assert sorted(site.ids()) == ids[: sizes[-1][0]], "oldest first"
        site.node.wait(MINUTE)
    assert all(b[0] - a[0] <= 7 and b[1] - a[1] <= 5 for a, b in pairwise(sizes)), sizes
    site.once(ids)


@pytest.mark.parametrize(
    ("limit", "moment"),
    [
        ("0", {"nth": 2}),
        ("1", {"when": lambda request: "end_time__gte" in request.query and request.query["limit"] == "1"}),
    ],
    ids=["between the first two requests", "while a limit's shorter window is sought"],
)
def test_what_the_node_forgets_before_a_window_is_read_is_a_gap(site: Site, limit: str, moment: dict[str, Any]) -> None:
    site.hold("old", MIDNIGHT - HOUR)
    site.run()
    site.node.wait(DAY)
    for number in range(4):
        site.hold(f"c{number}", site.node.now - (4 - number) * HOUR)
    counting: list[list[str]] = []
    site.node.faults.add(faults.before(lambda request: counting.append(site.node.forget(2))), **moment)
    site.run(DEFAULT_CONF_LIMIT=limit)
    assert counting == [["old", "c0"]]
    assert "c0" not in site.ids()
    gone = site.node.now - 4 * HOUR
    assert not within(gone, spans_of(site.status()["coverage"]))
    assert within(gone, spans_of(site.status()["gaps"]))


def test_more_at_one_instant_than_a_limit_is_taken_whole(site: Site) -> None:
    site.run()
    site.node.wait(DAY)
    for number in range(6):
        site.hold(f"c{number}", site.node.now - HOUR, timedelta(0))
    site.env |= {"DEFAULT_CONF_LIMIT": "2", "DEFAULT_PART_LIMIT": "2"}
    for _ in range(3):
        site.node.wait(MINUTE)
        site.run()
    assert len(site.ids()) == len(site.ids(PART)) == 6


def test_a_window_by_hand_repeated_until_nothing_waits_makes_progress(site: Site) -> None:
    site.want_since(MIDNIGHT - DAY)
    ids = site.hourly(100)
    site.run()
    site.env |= {"DEFAULT_CONF_LIMIT": "10", "DEFAULT_PART_LIMIT": "10"}
    for _ in range(12):
        site.node.wait(MINUTE)
        site.by_hand(MIDNIGHT - 100 * HOUR, MIDNIGHT - 20 * HOUR)
    assert sorted(site.ids()) == sorted(ids)


def test_what_a_limit_leaves_of_late_records_comes_with_the_next_runs(site: Site) -> None:
    ids = site.hourly(24)
    site.run()
    site.daily(1)
    for number in range(10):  # shown a day after they ended
        end = site.node.now - 20 * HOUR + number * MINUTE
        ids += [site.hold(f"late{number}", end, MINUTE, shown=site.node.now).id]
    site.env |= {"DEFAULT_CONF_LIMIT": "3", "DEFAULT_PART_LIMIT": "4"}
    site.node.wait(DAY + HOUR)
    sizes = [24]
    for _ in range(5):
        site.run()
        sizes.append(len(site.ids()))
        site.node.wait(HOUR)
    assert all(after - before <= 3 for before, after in pairwise(sizes)), sizes
    site.daily(3)
    site.once(ids)
    site.once(people(ids), PART)


@pytest.mark.slow
@pytest.mark.parametrize("limits", [(0, 100), (25, 0), (15, 25)])
def test_a_long_history_taken_in_portions_while_the_schedule_fires(site: Site, limits: tuple[int, int]) -> None:
    """No run may need a request for each conference that waits."""
    for number in range(200):
        site.hold(f"c{number:03}", MIDNIGHT - 100 * DAY + number * 12 * HOUR, MINUTE, 3 * HOUR)
    env = {"DEFAULT_CONF_LIMIT": str(limits[0]), "DEFAULT_PART_LIMIT": str(limits[1])}
    site.run(MIDNIGHT, **env)
    asked = []
    for hour in range(1, 60):
        by_hand = site.run(MIDNIGHT + hour * HOUR, "--from", "2000-01-01", **env)
        asked.append(len(site.asked))
        site.run(MIDNIGHT + hour * HOUR + 30 * MINUTE, **env)
        asked.append(len(site.asked))
        if ", 0 waiting" in by_hand.output:
            break
    site.check()
    assert max(asked) <= 60, asked


# Names, requests, the end of a run


def test_a_dated_name_whose_rows_still_wait_is_not_given_to_another_run(site: Site) -> None:
    ids = site.hourly(5)
    site.run()
    for _ in range(2):  # in the same second, while a spreadsheet has the aggregate open
        ids += [site.hold(f"c{len(ids)}", site.node.now - MINUTE, timedelta(0)).id]
        site.run(fault="EACCES", at=PART, code=1)
    site.run()
    site.once(ids)
    assert len({path.name for path in site.dated()}) == len(site.dated())


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill", "ENOSPC"])
def test_a_run_that_reconciles_may_end_at_any_step(site: Site, fault: Fault) -> None:
    """Each day, when it is due, there is a conference that no window finds, and a run that does not live."""
    site.run(MIDNIGHT)
    for day, step in enumerate(range(2, 90, 8), 1):
        now = MIDNIGHT + day * 26 * HOUR
        site.hold(f"c{day:02}", now - HOUR, MINUTE, 3 * HOUR)
        site.hold(f"late{day:02}", now - 30 * HOUR, MINUTE, 30 * HOUR, shown=now - 30 * MINUTE)
        site.run(now, fault=fault, at=step, code=None)
        site.run(now + HOUR)
    site.run(now + 30 * HOUR)
    site.check()


@pytest.mark.slow
@pytest.mark.parametrize(("every", "most"), [(1, 120), (24, 28)], ids=["hourly", "daily"])
def test_a_day_on_a_node_of_ten_thousand_conferences_costs_few_requests(site: Site, every: int, most: int) -> None:
    site.node.page = 100  # a tenth of a node's, and a tenth of its conferences
    for number in range(1000):
        site.hold(f"c{number:05}", site.node.now - (number + 1) * 50 * MINUTE, MINUTE)
    site.env |= {"DEFAULT_CONF_LIMIT": "0", "DEFAULT_PART_LIMIT": "0"}
    site.run()
    site.daily(1)
    before = len(site.node.requests)
    for hour in range(24):
        site.node.wait(HOUR)
        for number in range(12):
            site.hold(f"d{hour:02}-{number:02}", site.node.now - number * 5 * MINUTE - MINUTE, MINUTE)
        if hour % every == every - 1:
            site.run()
    assert len(site.node.requests) - before <= most
