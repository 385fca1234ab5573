"""Nothing twice, nothing missing: by the clock, by the node's whims and by the user's hands."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from .conftest import Collector as Process
from .conftest import environment_for
from .forked_collector import MEMORY, ForkedCollector, Outcome
from .management_node import ManagementNode, conference, faults, participant
from .management_node.calls import Call, stamp

MIDNIGHT = datetime(2026, 11, 24)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
CONF, PART = "pexHistoryConf.csv", "pexHistoryPart.csv"
KINDS = pytest.mark.parametrize("name", [CONF, PART])


def call(end: datetime, *left: timedelta, **fields: object) -> Call:
    """A conference that ended then, and one who left it so long before for each of `left`."""
    held = conference(start_time=stamp(end - 100 * HOUR), end_time=stamp(end), **fields)
    return held, [participant(held, end_time=stamp(end - early)) for early in left]


@pytest.fixture(scope="module")
def forked() -> Iterator[ForkedCollector]:
    with ForkedCollector() as forked:
        yield forked


@pytest.fixture(scope="module")
def shared_node() -> Iterator[ManagementNode]:
    with ManagementNode(now=datetime(2030, 1, 1)) as node:
        yield node


class Collection(Process):
    """Runs at moments that a test names, and the files that come of them."""

    node: ManagementNode
    forked: ForkedCollector
    participants: list[dict[str, object]]

    def run(self, moment: datetime, *arguments: str, code: int = 0, **env: str) -> Outcome:
        outcome = self.forked(list(arguments), self.env | env, moment)
        assert outcome.code == code, outcome.output
        return outcome

    def ids(self, name: str = CONF) -> list[str]:
        return [row["id"] for row in self.rows(name)]

    @property
    def ledger(self) -> Path:
        return self.data / ".collector" / "ledger.sqlite"

    def set_aside(self) -> list[Path]:
        return sorted(self.data.glob("*.set-aside-*"))


@pytest.fixture
def collection(shared_node: ManagementNode, forked: ForkedCollector) -> Iterator[Collection]:
    shared_node.clear()
    with tempfile.TemporaryDirectory(prefix="exactly-once-", dir=MEMORY) as folder:
        data = Path(folder) / "data"
        data.mkdir()
        collection = Collection(data, environment_for(shared_node, data))
        collection.node, collection.forked = shared_node, forked
        yield collection


def hours(collection: Collection, number: int = 10) -> list[str]:
    """A call in each of the first hours after midnight; their ids."""
    made = [call(MIDNIGHT + hour * HOUR + 30 * MINUTE, MINUTE) for hour in range(number)]
    collection.node.load(made)
    collection.participants = [one for _, present in made for one in present]
    return [held["id"] for held, _ in made]


# The clock


@pytest.mark.slow
def test_the_ledger_holds_its_size_over_ten_weeks(collection: Collection) -> None:
    """Every hour of them where MODEL_EXAMPLES is set; else every 56th, and the one after it."""
    calls_an_hour = 10
    every = 1 if os.environ.get("MODEL_EXAMPLES") else 56
    size = []
    for hour in range(0, 10 * 7 * 24, every):
        start = MIDNIGHT + hour * HOUR
        collection.node.load(call(start + n * MINUTE, MINUTE, 3 * HOUR) for n in range(calls_an_hour))
        for moment in (start + HOUR, start + 2 * HOUR)[: 1 if every == 1 else 2]:
            collection.run(moment)
        collection.node.forget(calls_an_hour)
        size.append(collection.ledger.stat().st_size)
    assert len(set(collection.ids())) == len(collection.ids()) == calls_an_hour * len(size)
    assert len(set(collection.ids(PART))) == len(collection.ids(PART)) == 2 * len(collection.ids())
    db = sqlite3.connect(collection.ledger)
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    rows = {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}
    db.close()
    assert rows.pop("run") <= 1000
    a_month = 30 * 24 // every + 3  # steps: how long an id is kept after the node last listed its conference
    assert max(rows.values()) <= 2 * calls_an_hour * a_month, rows
    assert max(size) <= 1.5 * size[a_month], size  # ids are random: how full SQLite's pages are differs


def test_a_run_covers_the_weeks_that_the_container_was_down(collection: Collection) -> None:
    collection.run(MIDNIGHT)
    ids = hours(collection, 300)
    collection.run(MIDNIGHT + timedelta(weeks=3))
    assert collection.ids() == ids


def test_a_first_run_that_fails_is_made_good_by_the_next(collection: Collection) -> None:
    collection.node.load([call(MIDNIGHT - 23 * HOUR, MINUTE)])
    collection.node.faults.add(faults.status(401))
    collection.run(MIDNIGHT, code=1)
    assert not collection.files()
    collection.run(MIDNIGHT + 24 * HOUR)
    assert len(collection.ids()) == len(collection.ids(PART)) == 1


def test_a_range_by_hand_adds_what_is_missing_and_leaves_the_schedule_where_it_was(
    collection: Collection,
) -> None:
    ids = hours(collection)
    collection.run(MIDNIGHT + 5 * HOUR, "--from", "2026-11-24T02:00", "--to", "2026-11-24T04:00")
    assert collection.ids() == ids[2:4]
    collection.run(MIDNIGHT + 6 * HOUR)
    assert sorted(collection.ids()) == sorted(ids[:6])
    collection.run(MIDNIGHT + 200 * HOUR)
    collection.run(MIDNIGHT + 201 * HOUR, "--from", "2026-11-24", "--to", "2026-11-24T04:00")
    assert sorted(collection.ids()) == sorted(ids)
    assert len(collection.ids(PART)) == len(set(collection.ids(PART))) == len(ids)


# The node


@pytest.mark.parametrize("appear", ["left", "ended"])
def test_participants_are_the_same_whether_shown_at_once_or_at_the_end(collection: Collection, appear: str) -> None:
    early = [early * HOUR for early in (0, 1, 5, 26, 49, 80)]
    made = [call(MIDNIGHT + day * timedelta(days=1) + 10 * MINUTE, *early) for day in range(4)]
    collection.node.load(made)
    collection.node.participants_appear = appear  # type: ignore[assignment]
    for step in range(0, 24 * 5, 4):
        collection.node.now = MIDNIGHT + step * HOUR
        collection.run(MIDNIGHT + step * HOUR)
    everyone = sorted(one["id"] for _, present in made for one in present)
    assert sorted(collection.ids(PART)) == everyone


def test_participants_that_come_late_are_asked_for_again_and_only_they_are_new(
    collection: Collection,
) -> None:
    held, present = call(MIDNIGHT - MINUTE, *(n * 10 * HOUR for n in range(6)))
    collection.node.add([held], present)
    late = {one["id"] for one in present[2:4]}
    collection.node.hidden = set(late)
    for hour in range(3):
        collection.run(MIDNIGHT + hour * HOUR)
    assert len(collection.ids(PART)) == 4
    collection.node.hidden = set()
    assert "2 participants (2 late)" in collection.run(MIDNIGHT + 30 * HOUR).output
    collection.run(MIDNIGHT + 31 * HOUR)
    assert sorted(collection.ids(PART)) == sorted(one["id"] for one in present)


def lost(collection: Collection) -> tuple[int, int]:
    """How many participants status calls lost, and how many are asked for."""
    told = json.loads(collection.run(MIDNIGHT, "status", "--json").output)
    return told["lost"], told["expected"]


def test_participants_that_are_gone_count_as_lost_at_once_and_are_named_once(collection: Collection) -> None:
    """Gone: the node answers 404 at their own addresses."""
    held, present = call(MIDNIGHT - MINUTE, 30 * HOUR, 40 * HOUR)
    collection.node.add([held], present)
    collection.node.delete(*(one["id"] for one in present))
    said = collection.run(MIDNIGHT).output
    assert f"2 participants of conference {held['id']} are gone" in said
    assert lost(collection) == (2, 0)
    for hour in (1, 2, 30, 60, 200):
        assert "gone" not in collection.run(MIDNIGHT + hour * HOUR).output
    assert lost(collection) == (2, 0)


@pytest.mark.slow
def test_a_participant_that_was_gone_is_asked_for_once_a_day_for_a_week(collection: Collection) -> None:
    held, (one,) = call(MIDNIGHT - MINUTE, 30 * HOUR)
    collection.node.add([held], [one])
    collection.node.delete(one["id"])
    asked = []
    for hour in range(0, 20 * 24, 6):
        collection.node.requests.clear()
        collection.run(MIDNIGHT + hour * HOUR)
        asked += [hour for request in collection.node.requests if one["id"] in request.path]
    assert asked == [day * 24 for day in range(7)]


def test_a_participant_that_comes_after_all_is_taken_and_no_longer_lost(collection: Collection) -> None:
    held, (one,) = call(MIDNIGHT - MINUTE, 30 * HOUR)
    collection.node.add([held], [one])
    collection.node.hidden = {one["id"]}
    collection.run(MIDNIGHT)
    assert lost(collection) == (1, 0)
    collection.node.hidden = set()
    collection.run(MIDNIGHT + 5 * 24 * HOUR)
    assert collection.ids(PART) == [one["id"]]
    assert lost(collection) == (0, 0)


@pytest.mark.parametrize("ordering", [("end_time",), ()])
@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5])
def test_rows_that_move_while_they_are_read_are_not_lost(
    collection: Collection, nth: int, ordering: tuple[str, ...]
) -> None:
    """The node forgets its oldest between pages, so that those behind move up."""
    node = collection.node
    node.max_limit, node.ordering = 3, ordering
    ids = hours(collection, 12)
    gone: list[str] = []
    kept = {one["id"] for one in collection.participants[2:]}
    node.faults.add(faults.before(lambda request: gone.extend(node.forget(2))), nth=nth)
    collection.run(MIDNIGHT + 24 * HOUR)
    assert gone == ids[:2]
    assert set(collection.ids()) >= set(ids[2:])
    assert len(collection.ids()) == len(set(collection.ids()))
    assert set(collection.ids(PART)) >= kept
    assert len(collection.ids(PART)) == len(set(collection.ids(PART)))


@pytest.mark.slow
@pytest.mark.parametrize("ordering", [("end_time",), ()])
def test_what_is_beyond_a_limit_comes_later_and_oldest_first(collection: Collection, ordering: tuple[str, ...]) -> None:
    collection.node.ordering, collection.node.max_limit = ordering, 4
    ids = hours(collection)
    limits = {"DEFAULT_CONF_LIMIT": "3", "DEFAULT_PART_LIMIT": "2"}
    said = collection.run(MIDNIGHT + 12 * HOUR, **limits).output
    assert "DEFAULT_CONF_LIMIT=3 reached: 7 conference records wait" in said
    assert "DEFAULT_PART_LIMIT=2 reached: 8 participant records wait" in said
    assert sorted(collection.ids()) == sorted(ids[:3])
    for hour in range(13, 19):
        said = collection.run(MIDNIGHT + hour * HOUR, **limits).output
    assert "reached" not in said
    assert sorted(collection.ids()) == sorted(ids)
    assert len(set(collection.ids(PART))) == len(collection.ids(PART)) == len(ids)


# Two at a time, and the end of one


def test_a_second_run_at_the_same_time_says_so_and_leaves_with_75(node: ManagementNode, collector: Process) -> None:
    node.faults.add(faults.hang(30), times=None)
    first = collector.start()
    try:
        while not node.requests:
            time.sleep(0.02)
        second = collector()
        assert second.code == 75
        assert f"another run is under way (process {first.pid})" in second.output
    finally:
        first.kill()
        first.communicate()


@pytest.mark.parametrize("nth", [1, 3, 5])
def test_sigterm_ends_a_run_at_once_and_changes_no_data_file(
    node: ManagementNode, collector: Process, nth: int
) -> None:
    node.max_limit = 2
    recent = datetime.now(UTC).replace(tzinfo=None) - 2 * HOUR
    node.load(call(recent + n * MINUTE, MINUTE) for n in range(6))
    (collector.data / CONF).write_text("id,name\r\nmine,as it was\r\n", newline="")
    before = collector.files()
    node.faults.add(faults.hang(30), nth=nth)
    run = collector.start()
    while len(node.requests) < nth:
        time.sleep(0.02)
    time.sleep(0.05)
    asked = time.monotonic()
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=10)
    assert time.monotonic() - asked < 2
    assert run.returncode == 1
    assert "Traceback" not in said
    assert collector.files() == before
    assert len([line for line in collector.log().splitlines() if "stopped" in line]) == 1
    assert "done" not in said


def test_sigterm_before_the_first_request_is_one_line_too(node: ManagementNode, collector: Process) -> None:
    """While the libraries are loaded: at the moment that the lock is there."""
    run = collector.start()
    while not (collector.data / ".collector" / "ledger.sqlite").exists():
        time.sleep(0.002)
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=10)
    assert run.returncode == 1, said
    assert "Traceback" not in said
    assert "stopped" in said


# The user's hands


@KINDS
@pytest.mark.parametrize("how", ["deleted", "renamed"])
def test_an_aggregate_that_is_gone_is_started_again_with_a_header(collection: Collection, name: str, how: str) -> None:
    hours(collection)
    collection.run(MIDNIGHT + 5 * HOUR)
    old, path = collection.table(name), collection.data / name
    path.unlink() if how == "deleted" else path.rename(path.with_name("mine.csv"))
    collection.run(MIDNIGHT + 10 * HOUR)
    new = collection.table(name)
    assert new[0] == old[0]
    assert (len(old), len(new)) == (1 + 5, 1 + 5)
    assert not {tuple(row) for row in old[1:]} & {tuple(row) for row in new[1:]}


def requoted(content: bytes) -> bytes:
    """As PowerShell's Export-Csv writes it, other columns first, with a byte order mark."""
    rows = [row[::-1] for row in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))]
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    return b"\xef\xbb\xbf" + text.getvalue().encode()


EDITS: dict[str, Callable[[bytes], bytes]] = {
    "a line removed": lambda content: b"\r\n".join(content.split(b"\r\n")[:2]) + b"\r\n",
    "no final newline": lambda content: content.removesuffix(b"\r\n"),
    "half a line end": lambda content: content.removesuffix(b"\n"),
    "line ends of Unix": lambda content: content.replace(b"\r\n", b"\n"),
    "an own column": lambda content: b"note," + b"\r\nx,".join(content.split(b"\r\n")[:-1]) + b"\r\n",
    "as PowerShell writes": requoted,
    "PowerShell, no final newline": lambda content: requoted(content).removesuffix(b"\r\n"),
    "Latin-1": lambda content: content.replace("ø".encode(), b"\xf8"),
}


@KINDS
@pytest.mark.parametrize("edit", EDITS)
def test_an_aggregate_that_was_edited_is_appended_to_by_name(collection: Collection, name: str, edit: str) -> None:
    made = [call(MIDNIGHT + n * HOUR + MINUTE, MINUTE, name="Møte") for n in range(10)]
    collection.node.load(made)
    collection.run(MIDNIGHT + 5 * HOUR)
    path = collection.data / name
    edited = EDITS[edit](path.read_bytes())
    path.write_bytes(edited)
    collection.run(MIDNIGHT + 10 * HOUR)
    content = path.read_bytes()
    assert content.startswith(edited)
    assert not collection.set_aside()
    header, *rows = csv.reader(io.StringIO(content.decode("utf-8-sig", "replace"), newline=""), strict=True)
    assert {len(row) for row in rows} == {len(header)}
    added = [dict(zip(header, row, strict=True)) for row in rows[-5:]]
    dated = collection.rows(collection.dated("Conf" if name == CONF else "Part")[-1])
    assert [{k: v for k, v in row.items() if v} for row in added] == [
        {k: v for k, v in row.items() if v} for row in dated
    ]


ALIEN = {
    "no header": (lambda content: content.partition(b"\r\n")[2], "no header"),
    "semicolons": (lambda content: content.replace(b",", b";"), "semicolons"),
    "UTF-16": (lambda content: content.decode().encode("utf-16"), "UTF-16"),
}


@KINDS
@pytest.mark.parametrize("kind", ALIEN)
def test_an_aggregate_that_is_not_ours_is_set_aside_with_a_warning(
    collection: Collection, name: str, kind: str
) -> None:
    change, why = ALIEN[kind]
    hours(collection)
    collection.run(MIDNIGHT + 5 * HOUR)
    path = collection.data / name
    path.write_bytes(change(path.read_bytes()))
    alien = path.read_bytes()
    said = collection.run(MIDNIGHT + 10 * HOUR).output
    (aside,) = collection.set_aside()
    assert aside.read_bytes() == alien
    assert "WARNING" in said
    assert why in said
    assert aside.name in said
    assert len(collection.ids(name)) == 5


@KINDS
def test_rows_wait_while_an_aggregate_is_locked(collection: Collection, name: str) -> None:
    """Root may write where nobody may: the opening itself is refused, as by a spreadsheet's lock."""
    ids = hours(collection)
    collection.run(MIDNIGHT + 5 * HOUR)
    before = collection.files()
    for hour in (6, 7):
        steps = collection.forked([], collection.env, MIDNIGHT + hour * HOUR, "EACCES", name).steps
        assert f"open {name}" in steps
    assert collection.files()[name] == before[name]
    assert "rows wait" in collection.log()
    assert "Permission denied" in collection.log()
    collection.run(MIDNIGHT + 10 * HOUR)
    assert collection.ids() == ids
    dated = [row for file in collection.dated("Part") for row in collection.rows(file)]
    assert collection.rows(PART) == dated
    assert len(dated) == len(ids)


# The ledger


@pytest.mark.parametrize("how", ["lost", "empty", "no database", "cut", "another's", "all gone"])
def test_a_ledger_that_cannot_be_used_is_rebuilt_from_the_aggregates(collection: Collection, how: str) -> None:
    ids = hours(collection)
    held, present = call(MIDNIGHT + 9 * HOUR + 40 * MINUTE, 5 * HOUR, 8 * HOUR)
    collection.node.add([held], present)
    collection.run(MIDNIGHT + 5 * HOUR)
    ledger = collection.ledger
    if how in ("lost", "all gone"):
        ledger.unlink()
    if how == "all gone":
        (ledger.parent / "lock").unlink()
        ledger.parent.rmdir()
    elif how == "empty":
        ledger.write_bytes(b"")
    elif how == "no database":
        ledger.write_bytes(b"id,name\n" * 1000)
    elif how == "cut":
        os.truncate(ledger, ledger.stat().st_size // 2)
    elif how == "another's":
        ledger.unlink()
        with sqlite3.connect(ledger) as db:
            db.execute("CREATE TABLE other (id)")
        db.close()
    said = collection.run(MIDNIGHT + 10 * HOUR).output
    assert "the ledger was rebuilt" in said
    if how in ("no database", "cut", "another's"):
        assert any("set-aside" in path.name for path in ledger.parent.iterdir())
    collection.run(MIDNIGHT + 11 * HOUR)
    assert sorted(collection.ids()) == sorted([*ids, held["id"]])
    assert len(collection.ids(PART)) == len(set(collection.ids(PART))) == len(ids) + 2


def test_a_ledger_of_a_newer_collector_is_refused_and_stays(collection: Collection) -> None:
    hours(collection)
    collection.run(MIDNIGHT + 5 * HOUR)
    with sqlite3.connect(collection.ledger) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before, ledger = collection.files(), collection.ledger.read_bytes()
    said = collection.run(MIDNIGHT + 10 * HOUR, code=1).output
    assert "newer collector" in said
    assert collection.files() == before
    assert collection.ledger.read_bytes() == ledger
