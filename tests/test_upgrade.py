"""A data folder of 1.0.0 loses and doubles nothing under this version."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import ROOT
from .deployment import CONF, DAY, HOUR, MIDNIGHT, MINUTE, PART, Deployment, made, shorten
from .forked_collector import ForkedCollector
from .management_node import ManagementNode

pytestmark = pytest.mark.slow

VERSION_1_COMMIT = "dba4537"
VERSION_1 = Path(__file__).with_name("version_1.json")
"""Data folders as 1.0.0 left them: how version_1_node() was collected every hour until ten."""


def version_1_node(node: ManagementNode, place: Deployment | None = None) -> None:
    """What the folders in version_1.json were collected from, and what 1.0.0 could not see (late, ghost-1)."""
    shorten(node)
    calls = [made(f"c{hour:02}", MIDNIGHT + hour * HOUR + 30 * MINUTE, MINUTE, 3 * HOUR) for hour in range(-24, 20)]
    calls.append(made("late", MIDNIGHT + 2 * HOUR, MINUTE, 5 * HOUR))
    calls.append(made("ghost", MIDNIGHT + 4 * HOUR, MINUTE, 5 * HOUR))
    calls.append(made("long", MIDNIGHT + 15 * HOUR, MINUTE, 7 * HOUR, 13 * HOUR))
    held, present = [one for one, _ in calls], [one for _, ones in calls for one in ones]
    if place:
        place.add(held, present)
    else:
        node.add(held, present)
        node.hidden = {"late", "late-0", "late-1", "ghost-1"}


def upgraded(place: Deployment, name: str) -> None:
    """The folder becomes that of 1.0.0 after its run of ten o'clock."""
    version_1_node(place.node, place)
    left = json.loads(VERSION_1.read_text(encoding="utf-8"))[name]
    (place.data / ".collector").mkdir()
    for file, text in left["files"].items():
        (place.data / file).write_text(text, encoding="utf-8", newline="")
    db = sqlite3.connect(place.data / ".collector" / "ledger.sqlite")
    db.executescript("\n".join(left["ledger"]))
    db.close()
    place.since = MIDNIGHT - DAY  # what 1.0.0 did not want


FOLDERS = pytest.mark.parametrize("name", ["settled", "waiting"])


@FOLDERS
def test_a_folder_of_version_1_is_taken_over_whole(place: Deployment, name: str) -> None:
    """With what 1.0.0 lost for good: a conference that was shown five hours late."""
    upgraded(place, name)
    place.runs(MIDNIGHT + 11 * HOUR, MIDNIGHT + 50 * HOUR, 3 * HOUR)
    place.check()


@FOLDERS
def test_a_window_by_hand_as_the_first_run_after_an_upgrade_doubles_nothing(place: Deployment, name: str) -> None:
    upgraded(place, name)
    place.run(MIDNIGHT + 11 * HOUR, "--from", "2026-11-23")
    place.runs(MIDNIGHT + 12 * HOUR, MIDNIGHT + 50 * HOUR, 4 * HOUR)
    place.check()


@FOLDERS
@pytest.mark.parametrize("how", ["locked", "moved", "killed", "limits"])
def test_an_upgrade_under_a_misfortune_loses_and_doubles_nothing(place: Deployment, name: str, how: str) -> None:
    upgraded(place, name)
    limits = {"DEFAULT_CONF_LIMIT": "2", "DEFAULT_PART_LIMIT": "3"} if how == "limits" else {}
    if how == "locked":
        place.run(MIDNIGHT + 11 * HOUR, fault="EACCES", at=CONF, code=1)
        place.run(MIDNIGHT + 12 * HOUR, "--from", "2026-11-23", fault="EACCES", at=PART, code=None)
    elif how == "moved":
        place.take_away(CONF, "moved")
        place.take_away(PART, "moved")
    elif how == "killed":
        for step in range(1, 60, 7):
            place.run(MIDNIGHT + 11 * HOUR, fault="kill", at=step, code=None)
    place.runs(MIDNIGHT + 13 * HOUR, MIDNIGHT + 60 * HOUR, 2 * HOUR, **limits)
    place.check()


@pytest.fixture
def version_1(tmp_path: Path) -> Iterator[ForkedCollector]:
    """Runs of 1.0.0's collector.py, as it is in the history of this repository."""
    shown = subprocess.run(["git", "show", f"{VERSION_1_COMMIT}:collector.py"], cwd=ROOT, capture_output=True)
    if shown.returncode:
        pytest.skip("1.0.0 is not in this copy of the repository (a shallow clone, or no clone)")
    program = tmp_path / "collector.py"
    program.write_bytes(shown.stdout)
    with ForkedCollector(program) as forked:
        yield forked


@FOLDERS
def test_going_back_to_version_1_and_forth_again_as_the_docs_say(
    place: Deployment, version_1: ForkedCollector, name: str
) -> None:
    """docs/upgrading.md: until nothing waits and nobody is missing; then move .collector away."""
    upgraded(place, name)
    place.runs(MIDNIGHT + 11 * HOUR, MIDNIGHT + 30 * HOUR, 2 * HOUR)
    status = place("status").stdout
    assert "Waiting to be written: 0 rows" in status
    assert "Participants still missing from collected conferences: 0" in status
    present, place.forked = place.forked, version_1
    refused = place.run(MIDNIGHT + 31 * HOUR, code=1)
    assert "was written by a newer collector" in refused.output
    (place.data / ".collector").rename(place.data.parent / "data.collector.newer")
    place.hourly(12, MIDNIGHT + 31 * HOUR, MINUTE, prefix="back")
    place.runs(MIDNIGHT + 32 * HOUR, MIDNIGHT + 45 * HOUR, 2 * HOUR)
    place.check()
    place.forked = present
    place.hourly(6, MIDNIGHT + 46 * HOUR, MINUTE, prefix="forth")
    place.runs(MIDNIGHT + 47 * HOUR, MIDNIGHT + 60 * HOUR, 4 * HOUR)
    place.check()
