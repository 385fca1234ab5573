"""A data folder of 1.0.0 or of 1.1.0 loses and doubles nothing under this version."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from pexip_history.folder.names import AGGREGATES, dated_name

from .conftest import ROOT
from .forked import ForkedCollector
from .harness import CONF, DAY, HOUR, MIDNIGHT, MINUTE, PART, Site

pytestmark = pytest.mark.slow

COMMITS = {"1.0.0": "dba4537", "1.1.0": "dba5c6a"}
RECORDED = {"1.0.0": "version_1.json", "1.1.0": "version_1_1.json"}
"""Data folders as they left them, which collected the calls of older_node() every hour until ten. In `waiting` the
conferences' aggregate could not be opened by the last runs."""


def older_node(site: Site) -> None:
    """What the recorded folders were collected from; `late` and `ghost-1` were not shown by then."""
    for hour in range(-24, 20):
        site.hold(f"c{hour:02}", MIDNIGHT + hour * HOUR + 30 * MINUTE, MINUTE, 3 * HOUR)
    site.hold("late", MIDNIGHT + 2 * HOUR, MINUTE, 5 * HOUR)
    site.hold("ghost", MIDNIGHT + 4 * HOUR, MINUTE, 5 * HOUR)
    site.hold("long", MIDNIGHT + 15 * HOUR, MINUTE, 7 * HOUR, 13 * HOUR)


def upgraded(site: Site, version: str, name: str) -> None:
    """The folder becomes that of the older version after its run of ten o'clock."""
    older_node(site)
    site.at(MIDNIGHT + 10 * HOUR)
    left = json.loads(Path(__file__).with_name(RECORDED[version]).read_text(encoding="utf-8"))[name]
    (site.data / ".collector").mkdir()
    for file, text in left["files"].items():
        (site.data / file).write_text(text, encoding="utf-8", newline="")
    with closing(sqlite3.connect(site.ledger)) as db:
        db.executescript("\n".join(left["ledger"]))
    site.since = MIDNIGHT - DAY  # what the older version did not want


def cut_in_publishing(site: Site) -> None:
    """It was killed when a reading's files had their names, and the ledger knew neither these nor, in 1.0, the ids."""
    with closing(sqlite3.connect(site.ledger)) as db:
        staged = db.execute("SELECT * FROM staged ORDER BY 1 LIMIT 2").fetchall()
        for number, resource, stem, head, *_ in staged:
            waiting, path = site.ledger.with_name(f"{number}-{resource}.csv"), site.data / AGGREGATES[resource]
            with db:
                db.execute("UPDATE staged SET size = ? WHERE stem = ? AND head = ?", (path.stat().st_size, stem, head))
            path.write_bytes(path.read_bytes() + waiting.read_bytes()[head:])
            waiting.rename(site.data / dated_name(stem, resource))


FOLDERS = pytest.mark.parametrize("name", ["settled", "waiting"])
VERSIONS = pytest.mark.parametrize("version", COMMITS)


@VERSIONS
@FOLDERS
@pytest.mark.parametrize("how", ["undisturbed", "by hand", "locked", "moved", "cut", "killed", "limits"])
def test_a_folder_of_an_older_version_is_taken_over_whole_whatever_happens(
    site: Site, version: str, name: str, how: str
) -> None:
    """With what 1.0.0 lost for good: a conference that was shown five hours late."""
    upgraded(site, version, name)
    limits = {"DEFAULT_CONF_LIMIT": "2", "DEFAULT_PART_LIMIT": "3"} if how == "limits" else {}
    if how == "by hand":
        site.run(MIDNIGHT + 11 * HOUR, "--from", "2026-11-23")
    elif how == "locked":
        site.run(MIDNIGHT + 11 * HOUR, fault="EACCES", at=CONF, code=1)
        site.run(MIDNIGHT + 12 * HOUR, "--from", "2026-11-23", fault="EACCES", at=PART, code=None)
    elif how == "moved":
        site.take_away(CONF)
        site.take_away(PART)
    elif how == "cut":
        cut_in_publishing(site)
    elif how == "killed":
        for step in range(1, 60, 7):
            site.run(MIDNIGHT + 11 * HOUR, fault="kill", at=step, code=None)
    site.runs(MIDNIGHT + 13 * HOUR, MIDNIGHT + 60 * HOUR, 2 * HOUR, **limits)
    site.check()


def test_what_an_older_version_did_not_want_comes_when_data_since_asks_for_it(site: Site) -> None:
    site.hourly(48, MIDNIGHT - 3 * DAY, MINUTE, 3 * HOUR, prefix="old")
    upgraded(site, "1.1.0", "settled")
    site.run(MIDNIGHT + 11 * HOUR)
    said = site.log()
    assert said.count("what ended before 2026-11-23 00:00 UTC stays uncollected unless DATA_SINCE asks for it") == 1
    assert not [id for id in site.ids() if id.startswith("old")]
    site.want_since(MIDNIGHT - 2 * DAY)
    site.runs(MIDNIGHT + 12 * HOUR, MIDNIGHT + 40 * HOUR, 4 * HOUR)
    site.check()


@VERSIONS
def test_what_an_older_version_knew_is_told_after_it(site: Site, version: str) -> None:
    upgraded(site, version, "settled")
    before = site.status()
    assert [run["outcome"] for run in before["runs"]] == ["done"] * 11, "before any run too"
    site.run(MIDNIGHT + 11 * HOUR)
    told = site.status()
    assert [run["outcome"] for run in told["runs"]] == ["done"] * 12
    assert {file["file"]: file["rows"] for file in told["files"]} == {
        name: len(site.rows(name)) for name in (CONF, PART)
    }
    begins = {"1.0.0": "2026-11-23T00:30:00", "1.1.0": "2026-11-23T00:00:00"}  # 1.0.0 noted no beginning: the first end
    assert told["coverage"] == [[begins[version], "2026-11-24T11:00:00"]]
    assert (told["gaps"], told["gaps_unknown_before"]) == ([], None)


def older(version: str, folder: Path) -> Path:
    """The older version's collector.py, as it is in the history of this repository."""
    archive = subprocess.run(["git", "archive", COMMITS[version]], cwd=ROOT, capture_output=True)
    if archive.returncode:
        pytest.skip(f"{version} is not in this copy of the repository (a shallow clone, or no clone)")
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return folder / "collector.py"


@VERSIONS
@FOLDERS
def test_going_back_and_forth_again_as_the_docs_say(site: Site, tmp_path: Path, version: str, name: str) -> None:
    """docs/upgrading.md: until nothing waits and nobody is missing; then move .collector away."""
    upgraded(site, version, name)
    site.runs(MIDNIGHT + 11 * HOUR, MIDNIGHT + 30 * HOUR, 2 * HOUR)
    status = site.status()
    assert (status["staged"], status["expected"]) == (0, 0)
    present = site.forked
    with ForkedCollector(older(version, tmp_path)) as site.forked:
        refused = site.run(MIDNIGHT + 31 * HOUR, code=1)
        assert "was written by a newer collector" in refused.output
        (site.data / ".collector").rename(site.data.parent / "data.collector.newer")
        site.hourly(12, MIDNIGHT + 31 * HOUR, MINUTE, prefix="back")
        site.runs(MIDNIGHT + 32 * HOUR, MIDNIGHT + 45 * HOUR, 2 * HOUR)
        site.check()
    site.forked = present
    site.hourly(6, MIDNIGHT + 46 * HOUR, MINUTE, prefix="forth")
    site.runs(MIDNIGHT + 47 * HOUR, MIDNIGHT + 60 * HOUR, 4 * HOUR)
    site.check()
