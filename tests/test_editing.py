"""Rows changed or left out, and every other byte as it was."""

from __future__ import annotations

import codecs
import csv
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pexip_history.archive.editing import Change, Changing, Edited, Moved, edit, open_table
from pexip_history.archive.holdings import holdings, remove_drafts, strange_files
from pexip_history.archive.parquet_rows import Unreadable, empty_cells, leave_out_before, parquet_cells, parquet_files
from pexip_history.folder.reading import NotOurs

CELL = st.text(st.one_of(st.sampled_from('a,;"\r\n\t é\x00'), st.characters(codec="utf-8")), max_size=6)
ROWS = st.lists(st.lists(CELL, min_size=2, max_size=4), max_size=8)


def emptying(*ids: str) -> Changing:
    """Empties the second cell of these rows."""
    return lambda columns: lambda row: [row[0], "", *row[2:]] if row[0] in ids and row[1:2] > [""] else row


def leaving_out(*ids: str) -> Changing:
    return lambda columns: lambda row: None if row[0] in ids else row


def as_text(rows: list[list[str]], delimiter: str = ",", end: str = "\r\n", quoting: int = csv.QUOTE_MINIMAL) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(rows)  # type: ignore[arg-type]
    return out.getvalue()


MOMENT = "2026-11-24_00-05-00"
PART, DATED = "pexHistoryPart.csv", f"{MOMENT}_pexHistoryPart.csv"
HEADER = ["id", "name", "more"]
THREE = [["1", "Kari, K", 'a"b'], ["2", "Ola\nN", ""], ["3", "é", "x"]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_a_file_keeps_the_form_that_a_spreadsheet_gave_it(
    tmp_path: Path, encoding: str, delimiter: str, quoting: int, end: str
) -> None:
    path = tmp_path / "a.csv"
    bom = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}.get(encoding, b"")
    path.write_bytes(bom + as_text([HEADER, *THREE], delimiter, end, quoting).encode(encoding))
    edited = edit(path, emptying("2"))
    assert (edited.changed, edited.gone, edited.size) == (1, 0, path.stat().st_size)
    wanted = as_text([HEADER, THREE[0]], delimiter, end, quoting) + as_text([["2", "", ""]], delimiter, end)
    wanted += as_text([THREE[2]], delimiter, end, quoting)
    assert path.read_bytes() == bom + wanted.encode(encoding)


@settings(deadline=None)
@given(ROWS, st.sets(st.integers(0, 7)), st.booleans(), st.binary(max_size=3))
def test_what_is_not_changed_stays_to_the_byte(
    rows: list[list[str]], chosen: set[int], ended: bool, odd: bytes
) -> None:
    rows = [[str(number), *row[1:]] for number, row in enumerate(rows)]
    ids = [str(number) for number in chosen]
    lines = [as_text([row], quoting=csv.QUOTE_ALL).encode() for row in rows]
    if lines and b'"' not in odd and b"\n" not in odd and b"\r" not in odd:
        lines[-1] = b'"' + odd + lines[-1][1:]  # bytes that are not UTF-8; the id is another then
    if lines and not ended:
        lines[-1] = lines[-1].removesuffix(b"\r\n")
    head = as_text([HEADER]).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_bytes(head + b"".join(lines))
        with open_table(path) as table:
            before = [list(row) for row in table]
        inode = path.stat().st_ino
        edited, gone = edit(path, leaving_out(*ids)), sum(row[0] in ids for row in before)
        assert (path.stat().st_ino == inode) == (gone == 0), "rewritten only then"
        assert edited == Edited(0, gone, path.stat().st_size if gone else 0)
        kept = [line for line, row in zip(lines, before, strict=True) if row[0] not in ids]
        assert path.read_bytes() == head + b"".join(kept)


@pytest.mark.parametrize("more", [b"4,x,\r\n", b""])
def test_nothing_is_left_of_a_rewriting_that_fails(tmp_path: Path, more: bytes) -> None:
    path = tmp_path / "a.csv"
    before = as_text([HEADER, *THREE]).encode()
    path.write_bytes(before)
    os.utime(path, (0, 0))

    def full(edited: Edited) -> None:
        raise OSError(28, "No space left on device")

    def written_to(columns: list[str]) -> Change:
        path.write_bytes(before + more)
        return leaving_out("1")(columns)

    with pytest.raises(OSError, match="No space"):
        edit(path, emptying("1"), full)
    assert path.read_bytes() == before
    with pytest.raises(Moved, match="written to meanwhile"):
        edit(path, written_to)
    assert path.read_bytes() == before + more
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("separator", [b",", b";"])
def test_a_file_that_is_one_endless_row_is_named_and_stays(tmp_path: Path, separator: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"id" + separator + b"name\r\n" + b"1" + separator + b'"' + b"x" * (9 << 20))
    size = path.stat().st_size
    with pytest.raises(NotOurs, match="8 MB"):
        edit(path, emptying("2"))
    assert path.stat().st_size == size
    assert [*tmp_path.iterdir()] == [path]


def test_every_file_with_rows_is_found_and_no_other(tmp_path: Path) -> None:
    ours = [
        *(".collector/7-participant.csv", f"{DATED[:-8]}Conf.csv", DATED, PART),
        *(f"{PART}.set-aside-{MOMENT}", f"{PART}.set-aside-{MOMENT}-1", f"{PART}.unfinished-{MOMENT}"),
        *("pexHistoryStream.csv", f"parquet/participants/{MOMENT}.parquet"),
    ]
    drafts = [f"{name}.new" for name in (PART, DATED, f"{PART}.set-aside-{MOMENT}", ours[-1])]
    tables = ["Copy of pexHistoryPart.csv", "export.xlsx", f"pexHistoryOther.csv.set-aside-{MOMENT}"]
    others = [*tables, "notes.new", "manifest.jsonl", ".collector/lock", ".collector/7-other.csv"]
    assert list(holdings(tmp_path)) == []
    for name in (*ours, *drafts, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("pexHistoryConf.csv.new", "a folder.csv"):
        (tmp_path / name).mkdir()
    assert [holding.name for holding in holdings(tmp_path)] == ours
    remove_drafts(tmp_path)
    assert not [name for name in drafts if (tmp_path / name).exists()]
    assert all((tmp_path / name).exists() for name in (*ours, *others))
    assert strange_files(tmp_path) == tables


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    path = tmp_path / "parquet" / "participants" / f"{MOMENT}.parquet"
    path.parent.mkdir(parents=True)
    duckdb.sql(
        "SELECT i::VARCHAR AS id, 'Kari ' || i AS display_name, 'sip:' || i AS local_alias,"
        " [{'rx': i, 'codec': 'opus'}] AS media_streams,"
        " (TIMESTAMP '2026-11-23 08:00:00' + to_hours(i)) AT TIME ZONE 'UTC' AS end_time,"
        " i % 2 = 0 AS has_media FROM range(5) t(i)"
    ).write_parquet(str(path))
    return path


def rows_of(path: Path) -> list[tuple[object, ...]]:
    return duckdb.sql(f"SELECT * FROM read_parquet('{path}')").fetchall()


def test_parquet_cells_are_emptied_and_the_types_stay(parquet: Path) -> None:
    before = rows_of(parquet)
    types = duckdb.sql(f"DESCRIBE SELECT * FROM read_parquet('{parquet}')").fetchall()
    (parquet.parent.parent / "linked").symlink_to(parquet.parent)
    assert list(parquet_files(parquet.parent.parent.parent)) == [parquet]
    cells = {"display_name": ["1", "3", "9"], "local_alias": ["3"], "call_tag": ["1"]}
    assert empty_cells(parquet, cells) == 2
    wanted = [list(row) for row in before]
    wanted[1][1] = wanted[3][1] = wanted[3][2] = None
    assert [list(row) for row in rows_of(parquet)] == wanted
    assert duckdb.sql(f"DESCRIBE SELECT * FROM read_parquet('{parquet}')").fetchall() == types
    assert b"Kari 3" not in parquet.read_bytes()
    inode = parquet.stat().st_ino
    assert empty_cells(parquet, cells) == 0  # it is done
    assert parquet.stat().st_ino == inode
    columns, rows = parquet_cells(parquet, ["id", "display_name", "end_time", "remote_alias"])
    assert columns == ["id", "display_name", "end_time"]
    assert list(rows)[:2] == [["0", "Kari 0", "2026-11-23T08:00:00"], ["1", "", "2026-11-23T09:00:00"]]


def test_parquet_rows_that_are_too_old_go(parquet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = duckdb.connect

    def in_tokyo(**how: Any) -> duckdb.DuckDBPyConnection:
        return connect(**how).execute("SET TimeZone = 'Asia/Tokyo'")

    monkeypatch.setattr(duckdb, "connect", in_tokyo)
    query = f"SELECT * REPLACE (CASE WHEN id <> '4' THEN end_time END AS end_time) FROM '{parquet}'"
    duckdb.sql(query).write_parquet(f"{parquet}.new")
    Path(f"{parquet}.new").replace(parquet)
    before = rows_of(parquet)
    assert leave_out_before(parquet, "2026-11-23T10:00:00", ("end_time", "start_time")) == 2
    assert rows_of(parquet) == before[2:]
    assert leave_out_before(parquet, "2026-11-23T10:00:00", ("end_time", "start_time")) == 0


def test_streams_are_told_apart_by_their_participant(parquet: Path) -> None:
    path = parquet.parent.with_name("streams") / parquet.name
    path.parent.mkdir()
    duckdb.sql("SELECT 'p1' AS participant_id, '1' AS id, 'a' AS display_name").write_parquet(str(path))
    assert [empty_cells(path, {"display_name": [id]}) for id in ("1", "p1")] == [0, 1]


def test_what_is_no_parquet_file_is_named_and_stays(parquet: Path) -> None:
    parquet.write_bytes(b"PAR1 not really")
    with pytest.raises(Unreadable, match=parquet.name):
        empty_cells(parquet, {"display_name": ["1"]})
    with pytest.raises(Unreadable):
        list(parquet_cells(parquet, ["id"])[1])
    assert parquet.read_bytes() == b"PAR1 not really"
