"""Each record once, whatever the node's order, ids, answers and memory are."""

from __future__ import annotations

import time
from collections import Counter
from datetime import datetime, timedelta
from typing import Literal

import pytest

from .deployment import DAY, HOUR, MIDNIGHT, MINUTE, PART, SHORT, Deployment, Record, made
from .management_node import faults, participant
from .management_node.calls import ROOT, stamp
from .management_node.server import Request

pytestmark = pytest.mark.slow

# The pace


def test_a_429_without_retry_after_is_waited_out(place: Deployment) -> None:
    """The allowance of the last 60 s is used up again and again. Thirty times as fast as it is."""
    place.hourly(23, MIDNIGHT - DAY)
    for number in range(150):
        place.hold(f"d{number:03}", MIDNIGHT - number * MINUTE - MINUTE)
    place.node.max_limit = 1
    place.node.faults.add(faults.allowance(120, 60 / 30), times=None)
    done = place.hastened(MIDNIGHT, 30)
    assert 429 in [request.status for request in place.node.requests]
    assert done.code == 0, done.output
    place.check()


def test_a_429_without_retry_after_is_waited_out_for_minutes(place: Deployment) -> None:
    """Others use the allowance up, again and again."""
    place.hourly(10, MIDNIGHT - 12 * HOUR)
    place.node.faults.add(faults.status(429), times=10)
    done = place.hastened(MIDNIGHT, 60)
    assert done.code == 0, done.output
    assert not place.node.faults.waiting
    place.check()


def test_a_run_takes_less_than_half_of_what_the_node_allows_its_clients(place: Deployment) -> None:
    """1,000 requests in 60 s are for all of them together. Ten times as fast as it is."""
    for number in range(700):
        place.hold(f"c{number:03}", MIDNIGHT - number * MINUTE - MINUTE)
    place.node.max_limit = 1
    came: list[float] = []
    place.node.faults.add(faults.before(lambda request: came.append(time.monotonic() * 10)), times=None)
    done = place.hastened(MIDNIGHT, 10)
    assert done.code == 0, done.output
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
    done = place.hastened(MIDNIGHT, 50)
    assert done.code == 0, done.output
    assert len(place.ids()) == 15
    assert set(late) <= set(place.ids(PART)) or "wait" in done.output
    place.node.faults.clear()
    place.run(MIDNIGHT + HOUR)
    place.run(MIDNIGHT + 26 * HOUR)
    place.check()


# Conferences that are gone, and participants that never come

GONE: list[Literal["empty", 400, 404]] = ["empty", 400, 404]


@pytest.mark.parametrize("answer", GONE)
def test_a_conference_that_is_gone_holds_up_nothing(place: Deployment, answer: Literal["empty", 400, 404]) -> None:
    place.node.gone = answer
    place.hourly(10)
    lost = place.hold("gone", MIDNIGHT + 4 * HOUR + MINUTE, 20 * HOUR, 30 * HOUR)
    place.node.hidden = set(lost)
    place.runs(MIDNIGHT, MIDNIGHT + 5 * HOUR)
    place.node.delete("gone", *lost)
    place.runs(MIDNIGHT + 6 * HOUR, MIDNIGHT + 35 * HOUR, 2 * HOUR)
    place.check(never=set(lost))
    said = [line for line in place.log().splitlines() if "WARNING" in line and "gone" in line]
    assert len(said) == 1, said
    assert "2 participants" in said[0]


@pytest.mark.parametrize("answer", GONE)
@pytest.mark.parametrize("nth", [3, 4])
def test_a_conference_that_goes_during_a_run_holds_up_nothing(
    place: Deployment, answer: Literal["empty", 400, 404], nth: int
) -> None:
    place.node.gone = answer
    place.hourly(3)
    lost = place.hold("aaa", MIDNIGHT + MINUTE, 40 * HOUR, 50 * HOUR)
    place.node.faults.add(faults.before(lambda request: place.node.delete("aaa", *lost)), nth=nth)
    place.run(MIDNIGHT + 5 * HOUR)
    place.runs(MIDNIGHT + 6 * HOUR, MIDNIGHT + 35 * HOUR, 4 * HOUR)
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
    place.runs(MIDNIGHT, MIDNIGHT + 50 * HOUR, 2 * HOUR)
    place.node.hidden = set()
    place.runs(MIDNIGHT + 51 * HOUR, MIDNIGHT + 100 * HOUR, 5 * HOUR)
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
    place.runs(MIDNIGHT + 14 * HOUR, MIDNIGHT + 42 * HOUR, 2 * HOUR)
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
    place.runs(MIDNIGHT + 6 * HOUR, MIDNIGHT + 60 * HOUR, 2 * HOUR)
    place.check()


@pytest.mark.parametrize("listed_by", ["0", "z"])
def test_a_participant_that_two_conferences_list_is_asked_for_and_named_once(place: Deployment, listed_by: str) -> None:
    """They end at once, hours after he went from one to the other, and the node shows him with the first alone."""
    moved, came = made("b", MIDNIGHT + HOUR, 5 * HOUR)
    left, stayed = made(listed_by, MIDNIGHT + HOUR + MINUTE, MINUTE)
    left["participants"].append(came[0]["resource_uri"])
    place.add([moved, left], [*came, *stayed])
    place.node.participants_appear = "ended"
    place.runs(MIDNIGHT - HOUR, MIDNIGHT + 4 * HOUR)
    place.check()
    lone = made("lone", MIDNIGHT + 5 * HOUR)[0]
    other = made("other", MIDNIGHT + 5 * HOUR)[0]
    for one in (lone, other):
        one["participants"] = [participant(lone, id="never")["resource_uri"]]
    place.add([lone, other], [])
    assert "gone" not in place.log()
    place.runs(MIDNIGHT + 6 * HOUR, MIDNIGHT + 8 * HOUR)
    assert sum("never" in request.path for request in place.node.requests) == 1
    place.node.delete("lone")
    place.runs(MIDNIGHT + 9 * HOUR, MIDNIGHT + 80 * HOUR, 5 * HOUR)
    assert place.log().count("1 participants of conference") == place.log().count("are gone") == 1
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


@pytest.mark.parametrize("how", ["refused", "ignored", "obeyed"])
def test_what_a_limit_leaves_comes_with_the_next_runs_and_not_a_day_later(place: Deployment, how: str) -> None:
    if how != "obeyed":
        unordered(place, how)
    place.run(MIDNIGHT)
    for n in range(10):
        place.hold(f"c{n:02}", MIDNIGHT + HOUR + n * MINUTE, MINUTE, duration=n * 7 % 10)
    for hour in range(6, 10):
        place.run(MIDNIGHT + hour * HOUR, DEFAULT_CONF_LIMIT="3")
    assert sorted(place.ids()) == sorted(place.held)
    place.check()


@UNORDERED
def test_what_a_limit_leaves_is_said_and_asked_for_where_the_clock_is_behind(place: Deployment, how: str) -> None:
    """Then the window is read twice, the second time to the node's own present."""
    unordered(place, how)
    place.run(MIDNIGHT)
    for n in range(10):
        place.hold(f"c{n:02}", MIDNIGHT + HOUR + n * MINUTE, MINUTE, duration=n * 7 % 10)
    for hour, left in ((6, 7), (7, 4), (8, 1), (9, 0)):
        said = place.run(MIDNIGHT + hour * HOUR, ahead=-20 * MINUTE, DEFAULT_CONF_LIMIT="3").output
        assert (", 0 waiting" in said) == (left == 0), said
        assert len(place.ids()) == 10 - left


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

    # Before the second page: the small request was the first. One more where an order was refused.
    place.node.faults.add(faults.before(shift), on="conference", nth=4 if how == "refused" else 3)
    place.run(MIDNIGHT + 7 * HOUR)
    place.runs(MIDNIGHT + 8 * HOUR, MIDNIGHT + 36 * HOUR, 4 * HOUR)
    assert "c02" in place.ids()
    place.check(never={"c02-0"})


@UNORDERED
def test_one_new_before_what_was_read_and_one_forgotten_after_it_make_a_run_read_again(
    place: Deployment, how: str
) -> None:
    """The count is as it was, but a record came twice."""
    unordered(place, how)
    place.node.max_limit = 10
    place.run(MIDNIGHT)
    for n in range(31):
        place.hold(f"c{n:02}", MIDNIGHT + (n + 1) * 10 * MINUTE, MINUTE, duration=n + 1)

    def shift(request: Request) -> None:
        place.node.delete("c30", "c30-0")
        place.hold("new", MIDNIGHT + 6 * HOUR, MINUTE, duration=0)

    place.node.faults.add(faults.before(shift), on="conference", nth=4 if how == "refused" else 3)
    place.run(MIDNIGHT + 7 * HOUR)
    assert "new" in place.ids()
    place.check(never={"c30", "c30-0"})


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
        begun = Counter(request.target for request in place.asked if "offset" not in request.query)
        assert max(begun.values()) <= 3, "no query is read more than three times"
        assert len(place.asked) <= 60, [request.target for request in place.asked]
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
    place.node.faults.add(move, on=resource, nth=3 if id == "c00" else 2)  # before the second page
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


STRANGE_IDS = [
    "-one",
    "+two",
    "=three",
    "@four",
    "-5",
    "'six",
    'se"ven',
    "ei,ght",
    "'-nine",
    "ten ten",
    "ø",
    "11",
    "A",
    "a",
]


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


def test_a_participant_may_have_the_id_of_a_conference(place: Deployment) -> None:
    place.hourly(4)
    held, present = made("one", MIDNIGHT + HOUR, MINUTE, 20 * HOUR)
    for one, id in zip(present, ("one", "c002"), strict=True):
        one |= {"id": id, "resource_uri": f"{ROOT}participant/{id}/"}
    held["participants"] = [one["resource_uri"] for one in present]
    place.add([held], present)
    place.run(MIDNIGHT + 2 * HOUR)
    place.lose_ledger()
    place.run(MIDNIGHT + 5 * HOUR)
    place.run(MIDNIGHT + 40 * HOUR)
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
    place.runs(MIDNIGHT, shown - HOUR, HOUR if hours < 10 else 6 * HOUR)
    place.node.hidden = set()
    place.runs(shown, shown + 28 * HOUR, 4 * HOUR)
    assert {*late} <= set(place.ids(PART))
    place.runs(shown + 29 * HOUR, shown + 60 * HOUR, 5 * HOUR)
    place.check()


def test_participants_that_are_shown_when_the_conference_ends_come_under_every_misfortune(place: Deployment) -> None:
    """Days after they left; with limits, a lost ledger and an aggregate moved away on the way."""
    place.node.participants_appear = "ended"
    for n in range(20):
        place.hold(f"c{n:02}", MIDNIGHT + n * 3 * HOUR, *(early * 9 * HOUR for early in range(n % 4)))
    limits = {"DEFAULT_CONF_LIMIT": "2", "DEFAULT_PART_LIMIT": "3"}
    for hour in range(0, 100, 4):
        place.run(MIDNIGHT + hour * HOUR, **limits)
        if hour == 20:
            place.lose_ledger()
        if hour == 40:
            place.take_away(PART, "moved")
    place.check()
