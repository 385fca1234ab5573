"""`export`: what is in each format, row by row; usage beside a calculation of its own; and what is refused."""

from __future__ import annotations

import csv
import errno
import hmac
import json
import math
import os
import random
import shutil
import stat
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from unicodedata import normalize
from unittest.mock import Mock

import duckdb
import openpyxl
import pyarrow.parquet
import pytest
from openpyxl.utils.escape import unescape
from xlsxwriter.exceptions import FileCreateError

from pexip_history.errors import CollectorError
from pexip_history.export import output as written
from pexip_history.export import pseudonyms, workbook
from pexip_history.export.exporting import export
from pexip_history.export.wanted import Wanted, like, uncovered
from pexip_history.folder.cells import guard
from pexip_history.folder.people import ALIAS, Person
from pexip_history.operate import export_command
from pexip_history.operate.arguments import parse
from pexip_history.settings.environment import read_settings
from tests.conftest import by_id
from tests.forked import ForkedCollector
from tests.harness import ROOT, Site
from tests.management_node.calls import Call, calls, conference, media_stream, participant
from tests.report_reader import OSLO, report
from tests.test_analysing import DAYS, local
from tests.test_folder import OTHERS
from tests.test_manifest import little_room
from tests.test_parquet import value as sent
from tests.test_parquet import write_dated
from tests.test_report_oracle import history
from tests.test_report_oracle import write as write_rows

CASES = ROOT / "tests" / "cases"
Row = dict[str, Any]


@pytest.fixture(scope="module")
def made() -> list[Call]:
    found = [call for day in DAYS for call in calls(seed=9, day=day, conferences=50)]
    held, present = next(each for each in found if len(each[1]) > 2)
    held["tag"] = " 12345678901234567 "
    present[0] |= {"display_name": "0047", "vendor": '=1+1;"x"\r\n@a\t+b', "call_tag": "x" * 40_000}
    present[1] |= {"display_name": "<r><t>markup</t></r>", "vendor": "http://example.com/", "call_tag": "😀" * 20_000}
    present[2] |= {"display_name": "_x0041_ \x01 \x0b", "vendor": "12345678901234567", "license_count": 0}
    present[2] |= {"service_tag": "\u00a0møte\u2003", "service_type": ""}
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


def read_csv(path: Path, delimiter: str = ",") -> list[Row]:
    csv.field_size_limit(1 << 24)
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter, strict=True))


# --- Formats --------------------------------------------------------------------------------------------------------


def test_a_workbook_has_real_dates_and_numbers_and_no_formula(data: Path, made: list[Call], tmp_path: Path) -> None:
    done = export(data, tmp_path / "x.xlsx", Wanted("participants", "xlsx"), zone=OSLO)
    assert [remark.partition(" were cut")[0] for remark in done.remarks] == ["2 texts"]
    sheet = openpyxl.load_workbook(tmp_path / "x.xlsx")["participants"]
    names = [cell.value for cell in sheet[1]]
    assert sheet.freeze_panes == "A2"
    assert sheet.auto_filter.ref == f"A1:{sheet.cell(1, len(names)).column_letter}{sheet.max_row}"
    assert names[names.index("start_time") + 1] == "start_local"
    letters = {cell.value: cell.column_letter for cell in sheet[1] if cell.font.bold}
    for name, width in (("start_time", 19), ("duration", 12), ("has_media", 7), ("id", 24)):
        assert int(sheet.column_dimensions[letters[name]].width) == width
    right = by_id(people(made))
    rows = list(sheet.iter_rows(min_row=2))
    assert len(rows) == len(right)
    for row in rows:
        cells = dict(zip(names, row, strict=True))
        record = right[cells["id"].value]
        for name, cell in cells.items():
            assert (cell.data_type != "f", cell.hyperlink) == (True, None), (name, cell.value)
            if name in ("start_local", "end_local"):
                assert is_shown(local(record[name.replace("local", "time")]), cell.value)
            elif name != "media_streams":
                assert is_shown(sent(name, record[name]), cell.value), name


def is_shown(value: Any, found: Any) -> bool:
    """Whether a workbook's cell has the value, or as much of a text as it can hold."""
    if isinstance(value, datetime):
        return abs(found - value.replace(tzinfo=None)) <= timedelta(milliseconds=1)
    if isinstance(value, str):
        lines, most = value.replace("\r\n", "\n").replace("\r", "\n").encode("utf-16-le"), 2 * workbook.LONGEST
        cut = lines[: most - 2].decode("utf-16-le", "ignore") + "…"
        return bool(unescape(found) == (lines.decode("utf-16-le") if len(lines) <= most else cut))
    return bool(found == (str(value) if isinstance(value, bool) else value))


def test_numbers_in_a_workbook_keep_their_digits_and_a_sheet_holds_a_million_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert workbook.ROWS == 1_048_575
    monkeypatch.setattr(workbook, "ROWS", 3)
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")  # a container's /tmp is small
    right = ["12345678901234567", 10**15 - 1, 0.30000000000000004, 1e-05, -5, "True", None, 61, "1900-02-28"]
    values = [12345678901234567, *right[1:5], True, None, date(1900, 3, 1), date(1900, 2, 28), "x" * 40_000]
    columns = [(f"c{n}", "number") for n in range(len(values))]
    with open(tmp_path / "x.xlsx", "w+b") as file:
        assert workbook.write_workbook(file, tmp_path, "t", columns, [values] * 7) == 7  # cut
    book = openpyxl.load_workbook(tmp_path / "x.xlsx")
    assert [(sheet.title, sheet.max_row) for sheet in book] == [("t", 4), ("t 2", 4), ("t 3", 2)]
    for sheet in book:
        assert [cell.value for cell in sheet[1]] == [name for name, _ in columns]
        assert sheet.auto_filter.ref == f"A1:J{sheet.max_row}"
        assert [cell.value for cell in sheet[2]][:9] == right


def test_a_text_in_a_workbook_stays_one_when_its_cell_is_edited_and_a_day_is_a_date(tmp_path: Path) -> None:
    texts = ["=1", "+1", "-1", "@x", "x=1", "x" * 32_767]  # as many as a cell holds
    columns = [("day", "date"), *((text[:9], "text") for text in texts)]
    with open(tmp_path / "x.xlsx", "w+b") as file:
        assert workbook.write_workbook(file, tmp_path, "t", columns, [(date(2026, 11, 23), *texts)]) == 0  # cut
    day, *cells = openpyxl.load_workbook(tmp_path / "x.xlsx")["t"][2]
    assert (day.value, day.number_format) == (datetime(2026, 11, 23), "yyyy-mm-dd")
    assert [(cell.value, bool(cell.quotePrefix)) for cell in cells] == [(text, "x" not in text[:1]) for text in texts]


def test_a_disk_that_gets_full_when_a_workbook_is_put_together_is_the_disks_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr("xlsxwriter.Workbook.close", Mock(side_effect=FileCreateError(full)))
    with open(tmp_path / "x.xlsx", "w+b") as file, pytest.raises(OSError, match="No space left"):
        workbook.write_workbook(file, tmp_path, "t", [("x", "text")], [("x",)])


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_has_every_cell_with_any_delimiter_and_a_mark_where_excel_needs_one(
    delimiter: str, data: Path, made: list[Call], tmp_path: Path
) -> None:
    path = write(data, tmp_path, "participants", "csv", delimiter=delimiter)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf") == (delimiter == ";")
    assert path.read_bytes().partition(b"\n")[0].endswith(b"\r")
    rows = by_id(read_csv(path, delimiter))
    assert len(rows) == len(people(made))
    for record in people(made):
        row = rows[record["id"]]
        assert datetime.fromisoformat(row["start_time"]) == datetime.fromisoformat(record["start_time"])
        assert datetime.fromisoformat(row["end_local"]) == local(record["end_time"])
        for name in ("display_name", "vendor", "conference_name", "remote_alias", "call_tag", "disconnect_reason"):
            assert row[name] == guard(record[name] or ""), name
        assert row["license_count"] == str(record["license_count"])
        assert row["has_media"] == str(record["has_media"])


@pytest.mark.parametrize("escape", ["true", "false"])
def test_what_a_spreadsheet_would_run_is_guarded_in_csv_unless_that_is_turned_off(small: Site, escape: str) -> None:
    rows = "id,start_time,end_time,=1+1\r\n=p,2026-11-23T08:00:00,2026-11-23T09:00:00,'@x\r\n"
    (small.data / "pexHistoryPart.csv").write_text(rows)
    done = small("export", "participants", "--format", "csv", env={"DATA_CSV_ESCAPE_FORMULAS": escape})
    assert (done.code, done.output) == (0, f"{small.data}/participants.csv: 1 row\n")
    (row,) = read_csv(small.data / "participants.csv")
    assert [*row.items()][-1] == (("'=1+1", "'@x") if escape == "true" else ("=1+1", "@x"))
    assert row["id"] == "=p", "an id is compared"


def test_json_lines_and_parquet_are_typed(data: Path, made: list[Call], tmp_path: Path) -> None:
    right = by_id(people(made))
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:  # times are no local ones of the process
        stack.callback(time.tzset)
        patch.setenv("TZ", "Asia/Kathmandu")
        time.tzset()
        lines = write(data, tmp_path, "participants", "jsonl").read_bytes().splitlines()
    path = write(data, tmp_path, "participants", "parquet")
    assert pyarrow.parquet.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"
    table = pyarrow.parquet.read_table(path)
    assert [json.loads(line)["id"] for line in lines] == [*right], "long rows are not sorted, which would be in memory"
    calls = [json.loads(line) for line in write(data, tmp_path, "conferences", "jsonl").read_bytes().splitlines()]
    assert [call["id"] for call in calls] == [held["id"] for held, _ in made]
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


def test_columns_come_as_asked_for_and_rows_in_the_order_of_their_times(data: Path, tmp_path: Path) -> None:
    path = write(data, tmp_path, "streams", "csv", columns=("stream_type", "id", "start_local", "id"))
    assert path.read_text().splitlines()[0] == "stream_type,id,start_local"
    rows = read_csv(path)
    assert [row["start_local"] for row in rows] == sorted(row["start_local"] for row in rows)


# --- What is chosen -------------------------------------------------------------------------------------------------


def test_of_columns_that_differ_in_case_alone_the_first_is_there(small: Site, tmp_path: Path) -> None:
    (small.data / "2026-11-01_00-05-00_pexHistoryPart.csv").write_text("id,start_time,end_time,VENDOR\r\n")
    names = [*read_csv(write(small.data, tmp_path, "participants", "csv"))[0]]
    assert [name for name in names if name.lower() == "vendor"] == ["vendor"]


def test_usage_of_the_case_is_what_the_rules_say(small: Site) -> None:
    def usage(zone: str, *more: str) -> str:
        output = small.data.parent / "usage.csv"
        done = small("export", "usage", "--month", "2026-11", "--output", str(output), *more, env={"TZ": zone})
        (told,) = done.stdout.splitlines()
        rows, sums = read_csv(output), dict.fromkeys(("participants", "seconds", "minutes"), 0.0)
        for row in rows:
            sums = {name: sums[name] + float(row[name] or 0) for name in sums}
        seconds = sums["seconds"] / 60
        assert sums["minutes"] == (math.ceil(seconds) if more[-1] == "--round-up" else pytest.approx(seconds))
        assert told.startswith(f"{output}: {len(rows)} row{'' if len(rows) == 1 else 's'}, {sums['participants']:.0f} ")
        return told.partition(", ")[2]

    acme = ("--partial", "--tag", "acme")
    assert usage("UTC", *acme) == "4 participants, 180 min 59 s"
    assert usage("UTC", *acme, "--round-up") == "4 participants, 181 whole minutes"
    assert usage("Europe/Oslo", *acme, "--round-up") == "3 participants, 121 whole minutes"
    assert usage("UTC", "--partial", "--tag", "Acme") == "1 participant, 60 min 0 s"
    part = small.data / "pexHistoryPart.csv"
    part.write_text(part.read_text().replace("2026-11-23T08:00:00", "2026-11-24T08:00:00"))  # they end before
    assert usage("UTC", "--partial", "--tag", "Acme") == "1 participant, 0 min 0 s"


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
        service = one["service_type"] or None
        key = (day, tag, room, service, one["protocol"], one["system_location"], one["license_type"])
        groups[key].append(one)
    path = write(data, tmp_path, "usage", "parquet", first=first, last=last, round_up=round_up)
    found = pyarrow.parquet.read_table(path).to_pylist()
    rows = {tuple(row.values())[:7]: row for row in found}
    assert len(rows) == len(found)
    assert rows.keys() == groups.keys()
    sorted_by = [(day, tag or "", room or "\uffff") for day, tag, room, *_ in rows]
    assert sorted_by == sorted(sorted_by)
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
    held = conference(id="11111111-0000-4000-8000-000000000000", name="Board Room", tag=" acme ")
    bad = participant(held, call_quality="4_terrible", display_name="Ada", duration=600)
    for kind, lost, codec in (("audio", 2.5, "opus"), ("video", 12.5, "H264"), ("video", 1.0, "VP8")):
        media_stream(
            bad, stream_type=kind, rx_packet_loss=lost, tx_packet_loss=lost / 2, rx_codec=codec, tx_codec=f"{codec}-2"
        )
    media_stream(bad, stream_type="audio", rx_codec="", tx_codec="")
    others = [participant({**held, "participants": []}, call_quality="1_good", display_name="Bo")]
    write_dated(tmp_path, 1, [(held, [bad, *others])], streams=False)
    wanted = {"room": "board*", "quality": "bad", "first": date(2026, 11, 23), "last": date(2026, 11, 23)}
    (row,) = read_csv(write(tmp_path, tmp_path, "calls", "csv", **wanted))
    right = {"display_name": "Ada", "rx_audio_loss": "2.5", "rx_video_loss": "12.5", "tx_video_loss": "6.25"}
    right |= {"audio_codecs": "opus, opus-2", "video_codecs": "H264, H264-2, VP8, VP8-2", "presentation_codecs": ""}
    right |= {"room": "Board Room", "tag": "acme", "conference": held["id"], "seconds": "600"}
    assert row.items() >= right.items()
    write_dated(tmp_path, 1, [(held, [bad, *others])])
    for one in (bad, *others):
        del one["media_streams"]  # omitted: then the files of streams have them
    write_dated(tmp_path, 1, [(held, [bad, *others])], streams=False)
    assert read_csv(write(tmp_path, tmp_path, "calls", "csv", **wanted)) == [row]


def test_every_room_is_there_with_the_most_at_once(tmp_path: Path) -> None:
    held = conference(name="Fjord", tag="acme", start_time="2026-11-23T08:00:00", end_time="2026-11-23T10:00:00")
    spans = [("08:00:00", "09:00:00"), ("08:30:00", "09:30:00"), ("09:00:00", "10:00:00")]
    present = [
        participant(held, start_time=f"2026-11-23T{a}", end_time=f"2026-11-23T{b}", duration=3600) for a, b in spans
    ]
    present.append(participant(held, protocol="API"))
    present.append(participant(held, start_time="2026-11-23T09:15:00", end_time="2026-11-23T07:00:00"))  # never there
    again = conference(name="Fjord", tag="later", start_time="2026-11-24T08:00:00", end_time="2026-11-24T08:30:00")
    empty = conference(name="Tarn", start_time="2026-11-22T08:00:00", end_time="2026-11-22T08:00:01")
    empty["service_type"] = "lecture"
    write_dated(tmp_path, 1, [(again, []), (empty, []), (held, present)], streams=False)
    rows = {row["room"]: row for row in read_csv(write(tmp_path, tmp_path, "rooms", "csv"))}
    assert [*rows] == ["Fjord", "Tarn"]
    fjord = {"conferences": "2", "participants": "4", "minutes": "180.0", "most_at_once": "2", "tag": "later"}
    fjord |= {"first_local": "2026-11-23 09:00:00", "last_local": "2026-11-24 09:30:00"}
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


QUALITIES = {"good": {"1_good"}, "ok": {"2_ok"}, "bad": {"3_bad", "4_terrible"}, "terrible": {"4_terrible"}}


@pytest.mark.parametrize(("word", "marks"), [*QUALITIES.items(), ("unknown", {"0_unknown"})])
def test_a_word_for_quality_stands_for_the_nodes_own(word: str, marks: set[str], data: Path, tmp_path: Path) -> None:
    path = write(data, tmp_path, "participants", "csv", quality=word, columns=("call_quality",))
    assert {row["call_quality"] for row in read_csv(path)} == marks


@pytest.mark.parametrize(
    ("pattern", "text", "is_it"),
    [
        *[("a*z", "az", True), ("a*z", "a%z", True), ("a*z ", "azz ", True), (" a*z", "xaz", False)],
        *[("a_z", "a_z", True), ("a_z", "abz", False), ("a%z", "a%z", True), ("a%z", "abz", False)],
        *[("a!", "a!", True), ("!_", "!_", True), ("it's", "\u00a0it's", True), ("", "\u2003", True), ("", "x", False)],
    ],
)
def test_a_star_stands_for_any_text_and_nothing_else_does(pattern: str, text: str, is_it: bool) -> None:
    assert duckdb.execute(f"SELECT {like('t', pattern, True)} FROM (SELECT ? AS t)", [text]).fetchall() == [(is_it,)]


HIDDEN = {"display_name": "name", "remote_alias": "alias", "local_alias": "alias", "remote_address": "address"}
HIDDEN |= {"idp_uuid": "identity", "call_tag": "calltag", "conference_name": "room", "name": "room", "room": "room"}
HIDDEN |= {"tag": "tag", "service_tag": "tag", "vendor": "client", "disconnect_reason": "reason"}


def test_pseudonyms_are_the_same_each_time_and_no_name_is_left(data: Path, made: list[Call], tmp_path: Path) -> None:
    first = write(data, tmp_path, "participants", "csv", hide_names=True).read_bytes()
    assert write(data, tmp_path, "participants", "csv", hide_names=True).read_bytes() == first
    key = data / ".collector" / "export" / "pseudonyms.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    rows = by_id(read_csv(tmp_path / "participants.csv"))
    for one in people(made):
        for name in HIDDEN.keys() & one.keys():
            kind, text = HIDDEN[name], normalize("NFC", (one[name] or "").strip(" \u00a0\u2003"))
            text = text.lower() if kind in ("name", "alias", "address") else text
            digest = hmac.digest(key.read_bytes(), f"{kind}:{text}".encode(), "sha256").hex()
            assert rows[one["id"]][name] == (f"{kind}-{digest[:16]}" if text else ""), name
    for table in ("conferences", "usage", "calls", "rooms"):
        for row in read_csv(write(data, tmp_path, table, "csv", hide_names=True)):
            hidden = {name: row[name].partition("-")[0] for name in HIDDEN.keys() & row.keys() if row[name]}
            assert hidden == {name: HIDDEN[name] for name in hidden}
    for size in (31, 33):
        key.write_bytes(b"x" * size)
        with pytest.raises(CollectorError, match="is not a key of 32 bytes"):
            write(data, tmp_path, "participants", "csv", hide_names=True)
    key.unlink()
    assert write(data, tmp_path, "participants", "csv", hide_names=True).read_bytes() != first


def test_one_person_has_one_pseudonym_however_the_name_is_written() -> None:
    query = "SELECT DISTINCT {} FROM (SELECT unnest(['Zoë', ' zoe\u0308 ', 'ZOË', ' ', NULL]) AS c)"
    for kind, several in (("name", 2), ("alias", 2), ("address", 2), ("room", 4)):  # of each one is none at all
        assert len(duckdb.execute(query.format(pseudonyms.pseudonym("c", kind, b"key"))).fetchall()) == several


def test_the_key_is_not_made_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".collector").symlink_to("elsewhere")
    with pytest.raises(CollectorError, match="link"):
        pseudonyms.key(tmp_path)


def test_what_of_a_period_is_not_covered_is_told() -> None:
    wanted = Wanted("usage", first=date(2026, 11, 1), last=date(2026, 11, 30))
    now = datetime(2026, 12, 5)
    whole = [["2026-10-01T00:00:00", "2026-12-04T00:00:00"]]
    assert uncovered(whole, wanted, OSLO, now) == []
    parts = [["2026-11-11T00:00:00", "2026-11-30T00:00:00"], ["2026-10-01T00:00:00", "2026-11-10T00:00:00"]]
    lacking = [(datetime(2026, 11, 10), datetime(2026, 11, 11)), (datetime(2026, 11, 30), datetime(2026, 11, 30, 23))]
    assert uncovered(parts, wanted, OSLO, now) == lacking
    assert uncovered(parts, Wanted("calls"), OSLO, now) == [lacking[0], (datetime(2026, 11, 30), now)]
    assert uncovered([], wanted, OSLO, now) == [(datetime(2026, 10, 31, 23), datetime(2026, 11, 30, 23))]


def test_what_the_ledger_knows_and_the_export_does_not_have_is_told(
    small: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (small.data / "pexHistoryConf.csv").write_bytes(b"id;start_time\r\nc;2026-11-23T08:00:00\r\n")
    part = small.data / "pexHistoryPart.csv"
    part.write_bytes(part.read_bytes().replace(b",3600,", b",an hour,", 1))
    told = {"coverage": [["2026-11-23T00:00:00", "2026-11-24T00:00:00"]], "staged": 1234}
    monkeypatch.setattr(export_command, "peek", lambda _: {**told, "resources": [("participant", 9, None)]})
    settings = read_settings({"DATA_DIR": str(small.data)}, node=False)
    assert export_command.export_table(settings, parse(["export", "rooms", "--to", "2026-11-24"], settings.zone)) == 0
    words = (
        "pexHistoryConf.csv: not read: it was saved with semicolons",
        "pexHistoryPart.csv: 1 row whose duration cannot be read",
        "participant: 1 row that the ledger knows, and no file has",
        "the period is not wholly covered: no run asked for 2026-11-24T00:00:00 to 2026-11-25T00:00:00",
        "not in it: 1,234 rows, to be written by the next run",
    )
    said = capsys.readouterr().err.splitlines()
    assert [line[: len(start)] for line, start in zip(said, words, strict=True)] == [*words]


# --- What is refused ------------------------------------------------------------------------------------------------


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".collector")


@pytest.fixture
def small(tmp_path: Path, forked: ForkedCollector) -> Site:
    site = Site(tmp_path / "data", {"DATA_DIR": str(tmp_path / "data")}, forked=forked)
    shutil.copy(CASES / "tags.csv", site.data / "pexHistoryPart.csv")
    return site


OURS = ("pexHistoryConf.csv", "2026-11-01_00-05-00_pexHistoryConf.csv", "manifest.jsonl", "report.html", "parquet")
OURS += (
    "report-2026-10.html",
    "data_collector.log",
    "Manifest.JSONL",
    "report\n.html",
    ".collector/x.csv",
    "parquet/conferences/x.csv",
)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("participants", "--columns", "displayname"), 2, "did you mean display_name?"),
        (("usage", "--partial", "--columns", "qqqqqq"), 2, "there are day, tag"),
        (("usage", "--from", "2026-11-01"), 2, "usage needs a period"),
        (("usage", "--month", "2026-11"), 2, "not wholly covered"),
        (
            ("calls", "--month", "2026-09"),
            1,
            "2026-09-01 to 2026-09-30 is as asked for; the files have what began from 2026-11-23 to 2026-12-01",
        ),
        (("rooms", "--from", "2026-11-02", "--to", "2026-11-01"), 2, "give the first day with --from"),
        *[(("rooms", "--output", f"{{}}/data/{name}"), 2, "history's own") for name in OURS],
        (("rooms", "--output", "{}/nowhere/x.csv"), 1, "nowhere/x.csv cannot be made: {}/nowhere/.x.csv."),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    arguments: tuple[str, ...], code: int, said: str, small: Site, tmp_path: Path
) -> None:
    done = small("export", *(word.format(tmp_path) for word in arguments), env={"TZ": "Europe/Oslo"})
    assert (done.code, done.stdout) == (code, "")
    (line,) = done.stderr.splitlines()
    assert said.format(tmp_path) in line
    assert (left(small.data), left(tmp_path)) == (["pexHistoryPart.csv"], ["data"])


def test_only_an_export_of_ours_that_nobody_changed_is_replaced(small: Site, tmp_path: Path) -> None:
    output = tmp_path / "rooms.CSV"

    def rooms(output: Path = output) -> tuple[int, str]:
        done = small("export", "rooms", "--output", str(output))
        return done.code, done.stderr

    for each in (output, tmp_path / "others.csv", output):
        assert rooms(each) == (0, "")
        with (small.data / ".collector" / "export" / "written.jsonl").open("a") as noted:
            noted.write("half a li\n")
    with output.open("a") as file:
        file.write("a note of mine\r\n")
    content = output.read_bytes()
    assert b"room,tag" in content
    code, said = rooms()
    assert (code, "was changed since" in said, output.read_bytes()) == (1, True, content)
    output.unlink()
    output.touch()
    (tmp_path / "elsewhere").mkdir()
    for place in (small.data / ".collector" / "export", small.data / ".collector"):
        shutil.rmtree(place)
        place.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(CollectorError, match="link"):  # the command, as root, finds that before
            export(small.data, output, Wanted("rooms", "csv"), zone=OSLO)
        assert left(tmp_path / "elsewhere") == []
        place.unlink()
        place.mkdir()


def test_a_file_is_the_same_behind_a_link_to_its_folder(small: Site, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(small.data)
    for folder in (tmp_path / "link", small.data, tmp_path / "link"):
        write(small.data, folder, "rooms", "csv")
    with pytest.raises(CollectorError, match=r"^--output .*report.+html.*history's own"):  # in one line
        export(small.data, tmp_path / "link" / "report\n.html", Wanted("rooms"), zone=OSLO)


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_file_is_left_as_it_is(kind: str, small: Site, tmp_path: Path) -> None:
    OTHERS[kind](tmp_path / "rooms.csv")
    before = (tmp_path / "rooms.csv").lstat()
    with pytest.raises(CollectorError, match="is there already and is a"):
        write(small.data, tmp_path, "rooms", "csv")
    assert (tmp_path / "rooms.csv").lstat().st_ino == before.st_ino


def test_what_somebody_puts_there_meanwhile_is_left_as_it_is(small: Site, tmp_path: Path) -> None:
    def meanwhile(step: str) -> None:
        if step.startswith("writing"):
            (tmp_path / "x.csv").write_text("mine")

    with pytest.raises(CollectorError, match="is no export of this collector"):
        export(small.data, tmp_path / "x.csv", Wanted("rooms", "csv"), zone=OSLO, progress=meanwhile)
    assert (tmp_path / "x.csv").read_text() == "mine"
    assert left(tmp_path) == ["data", "x.csv"]


def test_an_export_is_on_the_disk_before_it_has_its_name_and_others_read_it_as_the_umask_says(
    small: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[int, bool] = {}

    def fsync(descriptor: int, real: Callable[[int], None] = os.fsync) -> None:
        synced.setdefault(os.fstat(descriptor).st_ino, (tmp_path / "rooms.csv").exists())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    before = os.umask(0o027)
    path = write(small.data, tmp_path, "rooms", "csv")
    os.umask(before)
    assert (synced[path.stat().st_ino], synced[tmp_path.stat().st_ino]) == (False, True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_the_list_of_exports_forgets_the_oldest(small: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "MOST", 2)
    for name in ("a.csv", "b.csv", "c.csv", "b.csv"):
        export(small.data, tmp_path / name, Wanted("rooms", "csv"), zone=OSLO)
    with pytest.raises(CollectorError, match="is no export of this collector"):
        export(small.data, tmp_path / "a.csv", Wanted("rooms", "csv"), zone=OSLO)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        *[
            (OSError(number, "no", "/x"), "/x: the disk is full")
            for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        ],
        (OSError(errno.EACCES, "Permission denied", "/x"), "out.csv cannot be made: /x: Permission denied"),
        (OSError(errno.EIO, "Input/output error"), "out.csv cannot be made: out.csv: Input/output error"),
        (duckdb.IOException("No space left on device\nmore"), "out.csv: the disk is full"),
        (duckdb.OutOfMemoryException("of the available disk space nothing is left"), "out.csv: the disk is full"),
        (duckdb.IOException("Out of luck\nmore"), "out.csv cannot be made: Out of luck"),
    ],
)
def test_what_fails_is_one_sentence(error: Exception, said: str) -> None:
    with pytest.raises(CollectorError) as raised, written.explained(Path("out.csv")):
        raise error
    assert str(raised.value).startswith(said)
    assert "more" not in str(raised.value)


@pytest.mark.parametrize("form", ["csv", "jsonl", "xlsx", "parquet"])
def test_a_full_disk_is_one_sentence_and_leaves_neither_a_file_nor_a_draft(
    form: str, data: Path, tmp_path: Path
) -> None:
    def begins_to_write(step: str) -> None:
        if step.startswith("writing"):
            room.enter_context(little_room(30_000))

    wanted = Wanted("participants", form)
    with ExitStack() as room, pytest.raises(CollectorError, match=r"the disk is full|File too large") as raised:
        export(data, tmp_path / "x", wanted, zone=OSLO, progress=begins_to_write)
    assert "\n" not in str(raised.value)
    assert (left(tmp_path), [*(data / ".collector").glob("export-*")]) == ([], [])


def test_an_empty_folder_has_nothing_to_export(tmp_path: Path) -> None:
    with pytest.raises(CollectorError, match="holds no rows"):
        write(tmp_path, tmp_path, "participants", "csv")
    assert left(tmp_path) == []
