"""The Parquet folder: every cell of the dated files, typed, for several engines; whole or not at all."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas
import polars
import pyarrow.dataset
import pytest
from pyarrow import parquet

from pexip_history.archive.archive import Archive
from pexip_history.archive.parquet_rows import TABLES
from pexip_history.errors import CollectorError
from pexip_history.export import parquet as export
from pexip_history.export.parquet import COLUMNS, STREAM_FIELDS, make_missing
from pexip_history.folder.cells import cells, guard
from pexip_history.history import files
from pexip_history.history.files import File
from pexip_history.operate import parquet_files, process
from pexip_history.settings.environment import read_settings
from tests.forked import ForkedCollector
from tests.harness import ROOT, Site, command
from tests.management_node import ManagementNode
from tests.management_node.calls import Call, calls
from tests.test_manifest import little_room

DAYS = [date(2026, 10, 24), date(2026, 10, 25), date(2026, 10, 26)]
Row = dict[str, Any]
NOT_LISTED = ("bucketed_call_quality", "historic_call_quality")


def write_dated(data: Path, number: int, made: list[Call], *, streams: bool = True) -> None:
    """Dated files as the collector writes them, guard and quoting too."""
    kinds: dict[str, list[Row]] = {
        "Conf": [held for held, _ in made],
        "Part": [one for _, all_ in made for one in all_],
    }
    if streams:
        kinds["Stream"] = [{"participant_id": p["id"], **s} for p in kinds["Part"] for s in p["media_streams"]]
    for kind, records in kinds.items():
        columns = [name for name in records[0] if name not in NOT_LISTED]
        text = [cells([r[name] for r in records], name not in ("id", "participant_id")) for name in columns]
        lines = [",".join(columns), *map(",".join, zip(*text, strict=True))]
        path = data / f"2026-11-{number:02}_00-05-00_pexHistory{kind}.csv"
        path.write_bytes("".join(f"{line}\r\n" for line in lines).encode())


@pytest.fixture(scope="module")
def made() -> list[list[Call]]:
    found = [list(calls(seed=3, day=day, conferences=40)) for day in DAYS]
    for of_day in found:  # numbers beyond what a double holds, and names that a reader takes for something else
        held, present = next(each for each in of_day if each[1])
        held["name"], held["tag"] = "0047", "12345678901234567"
        present[0] |= {"display_name": "0047", "conference_name": "12345678901234567", "vendor": '=1+1;"x"\r\n@a\t+b'}
    return found


@pytest.fixture(scope="module")
def data(made: list[list[Call]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("parquet")
    for number, of_day in enumerate(made, 1):
        write_dated(data, number, of_day)
    assert make_missing(data) == 9
    return data


def wanted(made: list[list[Call]], table: str) -> dict[tuple[str, ...], Row]:
    """The records as they were sent, by their key, null for an empty text."""
    records = [conference for of_day in made for conference, _ in of_day]
    if table != "conferences":
        records = [one for of_day in made for _, present in of_day for one in present]
    if table == "streams":
        records = [{"participant_id": one["id"], **stream} for one in records for stream in one["media_streams"]]
    names = COLUMNS[next(resource for resource, folder in TABLES.items() if folder == table)]
    return by_key({name: value(name, record[name]) for name in names} for record in records)


def value(name: str, sent: Any) -> Any:
    if name == "media_streams":  # in JSON an empty text and none are two things
        return [
            {field: "" if one[field] == "" else value(field, one[field]) for field in STREAM_FIELDS} for one in sent
        ]
    if name in ("start_time", "end_time") and sent:
        return datetime.fromisoformat(sent).replace(tzinfo=UTC)
    if isinstance(sent, list):
        return json.dumps(sent, separators=(",", ":"))
    return None if sent == "" else str(sent) if name == "id" else sent


def by_key(rows: Iterable[Row]) -> dict[tuple[str, ...], Row]:
    found = [(tuple(row[name] for name in ("participant_id", "id") if name in row), row) for row in rows]
    assert len(dict(found)) == len(found)
    return dict(found)


@pytest.mark.parametrize("table", TABLES.values())
def test_every_cell_is_what_the_node_sent_in_pyarrow_polars_pandas_and_duckdb(
    table: str, data: Path, made: list[list[Call]]
) -> None:
    folder, right = data / "parquet" / table, wanted(made, table)
    assert by_key(pyarrow.dataset.dataset(folder).to_table().to_pylist()) == right
    assert by_key(polars.read_parquet(folder / "*.parquet").to_dicts()) == right
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        found = db.execute(f"SELECT * FROM '{folder}/*.parquet'")
        names = [name for name, *_ in found.description or ()]
        assert by_key(dict(zip(names, row, strict=True)) for row in found.fetchall()) == right
    frame = pandas.read_parquet(folder, dtype_backend="pyarrow")
    assert len(frame) == len(right)
    assert str(frame["start_time"].dtype) == "timestamp[us, tz=UTC][pyarrow]"
    names = set(frame["display_name" if table == "participants" else "id"].dropna())
    assert names == {row["display_name" if table == "participants" else "id"] for row in right.values()} - {None}


def test_files_of_old_and_new_releases_have_the_same_columns_and_types(tmp_path: Path, made: list[list[Call]]) -> None:
    old = tmp_path / "2026-11-01_00-05-00_pexHistoryPart.csv"
    old.write_text(
        "id,start_time,end_time,duration,display_name\r\n1,2026-11-01T08:00:00,2026-11-01T09:00:00,3600,A\r\n"
    )
    write_dated(tmp_path, 2, made[0], streams=False)
    newer = tmp_path / "2026-11-03_00-05-00_pexHistoryPart.csv"
    newer.write_text(f"{old.read_text().splitlines()[0]},zeta,alpha,ZETA,,_file\r\n2,,,,B,x,y,z,v,w\r\n")
    assert make_missing(tmp_path) == 4
    folder = tmp_path / "parquet" / "participants"
    first, second, third = (parquet.read_schema(path) for path in sorted(folder.glob("*")))
    assert first == second
    assert [*third][:-2] == [*first]
    assert third.names[-2:] == ["zeta", "alpha"]
    rows = pyarrow.dataset.dataset(sorted(map(str, folder.glob("*")))).to_table()
    assert rows.num_rows == sum(len(present) for _, present in made[0]) + 2


UNTYPED = {
    "start_time": (["2999-12-31T23:59:59", "1970-01-01T02:00:00+02:00"], ["3000-01-01T00:00:00", "1969-12-31", "soon"]),
    "duration": (["0", "-5", "9223372036854775807", "0047", "+5"], ["12.5", "1e3", "99999999999999999999", "ten"]),
    "has_media": (["True", "False", "true"], ["1", "yes"]),
    "media_streams": (["[]", '[{"id":1}]', '[{"of tomorrow":1}]'], ["[{", "none", '{"id":1}']),
}


@pytest.mark.parametrize("column", UNTYPED)
def test_what_cannot_be_typed_is_null_and_told_and_the_rest_is_there(column: str, tmp_path: Path) -> None:
    right, wrong = UNTYPED[column]
    name, header = "2026-11-01_00-05-00", dict.fromkeys(("id", "start_time", "end_time", "display_name", column))
    for number, cell in enumerate([*right, *wrong], 1):  # each in a file of its own, beside what can be
        path = tmp_path / f"{name[:-2]}{number:02}_pexHistoryPart.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            writer.writerows(
                [{"id": n, column: text}.get(field, "") for field in header] for n, text in enumerate((cell, ""))
            )
    (tmp_path / "2026-11-02_00-05-00_pexHistoryPart.csv").write_text("a;b;c\r\n1;2;3\r\n")
    told: list[str] = []
    assert make_missing(tmp_path, tell=told.append) == len(right) + len(wrong)
    tables = map(parquet.read_table, sorted((tmp_path / "parquet" / "participants").glob("*")))
    cells = [table.column(column).to_pylist() for table in tables]
    assert [(len(found), found[0] is None, found[1]) for found in cells] == [
        *[(2, False, None)] * len(right), *[(2, True, None)] * len(wrong)
    ]  # fmt: skip
    assert "semicolons" in told.pop(0)
    assert len(told) == len(wrong)
    kind = {"start_time": "time", "media_streams": "list in JSON"}.get(column, "value")
    assert all(f"_pexHistoryPart.csv: 1 row whose {column} cannot be read as a {kind}: " in line for line in told)


def test_a_text_loses_the_guard_in_whatever_column_it_is_and_a_list_of_the_nodes_loses_nothing(tmp_path: Path) -> None:
    typed = ["=1+1", "a;@b|-c\r\n=d", "it's", "'=x", "", "+47 22 33"]
    names = ["display_name", "vendor", "brand_new"]
    streams = '[{"rx_codec":"a;\'=1"}]'
    rows = [{"id": f"'={number}", **dict.fromkeys(names, text)} for number, text in enumerate(typed)]
    with (tmp_path / "2026-11-01_00-05-00_pexHistoryPart.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "start_time", "end_time", "media_streams", *names])
        for row in rows:
            guarded = [guard(row[name]) if text != "'=x" else text for name in names for text in [row[name]]]
            writer.writerow([row["id"], "", "", streams, *guarded])
    assert make_missing(tmp_path) == 1
    table = parquet.read_table(tmp_path / "parquet" / "participants" / "2026-11-01_00-05-00.parquet").to_pylist()
    undone = [None if text == "" else text.replace("'=x", "=x") for text in typed]
    for name in names:
        assert [row[name] for row in table] == undone, name
    assert [row["id"] for row in table] == [row["id"] for row in rows]
    assert {row["media_streams"][0]["rx_codec"] for row in table} == {"a;'=1"}


def test_what_is_missing_is_made_in_a_process_of_its_own_and_one_that_fails_is_a_warning(
    tmp_path: Path, made: list[list[Call]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_dated(tmp_path, 1, made[0])
    (tmp_path / "2026-11-02_00-05-00_pexHistoryPart.csv").write_text("a;b;c\r\n1;2;3\r\n")
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(ROOT / "collector.py")])

    def said() -> list[str]:
        caplog.clear()
        parquet_files.make_apart(tmp_path)
        return [record.getMessage() for record in caplog.records]

    with monkeypatch.context() as patch:
        patch.setattr(process, "TIME_LIMIT", 0.01)
        assert said()[0].startswith("Parquet was not written: ")
    (tmp_path / ".collector").mkdir(exist_ok=True)
    with Archive(read_settings({"DATA_DIR": str(tmp_path)}, node=False)).lock():
        assert "another run is under way" in said()[0]
    (line,) = said()
    assert line.startswith("Parquet: 2026-11-02_00-05-00_pexHistoryPart.csv: not read")
    assert len(list((tmp_path / "parquet").glob("*/*.parquet"))) == 3
    monkeypatch.setattr(parquet_files, "run_apart", lambda *words: (False, [*map(str, range(29)), words[-1]]))
    assert said() == [f"Parquet: {line}" for line in (*range(10, 29), "--some")]
    (tmp_path / "2026-11-02_00-05-00_pexHistoryPart.csv").unlink()
    monkeypatch.setattr(parquet_files, "run_apart", lambda *_: pytest.fail("nothing is missing"))
    assert said() == []


def test_by_hand_all_that_is_missing_is_made_and_counted_and_by_a_run_some_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, most = read_settings({"DATA_DIR": str(tmp_path)}, node=False), list[int]()
    monkeypatch.setattr(export, "make_missing", lambda data, asked, *_: most.append(asked) or len(most))
    for some in (False, False, True):
        assert parquet_files.make(settings, some) == 0
    assert capsys.readouterr().out == f"{tmp_path}/parquet: 1 file made\n{tmp_path}/parquet: 2 files made\n"
    assert (most[0] > 1 << 50, most[2]) == (True, 1 << 30)


def test_a_full_disk_is_one_error_and_leaves_no_half_of_a_file(tmp_path: Path, made: list[list[Call]]) -> None:
    write_dated(tmp_path, 1, made[0])
    with little_room(30_000), pytest.raises(CollectorError):
        parquet_files.make(read_settings({"DATA_DIR": str(tmp_path)}, node=False), some=False)
    assert [path.name for path in (tmp_path / ".collector").iterdir()] == ["lock"]
    assert not (tmp_path / "parquet" / "participants").exists()
    for path in (tmp_path / "parquet").rglob("*.parquet"):
        parquet.read_table(path)


def test_a_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, made: list[list[Call]], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dated(tmp_path, 1, made[0], streams=False)
    folder, synced = tmp_path / "parquet" / "participants", dict[int, bool]()

    def fsync(descriptor: int) -> None:
        synced[os.fstat(descriptor).st_ino] = (folder / "2026-11-01_00-05-00.parquet").exists()

    monkeypatch.setattr(os, "fsync", fsync)
    make_missing(tmp_path)
    (path,) = folder.iterdir()
    assert (synced[path.stat().st_ino], synced[folder.stat().st_ino]) == (False, True)


@pytest.mark.parametrize("kind", ["gone", "a link"])
def test_what_is_gone_or_a_link_when_it_is_read_is_none_and_the_others_are_made(
    kind: str, tmp_path: Path, made: list[list[Call]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        write_dated(tmp_path, number, made[0], streams=False)
    changed = tmp_path / "2026-11-01_00-05-00_pexHistoryPart.csv"

    def change(found: Sequence[File]) -> AbstractContextManager[list[str]]:
        if found[0].path == changed and changed.exists() and not changed.is_symlink():
            changed.rename(tmp_path / "elsewhere")
            changed.symlink_to("elsewhere") if kind == "a link" else None
        return files.opened(found)

    told: list[str] = []
    monkeypatch.setattr(export, "opened", change)
    assert make_missing(tmp_path, tell=told.append) == 3
    assert [("is a symbolic link" in line) for line in told] == [True] * (kind == "a link")


def test_what_is_missing_is_made_oldest_first_over_some_runs_and_nothing_else_is_looked_into(
    tmp_path: Path, made: list[list[Call]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 6):
        write_dated(tmp_path, number, made[0], streams=False)
    told: list[tuple[int, int]] = []
    one = sum(path.stat().st_size for path in tmp_path.glob("2026-11-01*.csv"))
    assert make_missing(tmp_path, most=one, progress=lambda what, done, every: told.append((done, every))) == 2
    assert told == [(1, 2), (2, 2)]
    assert (
        sorted(path.name for path in (tmp_path / "parquet").rglob("*.parquet")) == ["2026-11-01_00-05-00.parquet"] * 2
    )
    assert make_missing(tmp_path, most=0) == 1  # one at least
    looked: list[str] = []
    read = files.own
    monkeypatch.setattr(files, "own", lambda path, flags: looked.append(Path(path).name) or read(path, flags))
    make_missing(tmp_path)
    assert {name[:10] for name in looked} == {f"2026-11-0{number}" for number in range(2, 6)}
    assert make_missing(tmp_path) == 0
    assert len(list((tmp_path / "parquet").rglob("*.parquet"))) == 10


@pytest.mark.parametrize("place", ["parquet", "parquet/participants"])
@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_is_in_the_place_of_the_folder_is_one_sentence_and_stays(
    kind: str, place: str, tmp_path: Path, made: list[list[Call]]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    data = tmp_path / "data"
    (data / place).parent.mkdir(parents=True)
    (data / place).symlink_to(elsewhere) if kind == "link" else (data / place).write_bytes(b"mine")
    write_dated(data, 1, made[0], streams=False)
    done = command(data, "parquet")
    assert (done.code, done.output.count("\n")) == (1, 1), done.output
    assert place in done.output
    assert kind == "file" or "link" in done.output
    assert not list(elsewhere.iterdir())
    assert kind == "link" or (data / place).read_bytes() == b"mine"
    assert [path.name for path in (data / ".collector").iterdir()] == ["lock"]


def test_killed_at_every_step_no_half_of_a_file_is_there_and_the_next_makes_the_rest(
    tmp_path: Path, made: list[list[Call]], forked: ForkedCollector
) -> None:
    site = Site(tmp_path / "data", {"DATA_DIR": str(tmp_path / "data")}, forked=forked)
    for number in (1, 2):
        write_dated(site.data, number, made[number - 1], streams=False)
    folder, codes = site.data / "parquet", list[int]()
    while 0 not in codes:
        codes.append(site("parquet", fault="kill", at=len(codes) + 1).code)
        for path in folder.rglob("*.*"):
            assert path.suffix == ".parquet"
            parquet.read_table(path)  # whole
    assert codes[:-1] == [-signal.SIGKILL] * (len(codes) - 1)
    assert len(codes) > 10
    assert pyarrow.dataset.dataset(folder / "conferences").count_rows() == sum(map(len, made[:2]))
    people = sum(len(present) for of_day in made[:2] for _, present in of_day)
    assert pyarrow.dataset.dataset(folder / "participants").count_rows() == people


def test_a_run_with_data_parquet_makes_its_files(collector: Site, node: ManagementNode) -> None:
    node.load(calls(seed=5, day=date(2026, 11, 22), conferences=5))
    done = collector("collect", env={"DATA_PARQUET": "true"})
    assert done.code == 0, done.output
    dated = collector.dated("Part")
    assert dated
    made = sorted(path.stem for path in (collector.data / "parquet" / "participants").glob("*.parquet"))
    assert made == [path.name.partition("_pex")[0] for path in dated]
    rows = sum(len(collector.rows(path.name)) for path in dated)
    assert parquet.read_table(collector.data / "parquet" / "participants").num_rows == rows > 0
