"""Who can write to the data folder can cause a message and a refused file, and no more.

Each test plants something there and runs every command: none hangs, none takes much memory, none follows a link
elsewhere, and what collects goes on collecting.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pexip_history.archive.journal import open_journal
from pexip_history.ledger.schema import JOURNAL_MAGIC
from tests.forked import Outcome
from tests.harness import DAY, HOUR, MIDNIGHT, PART, Site
from tests.test_folder import OTHERS

MB = 1 << 20
MOST_MEMORY = 400 * MB
"""Of a process (RLIMIT_DATA): what is above it is a MemoryError, as a container's limit would be its end."""
COMMANDS = ("status", "health", "report", "check")

DATED = "2026-11-22_00-00-00_pexHistoryStream.csv"
NAMES = (
    *(PART, DATED, "2026-11-22_00-00-00_pexHistoryConf.csv", "pexHistoryConf.csv.new", "pexHistoryStream.csv"),
    *("data_collector.log", "report.html", ".collector/lock", ".collector/ledger.sqlite"),
    *(".collector/ledger.sqlite-journal", ".collector/1-conference.csv", ".collector/rewriting.sqlite"),
    *(".collector", "manifest.jsonl", "parquet"),
)


@pytest.fixture
def collector(site: Site) -> Site:
    """A folder with one good run, and a clock at the second."""
    site.hourly(8)
    site.run(MIDNIGHT)
    site.hourly(8, MIDNIGHT + 8 * HOUR)
    site.at(MIDNIGHT + DAY)
    return site


def says(collector: Site, *arguments: str) -> Outcome:
    """What a command says, within a bounded time and little memory; it neither crashes nor is killed."""
    outcome = collector(*arguments, memory=MOST_MEMORY)
    assert outcome.code in (0, 1, 2, 75), outcome.output
    assert not re.search("Traceback|MemoryError|unexpected", outcome.output), outcome.output
    return outcome


def ids(collector: Site) -> set[str]:
    """Whom the dated files of this folder have."""
    return {row["id"] for path in collector.dated(PART) if path.is_file() for row in collector.rows(path.name)}


def owed(collector: Site) -> set[str]:
    return collector.owed()[PART]


LEADS = ["a symbolic link", "a symbolic link to a device"]
HANGS = ["a named pipe", "a symbolic link to a FIFO"]
OTHER = ["a folder", "a socket"]


def planted() -> Iterator[tuple[str, str]]:
    """Each name with what hangs, with what leads elsewhere and with another kind, in turn."""
    for number, name in enumerate(NAMES):
        for kinds in (HANGS, LEADS, OTHER):
            if (name, kinds[number % 2]) != (".collector", "a folder"):
                yield name, kinds[number % 2]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), list(planted()))
def test_a_planted_name_stops_no_command_and_is_named(collector: Site, name: str, kind: str) -> None:
    reports = kind in LEADS or name in ("report.html", "parquet", "manifest.jsonl")
    collector.env |= {"DATA_REPORT": "true", "DATA_PARQUET": "true"} if reports else {}
    path = collector.data / name
    remove(path)
    OTHERS[kind](path)
    said = [says(collector, command).output for command in COMMANDS if command != "report" or reports]
    ran = says(collector, "collect")
    said += [ran.output, *(says(collector, command).output for command in ("status", "health"))]
    assert kind != "a symbolic link" or path.with_name("other").read_text() == "theirs"
    assert ran.code == 0 or name.rpartition("/")[2] in ran.output, "the run goes well, or names what is in its way"
    if name in ("data_collector.log", PART, ".collector/ledger.sqlite", ".collector/lock", ".collector"):
        assert name in "\n".join(said)
    remove(path)  # what is removed is no longer in the way
    if ran.code != 0:
        assert says(collector, "collect").code == 0
    assert ids(collector) >= owed(collector)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def append(path: Path, piece: bytes, times: int = 1) -> None:
    with path.open("ab") as file:
        for _ in range(times):
            file.write(piece)


BOMBS: dict[str, Callable[[Path], object]] = {
    "a stray quote": lambda path: (append(path, b'1,"'), append(path, b"a,b,c,d\r\n" * 100_000, 30)),
    "zeros": lambda path: os.truncate(path, 2 << 30),
    "a line without end": lambda path: append(path, b"x" * MB, 20),
    "many cells": lambda path: append(path, b"ab," * MB, 5),
    "many columns": lambda path: path.write_bytes(b"id,end_time" + b",x" * 3 * MB + b"\r\n" + path.read_bytes()),
}
LOST = ("a stray quote", "many cells")
"""With a ledger that has to be made again too."""
TRIED = [("a stray quote", False), *(pytest.param(bomb, bomb in LOST, marks=pytest.mark.slow) for bomb in BOMBS)]


@pytest.mark.parametrize(("bomb", "lost"), TRIED)
def test_what_is_no_row_of_ours_takes_no_memory_and_collecting_goes_on(collector: Site, bomb: str, lost: bool) -> None:
    path = collector.data / PART
    BOMBS[bomb](path)
    if lost:
        shutil.rmtree(collector.data / ".collector")
    collector.node.newer = {"new_field": "x"}
    ran = says(collector, "collect")
    assert ran.code == 0, ran.output
    assert PART in ran.output, "the file is named"
    assert ids(collector) >= owed(collector)
    assert path.stat().st_size < 20 * MB
    assert path.read_bytes().endswith(b"\r\n")
    for command in COMMANDS if lost else ():
        says(collector, command)


ENDLESS = "WITH RECURSIVE n (id, what, name) AS (SELECT '1', 3, '../x' UNION ALL SELECT id, what, name FROM n)"
EMPTIES = "CREATE TRIGGER bad AFTER DELETE ON file BEGIN INSERT INTO row SELECT 'x', 3; END"


def views(path: Path) -> None:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as db:
        for table in ("row", "file", "run", "fact", "staged"):
            db.execute(f"CREATE VIEW {table} AS {ENDLESS} SELECT * FROM n")


def trigger(path: Path) -> None:
    with open_journal(path.parent) as journal:
        journal.will_rewrite("../../etc/passwd")
    with closing(sqlite3.connect(path)) as db:
        db.execute(EMPTIES)


FORGED = [
    *(("ledger.sqlite", views), ("rewriting.sqlite", views), ("rewriting.sqlite", trigger)),
    ("rewriting.sqlite", lambda path: path.write_bytes(b"no database" * 500)),
]


@pytest.mark.parametrize(("name", "forge"), FORGED)
def test_a_forged_database_runs_nothing_of_its_own(collector: Site, name: str, forge: Callable[[Path], object]) -> None:
    before = (collector.data / PART).read_bytes()
    forge(collector.data / ".collector" / name)
    ran = says(collector, "collect")
    assert ran.code == 0, ran.output
    assert f"{name} is damaged" in ran.output, "it is named"
    assert ids(collector) >= owed(collector)
    assert (collector.data / PART).read_bytes().startswith(before)
    assert says(collector, "status").code == 0
    says(collector, "erase", "--name", "nobody", "--yes")


@pytest.mark.parametrize("name", ["ledger.sqlite", "rewriting.sqlite"])
def test_a_forged_journal_of_a_database_deletes_no_other_file(collector: Site, tmp_path: Path, name: str) -> None:
    """SQLite deletes the super-journal that a journal names, once nothing refers to it any more."""
    victim = tmp_path / "victim-mj01"
    victim.write_bytes(b"theirs")
    path = collector.data / ".collector" / name
    if not path.exists():
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA user_version = 0")
    named = str(victim).encode()
    tail = named + len(named).to_bytes(4, "big") + sum(named).to_bytes(4, "big") + JOURNAL_MAGIC
    journal = JOURNAL_MAGIC + bytes(4) + bytes(16) + bytes(512 - 28) + (1).to_bytes(4, "big") + tail
    path.with_name(f"{name}-journal").write_bytes(journal)
    ran = says(collector, "collect")
    assert victim.read_bytes() == b"theirs"
    assert ran.code == 0, ran.output
    assert ids(collector) >= owed(collector)


@pytest.mark.parametrize("target", [None, b"", b"a;b;c\r\n1;2;3\r\n"], ids=["not yet there", "empty", "not ours"])
def test_an_aggregate_that_the_user_keeps_elsewhere_is_begun_there(
    collector: Site, tmp_path: Path, target: bytes | None
) -> None:
    elsewhere, path = tmp_path / "calls.csv", collector.data / PART
    if target is not None:
        elsewhere.write_bytes(target)
    path.unlink()
    path.symlink_to(elsewhere)
    assert says(collector, "collect").code == 0
    assert len(collector.rows(PART)) == 8
    if target:
        assert elsewhere.read_bytes() == target, "only the link was renamed"
    else:
        assert len(collector.rows(elsewhere)) == 8
