"""The report with what the ledger says."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

from pexip_history import __version__
from pexip_history.errors import printable
from pexip_history.operate.status import peek
from pexip_history.settings.environment import SECRETS, Settings
from pexip_history.values import parse_time

LONGEST = 600.0
"""Seconds for a report after a run: of a million rows it takes ten."""

log = logging.getLogger("collector")


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


def write_apart(settings: Settings) -> None:
    """Write the report again in a process of its own; that it cannot be is no reason for a run to fail.

    It gets no secret, and ends with its time.
    """
    kept = {name: value for name, value in os.environ.items() if name not in SECRETS}
    program = [sys.executable, str(Path(sys.argv[0]).resolve()), "report"]
    try:
        done = subprocess.run(program, env=kept, stdin=subprocess.DEVNULL, capture_output=True, timeout=LONGEST)
    except (subprocess.TimeoutExpired, OSError) as error:
        log.warning("report.html was not written: %s", printable(str(error)))
        return
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        log.warning("report.html was not written: %s", said[-1] if said else f"it ended with {done.returncode}")
