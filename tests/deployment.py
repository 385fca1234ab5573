"""A node, the collector's runs at moments of its clock, and what must come of them, id by id."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from .conftest import Collector as Process
from .conftest import environment_for
from .forked_collector import Fault, ForkedCollector, Outcome
from .management_node import ManagementNode, conference, participant
from .management_node.calls import stamp

MIDNIGHT = datetime(2026, 11, 24)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
CONF, PART = "pexHistoryConf.csv", "pexHistoryPart.csv"
KINDS = {CONF: "Conf", PART: "Part"}

SHORT = {
    "conference": {"id", "end_time", "name", "participants", "start_time"},
    "participant": {"id", "conference", "display_name", "end_time"},
}
"""The fields that these nodes give."""

HASTENED = """
import time, time_machine
time_machine.travel({start}, tick=True).start()
real, sleep = time.monotonic, time.sleep
began = real()
time.monotonic = lambda: began + (real() - began) * {rate}
time.sleep = lambda seconds: sleep(seconds / {rate})
"""

Record = dict[str, Any]


def made(id: str, end: datetime, *left: timedelta, duration: int = 0) -> tuple[Record, list[Record]]:
    """A conference that ended then, and `<id>-0`, `<id>-1` who left it so long before its end."""
    start = end - max([HOUR, *left]) - HOUR
    held = conference(id=id, name="", start_time=stamp(start), end_time=stamp(end), duration=duration)
    return held, [
        participant(held, id=f"{id}-{n}", end_time=stamp(end - early), duration=duration)
        for n, early in enumerate(left)
    ]


def shorten(node: ManagementNode) -> None:
    """It gives the fields that are needed here, and tells the time."""
    node.tells_time = True
    fields = {"conference": conference(), "participant": participant(conference())}
    node.dropped_fields = {name: fields[name].keys() - SHORT[name] for name in SHORT}


class Deployment(Process):
    """A node, the collector's runs at moments of its true clock, and what must come of them."""

    node: ManagementNode
    forked: ForkedCollector

    def __init__(self, data: Path, node: ManagementNode, forked: ForkedCollector) -> None:
        super().__init__(data, environment_for(node, data))
        self.node, self.forked = node, forked
        self.held: dict[str, Record] = {}
        self.present: dict[str, Record] = {}
        self.since: datetime | None = None  # what ended before is not wanted
        self.away: list[tuple[str, Path]] = []
        self.taken_by_hand: set[str] = set()  # of conferences before that
        shorten(node)

    def want_since(self, moment: datetime) -> None:
        """From now on DATA_SINCE is this moment (UTC)."""
        self.since, self.env["DATA_SINCE"] = moment, f"{moment.isoformat()}Z"

    def hold(self, id: str, end: datetime, *left: timedelta, duration: int = 0, shown: bool = True) -> list[str]:
        """Adds a call; the ids of its participants."""
        held, present = made(id, end, *left, duration=duration)
        self.add([held], present)
        ids = [one["id"] for one in present]
        if not shown:
            self.node.hidden |= {id, *ids}
        return ids

    def hourly(self, number: int, start: datetime = MIDNIGHT, *left: timedelta, prefix: str = "c") -> list[str]:
        """A call in each of so many hours, ended at half past; the conferences' ids."""
        ids = [f"{prefix}{hour:03}" for hour in range(number)]
        for hour, id in enumerate(ids):
            self.hold(id, start + hour * HOUR + 30 * MINUTE, *(left or (MINUTE,)))
        return ids

    def add(self, held: list[Record], present: list[Record]) -> None:
        self.held |= {one["id"]: one for one in held}
        self.present |= {one["id"]: one for one in present}
        self.node.add(held, present)

    def run(
        self,
        moment: datetime,
        *arguments: str,
        ahead: timedelta = timedelta(0),
        fault: Fault | None = None,
        at: int | str = 0,
        code: int | None = 0,
        **env: str,
    ) -> Outcome:
        """One run at a moment of the node's clock, this machine's being so much ahead of it."""
        self.node.now = moment
        before = len(self.node.requests)
        outcome = self.forked(list(arguments), self.env | env, moment + ahead, fault, at)
        self.asked = self.node.requests[before:]
        assert "Traceback" not in outcome.output
        assert code is None or outcome.code == code, outcome.output
        return outcome

    def hastened(self, moment: datetime, rate: int, **env: str) -> Outcome:
        """A run in a process of its own whose time.sleep() and monotonic() go so many times as fast."""
        folder = self.data.parent / "hastened"
        folder.mkdir(exist_ok=True)
        program = HASTENED.format(start=moment.replace(tzinfo=UTC).timestamp(), rate=rate)
        (folder / "sitecustomize.py").write_text(program)
        self.node.now = moment
        hurry = {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        done = Process.__call__(self, "collect", env=hurry | env, timeout=100)
        return Outcome(done.code, done.output, [])

    def runs(self, first: datetime, last: datetime, every: timedelta = HOUR, **named: Any) -> Outcome:
        """Runs of a schedule, both ends included; how the last one ended."""
        while first <= last:
            outcome = self.run(first, **named)
            first += every
        return outcome

    def lose_ledger(self) -> None:
        (self.data / ".collector" / "ledger.sqlite").unlink()

    def take_away(self, name: str, how: str) -> None:
        """What a user does to an aggregate: its rows still count where they are now."""
        path = self.data / name
        other = self.data.parent / f"{len(self.away)}-{name}"
        if how == "saved with semicolons":
            other.write_bytes(path.read_bytes())
            path.write_bytes(path.read_bytes().replace(b",", b";"))
        else:
            path.rename(other)
        self.away.append((name, other))

    def ids(self, name: str = CONF) -> list[str]:
        files = [path for known, path in self.away if known == name]
        files += [self.data / name] if (self.data / name).exists() else []
        return [row["id"] for file in files for row in self.rows(file)]

    def dated_ids(self, name: str = CONF) -> list[str]:
        return [row["id"] for file in self.dated(KINDS[name]) for row in self.rows(file)]

    def owed(self) -> dict[str, set[str]]:
        """All that the node had, or what ended since DATA_SINCE: conferences, and those whom they list."""
        since = stamp(self.since) or ""
        conferences = {id for id, one in self.held.items() if one["end_time"] >= since} | self.taken_by_hand
        listed = {uri.split("/")[-2] for id in conferences for uri in self.held[id]["participants"]}
        return {CONF: conferences, PART: listed & self.present.keys()}

    def check(self, never: set[str] = frozenset(), perhaps: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        """Once each, in the aggregates and in the dated files; `never` was forgotten before a run could see it."""
        for name, owed in self.owed().items():
            for where, found in (("aggregate", self.ids(name)), ("dated files", self.dated_ids(name))):
                twice = sorted(id for id, count in Counter(found).items() if count > 1)
                assert not twice, f"{name}, {where}: twice: {twice}"
                lost, strange = owed - never - set(found), set(found) - owed - perhaps
                assert not lost, f"{name}, {where}: lost: {sorted(lost)}"
                assert not strange, f"{name}, {where}: not asked for: {sorted(strange)}"
