"""When a bad call was bad is asked at the participant's own address, for bad calls alone."""

from __future__ import annotations

import json
from unittest.mock import Mock

from pexip_history.errors import NotFound
from pexip_history.node.records import Page
from pexip_history.run.bad_calls import BadCalls

from .harness import HOUR, MIDNIGHT, MINUTE, PART, QUALITY, Site
from .management_node import faults


def call(site: Site, **qualities: str) -> None:
    """A call whose participants have these ids and qualities."""
    held = site.hold("c", MIDNIGHT - MINUTE)
    for name, quality in qualities.items():
        site.node.participant(held, name, MIDNIGHT - MINUTE, call_quality=quality)


def test_only_bad_calls_are_asked_for_and_each_gets_a_row_with_every_20_seconds(site: Site) -> None:
    call(site, good="1_good", bad="3_bad", worse="4_terrible", unknown="0_unknown")
    site.run(MIDNIGHT, DATA_MEDIA_STREAMS="true")
    rows = {row["participant_id"]: row for row in site.rows(QUALITY)}
    assert rows.keys() == {"bad", "worse"}
    assert json.loads(rows["bad"]["historic_call_quality"]) == [1, 1, 4]
    assert "historic_call_quality" not in site.table(PART)[0]
    asked = [
        request.path for request in site.asked if request.path.endswith(("/good/", "/bad/", "/worse/", "/unknown/"))
    ]
    assert len(asked) == 2


def test_no_more_bad_calls_are_asked_for_than_a_minute_takes() -> None:
    node = Mock(record=Mock(side_effect=NotFound("gone")))
    found = BadCalls(node, Mock())
    found.note(Page({"id": [*range(600)], "call_quality": ["3_bad"] * 600}, 600))
    found.ask()
    assert node.record.call_count == 500


def test_an_id_leads_to_no_other_address(site: Site) -> None:
    call(site, **{"../conference/c": "3_bad"})
    site.run(MIDNIGHT, DATA_MEDIA_STREAMS="true")
    assert any("/participant/..%2Fconference%2Fc/" in request.target for request in site.asked)


def test_without_media_streams_no_bad_call_costs_a_request(site: Site) -> None:
    call(site, bad="3_bad")
    site.run(MIDNIGHT)
    assert not (site.data / QUALITY).exists()
    assert not [request for request in site.asked if request.path.endswith("/bad/")]


def test_a_bad_call_that_is_gone_by_then_keeps_no_other_from_being_asked_for(site: Site) -> None:
    call(site, gone="3_bad", worse="4_terrible")
    site.node.faults.add(faults.status(404), when=lambda request: request.path.endswith("/gone/"))
    assert "WARNING" not in site.run(MIDNIGHT, DATA_MEDIA_STREAMS="true").output
    assert [row["participant_id"] for row in site.rows(QUALITY)] == ["worse"]


def test_a_node_that_fails_there_costs_no_row_of_the_call(site: Site) -> None:
    call(site, bad="3_bad")
    site.node.hidden = {"bad"}  # listed by its conference; its own address answers 404
    site.run(MIDNIGHT, DATA_MEDIA_STREAMS="true")
    site.node.hidden = set()
    said = site.run(MIDNIGHT + 25 * HOUR, DATA_MEDIA_STREAMS="true").output
    assert "1 participant, " in said
    assert [row["participant_id"] for row in site.rows(QUALITY)] == ["bad"]
