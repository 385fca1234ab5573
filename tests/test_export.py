"""`export`: what is in each format, row by row; usage beside a calculation of its own; and what is refused."""

from __future__ import annotations

import csv
import json
import math
import os
import random
import shutil
import stat
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow.parquet
import pytest
from openpyxl.utils.escape import unescape

from pexip_history.errors import CollectorError
from pexip_history.export import workbook
from pexip_history.export.exporting import export
from pexip_history.export.wanted import Misused, Wanted, uncovered
from pexip_history.folder.cells import guard
from pexip_history.folder.people import ALIAS, Person
from tests.harness import ROOT, command
from tests.management_node.calls import Call, calls, conference, media_stream, participant
from tests.report_reader import OSLO, report
from tests.test_parquet import value as sent
from tests.test_parquet import write_dated
from tests.test_report_oracle import history
from tests.test_report_oracle import write as write_rows

CASES = ROOT / "tests" / "cases"
DAYS = [date(2026, 10, 24) + timedelta(days=n) for n in range(3)]  # the clocks go back on the 25th
Row = dict[str, Any]


@pytest.fixture(scope="module")
def made() -> list[Call]:
    found = [call for day in DAYS for call in calls(seed=9, day=day, conferences=50)]
    held, present = next(each for each in found if len(each[1]) > 2)
    held["tag"] = " 12345678901234567 "
    present[0] |= {"display_name": "0047", "vendor": '=1+1;"x"\r\n@a\t+b', "call_tag": "x" * 40_000}
    present[1] |= {"display_name": "<r><t>markup</t></r>", "vendor": "http://example.com/", "call_tag": "😀" * 20_000}
    present[2] |= {"display_name": "_x0041_ \x01 \x0b", "vendor": "12345678901234567", "license_count": 0}
    return found


@pytest.fixture(scope="module")
def data(made: list[Call], tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("export")
    write_dated(data, 1, made)
    for kind in ("Conf", "Part", "Stream"):
        (data / f"2026-11-01_00-05-00_pexHistory{kind}.csv").rename(data / f"pexHistory{kind}.csv")
    return data


def people(made: list[Call]) -> list[Row]:
    return [one for _, present in made for one in present]


def write(data: Path, tmp_path: Path, table: str, form: str, **more: Any) -> Path:
    output, told = tmp_path / f"{table}.{form}", list[str]()
    export(data, output, Wanted(table, form, **more), zone=OSLO, progress=told.append)
    assert told[-1] == f"writing {output}"
    return output


def local(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).astimezone(OSLO).replace(tzinfo=None)


def read_csv(path: Path, delimiter: str = ",") -> list[Row]:
    csv.field_size_limit(1 << 24)
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter, strict=True))


# --- Formats --------------------------------------------------------------------------------------------------------


def test_a_workbook_has_real_dates_and_numbers_and_no_formula(data: Path, made: list[Call], tmp_path: Path) -> None:
    book = openpyxl.load_workbook(write(data, tmp_path, "participants", "xlsx"))
    sheet = book["participants"]
    names = [cell.value for cell in sheet[1]]
    assert sheet.freeze_panes == "A2"
    assert sheet.auto_filter.ref == f"A1:{sheet.cell(1, len(names)).column_letter}{sheet.max_row}"
    assert names[names.index("start_time") + 1] == "start_local"
    letters = {cell.value: cell.column_letter for cell in sheet[1] if cell.font.bold}
    for name, width in (("start_time", 19), ("duration", 12), ("has_media", 7), ("id", 24)):
        assert int(sheet.column_dimensions[letters[name]].width) == width
    right = {one["id"]: {**one} for one in people(made)}
    rows = list(sheet.iter_rows(min_row=2))
    assert len(rows) == len(right)
    for row in rows:
        cells = dict(zip(names, row, strict=True))
        record = right[cells["id"].value]
        record |= {name.replace("_time", "_local"): local(record[name]) for name in ("start_time", "end_time")}
        for name, cell in cells.items():
            assert (cell.data_type != "f", cell.hyperlink) == (True, None), (name, cell.value)
            if name != "media_streams":
                compare(cell.value, record[name] if name.endswith("_local") else sent(name, record[name]), name)


def compare(found: Any, wanted: Any, name: str) -> None:
    if isinstance(wanted, datetime):
        assert abs(found - wanted.replace(tzinfo=None)) <= timedelta(milliseconds=1), name
    elif isinstance(wanted, str):
        found = unescape(found) if isinstance(found, str) else found
        lines = wanted.replace("\r\n", "\n").replace("\r", "\n")
        if len(lines.encode("utf-16-le")) > 2 * workbook.LONGEST:
            assert found.endswith("…")
            assert lines.startswith(found[:-1])
            assert len(found.encode("utf-16-le")) <= 2 * workbook.LONGEST
        else:
            assert found == lines, name
    elif isinstance(wanted, bool):
        assert found == str(wanted), name
    else:
        assert found == wanted, name
        assert type(found) is type(wanted) or isinstance(wanted, float), name


def test_numbers_in_a_workbook_keep_their_digits_and_a_sheet_holds_a_million_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert workbook.ROWS == 1_048_575
    monkeypatch.setattr(workbook, "ROWS", 3)
    values = [
        12345678901234567,
        10**15 - 1,
        0.30000000000000004,
        1e-05,
        -5,
        True,
        None,
        date(1900, 3, 1),
        date(1900, 2, 28),
    ]
    values.append("x" * 40_000)
    columns = [(f"c{n}", "number") for n in range(len(values))]
    with open(tmp_path / "x.xlsx", "w+b") as file:
        assert workbook.write_workbook(file, tmp_path, "t", columns, [values] * 7) == 7  # cut
    book = openpyxl.load_workbook(tmp_path / "x.xlsx")
    assert book.sheetnames == ["t", "t 2", "t 3"]
    assert [sheet.max_row for sheet in book] == [4, 4, 2]
    for sheet in book:
        assert [cell.value for cell in sheet[1]] == [name for name, _ in columns]
        assert sheet.auto_filter.ref == f"A1:J{sheet.max_row}"
        found = [cell.value for cell in sheet[2]]
        right = ["12345678901234567", 10**15 - 1, 0.30000000000000004, 1e-05, -5, "True", None, 61, "1900-02-28"]
        assert found[:9] == right


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_has_every_cell_with_any_delimiter_and_a_mark_where_excel_needs_one(
    delimiter: str, data: Path, made: list[Call], tmp_path: Path
) -> None:
    path = write(data, tmp_path, "participants", "csv", delimiter=delimiter)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf") == (delimiter == ";")
    rows = {row["id"]: row for row in read_csv(path, delimiter)}
    assert len(rows) == len(people(made))
    for record in people(made):
        row = rows[record["id"]]
        assert datetime.fromisoformat(row["start_time"]) == datetime.fromisoformat(record["start_time"])
        assert datetime.fromisoformat(row["end_local"]) == local(record["end_time"])
        for name in ("display_name", "vendor", "conference_name", "remote_alias", "call_tag", "disconnect_reason"):
            assert row[name] == guard(record[name] or ""), name
        assert row["license_count"] == str(record["license_count"])
        assert row["has_media"] == str(record["has_media"])


def test_json_lines_and_parquet_are_typed(data: Path, made: list[Call], tmp_path: Path) -> None:
    right = {one["id"]: one for one in people(made)}
    lines = write(data, tmp_path, "participants", "jsonl").read_bytes().splitlines()
    table = pyarrow.parquet.read_table(write(data, tmp_path, "participants", "parquet"))
    assert str(table.schema.field("start_time").type) == "timestamp[us, tz=UTC]"
    assert str(table.schema.field("start_local").type) == "timestamp[us]"
    rows = table.to_pylist()
    assert len(lines) == len(rows) == len(right)
    for row, line in zip(rows, map(json.loads, lines), strict=False):
        record, other = right[row["id"]], right[line["id"]]
        assert row["start_local"] == local(record["start_time"])
        assert line["start_time"] == f"{other['start_time']}Z"
        for name in ("display_name", "vendor", "duration", "has_media", "license_count", "remote_port"):
            assert row[name] == sent(name, record[name])
            assert line[name] == sent(name, other[name])
        assert [stream["rx_bitrate"] for stream in row["media_streams"]] == [
            stream["rx_bitrate"] for stream in record["media_streams"]
        ]
        assert len(line["media_streams"]) == len(other["media_streams"])


def test_columns_come_as_asked_for_and_one_that_is_unknown_is_named(data: Path, tmp_path: Path) -> None:
    path = write(data, tmp_path, "streams", "csv", columns=("stream_type", "id", "start_local"))
    assert [*read_csv(path)[0]] == ["stream_type", "id", "start_local"]
    with pytest.raises(Misused, match="did you mean display_name"):
        write(data, tmp_path, "participants", "csv", columns=("display_nam",))
    with pytest.raises(Misused, match="there are day, tag"):
        write(data, tmp_path, "usage", "csv", columns=("qqqqqq",))


# --- What is chosen -------------------------------------------------------------------------------------------------


def test_usage_of_the_case_is_what_the_rules_say(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    shutil.copy(CASES / "tags.csv", tmp_path / "data" / "pexHistoryPart.csv")

    def acme(zone: str, *more: str) -> tuple[int, int, float]:
        output = tmp_path / f"{zone.replace('/', '-')}{len(more)}.csv"
        arguments = ["export", "usage", "--month", "2026-11", "--partial", "--tag", "acme", "--output", str(output)]
        done = command(tmp_path / "data", *arguments, *more, TZ=zone)
        assert done.code == 0, done.output
        rows = read_csv(output)
        sums = [sum(float(row[name]) for row in rows) for name in ("participants", "seconds", "minutes")]
        return int(sums[0]), int(sums[1]), sums[2]

    assert acme("UTC")[:2] == (4, 180 * 60 + 59)
    assert acme("UTC", "--round-up")[2] == 181
    assert acme("Europe/Oslo", "--round-up") == (3, 120 * 60 + 59, 121)


@pytest.mark.parametrize("round_up", [False, True])
def test_usage_is_what_plain_python_makes_of_the_records(
    round_up: bool, data: Path, made: list[Call], tmp_path: Path
) -> None:
    first, last = date(2026, 10, 24), date(2026, 10, 25)
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for one in people(made):
        day = local(one["start_time"]).date()
        if one["protocol"] == "API" or one["service_type"] == "two_stage_dialing" or not first <= day <= last:
            continue
        tag, room = ((one[name] or "").strip() or None for name in ("service_tag", "conference_name"))
        key = (day, tag, room, one["service_type"], one["protocol"], one["system_location"], one["license_type"])
        groups[key].append(one)
    path = write(data, tmp_path, "usage", "parquet", first=first, last=last, round_up=round_up)
    found = pyarrow.parquet.read_table(path).to_pylist()
    rows = {tuple(row.values())[:7]: row for row in found}
    assert len(rows) == len(found)
    assert rows.keys() == groups.keys()
    assert any(key[1] is None for key in rows)
    for key, some in groups.items():
        each = [math.ceil(one["duration"] / 60) if round_up else one["duration"] / 60 for one in some]
        right = {
            "participants": len(some),
            "conferences": len({one["conference"] for one in some}),
            "seconds": sum(one["duration"] for one in some),
            "minutes": sum(each),
            "license_minutes": sum(n * one["license_count"] for n, one in zip(each, some, strict=True)),
        }
        assert {name: rows[key][name] for name in right} == pytest.approx(right, rel=1e-12)


def test_usage_and_the_page_take_unreadable_reversed_and_endless_rows_alike(tmp_path: Path) -> None:
    """Ends that are no times, ends before starts, and durations that cannot be: the same by both, tag by tag."""
    held, there = history(random.Random(5), datetime(2026, 11, 1, tzinfo=UTC), 28)
    odd = ["99999999999", "-5", "4611686018427387904", "soon", "1e9", ""]
    for place, row in enumerate(there):
        row["duration"] = odd[place % len(odd)] if place % 3 == 0 else row["duration"]
    write_rows(tmp_path / "pexHistoryConf.csv", held)
    write_rows(tmp_path / "pexHistoryPart.csv", there)
    first, last = date(2026, 11, 3), date(2026, 11, 26)
    page = report(tmp_path, first=first, last=last).table("By service tag")
    on_page = {row[0]: [int(cell.replace(",", "")) for cell in row[2:6]] for row in page}
    billed: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0, 0])
    for row in read_csv(write(tmp_path, tmp_path, "usage", "csv", first=first, last=last)):
        tag = billed[row["tag"] or "no tag"]
        tag[0] += int(row["participants"])
        tag[1] += int(row["seconds"] or 0) / 60
        for place, kind in enumerate(("audio", "port"), 2):
            tag[place] += float(row["license_minutes"] or 0) if row["license_type"] == kind else 0
    assert len(on_page) == 3
    assert on_page == {tag: [int(figure + 1e-6) for figure in figures] for tag, figures in billed.items()}


def test_bad_calls_of_a_room_come_with_their_losses_and_codecs(tmp_path: Path) -> None:
    held = conference(id="11111111-0000-4000-8000-000000000000", name="Board Room", tag="acme")
    bad = participant(held, call_quality="4_terrible", display_name="Ada", duration=600)
    for kind, lost, codec in (("audio", 2.5, "opus"), ("video", 12.5, "H264"), ("video", 1.0, "VP8")):
        media_stream(
            bad, stream_type=kind, rx_packet_loss=lost, tx_packet_loss=lost / 2, rx_codec=codec, tx_codec=codec
        )
    others = [participant({**held, "participants": []}, call_quality="1_good", display_name="Bo")]
    write_dated(tmp_path, 1, [(held, [bad, *others])], streams=False)
    wanted = {"room": "board*", "quality": "bad", "first": date(2026, 11, 23), "last": date(2026, 11, 23)}
    (row,) = read_csv(write(tmp_path, tmp_path, "calls", "csv", **wanted))
    right = {"display_name": "Ada", "rx_audio_loss": "2.5", "rx_video_loss": "12.5", "tx_video_loss": "6.25"}
    right |= {"audio_codecs": "opus", "video_codecs": "H264, VP8", "presentation_codecs": "", "seconds": "600"}
    right |= {"room": "Board Room", "tag": "acme", "conference": held["id"]}
    assert row.items() >= right.items()


def test_every_room_is_there_with_the_most_at_once(tmp_path: Path) -> None:
    held = conference(name="Fjord", tag="acme", start_time="2026-11-23T08:00:00", end_time="2026-11-23T10:00:00")
    spans = [("08:00:00", "09:00:00"), ("08:30:00", "09:30:00"), ("09:00:00", "10:00:00")]
    present = [
        participant(held, start_time=f"2026-11-23T{a}", end_time=f"2026-11-23T{b}", duration=3600) for a, b in spans
    ]
    present.append(participant(held, protocol="API"))
    present.append(participant(held, start_time="2026-11-23T09:15:00", end_time="2026-11-23T07:00:00"))  # never there
    empty = conference(name="Tarn", start_time="2026-11-22T08:00:00", end_time="2026-11-22T08:00:01")
    write_dated(tmp_path, 1, [(held, present), (empty, [])], streams=False)
    rows = {row["room"]: row for row in read_csv(write(tmp_path, tmp_path, "rooms", "csv"))}
    assert [*rows] == ["Fjord", "Tarn"]
    fjord = {"conferences": "1", "participants": "4", "minutes": "180.0", "most_at_once": "2", "tag": "acme"}
    fjord |= {"first_local": "2026-11-23 09:00:00", "last_local": "2026-11-23 11:00:00"}
    assert rows["Fjord"].items() >= fjord.items()
    assert rows["Tarn"]["most_at_once"] == "0"


MEANT: list[tuple[str, Any, Callable[[Row], bool]]] = [
    ("tag", "møte", lambda one: text_of(one, "service_tag", "tag") == "møte"),
    ("tag", "MØTE", lambda one: False),
    ("room", "møterom*", lambda one: text_of(one, "conference_name", "name").startswith("Møterom")),
    ("room", "", lambda one: text_of(one, "conference_name", "name") == ""),
    ("location", "oslo", lambda one: one.get("system_location") == "Oslo"),
    ("quality", "bad", lambda one: one.get("call_quality") in ("3_bad", "4_terrible")),
    ("first", DAYS[1], lambda one: local(one["start_time"]).date() >= DAYS[1]),
    ("last", DAYS[0], lambda one: local(one["start_time"]).date() <= DAYS[0]),
    ("person", Person(ALIAS, "sip:KARI@example.com"), lambda one: one.get("remote_alias") == "sip:kari@example.com"),
]


def text_of(one: Row, *columns: str) -> str:
    return next((one[name] or "").strip() for name in columns if name in one)


@pytest.mark.parametrize("table", ["participants", "conferences", "streams", "calls"])
@pytest.mark.parametrize(
    ("option", "value", "is_meant"), MEANT, ids=[f"{option} {value}" for option, value, _ in MEANT]
)
def test_each_table_has_what_was_asked_for(
    table: str, option: str, value: Any, is_meant: Callable[[Row], bool], data: Path, made: list[Call], tmp_path: Path
) -> None:
    """A conference by itself, or by its participants where they alone have what is asked; people as `erase` finds."""
    theirs = [one for one in people(made) if is_meant(one)]
    right = {one["id"] for one in theirs}
    if table == "conferences":
        by_people = {one["conference"].split("/")[-2] for one in theirs}
        right = (
            by_people
            if option in ("location", "quality", "person")
            else {held["id"] for held, _ in made if is_meant(held)}
        )
    elif table == "streams":
        right = {one["id"] for one in theirs if one["media_streams"]}
    elif table == "calls":
        right = {one["id"] for one in theirs if one["protocol"] != "API" and one["service_type"] != "two_stage_dialing"}
    if not right:
        with pytest.raises(CollectorError, match="is as asked for"):
            write(data, tmp_path, table, "csv", **{option: value})
        return
    path = write(data, tmp_path, table, "csv", **{option: value})
    assert {row["participant_id" if table == "streams" else "id"] for row in read_csv(path)} == right


def test_pseudonyms_are_the_same_each_time_and_no_name_is_left(data: Path, made: list[Call], tmp_path: Path) -> None:
    first = write(data, tmp_path, "participants", "csv", hide_names=True).read_text(encoding="utf-8")
    (tmp_path / "participants.csv").unlink()
    assert write(data, tmp_path, "participants", "csv", hide_names=True).read_text(encoding="utf-8") == first
    rows = {row["id"]: row for row in read_csv(tmp_path / "participants.csv")}
    names = defaultdict(set)
    for one in people(made):
        row = rows[one["id"]]
        if (one["display_name"] or "").strip():
            names[one["display_name"]].add(row["display_name"])
            assert row["display_name"].startswith("name-")
        for name in ("remote_alias", "local_alias", "conference_name", "call_tag", "remote_address"):
            assert not one[name] or row[name] != one[name]
    assert all(len(each) == 1 for each in names.values())
    key = data / ".collector" / "export" / "pseudonyms.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert "kari" not in first.lower()
    key.unlink()
    (tmp_path / "participants.csv").unlink()
    assert write(data, tmp_path, "participants", "csv", hide_names=True).read_text(encoding="utf-8") != first


def test_what_of_a_period_is_not_covered_is_told() -> None:
    wanted = Wanted("usage", first=date(2026, 11, 1), last=date(2026, 11, 30))
    now = datetime(2026, 12, 5)
    whole = [["2026-10-01T00:00:00", "2026-12-04T00:00:00"]]
    assert uncovered(whole, wanted, OSLO, now) == []
    parts = [["2026-10-01T00:00:00", "2026-11-10T00:00:00"], ["2026-11-11T00:00:00", "2026-11-30T00:00:00"]]
    assert uncovered(parts, wanted, OSLO, now) == [
        (datetime(2026, 11, 10), datetime(2026, 11, 11)),
        (datetime(2026, 11, 30), datetime(2026, 11, 30, 23)),
    ]
    assert uncovered([], wanted, OSLO, now) == [(datetime(2026, 10, 31, 23), datetime(2026, 11, 30, 23))]


# --- What is refused ------------------------------------------------------------------------------------------------


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".collector")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(CASES / "tags.csv", data / "pexHistoryPart.csv")
    return data


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("participants", "--columns", "displayname"), 2, "did you mean display_name?"),
        (("usage",), 2, "usage needs a period"),
        (("usage", "--month", "2026-11"), 2, "not wholly covered"),
        (
            ("calls", "--month", "2026-09"),
            1,
            "2026-09-01 to 2026-09-30 is as asked for; the files have what began from 2026-11-23 to 2026-11-30",
        ),
        (("rooms", "--round-up"), 2, "--round-up is for usage"),
        (("rooms", "--format", "xlsx", "--delimiter", ";"), 2, "--delimiter is for csv"),
        (("rooms", "--month", "2026-11", "--from", "2026-11-01"), 2, "give one of them"),
        (("rooms", "--from", "2026-11-02", "--to", "2026-11-01"), 2, "give the first day with --from"),
        (("rooms", "--output", "data/pexHistoryConf.csv"), 2, "history's own"),
        (("rooms", "--output", "data/2026-11-01_00-05-00_pexHistoryConf.csv"), 2, "history's own"),
        (("rooms", "--output", "data/manifest.jsonl"), 2, "history's own"),
        (("rooms", "--output", "data/report.html"), 2, "history's own"),
        (("rooms", "--output", "data/.collector/x.csv"), 2, "history's own"),
        (("rooms", "--output", "nowhere/x.csv"), 1, "nowhere/x.csv cannot be made: {}/nowhere/.x.csv."),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    arguments: tuple[str, ...], code: int, said: str, small: Path
) -> None:
    done = command(small, "export", *arguments)
    assert (done.code, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    assert said.replace("{}", str(small.parent)) in line
    assert left(small) == ["pexHistoryPart.csv"]
    assert left(small.parent) == ["data"]


def test_only_an_export_of_ours_that_nobody_changed_is_replaced(small: Path) -> None:
    output = small.parent / "rooms.csv"
    for _ in range(2):
        assert command(small, "export", "rooms", "--output", str(output)).code == 0
    with output.open("a") as file:
        file.write("a note of mine\r\n")
    content = output.read_bytes()
    done = command(small, "export", "rooms", "--output", str(output))
    assert done.code == 1
    assert "was changed since" in done.stderr
    assert output.read_bytes() == content
    output.unlink()
    output.symlink_to(small / "pexHistoryPart.csv")
    before = (small / "pexHistoryPart.csv").read_bytes()
    assert command(small, "export", "rooms", "--output", str(output)).code == 1
    assert (small / "pexHistoryPart.csv").read_bytes() == before
    (small / ".collector").rename(small.parent / "elsewhere")
    shutil.rmtree(small.parent / "elsewhere" / "export")
    (small / ".collector").symlink_to(small.parent / "elsewhere")
    output.unlink()
    output.touch()
    with pytest.raises(CollectorError, match="link"):  # the command, as root, finds that before
        export(small, output, Wanted("rooms", "csv"), zone=OSLO)
    assert not (small.parent / "elsewhere" / "export").exists()


LITTLE_ROOM = """
import os, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
import collector
sys.exit(collector.main(sys.argv[1:], dict(os.environ)))
"""


@pytest.mark.parametrize("form", ["csv", "jsonl", "xlsx", "parquet", ""])
def test_a_full_disk_is_one_sentence_and_leaves_neither_a_file_nor_a_draft(
    form: str, made: list[Call], tmp_path: Path
) -> None:
    write_dated(tmp_path, 1, made)
    (tmp_path / ".collector").mkdir()
    before = left(tmp_path)
    arguments = ["export", "participants", "--format", form] if form else ["parquet"]
    env = {"PATH": os.environ["PATH"], "DATA_DIR": str(tmp_path)}
    words = [sys.executable, "-c", LITTLE_ROOM, *arguments]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, encoding="utf-8")
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (1, 1), done.stderr
    assert left(tmp_path) == (before if form else sorted([*before, "parquet"]))
    assert {path.name for path in (tmp_path / ".collector").iterdir()} <= {"lock", "export"}
    assert not (tmp_path / "parquet" / "participants").exists()
    for path in (tmp_path / "parquet").rglob("*.parquet"):
        pyarrow.parquet.read_table(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere; .ci runs it as another user")
def test_a_folder_that_cannot_be_written_to_is_named(small: Path) -> None:
    small.chmod(0o500)
    done = command(small, "export", "rooms")
    small.chmod(0o700)
    assert done.code == 1
    assert str(small) in done.stderr


def test_an_empty_folder_has_nothing_to_export(tmp_path: Path) -> None:
    with pytest.raises(CollectorError, match="holds no rows"):
        export(tmp_path, tmp_path / "x.csv", Wanted("participants", "csv"), zone=OSLO)
    assert left(tmp_path) == []
