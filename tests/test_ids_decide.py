"""Each record once, whatever clocks, marks, lost ledgers and the user's hands do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from .deployment import CONF, DAY, HOUR, KINDS, MIDNIGHT, MINUTE, PART, Deployment
from .forked_collector import Fault
from .management_node import faults
from .management_node.server import Request

# Clocks


@pytest.mark.slow
@pytest.mark.parametrize("tells_time", [True, False], ids=["with a Date", "without a Date"])
@pytest.mark.parametrize("hours", [3, -3, 10 * 365 * 24])
def test_a_clock_that_was_wrong_for_one_run_loses_nothing(place: Deployment, hours: int, tells_time: bool) -> None:
    place.node.tells_time = tells_time
    place.hourly(14)
    place.runs(MIDNIGHT, MIDNIGHT + 5 * HOUR)
    right = 0 if tells_time else None  # without the node's clock a run cannot know which of its times is wrong
    place.run(MIDNIGHT + 6 * HOUR, ahead=hours * HOUR, code=right if hours > 0 else None)
    place.runs(MIDNIGHT + 7 * HOUR, MIDNIGHT + 9 * HOUR, code=right)
    place.runs(MIDNIGHT + 10 * HOUR, MIDNIGHT + 40 * HOUR, 5 * HOUR)
    place.check()


@pytest.mark.slow
@pytest.mark.parametrize("pause", [timedelta(days=20), timedelta(days=45), timedelta(days=400)])
def test_a_long_pause_forgets_no_id_that_the_node_still_has(place: Deployment, pause: timedelta) -> None:
    """The ledger forgets 30 days after the node last listed a conference: not after it was last asked."""
    place.hourly(10, MIDNIGHT, MINUTE, 30 * HOUR)
    place.runs(MIDNIGHT, MIDNIGHT + 12 * HOUR, 3 * HOUR)
    place.run(MIDNIGHT + pause)
    place.run(MIDNIGHT + pause + HOUR, "--from", "2026-11-20")
    place.run(MIDNIGHT + pause + 30 * HOUR)
    place.run(MIDNIGHT + pause + 31 * HOUR, "--from", "2026-11-20")
    place.check()


def test_a_clock_that_was_ahead_for_one_run_holds_up_no_later_run(place: Deployment) -> None:
    ids = place.hourly(14)
    place.runs(MIDNIGHT, MIDNIGHT + 5 * HOUR)
    place.run(MIDNIGHT + 6 * HOUR, ahead=3 * HOUR)
    for hour in range(7, 10):
        place.run(MIDNIGHT + hour * HOUR)
        assert sorted(place.ids()) == ids[:hour]


def test_what_ended_while_a_mark_lay_in_the_future_comes_with_the_next_run(place: Deployment) -> None:
    place.node.tells_time = False
    place.hourly(14)
    place.runs(MIDNIGHT, MIDNIGHT + 5 * HOUR)
    place.run(MIDNIGHT + 6 * HOUR, ahead=4 * HOUR)
    place.run(MIDNIGHT + 9 * HOUR + 10 * MINUTE)
    assert sorted(place.ids()) == sorted(place.held)[:9]


def test_records_that_end_while_the_clock_is_ahead_are_not_lost(place: Deployment) -> None:
    """The clock is right again only after the moment that it claimed has passed, and the run between fails."""
    place.hourly(14)
    place.runs(MIDNIGHT, MIDNIGHT + 5 * HOUR)
    place.run(MIDNIGHT + 6 * HOUR, ahead=3 * HOUR)
    place.run(MIDNIGHT + 12 * HOUR)
    place.run(MIDNIGHT + 15 * HOUR)
    place.check()


@pytest.mark.parametrize("ahead", [timedelta(days=3650), timedelta(days=40), 20 * MINUTE])
def test_no_dated_file_is_removed_while_the_clocks_differ(place: Deployment, ahead: timedelta) -> None:
    """Each of them is five minutes younger than DATA_KEEP_DAYS says, by the node's clock."""
    place.hourly(10)
    place.run(MIDNIGHT + 5 * MINUTE, DATA_KEEP_DAYS="1")
    place.run(MIDNIGHT + HOUR, DATA_KEEP_DAYS="1")
    files = place.dated("Conf") + place.dated("Part")
    place.run(MIDNIGHT + DAY, ahead=ahead, DATA_KEEP_DAYS="1")
    assert [file.name for file in files if not file.exists()] == []
    place.check()
    place.run(MIDNIGHT + DAY + 2 * HOUR, DATA_KEEP_DAYS="1")
    assert not any(file.exists() for file in files), "with the clock right again, what is too old goes"
    assert sorted(place.ids()) == sorted(place.held)


def test_a_dated_file_that_waited_longer_than_files_are_kept_is_there_until_the_next_run(place: Deployment) -> None:
    place.hourly(10)
    place.run(MIDNIGHT + 5 * HOUR, fault="EACCES", at=CONF, code=1)
    place.run(MIDNIGHT + 3 * DAY, DATA_KEEP_DAYS="1")
    assert f"{MIDNIGHT + 5 * HOUR:%Y-%m-%d_%H-%M-%S}" in place.dated("Conf")[0].name
    place.check()
    place.run(MIDNIGHT + 3 * DAY + HOUR, DATA_KEEP_DAYS="1")
    assert f"{MIDNIGHT + 5 * HOUR:%Y-%m-%d_%H-%M-%S}" not in place.dated("Conf")[0].name


@pytest.mark.parametrize("ahead", [timedelta(days=3650), -20 * 365 * DAY, 7 * HOUR])
def test_a_first_run_with_a_wrong_clock_loses_nothing(place: Deployment, ahead: timedelta) -> None:
    """As on a machine without a battery for its clock, until the time server was reached."""
    place.hourly(60, MIDNIGHT - DAY)
    place.run(MIDNIGHT, ahead=ahead)
    place.run(MIDNIGHT + HOUR)
    place.run(MIDNIGHT + 40 * HOUR)
    place.check()


def test_a_first_run_that_fails_while_the_clock_is_ahead_leaves_no_gap(place: Deployment) -> None:
    place.hourly(60, MIDNIGHT - DAY)
    place.node.faults.add(faults.status(401))
    place.run(MIDNIGHT, ahead=40 * DAY, code=1)
    place.run(MIDNIGHT + HOUR)
    place.run(MIDNIGHT + 40 * HOUR)
    place.check()


@pytest.mark.slow
def test_a_date_that_something_on_the_way_writes_wrong_loses_nothing(place: Deployment) -> None:
    place.hourly(30)
    for hour in range(40):
        place.node.date_error = {4: 5 * 3600, 9: -5 * 3600}.get(hour, 0)
        place.run(MIDNIGHT + hour * HOUR, code=None if place.node.date_error else 0)
    place.run(MIDNIGHT + 72 * HOUR)
    place.check()


# A ledger that is lost


def test_a_ledger_lost_after_a_window_by_hand_leaves_no_gap(place: Deployment) -> None:
    """The newest end time in the files is not how far collection came."""
    place.hourly(44)
    place.run(MIDNIGHT + 20 * HOUR)
    place.run(MIDNIGHT + 40 * HOUR, "--from", "2026-11-25T06:00", "--to", "2026-11-25T16:00")
    place.lose_ledger()
    place.run(MIDNIGHT + 45 * HOUR)
    place.check()


def test_a_ledger_lost_after_a_window_by_hand_leaves_no_gap_where_only_the_aggregates_were_kept(
    place: Deployment,
) -> None:
    place.hourly(44)
    place.run(MIDNIGHT + 20 * HOUR)
    place.run(MIDNIGHT + 40 * HOUR, "--from", "2026-11-25T06:00", "--to", "2026-11-25T16:00")
    before = {name: place.dated_ids(name) for name in KINDS}
    for file in [*place.data.glob("2*.csv"), *(place.data / ".collector").iterdir()]:
        file.unlink()
    place.run(MIDNIGHT + 45 * HOUR)
    for name, owed in place.owed().items():
        assert sorted(place.ids(name)) == sorted(owed)
        assert sorted(place.dated_ids(name) + before[name]) == sorted(owed)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["moved", "saved with semicolons"])
@pytest.mark.parametrize("name", KINDS)
def test_a_lost_ledger_is_rebuilt_from_the_dated_files_too(place: Deployment, name: str, how: str) -> None:
    place.hourly(20)
    place.runs(MIDNIGHT, MIDNIGHT + 10 * HOUR)
    place.take_away(name, how)
    place.run(MIDNIGHT + 12 * HOUR)
    place.lose_ledger()
    place.run(MIDNIGHT + 25 * HOUR)
    place.check()


def test_a_ledger_lost_after_an_aggregate_with_newer_rows_was_moved_doubles_none_of_them(place: Deployment) -> None:
    """What was taken by hand ended later than what came after it."""
    place.hourly(20)
    place.run(MIDNIGHT)
    place.run(MIDNIGHT + 17 * HOUR, "--from", "2026-11-24T06:00", "--to", "2026-11-24T16:00")
    for name in KINDS:
        place.take_away(name, "moved")
    place.run(MIDNIGHT + 18 * HOUR)
    place.lose_ledger()
    place.run(MIDNIGHT + 25 * HOUR)
    place.check()


def test_a_ledger_lost_while_rows_wait_loses_none_of_them(place: Deployment) -> None:
    place.hourly(20)
    place.runs(MIDNIGHT, MIDNIGHT + 5 * HOUR)
    for hour in (7, 9):
        place.run(MIDNIGHT + hour * HOUR, fault="EACCES", at=CONF, code=1)
    place.lose_ledger()
    place.run(MIDNIGHT + 25 * HOUR)
    place.check()


def test_a_ledger_lost_while_a_limit_holds_records_back_loses_none_of_them(place: Deployment) -> None:
    place.hourly(20)
    limits = {"DEFAULT_CONF_LIMIT": "4", "DEFAULT_PART_LIMIT": "3"}
    place.run(MIDNIGHT + 21 * HOUR, **limits)
    place.run(MIDNIGHT + 22 * HOUR, "--from", "2026-11-24T12:00", **limits)
    place.lose_ledger()
    place.run(MIDNIGHT + 25 * HOUR)
    place.check()


@pytest.mark.slow
def test_a_ledger_lost_while_participants_are_expected_loses_none_of_them(place: Deployment) -> None:
    place.hourly(10)
    late = place.hold("late", MIDNIGHT + 2 * HOUR, 10 * HOUR, 20 * HOUR)
    place.node.hidden = set(late)
    place.runs(MIDNIGHT, MIDNIGHT + 11 * HOUR)
    place.lose_ledger()
    place.run(MIDNIGHT + 12 * HOUR)
    place.node.hidden = set()
    place.runs(MIDNIGHT + 13 * HOUR, MIDNIGHT + 40 * HOUR)
    place.check()


# Windows by hand


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "at"),
    [("EACCES", CONF), ("EBUSY", CONF), ("ENOSPC", f"write {CONF}"), ("EACCES", PART)],
    ids=["EACCES", "EBUSY", "ENOSPC", "EACCES of participants"],
)
@pytest.mark.parametrize("still", [True, False], ids=["still locked", "free again"])
def test_a_window_by_hand_while_rows_wait_doubles_none_of_them(
    place: Deployment, fault: Fault, at: str, still: bool
) -> None:
    place.hourly(14)
    place.runs(MIDNIGHT, MIDNIGHT + 4 * HOUR)
    for hour in range(5, 10):
        steps = place.run(MIDNIGHT + hour * HOUR, fault=fault, at=at, code=1).steps
        assert any(at.rpartition(" ")[2] in step for step in steps)
    waits: dict[str, Any] = {"fault": fault, "at": at, "code": None} if still else {}
    place.run(MIDNIGHT + 10 * HOUR, "--from", "2026-11-24", "--to", "2026-11-24T09:00", **waits)
    place.run(MIDNIGHT + 15 * HOUR)
    place.check()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["moved", "saved with semicolons"])
@pytest.mark.parametrize("name", KINDS)
def test_a_window_by_hand_after_an_aggregate_was_taken_away_doubles_nothing(
    place: Deployment, name: str, how: str
) -> None:
    place.hourly(20)
    place.runs(MIDNIGHT, MIDNIGHT + 10 * HOUR)
    place.take_away(name, how)
    place.run(MIDNIGHT + 12 * HOUR, "--from", "2026-11-24")
    place.run(MIDNIGHT + 12 * HOUR + MINUTE, "--from", "2026-11-23")
    place.run(MIDNIGHT + 25 * HOUR)
    place.check()


def test_a_window_by_hand_that_ends_in_the_future_leaves_no_gap(place: Deployment) -> None:
    place.hourly(20)
    place.runs(MIDNIGHT, MIDNIGHT + 3 * HOUR)
    place.run(MIDNIGHT + 5 * HOUR, "--from", "2026-11-24", "--to", "2026-11-30")
    place.runs(MIDNIGHT + 8 * HOUR, MIDNIGHT + 22 * HOUR, 7 * HOUR)
    place.run(MIDNIGHT + 23 * HOUR)
    place.check()


def test_a_window_by_hand_before_data_since_brings_what_was_asked_for_and_no_more(place: Deployment) -> None:
    place.want_since(MIDNIGHT - DAY)
    old = place.hourly(96, MIDNIGHT - 5 * DAY, HOUR, 2 * HOUR, prefix="old")
    place.hourly(20)
    place.runs(MIDNIGHT, MIDNIGHT + 5 * HOUR)
    place.run(MIDNIGHT + 6 * HOUR, "--from", "2026-11-20", "--to", "2026-11-21")
    asked = {id for id in old if "2026-11-20" <= place.held[id]["end_time"] < "2026-11-21"}
    place.taken_by_hand |= asked
    place.runs(MIDNIGHT + 7 * HOUR, MIDNIGHT + 60 * HOUR, 5 * HOUR)
    # Participants of the next day's first conferences left within the window.
    within = {id for id, one in place.present.items() if "2026-11-20" <= one["end_time"] < "2026-11-21"}
    assert len(asked) == 24
    place.check(perhaps=within)


@pytest.mark.slow
@pytest.mark.parametrize("limits", [(0, 200), (50, 0), (30, 45)])
def test_a_long_history_taken_in_portions_while_the_schedule_fires(place: Deployment, limits: tuple[int, int]) -> None:
    """No run may need a request for each conference that waits."""
    for number in range(400):
        place.hold(f"c{number:03}", MIDNIGHT - 200 * DAY + number * 12 * HOUR, MINUTE, 3 * HOUR)
    env = {"DEFAULT_CONF_LIMIT": str(limits[0]), "DEFAULT_PART_LIMIT": str(limits[1])}
    place.run(MIDNIGHT, **env)
    asked = []
    for hour in range(1, 60):
        by_hand = place.run(MIDNIGHT + hour * HOUR, "--from", "2000-01-01", **env)
        asked.append(len(place.asked))
        place.run(MIDNIGHT + hour * HOUR + 30 * MINUTE, **env)
        asked.append(len(place.asked))
        if ", 0 waiting" in by_hand.output:
            break
    place.check()
    assert max(asked) <= 60, asked


# A run that reconciles and is cut short


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill", "ENOSPC"])
def test_a_run_that_reconciles_may_end_at_any_step(place: Deployment, fault: Fault) -> None:
    """Each day, when it is due, there is a conference that no window finds, and a run that does not live."""
    place.run(MIDNIGHT)
    for day, step in enumerate(range(2, 90, 8), 1):
        now = MIDNIGHT + day * 26 * HOUR
        place.hold(f"c{day:02}", now - HOUR, MINUTE, 3 * HOUR)
        place.hold(f"late{day:02}", now - 30 * HOUR, MINUTE, 30 * HOUR)
        place.run(now, fault=fault, at=step, code=None)
        place.run(now + HOUR)
    place.run(now + 30 * HOUR)
    place.check()


# Where collection began


def test_the_first_run_brings_all_that_the_node_has_and_the_last_day_first(place: Deployment) -> None:
    ids = place.hourly(120, MIDNIGHT - 4 * DAY, MINUTE, 30 * HOUR)
    place.run(MIDNIGHT)
    day, older = ([row["id"] for row in place.rows(file)] for file in place.dated("Conf"))
    assert (sorted(day), sorted(older)) == (ids[72:96], ids[:72])
    assert place.ids() == day + older
    place.runs(MIDNIGHT + HOUR, MIDNIGHT + 80 * HOUR, 5 * HOUR)
    place.check()


def test_a_first_run_that_fails_in_what_is_older_has_brought_the_last_day(place: Deployment) -> None:
    ids = place.hourly(96, MIDNIGHT - 4 * DAY, MINUTE, 30 * HOUR)

    def older(request: Request) -> bool:
        query = request.query
        return "end_time__lt" in query and "end_time__gte" not in query and query["limit"] != "1"

    place.node.faults.add(faults.status(401), when=older, times=None)
    said = place.run(MIDNIGHT).output
    assert "The run's own window is collected; the rest waits for the next run" in said
    assert sorted(place.ids()) == ids[72:96]
    place.node.faults.clear()
    place.run(MIDNIGHT + HOUR)
    place.check()


def test_a_run_does_not_count_what_a_reading_took_that_failed_afterwards(place: Deployment) -> None:
    place.hourly(96, MIDNIGHT - 4 * DAY, MINUTE, 30 * HOUR)

    def older_participants(request: Request) -> bool:
        query = request.query
        return "/participant/" in request.target and "end_time__lt" in query and "end_time__gte" not in query

    place.node.faults.add(faults.status(401), when=older_participants, times=None)
    assert " 24 conferences, " in place.run(MIDNIGHT).output
    assert len(place.ids()) == 24
    place.node.faults.clear()
    place.run(MIDNIGHT + HOUR)
    place.check()


def test_nothing_that_ended_before_data_since_comes(place: Deployment) -> None:
    place.want_since(MIDNIGHT - 2 * DAY)
    place.hourly(120, MIDNIGHT - 4 * DAY, MINUTE, 30 * HOUR)
    place.run(MIDNIGHT)
    place.runs(MIDNIGHT + HOUR, MIDNIGHT + 80 * HOUR, 5 * HOUR)
    place.check()


def test_an_earlier_data_since_makes_what_is_older_come_with_the_next_run(place: Deployment) -> None:
    place.hourly(96, MIDNIGHT - 4 * DAY, MINUTE, 30 * HOUR)
    place.want_since(MIDNIGHT - DAY)
    place.run(MIDNIGHT)
    place.check()
    place.want_since(MIDNIGHT - 3 * DAY)
    place.run(MIDNIGHT + HOUR)
    place.check()
    place.since = place.env.pop("DATA_SINCE") and None
    place.run(MIDNIGHT + 25 * HOUR)
    place.check()


def test_a_lost_ledger_does_not_make_what_is_older_than_data_since_come(place: Deployment) -> None:
    place.want_since(MIDNIGHT - DAY)
    place.hourly(120, MIDNIGHT - 4 * DAY, MINUTE, 30 * HOUR)
    place.run(MIDNIGHT)
    place.lose_ledger()
    place.runs(MIDNIGHT + HOUR, MIDNIGHT + 60 * HOUR, 5 * HOUR)
    place.check()


def test_reconciling_takes_what_windows_missed_since_data_since_and_nothing_older(place: Deployment) -> None:
    place.want_since(MIDNIGHT - DAY)
    place.hourly(72, MIDNIGHT - 3 * DAY, prefix="old")
    place.hourly(10)
    place.hold("missed", MIDNIGHT - 20 * HOUR, MINUTE, 2 * HOUR, shown=False)
    place.hold("older", MIDNIGHT - 25 * HOUR, MINUTE, shown=False)
    place.runs(MIDNIGHT, MIDNIGHT + 30 * HOUR, 3 * HOUR)
    place.node.hidden = set()
    place.runs(MIDNIGHT + 33 * HOUR, MIDNIGHT + 70 * HOUR, 3 * HOUR)
    assert "missed" in place.ids()
    place.check()


@pytest.mark.slow
def test_a_node_that_keeps_few_conferences_loses_only_what_it_forgot(place: Deployment) -> None:
    """Five an hour come and it keeps 18; runs come each hour, but for an outage of six."""
    place.node.keep = 18
    for hour in range(20):
        for n in range(5):
            place.hold(f"c{hour:02}{n}", MIDNIGHT + hour * HOUR + n * MINUTE, MINUTE, 9 * HOUR)
        if hour not in range(8, 14):
            place.run(MIDNIGHT + hour * HOUR + 30 * MINUTE)
    gone = {id for id in place.held if "c080" <= id < "c112"}  # at 14:30 it had the newest 18
    place.check(never=gone | {f"{id}-{n}" for id in gone for n in (0, 1)})
