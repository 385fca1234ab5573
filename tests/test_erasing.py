"""A person's rows go from every file, stay gone, and cost nobody else a byte; whatever cuts it is gone on with."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import pty
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import duckdb
import pytest

from pexip_history.archive import manifest
from pexip_history.archive.editing import open_table
from pexip_history.archive.erasing import Matches, find
from pexip_history.archive.journal import open_journal, scratch_journal
from pexip_history.folder.people import Person

from .forked import MEMORY, Fault, ForkedCollector, Outcome
from .harness import CONF, PART, ROOT, STREAM, Site, environment_for
from .management_node import ManagementNode, conference, media_stream, participant
from .management_node.calls import stamp
from .power_cut import lay_out, record
from .striking import FAULTS, Struck

NOW = datetime(2026, 11, 24)
ALIAS, NAME, ADDRESS = "sip:mia.berg@example.com", "Mia Berg-Lie", "203.0.113.77"
TAG, IDP = "crm-778899", "idp-mia-5551"
NEEDLES = (ALIAS, NAME, ADDRESS, TAG, IDP)
ASIDE = f"{PART}.set-aside-2026-11-20_00-00-00"
PERSON = {"remote_alias": ALIAS, "display_name": NAME, "remote_address": ADDRESS, "call_tag": TAG, "idp_uuid": IDP}


class Folder(Site):
    """A data folder, and commands on it at moments of a frozen clock, which have to end with `code`."""

    def __call__(self, *arguments: str, moment: datetime = NOW, code: int | None = 0, **how: Any) -> Outcome:
        outcome = super().__call__(*arguments, moment=moment, **how)
        assert "Traceback" not in outcome.output, outcome.output
        assert code is None or outcome.code == code, outcome.output
        return outcome

    def erase(self, **how: Any) -> Outcome:
        return self("erase", "--alias", ALIAS, "--yes", **how)

    def files(self) -> dict[str, bytes]:
        """Every file of rows, by its path in the folder."""
        found = {}
        for path in self.data.rglob("*"):
            if path.is_file() and ("csv" in path.name or path.suffix in (".parquet", ".jsonl", ".new")):
                found[str(path.relative_to(self.data))] = path.read_bytes()
        return found

    def holding(self) -> set[str]:
        """The files in which anything of the person is found, byte by byte."""
        found = set()
        for path in self.data.rglob("*"):
            if not path.is_file():
                continue
            content = path.read_bytes().lower()
            if path.suffix == ".parquet":
                content += str(duckdb.sql(f"SELECT * FROM read_parquet('{path}')").fetchall()).lower().encode()
            for needle in NEEDLES:
                if any(needle.lower().encode(code) in content for code in ("utf-8", "utf-16-le", "utf-16-be")):
                    found.add(str(path.relative_to(self.data)))
        return found


@pytest.fixture(scope="module")
def calls() -> Iterator[ManagementNode]:
    with ManagementNode(now=datetime(2030, 1, 1)) as node:
        for hour in range(1, 40, 3):
            end = NOW - timedelta(hours=hour)
            held = conference(
                id=f"c{hour:02}", name="Weekly", start_time=stamp(end - timedelta(hours=1)), end_time=stamp(end)
            )
            times = {"end_time": stamp(end), "start_time": held["start_time"]}
            hers = participant(held, id=f"p{hour:02}-0", **times, **PERSON)
            media_stream(hers)
            other = participant(held, id=f"p{hour:02}-1", display_name="Mia Berg", **times)
            called = participant(held, id=f"p{hour:02}-2", local_alias=ALIAS.upper(), display_name="Ola", **times)
            node.add([held], [hers, other, called])
        yield node


@pytest.fixture
def bare(calls: ManagementNode, forked: ForkedCollector) -> Iterator[Folder]:
    with tempfile.TemporaryDirectory(prefix="erasing-", dir=MEMORY) as name:
        data = Path(name) / "data"
        env = environment_for(calls, data) | {"DATA_MEDIA_STREAMS": "true", "TZ": "UTC"}
        yield Folder(data, env, calls, forked)


@pytest.fixture
def folder(bare: Folder) -> Folder:
    return filled(bare)


def filled(folder: Folder) -> Folder:
    """Everything that a folder can hold: a spreadsheet has the aggregate open in the last run, so that rows wait."""
    folder(moment=NOW - timedelta(hours=12))
    header, *rows = folder.table(PART)
    write(folder.data / ASIDE, [header, *rows[::-1]], "utf-8", ";")
    write(folder.data / f"{ASIDE}-1", [header, *rows], "utf-16", "\t")
    write(folder.data / f"{PART}.unfinished-2026-11-20_00-00-00", [header, next(r for r in rows if NAME in r)[:40]])
    for path in folder.data.glob("????-??-??_*Part.csv"):
        target = folder.data / "parquet" / "participants" / f"{path.name[:19]}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        duckdb.sql(
            f"SELECT * REPLACE (end_time::TIMESTAMP AS end_time) FROM read_csv('{path}', header=true, all_varchar=true)"
        ).write_parquet(str(target))
    manifest.note(folder.data)
    folder(fault="EACCES", at=PART, code=1)
    assert [path.name for path in (folder.data / ".collector").glob("*.csv")]
    return folder


def write(path: Path, rows: list[list[str]], encoding: str = "utf-8", delimiter: str = ",") -> None:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def test_nothing_is_changed_without_yes_and_the_counts_are_those_of_each_file(folder: Folder) -> None:
    before, log = folder.files(), folder.log()
    said = folder("erase", "--alias", ALIAS).output
    assert (folder.files(), folder.log()) == (before, log)
    lines = {line.split()[0]: line.split() for line in said.splitlines() if line.startswith("  ")}
    hers = [
        one["end_time"][:10] for one in folder.rows(PART) if ALIAS in (one["remote_alias"], one["local_alias"].lower())
    ]
    assert int(lines[PART][1]) == len(hers) > 0
    assert [lines[PART][3], lines[PART][6]] == [lines[ASIDE][3], lines[ASIDE][6]] == [min(hers), max(hers)]
    assert set(lines) >= folder.holding() - {"data_collector.log"}
    assert not any(needle in said for needle in NEEDLES)  # no terminal: no names
    assert "Nothing was changed" in said


def test_everything_of_the_person_goes_from_every_file_and_nothing_else(folder: Folder) -> None:
    """The log gets one line, without a name."""
    (folder.data / ".collector" / "9-participant.csv.ordered").write_text(ALIAS)  # a run that was cut left it
    before, held, log = folder.files(), folder.holding(), folder.log()
    assert {PART, ASIDE, f"{ASIDE}-1", f"{PART}.unfinished-2026-11-20_00-00-00"} < held
    assert {name.partition("/")[0] for name in held if "/" in name} == {"parquet", ".collector"}
    said, after, new = folder.erase().output, folder.files(), folder.log().removeprefix(log)
    assert folder.holding() == set()
    assert not any(needle in said + new for needle in (*NEEDLES, "cannot be read", "left out"))
    (line,) = (line for line in new.splitlines() if "erased" in line)
    assert "2026-11-22 11:00 to 2026-11-23 23:00 UTC" in line
    for name, content in before.items():
        if name.startswith(".collector/"):
            continue  # they are published now
        if name in held and name != PART and not name.endswith(".parquet"):
            assert len(after[name].splitlines()) == len(content.splitlines()), name
        elif name not in (*held, PART, CONF, STREAM, "manifest.jsonl"):
            assert after[name] == content, name
    rows, kept = folder.rows(PART), participant(conference())
    assert len(rows) == 3 * 13
    for row in rows:
        emptied = [name for name in (*PERSON, "local_alias") if not row[name]]
        assert row["conference_name"] == "Weekly"
        if row["id"].endswith("-0"):
            assert emptied == [*PERSON]
        elif row["id"].endswith("-1"):
            assert (row["display_name"], row["remote_alias"]) == ("Mia Berg", kept["remote_alias"])
        else:
            assert (row["display_name"], row["local_alias"]) == ("Ola", "")
    assert sorted(folder.ids(PART)) == sorted(folder.dated_ids(PART))


def dated(folder: Folder) -> list[str]:
    return [path.name for path in folder.dated(PART)]


def test_it_does_not_come_back_by_a_run_or_a_lost_ledger(folder: Folder) -> None:
    folder.erase()
    before = folder.files()
    for ledger in ("kept", "lost"):
        if ledger == "lost":
            shutil.rmtree(folder.data / ".collector")
        folder(moment=NOW + timedelta(hours=1))
        folder("--from", "2026-11-01", moment=NOW + timedelta(hours=2))
        folder(moment=NOW + timedelta(hours=30))  # the whole list is compared
        assert folder.holding() == set()
        assert folder.files()[PART] == before[PART]
        assert_books_are_right(folder, ledger)


def test_the_manifest_knows_the_files_that_were_rewritten(folder: Folder) -> None:
    changed = {name for name in folder.holding() if name in dated(folder)}
    folder.erase()
    entries = manifest.latest(folder.data)
    assert {name for name, entry in entries.items() if entry.change == manifest.ERASED} == changed
    for name in changed:
        assert entries[name] == manifest.measure(folder.data / name, None, manifest.ERASED)


def test_the_page_counts_what_it_counted_before(folder: Folder) -> None:
    folder()
    folder("report")
    before = (folder.data / "report.html").read_bytes()
    folder.erase()
    folder("report")
    assert (folder.data / "report.html").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(("option", "text"), [("--alias", ALIAS), ("--name", "*berg*"), ("--address", ADDRESS)])
def test_the_copy_that_a_person_may_ask_for_has_the_rows_that_erasing_finds(
    folder: Folder, option: str, text: str
) -> None:
    folder()
    target = folder.data.parent / "copy.jsonl"
    wanted = ["export", "participants", option, text, "--format", "jsonl", "--output", str(target)]
    folder(*wanted)
    copy = {json.loads(line)["id"] for line in target.read_text().splitlines()}
    before = {row["id"]: row for row in folder.rows(PART)}
    folder("erase", option, text, "--yes")
    assert copy == {row["id"] for row in folder.rows(PART) if row != before[row["id"]]}
    assert "no row of participants" in folder(*wanted, code=1).output


def test_what_cannot_be_reached_is_named(folder: Folder) -> None:
    (folder.data / "copy of mia.xlsx").write_bytes(b"PK")
    (folder.data / f"{PART}.set-aside-2026-11-21_00-00-00").write_text(f"{NAME},without a header\n")
    os.mkfifo(folder.data / f"{PART}.set-aside-2026-11-22_00-00-00")
    roomless = folder.data / f"{PART}.set-aside-2026-11-23_00-00-00"
    write(roomless, [["id", "remote_alias"], ["x", ALIAS], ["", ALIAS], ["", "ola@example.com"]])
    (folder.data / "parquet" / "participants" / "2026-11-22_00-00-00.parquet").write_bytes(b"PAR1")
    (folder.data / "report.html").write_text(f"<p>Room of {''.join(f'&#{ord(sign)};' for sign in ALIAS)}</p>")
    (folder.data / "report-2026-10.html").write_text("<p>Weekly</p>")
    os.mkfifo(folder.data / "report-2026-09.html")
    said = folder.erase().output
    for words in (
        *("copy of mia.xlsx", "report.html still shows", "backups", "2026-11-22 11:00 to 2026-11-23 23:00 UTC"),
        f"{PART}.set-aside-2026-11-21_00-00-00: it has no header",
        f"{PART}.set-aside-2026-11-22_00-00-00: ",
        "parquet/participants/2026-11-22_00-00-00.parquet: ",
    ):
        assert words in said
    assert "report-2026-10.html" not in said
    assert roomless.read_text() == "id,remote_alias\nx,\n,\n,ola@example.com\n"


def test_a_file_that_may_not_be_read_is_named_and_the_others_are_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (CONF, PART):
        write(tmp_path / name, [["id", "remote_alias"], ["x", ALIAS]])
    tables = Mock(side_effect=[PermissionError("denied"), open_table(tmp_path / PART)])
    monkeypatch.setattr("pexip_history.archive.erasing.open_table", tables)
    with scratch_journal() as journal:
        found = find(tmp_path, Person("alias", ALIAS), journal, len)
    assert (found.unreadable, found.rows) == ([f"{CONF}: denied"], 1)
    found.files.append(Matches("another", 1, "2026-11-23", "2026-11-24"))
    assert found.span == ("2026-11-23", "2026-11-24"), "of the rows that have a time"


def test_an_aggregate_that_is_open_elsewhere_waits_and_the_next_command_finishes_it(folder: Folder) -> None:
    folder()
    outcome = folder.erase(fault="EACCES", at=PART, code=1)
    assert "close the program that has" in outcome.output
    assert "not finished" in outcome.output
    assert folder.holding() == {PART}
    assert "An erasure is not finished" in folder("status").output
    os.mkfifo(folder.data / f"{PART}.set-aside-2026-11-22_00-00-00")
    said = folder(moment=NOW + timedelta(hours=1), fault="EACCES", at=PART, code=1).output
    assert "an erasure waits" in said
    assert f"an erasure left out a file, look into it yourself: {PART}.set-aside-2026-11-22" in said
    said = folder(moment=NOW + timedelta(hours=2)).output
    assert "an erasure was finished: 26 more rows in 1 file" in said
    assert folder.holding() == set()
    assert "An erasure is not finished" not in folder("status").output


@pytest.mark.parametrize("half", [False, True])
def test_rows_that_wait_are_emptied_where_they_wait(folder: Folder, half: bool) -> None:
    if half:  # of them are in the aggregate
        folder(fault="kill", at=f"half {PART}", code=-9)
    folder.erase(fault="EACCES", at=PART, code=1)
    assert {name for name in folder.holding() if not name.startswith(".collector/")} == {PART}
    folder(moment=NOW + timedelta(hours=1))
    assert folder.holding() == set()
    assert len(folder.ids(PART)) == len(set(folder.ids(PART))) == 39


def test_two_erasures_of_which_the_first_waits_are_both_finished(folder: Folder) -> None:
    folder()
    folder("erase", "--name", "ola", "--yes", fault="EACCES", at=PART, code=1)
    shutil.copy(folder.dated(PART)[0], folder.data / f"{CONF}.new")  # a draft that a cut left
    folder.erase()
    assert folder.holding() == set()
    assert not [row for row in folder.rows(PART) if row["display_name"] == "Ola"]


def test_a_run_under_way_is_waited_for(folder: Folder) -> None:
    with (folder.data / ".collector" / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another run is under way" in folder.erase(code=75).output


CHANGED = """
import os, signal, sys, collector
from pexip_history.archive.journal import Journal
from pexip_history.operate import erase
{}
sys.exit(collector.main(sys.argv[1:], dict(os.environ)))
"""
"""The collector with something in it changed."""


def test_at_a_terminal_the_names_are_shown_and_which_file_is_read(folder: Folder) -> None:
    for number in range(3):
        (folder.data / f"copy {number}.xlsx").touch()
    terminal, out = pty.openpty()
    command = [sys.executable, "-c", CHANGED.format("erase.NAMES_SHOWN = 2"), "erase", "--alias", ALIAS]
    done = subprocess.run(command, env=folder.env, cwd=ROOT, stdout=subprocess.PIPE, stderr=out, text=True)
    told = os.read(terminal, 1 << 16).decode()
    assert "What they hold" not in done.stdout
    assert (told[:15], told[-4:]) == ("\r\033[K.collector/", "\r\033[K")
    assert f"\r\033[K{PART}\r\033[K{PART}.set-aside" in told
    subprocess.run(command, env=folder.env, cwd=ROOT, stdout=out, stderr=subprocess.DEVNULL)
    said = os.read(terminal, 1 << 16).decode()
    assert f"What they hold: {ADDRESS}, {NAME} and 2 more" in said
    assert "files that are not the collector's own: copy 0.xlsx, copy 1.xlsx and 1 more" in said


STOPS = "add = Journal.add; Journal.add = lambda *row: (add(*row), os.kill(os.getpid(), signal.SIGTERM))"


def test_one_that_is_stopped_before_it_decided_changes_nothing_and_says_so(folder: Folder) -> None:
    folder()
    before = folder.files()
    command = [sys.executable, "-c", CHANGED.format(STOPS), "erase", "--alias", ALIAS, "--yes"]
    done = subprocess.run(command, env=folder.env, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, "nothing was changed" in done.stderr) == (1, True), done.stderr
    assert folder.files() == before
    assert not (folder.data / ".collector" / "rewriting.sqlite").exists()


def test_who_is_in_no_file_is_said_and_nothing_is_written(bare: Folder) -> None:
    bare()
    before = bare.files()
    said = bare("erase", "--name", "Mia", "--yes").output
    assert "none" in said
    assert f"{2 * 26} other rows hold the text within a longer value" in said, "in the aggregate and in dated files"
    assert "rows whose room has the text in its name" not in said
    assert f"{2 * (39 + 13)} rows whose room has the text in its name" in bare("erase", "--name", "week").output
    assert bare.files() == before


def test_nobody_can_be_erased_by_accident_and_an_empty_folder_has_nobody(bare: Folder) -> None:
    for wrong in (["erase"], ["erase", "--name", " "], ["erase", "--name", "a", "--alias", "b"]):
        assert bare(*wrong, code=2).output
    for arguments in ((), ("--yes",)):
        assert "none" in bare("erase", "--alias", ALIAS, *arguments).output


# Cut short


def assert_books_are_right(folder: Folder, what: str = "") -> None:
    """The ledger's and the manifest's."""
    with closing(sqlite3.connect(folder.ledger)) as ledger:
        for resource, name in (("participant", PART), ("conference", CONF)):
            size, rows = ledger.execute("SELECT bytes, rows FROM resource WHERE name = ?", (resource,)).fetchone()
            assert (size, rows) == ((folder.data / name).stat().st_size, len(folder.ids(name))), what
    latest = manifest.latest(folder.data)
    for name in dated(folder):
        if name in latest:
            assert latest[name].sha256 == manifest.measure(folder.data / name).sha256, f"{what}: {name}"


def assert_whole(folder: Folder, before: dict[str, bytes], after: dict[str, bytes], what: str) -> None:
    """Each file is the old one or the new one, by whatever name; but for the aggregates, to which a run appends."""
    whole = {*before.values(), *after.values()}
    for name, content in folder.files().items():
        if not name.endswith((".new", "manifest.jsonl")) and name not in (CONF, STREAM, PART):
            assert content in whole, f"{what}: {name}"


def assert_gone_on_with(folder: Folder, after: dict[str, bytes], what: str, command: list[str]) -> None:
    folder(*command, moment=NOW)
    if command == []:
        folder.erase()  # where it was cut before the decision, nothing was decided
    assert folder.holding() == set(), what
    found = folder.files()
    assert not [name for name in found if name.endswith(".new")], what
    for name, content in after.items():
        if name != "manifest.jsonl" and not name.endswith(".parquet"):
            assert found[name] == content, f"{what}: {name}"
    assert not (folder.data / ".collector" / "rewriting.sqlite").exists(), what
    assert_books_are_right(folder, what)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_what_strikes_at_any_step_leaves_each_file_whole_and_is_gone_on_with(folder: Folder, fault: Fault) -> None:
    before = folder.files()
    struck = Struck(folder, folder.erase)
    after = folder.files()
    for number, (_, what) in enumerate(struck.strikes(fault)):
        assert_whole(folder, before, after, what)
        assert_gone_on_with(folder, after, what, [] if number % 2 else ["erase", "--alias", ALIAS, "--yes"])


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace; on Debian: apt-get install strace")
@pytest.mark.parametrize("again", [[], ["erase", "--alias", ALIAS, "--yes"]], ids=["a run", "erase"])
def test_a_power_cut_leaves_each_file_whole_and_is_gone_on_with(folder: Folder, again: list[str]) -> None:
    shutil.rmtree(folder.data / "parquet")
    folder.moment = NOW
    cuts = list(record(folder, "erase", "--alias", ALIAS, "--yes").folders(None, set()))
    after = folder.files()
    assert len(cuts) > 40
    for how, image in cuts:
        lay_out(image, folder.data)
        assert_gone_on_with(folder, after, how, again)


def test_what_is_found_is_told_from_its_first_time_to_its_last() -> None:
    found = Matches("file")
    for time in ("2026-11-24", "a name", "2026-11-23", "2026-11-25"):
        found.add(time)
    assert found == Matches("file", 4, "2026-11-23", "2026-11-25")


def test_a_name_in_the_journal_leads_nowhere(folder: Folder) -> None:
    folder()
    os.mkfifo(folder.data.parent / "fifo")
    with open_journal(folder.data / ".collector") as journal:
        journal.will_rewrite("../fifo")
        journal.will_rewrite(f"2020-01-01_00-00-00_{PART}")  # which the user removed since
    assert "erasure" not in folder(moment=NOW + timedelta(hours=1)).output, "nothing was decided"
    assert not (folder.data / ".collector" / "rewriting.sqlite").exists()


def test_many_rows_are_looked_up_in_the_journal_s_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pexip_history.archive.journal.IN_MEMORY", 2)
    with open_journal(tmp_path) as journal:
        assert journal.what("0") == 0
        with journal.deciding():
            for number in range(4):
                journal.add(str(number), 1)
            journal.add("3", 2)
        assert [journal.what(str(number)) for number in range(5)] == [1, 1, 1, 3, 0]
    with pytest.raises(sqlite3.IntegrityError), open_journal(tmp_path) as journal, journal.deciding():
        list(map(journal.add, "89", (1, None)))  # type: ignore[arg-type]
    monkeypatch.setattr("pexip_history.archive.journal.check_pages", Mock(side_effect=sqlite3.OperationalError("busy")))
    with pytest.raises(sqlite3.OperationalError, match="busy"), open_journal(tmp_path):
        pass  # what cannot be read now is not thrown away
    monkeypatch.undo()
    with open_journal(tmp_path) as journal:
        assert (journal.rows(), journal.what("3")) == (4, 3)
        journal.finished()
        assert journal.what("3") == 0
    assert list(tmp_path.iterdir()) == []
