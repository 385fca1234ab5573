"""What the benchmark runs: the node's process, the clients' commands, a data folder."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from tests.bench.measure import Cost, FailedError, run

ROOT = Path(__file__).parents[2]
CLIENT = (sys.executable, str(Path(__file__).parent / "client.py"))
FROM_HERE = {"PYTHONPATH": str(ROOT)}
PASSWORD = "correct horse battery staple"
AGGREGATES = {"conference": "pexHistoryConf.csv", "participant": "pexHistoryPart.csv"}


@dataclass(frozen=True)
class Day:
    """A day's calls, which all ended between 20 and 2 hours before `made` (UTC), one after another.

    A first collection within four hours of `made` finds them all in the day that it asks for.
    """

    EACH = 10
    """Participants in every conference."""
    participants: int
    made: datetime

    @property
    def counts(self) -> dict[str, int]:
        return {"conference": self.participants // self.EACH, "participant": self.participants}

    def left(self, number: int) -> datetime:
        """When that participant left."""
        return self.made - timedelta(hours=20) + number * timedelta(hours=18) / self.participants

    def ended(self, number: int) -> datetime:
        """When that conference ended: just after the last of its participants left."""
        return self.left((number + 1) * self.EACH - 1) + timedelta(microseconds=5)


@dataclass
class Node:
    """The node's process; its records lie in a folder of its own."""

    folder: Path
    day: Day
    address: str
    process: subprocess.Popen[str]

    @property
    def account(self) -> tuple[str, ...]:
        """What a client is given."""
        return self.address, PASSWORD, str(self.folder / "ca.pem")

    def asked(self) -> dict[str, float]:
        """How many requests came since the last time, and the seconds that they were made to wait."""
        assert self.process.stdin
        assert self.process.stdout
        print(file=self.process.stdin, flush=True)
        told: dict[str, float] = json.loads(self.process.stdout.readline())
        return told


@contextmanager
def node(folder: Path, participants: int, page: int, delay: float = 0) -> Iterator[Node]:
    """A node with that many participants, in a process of its own until the block ends; `delay`: seconds an object."""
    folder.mkdir()
    command = [sys.executable, "-m", "tests.bench.node", *map(str, (folder, participants, page, delay))]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            ready = json.loads(process.stdout.readline())
            day = Day(participants, datetime.fromisoformat(ready["made"]))
            yield Node(folder, day, f"localhost:{ready['port']}", process)
        finally:
            process.stdin.close()  # which ends it
            process.wait()
            shutil.rmtree(folder)


def client(node: Node, name: str, last: str) -> Cost:
    """One of the other clients."""
    return run([*CLIENT, name, *node.account, last], {})


@dataclass
class Collector:
    """`collector.py` with a data folder of its own."""

    node: Node
    data: Path
    program: Path = ROOT / "collector.py"
    settings: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(AGGREGATES, 0))
    """Of the aggregates, before the runs whose rows are counted."""

    def __post_init__(self) -> None:
        self.data.mkdir()

    def run(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> Cost:
        account = dict(zip(("ADDRESS", "SECRET", "CA_FILE"), self.node.account, strict=True))
        environment = {f"DEFAULT_MGR_{name}": value for name, value in account.items()} | {
            "DEFAULT_CONF_LIMIT": "0",
            "DEFAULT_PART_LIMIT": "0",
            "DATA_CRON_TIME": "@daily",
            "DATA_DIR": str(self.data),
            "TZ": "UTC",
        }
        return run([sys.executable, str(self.program), *arguments], environment | self.settings, accept)

    def aggregate(self, resource: str) -> Path:
        return self.data / AGGREGATES[resource]

    @property
    def ledger(self) -> Path:
        return self.data / ".collector" / "ledger.sqlite"

    def doubt(self) -> None:
        """Have the next run reconcile, as after a day."""
        with closing(sqlite3.connect(self.ledger)) as db, db:
            if not db.execute("UPDATE fact SET value = NULL WHERE name = 'reconciled'").rowcount:
                sys.exit(f"{self.ledger}: no run reconciled")

    def measure_sizes(self) -> None:
        self.sizes = {name: self.aggregate(name).stat().st_size for name in AGGREGATES}

    def run_in_vain(self, *arguments: str) -> Cost:
        """A run that must find nothing new."""
        self.measure_sizes()
        cost = self.run(*arguments)
        self.expect_rows(dict.fromkeys(AGGREGATES, 0))
        return cost

    def verify(self) -> None:
        """Every record of the node is in its aggregate, once; checked row by row. Raises FailedError."""
        for resource, count in self.node.day.counts.items():
            run([*CLIENT, "check", str(self.aggregate(resource)), resource, str(count)], FROM_HERE)

    def expect_rows(self, rows: dict[str, int]) -> None:
        """So many rows came since the sizes were measured. Raises FailedError."""
        for resource, count in rows.items():
            found = rows_after(self.aggregate(resource), self.sizes[resource])
            if found != count:
                raise FailedError(f"{self.aggregate(resource)}: {found} rows came, not {count}")

    def discard(self) -> None:
        shutil.rmtree(self.data)

    # With a long history already there

    def begin(self, size: int) -> None:
        """Collect the oldest hundred participants alone, and make the aggregate of participants as long as `size`."""
        self.run("collect", "--from", f"{self.node.day.left(0)}Z", "--to", f"{self.node.day.left(100)}Z")
        shutil.copytree(self.data / ".collector", self.backup)
        grow(self.aggregate("participant"), size)
        self.measure_sizes()

    @property
    def backup(self) -> Path:
        return self.data.with_name(f"{self.data.name}-backup")

    def collect_the_rest(self) -> Cost:
        """Collect the whole day into it, check what came, and undo it."""
        cost = self.run("collect")
        counts = self.node.day.counts
        self.expect_rows({"conference": counts["conference"] - 10, "participant": counts["participant"] - 100})
        for name, size in self.sizes.items():
            os.truncate(self.aggregate(name), size)
        for dated in self.data.glob("????-*"):
            dated.unlink()
        shutil.rmtree(self.data / ".collector")
        shutil.copytree(self.backup, self.data / ".collector")
        return cost


def grow(aggregate: Path, size: int) -> None:
    """Append the file's own first rows to it, over and over, until it has about that many bytes."""
    rows = io.StringIO()
    with aggregate.open(encoding="utf-8", newline="") as file:
        csv.writer(rows).writerows(itertools.islice(csv.reader(file), 1, 600))
    chunk = rows.getvalue().encode()
    with aggregate.open("ab") as out:
        for _ in range((size - out.tell()) // len(chunk)):
            out.write(chunk)


def rows_after(path: Path, offset: int) -> int:
    """How many rows begin at or after the offset, which is the start of one."""
    with path.open(encoding="utf-8", newline="") as file:
        file.seek(offset)
        return sum(1 for _ in csv.reader(file))


def write_archive(folder: Path, participants: int) -> None:
    """What years of collecting leave in a data folder (archive.py)."""
    run([sys.executable, "-m", "tests.bench.archive", str(folder), str(participants)], FROM_HERE)
