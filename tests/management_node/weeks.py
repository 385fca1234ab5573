"""Two months as a company of some hundred people has them: for the demo, and for a picture of the report.

Rooms with their weekly meetings, office hours, a location with a bad line, an all-hands that takes most of the
licenses, a project that ended. Names are ordinary; the ones that hurt are in calls.py.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

from .calls import Call, Record, conference, media_stream, participant, stamp

FIRST = (
    "Anna", "Bjørn", "Camilla", "David", "Eva", "Farid", "Grete", "Henrik", "Ingrid",
    "Jonas", "Kari", "Lars", "Maria", "Nina", "Ola", "Per", "Ranveig", "Sofie",
)  # fmt: skip
LAST = (
    "Aas", "Berg", "Dahl", "Eide", "Foss", "Haugen", "Iversen", "Krogh",
    "Lund", "Moen", "Nygaard", "Olsen", "Ruud", "Solberg", "Tveit", "Vik",
)  # fmt: skip
# Of each meeting: its room, weekdays (Monday 0), hour and minute of the start, minutes, people.
MEETINGS: list[tuple[str, str, int, int, int, int]] = [
    ("Daily operations", "01234", 8, 30, 20, 9),
    ("Platform team", "01234", 9, 0, 25, 7),
    ("Product weekly", "0", 10, 0, 55, 14),
    ("Sales Nordics", "0", 13, 0, 50, 16),
    ("Design review", "1", 13, 30, 80, 8),
    ("Architecture board", "1", 9, 30, 75, 10),
    ("Leadership", "1", 12, 0, 110, 8),
    ("Support handover", "01234", 15, 30, 15, 6),
    ("Customer success", "2", 10, 0, 55, 12),
    ("Hiring", "2", 14, 0, 45, 5),
    ("Finance", "3", 9, 0, 55, 7),
    ("Engineering forum", "3", 13, 0, 60, 28),
    ("Security", "3", 11, 0, 40, 6),
    ("Friday wrap-up", "4", 13, 0, 30, 22),
    ("Night shift handover", "0123456", 23, 45, 30, 3),
]
AD_HOC = ("Meeting room Bryggen", "Meeting room Fjord", "Meeting room Nidaros", "Project Polaris", "One to one")
ENDED = "Project Aurora"
ALL_HANDS = "All hands"
LOCATIONS = (("Oslo", 46), ("Bergen", 18), ("Trondheim", 14), ("Edge (home and guests)", 22))
BAD = {"Bergen": 0.19, "Edge (home and guests)": 0.05}
NODES = {
    "Oslo": ("10.20.1.11", "10.20.1.12"),
    "Bergen": ("10.20.2.11",),
    "Trondheim": ("10.20.3.11",),
    "Edge (home and guests)": ("10.20.9.11", "10.20.9.12"),
}
CLIENTS = (
    (
        "WebRTC",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36",
        30,
    ),
    ("WebRTC", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/142.0 Safari/537.36 Edg/142.0", 14),
    ("WebRTC", "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_7) AppleWebKit/605.1.15 Version/18.1 Safari/605.1.15", 8),
    ("WebRTC", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0", 4),
    ("WebRTC", "Pexip Infinity Connect/1.14.0 (macOS, 15.1)", 11),
    ("SIP", "Cisco/RoomOS 11.20.1.9", 15),
    ("SIP", "PolycomRealPresenceGroup500/6.2.2", 6),
    ("SIP", "Yealink VC800 63.345.0.20", 4),
    ("H323", "TANDBERG/529 (ce9.15.18)", 3),
    ("SIP", "Asterisk PBX 20.5.0", 3),
    ("API", "Pexip Room Control/3.2", 2),
)
REASONS = (
    ("Call disconnected", 62),
    ("Remote disconnect", 25),
    ("Conference terminated by a Host", 7),
    ("Timeout waiting for token refresh", 4),
    ("Media stream timed out", 2),
)


def weeks(seed: int, last: date, days: int = 60) -> Iterator[Call]:
    """The calls that began on these days up to `last` (UTC)."""
    for number in range(days):
        day = last - timedelta(days=days - 1 - number)
        rng = random.Random(f"{seed} {day}")
        for room, weekdays, hour, minute, lasted, people in MEETINGS:
            if str(day.weekday()) in weekdays:
                yield _meeting(rng, room, day, hour * 60 + minute, lasted, max(2, round(rng.gauss(people, people / 6))))
        if day.weekday() < 5:
            for _ in range(rng.randint(13, 19)):
                yield _meeting(
                    rng, rng.choice(AD_HOC), day, _office(rng), rng.choice((15, 25, 30, 45, 55)), rng.randint(2, 5)
                )
            for _ in range(rng.randint(4, 8)):
                yield _gateway(rng, day, _office(rng))
            if number < days // 2 and day.weekday() in (0, 2):
                yield _meeting(rng, ENDED, day, 11 * 60, 50, 9)
        if day.weekday() == 1 and 9 <= (last - day).days < 16:
            yield _meeting(rng, ALL_HANDS, day, 10 * 60, 52, 88, "lecture")


def _office(rng: random.Random) -> int:
    """A start within the day, minutes: most in the morning and after lunch."""
    hour = rng.choices(range(7, 18), (1, 5, 9, 10, 7, 3, 9, 8, 6, 2, 1))[0]
    return hour * 60 + rng.choice((0, 0, 0, 15, 30, 30, 45))


def _meeting(
    rng: random.Random, room: str, day: date, minute: int, lasted: int, people: int, service: str = "conference"
) -> Call:
    planned = datetime.combine(day, time()) + timedelta(minutes=minute)
    end = planned + timedelta(minutes=lasted, seconds=rng.gauss(0, 120), microseconds=rng.randrange(1000))
    stays = []
    for _ in range(people):
        joined = planned + timedelta(seconds=rng.gauss(20, 110), microseconds=rng.randrange(1000))
        left = end if rng.random() < 0.7 else joined + (end - joined) * rng.uniform(0.3, 1)
        stays.append((joined, left))
    held = _conference(rng, room, service, stays)
    return held, [_participant(rng, held, joined, left) for joined, left in stays]


def _gateway(rng: random.Random, day: date, minute: int) -> Call:
    """A call from a room system into a meeting elsewhere."""
    joined = datetime.combine(day, time()) + timedelta(minutes=minute, seconds=rng.randrange(90))
    left = joined + timedelta(seconds=rng.randrange(600, 3400), microseconds=rng.randrange(1000))
    held = _conference(rng, f"Teams gateway:{_uuid(rng)}", "gateway", [(joined, left)])
    there = _participant(rng, held, joined, left)
    teams = {"protocol": "TEAMS", "vendor": "Microsoft Teams", "call_direction": "out", "media_streams": []}
    free = {"license_count": 0, "license_type": "nolicense"}
    over = participant(held, **there | {"id": _uuid(rng)} | teams | free)
    return held, [there, over]


def _conference(rng: random.Random, room: str, service: str, stays: list[tuple[datetime, datetime]]) -> Record:
    start, end = min(joined for joined, _ in stays), max(left for _, left in stays)
    return conference(
        id=_uuid(rng),
        name=room,
        service_type=service,
        start_time=stamp(start),
        end_time=stamp(end),
        duration=int((end - start).total_seconds()),
    )


def _participant(rng: random.Random, held: Record, joined: datetime, left: datetime) -> Record:
    location = rng.choices([name for name, _ in LOCATIONS], [share for _, share in LOCATIONS])[0]
    protocol, vendor, _ = rng.choices(CLIENTS, [share for *_, share in CLIENTS])[0]
    name = f"{rng.choice(FIRST)} {rng.choice(LAST)}"
    bad = BAD.get(location, 0.02)
    seconds = int((left - joined).total_seconds())
    rated = seconds >= 20 and protocol != "API"
    quality = rng.choices(
        ("1_good", "2_ok", "3_bad", "4_terrible"), (1 - bad * 1.8, bad * 0.8, bad * 0.75, bad * 0.25)
    )[0]
    phone = vendor.startswith("Asterisk")
    history = _every_20_seconds(int(quality[0]), seconds // 20) if rated else []
    one = participant(
        held,
        bucketed_call_quality=[history.count(rating) for rating in range(5)] if history else None,
        call_quality=quality if rated else "0_unknown",
        call_uuid=_uuid(rng),
        disconnect_reason=rng.choices([reason for reason, _ in REASONS], [share for _, share in REASONS])[0],
        display_name=name,
        duration=seconds,
        end_time=stamp(left),
        has_media=protocol != "API",
        historic_call_quality=history or None,
        id=_uuid(rng),
        license_count=0 if protocol == "API" else 1,
        license_type="nolicense" if protocol == "API" else "audio" if phone else "port",
        local_alias=f"{held['name'].lower().replace(' ', '.')}@example.com",
        media_node=rng.choice(NODES[location]),
        protocol=protocol,
        remote_alias=f"{name.split()[0].lower()}@example.com",
        role=rng.choice(("chair", "guest")),
        start_time=stamp(joined),
        system_location=location,
        vendor=vendor,
    )
    for kind in ("audio",) if phone else ("audio", "video") if rated else ():
        loss = {"1_good": 0.3, "2_ok": 1.6, "3_bad": 5.0, "4_terrible": 14.0}[quality] * rng.uniform(0.2, 1.2)
        media_stream(one, id=rng.randrange(1, 2**31), rx_packet_loss=round(loss, 2), stream_type=kind)
    return one


def _every_20_seconds(rating: int, number: int) -> list[int]:
    """Good at first, then as the call was rated: a bad one is bad for most of it."""
    return [1] * (number // 4) + [rating] * (number - number // 4)


def _uuid(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
