"""docs/moving-from-the-powershell-script.md, followed with files as Windows PowerShell's Export-Csv writes them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.management_node import ManagementNode, calls
from tests.management_node.calls import Record
from tests.test_docs import DOCS, PASSWORD, Sandbox, blocks, sandbox

pytestmark = pytest.mark.slow

PAGE = DOCS / "moving-from-the-powershell-script.md"
COPYING, TYPING, CHECKING, COLLECTING, STARTING, _ = (block.text for block in blocks(PAGE, "sh"))
TYPE = "#TYPE System.Management.Automation.PSCustomObject"
# What the script asked for: fewer columns than a node has today, in an order of its own.
COLUMNS = {
    "Conf": ["id", "name", "start_time", "end_time", "duration", "participants", "tag"],
    "Part": ["display_name", "id", "conference", "start_time", "end_time", "duration", "is_streaming", "media_streams"],
}
KINDS = {
    "UTF-16 LE with #TYPE": ("utf-16-le", "\ufeff", True),
    "UTF-16 LE": ("utf-16-le", "\ufeff", False),
    "UTF-16 BE with #TYPE": ("utf-16-be", "\ufeff", True),
    "UTF-8 with a mark and #TYPE": ("utf-8", "\ufeff", True),
    "UTF-8 with a mark": ("utf-8", "\ufeff", False),
    "ASCII with #TYPE": ("ascii", "", True),
}


def exported(records: list[Record], columns: list[str], kind: str) -> bytes:
    """All fields quoted but null, CRLF, a list as the name of its type."""
    encoding, mark, typed = KINDS[kind]
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(columns)
    for record in records:
        values = [record[name] for name in columns]
        writer.writerow(["System.Object[]" if isinstance(value, list) else value for value in values])
    whole = mark + (f"{TYPE}\r\n" if typed else "") + text.getvalue()
    return whole.encode(encoding, "replace")


@pytest.fixture(scope="module")
def node() -> Iterator[ManagementNode]:
    with ManagementNode(secret=PASSWORD) as one:
        yesterday = datetime.now(UTC).date() - timedelta(days=1)
        one.load(list(calls(3, yesterday, 20)))
        yield one


@pytest.fixture
def here(node: ManagementNode, tmp_path: Path) -> Sandbox:
    return sandbox(PAGE, tmp_path, {"": node})


def put_old_files(here: Sandbox, kind: str) -> dict[str, list[Record]]:
    """The older half of what the node had yesterday, and one dated file; the rows that were written."""
    day = list(calls(3, datetime.now(UTC).date() - timedelta(days=1), 20))
    had = {"Conf": [held for held, _ in day], "Part": [one for _, present in day for one in present]}
    old = here.folder / "old"
    old.mkdir()
    for name, records in had.items():
        newest_first = sorted(records, key=lambda record: record["end_time"], reverse=True)
        had[name] = newest_first[len(records) // 2 :]
        content = exported(had[name], COLUMNS[name], kind)
        (old / f"pexHistory{name}.csv").write_bytes(content)
        (old / f"2026-01-02_03-04-05_pexHistory{name}.csv").write_bytes(content)
    return had


@pytest.mark.parametrize("kind", KINDS)
def test_files_as_export_csv_writes_them_are_continued_after_the_page_s_steps(here: Sandbox, kind: str) -> None:
    had = put_old_files(here, kind)
    before = {path.name: path.read_bytes() for path in (here.folder / "old").iterdir()}
    for step in (COPYING, TYPING, CHECKING, COLLECTING, STARTING):
        here.sh(step)
    assert not list(here.data.glob("*set-aside*")), here.output
    assert {path.name: path.read_bytes() for path in (here.folder / "old").iterdir()} == before
    lossy = KINDS[kind][0] == "ascii"
    for name, records in had.items():
        rows = here.rows(f"data/pexHistory{name}.csv")
        assert list(rows[0])[: len(COLUMNS[name])] == COLUMNS[name]
        assert len(rows) > len(records)
        assert len({row["id"] for row in rows}) == len(rows), "a record is there twice"
        for row, record in zip(rows, records, strict=False):
            assert (row["id"], row["end_time"]) == (record["id"], record["end_time"])
            said = record.get("display_name") or ""
            assert row.get("display_name", "") == (said.encode("ascii", "replace").decode() if lossy else said)
        assert here.rows(f"data/2026-01-02_03-04-05_pexHistory{name}.csv"), "a dated file was not converted"


def test_trying_again_with_an_emptied_data_folder_begins_with_the_old_files(here: Sandbox) -> None:
    assert "empty the data folder, the\n   hidden folder `.collector` included" in PAGE.read_text(encoding="utf-8")
    had = put_old_files(here, "UTF-16 LE with #TYPE")
    here.sh("mkdir data; cp -p old/pexHistory*.csv data/")
    for step in (TYPING, CHECKING, COLLECTING, "rm -rf data/* data/.collector", COPYING, COLLECTING):
        here.sh(step)
    old = [record["id"] for record in had["Conf"]]
    assert [row["id"] for row in here.rows("data/pexHistoryConf.csv")][: len(old)] == old


def test_a_code_page_is_named_in_place_of_utf_8(here: Sandbox) -> None:
    assert re.search(r"in place of `UTF-8` after `encoding=`, for example `CP1252`", PAGE.read_text(encoding="utf-8"))
    (here.folder / "old").mkdir()
    (here.folder / "old" / "pexHistoryConf.csv").write_bytes('"id","name"\r\n"1","Møterom"\r\n'.encode("cp1252"))
    here.sh(COPYING, expected=1)
    assert "illegal input sequence" in here.output
    here.sh(COPYING.replace("encoding=UTF-8", "encoding=CP1252"))
    assert here.rows("data/pexHistoryConf.csv") == [{"id": "1", "name": "Møterom"}]
