#!/usr/bin/env python3
"""Collect Pexip Infinity's call detail records into CSV files, each record exactly once.

The commands, and a run told from top to bottom; what each step takes is in pexip_history/.
docs/design.md says what is promised and how each promise is kept.
"""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import TYPE_CHECKING, NoReturn
from zoneinfo import ZoneInfo

from pexip_history.archive.archive import Archive
from pexip_history.container.privileges import become_owner, protect_memory
from pexip_history.errors import (
    BUSY,
    DONE,
    FAILED,
    MISUSED,
    QUOTED,
    Busy,
    CollectorError,
    NotFound,
    Passing,
    Refused,
    SettingsError,
    Stopped,
    TooLarge,
    explain,
    printable,
)
from pexip_history.folder.opening import own_folder
from pexip_history.ledger.ledger import RUNS_KEPT, Ledger
from pexip_history.node.api import Node, now_of
from pexip_history.node.records import CONFERENCE, PARTICIPANT
from pexip_history.operate.arguments import parse
from pexip_history.operate.log import Progress, open_log
from pexip_history.run.sweep import Query, Sweeper, Swept
from pexip_history.settings.environment import Settings, read_settings, read_variable
from pexip_history.values import format_time, parse_time, read_time

if TYPE_CHECKING:
    from pexip_history.operate.notify import Pings

OVERLAP = timedelta(hours=1)
FIRST_WINDOW = DAY = timedelta(days=1)
FEW = 20
"""Conferences that are asked for their participants one by one without looking for a shorter way."""

log = logging.getLogger("collector")


# --- A run ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """A span of end times, [start, end), in UTC; `by_hand` where the user named it."""

    start: datetime
    end: datetime
    by_hand: bool = False

    def __str__(self) -> str:
        return f"{format_time(self.start)} to {format_time(self.end)} UTC"


class Run:
    """One collection: from the node through the ledger into staged files."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        archive: Archive,
        number: int,
        started: datetime,
        progress: Progress,
    ) -> None:
        self.settings, self.ledger, self.archive, self.number = settings, ledger, archive, number
        self.started, self.node, self.stages = started, Node(settings), archive.stage(number)
        self.sweeper = Sweeper(settings, self.node, ledger, self.stages, progress)
        self.taken, self.lost = self.sweeper.taken, 0

    def collect(self, window: Window) -> str:
        """Fetch, stage, commit; the summary for the log. Raises CollectorError, OSError, sqlite3.Error."""
        began, listed = time.monotonic(), None
        new = not any(map(self.ledger.mark, (CONFERENCE, PARTICIPANT)))
        first = window.start if window.by_hand else self.ledger.first(window.start)
        swept = {CONFERENCE: self._sweep_window(CONFERENCE, window, first)}
        if not window.by_hand and new and not self.node.clocks_agree:
            window = Window(self.now - FIRST_WINDOW, self.now)
            first = self.ledger.first(window.start, known=True)
            swept[CONFERENCE] = self._sweep_window(CONFERENCE, window, first)
        elif not window.by_hand and self.now > window.end:  # the node's clock is ahead, and so are its records
            window = replace(window, end=self.now)
            swept[CONFERENCE] = self._sweep_window(CONFERENCE, window, first)
        swept[PARTICIPANT] = self._sweep_window(PARTICIPANT, window, first)
        marks: dict[str, datetime] = {}
        facts: dict[str, datetime | None] = {}
        if not window.by_hand:
            for resource, each in swept.items():
                if not each.waiting:
                    marks[resource] = self.now
                elif oldest := read_time(each.waits_from or ""):
                    marks[resource] = min(oldest, self.now)
            if new:  # the whole of what is to be collected was read
                whole = all(each.still and not each.waiting for each in swept.values())
                facts["reconciled"] = self.now if whole else None
            elif self._should_reconcile(window, swept):
                listed = self._reconcile(window, first, facts)
                if swept[CONFERENCE].waiting:
                    facts["reconciled"] = None
                swept[CONFERENCE].waiting = max(swept[CONFERENCE].waiting, listed.waiting)
        complete = listed if facts.get("reconciled") else None
        late, unasked = self._collect_missing(complete)
        if unasked and not swept[PARTICIPANT].waiting:
            swept[PARTICIPANT].waiting = unasked
        for resource, each in swept.items():
            self._warn_of_waiting(resource, each.waiting, window)
        self._compare_clocks()
        counts = {f"{name}s": count for name, count in self.taken.items()}
        counts |= {"late": late, "waiting": sum(each.waiting for each in swept.values())}
        files = self.archive.finish(self.number, self.started, self.stages, self.ledger, self.node.fields)
        if self.ledger.newly_missing():  # late, or gone: the next run looks
            facts["reconciled"] = None
        forget = bool(complete and self.node.clocks_agree)
        self.ledger.commit(files, counts, marks, facts, self.now, forget)
        return (
            f"{counts['conferences']} conferences, {counts['participants']} participants"
            f"{f' ({late} late)' if late else ''}, {counts['waiting']} waiting, {time.monotonic() - began:.1f} s"
        )

    @property
    def now(self) -> datetime:
        """The run's start, cut to the minute; where the clocks differ, the minute that the node has."""
        return this_minute(self.started if self.node.clocks_agree else now_of(self.node.clock_skew))

    # The window

    def _sweep_window(self, resource: str, window: Window, first: datetime) -> Swept:
        """Take what ended in the window, and from the second run on in the hour before it."""
        start = window.start
        if not window.by_hand and (mark := self.ledger.mark(resource)):
            start = max(min(mark, window.end) - OVERLAP, first)
        times = {"end_time__gte": format_time(start), "end_time__lt": format_time(window.end)}
        lowest = start if window.by_hand else first
        return self.sweeper.sweep(Query(resource, times, format_time(lowest), format_time(window.end)))

    def _should_reconcile(self, window: Window, swept: Mapping[str, Swept]) -> bool:
        """Once a day, and where there is reason to doubt that windows found everything."""
        last = self.ledger.fact("reconciled")
        fresh = last is not None and last <= self.now < last + DAY
        ahead = any(mark > window.end for name in swept if (mark := self.ledger.mark(name)))
        return not fresh or ahead or not self.node.clocks_agree or not all(each.still for each in swept.values())

    def _reconcile(self, window: Window, first: datetime, facts: dict[str, datetime | None]) -> Swept:
        """Read the node's whole list of conferences, take what the ledger lacks, and note whom they list."""
        log.info("comparing with the node's whole list of conferences")
        end = format_time(window.end)
        swept = self.sweeper.sweep(Query(CONFERENCE, {"end_time__lt": end}, format_time(first), end, whole=True))
        facts["reconciled"] = self.now if swept.still and not swept.waiting else None
        if swept.still and not self.ledger.listed_before() and (oldest := read_time(swept.oldest)) and oldest > first:
            facts["complete"] = oldest
            log.warning(
                "the node no longer lists any conference that was collected before: what ended before %s UTC and"
                " was not collected is lost; schedule runs more often (DATA_CRON_TIME)",
                format_time(oldest),
            )
        return swept

    # Who is missing

    def _collect_missing(self, listed: Swept | None) -> tuple[int, int]:
        """Ask for the participants that conferences list and no window brought: how many came, how many wait.

        `listed` is the sweep of the node's whole list, where there was one: what is not in it is gone.
        """
        before, ledger = self.taken[PARTICIPANT], self.ledger
        ledger.find_missing()
        if listed:
            self._give_up(listed)
        missing = ledger.to_ask(self.now)
        if len(missing) > FEW:
            self._collect_by_span(missing)
            missing = ledger.to_ask(self.now)
        unasked = {conference: count for conference, count, *_ in missing}
        try:
            for conference in list(unasked):
                if self.sweeper.room(PARTICIPANT) <= 0:
                    break
                swept = Swept()
                with suppress(Refused, NotFound):  # how some nodes say that it is gone
                    swept = self.sweeper.sweep(Query(PARTICIPANT, {"conference": conference}))
                if not swept.waiting:
                    ledger.asked(conference, self.now)
                    del unasked[conference]
        except Passing as error:
            log.warning(
                "%s; what came is kept, and the participants of %d conferences are asked for in the next run",
                error,
                len(unasked),
            )
        unasked = {conference: unasked[conference] for conference in ledger.still_missing() & set(unasked)}
        return self.taken[PARTICIPANT] - before, sum(unasked.values())

    def _give_up(self, listed: Swept) -> None:
        for conference, count in self.ledger.give_up(listed.number, self.now):
            self.lost += count
            log.warning(
                "%d participants of conference %s are gone: the node forgot the conference before it"
                " showed them; schedule runs more often (DATA_CRON_TIME) to avoid this",
                count,
                printable(conference, QUOTED),
            )

    def _collect_by_span(self, missing: Sequence[tuple[str, int, str | None, str | None]]) -> None:
        """Read the time in which the conferences took place, where that takes fewer requests than they are."""
        times = {conference: (start, read_time(end or "")) for conference, _, start, end in missing}
        known = {conference: (start, end) for conference, (start, end) in times.items() if start and end}
        if not known:
            return
        latest = max(end for _, end in known.values()) + timedelta(seconds=1)
        low, high = min(start for start, _ in known.values()), format_time(latest)
        filters = {"end_time__gte": low, "end_time__lt": high}
        with suppress(Refused, TooLarge):
            page = self.node.page(PARTICIPANT, {**filters, "limit": str(self.node.page_size)})
            if page.total > len(known) * len(page.ids):
                return
            self.ledger.want_missing()
            swept = self.sweeper.sweep(Query(PARTICIPANT, filters, low, high, wanted_only=True))
            if swept.still and not swept.waiting:
                for conference in known:
                    self.ledger.asked(conference, self.now)

    # What the user should know

    def _warn_of_waiting(self, resource: str, waiting: int, window: Window) -> None:
        if not waiting or self.sweeper.room(resource) > 0:
            return
        name = {CONFERENCE: "DEFAULT_CONF_LIMIT", PARTICIPANT: "DEFAULT_PART_LIMIT"}[resource]
        log.warning(
            "%s=%d reached: %d %s records wait for the next run%s",
            name,
            self.sweeper.limit[resource],
            waiting,
            resource,
            " of this same command" if window.by_hand else "; raise it, or schedule runs more often",
        )

    def _compare_clocks(self) -> None:
        skew = self.node.clock_skew
        if skew and not self.node.clocks_agree:
            log.warning(
                "the node's clock is %.0f minutes %s this machine's; set them alike (NTP). Until then windows end by"
                " the node's clock, and DATA_KEEP_DAYS removes nothing",
                abs(skew.total_seconds()) / 60,
                "ahead of" if skew > timedelta(0) else "behind",
            )


def collect(settings: Settings, start: datetime | None, end: datetime | None, if_due: bool = False) -> int:
    """One run, whole: the lock, the ledger, the rows, the commit, the publishing. The exit code."""
    archive, now = Archive(settings), datetime.now(UTC).replace(microsecond=0)
    os.umask(settings.umask)
    open_log(settings, to_file=False)
    if start and start >= (end or this_minute(now)):
        log.error(
            "--from %s UTC is not before the end, %s UTC; give an earlier start",
            format_time(start),
            format_time(end or this_minute(now)),
        )
        return MISUSED
    # Who collects a window by hand sees how it went.
    telling = (settings.ping_url or settings.notify_urls) and start is None and end is None
    pings = None
    if telling:
        from pexip_history.operate.notify import Pings

        pings = Pings(settings.ping_url)
    try:
        own_folder(archive.folder)
        with archive.lock():
            open_log(settings, to_file=True)
            told = _collect_locked(settings, archive, start, end, if_due, now, pings)
    except Stopped:
        log.warning("stopped on request before anything was collected; the next run covers this window")
        return FAILED
    except Busy as error:
        log.warning("%s", error)
        return BUSY
    except (CollectorError, OSError, sqlite3.Error) as error:
        message = explain(error, settings.data_dir)
        log.error("%s", message)
        told = Told(FAILED, _unrecorded(settings, now, message) if telling else [])
    if pings and told.runs:
        from pexip_history.operate.notify import tell

        with suppress(Stopped):
            tell(settings, pings, told.runs, told.lost)
    return told.code


@dataclass
class Told:
    """How a run ended, for those who are told: the exit code, the run table newest first, participants lost."""

    code: int
    runs: Sequence[Mapping[str, object]] = ()
    lost: int = 0


def _unrecorded(settings: Settings, now: datetime, message: str) -> Sequence[Mapping[str, object]]:
    """The run table of a run that could not write its own row."""
    from pexip_history.operate.message import unrecorded
    from pexip_history.operate.status import peek

    row = {"started": format_time(now), "outcome": "failed", "message": message}
    with suppress(CollectorError, OSError, sqlite3.Error):
        return [row, *peek(settings)["runs"]]
    before = settings.schedule.last(now - timedelta(minutes=1)) if settings.schedule else None
    return unrecorded(format_time(now), message, format_time(before) if before else None)


def _collect_locked(
    settings: Settings,
    archive: Archive,
    start: datetime | None,
    end: datetime | None,
    if_due: bool,
    now: datetime,
    pings: Pings | None,
) -> Told:
    ledger = archive.open_ledger(now)
    with closing(ledger.db):
        if if_due and settings.schedule and _served(ledger, settings.schedule.last(now)):
            log.info("the last scheduled run was done; nothing to collect at the start")
            return Told(DONE)
        number, progress, run = ledger.begin_run(now), Progress(), None
        if pings:
            pings.start()
        outcome, message = "failed", "stopped on request; no data file was changed, the next run covers this window"
        try:
            archive.discard(ledger)
            with suppress(OSError):
                archive.publish(ledger)  # what an earlier run left; where it still cannot be, that is said below
            window = _window(ledger, now, start, end)
            ledger.note_run(number, window_start=format_time(window.start), window_end=format_time(window.end))
            log.info("collecting %s from %s", window, settings.address)
            if not settings.tls_verify:
                log.warning("DEFAULT_MGR_TLS_VERIFY=false: anyone in between can read the password")
            run = Run(settings, ledger, archive, number, now, progress)
            summary = run.collect(window)
            archive.publish(ledger)
            if run.node.clocks_agree:
                archive.expire(now)
            outcome, message = "done", summary
            log.info("%s", summary)
        except Exception as error:
            message = printable(explain(error, settings.data_dir))
            if message.startswith("unexpected"):
                log.debug("the unexpected error:", exc_info=True)
            message += "; the next run covers this window" if isinstance(error, Passing) else ""
            if waiting := sum(file.rows for files in ledger.staged() for file in files):
                message += f"; {waiting} rows wait in {archive.folder} for the next run"
            log.error("%s", message)
        except Stopped:
            if ledger.staged():
                message = "stopped on request while publishing; the next run finishes it"
            log.warning("%s", message)
        finally:
            progress.close()
            with suppress(sqlite3.Error, OSError):
                archive.discard(ledger)
                ledger.note_run(number, finished=format_time(datetime.now(UTC)), outcome=outcome, message=message)
        if settings.report and outcome == "done" and run and any(run.taken.values()):
            _report_after(settings)
        told = Told(DONE if outcome == "done" else FAILED, [], run.lost if run else 0)
        with suppress(sqlite3.Error):
            told.runs = ledger.runs(RUNS_KEPT)
        return told


def _report_after(settings: Settings) -> None:
    """Write the report again; that it cannot be is no reason for a run to fail."""
    from pexip_history.operate.report_page import report

    try:
        report(settings)
    except Stopped:
        log.warning("stopped on request while the report was written; the rows are collected, and the old page stays")
    except Exception as error:  # noqa: BLE001
        log.warning("report.html was not written: %s", explain(error, settings.data_dir))


def this_minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _window(ledger: Ledger, now: datetime, start: datetime | None, end: datetime | None) -> Window:
    """The run's window: what the user named, or from where the last one ended to this minute."""
    by_hand = start is not None or end is not None
    end = end or this_minute(now)
    if by_hand:
        return Window(start or end - FIRST_WINDOW, end, by_hand=True)
    marks = [mark for name in (CONFERENCE, PARTICIPANT) if (mark := ledger.mark(name))]
    begun = ledger.first(end - FIRST_WINDOW)
    # One that the limit keeps from moving before the first has it still where collection began.
    return Window(min(marks) if len(marks) == 2 else begun, end)


def _served(ledger: Ledger, moment: datetime) -> bool:
    """Whether a run that ended well started at or after the moment, or is under way."""
    return any(
        parse_time(str(run["started"])) >= moment and run["outcome"] in ("done", "running")  # type: ignore[operator]
        for run in ledger.runs(20)
    )


# --- The commands ---------------------------------------------------------------------------------


def main(arguments: Sequence[str], environ: dict[str, str]) -> int:
    """Run one command and return the exit code."""
    protect_memory()
    try:
        zone = read_variable(environ, "TZ")
    except SettingsError:  # said below, with all the others
        zone = ZoneInfo("UTC")
    asked = parse(arguments, zone)  # type: ignore[arg-type]
    try:
        files = become_owner(environ)
    except (CollectorError, OSError) as error:
        print(printable(str(error)), file=sys.stderr)
        return FAILED
    try:
        needs_node = asked.command in ("collect", "check", "crontab")
        settings = read_settings(environ, files, node=needs_node, schedule=asked.command == "crontab")
        if settings.notify_urls and needs_node:
            from pexip_history.operate.notify import notify_problems

            if problems := notify_problems(settings.notify_urls):
                raise SettingsError([f"DATA_NOTIFY_URLS: {problem}" for problem in problems])
    except SettingsError as error:
        for problem in error.problems:
            print(printable(problem), file=sys.stderr)
        if asked.command in ("collect", "crontab"):
            _tell_wrong_settings(environ, error.problems)
        return MISUSED
    try:
        if asked.command == "collect":
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, _stop)
            return collect(settings, asked.start, asked.end, asked.if_due)
        if asked.command == "status":
            from pexip_history.operate.status import status

            return status(settings, asked.json)
        if asked.command == "report":
            progress = print if sys.stdout.isatty() else lambda text: None
            os.umask(settings.umask)
            from pexip_history.operate.report_page import report

            print(report(settings, asked.first, asked.last, asked.output, asked.hide_names, progress))
            return DONE
        if asked.command == "erase":
            from pexip_history.operate.erase import erase

            return erase(settings, asked.person, asked.yes)
        if asked.command == "check":
            from pexip_history.operate.check import check

            return check(settings, asked.notify)
        if asked.command == "health":
            from pexip_history.operate.health import health

            return health(settings)
        from pexip_history.operate.crontab import crontab

        return crontab(settings)
    except (CollectorError, OSError, sqlite3.Error) as error:
        print(printable(explain(error, settings.data_dir)), file=sys.stderr)
        return FAILED


def _tell_wrong_settings(environ: Mapping[str, str], problems: Sequence[str]) -> None:
    """Say that no run can begin, where the monitor's own address is right."""
    with suppress(SettingsError):
        if url := read_variable(environ, "DATA_PING_URL"):
            from pexip_history.operate.notify import tell_wrong_settings

            tell_wrong_settings(str(url), problems)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    for again in (signal.SIGTERM, signal.SIGINT):
        signal.signal(again, signal.SIG_IGN)
    raise Stopped


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], dict(os.environ)))
