"""Each record once, whatever clocks, marks, order and memory say: the ways that were found to lose or double one.

Every test ends with a comparison, id by id, of what the node offered with the aggregates and with the dated
files. Version 1.0.0 fails those that are not named in UPHELD_BY_VERSION_1.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from .conftest import COLLECTOR, environment_for
from .conftest import Collector as Process
from .forked_collector import MEMORY, Fault, ForkedCollector, Outcome
from .management_node import ManagementNode, conference, faults, participant
from .management_node.calls import ROOT, stamp
from .management_node.server import Request

MIDNIGHT = datetime(2026, 11, 24)
DAY, HOUR, MINUTE, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
CONF, PART = "pexHistoryConf.csv", "pexHistoryPart.csv"
KINDS = {CONF: "Conf", PART: "Part"}
VERSION_1 = Path(__file__).with_name("version_1.json")
"""Data folders as 1.0.0 left them: how version_1_node() was collected every hour until ten."""

SHORT = {
    "conference": {"id", "end_time", "name", "participants", "start_time"},
    "participant": {"id", "conference", "display_name", "end_time"},
}
"""The fields that these nodes give, so that the recorded folders can be read."""

Record = dict[str, Any]


def made(id: str, end: datetime, *left: timedelta, duration: int = 0) -> tuple[Record, list[Record]]:
    """A conference that ended then, and `<id>-0`, `<id>-1` who left it so long before its end."""
    start = end - max([HOUR, *left]) - HOUR
    held = conference(id=id, name="", start_time=stamp(start), end_time=stamp(end), duration=duration)
    return held, [
        participant(held, id=f"{id}-{n}", end_time=stamp(end - early), duration=duration)
        for n, early in enumerate(left)
    ]


class Deployment(Process):
    """A node, the collector's runs at moments of its true clock, and what must come of them."""

    node: ManagementNode
    forked: ForkedCollector

    def __init__(self, data: Path, node: ManagementNode, forked: ForkedCollector) -> None:
        super().__init__(data, environment_for(node, data))
        self.node, self.forked = node, forked
        self.held: dict[str, Record] = {}
        self.present: dict[str, Record] = {}
        self.began: datetime | None = None
        self.away: list[tuple[str, Path]] = []
        self.taken_by_hand: set[str] = set()  # of conferences before the first window
        node.tells_time = True
        fields = {"conference": conference(), "participant": participant(conference())}
        node.dropped_fields = {name: fields[name].keys() - SHORT[name] for name in SHORT}

    def hold(self, id: str, end: datetime, *left: timedelta, duration: int = 0, shown: bool = True) -> list[str]:
        """Adds a call; the ids of its participants."""
        held, present = made(id, end, *left, duration=duration)
        self.add([held], present)
        ids = [one["id"] for one in present]
        if not shown:
            self.node.hidden |= {id, *ids}
        return ids

    def hourly(self, number: int, start: datetime = MIDNIGHT, *left: timedelta, prefix: str = "c") -> list[str]:
        """A call in each of so many hours, ended at half past; the conferences' ids."""
        ids = [f"{prefix}{hour:03}" for hour in range(number)]
        for hour, id in enumerate(ids):
            self.hold(id, start + hour * HOUR + 30 * MINUTE, *(left or (MINUTE,)))
        return ids

    def add(self, held: list[Record], present: list[Record]) -> None:
        self.held |= {one["id"]: one for one in held}
        self.present |= {one["id"]: one for one in present}
        self.node.add(held, present)

    def run(
        self,
        moment: datetime,
        *arguments: str,
        ahead: timedelta = timedelta(0),
        fault: Fault | None = None,
        at: int | str = 0,
        code: int | None = 0,
        **env: str,
    ) -> Outcome:
        """One run at a moment of the node's clock, this machine's being so much ahead of it."""
        self.node.now = moment
        self.began = self.began or moment.replace(second=0)
        before = len(self.node.requests)
        outcome = self.forked(list(arguments), self.env | env, moment + ahead, fault, at)
        self.asked = self.node.requests[before:]
        assert "Traceback" not in outcome.output
        assert code is None or outcome.code == code, outcome.output
        return outcome

    def runs(self, first: datetime, last: datetime, every: timedelta = HOUR, **named: Any) -> Outcome:
        """Runs of a schedule, both ends included; how the last one ended."""
        while first <= last:
            outcome = self.run(first, **named)
            first += every
        return outcome

    def lose_ledger(self) -> None:
        (self.data / ".collector" / "ledger.sqlite").unlink()

    def take_away(self, name: str, how: str) -> None:
        """What a user does to an aggregate: its rows still count where they are now."""
        path = self.data / name
        other = self.data.parent / f"{len(self.away)}-{name}"
        if how == "saved with semicolons":
            other.write_bytes(path.read_bytes())
            path.write_bytes(path.read_bytes().replace(b",", b";"))
        else:
            path.rename(other)
        self.away.append((name, other))

    def ids(self, name: str = CONF) -> list[str]:
        files = [path for known, path in self.away if known == name]
        files += [self.data / name] if (self.data / name).exists() else []
        return [row["id"] for file in files for row in self.rows(file)]

    def dated_ids(self, name: str = CONF) -> list[str]:
        return [row["id"] for file in self.dated(KINDS[name]) for row in self.rows(file)]

    def owed(self) -> dict[str, set[str]]:
        """The records since collection began: conferences by their end, and whoever they list."""
        assert self.began
        since = stamp(self.began - DAY) or ""
        conferences = {id for id, one in self.held.items() if one["end_time"] >= since} | self.taken_by_hand
        listed = {uri.split("/")[-2] for id in conferences for uri in self.held[id]["participants"]}
        return {CONF: conferences, PART: listed & self.present.keys()}

    def check(self, never: set[str] = frozenset(), perhaps: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        """Once each, in the aggregates and in the dated files; `never` was forgotten before a run could see it."""
        for name, owed in self.owed().items():
            for where, found in (("aggregate", self.ids(name)), ("dated files", self.dated_ids(name))):
                twice = sorted(id for id, count in Counter(found).items() if count > 1)
                assert not twice, f"{name}, {where}: twice: {twice}"
                lost, strange = owed - never - set(found), set(found) - owed - perhaps
                assert not lost, f"{name}, {where}: lost: {sorted(lost)}"
                assert not strange, f"{name}, {where}: not asked for: {sorted(strange)}"


@pytest.fixture(scope="module")
def forked() -> Iterator[ForkedCollector]:
    with ForkedCollector() as forked:
        yield forked


@pytest.fixture(scope="module")
def shared_node() -> Iterator[ManagementNode]:
    with ManagementNode(now=datetime(2030, 1, 1)) as node:
        yield node


@pytest.fixture
def place(shared_node: ManagementNode, forked: ForkedCollector) -> Iterator[Deployment]:
    shared_node.clear()
    with tempfile.TemporaryDirectory(prefix="ids-decide-", dir=MEMORY) as folder:
        data = Path(folder) / "data"
        data.mkdir()
        yield Deployment(data, shared_node, forked)


# Clocks


@pytest.mark.parametrize("tells_time", [True, False], ids=["with a Date", "without a Date"])
@pytest.mark.parametrize("hours", [3, -3])
def test_a_clock_that_was_wrong_for_one_run_loses_nothing(place: Deployment, hours: int, tells_time: bool) -> None:
    place.node.tells_time = tells_time
    place.hourly(14)
    place.runs(MIDNIGHT, MIDNIGHT + 5 * HOUR)
    right = 0 if tells_time else None  # without the node's clock a run cannot know which of its times is wrong
    place.run(MIDNIGHT + 6 * HOUR, ahead=hours * HOUR, code=right)
    place.runs(MIDNIGHT + 7 * HOUR, MIDNIGHT + 9 * HOUR, code=right)
    place.runs(MIDNIGHT + 10 * HOUR, MIDNIGHT + 40 * HOUR)
    place.check()


def test_a_clock_that_was_ahead_for_one_run_holds_up_no_later_run(place: Deployment) -> None:
    ids = place.hourly(14)
    place.runs(MIDNIGHT, MIDNIGHT + 5 * HOUR)
    place.run(MIDNIGHT + 6 * HOUR, ahead=3 * HOUR)
    for hour in range(7, 10):
        place.run(MIDNIGHT + hour * HOUR)
        assert sorted(place.ids()) == ids[:hour]


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


@pytest.mark.parametrize("ahead", [timedelta(days=3650), -20 * 365 * DAY, 7 * HOUR])
def test_a_first_run_with_a_wrong_clock_loses_nothing(place: Deployment, ahead: timedelta) -> None:
    """As on a machine without a battery for its clock, until the time server was reached."""
    place.hourly(60, MIDNIGHT - DAY)
    place.run(MIDNIGHT, ahead=ahead)
    place.run(MIDNIGHT + HOUR)
    place.run(MIDNIGHT + 40 * HOUR)
    place.check()


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


def test_a_window_by_hand_before_collection_began_brings_what_was_asked_for_and_no_more(place: Deployment) -> None:
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


@pytest.mark.parametrize("limits", [(0, 200), (50, 0), (30, 45)])
def test_a_long_history_taken_in_portions_while_the_schedule_fires(place: Deployment, limits: tuple[int, int]) -> None:
    """No run may need a request for each conference that waits."""
    for number in range(400):
        place.hold(f"c{number:03}", MIDNIGHT - 200 * DAY + number * 12 * HOUR, MINUTE, 3 * HOUR)
    place.taken_by_hand |= place.held.keys()
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
    assert max(asked) <= 30, asked


# The pace


def hastened(place: Deployment, moment: datetime, rate: int, **env: str) -> subprocess.CompletedProcess[str]:
    """A run in a process of its own whose sleep() and monotonic() go so many times as fast."""
    folder = place.data.parent / "hastened"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(
        f"""import time, time_machine
time_machine.travel({moment.replace(tzinfo=UTC).timestamp()!r}, tick=True).start()
real, sleep = time.monotonic, time.sleep
began = real()
time.monotonic = lambda: began + (real() - began) * {rate}
time.sleep = lambda seconds: sleep(seconds / {rate})
"""
    )
    place.node.now = moment
    place.began = place.began or moment
    place.at_once = time.monotonic()
    return subprocess.run(
        [sys.executable, str(COLLECTOR), "collect"],
        env=place.env | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"} | env,
        capture_output=True,
        encoding="utf-8",
        timeout=100,
    )


def test_a_429_without_retry_after_is_waited_out(place: Deployment) -> None:
    """The allowance of the last 60 s is used up again and again. Thirty times as fast as it is."""
    place.hourly(23, MIDNIGHT - DAY)
    for number in range(150):
        place.hold(f"d{number:03}", MIDNIGHT - number * MINUTE - MINUTE)
    place.node.max_limit = 1
    place.node.faults.add(faults.allowance(120, 60 / 30), times=None)
    done = hastened(place, MIDNIGHT, 30)
    assert 429 in [request.status for request in place.node.requests]
    assert done.returncode == 0, done.stderr
    place.check()


def test_a_run_takes_less_than_half_of_what_the_node_allows_its_clients(place: Deployment) -> None:
    """1,000 requests in 60 s are for all of them together. Ten times as fast as it is."""
    for number in range(700):
        place.hold(f"c{number:03}", MIDNIGHT - number * MINUTE - MINUTE)
    place.node.max_limit = 1
    came: list[float] = []
    place.node.faults.add(faults.before(lambda request: came.append(time.monotonic() * 10)), times=None)
    done = hastened(place, MIDNIGHT, 10)
    assert done.returncode == 0, done.stderr
    assert len(came) >= 700
    place.check()
    most = max(sum(moment <= other < moment + 55 for other in came) for moment in came)
    assert most <= 500, f"{most} requests in 55 s"


@pytest.mark.parametrize("status", [429, 503])
def test_what_cannot_be_asked_by_conference_waits_and_all_else_is_kept(place: Deployment, status: int) -> None:
    place.hourly(10, MIDNIGHT - 12 * HOUR)
    for number in range(5):
        late = place.hold(f"late{number}", MIDNIGHT - HOUR, 40 * HOUR, (50 + number) * HOUR)
    place.node.participants_appear = "ended"
    place.run(MIDNIGHT - 2 * HOUR)
    place.node.faults.add(faults.status(status), when=lambda request: "conference" in request.query, times=None)
    done = hastened(place, MIDNIGHT, 50)
    assert done.returncode == 0, done.stderr
    assert len(place.ids()) == 15
    assert set(late) <= set(place.ids(PART)) or "wait" in done.stderr
    place.node.faults.clear()
    place.run(MIDNIGHT + HOUR)
    place.run(MIDNIGHT + 26 * HOUR)
    place.check()


# Conferences that are gone, and participants that never come

GONE: list[Literal["empty", 400, 404]] = ["empty", 400, 404]


@pytest.mark.parametrize("answer", GONE)
def test_a_conference_that_is_gone_holds_up_nothing(
    place: Deployment, answer: Literal["empty", 400, 404]
) -> None:
    place.node.gone = answer
    place.hourly(10)
    lost = place.hold("gone", MIDNIGHT + 4 * HOUR + MINUTE, 20 * HOUR, 30 * HOUR)
    place.node.hidden = set(lost)
    place.runs(MIDNIGHT, MIDNIGHT + 5 * HOUR)
    place.node.delete("gone", *lost)
    place.runs(MIDNIGHT + 6 * HOUR, MIDNIGHT + 35 * HOUR)
    place.check(never=set(lost))
    said = [line for line in place.log().splitlines() if "WARNING" in line and "gone" in line]
    assert len(said) == 1, said
    assert "2 participants" in said[0]


@pytest.mark.parametrize("answer", GONE)
@pytest.mark.parametrize("nth", [2, 3])
def test_a_conference_that_goes_during_a_run_holds_up_nothing(
    place: Deployment, answer: Literal["empty", 400, 404], nth: int
) -> None:
    place.node.gone = answer
    place.hourly(3)
    lost = place.hold("aaa", MIDNIGHT + MINUTE, 40 * HOUR, 50 * HOUR)
    place.node.faults.add(faults.before(lambda request: place.node.delete("aaa", *lost)), nth=nth)
    place.run(MIDNIGHT + 5 * HOUR)
    place.runs(MIDNIGHT + 6 * HOUR, MIDNIGHT + 35 * HOUR)
    assert "aaa" in place.ids()
    place.check(never=set(lost))


def requests_about(requests: list[Request], conference: str) -> int:
    return sum(conference in request.target for request in requests)


def test_participants_that_are_never_shown_cost_a_request_a_day_and_not_a_run(place: Deployment) -> None:
    ids = place.hourly(30, MIDNIGHT - DAY, MINUTE, 5 * HOUR)
    ghosts = {f"{id}-1" for id in ids}
    place.node.hidden = set(ghosts)
    place.runs(MIDNIGHT + 7 * HOUR, MIDNIGHT + 79 * HOUR)
    place.check(never=ghosts)
    requests = list(place.node.requests)
    about = {id: requests_about(requests, id) for id in ids}
    assert max(about.values()) <= 4, about  # days, begun ones too
    assert place.node.peak <= 1


def test_participants_that_are_shown_after_days_are_still_taken(place: Deployment) -> None:
    ids = place.hourly(5, MIDNIGHT, MINUTE, 5 * HOUR)
    place.node.hidden = {f"{id}-1" for id in ids}
    place.runs(MIDNIGHT, MIDNIGHT + 50 * HOUR)
    place.node.hidden = set()
    place.runs(MIDNIGHT + 51 * HOUR, MIDNIGHT + 100 * HOUR)
    place.check()


@pytest.mark.parametrize("both", [False, True], ids=["shown once", "shown with both"])
def test_a_participant_that_was_transferred_is_there_once_and_not_called_gone(place: Deployment, both: bool) -> None:
    """The first conference ended with him; the one that he came from lists him when it ends, hours later."""
    moved, came = made("b", MIDNIGHT + HOUR, MINUTE)
    left, stayed = made("a", MIDNIGHT + 10 * HOUR, MINUTE)
    left["participants"].append(came[0]["resource_uri"])
    place.add([moved, left], [*came, *stayed])
    if both:

        def with_the_moved(document: Record) -> None:
            document["meta"]["total_count"] += 1
            document["objects"].append({k: v for k, v in came[0].items() if k in SHORT["participant"]})

        by_a = lambda request: request.query.get("conference") == "a"  # noqa: E731
        place.node.faults.add(faults.edited(with_the_moved), when=by_a, times=None)
    place.runs(MIDNIGHT, MIDNIGHT + 13 * HOUR)
    place.node.delete("a", "b", "a-0", "b-0")
    place.hold("later", MIDNIGHT + 13 * HOUR, MINUTE)
    place.runs(MIDNIGHT + 14 * HOUR, MIDNIGHT + 40 * HOUR)
    place.check()
    assert "gone" not in place.log()


def test_a_participant_whose_second_conference_runs_on_is_taken_when_that_ends(place: Deployment) -> None:
    """Listed by both; shown only when the second one ends, by which time the node forgot the first."""
    moved, came = made("b", MIDNIGHT + 30 * HOUR, 25 * HOUR)
    left, stayed = made("a", MIDNIGHT + 2 * HOUR, MINUTE)
    left["participants"].append(came[0]["resource_uri"])
    place.add([moved, left], [*came, *stayed])
    place.node.participants_appear = "ended"
    place.runs(MIDNIGHT, MIDNIGHT + 5 * HOUR)
    place.node.delete("a", "a-0")
    place.runs(MIDNIGHT + 6 * HOUR, MIDNIGHT + 60 * HOUR)
    place.check()


# Nodes without order


def unordered(place: Deployment, how: str) -> None:
    place.node.arrangement = ("duration",)
    if how == "refused":
        place.node.ordering = ()
    else:
        place.node.obeys = False


UNORDERED = pytest.mark.parametrize("how", ["refused", "ignored"])


@UNORDERED
@pytest.mark.parametrize("limit", [4, 5, 6, 9])
def test_late_participants_under_a_limit_push_none_of_the_window_out(place: Deployment, how: str, limit: int) -> None:
    unordered(place, how)
    place.run(MIDNIGHT)
    place.hold("long", MIDNIGHT + HOUR, 30 * HOUR, 31 * HOUR, 32 * HOUR, 33 * HOUR)
    for n in range(5):
        place.hold(f"c{n}", MIDNIGHT + HOUR + n * MINUTE, MINUTE)
    for hour in range(2, 9):
        said = place.run(MIDNIGHT + hour * HOUR, DEFAULT_PART_LIMIT=str(limit)).output
    assert ", 0 waiting" in said
    place.check()


@UNORDERED
@pytest.mark.parametrize("page", [7, 10, 1000])
@pytest.mark.parametrize("misplaced", [0, 3])
def test_disorder_after_a_limit_was_reached_loses_nothing(
    place: Deployment, how: str, page: int, misplaced: int
) -> None:
    """All come oldest first but for one, which comes last."""
    unordered(place, how)
    place.node.max_limit = page
    for n in range(31):
        last = n == misplaced
        place.hold(f"c{n:02}", MIDNIGHT + n * 30 * MINUTE, MINUTE, duration=99 if last else n)
    limits = {"DEFAULT_CONF_LIMIT": "10", "DEFAULT_PART_LIMIT": "10"}
    place.runs(MIDNIGHT + 16 * HOUR, MIDNIGHT + 23 * HOUR, **limits)
    place.check()


@UNORDERED
@pytest.mark.parametrize("page", [10, 4])
def test_one_forgotten_and_one_new_between_two_pages_lose_nothing_else(place: Deployment, how: str, page: int) -> None:
    """The count is as it was and so is the first record; one in the middle moved up unseen."""
    unordered(place, how)
    place.node.max_limit = page
    place.run(MIDNIGHT)
    for n in range(31):
        place.hold(f"c{n:02}", MIDNIGHT + (n + 1) * 10 * MINUTE, MINUTE, duration=n)

    def shift(request: Request) -> None:
        place.node.delete("c02", "c02-0")
        place.hold("new", MIDNIGHT + 6 * HOUR, MINUTE, duration=100)

    place.node.faults.add(faults.before(shift), on="conference", nth=2)
    place.run(MIDNIGHT + 7 * HOUR)
    place.runs(MIDNIGHT + 8 * HOUR, MIDNIGHT + 34 * HOUR)
    assert "c02" in place.ids()
    place.check(never={"c02-0"})


def test_ties_in_another_order_under_another_limit_cost_no_sweeps(place: Deployment) -> None:
    place.node.ties, place.node.max_limit = "by limit", 10
    place.run(MIDNIGHT)
    for n in range(35):
        place.hold(f"c{n:02}", MIDNIGHT + HOUR + (n // 2) * MINUTE, MINUTE, MINUTE)
    for hour in (3, 4, 5):
        said = place.run(MIDNIGHT + hour * HOUR).output
        assert "WARNING" not in said
        # Conferences in 4 pages, participants in 7; twice is enough, and the reconciling.
        assert len(place.asked) <= 2 * (4 + 7) + 8, [request.target for request in place.asked]
    assert len(place.asked) <= 8, "nothing new"
    place.check()


def test_a_node_that_forgets_steadily_is_not_read_six_times(place: Deployment) -> None:
    """Each request finds the oldest gone and a new one there."""
    place.node.max_limit = 10
    place.run(MIDNIGHT)
    for n in range(35):
        place.hold(f"c{n:03}", MIDNIGHT + HOUR + n * MINUTE, MINUTE)
    number, gone = 35, set()

    def move(request: Request) -> None:
        nonlocal number
        for id in place.node.forget(1):
            gone.update({id, f"{id}-0"})
        place.hold(f"c{number:03}", MIDNIGHT + HOUR + number * MINUTE, MINUTE)
        number += 1

    place.node.faults.add(faults.before(move), times=None)
    for hour in range(6, 12):
        place.run(MIDNIGHT + hour * HOUR)
        assert len(place.asked) <= 40, [request.target for request in place.asked]
    place.node.faults.clear()
    place.run(MIDNIGHT + 12 * HOUR)
    place.run(MIDNIGHT + 40 * HOUR)
    place.check(never=gone)


@UNORDERED
def test_a_day_in_any_order_in_small_pages_under_limits(place: Deployment, how: str) -> None:
    unordered(place, how)
    place.node.max_limit = 3
    for n in range(40):
        place.hold(f"c{n:02}", MIDNIGHT + n * 10 * MINUTE, MINUTE, 30 * HOUR, duration=n * 17 % 40)
    for hour in range(8, 40):
        place.run(MIDNIGHT + hour * HOUR, DEFAULT_CONF_LIMIT="3", DEFAULT_PART_LIMIT="7")
    place.check()


# Ids


def corrected(place: Deployment, id: str, end: datetime) -> None:
    """The node now says that the record ended then."""
    if id in place.held:
        place.held[id]["end_time"] = stamp(end)
        place.node.add([place.held[id]], [])
    else:
        place.present[id]["end_time"] = stamp(end)
        place.node.add([], [place.present[id]])


@pytest.mark.parametrize("id", ["c00", "c00-0"])
def test_an_end_that_is_corrected_during_a_run_doubles_nothing(place: Deployment, id: str) -> None:
    place.node.max_limit = 4
    for n in range(10):
        place.hold(f"c{n:02}", MIDNIGHT + n * 10 * MINUTE, MINUTE)
    resource = "conference" if id == "c00" else "participant"
    move = faults.before(lambda request: corrected(place, id, MIDNIGHT + 2 * HOUR))
    place.node.faults.add(move, on=resource, nth=2)
    place.run(MIDNIGHT + 3 * HOUR)
    place.run(MIDNIGHT + 4 * HOUR)
    place.run(MIDNIGHT + 40 * HOUR)
    place.check()


@pytest.mark.parametrize("id", ["c002", "c002-0"])
@pytest.mark.parametrize("to", [10 * HOUR + MINUTE, MINUTE])
def test_an_end_that_is_corrected_between_runs_doubles_nothing(place: Deployment, id: str, to: timedelta) -> None:
    place.hourly(12)
    place.runs(MIDNIGHT, MIDNIGHT + 9 * HOUR)
    corrected(place, id, MIDNIGHT + to)
    place.run(MIDNIGHT + 10 * HOUR, "--from", "2026-11-24", "--to", "2026-11-24T02:00")
    place.runs(MIDNIGHT + 11 * HOUR, MIDNIGHT + 40 * HOUR, 3 * HOUR)
    place.check()


STRANGE_IDS = ["-one", "+two", "=three", "@four", "-5", "'six", 'se"ven', "ei,ght", "'-nine", "ten ten", "ø", "11", "A", "a"]


@pytest.mark.parametrize("limit", ["0", "3"])
@pytest.mark.parametrize("lost", [False, True], ids=["ledger kept", "ledger lost"])
def test_ids_are_written_as_they_are_whatever_they_begin_with(place: Deployment, limit: str, lost: bool) -> None:
    for n, id in enumerate(STRANGE_IDS):
        place.hold(id, MIDNIGHT + n * 10 * MINUTE, MINUTE, 30 * HOUR)
    limits = {"DEFAULT_CONF_LIMIT": limit, "DEFAULT_PART_LIMIT": limit}
    for hour in range(3, 16):
        place.run(MIDNIGHT + hour * HOUR, **limits)
        if lost and hour == 6:
            place.lose_ledger()
    place.run(MIDNIGHT + 16 * HOUR, "--from", "2026-11-24")
    place.runs(MIDNIGHT + 40 * HOUR, MIDNIGHT + 41 * HOUR)
    place.check()


def test_streams_name_their_participant_as_it_is(place: Deployment) -> None:
    held, present = made("-c", MIDNIGHT, MINUTE)
    present[0] |= {"id": "-p", "media_streams": [{"id": 1, "stream_type": "audio"}]}
    held["participants"] = [f"{ROOT}participant/-p/"]
    place.node.dropped_fields = {}
    place.add([held], present)
    place.run(MIDNIGHT + HOUR, DATA_MEDIA_STREAMS="true")
    assert [row["participant_id"] for row in place.rows("pexHistoryStream.csv")] == ["-p"]
    place.check()


@pytest.mark.parametrize("when", ["each other run", "each other page"])
def test_an_id_is_the_same_as_a_number_and_as_text(place: Deployment, when: str) -> None:
    for n in range(20):
        held, present = made(str(n + 1), MIDNIGHT + n * 10 * MINUTE)
        present.append(participant(held, id=str(10**17 + n), end_time=stamp(MIDNIGHT + n * 10 * MINUTE)))
        place.add([held], present)
    place.node.max_limit, turn = 6, 0

    def numbers(document: Record) -> None:
        nonlocal turn
        turn += 1
        if (len(place.dated("Conf")) if when == "each other run" else turn) % 2:
            for one in document.get("objects", ()):
                one["id"] = int(one["id"])

    place.node.faults.add(faults.edited(numbers), times=None)
    for hour in range(2, 9):
        place.run(MIDNIGHT + hour * HOUR)
        if hour == 5:
            place.lose_ledger()
    place.run(MIDNIGHT + 9 * HOUR, "--from", "2026-11-24")
    place.run(MIDNIGHT + 40 * HOUR)
    place.check()


# Records that are shown late


@pytest.mark.parametrize("appear", ["left", "ended"])
@pytest.mark.parametrize("hours", [2, 5, 40])
def test_a_conference_that_is_first_shown_hours_after_its_end_is_collected(
    place: Deployment, hours: int, appear: Literal["left", "ended"]
) -> None:
    place.node.participants_appear = appear
    place.hourly(30)
    late = place.hold("late", MIDNIGHT + 3 * HOUR, MINUTE, 10 * HOUR, shown=False)
    shown = MIDNIGHT + (3 + hours) * HOUR
    place.runs(MIDNIGHT, shown - HOUR)
    place.node.hidden = set()
    place.runs(shown, shown + 26 * HOUR)
    assert {*late} <= set(place.ids(PART))
    place.runs(shown + 27 * HOUR, shown + 60 * HOUR, 5 * HOUR)
    place.check()


def test_participants_that_are_shown_when_the_conference_ends_come_under_every_misfortune(place: Deployment) -> None:
    """Days after they left; with limits, a lost ledger and an aggregate moved away on the way."""
    place.node.participants_appear = "ended"
    for n in range(30):
        place.hold(f"c{n:02}", MIDNIGHT + n * 2 * HOUR, *(early * 9 * HOUR for early in range(n % 4)))
    limits = {"DEFAULT_CONF_LIMIT": "2", "DEFAULT_PART_LIMIT": "3"}
    for hour in range(0, 90, 2):
        place.run(MIDNIGHT + hour * HOUR, **limits)
        if hour == 20:
            place.lose_ledger()
        if hour == 40:
            place.take_away(PART, "moved")
    place.check()


# Where collection began


def test_a_first_run_takes_one_day_and_no_later_run_takes_more_of_the_past(place: Deployment) -> None:
    place.hourly(120, MIDNIGHT - 4 * DAY, MINUTE, 30 * HOUR)
    place.run(MIDNIGHT)
    assert len(place.ids()) == 24
    place.check(perhaps=set(place.held) | set(place.present))
    assert len(place.dated_ids()) == 24
    place.runs(MIDNIGHT + HOUR, MIDNIGHT + 80 * HOUR, 3 * HOUR)
    left_within = {id for id, one in place.present.items() if one["end_time"] >= (stamp(MIDNIGHT - DAY) or "")}
    place.check(perhaps=left_within)


def test_reconciling_takes_what_windows_missed_since_the_beginning_and_nothing_older(place: Deployment) -> None:
    place.hourly(72, MIDNIGHT - 3 * DAY, prefix="old")
    place.hourly(10)
    place.hold("missed", MIDNIGHT - 20 * HOUR, MINUTE, 2 * HOUR, shown=False)
    place.hold("older", MIDNIGHT - 25 * HOUR, MINUTE, shown=False)
    place.runs(MIDNIGHT, MIDNIGHT + 30 * HOUR, 3 * HOUR)
    place.node.hidden = set()
    place.runs(MIDNIGHT + 33 * HOUR, MIDNIGHT + 70 * HOUR, 3 * HOUR)
    assert "missed" in place.ids()
    place.check()


def test_a_node_that_keeps_few_conferences_loses_only_what_it_forgot(place: Deployment) -> None:
    """Ten an hour come and it keeps 35; runs come each hour, but for an outage of six."""
    place.node.keep = 35
    gone: set[str] = set()
    for hour in range(40):
        for n in range(10):
            place.hold(f"c{hour:02}{n}", MIDNIGHT + hour * HOUR + n * MINUTE, MINUTE, 9 * HOUR)
        if hour in range(20, 26):
            continue
        place.run(MIDNIGHT + hour * HOUR + 30 * MINUTE)
    gone = {id for id in place.held if "c200" <= id < "c224"}  # at 26:30 the 35 newest begin in 23
    gone |= {id for id in place.held if "c224" <= id < "c235"}
    place.check(never=gone | {f"{id}-{n}" for id in gone for n in (0, 1)})


# An upgrade from 1.0.0


def version_1_node(node: ManagementNode, place: Deployment | None = None) -> None:
    """What the folders in version_1.json were collected from, and what 1.0.0 could not see (late, ghost-1)."""
    node.tells_time = True
    fields = {"conference": conference(), "participant": participant(conference())}
    node.dropped_fields = {name: fields[name].keys() - SHORT[name] for name in SHORT}
    calls = [made(f"c{hour:02}", MIDNIGHT + hour * HOUR + 30 * MINUTE, MINUTE, 3 * HOUR) for hour in range(-24, 20)]
    calls.append(made("late", MIDNIGHT + 2 * HOUR, MINUTE, 5 * HOUR))
    calls.append(made("ghost", MIDNIGHT + 4 * HOUR, MINUTE, 5 * HOUR))
    calls.append(made("long", MIDNIGHT + 15 * HOUR, MINUTE, 7 * HOUR, 13 * HOUR))
    held, present = [one for one, _ in calls], [one for _, ones in calls for one in ones]
    if place:
        place.add(held, present)
    else:
        node.add(held, present)
        node.hidden = {"late", "late-0", "late-1", "ghost-1"}


def upgraded(place: Deployment, name: str) -> None:
    """The folder becomes that of 1.0.0 after its run of ten o'clock."""
    version_1_node(place.node, place)
    left = json.loads(VERSION_1.read_text(encoding="utf-8"))[name]
    (place.data / ".collector").mkdir()
    for file, text in left["files"].items():
        (place.data / file).write_text(text, encoding="utf-8", newline="")
    db = sqlite3.connect(place.data / ".collector" / "ledger.sqlite")
    db.executescript("\n".join(left["ledger"]))
    db.close()
    place.began = MIDNIGHT


FOLDERS = pytest.mark.parametrize("name", ["settled", "waiting"])


@FOLDERS
def test_a_folder_of_version_1_is_taken_over_whole(place: Deployment, name: str) -> None:
    """With what 1.0.0 lost for good: a conference that was shown five hours late."""
    upgraded(place, name)
    place.runs(MIDNIGHT + 11 * HOUR, MIDNIGHT + 50 * HOUR)
    place.check()


@FOLDERS
def test_a_window_by_hand_as_the_first_run_after_an_upgrade_doubles_nothing(place: Deployment, name: str) -> None:
    upgraded(place, name)
    place.run(MIDNIGHT + 11 * HOUR, "--from", "2026-11-23")
    place.runs(MIDNIGHT + 12 * HOUR, MIDNIGHT + 50 * HOUR, 4 * HOUR)
    place.check()


@FOLDERS
@pytest.mark.parametrize("how", ["locked", "moved", "killed", "limits"])
def test_an_upgrade_under_a_misfortune_loses_and_doubles_nothing(place: Deployment, name: str, how: str) -> None:
    upgraded(place, name)
    limits = {"DEFAULT_CONF_LIMIT": "2", "DEFAULT_PART_LIMIT": "3"} if how == "limits" else {}
    if how == "locked":
        place.run(MIDNIGHT + 11 * HOUR, fault="EACCES", at=CONF, code=1)
        place.run(MIDNIGHT + 12 * HOUR, "--from", "2026-11-23", fault="EACCES", at=PART, code=None)
    elif how == "moved":
        place.take_away(CONF, "moved")
        place.take_away(PART, "moved")
    elif how == "killed":
        for step in range(1, 60, 7):
            place.run(MIDNIGHT + 11 * HOUR, fault="kill", at=step, code=None)
    place.runs(MIDNIGHT + 13 * HOUR, MIDNIGHT + 50 * HOUR, **limits)
    place.check()


UPHELD_BY_VERSION_1: list[Callable[..., None]] = []
