"""A power cut loses what was not synced, and the next run makes the folder whole: a sample of `make test-power-cut`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import test_crash as crash
from .forked import MEMORY, ForkedCollector
from .power_cut import Bench, Disk, Image, Op, Recording, make_recording, try_all

pytestmark = pytest.mark.slow

needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="needs strace; on Debian: apt-get install strace")


@pytest.fixture(scope="module", params=["a run that widens the aggregates", "the first run"])
def tried(forked: ForkedCollector, request: pytest.FixtureRequest) -> Iterator[tuple[Recording, Bench]]:
    with crash.days() as node, tempfile.TemporaryDirectory(prefix="power-", dir=MEMORY) as folder:
        recording = make_recording(request.param, node, forked, Path(folder))
        yield recording, Bench(forked, Path(folder) / "tried")


@needs_strace
def test_a_power_cut_costs_no_row_and_nothing_is_synced_that_no_row_depends_on(tried: tuple[Recording, Bench]) -> None:
    """These cuts can fail: without any one of the syncs they do."""
    recording, bench = tried
    whole: set[bytes] = set()
    folders = list(recording.folders(None, whole))
    assert len(folders) > 40
    assert not try_all(recording, bench, folders, 1)
    syncs: dict[str, set[int]] = {}
    for number, op in enumerate(recording.ops, 1):
        if op.kind == "sync" and op.path != "manifest.jsonl":  # whose lines loaders depend on, and no row
            syncs.setdefault(str(op), set()).add(number)
    idle = [name for name, at in syncs.items() if not try_all(recording, bench, recording.folders(None, whole, at), 1)]
    assert not idle
    assert len(syncs) > 6


def images(disk: Disk, *lost: int) -> Image:
    """What is there when these changes, by their place, are taken back."""
    return disk.after_cut({disk.changes[place]: None for place in lost})


def test_the_file_system_of_these_tests_keeps_what_was_synced_and_nothing_else() -> None:
    disk = Disk({"kept": None, "old": b"old"})
    for op in (Op("open", "kept/new", 1, at=2), Op("write", "kept/new", 1, b"a" * 5000, at=0)):
        disk.do(op)
    assert images(disk, 0, 1) == {"kept": None, "old": b"old"}
    assert images(disk, 1) == {"kept": None, "old": b"old", "kept/new": b""}
    made, written = disk.changes
    assert disk.after_cut({written: {512}})["kept/new"] == b"a" * 512 + bytes(512) + b"a" * 3976
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
