"""The files as typed tables: whatever was done to them, no row stops anything, and none is left out without a word."""

from __future__ import annotations

import csv
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import duckdb
import pytest
from duckdb import DuckDBPyConnection
from hypothesis import given, settings
from hypothesis import strategies as st

from pexip_history.folder.cells import BLANKS, RISKY, guard
from pexip_history.folder.names import AGGREGATES
from pexip_history.history import schema, tables
from pexip_history.history.database import database, told, workshop
from pexip_history.history.files import File, ahead, find, pieces
from pexip_history.history.tables import Table, Take, load
from pexip_history.messages import counted

CASES = Path(__file__).parent / "cases"
DATED = "2026-11-{}_00-05-00_pexHistoryPart.csv"
HEADER = "id,start_time,end_time,duration,display_name"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[DuckDBPyConnection]:
    (tmp_path / "scratch").mkdir()
    with database(tmp_path / "scratch") as db:
        yield db


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder whose name is a glob, and text to be escaped."""
    (tmp_path / "it's [a] * {b}?").mkdir()
    (tmp_path / "it's [a] X {b}?").mkdir()
    return tmp_path / "it's [a] * {b}?"


def read(
    db: DuckDBPyConnection, data: Path, resource: str = "participant", known: int = 0, **columns: Take
) -> tuple[Table, list[Mapping[str, object]]]:
    """The table, and its rows by id, without the columns that are not the files'."""
    db.execute(f"DROP TABLE IF EXISTS {resource}")
    with workshop(data, "test") as folder:
        table = load(db, data, resource, folder, known=known, columns=columns or None)
        assert not [*folder.glob("utf8-*")], "a copy is as large as the file"
    cursor = db.execute(f"SELECT * EXCLUDE (_file, _key, _unread) FROM {resource} ORDER BY _file, rowid")
    names = [column[0] for column in cursor.description or ()]
    return table, [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def ids(rows: list[Mapping[str, object]]) -> list[object]:
    return [row["id"] for row in rows]


def row(ident: str, name: str = "Ada", day: str = "2026-11-23") -> str:
    return f"{ident},{day}T08:00:00,{day}T09:00:00,3600,{name}"


def write(path: Path, *rows: str, header: str = HEADER) -> None:
    path.write_text("".join(f"{line}\r\n" for line in (header, *rows)), encoding="utf-8", newline="")


# --- Values ---------------------------------------------------------------------------------------------------------

TIMES = {
    "2026-11-23T08:59:31.112339": datetime(2026, 11, 23, 8, 59, 31, 112339),
    "2026-11-23T08:59:31": datetime(2026, 11, 23, 8, 59, 31),
    "2026-11-23T08:59:31Z": datetime(2026, 11, 23, 8, 59, 31),
    "2026-11-23T10:00:00+02:00": datetime(2026, 11, 23, 8),
    "2026-11-23 10:00:00.5-0330": datetime(2026, 11, 23, 13, 30, 0, 500000),
    " 1970-01-01T00:00:00 ": datetime(1970, 1, 1),
    "2999-12-31T23:59:59.999999": datetime(2999, 12, 31, 23, 59, 59, 999999),
    **dict.fromkeys(("1969-12-31T23:59:59", "3000-01-01T00:00:00")),
    **dict.fromkeys(
        ("", "11/23/2026 8:59:31 AM", "23.11.2026 08:59", "infinity", "10:00", "x", "9" * 300, "0001-01-01")
    ),
}
COUNTS: dict[str, int | None] = {"3600": 3600, " 0047 ": 47, "-5": -5, "4611686018427387904": 2**62}
COUNTS |= dict.fromkeys(("", "1.5", "1e3", "99999999999999999999", "ten", "0x10"))
NUMBERS = {"0.5": 0.5, " 3 ": 3.0, "1e2": 100.0} | dict.fromkeys(("", "inf", "nan", "1e999", "0,5", "x"))
TRUTHS = {"True": True, "False": False, " true ": True} | dict.fromkeys(("", "1", "yes"))


@pytest.mark.parametrize(
    ("column", "values"),
    [("end_time", TIMES), ("duration", COUNTS), ("rx_packet_loss", NUMBERS), ("has_media", TRUTHS)],
    ids=["times", "counts", "numbers", "truths"],
)
def test_each_value_is_read_or_is_none_and_the_row_is_there(
    db: DuckDBPyConnection, data: Path, column: str, values: Mapping[str, object]
) -> None:
    with (data / "pexHistoryPart.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "start_time", *dict.fromkeys(("end_time", column))])
        writer.writerows([n, "2026-11-23T07:00:00", *(["2026-11-23T08:00:00"] if column != "end_time" else []), text]
                         for n, text in enumerate(values))  # fmt: skip
    table, rows = read(db, data)
    assert {text: found[column] for text, found in zip(values, rows, strict=True)} == values
    unread = sum(value is None and text != "" for text, value in values.items())
    (remark,) = table.remarks
    assert f"pexHistoryPart.csv: {counted(unread, 'row')} whose {column} cannot be read" in str(remark)
    table, _ = read(db, data, plain=Take(column, plain=True))
    assert table.remarks == []


def test_the_blanks_before_a_sign_are_those_of_the_guard(db: DuckDBPyConnection) -> None:
    wanted = {c for c in map(chr, range(sys.maxunicode + 1)) if re.match(f"[{BLANKS}]", c)} - set("\t\r\n")
    rows = db.execute(
        f"SELECT c FROM (SELECT unnest(?::VARCHAR[]) AS c) WHERE regexp_full_match(c, '[{schema.BLANKS}]')",
        [[chr(n) for n in range(1, sys.maxunicode + 1) if not 0xD800 <= n <= 0xDFFF]],
    ).fetchall()
    assert {text for (text,) in rows} == wanted - {"\0"}


def test_what_is_read_cannot_change_how_it_is_read(db: DuckDBPyConnection, tmp_path: Path) -> None:
    with pytest.raises(duckdb.Error, match="locked"):
        db.execute("SET memory_limit = '9GB'")
    names = ("autoinstall_known_extensions", "autoload_known_extensions", "preserve_insertion_order", "threads")
    set_to = [db.execute("SELECT current_setting(?)", [name]).fetchone() for name in (*names, "memory_limit")]
    assert set_to == [(False,), (False,), (False,), (2,), ("244.1 MiB",)]
    for name in ("temp_directory", "extension_directory", "home_directory"):
        (folder,) = db.execute("SELECT current_setting(?)", [name]).fetchone() or ()
        assert Path(folder).samefile(tmp_path / "scratch"), name
    (file,) = db.execute("SELECT path FROM duckdb_databases() WHERE database_name = 'history'").fetchone() or ()
    assert Path(file).name == "history.duckdb", "in memory it would have no room"


def test_no_file_stays_open(data: Path) -> None:
    write(data / DATED.format(22), row("a"))
    before = {*Path("/proc/self/fd").iterdir()}
    said: list[str] = []
    with workshop(data, "test") as folder, database(folder) as db:
        load(db, data, "participant", folder, progress=said.append)
    assert said == ["reading 1 dated file, 0 MB"]
    assert {*Path("/proc/self/fd").iterdir()} == before


def test_how_far_something_is_is_told_at_once_again_and_never_beyond_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pexip_history.history.database.EACH", 0.001)
    said, again = list[str](), threading.Event()

    def progress(text: str) -> None:
        said.append(text)
        if len(said) == 2:
            again.set()

    with told(progress, "reading", lambda: 1.5):
        assert again.wait(10)
    assert said[:2] == ["reading", "reading, 100 %"]


def test_what_killed_processes_left_goes_after_a_day_and_a_link_is_not_followed(data: Path) -> None:
    (data / "mine").mkdir()
    hidden = data / ".collector"
    for name, hours in (("test-old", 25), ("test-new", 23), ("other-old", 25)):
        (hidden / name).mkdir(parents=True)
        (hidden / name / "file").touch()
        os.utime(hidden / name, (time.time() - hours * 3600,) * 2)
    (hidden / "test-link").symlink_to(data / "mine")
    os.utime(hidden / "test-link", (0, 0), follow_symlinks=False)
    with workshop(data, "test") as folder:
        assert {path.name for path in hidden.iterdir()} == {"test-new", "other-old", folder.name}
    assert {path.name for path in data.iterdir()} == {"mine", ".collector"}
    assert not folder.exists()


texts = st.text(st.sampled_from(list("'=+-@;|\t\r\n 15ea\"\u200b\uff1d(.")), max_size=12) | st.text(max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.lists(texts, min_size=20, max_size=60))
def test_the_guard_is_undone_exactly(values: list[str]) -> None:
    values = [text.encode("utf-8", "replace").decode().replace("\0", "") for text in values]
    # An apostrophe that the node sent itself before a sign looks like the guard's own.
    sent = [t for t in values if not _like_guarded(t)]
    query = f"SELECT {schema.unguarded('c')} FROM (SELECT unnest(?::VARCHAR[]) AS c)"
    found = duckdb.execute(query, [[guard(text) for text in sent]]).fetchall()
    assert [text for (text,) in found] == sent


def _like_guarded(text: str) -> bool:
    pieces = [text, *(text[n + 1 :] for n, character in enumerate(text) if character in ";|\t\r\n")]
    return any(p.startswith("'") and (RISKY.match(p, 1) or p[1:2] in ("\t", "\r", "\n")) for p in pieces)


# --- Files ----------------------------------------------------------------------------------------------------------


def test_each_id_is_there_once_and_what_was_there_twice_is_told(db: DuckDBPyConnection, data: Path) -> None:
    write(data / "pexHistoryPart.csv", row("a", "first"), row("b"), row("a", "second"), row("b"), row("", "x"), row(""))
    table, rows = read(db, data)
    assert ids(rows) == ["a", "b", None, None]
    assert rows[0]["display_name"] == "first"
    assert (table.rows, table.twice, table.short) == (4, 2, False)
    write(data / "pexHistoryPart.csv", *["2026-11-23T08:00:00,"] * 2, header="start_time,end_time")
    assert len(read(db, data)[1]) == 2, "nobody knows whose they are"
    columns = "participant_id,id,start_time,end_time,stream_type"
    write(data / "pexHistoryStream.csv", "a,1,,,audio", "a,1,,,audio", "a,,,,audio", "a,,,,video", header=columns)
    assert ids(read(db, data, "stream")[1]) == ["1", None, None]


def test_the_dated_files_are_read_where_the_aggregate_is_short_or_missing(db: DuckDBPyConnection, data: Path) -> None:
    table, _ = read(db, data, known=2, id=Take("id"))
    assert (table.rows, table.twice, table.missing, table.source) == (0, 0, 2, "")
    write(data / DATED.format(22), row("a") + ",SIP", row("b") + ",", header=f"{HEADER},protocol")
    write(data / DATED.format(23), row("c"), row("a", "again"))
    write(data / "2026-11-23_00-05-00_pexHistoryConf.csv", row("not mine"))
    table, rows = read(db, data)
    assert (ids(rows), table.source, table.short, table.missing) == (["a", "b", "c"], "2 dated files", True, 0)
    assert ("protocol" in table.there, table.twice) == (True, 1)
    write(data / "pexHistoryPart.csv", row("c"), row("c"))  # moved away at the year's end, and begun again
    table, rows = read(db, data, known=1)
    assert (ids(rows), table.short) == (["c"], False)
    table, rows = read(db, data, known=3)
    assert sorted(map(str, ids(rows))) == ["a", "b", "c"]
    assert (table.source, table.short, table.twice) == ("pexHistoryPart.csv and 2 dated files", True, 2)
    table, _ = read(db, data, known=4)
    assert table.missing == 1


def test_of_several_files_the_one_is_named_whose_cells_cannot_be_read(db: DuckDBPyConnection, data: Path) -> None:
    for day in (24, 22, 23):
        write(data / DATED.format(day), row(f"{day}").replace("3600", "an hour" * (day > 22)))
    table, _ = read(db, data)
    assert [remark.file[:10] for remark in table.remarks] == ["2026-11-23", "2026-11-24"]


def test_a_file_that_goes_before_it_is_read_is_none_and_a_copy_of_ours_that_is_gone_is_an_error(
    db: DuckDBPyConnection, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (data / DATED.format(day) for day in (22, 23))
    for path in (old, new):
        write(path, row(path.name))
    with workshop(data, "test") as folder:
        table = load(db, data, "participant", folder, progress=lambda text: old.unlink(missing_ok=True))
        assert (table.rows, table.remarks) == (1, [])
        db.execute("DROP TABLE participant")
        monkeypatch.setattr(tables, "PIECE", 1)
        monkeypatch.setattr(tables, "pieces", lambda file, folder, _: iter([[replace(file, path=folder / "gone")]]))
        with pytest.raises(FileNotFoundError):
            load(db, data, "participant", folder)


@pytest.mark.parametrize(
    ("resource", "lacking"),
    [("conference", "start_time"), ("participant", "start_time"), ("participant", "end_time"),
     ("stream", "stream_type"), ("stream", "participant_id"), ("alarm", "time_lowered")],
)  # fmt: skip
def test_a_file_without_its_times_or_its_kind_is_none_of_ours(resource: str, lacking: str, data: Path) -> None:
    columns = {"participant_id", "start_time", "end_time", "stream_type", "time_lowered"} - {lacking}
    write(data / AGGREGATES[resource], header=",".join(columns))
    (remark,) = find(data, resource).remarks
    assert f"no header with the columns of the history ({lacking} missing)" in remark.what


def test_a_file_may_have_a_thousand_columns(data: Path) -> None:
    write(data / "pexHistoryPart.csv", header=HEADER + ",x" * 995)
    assert find(data, "participant").aggregate


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ((CASES / "semicolons.csv").read_bytes(), "saved with semicolons"),
        (f"{HEADER}\r\n{row('x')}\r\n".encode("utf-16"), "saved as UTF-16"),
        (f"{HEADER}\r\n{row('x')}\r\n".replace(",", "\t").encode(), "saved with tabs"),
        (b"a,b\r\n1,2\r\n", "no header with the columns"),
        (b"<html>" * 1_000_000, "no header with the columns"),
        (HEADER.encode() + b",x" * 100_000, "its header has 100005 columns"),
        (b"\0" * 5000, "UTF-16"),
    ],
)
def test_an_aggregate_that_is_not_ours_is_named_with_its_fix_and_the_dated_files_are_read(
    db: DuckDBPyConnection, data: Path, content: bytes, why: str
) -> None:
    write(data / DATED.format(22), row("a"), row("b"))
    (data / "pexHistoryPart.csv").write_bytes(content)
    table, rows = read(db, data)
    assert ids(rows) == ["a", "b"]
    (remark,) = table.remarks
    assert remark.file == "pexHistoryPart.csv"
    assert why in remark.what
    assert "save it as CSV UTF-8" in remark.what
    assert table.source == "1 dated file"


def test_what_has_the_name_of_a_dated_file_and_is_none_is_named_and_left(db: DuckDBPyConnection, data: Path) -> None:
    elsewhere = data.parent / "elsewhere.csv"
    write(elsewhere, row("secret"))
    write(data.parent / "it's [a] X {b}?" / DATED.format(22), row("another folder's"))
    write(data / DATED.format(22), row("a"))
    os.mkfifo(data / DATED.format(23))
    (data / DATED.format(24)).symlink_to(elsewhere)
    (data / DATED.format(25)).mkdir()
    (data / DATED.format(26)).touch()
    table, rows = read(db, data)
    assert ids(rows) == ["a"]
    assert [remark.file[:10] for remark in table.remarks] == ["2026-11-23", "2026-11-24", "2026-11-25"]
    assert all(remark.what.startswith("not read: it is a ") for remark in table.remarks)


WINDOWS = [
    HEADER.encode(),
    row("a", "Zoë € Ångström").encode("cp1252"),
    row("b", "Zoë 東京").encode(),
    row("c").encode(),
]
LONG = "x" * (6 << 20)  # a conference of ten thousand
NONE = ["b,2026-11-23T08:00:00", row("c", LONG + LONG), "", row("d", '"said ""x"""'), ",,,,", row("", "E")]


@pytest.mark.parametrize(
    ("content", "names", "said"),
    [
        (b"\r\n".join([*WINDOWS, row("d", "x").encode() + b"\x81\r\n"]),
         {"a": "Zoë € Ångström", "b": "Zoë 東京", "c": "Ada", "d": "x\x81"}, "2 lines that are not UTF-8, read as"),
        ("\r\n".join([HEADER, row("a") + ",note,another", *NONE, row("f", LONG), ""]).encode(),
         {"a": "Ada", "b": None, "d": 'said "x"', None: "E", "f": LONG},
         "1 row left out that no program could read (line 4)"),
        ((CASES / "torn.csv").read_bytes(), {"p1": "Ada"}, ""),
    ],
    ids=["Windows-1252 between UTF-8", "rows that are none", "a copy made in mid-write"],
)  # fmt: skip
def test_what_can_be_read_of_a_file_is_read_and_the_rest_is_named(
    db: DuckDBPyConnection, data: Path, content: bytes, names: dict[str | None, str | None], said: str
) -> None:
    (data.parent / "elsewhere.csv").write_bytes(content)
    (data / "pexHistoryPart.csv").symlink_to(data.parent / "elsewhere.csv")  # the user's own link is followed
    table, rows = read(db, data)
    found = {each["id"]: each["display_name"] for each in rows}
    assert found.items() >= names.items()
    if said:
        assert (found, said in str(table.remarks[0])) == (names, True)


@pytest.mark.parametrize("error", [duckdb.InvalidInputException, duckdb.ConversionException])
def test_what_cannot_be_read_in_any_way_is_named_with_its_fix(
    db: DuckDBPyConnection, data: Path, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_insert", Mock(side_effect=error("odd\nmore")))  # private: no file is known to do so
    write(data / "pexHistoryPart.csv", row("a"))
    table, _ = read(db, data)
    assert [str(remark) for remark in table.remarks] == ["pexHistoryPart.csv: not read: odd; restore it"]


@pytest.mark.parametrize(("rows", "said"), [(5, "2, 3, 4, 5, 6"), (6, "2, 3, 4, 5, 6 and so on")])
def test_of_many_rows_that_no_program_could_read_some_lines_are_named(
    db: DuckDBPyConnection, data: Path, rows: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pexip_history.history.files.LONGEST", 1000)
    write(data / "pexHistoryPart.csv", *(row(f"{n}", "x" * 1100) for n in range(rows)), row("a"))
    table, found = read(db, data)
    assert ids(found) == ["a"]
    assert f"{counted(rows, 'row')} left out that no program could read (line {said})" in str(table.remarks[0])


def test_more_files_than_may_be_open_at_once_are_read_and_one_broken_one_spoils_no_other(
    db: DuckDBPyConnection, data: Path
) -> None:
    for number in range(450):
        path = data / f"2026-11-22_{number // 60:02}-{number % 60:02}-00_pexHistoryPart.csv"
        write(path, row(f"{number}"))
        if number == 250:
            path.write_bytes(path.read_bytes() + b'bad,"un\xff')
    table, rows = read(db, data)
    assert {f"{n}" for n in range(450)} <= set(ids(rows))
    assert table.files[251].name[11:16] == "04-11"
    places = db.execute("SELECT DISTINCT _file, id FROM participant WHERE id IN ('0', '449', '250')").fetchall()
    assert {ident: table.files[place].name[11:16] for place, ident in places} == {
        "0": "00-00",
        "250": "04-10",
        "449": "07-29",
    }


def test_a_large_file_is_cut_where_rows_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pexip_history.history.files.BLOCK", 100)
    monkeypatch.setattr("pexip_history.history.files.PIECE", 300)
    lines = [row(f"{n}", f'"line\r\nof {"quoted text" + chr(10) * (n % 40)}"') for n in range(100)]
    write(tmp_path / "a.csv", *lines)
    whole, found, paths = (tmp_path / "a.csv").read_bytes().decode(), [], set()
    for together in ahead(pieces(File(tmp_path / "a.csv", "a.csv", ()), tmp_path, 2)):
        found += [piece.path.read_bytes().decode() for piece in together]
        paths |= {piece.path for piece in together}
    assert len(found) > 20
    assert len(paths) == 4
    assert "".join(found) == whole[whole.index("\n") + 1 :]
    rows = [each for text in found for each in csv.reader(text.splitlines(keepends=True), strict=True)]
    assert [each[0] for each in rows] == [f"{n}" for n in range(100)]


def test_dated_files_are_read_together_however_large_they_are_in_all(
    db: DuckDBPyConnection, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement for each would take five times as long."""
    monkeypatch.setattr("pexip_history.history.tables.PIECE", 1)
    monkeypatch.setattr("pexip_history.history.tables.pieces", lambda *of: pytest.fail("one was cut"))
    for number in range(3):
        write(data / DATED.format(20 + number), row(f"{number}"))
    _, rows = read(db, data, who=Take("display_name"))
    assert len(rows) == 3


@pytest.mark.parametrize("rows", [*range(1, 30)])
def test_every_row_of_a_large_file_is_read_and_no_name_that_looks_like_rows_however_many_pieces_it_has(
    db: DuckDBPyConnection, data: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pexip_history.history.files.BLOCK", 50)
    monkeypatch.setattr("pexip_history.history.files.PIECE", 120)
    monkeypatch.setattr("pexip_history.history.tables.PIECE", 1)
    cut: list[Path] = []
    monkeypatch.setattr("pexip_history.history.tables.pieces", lambda *of: cut.append(of[1]) or pieces(*of))
    monkeypatch.setattr(
        tables, "_read_edited", lambda *of: pytest.fail("read whole")
    )  # private: it would come to the same
    end = "\n" if rows % 2 else "\r\n"
    name, path = f"x{end}{row('fake')}{end}" * 3, data / "pexHistoryPart.csv"
    write(path, *(row(f"{n}", f'"{name}"') + ",x" for n in range(rows)), header=f'{HEADER},"quoted{end}too"')
    path.write_bytes(path.read_bytes().replace(b"\r\n", end.encode()))
    table, found = read(db, data)
    assert sorted((int(str(each["id"])), each["display_name"]) for each in found) == [(n, name) for n in range(rows)]
    assert cut
    assert not table.remarks


def test_what_has_no_room_in_memory_as_a_whole_is_read_in_pieces(
    db: DuckDBPyConnection, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = tables._insert  # private: a test has not so much memory

    def with_little_memory(*of: Any, cut: bool = False) -> list[int]:
        if not cut:
            raise duckdb.OutOfMemoryException("no room")
        return insert(*of, cut=True)

    monkeypatch.setattr(tables, "_insert", with_little_memory)  # private: as above
    write(data / "pexHistoryPart.csv", row("a").replace("3600", "an hour"))
    table, rows = read(db, data)
    assert (ids(rows), table.remarks[0].file) == (["a"], "pexHistoryPart.csv")


def test_how_much_of_a_large_file_is_read_only_grows(
    db: DuckDBPyConnection, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was that of the piece under way: 5 %, 100 %, 5 %."""
    copy, shares = tables._copy, list[float]()  # private: a piece is read too fast to be seen

    def counted(*of: Any, **options: Any) -> None:
        copy(*of, **options)
        shares.append(of[1].read / (data / "pexHistoryPart.csv").stat().st_size * 1e6)

    for place, value in (("files.BLOCK", 50), ("files.PIECE", 120), ("tables.PIECE", 1), ("tables._copy", counted)):
        monkeypatch.setattr(f"pexip_history.history.{place}", value)
    write(data / "pexHistoryPart.csv", *(row(f"{n}", '"a\r\nb"') for n in range(20)))
    read(db, data)
    assert len(shares) > 3
    assert shares == sorted({*shares})
    assert 0.9 < shares[-1] <= 1


EVENT = "details,id,identifier,name,node,time_changed"
ALARM = "details,id,identifier,instance,level,name,node,time_lowered,time_raised"
TWICE = f'{HEADER},ID,"a""b",_file,,duration'


@pytest.mark.parametrize(
    ("header", "line", "columns", "wanted"),
    [
        (f"{HEADER},of tomorrow,has_media", row("a") + ",0047,True", {}, {"of tomorrow": "0047", "has_media": True}),
        (HEADER, row("'=a", "'=SUM(1)"), {}, {"id": "'=a", "display_name": "=SUM(1)"}),
        (TWICE, row("a") + ",x,y,z,w,v", {}, {"id": "a", "a\"b": "y", "duration": 3600}),
        (HEADER, row("a", " Ada "), {"who": Take("display_name", "upper(trim({}))"), "none": Take("vendor")},
         {"who": "ADA", "none": None}),
        ("\ufeffid, start_time ,end_time", "a,2026-11-23T08:00:00,", {}, {"start_time": datetime(2026, 11, 23, 8)}),
        ("start_time,end_time,display_name", "2026-11-23T08:00:00,,Ada", {}, {"display_name": "Ada"}),
        (ALARM, "x,7,1,i,error,l,n,2026-11-23T09:00:00,2026-11-23T08:00:00", {},
         {"id": "7", "time_raised": datetime(2026, 11, 23, 8), "time_lowered": datetime(2026, 11, 23, 9)}),
        (EVENT, "x,7,1,n,n,2026-11-23T09:00:00", {}, {"id": "7", "time_changed": datetime(2026, 11, 23, 9)}),
    ],
    ids=["unknown columns are text", "a key keeps its apostrophe", "names twice", "wanted columns", "a mark and blanks",
         "without ids", "alarms", "events"],
)  # fmt: skip
def test_each_column_is_there_once_under_its_name(
    db: DuckDBPyConnection, data: Path, header: str, line: str, columns: dict[str, Take], wanted: dict[str, object]
) -> None:
    resource = {ALARM: "alarm", EVENT: "workervm_status_event"}.get(header, "participant")
    write(data / AGGREGATES[resource], line, header=header)
    table, (found,) = read(db, data, resource, **columns)
    assert found.items() >= wanted.items()
    names = [name.strip() for name in header.removeprefix("\ufeff").split(",")]
    assert list(found) == ([*HEADER.split(","), 'a"b'] if header == TWICE else [*(columns or names)])
    assert table.there == set(found) - {"none"}
