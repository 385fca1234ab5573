"""A power cut loses what was not synced, and the next run makes the folder whole.

POWER_CUTS=all (make test-power-cut): every scenario, cut after every change, and more is lost by chance.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from . import test_crash as crash
from .forked import MEMORY, ForkedCollector
from .power_cut import Disk, Image, Op, Recording, lay_out, record

pytestmark = pytest.mark.slow

ALL = os.environ.get("POWER_CUTS") == "all"
SAMPLE = ("a run that widens the aggregates", "the first run")
"""Between them they sync all that there is to sync."""
SAME = ("a run with media streams", "a run after an aggregate was deleted")
"""They sync what others do."""
SCENARIOS = {*crash.SCENARIOS, *crash.OF_THE_POWER}


@pytest.fixture(scope="module", params=sorted(SCENARIOS.difference(SAME)) if ALL else SAMPLE)
def tried(forked: ForkedCollector, request: pytest.FixtureRequest) -> Iterator[tuple[Recording, crash.Bench]]:
    with crash.days() as node, tempfile.TemporaryDirectory(prefix="power-", dir=MEMORY) as folder:
        bench = crash.Bench(crash.prepared(request.param, node, forked, Path(folder)))
        bench.struck.reset()
        yield record(bench.site), bench


def assert_recover(bench: crash.Bench, folders: Iterable[tuple[str, Image]]) -> None:
    for how, image in folders:
        lay_out(image, bench.site.data)
        bench.assert_recovers(how)


def costs_something(bench: crash.Bench, folders: Iterable[tuple[str, Image]]) -> bool:
    try:
        assert_recover(bench, folders)
    except Exception:  # noqa: BLE001  whatever is wrong with a file
        return True
    return False


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace; on Debian: apt-get install strace")
def test_a_power_cut_costs_no_row_and_nothing_is_synced_that_no_row_depends_on(
    tried: tuple[Recording, crash.Bench], request: pytest.FixtureRequest
) -> None:
    """These cuts can fail: without any one of the syncs they do."""
    recording, bench = tried
    whole: set[int] = set()
    folders = list(recording.folders(None, whole))
    assert len(folders) > 40
    assert_recover(bench, folders)
    if ALL:
        assert_recover(bench, recording.folders(1, whole))
    if request.node.callspec.params["tried"] not in SAMPLE:
        return
    syncs: dict[str, set[int]] = {}
    for number, op in enumerate(recording.ops, 1):
        if op.kind == "sync" and op.path != "manifest.jsonl":  # whose lines loaders depend on, and no row
            syncs.setdefault(str(op), set()).add(number)
    idle = [name for name, at in syncs.items() if not costs_something(bench, recording.folders(None, set(whole), at))]
    assert not idle
    assert len(syncs) > 6


def images(disk: Disk, *lost: int) -> Image:
    """What is there when these changes, by their place, are taken back."""
    return disk.after_cut({disk.changes[place]: False for place in lost})


def test_the_file_system_of_these_tests_keeps_what_was_synced_and_nothing_else() -> None:
    disk = Disk({"kept": None, "old": b"old"})
    for op in (Op("open", "kept/new", 1, at=2), Op("write", "kept/new", 1, b"a" * 5000, at=0)):
        disk.do(op)
    made, *blocks = disk.changes
    assert images(disk, *range(11)) == {"kept": None, "old": b"old"}
    assert images(disk, *range(1, 11)) == {"kept": None, "old": b"old", "kept/new": b""}
    assert disk.after_cut({blocks[1]: True})["kept/new"] == b"a" * 512 + bytes(512) + b"a" * 3976
    disk.do(Op("sync", "kept/new", 1))
    assert disk.changes == [made]
    assert images(disk, 0) == {"kept": None, "old": b"old"}, "the name of a synced file is its folder's to keep"
    disk.do(Op("open", "kept", 2))
    disk.do(Op("sync", "kept", 2))
    assert not disk.changes
    disk.do(Op("rename", "kept/new", to="old"))
    assert images(disk, 0) == {"kept": None, "old": b"old", "kept/new": b"a" * 5000}, "no name goes before the new one"
    assert images(disk, 1) == {"kept": None, "old": b"a" * 5000, "kept/new": b"a" * 5000}
    disk.do(Op("sync", "kept", 2))
    assert images(disk, 0) == {"kept": None, "old": b"old"}, "a synced folder keeps what was removed"
    disk.do(Op("open", "", 3))
    disk.do(Op("sync", "", 3))
    assert images(disk) == {"kept": None, "old": b"a" * 5000}
