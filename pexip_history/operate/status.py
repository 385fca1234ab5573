"""What the ledger says, to a person or a program."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from pexip_history import __version__
from pexip_history.archive.archive import Archive
from pexip_history.errors import DONE, CollectorError
from pexip_history.ledger.ledger import SCHEMA_VERSION, Ledger
from pexip_history.operate.check import say
from pexip_history.settings.environment import Settings
from pexip_history.values import format_time


def status(settings: Settings, as_json: bool) -> int:
    """Last runs, next run, the files, how complete they are, and what waits."""
    archive, found = Archive(settings), peek(settings)
    files = []
    for resource, rows, mark in found.pop("resources"):
        path = archive.aggregate(resource)
        size = path.stat().st_size if path.exists() else None
        if size is not None or rows:
            files.append({"file": path.name, "rows": rows, "bytes": size, "collected_to": mark})
    due = format_time(settings.schedule.next(datetime.now(UTC))) if settings.schedule else None
    report = {"version": __version__, "next_run": due, "files": files, **found}
    if as_json:
        print(json.dumps(report, indent=2))
        return DONE
    say("Last runs, newest first (UTC):")
    for run in report["runs"][:10]:
        say(f"  {str(run['started'])[:19]}  {run['outcome']:<8} {run['message'] or ''}")
        if run["window_start"]:
            say(f"  {'':19}  window   {run['window_start']} to {run['window_end']}")
    if not report["runs"]:
        say("  none yet")
    say(f"Next run: {due or 'none scheduled, DATA_CRON_TIME is not set'}{' UTC' if due else ''}")
    say("Files:")
    for file in files:
        held = "missing" if file["bytes"] is None else f"{file['bytes'] / 1e6:.1f} MB"
        until = f", complete up to {file['collected_to']}" if file["collected_to"] else ""
        say(f"  {file['file']:<22} {file['rows']:>10} rows collected, {held}{until}")
    say(f"History: {completeness(report)}")
    say(f"Waiting to be written: {report['staged']} rows")
    say(f"Participants still missing from collected conferences: {report['expected']}")
    return DONE


def completeness(report: Mapping[str, object]) -> str:
    """Since when the history is complete, when that was last compared with the node's own list, what is lost."""
    if not report["complete_since"]:
        return "no run has ended well yet"
    checked = report["reconciled"]
    text = f"complete since {report['complete_since']} UTC, "
    text += f"compared with the node's own list {checked} UTC" if checked else "not yet compared with the node's list"
    if report["lost"]:
        text += (
            f"; {report['lost']} participants were lost, the node forgot them before it showed them (noticed"
            f" {str(report['lost_from'])[:10]} to {str(report['lost_to'])[:10]})"
        )
    else:
        text += "; nothing is known to be lost"
    return text


def peek(settings: Settings) -> dict[str, Any]:
    """What the ledger says, read without changing it. Raises CollectorError, sqlite3.Error."""
    archive = Archive(settings)
    path = archive.folder / "ledger.sqlite"
    found: dict[str, Any] = {"runs": [], "resources": [], "staged": 0, "expected": 0, "complete_since": None}
    found |= {"reconciled": None, "lost": 0, "lost_from": None, "lost_to": None}
    if not path.exists():
        return found
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if not version:
                return found
            found["runs"] = Ledger(db).runs(30)
            found["resources"] = db.execute("SELECT name, rows, mark FROM resource ORDER BY name").fetchall()
            (found["staged"],) = db.execute("SELECT coalesce(sum(rows), 0) FROM staged").fetchone()
            current = version >= SCHEMA_VERSION
            where = " WHERE lost IS NULL" if current else ""
            (found["expected"],) = db.execute(f"SELECT count(DISTINCT participant) FROM expected{where}").fetchone()
            if current:
                facts = dict(db.execute("SELECT name, value FROM fact"))
                found |= {"complete_since": facts.get("complete"), "reconciled": facts.get("reconciled")}
                lost = db.execute("SELECT count(lost), min(lost), max(lost) FROM expected").fetchone()
                found |= dict(zip(("lost", "lost_from", "lost_to"), lost, strict=True))
    except sqlite3.OperationalError:
        journal = path.with_name(f"{path.name}-journal")
        if not journal.exists():
            raise
        if archive.locked():
            raise Writing("a run is under way and writes the ledger; ask again in a moment") from None
        raise CollectorError(
            "the last run was killed while it wrote the ledger; nothing is lost, the next run repairs it"
        ) from None
    return found


class Writing(CollectorError):
    """A run is at its commit point."""
