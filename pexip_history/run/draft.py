"""What one reading brings, until it is committed and published: staged files, and what is counted of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from pexip_history.archive.archive import Archive
from pexip_history.archive.manifest import Written
from pexip_history.ledger.ledger import Ledger
from pexip_history.ledger.spans import Span, Times
from pexip_history.node.api import Node
from pexip_history.node.records import Page
from pexip_history.resources import PARTICIPANT, QUALITY
from pexip_history.run.bad_calls import BadCalls
from pexip_history.run.progress import Progress
from pexip_history.run.query import Taker
from pexip_history.run.seen import Seen
from pexip_history.run.windows import Allowance
from pexip_history.values import format_time


class Draft:
    """A file for each kind of record, filled by `taker`.

    `covered` is the time for which participants were asked before: who left in it and comes while `asking` for those
    who are missing is late. `counts` are the run table's.
    """

    def __init__(
        self,
        archive: Archive,
        ledger: Ledger,
        node: Node,
        seen: Seen,
        allowance: Allowance,
        progress: Progress,
        covered: Times,
    ) -> None:
        self.archive, self.ledger, self.node, self.seen, self.allowance = archive, ledger, node, seen, allowance
        self.covered, self.asking = covered, False
        self.counts = {"conferences": 0, "participants": 0, "late": 0}
        seen.clear()
        self.pair = ledger.next_pair()
        self.stages = archive.stage(self.pair)
        self.bad_calls = BadCalls(node, self.stages[QUALITY.name]) if QUALITY.name in self.stages else None
        self.taker = Taker(node, seen, self.stages, progress, on_taken=self._count)

    def _count(self, resource: str, page: Page) -> None:
        self.allowance.used(resource, page)
        if f"{resource}s" in self.counts:
            self.counts[f"{resource}s"] += len(page.ids)
        if self.asking:
            self.counts["late"] += sum(map(self.covered.has, page.times))
        if self.bad_calls and resource == PARTICIPANT.name:
            self.bad_calls.note(page)

    def commit(
        self,
        run: int,
        started: datetime,
        now: datetime,
        note: Callable[[], None],
        covered: Mapping[str, Sequence[Span]],
        *,
        write: bool,
    ) -> dict[str, Written]:
        """The commit point, then publishing; the dated files that are in place, by name.

        `note` notes what else the ledger is to know, in the same transaction; `covered` is what the files add to
        coverage. Without rows, files are written only with `write`. Raises NodeError, OSError, sqlite3.Error.
        """
        files = []
        if self.bad_calls:
            self.bad_calls.ask()
        if write or any(self.taker.taken.values()):
            files = self.archive.finish(self.pair, started, self.stages, self.ledger, self.node.fields)
        else:
            for stage in self.stages.values():
                stage.abandon()
        with self.ledger.transaction():
            self.seen.export(self.taker.oldest, now)
            note()
            self.ledger.stage(files)
            self.ledger.add_to_run(run, self.counts)
        self.archive.publish(self.ledger)
        spans = {
            name: tuple((format_time(s.start), format_time(s.end)) for s in some) for name, some in covered.items()
        }
        return {self.archive.dated(f).name: Written(f.rows, spans.get(f.resource, ())) for f in files}
