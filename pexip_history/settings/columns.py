"""DATA_OMIT_COLUMNS: which columns stay empty."""

from __future__ import annotations

import re
from difflib import get_close_matches

from pexip_history.messages import sentence

NEEDED = {
    "id": "rows are told apart by it",
    "participant_id": "rows are told apart by it",
    "conference": "it says to which conference a participant belongs",
    "start_time": "the history is ordered by it",
    "end_time": "the history is ordered by it",
    "time_lowered": "the history is ordered by it",
    "time_changed": "the history is ordered by it",
}
"""The columns that the collector itself reads, and what for."""
KNOWN = """
    av_id bandwidth call_direction call_quality call_tag call_uuid conference_name conversation_id
    direct_media_available disconnect_reason display_name duration encryption has_media idp_uuid
    instant_message_count is_direct is_idp_authenticated is_streaming license_count license_type local_alias
    media_node media_streams name parent_id participant_count participants presentation_id protocol proxy_node
    remote_address remote_alias remote_port resource_uri role rx_bandwidth service_tag service_type
    signalling_node system_location tag transcoding_enabled tx_bandwidth vendor
    node rx_bitrate rx_codec rx_fps rx_packet_loss rx_packets_lost rx_packets_received rx_resolution stream_id
    stream_type tx_bitrate tx_codec tx_fps tx_packet_loss tx_packets_lost tx_packets_sent tx_resolution
    details identifier instance level time_raised context event_type state workervm_address
"""
"""Columns that the History API is known to have; a later release may add some."""


def omitted(text: str) -> frozenset[str]:
    """The columns, separated by blanks or commas. Raises ValueError.

    One that is nearly the name of a known column is an error: taken as it is, a slip would leave names in the files.
    """
    known = KNOWN.split()
    names = frozenset(text.replace(",", " ").lower().split())
    for name in sorted(names):
        if not re.fullmatch("[a-z][a-z0-9_]*", name):
            raise ValueError(sentence("not-a-column-name", value=name))
        if name in NEEDED:
            raise ValueError(sentence("column-needed", value=name, why=NEEDED[name]))
        near = get_close_matches(name, known, cutoff=0.85)
        if name not in known and near:
            raise ValueError(sentence("not-a-column", value=name, nearest=near[0]))
    return names
