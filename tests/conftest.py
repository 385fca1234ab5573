"""A management node to collect from, and the collector as a process of its own.

The process gets the environment that is set here and nothing of the caller's: neither a proxy
nor REQUESTS_CA_BUNDLE of the machine that runs the tests.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.forked_collector import MEMORY, ForkedCollector
from tests.management_node import ManagementNode

if TYPE_CHECKING:
    from tests.deployment import Deployment

ROOT = Path(__file__).resolve().parent.parent
COLLECTOR = Path(os.environ.get("COLLECTOR", ROOT / "collector.py"))

Row = dict[str, str]


@pytest.fixture
def node() -> Iterator[ManagementNode]:
    """A node of its own for the test, empty, on HTTPS."""
    with ManagementNode() as node:
        yield node


@pytest.fixture
def collector(node: ManagementNode, tmp_path: Path) -> Collector:
    """collector.py, set up to collect from `node` into a folder of the test."""
    data = tmp_path / "data"
    data.mkdir()
    return Collector(data, environment_for(node, data))


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[ManagementNode, ForkedCollector]]:
    """What the deployments of a module share."""
    with ManagementNode(now=datetime(2030, 1, 1)) as node, ForkedCollector() as forked:
        yield node, forked


@pytest.fixture
def place(site: tuple[ManagementNode, ForkedCollector]) -> Iterator[Deployment]:
    """A deployment for the test, which sets its clock."""
    from tests.deployment import Deployment

    site[0].clear()
    with tempfile.TemporaryDirectory(prefix="deployment-", dir=MEMORY) as folder:
        data = Path(folder) / "data"
        data.mkdir()
        yield Deployment(data, *site)


def environment_for(node: ManagementNode, data: Path) -> dict[str, str]:
    """The whole environment of a process that collects from this node into that folder."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {
        "DEFAULT_MGR_ADDRESS": node.address,
        "DEFAULT_MGR_SECRET": node.secret,
        "DEFAULT_MGR_CA_FILE": str(node.ca_file),
        "DATA_DIR": str(data),
    }


@dataclass
class Outcome:
    """How one process ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


@dataclass
class Collector:
    """Calling it is `python collector.py ARGUMENTS`; `env` can be changed before."""

    data: Path
    env: dict[str, str] = field(repr=False)

    def __call__(self, *arguments: str, env: Mapping[str, str | None] | None = None, timeout: float = 60) -> Outcome:
        """Runs it to its end. `env` is for this call alone; None takes a variable away."""
        done = subprocess.run(
            [sys.executable, str(COLLECTOR), *arguments],
            env=self._environment(env),
            cwd=self.data.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, env: Mapping[str, str | None] | None = None) -> subprocess.Popen[str]:
        """Starts it, for tests that act (or kill) while it runs."""
        return subprocess.Popen(
            [sys.executable, str(COLLECTOR), *arguments],
            env=self._environment(env),
            cwd=self.data.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def at(self, moment: datetime) -> None:
        """Sets its clock: each process from now on starts at this moment (naive: UTC)."""
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        folder = self.data.parent / "clock"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(
            f"import time_machine\ntime_machine.travel({aware.timestamp()!r}, tick=True).start()\n"
        )
        self.env |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}  # a cached clock would stand still

    def _environment(self, changes: Mapping[str, str | None] | None) -> dict[str, str]:
        merged: dict[str, str | None] = {**self.env, **(changes or {})}
        return {name: value for name, value in merged.items() if value is not None}

    def dated(self, kind: str) -> list[Path]:
        """The dated files of a kind (`Conf`, `Part`, `Stream`), oldest first."""
        return sorted(self.data.glob(f"????-??-??_??-??-??_pexHistory{kind}.csv"))

    def rows(self, file: str | Path) -> list[Row]:
        """The rows of a file in the data folder, by column, as a CSV reader sees them."""
        header, *rows = self.table(file)
        return [dict(zip(header, row, strict=True)) for row in rows]

    def table(self, file: str | Path) -> list[list[str]]:
        """The header and the rows as they stand."""
        csv.field_size_limit(sys.maxsize)
        with open(self.data / file, encoding="utf-8-sig", newline="") as opened:
            return list(csv.reader(opened, strict=True))

    def files(self) -> dict[str, bytes]:
        """Every CSV file in the data folder with its content: to compare before and after."""
        return {file.name: file.read_bytes() for file in sorted(self.data.glob("*.csv"))}

    def log(self) -> str:
        return (self.data / "data_collector.log").read_text(encoding="utf-8")


def by_id(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Records or rows by their id; fails when one is there twice."""
    found = {record["id"]: record for record in records}
    assert len(found) == len(records), "a record is there twice"
    return found
