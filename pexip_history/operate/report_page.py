"""The report with what the ledger says, on demand and after runs."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pexip_history import __version__
from pexip_history.errors import DONE, CollectorError
from pexip_history.folder.opening import own
from pexip_history.messages import sentence
from pexip_history.operate.process import run_apart
from pexip_history.operate.status import peek
from pexip_history.settings.environment import Settings
from pexip_history.values import parse_time

if TYPE_CHECKING:
    from pexip_history.report import Facts

MOST_NAMES = 1 << 23
"""Bytes of a file of rooms' names."""

log = logging.getLogger("collector")


def report_command(settings: Settings, asked: argparse.Namespace) -> int:
    """Write the page that was asked for, and print where it is. The exit code. Raises CollectorError, sqlite3.Error."""
    from pexip_history.report import write_report

    page = write_report(
        settings.data_dir,
        asked.output or settings.data_dir / "report.html",
        zone=settings.zone,
        first=asked.first,
        last=asked.last,
        licenses=settings.licenses if asked.licenses is None else asked.licenses,
        rooms=read_rooms(asked.rooms) if asked.rooms else None,
        hide_names=asked.hide_names,
        facts=facts_of(peek(settings)),
        progress=print if sys.stdout.isatty() else lambda text: None,
    )
    print(page.path)
    if asked.figures:
        print("\n".join(page.figures))
    return DONE


def facts_of(found: Mapping[str, Any]) -> Facts:
    """What `peek` found, for the page. No ledger at all says nothing of coverage."""
    from pexip_history.report import Facts

    coverage = _spans(found["coverage"])
    some = coverage or found["runs"] or found["resources"]
    return Facts(
        version=__version__,
        complete_since=parse_time(found["complete_since"]),
        reconciled=parse_time(found["reconciled"]),
        waiting=found["staged"],
        lost=[(parse_time(found["lost_to"]), found["lost"])] if found["lost"] else [],
        gaps=_spans(found["gaps"]),
        coverage=coverage if some else None,
        gaps_unknown_before=parse_time(found["gaps_unknown_before"]),
        rows={name: rows for name, rows, _ in found["resources"]},
        missing=found["expected"],
    )


def _spans(texts: Sequence[Sequence[str]]) -> list[tuple[datetime, datetime]]:
    moments = ((datetime.fromisoformat(text).replace(tzinfo=UTC) for text in span) for span in texts)
    return [(start, end) for start, end in moments]


def read_rooms(path: Path) -> list[str]:
    """The names in the file, one on each line, each once. Raises CollectorError."""
    try:
        with open(os.path.realpath(path), "rb", opener=own) as file:
            text = file.read(MOST_NAMES + 1)
    except OSError as error:
        raise CollectorError(sentence("rooms-unreadable", file=path, why=error.strerror)) from None
    try:
        names = text.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise CollectorError(sentence("rooms-not-utf-8", file=path)) from None
    if len(text) > MOST_NAMES:
        raise CollectorError(sentence("rooms-too-large", file=path, megabytes=MOST_NAMES >> 20))
    return list(dict.fromkeys(name.strip() for name in names if name.strip()))


def write_apart(settings: Settings, name: str = "report.html", *options: str) -> list[str]:
    """Write a page in a process of its own: the lines that it printed, none where it failed.

    That it cannot be written is no reason for a run to fail.
    """
    hide = ["--hide-names"] if settings.report_hide_names else []
    done = run_apart(name, "report", *options, *hide)
    return done[0] if done else []


def write_month(settings: Settings) -> tuple[Path, list[str]] | None:
    """With DATA_REPORT=monthly the page of the month before, where it is not there yet; else None.

    To be called after a good run. Where the page is, report-YYYY-MM.html, and what it says in short, a line each.
    """
    if settings.report != "monthly":
        return None
    today = datetime.now(settings.zone).date()
    month = f"{today.replace(day=1) - timedelta(days=1):%Y-%m}"
    path = settings.data_dir / f"report-{month}.html"
    if path.exists() or path.is_symlink():
        return None
    said = write_apart(settings, path.name, "--month", month, "--output", str(path), "--figures")
    return (path, said[1:]) if said else None
