"""What one reading brings, until it is committed: staged files, and what is counted of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from pexip_history.archive.archive import Archive
from pexip_history.ledger.ledger import Ledger
from pexip_history.ledger.spans import Times
from pexip_history.ledger.staged import Staged
from pexip_history.node.api import Node
from pexip_history.node.records import Page, streams
from pexip_history.resources import CONFERENCE, PARTICIPANT, QUALITY, STREAM
from pexip_history.run.bad_calls import BadCalls
from pexip_history.run.saying import Progress
from pexip_history.run.seen import Seen


class Draft:
    """A staged file for each kind of record. `taken` is how many records it has of each, `files` what it becomes.

    `room` is how many of a resource it may take (without one: no limit). `late` counts participants whose time had
    been asked for before (`late_in`, once the missing are asked for), `lost` those of whom the node says for the first
    time that they are gone.
    """

    def __init__(
        self, archive: Archive, ledger: Ledger, node: Node, seen: Seen, progress: Progress, room: Mapping[str, int]
    ) -> None:
        self.archive, self.ledger, self.node, self.seen, self.progress = archive, ledger, node, seen, progress
        self.room, self.taken = room, Counter[str]()
        self.late, self.lost = 0, 0
        self.late_in: Times | None = None
        self.files: list[Staged] = []
        self._oldest: dict[str, str] = {}
        seen.clear()
        self._pair = ledger.next_pair()
        self._stages = archive.stage(self._pair)
        self._bad_calls = BadCalls(node, self._stages[QUALITY.name]) if QUALITY.name in self._stages else None

    def left(self, resource: str) -> int | None:
        """How many more new records the run's limit allows; None: no limit."""
        return max(0, self.room[resource] - self.taken[resource]) if resource in self.room else None

    def take(self, resource: str, page: Page, places: Sequence[int]) -> None:
        """Write to the staged files what is new at these places of a page."""
        fresh = page.only(self.seen.take(resource, page, places))
        if not fresh.ids:
            return
        self.taken[resource] += len(fresh.ids)
        self._oldest[resource] = earliest(self._oldest.get(resource, ""), *fresh.times)
        self._stages[resource].write(fresh.columns)
        if resource == CONFERENCE.name:
            self.seen.expect(fresh)
        elif resource == PARTICIPANT.name:
            if self.late_in:
                self.late += sum(map(self.late_in.has, fresh.times))
            if self._bad_calls:
                self._bad_calls.note(fresh)
            if STREAM.name in self._stages:
                for columns in streams(fresh):
                    self._stages[STREAM.name].write(columns)

    @contextmanager
    def commit(self, started: datetime, now: datetime, *, write: bool) -> Iterator[None]:
        """The commit point: what the context notes in the ledger, and the rows, are known together or not at all.

        Without rows, files are written only with `write`. Raises NodeError, OSError, sqlite3.Error.
        """
        if self._bad_calls:
            self._bad_calls.ask()
        if write or self.taken:
            self.files = self.archive.finish(self._pair, started, self._stages, self.ledger, self.node.fields)
        else:
            for stage in self._stages.values():
                stage.abandon()
        with self.ledger.transaction():
            self.seen.export(self._oldest, now)
            yield
            self.ledger.stage(self.files)


def earliest(*times: str) -> str:
    """The first of the times that are told, empty where none is."""
    return min(filter(None, times), default="")
