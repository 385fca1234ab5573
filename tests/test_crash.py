"""A crash costs nothing, at any step; a full disk or a locked file costs a run and no row.

Each scenario is run undisturbed first, which tells its steps. Then, for every step, it is run
again from the same start and struck there, looked at, and followed by an undisturbed run.
tests/crash_syscalls.py does the same at the system calls of the whole process, SQLite's too.
"""

from __future__ import annotations

import csv
import hashlib
import io
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from .conftest import environment_for
from .forked import MEMORY, NEEDS_PERMISSION, Fault, ForkedCollector, Outcome
from .management_node import ManagementNode, conference, media_stream, participant
from .management_node.calls import Call, stamp

FIRST, SECOND = datetime(2026, 11, 24), datetime(2026, 11, 25)
KINDS = ("Conf", "Part", "Stream")


@dataclass
class Scenario:
    """What leads to the run that is struck. `before` gets the data folder and a run."""

    before: Callable[[Start], None] = lambda start: None
    env: dict[str, str] = field(default_factory=dict)
    moment: datetime = SECOND


@dataclass
class Start:
    """The state before the run that is struck."""

    node: ManagementNode
    run: ForkedCollector
    data: Path
    env: dict[str, str]

    def collect(self, moment: datetime, fault: Fault | None = None, at: int = 0) -> Outcome:
        outcome = self.run([], self.env, moment, fault, at)
        assert fault or outcome.code == 0, outcome.output
        return outcome


def first_day(start: Start) -> None:
    start.collect(FIRST)


def upgrade(start: Start) -> None:
    """From here on the node's records have another field."""
    start.collect(FIRST)
    start.node.extra_fields = {"conference": {"zone": "DMZ"}, "participant": {"band": 'a,"b"'}}


def deleted(start: Start) -> None:
    start.collect(FIRST)
    (start.data / "pexHistoryPart.csv").unlink()


def other_order(start: Start) -> None:
    """As the PowerShell script wrote it: every field quoted, other columns first, no last line end."""
    start.collect(FIRST)
    path = start.data / "pexHistoryPart.csv"
    with path.open(encoding="utf-8", newline="") as lines:
        rows = [row[::-1] for row in csv.reader(lines)]
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    path.write_text(text.getvalue().removesuffix("\r\n"), encoding="utf-8", newline="")


def half_published(start: Start) -> None:
    """The first day's run was killed in the middle of its rows, and before that a file was taken."""
    first_day(start)
    clean = start.data.parent / "clean"
    shutil.copytree(start.data, clean)
    noon = datetime(2026, 11, 24, 12)
    steps = start.collect(noon).steps
    shutil.rmtree(start.data)
    shutil.copytree(clean, start.data)
    start.collect(noon, "kill", steps.index("half pexHistoryPart.csv") + 1)


SCENARIOS = {
    "the first run": Scenario(moment=FIRST),
    "a second run": Scenario(first_day),
    "a run that widens the aggregates": Scenario(upgrade),
    "a run with media streams": Scenario(first_day, {"DATA_MEDIA_STREAMS": "true"}),
    "a run after an aggregate was deleted": Scenario(deleted),
    "a run onto a file with other columns first": Scenario(other_order),
    "a run that finishes one that was killed": Scenario(half_published),
}


@pytest.fixture(scope="module")
def node() -> Iterator[ManagementNode]:
    with ManagementNode(now=datetime(2030, 1, 1)) as node:
        for day in (FIRST, SECOND):
            node.load(a_day(day - timedelta(days=1)))
        yield node


@pytest.fixture(scope="module")
def runs() -> Iterator[list[ForkedCollector]]:
    """One for each of two processors."""
    with ForkedCollector() as one, ForkedCollector() as other:
        yield [one, other]


def a_day(day: datetime) -> Iterator[Call]:
    """Calls that make rows of every kind; the last is of three days, and one left it in the first."""
    for hour, name in enumerate(("Weekly", 'Møte "A", 2\nquoted', "=1+1", "", "x" * 3000)):
        end = day + timedelta(hours=9 + hour)
        held = conference(name=name, start_time=stamp(end - timedelta(days=2)), end_time=stamp(end))
        left = [timedelta(), timedelta(minutes=5), timedelta(days=2 * (hour == 4), minutes=7)]
        present = [participant(held, display_name=name, end_time=stamp(end - early)) for early in left]
        media_stream(present[0])
        media_stream(present[0], stream_type="video", rx_codec='"H264"')
        yield held, present


Found = tuple[dict[str, list[list[str]]], dict[str, list[dict[str, str]]]]


@dataclass
class Bench:
    """A scenario that can be started over and over, and what it comes to undisturbed."""

    start: Start
    moment: datetime
    kept: Path
    steps: list[str]
    after: Found
    recovered: set[str] = field(default_factory=set)

    def reset(self) -> None:
        shutil.rmtree(self.start.data)
        shutil.copytree(self.kept, self.start.data)

    def strike(self, fault: Fault, at: int) -> Outcome:
        self.reset()
        return self.start.collect(self.moment, fault, at)

    def assert_recovers(self, what: str) -> None:
        """An undisturbed run now makes it all good. What it does follows from what it finds: a
        state of the folder that was seen before is not tried again."""
        state = fingerprint(self.start.data)
        if state in self.recovered:
            return
        self.start.collect(self.moment + timedelta(seconds=1))
        assert contents(self.start.data) == self.after, what
        left = {path.name for path in (self.start.data / ".collector").iterdir()}
        assert left == {"lock", "ledger.sqlite"}, what
        self.recovered.add(state)

    def assert_ended_by_itself(self, struck: Outcome, what: str) -> None:
        """It says so and fails, or did all there was to do, or its own window and says that the rest waits.

        No aggregate ends in half a row.
        """
        what += f"\n{struck.output}"
        assert "Traceback" not in struck.output, what
        if struck.code == 0 and "the rest waits for the next run" not in struck.output:
            assert contents(self.start.data) == self.after, what
            return
        assert struck.code in (0, 1), what
        assert struck.output, what
        for kind, whole in self.after[0].items():
            path = self.start.data / f"pexHistory{kind}.csv"
            kept = self.kept / path.name
            if not path.exists() or (kept.exists() and kept.read_bytes() == path.read_bytes()):
                continue
            header, *rows = table(path)
            assert header == whole[0][: len(header)], what
            padded = [row + [""] * (len(whole[0]) - len(header)) for row in rows]
            assert padded == whole[1 : 1 + len(rows)], what


FAULTY = ["the first run", "a run that widens the aggregates", "a run onto a file with other columns first"]
"""Those in which a fault is tried too: between them they take every step there is."""


QUICK = ["a second run"]


def marked(names: Collection[str]) -> list[Any]:
    """The quick ones run with make test, the others with make test-long."""
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(params=marked(SCENARIOS), scope="module")
def benches(request: pytest.FixtureRequest, node: ManagementNode, runs: list[ForkedCollector]) -> Iterator[list[Bench]]:
    """Of the same scenario, in a folder each."""
    with tempfile.TemporaryDirectory(prefix="crash-", dir=MEMORY) as folder:
        first = make_bench(SCENARIOS[request.param], node, runs[0], Path(folder))
        data = Path(folder) / "other"
        data.mkdir()
        other = replace(first.start, run=runs[1], data=data)
        other.env = first.start.env | {"DATA_DIR": str(data)}
        yield [first, replace(first, start=other)]


def at_each(benches: list[Bench], kinds: Collection[str] | None, strike: Callable[[Bench, int, str], None]) -> None:
    """Strikes at each step (of these kinds), on whichever bench is free."""
    free: SimpleQueue[Bench] = SimpleQueue()
    for bench in benches:
        free.put(bench)

    def one(at: int, step: str) -> None:
        bench = free.get()
        try:
            strike(bench, at, step)
        finally:
            free.put(bench)

    steps = enumerate(benches[0].steps, 1)
    with ThreadPoolExecutor(len(benches)) as pool:
        struck = [pool.submit(one, at, step) for at, step in steps if kinds is None or step.split()[0] in kinds]
        for future in struck:
            if future.exception():
                pool.shutdown(cancel_futures=True)
            future.result()


def make_bench(scenario: Scenario, node: ManagementNode, run: ForkedCollector, folder: Path) -> Bench:
    node.extra_fields = {}
    data, kept = folder / "data", folder / "kept"
    data.mkdir()
    start = Start(node, run, data, environment_for(node, data))
    scenario.before(start)
    start.env |= scenario.env
    shutil.copytree(data, kept)
    steps = start.collect(scenario.moment).steps
    return Bench(start, scenario.moment, kept, steps, contents(data))


def fingerprint(data: Path) -> str:
    """Of all that a run finds, save the log and the number in the lock."""
    digest = hashlib.sha256()
    for path in sorted(data.rglob("*")):
        if path.is_file() and path.name not in ("lock", "data_collector.log"):
            digest.update(f"{path.name} {path.stat().st_size} {path.stat().st_mode}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def contents(data: Path) -> Found:
    """Header and rows of each aggregate; the rows of the dated files one behind the other, by name."""
    rows: dict[str, list[dict[str, str]]] = {}
    for kind in KINDS:
        rows[kind] = []
        for path in sorted(data.glob(f"????-??-??_??-??-??_pexHistory{kind}.csv")):
            header, *lines = table(path)
            rows[kind] += [{k: v for k, v in zip(header, line, strict=True) if v} for line in lines]
    paths = {kind: data / f"pexHistory{kind}.csv" for kind in KINDS}
    return {kind: table(path) for kind, path in paths.items() if path.exists()}, rows


def table(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.reader(lines, strict=True))


def test_a_kill_at_any_step_costs_nothing(benches: list[Bench]) -> None:
    def strike(bench: Bench, at: int, step: str) -> None:
        struck = bench.strike("kill", at)
        assert struck.code == -9, f"step {at} ({step}) was not reached"
        bench.assert_recovers(f"killed at step {at}: {step}")

    assert len(benches[0].steps) > 40
    at_each(benches, None, strike)


@pytest.mark.parametrize("benches", marked(FAULTY), indirect=True, scope="module")
def test_a_disk_that_is_full_from_any_step_on_costs_no_row(benches: list[Bench]) -> None:
    def strike(bench: Bench, at: int, step: str) -> None:
        what = f"full from step {at} on: {step}"
        bench.assert_ended_by_itself(bench.strike("ENOSPC", at), what)
        bench.assert_recovers(what)

    at_each(benches, ("half", "create", "sql", "fsync"), strike)


@pytest.mark.parametrize("benches", marked(FAULTY), indirect=True, scope="module")
def test_a_step_that_is_not_permitted_costs_no_row(benches: list[Bench]) -> None:
    def strike(bench: Bench, at: int, step: str) -> None:
        what = f"not permitted at step {at}: {step}"
        bench.assert_ended_by_itself(bench.strike("EACCES", at), what)
        bench.assert_recovers(what)

    at_each(benches, NEEDS_PERMISSION, strike)
