"""Our CSV files are read in bounded pieces, whatever somebody made of them, and every row's place is known."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pexip_history.archive import aggregates
from pexip_history.archive.aggregates import whole_until
from pexip_history.archive.editing import open_table
from pexip_history.folder import reading
from pexip_history.folder.reading import MOST, MOST_CELLS, NotOurs, cell_of, header, open_rows
from pexip_history.folder.rewriting import new_file, rewrite
from pexip_history.resources import PARTICIPANT
from tests.harness import PART, ROOT

HEADER = b"id,name,end_time\r\n"
MB = 1 << 20


def made(folder: Path, content: bytes) -> Path:
    path = folder / PART
    path.write_bytes(content)
    return path


READ = """
import re, sys
from pathlib import Path
from pexip_history.errors import CollectorError
from pexip_history.folder.reading import open_rows
for name in sys.argv[1:]:
    try:
        with open_rows(Path(name)) as rows:
            print(bool(rows.header) and all(rows))
    except CollectorError as error:
        print(error)
print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""


CELL = st.text(st.sampled_from('ab,"\r\n;\0\ufeffé😀 '), max_size=6)
TEXTS = st.lists(st.lists(CELL, min_size=3, max_size=3), max_size=6)


@given(rows=TEXTS, line_end=st.sampled_from(["\r\n", "\n"]), raw=st.binary(max_size=40), bom=st.booleans())
def test_rows_are_those_of_csv_and_their_places_are_right(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], line_end: str, raw: bytes, bom: bool
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=line_end).writerows(rows)
    content = (reading.BOM if bom else b"") + HEADER + text.getvalue().encode() + raw
    path = made(tmp_path_factory.mktemp("data"), content)
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        expected = [row for row in list(csv.reader(file))[1:] if row]
    with open_rows(path) as found:
        assert found.header == ["id", "name", "end_time"]
        seen = [(row, found.begin, found.end) for row in found]
        assert found.end == len(content)
    assert [row for row, _, _ in seen] == expected
    for place, (row, begin, end) in enumerate(seen):
        alone = content[begin:end].decode(errors="replace")
        assert [r for r in csv.reader(io.StringIO(alone, newline="")) if r] == [row]
        with open_rows(path, end) as rest:
            assert list(rest) == expected[place + 1 :]


WHOLE = [b"", b"3,c,z\r\n", b"3,c,z\n", b"3,c,z\r", b"3,c,z\r\n\r\n", b"3,c,z", b"3,c\r\n", b"3,c,z\0\0\0", b"\0" * 100]
TORN = [b'3,c,"z\r\n', b'3,c"d\n"e', b'3,"c\r\n\r\n', b"3", b"3\0\0\0"]


@pytest.mark.parametrize("last", [*WHOLE, *TORN])
def test_a_last_row_that_is_torn_is_told_from_whole_ones(tmp_path: Path, last: bytes) -> None:
    rows = HEADER + b'1,a\r\n2,"b\r\n",y\r\n'  # a short row before the last is a user's
    path = made(tmp_path, rows + last)
    for start in (0, len(HEADER), len(rows)):
        assert whole_until(path, ["id", "name", "end_time"], start) == len(rows + last if last in WHOLE else rows)


@pytest.mark.parametrize("behind", range(8))
def test_a_torn_row_gets_its_rest_from_the_newest_dated_files_wherever_in_them_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    monkeypatch.setattr(aggregates, "LOOKED_INTO", 1)
    rows = HEADER + b"x" * (MB - len(HEADER) - behind) + b"\r\n"  # a file is read in pieces of 1 MB
    for day, last in (1, b"2,bad,z\r\n"), (2, b"2,b,y\r\n3,c,z\r\n"):
        (tmp_path / f"2026-11-0{day}_00-00-00_{PART}").write_bytes(rows + last)
    path = made(tmp_path, HEADER + b"1,a,x\r\n2,b")
    aggregates.end_whole(path, PARTICIPANT, SimpleNamespace(aggregate=lambda name: None), ZoneInfo("UTC"))
    assert path.read_bytes() == HEADER + b"1,a,x\r\n2,b,y\r\n"


def test_a_torn_row_that_cannot_be_kept_elsewhere_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregates, "new_file", Mock(side_effect=OSError("full")))
    path = made(tmp_path, HEADER + b"1,a")
    with pytest.raises(OSError, match="full"):
        aggregates.move_torn_row(path, len(HEADER), ["id"], ZoneInfo("UTC"))
    assert path.read_bytes() == HEADER + b"1,a"


def test_what_has_no_rows_has_none(tmp_path: Path) -> None:
    assert header(tmp_path / "none") is None
    assert header(made(tmp_path, b"")) == []
    assert header(made(tmp_path, b"\xef\xbb\xbfid,name")) == ["id", "name"]
    assert open_list(made(tmp_path, HEADER)) == []
    with pytest.raises(FileNotFoundError), open_rows(tmp_path / "none"):
        pass


@given(st.lists(st.lists(CELL, min_size=1, max_size=8), max_size=4))
def test_a_row_of_more_cells_than_ours_have_is_refused_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    path = made(tmp_path_factory.mktemp("data"), HEADER + text.getvalue().encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "UNCOUNTED", 0)
        patch.setattr(reading, "MOST_CELLS", 4)
        with pytest.raises(NotOurs) if any(len(row) > 5 for row in rows) else nullcontext():
            open_list(path)


def test_a_row_of_more_bytes_than_ours_have_is_refused_and_no_other(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "UNCOUNTED", 0)
        patch.setattr(reading, "MOST", 20)
        assert open_list(made(tmp_path, HEADER + b"1," + b"x" * 16 + b"\r\n")) == [["1", "x" * 16]]
        assert open_list(made(tmp_path, HEADER + b"1," + b"x" * 18)) == [["1", "x" * 18]]
        for row in (b"1," + b"x" * 17 + b"\r\n", b'1,"\r\n' + b"x" * 17):
            with pytest.raises(NotOurs, match="from byte 18 on, a row of more than"):
                open_list(made(tmp_path, HEADER + row))


BOMBS = {
    "a stray quote": b'1,"' + (b"a,b," * 50 + b"\r\n") * (MB // 20),
    "a line without end": b"x" * (9 * MB),
    "zeros": b"\0" * MB,
    "a cell": b'1,"' + b"x" * MOST + b'",y\r\n',
    "cells": b"ab," * (2 * MB) + b"\r\n",
    "cells behind quotes that open none": b'a"' + b",ab" * (2 * MB) + b"\r\n",
    "cells that end in commas": b'"xy,",' * (4 * MB // 3),
    "cells between quotes": b'"a""b",c,' * (MB // 2) + b"\r\n",
    "cells in lines of an open quote": b'"\n' + b'",ab,"\n' * MB,
}


@pytest.mark.slow
def test_a_row_that_cannot_be_ours_is_refused_by_name_in_little_memory(tmp_path: Path) -> None:
    for name, bomb in BOMBS.items():
        (tmp_path / name).write_bytes(HEADER + b"1,a,z\r\n" + bomb)
    os.truncate(tmp_path / "zeros", 2 << 30)
    (tmp_path / "a header").write_bytes(b"x" * (9 * MB))
    names = [*BOMBS, "a header"]
    paths = [str(tmp_path / name) for name in names]
    done = subprocess.run([sys.executable, "-c", READ, *paths], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    *said, kilobytes = done.stdout.splitlines()
    for name, path, line in zip(names, paths, said, strict=True):
        assert line.startswith(f"{path} holds, from byte {0 if name == 'a header' else 25} on, a "), line
    assert int(kilobytes) < 80 * 1024, done.stdout


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (HEADER + b"1,a,z\r\n" + BOMBS["a stray quote"], "from byte 25 on, a row of more than 8 MB"),
        (BOMBS["a line without end"], "from byte 0 on, a row of more than 8 MB"),
    ],
)
def test_what_cannot_be_ours_is_rewritten_by_none(tmp_path: Path, content: bytes, said: str) -> None:
    path = made(tmp_path, content)
    with pytest.raises(NotOurs, match=said), new_file(tmp_path / "new") as target:
        rewrite(path, target, ["id"], ["id"], False)
    assert [found.name for found in tmp_path.iterdir()] == ["pexHistoryPart.csv"]  # no draft stays


def test_the_largest_row_of_ours_is_read(tmp_path: Path) -> None:
    quoted, plain = b'"' + b'[""a"",1],' * 600_000 + b'"', b",x" * (MOST_CELLS - 2)
    path = made(tmp_path, HEADER + b"1," + quoted + b",z\r\n1,2" + plain + b"\r\n")
    assert [len(row) for row in open_list(path)] == [3, MOST_CELLS]


def open_list(path: Path) -> list[list[str]]:
    with open_rows(path) as rows:
        return list(rows)


def test_what_is_not_utf_8_is_read_as_asked(tmp_path: Path) -> None:
    path = made(tmp_path, HEADER + b"1,Bj\xf8rn,z\r\n")
    assert open_list(path) == [["1", "Bj\ufffdrn", "z"]]
    with open_rows(path, errors="surrogateescape") as rows:
        assert list(rows) == [["1", "Bj\udcf8rn", "z"]]


def test_a_file_is_rewritten_under_other_columns_without_some_rows(tmp_path: Path) -> None:
    path = made(tmp_path, HEADER + b"1,a,y,more\r\n2\r\n\r\n3,Bj\xf8rn,z\r\n")
    with new_file(path) as target:
        columns = ["id", "name", "end_time"]
        rewrite(path, target, columns, ["end_time", "new", "id", "name"], True, drop=lambda row: row["id"] == "2")
    assert path.read_bytes() == b"\xef\xbb\xbfend_time,new,id,name\r\ny,,1,a,more\r\nz,,3,Bj\xf8rn\r\n"


def test_columns_of_the_same_name_keep_their_own_cells(tmp_path: Path) -> None:
    path, columns = made(tmp_path, b"=id,,\r\n1,a,b\r\n"), ["=id", "", ""]
    with new_file(path) as target:
        rewrite(path, target, columns, [*columns, "new"], False)
    assert path.read_bytes() == b"=id,,,new\r\n1,a,b,\r\n", "names are as they were, too"


def test_a_cell_is_found_from_the_first_place_on_and_empty_where_there_is_none() -> None:
    assert [cell_of(["a", "b"], place) for place in (-1, 0, 1, 2)] == ["", "a", "b", ""]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_table_of_either_utf_16_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "x.csv").write_bytes("\ufeffid,name\r\n1,Åse\r\n".encode(encoding))
    with open_table(tmp_path / "x.csv") as rows:
        assert list(rows) == [["1", "Åse"]]
