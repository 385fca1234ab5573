"""When a bad call was bad is asked at the participant's own address, for bad calls alone."""

from __future__ import annotations

import json
from datetime import datetime

from .deployment import MIDNIGHT, MINUTE, Deployment
from .management_node import conference, participant
from .management_node.calls import stamp

QUALITY = "pexHistoryQuality.csv"


def call(place: Deployment, end: datetime, **qualities: str) -> None:
    """A call whose participants have these ids and qualities."""
    place.node.dropped_fields = {}
    held = conference(id="c", end_time=stamp(end))
    people = [
        participant(held, id=name, end_time=stamp(end), call_quality=quality, historic_call_quality=[1, 1, 4])
        for name, quality in qualities.items()
    ]
    place.node.add([held], people)


def test_only_bad_calls_are_asked_for_and_each_gets_a_row_with_every_20_seconds(place: Deployment) -> None:
    call(place, MIDNIGHT - MINUTE, good="1_good", bad="3_bad", worse="4_terrible", unknown="0_unknown")
    place.run(MIDNIGHT, DATA_MEDIA_STREAMS="true")
    rows = {row["participant_id"]: row for row in place.rows(QUALITY)}
    assert rows.keys() == {"bad", "worse"}
    assert json.loads(rows["bad"]["historic_call_quality"]) == [1, 1, 4]
    assert "historic_call_quality" not in place.table("pexHistoryPart.csv")[0]
    asked = [
        request.path for request in place.asked if request.path.endswith(("/good/", "/bad/", "/worse/", "/unknown/"))
    ]
    assert len(asked) == 2


def test_without_media_streams_no_bad_call_costs_a_request(place: Deployment) -> None:
    call(place, MIDNIGHT - MINUTE, bad="3_bad")
    place.run(MIDNIGHT)
    assert not (place.data / QUALITY).exists()
    assert not [request for request in place.asked if request.path.endswith("/bad/")]


def test_a_node_that_fails_there_costs_no_row_of_the_call(place: Deployment) -> None:
    call(place, MIDNIGHT - MINUTE, bad="3_bad")
    place.node.hidden = {"bad"}  # listed by its conference; its own address answers 404
    place.run(MIDNIGHT, DATA_MEDIA_STREAMS="true")
    place.node.hidden = set()
    said = place.run(MIDNIGHT + 25 * 60 * MINUTE, DATA_MEDIA_STREAMS="true").output
    assert "1 participants" in said
    assert [row["participant_id"] for row in place.rows(QUALITY)] == ["bad"]
