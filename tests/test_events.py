"""DATA_EVENTS: alarms and Conferencing Nodes' events are collected as conferences are, each into files of its own."""

from __future__ import annotations

import itertools

import pytest

from .harness import ALARM, DAY, EVENT, HOUR, MIDNIGHT, MINUTE, Site
from .management_node import faults
from .management_node.calls import stamp


@pytest.fixture
def events(site: Site) -> Site:
    """One that collects them, and has some of three days."""
    site.env["DATA_EVENTS"] = "true"
    for number in range(1, 25):
        moment = MIDNIGHT - 3 * DAY + 3 * (number - 1) * HOUR
        site.node.alarm(number, moment, moment - 9 * HOUR)
        site.node.event(number, moment + MINUTE)
    return site


def numbers(site: Site, name: str) -> list[int]:
    return [int(id) for id in site.ids(name)]


@pytest.mark.parametrize(("name", "kind"), [(ALARM, "alarm"), (EVENT, "workervm_status_event")])
def test_events_are_each_in_one_dated_file_and_once_in_their_aggregate_as_the_node_has_them(
    events: Site, name: str, kind: str
) -> None:
    assert "0 participants, 24 alarms, 24 workervm_status_events, 0 waiting" in events.run(MIDNIGHT).output
    events.node.alarm(25, MIDNIGHT + HOUR)
    events.node.event(25, MIDNIGHT + HOUR)
    events.runs(MIDNIGHT + HOUR, MIDNIGHT + 30 * HOUR, 5 * HOUR)
    events.once([str(number) for number in range(1, 26)], name)
    last_day = [row["id"] for row in events.rows(events.dated(name)[0])]
    assert last_day == [str(id) for id in range(17, 25)]
    (row,) = (row for row in events.rows(name) if row["id"] == "5")
    sent = events.node.listed(events.node.known[kind]["5"])
    assert row == {name: str(value) for name, value in sorted(sent.items())}


def test_an_alarm_is_collected_when_it_is_lowered(events: Site) -> None:
    stands = events.node.alarm(99, None, MIDNIGHT - 2 * HOUR)
    events.runs(MIDNIGHT, MIDNIGHT + 3 * HOUR)
    assert 99 not in numbers(events, ALARM)
    stands.record["time_lowered"] = stamp(MIDNIGHT + 3 * HOUR + MINUTE)
    events.run(MIDNIGHT + 4 * HOUR)
    assert numbers(events, ALARM).count(99) == 1


def test_without_data_events_nothing_of_them_is_asked_for(events: Site) -> None:
    del events.env["DATA_EVENTS"]
    events.run(MIDNIGHT)
    assert {request.resource for request in events.node.requests} == {"conference", "participant"}
    assert not (events.data / ALARM).exists()


def test_events_switched_on_later_come_with_all_that_the_node_has_of_them(events: Site) -> None:
    del events.env["DATA_EVENTS"]
    events.hourly(24, MIDNIGHT - DAY)
    events.run(MIDNIGHT)
    events.env["DATA_EVENTS"] = "true"
    events.run(MIDNIGHT + HOUR)
    assert sorted(numbers(events, ALARM)) == sorted(numbers(events, EVENT)) == list(range(1, 25))
    events.check()


def test_events_that_moved_while_they_were_read_are_asked_for_again(events: Site) -> None:
    """No list of all of them is compared later."""
    off, events.node.page, events.node.hidden = itertools.count(), 3, {"5"}
    moving = lambda request, answer: faults.counted(next(off) % 2)(request, answer)  # noqa: E731
    events.node.faults.add(moving, on="alarm", times=None)
    events.run(MIDNIGHT)
    events.node.faults.clear()
    events.node.hidden = set()
    events.run(MIDNIGHT + HOUR)
    assert sorted(numbers(events, ALARM)) == list(range(1, 25))


def test_events_of_a_lost_ledger_are_not_written_twice(events: Site) -> None:
    events.hourly(24, MIDNIGHT - DAY)
    events.runs(MIDNIGHT, MIDNIGHT + 2 * HOUR)
    events.lose_ledger()
    events.runs(MIDNIGHT + 3 * HOUR, MIDNIGHT + 30 * HOUR, 9 * HOUR)
    for name in (ALARM, EVENT):
        assert sorted(numbers(events, name)) == list(range(1, 25))
    events.check()


@pytest.mark.parametrize("answer", [404, 400])
def test_a_node_that_has_no_such_resource_is_said_by_the_setting_that_asks_for_it(events: Site, answer: int) -> None:
    """An older release."""
    events.hourly(24, MIDNIGHT - DAY)
    events.node.faults.add(faults.status(answer), on="alarm", times=None)
    said = events.run(MIDNIGHT, code=1).output
    assert "(alarm/)" in said
    assert "DATA_EVENTS=false" in said
    assert not events.files()
    events.node.faults.clear()
    events.run(MIDNIGHT + HOUR)
    assert sorted(numbers(events, ALARM)) == list(range(1, 25))
    events.check()
