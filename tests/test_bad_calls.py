"""When a bad call was bad is asked at the participant's own address, for bad calls alone."""

from __future__ import annotations

import json

from .harness import HOUR, MIDNIGHT, MINUTE, PART, QUALITY, Site


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


def test_without_media_streams_no_bad_call_costs_a_request(site: Site) -> None:
    call(site, bad="3_bad")
    site.run(MIDNIGHT)
    assert not (site.data / QUALITY).exists()
    assert not [request for request in site.asked if request.path.endswith("/bad/")]


def test_a_node_that_fails_there_costs_no_row_of_the_call(site: Site) -> None:
    call(site, bad="3_bad")
    site.node.hidden = {"bad"}  # listed by its conference; its own address answers 404
    site.run(MIDNIGHT, DATA_MEDIA_STREAMS="true")
    site.node.hidden = set()
    said = site.run(MIDNIGHT + 25 * HOUR, DATA_MEDIA_STREAMS="true").output
    assert "1 participant, " in said
    assert [row["participant_id"] for row in site.rows(QUALITY)] == ["bad"]
