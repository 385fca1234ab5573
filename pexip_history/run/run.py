"""A run, told from top to bottom: one small request, the plan, each window, the node's whole list."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta

from pexip_history.archive import manifest
from pexip_history.archive.archive import Archive
from pexip_history.archive.keeping import forget_old, oldest_kept
from pexip_history.archive.manifest import Written
from pexip_history.errors import CollectorError, explain
from pexip_history.ledger.ledger import COVERED, GAP, Ledger
from pexip_history.ledger.spans import BEGINNING, Span, Times, common
from pexip_history.messages import counted, sentence
from pexip_history.node.api import Node
from pexip_history.resources import BY_NAME, CONFERENCE, OF_PARTICIPANTS, PARTICIPANT
from pexip_history.run import saying
from pexip_history.run.missing import Missing
from pexip_history.run.plan import Reading, believed, plan, plan_by_hand
from pexip_history.run.reading import Draft
from pexip_history.run.reconcile import WholeList, is_due
from pexip_history.run.saying import Progress
from pexip_history.run.seen import Seen
from pexip_history.run.windows import Memory, SpansByKind, read_window
from pexip_history.settings.environment import Settings
from pexip_history.values import format_time

SAME = timedelta(seconds=5)
"""Clocks no further apart are one: the Date header has whole seconds, and takes its time to come."""

log = logging.getLogger("collector")


class Run:
    """One collection: from the node through the ledger into the files, a reading at a time.

    `window` is what the user asks for by hand, None for what is due. `published`: its own window is in the files;
    `taken`: new records by resource; `lost`: participants of whom the node says that they are gone.
    """

    def __init__(
        self, settings: Settings, ledger: Ledger, archive: Archive, started: datetime, window: Span | None
    ) -> None:
        self.settings, self.ledger, self.archive = settings, ledger, archive
        self.started, self.window = started, window
        self.node, self.seen, self.progress = Node(settings), Seen(ledger), Progress()
        limits = {CONFERENCE.name: settings.conf_limit, PARTICIPANT.name: settings.part_limit}
        self.limits = {name: limit for name, limit in limits.items() if limit}
        self.names = [resource.name for resource in archive.resources if resource not in OF_PARTICIPANTS]
        self.now, self.since = this_minute(started), BEGINNING
        self.began, self.taken = time.monotonic(), Counter[str]()
        self.late, self.waiting, self.lost = 0, 0, 0
        self.published, self.unfinished = False, ""
        self.unpublished: CollectorError | OSError | None = None
        self.listed_at_first: int | None = None
        self.written: dict[str, Written] = {}
        self.were_there = set(archive.dated_files())  # what is put in place from now on, this run does not remove
        self.number = ledger.begin_run(started, by_hand=window is not None)

    def collect(self) -> None:
        """Collect what is due, or the window by hand. Raises CollectorError, OSError, sqlite3.Error.

        A failure in the run's own window is raised; one in what comes after is a warning, for that waits. Where rows
        cannot be published, the run goes on all the same, for the node forgets: that is raised at the end.
        """
        self._greet()
        if window := self.window:
            start = max(window.start, self._kept_from())
            window = Span(start, max(start, min(window.end, self.now)))
            readings = plan_by_hand(window, {name: self.ledger.spans(name, COVERED) for name in self.names})
        else:
            readings = plan(self._asked(), self.since, self.now)[:1]  # what is older is planned once this is read
        self._begin(window or Span(min(span.start for span in readings[0].values()), self.now))
        self._read(readings[0], own=True)
        self.published = not self.unpublished
        try:
            for reading in readings[1:]:
                self._read(reading, own=True)
            if not window:
                self._read_older()
                self._reconcile()
        except (CollectorError, OSError, sqlite3.Error) as error:
            self.unfinished = "; the rest waits for the next run"
            log.warning(sentence("rest-waits", why=explain(error, self.settings.data_dir)))
        saying.warn_of_clocks(self.node)
        self._keep_house()
        if self.unpublished:
            raise self.unpublished

    def summary(self) -> str:
        """The run's line for the log."""
        always = (CONFERENCE.name, PARTICIPANT.name)
        counts = {name: counted(self.taken[name], name) for name in self.names if name in always or self.taken[name]}
        counts[PARTICIPANT.name] += f" ({self.late} late)" if self.late else ""
        left_out = [f"{len(self.node.left_out)} left out"] if self.node.left_out else []
        waiting = f"{self.waiting} waiting{self.unfinished}"
        return f"{', '.join([*counts.values(), *left_out, waiting])}, {time.monotonic() - self.began:.1f} s"

    # One small request

    def _greet(self) -> None:
        """Learn the node's clock, whether it answers, and before the first run of all what it has."""
        asked = self._asked()
        page = self.node.first_page(CONFERENCE.name, {}, 1)
        if not asked[CONFERENCE.name]:
            self.listed_at_first = page.total
            saying.what_the_node_has(page, self.settings.since, by_hand=self.window is not None)
        self.now = this_minute(self._node_time())
        windows = self.ledger.windows(self.now)
        for name, spans in asked.items():
            if (left := believed(spans, windows, self.now)) != spans:
                self.ledger.believe(name, left)
                self.ledger.doubt("coverage lay ahead of now")
        if not self.node.clocks_agree:
            self.ledger.doubt("the clocks are apart")
        if self.ledger.fact("rebuilt"):
            self.ledger.note(unknown_before=self.now, rebuilt=None)
        self.since = self.settings.since or self.ledger.time_of("since") or BEGINNING
        self.since = max(self.since, self._kept_from())

    def _node_time(self) -> datetime:
        """Up to when records can be there: the node's clock bounds it, ours too while the two agree."""
        skew = self.node.clock_skew
        if skew is None or abs(skew) < SAME:
            return self.started
        return min(self.started, self.started + skew) if self.node.clocks_agree else self.started + skew

    def _kept_from(self) -> datetime:
        """What ended before is not kept (DATA_KEEP_HISTORY_DAYS), and so not asked for."""
        return oldest_kept(self.settings, self.now) or BEGINNING

    def _asked(self) -> dict[str, list[Span]]:
        return {name: self.ledger.spans(name) for name in self.names}

    def _begin(self, window: Span) -> None:
        ends = {"window_start": format_time(window.start), "window_end": format_time(window.end)}
        self.ledger.note_run(self.number, **ends)
        log.info("collecting %s from %s", window, self.settings.address)
        if not self.settings.tls_verify:
            log.warning(sentence("not-verified"))
        for line in self.settings.unknown:
            log.warning("%s", line)

    # Windows

    def _read_older(self) -> None:
        """What is older than the run's own window, oldest first, as far as the limits allow."""
        while reading := self._next_due():
            if not self._read(reading):
                return

    def _next_due(self) -> Reading | None:
        for reading in plan(self._asked(), self.since, self.now):
            due = {n: span for n, span in reading.items() if span.start < span.end and self._room().get(n) != 0}
            if due:
                return due
        return None

    def _read(self, reading: Reading, *, own: bool = False) -> bool:
        """Read windows, commit and publish them as one set of dated files; whether anything came of it."""
        draft = self._draft()
        back_to = BEGINNING if self.window else self.since
        outcomes = {name: read_window(draft, name, window, back_to) for name, window in reading.items()}
        waiting = {name: outcome.waiting for name, outcome in outcomes.items() if outcome.waiting}
        self.waiting += sum(waiting.values()) if own else 0
        saying.what_waits(waiting, self.limits if own else None, by_hand=self.window is not None)
        memory = Memory(self.node, self.ledger, outcomes.get(CONFERENCE.name))
        covered = {
            name: memory.coverage(name, outcome)
            for name, outcome in outcomes.items()
            if outcome.still or not BY_NAME[name].optional  # what moved away unread is found by reconciling
        }
        saying.warn_of_gaps(covered.get(CONFERENCE.name, {}).get(GAP, ()))
        participants = outcomes.get(PARTICIPANT.name)
        begins = participants.read.start if participants and self.window else self.since
        # What ended before, no window is to bring.
        asked_now = [Span(BEGINNING, begins), *([participants.read] if participants else [])]
        Missing(draft, self.now).ask(asked_now)
        with self._commit(draft, covered, write=own):
            if not all(outcome.still for outcome in outcomes.values()):
                self.ledger.doubt("a query did not hold still")
        # A node that counts the same whatever is asked would be asked without an end, an instant at a time.
        shorter = any(outcome.read != reading[name] for name, outcome in outcomes.items())
        return any(covered.values()) and bool(draft.taken or not shorter)

    def _reconcile(self) -> None:
        """Compare with the node's whole list where that is due."""
        if not is_due(self.ledger, self.now):
            return
        if self.listed_at_first == self.taken[CONFERENCE.name] and not self.ledger.fact("doubt"):
            self.ledger.note(reconciled=self.now)  # a first run took as many as the node lists
            return
        draft = self._draft()
        kept = Span(self._kept_from(), self.now)
        asked = Times(common(self.ledger.spans(CONFERENCE.name), [kept]))
        whole_list = WholeList(draft, asked, self.since, self.now)
        whole = whole_list.read()
        Missing(draft, self.now).ask([Span(BEGINNING, self.since)])
        self.waiting += len(whole_list.waiting)
        with self._commit(draft, {}, write=False):
            whole_list.note()
            if whole:
                self.ledger.note(reconciled=self.now, doubt=None)
                if self.node.clocks_agree:
                    self.ledger.forget(self.now)
            else:
                self.ledger.doubt("the list was not read whole")
        self.ledger.compact()

    def _draft(self) -> Draft:
        return Draft(self.archive, self.ledger, self.node, self.seen, self.progress, self._room())

    def _room(self) -> dict[str, int]:
        """How many more new records the limits allow, by resource; a resource without a limit is not in it."""
        return {name: max(0, limit - self.taken[name]) for name, limit in self.limits.items()}

    @contextmanager
    def _commit(self, draft: Draft, coverage: Mapping[str, SpansByKind], *, write: bool) -> Iterator[None]:
        """Commit the draft with what it adds to coverage and what the context notes, then publish it."""
        taken, late = self.taken + draft.taken, self.late + draft.late
        counts = {f"{name}s": taken[name] for name in (CONFERENCE.name, PARTICIPANT.name)}
        with draft.commit(self.started, self.now, write=write):
            yield
            for name, kinds in coverage.items():
                self.ledger.cover(name, kinds)
            if draft.lost:
                self.ledger.doubt("participants are gone")
            self.ledger.note_run(self.number, **counts, late=late, waiting=self.waiting)
        self.taken, self.late, self.lost = taken, late, self.lost + draft.lost
        try:
            self.archive.publish(self.ledger)
            self.unpublished = None
        except (CollectorError, OSError) as error:
            self.unpublished = error
        for file in draft.files:
            covered = coverage.get(file.resource, {}).get(COVERED, ())
            spans = tuple((format_time(span.start), format_time(span.end)) for span in covered)
            self.written[self.archive.dated(file).name] = Written(file.rows, spans)

    # The files

    def _keep_house(self) -> None:
        """What is done with the files once all is published; that it cannot be done now is no failure of the run."""
        data = self.archive.data
        try:
            manifest.note(data, self.written)
            if self.node.clocks_agree:
                if gone := self.archive.expire(self.started, self.were_there):
                    manifest.note_change(data, manifest.REMOVED, gone)
                forget_old(self.archive, self.ledger, self.now)
        except (CollectorError, OSError) as error:
            log.warning(sentence("rows-collected-later-trouble", why=explain(error, data)))


def this_minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)
