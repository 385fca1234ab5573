"""The report with what the ledger says."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

from pexip_history import __version__
from pexip_history.operate.status import peek
from pexip_history.settings.environment import Settings
from pexip_history.values import parse_time


def report(
    settings: Settings,
    first: date | None = None,
    last: date | None = None,
    output: Path | None = None,
    hide_names: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> Path:
    """Write the page on the history and return its path. Raises CollectorError, sqlite3.Error."""
    from pexip_history.report import Facts, write_report

    found, target = peek(settings), output or settings.data_dir / "report.html"
    facts = Facts(
        version=__version__,
        complete_since=parse_time(found["complete_since"]),
        reconciled=parse_time(found["reconciled"]),
        waiting=found["staged"],
        lost=[(parse_time(found["lost_to"]), found["lost"])] if found["lost"] else [],
    )
    write_report(
        settings.data_dir,
        target,
        zone=settings.zone,
        first=first,
        last=last,
        hide_names=hide_names,
        facts=facts,
        progress=progress,
    )
    return target
