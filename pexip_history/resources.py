"""The kinds of records that the History API has, as one table: everything else reads it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Resource:
    """A kind of record.

    `time` is the field that spans are compared with, `limit` the setting that caps how many a run takes, `lists` the
    field in which a record lists participants. What is `optional` is collected with DATA_EVENTS=true alone.
    """

    name: str
    stem: str
    time: str
    limit: str | None = None
    lists: str | None = None
    key: tuple[str, ...] = ("id",)
    optional: bool = False


CONFERENCE = Resource("conference", "pexHistoryConf", "end_time", limit="DEFAULT_CONF_LIMIT", lists="participants")
PARTICIPANT = Resource("participant", "pexHistoryPart", "end_time", limit="DEFAULT_PART_LIMIT")
ALARM = Resource("alarm", "pexHistoryAlarm", "time_lowered", optional=True)
NODE_EVENT = Resource("workervm_status_event", "pexHistoryNode", "time_changed", optional=True)
RESOURCES = (CONFERENCE, PARTICIPANT, ALARM, NODE_EVENT)
"""What the node is asked for, in this order."""

STREAM = Resource("stream", "pexHistoryStream", "end_time", key=("participant_id", "id"), optional=True)
"""No resource of its own to ask for: what participants bring, with DATA_MEDIA_STREAMS=true."""
QUALITY = Resource("quality", "pexHistoryQuality", "start_time", key=("participant_id",), optional=True)
"""How good a bad call was every 20 seconds, from the participant's own address, with DATA_MEDIA_STREAMS=true."""
OF_PARTICIPANTS = (STREAM, QUALITY)
FILES = (*RESOURCES[:2], *OF_PARTICIPANTS, *RESOURCES[2:])
"""What has files."""
BY_NAME = {resource.name: resource for resource in FILES}
