"""What a user, a clock or a node once did that cost rows, doubled them, or had status say what is not so."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from .forked import Fault
from .harness import CONF, DAY, HOUR, MIDNIGHT, MINUTE, NOW, PART, ROOT, Site
from .management_node import faults
from .management_node.calls import stamp
from .management_node.server import Reply, Request
from .scripted_node import LISTED
from .simulation import spans_of, within
from .striking import Struck

TORN = (ROOT / "tests" / "cases" / "torn.csv").read_bytes().decode()
"""Participants p1 and, in part, p9."""
SEMICOLONS = "saved with semicolons"


def people(ids: list[str]) -> list[str]:
    """Of conferences with one participant each."""
    return [f"{id}-0" for id in ids]


def covers(site: Site, moment: datetime) -> bool:
    return within(moment, spans_of(site.status()["coverage"]))


# Where collection begins


def test_a_run_without_a_record_writes_files_with_the_header_that_the_node_s_schema_gives(site: Site) -> None:
    said = site.run().output
    assert "the node has no conference yet" in said
    for kind, name in (("conference", CONF), ("participant", PART)):
        for file in (site.data / name, *site.dated(name)):
            assert site.table(file) == [list(LISTED[kind])]


@pytest.mark.parametrize("fails", ["conference", "participant"])
def test_a_first_run_that_fails_in_what_is_older_has_brought_and_counts_the_last_day(site: Site, fails: str) -> None:
    ids = site.hourly(96, None, MINUTE, 30 * HOUR)

    def older(request: Request) -> bool:
        query = request.query
        return "end_time__lt" in query and "end_time__gte" not in query and query["limit"] != "1"

    site.node.faults.add(faults.status(401), on=fails, when=older, times=None)
    said = site.run().output
    assert "The run's own window is collected; the rest waits for the next run" in said
    assert " 24 conferences, " in said
    assert sorted(site.ids()) == ids[72:96]
    site.node.faults.clear()
    site.run(MIDNIGHT + HOUR)
    site.check()


def test_a_disk_that_is_full_in_what_is_older_costs_no_row_of_the_last_day(site: Site) -> None:
    ids = site.hourly(96)
    struck = Struck(site, lambda **how: site.run(MIDNIGHT, **how))
    last = max(place for place, step in enumerate(struck.steps, 1) if step == "create 1-conference.csv")
    struck.reset()
    assert "the rest waits for the next run" in site.run(fault="ENOSPC", at=last).output
    assert ids[72:96] == site.ids()[:24]
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


def test_participants_are_covered_from_the_end_of_the_oldest_conference_that_the_node_lists(site: Site) -> None:
    """They go with their conference: of who left before, others may be gone."""
    site.hold("zeroth", MIDNIGHT - 45 * HOUR)
    site.hold("first", MIDNIGHT - 40 * HOUR, MINUTE)
    site.hold("second", MIDNIGHT - 30 * HOUR, MINUTE, 20 * HOUR)
    site.hold("last", MIDNIGHT - 5 * HOUR, MINUTE)
    site.run(DEFAULT_PART_LIMIT="1")
    site.node.forget(2)
    site.run(MIDNIGHT + HOUR)
    assert "second-1" in site.ids(PART)
    assert not covers(site, MIDNIGHT - 40 * HOUR - MINUTE)
    assert covers(site, MIDNIGHT - 30 * HOUR)


def test_a_history_of_late_records_alone_begins_with_them(site: Site) -> None:
    site.run()
    site.hold("late", MIDNIGHT - 2 * HOUR, shown=MIDNIGHT + HOUR)
    site.run(MIDNIGHT + 3 * HOUR)
    assert covers(site, MIDNIGHT + 2 * HOUR)


def test_a_history_of_several_pages_begins_with_the_first_of_them(site: Site) -> None:
    site.node.page = 2
    site.hourly(5, MIDNIGHT - 40 * HOUR, timedelta(0))
    site.hold("new", MIDNIGHT - HOUR)
    site.run()
    assert site.status()["complete_since"] == stamp(MIDNIGHT - 40 * HOUR + 30 * MINUTE)
    assert site.status()["runs"][0]["conferences"] == 6, "of all that the run read"


def test_more_late_records_than_a_page_holds_make_no_gap(site: Site) -> None:
    site.node.page = 2
    site.hourly(5, MIDNIGHT - 8 * HOUR)
    site.run()
    for number in range(3):
        site.hold(f"late-{number}", MIDNIGHT - 2 * HOUR, shown=MIDNIGHT + HOUR)
    site.run(MIDNIGHT + 3 * HOUR)
    assert not site.status()["gaps"]


# Clocks


@dataclass(frozen=True)
class Clocks:
    """By how much they are wrong: this machine's, the node's, what something on the way makes of its Date."""

    own: timedelta = NOW
    node: timedelta = NOW
    date: timedelta = NOW


@pytest.mark.parametrize(
    ("first", "after"),
    [(True, (7, 8, 9)), pytest.param(False, (7, 8, 9), marks=pytest.mark.slow), (False, (12, 15))],
    ids=["the first run", "a later run", "when the moment that it claimed has passed"],
)
@pytest.mark.parametrize(
    "told", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["with a Date", "without a Date"]
)
@pytest.mark.parametrize(
    "wrong",
    [
        Clocks(3 * HOUR),
        Clocks(-3 * HOUR),
        Clocks(3650 * DAY),
        Clocks(30 * DAY, 30 * DAY),
        Clocks(date=5 * HOUR),
        Clocks(date=-5 * HOUR),
    ],
)
def test_clocks_that_are_wrong_for_one_run_lose_nothing_and_hold_up_no_later_run(
    site: Site, wrong: Clocks, told: bool, first: bool, after: tuple[int, ...]
) -> None:
    """As on a machine without a battery for its clock, until the time server was reached."""
    site.node.tells_time = told
    ids = site.hourly(14, MIDNIGHT)
    if not first:
        site.runs(MIDNIGHT, MIDNIGHT + 5 * HOUR)
    site.node.ahead, site.node.date_error = wrong.node, wrong.date
    knows = told and not wrong.date  # without the node's clock a run cannot know which of its times is wrong
    site.run(MIDNIGHT + 6 * HOUR, ahead=wrong.own, code=0 if knows and wrong.own > NOW else None)
    site.node.ahead = site.node.date_error = NOW
    for hour in after:
        site.run(MIDNIGHT + hour * HOUR + 10 * MINUTE, code=0 if told else None)
        assert sorted(site.ids()) == ids[:hour] or not knows
    assert spans_of(site.status()["coverage"])[-1][1] <= site.node.now or not told
    site.runs(MIDNIGHT + 16 * HOUR, MIDNIGHT + 40 * HOUR, 12 * HOUR)
    site.check()


@pytest.mark.parametrize("ahead", [40 * DAY, 20 * MINUTE])
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


# What a user, a limit or the node did, and then a ledger that is lost or old: each record is there once


Step = Callable[[Site], object]


def run(*hours: float, **named: Any) -> Step:
    """Runs so long after MIDNIGHT."""
    return lambda site: [site.run(MIDNIGHT + hour * HOUR, **named) for hour in hours]


def by_hand(hour: float, start: float, end: float, **named: Any) -> Step:
    """A window by hand, from and to so many hours after MIDNIGHT."""

    def happens(site: Site) -> None:
        site.at(MIDNIGHT + hour * HOUR)
        site.by_hand(MIDNIGHT + start * HOUR, MIDNIGHT + end * HOUR, **named)

    return happens


def take_away(*names: str, how: str = "moved") -> Step:
    return lambda site: [site.take_away(name, how) for name in names]


def locked(name: str, fault: Fault) -> list[Step]:
    """Two runs whose rows wait, and a window by hand meanwhile."""
    return [
        run(0, 5),
        run(7, 9, fault=fault, at=name, code=1),
        by_hand(9.5, 0, 9, fault=fault, at=name, code=None),
    ]


def people_come_late(site: Site) -> None:
    site.hold("late", MIDNIGHT + 2 * HOUR, 10 * HOUR, 20 * HOUR)
    for id in ("late-0", "late-1"):
        site.node.known["participant"][id].shown = MIDNIGHT + 26 * HOUR


def a_call_is_ahead_of_its_time(site: Site) -> None:
    """It has the times of a clock that was wrong."""
    site.node.ahead = 3 * DAY
    site.hold("ahead", MIDNIGHT + 3 * DAY + HOUR, MINUTE, shown=MIDNIGHT)
    site.run(MIDNIGHT + 2 * HOUR)
    site.node.ahead = NOW


def dated_files_go(site: Site) -> None:
    for file in site.data.glob("2*.csv"):
        file.unlink()


def aggregates_are_edited(site: Site) -> None:
    """Sorted by a user's program, which ends lines in its own way."""
    for name in (CONF, PART):
        header, *rows = (site.data / name).read_text(encoding="utf-8").splitlines()
        (site.data / name).write_text("\n".join([header, *sorted(rows), ""]), encoding="utf-8", newline="")


LIMITS = {"DEFAULT_CONF_LIMIT": "4", "DEFAULT_PART_LIMIT": "3"}
IN_THE_MIDDLE: list[Step] = [run(8), by_hand(19, 12, 18)]  # the newest end time in the files is not how far it came
HISTORIES: dict[str, list[Step]] = {
    "a window by hand in the middle": IN_THE_MIDDLE,
    "and no dated file is left": [*IN_THE_MIDDLE, dated_files_go],
    "and the aggregates were edited": [*IN_THE_MIDDLE, dated_files_go, aggregates_are_edited],
    "a window by hand that ends in the future": [run(3), by_hand(5, 0, 6 * 24)],
    "moved, and older rows followed": [run(0), by_hand(17, 6, 16), take_away(CONF, PART), run(18)],
    "moved": [run(0, 5, 10), take_away(CONF), run(12), by_hand(12, -24, 12)],
    SEMICOLONS: [run(0, 5, 10), take_away(PART, how=SEMICOLONS), run(12), by_hand(12, -24, 12)],
    "conferences are locked": locked(CONF, "EACCES"),
    "participants are locked": locked(PART, "EBUSY"),
    "a limit holds records back": [run(18, **LIMITS), by_hand(19, 12, 19, **LIMITS)],
    "participants are expected": [people_come_late, run(0, 4, 8, 12, 16)],
    "a call is ahead of its time": [a_call_is_ahead_of_its_time, by_hand(2, -24, 9 * 24)],
    "and no other file is left": [a_call_is_ahead_of_its_time, dated_files_go],
}


def the_ledger(site: Site) -> None:
    shutil.rmtree(site.data / ".collector")


def newer_ledgers(site: Site) -> None:
    the_ledger(site)
    shutil.copytree(site.data.parent / "old", site.data / ".collector")


@pytest.mark.parametrize(
    ("lost", "ahead"),
    [
        pytest.param(lambda site: None, NOW, marks=pytest.mark.slow),
        (the_ledger, NOW),
        pytest.param(the_ledger, datetime(2020, 1, 1) - MIDNIGHT, marks=pytest.mark.slow),
        (newer_ledgers, NOW),
    ],
)
@pytest.mark.parametrize("history", HISTORIES)
def test_each_record_is_there_once_whatever_happened_and_whatever_was_lost_then(
    site: Site, history: str, lost: Step, ahead: timedelta
) -> None:
    site.run(MIDNIGHT - DAY)
    shutil.copytree(site.data / ".collector", site.data.parent / "old")
    site.hourly(20, MIDNIGHT)
    for happens in HISTORIES[history]:
        happens(site)
    removed = {name: [] if site.dated() else site.ids(name) for name in (CONF, PART)}
    lost(site)
    site.run(MIDNIGHT + 20 * HOUR + 40 * MINUTE, ahead=ahead)
    for hours in (27, 52, 7 * 24, 45 * 24):
        site.run(MIDNIGHT + hours * HOUR)
    for name, owed in site.owed().items():
        assert sorted(site.ids(name)) == sorted(owed)
        assert sorted(site.dated_ids(name) + removed[name]) == sorted(owed)
    assert covers(site, MIDNIGHT + 10 * HOUR)
    assert not site.status()["gaps"], "the node has forgotten nothing"


WHOLE = "\r\n".join(
    ["id,end_time,vendor", f"p1,{stamp(MIDNIGHT - 15 * HOUR)},Pexip", f"p9,{stamp(MIDNIGHT - 15 * HOUR)},Pe"]
)


@pytest.mark.parametrize("text", [TORN, TORN.rstrip('"'), TORN.rpartition(",")[0].rpartition(",")[0], WHOLE])
def test_a_copy_made_in_mid_write_loses_its_unfinished_row_to_a_file_of_its_own(site: Site, text: str) -> None:
    (site.data / PART).write_text(text, encoding="utf-8", newline="")
    held = site.node.conference("c1", MIDNIGHT - 14 * HOUR)
    for id in ("p1", "p9", "p10"):
        site.node.participant(held, id, MIDNIGHT - 15 * HOUR)
    site.daily(2)
    assert sorted(site.ids(PART)) == ["p1", "p10", "p9"], "p9 did not count as exported"
    assert site.ids(PART)[0] == "p1"
    (kept,) = site.data.glob(f"{PART}.unfinished-*")
    assert b"p9" in kept.read_bytes(), "the unfinished row is kept"


# Records without an end


@pytest.mark.parametrize("nulls_first", [False, True])
def test_a_record_without_an_end_is_counted_and_collected_once_none_will_come(site: Site, nulls_first: bool) -> None:
    site.node.nulls_first = nulls_first
    ids = site.hourly(5)
    held = site.node.conference("open", None, MIDNIGHT - HOUR)
    site.node.participant(held, "open-0", None, MIDNIGHT - HOUR)
    site.node.conference("blank", None, MIDNIGHT - HOUR, start_time=None)
    assert ("the first of an unknown time UTC" in site.run().output) == nulls_first
    site.node.date_error = -20 * MINUTE  # a reason to read the whole list again
    site.run(MIDNIGHT + HOUR)
    site.node.date_error = NOW
    assert "open" not in site.ids()
    assert site.status()["without_end"] >= 1
    site.daily(3)
    site.once([*ids, "blank", "open"], in_order=False)
    site.once(people([*ids, "open"]), PART)
    assert site.status()["without_end"] == 0


def test_a_record_that_gets_its_end_is_no_longer_counted_as_without(site: Site) -> None:
    held = site.node.conference("open", None, MIDNIGHT - HOUR)
    site.run()
    held.record["end_time"] = stamp(MIDNIGHT + HOUR)
    site.run(MIDNIGHT + 2 * HOUR)
    assert (site.ids(), site.status()["without_end"]) == (["open"], 0)


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
    newest = site.status()["runs"][0]
    assert (newest["by_hand"], newest["started"]) == (True, stamp(site.node.now))
    assert len(site.ids()) < len(ids)
    site.node.wait(10 * MINUTE)
    site.run(None, "collect", "--if-due")
    site.once(site.ids())
    assert sorted(site.ids()) == sorted(ids)
    assert not site.status()["runs"][0]["by_hand"]
    site.node.wait(10 * MINUTE)
    site.run(None, "collect", "--if-due")
    assert not site.asked, "it was served"


def test_a_window_by_hand_over_covered_time_that_the_node_has_forgotten_makes_no_gap(site: Site) -> None:
    site.hourly(20)
    site.run()
    site.node.forget(15)
    site.hourly(20, site.node.now)
    site.daily(1)
    before = site.status()
    site.by_hand(MIDNIGHT - 9 * HOUR, MIDNIGHT - 6 * HOUR)
    assert [site.status()[name] for name in ("coverage", "gaps")] == [before[name] for name in ("coverage", "gaps")]


def test_a_node_that_takes_no_filter_of_time_is_not_asked_without_an_end(site: Site) -> None:
    def unfiltered(request: Request, answer: Any) -> Reply:
        path, _, query = request.target.partition("?")
        kept = [each for each in query.split("&") if not each.startswith("end_time")]
        return site.node.own_answer(replace(request, target=f"{path}?{'&'.join(kept)}"))

    site.hourly(40)
    site.node.faults.add(unfiltered, times=None)
    site.run(DEFAULT_CONF_LIMIT="5", DEFAULT_PART_LIMIT="5")
    assert len(site.asked) < 400


def test_a_late_record_just_before_a_window_hides_no_gap(site: Site) -> None:
    site.hourly(20)
    site.run()
    site.node.wait(2 * DAY)
    site.node.forget(20)
    site.hold("late", MIDNIGHT - MINUTE)
    site.hourly(20, site.node.now - 20 * HOUR)
    site.run()
    assert site.status()["forgotten"]


def test_a_window_by_hand_asks_for_nothing_that_is_too_old_to_be_kept(site: Site) -> None:
    ids = site.hourly(72)
    site.env["DATA_KEEP_HISTORY_DAYS"] = "1"
    site.by_hand(MIDNIGHT - 3 * DAY)
    assert site.ids() == ids[-24:]


def test_a_run_that_began_ahead_of_now_does_not_pass_for_the_scheduled_one(site: Site) -> None:
    site.run(MIDNIGHT, ahead=30 * DAY)
    site.run(MIDNIGHT + DAY, "collect", "--if-due")
    assert site.asked


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


def test_a_window_by_hand_in_forgotten_time_is_a_gap_and_nothing_beyond_it(site: Site) -> None:
    start, _ = forgotten(site)
    window = start + DAY, start + 2 * DAY
    site.by_hand(*window)
    assert spans_of(site.status()["gaps"]) == [window]


def test_a_ledger_that_is_lost_says_that_older_gaps_are_not_known(site: Site) -> None:
    start, _ = forgotten(site)
    site.run()
    day = site.node.now
    shutil.rmtree(site.data / ".collector")
    site.daily(1)
    status = site.status()
    assert datetime.fromisoformat(status["gaps_unknown_before"]) >= day - DAY
    assert datetime.fromisoformat(status["complete_since"]) >= start + 10 * DAY, status


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
            assert not left or re.search(f" reached: {left} {kind} records? waits? for the next run;", said)
        assert sorted(site.ids()) == ids[: sizes[-1][0]], "oldest first"
        site.node.wait(MINUTE)
    assert all(b[0] - a[0] <= 7 and b[1] - a[1] <= 5 for a, b in pairwise(sizes)), sizes
    site.once(ids)


@pytest.mark.parametrize("ended", [20 * HOUR, 60 * DAY])
def test_an_odd_record_in_asked_time_does_not_say_that_the_node_forgot_nothing(site: Site, ended: timedelta) -> None:
    """Its end was written while the node's clock was wrong."""
    site.hold("first", MIDNIGHT - 30 * HOUR)
    site.hold("old", MIDNIGHT - HOUR)
    site.run(MIDNIGHT)
    site.hourly(20, MIDNIGHT)
    site.at(MIDNIGHT + 21 * HOUR)
    assert len(site.node.forget(12)) == 12
    site.node.horizon = datetime.min
    site.hold("odd", MIDNIGHT - ended, shown=site.node.now)
    site.run()
    assert within(MIDNIGHT + 5 * HOUR, spans_of(site.status()["gaps"]))
    assert not within(MIDNIGHT + 12 * HOUR, spans_of(site.status()["gaps"]))


def test_one_run_while_the_nodes_clock_is_behind_takes_nothing_from_coverage_or_gaps(site: Site) -> None:
    site.hold("old", MIDNIGHT - HOUR)
    site.run(MIDNIGHT)
    site.hourly(60, MIDNIGHT)
    site.at(MIDNIGHT + 11 * HOUR)
    site.node.forget(5)
    site.runs(MIDNIGHT + 12 * HOUR, MIDNIGHT + 50 * HOUR, 19 * HOUR)
    before = site.status()
    assert before["gaps"]
    site.node.ahead = -26 * HOUR
    site.run(MIDNIGHT + 51 * HOUR)
    assert within(MIDNIGHT + 8 * HOUR, spans_of(site.status()["coverage"]))
    site.node.ahead = NOW
    site.run(MIDNIGHT + 52 * HOUR)
    after = site.status()
    assert after["gaps"] == before["gaps"]
    assert [start for start, _ in after["coverage"]] == [start for start, _ in before["coverage"]]


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
        said = site.by_hand(MIDNIGHT - 100 * HOUR, MIDNIGHT - 20 * HOUR).output
        assert ("for the next run of this same command" in said) == (", 0 waiting" not in said)
    assert sorted(site.ids()) == sorted(ids)


@pytest.mark.parametrize(
    ("late", "limits", "brings"),
    [(10, ("3", "4"), [3, 3, 3, 1, 0]), (10, ("0", "4"), [4, 4, 2, 0, 0]), (2, ("0", "1"), [1, 1, 0])],
)
def test_what_a_limit_leaves_of_late_records_comes_with_the_next_runs(
    site: Site, late: int, limits: tuple[str, str], brings: list[int]
) -> None:
    """Conferences with a participant each are shown a day after they ended."""
    ids = site.hourly(24)
    site.run()
    site.daily(1)
    for number in range(late):
        end = site.node.now - 20 * HOUR + number * MINUTE
        ids += [site.hold(f"late{number}", end, MINUTE, shown=site.node.now).id]
    site.env |= {"DEFAULT_CONF_LIMIT": limits[0], "DEFAULT_PART_LIMIT": limits[1]}
    site.node.wait(DAY + HOUR)
    sizes = [24]
    for _ in brings:
        site.run()
        sizes.append(len(site.ids(PART)))
        assert limits[0] == "0" or len(site.ids()) == sizes[-1]
        site.node.wait(HOUR)
    assert [after - before for before, after in pairwise(sizes)] == brings
    site.daily(3)
    site.once(ids)
    site.once(people(ids), PART)


@pytest.mark.slow
def test_a_long_history_taken_in_portions_while_the_schedule_fires(site: Site) -> None:
    """No run may need a request for each conference that waits."""
    for number in range(200):
        site.hold(f"c{number:03}", MIDNIGHT - 100 * DAY + number * 12 * HOUR, MINUTE, 3 * HOUR)
    env = {"DEFAULT_CONF_LIMIT": "15", "DEFAULT_PART_LIMIT": "25"}
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


def test_a_window_by_hand_around_time_that_is_covered_says_what_waits_on_either_side(site: Site) -> None:
    ids = site.hourly(20, MIDNIGHT - 20 * HOUR)
    site.by_hand(MIDNIGHT - 12 * HOUR, MIDNIGHT - 8 * HOUR)
    said = site.by_hand(MIDNIGHT - 20 * HOUR, MIDNIGHT, DEFAULT_CONF_LIMIT="1").output
    assert re.findall(r"DEFAULT_CONF_LIMIT=1 reached: (\d+) .* this same command", said) == ["7", "8"]
    assert " 15 waiting" in said
    site.run()
    site.once(ids, in_order=False)


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
