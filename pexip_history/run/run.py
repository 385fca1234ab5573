"""A run, told from top to bottom: one small request, the plan, each window, the node's whole list."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from pexip_history.archive.archive import Archive
from pexip_history.errors import CollectorError, explain
from pexip_history.ledger.ledger import COVERED, GAP, Ledger
from pexip_history.ledger.spans import BEGINNING, Span, Times
from pexip_history.node.api import Node
from pexip_history.node.records import Page
from pexip_history.resources import BY_NAME, CONFERENCE, PARTICIPANT, STREAM
from pexip_history.run.missing import Missing
from pexip_history.run.plan import Reading, believed, by_hand, plan
from pexip_history.run.progress import Progress
from pexip_history.run.reconcile import Reconciling, is_due
from pexip_history.run.seen import Seen
from pexip_history.run.sweep import Sweeper
from pexip_history.run.windows import Memory, Outcome, Room, Windows
from pexip_history.settings.environment import Settings
from pexip_history.values import format_time

SAME = timedelta(seconds=5)
"""Clocks no further apart are one: the Date header has whole seconds, and takes its time to come."""
BY_LISTING = (CONFERENCE.name, PARTICIPANT.name)
"""What moved away unread is found again: conferences by the node's whole list, participants by their conferences."""

log = logging.getLogger("collector")


class Run:
    """One collection: from the node through the ledger into the files, a window at a time.

    `published`: its own window is in the files; `lost`: participants that the node said are gone; `brought`: whether
    there are new rows.
    """

    def __init__(
        self, settings: Settings, ledger: Ledger, archive: Archive, started: datetime, progress: Progress, by_hand: bool
    ) -> None:
        self.settings, self.ledger, self.archive, self.started = settings, ledger, archive, started
        self.node, self.seen, self.progress = Node(settings), Seen(ledger), progress
        self.memory = Memory(self.node, ledger, self.seen)
        limits = {CONFERENCE.name: settings.conf_limit or None, PARTICIPANT.name: settings.part_limit or None}
        self.room = Room(limits)
        self.names = [resource.name for resource in archive.resources if resource is not STREAM]
        self.now, self.since, self.by_hand = this_minute(started), BEGINNING, by_hand
        self.began, self.late, self.waiting, self.lost = time.monotonic(), 0, 0, 0
        self.published = False
        self.number = ledger.begin_run(started, by_hand)

    def collect(self, window: Span | None) -> None:
        """Collect what is due, or the window that the user asks for. Raises CollectorError, OSError, sqlite3.Error.

        A failure in the run's own window is raised; one in what comes after is a warning, for that waits.
        """
        self._greet()
        if window:
            window = Span(window.start, max(window.start, min(window.end, self.now)))
            readings = by_hand(window, {name: self.ledger.spans(name, COVERED) for name in self.names})
            limited = any(self._is_open(reading) for reading in readings)
            self._begin(window)
        else:
            readings, limited = plan(self._asked(), self.since, self.now), True
            self._begin(Span(min(span.start for span in readings[0].values()), self.now))
        self._read(readings[0], own=True, limited=limited)
        self.published = True
        try:
            if window:
                for reading in readings[1:]:
                    self._read(reading, own=True)
            else:
                self._read_rest()
                self._reconcile()
        except (CollectorError, OSError, sqlite3.Error) as error:
            log.warning(
                "%s. The run's own window is collected; the rest waits for the next run",
                explain(error, self.settings.data_dir),
            )
        self._warn_of_clocks()
        if self.node.clocks_agree:
            self.archive.expire(self.started)

    @property
    def brought(self) -> bool:
        return any(self.room.taken.values())

    def summary(self) -> str:
        """The run's line for the log."""
        counts = [f"{self.room.taken.get(name, 0)} {name}s" for name in BY_LISTING]
        counts[1] += f" ({self.late} late)" if self.late else ""
        counts += [f"{self.room.taken[name]} {name}s" for name in self.names[2:] if self.room.taken.get(name)]
        counts += [f"{len(self.node.left_out)} left out"] if self.node.left_out else []
        return f"{', '.join(counts)}, {self.waiting} waiting, {time.monotonic() - self.began:.1f} s"

    # One small request

    def _greet(self) -> None:
        """Learn the node's clock, whether it answers, and whether it still knows what was collected before."""
        asked = self._asked()
        before = asked[CONFERENCE.name][-1].end if asked[CONFERENCE.name] else None
        if before:
            self.memory.look_before(before)
        else:
            self._say_what_it_has(self.node.first_page(CONFERENCE.name, {}, 1))
        self.now = this_minute(self._node_time())
        for name, spans in asked.items():
            if (left := believed(spans, self.now)) != spans:
                self.ledger.believe(name, left)
                self.ledger.doubt("coverage lay ahead of now")
        if not self.node.clocks_agree:
            self.ledger.doubt("the clocks are apart")
        if self.ledger.fact("rebuilt"):
            self.ledger.note(unknown_before=self.now, rebuilt=None)
        self.since = self.settings.since or self.ledger.time_of("since") or BEGINNING

    def _say_what_it_has(self, page: Page) -> None:
        oldest = next(iter(page.times), "") or "an unknown time"
        until = f"back to DATA_SINCE ({self.settings.since:%Y-%m-%d %H:%M} UTC)" if self.settings.since else "all of it"
        log.info(
            "the node has %d conferences, from %s UTC on; the last day is collected first, then the rest: %s",
            page.total,
            oldest,
            until,
        )

    def _node_time(self) -> datetime:
        """Up to when records can be there: the node's clock bounds it, ours too while the two agree."""
        skew = self.node.clock_skew
        if skew is None or abs(skew) < SAME:
            return self.started
        return min(self.started, self.started + skew) if self.node.clocks_agree else self.started + skew

    def _asked(self) -> dict[str, list[Span]]:
        return {name: self.ledger.spans(name) for name in self.names}

    def _is_open(self, reading: Reading) -> bool:
        return any(not _within(span, self.ledger.spans(name, COVERED)) for name, span in reading.items())

    def _begin(self, window: Span) -> None:
        ends = {"window_start": format_time(window.start), "window_end": format_time(window.end)}
        self.ledger.note_run(self.number, **ends)
        log.info("collecting %s from %s", window, self.settings.address)
        if not self.settings.tls_verify:
            log.warning("DEFAULT_MGR_TLS_VERIFY=false: anyone in between can read the password")

    # Windows

    def _read_rest(self) -> None:
        """What is older than the run's own window, oldest first, as far as the limits allow."""
        while reading := self._next_due():
            if not self._read(reading):
                return

    def _next_due(self) -> Reading | None:
        for reading in plan(self._asked(), self.since, self.now):
            due = {n: span for n, span in reading.items() if span.start < span.end and self.room.left(n) != 0}
            if due:
                return due
        return None

    def _read(self, reading: Reading, *, own: bool = False, limited: bool = True) -> bool:
        """Read windows, commit and publish them as one set of dated files; whether anything came of it."""
        before = self._asked()
        sweeper = self._sweeper(before)
        windows = Windows(self.node, sweeper, self.room, before, BEGINNING if self.by_hand else self.since)
        outcomes = {name: windows.read(name, span, limited=limited) for name, span in reading.items()}
        covered = {
            name: self.memory.spans(name, outcome)
            for name, outcome in outcomes.items()
            if outcome.still or name in BY_LISTING
        }
        self._tell_of(outcomes, covered, own)
        asked = {name: [*spans, *(outcomes[name].read,) * (name in outcomes)] for name, spans in before.items()}
        begins = reading[PARTICIPANT.name].start if self.by_hand and PARTICIPANT.name in reading else self.since
        missing = self._ask_for_missing(sweeper, [*asked[PARTICIPANT.name], Span(BEGINNING, begins)])

        def note() -> None:
            for name, spans in covered.items():
                self.ledger.cover(name, spans)
            if not all(outcome.still for outcome in outcomes.values()):
                self.ledger.doubt("a query did not hold still")
            if missing.newly:
                self.ledger.doubt("participants are gone")

        self._commit(sweeper, note, write=own)
        return any(spans for spans in covered.values())

    def _reconcile(self) -> None:
        """Compare with the node's whole list where that is due."""
        if not is_due(self.ledger, self.now):
            return
        before = self._asked()
        sweeper = self._sweeper(before)
        asked = Times(before[CONFERENCE.name])
        reconciling = Reconciling(self.ledger, self.seen, sweeper, self.room, asked, self.since)
        whole = reconciling.read(self.now)
        listed = self.seen.sweep
        missing = self._ask_for_missing(sweeper, [*before[PARTICIPANT.name], Span(BEGINNING, self.since)])
        self.waiting += reconciling.waiting
        doubt = "participants are gone" if missing.newly else None if whole else "the list was not read whole"

        def note() -> None:
            reconciling.record(self.now, listed)
            if whole:
                self.ledger.note(reconciled=self.now, doubt=doubt)
                if self.node.clocks_agree:
                    self.ledger.forget(self.now)
            elif doubt:
                self.ledger.doubt(doubt)

        self._commit(sweeper, note, write=False)
        self.ledger.compact()

    def _sweeper(self, asked: Mapping[str, Sequence[Span]]) -> Sweeper:
        """For a reading of its own: nothing seen, and a file for each kind of record."""
        self.seen.clear()
        self._pair = self.ledger.next_pair()
        self._asking, self._counts = False, {"conferences": 0, "participants": 0, "late": 0}
        participants = Times(asked[PARTICIPANT.name])

        def taken(resource: str, page: Page) -> None:
            self.room.used(resource, page)
            if f"{resource}s" in self._counts:
                self._counts[f"{resource}s"] += len(page.ids)
            if self._asking:
                self._counts["late"] += sum(map(participants.has, page.times))

        stages = self.archive.stage(self._pair)
        return Sweeper(self.node, self.seen, stages, self.progress, on_taken=taken)

    def _ask_for_missing(self, sweeper: Sweeper, asked: Sequence[Span]) -> Missing:
        """Ask for the participants that conferences list and no window brought.

        Not where their time is yet to be asked for: there they may come by themselves. `asked` has, besides, the time
        for which participants never are: who left a conference before that is asked for now.
        """
        self._asking = True
        missing = Missing(self.node, self.seen, sweeper, self.room, self.now)
        missing.collect(Times(asked))
        self.lost += missing.lost
        return missing

    def _commit(self, sweeper: Sweeper, note: Callable[[], None], *, write: bool) -> None:
        """The commit point, and publishing. Without rows, files are written only where that is asked for."""
        if write or any(sweeper.taken.values()):
            files = self.archive.finish(self._pair, self.started, sweeper.stages, self.ledger, self.node.fields)
        else:
            files = []
            for stage in sweeper.stages.values():
                stage.abandon()
        with self.ledger.transaction():
            self.seen.export(sweeper.oldest, self.now)
            note()
            self.ledger.stage(files)
            self.ledger.add_to_run(self.number, self._counts)
            self.ledger.note_run(self.number, waiting=self.waiting)
        self.late += self._counts["late"]
        self.archive.publish(self.ledger)

    # What the user should know

    def _tell_of(
        self, outcomes: Mapping[str, Outcome], covered: Mapping[str, Mapping[str, list[Span]]], own: bool
    ) -> None:
        for name, outcome in outcomes.items():
            if outcome.waiting and own:
                self.waiting += outcome.waiting
                self._warn_of_waiting(name, outcome.waiting)
            elif outcome.waiting:
                log.info("%d %s records of the node's older history wait for the next runs", outcome.waiting, name)
        for span in covered.get(CONFERENCE.name, {}).get(GAP, ()):
            if span.start < span.end:
                log.warning(
                    "the node no longer lists any conference that was collected before: what ended from %s and was not"
                    " collected is lost; schedule runs more often (DATA_CRON_TIME)",
                    span,
                )

    def _warn_of_waiting(self, resource: str, waiting: int) -> None:
        log.warning(
            "%s=%d reached: %d %s records wait for the next run%s",
            BY_NAME[resource].limit,
            self.room.limits[resource] or 0,
            waiting,
            resource,
            " of this same command" if self.by_hand else "; raise it, or schedule runs more often",
        )

    def _warn_of_clocks(self) -> None:
        skew = self.node.clock_skew
        if skew and not self.node.clocks_agree:
            log.warning(
                "the node's clock is %.0f minutes %s this machine's; set them alike (NTP). Until then windows end by"
                " the node's clock, and DATA_KEEP_DAYS removes nothing",
                abs(skew.total_seconds()) / 60,
                "ahead of" if skew > timedelta(0) else "behind",
            )


def this_minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _within(span: Span, spans: Sequence[Span]) -> bool:
    return any(each.start <= span.start and span.end <= each.end for each in spans)
