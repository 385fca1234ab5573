"""The report: its numbers against a computation of their own in pandas, and what it makes of odd archives."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest

from pexip_history.errors import CollectorError
from pexip_history.report import Facts, choose_period, concurrency, write_report
from tests.conftest import ROOT
from tests.management_node.calls import Call, calls, conference, participant
from tests.report_reader import NOW, OSLO, Reader, report, write_archive, write_csv

FIRST, LAST = date(2026, 10, 20), date(2026, 10, 27)  # the clocks go back on the 25th


def mixed(day: date) -> Iterator[Call]:
    """A day's calls; some rooms' names are alike save for the guard, some are of a Virtual Reception."""
    yield from calls(seed=7, day=day, conferences=60)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("report") / "data"
    days = [FIRST + timedelta(days=n) for n in range(-8, (LAST - FIRST).days + 3)]
    write_archive(data, (each for day in days for each in mixed(day)))
    return data


@pytest.fixture(scope="module")
def page(archive: Path) -> Reader:
    return report(archive, first=FIRST, last=LAST)


@pytest.fixture(scope="module")
def frames(archive: Path) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Conferences and participants that count, with start and end in UTC and the local day of the start."""

    def read(name: str) -> pandas.DataFrame:
        frame = pandas.read_csv(archive / name, dtype=str, keep_default_na=False)
        for column in ("start", "end"):
            frame[column] = pandas.to_datetime(frame[f"{column}_time"], format="ISO8601", utc=True)
        frame["day"] = frame["start"].dt.tz_convert("Europe/Oslo").dt.date
        frame["seconds"] = pandas.to_numeric(frame["duration"])
        room = "name" if "name" in frame else "conference_name"
        frame[room] = frame[room].str.strip()
        return frame

    held, there = read("pexHistoryConf.csv"), read("pexHistoryPart.csv")
    there["licenses"] = pandas.to_numeric(there["license_count"]).where(there["protocol"] != "API", 0)
    there["person"] = (there["protocol"] != "API") & (there["service_type"] != "two_stage_dialing")
    zero = datetime.combine(FIRST, time(), OSLO), datetime.combine(LAST + timedelta(days=1), time(), OSLO)
    clipped = there["end"].clip(*zero) - there["start"].clip(*zero)
    there["inside"] = clipped.dt.total_seconds()
    return held[held["service_type"] != "two_stage_dialing"], there


@pytest.fixture(scope="module")
def period(frames: tuple[pandas.DataFrame, pandas.DataFrame]) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """The same, of those that began in the period; participants alone that count as such."""
    held, there = frames
    return held[held["day"].between(FIRST, LAST)], there[there["day"].between(FIRST, LAST) & there["person"]]


def levels(frame: pandas.DataFrame, weight: str | None = None) -> tuple[Any, Any, Any]:
    """When each stretch begins (local) and how long it is (seconds), and how many were there in it."""
    frame = frame[frame["end"] > frame["start"]]
    start, end = (frame[name].astype("datetime64[us, UTC]").astype("int64").to_numpy() for name in ("start", "end"))
    hours = pandas.date_range(
        datetime.combine(FIRST, time(), OSLO).astimezone(UTC),
        datetime.combine(LAST + timedelta(days=1), time(), OSLO).astimezone(UTC),
        freq="h",
    )
    edges = hours.as_unit("us").astype("int64").to_numpy()
    moments = numpy.unique(numpy.concatenate([start, end, edges]))
    moments = moments[(moments >= edges[0]) & (moments <= edges[-1])]
    weights = frame[weight].to_numpy() if weight else numpy.ones(len(frame), dtype=int)
    there = (start[None, :] <= moments[:-1, None]) & (moments[:-1, None] < end[None, :])
    local = pandas.to_datetime(moments[:-1], unit="us", utc=True).tz_convert("Europe/Oslo")
    return local, numpy.diff(moments) / 1e6, there @ weights


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Participants", "Conferences", "Licenses", "Licenses, port", "Licenses, audio"])
def test_peaks_their_minutes_and_how_long_they_stayed_are_those_of_pandas(
    page: Reader, frames: tuple[pandas.DataFrame, pandas.DataFrame], name: str
) -> None:
    held, there = frames
    kind = name.partition(", ")[2]
    found = {
        "Participants": lambda: levels(there[there["person"]]),
        "Conferences": lambda: levels(held),
        "Licenses": lambda: levels(there, "licenses"),
    }.get(name, lambda: levels(there[there["license_type"] == kind], "licenses"))
    local, lasted, level = found()
    wanted = []
    for day in (FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)):
        mine = local.date == day
        most = level[mine].max()
        at = local[mine][level[mine] == most][0]
        near = lasted[mine][level[mine] * 10 >= most * 9].sum()
        wanted.append([f"{day} {day:%a}", str(most), f"{at:%Y-%m-%d %H:%M}", clock(near)])
    assert page.table(f"{name}: peak by day") == wanted
    (of_all,) = [row for row in page.table("The highest of the period") if row[0] == name]
    most = level.max()
    near = lasted[level * 10 >= most * 9].sum()
    assert of_all[1:4] == [str(most), f"{local[level == most][0]:%Y-%m-%d %H:%M}", clock(near)]


def clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def test_the_averages_by_hour_are_those_of_pandas_also_where_the_clocks_go_back(
    page: Reader, frames: tuple[pandas.DataFrame, pandas.DataFrame]
) -> None:
    local, lasted, level = levels(frames[1][frames[1]["person"]])
    frame = pandas.DataFrame(
        {"weekday": local.day_of_week, "hour": local.hour, "lasted": lasted, "level": level * lasted}
    )
    sums = frame.groupby(["hour", "weekday"])[["lasted", "level"]].sum()
    wanted = (sums["level"] / sums["lasted"]).unstack()
    assert sums["lasted"][(2, 6)] == 7200, "an hour there twice"
    for hour, row in enumerate(page.table("Participants at the same time, on the average")):
        assert [float(cell) for cell in row[1:]] == pytest.approx(list(wanted.loc[hour]), abs=0.051)


def test_totals_and_days_are_those_of_pandas(
    page: Reader, period: tuple[pandas.DataFrame, pandas.DataFrame], frames: tuple[pandas.DataFrame, pandas.DataFrame]
) -> None:
    held, people = period
    rows = page.table("Conferences and participants by day")
    assert [(row[0][:10], int(row[1]), int(row[2])) for row in rows] == [
        (f"{day}", int((held["day"] == day).sum()), int((people["day"] == day).sum()))
        for day in (FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1))
    ]
    totals = page.table(f"Totals, against Mon 12 Oct 2026 to {FIRST - timedelta(days=1):%a %d %b %Y}")
    everybody = frames[1][frames[1]["person"]]
    hours = round(everybody["inside"].sum() / 3600)
    mean = f"{people['seconds'].mean() / 60:.1f}"
    assert [row[1] for row in totals[:4]] == [f"{len(held)}", f"{len(people)}", f"{hours}", mean]
    before = frames[0]["day"].between(date(2026, 10, 12), date(2026, 10, 19))
    assert totals[0][2] == f"{before.sum()}"


def test_quality_reasons_rooms_and_what_was_used_are_those_of_pandas(
    page: Reader, period: tuple[pandas.DataFrame, pandas.DataFrame], frames: tuple[pandas.DataFrame, pandas.DataFrame]
) -> None:
    held, people = period
    counts = people["call_quality"].value_counts()
    sums = numpy.array([[int(cell) for cell in row[1:6]] for row in page.table("Call quality by day")]).sum(axis=0)
    assert list(sums) == [counts[name] for name in ("1_good", "2_ok", "3_bad", "4_terrible", "0_unknown")]

    rated = people[people["call_quality"] != "0_unknown"]
    bad = rated["call_quality"].isin(["3_bad", "4_terrible"])
    by = pandas.DataFrame({"place": rated["system_location"], "bad": bad}).groupby("place")["bad"].agg(["sum", "count"])
    wanted = {name: [str(row["sum"]), str(row["count"])] for name, row in by.iterrows()}
    assert {row[0]: row[1:3] for row in page.table("Locations by share of bad or terrible calls")} == wanted

    reasons = {
        " ".join(name.split()) or "none given": str(n) for name, n in people["disconnect_reason"].value_counts().items()
    }
    assert {row[0]: row[1] for row in page.table("Disconnect reasons")} == reasons
    for column, caption in (
        ("protocol", "protocol"),
        ("system_location", "location"),
        ("service_type", "service type"),
    ):
        each = people.groupby(column)["seconds"].agg(["count", "sum"])
        wanted = {str(name): [str(row["count"]), str(row["sum"] // 60)] for name, row in each.iterrows()}
        assert {row[0]: [row[1], row[3]] for row in page.table(f"Participants by {caption}")} == wanted

    everybody = frames[1][frames[1]["person"] & (frames[1]["inside"] > 0)]
    rooms = everybody[everybody["service_type"].isin(["conference", "lecture"]) & (everybody["conference_name"] != "")]
    minutes = rooms.groupby("conference_name")["inside"].sum().sort_values(ascending=False) // 60
    (caption,) = [name for name in page.tables if re.fullmatch(r"The 15 of \d+ rooms with the most minutes", name)]
    assert [int(row[1]) for row in page.table(caption)] == list(minutes[:15])
    meetings = held[held["service_type"].isin(["conference", "lecture"]) & (held["name"] != "")]
    assert int(caption.split()[3]) == len(set(meetings["name"]) | set(rooms["conference_name"]))


def test_months_hold_all_that_the_history_has(page: Reader, frames: tuple[pandas.DataFrame, pandas.DataFrame]) -> None:
    held, there = frames
    people = there[there["person"]]
    months = pandas.to_datetime(people["day"]).dt.strftime("%Y-%m")
    rows = page.table("By month")
    assert {row[0]: int(row[2]) for row in rows} == dict(months.value_counts())
    assert sum(int(row[1]) for row in rows) == len(held)


def test_packet_loss_is_that_of_the_streams_of_the_period(
    page: Reader, archive: Path, period: tuple[pandas.DataFrame, pandas.DataFrame]
) -> None:
    streams = pandas.read_csv(archive / "pexHistoryStream.csv", dtype={"participant_id": str})
    both = streams.merge(period[1][["id", "system_location"]], left_on="participant_id", right_on="id")
    both["lost"] = both[["rx_packet_loss", "tx_packet_loss"]].max(axis=1)
    both = both[both["lost"].notna()]
    wanted = {}
    for (location, kind), each in both.groupby(["system_location", "stream_type"]):
        wanted[(location, kind)] = [str(len(each)), f"{each['lost'].mean():.2f} %"]
    found = {(row[0], row[1]): row[2:4] for row in page.table("Mean packet loss by location and media")}
    assert found == wanted


# --- Small archives -------------------------------------------------------------------------------------------


def one(room: str, *stays: tuple[str, str], **fields: Any) -> Call:
    """A call with a participant for each stay, (start, end) on 2026-11-10 unless it names a day."""
    spans = [tuple(text if "T" in text else f"2026-11-10T{text}" for text in stay) for stay in stays]
    held = conference(name=room, start_time=min(s for s, _ in spans), end_time=max(e for _, e in spans))
    present = [participant(held, start_time=s, end_time=e, duration=length(s, e), **fields) for s, e in spans]
    return held, present


def length(start: str, end: str) -> int:
    return int((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())


def test_who_leaves_as_another_joins_is_not_counted_together_and_no_length_is_never_there(tmp_path: Path) -> None:
    stays = [("09:00:00", "10:00:00"), ("10:00:00", "11:00:00"), ("09:30:00", "09:30:00")]
    write_archive(tmp_path / "a", [one("R", stays[n % 3]) for n in range(300)])
    found = report(tmp_path / "a", zone=OSLO)
    rows = {row[0]: row[1:4] for row in found.table("The highest of the period")}
    assert rows["Participants"] == rows["Conferences"] == ["100", "2026-11-10 10:00", "2:00:00"]
    days = found.table("Conferences and participants by day")
    assert [row[1:] for row in days if row[0].startswith("2026-11-10")] == [["300", "300"]]


def test_a_call_over_midnight_and_one_over_weeks_are_there_on_each_day_and_begin_once(tmp_path: Path) -> None:
    write_archive(
        tmp_path / "a", [one("R", ("2026-11-01T12:00:00", "2026-11-20T12:00:00"), ("23:50:00", "2026-11-11T00:10:00"))]
    )
    found = report(tmp_path / "a", first=date(2026, 10, 31), last=date(2026, 11, 21), zone=OSLO)
    peaks = {row[0][:10]: row[1] for row in found.table("Participants: peak by day")}
    assert peaks["2026-10-31"] == "0"
    assert peaks["2026-11-21"] == "0"
    assert [peaks[f"2026-11-{day:02}"] for day in range(1, 21)] == ["1"] * 10 + ["2"] + ["1"] * 9  # 00:50 in Oslo
    began = {row[0][:10]: row[2] for row in found.table("Conferences and participants by day")}
    assert [day for day, many in began.items() if many != "0"] == ["2026-11-01", "2026-11-11"]


def test_a_sum_that_is_not_in_the_order_of_time_makes_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Reversed:
        def __init__(self, db: Any) -> None:
            self.db = db

        def execute(self, sql: str) -> None:
            self.db.execute(sql.replace("ORDER BY t)", "ORDER BY t DESC)"))

    hold = concurrency._hold  # private: DuckDB has never been seen to change the order
    monkeypatch.setattr(concurrency, "_hold", lambda db, *rest: hold(Reversed(db), *rest))
    write_archive(tmp_path, [one("A", ("2026-11-23T10:00:00", "2026-11-23T11:00:00"))])
    with pytest.raises(CollectorError, match="not in the order of time"):
        report(tmp_path)


def test_a_conference_nobody_was_in_counts_as_one(tmp_path: Path) -> None:
    held = conference(name="Empty", start_time="2026-11-10T09:00:00", end_time="2026-11-10T09:10:00")
    write_archive(tmp_path / "a", [(held, [])])
    found = report(tmp_path / "a")
    assert {row[0]: row[1] for row in found.table("The highest of the period")} == {"Conferences": "1"}
    assert "there is no pexHistoryPart.csv" in found.text


@pytest.mark.parametrize("content", [None, "", "header"])
def test_an_archive_without_a_record_gives_a_page_that_says_so(tmp_path: Path, content: str | None) -> None:
    data = tmp_path / "a"
    data.mkdir()
    if content is not None:
        (data / "pexHistoryConf.csv").write_text("id,start_time,end_time\r\n" if content else "")
    found = report(data)
    assert "holds no record yet" in found.text
    assert found.about("Last record") == "none"


def test_one_row_is_a_whole_report(tmp_path: Path) -> None:
    write_archive(tmp_path / "a", [one("R", ("09:00:00", "10:00:00"))])
    found = report(tmp_path / "a")
    assert found.table("Rooms by minutes") == [["R", "60", "1", "1"]]


def test_a_missing_column_leaves_its_part_out_and_says_so(tmp_path: Path) -> None:
    data = tmp_path / "a"
    data.mkdir()
    held, present = one("R", ("09:00:00", "10:00:00"))
    write_csv(data / "pexHistoryConf.csv", [{name: held[name] for name in ("id", "start_time", "end_time")}])
    write_csv(
        data / "pexHistoryPart.csv", [{name: present[0][name] for name in ("id", "start_time", "end_time", "protocol")}]
    )
    found = report(data)
    for column in ("call_quality", "disconnect_reason", "system_location", "vendor", "license_count", "service_type"):
        assert re.search(rf"Left out: pexHistoryPart.csv has no column [\w, ]*{column}", found.text), column
    assert found.table("Participants by protocol") == [["WebRTC", "1", "100.0 %", "60"]]


def test_files_that_a_user_edited_are_read_all_the_same(tmp_path: Path) -> None:
    data = tmp_path / "a"
    write_archive(data, [one(f"Room {n}", ("09:00:00", "10:00:00")) for n in range(4)])
    path = data / "pexHistoryPart.csv"
    lines = path.read_bytes().split(b"\r\n")
    lines[1] += b",a note,another"  # beyond the header
    lines[2] = lines[2].rsplit(b",", 3)[0]  # short
    lines[3] = lines[3].replace(b"2026-11-10T09:00:00", b"yesterday").replace(b"Room 2", b"Room 2\nsaid")
    lines[3] = lines[3].replace(b"Room 2\nsaid", b'"Room 2\nsaid"')
    lines[4] = lines[4].replace(b"Room 3", b"Room \xe6")  # not UTF-8
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines[:3]) + b"\n" + b"\n".join(lines[3:]))
    found = report(data)
    minutes = {row[0]: row[1] for row in found.table("Rooms by minutes")}
    assert (minutes["Room 0"], minutes["Room 1"]) == ("60", "60")
    assert minutes["Room æ"] == "60", "a line in Windows-1252"
    assert "1 line(s) that are not UTF-8" in found.text
    assert "pexHistoryPart.csv: 1 row whose start cannot be read" in found.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"id;start_time;end_time\r\n1;2;3\r\n", "saved with semicolons"),
        (b"id\tstart_time\tend_time\r\n", "saved with tabs"),
        ("id,start_time,end_time\r\n".encode("utf-16"), "saved as UTF-16"),
        (b"1,2026-11-10T09:00:00\r\n", "no header with the columns of the history"),
    ],
)
def test_a_file_that_is_none_of_ours_is_named_with_its_fix_on_the_first_screen(
    tmp_path: Path, content: bytes, said: str
) -> None:
    data = tmp_path / "a"
    write_archive(data, [one("R", ("09:00:00", "10:00:00"))])
    (data / "pexHistoryPart.csv").write_bytes(content)
    found = report(data)
    (remark,) = [text for text in found.texts if text.startswith("pexHistoryPart.csv: not read: ")][:1]
    assert said in remark
    assert "move it away" in remark
    assert found.text.index("not read") < found.text.index("Which rooms made each peak")


def test_a_name_that_looks_like_rows_is_one_name_wherever_a_reader_would_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in ("files", "tables"):
        monkeypatch.setattr(f"pexip_history.history.{room}.PIECE", 1 << 22)
    data = tmp_path / "a"
    (who,) = one("R", ("09:00:00", "10:00:00"))[1]
    row = {**who, "vendor": "Firefox/1"}
    columns = [name for name in row if name not in ("bucketed_call_quality", "historic_call_quality")]
    fake = ",".join("2026-11-10T09:00:00" if "time" in name else "WRONG" for name in columns)
    row["display_name"] = "x\r\n" + f"{fake}\r\n" * 12 + "y"
    data.mkdir()
    path = data / "pexHistoryPart.csv"
    write_csv(path, [row])
    header, _, line = path.read_bytes().partition(b"\r\n")
    ident = str(row["id"]).encode()
    path.write_bytes(header + b"\r\n" + b"".join(line.replace(ident, b"%d" % number) for number in range(12_000)))
    assert path.stat().st_size > 35e6, "some pieces"
    found = report(data)
    assert found.table("Participants by protocol") == [["WebRTC", "12000", "100.0 %", "720000"]]
    assert "WRONG" not in found.text


def test_dated_files_of_different_columns_are_read_where_there_is_no_aggregate(tmp_path: Path) -> None:
    data = tmp_path / "a"
    data.mkdir()
    for number, drop in enumerate(("vendor", "")):
        held, present = one("R", ("09:00:00", "10:00:00"))
        rows = [{name: value for name, value in each.items() if name != drop} for each in present]
        write_csv(data / f"2026-11-1{number}_00-05-00_pexHistoryPart.csv", rows)
        write_csv(data / f"2026-11-1{number}_00-05-00_pexHistoryConf.csv", [held])
    (data / "copy of 2026-11-10_00-05-00_pexHistoryPart.csv").write_text("none of ours")
    found = report(data)
    assert found.table("Rooms by minutes") == [["R", "120", "2", "2"]]
    assert {row[0] for row in found.table("Participants by client or endpoint")} == {"Cisco room system", "not told"}
    assert "2 dated files" in found.about("Read from")


def test_a_room_is_one_with_the_guard_and_without(tmp_path: Path) -> None:
    data = tmp_path / "a"
    write_archive(data, [one("=Room", ("09:00:00", "10:00:00")), one("'=Room", ("09:00:00", "10:00:00"))], guard=False)
    assert report(data).table("Rooms by minutes") == [["=Room", "120", "2", "2"]]


# --- What is on the page, and what never is -----------------------------------------------------------------------

PRIVATE = ("display_name", "remote_alias", "local_alias", "remote_address", "call_tag")
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><script>alert(2)</script>",
    "{{ 7 * 7 }}{% raw %}",
    "\u202eright to left\u2066",
    "\x1b[31mred\x07\x9b",
    "Z" + "\u0334\u0335\u0336" * 60,
    "x" * 1000,
    "line one\r\nline two",
]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("hostile") / "data"
    rng = random.Random(5)
    made = []
    for number in range(400):
        text = rng.choice(HOSTILE)
        fields = {name: rng.choice(HOSTILE) for name in ("vendor", "disconnect_reason", "protocol", "service_type")}
        fields |= {"license_type": f"{text[:900]}{number % 40}", "system_location": f"{text[:900]}{number % 30}"}
        fields |= {"media_node": text, "call_quality": rng.choice(["3_bad", "1_good", text])}
        private = dict.fromkeys(PRIVATE, "PRIVATE")
        day = f"2026-11-{1 + number % 24:02}"
        call = one(f"{text}{number % 50}", *[(f"{day}T09:00:00", f"{day}T10:00:00")] * 4, **(fields | private))
        for each in call[1]:
            each["service_type"] = "lecture" if number % 2 else fields["service_type"]
        call[0]["service_type"] = call[1][0]["service_type"]
        made.append(call)
    write_archive(data, made)
    return data


@pytest.fixture(scope="module")
def hostile_page(hostile: Path) -> tuple[Reader, str]:
    found = report(hostile)
    return found, (hostile.parent / "data.html").read_bytes().decode()


def test_what_strangers_typed_is_text_and_no_names_aliases_or_addresses_are_there(
    hostile_page: tuple[Reader, str],
) -> None:
    found, source = hostile_page
    tags = {tag for tag, _ in found.elements}
    assert not tags & {"script", "img", "iframe", "object", "embed", "form", "base", "foreignobject", "animate", "use"}
    for tag, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("href", "src", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,")), tag
    assert "PRIVATE" not in found.text
    assert "<script>alert(1)</script>" in found.text
    assert "{{ 7 * 7 }}{% raw %}" in found.text
    acting = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
    assert not acting.search(source)
    assert max(len(cell) for rows in found.tables.values() for row in rows for cell in row) <= 120


def test_the_policy_of_the_page_allows_its_own_style_and_nothing_else(hostile_page: tuple[Reader, str]) -> None:
    found, source = hostile_page
    (policy,) = [a["content"] or "" for tag, a in found.elements if a.get("http-equiv") == "Content-Security-Policy"]
    style = re.search(r"<style>(.*?)</style>", source, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["style-src"] == f"'sha256-{digest}'"
    assert not set(rules) & {"script-src", "connect-src", "frame-src", "font-src"}


def test_each_picture_has_a_title_and_a_description(page: Reader, hostile_page: tuple[Reader, str]) -> None:
    for found in (page, hostile_page[0]):
        ids = [attributes["id"] for _, attributes in found.elements if attributes.get("id")]
        assert len(ids) == len(set(ids))
        pictures = [attributes for tag, attributes in found.elements if tag == "svg"]
        assert len(pictures) > 8
        for picture in pictures:
            assert picture["role"] == "img"
            assert set((picture["aria-labelledby"] or "").split()) <= set(ids)


def test_hidden_names_are_numbers_everywhere(tmp_path: Path) -> None:
    data = tmp_path / "a"
    before = [one("Secret old", ("2026-10-01T09:00:00", "2026-10-01T10:00:00"))]
    now = [one(f"Secret {n}", *[("09:00:00", f"{10 + n}:00:00")] * 25, call_quality="3_bad") for n in range(3)]
    write_archive(data, [*before, *now])
    found = report(
        data, first=date(2026, 11, 1), last=date(2026, 11, 24), facts=complete(date(2026, 1, 1)), hide_names=True
    )
    assert "Secret" not in (tmp_path / "a.html").read_text()
    assert [row[0] for row in found.table("Rooms by minutes")] == ["Room 1", "Room 2", "Room 3"]
    assert {row[0] for row in found.table("Rooms by share of bad or terrible calls")} == {"Room 1", "Room 2", "Room 3"}


def complete(since: date) -> Facts:
    return Facts("1.1.0", complete_since=datetime.combine(since, time(), UTC))


def test_rooms_of_the_period_before_that_nobody_used_are_named_and_one_bad_call_does_not_lead(tmp_path: Path) -> None:
    data = tmp_path / "a"
    old = one("Old", ("2026-10-20T09:00:00", "2026-10-20T10:00:00"))
    kept = one("Kept", ("2026-10-20T09:00:00", "2026-10-20T10:00:00"))
    many = one("Kept", *[("09:00:00", "10:00:00")] * 20, system_location="Many", call_quality="2_ok")
    few = one("Kept", ("09:00:00", "10:00:00"), system_location="Few", call_quality="4_terrible")
    write_archive(data, [old, kept, many, few])
    found = report(data, first=date(2026, 11, 1), last=date(2026, 11, 24), facts=complete(date(2026, 1, 1)))
    assert found.table("1 room of the previous period that nobody used in this one") == [["Old", "1"]]
    assert found.table("Locations by share of bad or terrible calls") == [["Many", "0", "20", "0.0 %"]]


def test_what_the_ledger_knows_is_told_in_local_time(tmp_path: Path) -> None:
    write_archive(tmp_path / "a", [one("R", ("09:00:00", "10:00:00"))])
    moment = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)
    facts = Facts("1.1.0", moment, moment, 12, [(moment, 3), (None, 1)], [(moment, moment + timedelta(hours=1))])
    found = report(tmp_path / "a", facts=facts)
    assert found.about("Complete since") == "2026-07-02 00:30"
    assert found.about("Gaps") == "2026-07-02 00:30 to 2026-07-02 01:30"
    assert found.about("Waiting for the next run").startswith("12 row")
    assert "3 participant(s) (2026-07-02 00:30)" in found.about("Lost for good")
    assert "1.1.0" in found.text


def test_the_period_is_thirty_whole_days_up_to_the_newest_record() -> None:
    def of(newest: datetime, oldest: datetime = datetime(2026, 1, 1, tzinfo=OSLO), **days: date) -> tuple[date, date]:
        period, before = choose_period(days.get("first"), days.get("last"), oldest, newest, NOW.astimezone(OSLO))
        assert before.last == period.first - timedelta(days=1)
        assert before.days == period.days
        return period.first, period.last

    today = NOW.astimezone(OSLO)
    assert of(datetime(2026, 11, 20, 9, tzinfo=OSLO)) == (date(2026, 10, 22), date(2026, 11, 20))
    assert of(today) == (date(2026, 10, 26), date(2026, 11, 24)), "today is not whole yet"
    assert of(today, today)[1] == today.date(), "but it is all there is"
    assert of(today, last=date(2026, 3, 31)) == (date(2026, 3, 2), date(2026, 3, 31))
    assert of(today, first=date(2026, 3, 1), last=date(2026, 3, 1)) == (date(2026, 3, 1), date(2026, 3, 1))


def test_a_time_far_ahead_does_not_take_the_period_along(tmp_path: Path) -> None:
    write_archive(
        tmp_path / "a", [one("R", ("09:00:00", "10:00:00")), one("R", ("2093-01-01T09:00:00", "2093-01-01T09:10:00"))]
    )
    found = report(tmp_path / "a")
    assert found.about("Period").startswith("2026-10-12 to 2026-11-10")


@pytest.mark.slow
@pytest.mark.parametrize(("years", "by"), [(1, "week"), (8, "month"), (60, "year")])
def test_the_page_stays_small_whatever_the_period(
    hostile: Path, hostile_page: tuple[Reader, str], years: int, by: str
) -> None:
    found = report(hostile, first=date(2027 - years, 1, 1), last=date(2026, 12, 31))
    assert (hostile.parent / "data.html").stat().st_size < 500_000
    most = [
        max(int(row[1]) for row in each.table(f"Participants: peak by {span}"))
        for each, span in ((found, by), (hostile_page[0], "day"))
    ]
    assert most[0] == most[1] > 0


# --- The file ---------------------------------------------------------------------------------------------------


def test_the_page_is_written_whole_with_the_umask_and_a_link_is_not_followed(tmp_path: Path) -> None:
    data = tmp_path / "a"
    write_archive(data, [one("R", ("09:00:00", "10:00:00"))])
    other = tmp_path / "other"
    other.write_text("not to be touched")
    (data / "report.html").symlink_to(other)
    old = os.umask(0o027)
    try:
        write_report(data, data / "report.html", zone=OSLO, facts=Facts("1"))
    finally:
        os.umask(old)
    assert other.read_text() == "not to be touched"
    assert not (data / "report.html").is_symlink()
    assert (data / "report.html").stat().st_mode & 0o777 == 0o640
    assert {path.name for path in data.iterdir()} == {
        "pexHistoryConf.csv",
        "pexHistoryPart.csv",
        "report.html",
        ".collector",
    }
    assert not list((data / ".collector").iterdir())


def test_a_report_that_fails_leaves_the_last_one_and_nothing_else(tmp_path: Path) -> None:
    data = tmp_path / "a"
    write_archive(data, [one("R", ("09:00:00", "10:00:00"))])
    write_report(data, data / "report.html", zone=OSLO, facts=Facts("1"))
    last = (data / "report.html").read_bytes()
    with pytest.raises(CollectorError, match="--output"):
        write_report(tmp_path / "nowhere", data / "report.html", zone=OSLO, facts=Facts("1"))
    assert (data / "report.html").read_bytes() == last
    assert not list((data / ".collector").iterdir())


def test_names_of_folders_are_taken_as_they_are(tmp_path: Path) -> None:
    data = tmp_path / "it's [a] * {b}"
    write_archive(data, [one("R", ("09:00:00", "10:00:00"))])
    assert report(data).table("Rooms by minutes") == [["R", "60", "1", "1"]]


def test_nothing_heavy_is_imported_before_a_report_is_made() -> None:
    script = "import sys, pexip_history.report; sys.exit(bool({'duckdb', 'jinja2', 'markupsafe'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_each_part_of_the_page_is_explained_in_the_docs(page: Reader) -> None:
    text = (ROOT / "docs" / "reading-the-report.md").read_text(encoding="utf-8")
    assert [title for title in page.headings if title not in text] == []
