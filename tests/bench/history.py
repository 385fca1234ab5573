"""The history that the benchmark's node serves: many distinct records, rendered once, cheaply.

A record is one of a hundred shapes (names, scripts, nulls, one to three media streams) with its
own ids and times filled in, all of fixed width: a hundred records in a row always take the same
number of bytes, so where a record starts in the file is arithmetic.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

PARTICIPANTS_EACH = 10
"""Participants in every conference."""
API = "/api/admin/history/v1"
USERNAME = "admin"
PASSWORD = "correct horse battery staple"

SHAPES = 100
SEPARATOR = b", "
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

_BITS = 120
_MASK = (1 << _BITS) - 1
_ODD = 0x9E3779B97F4A7C15F39CC0605CEDC9
_ODD_INVERSE = pow(_ODD, -1, 1 << _BITS)


def record_id(index: int, resource: str) -> str:
    """A UUID that looks random and that `index_of` can undo.

    Ids that came in order would make a ledger's index look cheaper than it is.
    """
    mixed = (2 * index + (resource == "conference") + 1) * _ODD & _MASK
    mixed = (mixed ^ mixed >> 60) * _ODD & _MASK
    digits = f"{mixed ^ mixed >> 60:030x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-a{digits[15:18]}-{digits[18:]}"


def index_of(text: str, resource: str) -> int | None:
    """Which record of the resource has this id; None when it can be none of them."""
    digits = text.replace("-", "")
    try:
        mixed = int(digits[:12] + digits[13:16] + digits[17:], 16)
    except ValueError:
        return None
    for _ in range(2):
        mixed = (mixed ^ mixed >> 60) * _ODD_INVERSE & _MASK
    index = (mixed - 1) // 2
    return index if record_id(index, resource) == text else None


@dataclass(frozen=True)
class Series:
    """One resource's records in order of `end_time`; times in microseconds since 1970, UTC."""

    resource: str
    count: int
    first: int
    step: int

    def end(self, index: int) -> int:
        return self.first + index * self.step

    def before(self, moment: int) -> int:
        """How many of the records ended before the moment."""
        return min(max(-((self.first - moment) // self.step), 0), self.count)


@dataclass(frozen=True)
class History:
    """A day's conferences and participants, all ended between 20 and 2 hours before `made`.

    A first collection within four hours of `made` finds them all in the day that it asks for.
    """

    participant_count: int
    made: datetime

    @property
    def participants(self) -> Series:
        span = timedelta(hours=18) // MICROSECOND
        # neither step nor start lets a time fall on a whole second, which has a shorter text
        start = (self.made.replace(microsecond=0) - timedelta(hours=20) - EPOCH) // MICROSECOND
        step = span // self.participant_count // 100 * 100
        return Series("participant", self.participant_count, start + 7, step)

    @property
    def conferences(self) -> Series:
        """Each ends just after the last of its participants left."""
        each = PARTICIPANTS_EACH
        people = self.participants
        first = people.end(each - 1) + 50
        return Series("conference", people.count // each, first, people.step * each)

    @property
    def span(self) -> tuple[str, str]:
        """A window with all of it, as --from and --to take it."""
        start = self.made - timedelta(hours=21)
        return start.isoformat(), self.made.isoformat()


@dataclass(frozen=True)
class Rendered:
    """A file of records, joined as they stand in a JSON list."""

    path: Path
    offsets: Sequence[int]
    """Where each shape's record starts within a hundred, and last the length of the hundred."""

    def start(self, index: int) -> int:
        block, shape = divmod(index, SHAPES)
        return block * self.offsets[SHAPES] + self.offsets[shape]

    def span(self, first: int, after: int) -> tuple[int, int]:
        """Where the records [first, after) lie, without the separator after the last."""
        start = self.start(first)
        return start, max(self.start(after) - len(SEPARATOR), start)


def render(history: History, folder: Path) -> dict[str, Rendered]:
    """Write every record of both resources; about 10 microseconds each."""
    return {
        "conference": _write(folder / "conference.json", _conferences(history)),
        "participant": _write(folder / "participant.json", _participants(history)),
    }


def _write(path: Path, records: Iterator[bytes]) -> Rendered:
    offsets = [0]
    with path.open("wb", buffering=1 << 20) as file:
        for record in records:
            file.write(record)
            file.write(SEPARATOR)
            if len(offsets) <= SHAPES:
                offsets.append(offsets[-1] + len(record) + len(SEPARATOR))
    return Rendered(path, offsets)


def _participants(history: History) -> Iterator[bytes]:
    series = history.participants
    shapes = [_shape(participant(n)) for n in range(SHAPES)]
    for index in range(series.count):
        fill, seconds = shapes[index % SHAPES]
        end = series.end(index)
        yield fill % {
            b"id": record_id(index, "participant").encode(),
            b"conference": record_id(index // PARTICIPANTS_EACH, "conference").encode(),
            b"start": iso(end - seconds * 1_000_000),
            b"end": iso(end),
        }


def _conferences(history: History) -> Iterator[bytes]:
    series = history.conferences
    shapes = [_shape(conference(n)) for n in range(SHAPES)]
    for index in range(series.count):
        fill, seconds = shapes[index % SHAPES]
        end = series.end(index)
        listed = range(index * PARTICIPANTS_EACH, (index + 1) * PARTICIPANTS_EACH)
        yield fill % {
            b"id": record_id(index, "conference").encode(),
            b"participants": b", ".join(
                b'"%b/participant/%b/"' % (API.encode(), record_id(n, "participant").encode()) for n in listed
            ),
            b"start": iso(end - seconds * 1_000_000),
            b"end": iso(end),
        }


def iso(moment: int) -> bytes:
    """The API's way to write a time, always with its six decimals here."""
    return (EPOCH + moment * MICROSECOND).strftime("%Y-%m-%dT%H:%M:%S.%f").encode()


def _shape(record: dict[str, object]) -> tuple[bytes, int]:
    """A record as Tastypie serialises it, ready for `%`, and its duration in seconds."""
    text = json.dumps(record, sort_keys=True, ensure_ascii=False).replace("%", "%%")
    for name in ("id", "conference", "start", "end"):
        text = text.replace(f"<{name}>", f"%({name})b")
    text = text.replace('"<participants>"', "%(participants)b")
    duration = record["duration"]
    assert isinstance(duration, int)
    return text.encode(), duration


def conference(shape: int) -> dict[str, object]:
    """A conference with <places> for what differs between two of the same shape."""
    return {
        "direct_media_available": False,
        "duration": 600 + 31 * shape,
        "end_time": "<end>",
        "id": "<id>",
        "instant_message_count": shape % 4,
        "name": f"{_NAMES[shape % len(_NAMES)]} {shape}",
        "participant_count": PARTICIPANTS_EACH,
        "participants": ["<participants>"],
        "resource_uri": f"{API}/conference/<id>/",
        "service_type": "conference" if shape % 5 else "gateway",
        "start_time": "<start>",
        "tag": "" if shape % 3 else "sales, north",
    }


def participant(shape: int) -> dict[str, object]:
    """A participant with <places> for what differs between two of the same shape."""
    chance = random.Random(shape)
    kinds = ("audio", "video", "presentation")[: (2, 2, 3, 2, 1)[shape % 5]]
    return {
        "av_id": f"{chance.getrandbits(128):032x}",
        "bandwidth": 1920,
        "call_direction": "out" if shape % 7 == 0 else "in",
        "call_quality": ("1_good", "2_ok", "3_bad", "0_unknown")[shape % 4],
        "call_tag": "",
        "call_uuid": _uuid(chance),
        "conference": f"{API}/conference/<conference>/",
        "conference_name": f"{_NAMES[shape // 10 % len(_NAMES)]} {shape // 10}",
        "conversation_id": _uuid(chance),
        "disconnect_reason": "Call disconnected" if shape % 3 else "Conference terminated",
        "display_name": _NAMES[shape % len(_NAMES)],
        "duration": 300 + 29 * shape,
        "encryption": "On",
        "end_time": "<end>",
        "has_media": True,
        "id": "<id>",
        "idp_uuid": "" if shape % 4 else _uuid(chance),
        "is_direct": False,
        "is_idp_authenticated": shape % 4 == 0,
        "is_streaming": False,
        "license_count": 1,
        "license_type": "port",
        "local_alias": f"room-{shape}@example.com",
        "media_node": "10.44.7.21",
        "media_streams": [_stream(number, kind, chance) for number, kind in enumerate(kinds)],
        "parent_id": None if shape % 9 == 0 else "",
        "presentation_id": None,
        "protocol": ("WebRTC", "SIP", "H323", "API", "TEAMS")[shape % 5],
        "proxy_node": None,
        "remote_address": f"198.51.100.{shape}",
        "remote_alias": f"sip:user{shape}@example.com" if shape % 6 else "+4722334455",
        "remote_port": chance.randrange(1024, 65536),
        "resource_uri": f"{API}/participant/<id>/",
        "role": "chair" if shape % 10 == 0 else "guest",
        "rx_bandwidth": 1536,
        "service_tag": "",
        "service_type": "conference",
        "signalling_node": "10.44.7.21",
        "start_time": "<start>",
        "system_location": "Oslo, Nydalen" if shape % 2 else "Bergen",
        "transcoding_enabled": True,
        "tx_bandwidth": 1536,
        "vendor": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like"
        " Gecko) Chrome/131.0.0.0 Safari/537.36"
        if shape % 3
        else "Pexip Infinity Connect/1.11.0-74001 (Windows NT 10.0; Win64; x64)",
    }


def _stream(number: int, kind: str, chance: random.Random) -> dict[str, object]:
    audio = kind == "audio"
    return {
        "end_time": "<end>",
        "id": chance.randrange(10**7, 10**8),
        "node": "10.44.7.21",
        "participant": f"{API}/participant/<id>/",
        "rx_bitrate": 64 if audio else chance.randrange(300, 2000),
        "rx_codec": "opus" if audio else "H264",
        "rx_fps": 0.0 if audio else 29.97,
        "rx_packet_loss": chance.randrange(400) / 100,
        "rx_packets_lost": chance.randrange(900),
        "rx_packets_received": chance.randrange(10**5, 10**6),
        "rx_resolution": "" if audio else "1280x720",
        "start_time": "<start>",
        "stream_id": str(number),
        "stream_type": kind,
        "tx_bitrate": 64 if audio else chance.randrange(300, 2000),
        "tx_codec": "opus" if audio else "H264",
        "tx_fps": 0.0 if audio else 30.0,
        "tx_packet_loss": 0.0,
        "tx_packets_lost": 0,
        "tx_packets_sent": chance.randrange(10**5, 10**6),
        "tx_resolution": "" if audio else "1280x720",
    }


def _uuid(chance: random.Random) -> str:
    digits = f"{chance.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


_NAMES = (
    "Kari Nordmann",
    "Bjørn Ærlig",
    "李小龍",
    "محمد الفارسي",
    "Meeting room 4, east wing",
    'Jean "JJ" Dupont',
    "Anna 😀",
    "=1+1",
    "+47 22 33 44 55",
    "",
    "Two\nlines",
)
