"""DATA_EVENTS: alarms and Conferencing Nodes' events are collected as conferences are, each into files of its own."""

from __future__ import annotations

import pytest

from .deployment import DAY, HOUR, MIDNIGHT, MINUTE, Deployment
from .management_node import alarm, faults, node_event
from .management_node.calls import stamp

ALARM, NODE = "pexHistoryAlarm.csv", "pexHistoryNode.csv"


@pytest.fixture
def events(place: Deployment) -> Deployment:
    """One that collects them, and has some of three days."""
    place.env["DATA_EVENTS"] = "true"
    moments = [MIDNIGHT - 3 * DAY + hour * HOUR for hour in range(0, 72, 3)]
    place.node.add_events(
        (
            alarm(id=number, time_raised=stamp(moment - 9 * HOUR), time_lowered=stamp(moment))
            for number, moment in enumerate(moments, 1)
        ),
        (node_event(id=number, time_changed=stamp(moment + MINUTE)) for number, moment in enumerate(moments, 1)),
    )
    return place


def numbers(place: Deployment, name: str) -> list[int]:
    return [int(id) for id in place.ids(name)]


@pytest.mark.parametrize(("name", "kind"), [(ALARM, "Alarm"), (NODE, "Node")])
def test_events_are_each_in_one_dated_file_and_once_in_their_aggregate(
    events: Deployment, name: str, kind: str
) -> None:
    events.run(MIDNIGHT)
    events.node.add_events(
        [alarm(id=25, time_lowered=stamp(MIDNIGHT + HOUR))], [node_event(id=25, time_changed=stamp(MIDNIGHT + HOUR))]
    )
    events.runs(MIDNIGHT + HOUR, MIDNIGHT + 30 * HOUR, 5 * HOUR)
    assert sorted(numbers(events, name)) == list(range(1, 26))
    assert events.rows(name) == [row for file in events.dated(kind) for row in events.rows(file)]
    assert [row["id"] for row in events.rows(events.dated(kind)[0])] == [str(id) for id in range(17, 25)], (
        "the last day"
    )


def test_an_events_fields_are_those_of_the_node(events: Deployment) -> None:
    assert "0 participants, 24 alarms, 24 workervm_status_events, 0 waiting" in events.run(MIDNIGHT).output
    (row,) = (row for row in events.rows(ALARM) if row["id"] == "5")
    sent = alarm(id=5, time_raised=stamp(MIDNIGHT - 69 * HOUR), time_lowered=stamp(MIDNIGHT - 60 * HOUR))
    assert row == {name: str(value) for name, value in sorted(sent.items())}


def test_an_alarm_is_collected_when_it_is_lowered(events: Deployment) -> None:
    events.node.add_events([alarm(id=99, time_raised=stamp(MIDNIGHT - 2 * HOUR), time_lowered=None)])
    events.runs(MIDNIGHT, MIDNIGHT + 3 * HOUR)
    assert 99 not in numbers(events, ALARM)
    events.node.add_events(
        [alarm(id=99, time_raised=stamp(MIDNIGHT - 2 * HOUR), time_lowered=stamp(MIDNIGHT + 3 * HOUR + MINUTE))]
    )
    events.run(MIDNIGHT + 4 * HOUR)
    assert numbers(events, ALARM).count(99) == 1


def test_without_data_events_nothing_of_them_is_asked_for(events: Deployment) -> None:
    del events.env["DATA_EVENTS"]
    events.run(MIDNIGHT)
    assert {request.resource for request in events.node.requests} == {"conference", "participant"}
    assert not (events.data / ALARM).exists()


def test_events_switched_on_later_come_with_all_that_the_node_has_of_them(events: Deployment) -> None:
    del events.env["DATA_EVENTS"]
    events.hourly(24, MIDNIGHT - DAY)
    events.run(MIDNIGHT)
    events.env["DATA_EVENTS"] = "true"
    events.run(MIDNIGHT + HOUR)
    assert sorted(numbers(events, ALARM)) == sorted(numbers(events, NODE)) == list(range(1, 25))
    events.check()


def test_events_of_a_lost_ledger_are_not_written_twice(events: Deployment) -> None:
    events.hourly(24, MIDNIGHT - DAY)
    events.runs(MIDNIGHT, MIDNIGHT + 2 * HOUR)
    events.lose_ledger()
    events.runs(MIDNIGHT + 3 * HOUR, MIDNIGHT + 30 * HOUR, 9 * HOUR)
    for name in (ALARM, NODE):
        assert sorted(numbers(events, name)) == list(range(1, 25))
    events.check()


@pytest.mark.parametrize("answer", [404, 400])
def test_a_node_that_has_no_such_resource_is_said_by_the_setting_that_asks_for_it(
    events: Deployment, answer: int
) -> None:
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
