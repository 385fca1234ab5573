"""A crash costs nothing, at any step; a full disk or a locked file costs a run and no row.

Each scenario is run undisturbed first, which tells its steps. Then, for every step, it is run again from the same start
and struck there, looked at, and followed by an undisturbed run. STRIKE=calls: see tests/striking.py.
"""

from __future__ import annotations

import csv
import io
import sqlite3
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pexip_history.archive import manifest

from .forked import MEMORY, Fault, ForkedCollector, Outcome
from .harness import CONF, PART, STREAM, Site, environment_for
from .management_node import ManagementNode, conference, media_stream, participant
from .management_node.calls import Call, stamp
from .power_cut import fingerprint, image_of
from .striking import FAULTS, MACHINE

FIRST, SECOND = datetime(2026, 11, 24), datetime(2026, 11, 25)
NAMES = (CONF, PART, STREAM)


def other_order(site: Site) -> None:
    """As the PowerShell script wrote it: every field quoted, other columns first, no last line end."""
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(row[::-1] for row in site.table(PART))
    (site.data / PART).write_text(text.getvalue().removesuffix("\r\n"), encoding="utf-8", newline="")


def no_line_end(site: Site) -> None:
    """Someone's editor took the last line's end away from an aggregate, which is long."""
    (site.data / PART).write_bytes((site.data / PART).read_bytes().removesuffix(b"\r\n"))


FIELDS = {"conference": {"zone": "DMZ"}, "participant": {"band": 'a,"b"'}}
HALF: dict[str, Any] = {"fault": "kill", "at": f"half {PART}", "code": -9}
SCENARIOS: dict[str, Callable[[Site], object]] = {
    "the first run": lambda site: None,
    "a second run": lambda site: None,
    "a run that widens the aggregates": lambda site: setattr(site.node, "extra_fields", FIELDS),
    "a run with media streams": lambda site: site.env.update(DATA_MEDIA_STREAMS="true"),
    "a run after an aggregate was deleted": lambda site: (site.data / PART).unlink(),
    "a run onto a file with other columns first": other_order,
    "a run that finishes one that was killed": lambda site: site.run(datetime(2026, 11, 24, 12), **HALF),
}
"""What happened after the first day's run, and before the run that is struck."""
OF_THE_POWER: dict[str, Callable[[Site], object]] = {
    "a run onto a file that is not ours": lambda site: (site.data / PART).write_bytes(b"Name;Phone\r\nA;1\r\n"),
    "a run onto a file without a last line end": no_line_end,
    "a run with a damaged ledger": lambda site: site.ledger.write_bytes(b"no ledger" * 1000),
}
"""Tried with power cuts alone."""


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


@contextmanager
def days() -> Iterator[ManagementNode]:
    """A node with two of them."""
    with ManagementNode() as node:
        for day in (FIRST, SECOND):
            node.load(a_day(day - timedelta(days=1)))
        yield node


def prepared(scenario: str, node: ManagementNode, forked: ForkedCollector, folder: Path) -> Site:
    """As it is before the run that is struck."""
    node.extra_fields = {}
    site = Site(folder / "data", environment_for(node, folder / "data"), node, forked)
    first = scenario == "the first run"
    if not first:
        site.run(FIRST)
    (SCENARIOS | OF_THE_POWER)[scenario](site)
    site.at(FIRST if first else SECOND)
    return site


Found = tuple[dict[str, list[list[str]]], dict[str, list[dict[str, str]]], list[bytes]]


class Bench:
    """A scenario that can be started over and over, and what it comes to undisturbed."""

    def __init__(self, site: Site) -> None:
        self.site, self.moment = site, site.node.now
        self.struck = MACHINE(site, lambda **how: site.run(self.moment, **how))
        self.after = contents(site)
        self.recovered: set[int] = set()

    def assert_recovers(self, what: str) -> None:
        """An undisturbed run now makes it all good, and the next brings nothing.

        What it does follows from what it finds: a state of the folder that was seen before is not tried again.
        """
        state = fingerprint(image_of(self.site.data))
        if state in self.recovered:
            return
        for later in (1, 2):
            said = self.site.run(self.moment + timedelta(seconds=later)).output
            assert contents(self.site) == self.after, f"{what}\n{said}"
            with closing(sqlite3.connect(self.site.ledger)) as ledger:
                assert ledger.execute("PRAGMA integrity_check").fetchall() == [("ok",)], what
        dated = {path.name for path in self.site.data.glob("????-*.csv")}
        assert manifest.latest(self.site.data).keys() == dated, what  # half of a line is passed over
        left = {path.name for path in (self.site.data / ".collector").iterdir() if "set-aside" not in path.name}
        assert left == {"lock", "ledger.sqlite"}, what
        assert not list(self.site.data.glob("*.new")), what
        self.recovered.add(state)

    def assert_ended_by_itself(self, struck: Outcome, what: str) -> None:
        """It says so and fails, or did all there was to do, or its own window and says that the rest waits.

        No aggregate ends in half a row.
        """
        what += f"\n{struck.output}"
        assert "Traceback" not in struck.output, what
        if struck.code == 0 and "the rest waits for the next run" not in struck.output:
            assert contents(self.site) == self.after, what
            return
        assert struck.code in (0, 1), what
        assert struck.output, what
        for name, whole in self.after[0].items():
            path, kept = self.site.data / name, self.struck.copy / name
            if not path.exists() or (kept.exists() and kept.read_bytes() == path.read_bytes()):
                continue
            header, *rows = self.site.table(path)
            assert header == whole[0][: len(header)], what
            padded = [row + [""] * (len(whole[0]) - len(header)) for row in rows]
            assert padded == whole[1 : 1 + len(rows)], what


FAULTY = ["the first run", "a run that widens the aggregates", "a run onto a file with other columns first"]
"""Those in which a fault is tried too: between them they take every step there is."""
QUICK = ["a second run"]


def marked(names: Collection[str]) -> list[Any]:
    """The quick ones run with make test, the others with make test-long."""
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(scope="module")
def loaded() -> Iterator[ManagementNode]:
    with days() as node:
        yield node


@pytest.fixture(params=marked(SCENARIOS), scope="module")
def bench(request: pytest.FixtureRequest, loaded: ManagementNode, forked: ForkedCollector) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="crash-", dir=MEMORY) as folder:
        yield Bench(prepared(request.param, loaded, forked, Path(folder)))


def contents(site: Site) -> Found:
    """Header and rows of each aggregate; the rows of its dated files, by name; a user's files that were set aside."""
    rows = {
        name: [{k: v for k, v in row.items() if v} for path in site.dated(name) for row in site.rows(path)]
        for name in NAMES
    }
    aside = [path.read_bytes() for path in site.set_aside()]
    return {name: site.table(name) for name in NAMES if (site.data / name).exists()}, rows, aside


def test_a_kill_at_any_step_costs_nothing(bench: Bench) -> None:
    for _, what in bench.struck.strikes("kill"):
        bench.assert_recovers(what)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "kill"])
@pytest.mark.parametrize("bench", marked(FAULTY), indirect=True, scope="module")
def test_a_disk_that_is_full_and_a_step_that_is_not_permitted_cost_no_row(bench: Bench, fault: Fault) -> None:
    for struck, what in bench.struck.strikes(fault):
        bench.assert_ended_by_itself(struck, what)
        bench.assert_recovers(what)
