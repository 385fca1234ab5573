"""Rows go from every file when they are too old, whole or not at all, and are not asked for again."""

from __future__ import annotations

import json
import os
import re
import shutil
from datetime import UTC, timedelta
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from pexip_history.archive.journal import scratch_journal
from pexip_history.archive.keeping import leaving_out_before, remove_older, what_is_kept
from pexip_history.errors import CollectorError
from pexip_history.settings.columns import KNOWN, NEEDED, omitted
from pexip_history.settings.environment import read_settings

from .forked import Fault
from .harness import CONF, PART
from .management_node import conference, media_stream, participant
from .management_node.calls import stamp
from .striking import FAULTS, Struck
from .test_erasing import ASIDE, NOW, Folder, assert_books_are_right, bare, calls, dated, folder, write

__all__ = ["bare", "calls", "folder"]
DAYS = {"DATA_KEEP_HISTORY_DAYS": "1"}
OLDEST = stamp(NOW - timedelta(days=1)) or ""
LATER = NOW + timedelta(minutes=1)
NOTHING = read_settings({}, node=False)


def times(folder: Folder, name: str) -> list[str]:
    return [row["end_time"] for row in folder.rows(name)]


def rows_of(folder: Folder) -> dict[str, list[str]]:
    """The times of the rows in every file, Parquet and files with semicolons too."""
    found = {}
    for name in folder.files():
        path = folder.data / name
        if name.endswith(".parquet"):
            query = f"SELECT strftime(end_time, '%Y-%m-%dT%H:%M:%S') FROM read_parquet('{path}')"
            found[name] = [text for (text,) in duckdb.sql(query).fetchall()]
        elif name == ASIDE:
            header, *rows = [line.split(";") for line in path.read_text(encoding="utf-8").splitlines()]
            found[name] = [row[header.index("end_time")] for row in rows]
        elif name.endswith(".csv"):
            found[name] = times(folder, name)
    return found


def test_rows_that_are_too_old_go_from_every_file_and_the_others_stay(folder: Folder) -> None:
    folder()
    before = rows_of(folder)
    assert all(any(time < OLDEST for time in before[name]) for name in (PART, CONF, ASIDE, "pexHistoryStream.csv"))
    folder.env |= DAYS
    said = folder(moment=LATER).output
    after = rows_of(folder)
    limit = stamp(LATER - timedelta(days=1)) or ""
    assert {name: after[name] for name in before} == {
        name: [time for time in rows if time >= limit] for name, rows in before.items()
    }
    assert "rows removed from before 2026-11-23T00:01:00 UTC, in " in said
    assert not [name for name in folder.files() if name.endswith(".new")]
    folder("erase", "--name", "nobody", "--yes", moment=LATER)  # the ledger is opened again, and no row comes
    assert_books_are_right(folder)


def test_once_a_day_is_enough(folder: Folder) -> None:
    folder.env |= DAYS
    folder()
    before = folder.ids(PART)
    assert "removed" not in folder(moment=NOW + timedelta(hours=12)).output
    assert folder.ids(PART) == before
    assert "removed" in folder(moment=NOW + timedelta(hours=24)).output
    assert len(folder.ids(PART)) < len(before)


def test_what_was_removed_is_not_asked_for_again_also_after_a_lost_ledger(folder: Folder) -> None:
    folder.env |= DAYS
    folder()
    before = sorted(folder.ids(PART))
    for _ in range(2):
        folder(moment=NOW + timedelta(hours=1))
        folder(moment=NOW + timedelta(hours=2))
        assert sorted(folder.ids(PART)) == before
        shutil.rmtree(folder.data / ".collector")


def test_a_first_run_asks_for_nothing_that_would_be_removed(bare: Folder) -> None:
    bare.env |= DAYS
    bare()
    bare(moment=NOW + timedelta(minutes=5))
    assert min(times(bare, PART)) >= OLDEST
    assert len(bare.ids(PART)) == 3 * 8


def test_status_says_the_oldest_row_and_what_bounds_it(folder: Folder) -> None:
    folder()
    assert "Oldest row: not before 2026-11-22T11:00:00 UTC; rows stay" in folder("status").output
    folder.env |= DAYS | {"DATA_OMIT_COLUMNS": "vendor", "DATA_KEEP_DAYS": "7"}
    folder(moment=LATER)
    said = folder("status").output
    assert "Oldest row: not before 2026-11-23T00:01:00 UTC; rows go after 1 day (DATA_KEEP_HISTORY_DAYS=1)" in said
    assert "dated files after 7 days (DATA_KEEP_DAYS)" in said
    assert "Columns that stay empty: vendor" in said
    assert "everything that the node had from 2026-11-23T00:01:00 to" in said  # what was removed is not covered
    told = json.loads(folder("status", "--json").output)
    assert told["kept_from"] == told["complete_since"] == "2026-11-23T00:01:00"
    folder.env |= {"DATA_KEEP_HISTORY_DAYS": "9"}
    folder(moment=LATER + timedelta(days=2))
    assert json.loads(folder("status", "--json").output)["kept_from"] == "2026-11-23T00:01:00", "it does not come back"
    for oldest, kept_from, said in (("b", "a", "b"), ("a", "b", "b"), ("a", None, "a")):
        assert what_is_kept(NOTHING, oldest, kept_from, False) == [
            f"Oldest row: not before {said} UTC; rows stay (DATA_KEEP_HISTORY_DAYS=0)"
        ]
    assert what_is_kept(NOTHING, None, "b", False)[0].startswith("Oldest row: none; ")


def test_nothing_goes_while_the_clocks_disagree(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder()
    before = rows_of(folder)
    folder.env |= DAYS
    monkeypatch.setattr(folder.node, "tells_time", True)
    monkeypatch.setattr(folder.node, "now", NOW)
    folder(moment=NOW + timedelta(days=30))
    assert {name: rows_of(folder)[name] for name in before} == before


def test_a_file_that_is_open_elsewhere_stays_as_it_is_and_is_tried_a_day_later(folder: Folder) -> None:
    folder()
    name = dated(folder)[-1]
    before = (folder.data / dated(folder)[0]).read_bytes()
    folder.env |= DAYS
    os.mkfifo(folder.data / f"{PART}.set-aside-2026-11-22_00-00-00")
    said = folder(moment=LATER, fault="EACCES", at=dated(folder)[0]).output
    assert re.search(rf"stay in a file: .*{dated(folder)[0]}.*denied", said)
    assert f"stay in a file: {PART}.set-aside-2026-11-22_00-00-00: " in said
    assert (folder.data / dated(folder)[0]).read_bytes() == before
    assert min(times(folder, PART)) >= OLDEST
    folder(moment=LATER + timedelta(days=1))
    assert times(folder, dated(folder)[0]) == []
    assert name in dated(folder)


def test_rows_that_wait_or_are_half_appended_are_left_to_the_run_that_publishes_them(folder: Folder) -> None:
    waiting, before = next((folder.data / ".collector").glob("*-participant.csv")), folder.files()
    half: Any = SimpleNamespace(half_published=lambda: {"conference", "participant", "stream"}, fact=lambda name: None)
    with scratch_journal() as journal:
        remove_older(folder.data, NOW, half, journal)
    for name in (CONF, PART, str(waiting.relative_to(folder.data))):
        assert folder.files()[name] == before[name]
    assert {time for name in dated(folder) for time in times(folder, name)} == set()


def test_a_row_without_a_readable_time_stays_and_is_counted(folder: Folder) -> None:
    folder()
    header, *rows = folder.table(PART)
    place = header.index("end_time")
    rows[0][place], rows[1][place], rows[1][header.index("start_time")] = "23.11.2026 08:00", "", ""
    rows[2][place] = "2026-11-22T13:00:00+02:00"
    write(folder.data / PART, [header, *rows])
    odd = [row[header.index("id")] for row in rows[:3]]
    folder.env |= DAYS
    said = folder(moment=LATER).output
    assert "2 rows have no end_time that can be read" in said
    assert set(odd[:2]) <= set(folder.ids(PART))
    assert odd[2] not in folder.ids(PART)


STAYS = ["2026-11-23T00:00:00", "2026-11-23T00:00:00.000001", "2026-11-23 00:00", "", "soon"]
GOES = ["2026-11-22T23:59:59.999999", "2026-11-23T00:59:00+01:00", "2026-11-22T23:59:59Z"]


def test_the_limit_is_a_moment_and_a_file_without_times_is_named() -> None:
    change = leaving_out_before(("end_time", "start_time"), NOW.replace(tzinfo=UTC) - timedelta(days=1), len)
    rows = [["1", end] for end in (*STAYS, *GOES)]
    assert [row for row in rows if change(["id", "end_time"])(row) is row] == rows[: len(STAYS)]
    with pytest.raises(CollectorError, match="it has no column end_time"):
        change(["id"])
    assert change([]), "an empty file lacks nothing"


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_what_strikes_at_any_step_leaves_each_file_whole(folder: Folder, fault: Fault) -> None:
    folder()
    folder.env |= DAYS
    before = rows_of(folder)
    struck = Struck(folder, lambda **how: folder(moment=LATER, **how))
    after = rows_of(folder)
    later = LATER + timedelta(days=fault != "kill")
    limit = stamp(later - timedelta(days=1)) or ""
    for _, what in struck.strikes(fault, "rewriting.sqlite"):
        for name, rows in rows_of(folder).items():
            assert rows in (before.get(name, []), after.get(name, [])), f"{what}: {name}"
        folder(moment=later)
        found = rows_of(folder)
        for name, rows in after.items():
            assert found[name] == [time for time in rows if time >= limit], f"{what}: {name}"
        assert not [name for name in folder.files() if name.endswith(".new")], what
        assert_books_are_right(folder, what)


# Columns that stay empty


def test_columns_that_are_left_out_are_never_written(bare: Folder) -> None:
    bare.env |= {"DATA_OMIT_COLUMNS": "display_name, remote_address rx_codec"}
    bare()
    found = bare.rows(PART)
    assert len(found) == 39
    assert {row["display_name"] + row["remote_address"] for row in found} == {""}
    assert all(row["remote_alias"] for row in found)
    streams = bare.rows("pexHistoryStream.csv")
    assert {row["rx_codec"] for row in streams} == {""}
    assert all(row["tx_codec"] for row in streams)
    everything = b"".join(path.read_bytes() for path in bare.data.rglob("*") if path.is_file())
    assert b"Mia Berg" not in everything


def test_rows_that_wait_follow_a_column_that_is_left_out_later(folder: Folder) -> None:
    waiting = next((folder.data / ".collector").glob("*-participant.csv"))
    assert b"Mia Berg" in waiting.read_bytes()
    folder.env |= {"DATA_OMIT_COLUMNS": "display_name"}
    folder()
    rows = folder.rows(dated(folder)[-2])  # the last one is the run's own
    assert rows
    assert {row["display_name"] for row in rows} == {""}
    assert {row["display_name"] for row in folder.rows(PART) if row["id"] in {row["id"] for row in rows}} == {""}
    assert len(folder.ids(PART)) == len(set(folder.ids(PART))) == 39


SLIPS = {
    "displayname": "did you mean display_name",
    "remote_adress": "did you mean remote_address",
    "id": "rows are told apart by it",
    "display_name;call_tag": "is not the name of a column",
    "end_time": "cannot stay empty",
}


@pytest.mark.parametrize("text", SLIPS)
def test_columns_are_named_by_blanks_or_commas_and_a_slip_is_an_error(text: str) -> None:
    assert omitted("Display_Name,  call_tag remote_alias") == {"display_name", "call_tag", "remote_alias"}
    assert omitted("a_field_of_a_later_release") == {"a_field_of_a_later_release"}
    with pytest.raises(ValueError, match=SLIPS[text]):
        omitted(text)


def test_the_known_columns_are_those_of_the_records() -> None:
    held = conference()
    person = participant(held)
    names = {*held, *person, *media_stream(person)} - {"historic_call_quality", "bucketed_call_quality", "participant"}
    assert names <= {*KNOWN.split(), *NEEDED}
