"""What the ledger says, to a person or a program."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from pexip_history import __version__
from pexip_history.archive.archive import Archive
from pexip_history.archive.journal import exists
from pexip_history.archive.keeping import what_is_kept
from pexip_history.errors import DONE, CollectorError, printable
from pexip_history.folder.names import AGGREGATES
from pexip_history.folder.opening import behind_link
from pexip_history.ledger.ledger import COVERED, GAP, KILLED, Ledger
from pexip_history.ledger.schema import LEDGER, SCHEMA_VERSION, connect, version_of
from pexip_history.ledger.spans import BEGINNING, Span, common, merge, without
from pexip_history.messages import counted, sentence
from pexip_history.resources import CONFERENCE, PARTICIPANT, RESOURCES
from pexip_history.settings.environment import Settings
from pexip_history.values import format_time

LISTED = 10
"""Runs, and gaps, that a person is shown."""


class Writing(CollectorError):
    """A run is at its commit point."""


def say(text: str, where: TextIO | None = None) -> None:
    """A line on the screen, whatever a node or a name in it holds."""
    print(printable(text), file=where)


def status(settings: Settings, as_json: bool) -> int:
    """Last runs, next run, the files, how complete they are, and what waits."""
    archive, found = Archive(settings), peek(settings)
    due = format_time(settings.schedule.next(datetime.now(UTC))) if settings.schedule else None
    told = {"version": __version__, "next_run": due, "files": _files(archive, found.pop("resources")), **found}
    if as_json:
        print(json.dumps(told, indent=2))
        return DONE
    say("Last runs, newest first (UTC):")
    for run in told["runs"][:LISTED]:
        how = "(by hand) " if run["by_hand"] else ""
        say(f"  {str(run['started'])[:19]}  {run['outcome']:<8} {how}{run['message'] or ''}")
        if run["window_start"]:
            say(f"  {'':19}  window   {_from(run['window_start'])} to {run['window_end']}")
    if not told["runs"]:
        say("  none yet")
    say(f"Next run: {due or 'none scheduled, DATA_CRON_TIME is not set'}{' UTC' if due else ''}")
    _say_files(archive, told)
    kept = what_is_kept(settings, told["oldest_row"], told["kept_from"], exists(archive.folder))
    for line in (*completeness(told), *kept):
        say(line)
    return DONE


def _files(archive: Archive, resources: list[tuple[str, int, str | None]]) -> list[dict[str, object]]:
    """Each aggregate that there is or was: the rows that were written to it, its bytes (None where it is missing)."""
    files: list[dict[str, object]] = []
    for resource, rows, until in resources:
        size = None
        with suppress(OSError, CollectorError):
            size = behind_link(archive.aggregate(resource)).stat().st_size
        if size is not None or rows:
            files.append({"file": AGGREGATES[resource], "rows": rows, "bytes": size, "collected_to": until})
    return files


def _say_files(archive: Archive, told: Mapping[str, Any]) -> None:
    say("Files:")
    for file in told["files"]:
        size = file["bytes"]
        held = "the file is gone, moved or deleted" if size is None else f"{size / 1e6:,.1f} MB now"
        until = f", collected up to {file['collected_to']} UTC" if file["collected_to"] else ""
        say(f"  {file['file']:<22} {counted(file['rows'], 'row'):>15} written since collection began, {held}{until}")
    if told["staged"]:
        say(f"Collected, and not in the files yet: {counted(told['staged'], 'row')}; the next run writes what waits")


def completeness(told: Mapping[str, Any]) -> list[str]:
    """Since when the history is complete, what is missing of it, when that was last compared; a sentence each."""
    said = []
    if not told["coverage"]:
        said.append("History: no time is covered yet")
    for start, end in told["coverage"][-1:]:
        said.append(f"History: everything that the node had from {start} to {end} UTC is collected")
    earlier = told["coverage"][:-1]
    said += [f"  and from {start} to {end} UTC" for start, end in earlier[-LISTED:]]
    said += [f"  and {counted(len(earlier) - LISTED, 'span')} before"] if len(earlier) > LISTED else []
    gaps = told["gaps"]
    for gap in gaps[-LISTED:]:
        why = (
            "the node had forgotten it when it was asked" if gap in told["forgotten"] else "not all of it was asked for"
        )
        said.append(f"  GAP from {gap[0]} to {gap[1]} UTC: {why}")
    said += [f"  and {counted(len(gaps) - LISTED, 'gap')} before"] if len(gaps) > LISTED else []
    if told["gaps_unknown_before"]:
        said.append(f"  the ledger was rebuilt on {told['gaps_unknown_before'][:10]}: gaps before that day are unknown")
    if told["lost"]:
        said.append(
            f"  {counted(told['lost'], 'participant')} of collected conferences lost: gone from the node"
            f" (noticed {str(told['lost_from'])[:10]} to {str(told['lost_to'])[:10]})"
        )
    for name, one, state in (
        ("expected", "participant", "of collected conferences not there yet; each run asks"),
        ("without_end", "conference", "without an end time, each collected a day after it was seen"),
    ):
        said += [f"  {counted(told[name], one)} {state}"] if told[name] else []
    checked = told["reconciled"]
    said.append(
        f"Compared with the node's own list of conferences: {checked} UTC"
        if checked
        else "Not yet compared with the node's own list of conferences"
    )
    return said


def _from(text: str) -> str:
    return "the beginning" if text.startswith("0001-") else text


def peek(settings: Settings) -> dict[str, Any]:
    """What the ledger says, read without changing it. Raises CollectorError, sqlite3.Error."""
    archive = Archive(settings)
    path, under_way = archive.folder / LEDGER, archive.locked()
    found: dict[str, Any] = {"runs": [], "resources": [], "staged": 0, "expected": 0, "complete_since": None}
    found |= {"reconciled": None, "lost": 0, "lost_from": None, "lost_to": None, "without_end": 0}
    found |= {"coverage": [], "gaps": [], "forgotten": []}
    found |= {"gaps_unknown_before": None, "oldest_row": None, "kept_from": None}
    if not path.exists():
        return found
    try:
        with closing(connect(path, only_read=True)) as db:
            version = version_of(db, path)
            if version == SCHEMA_VERSION:
                found |= _read(Ledger(db))
            elif version:
                found["runs"] = [{**run, "by_hand": False} for run in Ledger(db).runs(30)]
    except sqlite3.OperationalError:
        _explain_journal(path, archive)
        raise
    if found["runs"] and found["runs"][0]["outcome"] == "running" and not (under_way or archive.locked()):
        found["runs"][0] |= {"outcome": "killed", "message": KILLED}
    return found


def _read(ledger: Ledger) -> dict[str, Any]:
    covered = {resource.name: ledger.spans(resource.name, COVERED) for resource in RESOURCES}
    both = common(covered[CONFERENCE.name], covered[PARTICIPANT.name])
    forgotten = merge([*ledger.spans(CONFERENCE.name, GAP), *ledger.spans(PARTICIPANT.name, GAP)])
    if kept_from := ledger.time_of("kept_from"):  # what is older was removed: its time is not covered any more
        both, forgotten = (without(spans, [Span(BEGINNING, kept_from)]) for spans in (both, forgotten))
    between = without([Span(both[0].start, both[-1].end)], both) if both else []
    gaps = merge([*forgotten, *between])
    lost = ledger.db.execute("SELECT count(lost), min(lost), max(lost) FROM expected").fetchone()
    rows = ledger.db.execute("SELECT name, rows FROM resource ORDER BY name").fetchall()
    return {
        "runs": [{**run, "by_hand": bool(run["by_hand"])} for run in ledger.runs(30)],
        "resources": [(n, count, _texts(covered[n])[-1][1] if covered.get(n) else None) for n, count in rows],
        "staged": ledger.one("SELECT coalesce(sum(rows), 0) FROM staged"),
        "expected": ledger.one("SELECT count(*) FROM expected WHERE lost IS NULL"),
        "complete_since": format_time(since) if (since := complete_since(both, gaps)) else None,
        "reconciled": ledger.fact("reconciled"),
        **dict(zip(("lost", "lost_from", "lost_to"), lost, strict=True)),
        "without_end": ledger.one("SELECT count(*) FROM endless"),
        "coverage": _texts(both),
        "gaps": _texts(gaps),
        "forgotten": _texts(forgotten),
        "gaps_unknown_before": ledger.fact("unknown_before"),
        "oldest_row": ledger.db.execute("SELECT min(oldest) FROM resource").fetchone()[0],
        "kept_from": ledger.fact("kept_from"),
    }


def complete_since(covered: list[Span], gaps: list[Span]) -> datetime | None:
    """When the last stretch of time began that is covered, where no gap follows it."""
    if not covered or (gaps and gaps[-1].start >= covered[-1].end):
        return None
    return covered[-1].start


def _texts(spans: list[Span]) -> list[list[str]]:
    return [[format_time(span.start), format_time(span.end)] for span in spans]


def _explain_journal(path: Path, archive: Archive) -> None:
    """Why a ledger cannot be read: a run is at its commit point, or one was killed there. Raises CollectorError."""
    if not path.with_name(f"{path.name}-journal").exists():
        return
    if archive.locked():
        raise Writing(sentence("ledger-in-use"))
    raise CollectorError(sentence("ledger-cut"))
