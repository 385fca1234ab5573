"""A run, told from top to bottom: one small request, the plan, each window, the node's whole list."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from pexip_history.archive import manifest
from pexip_history.archive.archive import Archive
from pexip_history.archive.keeping import forget_old, oldest_kept
from pexip_history.archive.manifest import Written
from pexip_history.errors import CollectorError, explain
from pexip_history.ledger.ledger import COVERED, GAP, Ledger
from pexip_history.ledger.spans import BEGINNING, Span, Times, common
from pexip_history.messages import sentence
from pexip_history.node.api import Node
from pexip_history.resources import CONFERENCE, OF_PARTICIPANTS, PARTICIPANT
from pexip_history.run import saying
from pexip_history.run.draft import Draft
from pexip_history.run.missing import Missing
from pexip_history.run.plan import Reading, believed, by_hand, plan
from pexip_history.run.progress import Progress
from pexip_history.run.reconcile import Reconciling, is_due
from pexip_history.run.seen import Seen
from pexip_history.run.windows import Allowance, Memory, Windows
from pexip_history.settings.environment import Settings
from pexip_history.values import format_time

SAME = timedelta(seconds=5)
"""Clocks no further apart are one: the Date header has whole seconds, and takes its time to come."""
BY_LISTING = (CONFERENCE.name, PARTICIPANT.name)
"""What moved away unread is found again: conferences by the node's whole list, participants by their conferences."""

log = logging.getLogger("collector")


class Run:
    """One collection: from the node through the ledger into the files, a window at a time.

    `published`: its own window is in the files; `listed`: the conferences that the node had when nothing was asked for
    yet; `lost`: participants that the node said are gone; `brought`: whether there are new rows.
    """

    def __init__(
        self, settings: Settings, ledger: Ledger, archive: Archive, started: datetime, progress: Progress, by_hand: bool
    ) -> None:
        self.settings, self.ledger, self.archive, self.started = settings, ledger, archive, started
        self.node, self.seen, self.progress = Node(settings), Seen(ledger), progress
        self.memory = Memory(self.node, ledger)
        limits = {CONFERENCE.name: settings.conf_limit or None, PARTICIPANT.name: settings.part_limit or None}
        self.allowance = Allowance(limits)
        self.names = [resource.name for resource in archive.resources if resource not in OF_PARTICIPANTS]
        self.now, self.since, self.by_hand = this_minute(started), BEGINNING, by_hand
        self.began, self.late, self.waiting, self.lost = time.monotonic(), 0, 0, 0
        self.published, self.listed, self.unfinished = False, -1, ""
        self.written: dict[str, Written] = {}
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
            self.unfinished = "; the rest waits for the next run"
            log.warning(sentence("rest-waits", why=explain(error, self.settings.data_dir)))
        saying.warn_of_clocks(self.node)
        self._keep_house()

    def _keep_house(self) -> None:
        """What is done with the files once all is published; that it cannot be done now is no failure of the run."""
        data = self.archive.data
        try:
            manifest.note(data, self.written)
            if self.node.clocks_agree:
                if gone := self.archive.expire(self.started, self.written):
                    manifest.note_change(data, manifest.REMOVED, gone)
                forget_old(self.archive, self.ledger, self.now)
        except (CollectorError, OSError) as error:
            log.warning(sentence("rows-collected-later-trouble", why=explain(error, data)))

    @property
    def brought(self) -> bool:
        return any(self.allowance.taken.values())

    def summary(self) -> str:
        """The run's line for the log."""
        counts = [f"{self.allowance.taken.get(name, 0)} {name}s" for name in BY_LISTING]
        counts[1] += f" ({self.late} late)" if self.late else ""
        counts += [f"{self.allowance.taken[name]} {name}s" for name in self.names[2:] if self.allowance.taken.get(name)]
        counts += [f"{len(self.node.left_out)} left out"] if self.node.left_out else []
        return f"{', '.join(counts)}, {self.waiting} waiting{self.unfinished}, {time.monotonic() - self.began:.1f} s"

    # One small request

    def _greet(self) -> None:
        """Learn the node's clock, whether it answers, and whether it still knows what was collected before."""
        asked = self._asked()
        before = asked[CONFERENCE.name][-1].end if asked[CONFERENCE.name] else None
        if before:
            self.memory.look_before(before)
        else:
            page = self.node.first_page(CONFERENCE.name, {}, 1)
            self.listed = page.total
            saying.what_the_node_has(page, self.settings.since)
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
        self.since = max(self.since, oldest_kept(self.settings, self.now) or BEGINNING)

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
            log.warning(sentence("not-verified"))
        for line in self.settings.unknown:
            log.warning("%s", line)

    # Windows

    def _read_rest(self) -> None:
        """What is older than the run's own window, oldest first, as far as the limits allow."""
        while reading := self._next_due():
            if not self._read(reading):
                return

    def _next_due(self) -> Reading | None:
        for reading in plan(self._asked(), self.since, self.now):
            due = {n: span for n, span in reading.items() if span.start < span.end and self.allowance.left(n) != 0}
            if due:
                return due
        return None

    def _read(self, reading: Reading, *, own: bool = False, limited: bool = True) -> bool:
        """Read windows, commit and publish them as one set of dated files; whether anything came of it."""
        before = self._asked()
        draft = self._draft(before)
        windows = Windows(self.node, draft.taker, self.allowance, before, BEGINNING if self.by_hand else self.since)
        outcomes = {name: windows.read(name, span, limited=limited) for name, span in reading.items()}
        covered = {
            name: self.memory.spans(name, outcome)
            for name, outcome in outcomes.items()
            if outcome.still or name in BY_LISTING
        }
        if own:
            self.waiting += sum(outcome.waiting for outcome in outcomes.values())
        waiting = {name: outcome.waiting for name, outcome in outcomes.items() if outcome.waiting}
        saying.what_waits(waiting, self.allowance.limits if own else None, self.by_hand)
        saying.warn_of_gaps(covered.get(CONFERENCE.name, {}).get(GAP, ()))
        asked = {name: [*spans, *(o.read for o in [outcomes.get(name)] if o)] for name, spans in before.items()}
        begins = reading[PARTICIPANT.name].start if self.by_hand and PARTICIPANT.name in reading else self.since
        missing = self._ask_for_missing(draft, [*asked[PARTICIPANT.name], Span(BEGINNING, begins)])

        def note() -> None:
            for name, spans in covered.items():
                self.ledger.cover(name, spans)
            if not all(outcome.still for outcome in outcomes.values()):
                self.ledger.doubt("a query did not hold still")
            if missing.newly:
                self.ledger.doubt("participants are gone")

        self._commit(draft, note, {name: kinds.get(COVERED, []) for name, kinds in covered.items()}, write=own)
        # A node that counts the same whatever is asked would be asked without an end, an instant at a time.
        return any(spans for spans in covered.values()) and bool(draft.taker.taken or not waiting)

    def _reconcile(self) -> None:
        """Compare with the node's whole list where that is due."""
        if not is_due(self.ledger, self.now):
            return
        if self.listed == self.allowance.taken.get(CONFERENCE.name) and not self.ledger.fact("doubt"):
            self.ledger.note(reconciled=self.now)  # a first run took as many as the node lists
            return
        before = self._asked()
        draft = self._draft(before)
        kept = Span(oldest_kept(self.settings, self.now) or BEGINNING, self.now)
        asked = Times(common(before[CONFERENCE.name], [kept]))
        reconciling = Reconciling(self.ledger, self.seen, draft.taker, self.allowance, asked, self.since)
        whole = reconciling.read(self.now)
        listed = self.seen.pass_number
        missing = self._ask_for_missing(draft, [*before[PARTICIPANT.name], Span(BEGINNING, self.since)])
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

        self._commit(draft, note, {}, write=False)
        self.ledger.compact()

    def _draft(self, asked: Mapping[str, Sequence[Span]]) -> Draft:
        covered = Times(asked[PARTICIPANT.name])
        return Draft(self.archive, self.ledger, self.node, self.seen, self.allowance, self.progress, covered)

    def _ask_for_missing(self, draft: Draft, asked: Sequence[Span]) -> Missing:
        """Ask for the participants that conferences list and no window brought.

        Not where their time is yet to be asked for: there they may come by themselves. `asked` has, besides, the time
        for which participants never are: who left a conference before that is asked for now.
        """
        draft.asking = True
        missing = Missing(self.node, self.seen, draft.taker, self.allowance, self.now)
        missing.collect(Times(asked))
        self.lost += missing.lost
        return missing

    def _commit(
        self, draft: Draft, note: Callable[[], None], covered: Mapping[str, Sequence[Span]], *, write: bool
    ) -> None:
        def note_all() -> None:
            note()
            self.ledger.note_run(self.number, waiting=self.waiting)

        self.late += draft.counts["late"]
        self.written |= draft.commit(self.number, self.started, self.now, note_all, covered, write=write)


def this_minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def _within(span: Span, spans: Sequence[Span]) -> bool:
    return any(each.start <= span.start and span.end <= each.end for each in spans)
