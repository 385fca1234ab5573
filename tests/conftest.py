"""The fixtures: a node, and the collector beside it (tests/harness.py).

Nodes and the process that runs are forked from are a worker's: each test finds them as new.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.forked import MEMORY, ForkedCollector
from tests.harness import COLLECTOR, ROOT, Site, environment_for
from tests.management_node import ManagementNode
from tests.scripted_node import ScriptedNode

__all__ = ["COLLECTOR", "ROOT", "by_id"]


@pytest.fixture(scope="session")
def forked() -> Iterator[ForkedCollector]:
    with ForkedCollector() as forked:
        yield forked


@pytest.fixture(scope="session")
def scripted() -> Iterator[ScriptedNode]:
    with ScriptedNode() as node:
        yield node


@pytest.fixture
def site(scripted: ScriptedNode, forked: ForkedCollector) -> Iterator[Site]:
    """A deployment on a node that does what the test wants."""
    scripted.renew()
    with tempfile.TemporaryDirectory(prefix="site-", dir=MEMORY) as folder:
        data = Path(folder) / "data"
        yield Site(data, environment_for(scripted, data) | {"DATA_CRON_TIME": "5 0 * * *"}, scripted, forked)


@pytest.fixture
def node() -> Iterator[ManagementNode]:
    """A node of its own for the test, of the real one's framework, empty, on HTTPS."""
    with ManagementNode() as node:
        yield node


@pytest.fixture
def collector(node: ManagementNode, tmp_path: Path, forked: ForkedCollector) -> Site:
    """collector.py, set up to collect from `node` into a folder of the test."""
    return Site(tmp_path / "data", environment_for(node, tmp_path / "data"), node, forked)


def by_id(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Records or rows by their id; fails when one is there twice."""
    found = {record["id"]: record for record in records}
    assert len(found) == len(records), "a record is there twice"
    return found
