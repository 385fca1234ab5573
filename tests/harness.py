"""A node, a data folder, the collector's commands at moments of the node's time, and what came of them.

    def test_a_promise(site: Site) -> None:
        ids = site.hourly(10, MIDNIGHT)  # a call in each hour
        site.run(MIDNIGHT + 5 * HOUR)  # a run then; it has to end well
        site.lose_ledger()
        site.runs(MIDNIGHT + 6 * HOUR, MIDNIGHT + 20 * HOUR)
        site.check()  # each record once, in the aggregates and in the dated files

The fixture `site` has a node that does what a test wants (tests/scripted_node.py), `collector` one on the real one's
framework (tests/management_node). Times are naive and UTC.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from .forked import PROGRAM, Fault, ForkedCollector, Outcome
from .management_node.calls import stamp
from .scripted_node import DAY, HOUR, MIDNIGHT, MINUTE, Known, ScriptedNode

ROOT = Path(__file__).resolve().parent.parent
COLLECTOR = PROGRAM
CONF, PART, STREAM = "pexHistoryConf.csv", "pexHistoryPart.csv", "pexHistoryStream.csv"
ALARM, EVENT, QUALITY = "pexHistoryAlarm.csv", "pexHistoryNode.csv", "pexHistoryQuality.csv"
NOW = timedelta(0)

Row = dict[str, str]


def environment_for(node: Any, data: Path) -> dict[str, str]:
    """The whole environment of a process that collects from this node into that folder.

    Nothing else of the caller's: neither a proxy nor REQUESTS_CA_BUNDLE of the machine that runs the tests.
    """
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {
        "DEFAULT_MGR_ADDRESS": node.address,
        "DEFAULT_MGR_SECRET": node.secret,
        "DEFAULT_MGR_CA_FILE": str(node.ca_file),
        "DATA_DIR": str(data),
    }


def command(data: Path, *arguments: str, **env: str) -> Outcome:
    """A command that asks no node."""
    return Site(data, {"PATH": os.environ["PATH"], "DATA_DIR": str(data)})(*arguments, env=env)


class Site:
    """Calling it is `collector.py ARGUMENTS`, however that ends; `env` may be changed before.

    `moment`: when commands are given; None: now, by a clock that runs.
    """

    def __init__(
        self,
        data: Path,
        env: dict[str, str],
        node: Any = None,
        forked: ForkedCollector | None = None,
        moment: datetime | None = None,
    ) -> None:
        data.mkdir(exist_ok=True)
        self.data, self.env, self.node, self.forked, self.moment = data, env, node, forked, moment
        self.asked: list[Any] = []
        """The requests of the last run."""
        self.since: datetime | None = None  # what ended before is not wanted
        self.away: list[tuple[str, Path]] = []
        self.taken_by_hand: set[str] = set()  # of conferences before that

    # Commands

    def __call__(self, *arguments: str, env: Mapping[str, str | None] | None = None, **how: Any) -> Outcome:
        """`env` is for this call alone, None takes a variable away; `how` is ForkedCollector's."""
        if self.forked is None:
            with self.start(*arguments, env=env) as process:
                said = process.communicate(timeout=60)
            return Outcome(process.returncode, *said)
        return self.forked(list(arguments), self._environment(env), how.pop("moment", self.moment), **how)

    def start(
        self, *arguments: str, env: Mapping[str, str | None] | None = None, under: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        """As a process of its own, for tests that act (or kill) while it runs; `under` another, such as strace."""
        return subprocess.Popen(
            [*under, sys.executable, str(COLLECTOR), *arguments],
            env=self._environment(env) | self._clock(),
            cwd=self.data.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def _clock(self) -> dict[str, str]:
        if self.moment is None:
            return {}
        folder = self.data.parent / "clock"
        folder.mkdir(exist_ok=True)
        start = self.moment.replace(tzinfo=UTC).timestamp()
        (folder / "sitecustomize.py").write_text(f"import time_machine\ntime_machine.travel({start!r}).start()\n")
        return {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}  # a cached clock would stand still

    def _environment(self, changes: Mapping[str, str | None] | None) -> dict[str, str]:
        merged: dict[str, str | None] = {**self.env, **(changes or {})}
        return {name: value for name, value in merged.items() if value is not None}

    def at(self, moment: datetime) -> None:
        """Sets both clocks: what ends later is not there yet."""
        self.moment = moment
        if isinstance(self.node, ScriptedNode):
            self.node.wait(moment - self.node.now)
        elif self.node:
            self.node.now = moment

    def run(
        self,
        moment: datetime | None = None,
        *arguments: str,
        ahead: timedelta = NOW,
        fault: Fault | None = None,
        at: int | str = 0,
        code: int | None = 0,
        fork: bool = False,
        hurry: bool = False,
        constants: Mapping[str, float] | None = None,
        **env: str,
    ) -> Outcome:
        """One run at a moment of the node's clock (None: its present), this machine's being so much ahead of it.

        It has to end with `code`; None: however it likes.
        """
        if moment:
            self.at(moment)
        before = len(self.node.requests)
        own = self.node.now + ahead
        how = {"fork": fork, "hurry": hurry, "constants": constants}
        outcome = self(*arguments, env=env, moment=own, fault=fault, at=at, **how)
        self.asked = self.node.requests[before:]
        assert not re.search("Traceback|unexpected", outcome.output), outcome.output
        assert code is None or outcome.code == code, outcome.output
        return outcome

    def runs(self, first: datetime, last: datetime, every: timedelta = HOUR, **named: Any) -> Outcome:
        """Runs of a schedule, both ends included; how the last one ended."""
        while first <= last:
            outcome = self.run(first, **named)
            first += every
        return outcome

    def daily(self, days: int, **named: Any) -> str:
        """So many runs, a day apart; what the last one said."""
        return self.runs(self.node.now + DAY, self.node.now + days * DAY, DAY, **named).output

    def by_hand(self, start: datetime, end: datetime | None = None, **named: Any) -> Outcome:
        to = ["--to", stamp(end) or ""] if end else []
        return self.run(None, "--from", stamp(start) or "", *to, **named)

    def status(self) -> dict[str, Any]:
        """What `status --json` says. Raises ValueError where it cannot be read now."""
        outcome = self("status", "--json", moment=self.moment or self.node.now, fork=False)
        if outcome.code:
            raise ValueError(outcome.output)
        told: dict[str, Any] = json.loads(outcome.stdout)
        return told

    def lost(self) -> tuple[int, int]:
        """How many participants status calls lost, and how many are still asked for."""
        told = self.status()
        return told["lost"], told["expected"]

    # Calls, of a scripted node

    def hold(self, id: str, end: datetime, *left: timedelta, shown: datetime | None = None, duration: int = 0) -> Known:
        """A conference that ended then, and `<id>-0`, `<id>-1` who left it so long before its end."""
        start = stamp(end - max([HOUR, *left]) - HOUR)
        held = self.node.conference(id, end, shown, start_time=start, duration=duration)
        for number, early in enumerate(left):
            self.node.participant(held, f"{id}-{number}", end - early, shown, duration=duration)
        return held

    def hourly(self, number: int, start: datetime | None = None, *left: timedelta, prefix: str = "") -> list[str]:
        """A call in each of so many hours (None: the last ones), ended at half past; the conferences' ids."""
        start = start or self.node.now - number * HOUR
        ids = [f"{prefix or f'{start:%m%d%H-}'}{hour:03}" for hour in range(number)]
        for hour, id in enumerate(ids):
            self.hold(id, start + hour * HOUR + 30 * MINUTE, *(left or (MINUTE,)))
        return ids

    # The user's hands

    def want_since(self, moment: datetime | None) -> None:
        """From now on DATA_SINCE is this moment."""
        self.since, self.env["DATA_SINCE"] = moment, f"{moment.isoformat()}Z" if moment else ""

    def lose_ledger(self) -> None:
        self.ledger.unlink()

    def take_away(self, name: str, how: str = "moved") -> None:
        """What a user does to an aggregate: its rows still count where they are now."""
        path = self.data / name
        other = self.data.parent / f"{len(self.away)}-{name}"
        if how == "saved with semicolons":
            other.write_bytes(path.read_bytes())
            path.write_bytes(path.read_bytes().replace(b",", b";"))
        else:
            path.rename(other)
        self.away.append((name, other))

    # Files

    @property
    def ledger(self) -> Path:
        return self.data / ".collector" / "ledger.sqlite"

    def table(self, file: str | Path) -> list[list[str]]:
        """The header and the rows as they stand."""
        csv.field_size_limit(sys.maxsize)
        with open(self.data / file, encoding="utf-8-sig", newline="") as opened:
            return list(csv.reader(opened, strict=True))

    def rows(self, file: str | Path) -> list[Row]:
        """The rows of a file in the data folder, by column, as a CSV reader sees them."""
        header, *rows = self.table(file)
        return [dict(zip(header, row, strict=True)) for row in rows]

    def dated(self, name: str = CONF) -> list[Path]:
        """The dated files of an aggregate or of a kind (`Conf`, `Part`, `Stream`), oldest first."""
        name = name if name.endswith(".csv") else f"pexHistory{name}.csv"
        return sorted(self.data.glob(f"????-??-??_??-??-??_{name}"))

    def ids(self, name: str = CONF) -> list[str]:
        """Of the aggregate, in order; those first that were in it when a user took it away."""
        files = [path for known, path in self.away if known == name]
        files += [self.data / name] if (self.data / name).exists() else []
        return [row["id"] for file in files for row in self.rows(file)]

    def dated_ids(self, name: str = CONF) -> list[str]:
        return [row["id"] for file in self.dated(name) for row in self.rows(file)]

    def files(self) -> dict[str, bytes]:
        """Every CSV file in the data folder with its content: to compare before and after."""
        return {file.name: file.read_bytes() for file in sorted(self.data.glob("*.csv"))}

    def set_aside(self) -> list[Path]:
        return sorted(self.data.glob("*.set-aside-*"))

    def log(self) -> str:
        return (self.data / "data_collector.log").read_text(encoding="utf-8")

    # What must be true

    def owed(self) -> dict[str, set[str]]:
        """All that a scripted node ever had, or what ended since DATA_SINCE: conferences, and those whom they list."""
        conferences, people = self.node.known["conference"], self.node.known["participant"]
        since = self.since or datetime.min
        owed = {id for id, one in conferences.items() if not one.end or one.end >= since} | self.taken_by_hand
        listed = {uri.split("/")[-2] for id in owed for uri in conferences[id].record["participants"]}
        return {CONF: owed, PART: listed & people.keys()}

    def check(self, never: set[str] = frozenset(), perhaps: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        """Once each, in the aggregates and in the dated files; `never` was forgotten before a run could see it."""
        for name, owed in self.owed().items():
            for where, found in (("aggregate", self.ids(name)), ("dated files", self.dated_ids(name))):
                twice = sorted(id for id, count in Counter(found).items() if count > 1)
                assert not twice, f"{name}, {where}: twice: {twice}"
                lost, strange = owed - never - set(found), set(found) - owed - perhaps
                assert not lost, f"{name}, {where}: lost: {sorted(lost)}"
                assert not strange, f"{name}, {where}: not asked for: {sorted(strange)}"

    def once(self, ids: list[str], name: str = CONF, *, in_order: bool = True) -> None:
        """These and no others are there, once, and the aggregate is the dated files in the order of their names.

        Where a clock was wrong names tell no order.
        """
        assert sorted(self.ids(name)) == sorted(ids)
        dated = self.dated_ids(name)
        assert dated == self.ids(name) if in_order else sorted(dated) == sorted(ids)


__all__ = ["DAY", "HOUR", "MIDNIGHT", "MINUTE", "Site"]
