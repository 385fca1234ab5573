"""Nothing twice, nothing missing, whatever the user's hands, a signal or a damaged ledger do."""

from __future__ import annotations

import csv
import io
import re
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from .forked import Fault
from .harness import CONF, DAY, HOUR, MIDNIGHT, MINUTE, PART, STREAM, Site
from .management_node import faults

KINDS = pytest.mark.parametrize("name", [CONF, PART])


@pytest.mark.parametrize("nth", [0, 1, 5])
def test_sigterm_ends_a_run_at_once_and_changes_no_data_file(site: Site, nth: int) -> None:
    """While a request is not answered; 0: while the libraries are loaded, at the moment that the ledger is there."""
    site.hourly(6)
    site.node.page = 2
    (site.data / CONF).write_text("id,name\r\nmine,as it was\r\n", newline="")
    before = site.files()
    site.at(MIDNIGHT)
    site.node.faults.add(faults.hang(30), nth=max(nth, 1))
    run = site.start()
    while not (site.ledger.exists() and len(site.node.requests) >= nth) and run.poll() is None:
        time.sleep(0.002)
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=20)  # the node does not answer for longer
    assert run.returncode == 1, said
    assert "Traceback" not in said
    assert site.files() == before
    assert site.log().count("stopped") == 1


# The user's hands


def changed(site: Site, name: str, change: Callable[[bytes], bytes]) -> tuple[bytes, str]:
    """An aggregate as a user changed it when it had five calls, and what the run said that brought five more."""
    site.hourly(10, MIDNIGHT)
    for one in (*site.node.known["conference"].values(), *site.node.known["participant"].values()):
        one.record |= {"name": "Møte", "display_name": "Møte"}
    site.run(MIDNIGHT + 5 * HOUR)
    edited = change((site.data / name).read_bytes())
    (site.data / name).write_bytes(edited)
    return edited, site.run(MIDNIGHT + 10 * HOUR).output


def requoted(content: bytes, step: int = -1, mark: str = "\ufeff") -> bytes:
    """As PowerShell's Export-Csv writes it: quotes round every cell, other columns first, with a byte order mark."""
    rows = [row[::step] for row in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))]
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    return (mark + text.getvalue()).encode()


EDITS: dict[str, Callable[[bytes], bytes]] = {
    "a line removed": lambda content: b"\r\n".join(content.split(b"\r\n")[:2]) + b"\r\n",
    "no final newline": lambda content: content.removesuffix(b"\r\n"),
    "half a line end": lambda content: content.removesuffix(b"\n"),
    "line ends of Unix": lambda content: content.replace(b"\r\n", b"\n"),
    "an own column": lambda content: b"note," + b"\r\nx,".join(content.split(b"\r\n")[:-1]) + b"\r\n",
    "quotes round every cell": lambda content: requoted(content, 1, ""),
    "as PowerShell writes": requoted,
    "PowerShell, no final newline": lambda content: requoted(content).removesuffix(b"\r\n"),
    "Latin-1": lambda content: content.replace("ø".encode(), b"\xf8"),
}


@KINDS
@pytest.mark.parametrize("edit", EDITS)
def test_an_aggregate_that_was_edited_is_appended_to_by_name(site: Site, name: str, edit: str) -> None:
    edited, _ = changed(site, name, EDITS[edit])
    content = (site.data / name).read_bytes()
    assert content.startswith(edited)
    assert not site.set_aside()
    header, *rows = csv.reader(io.StringIO(content.decode("utf-8-sig", "replace"), newline=""), strict=True)
    for row, wanted in zip(rows[-5:], site.rows(site.dated(name)[-1]), strict=True):
        assert {k: v for k, v in zip(header, row, strict=True) if v} == {k: v for k, v in wanted.items() if v}


ALIEN = {
    "no header": (lambda content: content.partition(b"\r\n")[2], "no header"),
    "semicolons": (lambda content: content.replace(b",", b";"), "semicolons"),
    "UTF-16": (lambda content: content.decode().encode("utf-16"), "UTF-16"),
}


@KINDS
@pytest.mark.parametrize("kind", ALIEN)
def test_an_aggregate_that_is_not_ours_is_set_aside_with_a_warning(site: Site, name: str, kind: str) -> None:
    change, why = ALIEN[kind]
    alien, said = changed(site, name, change)
    (aside,) = site.set_aside()
    assert aside.read_bytes() == alien
    assert all(word in said for word in ("WARNING", why, aside.name))
    assert len(site.ids(name)) == 5


def test_what_the_node_forgets_while_an_aggregate_is_locked_is_not_lost(site: Site) -> None:
    """The run's own window, the older history and the whole list are read and wait; only then it fails."""
    site.hourly(40, MIDNIGHT - 2 * DAY)
    late = site.hold("late", MIDNIGHT - 8 * HOUR, MINUTE, shown=MIDNIGHT + DAY)
    site.run(MIDNIGHT, fault="EACCES", at=CONF, code=1)
    site.node.forget(40)
    site.run(MIDNIGHT + 30 * HOUR, fault="EACCES", at=CONF, code=1)
    site.node.delete(late.id)
    assert re.search("Permission denied.*rows wait", site.log())
    site.run(MIDNIGHT + 31 * HOUR)
    site.check()


# The ledger


@pytest.mark.parametrize("cut", [1, 9, 23])
@pytest.mark.parametrize("lost", [True, False], ids=["and no ledger", "beside the ledger"])
def test_a_copy_that_ends_within_a_row_gets_the_rest_of_it_from_the_dated_file(
    site: Site, cut: int, lost: bool
) -> None:
    site.hourly(9, MIDNIGHT)
    site.runs(MIDNIGHT + 3 * HOUR, MIDNIGHT + 6 * HOUR)
    before = site.files()[PART]
    (site.data / PART).write_bytes(before[: -len(b"\r\n") - cut] + bytes(99) * (cut == 9))  # as a power cut leaves it
    if lost:
        site.lose_ledger()
    site.run(MIDNIGHT + 6 * HOUR + MINUTE)
    assert site.files()[PART] == before
    site.run(MIDNIGHT + 10 * HOUR)
    site.check()


def test_a_copy_that_ends_before_a_rows_id_gets_no_other_row_for_it(site: Site) -> None:
    """Rows of one conference begin alike."""
    site.hold("c", MIDNIGHT - HOUR, *[MINUTE] * 3)
    site.run(MIDNIGHT)
    *rows, last, _ = site.files()[PART].split(b"\r\n")
    (site.data / PART).write_bytes(b"\r\n".join([*rows, last[: last.index(b",20")]]))
    site.run(MIDNIGHT + HOUR)
    assert site.files()[PART] == b"\r\n".join([*rows, b""])


@pytest.mark.parametrize("cut", [1, 2, 100])
def test_a_copy_that_is_put_there_once_files_are_in_place_and_not_yet_noted_is_taken_as_it_is(
    site: Site, cut: int
) -> None:
    """The ledger forgets staged files last; a run that is killed before leaves that to the next."""
    site.hourly(20, MIDNIGHT)
    site.run(MIDNIGHT + 3 * HOUR)
    site.run(MIDNIGHT + 5 * HOUR, fault="kill", at="sql DELETE FROM staged WHERE pair = ? AND re", code=-9)
    *rows, last, _ = site.files()[PART].split(b"\r\n")
    (site.data / PART).write_bytes(b"\r\n".join([*rows, last[:cut]]))
    site.run(MIDNIGHT + 6 * HOUR)
    assert {len(row) for row in site.table(PART)} == {7}, "no row is cut"


def test_a_last_row_without_its_end_in_a_file_without_a_key_column_ends_no_run(site: Site) -> None:
    site.env["DATA_MEDIA_STREAMS"] = "true"
    site.hourly(9, MIDNIGHT)
    site.run(MIDNIGHT + 3 * HOUR)
    (site.data / STREAM).write_text("participant_id,note\r\np1,x", newline="")
    site.run(MIDNIGHT + 6 * HOUR)


def test_an_older_ledger_in_which_rows_waited_publishes_none_of_them_again(site: Site, tmp_path: Path) -> None:
    site.hourly(20, MIDNIGHT)
    site.run(MIDNIGHT + 5 * HOUR)
    site.run(MIDNIGHT + 6 * HOUR, fault="EACCES", at=PART, code=1)
    shutil.copytree(site.ledger.parent, tmp_path / "older")
    site.runs(MIDNIGHT + 8 * HOUR, MIDNIGHT + 10 * HOUR, 2 * HOUR)
    shutil.rmtree(site.ledger.parent)
    shutil.copytree(tmp_path / "older", site.ledger.parent)
    site.run(MIDNIGHT + 12 * HOUR)
    site.run(MIDNIGHT + 21 * HOUR)
    site.check()


@pytest.mark.parametrize("waited", [0, 1, 2])
@pytest.mark.parametrize("fault", ["EACCES", "kill"])
def test_an_older_ledger_in_which_rows_waited_publishes_none_again_whose_dated_files_are_gone(
    site: Site, tmp_path: Path, fault: Fault, waited: int
) -> None:
    site.hourly(20, MIDNIGHT)
    site.run(MIDNIGHT + 3 * HOUR)
    for hour in range(4, 4 + waited):
        site.run(MIDNIGHT + hour * HOUR, fault="EACCES", at=PART, code=1)
    if fault == "kill":  # in mid-publishing
        site.run(MIDNIGHT + 6 * HOUR, fault=fault, at=f"half {PART}", code=-9)
    else:
        site.run(MIDNIGHT + 6 * HOUR, fault=fault, at=PART, code=1)
    shutil.copytree(site.ledger.parent, tmp_path / "older")
    site.runs(MIDNIGHT + 8 * HOUR, MIDNIGHT + 10 * HOUR, 2 * HOUR)
    for path in site.data.glob("2026-*"):
        path.unlink()
    shutil.rmtree(site.ledger.parent)
    shutil.copytree(tmp_path / "older", site.ledger.parent)
    site.run(MIDNIGHT + 12 * HOUR)
    site.run(MIDNIGHT + 21 * HOUR)
    for name, owed in site.owed().items():
        assert sorted(site.ids(name)) == sorted(owed)


@pytest.mark.slow
def test_the_ledger_holds_its_size_over_ten_weeks(site: Site) -> None:
    """Ten conferences, each 56th hour and the one after it; the node keeps no more."""
    size = []
    for step in range(30):
        start = MIDNIGHT + step * 56 * HOUR
        for n in range(10):
            site.hold(f"{step:02}-{n}", start + n * MINUTE, MINUTE, 3 * HOUR)
        site.run(start + HOUR)
        site.run(start + 2 * HOUR)
        site.node.forget(10)
        size.append(site.ledger.stat().st_size)
    site.check()
    with closing(sqlite3.connect(site.ledger)) as db:
        tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        rows = {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for (name,) in tables}
    assert rows.pop("run") == 60
    a_month = 30 * 24 // 56 + 3  # steps: how long an id is kept after the node last listed its conference
    assert max(rows.values()) <= 2 * 10 * a_month, rows
    assert max(size) <= 1.5 * size[a_month], size


def test_a_ledger_of_a_newer_collector_is_refused_and_stays(site: Site) -> None:
    site.hourly(10, MIDNIGHT)
    site.run(MIDNIGHT + 5 * HOUR)
    with closing(sqlite3.connect(site.ledger)) as db:
        db.execute("PRAGMA user_version = 99")
    before, ledger = site.files(), site.ledger.read_bytes()
    assert "newer collector" in site.run(MIDNIGHT + 10 * HOUR, code=1).output
    assert (site.files(), site.ledger.read_bytes()) == (before, ledger)
