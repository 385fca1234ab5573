"""What the benchmark runs: the node's process, the three clients' commands, a data folder."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self

from tests.bench.check import LINE_END, rows_after
from tests.bench.history import EPOCH, MICROSECOND, PARTICIPANTS_EACH, PASSWORD, History
from tests.bench.measure import Cost, run

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PIECE = 1 << 20
"""Bytes that an aggregate grows by at once; more would show in the peak of what is run next (measure.py)."""
AGGREGATES = {"conference": "pexHistoryConf.csv", "participant": "pexHistoryPart.csv"}


@dataclass
class Node:
    """The node's process; its records lie in a folder of its own."""

    folder: Path
    history: History
    address: str
    process: subprocess.Popen[str]

    @property
    def counts(self) -> dict[str, int]:
        return {s.resource: s.count for s in (self.history.conferences, self.history.participants)}

    @property
    def records(self) -> int:
        return sum(self.counts.values())

    @property
    def ca_file(self) -> str:
        return str(self.folder / "ca.pem")

    def ask(self, **wanted: float) -> dict[str, float]:
        """Set `delay` (seconds an object) or `maximum` (objects a page); what was served so far."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(wanted) + "\n")
        self.process.stdin.flush()
        served: dict[str, float] = json.loads(self.process.stdout.readline())
        return served


@contextmanager
def node(folder: Path, participants: int, page: int) -> Iterator[Node]:
    """A node with that many participants, in a process of its own until the block ends."""
    folder.mkdir()
    command = [sys.executable, "-m", "tests.bench.node", str(folder), str(participants)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            ready = json.loads(process.stdout.readline())
            history = History(participants, datetime.fromisoformat(ready["made"]))
            running = Node(folder, history, f"localhost:{ready['port']}", process)
            running.ask(maximum=page)
            yield running
        finally:
            process.stdin.close()  # which ends it
            process.wait()
            shutil.rmtree(folder)


def floor(node: Node, way: str) -> Cost:
    script = str(HERE / "client_floor.py")
    return run([sys.executable, script, node.address, PASSWORD, node.ca_file, way], {})


def plain(node: Node, folder: Path) -> Cost:
    folder.mkdir()
    script = str(HERE / "client_plain.py")
    cost = run([sys.executable, script, node.address, PASSWORD, node.ca_file, str(folder)], {})
    shutil.rmtree(folder)
    return cost


@dataclass
class Collector:
    """`collector.py` with a data folder of its own."""

    node: Node
    data: Path
    program: Path = ROOT / "collector.py"
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.data.mkdir()

    def run(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> Cost:
        environment = {
            "DEFAULT_MGR_ADDRESS": self.node.address,
            "DEFAULT_MGR_SECRET": PASSWORD,
            "DEFAULT_MGR_CA_FILE": self.node.ca_file,
            "DEFAULT_CONF_LIMIT": "0",
            "DEFAULT_PART_LIMIT": "0",
            "DATA_CRON_TIME": "@daily",
            "DATA_DIR": str(self.data),
            "TZ": "UTC",
        } | self.settings
        command = [sys.executable, str(self.program), *arguments]
        return run(command, environment, accept)

    def aggregate(self, resource: str) -> Path:
        return self.data / AGGREGATES[resource]

    def collect_first(self, participants: int) -> None:
        """Collect the oldest records alone, so that header and ledger are there."""
        series = self.node.history.participants
        start, end = (EPOCH + series.end(n) * MICROSECOND for n in (0, participants))
        self.run("collect", "--from", start.isoformat(), "--to", end.isoformat())

    @property
    def ledger(self) -> Path:
        return self.data / ".collector" / "ledger.sqlite"

    def doubt(self) -> None:
        """Have the next run reconcile, as after a day."""
        with closing(sqlite3.connect(self.ledger)) as db, db:
            if not db.execute("UPDATE fact SET value = NULL WHERE name = 'reconciled'").rowcount:
                sys.exit(f"{self.ledger}: no run reconciled")

    def run_in_vain(self, *arguments: str) -> Cost:
        """A run that must find nothing new."""
        sizes = {name: self.aggregate(name).stat().st_size for name in AGGREGATES}
        cost = self.run(*arguments)
        self.expect_rows(sizes, dict.fromkeys(AGGREGATES, 0))
        return cost

    def verify(self) -> None:
        """Every record of the node is in its aggregate, once; checked row by row."""
        for resource, count in self.node.counts.items():
            file = str(self.aggregate(resource))
            subprocess.run(
                [sys.executable, "-m", "tests.bench.check", file, resource, str(count)],
                cwd=ROOT,
                check=True,
            )

    def expect_rows(self, offsets: dict[str, int], rows: dict[str, int]) -> None:
        """From the offset on, each aggregate has exactly that many rows."""
        for resource, count in rows.items():
            found = rows_after(self.aggregate(resource), offsets[resource])
            if found != count:
                sys.exit(f"{self.aggregate(resource)}: {found} rows came, not {count}")

    def discard(self) -> None:
        shutil.rmtree(self.data)


@dataclass
class Grown:
    """A data folder with a history already there: a small collection whose participants'
    aggregate was grown to a size, and that `restore` brings back after a run into it."""

    collector: Collector
    backup: Path
    sizes: dict[str, int]
    collected: dict[str, int]
    """Rows that the small collection brought."""

    @classmethod
    def make(cls, collector: Collector, backup: Path, size: int) -> Self:
        collector.collect_first(10 * PARTICIPANTS_EACH)
        collected = {name: rows_after(collector.aggregate(name), 0) - 1 for name in AGGREGATES}
        grow(collector.aggregate("participant"), size)
        sizes = {name: collector.aggregate(name).stat().st_size for name in AGGREGATES}
        shutil.copytree(collector.data, backup, ignore=shutil.ignore_patterns(*AGGREGATES.values()))
        return cls(collector, backup, sizes, collected)

    def collect(self) -> Cost:
        """Collect the whole day into it, check what came, and undo it."""
        cost = self.collector.run("collect")
        counts = self.collector.node.counts
        self.collector.expect_rows(self.sizes, {name: counts[name] - had for name, had in self.collected.items()})
        self.restore()
        return cost

    def restore(self) -> None:
        for entry in self.collector.data.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name not in AGGREGATES.values():
                entry.unlink()
        for name, size in self.sizes.items():
            os.truncate(self.collector.aggregate(name), size)
        shutil.copytree(self.backup, self.collector.data, dirs_exist_ok=True)


def grow(aggregate: Path, size: int) -> None:
    """Append the file's own first rows to it, over and over, until it has about that many bytes."""
    with aggregate.open("r+b") as file:
        rows, end, _ = file.read(min(size, PIECE)).partition(LINE_END)[2].rpartition(LINE_END)
        chunk = (rows + end) * max(1, min(size, PIECE) // len(rows + end))
        for _ in range((size - file.seek(0, os.SEEK_END)) // len(chunk)):
            file.write(chunk)
