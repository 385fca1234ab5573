"""The page against plain Python on random histories: five zones at their changes of clocks, and rows of every kind."""

from __future__ import annotations

import csv
import math
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pexip_history.report import Facts
from tests.report_oracle import Oracle, Row
from tests.report_reader import Reader, report

PLACES = {  # where the clocks change, by an hour or half of one, at night or at midnight itself
    "Europe/Oslo": date(2026, 10, 25),
    "America/St_Johns": date(2026, 3, 8),
    "Australia/Lord_Howe": date(2026, 4, 5),
    "America/Santiago": date(2026, 9, 6),
    "Africa/Cairo": date(2026, 4, 24),
}
OWNED = {"port": 10, "audio": 3}
CALLS = 140
PROTOCOLS = ["SIP", "sip", "WebRTC", "webrtc", "H323", "RTMP", "API", "api", "API video", "BACKPLANE"]


@dataclass
class Case:
    page: Reader
    oracle: Oracle
    ratings: dict[str, list[str]]
    """Of each bad call, by 20 seconds."""
    streams: list[Row]


@pytest.fixture(scope="module", params=PLACES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    zone, change = ZoneInfo(request.param), PLACES[request.param]
    rng = random.Random(request.param)
    first, last = change - timedelta(days=9), change + timedelta(days=6)
    began = datetime.combine(first - timedelta(days=20), time(), zone).astimezone(UTC)
    held, there = history(rng, began, (last - first).days + 24)
    data = tmp_path_factory.mktemp("oracle") / "data"
    data.mkdir()
    write(data / "pexHistoryConf.csv", held)
    write(data / "pexHistoryPart.csv", there)
    bad = {row["id"]: row["start_time"] for row in there if row["call_quality"] in ("3_bad", "4_terrible")}
    ratings = {ident: rng.choices(["0", "1", "1", "2", "3", "4", "null", "17"], k=rng.randrange(300)) for ident in bad}
    ratings |= {ident: ["1", "2"] for ident in [*bad][:5]}
    rows = [
        {
            "participant_id": ident,
            "start_time": start,
            "historic_call_quality": f"[{rng.choice([',', ', ']).join(marks)}]",
        }
        for ident, start, marks in zip(bad, bad.values(), ratings.values(), strict=True)
    ]
    broken = {"start_time": "", "historic_call_quality": "[4,4"}
    more = [{"participant_id": "nobody's", **broken}, {"participant_id": f"{there[0]['id']}x", **broken}]
    write(data / "pexHistoryQuality.csv", [*rows, rows[-1], *more])
    streams = [
        {
            "participant_id": row["id"],
            "id": f"{kind}",
            "end_time": row["end_time"],
            "stream_type": ("audio", "video")[kind],
            "rx_packet_loss": rng.choice(["0.0", "0.3", "1.0", "1.25", "12.5", "1e308", ""]),
            "tx_packet_loss": rng.choice(["0", "0.1", "100.0", ""]),
        }
        for row in {row["id"]: row for row in there}.values()
        for kind in range(rng.randrange(3))
    ]
    write(data / "pexHistoryStream.csv", streams)
    start = datetime.combine(first, time(), zone).astimezone(UTC)
    covered = [
        (began, start + timedelta(days=2, hours=5, minutes=7)),
        (start + timedelta(days=3, hours=1, seconds=13), start + timedelta(days=90)),
    ]
    made = start + timedelta(days=60)
    facts = Facts("1", coverage=covered)
    page = report(data, first=first, last=last, zone=zone, facts=facts, now=made, licenses=OWNED)
    return Case(page, Oracle(held, there, first, last, zone, covered), ratings, streams)


def history(rng: random.Random, began: datetime, days: int) -> tuple[list[Row], list[Row]]:
    """Calls of all kinds from then on, bunched so that several are there at once."""
    held: list[Row] = []
    there: list[Row] = []
    for number in range(CALLS):
        start = began + timedelta(days=rng.randrange(days), hours=rng.choice([0, 1, 2, 9, 10, 10, 23]))
        start += timedelta(seconds=rng.randrange(3600), microseconds=rng.choice([0, 0, 250_000]))
        end = start + timedelta(seconds=rng.choice([0, 30, 1800, 5400, 5400, 100_000]))
        service = rng.choice(["conference"] * 5 + ["lecture", "gateway", "two_stage_dialing", "test_call", "ivr"])
        room = rng.choice(["Fjord", " Fjord", "\u00a0Fjord\u2003", "fjord", "Bre", ""])
        tag = rng.choice(["acme", "acme ", "Acme", ""])
        ident = f"c{number}"
        held.append({"id": ident, **times(rng, start, end), "name": room, "service_type": service, "tag": tag})
        for seat in range(rng.randrange(6)):
            joined = start + timedelta(seconds=rng.randrange(600))
            left = joined + timedelta(seconds=rng.choice([0, 1, 600, 3600, 7200, 200_000]))
            there.append(
                {
                    "id": f"p{number}.{seat}",
                    "conference": f"/c/{ident}/",
                    **times(rng, joined, left),
                    "conference_name": room,
                    "service_type": service,
                    "service_tag": tag,
                    "protocol": rng.choice(PROTOCOLS),
                    "license_type": rng.choice(["port", "port", "audio"]),
                    "license_count": rng.choice(["1", "1", "2", "0", ""]),
                    "call_quality": rng.choice(["1_good"] * 4 + ["2_ok", "3_bad", "4_terrible", "0_unknown", ""]),
                    "disconnect_reason": rng.choice(["Call disconnected", "call disconnected", "Timeout", ""]),
                    "system_location": rng.choice(["Oslo"] * 4 + ["Bergen", "Bergen", ""]),
                }
            )
    there += [dict(row) | {"service_tag": "not this one"} for row in rng.sample(there, 20)]  # there twice
    return held, there


def times(rng: random.Random, start: datetime, end: datetime) -> Row:
    """Start, end and duration as cells: now and then reversed, missing, or not a time; and in several forms."""

    def text(at: datetime) -> str:
        form = rng.randrange(6)
        if form == 0:
            return at.isoformat().replace("+00:00", "Z")
        if form == 1:
            return at.astimezone(ZoneInfo("Asia/Kathmandu")).isoformat()
        return at.replace(tzinfo=None).isoformat()

    if rng.random() < 0.04:
        start, end = end, start
    row = {
        "start_time": text(start),
        "end_time": text(end),
        "duration": f"{max(int((end - start).total_seconds()), 0)}",
    }
    if rng.random() < 0.05:
        row[rng.choice(["start_time", "end_time"])] = rng.choice(["", "11/23/2026 8:59:31 AM", "never"])
    return row


def write(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_totals(case: Case) -> None:
    (caption,) = [name for name in case.page.tables if name.startswith("Totals")]
    assert caption == "Totals", "what is not wholly covered is compared with nothing"
    assert [row[1] for row in case.page.table(caption)] == case.oracle.totals()


def test_what_began_by_day(case: Case) -> None:
    found = [(row[0][:10], int(row[1]), int(row[2])) for row in case.page.table("Conferences and participants by day")]
    calls, people = ([case.oracle.day(stay.start) for stay in some] for some in (case.oracle.calls, case.oracle.people))
    assert found == [(f"{day}", calls.count(day), people.count(day)) for day in case.oracle.days]


@pytest.mark.parametrize("measure", ["Participants", "Conferences", "Licenses", "Licenses, port", "Licenses, audio"])
def test_peaks_by_day_and_in_all(case: Case, measure: str) -> None:
    wanted = case.oracle.peaks(measure, case.oracle.day)
    by_day = [wanted.get(day, (0, "", 0)) for day in case.oracle.days]
    assert peaks(row[1:4] for row in case.page.table(f"{measure}: peak by day")) == by_day
    (highest,) = peaks(row[1:4] for row in case.page.table("The highest of the period") if row[0] == measure)
    assert highest == case.oracle.peaks(measure, lambda at: "all")["all"]
    (three,) = [row[1:] for row in case.page.table("Peaks of the days") if row[0] == measure]
    most = sorted((peak for peak, _, _ in by_day), reverse=True)
    # all 16 days are covered, at least in part; by nearest rank the 95th percentile of 16 is the highest
    assert three == [*map(str, most[:3]), str(sorted(most)[math.ceil(len(most) * 0.95) - 1])]


def peaks(rows: Iterable[list[str]]) -> list[tuple[int, str, object]]:
    return [(int(most), at, pytest.approx(seconds(near), abs=0.5)) for most, at, near in rows]


def seconds(clock: str) -> int:
    hours, minutes, rest = map(int, clock.split(":"))
    return hours * 3600 + minutes * 60 + rest


def test_averages_are_over_what_is_covered_and_an_hour_that_no_clock_showed_has_none(case: Case) -> None:
    wanted = case.oracle.means()
    for hour, row in enumerate(case.page.table("Participants at the same time, on the average")):
        for weekday, cell in enumerate(row[1:], 1):
            mean = wanted.get((weekday, hour))
            assert (cell == "–") == (mean is None), (weekday, hour)
            assert mean is None or float(cell) == pytest.approx(mean, abs=0.0501)


def test_what_is_not_covered_is_said(case: Case) -> None:
    (card,) = [text for text in case.page.texts if text.endswith(" of 16 days")]
    assert 14 < float(card.split()[0]) < 16
    assert "Not covered: " in case.page.text
    first = case.oracle.days[2]
    marked = [row[0] for row in case.page.table("Conferences and participants by day") if "covered" in row[0]]
    assert marked[0].startswith(f"{first}")
    assert len(marked) == 2


def test_service_tags(case: Case) -> None:
    found = {row[0]: [int(cell) for cell in row[1:]] for row in case.page.table("By service tag")}
    assert found == case.oracle.tags()


def test_above_what_is_owned(case: Case) -> None:
    found = [
        (row[0], int(row[2]), seconds(row[3]), int(row[4]), int(row[5]))
        for row in case.page.table("Above what is owned")
    ]
    wanted = []
    for kind, owned in OWNED.items():
        for number in (owned, math.ceil(owned * 1.1), math.floor(owned * 0.9)):
            lasted, days, conferences = case.oracle.above(kind, number)
            wanted.append((kind, number, round(lasted), days, conferences))
    assert found == wanted


def test_rooms_quality_reasons_and_what_was_used(case: Case) -> None:
    found = {row[0]: [int(cell) for cell in row[1:]] for row in case.page.table("Rooms by minutes")}
    assert found == case.oracle.rooms()
    each = [sum(int(row[place]) for row in case.page.table("Call quality by day")) for place in range(1, 6)]
    counts = case.oracle.count(lambda stay: stay.row["call_quality"] or "0_unknown")
    assert each == [counts.get(name, 0) for name in ("1_good", "2_ok", "3_bad", "4_terrible", "0_unknown")]
    reasons = {row[0].lower(): int(row[1]) for row in case.page.table("Disconnect reasons")}
    assert reasons == case.oracle.count(lambda stay: stay.row["disconnect_reason"].lower() or "none given")
    for column, caption in (
        ("protocol", "protocol"),
        ("system_location", "location"),
        ("service_type", "service type"),
    ):
        table = case.page.table(f"Participants by {caption}")
        used = {row[0].lower(): [int(row[1]), int(row[3])] for row in table}
        assert (used, len(used)) == (case.oracle.used(column), len(table))
    bad = case.page.table("Locations by share of bad or terrible calls")
    assert {row[0]: [int(row[1]), int(row[2])] for row in bad} == case.oracle.bad_places()
    shares = [float(row[3].split()[0]) for row in bad]
    assert shares == sorted(shares, reverse=True)


def test_packet_loss(case: Case) -> None:
    found = {(row[0], row[1]): row[2:] for row in case.page.table("Mean packet loss by location and media")}
    assert found == case.oracle.loss(case.streams)


def test_peaks_by_location(case: Case) -> None:
    for name, most, at, licenses in case.page.table("The peaks of each location"):
        mine = [
            stay for stay in case.oracle.there
            if stay.person and (stay.row["system_location"] or "not told") == name
        ]  # fmt: skip
        levels = list(case.oracle.levels([(stay, 1) for stay in mine]))
        highest = max(level for _, _, level in levels)
        first = next(start for start, _, level in levels if level == highest)
        held = max(level for _, _, level in case.oracle.levels([(stay, stay.licenses) for stay in mine]))
        assert [int(most), at, int(licenses)] == [
            highest, f"{first.astimezone(case.oracle.zone):%Y-%m-%d %H:%M}", held
        ]  # fmt: skip


def test_months_of_the_whole_history(case: Case) -> None:
    found = {row[0]: [int(cell) for cell in row[1:4]] for row in case.page.table("By month")}
    assert found == {name: [*counts[:2], round(counts[2])] for name, counts in case.oracle.months().items()}


def test_months_are_compared_with_months_and_partial_ones_by_covered_day(case: Case) -> None:
    found = {row[0]: row[-3:-1] for row in case.page.table("By month")}
    assert found == case.oracle.changes()
    assert any("%" in change for row in found.values() for change in row)


def test_when_bad_calls_were_bad(case: Case) -> None:
    hours, calls = case.oracle.bad_moments(case.ratings)
    found = case.page.table("Bad minutes of bad calls by hour of the day")
    assert [int(row[0][:2]) for row in found] == sorted(hours)
    for row in found:
        rated, bad = hours[int(row[0][:2])]
        assert [float(cell) for cell in row[1:3]] == [pytest.approx(many / 3, abs=0.051) for many in (bad, rated)]
    listed = [(row[0], *map(seconds, row[3:])) for row in case.page.table("Calls with the most bad minutes")]
    assert [bad for _, bad, *_ in listed] == sorted((bad for _, bad, *_ in calls.elements()), reverse=True)[:15]
    assert not Counter(listed) - calls
    every, bad = map(sum, zip(*hours.values(), strict=True))
    assert f"{bad / 3:,.0f} of their {every / 3:,.0f} minutes were bad or terrible" in case.page.text


def test_rows_that_do_not_count_are_counted(case: Case) -> None:
    assert "pexHistoryPart.csv: 20 rows there twice; each id counts once." in case.page.text
    assert [remark for remark in case.oracle.remarks() if remark not in case.page.text] == []
