"""Each record once, whatever the node's order, ids, answers and memory are."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import pytest

from pexip_history.node import api

from .harness import CONF, DAY, HOUR, MIDNIGHT, MINUTE, NOW, PART, STREAM, Site
from .management_node import faults
from .management_node.calls import ROOT, Record, stamp
from .management_node.server import Request

# The pace


def test_a_run_takes_less_than_half_of_what_the_node_allows_its_clients(site: Site) -> None:
    """1,000 requests in 60 s are for all of them together; here 40 for 450."""
    assert (api.PACE, api.PERIOD) == (450, 60)
    for number in range(60):
        site.hold(f"c{number:03}", MIDNIGHT - number * MINUTE - MINUTE)
    site.node.page = 1
    slept = site.run(MIDNIGHT, hurry=True, constants={"PACE": 40}).slept
    assert len(site.asked) > 100
    assert slept == 60 * ((len(site.asked) - 1) // 40)
    site.check()


def test_a_429_without_retry_after_is_waited_out_for_minutes(site: Site) -> None:
    """Others use the allowance up, again and again."""
    site.hourly(10)
    site.node.faults.add(faults.status(429), times=10)
    assert site.run(MIDNIGHT, hurry=True).slept > 120
    assert not site.node.faults.waiting
    site.check()


@pytest.mark.slow
@pytest.mark.parametrize("status", [429, 503])
def test_what_cannot_be_asked_by_conference_waits_and_all_else_is_kept(site: Site, status: int) -> None:
    site.hourly(10, MIDNIGHT - 12 * HOUR)
    late = [site.hold(f"late{n}", MIDNIGHT - HOUR, 40 * HOUR, (50 + n) * HOUR) for n in range(5)][-1].people
    site.node.appear = "ended"
    site.run(MIDNIGHT - 2 * HOUR)
    site.node.faults.add(faults.status(status), when=lambda request: "conference" in request.query, times=None)
    said = site.run(MIDNIGHT, hurry=True).output
    assert len(site.ids()) == 15
    assert late <= set(site.ids(PART)) or "wait" in said
    site.node.faults.clear()
    site.run(MIDNIGHT + HOUR)
    site.run(MIDNIGHT + 26 * HOUR)
    site.check()


# Participants that are missing, late or gone


@pytest.mark.parametrize("by", ["id", "name", "ignored", "empty", 400, 404])
def test_early_leavers_come_whatever_conference_is_taken_for(site: Site, by: Any) -> None:
    site.run()
    site.node.by_conference = by
    site.node.wait(5 * DAY)
    for number in range(25):
        held = site.hold(f"c{number:02}", site.node.now - (number + 1) * MINUTE)
        for who in range(2):  # they are shown when the conference ended
            end = site.node.now - 7 * DAY - who * HOUR + number * MINUTE
            site.node.participant(held, f"{held.id}-{who}", end, site.node.now - MINUTE)
    site.node.wait(2 * HOUR)
    site.daily(2)
    site.once([f"c{number:02}-{who}" for number in range(25) for who in range(2)], PART)
    assert site.lost() == (0, 0)


def test_a_participant_from_its_own_address_is_a_row_as_the_others_also_after_a_lost_ledger(site: Site) -> None:
    """That address nests the conference, and has more fields."""
    site.node.by_conference, site.node.nested = 404, True
    site.run()
    site.node.wait(3 * DAY)
    held = site.hold("c1", site.node.now - HOUR, MINUTE)
    site.node.participant(held, "early", MIDNIGHT - DAY, site.node.now - HOUR)
    site.run()
    site.lose_ledger()
    site.daily(3)
    site.once(["c1-0", "early"], PART)
    assert not [name for name in site.table(PART)[0] if name.endswith(("eted_call_quality", "oric_call_quality"))]
    assert {row["conference"] for row in site.rows(PART)} == {held.record["resource_uri"]}


def test_a_participant_that_is_gone_counts_as_lost_is_said_once_and_is_lost_no_more_when_it_comes(site: Site) -> None:
    """Gone: the node answers 404 at its own address."""
    held = site.hold("c1", MIDNIGHT - HOUR, MINUTE)
    site.node.participant(held, "late", MIDNIGHT - 2 * HOUR, MIDNIGHT + 3 * DAY)
    assert "1 participant is gone from conference c1" in site.run().output
    assert "gone" not in site.daily(2)
    assert site.lost() == (1, 0)
    assert "1 participant (1 late)" in site.daily(1)
    site.daily(1)
    assert site.lost() == (0, 0)
    site.once(["c1-0", "late"], PART)


@pytest.mark.parametrize("fault", [faults.status(500), faults.not_the_envelope()])
def test_one_participant_on_whom_the_node_fails_keeps_nobody_else_out(site: Site, fault: faults.Fault) -> None:
    site.node.by_conference = 400
    for number in range(3):
        held = site.hold(f"c{number}", MIDNIGHT - HOUR + number * MINUTE)
        for who in "ab":
            site.node.participant(held, f"c{number}-{who}", MIDNIGHT - 3 * DAY, MIDNIGHT - MINUTE)
    site.want_since(MIDNIGHT - DAY)
    site.node.faults.add(fault, times=None, when=lambda request: "c0-a" in request.path)
    site.runs(MIDNIGHT, MIDNIGHT + DAY, 12 * HOUR, hurry=True)
    site.once(["c0-b", "c1-a", "c1-b", "c2-a", "c2-b"], PART)
    assert site.lost() == (0, 1)


def test_who_left_before_a_window_by_hand_is_not_late_and_comes_by_the_end_of_the_conference(site: Site) -> None:
    site.hold("b", MIDNIGHT - 2 * HOUR, 30 * HOUR)
    site.hold("a", MIDNIGHT - HOUR, 30 * HOUR)
    assert "1 participant, 0" in site.run(MIDNIGHT, "--from", "2026-11-23", DEFAULT_PART_LIMIT="1").output
    assert site.ids(PART) == ["b-0"], "the node forgets it first"


@pytest.mark.parametrize("wrong", [NOW, 60 * DAY])
def test_a_conference_that_is_not_listed_for_a_day_is_not_taken_twice(site: Site, wrong: timedelta) -> None:
    ids = site.hourly(3)
    site.hold("alone", MIDNIGHT - HOUR)
    site.run()
    site.node.hidden, site.node.date_error = {"alone", *ids}, wrong
    site.run(MIDNIGHT + DAY)
    site.node.hidden, site.node.date_error = set(), NOW
    site.daily(2)
    site.check()


def test_what_a_participants_own_address_says_of_another_is_not_taken(site: Site) -> None:
    site.hold("c1", MIDNIGHT - HOUR, 30 * HOUR)
    site.node.faults.add(faults.edited(lambda one: one.update(id="x")), when=lambda asked: "/c1-0/" in asked.target)
    site.run(MIDNIGHT, "--from", "2026-11-23")
    assert (site.ids(PART), site.lost()) == ([], (0, 1))


def test_who_is_missing_of_several_conferences_comes_by_the_time_of_these_at_once(site: Site) -> None:
    for number in range(3):
        end = MIDNIGHT - 3 * HOUR - number * MINUTE
        site.node.participant(site.hold(f"c{number}", end), f"late{number}", end, MIDNIGHT + 25 * HOUR)
    site.run()
    site.run(MIDNIGHT + 25 * HOUR)
    assert [request.target for request in site.asked if re.search("conference=|/late", request.target)] == []
    site.check()


def test_several_who_are_missing_of_one_conference_are_asked_for_by_it(site: Site) -> None:
    site.run()
    site.node.wait(3 * DAY)
    held = site.hold("c1", site.node.now - HOUR)
    for who in "ab":
        site.node.participant(held, f"c1-{who}", MIDNIGHT - DAY, site.node.now - HOUR)
    site.run()
    site.once(["c1-a", "c1-b"], PART)
    assert [request.target for request in site.asked if "/c1-" in request.target] == []


def test_a_participant_that_never_comes_costs_a_request_a_day_for_a_week(site: Site) -> None:
    held = site.hold("c1", MIDNIGHT - HOUR, MINUTE)
    site.node.participant(held, "ghost", MIDNIGHT - 2 * HOUR, datetime.max)
    asked = []
    for hour in range(0, 10 * 24, 12):
        site.run(MIDNIGHT + hour * HOUR)
        asked += [hour for request in site.asked if "ghost" in request.target]
    assert asked == [day * 24 for day in range(8)]
    assert site.lost() == (1, 0)


def test_an_outage_takes_no_day_from_the_week_in_which_a_participant_that_is_gone_is_asked_for(site: Site) -> None:
    held = site.hold("c1", MIDNIGHT - HOUR, MINUTE)
    site.node.participant(held, "late", MIDNIGHT - 2 * HOUR, MIDNIGHT + 9 * DAY)
    site.run()
    assert site.lost() == (1, 0)
    site.run(MIDNIGHT + 10 * DAY)
    site.once(["c1-0", "late"], PART)


def test_one_run_by_a_clock_that_is_ahead_ends_no_week_in_which_a_participant_is_asked_for(site: Site) -> None:
    held = site.hold("c1", MIDNIGHT - HOUR, MINUTE)
    site.node.participant(held, "late", MIDNIGHT - 2 * HOUR, MIDNIGHT + 3 * DAY)
    site.run()
    site.node.ahead = 30 * DAY
    site.run(MIDNIGHT + DAY, ahead=30 * DAY)
    site.node.ahead = NOW
    site.daily(4)
    site.once(["c1-0", "late"], PART)


def test_whom_a_later_conference_lists_too_is_known_after_the_first_is_forgotten_and_the_ledger_lost(
    site: Site,
) -> None:
    site.hold("c1", MIDNIGHT - HOUR, MINUTE)
    site.hold("c2", MIDNIGHT - 30 * MINUTE, MINUTE)
    site.run()
    site.lose_ledger()
    site.node.delete("c1")
    site.run(MIDNIGHT + HOUR)
    site.node.list_too(site.hold("c3", MIDNIGHT + 90 * MINUTE), site.node.known["participant"]["c1-0"])
    site.daily(2)
    site.once(["c1-0", "c2-0"], PART)


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "nth"), [(200, None), (400, 3), (404, 4)])
def test_a_conference_that_is_gone_holds_up_nothing(site: Site, answer: Any, nth: int | None) -> None:
    """It goes between two runs, or before the third or fourth request of one."""
    site.node.gone = answer
    site.hourly(8, MIDNIGHT)
    gone = site.hold("gone", MIDNIGHT + 4 * HOUR + MINUTE, 20 * HOUR, 30 * HOUR)
    site.node.hidden = gone.people
    site.runs(MIDNIGHT, MIDNIGHT + (4 if nth else 5) * HOUR)
    if nth:
        site.node.faults.add(faults.before(lambda request: site.node.delete("gone", *gone.people)), nth=nth)
        site.run(MIDNIGHT + 5 * HOUR)
    else:
        site.node.delete("gone", *gone.people)
    site.runs(MIDNIGHT + 6 * HOUR, MIDNIGHT + 35 * HOUR, 4 * HOUR)
    assert "gone" in site.ids()
    site.check(never=gone.people)
    (said,) = [line for line in site.log().splitlines() if "WARNING" in line and "gone" in line]
    assert "2 participants" in said


@pytest.mark.slow
def test_a_participant_that_two_conferences_list_is_asked_for_and_named_once(site: Site) -> None:
    site.run()
    for number, id in enumerate(("lone", "other")):
        site.hold(id, MIDNIGHT + (5 + number) * HOUR).record["participants"] = [f"{ROOT}participant/never/"]
    site.runs(MIDNIGHT + 6 * HOUR, MIDNIGHT + 8 * HOUR)
    with closing(sqlite3.connect(site.ledger)) as db:
        assert db.execute("SELECT conference FROM expected").fetchall() == [("other",)], "the last one that lists it"
    assert sum("never" in request.path for request in site.node.requests) == 1
    site.node.delete("lone")
    site.runs(MIDNIGHT + 9 * HOUR, MIDNIGHT + 80 * HOUR, 8 * HOUR)
    assert site.log().count("1 participant is gone from") == site.log().count("is gone") == 1
    site.check()


def test_a_participant_whom_two_conferences_list_is_not_lost_when_one_is_forgotten(site: Site) -> None:
    first = site.hold("c1", MIDNIGHT - 5 * HOUR, MINUTE)
    second = site.hold("c2", MIDNIGHT - HOUR, MINUTE)
    site.node.list_too(second, site.node.participant(first, "moved", MIDNIGHT - 6 * HOUR))
    site.run()
    site.node.forget(1)
    site.daily(1)
    before = len(site.node.requests)
    site.daily(3)
    again = site.node.requests[before:]
    assert not [request for request in again if "moved" in request.target or "c2" in request.target]
    site.once(["c1-0", "c2-0", "moved"], PART)
    assert site.lost() == (0, 0)


def test_so_it_is_where_the_node_still_has_the_participant_and_the_ledger_is_lost(site: Site) -> None:
    first, second = (site.hold(id, MIDNIGHT - 5 * HOUR, MINUTE) for id in ("c1", "c2"))
    site.node.list_too(second, site.node.participant(first, "moved", MIDNIGHT - 6 * HOUR))
    site.run()
    site.node.delete("c1")
    site.lose_ledger()
    site.daily(4)
    site.once(["c1-0", "c2-0", "moved"], PART)


# Rows that move, nodes without order


@pytest.mark.parametrize("order", ["obeyed", "refused"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5])
def test_rows_that_move_while_they_are_read_are_not_lost(site: Site, nth: int, order: Any) -> None:
    """The node forgets its oldest between pages, so that those behind move up."""
    site.node.page, site.node.order = 3, order
    ids = site.hourly(12, MIDNIGHT)
    gone: list[str] = []
    site.node.faults.add(faults.before(lambda request: gone.extend(site.node.forget(2))), nth=nth)
    site.run(MIDNIGHT + 24 * HOUR)
    assert gone == ids[:2]
    assert "during each" not in site.log(), "it held still when it was read again"
    site.check(never={one for id in gone for one in (id, f"{id}-0")})


@pytest.mark.slow
@pytest.mark.parametrize("how", ["refused", "ignored"])
@pytest.mark.parametrize(
    ("gone", "place", "page"),
    [("c02", 100, 10), ("c02", 100, 4), ("c30", 0, 10)],
    ids=["one in the middle moved up unseen", "in small pages", "a record came twice"],
)
def test_one_forgotten_and_one_new_between_two_pages_lose_nothing_else(
    site: Site, how: Any, gone: str, place: int, page: int
) -> None:
    """The count is as it was."""
    site.node.arrangement, site.node.order = lambda one: one.record["duration"], how
    site.node.page = page
    site.run(MIDNIGHT)
    for n in range(31):
        site.hold(f"c{n:02}", MIDNIGHT + (n + 1) * 10 * MINUTE, MINUTE, duration=n + 1)

    def shift(request: Request) -> None:
        site.node.delete(gone, f"{gone}-0")
        site.hold("new", MIDNIGHT + 6 * HOUR, MINUTE, duration=place)

    # Before the second page: the small request was the first. One more where an order was refused.
    site.node.faults.add(faults.before(shift), on="conference", nth=4 if how == "refused" else 3)
    site.run(MIDNIGHT + 7 * HOUR)
    assert ("c02" if gone == "c02" else "new") in site.ids()
    site.runs(MIDNIGHT + 8 * HOUR, MIDNIGHT + 36 * HOUR, 7 * HOUR)
    site.check(never={f"{gone}-0"} | ({gone} - {"c02"}))


@pytest.mark.slow
def test_ties_in_another_order_under_another_limit_cost_no_second_reading(site: Site) -> None:
    site.node.ties, site.node.page = "by limit", 10
    site.run(MIDNIGHT)
    for n in range(35):
        site.hold(f"c{n:02}", MIDNIGHT + HOUR + (n // 2) * MINUTE, MINUTE, MINUTE)
    for hour in (3, 4, 5):
        assert "WARNING" not in site.run(MIDNIGHT + hour * HOUR).output
        # Conferences in 4 pages, participants in 7; twice is enough, and the reconciling.
        assert len(site.asked) <= 2 * (4 + 7) + 8, [request.target for request in site.asked]
    assert len(site.asked) <= 8, "nothing new"
    site.check()


@pytest.mark.slow
def test_a_node_that_forgets_steadily_is_not_read_six_times(site: Site) -> None:
    """Each request finds the oldest gone and a new one there."""
    site.node.page = 10
    site.run(MIDNIGHT)
    for n in range(35):
        site.hold(f"c{n:03}", MIDNIGHT + HOUR + n * MINUTE, MINUTE)
    number, gone = 35, set()

    def move(request: Request) -> None:
        nonlocal number
        for id in site.node.forget(1):
            gone.update({id, f"{id}-0"})
        site.hold(f"c{number:03}", MIDNIGHT + HOUR + number * MINUTE, MINUTE)
        number += 1

    site.node.faults.add(faults.before(move), times=None)
    for hour in range(6, 12):
        site.run(MIDNIGHT + hour * HOUR)
        begun = Counter(request.target for request in site.asked if "offset" not in request.query)
        assert max(begun.values()) <= 3, "no query is read more than three times"
        assert len(site.asked) <= 60, [request.target for request in site.asked]
    site.node.faults.clear()
    site.run(MIDNIGHT + 12 * HOUR)
    site.run(MIDNIGHT + 40 * HOUR)
    site.check(never=gone)


# Ids


@pytest.mark.slow
@pytest.mark.parametrize("id", ["c00", "c00-0"])
def test_an_end_that_is_corrected_during_a_run_doubles_nothing(site: Site, id: str) -> None:
    site.node.page = 4
    for n in range(10):
        site.hold(f"c{n:02}", MIDNIGHT + n * 10 * MINUTE, MINUTE)
    resource = "conference" if id == "c00" else "participant"
    record = site.node.known[resource][id].record
    move = faults.before(lambda request: record.update(end_time=stamp(MIDNIGHT + 2 * HOUR)))
    site.node.faults.add(move, on=resource, nth=3 if id == "c00" else 2)  # before the second page
    for hour in (3, 4, 40):
        site.run(MIDNIGHT + hour * HOUR)
    assert not site.node.faults.waiting
    site.check()


STRANGE_IDS = ["-one", "+two", "=three", "@four", "-5", "'six", 'se"ven', "ei,ght", "'-nine", "ten ten", "ø", "11",
               "A", "a"]  # fmt: skip


@pytest.mark.slow
def test_ids_are_written_as_they_are_whatever_they_begin_with(site: Site) -> None:
    for n, id in enumerate(STRANGE_IDS):
        site.hold(id, MIDNIGHT + n * 10 * MINUTE, MINUTE, 30 * HOUR)
        site.node.known["participant"][f"{id}-0"].record["media_streams"] = [{"id": 1, "stream_type": "audio"}]
    how = {"DEFAULT_CONF_LIMIT": "3", "DEFAULT_PART_LIMIT": "3", "DATA_MEDIA_STREAMS": "true"}
    site.runs(MIDNIGHT + 3 * HOUR, MIDNIGHT + 6 * HOUR, **how)
    site.lose_ledger()
    site.runs(MIDNIGHT + 7 * HOUR, MIDNIGHT + 15 * HOUR, **how)
    site.run(MIDNIGHT + 16 * HOUR, "--from", "2026-11-24")
    site.runs(MIDNIGHT + 40 * HOUR, MIDNIGHT + 41 * HOUR)
    site.check()
    assert sorted(row["participant_id"] for row in site.rows(STREAM)) == sorted(f"{id}-0" for id in STRANGE_IDS)


def test_a_participant_may_have_the_id_of_a_conference(site: Site) -> None:
    site.hourly(4, MIDNIGHT, prefix="c")
    held = site.hold("one", MIDNIGHT + HOUR)
    for id, early in (("one", MINUTE), ("c002", 20 * HOUR)):
        site.node.participant(held, id, MIDNIGHT + HOUR - early)
    site.run(MIDNIGHT + 2 * HOUR)
    site.lose_ledger()
    site.run(MIDNIGHT + 5 * HOUR)
    site.run(MIDNIGHT + 40 * HOUR)
    site.check()


@pytest.mark.slow
@pytest.mark.parametrize("when", ["each other run", "each other page"])
def test_an_id_is_the_same_as_a_number_and_as_text(site: Site, when: str) -> None:
    for n in range(20):
        end = MIDNIGHT + n * 10 * MINUTE
        site.node.participant(site.hold(str(n + 1), end), str(10**17 + n), end)
    site.node.page, turn = 6, 0

    def numbers(document: Record) -> None:
        nonlocal turn
        turn += 1
        if (len(site.dated(CONF)) if when == "each other run" else turn) % 2:
            for one in document.get("objects", ()):
                one["id"] = int(one["id"])

    site.node.faults.add(faults.edited(numbers), times=None)
    for hour in range(2, 9):
        site.run(MIDNIGHT + hour * HOUR)
        if hour == 5:
            site.lose_ledger()
    site.run(MIDNIGHT + 9 * HOUR, "--from", "2026-11-24")
    site.run(MIDNIGHT + 40 * HOUR)
    site.check()
