#!/usr/bin/env python3
"""Collect Pexip Infinity's call detail records into CSV files, each record exactly once.

The commands, and a run told from top to bottom; what each step takes is in pexip_history/.
docs/design.md says what is promised and how each promise is kept.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from pexip_history.archive.archive import Archive
from pexip_history.archive.belonging import open_ledger
from pexip_history.archive.erasing import resume
from pexip_history.container.privileges import become_owner, protect_memory
from pexip_history.errors import (
    BUSY,
    DONE,
    FAILED,
    MISUSED,
    Busy,
    CollectorError,
    Passing,
    SettingsError,
    Stopped,
    explain,
    printable,
)
from pexip_history.folder.mounts import refuse_to_lose
from pexip_history.folder.opening import own_folder
from pexip_history.ledger.ledger import Ledger
from pexip_history.ledger.spans import Span
from pexip_history.messages import sentence
from pexip_history.operate.arguments import parse
from pexip_history.operate.log import find_container_log, open_log
from pexip_history.operate.process import ignore_signals, keep_freed_memory, stop_on_signals
from pexip_history.operate.telling import Telling
from pexip_history.run.run import Run, this_minute
from pexip_history.settings.environment import Settings, read_settings, read_variable
from pexip_history.values import format_time

log = logging.getLogger("collector")


def collect(settings: Settings, start: datetime | None, end: datetime | None, if_due: bool) -> int:
    """One run, whole: the lock, the ledger, the rows, the commit, the publishing, the telling. The exit code."""
    keep_freed_memory()
    now = datetime.now(UTC).replace(microsecond=0)
    open_log(settings, to_file=False)
    window = _window(start, end, now)
    if window and window.start >= window.end:
        log.error(sentence("from-not-before-end", start=format_time(window.start), end=format_time(window.end)))
        return MISUSED
    archive, code, brought = Archive(settings), FAILED, False
    with Telling(settings, now, by_hand=window is not None) as telling:
        try:
            own_folder(archive.folder)
            with archive.lock():
                open_log(settings, to_file=True)
                ledger = open_ledger(archive, now)
                with closing(ledger.db):
                    if if_due and _served(settings, ledger, now):
                        log.info("the last scheduled run was done; nothing to collect at the start")
                        code = DONE
                    else:
                        telling.begin()
                        run = Run(settings, ledger, archive, now, window)
                        code, brought = _collect_and_record(run), bool(run.taken)
                        telling.ended(ledger, run.lost)
        except Stopped:
            log.warning(sentence("stopped-early"))
        except Busy as error:
            log.warning("%s", error)
            return BUSY
        except (CollectorError, OSError, sqlite3.Error) as error:
            message = explain(error, settings.data_dir)
            log.error("%s", message)
            telling.failed_unrecorded(message)
    if code == DONE:
        _make_what_follows(settings, brought)
    return code


def _window(start: datetime | None, end: datetime | None, now: datetime) -> Span | None:
    """The window that the user asks for: up to now, or a day long, where one end is left out."""
    if not start and not end:
        return None
    end = end or this_minute(now)
    return Span(start or end - timedelta(days=1), end)


def _served(settings: Settings, ledger: Ledger, now: datetime) -> bool:
    """Whether a scheduled run that ended well started at or after the last scheduled time."""
    if not settings.schedule:
        return False
    due = format_time(settings.schedule.last(now))
    return any(
        due <= str(run["started"]) <= format_time(now) and run["outcome"] == "done" and not run["by_hand"]
        for run in ledger.runs(50)
    )


def _collect_and_record(run: Run) -> int:
    """Finish what an earlier run left, collect, and note in the ledger how it went. The exit code."""
    archive, ledger = run.archive, run.ledger
    outcome, message = "failed", ""
    try:
        archive.discard(ledger)
        with suppress(OSError, CollectorError):
            archive.publish(ledger)  # what an earlier run left; where it still cannot be, that is said below
        resume(archive, ledger)
        run.collect()
        outcome, message = "done", run.summary()
        log.info("%s", message)
    except Exception as error:  # noqa: BLE001 - whatever it is, the run is recorded as failed
        message = _why_failed(error, archive, ledger)
        log.error("%s", message)
    except Stopped:
        outcome, message = _how_stopped(run)
        log.warning("%s", message)
    finally:
        ignore_signals()  # what follows is short, and says how it went
        run.progress.close()
        with suppress(sqlite3.Error, OSError):
            archive.discard(ledger)
            message = message or sentence("stopped-in-time")
            ledger.note_run(run.number, finished=format_time(datetime.now(UTC)), outcome=outcome, message=message)
    return DONE if outcome == "done" else FAILED


def _why_failed(error: Exception, archive: Archive, ledger: Ledger) -> str:
    message = printable(explain(error, archive.data))
    if message.startswith("unexpected"):
        log.debug("the unexpected error:", exc_info=True)
    if isinstance(error, Passing):
        message = sentence("next-run-covers", why=message)
    if waiting := sum(file.rows for file in ledger.staged()):
        message = sentence("rows-wait", why=message, rows=waiting, folder=archive.folder)
    return message


def _how_stopped(run: Run) -> tuple[str, str]:
    """The outcome and the sentence for a run that was asked to stop: by then its own window may be done."""
    if run.ledger.staged():
        return "failed", sentence("stopped-while-publishing")
    if run.published:
        return "done", sentence("stopped-rest-waits", done=run.summary())
    return "failed", sentence("stopped-in-time")


def _make_what_follows(settings: Settings, brought: bool) -> None:
    """What DATA_PARQUET and DATA_REPORT ask for, each in a process of its own; a month's page is sent too."""
    if settings.parquet:
        from pexip_history.operate.parquet_files import make_apart

        make_apart(settings.data_dir)
    if settings.report:
        from pexip_history.operate.report_page import write_apart, write_month

        try:
            if brought:
                write_apart(settings)
            if month := write_month(settings):
                from pexip_history.operate.notify import tell_month

                tell_month(settings, *month)
        except (CollectorError, OSError) as error:
            log.warning(sentence("rows-collected-report-missing", why=explain(error, settings.data_dir)))


# --- The commands ---------------------------------------------------------------------------------


def main(arguments: Sequence[str], environ: dict[str, str]) -> int:
    """Run one command and return the exit code."""
    protect_memory()
    try:
        zone = read_variable(environ, "TZ")
    except SettingsError:  # said below, with all the others
        zone = ZoneInfo("UTC")
    asked = parse(arguments, zone)
    if asked.command == "collect":
        find_container_log()
    try:
        settings = _settings(environ, become_owner(environ), asked.command)
    except (CollectorError, OSError) as error:
        print(printable(str(error)), file=sys.stderr)
        return FAILED
    except SettingsError as error:
        for problem in error.problems:
            print(printable(problem), file=sys.stderr)
        if asked.command in ("collect", "crontab"):
            _tell_wrong_settings(environ, error.problems)
        return MISUSED
    os.umask(settings.umask)
    try:
        if asked.command == "collect":
            stop_on_signals()
            return collect(settings, asked.start, asked.end, asked.if_due)
        from pexip_history.operate.commands import carry_out

        return carry_out(settings, asked)
    except (CollectorError, OSError, sqlite3.Error) as error:
        print(printable(explain(error, settings.data_dir)), file=sys.stderr)
        return FAILED


def _settings(environ: dict[str, str], files: Mapping[str, bytes], command: str) -> Settings:
    """What the command needs of the environment. Raises SettingsError."""
    needs_node = command in ("collect", "check", "crontab")
    settings = read_settings(environ, files, node=needs_node, schedule=command == "crontab")
    if command == "collect":
        refuse_to_lose(settings.data_dir)
    if settings.notify_urls and needs_node:
        from pexip_history.operate.notify import notify_problems

        if problems := notify_problems(settings.notify_urls):
            raise SettingsError([f"DATA_NOTIFY_URLS: {problem}" for problem in problems])
    return settings


def _tell_wrong_settings(environ: Mapping[str, str], problems: Sequence[str]) -> None:
    """Say that no run can begin, where the monitor's own address is right."""
    with suppress(SettingsError):
        if url := read_variable(environ, "DATA_PING_URL"):
            from pexip_history.operate.notify import tell_wrong_settings

            tell_wrong_settings(str(url), problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], dict(os.environ)))
