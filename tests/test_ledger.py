"""The ledger by itself: what it keeps, how large it is, and where it writes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pexip_history.ledger.takeover import take_over

from pexip_history.archive.belonging import open_ledger
from pexip_history.ledger.ledger import RUNS_KEPT, Ledger
from pexip_history.ledger.staged import Staged

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "administrator's data" / ".collector"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    found = open_ledger(folder)
    assert found
    take_over(found, {"conference": [], "participant": []}, NOW)
    yield found
    found.db.close()


def test_what_a_run_notes_on_disk_is_on_the_data_volume(ledger: Ledger, folder: Path) -> None:
    """Not in /tmp, which a container may have in memory."""
    ledger.db.execute("PRAGMA temp.cache_size = -10")
    with ledger.scratch() as db:
        db.executemany("INSERT INTO wanted VALUES (?)", ((f"{n:0500}",) for n in range(2000)))
        opened = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if entry.is_symlink()]  # noqa: PTH115
    (scratch,) = (path for path in opened if "etilqs" in path)
    assert scratch.startswith(f"{folder}/")


def test_of_more_than_a_thousand_runs_the_newest_thousand_are_kept(ledger: Ledger) -> None:
    with ledger.transaction() as db:
        row = ("2026-11-24T00:00:00", "2026-11-24T00:00:01", "done")
        db.executemany("INSERT INTO run (started, finished, outcome) VALUES (?, ?, ?)", [row] * (RUNS_KEPT + 50))
    newest = ledger.begin_run(NOW)
    assert [run["id"] for run in ledger.runs(2 * RUNS_KEPT)] == list(range(newest, newest - RUNS_KEPT, -1))


def test_a_ledger_that_forgot_most_of_what_it_knew_is_small_on_disk(ledger: Ledger, folder: Path) -> None:
    with ledger.transaction() as db:
        many = ((f"{n:036}", "2026-11-23", 1) for n in range(250_000))
        db.executemany("INSERT INTO conference VALUES (?, ?, ?)", many)
    path = folder / "ledger.sqlite"
    assert path.stat().st_size > 10_000_000
    run = ledger.begin_run(NOW)
    ledger.commit([Staged(run, "conference", "2026-11-24_00-00-00", 0, 0)], {"late": 0}, {}, {}, NOW, forget=True)
    assert path.stat().st_size < 1_000_000


def test_a_damaged_ledger_is_not_opened_and_a_sound_one_is(ledger: Ledger, folder: Path) -> None:
    with ledger.transaction() as db:
        db.executemany("INSERT INTO conference VALUES (?, '2026-12-24', 1)", ((f"{n:036}",) for n in range(2000)))
    path = folder / "ledger.sqlite"
    again = open_ledger(folder)
    assert again
    again.db.close()
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = bytes(range(256)) * 16
    path.write_bytes(content)
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA user_version").fetchone()[0], "its first page is as it was"
    raw.close()
    assert open_ledger(folder) is None


def test_a_run_that_never_finished_is_told_as_killed_by_the_next(ledger: Ledger) -> None:
    ledger.begin_run(NOW)
    ledger.begin_run(NOW + timedelta(hours=1))
    assert [run["outcome"] for run in ledger.runs(2)] == ["running", "killed"]
