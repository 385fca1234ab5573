"""The ledger by itself: what it keeps, how large it is, where it writes, and what it does not take for its own."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import Mock

import pytest

from pexip_history.archive.aggregates import end_whole
from pexip_history.archive.archive import Archive
from pexip_history.archive.belonging import open_ledger
from pexip_history.errors import Stopped
from pexip_history.ledger.ledger import BEFORE, COVERED, GAP, KEPT, Ledger, Staged
from pexip_history.ledger.making import OLD_TABLES, know_rows, take_over
from pexip_history.ledger.rewritten import as_it_is
from pexip_history.ledger.schema import SCHEMA, closed_on_failure, connect, open_to_write
from pexip_history.ledger.spans import Span
from pexip_history.operate.status import peek
from pexip_history.resources import CONFERENCE
from pexip_history.run.reconcile import is_due
from pexip_history.run.seen import Seen
from pexip_history.settings.environment import read_settings
from pexip_history.values import format_time

NOW = datetime(2026, 11, 24, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    data = tmp_path / "administrator's data"
    (data / ".collector").mkdir(parents=True)
    return Archive(read_settings({"DATA_DIR": str(data)}, node=False))


@pytest.fixture
def ledger(archive: Archive) -> Iterator[Ledger]:
    with closing(open_ledger(archive, NOW).db) as db:
        yield Ledger(db)


@pytest.fixture
def path(archive: Archive) -> Path:
    return archive.folder / "ledger.sqlite"


def test_what_a_run_notes_on_disk_is_on_the_data_volume(ledger: Ledger, archive: Archive) -> None:
    """Not in /tmp, which a container may have in memory."""
    Seen(ledger)
    ledger.db.execute("PRAGMA temp.cache_size = -10")
    with ledger.scratch() as db:
        db.executemany("INSERT INTO listed VALUES (?, '')", ((f"{n:0500}",) for n in range(2000)))
        opened = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if entry.is_symlink()]  # noqa: PTH115
    (scratch,) = (path for path in opened if "etilqs" in path)
    assert scratch.startswith(f"{archive.folder}/")


def test_of_more_than_a_thousand_runs_the_newest_thousand_are_kept(ledger: Ledger) -> None:
    with ledger.transaction() as db:
        row = ("2026-11-24T00:00:00", "2026-11-24T00:00:01", "done")
        db.executemany("INSERT INTO run (started, finished, outcome) VALUES (?, ?, ?)", [row] * 1050)
    newest = ledger.begin_run(NOW, by_hand=False)
    assert [run["id"] for run in ledger.runs(2000)] == list(range(newest, newest - 1000, -1))


def test_a_run_that_never_finished_is_told_as_killed_by_the_next(ledger: Ledger) -> None:
    ledger.begin_run(NOW, by_hand=False)
    ledger.begin_run(NOW + HOUR, by_hand=True)
    assert [(run["outcome"], run["by_hand"]) for run in ledger.runs(2)] == [("running", 1), ("killed", 0)]


def test_a_run_that_starts_as_health_looks_waits_for_it(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    with (archive.folder / "lock").open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        waited: list[float] = []
        monkeypatch.setattr(
            time, "sleep", lambda seconds: (waited.append(seconds), fcntl.flock(looking, fcntl.LOCK_UN))
        )
        with archive.lock():
            assert len(waited) == 1


# What is forgotten


def known(ledger: Ledger, name: str) -> list[str]:
    return [id for (id,) in ledger.db.execute(f"SELECT id FROM {name} ORDER BY id")]


def test_ids_go_a_month_after_the_node_last_listed_their_conference(ledger: Ledger) -> None:
    with ledger.transaction() as db:
        db.execute("INSERT INTO conference VALUES ('listed', 'listed'), ('gone', 'gone')")
        db.execute("INSERT INTO participant VALUES ('one', 'listed'), ('other', 'gone')")
        today, until = f"{NOW:%Y-%m-%d}", f"{NOW + KEPT:%Y-%m-%d}"
        db.execute("INSERT INTO kept VALUES ('listed', ?), ('gone', ?)", (until, today))
    ledger.forget(NOW)
    assert known(ledger, "participant") == ["one", "other"]
    ledger.forget(NOW + DAY)
    assert (known(ledger, "conference"), known(ledger, "participant")) == (["listed"], ["one"])
    ledger.forget(NOW + KEPT)
    assert known(ledger, "conference") == ["listed"]
    ledger.forget(NOW + KEPT + DAY)
    assert known(ledger, "conference") == known(ledger, "participant") == []


def test_the_id_of_a_participant_whose_conference_goes_on_is_kept_for_longer(ledger: Ledger) -> None:
    with ledger.transaction() as db:
        db.execute("INSERT INTO participant VALUES ('early leaver', 'goes on')")
    for days in (0, 40, 300):
        ledger.forget(NOW + days * DAY)
        assert known(ledger, "participant") == ["early leaver"]


def test_a_ledger_that_forgot_most_of_what_it_knew_is_small_on_disk(ledger: Ledger, path: Path) -> None:
    with ledger.transaction() as db:
        db.executemany("INSERT INTO conference VALUES (?, ?)", ((f"{n:036}", "gone") for n in range(250_000)))
    assert path.stat().st_size > 10_000_000
    ledger.forget(NOW)
    ledger.compact()
    assert path.stat().st_size < 1_000_000


# Coverage


def test_what_is_covered_stays_so_and_of_other_time_what_is_said_last_counts(ledger: Ledger) -> None:
    ledger.cover("conference", {COVERED: [Span(NOW, NOW + HOUR)]})
    ledger.cover("conference", {GAP: [Span(NOW, NOW + 2 * HOUR)], BEFORE: [Span(NOW - HOUR, NOW + HOUR)]})
    assert ledger.spans("conference", COVERED) == [Span(NOW, NOW + HOUR)]
    assert ledger.spans("conference", GAP) == [Span(NOW + HOUR, NOW + 2 * HOUR)]
    assert ledger.spans("conference", BEFORE) == [Span(NOW - HOUR, NOW)]
    ledger.cover("conference", {GAP: [Span(NOW - HOUR, NOW)], COVERED: [Span(NOW + HOUR, NOW + 2 * HOUR)]})
    assert ledger.spans("conference", COVERED) == [Span(NOW, NOW + 2 * HOUR)]
    assert ledger.spans("conference", GAP) == [Span(NOW - HOUR, NOW)]
    assert ledger.spans("participant") == ledger.spans("conference", BEFORE) == []


def test_spans_that_are_no_longer_believed_go_of_each_kind(ledger: Ledger) -> None:
    ledger.cover("conference", {COVERED: [Span(NOW, NOW + HOUR)], GAP: [Span(NOW + 2 * HOUR, NOW + 9 * HOUR)]})
    ledger.believe("conference", [Span(NOW, NOW + HOUR), Span(NOW + 2 * HOUR, NOW + 3 * HOUR)])
    assert ledger.spans("conference", COVERED) == [Span(NOW, NOW + HOUR)]
    assert ledger.spans("conference", GAP) == [Span(NOW + 2 * HOUR, NOW + 3 * HOUR)]


def test_the_first_reason_for_doubt_stays_until_it_is_dispelled(ledger: Ledger) -> None:
    ledger.note(reconciled=NOW)
    for reason in ("one", "two"):
        assert [is_due(ledger, NOW + away) for away in (-HOUR, HOUR, DAY)] == [True, False, True]
        ledger.doubt(reason)
        ledger.doubt("another")
        assert ledger.fact("doubt") == reason
        assert is_due(ledger, NOW + HOUR)
        ledger.note(doubt=None)


# What is not taken for the ledger


def test_whom_1_1_awaited_with_one_conference_and_called_lost_with_another_is_awaited(
    archive: Archive, path: Path
) -> None:
    left = json.loads(Path(__file__).with_name("version_1_1.json").read_text(encoding="utf-8"))["settled"]["ledger"]
    with closing(sqlite3.connect(path)) as db:
        db.executescript("\n".join(left))
        db.execute(
            "INSERT INTO expected VALUES ('both', 'a', NULL, NULL, NULL, '2026'), ('both', 'b', NULL, NULL, NULL, NULL)"
        )
        db.commit()
    with closing(open_ledger(archive, NOW).db) as db:
        assert db.execute("SELECT conference, lost FROM expected WHERE participant = 'both'").fetchall() == [
            ("b", None)
        ]


@pytest.mark.parametrize("how", ["transaction", "scratch"])
def test_what_a_signal_cuts_is_not_committed_with_what_follows(ledger: Ledger, how: str) -> None:
    with suppress(Stopped), getattr(ledger, how)() as db:
        db.execute("INSERT INTO fact VALUES ('half', 'done')")
        raise Stopped
    ledger.note(more="yes")
    assert (ledger.fact("half"), ledger.fact("more")) == (None, "yes")


def test_a_sound_ledger_is_opened_and_a_damaged_one_is_not(ledger: Ledger, archive: Archive, path: Path) -> None:
    with ledger.transaction() as db:
        db.executemany("INSERT INTO conference VALUES (?, '')", ((f"{n:036}",) for n in range(2000)))
    again = open_to_write(archive.folder)
    assert again
    again[0].close()
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = bytes(range(256)) * 16
    path.write_bytes(content)
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (3,), "its first page is as it was, and of this version"
    assert open_to_write(archive.folder) is None


BLOB = """
DROP TABLE fact; CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
INSERT INTO fact VALUES ('since', x'00ff'); PRAGMA writable_schema = ON;
UPDATE sqlite_master SET sql = replace(sql, ') WITHOUT', ') STRICT, WITHOUT') WHERE name = 'fact';
"""  # where text has to be, in a table that says it is the ledger's


def test_a_ledger_that_cannot_be_read_now_is_not_set_aside(
    ledger: Ledger, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pexip_history.ledger.schema.check_pages", Mock(side_effect=sqlite3.OperationalError("busy")))
    with pytest.raises(sqlite3.OperationalError, match="busy"):
        open_to_write(archive.folder)


STAGED = "INSERT INTO staged (pair, resource, stem, head, rows) VALUES "
FORGERIES = {
    "a view": "DROP TABLE fact; CREATE VIEW fact AS SELECT 'since' AS name, '2030-01-01' AS value;",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON run BEGIN DELETE FROM conference; END;",
    "an index over what is computed": "CREATE INDEX i ON run (abs(id));",
    "one of version 1.1 with a trigger": "PRAGMA user_version = 2; CREATE TRIGGER t DELETE ON run BEGIN SELECT 1; END;",
    "another table": "CREATE TABLE mine (id);",
    "a column more": "ALTER TABLE run ADD COLUMN c TEXT;",
    "a blob": BLOB,
    "a file outside of the folder": f"{STAGED} (1, 'conference', '../x', 0, 1);",
    "a file by its whole path": f"{STAGED} (1, 'conference', '/tmp/x', 0, 1);",
    "a file behind a name": f"{STAGED} (1, 'conference', '2026-11-24_00-00-00/../x', 0, 1);",
    "a file of no resource": f"{STAGED} (1, '../../x', '2026-11-24_00-00-00', 0, 1);",
}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_ledger_that_another_wrote_into_is_set_aside_and_made_again_from_the_files(
    archive: Archive, path: Path, what: str
) -> None:
    """A program that can write to the data folder can write this file too."""
    (archive.data / "pexHistoryConf.csv").write_bytes(b"id,end_time\r\nc1,2026-11-23T08:00:00\r\n")
    (archive.data / "x_pexHistoryConf.csv").write_bytes(b"mine")
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SCHEMA + FORGERIES[what])
    with closing(open_ledger(archive, NOW).db) as db:
        assert db.execute("SELECT id FROM conference").fetchall() == [("c1",)]
        assert db.execute("SELECT count(*) FROM staged").fetchone() == (0,)
        assert not db.execute("SELECT value FROM fact WHERE name = 'since'").fetchall()
    assert [entry for entry in archive.folder.iterdir() if "set-aside" in entry.name]
    assert (archive.data / "x_pexHistoryConf.csv").read_bytes() == b"mine"


def test_a_database_is_opened_with_what_guards_it(ledger: Ledger, path: Path) -> None:
    guards = {"trusted_schema": 0, "cell_size_check": 1, "busy_timeout": 10_000}
    for only_read, more in ((False, {"synchronous": 3, "journal_mode": "delete"}), (True, {"query_only": 1})):
        with closing(connect(path, only_read=only_read)) as db:
            assert {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in guards | more} == guards | more
    with pytest.raises(ValueError, match="why"), closed_on_failure(db := connect(path)):
        raise ValueError("why")
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        db.execute("SELECT 1")


def test_a_file_that_waits_keeps_its_place_until_it_is_published(ledger: Ledger) -> None:
    files = [Staged(pair, "conference", f"2026-11-24_00-00-0{pair}", 10, pair) for pair in (1, 2)]
    ledger.stage(files)
    assert ledger.next_pair() == 3
    ledger.begin_publishing({files[0]: 99})
    assert [file.size for file in ledger.staged()] == [99, None]
    assert ledger.half_published() == {"conference"}
    ledger.published(files[:1], ["2026-11-24_00-00-01_pexHistoryConf.csv"], {})
    assert ledger.staged() == files[1:]
    assert ledger.files() == {"2026-11-24_00-00-01_pexHistoryConf.csv"}
    assert ledger.rows("conference") == 1


def test_what_was_collected_before_a_moment_is_known_by_the_earliest_record(ledger: Ledger) -> None:
    ledger.exported("participant", format_time(NOW - DAY))
    assert not ledger.collected_before("conference", NOW)
    for earlier in (NOW, NOW - HOUR, NOW + HOUR):
        ledger.exported("conference", format_time(earlier))
    assert ledger.collected_before("conference", NOW)
    assert not ledger.collected_before("conference", NOW - HOUR)


def test_of_rows_in_files_the_earliest_time_counts(ledger: Ledger) -> None:
    rows = [{"id": str(hours), "end_time": format_time(NOW - hours * HOUR)} for hours in (2, 3, 1)]
    assert know_rows(ledger, "conference", rows, NOW) == 3
    assert ledger.collected_before("conference", NOW - 2 * HOUR)


def test_time_before_1_1_had_all_of_it_is_not_covered(ledger: Ledger) -> None:
    for name in OLD_TABLES[2]:
        ledger.db.execute(f"CREATE TABLE old_{name} (name, mark, value)")
    facts = [("first", format_time(NOW - DAY)), ("complete", format_time(NOW - 2 * HOUR))]
    ledger.db.executemany("INSERT INTO old_fact (name, value) VALUES (?, ?)", facts)
    ledger.db.execute("INSERT INTO old_resource VALUES ('conference', ?, 0)", (format_time(NOW),))
    take_over(ledger, 2)
    assert ledger.spans("conference", COVERED) == [Span(NOW - 2 * HOUR, NOW)]


def test_status_tells_what_both_resources_have_and_a_gap_of_either(ledger: Ledger, archive: Archive) -> None:
    start, middle, end = moments = [NOW - hours * HOUR for hours in (9, 5, 1)]
    first, second, last = map(format_time, moments)
    ledger.cover("conference", {COVERED: [Span(start, end)]})
    ledger.cover("participant", {COVERED: [Span(start, middle)], GAP: [Span(middle, end)]})
    told = peek(archive.settings)
    assert (told["coverage"], told["gaps"]) == ([[first, second]], [[second, last]])
    assert told["complete_since"] is None, "a gap follows"
    ledger.cover("participant", {COVERED: [Span(middle, end)]})
    assert peek(archive.settings)["complete_since"] == first


@pytest.mark.parametrize("size", [5000, 50])
def test_an_aggregate_is_known_again_by_its_end_also_with_something_behind_it(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x" * size)
    known = as_it_is(path)
    path.write_bytes(b"x" * size + b"y" * size)
    assert as_it_is(path, size) == known != as_it_is(path)
    path.write_bytes(b"x" * (size - 1) + b"y")
    assert as_it_is(path) != known


def test_an_aggregate_that_may_not_be_read_is_for_publishing_to_name(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pexip_history.archive.aggregates.unknown_part", Mock(side_effect=PermissionError))
    open_ledger(archive, NOW).db.close()


def test_a_file_that_is_not_ours_is_left_as_it_is_until_rows_come(ledger: Ledger, archive: Archive) -> None:
    path = archive.aggregate("conference")
    for held in (b"id;name\r\n1;x", b"", b"name\r\nx\r\n"):
        path.write_bytes(held)
        end_whole(path, CONFERENCE, ledger, archive.zone)
        assert path.read_bytes() == held
